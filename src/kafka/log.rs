//! Whether a partition's log is still the one that was read: Kafka's own check (KIP-320), and the keys of
//! records.
//!
//! Owns the questions. Does not own what is known of the old log (`reader::store`), nor what is done about
//! another one (`reader::session`).
//!
//! **An assignment alone validates nothing**: librdkafka 2.12 starts to read at once, and compares epochs
//! only if later metadata has another one. The error of a failed validation does not tell rdkafka which
//! partition it belongs to. So, before the reader reads anything, a separate client outside the group seeks
//! to each position with its epoch. If a record or the end of the log follows, the position is sound.

use super::client_log::Reporting;
use super::leader_epoch::{self, Received};
use super::{Cluster, Connection, KafkaError, SESSION_TIMEOUT};
use crate::coordinates::{MessageId, NextOffset, TopicPartition};
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as RdKafkaError;
use rdkafka::types::{RDKafkaRespErr as Code, RDKafkaType};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the brokers may take to answer, and how much longer per position. The caller asks again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_millis(50);

/// The settings of the client that asks. It fetches as little as it can: the first record batch of a fetch
/// comes whole, and a second one is not needed.
const FIXED: [(&str, &str); 11] = [
    ("isolation.level", "read_uncommitted"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "0"),
    ("queued.min.messages", "1"),
    // So short a queue is always full. librdkafka's default pause of a second would be most of the time.
    ("fetch.queue.backoff.ms", "1"),
    ("fetch.wait.max.ms", "10"),
    ("fetch.message.max.bytes", "1024"),
];

/// Settings that the user may override, as those of the consumer.
const DEFAULTS: [(&str, &str); 2] = [SESSION_TIMEOUT, ("receive.message.max.bytes", "1000000000")];

impl Cluster {
    /// Checks the properties of the client that asks, without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check_asking(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_CONSUMER, &DEFAULTS, &FIXED)
    }

    /// The positions whose log was cut below them, judged by their leader epochs, each with librdkafka's
    /// sentence. A position without a leader epoch counts as sound.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if a leader does not answer.
    pub fn cut_below(
        &self,
        group_id: &str,
        positions: &[NextOffset],
    ) -> Result<Vec<(NextOffset, String)>, KafkaError> {
        // Below offset 0 there is nothing to cut, and librdkafka would not ask.
        let known = positions.iter().filter(|at| at.leader_epoch.is_some() && at.offset > 0);
        let known: Vec<NextOffset> = known.copied().collect();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let offsets = known.iter().map(|at| (at.topic_partition(), at.offset)).collect();
        let open = self.questions.begin("whether the logs were cut, from the leaders of the partitions");
        let client = self.client_that_asks(group_id, &offsets)?;
        // Without a timeout it would not report what failed.
        let sought = client.seek_partitions(self.connection.list(&known)?, ANSWER_TIMEOUT)?;
        if let Some(error) = sought.elements().iter().find_map(|element| element.error().err()) {
            return Err(error.into());
        }
        let mut cut = Vec::new();
        self.answers(client.client(), offsets, |at, offset, received| match received.what {
            Err((Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, why)) => {
                cut.extend(
                    known.iter().find(|known| known.topic_partition() == at).map(|known| (*known, why)),
                );
                true
            }
            // A record below the position was fetched before the seek.
            _ => received.offset >= offset,
        })?;
        open.answered();
        Ok(cut)
    }

    /// The keys of these messages, at most one per partition of a topic. A message that the log does not have
    /// is left out.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if a leader does not answer.
    pub fn keys_at(
        &self,
        group_id: &str,
        messages: &[MessageId],
    ) -> Result<BTreeMap<MessageId, Option<Vec<u8>>>, KafkaError> {
        let mut keys = BTreeMap::new();
        if messages.is_empty() {
            return Ok(keys);
        }
        let offsets = messages.iter().map(|id| (id.topic_partition(), id.offset)).collect();
        let open = self.questions.begin("the last stored messages, from the leaders of the partitions");
        let client = self.client_that_asks(group_id, &offsets)?;
        self.answers(client.client(), offsets, |at, offset, received| {
            if let (Ok(key), true) = (received.what, received.offset == offset) {
                let TopicPartition { metric, partition } = at;
                keys.insert(MessageId { metric, partition, offset }, key);
            }
            true
        })?;
        open.answered();
        Ok(keys)
    }

    /// A client that reads from these offsets on, and joins no group. (It has a group id, since librdkafka
    /// assigns nothing without one.)
    fn client_that_asks(
        &self,
        group_id: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BaseConsumer<Reporting>, KafkaError> {
        let mut config = self.connection.client_config(&DEFAULTS, &FIXED);
        config.set("group.id", group_id);
        // It is polled without rdkafka, so it would print its log lines itself. Errors come as answers.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let client: BaseConsumer<Reporting> = config.create_with_context(Reporting::default())?;
        let mut list = TopicPartitionList::new();
        for (at, offset) in offsets {
            let topic = self.connection.topic(at.metric);
            list.add_partition_offset(topic, at.partition, Offset::Offset(*offset))?;
        }
        client.assign(&list)?;
        Ok(client)
    }

    /// Passes what is received to `is_answer`, with the offset that was asked about, until it has accepted an
    /// answer for each partition.
    fn answers(
        &self,
        client: &Client<Reporting>,
        mut open: BTreeMap<TopicPartition, i64>,
        mut is_answer: impl FnMut(TopicPartition, i64, Received<Option<Vec<u8>>>) -> bool,
    ) -> Result<(), KafkaError> {
        let patience = ANSWER_TIMEOUT + EACH * open.len() as u32;
        let mut deadline = Instant::now() + patience;
        let trouble = &client.context().trouble;
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = "the brokers do not answer whether the log was cut";
                return Err(trouble.explain(KafkaError::Transient(what.into())));
            }
            let received = leader_epoch::next(client, left, |message| message.key.map(<[u8]>::to_vec));
            let Some(received) = received else { continue };
            if let Err((code, why)) = &received.what {
                let error = RdKafkaError::Global((*code).into());
                trouble.note(&error, why);
                match KafkaError::new(&error, Some(why)) {
                    KafkaError::Refused { .. } if is_denied(*code) => return Err(self.denied()),
                    error @ KafkaError::Refused { .. } => return Err(error),
                    _ => {}
                }
            }
            let Some(metric) = self.connection.metric(&received.topic) else { continue };
            let at = TopicPartition { metric, partition: received.partition };
            let is_final = match &received.what {
                Ok(_) => true,
                Err((code, _)) => is_final(*code),
            };
            if is_final && open.get(&at).is_some_and(|&offset| is_answer(at, offset, received)) {
                open.remove(&at);
                // Slow brokers still answer: the wait starts again.
                deadline = Instant::now() + patience;
            }
        }
        Ok(())
    }
}

fn is_denied(code: Code) -> bool {
    code == Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
}

/// Whether an error is an answer. After any other error, librdkafka tries again.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__PARTITION_EOF
            | Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
            | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
    )
}
