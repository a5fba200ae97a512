//! Questions to the brokers beside reading and sending. All of them block, except the creation of a topic.

use super::client_log::Reporting;
use super::questions::Questions;
use super::topic_ids::{self, TopicIds};
use super::{ANSWER_TIMEOUT, Connection, KafkaError, Right, SESSION_TIMEOUT, bootstrap};
use crate::metric::{Metric, PerMetric};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::{MetadataBroker, MetadataTopic};
use rdkafka::types::RDKafkaType;
use std::fmt;
use std::time::{Duration, Instant};

/// How often a client that waits for its first answer looks whether it was refused.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A question that the brokers have for this long is one that they do not answer at once.
const WHILE: Duration = Duration::from_secs(1);

/// More events than a client has between two questions.
const EVENTS_AT_ONCE: usize = 100;

/// Settings that carry a guarantee; see `properties::RESERVED`.
const FIXED: [(&str, &str); 3] = [
    ("isolation.level", "read_uncommitted"),
    ("allow.auto.create.topics", "false"),
    // Between two questions nobody takes statistics off the queue.
    ("statistics.interval.ms", "0"),
];

/// The partition counts of the three topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    /// Partitions per topic; 0 if the topic does not exist.
    pub counts: PerMetric<usize>,
}

impl TopicPartitions {
    /// The number of partitions, if all three topics exist and agree on it.
    pub fn equal(&self) -> Option<usize> {
        let count = self.counts.recency;
        (count > 0 && self.counts.values().all(|&c| c == count)).then_some(count)
    }
}

/// `recency 3, frequency 3, monetary 0`
impl fmt::Display for TopicPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PerMetric { recency, frequency, monetary } = self.counts;
        write!(f, "recency {recency}, frequency {frequency}, monetary {monetary}")
    }
}

/// A client that belongs to no group and reads nothing. It sees uncommitted messages, so its high watermarks
/// are the real ones, not the last stable offsets.
pub struct Cluster {
    /// Brokers and topics.
    pub(super) connection: Connection,
    /// What this program does with the topics.
    right: Right,
    /// The client that asks.
    client: BaseConsumer<Reporting>,
    /// What it has asked.
    pub(super) questions: Questions,
}

