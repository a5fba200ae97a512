//! Progress: how far one topic of one partition is settled.
//!
//! Owns the arithmetic of offsets. **An offset is always the next one to read; ranges are half-open.**
//! Pure.
//!
//! The one idea: a message is *settled* once it is stored, or refused into `dead_letters`. Progress is
//! the lowest offset not yet settled. Batches settle out of order, so messages above progress may be
//! settled already; after a restart these are read again and must be passed over.

use std::collections::BTreeSet;

/// The state of one topic of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The next offset to read.
    position: i64,
    /// Read but not settled; all below `position`.
    unsettled: BTreeSet<i64>,
    /// Settled by an earlier owner, not yet read again; all at or above `position`.
    settled_above: BTreeSet<i64>,
}

impl Progress {
    /// Progress as an earlier owner left it: it got to `next`, and had settled some at or above it.
    pub fn resume(next: i64, settled_above: BTreeSet<i64>) -> Self {
        Self { position: next, unsettled: BTreeSet::new(), settled_above }
    }

    /// Notes that the message at `offset` was read. Says whether it is to be settled: not if an
    /// earlier owner settled it, nor if it was read before.
    pub fn read(&mut self, offset: i64) -> bool {
        if offset < self.position {
            return false;
        }
        let settled = self.settled_above.remove(&offset);
        self.read_up_to(offset + 1);
        if !settled {
            self.unsettled.insert(offset);
        }
        !settled
    }

    /// Notes that all below `position` was read: also what is no message (markers, aborted records,
    /// gaps).
    pub fn read_up_to(&mut self, position: i64) {
        if position > self.position {
            self.position = position;
            // What an earlier owner settled but the log no longer holds was passed over just now.
            self.settled_above = self.settled_above.split_off(&position);
        }
    }

    /// Notes that the message at `offset` is settled.
    pub fn settle(&mut self, offset: i64) {
        self.unsettled.remove(&offset);
    }

    /// The next offset to read.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The lowest offset not yet settled.
    pub fn next(&self) -> i64 {
        self.unsettled.first().copied().unwrap_or(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn progress_waits_for_the_lowest_unsettled_message() {
        let mut progress = Progress::resume(10, BTreeSet::new());
        assert!(progress.read(10) && progress.read(12));
        assert_eq!((progress.position(), progress.next()), (13, 10));
        progress.settle(12);
        assert_eq!(progress.next(), 10);
        progress.settle(10);
        assert_eq!(progress.next(), 13);
        progress.read_up_to(20);
        assert_eq!(progress.next(), 20);
    }

    #[test]
    fn what_an_earlier_owner_settled_is_passed_over() {
        let mut progress = Progress::resume(5, BTreeSet::from([6, 9]));
        assert!(progress.read(5));
        assert!(!progress.read(6), "settled above progress");
        assert_eq!(progress.next(), 5);
        progress.settle(5);
        assert_eq!(progress.next(), 7);
        progress.read_up_to(12);
        assert_eq!(progress.next(), 12);
    }

    #[test]
    fn a_message_read_twice_counts_once() {
        let mut progress = Progress::resume(0, BTreeSet::new());
        assert!(progress.read(3));
        assert!(!progress.read(3) && !progress.read(1));
    }

    proptest! {
        #[test]
        fn a_restart_at_any_moment_settles_every_message_once(
            offsets in prop::collection::btree_set(0i64..60, 0..40),
            order in any::<prop::sample::Index>(), restarts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            // Settle messages in an arbitrary order; restart now and then from what a database would hold.
            let log: Vec<i64> = offsets.iter().copied().collect();
            let mut settled = BTreeSet::new();
            let (mut next, mut rounds) = (0, restarts.into_iter());
            loop {
                let above = settled.range(next..).copied().collect();
                let mut progress = Progress::resume(next, above);
                let open: Vec<i64> = log.iter().copied().filter(|&o| o >= next && progress.read(o)).collect();
                prop_assert!(open.iter().all(|o| !settled.contains(o)), "read again although settled");
                let stop = rounds.next().map(|r| r.index(open.len() + 1));
                let mut turn = open.clone();
                if !turn.is_empty() { turn.rotate_left(order.index(open.len())); }
                for offset in &turn[..stop.unwrap_or(turn.len())] {
                    progress.settle(*offset);
                    prop_assert!(settled.insert(*offset), "settled twice");
                }
                prop_assert!(progress.next() >= next, "progress moved back");
                next = progress.next();
                if stop.is_none() { break; }
            }
            prop_assert_eq!(settled, offsets);
        }
    }
}
