//! What is stored: progress without batches, finished commits, and whether that is all there was.

use super::commit::Receipt;
use super::{Session, SessionError};
use crate::kafka::LogPosition;
use crate::message::Metric;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Progress past what is no message is stored when nothing else was for this long.
const NOTE_AFTER: Duration = Duration::from_secs(1);
/// How long a commit under way may take when its partition is taken away, or the reader is to stop.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// What is known to be stored of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) next: [i64; 3],
    pub(super) at: Instant,
    /// When progress was last found to be as this session knows it: by a commit, or by a look.
    pub(super) confirmed: Instant,
    /// The high watermarks when the partition was taken.
    pub(super) high_when_taken: [i64; 3],
}

impl Stored {
    pub(super) fn when_taken(next: [i64; 3], high: [i64; 3]) -> Self {
        let now = Instant::now();
        Self { next, at: now, confirmed: now, high_when_taken: high }
    }
}

impl Session<'_> {
    /// Has progress stored that no batch carries: a while after the last commit, or at once if it is all
    /// that is missing to have caught up.
    pub(super) fn note_progress(&mut self) {
        for (&partition, stored) in &self.stored {
            let Some(progress) = self.pairing.progress(partition) else { continue };
            let reached = |next: [i64; 3], target: &[i64; 3]| next.iter().zip(target).all(|(n, t)| n >= t);
            let target = self.memory.targets.get(&partition);
            let awaited = target.is_some_and(|t| reached(progress, t) && !reached(stored.next, t));
            let due = progress != stored.next && (awaited || stored.at.elapsed() >= NOTE_AFTER);
            if due && !self.pipeline.is_committing(partition) {
                self.pipeline.note_progress(partition);
            }
        }
    }

    /// Takes in a commit that succeeded, and says so.
    pub(super) fn on_commit(&mut self, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        self.committed = true;
        self.budget.release(receipt.weight);
        let at = Instant::now();
        let mut advice = Vec::with_capacity(3 * receipt.progress.len());
        for &(partition, next) in &receipt.progress {
            // A partition that was taken away meanwhile is not ours to remember.
            if let Some(stored) = self.stored.get_mut(&partition) {
                *stored = Stored { next, at, confirmed: at, ..*stored };
                advice.extend(Metric::ALL.map(|metric| LogPosition {
                    metric,
                    partition,
                    offset: next[metric.index()],
                    leader_epoch: None,
                }));
            }
        }
        self.consumer.advise(&advice);
        for letter in &receipt.dead_letters {
            tracing::warn!("dead letter {letter}");
        }
        if receipt.batches > 0 {
            tracing::info!(
                batches = receipt.batches,
                customers = receipt.customers,
                lag = self.lag(),
                ms = receipt.took.as_millis() as u64,
                "committed"
            );
        }
    }

    /// Messages (and transaction markers) in the partitions held that are not yet stored, as of about a
    /// second ago.
    fn lag(&self) -> i64 {
        let behind = self.stored.iter().flat_map(|(&partition, stored)| {
            Metric::ALL.map(|metric| {
                let high = self.consumer.high_watermark(metric, partition).unwrap_or_default();
                (high.max(stored.high_when_taken[metric.index()]) - stored.next[metric.index()]).max(0)
            })
        });
        behind.sum()
    }

    /// Whether everything is stored that was in the log when its partition was first assigned.
    pub(super) fn has_caught_up(&self) -> bool {
        let reached = |(partition, stored): (&i32, &Stored)| {
            let target = self.memory.targets.get(partition);
            target.is_some_and(|target| stored.next.iter().zip(target).all(|(next, t)| next >= t))
        };
        self.assigned && self.stored.iter().all(reached) && !self.pipeline.has_commits()
    }

    /// Finishes the commits under way, for a bounded time; the rest is read again by whoever comes next.
    pub(super) async fn finish_commits(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + COMMIT_PATIENCE;
        while self.pipeline.has_commits() {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.pipeline.next(&mut self.memory.suspicion)).await {
                Ok(receipt) => self.on_commit(receipt?),
                Err(_) => {
                    tracing::warn!("a commit takes longer than {} s; leaving it", COMMIT_PATIENCE.as_secs());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
