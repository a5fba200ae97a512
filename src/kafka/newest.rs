//! What the topics have already: of each wanted key, the newest body in each topic, as far as it is
//! committed.
//!
//! Owns the reading of all three logs, from their beginnings to the high watermarks of the moment in which it
//! starts. Does not own which keys are asked for, nor what is done with those that were sent.
//!
//! **Call it after the transactional id was opened.** Then no transaction of an earlier process under that id
//! is open or being committed any more, so that a key without messages was not sent and will not be.
//!
//! All three topics are read, because a correction may change the bodies of one only. Of a body its digest is
//! kept: memory grows with the keys, not with the logs.

mod logs;
mod settings;

use super::client_log::Reporting;
use super::leader_epoch::{self, Lent, Received};
use super::{Cluster, Connection, KafkaError, Right, TopicIds, bootstrap};
use crate::backoff::{Backoff, LogThrottle};
use crate::coordinates::TopicPartition;
use crate::message::EncodedSnapshot;
use crate::metric::Metric;
use logs::{Found, Logs, digest};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::types::{RDKafkaRespErr as Code, RDKafkaType};
use rdkafka::{Offset, TopicPartitionList};
use settings::{DEFAULTS, FIXED, NO_GROUP};
use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

/// How long one look for a message takes.
const LOOK: Duration = Duration::from_millis(200);

/// How often the log says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Pauses between questions that were not answered.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Newest(Found);

impl Newest {
    /// Checks the properties without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &DEFAULTS, &FIXED)
    }

    /// Reads what was sent under these keys. Blocks until all is read, however long brokers are away, or
    /// another producer has a transaction open in the midst of it.
    ///
    /// # Errors
    /// [`KafkaError::Refused`]: the right to read is missing, or a topic was made again meanwhile.
    pub fn read(connection: &Connection, keys: &HashSet<String>) -> Result<Self, KafkaError> {
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let cluster = Cluster::new(connection, Right::Read)?;
        patiently(|| cluster.check_right_on_topics())?;
        let ids = patiently(|| cluster.topic_ids())?;
        let logs = patiently(|| logs_of(&cluster))?;
        let mut reading = Reading {
            client: client(connection, &logs)?,
            cluster,
            ids,
            keys,
            logs,
            throttle: LogThrottle::begun(),
            said: Instant::now(),
        };
        while let Some(at) = reading.logs.first_open() {
            reading.next()?;
            reading.report(at)?;
        }
        reading.check_topics()?;
        Ok(Self(reading.logs.into_found()))
    }

    /// Whether the newest messages of the snapshot's key are those of the snapshot.
    pub fn has(&self, snapshot: &EncodedSnapshot) -> bool {
        self.0.get(&snapshot.key).is_some_and(|newest| {
            newest.iter().all(|(metric, newest)| {
                newest.as_ref().is_some_and(|newest| newest.digest == Some(digest(&snapshot.bodies[metric])))
            })
        })
    }

    /// How many of the keys have a message in any topic.
    pub fn len(&self) -> usize {
        self.0.values().filter(|newest| newest.values().any(Option::is_some)).count()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The logs of all partitions, none of them read.
fn logs_of(cluster: &Cluster) -> Result<Logs, KafkaError> {
    let counts = cluster.topic_partitions()?.counts;
    let mut logs = Logs::default();
    for metric in Metric::ALL {
        for partition in 0..i32::try_from(counts[metric]).unwrap_or(i32::MAX) {
            let (low, high) = cluster.watermarks(metric, partition)?;
            logs.add(TopicPartition { metric, partition }, low, high);
        }
    }
    Ok(logs)
}

/// A client that reads what is open of these logs.
fn client(connection: &Connection, logs: &Logs) -> Result<BaseConsumer<Reporting>, KafkaError> {
    let mut config = connection.client_config(&DEFAULTS, &FIXED);
    config.set("group.id", NO_GROUP);
    // It is polled without rdkafka, so it would print its log lines itself. Errors come as answers.
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let client: BaseConsumer<Reporting> = config.create_with_context(Reporting::default())?;
    let mut list = TopicPartitionList::new();
    for (at, next) in logs.open() {
        list.add_partition_offset(connection.topic(at.metric), at.partition, Offset::Offset(next))?;
    }
    if list.count() > 0 {
        client.assign(&list)?;
    }
    Ok(client)
}

/// Asks until there is an answer.
fn patiently<T>(question: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let (mut backoff, mut throttle) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), LogThrottle::begun());
    loop {
        match question() {
            Err(error @ KafkaError::Transient(_)) => {
                if let Some(lasted) = throttle.due() {
                    tracing::warn!(
                        for_s = lasted.as_secs(),
                        "{error}; still trying to read what was sent before"
                    );
                }
                thread::sleep(backoff.pause());
            }
            answer => return answer,
        }
    }
}

