//! `reader check`: everything that can be asked before a reader starts, or beside one that runs.
//!
//! Owns the list. Does not own how an answer is written (`checklist`). The questions are in `group`, `server`,
//! `tables` and `positions`, and in `checklist::brokers`.
//!
//! **Nothing is changed, and the group is not joined.** What a commit does is tried in a transaction that is
//! rolled back.

mod group;
mod positions;
mod server;
mod tables;

use super::Options;
use super::session::log::Watermarks;
use super::session::{SessionError, opening};
use super::store::{KafkaSource, Store};
use super::verdict::{Verdict, verdict};
use crate::checklist::brokers::Brokers;
use crate::checklist::{Answer, Question, go_through, one_line};
use crate::failure::Failure;
use crate::kafka::Right;
use crate::postgres::{Facts, Way};
use crate::reader::pairing::Taken;
use crate::shutdown::Shutdown;
use std::process::ExitCode;

/// What is asked about, and what was found out so far.
struct Subject {
    /// What the flags say.
    options: Options,
    /// The brokers.
    brokers: Brokers,
    /// A connection to Postgres; `None` before there is one.
    store: Option<Store>,
    /// What the server says of itself.
    facts: Option<Facts>,
    /// What stands before it.
    way: Option<Way>,
    /// Whether it accepts writes.
    is_writable: bool,
    /// Whether the tables are there, and as they must be.
    has_tables: bool,
    /// Whether the group has a row in `sources` that is of this cluster and these topics.
    is_known: bool,
    /// The stored positions that the logs have, with these logs; `None` if that is not so.
    positions: Option<Vec<(Taken, Watermarks)>>,
}

/// The list. A question may rely on those before it.
static QUESTIONS: [Question<Subject>; 27] = [
    Question { name: "brokers", ask: |subject| subject.brokers.answer() },
    Question { name: "topics", ask: group::topics },
    Question { name: "leaders", ask: |subject| subject.brokers.leaders() },
    Question { name: "right on the topics", ask: |subject| subject.brokers.right_on_topics() },
    Question { name: "right on the group", ask: group::right },
    Question { name: "retention", ask: group::retention },
    Question { name: "members of the group", ask: group::members },
    Question { name: "times of messages", ask: |subject| subject.brokers.times() },
    Question { name: "postgres", ask: server::version },
    Question { name: "encryption", ask: server::encryption },
    Question { name: "pooler", ask: server::pooler },
    Question { name: "writing", ask: server::writing },
    Question { name: "settings", ask: server::settings },
    Question { name: "connections", ask: server::connections },
    Question { name: "clock of postgres", ask: server::clock },
    Question { name: "tables", ask: tables::tables },
    Question { name: "windows", ask: tables::windows },
    Question { name: "edges", ask: tables::edges },
    Question { name: "commit", ask: tables::commit },
    Question { name: "right to expire", ask: tables::right_to_expire },
    Question { name: "rows", ask: tables::rows },
    Question { name: "rules", ask: tables::rules },
    Question { name: "dead letters", ask: tables::dead_letters },
    Question { name: "source of the group", ask: positions::source },
    Question { name: "positions", ask: positions::positions },
    Question { name: "logs", ask: positions::logs },
    Question { name: "other databases", ask: positions::other_databases },
];

/// Asks everything. Exit code 1 if something would keep the reader from its work.
///
/// # Errors
/// It was asked to stop.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<ExitCode, Failure> {
    let brokers = Brokers::new(options.kafka.clone(), Right::Read);
    let subject = Subject {
        options,
        brokers,
        store: None,
        facts: None,
        way: None,
        is_writable: false,
        has_tables: false,
        is_known: false,
        positions: None,
    };
    go_through(&QUESTIONS, subject, &shutdown).await
}

impl Subject {
    /// Whose offsets the group counts. Without a broker, no cluster.
    fn source(&self) -> KafkaSource {
        opening::source(&self.options, self.brokers.id.clone().unwrap_or_default())
    }

    fn store(&mut self) -> Result<&mut Store, Answer> {
        self.store.as_mut().ok_or_else(|| Answer::skipped("there is no connection to postgres"))
    }

    /// The connection, if the tables are there.
    fn tables(&mut self) -> Result<&mut Store, Answer> {
        if !self.has_tables {
            return Err(Answer::skipped("the tables are not there, or not as they should be"));
        }
        self.store()
    }

    /// What an error means, as if the reader had met it.
    fn failed(&self, error: impl Into<SessionError>) -> Answer {
        let error = error.into();
        let hint = match verdict(&error, &self.options.group_id) {
            Verdict::End { hint, .. } => hint,
            Verdict::Rejoin | Verdict::Retry => format!(
                "the reader would wait until this is over; look at the server at {}",
                self.options.database
            ),
        };
        Answer::failed(one_line(&format!("{:#}", anyhow::Error::new(error))), hint)
    }
}
