//! What a client reports beside the answers to its questions: why it does not reach a broker.
//!
//! A question that is not answered ends with "timed out" at best. librdkafka reports the cause as an event of
//! its own, and only once in 30 s while nothing changes. So the last one is kept until something succeeds.

use super::KafkaError;
use super::error::is_refusal_of_client;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What librdkafka puts before a log line about a connection that failed.
const FAILURE: &str = "FAIL";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// What was reported since the last success.
    reports: Mutex<Reports>,
    /// A refusal was reported.
    refused: Notify,
}

/// librdkafka's sentences.
#[derive(Debug, Default)]
struct Reports {
    /// The last one of an error.
    last: Option<String>,
    /// The last one of a log line, which says less.
    line: Option<String>,
    /// The last one that no waiting mends.
    refusal: Option<(Code, String)>,
}

impl Trouble {
    /// Takes in an error event.
    pub(super) fn note(&self, error: &RdKafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let mut reports = self.reports();
        if code == Some(Code::AllBrokersDown) {
            // It only counts handles; the errors before it say why.
            return;
        }
        reports.last = Some(reason.to_owned());
        if let Some(code) = code.filter(|code| is_refusal_of_client(*code, reason)) {
            reports.refusal = Some((code, reason.to_owned()));
            drop(reports);
            self.refused.notify_one();
        }
    }

    /// Takes in a log line. A broker that closes the connection is no error to librdkafka, but the line says
    /// what may be wrong.
    pub(super) fn note_line(&self, facility: &str, message: &str) {
        if facility == FAILURE {
            let sentence = message.split_once("]: ").map_or(message, |(_thread, sentence)| sentence);
            self.reports().line = Some(sentence.to_owned());
        }
    }

    /// Does something and forgets what is reported meanwhile, unless it is a refusal.
    pub(super) fn keeping<T>(&self, work: impl FnOnce() -> T) -> T {
        let (last, line) = {
            let reports = self.reports();
            (reports.last.clone(), reports.line.clone())
        };
        let done = work();
        let mut reports = self.reports();
        (reports.last, reports.line) = (last, line);
        done
    }

    /// A broker has answered.
    pub(super) fn clear(&self) {
        *self.reports() = Reports::default();
    }

    /// librdkafka's last sentence since a broker has answered.
    pub(super) fn last(&self) -> Option<String> {
        let reports = self.reports();
        reports.last.as_ref().or(reports.line.as_ref()).cloned()
    }

    /// The refusal of this client, if there is one.
    pub(super) fn refusal(&self) -> Option<KafkaError> {
        self.reports().refusal.as_ref().map(|(code, what)| KafkaError::refused_client(*code, what))
    }

    /// Waits for a refusal.
    pub(super) async fn refused(&self) -> KafkaError {
        loop {
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            self.refused.notified().await;
        }
    }

    /// An error with its cause: a refusal takes its place, and librdkafka's last sentence is added to it.
    pub(super) fn explain(&self, error: KafkaError) -> KafkaError {
        match (error, self.refusal()) {
            (KafkaError::Transient(_), Some(refusal)) => refusal,
            (KafkaError::Transient(what), None) => KafkaError::Transient(self.with_last(what)),
            (error, _) => error,
        }
    }

    /// A text, with librdkafka's last sentence.
    pub(super) fn with_last(&self, what: String) -> String {
        match self.last() {
            Some(last) if !what.contains(&last) => format!("{what}: {last}"),
            _ => what,
        }
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_its_cause_and_a_refusal_takes_its_place() {
        let trouble = Trouble::default();
        let explained = || trouble.explain(KafkaError::Transient("no answer".into())).to_string();
        assert_eq!(explained(), "kafka: no answer");
        trouble.note_line("FAIL", "[thrd:b:1]: b:1: Disconnected");
        trouble.note_line("CONFWARN", "[thrd:app]: a property");
        assert_eq!(explained(), "kafka: no answer: b:1: Disconnected");
        trouble.note(&RdKafkaError::Global(Code::BrokerTransportFailure), "b:1: Connection refused");
        trouble.note(&RdKafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(explained(), "kafka: no answer: b:1: Connection refused");
        trouble.note(&RdKafkaError::Global(Code::Authentication), "b:1: Invalid password");
        trouble.note(&RdKafkaError::Global(Code::BrokerTransportFailure), "c:1: Connection refused");
        assert!(explained().ends_with("Invalid password"), "{}", explained());
        trouble.clear();
        assert_eq!(explained(), "kafka: no answer");
        trouble.note_line("FAIL", "[thrd:b:1]: b:1: Disconnected");
        trouble.keeping(|| {
            trouble.note(&RdKafkaError::Global(Code::BrokerTransportFailure), "b:1: Broken pipe");
        });
        assert_eq!(explained(), "kafka: no answer: b:1: Disconnected");
    }
}
