//! Whether the topics are still those that progress counts.
//!
//! A topic that is deleted and created anew keeps its name and gets another id. **librdkafka goes on reading
//! it where it stood in the old one**, if the new one has become long enough. So the ids are compared before
//! anything is read of a partition, and again and again while the session lasts.

use super::waiting::Answer;
use super::{Session, SessionError};
use crate::kafka::{Cluster, KafkaError, TopicIds};
use crate::message::Metric;
use crate::reader::store::{Source, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between an answer and the next question. Shorter, with the time of an answer, than
/// `fetch.error.backoff.ms` of the consumer: the ids are known before a topic whose log has gone is read again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A message that names more partitions would not be read.
const PARTITIONS_NAMED: usize = 8;

/// The ids that are stored, and when the brokers answered last.
#[derive(Debug)]
pub(super) struct Topics {
    stored: TopicIds,
    answered: Instant,
    /// A question is under way.
    asking: bool,
}

impl Topics {
    pub(super) fn stored(stored: TopicIds) -> Self {
        Self { stored, answered: Instant::now(), asking: false }
    }
}

impl Session<'_> {
    /// Asks for the ids of the topics, now and then.
    pub(super) fn look_after_topics(&mut self) {
        let none_known = self.topics.stored.iter().all(Option::is_none);
        if none_known || self.topics.asking || self.topics.answered.elapsed() < ASK_AGAIN {
            return;
        }
        self.topics.asking = true;
        let cluster = Arc::clone(&self.cluster);
        self.answers.spawn_blocking(move || Answer::Ids(cluster.topic_ids()));
    }

    /// Ends the session if a topic is another one. What was read is not stored then.
    pub(super) async fn on_topic_ids(
        &mut self,
        answer: Result<TopicIds, KafkaError>,
    ) -> Result<(), SessionError> {
        (self.topics.asking, self.topics.answered) = (false, Instant::now());
        match answer {
            Ok(found) if another(&self.topics.stored, &found).is_some() => self.verify_topics().await,
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "cannot ask for the ids of the topics");
                Ok(())
            }
        }
    }

    /// Compares the ids of the topics with those that are stored, and stores those that are not yet.
    pub(super) async fn verify_topics(&mut self) -> Result<(), SessionError> {
        let (cluster, source) = (Arc::clone(&self.cluster), self.source.clone());
        let stored = self.with_owner(move |owner| verify(owner, &cluster, &source)).await?;
        self.topics = Topics::stored(stored);
        Ok(())
    }
}

/// The ids that are stored, if the topics have them.
fn verify(store: &mut Store, cluster: &Cluster, source: &Source) -> Result<TopicIds, SessionError> {
    let found = cluster.topic_ids()?;
    let stored = store.claim_topics(&found)?;
    if let Some(metric) = another(&stored, &found) {
        let topic = source.topic(metric).to_owned();
        let positions =
            describe(&store.positions(metric)?, |partition| cluster.watermarks(metric, partition));
        return Err(SessionError::TopicReplaced { topic, metric, positions });
    }
    // A topic with a known id that has none now is gone, or its broker does not know of it yet.
    match Metric::ALL.into_iter().find(|metric| found[metric.index()] != stored[metric.index()]) {
        Some(metric) => {
            let topic = source.topic(metric);
            Err(KafkaError::Transient(format!("the brokers tell no id of the topic `{topic}`")).into())
        }
        None => Ok(stored),
    }
}

/// The first metric whose topic is known not to be the stored one.
fn another(stored: &TopicIds, found: &TopicIds) -> Option<Metric> {
    let differ = |(stored, found): (&Option<String>, &Option<String>)| match (stored, found) {
        (Some(stored), Some(found)) => stored != found,
        _ => false,
    };
    let pair = |metric: &Metric| (&stored[metric.index()], &found[metric.index()]);
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
            named.push(format!("and {more} partitions more"));
            named.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: [&str; 3]) -> TopicIds {
        ids.map(|id| (!id.is_empty()).then(|| id.to_owned()))
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
        assert!(describe(&many, log).ends_with("partition 8 at 0; and 2 partitions more"));
    }
}
