//! The server: what it is, what stands before it, and how it is set up.

use super::Subject;
use crate::checklist::brokers::LARGEST_SKEW;
use crate::checklist::{Answer, Findings, Outcome};
use crate::postgres::{Facts, Pooler, Way};
use crate::reader::session::opening::WRITERS;
use crate::reader::store::{Store, StoreError};
use std::sync::Arc;

/// The oldest version that works, and the newest that is tested.
const OLDEST: i32 = 13;
const NEWEST_TESTED: i32 = 18;

/// Connections of a reader: one of them is for the windows, one for the page, and one to ask on while another is silent.
const CONNECTIONS: i64 = WRITERS as i64 + 4;
/// Without these it does not start.
const LEAST: i64 = WRITERS as i64 + 1;

pub(super) fn version(subject: &mut Subject) -> Outcome {
    let connected = Store::connect(&subject.options.database, subject.source(), Arc::default());
    let mut store = connected.map_err(|error| subject.failed(error))?;
    let facts = store.facts().map_err(|error| match Way::look(&subject.options.database) {
        // Its transactions do not begin.
        Ok(Way { pooler: Some(Pooler::Statement), .. }) => statement_mode(),
        _ => subject.failed(error),
    })?;
    let at = &subject.options.database;
    let (what, major) =
        (format!("version {} at {at}, as `{}`", facts.version, facts.role), facts.number / 10_000);
    (subject.store, subject.facts) = (Some(store), Some(facts));
    Ok(if major < OLDEST {
        Answer::failed(
            what,
            format!("PostgreSQL {OLDEST} is the oldest version that works: upgrade the server"),
        )
    } else if major > NEWEST_TESTED {
        Answer::warn(what, format!("PostgreSQL {NEWEST_TESTED} is the newest version that was tested"))
    } else {
        Answer::Ok(what)
    })
}

pub(super) fn encryption(subject: &mut Subject) -> Outcome {
    subject.store()?;
    let way =
        Way::look(&subject.options.database).map_err(|error| subject.failed(StoreError::from(error)))?;
    subject.way = Some(way);
    Ok(encrypted(way))
}

fn encrypted(Way { has_tls, is_local, .. }: Way) -> Answer {
    match (has_tls, is_local) {
        (true, _) => Answer::Ok("TLS".to_owned()),
        (false, true) => Answer::Ok("no TLS, and the server is on this host".to_owned()),
        (false, false) => Answer::warn(
            "no TLS: the rows go over the network as they are, and so may the password",
            "set up TLS on the server, and sslmode=verify-full in --database-url",
        ),
    }
}

pub(super) fn pooler(subject: &mut Subject) -> Outcome {
    subject.store()?;
    let way = subject.way.ok_or_else(|| Answer::skipped("no second connection was made"))?;
    let found = match way.pooler {
        None => "none",
        Some(Pooler::Session) => "one in session mode",
        Some(Pooler::Transaction) => "one in transaction mode",
        Some(Pooler::Statement) => return Ok(statement_mode()),
        Some(Pooler::Full) => {
            return Ok(Answer::warn(
                "one that has no free connection to the server",
                format!("give the pool room for {CONNECTIONS} per reader (default_pool_size)"),
            ));
        }
    };
    Ok(Answer::Ok(found.to_owned()))
}

fn statement_mode() -> Answer {
    Answer::failed(
        "a pooler in statement mode",
        "a commit is a transaction of several statements: set pool_mode to transaction or session",
    )
}

pub(super) fn writing(subject: &mut Subject) -> Outcome {
    let answer = writable(facts(subject)?);
    subject.is_writable = matches!(answer, Answer::Ok(_));
    Ok(answer)
}

fn writable(facts: &Facts) -> Answer {
    if facts.is_standby {
        return Answer::failed(
            "this is a standby, which only reads",
            "give the primary; of a cluster give all hosts, postgres://USER@HOST1,HOST2/DATABASE: the reader takes the one \
             that accepts writes",
        );
    }
    if facts.setting("default_transaction_read_only") == "on" {
        return Answer::failed(
            "transactions only read here (default_transaction_read_only)",
            "ALTER DATABASE … or ALTER ROLE … RESET default_transaction_read_only; or in `options` of --database-url",
        );
    }
    Answer::Ok("it accepts writes".to_owned())
}

