//! Connecting, and why it fails.
//!
//! Diesel's error has only words. So after a failure one more connection is tried, by libpq itself, which tells
//! the server's code.

use super::error::NoConnection;
use super::libpq::{Connection, Refused};
use super::sqlstate::{Admission, SqlState};
use super::{Address, PostgresError};
use diesel::Connection as _;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};
use std::time::{Duration, Instant};

/// How long a server may take to say why it refuses. It has just refused something.
const ANSWER: Duration = Duration::from_secs(3);

/// Connects.
///
/// # Errors
/// [`PostgresError::Unreachable`] and [`PostgresError::Refused`].
pub(super) fn connect(address: &Address) -> Result<PgConnection, PostgresError> {
    let begun = Instant::now();
    PgConnection::establish(&address.string())
        .map_err(|error| why(address, &error.to_string(), begun.elapsed()))
}

/// Connects, without Diesel.
///
/// # Errors
/// As above.
pub(super) fn connect_plainly(address: &Address) -> Result<Connection, PostgresError> {
    let begun = Instant::now();
    Connection::connect(&address.string()).map_err(|said| why(address, &said, begun.elapsed()))
}

/// PgBouncer has one code for whatever it refuses itself, from a wrong password to a pool that is full for now.
const FROM_A_POOLER: &str = " (so says a pooler; if it goes on, see the pooler's log and settings: it may not know the \
    database or the user, and `options` do not pass it)";

/// A connection of libpq's own to the first host that accepts one.
///
/// # Errors
/// Why not: the answer of the first host that gave a reason.
pub(super) fn open(address: &Address, changes: &[(&str, &str)]) -> Result<Connection, Refused> {
    let mut reason: Option<Refused> = None;
    for string in address.string_per_host(changes) {
        match Connection::open(&string, ANSWER) {
            Ok(connection) => return Ok(connection),
            Err(refused)
                if reason.as_ref().is_none_or(|reason| !reason.is_answer() && refused.is_answer()) =>
            {
                reason = Some(refused);
            }
            Err(_) => {}
        }
    }
    Err(reason.unwrap_or_else(Refused::silence))
}

/// Judges a connection that failed after `took`, of which libpq `said` why.
fn why(address: &Address, said: &str, took: Duration) -> PostgresError {
    let plain = || NoConnection { sqlstate: None, message: one_line(said) };
    // Nobody answered, and asking again would only take as long.
    if took >= address.longest_connect() {
        return PostgresError::Unreachable(plain().into());
    }
    match open(address, &[]) {
        // It was a passing trouble.
        Ok(_) => PostgresError::Unreachable(plain().into()),
        Err(refused) => judge(address, refused),
    }
}

fn judge(address: &Address, refused: Refused) -> PostgresError {
    let hint = match refused.sqlstate.map(SqlState::admission) {
        Some(Admission::Never(hint)) => Some(hint),
        Some(Admission::Later) => None,
        None if refused.lacks_password => {
            Some("give a password in FLAG, in PGPASSWORD, in ~/.pgpass or in a service file")
        }
        None if refused.in_tls && address.needs_tls() => why_no_tls(address),
        None => None,
    };
    let mut message = without_location(&refused.message);
    if refused.sqlstate == Some(SqlState::PROTOCOL_VIOLATION) {
        message.push_str(FROM_A_POOLER);
    }
    let source = NoConnection { sqlstate: refused.sqlstate, message };
    match hint {
        Some(hint) => {
            PostgresError::Refused { source: source.into(), hint: hint.replace("FLAG", address.flag()) }
        }
        None => PostgresError::Unreachable(source.into()),
    }
}

/// What a program uses beside the connections that it needs: one for windows, and one for a moment.
const BESIDE: usize = 2;

/// The limits of this role and database, -1 for none.
const LIMITS: &str = "
    SELECT session_user::text AS role, rolconnlimit AS of_role, datconnlimit AS of_database
    FROM pg_roles, pg_database WHERE rolname = session_user AND datname = current_database()";

