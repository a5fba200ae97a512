//! The three topics: creates those that are missing, and waits until all are there.

use super::vitals::Vitals;
use super::{FIRST_PAUSE, LONGEST_PAUSE, Options};
use crate::backoff::{Backoff, wait_and_report};
use crate::kafka::{Cluster, Connection, Creation, KafkaError};
use crate::metric::PerMetric;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// If there are fewer brokers than replicas, the others may still be starting. They get this long.
const MORE_BROKERS_WITHIN: Duration = Duration::from_secs(20);

/// Waits until the three topics exist with equal partition counts, and creates those that are missing.
/// Returns the count.
///
/// # Errors
/// What no retry can repair.
pub async fn ensure(cluster: &Arc<Cluster>, options: &Options, vitals: &Vitals) -> Result<usize, KafkaError> {
    let awaited = RefCell::new(None);
    wait_and_report(wait(cluster, options, &awaited), |lasted| {
        let awaited = awaited.borrow().clone().unwrap_or_else(|| cluster.no_answer());
        tracing::warn!(for_s = lasted.as_secs(), "{awaited}; still trying");
        vitals.awaits_topics(&awaited);
    })
    .await
}

/// The same without log lines. Keeps in `awaited` what it waits for; `None` while no broker answers.
async fn wait(
    cluster: &Arc<Cluster>,
    options: &Options,
    awaited: &RefCell<Option<String>>,
) -> Result<usize, KafkaError> {
    let (mut backoff, begun) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Instant::now());
    loop {
        let asked = Arc::clone(cluster);
        let topics = tokio::task::spawn_blocking(move || {
            // This one notices at once that the brokers refuse the client.
            asked.id().and_then(|_| asked.topic_partitions())
        })
        .await;
        let waits_for = match topics.map_err(|error| KafkaError::Transient(error.to_string()))? {
            Ok(topics) => match (topics.equal(), topics.counts.values().max()) {
                (Some(count), _) => return Ok(count),
                // The counts must be equal, so a topic that exists decides how many partitions the others
                // get.
                (None, Some(&largest))
                    if topics.counts.values().all(|&count| count == 0 || count == largest) =>
                {
                    let count = if largest == 0 { options.partitions } else { largest };
                    Some(create_missing(cluster, &options.kafka, topics.counts, count, begun).await?)
                }
                _ => Some(format!("the topics have unequal partition counts: {topics}")),
            },
            Err(KafkaError::Transient(_)) => None,
            Err(error) => return Err(error),
        };
        awaited.replace(waits_for);
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Creates the topics that do not exist yet. Returns what the caller waits for now, since `begun`.
async fn create_missing(
    cluster: &Cluster,
    kafka: &Connection,
    counts: PerMetric<usize>,
    partitions: usize,
    begun: Instant,
) -> Result<String, KafkaError> {
    for (metric, _) in counts.iter().filter(|(_, count)| **count == 0) {
        let topic = kafka.topic(metric);
        match cluster.create_topic(topic, partitions).await {
            Ok(Creation::Made) => tracing::info!(topic, partitions, "created topic"),
            Ok(Creation::Existed) => {}
            Ok(Creation::TooFewBrokers(refusal)) if begun.elapsed() > MORE_BROKERS_WITHIN => {
                return Err(refusal);
            }
            Ok(Creation::TooFewBrokers(refusal)) => return Ok(refusal.to_string()),
            Err(KafkaError::Transient(what)) => return Ok(what),
            Err(error) => return Err(error),
        }
    }
    Ok("the brokers do not know the new topics yet".to_owned())
}