impl Cluster {
    /// Checks the properties without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &[SESSION_TIMEOUT], &FIXED)
    }

    /// A client that connects with its first question. `right` is what this program needs on the topics.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn new(connection: &Connection, right: Right) -> Result<Self, KafkaError> {
        let client =
            connection.client_config(&[SESSION_TIMEOUT], &FIXED).create_with_context(Reporting::default())?;
        Ok(Self { connection: connection.clone(), right, client, questions: Questions::default() })
    }

    /// A client like this one that knows nothing of the cluster yet.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn afresh(&self) -> Result<Self, KafkaError> {
        Self::new(&self.connection, self.right)
    }

    /// The id of the cluster. Once it is known, no broker is asked for it again.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers, [`KafkaError::Refused`] if one refuses this client.
    pub fn id(&self) -> Result<String, KafkaError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let trouble = &self.client.context().trouble;
        let id = || self.client.client().fetch_cluster_id(LOOK_EVERY);
        while trouble.refusal().is_none() && Instant::now() < deadline {
            let id = id();
            self.serve();
            if let Some(id) = id {
                return Ok(id);
            }
        }
        // What comes of it says less than what was reported before.
        trouble.keeping(|| self.ask_for_metadata());
        id().ok_or_else(|| trouble.explain(KafkaError::Transient(self.nobody())))
    }

    /// Asks for metadata, which bring the id of the cluster. A client asks as soon as it has connected, but if
    /// the answer names no broker (the only one is fenced while it wakes up), it asks again after five minutes.
    fn ask_for_metadata(&self) {
        let topic = self.connection.topic(Metric::Recency);
        let answer = self.client.fetch_metadata(Some(topic), LOOK_EVERY);
        self.serve();
        if answer.is_ok_and(|metadata| metadata.brokers().is_empty()) {
            bootstrap::rebootstrap(self.client.client(), &self.connection.bootstrap_servers);
        }
    }

    /// `no broker answers at …`, with librdkafka's last sentence about it.
    pub fn no_answer(&self) -> String {
        self.with_trouble(self.nobody())
    }

    /// What the brokers have been asked, and how long they have answered nothing; `None` while they answer.
    pub fn unanswered(&self) -> Option<(Option<String>, Duration)> {
        Some((self.questions.oldest(WHILE), self.questions.silence()?))
    }

    /// A text for a log line, with librdkafka's last sentence about the brokers.
    pub fn with_trouble(&self, what: String) -> String {
        self.serve();
        self.client.context().trouble.with_last(what)
    }

    fn nobody(&self) -> String {
        format!("no broker answers at {}", self.connection.bootstrap_servers)
    }

    /// The partition counts of the three topics.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers, [`KafkaError::Refused`] if this program may not see a
    /// topic.
    pub fn topic_partitions(&self) -> Result<TopicPartitions, KafkaError> {
        self.ask("the partitions of the topics", |client| {
            let counts = PerMetric::try_from_fn(|metric| {
                let topic = self.connection.topic(metric);
                let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                found.map_or(Ok(0), |found| self.partitions_of(found))
            })?;
            Ok(TopicPartitions { counts })
        })
    }

    /// How many partitions a topic has; 0 if it does not exist, or not yet.
    fn partitions_of(&self, topic: &MetadataTopic) -> Result<usize, KafkaError> {
        match topic.error().map(Code::from) {
            None => Ok(topic.partitions().len()),
            // Brokers do not tell whether such a topic exists.
            Some(Code::TopicAuthorizationFailed) => {
                Err(KafkaError::denied(self.right, &format!("the topic `{}`", topic.name())))
            }
            Some(Code::InvalidTopic) => Err(KafkaError::invalid_topic(topic.name())),
            Some(_) => Ok(0),
        }
    }

    /// The ids of the three topics.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub fn topic_ids(&self) -> Result<TopicIds, KafkaError> {
        self.ask("the ids of the topics", |client| {
            let broker = self.one_broker(client)?;
            topic_ids::ask(client.client(), broker, &self.connection.topics, ANSWER_TIMEOUT)
        })
    }

    /// The refusal of this program's right on the topics, after the brokers have refused something. It names
    /// those on which the user lacks the right, as far as the brokers say.
    pub fn denied(&self) -> KafkaError {
        match self.check_right_on_topics() {
            Err(denied @ KafkaError::Refused { .. }) => denied,
            _ => self.denied_on("one of the topics", |_| true),
        }
    }

    /// Checks that the user has this program's right on the three topics.
    ///
    /// # Errors
    /// [`KafkaError::Refused`] with those on which it is missing; [`KafkaError::Transient`] if no broker answers.
    pub fn check_right_on_topics(&self) -> Result<(), KafkaError> {
        let topics = &self.connection.topics;
        let allowed = self.ask("the rights on the topics", |client| {
            let broker = self.one_broker(client)?;
            topic_ids::ask_right(client.client(), broker, topics, ANSWER_TIMEOUT, self.right)
        })?;
        if allowed.values().all(|&allowed| allowed) {
            return Ok(());
        }
        Err(self.denied_on("the topic", |metric| !allowed[metric]))
    }

    fn denied_on(&self, what: &str, is_denied: impl Fn(Metric) -> bool) -> KafkaError {
        let denied = Metric::ALL.into_iter().filter(|metric| is_denied(*metric));
        let named = denied.map(|metric| format!("`{}`", self.connection.topic(metric)));
        KafkaError::denied(self.right, &format!("{what} {}", named.collect::<Vec<_>>().join(", ")))
    }

    /// A broker that can be asked. librdkafka would ask the controller; it may be away, and the embedded
    /// broker has none.
    pub(super) fn one_broker(&self, client: &BaseConsumer<Reporting>) -> Result<i32, KafkaError> {
        let topic = self.connection.topic(Metric::Recency);
        let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
        let brokers = || metadata.brokers().iter().map(MetadataBroker::id);
        let answered = brokers().find(|&id| id == metadata.orig_broker_id());
        let broker = answered.or_else(|| brokers().next());
        broker.ok_or_else(|| KafkaError::Transient("the metadata names no broker".into()))
    }

    /// The first offset that the log still has, and its high watermark (the next offset to be written).
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if the leader does not answer.
    pub fn watermarks(&self, metric: Metric, partition: i32) -> Result<(i64, i64), KafkaError> {
        let topic = self.connection.topic(metric);
        let what = format!("the end of the log of `{topic}`, partition {partition}, from its leader");
        self.ask(what, |client| Ok(client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?))
    }

    /// Asks a question. The client may have lost its brokers since the last one; then it rebootstraps.
    pub(super) fn ask<T>(
        &self,
        what: impl Into<String>,
        question: impl FnOnce(&BaseConsumer<Reporting>) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        self.serve();
        let open = self.questions.begin(what);
        let answer = question(&self.client);
        self.serve();
        let trouble = &self.client.context().trouble;
        match answer {
            Ok(answer) => {
                open.answered();
                trouble.clear();
                Ok(answer)
            }
            Err(error) => {
                if matches!(error, KafkaError::Transient(_)) {
                    bootstrap::rebootstrap(self.client.client(), &self.connection.bootstrap_servers);
                }
                Err(trouble.explain(error))
            }
        }
    }

    /// Takes events off the client's queue. Nobody else polls it. (rdkafka gives `None` for a log line, too.)
    fn serve(&self) {
        for _ in 0..EVENTS_AT_ONCE {
            drop(self.client.poll(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests;
