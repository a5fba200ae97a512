//! Kafka: the only door to rdkafka.
//!
//! Owns clients, their settings and what their errors mean. Does not own what messages say (`message`)
//! nor what is done about an error (the two daemons).
//!
//! The one idea: **the settings that carry a guarantee are fixed here and cannot be overridden**, under none of
//! their names; everything else of librdkafka is open to `--kafka-property`.

mod bootstrap;
mod cluster;
mod consumer;
mod leader_epoch;
mod log;
mod producer;
mod properties;
mod settings;
mod topic_ids;

pub use cluster::{Cluster, TopicIds, TopicPartitions};
pub use consumer::{Consumer, Event};
pub use producer::{Batch, SendError, Sender, Sent};
pub use properties::parse_properties;

use crate::message::Metric;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaType;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Where Kafka is, and what the three topics are called.
#[derive(Clone, Debug)]
pub struct Connection {
    /// `host:port,host:port`
    pub bootstrap_servers: String,
    /// The topic of each metric.
    pub topics: [String; 3],
    /// librdkafka properties of the user, none of them reserved.
    pub properties: Vec<(String, String)>,
}

/// The next offset to read of a topic's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Which of the three topics.
    pub metric: Metric,
    /// The partition number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// A leader epoch in which the log had everything below `offset`; `None` if none is known.
    pub leader_epoch: Option<i32>,
}

impl Connection {
    /// The topic of a metric.
    pub fn topic(&self, metric: Metric) -> &str {
        &self.topics[metric.index()]
    }

    /// The metric whose topic this is.
    fn metric(&self, topic: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|&metric| self.topic(metric) == topic)
    }

    /// Positions as librdkafka wants them.
    fn list(&self, positions: &[LogPosition]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for at in positions {
            let topic = self.topic(at.metric);
            list.add_partition_offset(topic, at.partition, Offset::Offset(at.offset))?;
            if let Some(epoch) = at.leader_epoch {
                leader_epoch::set(&mut list, topic, at.partition, epoch);
            }
        }
        Ok(list)
    }

    /// Settings of one client: `defaults`, which the user may override, then `fixed`.
    fn client_config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let defaults = SHARED.iter().chain(defaults).copied();
        let mut config = ClientConfig::new();
        for (name, value) in properties::last_of_each(defaults, &self.properties) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config
    }

    /// Makes a client without brokers, which asks nobody, and looks at what it is configured with.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    fn check(
        &self,
        kind: RDKafkaType,
        defaults: &[(&str, &str)],
        fixed: &[(&str, &str)],
    ) -> Result<(), KafkaError> {
        let mut config = self.client_config(defaults, fixed);
        let without = Self { properties: Vec::new(), ..self.clone() };
        properties::judge(&config, &without.client_config(defaults, fixed))?;
        config.remove("bootstrap.servers");
        match Client::new(&config, config.create_native_config()?, kind, cluster::Quiet) {
            Err(RdKafkaError::ClientCreation(what)) => Err(KafkaError::Properties(what)),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }
}

/// Settings of all clients that the user may override.
const SHARED: [(&str, &str); 7] = [
    ("client.id", "rfm-stream"),
    // After an outage the brokers are tried again within a second, not within ten.
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.keepalive.enable", "true"),
    // A broker that hangs, for all that the system says about its connections, is given up after this long, not after a
    // minute; and after this long when it does not answer the first question. (A message must pass within it: 64 MiB
    // need 55 Mbit/s. For less, raise it.)
    ("socket.timeout.ms", "10000"),
    ("api.version.request.timeout.ms", "2500"),
    ("socket.connection.setup.timeout.ms", "10000"),
    // No metadata for this long: the bootstrap servers are asked again, not after librdkafka's 5 minutes.
    ("metadata.recovery.rebootstrap.trigger.ms", "2000"),
];

/// What to do about a property that librdkafka does not take.
pub const PROPERTY_HINT: &str = "see --kafka-property and KAFKA_PROPERTIES; what these leave open has this program's own \
     defaults, such as session.timeout.ms=16000";

/// A failure of Kafka, by what is to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A property that librdkafka does not know or whose value it does not take.
    #[error("librdkafka does not accept the property `{name}`: {message}")]
    Property {
        /// The property.
        name: String,
        /// What librdkafka says about it.
        message: String,
    },
    /// Properties that librdkafka takes one by one, but not together, or not in a client of this kind.
    #[error("librdkafka does not accept the properties of a client: {0}")]
    Properties(String),
    /// What no retry can mend: wrong credentials, missing permission.
    #[error("kafka turned the client away: {0}")]
    Refused(String),
    /// May be over after a while.
    #[error("kafka: {0}")]
    Transient(String),
}

impl KafkaError {
    /// Sorts an error of rdkafka; `reason` is librdkafka's own sentence, where there is one.
    fn new(error: &RdKafkaError, reason: Option<&str>) -> Self {
        if let RdKafkaError::ClientConfig(_, message, name, _) = error {
            return KafkaError::Property { name: name.clone(), message: message.clone() };
        }
        let code = error.rdkafka_error_code();
        let what = match (reason, code) {
            (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
            (_, Some(code)) => code.to_string(),
            (_, None) => error.to_string(),
        };
        let refused = code.is_some_and(is_refusal) && !is_broken_handshake(&what);
        if refused { KafkaError::Refused(what) } else { KafkaError::Transient(what) }
    }
}

impl From<RdKafkaError> for KafkaError {
    fn from(error: RdKafkaError) -> Self {
        KafkaError::new(&error, None)
    }
}

/// librdkafka calls every handshake that fails an authentication error, also when a broker that restarts cuts
/// the connection in the middle of it.
fn is_broken_handshake(reason: &str) -> bool {
    ["transport failure", "timed out", "isconnected", "onnection reset", "onnection refused"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Codes that say "never", not "not now".
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}
