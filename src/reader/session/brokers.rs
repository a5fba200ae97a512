//! Questions to the brokers, asked beside the loop, and what the loop does with the answers.
//!
//! A question blocks, so each has a thread, and its answer reaches the loop as one more event. (`comparison`
//! reads the table `progress` in the same way.)

use super::catch_up::{Look, Others};
use super::comparison::Comparison;
use super::held_up::HeldUp;
use super::other_database::{Compared, OtherDatabase};
use super::topics::{Topics, another};
use super::upkeep::Pass;
use super::{Membership, Session, SessionError, blocking};
use crate::backoff::LogThrottle;
use crate::coordinates::TopicPartition;
use crate::health::{Health, Obstacle};
use crate::kafka::{Cluster, KafkaError, Member, TopicIds, TopicPartitions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Silence of the brokers that is logged, and how often to look. (The line comes 5 s after the broker's last
/// sign of life at the latest: an answer and the next question are a second apart.)
const SAY_AFTER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Silence after which the reader does not count as ready. A question that is answered takes milliseconds.
const UNREADY_AFTER: Duration = Duration::from_millis(900);

/// What is known of the brokers, and the questions under way.
pub(super) struct Brokers {
    /// The client that asks.
    pub(super) cluster: Arc<Cluster>,
    /// Questions under way.
    answers: JoinSet<Answer>,
    /// The ids of the topics.
    pub(super) topics: Topics,
    /// How far the partitions are that others hold.
    pub(super) others: Others,
    /// A transaction that is open in one of the topics.
    pub(super) held_up: HeldUp,
    /// Whether partitions of the group are stored in another database.
    pub(super) other_database: OtherDatabase,
    /// When to log errors from which the consumer recovers by itself.
    trouble: LogThrottle,
    /// Logs what they have not answered, as long as this lives.
    _reporting: AbortOnDropHandle<()>,
}

/// The answer to a question.
pub(super) enum Answer {
    /// The high watermark of a topic's partition; `None`: the broker did not say.
    Watermark { at: TopicPartition, asked: Duration, high: Option<i64> },
    /// How many partitions the topics have; and who is in the group, if that was asked and answered.
    Partitions { partitions: Result<TopicPartitions, KafkaError>, members: Vec<Member> },
    /// Who is in the group.
    Members(Result<Vec<Member>, KafkaError>),
    /// The ids of the topics.
    Ids(Result<TopicIds, KafkaError>),
    /// How far the group is.
    Others(Look),
    /// What `progress` and the logs say.
    Compared(Comparison),
    /// What `progress` and the group's committed offsets say.
    OtherDatabase(Result<Compared, SessionError>),
    /// What the upkeep of `segments` has done.
    Upkeep(Pass),
}

impl From<Pass> for Answer {
    fn from(pass: Pass) -> Self {
        Answer::Upkeep(pass)
    }
}

impl From<Comparison> for Answer {
    fn from(comparison: Comparison) -> Self {
        Answer::Compared(comparison)
    }
}

impl From<Look> for Answer {
    fn from(look: Look) -> Self {
        Answer::Others(look)
    }
}

impl From<Result<Compared, SessionError>> for Answer {
    fn from(compared: Result<Compared, SessionError>) -> Self {
        Answer::OtherDatabase(compared)
    }
}

impl Brokers {
    pub(super) fn new(cluster: Arc<Cluster>, ids: TopicIds, health: Arc<Health>) -> Self {
        let reporting = tokio::spawn(report_silence(Arc::clone(&cluster), health));
        Self {
            _reporting: AbortOnDropHandle::new(reporting),
            cluster,
            answers: JoinSet::new(),
            topics: Topics::stored(ids),
            others: Others::unknown(),
            held_up: HeldUp::default(),
            other_database: OtherDatabase::default(),
            trouble: LogThrottle::default(),
        }
    }

    /// Asks a question on a thread.
    pub(super) fn ask<A: Into<Answer>>(&mut self, question: impl FnOnce(&Cluster) -> A + Send + 'static) {
        let cluster = Arc::clone(&self.cluster);
        self.answers.spawn_blocking(move || question(&cluster).into());
    }

    /// Whether no question is under way.
    pub(super) fn are_idle(&self) -> bool {
        self.answers.is_empty()
    }

    /// Waits for an answer. `None`: nothing was asked. Nothing is lost if the future is dropped.
    pub(super) async fn answer(&mut self) -> Option<Result<Answer, SessionError>> {
        Some(self.answers.join_next().await?.map_err(SessionError::from))
    }

    /// Logs an error from which the consumer recovers by itself, unless one was logged a moment ago.
    pub(super) fn on_trouble(&mut self, what: &str) {
        if let Some(lasted) = self.trouble.due() {
            tracing::warn!(for_s = lasted.as_secs(), "kafka: {what}; going on");
        }
    }

    /// A message came: the trouble is over.
    pub(super) fn on_message(&mut self) {
        self.trouble.reset();
    }
}

/// Logs what the brokers do not answer. The session itself may be what waits for it.
async fn report_silence(cluster: Arc<Cluster>, health: Arc<Health>) {
    let mut log = LogThrottle::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let unanswered = cluster.unanswered().filter(|(_, lasted)| *lasted >= UNREADY_AFTER);
        let Some((question, lasted)) = unanswered else {
            log.reset();
            health.set(Obstacle::Brokers, None);
            continue;
        };
        let waits_for = question.as_deref().map(|what| format!(": waiting for {what}")).unwrap_or_default();
        let what = cluster.with_trouble(format!("kafka has not answered{waits_for}"));
        if question.is_some() && lasted >= SAY_AFTER && log.due().is_some() {
            tracing::warn!(for_s = lasted.as_secs(), "{what}");
        }
        health.set(Obstacle::Brokers, Some(what));
    }
}

impl Session<'_> {
    /// Asks for the high watermark of a topic's partition, at `asked` by the reading clock.
    pub(super) fn ask_watermark(&mut self, at: TopicPartition, asked: Duration) {
        self.brokers.ask(move |cluster| {
            let high = cluster.watermarks(at.metric, at.partition).ok().map(|(_, high)| high);
            Answer::Watermark { at, asked, high }
        });
    }

    /// Asks for the ids of the topics, if it is time to.
    pub(super) fn ask_topic_ids(&mut self) {
        if self.brokers.topics.begin_question(Instant::now()) {
            self.brokers.ask(|cluster| Answer::Ids(cluster.topic_ids()));
        }
    }

    /// The refusal to read a topic, with the topics named.
    pub(super) async fn denied(&self) -> KafkaError {
        let cluster = Arc::clone(&self.brokers.cluster);
        let asked = blocking(move || cluster.denied()).await;
        asked.unwrap_or_else(|error| KafkaError::Transient(error.to_string()))
    }

    pub(super) async fn on_answer(&mut self, answer: Answer) -> Result<(), SessionError> {
        match answer {
            Answer::Watermark { at, asked, high } => {
                if let Membership::Holding(holding) = &mut self.membership {
                    holding.on_watermark(at, asked, high);
                }
                Ok(())
            }
            Answer::Members(members) => self.on_members(members),
            Answer::Partitions { partitions, members } => self.on_partitions(partitions, &members),
            Answer::Ids(ids) => self.on_topic_ids(ids).await,
            Answer::Others(look) => self.on_others(look),
            Answer::Compared(comparison) => self.on_comparison(comparison),
            Answer::OtherDatabase(compared) => self.on_other_database(compared),
            Answer::Upkeep(pass) => {
                self.on_upkeep(pass);
                Ok(())
            }
        }
    }

    /// Ends the session if a topic was created again. What was read since the last commit is then not stored.
    async fn on_topic_ids(&mut self, answer: Result<TopicIds, KafkaError>) -> Result<(), SessionError> {
        self.brokers.topics.end_question(Instant::now());
        match answer {
            Ok(found) if another(self.brokers.topics.ids(), &found).is_some() => self.verify_topics().await,
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "cannot ask for the ids of the topics");
                Ok(())
            }
        }
    }
}
