//! The consumer of one session: messages and rebalances as one stream of events.
//!
//! In a rebalance, librdkafka waits for `assign` or `unassign`, however long that takes. So a rebalance
//! becomes an [`Event`] here. The session answers it in its own time, with the offsets of the database in the
//! first `assign`. **`auto.offset.reset` is `error`: Kafka never chooses a position.**

mod context;
mod log_ends;
mod reach;
mod settings;

pub use log_ends::LogEnd;

use super::bootstrap::{self, BrokersLost};
use super::trouble::Trouble;
use super::{Connection, KafkaError, Right, leader_epoch};
use crate::coordinates::{NextOffset, TopicPartition};
use crate::message::Message;
use context::{Context, lock};
use futures_util::FutureExt;
use log_ends::LogEnds;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError as RdKafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaType;
use rdkafka::{Offset, TopicPartitionList};
use reach::{Reach, Unreached};
use settings::{DEFAULTS, FIXED};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long leaving the group may take. Without a broker it would never end.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What a consumer receives from the group and the brokers.
#[derive(Debug)]
pub enum Event {
    /// A message of an assigned partition.
    Message(Message),
    /// The group assigns these partitions; nothing is read until [`Consumer::assign`].
    Assigned(Vec<TopicPartition>),
    /// The group revokes all partitions; it waits for [`Consumer::unassign`].
    Revoked,
    /// The log does not have a position.
    PositionLost,
    /// The client cannot be used any more.
    Fatal(String),
    /// A right on a topic is missing; librdkafka does not say on which one.
    Denied,
    /// An error. librdkafka goes on by itself, unless it is a refusal.
    Error(KafkaError),
}

/// A member of the consumer group.
pub struct Consumer {
    /// Messages and errors.
    stream: StreamConsumer<Context>,
    /// Rebalances that are not answered yet.
    rebalances: UnboundedReceiver<Event>,
    /// Brokers and topics.
    connection: Connection,
    /// The group, for error texts.
    group_id: String,
}