/// What [`LIMITS`] answers.
#[derive(QueryableByName)]
struct Limits {
    /// The role.
    #[diesel(sql_type = Text)]
    role: String,
    /// Connections that it may have.
    #[diesel(sql_type = Integer)]
    of_role: i32,
    /// Connections that the database may have.
    #[diesel(sql_type = Integer)]
    of_database: i32,
}

/// The error `error` of a program that needs `needed` connections: says so if its role or its database never
/// has that many.
pub fn explain_limit(address: &Address, error: PostgresError, needed: usize) -> PostgresError {
    if error.refused_with() != Some(SqlState::TOO_MANY_CONNECTIONS) {
        return error;
    }
    let limits = connect(address)
        .ok()
        .and_then(|mut connection| diesel::sql_query(LIMITS).get_result::<Limits>(&mut connection).ok());
    let Some(Limits { role, of_role, of_database }) = limits else { return error };
    let is_less = |limit: i32| usize::try_from(limit).is_ok_and(|limit| limit < needed);
    let (what, hint) = if is_less(of_role) {
        (
            format!("role `{role}` may have {of_role}"),
            format!("ALTER ROLE {role} CONNECTION LIMIT {}", needed + BESIDE),
        )
    } else if is_less(of_database) {
        (
            format!("the database may have {of_database}"),
            format!("ALTER DATABASE … CONNECTION LIMIT {}", needed + BESIDE),
        )
    } else {
        return error;
    };
    PostgresError::Unsuitable {
        what: format!("this program needs {needed} connections to postgres, and {what}"),
        hint: format!(
            "{hint} (one more is for the windows, and one for questions while the others are silent)"
        ),
    }
}

/// Without verification, with a user that does not exist, and without a password: these go to a server whose
/// certificate was not accepted.
const UNVERIFIED: [(&str, &str); 5] = [
    ("sslrootcert", "/nonexistent"),
    ("user", "rfm-stream-asks-for-tls"),
    ("password", ""),
    ("passfile", "/nonexistent"),
    ("gssencmode", "disable"),
];

/// What to do if the settings of TLS are to blame: if the server answers without them, and still not with them.
/// `None`: it does not answer in any way, or it is back.
fn why_no_tls(address: &Address) -> Option<&'static str> {
    let answers = |mode: &'static str| {
        let changes: Vec<_> = UNVERIFIED.into_iter().chain([("sslmode", mode)]).collect();
        open(address, &changes).map_or_else(|refused| refused.is_answer(), |_| true)
    };
    let hint = if answers("require") {
        "the server's certificate is not accepted: check sslmode, sslrootcert and the host's name in FLAG"
    } else if answers("disable") {
        "the server offers no TLS: set it up there, or check sslmode in FLAG"
    } else {
        return None;
    };
    // A proxy accepts connections and closes them while its server is away. It may be back by now.
    let again = open(address, &[]);
    again.is_err_and(|refused| refused.in_tls && refused.sqlstate.is_none()).then_some(hint)
}

/// libpq's message without the places in the server's source.
pub(super) fn without_location(message: &str) -> String {
    let lines = message.lines().filter(|line| !is_location(line));
    one_line(&lines.collect::<Vec<_>>().join(" "))
}

/// `LOCATION:  InitPostgres, postinit.c:885`, in any language.
fn is_location(line: &str) -> bool {
    let is_place = |(_, number): (&str, &str)| number.bytes().all(|byte| byte.is_ascii_digit());
    line.contains(":  ") && line.contains(".c:") && line.rsplit_once(".c:").is_some_and(is_place)
}

/// A text without line breaks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_without_the_places_in_the_servers_source() {
        let said = "connection failed: FATAL:  3D000: database \"c:1\" does not exist\nORT:  InitPostgres, postinit.c:885\n";
        assert_eq!(
            without_location(said),
            "connection failed: FATAL: 3D000: database \"c:1\" does not exist"
        );
    }
}
