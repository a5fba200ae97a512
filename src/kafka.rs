//! Kafka: the only door to rdkafka.
//!
//! Owns clients, their settings and the meaning of their errors. Does not own what messages say (`message`),
//! nor what is done about an error (the two daemons).
//!
//! **The settings that carry a guarantee are fixed here. No property can override them**, under any of their
//! names. All other settings of librdkafka are open to `--kafka-property`.

mod bootstrap;
mod client_log;
mod cluster;
mod committed;
mod consumer;
mod creation;
mod error;
mod group_rights;
mod leader_epoch;
mod log;
mod members;
mod newest;
mod producer;
mod properties;
mod questions;
mod replicas;
mod settings;
mod times;
mod topic_ids;
mod topic_settings;
mod trouble;

pub use cluster::{Cluster, TopicPartitions};
pub use consumer::{Consumer, Event, LogEnd};
pub use creation::Creation;
pub use error::{KafkaError, PROPERTY_HINT, Right};
pub use members::Member;
pub use newest::Newest;
pub use producer::{Limits, SendError, Sender, Sent, UNACCEPTABLE_MS};
pub use properties::parse_properties;
pub use replicas::Replicas;
pub use topic_ids::TopicIds;
pub use topic_settings::TopicSettings;

use crate::coordinates::NextOffset;
use crate::metric::{Metric, PerMetric};
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::types::RDKafkaType;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::time::Duration;

/// The brokers, the names of the three topics, and the properties of the user.
#[derive(Clone, Debug)]
pub struct Connection {
    /// `host:port,host:port`
    pub bootstrap_servers: String,
    /// The topic of each metric.
    pub topics: PerMetric<String>,
    /// librdkafka properties as name and value, none of them reserved.
    pub properties: Vec<(String, String)>,
}

impl Connection {
    /// The topic of a metric.
    pub fn topic(&self, metric: Metric) -> &str {
        &self.topics[metric]
    }

    /// The names of the three topics, for log lines.
    pub fn topic_list(&self) -> String {
        self.topics.as_ref().into_array().map(String::as_str).join(",")
    }

    /// The metric whose topic this is.
    fn metric(&self, topic: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|&metric| self.topic(metric) == topic)
    }

    /// Positions as a list of librdkafka.
    fn list(&self, positions: &[NextOffset]) -> Result<TopicPartitionList, KafkaError> {
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
        // At its default, a client does not say why a broker has closed a connection.
        if !matches!(config.log_level, RDKafkaLogLevel::Debug) {
            config.set_log_level(RDKafkaLogLevel::Info);
        }
        for (name, value) in properties::last_of_each(defaults, &self.properties) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config
    }

    /// Checks the settings of one client, with a client that connects to no broker.
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
        properties::usable(&config)?;
        config.remove("bootstrap.servers");
        match Client::new(&config, config.create_native_config()?, kind, client_log::Reporting::default()) {
            Err(RdKafkaError::ClientCreation(what)) => Err(KafkaError::Properties(what)),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }
}

/// Settings of all clients that the user may override.
const SHARED: [(&str, &str); 7] = [
    ("client.id", "rfm-stream"),
    // After an outage the brokers are tried again within a second (librdkafka adds up to a half), not within ten.
    ("reconnect.backoff.max.ms", "500"),
    ("socket.keepalive.enable", "true"),
    // A broker may hang while its connections look sound to the system. It is given up after this long, not
    // after a minute, and sooner if it does not answer the first request. (A message must pass within this
    // time: 64 MiB need 55 Mbit/s. On a slower network, raise it.)
    ("socket.timeout.ms", "10000"),
    ("api.version.request.timeout.ms", "2500"),
    ("socket.connection.setup.timeout.ms", "10000"),
    // Without metadata for this long, the client asks the bootstrap servers again. librdkafka's default is 5
    // minutes.
    ("metadata.recovery.rebootstrap.trigger.ms", "2000"),
];

/// The session timeout of every consumer, also of those outside the group: librdkafka compares it with
/// `max.poll.interval.ms`. (`consumer/settings.rs` says why it is this long.)
const SESSION_TIMEOUT: (&str, &str) = ("session.timeout.ms", "16000");

/// How long the brokers may take to answer a question. The caller asks again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