impl Consumer {
    /// Checks the properties without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &DEFAULTS, &FIXED)
    }

    /// Joins the group. Nothing is read before the answer to the first [`Event::Assigned`].
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn subscribe(connection: &Connection, group_id: &str) -> Result<Self, KafkaError> {
        let (sender, rebalances) = unbounded_channel();
        let mut config = connection.client_config(&DEFAULTS, &FIXED);
        config.set("group.id", group_id);
        let fetch_wait = config.get("fetch.wait.max.ms").and_then(|ms| ms.parse().ok()).unwrap_or_default();
        let context = Context {
            connection: connection.clone(),
            rebalances: sender,
            closing: AtomicBool::new(false),
            last_reason: Mutex::default(),
            trouble: Trouble::default(),
            brokers_lost: BrokersLost::default(),
            log_ends: LogEnds::default(),
            reach: Reach::new(Duration::from_millis(fetch_wait)),
        };
        let stream: StreamConsumer<Context> = config.create_with_context(context)?;
        stream.subscribe(&connection.topics.as_ref().map(String::as_str).into_array())?;
        Ok(Self { stream, rebalances, connection: connection.clone(), group_id: group_id.to_owned() })
    }

    /// Waits for the next event. No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.rebalances.recv() => return event,
                received = self.stream.recv() => return match received {
                    Ok(message) => {
                        self.stream.context().trouble.clear();
                        self.message(&message)
                    }
                    Err(error) => self.error(&error),
                },
                () = self.stream.context().brokers_lost.raised() => {
                    bootstrap::rebootstrap(self.stream.client(), &self.connection.bootstrap_servers);
                }
            }
        }
    }

    /// The next event, if it is already there.
    pub fn next_ready(&mut self) -> Option<Event> {
        self.next().now_or_never()
    }

    fn message(&self, message: &BorrowedMessage<'_>) -> Event {
        let Some(metric) = self.connection.metric(message.topic()) else {
            return Event::Fatal(format!(
                "a message of the topic `{}`, which is not subscribed",
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
        let context = self.stream.context();
        let reason = std::mem::take(&mut *lock(&context.last_reason));
        match (error, error.rdkafka_error_code()) {
            (RdKafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange), _) => {
                Event::PositionLost
            }
            (_, Some(Code::FencedInstanceId)) => Event::Error(self.replaced()),
            (RdKafkaError::MessageConsumptionFatal(_), _) => Event::Fatal(reason),
            (_, Some(Code::GroupAuthorizationFailed)) => {
                Event::Error(KafkaError::denied(Right::Read, &format!("the group `{}`", self.group_id)))
            }
            (_, Some(Code::TopicAuthorizationFailed)) => Event::Denied,
            (_, Some(Code::InconsistentGroupProtocol)) => Event::Error(KafkaError::Transient(format!(
                "the group `{}` has a member that does not share out partitions by `range`; every member has to be a \
                 reader ({reason})",
                self.group_id
            ))),
            (_, Some(Code::AllBrokersDown)) => {
                // librdkafka's own sentence counts handles, and some of them are not brokers.
                let what = context.trouble.with_last("no broker can be reached".to_owned());
                Event::Error(KafkaError::Transient(what))
            }
            _ => Event::Error(KafkaError::new(error, Some(&reason))),
        }
    }

    /// Another member came with the same `group.instance.id`. The brokers let the newer one in.
    fn replaced(&self) -> KafkaError {
        let mut ids = self.connection.properties.iter().filter(|(name, _)| name == "group.instance.id");
        let id = ids.next_back().map_or("", |(_, value)| value.as_str());
        KafkaError::Refused {
            what: format!(
                "another member of the group `{}` has joined with the group.instance.id `{id}` of this reader",
                self.group_id
            ),
            hint: "give every reader a group.instance.id of its own (--kafka-property), or none".to_owned(),
        }
    }

    /// Starts to read these partitions, and no others, at their next offsets.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn assign(&self, positions: &[NextOffset]) -> Result<(), KafkaError> {
        Ok(self.stream.assign(&self.connection.list(positions)?)?)
    }

    /// Stops reading.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn unassign(&self) -> Result<(), KafkaError> {
        Ok(self.stream.unassign()?)
    }

    /// Pauses these partitions. What was fetched of them is dropped, and fetched again later.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        Ok(self.stream.pause(&self.names(partitions))?)
    }

    /// Resumes these partitions.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        Ok(self.stream.resume(&self.names(partitions))?)
    }

    /// The next offset to read of each assigned partition. It lies past transaction markers and aborted
    /// records. Its leader epoch is that of the last record below it.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn positions(&self) -> Result<Vec<NextOffset>, KafkaError> {
        let positions = self.stream.position()?;
        let epochs = leader_epoch::of(&positions);
        let known = positions.elements().into_iter().zip(epochs).filter_map(|(element, leader_epoch)| {
            let Offset::Offset(offset) = element.offset() else { return None };
            let metric = self.connection.metric(element.topic())?;
            Some(NextOffset { metric, partition: element.partition(), offset, leader_epoch })
        });
        Ok(known.collect())
    }

    /// The end of a log as of about a second ago; `None` until the broker has answered.
    pub fn log_end(&self, at: TopicPartition) -> Option<LogEnd> {
        self.stream.context().log_ends.of(at)
    }

    /// A sentence about the brokers that are not reached, as of about a second ago; `None` if all are from which
    /// it reads, and at least one.
    pub fn unreached(&self) -> Option<String> {
        let context = self.stream.context();
        Some(match context.reach.unreached()? {
            Unreached::NoConnection(what) => context.trouble.with_last(what),
            Unreached::NoAnswer(what) => what,
        })
    }

    /// Commits offsets to the group, for lag tools only. Nobody waits for that, and nobody reads them back.
    pub fn advise(&self, positions: &[NextOffset]) {
        let advised =
            self.connection.list(positions).map(|list| self.stream.commit(&list, CommitMode::Async));
        if let Ok(Err(error)) = advised {
            tracing::debug!(%error, "cannot commit advisory offsets");
        }
    }

    /// Leaves the group, or gives up after 1.5 s. Then the group notices after the session timeout.
    pub async fn close(self) {
        // On a thread of its own: without a broker, dropping may never end.
        let closing = tokio::task::spawn_blocking(move || drop(self));
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("could not leave the group in time");
        }
    }

    fn names(&self, partitions: &[TopicPartition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &TopicPartition { metric, partition } in partitions {
            list.add_partition(self.connection.topic(metric), partition);
        }
        list
    }
}

/// **Without this, dropping would never end**: librdkafka waits for the answer to a revocation. That may be
/// the last one, or an earlier one that the session left unanswered when it ended. Nobody else would give the
/// answer.
impl Drop for Consumer {
    fn drop(&mut self) {
        self.stream.context().closing.store(true, Ordering::Release);
        if let Err(error) = self.stream.unassign() {
            tracing::debug!(%error, "cannot unassign");
        }
    }
}
