//! The callbacks of librdkafka for a producer.

use crate::kafka::bootstrap::BrokersLost;
use crate::kafka::client_log;
use crate::kafka::trouble::Trouble;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::statistics::Statistics;
use std::sync::Arc;

/// The callbacks of librdkafka. Errors come back from the calls.
#[derive(Default)]
pub(super) struct SenderContext {
    /// Raised when the client knows no broker any more.
    pub(super) brokers_lost: Arc<BrokersLost>,
    /// Why the client does not reach a broker.
    pub(super) trouble: Arc<Trouble>,
}

impl ClientContext for SenderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client_log::line(level, facility, message);
        self.trouble.note_line(facility, message);
    }
    fn error(&self, error: RdKafkaError, reason: &str) {
        client_log::error(&error, reason);
        self.trouble.note(&error, reason);
    }
    fn stats(&self, statistics: Statistics) {
        self.brokers_lost.check(&statistics);
    }
}
