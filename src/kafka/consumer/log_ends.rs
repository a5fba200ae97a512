//! Where logs end, by the statistics of the consumer: as of about a second ago.

use crate::coordinates::TopicPartition;
use crate::kafka::Connection;
use rdkafka::statistics::Statistics;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The end of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The high watermark: the next offset to be written.
    pub high: i64,
    /// The last stable offset: the first one of an open transaction, or else the high watermark. Nothing is
    /// read from there on.
    pub stable: i64,
}

/// The ends in the newest statistics. librdkafka writes them, the session reads them.
#[derive(Debug, Default)]
pub(super) struct LogEnds(Mutex<HashMap<TopicPartition, LogEnd>>);

impl LogEnds {
    /// Keeps what the statistics say.
    pub(super) fn note(&self, connection: &Connection, statistics: &Statistics) {
        let mut ends = self.lock();
        for (name, topic) in &statistics.topics {
            let Some(metric) = connection.metric(name) else { continue };
            for partition in topic.partitions.values().filter(|partition| partition.hi_offset >= 0) {
                let at = TopicPartition { metric, partition: partition.partition };
                ends.insert(at, LogEnd { high: partition.hi_offset, stable: partition.ls_offset });
            }
        }
    }

    /// The end of a log; `None` until the broker has answered.
    pub(super) fn of(&self, at: TopicPartition) -> Option<LogEnd> {
        self.lock().get(&at).copied()
    }

    /// The lock is held to read or to replace entries only, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, LogEnd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
