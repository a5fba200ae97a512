//! Notices that Postgres has gone mute, which the threads that wait for it cannot.
//!
//! A connection is silent for as long as a statement takes, and libpq waits for ever. So once a connection
//! has been silent for a while, the session logs it and asks on a new connection what is wrong
//! (`postgres::probe`). **If the server is at work on the statement, the session waits. If it does not
//! answer, or does not know the connection, the session ends**, and the next one may find another server. A
//! COPY that moves is never silent, however long it takes. The threads of an ended session are left behind
//! and end with their connections.

use super::SessionError;
use crate::backoff::LogThrottle;
use crate::health::{Health, Obstacle};
use crate::postgres::{Address, CONNECTING, Diagnosis, PostgresError, Probe, Waiting, Watch, judge, probe};
use crate::reader::store::StoreError;
use futures_util::FutureExt as _;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the connections are checked.
const TICK: Duration = Duration::from_millis(250);
/// Silence after which a new connection asks what is wrong, and the pause before it asks again.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// Silence that is logged.
const SAY_AFTER: Duration = Duration::from_secs(4);
/// Silence after which the reader does not count as ready, beside the time that the request may be on its way.
const UNREADY_AFTER: Duration = Duration::from_secs(1);
/// How long a server may take to answer on a connection that it has accepted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Watches the connections of a session.
pub(in crate::reader) struct Watchdog {
    /// Where to ask, on a new connection.
    address: Address,
    /// One per connection of the session.
    watches: Vec<Arc<Watch>>,
    /// See [`TICK`].
    tick: Interval,
    /// The longest wait, if it is long enough to ask about.
    silent: Option<Silent>,
    /// Where to note that Postgres does not answer.
    health: Arc<Health>,
}

/// A wait that the session asks about.
struct Silent {
    /// What is waited for.
    waiting: Waiting,
    /// When to log it.
    log: LogThrottle,
    /// What a new connection found out last.
    found: Option<String>,
    /// A question under way.
    asking: Option<JoinHandle<Probe>>,
    /// When the last question was asked.
    asked: Instant,
    /// How long connecting may take.
    connecting: Duration,
}

impl Watchdog {
    pub(in crate::reader) fn new(address: &Address, health: Arc<Health>) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { address: address.clone(), watches: Vec::new(), tick, silent: None, health }
    }

    /// Watches one more connection, which notes its waits in what is returned.
    pub(in crate::reader) fn watch(&mut self) -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        self.watches.push(Arc::clone(&watch));
        watch
    }

    /// Does work that needs Postgres. An error if Postgres goes mute meanwhile.
    pub(in crate::reader) async fn guard<T>(
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
                return StoreError::from(mute).into();
            }
        }
    }

    /// Finds the connection that has been silent for longest, and judges its silence.
    fn look(&mut self) -> Result<(), PostgresError> {
        let longest = self.watches.iter().filter_map(|watch| watch.waiting()).min_by_key(|w| w.since);
        let silence = self.silence_of(longest.as_ref());
        // The answer may be an error after which the same is tried again.
        silence.iter().for_each(|what| self.health.doubt(what));
        self.health.set(Obstacle::Postgres, silence);
        let Some(waiting) = longest.filter(|waiting| waiting.since.elapsed() >= ASK_AFTER) else {
            self.silent = None;
            return Ok(());
        };
        // What was found out about another wait says nothing of this one.
        let same = self.silent.take().filter(|silent| silent.waiting == waiting);
        let mut silent = same.unwrap_or_else(|| Silent::begin(waiting, &self.address));
        let judged = silent.judge(&self.address);
        self.silent = Some(silent);
        judged
    }

    /// A sentence about a wait that has lasted for a while.
    fn silence_of(&self, longest: Option<&Waiting>) -> Option<String> {
        let waiting = longest?;
        if waiting.since.elapsed() < UNREADY_AFTER + waiting.sending {
            return None;
        }
        let same = self.silent.as_ref().filter(|silent| silent.waiting == *waiting);
        let found = same.map_or("no answer yet", Silent::said);
        Some(format!("postgres has not answered: {found} (step: {})", waiting.step))
    }
}

impl Silent {
    fn begin(waiting: Waiting, address: &Address) -> Self {
        let (asking, connecting) = (Some(ask(&waiting, address)), address.longest_connect());
        Self { waiting, log: LogThrottle::default(), found: None, asking, asked: Instant::now(), connecting }
    }

    /// Handles an answer or asks again, and logs the silence. An error if waiting does not help.
    fn judge(&mut self, address: &Address) -> Result<(), PostgresError> {
        let silence = self.waiting.since.elapsed();
        if let Some(probe) = self.answer() {
            match judge(&self.waiting, silence, probe) {
                Diagnosis::Working(how) => self.found = Some(how),
                Diagnosis::Mute(why) => return Err(self.mute(why)),
            }
        } else if self.asking.is_none() && self.asked.elapsed() >= ASK_AFTER {
            (self.asking, self.asked) = (Some(ask(&self.waiting, address)), Instant::now());
        }
        if silence >= SAY_AFTER && self.log.due().is_some() {
            let (step, found) = (self.waiting.step, self.said());
            tracing::warn!(for_s = silence.as_secs(), step, "postgres has not answered: {found}");
        }
        Ok(())
    }

    /// What is known of the wait.
    fn said(&self) -> &str {
        self.found.as_deref().unwrap_or(match self.waiting.step {
            CONNECTING => "still connecting",
            _ => "a new connection has no answer yet either",
        })
    }

    /// What a new connection found out, if it has by now.
    fn answer(&mut self) -> Option<Probe> {
        if self.waiting.step == CONNECTING {
            // Until the server accepts the connection libpq has a limit of its own; the first statements have
            // none.
            let over = self.waiting.since.elapsed() >= self.connecting + ASK_AFTER + ANSWER_TIMEOUT;
            return over.then(|| Probe::Unanswered("no host has accepted the connection".to_owned()));
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

    fn mute(&self, why: String) -> PostgresError {
        PostgresError::Mute { step: self.waiting.step, silence: self.waiting.since.elapsed(), why }
    }
}

/// Asks on a new connection, on a thread of its own.
fn ask(waiting: &Waiting, address: &Address) -> JoinHandle<Probe> {
    let (backend, address) = (waiting.backend, address.clone());
    tokio::task::spawn_blocking(move || probe(&address, backend))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No server listens there.
    fn nowhere() -> Address {
        Address::new("postgres://nobody@127.0.0.1:1/none", "--database-url", "rfm-reader").unwrap()
    }

    #[tokio::test]
    async fn a_wait_without_any_answer_raises_the_alarm_and_a_connection_at_rest_does_not() {
        let mut watchdog = Watchdog::new(&nowhere(), Arc::new(Health::starting()));
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
        let mut watchdog = Watchdog::new(&nowhere(), Arc::new(Health::starting()));
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
