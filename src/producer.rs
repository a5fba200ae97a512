//! The producer: takes snapshots from a source and sends each whole, in a Kafka transaction on the three
//! topics.
//!
//! Owns the loop and its log lines. Does not own where snapshots come from (`source`), which of them share a
//! transaction (`packer`), whether their messages are too large (`fit`), what is tried again (`transaction`),
//! what a transaction is (`kafka`), nor the format of a message (`message`).
//!
//! **A batch keeps its key and its values until its transaction is committed.** Until then it is sent again
//! as it was, and never in part.

pub mod check;
mod fit;
mod options;
mod packer;
pub mod source;
mod topics;
mod transaction;
mod vitals;

pub use options::{Options, Origin};

use crate::backoff::wait_and_report;
use crate::failure::Failure;
use crate::kafka::{Cluster, KafkaError, Newest, PROPERTY_HINT, Right, SendError, Sender, Sent};
use crate::message::EncodedSnapshot;
use crate::shutdown::Shutdown;
use crate::telemetry::Progress;
use fit::{Fit, TooLarge};
use packer::Packer;
use source::Snapshots;
use source::orders::Orders;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vitals::Vitals;

/// Pauses between tries of the same step.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs until `shutdown` is requested or all batches are sent. A transaction under way is finished first.
///
/// # Errors
/// What no retry can repair: above all, another producer with the same transactional id.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Failure> {
    let vitals = Vitals::start(&options)?;
    let Started { cluster, mut sender, mut fit, source } = tokio::select! {
        () = shutdown.requested() => return Ok(()),
        started = start(&options, &vitals) => started?,
    };
    let mut packer = Packer::new(source, options.most(), options.bounds());
    let progress = Progress::begin(options.most(), "batches");
    while !packer.is_done() && !shutdown.is_requested() {
        let begun = Instant::now();
        let batches;
        (packer, batches) = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            packed = pack(packer, &options) => packed?,
        };
        // A source that failed gets a moment even where the interval is 0.
        let pause = if batches.is_empty() { options.interval.max(LONGEST_PAUSE) } else { options.pause() };
        check_size(&batches, &mut fit, &cluster, &options).await?;
        sender = send(sender, batches, &mut packer, &options, begun, &vitals).await?;
        progress.left(packer.left());
        if !packer.is_done() {
            rest(pause, &shutdown).await;
        }
    }
    Ok(())
}

/// Waits for the time of the next batch, or for the end.
async fn rest(pause: Duration, shutdown: &Shutdown) {
    tokio::select! {
        () = shutdown.requested() => {}
        () = tokio::time::sleep(pause) => {}
    }
}

/// Compares the messages with the limits.
///
/// # Errors
/// One of them is too large.
async fn check_size(
    batches: &[EncodedSnapshot],
    fit: &mut Fit,
    cluster: &Cluster,
    options: &Options,
) -> Result<(), Failure> {
    if batches.iter().all(|batch| fit.check(batch).is_ok()) {
        return Ok(());
    }
    // The limits may have been raised since.
    *fit = Fit::ask(cluster, &options.kafka).await.map_err(unusable)?;
    batches.iter().try_for_each(|batch| fit.check(batch)).map_err(|error| too_large(error, options))
}

/// What is to be sent. Of a range of snapshots, only what the topics do not have: the transactional id is opened, so
/// what an earlier run has sent is committed or aborted by now.
async fn source(options: &Options, vitals: &Vitals) -> Result<Snapshots, Failure> {
    let orders = match &options.origin {
        Origin::Random(random) => return Ok(random.clone().snapshots()),
        Origin::Orders(orders) => Orders::clone(orders),
    };
    let (kafka, keys) = (options.kafka.clone(), orders.keys());
    let reading = tokio::task::spawn_blocking(move || Newest::read(&kafka, &keys));
    let newest = reading.await.map_err(|error| Failure::at_work(error, None))?.map_err(unusable)?;
    Ok(orders.snapshots(newest, vitals.orders()))
}

