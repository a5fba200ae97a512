//! Checks that the topics are still those to which the stored offsets belong.
//!
//! A topic that is deleted and created again keeps its name and gets another id. **librdkafka goes on reading
//! at its old position** once the new log is long enough. So the ids are compared before anything is read
//! from a partition, and repeatedly while the session lasts.

use super::{Session, SessionError};
use crate::kafka::{Cluster, KafkaError, TopicIds};
use crate::metric::Metric;
use crate::reader::store::{KafkaSource, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between an answer and the next question. The pause and an answer together take less than the
/// consumer's `fetch.error.backoff.ms`. So the ids are known before the consumer reads again from a topic
/// whose log is gone.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Partitions named in an error. Nobody would read a longer one.
const PARTITIONS_NAMED: usize = 8;

/// The ids that are stored, and when the brokers answered last.
#[derive(Debug)]
pub(super) struct Topics {
    /// The ids that `sources` has for the group.
    stored: TopicIds,
    /// When the brokers last answered, or failed to.
    answered: Instant,
    /// A question is under way.
    asking: bool,
}

impl Topics {
    pub(super) fn stored(stored: TopicIds) -> Self {
        Self { stored, answered: Instant::now(), asking: false }
    }

    /// The ids that are stored.
    pub(super) fn ids(&self) -> &TopicIds {
        &self.stored
    }

    /// Whether the brokers are to be asked now; if so, the question counts as asked.
    pub(super) fn begin_question(&mut self, now: Instant) -> bool {
        let one_is_known = self.stored.values().any(Option::is_some);
        let rested = now.saturating_duration_since(self.answered) >= ASK_AGAIN;
        let begins = one_is_known && !self.asking && rested;
        self.asking |= begins;
        begins
    }

    /// The brokers have answered, or failed to.
    pub(super) fn end_question(&mut self, now: Instant) {
        (self.asking, self.answered) = (false, now);
    }
}

impl Session<'_> {
    /// Compares the ids of the topics with those that are stored, and stores those that are not yet.
    pub(super) async fn verify_topics(&mut self) -> Result<(), SessionError> {
        let (cluster, source) = (Arc::clone(&self.brokers.cluster), self.owner.source.clone());
        let stored = self.owner.run(move |store| verify(store, &cluster, &source)).await?;
        self.brokers.topics = Topics::stored(stored);
        Ok(())
    }
}

/// The ids that are stored, if the topics have them.
fn verify(store: &mut Store, cluster: &Cluster, source: &KafkaSource) -> Result<TopicIds, SessionError> {
    let found = cluster.topic_ids()?;
    let stored = store.claim_topics(&found)?;
    check(store, cluster, source, &stored, &found)?;
    // If a topic's id is stored and the brokers report none, the topic is gone, or the broker does not know
    // of it yet.
    match Metric::ALL.into_iter().find(|metric| found[*metric] != stored[*metric]) {
        Some(metric) => {
            let topic = source.topic(metric);
            Err(KafkaError::Transient(format!("the brokers report no id for the topic `{topic}`")).into())
        }
        None => Ok(stored),
    }
}

/// Checks that no topic is known not to be the stored one.
///
/// # Errors
/// [`SessionError::TopicReplaced`].
pub(in crate::reader) fn check(
    store: &mut Store,
    cluster: &Cluster,
    source: &KafkaSource,
    stored: &TopicIds,
    found: &TopicIds,
) -> Result<(), SessionError> {
    let Some(metric) = another(stored, found) else { return Ok(()) };
    let topic = source.topic(metric).to_owned();
    let positions: Vec<(i32, i64)> =
        store.group_positions()?.into_iter().map(|(partition, next)| (partition, next[metric])).collect();
    let positions = describe(&positions, |partition| cluster.watermarks(metric, partition));
    Err(SessionError::TopicReplaced { topic, metric, positions })
}

/// The first metric whose topic is known not to be the stored one.
pub(super) fn another(stored: &TopicIds, found: &TopicIds) -> Option<Metric> {
    let differ = |(stored, found): (&Option<String>, &Option<String>)| match (stored, found) {
        (Some(stored), Some(found)) => stored != found,
        _ => false,
    };
    let pair = |metric: &Metric| (&stored[*metric], &found[*metric]);
    Metric::ALL.into_iter().find(|metric| differ(pair(metric)))
}

/// `partition 0 at 812, its log now has 0..13; partition 1 at 7`
fn describe(positions: &[(i32, i64)], log: impl Fn(i32) -> Result<(i64, i64), KafkaError>) -> String {
    let named = positions.iter().take(PARTITIONS_NAMED).map(|&(partition, next)| match log(partition) {
        Ok((low, high)) => format!("partition {partition} at {next}, its log now has {low}..{high}"),
        Err(_) => format!("partition {partition} at {next}"),
    });
    let mut named: Vec<String> = named.collect();
    match positions.len().saturating_sub(PARTITIONS_NAMED) {
        0 if named.is_empty() => "none".to_owned(),
        0 => named.join("; "),
        more => {
            named.push(format!("and {more} more partitions"));
            named.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::PerMetric;

    fn ids(ids: [&str; 3]) -> TopicIds {
        PerMetric::from(ids).map(|id| (!id.is_empty()).then(|| id.to_owned()))
    }

    #[test]
    fn a_topic_is_another_one_only_if_both_ids_are_known_and_differ() {
        let cases = [
            (["a", "b", "c"], ["a", "b", "c"], None),
            (["a", "b", "c"], ["a", "x", "y"], Some(Metric::Frequency)),
            (["a", "b", "c"], ["a", "b", "x"], Some(Metric::Monetary)),
            (["a", "b", "c"], ["", "", ""], None),
            (["", "b", ""], ["x", "b", "y"], None),
            (["", "b", ""], ["x", "y", "z"], Some(Metric::Frequency)),
            (["", "", ""], ["x", "y", "z"], None),
        ];
        for (stored, found, expected) in cases {
            assert_eq!(another(&ids(stored), &ids(found)), expected, "{stored:?} {found:?}");
        }
    }

    #[test]
    fn the_ids_are_asked_for_once_at_a_time_and_not_before_one_is_known() {
        let mut topics = Topics::stored(ids(["a", "", ""]));
        let begun = topics.answered;
        assert!(!topics.begin_question(begun), "they were just stored");
        assert!(topics.begin_question(begun + ASK_AGAIN));
        assert!(!topics.begin_question(begun + 2 * ASK_AGAIN), "a question is under way");
        topics.end_question(begun + 3 * ASK_AGAIN);
        assert!(!topics.begin_question(begun + 3 * ASK_AGAIN));
        assert!(topics.begin_question(begun + 4 * ASK_AGAIN));
        let mut unknown = Topics::stored(TopicIds::default());
        assert!(!unknown.begin_question(unknown.answered + ASK_AGAIN), "nothing to compare with");
    }

    #[test]
    fn positions_are_named_with_what_the_log_has_up_to_a_limit() {
        let log = |partition| match partition {
            0 => Ok((2, 13)),
            _ => Err(KafkaError::Transient("gone".into())),
        };
        assert_eq!(
            describe(&[(0, 812), (1, 7)], log),
            "partition 0 at 812, its log now has 2..13; partition 1 at 7"
        );
        assert_eq!(describe(&[], log), "none");
        let many: Vec<(i32, i64)> = (1..=10).map(|partition| (partition, 0)).collect();
        assert!(describe(&many, log).ends_with("partition 8 at 0; and 2 more partitions"));
    }
}
