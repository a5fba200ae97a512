//! What can go wrong between the reader and its tables.

use super::ownership::Ownership;
use crate::postgres::{PostgresError, chain};
use diesel::result::Error as DieselError;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres failed. [`PostgresError::remedy`] says what to do.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A partition is not as this session left it: nothing was written.
    #[error("{}", moved(*.partition, .expected, .found.as_deref()))]
    Moved {
        /// The partition.
        partition: i32,
        /// What this session wrote or read last.
        expected: Box<Ownership>,
        /// What `progress` says now; `None`: its row is gone.
        found: Option<Box<Ownership>>,
    },
    /// Tables or rows are missing that this process has seen before.
    #[error(
        "{0}: a restore is under way, or somebody removed it; waiting until it is back (do not restart the reader \
         before the restore is done: it could take the group for a new one, and read from the beginning)"
    )]
    Unready(String),
    /// `segments` has another file or other columns than when the session began: nothing was written.
    #[error("the table `segments` was rewritten or changed (ALTER TABLE, VACUUM FULL, CLUSTER or TRUNCATE)")]
    Rewritten,
    /// `segments` has no partition for ids that were given: nothing was written.
    #[error(
        "`segments` has no partition for the batch ids from {first}: it was dropped or detached; the batches get other \
         ids"
    )]
    WindowGone {
        /// The first id of the window.
        first: i64,
    },
    /// The sequence of `batches` gives ids again that rows have: nothing was written.
    #[error(
        "the sequence of `batches` {}, and `segments` has rows of batch {shared}, whose id a new batch would share (a \
         restore, or TRUNCATE batches RESTART IDENTITY); nothing was stored under it",
        gone_back(*.first, *.highest)
    )]
    SequenceBack {
        /// The id that it gave now.
        first: i64,
        /// The id that it had given before, if that is known.
        highest: Option<i64>,
        /// The lowest id that would be shared.
        shared: i64,
    },
    /// The tables are of different moments, and going on would mix them.
    #[error("the tables contradict each other: {what}")]
    Contradiction {
        /// What was found.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A table took fewer rows than it was given: nothing was written.
    #[error("`{table}` took {taken} of {given} rows")]
    KeptOut {
        /// The table.
        table: &'static str,
        /// How many rows it was given.
        given: usize,
        /// How many it says it took.
        taken: usize,
    },
    /// The group is stored in another schema than the one that this connection leads to.
    #[error(
        "the tables of consumer group `{group}` are in schema `{there}`, but this connection would {act} in schema `{here}`"
    )]
    OtherSchema {
        /// The consumer group.
        group: String,
        /// The schema that the connection leads to.
        here: String,
        /// The schema that has the group's row in `sources`.
        there: String,
        /// What the connection would do: make tables, or store the group in those of others.
        act: &'static str,
    },
    /// What a person asked to retract is no batch of the group: nothing was changed.
    #[error("nothing was retracted: {0}")]
    NotRetractable(String),
    /// The batch of `--edges-from` is not there, or its edges cannot be used.
    #[error("--edges-from has no edges to use: {0}")]
    NoEdges(String),
    /// The group's offsets belong to other topics or another cluster.
    #[error("consumer group `{group}` has progress of {stored}, but this reader is set to {found}")]
    OtherSource {
        /// The consumer group.
        group: String,
        /// What `sources` says.
        stored: String,
        /// What the reader is configured with and connected to.
        found: String,
    },
}

fn gone_back(first: i64, highest: Option<i64>) -> String {
    let from = highest.map(|highest| format!(" from {highest}")).unwrap_or_default();
    format!("has gone back{from} to {first}")
}

/// Says how a partition differs from what was expected.
fn moved(partition: i32, expected: &Ownership, found: Option<&Ownership>) -> String {
    match found {
        Some(found) if found.epoch > expected.epoch => {
            format!("partition {partition} belongs to another reader now: expected {expected}; found {found}")
        }
        found => {
            let found = found.map_or_else(|| "no row".to_owned(), ToString::to_string);
            format!(
                "progress of partition {partition} is not as this reader left it: expected {expected}; found {found}. \
                 Postgres went back in time (a restore, a failover), or the row was changed by hand. Nothing is lost: what \
                 the tables no longer have is read again from Kafka"
            )
        }
    }
}

impl StoreError {
    /// A partition is not as expected.
    pub fn moved(partition: i32, expected: Ownership, found: Option<Ownership>) -> Self {
        StoreError::Moved { partition, expected: expected.into(), found: found.map(Box::new) }
    }

    /// The same error, with the work in which a statement failed.
    pub(super) fn during(self, step: &'static str) -> Self {
        match self {
            StoreError::Postgres(error) => error.during(step).into(),
            other => other,
        }
    }

    /// The error and its causes, in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }

    /// Whether the connection is sound, so that the statement itself is to blame.
    pub fn blames_statement(&self) -> bool {
        matches!(self, StoreError::Postgres(PostgresError::Statement(_)))
    }
}

/// Diesel's transactions want it.
impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        StoreError::Postgres(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_partition_that_is_not_as_expected_says_what_was_and_what_is() {
        let owner = Uuid::from_u128(0x5b0e_1c2a << 96);
        let expected = Ownership { epoch: 3, owner, commits: 45, next: [6, 6, 7].into() };
        let said = |found: Option<Ownership>| {
            let (expected, found) = (expected.into(), found.map(Box::new));
            StoreError::Moved { partition: 0, expected, found }.to_string()
        };
        let later = said(Some(Ownership { epoch: 4, owner: Uuid::nil(), ..expected }));
        assert!(later.contains("belongs to another reader now"), "{later}");
        let back = said(Some(Ownership { commits: 25, ..expected }));
        let words = "expected epoch 3, owner 5b0e1c2a, commit 45, at 6/6/7; found epoch 3, owner 5b0e1c2a, commit 25, at 6/6/7";
        assert!(back.contains(words) && back.contains("went back in time"), "{back}");
        assert!(said(None).contains("found no row"));
    }

    #[test]
    fn only_a_statement_that_fails_on_a_sound_connection_is_to_blame() {
        let blamed = |error: PostgresError| StoreError::from(error).blames_statement();
        assert!(blamed(PostgresError::Statement("no".into())));
        assert!(!blamed(PostgresError::Busy("no".into())));
        assert!(!blamed(PostgresError::Unreachable("no".into())));
        assert!(!StoreError::Unready("tables are missing".to_owned()).blames_statement());
    }
}
