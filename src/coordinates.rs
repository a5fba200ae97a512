//! Kafka's coordinates: a partition of a topic, one message in it, and the next offset to read.

use crate::metric::Metric;

/// A partition of one of the three topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Which of the three topics.
    pub metric: Metric,
    /// The partition number.
    pub partition: i32,
}

/// Identifies a message, by **its own offset**.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Which of the three topics.
    pub metric: Metric,
    /// The partition number.
    pub partition: i32,
    /// The message's own offset.
    pub offset: i64,
}

/// A position in a log: **the next offset**, one past everything before it. Of reading it is the next one to
/// read, of progress the lowest that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextOffset {
    /// Which of the three topics.
    pub metric: Metric,
    /// The partition number.
    pub partition: i32,
    /// The next offset.
    pub offset: i64,
    /// A leader epoch in which the log had everything below `offset`; `None` if none is known.
    pub leader_epoch: Option<i32>,
}

impl MessageId {
    /// Where it stands.
    pub fn topic_partition(self) -> TopicPartition {
        TopicPartition { metric: self.metric, partition: self.partition }
    }
}

impl NextOffset {
    /// Whose position it is.
    pub fn topic_partition(self) -> TopicPartition {
        TopicPartition { metric: self.metric, partition: self.partition }
    }
}