/// What is being read.
struct Reading<'a> {
    /// The client that reads.
    client: BaseConsumer<Reporting>,
    /// The client that asks.
    cluster: Cluster,
    /// The ids of the topics when it began.
    ids: TopicIds,
    /// The keys that are asked for.
    keys: &'a HashSet<String>,
    /// How far each log is read, and what was found.
    logs: Logs,
    /// When to log that nothing comes.
    throttle: LogThrottle,
    /// When the log said last how far it is.
    said: Instant,
}

impl Reading<'_> {
    /// Takes what comes next, if something does.
    fn next(&mut self) -> Result<(), KafkaError> {
        let keys = self.keys;
        let keep = |message: Lent<'_>| {
            let key = message.key.and_then(|key| std::str::from_utf8(key).ok());
            let key = key.and_then(|key| keys.get(key));
            let size = message.body.map_or(0, <[u8]>::len);
            (size, key.map(|key| (key.clone(), message.time, message.body.map(digest))))
        };
        let Some(received) = leader_epoch::next(self.client.client(), LOOK, keep) else { return Ok(()) };
        let Received { topic, partition, offset, what } = received;
        let at = self.cluster.connection.metric(&topic).map(|metric| TopicPartition { metric, partition });
        match (at, what) {
            (Some(at), Ok((size, found))) => self.move_on(at, |logs| logs.message(at, offset, size, found)),
            (Some(at), Err((Code::RD_KAFKA_RESP_ERR__PARTITION_EOF, _))) => {
                self.move_on(at, |logs| logs.end(at, offset))
            }
            (_, Err((code, why))) => self.judge(code, &why),
            (None, Ok(_)) => Ok(()),
        }
    }

    /// Notes that a log was read on, and stops to read it at its end.
    fn move_on(
        &mut self,
        at: TopicPartition,
        read: impl FnOnce(&mut Logs) -> bool,
    ) -> Result<(), KafkaError> {
        if read(&mut self.logs) {
            self.throttle = LogThrottle::begun();
            self.client.context().trouble.clear();
        }
        if self.logs.is_read(at) {
            let mut list = TopicPartitionList::new();
            list.add_partition(self.cluster.connection.topic(at.metric), at.partition);
            self.client.pause(&list)?;
        }
        Ok(())
    }

    /// librdkafka tries again after most errors.
    fn judge(&self, code: Code, why: &str) -> Result<(), KafkaError> {
        match code {
            // It is not a member, and does not become one.
            Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => return Ok(()),
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => return Err(self.cluster.denied()),
            _ => {}
        }
        let error = RdKafkaError::Global(code.into());
        self.client.context().trouble.note(&error, why);
        match KafkaError::new(&error, Some(why)) {
            refused @ KafkaError::Refused { .. } => Err(refused),
            _ => Ok(()),
        }
    }

    /// Says how far it is, or what it waits for. `at` is not read to its end.
    fn report(&mut self, at: TopicPartition) -> Result<(), KafkaError> {
        if let Some(lasted) = self.throttle.due() {
            let what = self.awaited(at)?;
            self.said = Instant::now();
            tracing::warn!(for_s = lasted.as_secs(), "{what}; still reading what was sent before");
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            let (done, all) = self.logs.offsets();
            tracing::info!(
                offsets = done,
                of = all,
                mib = self.logs.bytes() >> 20,
                "reading what was sent before"
            );
        }
        Ok(())
    }

    /// Why nothing comes of a log. The log may have been cut, and then it ends earlier.
    fn awaited(&mut self, at: TopicPartition) -> Result<String, KafkaError> {
        let TopicPartition { metric, partition } = at;
        let (topic, next) = (self.cluster.connection.topic(metric), self.logs.next(at));
        let place = format!("`{topic}`, partition {partition}, at offset {next}");
        match self.cluster.watermarks(metric, partition) {
            Ok((_, high)) => {
                let is_at_its_end = self.logs.ends_at(at, high);
                Ok(match is_at_its_end {
                    true => format!("waiting for the end of a transaction that a producer has open: {place}"),
                    false => self.cluster.with_trouble(format!("the brokers have not delivered {place}")),
                })
            }
            Err(error @ KafkaError::Transient(_)) => {
                bootstrap::rebootstrap(self.client.client(), &self.cluster.connection.bootstrap_servers);
                let is_deleted =
                    matches!(self.cluster.topic_partitions(), Ok(found) if found.counts[metric] == 0);
                if is_deleted { Err(made_again(topic)) } else { Ok(error.to_string()) }
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that the topics are those that were to be read.
    fn check_topics(&self) -> Result<(), KafkaError> {
        let now = patiently(|| self.cluster.topic_ids())?;
        let other = Metric::ALL.into_iter().find(|&metric| now[metric] != self.ids[metric]);
        other.map_or(Ok(()), |metric| Err(made_again(self.cluster.connection.topic(metric))))
    }
}

fn made_again(topic: &str) -> KafkaError {
    KafkaError::Refused {
        what: format!("the topic `{topic}` was deleted while it was read"),
        hint: "start again once the topics are there".to_owned(),
    }
}
