//! Transactions, however long the brokers are away: the retries, and their log lines.
//!
//! Does not own which batches are in a transaction (`packer`), nor the calls (`kafka`).
//!
//! **Each try ends with a commit, or with an abort before the next try begins.** So the same batches can be
//! sent again: none arrives in part, none twice.

use super::vitals::Vitals;
use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::backoff::{Backoff, LogThrottle, wait_and_report};
use crate::failpoint;
use crate::kafka::{SendError, Sender, Sent};
use crate::message::EncodedSnapshot;
use std::cell::RefCell;
use std::time::Instant;

/// Opens the transactional id; waits for the brokers.
///
/// # Errors
/// What no retry can repair.
pub async fn open(sender: &Sender, vitals: &Vitals) -> Result<(), SendError> {
    repeat(sender, vitals, OPENING, async || sender.open().await).await
}

/// Sends batches in one transaction and commits it; sends the same ones again until that succeeds.
///
/// # Errors
/// What no retry can repair. After [`SendError::TooLarge`] the transaction is aborted, and other batches can
/// be sent.
pub async fn send(
    sender: &Sender,
    batches: &[EncodedSnapshot],
    vitals: &Vitals,
) -> Result<Vec<Sent>, SendError> {
    let (mut backoff, mut throttle) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), LogThrottle::begun());
    loop {
        let begun = Instant::now();
        match once(sender, batches, vitals).await {
            Err(SendError::Aborted(what) | SendError::NotYet(what)) => {
                if let Some(lasted) = throttle.due() {
                    tracing::warn!(
                        for_s = lasted.as_secs(),
                        batches = batches.len(),
                        "{what}; sending the same batches again"
                    );
                }
                vitals.is_held_up(&what);
                abort(sender, vitals).await?;
                tokio::time::sleep(backoff.pause()).await;
            }
            Err(SendError::TooLarge(what)) => {
                abort(sender, vitals).await?;
                return Err(SendError::TooLarge(what));
            }
            Ok(sent) => {
                vitals.committed(batches, begun.elapsed());
                return Ok(sent);
            }
            error => return error,
        }
    }
}

/// One try. After an error, the transaction may still be open.
async fn once(sender: &Sender, batches: &[EncodedSnapshot], vitals: &Vitals) -> Result<Vec<Sent>, SendError> {
    let sending = wait_and_report(sender.send(batches), |lasted| {
        let what = sender.with_trouble("the brokers have not confirmed all messages yet");
        tracing::warn!(for_s = lasted.as_secs(), batches = batches.len(), "{what}");
        vitals.is_held_up(&what);
    });
    let sent = sending.await?;
    failpoint::reach("before_producer_commit");
    repeat(sender, vitals, "committing the transaction", async || sender.commit().await).await?;
    Ok(sent)
}

async fn abort(sender: &Sender, vitals: &Vitals) -> Result<(), SendError> {
    repeat(sender, vitals, "aborting the transaction", async || sender.abort().await).await?;
    vitals.aborted();
    Ok(())
}

/// What a producer waits for at its start.
const OPENING: &str = "opening the transactional id (which needs as many brokers as `transaction.state.log.replication.factor`)";

/// Repeats a call until its outcome is known. Logs as a [`LogThrottle`] says, also while one call takes long.
async fn repeat(
    sender: &Sender,
    vitals: &Vitals,
    what: &str,
    call: impl AsyncFn() -> Result<(), SendError>,
) -> Result<(), SendError> {
    let awaited = RefCell::new(None);
    let trying = async {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            match call().await {
                Err(SendError::NotYet(why)) => {
                    awaited.replace(Some(format!("{what}: {why}")));
                    tokio::time::sleep(backoff.pause()).await;
                }
                done => return done,
            }
        }
    };
    wait_and_report(trying, |lasted| {
        let awaited = awaited.borrow().clone();
        let awaited = awaited.unwrap_or_else(|| sender.with_trouble(&format!("{what}: no answer yet")));
        tracing::warn!(for_s = lasted.as_secs(), "{awaited}; still trying");
        vitals.is_held_up(&awaited);
    })
    .await
}
