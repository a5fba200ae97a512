//! How far the logs are read, and the newest message of each key. No clock, no I/O.
//!
//! **A log that is read from an earlier offset on was cut, and what was found beyond is gone.**

use crate::coordinates::TopicPartition;
use crate::metric::PerMetric;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};

/// The SHA-256 of a body.
pub(super) type Digest = [u8; 32];

/// The newest messages of each key.
pub(super) type Found = HashMap<String, PerMetric<Option<Last>>>;

/// The digest of a body.
pub(super) fn digest(body: &[u8]) -> Digest {
    Sha256::digest(body).into()
}

/// The newest message of a key in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Its partition.
    partition: i32,
    /// Its offset.
    offset: i64,
    /// Its time, in milliseconds since 1970.
    time: i64,
    /// Its body; `None` for a tombstone.
    pub(super) digest: Option<Digest>,
}

/// A log.
#[derive(Clone, Copy, Debug)]
struct Log {
    /// The first offset that it had.
    begin: i64,
    /// The next offset to read.
    next: i64,
    /// The high watermark that it is read to.
    end: i64,
    /// Whether there was nothing more to read, committed at that time.
    is_at_its_end: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Every partition of the topics.
    logs: BTreeMap<TopicPartition, Log>,
    /// What was found so far.
    found: Found,
    /// Bytes of the bodies that were read.
    bytes: u64,
}

impl Logs {
    /// A log that is to be read.
    pub(super) fn add(&mut self, at: TopicPartition, begin: i64, end: i64) {
        self.logs.insert(at, Log { begin, next: begin, end, is_at_its_end: false });
    }

    /// The logs that are not read to their end, with the next offset of each.
    pub(super) fn open(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        self.logs.iter().filter(|(_, log)| log.next < log.end).map(|(at, log)| (*at, log.next))
    }

    /// One that is not.
    pub(super) fn first_open(&self) -> Option<TopicPartition> {
        self.open().next().map(|(at, _)| at)
    }

    /// Whether a log is read to its end.
    pub(super) fn is_read(&self, at: TopicPartition) -> bool {
        self.logs.get(&at).is_none_or(|log| log.next >= log.end)
    }

    /// The next offset of a log.
    pub(super) fn next(&self, at: TopicPartition) -> i64 {
        self.logs.get(&at).map_or(0, |log| log.next)
    }

    /// A message was read, of `size` bytes; of a key that is asked for, the key, its time and its body's
    /// digest. Returns whether the log was still open.
    pub(super) fn message(
        &mut self,
        at: TopicPartition,
        offset: i64,
        size: usize,
        message: Option<(String, i64, Option<Digest>)>,
    ) -> bool {
        let is_open = self.move_to(at, offset, offset + 1, false);
        if let (true, Some((key, time, digest))) = (is_open, message) {
            let newest = &mut self.found.entry(key).or_default()[at.metric];
            // The same key is in two partitions only if somebody has added partitions.
            if newest.is_none_or(|other| other.partition == at.partition || other.time <= time) {
                *newest = Some(Last { partition: at.partition, offset, time, digest });
            }
        }
        self.bytes += size as u64;
        is_open
    }

    /// Nothing more is committed of the log at present, and the next offset is this one. Returns whether the
    /// log was still open.
    pub(super) fn end(&mut self, at: TopicPartition, offset: i64) -> bool {
        self.move_to(at, offset, offset, true)
    }

    fn move_to(&mut self, at: TopicPartition, offset: i64, next: i64, is_at_its_end: bool) -> bool {
        let Some(log) = self.logs.get_mut(&at).filter(|log| log.next < log.end) else { return false };
        if offset < log.next {
            let is_gone = |newest: &Last| newest.partition == at.partition && newest.offset >= offset;
            for newest in self.found.values_mut() {
                newest[at.metric] = newest[at.metric].filter(|newest| !is_gone(newest));
            }
        }
        (log.next, log.is_at_its_end) = (next, is_at_its_end);
        true
    }

