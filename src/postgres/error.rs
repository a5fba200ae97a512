//! What can go wrong between a program and Postgres, and what to do about it.
//!
//! **Judged by codes, never by words**: a server may speak any language. Diesel tells the kind of some errors
//! and hides the SQLSTATE of all; where it matters, `connecting` and `statements`
//! ask for it.

use super::sqlstate::SqlState;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use std::error::Error;
use std::time::Duration;

/// A failure of Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection, or it broke: the next one may find another state of affairs.
    #[error("postgres cannot be reached")]
    Unreachable(#[source] BoxedError),
    /// Others are in the way (a lock, a deadlock), or the server lacks something (disk, memory).
    #[error("postgres cannot do it at the moment")]
    Busy(#[source] BoxedError),
    /// The server takes no changes for now: it is a standby, or somebody set it to read-only.
    #[error("postgres only reads at the moment (a standby, or a database that was set to read-only)")]
    ReadOnly(#[source] BoxedError),
    /// A statement failed although the connection is sound.
    #[error("postgres did not execute a statement")]
    Statement(#[source] BoxedError),
    /// Wrong password, unknown database, missing permission: no retry can help.
    #[error("postgres refused access")]
    Refused {
        /// What Postgres said.
        #[source]
        source: BoxedError,
        /// What to do about it.
        hint: String,
    },
    /// The database is not set up as this program needs it.
    #[error("{what}")]
    Unsuitable {
        /// What is not.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The connection string itself.
    #[error("{flag} cannot be used: {what}")]
    BadUrl {
        /// The flag that gave it.
        flag: &'static str,
        /// What is wrong with it, without any part of a password.
        what: String,
    },
    /// The connection string has a character in its password that libpq takes for the end of it, so that
    /// libpq would show the rest as the name of a host or a database.
    #[error("{flag} contains a raw / or @ in the password or in the name of the database")]
    RawPassword {
        /// The flag that gave it.
        flag: &'static str,
    },
    /// Postgres has been silent for so long that a new connection must be tried.
    #[error("postgres has not answered for {} s ({step}): {why}", .silence.as_secs())]
    Mute {
        /// What was asked for.
        step: &'static str,
        /// For how long nothing moved.
        silence: Duration,
        /// What a new connection found out.
        why: String,
    },
}

/// A failed connection, judged.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct NoConnection {
    /// The code, if a server answered.
    pub(super) sqlstate: Option<SqlState>,
    /// What was said.
    pub(super) message: String,
}

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Try again on a new connection.
    Retry,
    /// Stop: a person has to change something in Postgres or in the flags. Says what.
    Repair(String),
    /// Stop: a flag is wrong as it stands. Says what it should look like.
    Configure(String),
}

pub(super) type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl PostgresError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            PostgresError::Refused { hint, .. } | PostgresError::Unsuitable { hint, .. } => {
                Remedy::Repair(hint.clone())
            }
            PostgresError::BadUrl { .. } => Remedy::Configure(
                "give postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE; in a password, percent-encode % as \
                 %25, @ as %40, / as %2F; remove parameters of other programs (for a schema: \
                 options=-csearch_path%3DNAME)"
                    .to_owned(),
            ),
            PostgresError::RawPassword { .. } => {
                Remedy::Configure("percent-encode it: %2F for /, %40 for @".to_owned())
            }
            PostgresError::Unreachable(_)
            | PostgresError::Busy(_)
            | PostgresError::ReadOnly(_)
            | PostgresError::Statement(_)
            | PostgresError::Mute { .. } => Remedy::Retry,
        }
    }

    /// The code with which a server refused the connection; `None` if no server answered.
    pub(super) fn refused_with(&self) -> Option<SqlState> {
        match self {
            PostgresError::Unreachable(source) | PostgresError::Refused { source, .. } => {
                source.downcast_ref::<NoConnection>()?.sqlstate
            }
            _ => None,
        }
    }

    /// The same error if it may be that of a lock.
    pub fn on_lock(self) -> Self {
        match self {
            PostgresError::Statement(source) => PostgresError::Busy(source),
            other => other,
        }
    }

    /// The same error, with the work in which the statement failed.
    pub fn during(self, step: &'static str) -> Self {
        match self {
            PostgresError::Statement(source) => PostgresError::Statement(format!("{step}: {source}").into()),
            other => other,
        }
    }

    /// The same error once the connection is known to be broken: then the statement is not to blame.
    pub fn on_broken_connection(self) -> Self {
        match self {
            PostgresError::Statement(source) => PostgresError::Unreachable(source),
            other => other,
        }
    }
}

impl From<DieselError> for PostgresError {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind::{
            ClosedConnection, ReadOnlyTransaction, SerializationFailure, UnableToSendCommand,
        };
        match &error {
            DieselError::BrokenTransactionManager
            | DieselError::DatabaseError(ClosedConnection | UnableToSendCommand, _) => {
                PostgresError::Unreachable(error.into())
            }
            DieselError::DatabaseError(SerializationFailure, _) => PostgresError::Busy(error.into()),
            DieselError::DatabaseError(ReadOnlyTransaction, _) => PostgresError::ReadOnly(error.into()),
            _ => PostgresError::Statement(error.into()),
        }
    }
}

/// An error and its causes, in one line: libpq's sentences have several.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{error}{causes}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_to_blame_only_if_its_kind_says_nothing_else() {
        let said = |kind| DieselError::DatabaseError(kind, Box::new("wie auch immer".to_owned()));
        for kind in [
            DatabaseErrorKind::SerializationFailure,
            DatabaseErrorKind::ReadOnlyTransaction,
            DatabaseErrorKind::UnableToSendCommand,
        ] {
            let error = PostgresError::from(said(kind));
            assert!(!matches!(error, PostgresError::Statement(_)), "{error:?}");
            assert_eq!(error.remedy(), Remedy::Retry);
        }
        for kind in [DatabaseErrorKind::CheckViolation, DatabaseErrorKind::Unknown] {
            let error = PostgresError::from(said(kind));
            assert!(matches!(error, PostgresError::Statement(_)));
            assert_eq!(error.remedy(), Remedy::Retry);
            assert!(matches!(error.on_broken_connection(), PostgresError::Unreachable(_)));
        }
    }
}
