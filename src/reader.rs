//! The reader: session after session, until it is asked to stop or cannot go on.
//!
//! Owns the policy for errors. A session owns everything else: connections, consumer, memory. **There are
//! only two ways to recover**: a rebalance inside a session, and a new session, which knows only what the
//! database knows.

pub mod budget;
pub mod check;
pub mod command;
pub mod customer_ids;
pub mod edges;
pub mod grid;
pub mod key;
mod page;
pub mod pairing;
pub mod progress;
pub mod quintile;
pub mod retention;
pub mod score;
pub mod segment;
mod session;
pub mod shifts;
mod store;
mod verdict;
mod vitals;

/// The encoding of rows, for the benchmarks.
pub use store::write_rows;

use crate::backoff::{Backoff, LogThrottle};
use crate::failure::Failure;
use crate::http::{self, ListenAddress};
use crate::kafka::Connection;
use crate::postgres::Address;
use crate::shutdown::Shutdown;
use retention::Retention;
use score::Rules;
use session::{Memory, Session, SessionError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::StoreError;
use verdict::{CAUSES, Verdict, cause, verdict};
use vitals::Vitals;

/// Pauses between sessions. The cap lets a reader be at work, and `/readyz` say so, within 2 s of an outage's end.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The settings of a reader, from its flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers and topics.
    pub kafka: Connection,
    /// `--database-url`
    pub database: Address,
    /// `--group-id`
    pub group_id: String,
    /// How batches are scored, apart from what `edges_from` says.
    pub rules: Rules,
    /// `--edges-from`: the batch whose edges are to be those of the rules.
    pub edges_from: Option<i64>,
    /// `--pairing-timeout`
    pub pairing_timeout: Duration,
    /// `--buffer-bytes`
    pub buffer_bytes: usize,
    /// `--until-caught-up`
    pub until_caught_up: bool,
    /// `--http`
    pub http: Option<ListenAddress>,
    /// `--retain`, and how long windows last.
    pub retention: Retention,
    /// The `.env` that was read, if there is one.
    pub env_file: Option<PathBuf>,
}

/// How a reader ends without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to stop, or has caught up.
    Done,
    /// It has caught up, and the group has dead letters between where it was at the start and the marks.
    DeadLetters,
}

/// Runs until `shutdown` is requested or, with `until_caught_up`, everything is stored.
///
/// # Errors
/// An error that no retry can mend.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<Ending, Failure> {
    let vitals = show(&options)?;
    let mut memory = Memory::of_process(Arc::clone(&vitals));
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut outage = LogThrottle::default();
    loop {
        let mut session = match Session::open(&options, &shutdown, &mut memory).await {
            Ok(Some(session)) => session,
            Ok(None) => return Ok(Ending::Done),
            Err(error) => {
                start_over(&vitals, &error);
                retry_or_end(error, &options, &mut outage)?;
                if pause(&mut backoff, &shutdown).await { continue } else { return Ok(Ending::Done) }
            }
        };
        let ended = session.work().await;
        let was_sound = session.was_sound();
        if let Err(error) = &ended {
            // Before the reader leaves the group, which may take a while.
            start_over(&vitals, error);
            vitals.session_ended(cause(error));
        }
        session.close().await;
        let error = match ended {
            Ok(ending) => return Ok(ending),
            Err(error) => error,
        };
        if was_sound {
            backoff.reset();
            outage.reset();
        }
        retry_or_end(error, &options, &mut outage)?;
        if !pause(&mut backoff, &shutdown).await {
            return Ok(Ending::Done);
        }
    }
}

/// With `--http`, begins to show what the reader does, and the page. Both outlive every session.
fn show(options: &Options) -> Result<Arc<Vitals>, Failure> {
    let (vitals, registry) = Vitals::starting(options, &CAUSES)?;
    if let Some(address) = &options.http {
        let site = page::start(options, &vitals)?;
        http::start(address, Arc::clone(&vitals.health), registry, Some(site))?;
        tokio::spawn(Arc::clone(&vitals.health).go_round());
    }
    Ok(vitals)
}

/// Shows why there is to be another session.
fn start_over(vitals: &Vitals, error: &SessionError) {
    vitals.start_over(sentence(error), matches!(error, SessionError::Rejoin));
}

/// Sleeps before the next session; `false` if the reader is to stop.
async fn pause(backoff: &mut Backoff, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = shutdown.requested() => false,
        () = tokio::time::sleep(backoff.pause()) => true,
    }
}

/// Carries out the verdict on an error. During an outage, `outage` decides which errors are logged.
fn retry_or_end(error: SessionError, options: &Options, outage: &mut LogThrottle) -> Result<(), Failure> {
    match verdict(&error, &options.group_id) {
        Verdict::Rejoin => Ok(()),
        Verdict::Retry => {
            if let Some(away) = outage.due() {
                log_outage(&error, away);
            }
            Ok(())
        }
        Verdict::End { hint, exit_code } => Err(Failure { error: error.into(), hint: Some(hint), exit_code }),
    }
}

/// Logs why a session ended and what comes next.
fn log_outage(error: &SessionError, away: Duration) {
    let waits = matches!(error, SessionError::Store(StoreError::Unready(_)));
    let next = if waits { "" } else { "; starting over" };
    tracing::warn!(for_s = away.as_secs(), "{}{next}", sentence(error));
}

/// An error with its causes. A message of several lines, as libpq has, becomes one line.
fn sentence(error: &SessionError) -> String {
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(error));
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
