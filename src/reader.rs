//! The reader: session after session, until it is asked to stop or cannot go on.
//!
//! Owns the policy for errors. A session owns everything else: connections, consumer, memory. **There are
//! two ways to recover and no third**: a rebalance inside a session, or a new session, which knows what
//! the database knows and nothing more.

pub mod budget;
pub mod key;
pub mod pairing;
pub mod progress;
pub mod quintile;
mod schema;
pub mod score;
pub mod segment;
mod session;
mod store;

/// The encoding of rows, for the benchmarks.
pub use store::write_rows;

use crate::backoff::{Backoff, Steps};
use crate::failure::Failure;
use crate::kafka::{Connection, KafkaError, PROPERTY_HINT};
use crate::shutdown::Shutdown;
use score::Rules;
use session::{Memory, Session, SessionError};
use std::time::Duration;
use store::StoreError;

/// Pauses between sessions. The cap keeps recovery within seconds of an outage's end.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the reader is told by its flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// Brokers and topics.
    pub kafka: Connection,
    /// `--database-url`
    pub database_url: String,
    /// `--group-id`
    pub group_id: String,
    /// How batches are scored.
    pub rules: Rules,
    /// `--pairing-timeout`
    pub pairing_timeout: Duration,
    /// `--buffer-bytes`
    pub buffer_bytes: usize,
    /// `--until-caught-up`
    pub until_caught_up: bool,
}

/// Runs until `shutdown` is requested or, with `until_caught_up`, everything is stored.
///
/// # Errors
/// What no retry can mend.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Failure> {
    let mut memory = Memory::default();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut outage = Steps::default();
    loop {
        let mut session = match Session::open(&options, &shutdown, &mut memory).await {
            Ok(Some(session)) => session,
            Ok(None) => return Ok(()),
            Err(error) => {
                retry_or_end(error, &options, &mut outage)?;
                if pause(&mut backoff, &shutdown).await { continue } else { return Ok(()) }
            }
        };
        let ended = session.work().await;
        let was_sound = session.was_sound();
        session.close().await;
        let Err(error) = ended else { return Ok(()) };
        if was_sound {
            backoff.reset();
            outage.reset();
        }
        retry_or_end(error, &options, &mut outage)?;
        if !pause(&mut backoff, &shutdown).await {
            return Ok(());
        }
    }
}

/// Sleeps before the next session; `false` if the reader is to stop.
async fn pause(backoff: &mut Backoff, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = shutdown.requested() => false,
        () = tokio::time::sleep(backoff.pause()) => true,
    }
}

/// Decides what an error means. What is retried is said once per step of an outage.
fn retry_or_end(error: SessionError, options: &Options, outage: &mut Steps) -> Result<(), Failure> {
    let hint = match &error {
        SessionError::Rejoin => return Ok(()),
        SessionError::Store(StoreError::Refused { hint, .. }) => (*hint).to_owned(),
        SessionError::Store(StoreError::Contradiction { hint, .. }) => hint.clone(),
        SessionError::Store(StoreError::OtherSource { .. }) => {
            "its offsets mean nothing there: use a new --group-id, which starts at the beginning".to_owned()
        }
        SessionError::Store(StoreError::BadUrl) => {
            let hint =
                "give postgres://USER:PASSWORD@HOST:PORT/DATABASE; in a password, percent-encode @ : / ? #";
            return Err(Failure::configuration(error, hint.to_owned()));
        }
        SessionError::Kafka(KafkaError::Property { .. } | KafkaError::Properties(_)) => {
            return Err(Failure::configuration(error, PROPERTY_HINT.to_owned()));
        }
        SessionError::Kafka(KafkaError::Refused(_)) => {
            "check the credentials in --kafka-property, and what they are allowed to do".to_owned()
        }
        SessionError::PositionGone { .. } => format!(
            "the log was shortened before it was read, or the topic was created anew. What is gone cannot be \
             stored; to go on with what is there, use a --group-id other than `{}`",
            options.group_id
        ),
        SessionError::LogCut(_) => format!(
            "Kafka lost what it had, and uses the offsets again (an unclean leader election, a broker restored from \
             an old copy). What is stored stays; for what the log has now, use a --group-id other than `{}`",
            options.group_id
        ),
        SessionError::TopicReplaced { .. } => format!(
            "the offsets stored under the group `{}` mean nothing in the new log. Use another --group-id, which \
             starts at its beginning",
            options.group_id
        ),
        SessionError::RefusedBatch { .. } => {
            "see the cause; once it is mended (disk, encoding, constraint, trigger), start the reader again: \
             nothing is lost"
                .to_owned()
        }
        SessionError::Store(_) | SessionError::Kafka(KafkaError::Transient(_)) | SessionError::Broken(_) => {
            if let Some(away) = outage.due() {
                tell(error, away);
            }
            return Ok(());
        }
    };
    Err(Failure::at_work(error, hint))
}

/// Says why a session ended and what comes next, on one line, whatever libpq made of it.
fn tell(error: SessionError, away: Duration) {
    let waits = matches!(error, SessionError::Store(StoreError::Unready(_)));
    let error = format!("{:#}", anyhow::Error::new(error));
    let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
    tracing::warn!(for_s = away.as_secs(), "{error}{}", if waits { "" } else { "; starting over" });
}
