//! Whether a log still is the one that was read: Kafka's own answer (KIP-320), and the keys of what was read.
//!
//! Owns the question. Does not own what is known of the old log (`reader::store`), nor what is done about another one
//! (`reader::session`).
//!
//! The one idea: **an assignment alone validates nothing** (librdkafka 2.12 begins to read at once, and compares
//! epochs only if metadata brings another one later), and the error of a validation that fails does not tell rdkafka
//! whose it is. So a client of its own, of no group's membership, seeks to each position with its epoch, before the
//! reader reads anything: a record or the end that comes says that the position is sound.

use super::leader_epoch::{self, Heard};
use super::{Cluster, KafkaError, LogPosition};
use crate::message::Metric;
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaRespErr as Code;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cluster::Quiet;

/// How long the brokers may take to answer, and how much longer for each position; then it is asked again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_millis(50);

/// A partition of a topic.
type Place = (Metric, i32);

/// The settings of the client that asks. It takes in as little as it can: the first batch of records of a fetch comes
/// whole, and no second one is wanted.
const SETTINGS: [(&str, &str); 12] = [
    ("isolation.level", "read_uncommitted"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
    ("queued.min.messages", "1"),
    // With so short a queue, librdkafka's rest of a second after it was full would be most of the time.
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.wait.max.ms", "10"),
    ("fetch.message.max.bytes", "1024"),
    ("receive.message.max.bytes", "1000000000"),
];

impl Cluster {
    /// The positions whose log was cut below them and written again, by their leader epochs; those without one are
    /// taken for sound. Each comes with librdkafka's sentence.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if a leader does not answer.
    pub fn cut_below(
        &self,
        group_id: &str,
        positions: &[LogPosition],
    ) -> Result<Vec<(LogPosition, String)>, KafkaError> {
        // Below offset 0 there is nothing to be cut, and librdkafka would not ask.
        let known = positions.iter().filter(|at| at.leader_epoch.is_some() && at.offset > 0);
        let known: Vec<LogPosition> = known.copied().collect();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.client_that_asks(group_id, &known)?;
        // Without a time it would not tell what it could not do.
        let sought = client.seek_partitions(self.connection.list(&known)?, ANSWER_TIMEOUT)?;
        if let Some(error) = sought.elements().iter().find_map(|element| element.error().err()) {
            return Err(error.into());
        }
        let mut cut = Vec::new();
        self.answers(client.client(), &known, |at, heard| match heard.what {
            Err((Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, why)) => {
                cut.push((*at, why));
                true
            }
            // Something that was read before it sought.
            _ => heard.offset >= at.offset,
        })?;
        Ok(cut)
    }

    /// The keys of the records at these offsets; where there is none any more, none.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if a leader does not answer.
    pub fn keys_at(
        &self,
        group_id: &str,
        positions: &[LogPosition],
    ) -> Result<BTreeMap<Place, Option<Vec<u8>>>, KafkaError> {
        let mut keys = BTreeMap::new();
        if positions.is_empty() {
            return Ok(keys);
        }
        let client = self.client_that_asks(group_id, positions)?;
        self.answers(client.client(), positions, |at, heard| {
            if let (Ok(key), true) = (heard.what, heard.offset == at.offset) {
                keys.insert((at.metric, at.partition), key);
            }
            true
        })?;
        Ok(keys)
    }

    /// A client that reads from these positions on, and belongs to no group. (It names one, since librdkafka assigns
    /// nothing without.)
    fn client_that_asks(
        &self,
        group_id: &str,
        positions: &[LogPosition],
    ) -> Result<BaseConsumer<Quiet>, KafkaError> {
        let mut config = self.connection.client_config(&[], &SETTINGS);
        config.set("group.id", group_id);
        // Polled beside rdkafka, it would print its lines by itself; what is wrong comes as an answer.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let client: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
        let mut list = TopicPartitionList::new();
        for at in positions {
            let topic = self.connection.topic(at.metric);
            list.add_partition_offset(topic, at.partition, Offset::Offset(at.offset))?;
        }
        client.assign(&list)?;
        Ok(client)
    }

    /// Waits until `is_answer` has taken something that came of each position for its answer.
    fn answers(
        &self,
        client: &Client<Quiet>,
        positions: &[LogPosition],
        mut is_answer: impl FnMut(&LogPosition, Heard) -> bool,
    ) -> Result<(), KafkaError> {
        let open = positions.iter().map(|at| ((at.metric, at.partition), at));
        let mut open: BTreeMap<Place, &LogPosition> = open.collect();
        let patience = ANSWER_TIMEOUT + EACH * positions.len() as u32;
        let mut deadline = Instant::now() + patience;
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(KafkaError::Transient("the brokers do not tell whether the log was cut".into()));
            }
            let Some(heard) = leader_epoch::next(client, left) else { continue };
            let Some(metric) = self.connection.metric(&heard.topic) else { continue };
            let place = (metric, heard.partition);
            let is_last_word = match &heard.what {
                Ok(_) => true,
                Err((code, _)) => is_last_word(*code),
            };
            if is_last_word && open.get(&place).is_some_and(|at| is_answer(at, heard)) {
                open.remove(&place);
                // Slow is not mute.
                deadline = Instant::now() + patience;
            }
        }
        Ok(())
    }
}

/// Whether an error is an answer; of others librdkafka tries again.
fn is_last_word(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__PARTITION_EOF
            | Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
            | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
    )
}
