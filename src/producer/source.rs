//! Where snapshots come from.
//!
//! A source is an iterator. It runs on a thread for blocking work, so `next` may take as long as it needs.
//! `random` makes values up; `orders` adds up the orders of a shop.

pub mod orders;
mod random;

pub use random::{Random, longest};

use crate::message::EncodedSnapshot;

/// The snapshots of a source, encoded, in the order in which they are sent.
///
/// - `Some(Ok(_))`: the next snapshot.
/// - `Some(Err(_))`: there is none this time, and why. The source can be asked again.
/// - `None`: the source is over, for good.
pub type Snapshots = Box<dyn Iterator<Item = anyhow::Result<EncodedSnapshot>> + Send>;
