//! The transactional producer: all batches of a transaction arrive, or none.

mod context;
mod id_right;
mod limits;
mod outcome;
mod settings;

pub use id_right::UNACCEPTABLE_MS;
pub use limits::Limits;
pub use outcome::{SendError, Sent};

use super::bootstrap::{self};
use super::trouble::Trouble;
use super::{Cluster, Connection, KafkaError, Right};
use crate::failpoint;
use crate::message::EncodedSnapshot;
use crate::metric::Metric;
use context::SenderContext;
use futures_util::future::try_join_all;
use outcome::{classify_call, is_purge, whole};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaType;
use settings::{DEFAULTS, FIXED};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// How long one try of a transactional call takes. librdkafka goes on with the same call at the next try.
const TRY: Duration = Duration::from_secs(5);

/// The pause while librdkafka's queue is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// The time from the first purged message to the message that caused the purge.
const CAUSE_COMES_WITHIN: Duration = Duration::from_secs(1);

/// A producer under one transactional id.
#[derive(Clone)]
pub struct Sender {
    /// The client; clones share it.
    producer: FutureProducer<SenderContext>,
    /// Brokers and topics.
    connection: Connection,
    /// The id, for error texts.
    transactional_id: String,
    /// Why the client does not reach a broker.
    trouble: Arc<Trouble>,
    /// A task that ends with the last clone, and then drops its client.
    _reconnecting: Arc<AbortOnDropHandle<()>>,
}

