//! The producer: a batch of random customers, a Kafka transaction on three topics, a pause; again.
//!
//! Owns the values it makes up and the loop. Does not own transactions (`kafka`) nor the format of a
//! message (`message`).
//!
//! The one idea: **a batch keeps its key and its values until its transaction is committed**. Whatever
//! happens on the way, it is sent again as it was, and never in part.

use crate::backoff::{Backoff, Steps, patiently};
use crate::failure::Failure;
use crate::kafka::{Cluster, Connection, KafkaError, SendError, Sender, Sent};
use crate::message::{Metric, encode};
use crate::shutdown::Shutdown;
use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Pauses between tries of the same step.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The greatest value of each metric: days, orders, money. The least is 0.
const GREATEST: [u32; 3] = [365, 365, 999];

/// What the producer is told by its flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers and topics.
    pub kafka: Connection,
    /// `--interval`
    pub interval: Duration,
    /// `--customers`
    pub customers: usize,
    /// `--batches`; `None` for ever.
    pub batches: Option<u64>,
    /// `--seed`; `None` for values that nobody can repeat.
    pub seed: Option<u64>,
    /// `--partitions`
    pub partitions: usize,
    /// `--transactional-id`
    pub transactional_id: String,
}

/// A batch that is to be sent.
struct Batch {
    key: String,
    bodies: [Vec<u8>; 3],
}

/// Runs until `shutdown` is requested or all batches are sent. A batch under way is finished first.
///
/// # Errors
/// What no retry can mend: above all another producer with the same transactional id.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Failure> {
    let mut random = options.seed.map_or_else(rand::make_rng, ChaCha8Rng::seed_from_u64);
    let starting = start(&options);
    let sender = tokio::select! {
        () = shutdown.requested() => return Ok(()),
        sender = starting => sender?,
    };
    let mut left = options.batches;
    while left != Some(0) && !shutdown.is_requested() {
        let begun = Instant::now();
        let batch = random_batch(&mut random, options.customers).map_err(|e| Failure::at_work(e, None))?;
        let sent = send(&sender, &batch).await.map_err(|error| failure(error, &options))?;
        tracing::info!(
            key = batch.key,
            customers = options.customers,
            partition = sent.partition,
            offsets = %sent.offsets.map(|offset| offset.to_string()).join("/"),
            ms = begun.elapsed().as_millis() as u64,
            "sent"
        );
        left = left.map(|left| left - 1);
        if left != Some(0) {
            tokio::select! {
                () = shutdown.requested() => {}
                () = tokio::time::sleep(options.interval) => {}
            }
        }
    }
    Ok(())
}

/// Makes sure of the topics, and opens the transactional id.
async fn start(options: &Options) -> Result<Sender, Failure> {
    let unusable = |error: KafkaError| match error {
        KafkaError::Property { .. } => {
            Failure::configuration(error, "see --kafka-property and KAFKA_PROPERTIES".to_owned())
        }
        _ => Failure::at_work(error, "check --bootstrap-servers and --kafka-property".to_owned()),
    };
    let cluster = Arc::new(Cluster::new(&options.kafka).map_err(unusable)?);
    let partitions = ensure_topics(cluster, options).await.map_err(unusable)?;
    let sender = Sender::new(&options.kafka, &options.transactional_id).map_err(unusable)?;
    open(&sender).await.map_err(|error| failure(error, options))?;
    tracing::info!(
        topics = options.kafka.topics.join(","),
        partitions,
        customers = options.customers,
        interval = %humantime::format_duration(options.interval),
        transactional_id = options.transactional_id,
        "ready"
    );
    Ok(sender)
}

