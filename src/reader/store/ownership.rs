//! Who owns a partition, as `progress` says it.
//!
//! **A commit moves progress only from exactly the epoch, the owner and the count of commits that its session
//! wrote or read last.**
//!
//! - The epoch tells readers apart that take turns. It repeats on a server that went back in time (a restore,
//!   a failover to a standby that lagged).
//! - So each reader that takes the partition writes a random owner, too.
//! - Every commit adds one to the count. So two states under one owner differ even if their positions are
//!   equal, and they must: what was stored *above* progress may be gone.
//! - The positions are compared as well, so that those that somebody changed by hand are not overwritten.

use crate::metric::PerMetric;
use std::fmt;
use uuid::Uuid;

/// What `progress` says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Raised by every reader that takes the partition.
    pub epoch: i64,
    /// Random; written by the reader that took the partition. Nil if an earlier version took it.
    pub owner: Uuid,
    /// How many commits have moved the row.
    pub commits: i64,
    /// Per topic, the next offset to read. The count shows every commit; these show a change by hand.
    pub next: PerMetric<i64>,
}

/// `epoch 3, owner 5b0e1c2a, commit 812, at 6/6/6`
impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.simple().to_string();
        let Self { epoch, commits, next, .. } = self;
        let owner = &owner[..8];
        write!(f, "epoch {epoch}, owner {owner}, commit {commits}, at {next}")
    }
}
