//! Postgres has gone mute: noticed from outside, since the threads that wait for it cannot.
//!
//! A connection is silent for as long as a statement takes, and libpq waits for ever. So once one has been silent for a
//! while, the session says so, and asks on a new connection what the matter is (`store::probe`). **A server that works on
//! it is waited for; one that does not answer, or does not know of it, ends the session**, and the next one may find
//! another server. A COPY that moves is never silent, however long it takes. The threads of an ended session are left
//! behind; they end with their connection.

use super::SessionError;
use crate::backoff::Steps;
use crate::reader::store::{
    CONNECTING, Probe, StoreError, Verdict, Waiting, Watch, judge, longest_connect, probe,
};
use futures_util::FutureExt as _;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Connections are looked at this often.
const TICK: Duration = Duration::from_millis(250);
/// Silence after which a new connection asks what the matter is; it asks again after as long.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// Silence worth a word.
const SAY_AFTER: Duration = Duration::from_secs(4);
/// A server that lets a connection in answers it within this long, or it has no answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks at the connections of a session.
pub(super) struct Watchdog {
    database_url: String,
    watches: Vec<Arc<Watch>>,
    tick: Interval,
    /// The wait that is worth a question.
    silent: Option<Silent>,
}

/// A wait that lasts.
struct Silent {
    waiting: Waiting,
    /// When it is spoken of.
    tell: Steps,
    /// What a new connection found out last.
    found: Option<String>,
    /// A question under way, and since when.
    asking: Option<JoinHandle<Probe>>,
    asked: Instant,
    /// How long it may take to be let in by a server.
    connecting: Duration,
}

impl Watchdog {
    pub(super) fn new(database_url: &str) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { database_url: database_url.to_owned(), watches: Vec::new(), tick, silent: None }
    }

    /// The notes for one more connection.
    pub(super) fn watch(&mut self) -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        self.watches.push(Arc::clone(&watch));
        watch
    }

    /// Does what needs Postgres, unless that is mute.
    pub(super) async fn guard<T>(
        &mut self,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        tokio::select! {
            biased;
            done = work => done,
            mute = self.alarm() => Err(mute),
        }
    }

    /// Returns once Postgres is mute, and never before. Nothing is lost if the future is dropped.
    pub(super) async fn alarm(&mut self) -> SessionError {
        loop {
            self.tick.tick().await;
            if let Err(mute) = self.look() {
                return mute.into();
            }
        }
    }

    /// Looks which connection has been silent for longest, and what that means.
    fn look(&mut self) -> Result<(), StoreError> {
        let longest = self.watches.iter().filter_map(|watch| watch.waiting()).min_by_key(|w| w.since);
        let Some(waiting) = longest.filter(|waiting| waiting.since.elapsed() >= ASK_AFTER) else {
            self.silent = None;
            return Ok(());
        };
        // What was found out about another wait says nothing of this one.
        let same = self.silent.take().filter(|silent| silent.waiting == waiting);
        let mut silent = same.unwrap_or_else(|| Silent::begin(waiting, &self.database_url));
        let judged = silent.judge(&self.database_url);
        self.silent = Some(silent);
        judged
    }
}

impl Silent {
    fn begin(waiting: Waiting, database_url: &str) -> Self {
        let (asking, connecting) = (Some(ask(&waiting, database_url)), longest_connect(database_url));
        Self { waiting, tell: Steps::default(), found: None, asking, asked: Instant::now(), connecting }
    }

    /// Takes in an answer, asks again, says so; an error if waiting does not help.
    fn judge(&mut self, database_url: &str) -> Result<(), StoreError> {
        let silence = self.waiting.since.elapsed();
        if let Some(probe) = self.answer() {
            match judge(&self.waiting, silence, probe) {
                Verdict::Working(how) => self.found = Some(how),
                Verdict::Mute(why) => return Err(self.mute(why)),
            }
        } else if self.asking.is_none() && self.asked.elapsed() >= ASK_AFTER {
            (self.asking, self.asked) = (Some(ask(&self.waiting, database_url)), Instant::now());
        }
        if silence >= SAY_AFTER && self.tell.due().is_some() {
            let found = self.found.as_deref().unwrap_or(match self.waiting.step {
                CONNECTING => "still connecting",
                _ => "a new connection has no answer yet either",
            });
            tracing::warn!(
                for_s = silence.as_secs(),
                step = self.waiting.step,
                "postgres has not answered: {found}"
            );
        }
        Ok(())
    }

    /// What a new connection found out, if it has by now.
    fn answer(&mut self) -> Option<Probe> {
        if self.waiting.step == CONNECTING {
            // libpq has a limit of its own until the server lets it in; the first statements have none.
            let over = self.waiting.since.elapsed() >= self.connecting + ASK_AFTER + ANSWER_TIMEOUT;
            return over.then(|| Probe::Unanswered("no host has let this reader in".to_owned()));
        }
        let asking = self.asking.as_mut()?;
        let answer = match asking.now_or_never() {
            Some(answer) => answer.unwrap_or_else(|error| Probe::Unanswered(error.to_string())),
            None if self.asked.elapsed() < self.connecting + ANSWER_TIMEOUT => return None,
            None => Probe::Unanswered(format!("no answer within {} s", self.asked.elapsed().as_secs())),
        };
        (self.asking, self.asked) = (None, Instant::now());
        Some(answer)
    }

    fn mute(&self, why: String) -> StoreError {
        StoreError::Mute { step: self.waiting.step, silence: self.waiting.since.elapsed(), why }
    }
}

/// Asks on a new connection, on a thread of its own.
fn ask(waiting: &Waiting, database_url: &str) -> JoinHandle<Probe> {
    let (backend, url) = (waiting.backend, database_url.to_owned());
    tokio::task::spawn_blocking(move || probe(&url, backend))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No server listens there.
    const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/none";

    #[tokio::test]
    async fn a_wait_without_any_answer_raises_the_alarm_and_a_connection_at_rest_does_not() {
        let mut watchdog = Watchdog::new(NOWHERE);
        let watch = watchdog.watch();
        let rest = tokio::time::timeout(2 * TICK, watchdog.alarm()).await;
        assert!(rest.is_err(), "nothing is waited for");

        let work = watch.begin("COMMIT");
        let begun = Instant::now();
        let error = watchdog.alarm().await.to_string();
        assert!(begun.elapsed() >= ASK_AFTER, "{:?}", begun.elapsed());
        assert!(error.contains("has not answered") && error.contains("COMMIT"), "{error}");
        drop(work);
    }

    #[tokio::test]
    async fn a_connection_that_moves_raises_no_alarm() {
        let mut watchdog = Watchdog::new(NOWHERE);
        let watch = watchdog.watch();
        let _work = watch.begin("COPY");
        let moving = async {
            for _ in 0..8 {
                tokio::time::sleep(ASK_AFTER / 6).await;
                watch.moved();
            }
            Ok(())
        };
        assert!(watchdog.guard(moving).await.is_ok());
    }
}
