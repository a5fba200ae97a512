//! Transactions, however long the brokers are away: what is tried again, and what is said meanwhile.
//!
//! Does not own what a transaction consists of (`source`, `kafka`).
//!
//! The one idea: **a try ends committed, or aborted before the next one begins**, so whatever happens on the
//! way, the same batches are sent again, none in part and none twice.

use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::backoff::{Backoff, Steps, patiently};
use crate::failpoint;
use crate::kafka::{Batch, SendError, Sender, Sent};

/// Opens the transactional id.
pub async fn open(sender: &Sender) -> Result<(), SendError> {
    again("opening the transactional id", async || sender.open().await).await
}

/// Sends batches in one transaction and commits it: again and again the same ones.
///
/// # Errors
/// What no retry can mend. After [`SendError::TooLarge`] the transaction is aborted, and other batches can be sent.
pub async fn send(sender: &Sender, batches: &[Batch]) -> Result<Vec<Sent>, SendError> {
    let (mut backoff, mut steps) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Steps::begun());
    loop {
        match once(sender, batches).await {
            Err(SendError::Aborted(what) | SendError::NotYet(what)) => {
                if let Some(lasted) = steps.due() {
                    tracing::warn!(
                        for_s = lasted.as_secs(),
                        batches = batches.len(),
                        "{what}; sending the same again"
                    );
                }
                abort(sender).await?;
                tokio::time::sleep(backoff.pause()).await;
            }
            Err(SendError::TooLarge(what)) => {
                abort(sender).await?;
                return Err(SendError::TooLarge(what));
            }
            done => return done,
        }
    }
}

/// One try. After an error that can be mended, the transaction may be open.
async fn once(sender: &Sender, batches: &[Batch]) -> Result<Vec<Sent>, SendError> {
    let sending = patiently(sender.send(batches), |lasted| {
        tracing::warn!(
            for_s = lasted.as_secs(),
            batches = batches.len(),
            "the brokers have not taken everything yet"
        );
    });
    let sent = sending.await?;
    failpoint::reach("before_producer_commit");
    again("committing the transaction", async || sender.commit().await).await?;
    Ok(sent)
}

async fn abort(sender: &Sender) -> Result<(), SendError> {
    again("aborting the transaction", async || sender.abort().await).await
}

/// Makes a call until it is through; says so once per step.
async fn again(what: &str, call: impl AsyncFn() -> Result<(), SendError>) -> Result<(), SendError> {
    let (mut backoff, mut steps) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Steps::begun());
    loop {
        match call().await {
            Err(SendError::NotYet(why)) => {
                if let Some(lasted) = steps.due() {
                    tracing::warn!(for_s = lasted.as_secs(), "{what}: {why}; still trying");
                }
                tokio::time::sleep(backoff.pause()).await;
            }
            done => return done,
        }
    }
}
