//! Commits: started when there is something to store, accounted for when they succeed.
//!
//! `queue` decides what goes into a commit, `receipt` builds it, and `writers` executes it.

use super::receipt::{Receipt, RefusedMessage};
use super::{Membership, Session, SessionError};
use crate::coordinates::{MessageId, TopicPartition};
use crate::reader::shifts::Shift;
use crate::reader::vitals::Stored;
use chrono::Utc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a commit under way may still take when its partition is revoked or the reader is to stop.
const LONGEST_FINISH: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Gives the threads what is ready for them.
    pub(super) fn start_work(&mut self) -> Result<(), SessionError> {
        if let Membership::Holding(holding) = &mut self.membership {
            holding.start_scoring();
        }
        self.start_commits()
    }

    /// Begins as many commits as there are idle writers. **A commit is built from the newest positions**: by
    /// then they are usually past the transaction marker behind the last message, which retention may remove.
    pub(super) fn start_commits(&mut self) -> Result<(), SessionError> {
        let Membership::Holding(holding) = &mut self.membership else { return Ok(()) };
        if self.writers.is_one_idle() && holding.has_unstored(self.writers.busy()) {
            holding.read_up_to(&self.consumer.positions()?);
        }
        let one_at_a_time = self.memory.refusals.is_searching();
        let known = &self.memory.shifts;
        while self.writers.start_next(one_at_a_time, known, |fill| holding.next_commit(fill)) {}
        Ok(())
    }

    /// Accounts for a commit that succeeded, and logs it.
    pub(super) fn on_commit(&mut self, receipt: &Receipt) {
        self.signs.sound.committed = true;
        self.memory.vitals.stored(Stored {
            batches: receipt.batches,
            customers: receipt.customers,
            refused: &mut receipt.dead_letters.iter().map(|letter| &letter.problem),
            took: receipt.took,
            latencies: &receipt.latencies,
        });
        if receipt.batches + receipt.dead_letters.len() > 0 {
            self.memory.last_commit = Some(Utc::now());
            self.signs.rest.end();
        }
        // If the commit was of an earlier holding, there is nothing to account for.
        if let Membership::Holding(holding) = &mut self.membership
            && holding.on_commit(receipt, Instant::now())
        {
            self.consumer.advise(&receipt.next_offsets());
        }
        for RefusedMessage { id: MessageId { metric, partition, offset }, problem } in &receipt.dead_letters {
            let (topic, reason) = (self.options.kafka.topic(*metric), problem.reason.name());
            tracing::warn!(topic, partition, offset, reason, "dead letter: {}", problem.detail);
        }
        let news = self.memory.shifts.take_in(&receipt.populations, &receipt.shifts);
        for Shift { batch, before, population, change } in news {
            let population = population.as_deref();
            tracing::warn!(batch, before, population, "{change}");
        }
        if receipt.batches > 0 {
            if let Some(upkeep) = &mut self.owner.upkeep {
                upkeep.on_stored();
            }
            tracing::info!(
                batches = receipt.batches,
                customers = receipt.customers,
                lag = self.lag(),
                ms = receipt.took.as_millis() as u64,
                "committed"
            );
        }
    }

    /// Waits for the commits under way, for a bounded time. The next owner reads again what they have not
    /// stored.
    pub(super) async fn finish_commits(&mut self) -> Result<(), SessionError> {
        let deadline = Instant::now() + LONGEST_FINISH;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.writers.next(&mut self.memory.refusals)).await {
                Ok(None) => return Ok(()),
                Ok(Some(receipt)) => self.on_commit(&receipt?),
                Err(_) => {
                    tracing::warn!(
                        "a commit takes longer than {} s; not waiting for it any longer",
                        LONGEST_FINISH.as_secs()
                    );
                    return Ok(());
                }
            }
        }
    }

    /// Messages in the partitions held that are not yet stored, as of about a second ago.
    pub(super) fn lag(&self) -> i64 {
        self.lags().into_iter().map(|(_, lag)| lag).sum()
    }

    /// The same per topic and partition.
    pub(super) fn lags(&self) -> Vec<(TopicPartition, i64)> {
        let Membership::Holding(holding) = &self.membership else { return Vec::new() };
        holding.lag(|at| self.consumer.log_end(at).map(|end| end.high)).collect()
    }
}
