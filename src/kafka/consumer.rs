//! The consumer of one session: messages and rebalances as one stream of events.
//!
//! The one idea: librdkafka waits until it is told to `assign` or `unassign`, however long that takes.
//! So a rebalance only becomes an [`Event`] here, and the session answers it in its own time, with the
//! offsets of the database in the first `assign`. **`auto.offset.reset` is `error`: no position is ever
//! chosen by Kafka.**

mod settings;

use super::bootstrap::{self, Deafness};
use super::{Connection, KafkaError, LogPosition, leader_epoch};
use crate::message::{Message, Metric};
use futures_util::FutureExt;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::statistics::Statistics;
use rdkafka::types::{RDKafkaRespErr, RDKafkaType};
use rdkafka::{Offset, TopicPartitionList};
use settings::{DEFAULTS, FIXED};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long leaving the group may take: with the brokers away it would take for ever.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What the group or the brokers have to say.
#[derive(Debug)]
pub enum Event {
    /// A message of a partition that is assigned.
    Message(Message),
    /// The group gives us these; nothing is read until [`Consumer::assign`].
    Assigned(Vec<(Metric, i32)>),
    /// The group takes everything back; it waits for [`Consumer::unassign`].
    Revoked,
    /// A position is not in the log.
    PositionLost,
    /// The client is of no more use.
    Fatal(String),
    /// An error; librdkafka goes on by itself unless it is a refusal.
    Error(KafkaError),
}

/// A member of the consumer group.
pub struct Consumer {
    stream: StreamConsumer<Context>,
    rebalances: UnboundedReceiver<Event>,
    connection: Connection,
}

/// What librdkafka calls back into, from within [`Consumer::next`].
struct Context {
    connection: Connection,
    rebalances: UnboundedSender<Event>,
    /// From here on nobody answers rebalances, so the context does.
    closing: AtomicBool,
    /// librdkafka's sentence about its last error.
    last_reason: Mutex<String>,
    deafness: Deafness,
    /// The high watermarks at the last statistics.
    high_watermarks: Mutex<HashMap<(Metric, i32), i64>>,
}

