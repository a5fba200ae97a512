//! Who has the partitions: leaders, and replicas that are in step with them.

use super::{ANSWER_TIMEOUT, Cluster, KafkaError};
use crate::coordinates::TopicPartition;
use crate::metric::Metric;
use rdkafka::consumer::Consumer as _;

/// A partition of one of the three topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Which one.
    pub at: TopicPartition,
    /// Whether a broker leads it. Without a leader nothing is read or written.
    pub has_leader: bool,
    /// How many brokers have all that was written.
    pub in_sync: usize,
}

impl Cluster {
    /// The partitions of the topics that exist.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub fn replicas(&self) -> Result<Vec<Replicas>, KafkaError> {
        self.ask("who leads the partitions", |client| {
            let mut found = Vec::new();
            for metric in Metric::ALL {
                let topic = self.connection.topic(metric);
                let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
                let described = metadata.topics().iter().filter(|found| found.name() == topic);
                found.extend(described.flat_map(|topic| topic.partitions()).map(|partition| Replicas {
                    at: TopicPartition { metric, partition: partition.id() },
                    has_leader: partition.leader() >= 0,
                    in_sync: partition.isr().len(),
                }));
            }
            Ok(found)
        })
    }
}
