//! The times of messages, for a look at clocks: **Kafka tells nobody its own time.**

use super::{ANSWER_TIMEOUT, Cluster, KafkaError};
use crate::coordinates::TopicPartition;
use crate::metric::Metric;
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

impl Cluster {
    /// A partition with a message whose time is `since` (in milliseconds since 1970) or later, among the first
    /// `partitions` of each topic.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if a leader does not answer.
    pub fn message_since(&self, partitions: usize, since: i64) -> Result<Option<TopicPartition>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for metric in Metric::ALL {
            for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
                let at = Offset::Offset(since);
                list.add_partition_offset(self.connection.topic(metric), partition, at)?;
            }
        }
        let found = self
            .ask("the times of the newest messages, from the leaders of the partitions", |client| {
                Ok(client.offsets_for_times(list, ANSWER_TIMEOUT)?)
            })?;
        let elements = found.elements();
        let late = elements.iter().find(|element| matches!(element.offset(), Offset::Offset(_)));
        Ok(late.and_then(|element| {
            let metric = self.connection.metric(element.topic())?;
            Some(TopicPartition { metric, partition: element.partition() })
        }))
    }
}