impl Consumer {
    /// Checks the properties, and asks no broker.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &DEFAULTS, &FIXED)
    }

    /// Joins the group. Nothing is read before the first [`Event::Assigned`] is answered.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn subscribe(connection: &Connection, group_id: &str) -> Result<Self, KafkaError> {
        let (sender, rebalances) = unbounded_channel();
        let context = Context {
            connection: connection.clone(),
            rebalances: sender,
            closing: AtomicBool::new(false),
            last_reason: Mutex::default(),
            deafness: Deafness::default(),
            high_watermarks: Mutex::default(),
        };
        let mut config = connection.client_config(&DEFAULTS, &FIXED);
        config.set("group.id", group_id);
        let stream: StreamConsumer<Context> = config.create_with_context(context)?;
        stream.subscribe(&connection.topics.each_ref().map(String::as_str))?;
        Ok(Self { stream, rebalances, connection: connection.clone() })
    }

    /// Waits for the next event. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.rebalances.recv() => return event,
                received = self.stream.recv() => return match received {
                    Ok(message) => self.message(&message),
                    Err(error) => self.error(&error),
                },
                () = self.stream.context().deafness.begins() => {
                    bootstrap::ask_again(self.stream.client(), &self.connection.bootstrap_servers);
                }
            }
        }
    }

    /// The next event, if there is one already.
    pub fn next_ready(&mut self) -> Option<Event> {
        self.next().now_or_never()
    }

    fn message(&self, message: &BorrowedMessage<'_>) -> Event {
        let Some(metric) = self.connection.metric(message.topic()) else {
            return Event::Fatal(format!(
                "a message of the topic `{}`, which nobody asked for",
                message.topic()
            ));
        };
        Event::Message(Message {
            metric,
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        })
    }

    fn error(&self, error: &RdKafkaError) -> Event {
        let mut reason = std::mem::take(&mut *lock(&self.stream.context().last_reason));
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            // librdkafka's own sentence counts handles, some of which are no brokers.
            reason = "no broker can be reached".to_owned();
        }
        match error {
            RdKafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                Event::PositionLost
            }
            RdKafkaError::MessageConsumptionFatal(_) => Event::Fatal(reason),
            _ => Event::Error(KafkaError::new(error, Some(&reason))),
        }
    }

    /// Starts reading at these offsets (the next one to read), and at nothing else.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn assign(&self, positions: &[LogPosition]) -> Result<(), KafkaError> {
        Ok(self.stream.assign(&self.connection.list(positions)?)?)
    }

    /// Stops reading.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn unassign(&self) -> Result<(), KafkaError> {
        Ok(self.stream.unassign()?)
    }

    /// Stops reading of these for a while; what was fetched of them is fetched again later.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn pause(&self, partitions: &[(Metric, i32)]) -> Result<(), KafkaError> {
        Ok(self.stream.pause(&self.names(partitions))?)
    }

    /// Goes on reading of these.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn resume(&self, partitions: &[(Metric, i32)]) -> Result<(), KafkaError> {
        Ok(self.stream.resume(&self.names(partitions))?)
    }

    /// The next offset to read of everything assigned. It is past what is no message: transaction
    /// markers and aborted records; its leader epoch is that of the last record below it.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn positions(&self) -> Result<Vec<LogPosition>, KafkaError> {
        let positions = self.stream.position()?;
        let epochs = leader_epoch::of(&positions);
        let known = positions.elements().into_iter().zip(epochs).filter_map(|(element, leader_epoch)| {
            let Offset::Offset(offset) = element.offset() else { return None };
            let metric = self.connection.metric(element.topic())?;
            Some(LogPosition { metric, partition: element.partition(), offset, leader_epoch })
        });
        Ok(known.collect())
    }

    /// The high watermark as of about a second ago; `None` until the broker was heard.
    pub fn high_watermark(&self, metric: Metric, partition: i32) -> Option<i64> {
        lock(&self.stream.context().high_watermarks).get(&(metric, partition)).copied()
    }

    /// Tells the group how far we are, for lag tools only; nobody waits for it or reads it back.
    pub fn advise(&self, positions: &[LogPosition]) {
        let advised =
            self.connection.list(positions).map(|list| self.stream.commit(&list, CommitMode::Async));
        if let Ok(Err(error)) = advised {
            tracing::debug!(%error, "cannot commit advisory offsets");
        }
    }

    /// Leaves the group, or gives up after 1.5 s: then the group notices by the session timeout.
    pub async fn close(self) {
        // On a thread of its own: with the brokers away, dropping may never end.
        let closing = tokio::task::spawn_blocking(move || drop(self));
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("left the group without saying so");
        }
    }

    fn names(&self, partitions: &[(Metric, i32)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &(metric, partition) in partitions {
            list.add_partition(self.connection.topic(metric), partition);
        }
        list
    }
}

/// **Without this, dropping would never end**: librdkafka waits for an answer to its last revocation (or to
/// one that was never answered, when a session ended in the middle of it), and nobody is left to give it.
impl Drop for Consumer {
    fn drop(&mut self) {
        self.stream.context().closing.store(true, Ordering::Release);
        if let Err(error) = self.stream.unassign() {
            tracing::debug!(%error, "cannot unassign");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, _: RdKafkaError, reason: &str) {
        reason.clone_into(&mut lock(&self.last_reason));
    }

    fn stats(&self, statistics: Statistics) {
        self.deafness.look_at(&statistics);
        let mut high_watermarks = lock(&self.high_watermarks);
        for (name, topic) in &statistics.topics {
            let Some(metric) = self.connection.metric(name) else { continue };
            for partition in topic.partitions.values().filter(|partition| partition.hi_offset >= 0) {
                high_watermarks.insert((metric, partition.partition), partition.hi_offset);
            }
        }
    }
}

impl ConsumerContext for Context {
    /// Does not assign: see the module's idea. (rdkafka's own version assigns without offsets.)
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let event = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let elements = list.elements();
                let names =
                    elements.iter().filter_map(|e| Some((self.connection.metric(e.topic())?, e.partition())));
                Event::Assigned(names.collect())
            }
            _ => Event::Revoked,
        };
        let unanswered = self.closing.load(Ordering::Acquire) || self.rebalances.send(event).is_err();
        if unanswered && let Err(error) = consumer.unassign() {
            tracing::debug!(%error, "cannot unassign");
        }
    }
}

/// The content of a mutex that is only ever held for an assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