/// Packs the next transaction, on a thread of its own since the source may block. No batches: there are none
/// this time.
///
/// # Errors
/// The source failed, and there is an end to the batches.
async fn pack(mut packer: Packer, options: &Options) -> Result<(Packer, Vec<EncodedSnapshot>), Failure> {
    let packing = tokio::task::spawn_blocking(move || {
        let packed = packer.pack();
        (packer, packed)
    });
    let packing = wait_and_report(packing, |lasted| {
        tracing::warn!(for_s = lasted.as_secs(), "the source has not delivered a snapshot yet");
    });
    let (packer, packed) = packing.await.map_err(|error| Failure::at_work(error, None))?;
    match packed {
        Ok(batches) => Ok((packer, batches)),
        Err(error) if options.most().is_some() => Err(Failure::at_work(error, None)),
        Err(error) => {
            tracing::warn!("there is no snapshot to send: {error:#}; trying again after the interval");
            Ok((packer, Vec::new()))
        }
    }
}

/// Sends batches in one transaction; those that are too large only together go back to the packer. Returns
/// the client for the next transaction.
async fn send(
    sender: Sender,
    batches: Vec<EncodedSnapshot>,
    packer: &mut Packer,
    options: &Options,
    begun: Instant,
    vitals: &Vitals,
) -> Result<Sender, Failure> {
    if batches.is_empty() {
        return Ok(sender);
    }
    match transaction::send(&sender, &batches, vitals).await {
        Ok(sent) => {
            log_sent(&batches, &sent, begun.elapsed());
            Ok(sender)
        }
        // librdkafka sends several messages as one record batch, and the brokers' limit applies to that.
        Err(SendError::TooLarge(why)) if batches.len() > 1 => {
            let most = packer.split(batches);
            tracing::warn!("{why}; from now on at most {most} per transaction");
            // A new client: this one has used up the sequence numbers of the messages that were refused.
            open(options, vitals).await
        }
        Err(error) => Err(failure(error, options)),
    }
}

/// Writes a line per transaction: all details of a single batch, or the number of several.
fn log_sent(batches: &[EncodedSnapshot], sent: &[Sent], took: Duration) {
    let ms = took.as_millis() as u64;
    if let ([batch], [sent]) = (batches, sent) {
        tracing::info!(
            key = batch.key,
            customers = batch.customers,
            partition = sent.partition,
            offsets = %sent.offsets,
            ms,
            "sent"
        );
    } else {
        let customers = batches.iter().map(|batch| batch.customers).sum::<usize>();
        tracing::info!(batches = batches.len(), customers, ms, "sent");
    }
}

/// What a producer at work has.
struct Started {
    /// For questions to the brokers.
    cluster: Arc<Cluster>,
    /// The client with the transactional id.
    sender: Sender,
    /// The limits for its messages.
    fit: Fit,
    /// What it sends.
    source: Snapshots,
}

/// Waits for the topics, opens the transactional id, asks for the limits, and finds out what is to be sent.
async fn start(options: &Options, vitals: &Vitals) -> Result<Started, Failure> {
    let cluster = Arc::new(Cluster::new(&options.kafka, Right::Write).map_err(unusable)?);
    let partitions = topics::ensure(&cluster, options, vitals).await.map_err(unusable)?;
    let sender = open(options, vitals).await?;
    vitals.opened(Arc::clone(&cluster), options);
    let (customers, orders) = match &options.origin {
        Origin::Random(random) => (Some(random.customers), None),
        Origin::Orders(orders) => (None, Some(orders)),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        topics = options.kafka.topic_list(),
        partitions,
        customers,
        orders = orders.map(|orders| tracing::field::display(&orders.place)),
        as_of = orders.map(|orders| tracing::field::display(&orders.as_of)),
        interval = options
            .most()
            .is_none()
            .then(|| tracing::field::display(humantime::format_duration(options.interval))),
        transactional_id = options.transactional_id,
        env_file = options.env_file.as_ref().map(|path| tracing::field::display(path.display())),
        "ready"
    );
    let fit = Fit::ask(&cluster, &options.kafka).await.map_err(unusable)?;
    let source = source(options, vitals).await?;
    Ok(Started { cluster, sender, fit, source })
}

/// A new client with the transactional id.
async fn open(options: &Options, vitals: &Vitals) -> Result<Sender, Failure> {
    let sender = Sender::new(&options.kafka, &options.transactional_id).map_err(unusable)?;
    transaction::open(&sender, vitals).await.map_err(|error| failure(error, options))?;
    Ok(sender)
}

fn too_large(error: TooLarge, options: &Options) -> Failure {
    let hint = error.hint(options.fewer());
    Failure::at_work(error, hint)
}

