//! What an error of a session means for the program: one table.

use super::session::SessionError;
use super::store::StoreError;
use crate::kafka::{KafkaError, PROPERTY_HINT};
use crate::postgres::{PostgresError, Remedy};

/// What comes after a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new session after a pause; nothing is logged.
    Rejoin,
    /// A new session after a pause; the outage is logged.
    Retry,
    /// The end of the program: no retry can mend the error.
    End {
        /// What to do about it.
        hint: String,
        /// 1 for a failure, 2 for a wrong flag or configuration.
        exit_code: u8,
    },
}

/// The verdict on an error of a reader of `group`.
pub fn verdict(error: &SessionError, group: &str) -> Verdict {
    match error {
        SessionError::Rejoin => Verdict::Rejoin,
        SessionError::Broken(_) => Verdict::Retry,
        SessionError::Store(error) => of_store(error),
        SessionError::Kafka(error) => of_kafka(error),
        SessionError::PositionGone { .. } => failure(format!(
            "the log was shortened before it was read. What is gone cannot be stored. To go on with what is there, run \
             `reader skip-lost` with the same flags; it says how much is gone. (If the topic was created again, use a \
             --group-id other than `{group}`)"
        )),
        SessionError::LogCut(_) => failure(format!(
            "Kafka lost messages and uses their offsets again (after an unclean leader election, or with a broker \
             restored from an old copy). What is stored stays. To read what the log has now, use a --group-id \
             other than `{group}`"
        )),
        SessionError::TopicReplaced { .. } => failure(format!(
            "the offsets stored under the group `{group}` mean nothing in the new log. Use another --group-id, which \
             starts at its beginning"
        )),
        SessionError::RefusedBatch { .. } => failure(
            "repair the cause (encoding, constraint, trigger), then start the reader again: nothing is lost",
        ),
    }
}

/// The causes for which sessions end, as the metric `rfm_sessions_ended_total` has them.
pub const CAUSES: [&str; 12] = [
    "postgres_away",
    "postgres_mute",
    "postgres_busy",
    "postgres_refused",
    "statement_failed",
    "progress_moved",
    "tables_changed",
    "kafka",
    "log_changed",
    "batch_refused",
    "rejoin",
    "broken",
];

/// The cause of an error, one of [`CAUSES`].
pub fn cause(error: &SessionError) -> &'static str {
    match error {
        SessionError::Store(StoreError::Postgres(error)) => match error {
            PostgresError::Unreachable(_) => "postgres_away",
            PostgresError::Mute { .. } => "postgres_mute",
            PostgresError::Busy(_) | PostgresError::ReadOnly(_) => "postgres_busy",
            PostgresError::Statement(_) => "statement_failed",
            PostgresError::Refused { .. }
            | PostgresError::Unsuitable { .. }
            | PostgresError::BadUrl { .. }
            | PostgresError::RawPassword { .. } => "postgres_refused",
        },
        SessionError::Store(StoreError::Moved { .. }) => "progress_moved",
        SessionError::Store(_) => "tables_changed",
        SessionError::Kafka(_) => "kafka",
        SessionError::TopicReplaced { .. } | SessionError::PositionGone { .. } | SessionError::LogCut(_) => {
            "log_changed"
        }
        SessionError::RefusedBatch { .. } => "batch_refused",
        SessionError::Rejoin => "rejoin",
        SessionError::Broken(_) => "broken",
    }
}

fn of_store(error: &StoreError) -> Verdict {
    match error {
        StoreError::Postgres(error) => match error.remedy() {
            Remedy::Retry => Verdict::Retry,
            Remedy::Repair(hint) => failure(hint),
            Remedy::Configure(hint) => misconfiguration(hint),
        },
        StoreError::Moved { .. }
        | StoreError::Rewritten
        | StoreError::WindowGone { .. }
        | StoreError::Unready(_)
        | StoreError::SequenceBack { .. } => Verdict::Retry,
        StoreError::Contradiction { hint, .. } => failure(hint),
        StoreError::KeptOut { table, .. } => failure(format!(
            "a trigger or a rule on `{table}` keeps rows out: remove it, then start the reader again. Nothing is lost. (To \
             put rows elsewhere, use declarative partitioning, which needs no trigger)"
        )),
        StoreError::OtherSchema { here, there, .. } => failure(format!(
            "the search_path decides: `options` in the URL, PGOPTIONS, the role's own setting, and behind a pooler what \
             another client has SET. Set it: ALTER ROLE … SET search_path = {there}. To start over in `{here}`, use another --group-id"
        )),
        StoreError::NotRetractable(_) => {
            failure("the ids are those of the column `id` of `batches`; --group-id says whose they are")
        }
        StoreError::NoEdges(_) => failure(
            "give the id of a batch as the column `id` of `batches` has it; its six edges per metric must ascend between \
             the first and the last. For other edges there is --edges FILE",
        ),
        StoreError::OtherSource { .. } => {
            failure("its offsets mean nothing there: use a new --group-id, which starts at the beginning")
        }
    }
}

