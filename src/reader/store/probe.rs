//! Whether Postgres works on what it was asked for, or has gone mute: asked on a new connection.
//!
//! A silent connection says nothing of its reason. A long statement, a lock and a synchronous standby that is away look
//! the same from here as a frozen server, or a proxy that swallows. A new connection can tell them apart: it gets an
//! answer or not, and the server knows what the process does that works for us.

use super::address;
use super::watch::{Backend, Waiting};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Double, Integer, Nullable, Text, Timestamptz};
use std::time::Duration;

/// A server that answers others may keep a statement that has not begun waiting for this long (a pooler whose pool is
/// exhausted); then another connection is tried.
const LONGEST_BEGIN: Duration = Duration::from_secs(10);
/// A server process that has had nothing to do for this long has no part in our waiting.
const IDLE: Duration = Duration::from_secs(3);
/// No statement is waited for longer, whatever the server says.
const LONGEST_WORK: Duration = Duration::from_secs(600);

/// What a new connection found out.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// No server lets us in.
    Unanswered(String),
    /// A server answers, and does not admit another connection: nothing is known.
    NotAdmitted(String),
    /// A server answers, and nobody in it works for us. When it was started.
    Nobody(DateTime<Utc>),
    /// The server answers, and this is what the process does that works for us.
    Activity(Activity),
}

/// What a server process does; see `pg_stat_activity`.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Activity {
    /// It executes a statement.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    active: bool,
    /// In this state for so many seconds.
    #[diesel(sql_type = Double)]
    for_s: f64,
    /// What it waits for, as `Lock transactionid`.
    #[diesel(sql_type = Nullable<Text>)]
    waits_for: Option<String>,
    /// Who holds what it waits for.
    #[diesel(sql_type = Nullable<Text>)]
    blockers: Option<String>,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server works on it, and says how.
    Working(String),
    /// Waiting does not help.
    Mute(String),
}

/// What a process does; of one that this role may not look at (`ALTER ROLE … SET role`), that it is there.
const ACTIVITY: &str = "
    SELECT coalesce(a.state = 'active', true) AS active,
        coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::float8 AS for_s,
        a.wait_event_type || ' ' || a.wait_event AS waits_for,
        (SELECT string_agg(format('pid %s %s', b.pid, coalesce(nullif(b.application_name, ''), b.usename)), ', ')
         FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))) AS blockers
    FROM pg_stat_activity a
    WHERE a.pid = $1 AND (a.xact_start = $2 OR a.xact_start IS NULL AND a.state IS NULL)";

/// Asks on a new connection. Blocks for as long as connecting may take.
pub fn probe(database_url: &str, backend: Option<Backend>) -> Probe {
    let asked = || -> Result<Probe, Box<dyn std::error::Error>> {
        let mut connection = PgConnection::establish(&address::with_defaults(database_url))?;
        if let Some(Backend { pid, begun }) = backend {
            let activity = diesel::sql_query(ACTIVITY).bind::<Integer, _>(pid).bind::<Timestamptz, _>(begun);
            if let Some(activity) = activity.get_result(&mut connection).optional()? {
                return Ok(Probe::Activity(activity));
            }
        }
        let started: Started = diesel::sql_query(STARTED).get_result(&mut connection)?;
        Ok(Probe::Nobody(started.server))
    };
    asked().unwrap_or_else(|error| {
        let error = error.to_string();
        if error.contains(SAID_BY_A_SERVER) { Probe::NotAdmitted(error) } else { Probe::Unanswered(error) }
    })
}

/// How libpq quotes a server that turns a connection away. (Some languages have another word; then a wait of seconds
/// ends the session, and the next one goes on.)
const SAID_BY_A_SERVER: &str = "FATAL:";

const STARTED: &str = "SELECT pg_postmaster_start_time() AS server";

#[derive(QueryableByName)]
struct Started {
    #[diesel(sql_type = Timestamptz)]
    server: DateTime<Utc>,
}

