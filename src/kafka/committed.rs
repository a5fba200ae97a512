//! The offsets that a group has committed to Kafka.
//!
//! Our readers never read them back as positions: those are in Postgres.

use super::client_log::Reporting;
use super::{ANSWER_TIMEOUT, Cluster, Connection, KafkaError, SESSION_TIMEOUT};
use crate::metric::Metric;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaType;
use rdkafka::{Offset, TopicPartitionList};

/// The settings of the client that asks. It joins no group and reads nothing.
const DEFAULTS: [(&str, &str); 1] = [SESSION_TIMEOUT];
const FIXED: [(&str, &str); 3] =
    [("enable.auto.commit", "false"), ("allow.auto.create.topics", "false"), ("statistics.interval.ms", "0")];

impl Cluster {
    /// Checks the properties for [`Cluster::committed`] without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check_committed(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &DEFAULTS, &FIXED)
    }

    /// Per partition of a metric's topic, the next offset that the group has committed, where it has.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if the group's coordinator does not answer.
    pub fn committed(&self, group_id: &str, metric: Metric) -> Result<Vec<(i32, i64)>, KafkaError> {
        let topic = self.connection.topic(metric);
        let mut list = TopicPartitionList::new();
        for partition in 0..self.topic_partitions()?.counts[metric] {
            list.add_partition(topic, i32::try_from(partition).unwrap_or(i32::MAX));
        }
        let mut config = self.connection.client_config(&DEFAULTS, &FIXED);
        config.set("group.id", group_id);
        // The client that asks all else belongs to no group.
        let client: BaseConsumer<Reporting> = config.create_with_context(Reporting::default())?;
        let committed = self.ask("the offsets that the group has committed, from its coordinator", |_| {
            Ok(client.committed_offsets(list, ANSWER_TIMEOUT)?)
        })?;
        let known = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(known.collect())
    }
}
