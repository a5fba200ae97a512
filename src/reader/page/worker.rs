//! The page's thread and its connection to Postgres, **which is never that of a commit**.
//!
//! While somebody looks, it asks for the state of the tables three times a second, and draws again what has
//! changed. When nobody has looked for a minute, it has no connection.
//!
//! **It rests after each work nine times as long as that took, half a second at most.** So it takes a tenth of one
//! of Postgres's processors as long as an answer takes less than 55 ms. Slow ones one after
//! the other, such as movements between large batches, take most of one; never more, for it has one connection.

use super::answers::Answer;
use super::desk::Desk;
use super::draw;
use super::queries::{Population, Queries, Version};
use super::request::Question;
use crate::postgres::{Address, Client, Isolation, PostgresError, Watch, chain};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often it looks whether something has changed.
const TICK: Duration = Duration::from_millis(300);
/// Somebody looks at the page who asked for something within this time.
const WATCHED: Duration = Duration::from_secs(10);
/// Without anybody who looks, the connection is closed after this time.
const IDLE: Duration = Duration::from_secs(60);
/// A pause after an error of Postgres.
const PAUSE: Duration = Duration::from_millis(700);
/// The longest rest after a work.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// How often all populations are looked for. (New ones are seen at once.)
const ALL_POPULATIONS: Duration = Duration::from_secs(60);
/// How long a statement may take. **For the movements, it is longer**: they read all rows of two batches.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3);

/// See the module.
pub struct Worker {
    /// Where questions lie.
    desk: Arc<Desk>,
    /// Where the database is.
    address: Address,
    /// Whose batches are shown.
    group: String,
    /// The connection, if there is one.
    client: Option<Client>,
    /// The populations, and when all were looked for.
    populations: (BTreeSet<Population>, Option<Instant>),
}

impl Worker {
    pub fn new(desk: Arc<Desk>, address: Address, group: String) -> Self {
        Self { desk, address, group, client: None, populations: (BTreeSet::new(), None) }
    }

    /// Works for as long as the process lives.
    pub fn run(mut self) {
        loop {
            let question = self.desk.next(TICK);
            if question.is_none() && !self.desk.was_asked(WATCHED) {
                if self.client.is_some() && !self.desk.was_asked(IDLE) {
                    self.client = None;
                    self.populations = (BTreeSet::new(), None);
                    self.desk.clear();
                }
                continue;
            }
            let begun = Instant::now();
            self.desk.is_busy(true);
            let done = self.work(question);
            self.desk.is_busy(false);
            if let Err(error) = done {
                self.client = None;
                tracing::debug!(%error, "the page cannot read");
                self.desk.is_away(chain(&error));
                sleep(PAUSE);
            }
            sleep((begun.elapsed() * 9).min(LONGEST_REST));
        }
    }

    /// Answers a question, and again those that somebody looks at and whose answers are not true any more.
    ///
    /// # Errors
    /// Postgres is away.
    fn work(&mut self, question: Option<Question>) -> Result<(), PostgresError> {
        let version = self.version()?;
        let mut due = self.desk.confirm(version);
        if let Some(question) = question
            && !self.desk.answer_again(&question, version)
        {
            due.retain(|other| *other != question);
            due.insert(0, question);
        }
        for question in due {
            if self.desk.has_moves(&question) && self.stand(&question)? {
                self.desk.moves_stand(&question);
                continue;
            }
            match self.draw(&question) {
                Ok((version, answer)) => self.desk.answer(question, version, answer),
                Err(error) => {
                    // The connection may be broken, or have been left in the middle of something.
                    self.client = None;
                    let version = self.version()?;
                    tracing::debug!(%error, ?question, "the page cannot show something");
                    let why = chain(&error);
                    let answer = draw::failed(&question, &why);
                    self.desk.fail(question, version, why, answer);
                }
            }
        }
        Ok(())
    }

    /// In which state the tables are.
    fn version(&mut self) -> Result<Version, PostgresError> {
        self.ask(LONGEST_STATEMENT, |queries, _| queries.version())
    }

    /// Whether both batches of these movements are there.
    fn stand(&mut self, question: &Question) -> Result<bool, PostgresError> {
        let (Question::Moves { from, to } | Question::Matrix { from, to }) = *question else {
            return Ok(false);
        };
        self.ask(LONGEST_STATEMENT, |queries, _| queries.are_there(from, to))
    }

    /// The answer to a question, and the state of the tables in which it is true.
    fn draw(&mut self, question: &Question) -> Result<(Version, Answer), PostgresError> {
        let is_view = matches!(question, Question::View(_));
        if is_view && self.populations.1.is_none_or(|when| when.elapsed() >= ALL_POPULATIONS) {
            self.look_for_populations();
        }
        self.ask(draw::limit(question, LONGEST_STATEMENT), |queries, populations| {
            let version = queries.version()?;
            if is_view {
                populations.extend(queries.populations(false)?);
            }
            Ok((version, draw::draw(queries, question, populations)?))
        })
    }

    /// Looks for all populations. **If that takes too long, the list stays as it was**, and new ones are added.
    fn look_for_populations(&mut self) {
        let found = self.ask(LONGEST_STATEMENT, |queries, populations| {
            *populations = queries.populations(true)?.into_iter().collect();
            Ok(())
        });
        self.populations.1 = Some(Instant::now());
        if let Err(error) = found {
            self.client = None;
            tracing::debug!(%error, "the page cannot list all populations");
        }
    }

    /// Runs `work` in a transaction that only reads.
    fn ask<T>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(&mut Queries<'_>, &mut BTreeSet<Population>) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        let Self { client, address, group, populations, .. } = self;
        let client = match client {
            Some(client) => client,
            None => client.insert(Client::connect(address, Arc::new(Watch::default()))?),
        };
        client.transaction("drawing the page", Isolation::ReadOnlySnapshot, |connection, _| {
            let mut queries = Queries { connection, group };
            queries.within(limit)?;
            work(&mut queries, &mut populations.0)
        })
    }
}