pub(super) fn settings(subject: &mut Subject) -> Outcome {
    Ok(judge_settings(facts(subject)?))
}

fn judge_settings(facts: &Facts) -> Answer {
    let mut found = Findings::default();
    let commits = facts.setting("synchronous_commit");
    for (name, bad, harm) in [
        (
            "synchronous_commit",
            "off",
            "a crash loses the last commits, and the reader has to store them again from Kafka",
        ),
        ("fsync", "off", "a crash of the host destroys the tables"),
        ("full_page_writes", "off", "a crash of the host may destroy the tables"),
        (
            "autovacuum",
            "off",
            "`progress` grows with every commit, and the index of `segments` does not cover new rows",
        ),
    ] {
        if facts.setting(name) == bad {
            found.warn(format!("{name} is {bad}: {harm}"), format!("set {name} to on"));
        }
    }
    if !["", "0"].contains(&facts.setting("idle_session_timeout")) {
        found.warn(
            "idle_session_timeout ends connections that wait for the next batch",
            "set it to 0 for this role: ALTER ROLE … SET idle_session_timeout = 0",
        );
    }
    if !facts.setting("synchronous_standby_names").is_empty()
        && !["off", "local"].contains(&commits)
        && facts.standbys == 0
    {
        found.fail(
            "commits wait for a synchronous standby (synchronous_standby_names), and none is connected",
            "start the standby, or take it out of synchronous_standby_names",
        );
    }
    found.answer("none that hurts")
}

pub(super) fn connections(subject: &mut Subject) -> Outcome {
    Ok(room(facts(subject)?))
}

/// Judges whether the limits leave room for a reader.
fn room(facts: &Facts) -> Answer {
    let mut found = Findings::default();
    let whose = [format!("role `{}`", facts.role), "the database".to_owned(), "the server".to_owned()];
    // This program has one itself.
    let limits = facts.limits.iter().zip(&facts.used).map(|(limit, used)| (i64::from(*limit), used - 1));
    for (whose, (limit, used)) in whose.iter().zip(limits) {
        if (0..LEAST).contains(&limit) {
            let hint = format!(
                "allow it {CONNECTIONS}: ALTER ROLE or ALTER DATABASE … CONNECTION LIMIT, max_connections"
            );
            found.fail(format!("{whose} may have {limit}, and a reader needs {LEAST}"), hint);
        } else if limit >= 0 && limit - used < CONNECTIONS {
            found.warn(
                format!("{whose} may have {limit}, and {used} are in use"),
                format!("a reader needs {CONNECTIONS} beside what others have (those of a reader that runs count as used)"),
            );
        }
    }
    found.answer(format!("there is room for the {CONNECTIONS} of a reader"))
}

pub(super) fn clock(subject: &mut Subject) -> Outcome {
    let skew = subject.store()?.clock_skew();
    let skew = skew.map_err(|error| subject.failed(error))?;
    if skew <= LARGEST_SKEW {
        return Ok(Answer::Ok("like that of this host".to_owned()));
    }
    Ok(Answer::warn(
        format!("{:.1} s from that of this host", skew.as_secs_f64()),
        "set the clocks by NTP; `stored_at` is by the clock of the server",
    ))
}

fn facts(subject: &Subject) -> Result<&Facts, Answer> {
    subject.facts.as_ref().ok_or_else(|| Answer::skipped("there is no connection to postgres"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_leave_this_host_need_tls() {
        let way = |has_tls, is_local| Way { has_tls, is_local, pooler: None };
        assert!(matches!(encrypted(way(true, false)), Answer::Ok(_)));
        assert!(matches!(encrypted(way(false, true)), Answer::Ok(_)));
        assert!(matches!(encrypted(way(false, false)), Answer::Warn { .. }));
    }
}
