//! Whether a silent Postgres still works on a request: asked on a new connection.
//!
//! Silence has no visible reason. From here, a long statement, a lock and an absent synchronous standby look
//! like a frozen server or a proxy that drops packets. A new connection can tell them apart: it gets an
//! answer or not, and the server knows what our server process does.

use super::Address;
use super::connecting::{connect, one_line};
use super::watch::{Backend, Waiting};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Double, Integer, Nullable, Text, Timestamptz};
use std::error::Error as _;
use std::time::Duration;

/// A transaction that has not begun may wait for this long while the server answers others (a pooler whose
/// pool is exhausted). After that another connection is tried.
const LONGEST_BEGIN: Duration = Duration::from_secs(10);
/// A server process that has been idle for this long is not what we wait for.
const IDLE: Duration = Duration::from_secs(3);
/// The longest wait for a statement, whatever the server says.
const LONGEST_WORK: Duration = Duration::from_secs(600);

/// What a new connection found out.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// No server accepted the connection.
    Unanswered(String),
    /// A server answers and refuses another connection: nothing is known.
    NotAdmitted(String),
    /// A server answers, and none of its processes works for us. When that server was started.
    Nobody(DateTime<Utc>),
    /// The server answers, and this is what our server process does.
    Activity(Activity),
}

/// What a server process does, by `pg_stat_activity`.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Activity {
    /// Whether it executes a statement.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    active: bool,
    /// For how many seconds it has been in this state.
    #[diesel(sql_type = Double)]
    for_s: f64,
    /// What it waits for, as `Lock transactionid`.
    #[diesel(sql_type = Nullable<Text>)]
    waits_for: Option<String>,
    /// Who holds what it waits for.
    #[diesel(sql_type = Nullable<Text>)]
    blockers: Option<String>,
}

/// What a probe means for the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diagnosis {
    /// The server works on it. Says how.
    Working(String),
    /// Waiting does not help. Says why.
    Mute(String),
}

/// What a process does. Where this role may not look at it (`ALTER ROLE … SET role`), only that it exists.
const ACTIVITY: &str = "
    SELECT coalesce(a.state = 'active', true) AS active,
        coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::float8 AS for_s,
        a.wait_event_type || ' ' || a.wait_event AS waits_for,
        (SELECT string_agg(format('pid %s %s', b.pid, coalesce(nullif(b.application_name, ''), b.usename)), ', ')
         FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))) AS blockers
    FROM pg_stat_activity a
    WHERE a.pid = $1 AND (a.xact_start = $2 OR a.xact_start IS NULL AND a.state IS NULL)";

/// Asks on a new connection what `backend` does. Blocks for as long as connecting may take.
pub fn probe(address: &Address, backend: Option<Backend>) -> Probe {
    let mut connection = match connect(address) {
        Ok(connection) => connection,
        Err(error) => {
            let is_answered = error.refused_with().is_some();
            let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            return if is_answered { Probe::NotAdmitted(said) } else { Probe::Unanswered(said) };
        }
    };
    let mut asked = || -> QueryResult<Probe> {
        if let Some(Backend { pid, begun }) = backend {
            let activity = diesel::sql_query(ACTIVITY).bind::<Integer, _>(pid).bind::<Timestamptz, _>(begun);
            if let Some(activity) = activity.get_result(&mut connection).optional()? {
                return Ok(Probe::Activity(activity));
            }
        }
        let started: Started = diesel::sql_query(STARTED).get_result(&mut connection)?;
        Ok(Probe::Nobody(started.server))
    };
    asked().unwrap_or_else(|error| Probe::Unanswered(error.to_string()))
}

const STARTED: &str = "SELECT pg_postmaster_start_time() AS server";

/// What [`STARTED`] answers.
#[derive(QueryableByName)]
struct Started {
    /// When the server was started.
    #[diesel(sql_type = Timestamptz)]
    server: DateTime<Utc>,
}

/// What a probe means for a wait that has been silent for `silence`.
pub fn judge(waiting: &Waiting, silence: Duration, probe: Probe) -> Diagnosis {
    match probe {
        Probe::Unanswered(why) => Diagnosis::Mute(format!("a new connection fails, too: {}", one_line(&why))),
        Probe::NotAdmitted(why) if silence < LONGEST_WORK => Diagnosis::Working(format!(
            "the server answers, but refuses another connection to ask on: {}",
            one_line(&why)
        )),
        Probe::NotAdmitted(_) => Diagnosis::Mute("the server answers, but not this connection".to_owned()),
        Probe::Nobody(server) if waiting.server.is_some_and(|before| before != server) => {
            Diagnosis::Mute("another server answers now".to_owned())
        }
        Probe::Nobody(_) if waiting.backend.is_some() => {
            Diagnosis::Mute("the server answers others, but does not know this transaction".to_owned())
        }
        Probe::Nobody(_) if silence < LONGEST_BEGIN => Diagnosis::Working(
            "the server answers others; a pooler may have no free server connection".to_owned(),
        ),
        Probe::Nobody(_) => Diagnosis::Mute("the server answers others, but not this connection".to_owned()),
        Probe::Activity(activity) => activity.judge(silence, waiting.sending),
    }
}