impl Sender {
    /// Checks the properties without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection, transactional_id: &str) -> Result<(), KafkaError> {
        // With an id: librdkafka compares other timeouts with that of a transaction.
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
        let context = SenderContext::default();
        let (lost, trouble) = (Arc::clone(&context.brokers_lost), Arc::clone(&context.trouble));
        let producer: FutureProducer<SenderContext> = config.create_with_context(context)?;
        let servers = connection.bootstrap_servers.clone();
        let reconnecting =
            tokio::spawn(bootstrap::rebootstrap_whenever_lost(producer.clone(), lost, servers));
        Ok(Self {
            producer,
            connection: connection.clone(),
            transactional_id: transactional_id.to_owned(),
            trouble,
            _reconnecting: Arc::new(AbortOnDropHandle::new(reconnecting)),
        })
    }

    /// Fences older producers of the same transactional id and aborts what they left open.
    ///
    /// # Errors
    /// [`SendError::NotYet`] while no broker answers.
    pub async fn open(&self) -> Result<(), SendError> {
        self.call(|producer| producer.init_transactions(TRY)).await
    }

    /// A text for a log line, with librdkafka's last sentence about the brokers.
    pub fn with_trouble(&self, what: &str) -> String {
        self.trouble.with_last(what.to_owned())
    }

    /// Begins a transaction, sends all batches in it, and leaves it open. Returns the place of each batch, in
    /// the same order.
    ///
    /// # Errors
    /// After [`SendError::Aborted`], [`SendError::TooLarge`] and [`SendError::NotYet`], the caller aborts the
    /// transaction.
    pub async fn send(&self, batches: &[EncodedSnapshot]) -> Result<Vec<Sent>, SendError> {
        self.call(FutureProducer::begin_transaction).await?;
        let mut deliveries = Vec::with_capacity(3 * batches.len());
        let sending = async {
            let handed_over = self.hand_over(batches, &mut deliveries).await;
            // The fate of an earlier message explains more than that the next one could not be handed over.
            let sent = self.delivered(deliveries).await?;
            handed_over.map(|()| sent)
        };
        let sent = tokio::select! {
            refused = self.trouble.refused() => Err(SendError::Fatal(refused)),
            sent = sending => sent,
        };
        match sent {
            Err(error @ (SendError::Aborted(_) | SendError::Fatal(_))) => Err(self.cause(error).await),
            sent => sent,
        }
    }

    /// Why the open transaction has failed, if librdkafka knows more than what became of a message. It says
    /// so only when it refuses a call, and within a transaction it always refuses to begin another one.
    async fn cause(&self, error: SendError) -> SendError {
        match (self.call(FutureProducer::begin_transaction).await, error) {
            (Err(cause @ SendError::Aborted(_)), SendError::Aborted(_)) => cause,
            (Err(cause @ (SendError::Fatal(KafkaError::Refused { .. }) | SendError::Fenced(_))), _) => cause,
            (_, error) => error,
        }
    }

    /// Hands all messages to librdkafka. Waits while its queue is full.
    async fn hand_over(
        &self,
        batches: &[EncodedSnapshot],
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

    async fn enqueue(&self, batch: &EncodedSnapshot, metric: Metric) -> Result<DeliveryFuture, SendError> {
        let topic = self.connection.topic(metric);
        let mut record = FutureRecord::to(topic).key(&batch.key).payload(&batch.bodies[metric]);
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
                Err((error, _)) => return Err(self.classify(&error)),
            }
        }
    }

    /// Where a crash test interrupts a batch, once the brokers have a part of it.
    async fn between_messages(&self) {
        if failpoint::is_planned("between_messages") {
            while self.producer.in_flight_count() > 0 {
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
            failpoint::reach("between_messages");
        }
    }

    /// Waits for all messages, or for the first that fails: librdkafka holds others back until the abort. It
    /// purges some of them. A purge shows that the transaction failed, not why; so the cause gets a moment to
    /// arrive.
    async fn delivered(&self, deliveries: Vec<DeliveryFuture>) -> Result<Vec<Sent>, SendError> {
        let outcomes = deliveries.into_iter().map(async |delivery| match delivery.await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err((error, _))) => {
                if is_purge(&error) {
                    tokio::time::sleep(CAUSE_COMES_WITHIN).await;
                }
                Err(self.classify(&error))
            }
            Err(_) => Err(SendError::Aborted("the client is closing".into())),
        });
        let places: Vec<Delivery> = try_join_all(outcomes).await?;
        places.chunks_exact(3).map(whole).collect()
    }

    /// Commits the open transaction.
    ///
    /// # Errors
    /// [`SendError::NotYet`]: call it again. Until then the outcome is not known.
    pub async fn commit(&self) -> Result<(), SendError> {
        self.call(|producer| producer.commit_transaction(TRY)).await
    }

    /// Aborts the open transaction.
    ///
    /// # Errors
    /// [`SendError::NotYet`]: call it again.
    pub async fn abort(&self) -> Result<(), SendError> {
        self.call(|producer| producer.abort_transaction(TRY)).await
    }

    /// Makes a blocking call on a thread for blocking work.
    async fn call<F>(&self, call: F) -> Result<(), SendError>
    where
        F: FnOnce(&FutureProducer<SenderContext>) -> Result<(), RdKafkaError> + Send + 'static,
    {
        let producer = self.producer.clone();
        let calling = tokio::task::spawn_blocking(move || call(&producer));
        let result = tokio::select! {
            biased;
            result = calling => result,
            // The call would only end with its timeout.
            refused = self.trouble.refused() => return Err(SendError::Fatal(refused)),
        };
        match result.map_err(|error| SendError::Aborted(error.to_string()))? {
            Ok(()) => {
                self.trouble.clear();
                Ok(())
            }
            Err(error) => Err(self.name_topics(&error, self.classify(&error)).await),
        }
    }

    /// Names the topics on which a right is missing; librdkafka does not.
    async fn name_topics(&self, error: &RdKafkaError, classified: SendError) -> SendError {
        if error.rdkafka_error_code() != Some(Code::TopicAuthorizationFailed) {
            return classified;
        }
        let connection = self.connection.clone();
        let asking = move || Cluster::new(&connection, Right::Write).map(|cluster| cluster.denied());
        match tokio::task::spawn_blocking(asking).await {
            Ok(Ok(denied)) => SendError::Fatal(denied),
            _ => classified,
        }
    }

    /// Classifies an error of rdkafka by what can be done next.
    fn classify(&self, error: &RdKafkaError) -> SendError {
        let fatal = self.producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
        match code {
            Some(Code::Fenced | Code::ProducerFenced) => {
                return SendError::Fenced(self.transactional_id.clone());
            }
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidRecord) => {
                return SendError::TooLarge(format!("the brokers refuse the batch: {error}"));
            }
            Some(Code::TransactionalIdAuthorizationFailed) => {
                let id = format!("the transactional id `{}`", self.transactional_id);
                return SendError::Fatal(KafkaError::denied(Right::Write, &id));
            }
            _ => {}
        }
        let reason = match (&fatal, error) {
            (Some((_, reason)), _) => Some(reason.clone()),
            (None, RdKafkaError::Transaction(error)) => Some(error.string()),
            (None, _) => None,
        };
        let classified = self.trouble.explain(KafkaError::new(error, reason.as_deref()));
        match (&classified, error) {
            (KafkaError::Transient(what), RdKafkaError::Transaction(e)) if fatal.is_none() => {
                classify_call(e, what.clone())
            }
            (KafkaError::Transient(what), _) if fatal.is_none() => SendError::Aborted(what.clone()),
            _ => SendError::Fatal(classified),
        }
    }
}
