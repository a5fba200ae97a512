//! What is known of a partition that is held: how the next commit must find it, and what is stored of it.
//! Reads no clock.

use crate::metric::PerMetric;
use crate::reader::store::Ownership;
use std::time::{Duration, Instant};

/// When nothing was stored for this long, progress past offsets without messages is stored on its own.
pub(super) const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// How the next commit must find the partition in `progress`.
    pub(super) ownership: Ownership,
    /// What `progress` is known to say, per topic.
    pub(super) stored: PerMetric<i64>,
    /// When `stored` last changed.
    stored_at: Instant,
    /// When a commit or a comparison last found `progress` to be as this session knows it.
    confirmed: Instant,
    /// The high watermarks when the partition was taken.
    high_when_taken: PerMetric<i64>,
    /// Per topic, the messages in a commit under way.
    committing: PerMetric<i64>,
}

impl Held {
    pub(super) fn when_taken(ownership: Ownership, high: PerMetric<i64>, now: Instant) -> Self {
        let (stored, committing) = (ownership.next, PerMetric::default());
        Self { ownership, stored, stored_at: now, confirmed: now, high_when_taken: high, committing }
    }

    /// Counts a commit that moves progress to `next` and stores so many messages. Returns how that commit must
    /// find the partition.
    pub(super) fn count_commit(&mut self, next: PerMetric<i64>, messages: PerMetric<i64>) -> Ownership {
        self.committing = messages;
        let expected = self.ownership;
        self.ownership = Ownership { commits: expected.commits + 1, next, ..expected };
        expected
    }

    /// A commit succeeded: `progress` says `next` now.
    pub(super) fn on_commit(&mut self, next: PerMetric<i64>, now: Instant) {
        (self.stored, self.stored_at, self.confirmed) = (next, now, now);
        self.committing = PerMetric::default();
    }

    /// How `progress` should have the partition, if nothing has confirmed that for `limit`. Then counts it as
    /// confirmed.
    pub(super) fn confirm_older_than(&mut self, limit: Duration, now: Instant) -> Option<Ownership> {
        let is_due = now.saturating_duration_since(self.confirmed) >= limit;
        is_due.then(|| {
            self.confirmed = now;
            self.ownership
        })
    }

    /// The ends of the three logs: the current high watermarks where these are known.
    pub(super) fn ends(&self, high: PerMetric<Option<i64>>) -> PerMetric<i64> {
        high.zip(self.high_when_taken).map(|(now, then)| now.unwrap_or_default().max(then))
    }

    /// Per topic, the messages in a commit under way.
    pub(super) fn committing(&self) -> PerMetric<i64> {
        self.committing
    }

    /// Whether everything below `target` is stored.
    pub(super) fn has_stored(&self, target: &PerMetric<i64>) -> bool {
        has_reached(&self.stored, target)
    }

    /// Whether progress is to be stored without a batch: a while after the last commit, or at once if nothing
    /// else is missing to reach `target`.
    pub(super) fn is_progress_due(
        &self,
        progress: PerMetric<i64>,
        target: Option<&PerMetric<i64>>,
        now: Instant,
    ) -> bool {
        let awaited = target.is_some_and(|target| has_reached(&progress, target) && !self.has_stored(target));
        let late = now.saturating_duration_since(self.stored_at) >= PROGRESS_AFTER;
        progress != self.stored && (awaited || late)
    }
}

/// Whether each topic is at its target.
fn has_reached(next: &PerMetric<i64>, target: &PerMetric<i64>) -> bool {
    next.as_ref().zip(target.as_ref()).values().all(|(next, target)| next >= target)
}
