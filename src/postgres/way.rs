//! What stands between this program and the server: TLS or not, and a pooler.
//!
//! A pooler shows in the number of the server's process: the one that the pooler gave when the connection was
//! made is not the one that answers. Its mode shows in who gets that process next.

use super::connecting::{self, without_location};
use super::libpq::{Connection, Refused};
use super::{Address, PostgresError};
use std::net::IpAddr;
use std::time::Duration;

/// How long a pooler may take to find a free process of the server. By then an idle one would be found.
const FREE_WITHIN: Duration = Duration::from_secs(2);

/// What stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether the connection has TLS.
    pub has_tls: bool,
    /// Whether the other end is on this host.
    pub is_local: bool,
    /// The pooler, if there is one.
    pub pooler: Option<Pooler>,
}

/// How a pooler shares the server's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// A connection keeps its process.
    Session,
    /// A connection has a process for a transaction.
    Transaction,
    /// A connection has a process for a statement, and no transaction can be begun.
    Statement,
    /// It has no process for another connection.
    Full,
}

impl Way {
    /// Looks at it, on connections of its own.
    ///
    /// # Errors
    /// [`PostgresError::Unreachable`]: a connection was refused.
    pub fn look(address: &Address) -> Result<Self, PostgresError> {
        let failed = |refused: Refused| PostgresError::Unreachable(without_location(&refused.message).into());
        let mut first = connecting::open(address, &[]).map_err(failed)?;
        let (has_tls, peer) = (first.uses_tls(), first.peer());
        let is_local = peer.parse().map_or(peer.is_empty(), |address: IpAddr| address.is_loopback());
        let pooler = match process(&mut first).map_err(failed)? {
            Some(process) if process == first.pid().to_string() => None,
            Some(process) => Some(mode(address, &mut first, &process).map_err(failed)?),
            None => Some(Pooler::Full),
        };
        Ok(Self { has_tls, is_local, pooler })
    }
}

/// The server's process that answers; `None` if none does.
fn process(connection: &mut Connection) -> Result<Option<String>, Refused> {
    match connection.value("SELECT pg_backend_pid()", FREE_WITHIN) {
        Err(refused) if refused == Refused::silence() => Ok(None),
        answer => answer.map(Some),
    }
}

/// The mode of a pooler behind which `first` had `process`, and does nothing now.
fn mode(address: &Address, first: &mut Connection, process: &str) -> Result<Pooler, Refused> {
    if first.value("BEGIN", FREE_WITHIN).is_err() {
        return Ok(Pooler::Statement);
    }
    first.value("ROLLBACK", FREE_WITHIN)?;
    let mut other = connecting::open(address, &[])?;
    let [other, again] = [self::process(&mut other)?, self::process(first)?];
    Ok(match (other, again) {
        (None, _) | (_, None) => Pooler::Full,
        (Some(other), Some(again)) if other == process || again != process => Pooler::Transaction,
        _ => Pooler::Session,
    })
}
