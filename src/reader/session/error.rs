//! Why a session ends early.

use crate::coordinates::MessageId;
use crate::kafka::KafkaError;
use crate::metric::Metric;
use crate::reader::store::StoreError;
use std::ops::Range;
use tokio::task::JoinError;

/// The end of a session; [`crate::reader`] decides whether another one begins.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Postgres failed, or another reader owns a partition.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topics fit together now, or the group has lost this member. To get partitions, the reader joins
    /// again.
    #[error("the partitions of the topics changed")]
    Rejoin,
    /// The topic has the name of the one whose offsets are stored, but is another topic.
    #[error(
        "the topic `{topic}` ({metric}) was deleted and created again since progress in it was stored; stored \
         positions: {positions}"
    )]
    TopicReplaced {
        /// The topic.
        topic: String,
        /// Its metric.
        metric: Metric,
        /// Per partition, the stored position and what the log has now.
        positions: String,
    },
    /// The log no longer has the stored position.
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
    /// The log lost messages that were stored: it has others in their place, or it ends below what was read.
    #[error("{0}")]
    LogCut(String),
    /// Postgres refuses one batch again and again, and nothing else.
    #[error(
        "postgres refused the batch at partition {}, {} offset {} three times", first.partition, first.metric, first.offset
    )]
    RefusedBatch {
        /// The first message of the batch.
        first: MessageId,
        /// What Postgres said.
        #[source]
        source: StoreError,
    },
    /// The session cannot go on; a new one may.
    #[error("{0}")]
    Broken(String),
}

/// A thread panicked.
impl From<JoinError> for SessionError {
    fn from(error: JoinError) -> Self {
        SessionError::Broken(format!("a thread failed: {error}"))
    }
}
