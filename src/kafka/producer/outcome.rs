//! What became of batches: their place in the topics, or why they were not sent.

use crate::kafka::KafkaError;
use crate::metric::PerMetric;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::Delivery;

/// The place of the three messages of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition number, the same in the three topics.
    pub partition: i32,
    /// The offset of each metric's message.
    pub offsets: PerMetric<i64>,
}

/// Why batches were not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Another producer uses the same transactional id, or a transaction was open for longer than
    /// `transaction.timeout.ms`; brokers do not tell these apart.
    #[error("another producer with the transactional id `{0}` took over, or a transaction timed out")]
    Fenced(String),
    /// The brokers will never accept the message.
    #[error("{0}")]
    TooLarge(String),
    /// The transaction must be aborted; then the same batches can be sent again.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// The call had no effect yet, or is still under way: make the same call again.
    #[error("{0}")]
    NotYet(String),
    /// The client cannot be used any more.
    #[error(transparent)]
    Fatal(KafkaError),
}

/// The place of a batch, from those of its three messages.
pub(super) fn whole(places: &[Delivery]) -> Result<Sent, SendError> {
    match places {
        [r, f, m] if r.partition == f.partition && f.partition == m.partition => {
            Ok(Sent { partition: r.partition, offsets: [r.offset, f.offset, m.offset].into() })
        }
        _ => Err(SendError::Aborted("the topics differ in their partitions".into())),
    }
}

/// Whether a message failed only because another one failed.
pub(super) fn is_purge(error: &RdKafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight))
}

/// Classifies the error of a transactional call by what librdkafka asks for.
pub(super) fn classify_call(error: &RDKafkaError, what: String) -> SendError {
    if error.txn_requires_abort() {
        SendError::Aborted(what)
    } else if error.is_retriable() {
        SendError::NotYet(what)
    } else {
        SendError::Fatal(KafkaError::Transient(what))
    }
}