/// What a probe means for a wait that has been silent for so long.
pub fn judge(waiting: &Waiting, silence: Duration, probe: Probe) -> Verdict {
    match probe {
        Probe::Unanswered(why) => Verdict::Mute(format!("no new connection either: {}", one_line(&why))),
        Probe::NotAdmitted(why) if silence < LONGEST_WORK => Verdict::Working(format!(
            "the server answers, and admits no other connection to ask: {}",
            one_line(&why)
        )),
        Probe::NotAdmitted(_) => Verdict::Mute("the server answers, and not this connection".to_owned()),
        Probe::Nobody(server) if waiting.server.is_some_and(|before| before != server) => {
            Verdict::Mute("another server answers now".to_owned())
        }
        Probe::Nobody(_) if waiting.backend.is_some() => {
            Verdict::Mute("the server answers others and knows nothing of this transaction".to_owned())
        }
        Probe::Nobody(_) if silence < LONGEST_BEGIN => Verdict::Working(
            "the server answers others; a pooler may have no server connection free".to_owned(),
        ),
        Probe::Nobody(_) => Verdict::Mute("the server answers others, and not this connection".to_owned()),
        Probe::Activity(activity) => activity.judge(silence, waiting.sending),
    }
}

impl Activity {
    /// `sending` is how long what was asked for may take on its way.
    fn judge(self, silence: Duration, sending: Duration) -> Verdict {
        let waits_for = self.waits_for.unwrap_or_default();
        let awaits_us = !self.active || waits_for == "Client ClientRead";
        if awaits_us && silence >= sending && self.for_s >= IDLE.as_secs_f64() {
            return Verdict::Mute(
                "the server waits for this connection, as this connection for it".to_owned(),
            );
        }
        if silence >= LONGEST_WORK {
            return Verdict::Mute(format!("the server works on it, but not for ever ({waits_for})"));
        }
        Verdict::Working(match (self.blockers, waits_for.as_str()) {
            (Some(blockers), _) => format!("the server waits for a lock that is held by {blockers}"),
            (None, "IPC SyncRep") => "the server waits for its synchronous standby".to_owned(),
            (None, "") => "the server works on it".to_owned(),
            (None, "Client ClientRead") => {
                "the server waits for the rest of what this reader sends".to_owned()
            }
            (None, waits_for) => format!("the server works on it, and waits for {waits_for}"),
        })
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The server that did the work before.
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
        let verdict = |silence| judge(&waiting, Duration::from_secs(silence), probe());
        assert!(matches!(verdict(20), Verdict::Working(_)));
        assert!(matches!(verdict(31), Verdict::Mute(_)));
    }

    #[test]
    fn what_a_new_connection_finds_decides_whether_waiting_helps() {
        let cases = [
            // known backend, silence in s, probe, whether it is mute, words
            (true, 4, Probe::Unanswered("timeout\n expired".into()), true, "timeout expired"),
            (false, 4, Probe::Unanswered("timeout".into()), true, "no new connection"),
            (true, 4, Probe::Nobody(SAME), true, "knows nothing"),
            (false, 4, Probe::Nobody(SAME), false, "pooler"),
            (false, 10, Probe::Nobody(SAME), true, "not this connection"),
            (false, 4, Probe::Nobody(SAME + Duration::from_secs(60)), true, "another server"),
            (true, 4, activity(true, 4.0, None, None), false, "works on it"),
            (true, 4, activity(true, 4.0, Some("IO DataFileRead"), None), false, "DataFileRead"),
            (true, 9, activity(true, 9.0, Some("Lock relation"), Some("pid 9 psql")), false, "pid 9 psql"),
            (true, 60, activity(true, 60.0, Some("IPC SyncRep"), None), false, "synchronous standby"),
            (true, 600, activity(true, 600.0, Some("IPC SyncRep"), None), true, "not for ever"),
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
            let verdict = judge(&waiting(known), Duration::from_secs(silence), probe);
            let (Verdict::Mute(said) | Verdict::Working(said)) = &verdict;
            assert!(said.contains(words), "{name}: {said}");
            assert_eq!(matches!(verdict, Verdict::Mute(_)), mute, "{name}");
        }
    }
}