/// Waits until the three topics exist with equal partition counts, and creates those that are missing.
/// Returns the count.
async fn ensure_topics(cluster: Arc<Cluster>, options: &Options) -> Result<usize, KafkaError> {
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

/// A batch with a new key: whole numbers as floats, uniform.
fn random_batch(random: &mut impl Rng, customers: usize) -> anyhow::Result<Batch> {
    let mut body = |metric: Metric| {
        let greatest = GREATEST[metric.index()];
        let values: Vec<f64> = (0..customers).map(|_| f64::from(random.random_range(0..=greatest))).collect();
        encode(metric, &values)
    };
    let bodies = [body(Metric::Recency)?, body(Metric::Frequency)?, body(Metric::Monetary)?];
    Ok(Batch { key: Uuid::now_v7().to_string(), bodies })
}

/// Opens the transactional id, however long the brokers are away.
async fn open(sender: &Sender) -> Result<(), SendError> {
    again("opening the transactional id", async || sender.open().await).await
}

/// Sends a batch, however long the brokers are away: again and again the same.
async fn send(sender: &Sender, batch: &Batch) -> Result<Sent, SendError> {
    let (mut backoff, mut steps) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Steps::begun());
    loop {
        let sending = sender.send(&batch.key, &batch.bodies);
        let sent = patiently(sending, |lasted| {
            tracing::warn!(
                for_s = lasted.as_secs(),
                key = batch.key,
                "the brokers have not taken the batch yet"
            );
        });
        let sent = match sent.await {
            Ok(sent) => again("committing the batch", async || sender.commit().await).await.map(|()| sent),
            Err(error) => Err(error),
        };
        match sent {
            Err(SendError::Aborted(what) | SendError::NotYet(what)) => {
                if let Some(lasted) = steps.due() {
                    tracing::warn!(
                        for_s = lasted.as_secs(),
                        key = batch.key,
                        "{what}; sending the batch again"
                    );
                }
                again("aborting the transaction", async || sender.abort().await).await?;
                tokio::time::sleep(backoff.pause()).await;
            }
            done => return done,
        }
    }
}

/// Makes a call until it is through; says so once per step.
async fn again(what: &str, call: impl AsyncFn() -> Result<(), SendError>) -> Result<(), SendError> {
    let (mut backoff, mut steps) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Steps::begun());
    loop {
        match call().await {
            Err(SendError::NotYet(why)) => {
                if let Some(lasted) = steps.due() {
                    tracing::warn!(for_s = lasted.as_secs(), "{what}: {why}; still trying");
                }
                tokio::time::sleep(backoff.pause()).await;
            }
            done => return done,
        }
    }
}

fn failure(error: SendError, options: &Options) -> Failure {
    let hint = match &error {
        SendError::Fenced(_) => Some(format!(
            "only one producer may use the id `{}`; give each its own --transactional-id",
            options.transactional_id
        )),
        SendError::TooLarge(_) => Some(
            "send fewer --customers, or raise `message.max.bytes` of the brokers (`max.message.bytes` of the topics)"
                .to_owned(),
        ),
        SendError::Fatal(KafkaError::Refused(_)) => {
            Some("check the credentials in --kafka-property, and what they are allowed to do".to_owned())
        }
        _ => None,
    };
    Failure::at_work(error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode;

    #[test]
    fn a_seed_repeats_the_values_but_not_the_key() {
        let batch = || random_batch(&mut ChaCha8Rng::seed_from_u64(7), 50).unwrap();
        let (one, two) = (batch(), batch());
        assert_eq!(one.bodies, two.bodies);
        assert_ne!(one.key, two.key);
    }

    #[test]
    fn values_are_whole_and_within_their_range() {
        let batch = random_batch(&mut ChaCha8Rng::seed_from_u64(1), 20_000).unwrap();
        for metric in Metric::ALL {
            let body = decode(metric, Some(&batch.bodies[metric.index()])).unwrap();
            let values = body.values.unwrap();
            let greatest = f64::from(GREATEST[metric.index()]);
            assert!(values.iter().all(|x| x.fract() == 0.0 && (0.0..=greatest).contains(x)));
            assert!(values.contains(&0.0) && values.contains(&greatest), "both ends are reached");
        }
    }
}
