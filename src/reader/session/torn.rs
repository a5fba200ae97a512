//! Partitions that the group gives to this reader in some of the topics only. Nothing of them is read.
//!
//! The group shares out each topic among the members that subscribe to it. If a member subscribes to one
//! topic only, that topic is cut in another way than the others. So a reader finds such a member by its own
//! assignment, and asks the brokers who it is.

use super::brokers::Answer;
use super::{Session, SessionError};
use crate::backoff::LogThrottle;
use crate::coordinates::TopicPartition;
use crate::kafka::{KafkaError, Member};
use crate::metric::{Metric, PerMetric};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_secs(4);

/// See the module. It belongs to one assignment.
#[derive(Debug, Default)]
pub(super) struct Torn {
    /// The topics that each partition lacks.
    lacking: BTreeMap<i32, Vec<Metric>>,
    /// When the brokers were asked last who the members are.
    asked: Option<Instant>,
    /// Whether they have answered. Without an explanation, only the second answer is logged: the group may
    /// have learned of the topics one after the other.
    is_answered: bool,
    /// When to log it.
    log: LogThrottle,
    /// Whether a member is known that subscribes to some of the topics only.
    pub(super) is_explained: bool,
}

impl Torn {
    /// The partitions of an assignment that are not whole.
    pub(super) fn of(assigned: &[TopicPartition]) -> Self {
        let mut lacking = BTreeMap::new();
        for &TopicPartition { partition, .. } in assigned {
            let has = |metric: &Metric| assigned.contains(&TopicPartition { metric: *metric, partition });
            let missing: Vec<Metric> = Metric::ALL.into_iter().filter(|metric| !has(metric)).collect();
            if !missing.is_empty() {
                lacking.insert(partition, missing);
            }
        }
        Self { lacking, ..Self::default() }
    }

    /// Whether the brokers are to be asked now; if so, the question counts as asked.
    fn begin_question(&mut self, now: Instant) -> bool {
        let rested = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN);
        let begins = !self.lacking.is_empty() && rested;
        if begins {
            self.asked = Some(now);
        }
        begins
    }

    /// `partitions 0, 1 are not read: the group gives their messages of recency to others`
    fn describe(&self) -> String {
        let join = |names: Vec<String>| names.join(", ");
        let partitions = join(self.lacking.keys().map(i32::to_string).collect());
        let missing = |metric: &Metric| self.lacking.values().any(|missing| missing.contains(metric));
        let metrics = join(Metric::ALL.into_iter().filter(missing).map(|m| m.to_string()).collect());
        let what = match self.lacking.len() {
            1 => format!("partition {partitions} is not read: the group gives its"),
            _ => format!("partitions {partitions} are not read: the group gives their"),
        };
        format!("{what} messages of {metrics} to others")
    }
}

impl Session<'_> {
    /// Asks who the members of the group are, if it is time to.
    pub(super) fn ask_who_shares(&mut self) {
        if self.idle.torn.begin_question(Instant::now()) {
            let group = self.options.group_id.clone();
            self.brokers.ask(move |cluster| Answer::Members(cluster.members(&group)));
        }
    }

    /// Logs which partitions are not read, and because of whom.
    pub(super) fn on_members(
        &mut self,
        members: Result<Vec<Member>, KafkaError>,
    ) -> Result<(), SessionError> {
        let members = match members {
            Err(error @ KafkaError::Refused { .. }) => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "cannot ask for the members of the group");
                Vec::new()
            }
            Ok(members) => members,
        };
        let partial: Vec<String> =
            members.iter().filter_map(|member| partly(member, &self.options.kafka.topics)).collect();
        let torn = &mut self.idle.torn;
        torn.is_explained = !partial.is_empty();
        let is_to_be_said = torn.is_explained || torn.is_answered;
        torn.is_answered = true;
        if is_to_be_said && let Some(lasted) = torn.log.due() {
            let why = match partial.is_empty() {
                true => "`kafka-consumer-groups --describe --members --verbose` names the members".to_owned(),
                false => format!(
                    "every member has to subscribe to all three topics. Stop this one, or give it another group id: {}",
                    partial.join("; ")
                ),
            };
            let group = &self.options.group_id;
            tracing::warn!(for_s = lasted.as_secs(), group, "{}; {why}", torn.describe());
        }
        Ok(())
    }
}

/// Names a member that subscribes to some of the topics only.
fn partly(member: &Member, topics: &PerMetric<String>) -> Option<String> {
    let subscribed = member.topics.as_ref()?;
    let is_whole = topics.values().all(|topic| subscribed.contains(topic));
    let subscribed = subscribed.join(", ");
    let Member { client_id, host, .. } = member;
    (!is_whole).then(|| format!("client `{client_id}` at {host}, which subscribes to {subscribed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(places: &[(Metric, i32)]) -> Vec<TopicPartition> {
        places.iter().map(|&(metric, partition)| TopicPartition { metric, partition }).collect()
    }

    #[test]
    fn partitions_that_lack_a_topic_are_named_with_what_they_lack() {
        use Metric::{Frequency, Monetary, Recency};
        let whole = [(Recency, 2), (Frequency, 2), (Monetary, 2)];
        assert!(Torn::of(&assigned(&whole)).lacking.is_empty());
        let others = [(Frequency, 0), (Monetary, 0), (Monetary, 1), (Frequency, 1)];
        let mut torn = Torn::of(&assigned(&[&whole[..], &others].concat()));
        let expected = "partitions 0, 1 are not read: the group gives their messages of recency to others";
        assert_eq!(torn.describe(), expected);
        let one = Torn::of(&assigned(&[(Recency, 4)])).describe();
        assert_eq!(
            one,
            "partition 4 is not read: the group gives its messages of frequency, monetary to others"
        );
        let now = Instant::now();
        assert!(
            torn.begin_question(now) && !torn.begin_question(now) && torn.begin_question(now + ASK_AGAIN)
        );
        assert!(!Torn::default().begin_question(now));
    }

    #[test]
    fn a_member_is_named_if_it_lacks_a_topic() {
        let topics = PerMetric::from_fn(|metric| metric.name().to_owned());
        let member = |topics: Option<&str>| Member {
            client_id: "tool".into(),
            host: "10.0.0.7".into(),
            topics: topics.map(|topics| topics.split(' ').map(str::to_owned).collect()),
            assigned: Vec::new(),
        };
        assert_eq!(partly(&member(Some("recency frequency monetary others")), &topics), None);
        assert_eq!(partly(&member(None), &topics), None);
        let named = partly(&member(Some("recency")), &topics);
        assert_eq!(named.as_deref(), Some("client `tool` at 10.0.0.7, which subscribes to recency"));
    }
}
