//! The producer: batches of random customers, a Kafka transaction on three topics, a pause; again.
//!
//! Owns the loop and what is said. Does not own the values (`source`), what is tried again (`transaction`),
//! what a transaction is (`kafka`), nor the format of a message (`message`).
//!
//! The one idea: **a batch keeps its key and its values until its transaction is committed**. Whatever
//! happens on the way, it is sent again as it was, and never in part.

mod source;
mod topics;
mod transaction;

use crate::failure::Failure;
use crate::kafka::{Batch, Cluster, Connection, KafkaError, PROPERTY_HINT, SendError, Sender, Sent};
use crate::shutdown::Shutdown;
use source::{Bounds, Source};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pauses between tries of the same step.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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

/// Runs until `shutdown` is requested or all batches are sent. A transaction under way is finished first.
///
/// # Errors
/// What no retry can mend: above all another producer with the same transactional id.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Failure> {
    let starting = start(&options);
    let mut sender = tokio::select! {
        () = shutdown.requested() => return Ok(()),
        sender = starting => sender?,
    };
    let mut source = Source::new(options.customers, options.batches, options.seed);
    let mut bounds = Bounds::of(options.interval);
    while !source.is_exhausted() && !shutdown.is_requested() {
        let begun = Instant::now();
        let batches = source.next(bounds).map_err(|error| Failure::at_work(error, None))?;
        match transaction::send(&sender, &batches).await {
            Ok(sent) => tell(&batches, &sent, options.customers, begun.elapsed()),
            // librdkafka puts messages together, and the brokers' bound is for what was put together.
            Err(SendError::TooLarge(why)) if batches.len() > 1 => {
                bounds.batches = batches.len() / 2;
                tracing::warn!("{why}; from now on at most {} per transaction", bounds.batches);
                source.put_back(batches);
                // The sequence numbers of what was refused are missing from those of this one.
                sender = open(&options).await?;
            }
            Err(error) => return Err(failure(error, &options)),
        }
        if !source.is_exhausted() {
            tokio::select! {
                () = shutdown.requested() => {}
                () = tokio::time::sleep(options.interval) => {}
            }
        }
    }
    Ok(())
}

/// A line per transaction: of a single batch all that is known, of several how many there were.
fn tell(batches: &[Batch], sent: &[Sent], customers: usize, took: Duration) {
    let ms = took.as_millis() as u64;
    if let ([batch], [sent]) = (batches, sent) {
        tracing::info!(
            key = batch.key,
            customers,
            partition = sent.partition,
            offsets = %sent.offsets.map(|offset| offset.to_string()).join("/"),
            ms,
            "sent"
        );
    } else {
        tracing::info!(batches = batches.len(), customers = batches.len() * customers, ms, "sent");
    }
}

/// Makes sure of the topics, and opens the transactional id.
async fn start(options: &Options) -> Result<Sender, Failure> {
    let cluster = Arc::new(Cluster::new(&options.kafka).map_err(unusable)?);
    let partitions = topics::ensure(cluster, options).await.map_err(unusable)?;
    let sender = open(options).await?;
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

/// A new client under the transactional id.
async fn open(options: &Options) -> Result<Sender, Failure> {
    let sender = Sender::new(&options.kafka, &options.transactional_id).map_err(unusable)?;
    transaction::open(&sender).await.map_err(|error| failure(error, options))?;
    Ok(sender)
}

fn unusable(error: KafkaError) -> Failure {
    match error {
        KafkaError::Property { .. } | KafkaError::Properties(_) => {
            Failure::configuration(error, PROPERTY_HINT.to_owned())
        }
        _ => Failure::at_work(error, "check --bootstrap-servers and --kafka-property".to_owned()),
    }
}

fn failure(error: SendError, options: &Options) -> Failure {
    let hint = match &error {
        SendError::Fenced(_) => Some(format!(
            "only one producer may use the id `{}`; give each its own --transactional-id; after an outage longer than \
             `transaction.timeout.ms`, start it again",
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
