//! A reader that holds no partition: why, and when to say so.

use super::brokers::Answer;
use super::torn::Torn;
use super::{Membership, Session, SessionError};
use crate::backoff::LogThrottle;
use crate::kafka::{KafkaError, Member, TopicPartitions};
use std::time::{Duration, Instant};

/// Pause between two questions.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// If the group assigns nothing for this long, it has lost this client, or the client has lost the group. (A
/// member may take `max.poll.interval.ms`, 60 s, to answer a rebalance.)
const LONGEST_JOIN: Duration = Duration::from_secs(90);

/// Members named in a log line. Nobody would read a longer one.
const MEMBERS_NAMED: usize = 8;

/// How long no partition has been held, and what was asked and logged about it.
#[derive(Debug)]
pub(super) struct Idle {
    /// When the last partition was given back, or the session began.
    since: Instant,
    /// When the brokers were asked last.
    asked: Instant,
    /// When to log the reason.
    log: LogThrottle,
    /// What is waited for, as it was found out last.
    pub(super) waits_for: Option<String>,
    /// What the group has assigned in part.
    pub(super) torn: Torn,
}

/// What a reader without partitions waits for.
#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    /// For nothing: the group has assigned a partition since the question was asked.
    Nothing,
    /// For what the text names.
    For(String),
    /// For nothing that comes by itself: it has to join the group again.
    ToRejoin,
}

impl Idle {
    pub(super) fn begun() -> Self {
        Self {
            since: Instant::now(),
            asked: Instant::now(),
            log: LogThrottle::begun(),
            waits_for: None,
            torn: Torn::default(),
        }
    }
}

impl Session<'_> {
    /// Asks the brokers why no partition is held, if it is time to.
    pub(super) fn ask_why_idle(&mut self) {
        self.ask_who_shares();
        // `catch_up` says what a reader waits for that the group has given nothing.
        let waits_for_others =
            self.options.until_caught_up && matches!(self.membership, Membership::Holding(_));
        // A member that subscribes to some of the topics only is logged by itself. Joining again would not
        // help.
        let is_explained = self.membership.holds_some() || waits_for_others || self.idle.torn.is_explained;
        if is_explained || !self.brokers.are_idle() || self.idle.asked.elapsed() < ASK_AGAIN {
            return;
        }
        self.idle.asked = Instant::now();
        // While the group waits for members, they are named.
        let group = matches!(self.membership, Membership::Joining).then(|| self.options.group_id.clone());
        self.brokers.ask(move |cluster| Answer::Partitions {
            partitions: cluster.topic_partitions(),
            members: group.and_then(|group| cluster.members(&group).ok()).unwrap_or_default(),
        });
    }

    /// Logs why no partition is held.
    pub(super) fn on_partitions(
        &mut self,
        partitions: Result<TopicPartitions, KafkaError>,
        members: &[Member],
    ) -> Result<(), SessionError> {
        let what = match partitions {
            Err(KafkaError::Transient(what)) => format!("the brokers: {what}"),
            Err(error) => return Err(error.into()),
            Ok(partitions) => {
                match waits_for(&self.membership, &partitions, members, self.idle.since.elapsed()) {
                    Awaited::Nothing => return Ok(()),
                    Awaited::ToRejoin => return Err(SessionError::Rejoin),
                    Awaited::For(what) => what,
                }
            }
        };
        if let Some(lasted) = self.idle.log.due() {
            tracing::info!(for_s = lasted.as_secs(), "waiting for {what}");
        }
        self.idle.waits_for = Some(what);
        Ok(())
    }
}

/// What a reader waits for if it has held no partition for `idle`, the topics have these partitions and the
/// group has these members.
fn waits_for(
    membership: &Membership,
    partitions: &TopicPartitions,
    members: &[Member],
    idle: Duration,
) -> Awaited {
    if membership.holds_some() {
        return Awaited::Nothing;
    }
    if partitions.equal().is_none() {
        return Awaited::For(if partitions.counts.values().any(|&count| count == 0) {
            format!("the topics, which must all exist; partitions: {partitions}")
        } else {
            format!("the topics, whose partition counts must be equal: {partitions}")
        });
    }
    match membership {
        // They fit now.
        Membership::Misfit => Awaited::ToRejoin,
        Membership::Holding(_) => {
            Awaited::For("a partition: there are at least as many other readers as partitions".to_owned())
        }
        Membership::Joining if idle > LONGEST_JOIN => Awaited::ToRejoin,
        Membership::Joining => {
            let why = match members {
                [] => {
                    "on a cluster with fewer brokers than `offsets.topic.replication.factor`, no group works"
                        .to_owned()
                }
                members => format!("its members, this reader among them: {}", names(members)),
            };
            let what = "the group to assign partitions (it waits for members that died or do not answer";
            Awaited::For(format!("{what}; {why})"))
        }
    }
}

/// `` `rfm-reader` at 10.0.0.7, `rfm-reader` at 10.0.0.8 and 3 more ``
fn names(members: &[Member]) -> String {
    let name = |member: &Member| format!("`{}` at {}", member.client_id, member.host);
    let named: Vec<String> = members.iter().take(MEMBERS_NAMED).map(name).collect();
    match members.len().saturating_sub(MEMBERS_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::session::holding::tests::{empty, holding};

    fn what(membership: &Membership, counts: [usize; 3], idle: u64) -> String {
        let (partitions, idle) = (TopicPartitions { counts: counts.into() }, Duration::from_secs(idle));
        match waits_for(membership, &partitions, &[], idle) {
            Awaited::For(what) => what,
            Awaited::Nothing => "nothing".to_owned(),
            Awaited::ToRejoin => "rejoin".to_owned(),
        }
    }

    #[test]
    fn the_reason_for_having_no_partition_is_named() {
        let empty = Membership::Holding(empty().into());
        let some = Membership::Holding(holding(&[0], Instant::now()).into());
        let cases = [
            (&Membership::Joining, [3, 3, 0], 5, "must all exist"),
            (&Membership::Misfit, [3, 3, 2], 5, "must be equal"),
            (&Membership::Misfit, [3, 3, 3], 5, "rejoin"),
            (&empty, [3, 3, 3], 500, "a partition"),
            (&some, [3, 3, 3], 5, "nothing"),
            (&Membership::Joining, [3, 3, 3], 89, "the group to assign"),
            (&Membership::Joining, [3, 3, 3], 91, "rejoin"),
        ];
        for (membership, counts, idle, expected) in cases {
            let what = what(membership, counts, idle);
            assert!(what.contains(expected), "{counts:?} after {idle} s: {what}");
        }
    }

    #[test]
    fn the_members_that_a_group_waits_for_are_named() {
        let member = |number: usize| Member {
            client_id: "rfm-reader".to_owned(),
            host: format!("10.0.0.{number}"),
            topics: None,
            assigned: Vec::new(),
        };
        let members: Vec<Member> = (0..10).map(member).collect();
        let partitions = TopicPartitions { counts: [3; 3].into() };
        let says = |members: &[Member]| waits_for(&Membership::Joining, &partitions, members, Duration::ZERO);
        let expected = "the group to assign partitions (it waits for members that died or do not answer; its members, this \
                        reader among them: `rfm-reader` at 10.0.0.0, `rfm-reader` at 10.0.0.1)";
        assert_eq!(says(&members[..2]), Awaited::For(expected.to_owned()));
        let Awaited::For(what) = says(&members) else { panic!("it waits") };
        assert!(what.contains("10.0.0.7 and 2 more)") && !what.contains("10.0.0.8"), "{what}");
    }
}
