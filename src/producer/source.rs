//! Where snapshots come from.
//!
//! A source is an iterator. It runs on a thread for blocking work, so `next` may take as long as it needs.
//! Random values (`random`) are the first source. Orders from CSV or SQL go into `source/orders.rs`: another
//! function that returns [`Snapshots`], and a line in `producer::run` that chooses between the two.

pub mod orders;
mod random;

pub use random::{longest, random};

use crate::message::Snapshot;

/// The snapshots of a source, in the order in which they are sent.
///
/// - `Some(Ok(_))`: the next snapshot.
/// - `Some(Err(_))`: there is none this time, and why. The source can be asked again.
/// - `None`: the source is over, for good.
pub type Snapshots = Box<dyn Iterator<Item = anyhow::Result<Snapshot>> + Send>;
