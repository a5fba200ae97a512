//! The three topics: waited for, created where they are missing.

use super::{FIRST_PAUSE, LONGEST_PAUSE, Options};
use crate::backoff::{Backoff, Steps};
use crate::kafka::{Cluster, Connection, KafkaError};
use std::sync::Arc;

/// Waits until the three topics exist with equal partition counts, and creates those that are missing.
/// Returns the count.
pub async fn ensure(cluster: Arc<Cluster>, options: &Options) -> Result<usize, KafkaError> {
    let (mut backoff, mut steps) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Steps::begun());
    loop {
        let asked = Arc::clone(&cluster);
        let topics = tokio::task::spawn_blocking(move || asked.topic_partitions()).await;
        let why = match topics.map_err(|error| KafkaError::Transient(error.to_string()))? {
            Ok(topics) => match (topics.equal(), topics.counts.iter().max()) {
                (Some(count), _) => return Ok(count),
                // The counts must be equal, so a topic that exists says how many the others get.
                (None, Some(&largest))
                    if topics.counts.iter().all(|&count| count == 0 || count == largest) =>
                {
                    let count = if largest == 0 { options.partitions } else { largest };
                    create_missing(&cluster, &options.kafka, topics.counts, count).await?
                }
                _ => format!("the topics have unequal partition counts: {topics}"),
            },
            Err(KafkaError::Transient(what)) => {
                format!("no broker answers at {}: {what}", options.kafka.bootstrap_servers)
            }
            Err(error) => return Err(error),
        };
        if let Some(lasted) = steps.due() {
            tracing::warn!(for_s = lasted.as_secs(), "{why}; still trying");
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Creates the topics that have no partitions. Returns what is waited for now.
async fn create_missing(
    cluster: &Cluster,
    kafka: &Connection,
    counts: [usize; 3],
    partitions: usize,
) -> Result<String, KafkaError> {
    for (topic, _) in kafka.topics.iter().zip(counts).filter(|(_, count)| *count == 0) {
        match cluster.create_topic(topic, partitions).await {
            Ok(true) => tracing::info!(topic, partitions, "created topic"),
            Ok(false) => {}
            Err(KafkaError::Transient(what)) => return Ok(what),
            Err(error) => return Err(error),
        }
    }
    Ok("the new topics are not there yet".to_owned())
}
