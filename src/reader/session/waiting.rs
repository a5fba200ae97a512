//! What a session waits for, asks, and tells while it waits.

use super::comparison::Comparison;
use super::{Session, SessionError};
use crate::backoff::Steps;
use crate::kafka::{KafkaError, TopicIds, TopicPartitions};
use crate::message::Metric;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinError;

/// A longer gap between two ticks means that the process stood still, not that it read so long.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// Pause between two questions while nothing is read.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A group that assigns nothing for this long has lost this client, or the client the group. (A member may take
/// `max.poll.interval.ms`, 60 s, to answer a rebalance.)
const LONGEST_JOIN: Duration = Duration::from_secs(90);

/// What a broker said to a question.
pub(super) enum Answer {
    /// The high watermark of a topic, for [`crate::reader::pairing::Pairing::mark`].
    Mark { partition: i32, metric: Metric, asked: Duration, high: Option<i64> },
    /// How many partitions the topics have.
    Topics(Result<TopicPartitions, KafkaError>),
    /// The ids of the topics.
    Ids(Result<TopicIds, KafkaError>),
    /// What `progress` says.
    Compared(Comparison),
}

/// While nothing is read: when to ask for the reason, and when to tell it.
#[derive(Debug)]
pub(super) struct Idle {
    since: Instant,
    asked: Instant,
    tell: Steps,
}

impl Idle {
    pub(super) fn begun() -> Self {
        Self { since: Instant::now(), asked: Instant::now(), tell: Steps::begun() }
    }
}

/// Counts the time in which the reader reads.
#[derive(Debug)]
pub(super) struct ReadingClock {
    read: Duration,
    last: Instant,
}

impl ReadingClock {
    pub(super) fn start() -> Self {
        Self { read: Duration::ZERO, last: Instant::now() }
    }

    /// The time since the last call was, or was not, spent reading.
    pub(super) fn tick(&mut self, reading: bool) {
        let passed = self.last.elapsed().min(LONGEST_TICK);
        self.last = Instant::now();
        if reading {
            self.read += passed;
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.read
    }
}

impl Session<'_> {
    /// Asks for the high watermark of a topic, at `asked` by the reading clock.
    pub(super) fn ask_mark(&mut self, partition: i32, metric: Metric, asked: Duration) {
        let cluster = Arc::clone(&self.cluster);
        self.answers.spawn_blocking(move || {
            let high = cluster.watermarks(metric, partition).ok().map(|(_, high)| high);
            Answer::Mark { partition, metric, asked, high }
        });
    }

    /// While no partition is ours: asks for the reason, now and then.
    pub(super) fn look_after_idleness(&mut self) {
        let holds_some = self.pairing.partitions().next().is_some();
        if holds_some || !self.answers.is_empty() || self.idle.asked.elapsed() < ASK_AGAIN {
            return;
        }
        self.idle.asked = Instant::now();
        let cluster = Arc::clone(&self.cluster);
        self.answers.spawn_blocking(move || Answer::Topics(cluster.topic_partitions()));
    }

    pub(super) async fn on_answer(&mut self, answer: Result<Answer, JoinError>) -> Result<(), SessionError> {
        let answer = answer.map_err(|error| SessionError::Broken(format!("a thread failed: {error}")))?;
        match answer {
            Answer::Mark { partition, metric, asked, high } => {
                self.pairing.mark(partition, metric, asked, high);
                Ok(())
            }
            Answer::Topics(topics) => self.tell_why_idle(topics),
            Answer::Ids(ids) => self.on_topic_ids(ids).await,
            Answer::Compared(comparison) => self.on_comparison(comparison),
        }
    }

    /// Says why nothing is read, once per step.
    fn tell_why_idle(&mut self, topics: Result<TopicPartitions, KafkaError>) -> Result<(), SessionError> {
        let why = match topics {
            Err(KafkaError::Transient(what)) => format!("the brokers: {what}"),
            Err(error) => return Err(error.into()),
            Ok(topics) if topics.equal().is_some() && self.misfit => return Err(SessionError::Rejoin),
            Ok(topics) if topics.equal().is_some() && self.assigned => {
                "a partition: there are at least as many other readers as partitions".into()
            }
            // The client does not come on by itself.
            Ok(topics) if topics.equal().is_some() && self.idle.since.elapsed() > LONGEST_JOIN => {
                return Err(SessionError::Rejoin);
            }
            Ok(topics) if topics.equal().is_some() => {
                "the group to assign partitions (it waits for members that died)".into()
            }
            Ok(topics) if topics.counts.contains(&0) => {
                format!("the topics, which must all exist; partitions: {topics}")
            }
            Ok(topics) => format!("the topics, whose partition counts must be equal: {topics}"),
        };
        if let Some(lasted) = self.idle.tell.due() {
            tracing::info!(for_s = lasted.as_secs(), "waiting for {why}");
        }
        Ok(())
    }
}
