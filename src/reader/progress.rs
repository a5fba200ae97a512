//! Progress: how far one topic of one partition is settled.
//!
//! Owns the arithmetic of offsets. **An offset is always the next one to read; ranges are half-open.** Pure.
//!
//! A message is *settled* once it is stored, or refused into `dead_letters`. Progress is the lowest offset
//! that is not yet settled. Batches settle out of order, so messages above progress may be settled already.
//! After a restart they are read again, and must be passed over. **What is passed over must be what was
//! settled**: its key is compared. Otherwise the messages of a log that was cut and written again would be
//! skipped in silence.

use std::collections::{BTreeMap, BTreeSet};

/// The state of one topic of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The next offset to read.
    position: i64,
    /// Read but not settled; all below `position`.
    unsettled: BTreeSet<i64>,
    /// Settled by an earlier owner, not yet read again; all at or above `position`. Each with the key that
    /// the tables have for it.
    settled_above: BTreeMap<i64, Option<String>>,
    /// A leader epoch, and an offset below which the log had everything in that epoch.
    epoch: Option<(i64, i32)>,
}

/// Whether a message that was read is to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is to be settled.
    New,
    /// An earlier owner settled it, or it was read before.
    Passed,
    /// An earlier owner settled another message at its offset.
    Replaced,
}

impl Progress {
    /// Progress as an earlier owner left it: it got to `next`, and had settled some messages at or above it.
    /// `epoch` is one in which the log had everything below `next`.
    pub fn resume(next: i64, settled_above: BTreeMap<i64, Option<String>>, epoch: Option<i32>) -> Self {
        let epoch = epoch.map(|epoch| (next, epoch));
        Self { position: next, unsettled: BTreeSet::new(), settled_above, epoch }
    }

    /// Notes that the message at `offset` was read, and returns what it is. `has_key` compares its key with
    /// the key settled there.
    pub fn read(&mut self, offset: i64, has_key: impl FnOnce(Option<&str>) -> bool) -> Read {
        if offset < self.position {
            return Read::Passed;
        }
        let settled = self.settled_above.remove(&offset);
        self.read_up_to(offset + 1);
        match settled {
            Some(key) if has_key(key.as_deref()) => Read::Passed,
            Some(_) => Read::Replaced,
            None => {
                self.unsettled.insert(offset);
                Read::New
            }
        }
    }

    /// Notes a leader epoch in which the log had everything below `position`. **It need not be the epoch of
    /// the last message.** Kafka is asked where the epoch ends today, and a later epoch, too, ends at
    /// `position` or later unless the log was cut. An earlier epoch may have ended below `position`, so an
    /// epoch that is known only for offsets below `next` is not returned.
    pub fn note_epoch(&mut self, position: i64, epoch: i32) {
        if self.epoch.is_none_or(|known| known <= (position, epoch)) {
            self.epoch = Some((position, epoch));
        }
    }