fn unusable(error: KafkaError) -> Failure {
    match error {
        KafkaError::Property { .. } | KafkaError::Properties(_) => {
            Failure::configuration(error, PROPERTY_HINT.to_owned())
        }
        KafkaError::Refused { ref hint, .. } => {
            let hint = hint.clone();
            Failure::at_work(error, hint)
        }
        KafkaError::Transient(_) => {
            Failure::at_work(error, "check --bootstrap-servers and --kafka-property".to_owned())
        }
    }
}

fn failure(error: SendError, options: &Options) -> Failure {
    let hint = match &error {
        SendError::Fenced(_) => Some(format!(
            "only one producer may use the id `{}`; give each its own --transactional-id; after an outage longer than \
             `transaction.timeout.ms`, start it again",
            options.transactional_id
        )),
        SendError::TooLarge(_) => Some(format!(
            "{}, or raise `message.max.bytes` of the brokers (`max.message.bytes` of the topics)",
            options.fewer()
        )),
        SendError::Fatal(KafkaError::Refused { hint, .. }) => Some(hint.clone()),
        _ => None,
    };
    Failure::at_work(error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Connection;
    use crate::metric::PerMetric;
    use futures_util::FutureExt as _;
    use packer::Bounds;
    use source::Random;
    use std::sync::mpsc;

    fn options(batches: Option<u64>) -> Options {
        let topics = PerMetric::from_fn(|metric| metric.name().to_owned());
        let kafka = Connection { bootstrap_servers: "127.0.0.1:1".into(), topics, properties: Vec::new() };
        let (interval, transactional_id) = (Duration::ZERO, "test".to_owned());
        let env_file = None;
        Options {
            kafka,
            origin: Origin::Random(one()),
            interval,
            batches,
            partitions: 1,
            transactional_id,
            http: None,
            env_file,
        }
    }

    fn one() -> Random {
        Random { customers: 1, seed: None, population: None }
    }

    fn packer(source: source::Snapshots) -> Packer {
        Packer::new(source, None, Bounds::of(Duration::ZERO))
    }

    /// Runs on one thread, as the program does.
    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_source_that_blocks_does_not_block_the_daemon() {
        let (open, gate) = mpsc::channel::<()>();
        let mut values = one().snapshots();
        let source = std::iter::from_fn(move || gate.recv().ok().and_then(|()| values.next()));
        block_on(async {
            let options = options(None);
            let mut packing = Box::pin(pack(packer(Box::new(source)), &options));
            assert!((&mut packing).now_or_never().is_none(), "it waits for the source");
            open.send(()).unwrap();
            drop(open);
            let (packer, batches) = packing.await.unwrap();
            assert_eq!(batches.len(), 1);
            assert!(packer.is_done(), "the source is over");
        });
    }

    #[test]
    fn every_error_that_ends_the_producer_has_its_exit_code_and_hint() {
        let refused = || KafkaError::Refused { what: "sasl".into(), hint: "check it".into() };
        let of_kafka = [
            (KafkaError::Property { name: "x".into(), message: "no".into() }, 2, PROPERTY_HINT),
            (KafkaError::Properties("together".into()), 2, PROPERTY_HINT),
            (refused(), 1, "check it"),
            (KafkaError::Transient("away".into()), 1, "--bootstrap-servers"),
        ];
        let of_kafka = of_kafka.map(|(error, code, hint)| (unusable(error), code, hint));
        let of_sending = [
            (SendError::Fenced("epoch".into()), "`test`"),
            (SendError::TooLarge("bytes".into()), "--customers"),
            (SendError::Fatal(refused()), "check it"),
        ];
        let of_sending = of_sending.map(|(error, hint)| (failure(error, &options(None)), 1, hint));
        for (failure, code, hint) in of_kafka.into_iter().chain(of_sending) {
            assert_eq!(failure.exit_code, code, "{failure:?}");
            assert!(failure.hint.as_ref().is_some_and(|given| given.contains(hint)), "{failure:?}");
        }
    }

    #[test]
    fn a_source_that_fails_ends_a_producer_that_owes_batches_and_no_other() {
        let failing = || packer(Box::new(std::iter::repeat_with(|| Err(anyhow::anyhow!("line 7")))));
        block_on(async {
            let (packer, batches) = pack(failing(), &options(None)).await.unwrap();
            assert!(batches.is_empty() && !packer.is_done(), "it tries again");
            let Err(failure) = pack(failing(), &options(Some(3))).await else { panic!("it goes on") };
            assert_eq!((failure.exit_code, failure.error.to_string().as_str()), (1, "line 7"));
        });
    }
}
