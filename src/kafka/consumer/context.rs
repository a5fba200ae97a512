//! The callbacks of librdkafka for a consumer: rebalances become events, and reports are kept.

use super::Event;
use super::log_ends::LogEnds;
use super::reach::Reach;
use crate::coordinates::TopicPartition;
use crate::kafka::bootstrap::BrokersLost;
use crate::kafka::trouble::Trouble;
use crate::kafka::{Connection, client_log};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// The callbacks of librdkafka. They run within [`Consumer::next`].
pub(super) struct Context {
    /// Brokers and topics.
    pub(super) connection: Connection,
    /// Where rebalances go.
    pub(super) rebalances: UnboundedSender<Event>,
    /// The consumer is being dropped: the context itself answers rebalances.
    pub(super) closing: AtomicBool,
    /// librdkafka's sentence about the last error.
    pub(super) last_reason: Mutex<String>,
    /// Why no broker can be reached.
    pub(super) trouble: Trouble,
    /// Raised when the client knows no broker any more.
    pub(super) brokers_lost: BrokersLost,
    /// The ends of the logs in the newest statistics.
    pub(super) log_ends: LogEnds,
    /// What is not reached by the newest statistics.
    pub(super) reach: Reach,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client_log::line(level, facility, message);
        self.trouble.note_line(facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        self.trouble.note(&error, reason);
        reason.clone_into(&mut lock(&self.last_reason));
    }

    fn stats(&self, statistics: Statistics) {
        self.brokers_lost.check(&statistics);
        self.reach.note(&statistics);
        self.log_ends.note(&self.connection, &statistics);
    }
}

impl ConsumerContext for Context {
    /// Passes the rebalance on, and does not assign (see the module). rdkafka's own version assigns without
    /// offsets.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let event = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let elements = list.elements();
                let assigned = elements.iter().filter_map(|element| {
                    let metric = self.connection.metric(element.topic())?;
                    Some(TopicPartition { metric, partition: element.partition() })
                });
                Event::Assigned(assigned.collect())
            }
            _ => Event::Revoked,
        };
        let unanswered = self.closing.load(Ordering::Acquire) || self.rebalances.send(event).is_err();
        if unanswered && let Err(error) = consumer.unassign() {
            tracing::debug!(%error, "cannot unassign");
        }
    }
}

/// Locks a mutex whose holders only read or replace its content.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