impl Activity {
    /// `sending` is how long the request may take to reach the server.
    fn judge(self, silence: Duration, sending: Duration) -> Diagnosis {
        let waits_for = self.waits_for.unwrap_or_default();
        let awaits_us = !self.active || waits_for == "Client ClientRead";
        if awaits_us && silence >= sending && self.for_s >= IDLE.as_secs_f64() {
            return Diagnosis::Mute(
                "the server waits for this connection, which waits for the server".to_owned(),
            );
        }
        if silence >= LONGEST_WORK {
            return Diagnosis::Mute(format!("the server has worked on it for too long ({waits_for})"));
        }
        Diagnosis::Working(match (self.blockers, waits_for.as_str()) {
            (Some(blockers), _) => format!("the server waits for a lock held by {blockers}"),
            (None, "IPC SyncRep") => "the server waits for its synchronous standby".to_owned(),
            (None, "") => "the server works on it".to_owned(),
            (None, "Client ClientRead") => {
                "the server waits for the rest of what this program sends".to_owned()
            }
            (None, waits_for) => format!("the server works on it and waits for {waits_for}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The server of the transaction before.
    const SAME: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn waiting(known: bool) -> Waiting {
        let backend = known.then_some(Backend { pid: 7, begun: DateTime::UNIX_EPOCH });
        Waiting {
            step: "COMMIT",
            since: Instant::now(),
            backend,
            server: Some(DateTime::UNIX_EPOCH),
            sending: Duration::ZERO,
        }
    }

    fn activity(active: bool, for_s: f64, waits_for: Option<&str>, blockers: Option<&str>) -> Probe {
        let [waits_for, blockers] = [waits_for, blockers].map(|words| words.map(ToOwned::to_owned));
        Probe::Activity(Activity { active, for_s, waits_for, blockers })
    }

    #[test]
    fn a_large_message_on_its_way_is_waited_for() {
        let waiting = Waiting { sending: Duration::from_secs(30), ..waiting(true) };
        let probe = || activity(true, 20.0, Some("Client ClientRead"), None);
        let diagnosis = |silence| judge(&waiting, Duration::from_secs(silence), probe());
        assert!(matches!(diagnosis(20), Diagnosis::Working(_)));
        assert!(matches!(diagnosis(31), Diagnosis::Mute(_)));
    }

    #[test]
    fn what_a_new_connection_finds_decides_whether_waiting_helps() {
        let cases = [
            // known backend, silence in s, probe, whether it is mute, words
            (true, 4, Probe::Unanswered("timeout\n expired".into()), true, "timeout expired"),
            (false, 4, Probe::Unanswered("timeout".into()), true, "a new connection fails"),
            (true, 4, Probe::Nobody(SAME), true, "does not know"),
            (false, 4, Probe::Nobody(SAME), false, "pooler"),
            (false, 10, Probe::Nobody(SAME), true, "but not this connection"),
            (false, 4, Probe::Nobody(SAME + Duration::from_secs(60)), true, "another server"),
            (true, 4, activity(true, 4.0, None, None), false, "works on it"),
            (true, 4, activity(true, 4.0, Some("IO DataFileRead"), None), false, "DataFileRead"),
            (true, 9, activity(true, 9.0, Some("Lock relation"), Some("pid 9 psql")), false, "pid 9 psql"),
            (true, 60, activity(true, 60.0, Some("IPC SyncRep"), None), false, "synchronous standby"),
            (true, 600, activity(true, 600.0, Some("IPC SyncRep"), None), true, "for too long"),
            (
                true,
                4,
                activity(true, 3.9, Some("Client ClientRead"), None),
                true,
                "waits for this connection",
            ),
            (
                true,
                4,
                activity(false, 3.9, Some("Client ClientRead"), None),
                true,
                "waits for this connection",
            ),
            // It has answered just now; the answer is on its way.
            (true, 4, activity(false, 0.1, Some("Client ClientRead"), None), false, "rest of what"),
            (
                true,
                4,
                Probe::NotAdmitted("FATAL:  too many connections".into()),
                false,
                "too many connections",
            ),
        ];
        for (known, silence, probe, mute, words) in cases {
            let name = format!("{probe:?}");
            let diagnosis = judge(&waiting(known), Duration::from_secs(silence), probe);
            let (Diagnosis::Mute(said) | Diagnosis::Working(said)) = &diagnosis;
            assert!(said.contains(words), "{name}: {said}");
            assert_eq!(matches!(diagnosis, Diagnosis::Mute(_)), mute, "{name}");
        }
    }
}
