//! Questions to the brokers that are asked beside reading and sending. All of them block.

use super::{Connection, KafkaError, bootstrap, topic_ids};
use crate::message::Metric;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataBroker;
use rdkafka::types::RDKafkaType;
use std::fmt;
use std::time::Duration;

/// How long a question may take; then it is asked again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings that carry a guarantee; see `properties::RESERVED`.
const FIXED: [(&str, &str); 3] = [
    ("isolation.level", "read_uncommitted"),
    ("allow.auto.create.topics", "false"),
    // Nobody takes them off the queue while there is nothing to ask.
    ("statistics.interval.ms", "0"),
];

/// The same for the client that creates topics. It sends no messages, but properties of the producer's may need
/// idempotence.
const FIXED_TO_CREATE: [(&str, &str); 2] =
    [("allow.auto.create.topics", "false"), ("enable.idempotence", "true")];

/// What the brokers call each of the three topics beside its name; `None` where it does not exist, or where
/// brokers have no ids (before Kafka 2.8).
pub type TopicIds = [Option<String>; 3];

/// What the brokers know of the three topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    /// Partitions per topic; 0 where the topic does not exist.
    pub counts: [usize; 3],
}

impl TopicPartitions {
    /// The number of partitions, if all three topics exist and agree on it.
    pub fn equal(&self) -> Option<usize> {
        let [count, ..] = self.counts;
        (count > 0 && self.counts.iter().all(|&c| c == count)).then_some(count)
    }
}

/// `recency 3, frequency 3, monetary 0`
impl fmt::Display for TopicPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [recency, frequency, monetary] = self.counts;
        write!(f, "recency {recency}, frequency {frequency}, monetary {monetary}")
    }
}

/// A client that belongs to no group and reads nothing. It sees uncommitted messages, so that its high
/// watermarks are the real ones, not the end of what is committed.
pub struct Cluster {
    pub(super) connection: Connection,
    client: BaseConsumer<Quiet>,
}

/// Errors come back as answers; nothing else is to be told.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }
    fn error(&self, error: RdKafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Quiet {}

impl Cluster {
    /// Checks the properties, and asks no broker.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &[], &FIXED)
    }

    /// The same for [`Cluster::create_topic`].
    ///
    /// # Errors
    /// As above.
    pub fn check_creating(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_PRODUCER, &[], &FIXED_TO_CREATE)
    }

    /// A client that connects when it is first asked.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn new(connection: &Connection) -> Result<Self, KafkaError> {
        let client = connection.client_config(&[], &FIXED).create_with_context(Quiet)?;
        Ok(Self { connection: connection.clone(), client })
    }

    /// What the brokers call their cluster.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub fn id(&self) -> Result<String, KafkaError> {
        self.serve();
        self.client.client().fetch_cluster_id(ANSWER_TIMEOUT).ok_or_else(|| {
            KafkaError::Transient(format!("no broker answers at {}", self.connection.bootstrap_servers))
        })
    }

    /// The partitions of the three topics.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub fn topic_partitions(&self) -> Result<TopicPartitions, KafkaError> {
        self.ask(|client| {
            let mut counts = [0; 3];
            for (topic, count) in self.connection.topics.iter().zip(&mut counts) {
                let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
                let found =
                    metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
                *count = found.map_or(0, |found| found.partitions().len());
            }
            Ok(TopicPartitions { counts })
        })
    }

    /// The ids of the three topics.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub fn topic_ids(&self) -> Result<TopicIds, KafkaError> {
        self.ask(|client| {
            // librdkafka would ask the controller, which may be away, or (of the embedded broker) not exist.
            let topic = self.connection.topic(Metric::Recency);
            let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
            let brokers = || metadata.brokers().iter().map(MetadataBroker::id);
            let answered = brokers().find(|&id| id == metadata.orig_broker_id());
            let broker = answered.or_else(|| brokers().next());
            let broker = broker.ok_or_else(|| KafkaError::Transient("the brokers name no broker".into()))?;
            topic_ids::ask(client.client(), broker, &self.connection.topics, ANSWER_TIMEOUT)
        })
    }

    /// The first offset that the log still has, and its high watermark (the next one to be written).
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if the leader does not answer.
    pub fn watermarks(&self, metric: Metric, partition: i32) -> Result<(i64, i64), KafkaError> {
        let topic = self.connection.topic(metric);
        self.ask(|client| Ok(client.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?))
    }

    /// Asks a client that may have forgotten its brokers since it was asked last.
    fn ask<T>(
        &self,
        question: impl FnOnce(&BaseConsumer<Quiet>) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        self.serve();
        let answer = question(&self.client);
        if let Err(KafkaError::Transient(_)) = answer {
            bootstrap::ask_again(self.client.client(), &self.connection.bootstrap_servers);
        }
        answer
    }

    /// Takes events off the client's queue, which nobody else polls.
    fn serve(&self) {
        while self.client.poll(Duration::ZERO).is_some() {}
    }

    /// Creates a topic with the brokers' own replication; `false` if it was there already.
    ///
    /// # Errors
    /// What the brokers say.
    pub async fn create_topic(&self, topic: &str, partitions: usize) -> Result<bool, KafkaError> {
        let config = self.connection.client_config(&[], &FIXED_TO_CREATE);
        let admin: AdminClient<_> = config.create_with_context(Quiet)?;
        let count = i32::try_from(partitions).map_err(|e| KafkaError::Refused(e.to_string()))?;
        // -1: the brokers' `default.replication.factor`.
        let new = NewTopic::new(topic, count, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT));
        for result in admin.create_topics([&new], &options).await? {
            match result {
                Ok(_) => {}
                Err((_, Code::TopicAlreadyExists)) => return Ok(false),
                Err((topic, code)) => {
                    let error = RdKafkaError::AdminOp(code);
                    return Err(KafkaError::new(
                        &error,
                        Some(&format!("cannot create the topic `{topic}`: {code}")),
                    ));
                }
            }
        }
        Ok(true)
    }
}