    /// The high watermark of a log is this now: it may have been cut. Returns whether all of it was read that
    /// is committed.
    pub(super) fn ends_at(&mut self, at: TopicPartition, high: i64) -> bool {
        let Some(log) = self.logs.get_mut(&at) else { return false };
        log.end = log.end.min(high);
        log.is_at_its_end
    }

    /// How many offsets are read, and how many there were to read.
    pub(super) fn offsets(&self) -> (i64, i64) {
        let sum = |of: fn(&Log) -> i64| self.logs.values().map(of).sum();
        (sum(|log| (log.next.min(log.end) - log.begin).max(0)), sum(|log| (log.end - log.begin).max(0)))
    }

    /// How many bytes were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was found.
    pub(super) fn into_found(self) -> Found {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    const AT: TopicPartition = TopicPartition { metric: Metric::Monetary, partition: 0 };
    const OTHER: TopicPartition = TopicPartition { metric: Metric::Monetary, partition: 1 };

    fn logs() -> Logs {
        let mut logs = Logs::default();
        logs.add(AT, 3, 10);
        logs.add(OTHER, 0, 0);
        logs
    }

    fn message(key: &str, time: i64, body: &str) -> Option<(String, i64, Option<Digest>)> {
        Some((key.to_owned(), time, Some(digest(body.as_bytes()))))
    }

    fn body(logs: &Logs, key: &str) -> Option<Digest> {
        logs.found.get(key)?.monetary?.digest
    }

    #[test]
    fn a_log_is_read_once_its_watermark_is_passed_by_a_message_or_by_its_end() {
        let mut logs = logs();
        assert_eq!(logs.open().collect::<Vec<_>>(), [(AT, 3)], "an empty one is read");
        assert!(logs.message(AT, 8, 5, None) && !logs.is_read(AT));
        assert!(logs.end(AT, 9) && !logs.is_read(AT), "a transaction is open");
        assert_eq!((logs.offsets(), logs.bytes()), ((6, 7), 5));
        assert!(logs.ends_at(AT, 12) && !logs.is_read(AT), "what came later is not read");
        assert!(logs.end(AT, 10) && logs.is_read(AT));
        assert!(!logs.message(AT, 11, 0, message("k", 0, "late")), "nor is it taken");
        assert_eq!(logs.into_found(), Found::new());
    }

    #[test]
    fn the_newest_message_of_a_key_counts() {
        let mut logs = logs();
        logs.add(OTHER, 0, 5);
        logs.message(AT, 3, 1, message("k", 50, "old"));
        logs.message(AT, 4, 1, message("k", 40, "new"));
        logs.message(AT, 5, 1, message("l", 40, "l"));
        assert_eq!(
            body(&logs, "k"),
            Some(digest(b"new")),
            "in a partition the offset decides, not the clock"
        );
        logs.message(OTHER, 0, 1, message("k", 39, "elsewhere, earlier"));
        assert_eq!(body(&logs, "k"), Some(digest(b"new")));
        logs.message(OTHER, 1, 1, message("k", 41, "elsewhere, later"));
        assert_eq!(body(&logs, "k"), Some(digest(b"elsewhere, later")));
        logs.message(OTHER, 2, 1, Some(("k".to_owned(), 42, None)));
        assert_eq!(body(&logs, "k"), None, "a tombstone is no body");
        assert_eq!(body(&logs, "l"), Some(digest(b"l")));
    }

    #[test]
    fn what_was_cut_off_a_log_is_not_there() {
        let mut logs = logs();
        logs.message(AT, 3, 1, message("k", 1, "stays"));
        logs.message(AT, 6, 1, message("l", 1, "goes"));
        logs.end(AT, 5);
        assert_eq!((body(&logs, "k"), body(&logs, "l")), (Some(digest(b"stays")), None));
        logs.ends_at(AT, 5);
        assert!(logs.is_read(AT));
    }
}