    /// A leader epoch in which the log had everything below `next`, if one is known.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.epoch.filter(|&(position, _)| position >= self.next()).map(|(_, epoch)| epoch)
    }

    /// The highest offset that an earlier owner settled, of those not yet read again.
    pub fn last_settled(&self) -> Option<i64> {
        self.settled_above.keys().next_back().copied()
    }

    /// Notes that everything below `position` was read, including what is no message (markers, aborted
    /// records, gaps).
    pub fn read_up_to(&mut self, position: i64) {
        if position > self.position {
            self.position = position;
            // This passes over what an earlier owner settled and the log no longer holds.
            self.settled_above = self.settled_above.split_off(&position);
        }
    }

    /// How many messages below `offset` an earlier owner settled, of those not yet read again.
    pub fn settled_below(&self, offset: i64) -> usize {
        self.settled_above.range(..offset).count()
    }

    /// Notes that the message at `offset` is settled.
    pub fn settle(&mut self, offset: i64) {
        self.unsettled.remove(&offset);
    }

    /// The next offset to read.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// How many messages below `end` are not settled. What is not read yet counts by its offsets, so markers in it
    /// count, too.
    pub fn lag(&self, end: i64) -> i64 {
        let unread = end - self.position - self.settled_above.len() as i64;
        unread.max(0) + self.unsettled.len() as i64
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
        let mut progress = Progress::resume(10, BTreeMap::new(), None);
        assert_eq!([10, 12].map(|offset| progress.read(offset, same)), [Read::New; 2]);
        assert_eq!((progress.position(), progress.next()), (13, 10));
        progress.settle(12);
        assert_eq!(progress.next(), 10);
        progress.settle(10);
        assert_eq!(progress.next(), 13);
        progress.read_up_to(20);
        assert_eq!(progress.next(), 20);
    }

    #[test]
    fn only_messages_lag_once_they_are_read() {
        let mut progress = resume(10, [13]);
        assert_eq!(progress.lag(20), 9, "13 is settled");
        progress.read(10, same);
        progress.read_up_to(20);
        assert_eq!(progress.lag(20), 1, "10 is a message, and the rest are markers");
        assert_eq!(progress.lag(15), 1, "an end of a while ago");
        progress.settle(10);
        assert_eq!((progress.lag(20), progress.lag(22)), (0, 2));
    }

    #[test]
    fn what_an_earlier_owner_settled_is_passed_over() {
        let mut progress = resume(5, [6, 9]);
        assert_eq!(progress.last_settled(), Some(9));
        assert_eq!(progress.read(5, same), Read::New);
        assert_eq!(progress.read(6, same), Read::Passed, "settled above progress");
        assert_eq!(progress.next(), 5);
        progress.settle(5);
        assert_eq!(progress.next(), 7);
        progress.read_up_to(12);
        assert_eq!(progress.next(), 12);
    }

    #[test]
    fn a_message_read_twice_counts_once() {
        let mut progress = resume(0, []);
        assert_eq!(
            [3, 3, 1].map(|offset| progress.read(offset, same)),
            [Read::New, Read::Passed, Read::Passed]
        );
    }

    #[test]
    fn another_message_where_one_was_settled_is_not_passed_over() {
        let stored = BTreeMap::from([(6, Some("b".to_owned())), (7, None)]);
        let mut progress = Progress::resume(5, stored, None);
        assert_eq!(progress.read(5, |_| panic!("nothing is settled there")), Read::New);
        assert_eq!(progress.clone().read(6, |key| key == Some("b")), Read::Passed);
        assert_eq!(progress.read(6, |key| key == Some("x")), Read::Replaced);
        assert_eq!(progress.read(7, |key| key.is_some()), Read::Replaced, "no key is a key like any other");
    }

    #[test]
    fn an_epoch_is_returned_only_if_it_is_known_for_everything_below_next() {
        let mut progress = Progress::resume(10, BTreeMap::new(), Some(3));
        assert_eq!(progress.leader_epoch(), Some(3));
        progress.read(10, same);
        assert_eq!(progress.leader_epoch(), Some(3), "it is known up to 10, which is not settled");
        progress.settle(10);
        assert_eq!(progress.leader_epoch(), None, "10 may be of a later epoch");
        progress.note_epoch(11, 4);
        assert_eq!(progress.leader_epoch(), Some(4));
        progress.note_epoch(10, 3);
        assert_eq!(progress.leader_epoch(), Some(4), "what is known does not become less");
        progress.read_up_to(15);
        assert_eq!(progress.leader_epoch(), None);
        assert_eq!(Progress::default().leader_epoch(), None);
    }

    fn same(_: Option<&str>) -> bool {
        true
    }

    /// The progress of an earlier owner that got to `next` and had settled these offsets.
    fn resume<const N: usize>(next: i64, settled: [i64; N]) -> Progress {
        Progress::resume(next, settled.map(|offset| (offset, None)).into(), None)
    }

    /// Where each epoch of a log begins: (offset, epoch), both ascending.
    type Epochs = Vec<(i64, i32)>;

    /// What a broker says of an epoch (`OffsetForLeaderEpoch`): where it ends.
    fn end_of(epoch: i32, log: &Epochs, end: i64) -> i64 {
        log.iter().find(|(_, later)| *later > epoch).map_or(end, |(begins, _)| *begins)
    }

    proptest! {
        #[test]
        fn a_returned_epoch_finds_every_cut_and_no_other(
            steps in prop::collection::vec((1i64..6, any::<bool>(), 0usize..3), 1..30),
            settles in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), regrown in 1i64..40,
        ) {
            // A log of messages and markers, in which leaders change; positions are taken in now and then.
            let (mut log, mut end, mut epoch) = (vec![(0, 0)], 0, 0);
            let mut progress = Progress::default();
            for (records, changes, kind) in steps {
                if changes { epoch += 1; log.push((end, epoch)); }
                let messages = end..end + records;
                end += records;
                if kind > 0 { for offset in messages { progress.read(offset, same); } }
                if kind != 1 { progress.read_up_to(end); progress.note_epoch(end, epoch); }
            }
            let open: Vec<i64> = progress.unsettled.iter().copied().collect();
            for offset in &open[..settles.index(open.len() + 1)] { progress.settle(*offset); }
            let (next, Some(epoch_below)) = (progress.next(), progress.leader_epoch()) else { return Ok(()) };
            prop_assert!(end_of(epoch_below, &log, end) >= next, "a sound log looks cut");
            if next > 0 {
                let cut = cut.index(next as usize) as i64;
                log.retain(|(begins, _)| *begins < cut);
                log.push((cut, epoch + 1));
                prop_assert!(end_of(epoch_below, &log, cut + regrown) < next, "a cut below {next} is not seen");
            }
        }

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
                let above = settled.range(next..).map(|&offset| (offset, None)).collect();
                let mut progress = Progress::resume(next, above, None);
                let open: Vec<i64> = log.iter().copied().filter(|&o| o >= next && progress.read(o, same) == Read::New).collect();
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
