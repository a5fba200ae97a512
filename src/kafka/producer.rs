//! The transactional producer: the batches of a transaction arrive whole, or none of them at all.

mod settings;

use super::bootstrap::{self, Deafness};
use super::{Connection, KafkaError};
use crate::failpoint;
use crate::message::Metric;
use futures_util::future::try_join_all;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaType;
use settings::{DEFAULTS, FIXED};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// One try of a transactional call; librdkafka goes on with the same call when it is made again.
const TRY: Duration = Duration::from_secs(5);

/// librdkafka's queue is full: when to look again.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// From the first message that was purged to the one because of which it was.
const CAUSE_COMES_WITHIN: Duration = Duration::from_secs(1);

/// A batch that is to be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The key of its three messages.
    pub key: String,
    /// Their bodies.
    pub bodies: [Vec<u8>; 3],
}

/// Where the three messages of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition number, the same in the three topics.
    pub partition: i32,
    /// The offsets.
    pub offsets: [i64; 3],
}

/// Why a batch was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Another producer uses the same transactional id; brokers say the same of a transaction that was open for
    /// longer than `transaction.timeout.ms`.
    #[error("another producer with the transactional id `{0}` took over, or a transaction timed out")]
    Fenced(String),
    /// The brokers will not ever take the message.
    #[error("{0}")]
    TooLarge(String),
    /// The transaction was aborted: the same batch can be sent again.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// Nothing was done, or it is still under way: the same call can be made again.
    #[error("{0}")]
    NotYet(String),
    /// The client is of no more use.
    #[error(transparent)]
    Fatal(KafkaError),
}

/// A producer under one transactional id.
#[derive(Clone)]
pub struct Sender {
    producer: FutureProducer<Quiet>,
    connection: Connection,
    transactional_id: String,
    /// Ends with the last clone, and lets go of the client.
    _hearing: Arc<AbortOnDropHandle<()>>,
}

/// Errors come back from the calls.
#[derive(Default)]
struct Quiet {
    deafness: Arc<Deafness>,
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }
    fn error(&self, error: RdKafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
    fn stats(&self, statistics: Statistics) {
        self.deafness.look_at(&statistics);
    }
}

