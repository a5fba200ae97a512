//! What can go wrong between the reader and Postgres, by what is to be done about it.

use super::ownership::Ownership;
use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use std::time::Duration;

/// A failure of the store, by what the reader does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke: a new session may find another state of affairs.
    #[error("postgres cannot be reached")]
    Unreachable(#[source] BoxedError),
    /// Somebody else is in the way (a lock, a deadlock, a server that is read-only for now).
    #[error("postgres is busy")]
    Busy(#[source] BoxedError),
    /// A statement failed although the connection is sound.
    #[error("postgres refused a statement")]
    Statement(#[source] BoxedError),
    /// What no retry can mend: wrong password, unknown database, missing permission.
    #[error("postgres turned the reader away")]
    Refused {
        /// What Postgres said.
        #[source]
        source: BoxedError,
        /// What to do about it.
        hint: &'static str,
    },
    /// The connection string itself. What libpq says of it is not shown: it quotes passwords.
    #[error("--database-url cannot be read")]
    BadUrl,
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
    /// Tables or rows are missing that the process has seen before.
    #[error(
        "{0}: a restore is under way, or somebody took it away; waiting until it is back (do not restart the reader \
         before: at its start it makes what is missing, and reads from the beginning)"
    )]
    Unready(String),
    /// The tables are of different moments, and going on would mix them.
    #[error("the tables contradict each other: {what}")]
    Contradiction {
        /// What was found.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// Postgres did not answer for so long that it must be asked elsewhere.
    #[error("postgres has not answered for {} s ({step}): {why}", .silence.as_secs())]
    Mute {
        /// What was asked for.
        step: &'static str,
        /// For how long nothing moved.
        silence: Duration,
        /// What a new connection found out.
        why: String,
    },
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

/// What is the matter with a partition that is not as expected.
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

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

const GRANT: &str = "grant the role what it lacks: it creates, reads and writes tables in its schema";

/// What Postgres says (in English) when no retry can help, all words of a row, and what then does.
const REFUSALS: [(&[&str], &str); 7] = [
    (&["authentication failed"], "check user and password in --database-url"),
    (&["no password supplied"], "give a password in --database-url, or in PGPASSWORD or ~/.pgpass"),
    (&["no pg_hba.conf entry"], "pg_hba.conf of the server does not admit this user from this host"),
    (&["role \"", "does not exist"], "check the user in --database-url, or create the role"),
    (&["role \"", "not permitted to log in"], "allow it: ALTER ROLE … LOGIN"),
    (&["permission denied"], GRANT),
    (&["database \"", "does not exist"], "check the database in --database-url, or create it: createdb NAME"),
];

/// How libpq begins when it cannot make sense of a connection string.
const BAD_URL: [&str; 8] = [
    "invalid ",
    "missing ",
    "unterminated ",
    "end of string",
    "IPv6 ",
    "unexpected ",
    "extra ",
    "forbidden ",
];

/// What others being in the way sounds like.
const BUSY: [&str; 3] = ["lock timeout", "deadlock detected", "statement timeout"];

impl StoreError {
    /// A partition is not as expected.
    pub fn moved(partition: i32, expected: Ownership, found: Option<Ownership>) -> Self {
        StoreError::Moved { partition, expected: expected.into(), found: found.map(Box::new) }
    }

    /// Whether the connection is sound, so that the statement itself is to blame.
    pub fn blames_statement(&self) -> bool {
        matches!(self, StoreError::Statement(_))
    }

    /// The same error in a session that has had all rights before.
    pub(super) fn when_rights_may_come(self) -> Self {
        match self {
            StoreError::Refused { source, .. } => {
                StoreError::Unready(format!("{source} (a restore grants rights last)"))
            }
            other => other,
        }
    }

    /// The same error after the connection was found to be broken.
    pub(super) fn on_broken_connection(self) -> Self {
        match self {
            StoreError::Statement(source) => StoreError::Unreachable(source),
            other => other,
        }
    }
}

impl From<ConnectionError> for StoreError {
    fn from(error: ConnectionError) -> Self {
        let message = error.to_string();
        // Of several attempts (hosts, with and without TLS) the first tells what is the matter.
        let first = message.lines().next().unwrap_or_default();
        if BAD_URL.iter().any(|words| first.starts_with(words)) {
            return StoreError::BadUrl;
        }
        match REFUSALS.iter().find(|(words, _)| words.iter().all(|word| first.contains(word))) {
            Some((_, hint)) => StoreError::Refused { source: error.into(), hint },
            None => StoreError::Unreachable(error.into()),
        }
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind::{
            ClosedConnection, ReadOnlyTransaction, SerializationFailure, UnableToSendCommand,
        };
        match &error {
            DieselError::BrokenTransactionManager => StoreError::Unreachable(error.into()),
            DieselError::DatabaseError(ClosedConnection | UnableToSendCommand, _) => {
                StoreError::Unreachable(error.into())
            }
            DieselError::DatabaseError(SerializationFailure | ReadOnlyTransaction, _) => {
                StoreError::Busy(error.into())
            }
            DieselError::DatabaseError(_, said) if said.message().starts_with("permission denied") => {
                StoreError::Refused { source: error.into(), hint: GRANT }
            }
            DieselError::DatabaseError(_, said)
                if BUSY.iter().any(|words| said.message().contains(words)) =>
            {
                StoreError::Busy(error.into())
            }
            _ => StoreError::Statement(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_partition_that_is_not_as_expected_says_what_was_and_what_is() {
        let owner = Uuid::from_u128(0x5b0e_1c2a << 96);
        let expected = Ownership { epoch: 3, owner, commits: 45, next: [6, 6, 7] };
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
    fn only_what_no_retry_can_mend_is_refused() {
        let cases = [
            ("FATAL:  password authentication failed for user \"a\"", true),
            ("FATAL:  database \"shop\" does not exist", true),
            ("FATAL:  role \"rfm\" does not exist", true),
            ("FATAL:  role \"rfm\" is not permitted to log in", true),
            ("FATAL:  Peer authentication failed for user \"rfm\"", true),
            ("FATAL:  remaining connection slots are reserved\nFATAL:  no pg_hba.conf entry for host", false),
            ("fe_sendauth: no password supplied", true),
            ("FATAL:  the database system is starting up", false),
            ("FATAL:  sorry, too many clients already", false),
            ("FATAL:  database \"shop\" is not currently accepting connections", false),
            ("connection to server at \"127.0.0.1\", port 5432 failed: Connection refused", false),
            ("could not translate host name \"db\" to address", false),
        ];
        for (message, refused) in cases {
            let error = StoreError::from(ConnectionError::BadConnection(message.into()));
            assert_eq!(matches!(error, StoreError::Refused { .. }), refused, "{message}");
        }
    }

    #[test]
    fn a_connection_string_that_cannot_be_read_is_not_quoted() {
        for message in [
            "missing \"=\" after \"postgresq://rfm:secret@localhost/db\" in connection info string",
            "invalid connection option \"secret\"",
            "invalid sslmode value: \"secret\"",
        ] {
            let error = StoreError::from(ConnectionError::BadConnection(message.into()));
            assert!(matches!(error, StoreError::BadUrl), "{message}");
            assert!(!format!("{:#}", anyhow::Error::new(error)).contains("secret"));
        }
    }

    #[test]
    fn somebody_in_the_way_accuses_no_batch() {
        let said = |kind, message: &str| DieselError::DatabaseError(kind, Box::new(message.to_owned()));
        let cases = [
            said(DatabaseErrorKind::Unknown, "canceling statement due to lock timeout"),
            said(DatabaseErrorKind::Unknown, "deadlock detected"),
            said(DatabaseErrorKind::SerializationFailure, "could not serialize access"),
            said(DatabaseErrorKind::ReadOnlyTransaction, "cannot execute INSERT in a read-only transaction"),
            said(DatabaseErrorKind::UnableToSendCommand, "no connection to the server"),
        ];
        for error in cases {
            assert!(!StoreError::from(error).blames_statement());
        }
        assert!(StoreError::from(said(DatabaseErrorKind::CheckViolation, "no")).blames_statement());
    }
}
