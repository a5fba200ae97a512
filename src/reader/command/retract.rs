//! `reader retract`: takes the rows of snapshots away, and marks them. Their group does not store them again.

use super::{Ended, carry_out};
use crate::failpoint;
use crate::failure::Failure;
use crate::reader::Options;
use crate::reader::session::SessionError;
use crate::reader::session::owner::Owner;
use crate::reader::store::Retracted;
use crate::shutdown::Shutdown;

/// What to retract.
#[derive(Clone, Debug)]
pub struct Retraction {
    /// The ids of the batches.
    pub batches: Vec<i64>,
    /// `--dry-run`
    pub dry_run: bool,
}

/// Retracts batches, all or none.
///
/// # Errors
/// One of them is not the group's, Postgres fails, or `shutdown` is requested before they are retracted.
pub async fn retract(options: Options, retraction: Retraction, shutdown: Shutdown) -> Result<(), Failure> {
    let rights = &[("segments", "DELETE"), ("batches", "UPDATE")];
    carry_out(&options, rights, &shutdown, async |owner| run(owner, retraction).await).await
}

async fn run(owner: &mut Owner, Retraction { batches, dry_run }: Retraction) -> Result<Ended, SessionError> {
    let (batches, rows) = owner.run(move |store| Ok(store.retract(&batches, dry_run)?)).await?;
    failpoint::reach("after_commit");
    let act = if dry_run { "would retract" } else { "retracted" };
    batches.iter().for_each(|batch| report(act, batch));
    let (was_open, customers) = sums(&batches);
    tracing::info!(batches = was_open, rows, "{act}");
    if rows != customers {
        tracing::warn!(
            "the batches had {customers} customers and {rows} rows: the others had been deleted before, by hand or by --retain"
        );
    }
    Ok(Ended::Done)
}

fn report(act: &str, batch: &Retracted) {
    let Retracted { id, partition, as_of, customers, retracted_at, population, .. } = batch;
    match retracted_at {
        None => tracing::info!(batch = id, partition, %as_of, population, customers, "{act} batch"),
        Some(at) => tracing::info!(batch = id, partition, %as_of, population, %at, "retracted before"),
    }
}

/// Of the batches that were not retracted before: how many they are, and how many customers they had.
fn sums(batches: &[Retracted]) -> (usize, i64) {
    let open = || batches.iter().filter(|batch| batch.retracted_at.is_none());
    (open().count(), open().map(|batch| i64::from(batch.customers)).sum())
}