impl Sender {
    /// Checks the properties, and asks no broker.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection, transactional_id: &str) -> Result<(), KafkaError> {
        // With an id, for timeouts are judged by that of a transaction.
        let fixed = [&FIXED[..], &[("transactional.id", transactional_id)]].concat();
        connection.check(RDKafkaType::RD_KAFKA_PRODUCER, &DEFAULTS, &fixed)
    }

    /// A client that connects when [`Sender::open`] is called.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn new(connection: &Connection, transactional_id: &str) -> Result<Self, KafkaError> {
        let mut config = connection.client_config(&DEFAULTS, &FIXED);
        config.set("transactional.id", transactional_id);
        let context = Quiet::default();
        let deafness = Arc::clone(&context.deafness);
        let producer: FutureProducer<Quiet> = config.create_with_context(context)?;
        let servers = connection.bootstrap_servers.clone();
        let hearing = tokio::spawn(bootstrap::keep_hearing(producer.clone(), deafness, servers));
        Ok(Self {
            producer,
            connection: connection.clone(),
            transactional_id: transactional_id.to_owned(),
            _hearing: Arc::new(AbortOnDropHandle::new(hearing)),
        })
    }

    /// Fences older producers of the same transactional id and aborts what they left open.
    ///
    /// # Errors
    /// [`SendError::NotYet`] while no broker answers.
    pub async fn open(&self) -> Result<(), SendError> {
        self.call(|producer| producer.init_transactions(TRY)).await
    }

    /// Sends batches in a transaction of their own, all at once, and leaves it open. Returns where each of them
    /// is, in the same order.
    ///
    /// # Errors
    /// [`SendError::NotYet`] does not occur; after any other the transaction is to be aborted.
    pub async fn send(&self, batches: &[Batch]) -> Result<Vec<Sent>, SendError> {
        self.call(FutureProducer::begin_transaction).await?;
        let mut deliveries = Vec::with_capacity(3 * batches.len());
        let handed_over = self.hand_over(batches, &mut deliveries).await;
        // What became of a message says more than that the next one could not be handed over any more.
        let sent = self.delivered(deliveries).await?;
        handed_over.map(|()| sent)
    }

    /// Hands all messages to librdkafka, waiting where its queue is full.
    async fn hand_over(
        &self,
        batches: &[Batch],
        deliveries: &mut Vec<DeliveryFuture>,
    ) -> Result<(), SendError> {
        for batch in batches {
            for metric in Metric::ALL {
                if metric != Metric::ALL[0] {
                    self.between_messages().await;
                }
                deliveries.push(self.enqueue(batch, metric).await?);
            }
        }
        Ok(())
    }

    async fn enqueue(&self, batch: &Batch, metric: Metric) -> Result<DeliveryFuture, SendError> {
        let topic = self.connection.topic(metric);
        let mut record = FutureRecord::to(topic).key(&batch.key).payload(&batch.bodies[metric.index()]);
        loop {
            let is_empty = self.producer.in_flight_count() == 0;
            match self.producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((error, _)) if error.rdkafka_error_code() == Some(Code::QueueFull) && is_empty => {
                    let what = "a message does not fit into `queue.buffering.max.kbytes`";
                    return Err(SendError::TooLarge(what.to_owned()));
                }
                Err((error, same)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                    record = same;
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Err((error, _)) => return Err(self.sort(&error)),
            }
        }
    }

    /// Where a crash test interrupts a batch, a part of which the brokers have by then.
    async fn between_messages(&self) {
        if failpoint::is_planned("between_messages") {
            while self.producer.in_flight_count() > 0 {
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
            failpoint::reach("between_messages");
        }
    }

    /// Waits for all messages, or for the first that fails: librdkafka keeps others back until the abort. Of
    /// those some are purged, which says that the transaction failed, not why; so the cause gets a moment to come.
    async fn delivered(&self, deliveries: Vec<DeliveryFuture>) -> Result<Vec<Sent>, SendError> {
        let outcomes = deliveries.into_iter().map(async |delivery| match delivery.await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err((error, _))) => {
                if is_purge(&error) {
                    tokio::time::sleep(CAUSE_COMES_WITHIN).await;
                }
                Err(self.sort(&error))
            }
            Err(_) => Err(SendError::Aborted("the client is closing".into())),
        });
        let places: Vec<Delivery> = try_join_all(outcomes).await?;
        places.chunks_exact(3).map(whole).collect()
    }

    /// Commits the open transaction.
    ///
    /// # Errors
    /// [`SendError::NotYet`] if it is to be called again; the outcome is known only when it is not.
    pub async fn commit(&self) -> Result<(), SendError> {
        self.call(|producer| producer.commit_transaction(TRY)).await
    }

    /// Aborts the open transaction.
    ///
    /// # Errors
    /// [`SendError::NotYet`] if it is to be called again.
    pub async fn abort(&self) -> Result<(), SendError> {
        self.call(|producer| producer.abort_transaction(TRY)).await
    }

    /// Makes a blocking call on a thread for such.
    async fn call<F>(&self, call: F) -> Result<(), SendError>
    where
        F: FnOnce(&FutureProducer<Quiet>) -> Result<(), RdKafkaError> + Send + 'static,
    {
        let producer = self.producer.clone();
        let result = tokio::task::spawn_blocking(move || call(&producer)).await;
        let result = result.map_err(|error| SendError::Aborted(error.to_string()))?;
        result.map_err(|error| self.sort(&error))
    }

    /// Sorts an error of rdkafka by what is to be done next.
    fn sort(&self, error: &RdKafkaError) -> SendError {
        let fatal = self.producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
        if matches!(code, Some(Code::Fenced | Code::ProducerFenced)) {
            return SendError::Fenced(self.transactional_id.clone());
        }
        if matches!(code, Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidRecord))
        {
            return SendError::TooLarge(format!("the brokers refuse the batch: {error}"));
        }
        let reason = fatal.as_ref().map(|(_, reason)| reason.as_str());
        let sorted = KafkaError::new(error, reason);
        match (&sorted, error) {
            (KafkaError::Transient(what), RdKafkaError::Transaction(e)) if fatal.is_none() => {
                sort_call(e, what)
            }
            (KafkaError::Transient(what), _) if fatal.is_none() => SendError::Aborted(what.clone()),
            _ => SendError::Fatal(sorted),
        }
    }
}

/// Where a batch is whose three messages are there.
fn whole(places: &[Delivery]) -> Result<Sent, SendError> {
    match places {
        [r, f, m] if r.partition == f.partition && f.partition == m.partition => {
            Ok(Sent { partition: r.partition, offsets: [r.offset, f.offset, m.offset] })
        }
        _ => Err(SendError::Aborted("the topics differ in their partitions".into())),
    }
}

/// Whether a message failed only because another one had.
fn is_purge(error: &RdKafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::PurgeQueue | Code::PurgeInflight))
}

/// Sorts the error of a transactional call by what librdkafka says is to be done.
fn sort_call(error: &RDKafkaError, what: &str) -> SendError {
    let what = format!("{what} ({})", error.string());
    if error.txn_requires_abort() {
        SendError::Aborted(what)
    } else if error.is_retriable() {
        SendError::NotYet(what)
    } else {
        SendError::Fatal(KafkaError::Transient(what))
    }
}