fn of_kafka(error: &KafkaError) -> Verdict {
    match error {
        KafkaError::Transient(_) => Verdict::Retry,
        KafkaError::Property { .. } | KafkaError::Properties(_) => misconfiguration(PROPERTY_HINT),
        KafkaError::Refused { hint, .. } => failure(hint),
    }
}

fn failure(hint: impl Into<String>) -> Verdict {
    Verdict::End { hint: hint.into(), exit_code: 1 }
}

fn misconfiguration(hint: impl Into<String>) -> Verdict {
    Verdict::End { hint: hint.into(), exit_code: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinates::MessageId;
    use crate::metric::{Metric, PerMetric};
    use crate::reader::store::Ownership;
    use std::time::Duration;

    fn exit_code(error: impl Into<SessionError>) -> u8 {
        match verdict(&error.into(), "a-group") {
            Verdict::End { exit_code, hint } => {
                assert!(!hint.is_empty());
                exit_code
            }
            _ => 0,
        }
    }

    fn session_errors() -> [SessionError; 4] {
        let first = MessageId { metric: Metric::Recency, partition: 0, offset: 7 };
        let (topic, metric) = ("r".to_owned(), Metric::Recency);
        [
            SessionError::PositionGone { topic: topic.clone(), metric, partition: 0, next: 1, log: 2..3 },
            SessionError::LogCut("cut".into()),
            SessionError::TopicReplaced { topic, metric, positions: "none".into() },
            SessionError::RefusedBatch { first, source: PostgresError::Statement("no".into()).into() },
        ]
    }

    #[test]
    fn an_outage_is_retried_and_a_rejoin_is_not_logged() {
        let ownership =
            Ownership { epoch: 1, owner: uuid::Uuid::nil(), commits: 0, next: PerMetric::default() };
        let outages = [
            PostgresError::Unreachable("gone".into()).into(),
            PostgresError::Busy("lock".into()).into(),
            PostgresError::Statement("no".into()).into(),
            StoreError::moved(0, ownership, None),
            StoreError::Unready("a restore".into()),
            StoreError::SequenceBack { first: 1, highest: Some(9), shared: 1 },
            StoreError::WindowGone { first: 10_000_000_000 },
            PostgresError::Mute { step: "COMMIT", silence: Duration::ZERO, why: "no answer".into() }.into(),
        ];
        for error in outages {
            let error = SessionError::from(error);
            assert!(CAUSES.contains(&cause(&error)), "{error}");
            assert_eq!(verdict(&error, "g"), Verdict::Retry);
        }
        assert_eq!(verdict(&KafkaError::Transient("away".into()).into(), "g"), Verdict::Retry);
        assert_eq!(verdict(&SessionError::Broken("a thread".into()), "g"), Verdict::Retry);
        assert_eq!(verdict(&SessionError::Rejoin, "g"), Verdict::Rejoin);
    }

    #[test]
    fn what_no_retry_mends_ends_the_program_with_a_hint() {
        let refused = PostgresError::Refused { source: "password".into(), hint: "check it".into() }.into();
        let contradiction = StoreError::Contradiction { what: "ids".into(), hint: "purge them".into() };
        let (group, stored, found) = ("g".to_owned(), "a".to_owned(), "b".to_owned());
        let kept_out = StoreError::KeptOut { table: "segments", given: 3, taken: 0 };
        let (here, there) = ("a".to_owned(), "public".to_owned());
        let other_schema = StoreError::OtherSchema { group: group.clone(), here, there, act: "make them" };
        let retracted = StoreError::NotRetractable("no such batch".into());
        let no_edges = StoreError::NoEdges("there is no batch 7".into());
        let other_source = StoreError::OtherSource { group, stored, found };
        for error in [refused, contradiction, kept_out, other_schema, retracted, no_edges, other_source] {
            assert_eq!(exit_code(error), 1);
        }
        assert_eq!(exit_code(KafkaError::Refused { what: "sasl".into(), hint: "check it".into() }), 1);
        session_errors().into_iter().for_each(|error| assert_eq!(exit_code(error), 1));
    }

    #[test]
    fn a_wrong_flag_ends_the_program_with_its_own_code() {
        let property = KafkaError::Property { name: "x".into(), message: "unknown".into() };
        assert_eq!(exit_code(property), 2);
        assert_eq!(exit_code(KafkaError::Properties("together".into())), 2);
        assert_eq!(exit_code(StoreError::from(PostgresError::RawPassword { flag: "--database-url" })), 2);
    }

    #[test]
    fn where_a_new_group_is_the_way_out_the_old_one_is_named() {
        for error in &session_errors()[..3] {
            let Verdict::End { hint, .. } = verdict(error, "a-group") else { panic!("{error}") };
            assert!(hint.contains("`a-group`") && hint.contains("--group-id"), "{hint}");
        }
    }
}
