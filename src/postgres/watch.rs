//! What a connection waits for, and since when.
//!
//! A thread that talks to Postgres blocks in libpq, which has no limit of its own. So it records here what it
//! began and every sign of life, and another task reads it.

use chrono::{DateTime, Utc};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A network slower than this counts as broken. In bytes.
const LEAST_BYTES_PER_SECOND: usize = 256 * 1024;

/// The step of a connection that is being made.
pub const CONNECTING: &str = "connecting";

/// The notes of one connection, shared by its thread and the task that watches it.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Notes>);

/// What a [`Watch`] holds.
#[derive(Debug, Default)]
struct Notes {
    /// What the connection waits for; `None` while it is idle.
    waiting: Option<Waiting>,
    /// When the server of the last transaction was started: two servers differ in this.
    server: Option<DateTime<Utc>>,
}

/// One wait for Postgres.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// What Postgres was asked for, in words for the log.
    pub step: &'static str,
    /// When it was asked for, or when data last moved on the connection.
    pub since: Instant,
    /// The server process that works on it, once that is known.
    pub backend: Option<Backend>,
    /// When the server of the transaction before was started, if there was one.
    pub server: Option<DateTime<Utc>>,
    /// How long the request may take to reach the server, by its size.
    pub sending: Duration,
}

/// A server process and the transaction that it works on for us. Behind a pooler, each transaction may have
/// another process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backend {
    /// The process id in the server.
    pub pid: i32,
    /// When the transaction began, by the server's clock. A process id alone may have been given to somebody
    /// else.
    pub begun: DateTime<Utc>,
}

/// While this lives, the connection works on something.
pub struct Work<'a>(&'a Watch);

impl Watch {
    /// Something is asked of Postgres.
    pub fn begin(&self, step: &'static str) -> Work<'_> {
        let mut notes = self.lock();
        let server = notes.server;
        notes.waiting =
            Some(Waiting { step, since: Instant::now(), backend: None, server, sending: Duration::ZERO });
        Work(self)
    }

    /// The next part of the same work.
    pub fn step(&self, step: &'static str) {
        self.send(step, 0);
    }

    /// The next part of the same work: a statement of `bytes`, whose progress cannot be seen.
    pub fn send(&self, step: &'static str, bytes: usize) {
        if let Some(waiting) = self.lock().waiting.as_mut() {
            let sending = Duration::from_secs((bytes / LEAST_BYTES_PER_SECOND) as u64);
            (waiting.step, waiting.since, waiting.sending) = (step, Instant::now(), sending);
        }
    }

    /// Data moved on the connection.
    pub fn moved(&self) {
        if let Some(waiting) = self.lock().waiting.as_mut() {
            waiting.since = Instant::now();
        }
    }

    /// `backend` works on it from here on, in a server that was started at `server`.
    pub fn served_by(&self, backend: Backend, server: DateTime<Utc>) {
        let mut notes = self.lock();
        notes.server = Some(server);
        if let Some(waiting) = notes.waiting.as_mut() {
            (waiting.backend, waiting.since) = (Some(backend), Instant::now());
        }
    }

    /// What the connection waits for now; `None` while it has nothing to do.
    pub fn waiting(&self) -> Option<Waiting> {
        self.lock().waiting.clone()
    }

    /// The lock is held for an assignment only, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_waits_only_while_it_works_and_for_what_it_began_last() {
        let watch = Watch::default();
        watch.step("nothing");
        assert_eq!(watch.waiting(), None);
        let work = watch.begin("BEGIN");
        let backend = Backend { pid: 7, begun: DateTime::UNIX_EPOCH };
        watch.served_by(backend, DateTime::UNIX_EPOCH);
        watch.step("COMMIT");
        let waiting = watch.waiting().unwrap();
        assert_eq!((waiting.step, waiting.backend), ("COMMIT", Some(backend)));
        watch.moved();
        assert!(watch.waiting().unwrap().since >= waiting.since);
        drop(work);
        assert_eq!(watch.waiting(), None);
        let _work = watch.begin("BEGIN");
        let waiting = watch.waiting().unwrap();
        assert_eq!((waiting.backend, waiting.server), (None, Some(DateTime::UNIX_EPOCH)));
    }
}
