//! The transactional producer: a batch arrives whole or not at all.

use super::bootstrap::{self, Deafness};
use super::{Connection, KafkaError};
use crate::message::Metric;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::statistics::Statistics;
use std::sync::Arc;
use std::time::Duration;

/// One try of a transactional call; librdkafka goes on with the same call when it is made again.
const TRY: Duration = Duration::from_secs(5);

/// Settings that the user may override.
const DEFAULTS: [(&str, &str); 4] = [
    ("client.id", "rfm-producer"),
    ("linger.ms", "0"),
    ("statistics.interval.ms", "1000"),
    // Brokers decide what is too large; librdkafka's own bound of 1 MB is below a batch of 100 000.
    ("message.max.bytes", "1000000000"),
];

/// Settings that carry a guarantee; see `properties::RESERVED`. The partitioner is that of the Java
/// clients: with equal partition counts a key has the same partition number in the three topics.
const FIXED: [(&str, &str); 3] = [
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("allow.auto.create.topics", "false"),
];

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
        tokio::spawn(keep_hearing(producer.clone(), deafness, connection.bootstrap_servers.clone()));
        Ok(Self { producer, connection: connection.clone(), transactional_id: transactional_id.to_owned() })
    }

    /// Fences older producers of the same transactional id and aborts what they left open.
    ///
    /// # Errors
    /// [`SendError::NotYet`] while no broker answers.
    pub async fn open(&self) -> Result<(), SendError> {
        self.call(|producer| producer.init_transactions(TRY)).await
    }

    /// Sends the three messages of a batch in a transaction of their own, and leaves it open.
    ///
    /// # Errors
    /// [`SendError::NotYet`] does not occur; after any other the transaction is to be aborted.
    pub async fn send(&self, key: &str, bodies: &[Vec<u8>; 3]) -> Result<Sent, SendError> {
        self.call(FutureProducer::begin_transaction).await?;
        let mut deliveries = Vec::with_capacity(3);
        for metric in Metric::ALL {
            let record =
                FutureRecord::to(self.connection.topic(metric)).key(key).payload(&bodies[metric.index()]);
            deliveries.push(self.producer.send_result(record).map_err(|(error, _)| self.sort(&error))?);
        }
        let mut sent: Option<Sent> = None;
        for (metric, delivery) in Metric::ALL.into_iter().zip(deliveries) {
            let delivery = delivery.await.map_err(|_| SendError::Aborted("the client is closing".into()))?;
            let delivered = delivery.map_err(|(error, _)| self.sort(&error))?;
            let sent = sent.get_or_insert(Sent { partition: delivered.partition, offsets: [0; 3] });
            if sent.partition != delivered.partition {
                return Err(SendError::Aborted("the topics differ in their partitions".into()));
            }
            sent.offsets[metric.index()] = delivered.offset;
        }
        sent.ok_or_else(|| SendError::Aborted("nothing was sent".into()))
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
        if matches!(code, Some(Code::MessageSizeTooLarge | Code::InvalidRecord)) {
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

/// Keeps a client from staying deaf; ends with the program.
async fn keep_hearing(producer: FutureProducer<Quiet>, deafness: Arc<Deafness>, servers: String) {
    loop {
        deafness.begins().await;
        bootstrap::ask_again(producer.client(), &servers);
    }
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
