//! The topics, as a reader needs them, and the group.

use super::Subject;
use crate::checklist::brokers::missing_topics;
use crate::checklist::{Answer, Findings, Outcome};
use crate::kafka::{Member, TopicSettings};
use std::time::Duration;

/// Retention that is shorter gives little time to notice that a reader stands still.
const SHORTEST_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What to do about a log that loses messages.
const KEEP: &str = "a snapshot that is removed before it was read is lost, and a new group cannot start over: kafka-configs \
     --alter --entity-type topics --entity-name TOPIC --add-config \
     retention.ms=-1,retention.bytes=-1,cleanup.policy=delete";

pub(super) fn topics(subject: &mut Subject) -> Outcome {
    let kafka = subject.brokers.kafka.clone();
    subject.brokers.topics(|_, counts| Ok(missing_topics(&kafka, counts)))
}

pub(super) fn right(subject: &mut Subject) -> Outcome {
    let group = &subject.options.group_id;
    subject.brokers.cluster()?.check_right_on_group(group)?;
    Ok(Answer::Ok(format!("Read is allowed on `{group}`")))
}

pub(super) fn retention(subject: &mut Subject) -> Outcome {
    let kafka = subject.brokers.kafka.clone();
    let mut found = Findings::default();
    for (metric, settings) in subject.brokers.settings()?.iter() {
        kept(&mut found, kafka.topic(metric), settings);
    }
    Ok(found.answer(format!("messages are kept for {SHORTEST_DAYS} days at least, whatever their size")))
}

/// Judges how long a topic keeps its messages.
fn kept(findings: &mut Findings, topic: &str, settings: &TopicSettings) {
    if settings.is_compacted {
        findings.warn(format!("`{topic}` is compacted: of messages with one key only the last stays"), KEEP);
    }
    if let Some(ms) = settings.retention_ms.filter(|ms| (0..SHORTEST_DAYS * DAY_MS).contains(ms)) {
        let time = match (ms / DAY_MS, ms % DAY_MS) {
            (days, 0) => format!("{days} days"),
            _ => humantime::format_duration(Duration::from_millis(ms.unsigned_abs())).to_string(),
        };
        findings.warn(format!("`{topic}` keeps messages for {time}"), KEEP);
    }
    if let Some(bytes) = settings.retention_bytes.filter(|bytes| *bytes >= 0) {
        findings.warn(format!("`{topic}` keeps {bytes} bytes of a partition"), KEEP);
    }
}

pub(super) fn members(subject: &mut Subject) -> Outcome {
    let topics = subject.brokers.kafka.topics.clone();
    let members = subject.brokers.cluster()?.members(&subject.options.group_id)?;
    let subscribes = |member: &&Member| {
        member.topics.as_ref().is_none_or(|all| topics.values().all(|topic| all.contains(topic)))
    };
    let named = |members: &[&Member]| {
        let named = members.iter().map(|member| format!("`{}` at {}", member.client_id, member.host));
        named.collect::<Vec<_>>().join(", ")
    };
    let (readers, others): (Vec<&Member>, Vec<&Member>) = members.iter().partition(subscribes);
    if others.is_empty() {
        let readers = if readers.is_empty() { "none".to_owned() } else { named(&readers) };
        return Ok(Answer::Ok(readers));
    }
    Ok(Answer::failed(
        format!("not subscribed to all three topics: {}", named(&others)),
        "a member that is no reader gets partitions that no reader can read: stop it, or give it another group id",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_loses_messages_within_a_month_is_warned_of() {
        let days = |days: i64| Some(days * DAY_MS);
        let settings = |retention_ms, retention_bytes, is_compacted| TopicSettings {
            retention_ms,
            retention_bytes,
            is_compacted,
            ..TopicSettings::default()
        };
        let cases = [
            (settings(days(30), Some(-1), false), ""),
            (settings(Some(-1), Some(-1), false), ""),
            (settings(None, None, false), ""),
            (settings(days(7), Some(-1), false), "`t` keeps messages for 7 days"),
            (settings(Some(5_400_000), Some(-1), false), "`t` keeps messages for 1h 30m"),
            (settings(days(30), Some(1_000), false), "`t` keeps 1000 bytes of a partition"),
            (settings(days(30), Some(-1), true), "`t` is compacted"),
        ];
        for (settings, words) in cases {
            let mut findings = Findings::default();
            kept(&mut findings, "t", &settings);
            match findings.answer("fine") {
                Answer::Ok(_) => assert!(words.is_empty(), "{settings:?}"),
                Answer::Warn { what, .. } => assert!(!words.is_empty() && what.contains(words), "{what}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
