//! Why a session ends before its time.

use crate::kafka::KafkaError;
use crate::message::Metric;
use crate::reader::pairing::Position;
use crate::reader::store::StoreError;
use std::ops::Range;

/// The end of a session; [`crate::reader`] decides whether another one begins.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Postgres failed, or another reader owns a partition.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topics fit now; join the group anew to be given partitions.
    #[error("the partitions of the topics changed")]
    Rejoin,
    /// The topic is another one than that whose offsets are stored, although it has the same name.
    #[error(
        "the topic `{topic}` ({metric}) was deleted and created anew since progress in it was stored; stored \
         positions: {positions}"
    )]
    TopicReplaced {
        /// The topic.
        topic: String,
        /// Its metric.
        metric: Metric,
        /// Partitions, the next offset to read as stored, and what the log has now.
        positions: String,
    },
    /// The log no longer has the position to go on from.
    #[error(
        "the stored position {next} of the topic `{topic}` ({metric}), partition {partition}, is not in the log, \
         which holds {}..{}", log.start, log.end
    )]
    PositionGone {
        /// The topic.
        topic: String,
        /// Its metric.
        metric: Metric,
        /// The partition.
        partition: i32,
        /// The next offset to read, as stored.
        next: i64,
        /// What the log has: first offset, high watermark.
        log: Range<i64>,
    },
    /// The log lost messages that were stored, and other ones are in their place; or it is shorter than what was read.
    #[error("{0}")]
    LogCut(String),
    /// Postgres refuses one batch again and again, and nothing else.
    #[error(
        "postgres refused the batch at partition {}, {} offset {} three times", first.partition, first.metric, first.offset
    )]
    RefusedBatch {
        /// Where the batch stands: its first message.
        first: Position,
        /// What Postgres said.
        #[source]
        source: StoreError,
    },
    /// The session cannot go on; a new one may.
    #[error("{0}")]
    Broken(String),
}
