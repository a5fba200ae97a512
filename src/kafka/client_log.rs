//! librdkafka's own log lines: they are written at level `debug`, under the target `librdkafka`.

use super::trouble::Trouble;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError as RdKafkaError;

/// Writes a log line of librdkafka.
pub(super) fn line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
}

/// Writes an error that a client reports beside its answers.
pub(super) fn error(error: &RdKafkaError, reason: &str) {
    tracing::debug!(target: "librdkafka", %error, "{reason}");
}

/// The context of a client whose errors come back as answers: it writes log lines, and keeps the trouble.
#[derive(Default)]
pub(super) struct Reporting {
    /// Why the client does not reach a broker.
    pub(super) trouble: Trouble,
}

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        line(level, facility, message);
        self.trouble.note_line(facility, message);
    }

    fn error(&self, error: RdKafkaError, reason: &str) {
        self::error(&error, reason);
        self.trouble.note(&error, reason);
    }
}

impl ConsumerContext for Reporting {}
