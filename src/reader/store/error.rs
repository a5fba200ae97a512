//! What can go wrong between the reader and Postgres, by what is to be done about it.

use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// A failure of the store, by what the reader does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke: a new session may find another state of affairs.
    #[error("postgres cannot be reached")]
    Unreachable(#[source] BoxedError),
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
    /// Another reader took the partition: nothing was written.
    #[error("partition {partition} belongs to another reader now (epoch {epoch} is over)")]
    Fenced {
        /// The partition that was lost.
        partition: i32,
        /// The epoch under which it was held.
        epoch: i64,
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

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// What Postgres says (untranslated) when no retry can help, and what then does.
const REFUSALS: [(&str, &str); 8] = [
    ("password authentication failed", "check user and password in --database-url"),
    ("no password supplied", "give a password in --database-url, or in PGPASSWORD or ~/.pgpass"),
    ("no pg_hba.conf entry", "pg_hba.conf of the server does not admit this user from this host"),
    ("role \"", "check the user in --database-url, or create the role"),
    ("permission denied", "grant the role what it lacks: it creates, reads and writes tables in its schema"),
    ("database \"", "check the database in --database-url, or create it: createdb NAME"),
    ("invalid connection option", "check --database-url: postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
    ("missing \"=\"", "check --database-url: postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
];

/// Whether a message of Postgres is a refusal for good; those that begin with a name must also say that
/// it does not exist.
fn refusal(message: &str) -> Option<&'static str> {
    let (_, hint) = REFUSALS.iter().find(|(words, _)| {
        message.contains(words) && (!words.ends_with('"') || message.contains("does not exist"))
            || (words.starts_with("missing") && message.contains(words))
    })?;
    Some(hint)
}

impl StoreError {
    /// Whether the connection is sound, so that the statement itself is to blame.
    pub fn blames_statement(&self) -> bool {
        matches!(self, StoreError::Statement(_))
    }
}

impl From<ConnectionError> for StoreError {
    fn from(error: ConnectionError) -> Self {
        match refusal(&error.to_string()) {
            Some(hint) => StoreError::Refused { source: error.into(), hint },
            None => StoreError::Unreachable(error.into()),
        }
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, _)
            | DieselError::BrokenTransactionManager => StoreError::Unreachable(error.into()),
            DieselError::DatabaseError(_, said) if said.message().starts_with("permission denied") => {
                let hint = "grant the role what it lacks: it creates, reads and writes tables in its schema";
                StoreError::Refused { source: error.into(), hint }
            }
            _ => StoreError::Statement(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_retry_can_mend_is_refused() {
        let cases = [
            ("FATAL:  password authentication failed for user \"a\"", true),
            ("FATAL:  database \"shop\" does not exist", true),
            ("FATAL:  role \"rfm\" does not exist", true),
            ("invalid connection option \"foo\"", true),
            ("missing \"=\" after \"nonsense\" in connection info string", true),
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
}
