//! Progress of an idle reader: compared with what the session knows, and with the logs, now and then.
//!
//! A commit compares by itself. Where there is nothing to commit, a restore would go unnoticed until the next batch
//! comes; what it took away would be missing for as long. And a reader that waits at the end of a log is not told when
//! the log is cut: librdkafka does not believe a broker that was restored from an old copy, and fetches nothing.

use super::waiting::Answer;
use super::{Session, SessionError};
use crate::kafka::Cluster;
use crate::message::Metric;
use crate::reader::store::{Ownership, StoreError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Progress is compared when it was not confirmed for this long.
const COMPARE_AFTER: Duration = Duration::from_secs(10);

/// What a look at `progress` found.
pub(super) struct Comparison {
    /// What the session knew when it asked.
    expected: Vec<(i32, Ownership)>,
    /// What the table says, in the same order.
    found: Result<Vec<(i32, Option<Ownership>)>, StoreError>,
    /// A log that ends before progress, in words. (Brokers that do not answer say nothing of their logs.)
    short: Option<String>,
}

impl Comparison {
    /// The first partition that is not as expected, of those of which `now` still says the same.
    fn mismatch(self, now: impl Fn(i32) -> Option<Ownership>) -> Result<(), StoreError> {
        for ((partition, expected), (_, found)) in self.expected.into_iter().zip(self.found?) {
            // A commit that was begun meanwhile compares by itself.
            if found != Some(expected) && now(partition) == Some(expected) {
                return Err(StoreError::moved(partition, expected, found));
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Has progress compared that no commit has confirmed for a while.
    pub(super) fn look_after_progress(&mut self) {
        let due = |at: &Instant| at.elapsed() >= COMPARE_AFTER;
        let unconfirmed = self.stored.iter().filter(|(_, stored)| due(&stored.confirmed));
        let idle = unconfirmed.filter(|(partition, _)| !self.pipeline.is_committing(**partition));
        let expected: Vec<(i32, Ownership)> =
            idle.filter_map(|(&p, _)| Some((p, self.pipeline.ownership(p)?))).collect();
        if expected.is_empty() {
            return;
        }
        for (partition, _) in &expected {
            if let Some(stored) = self.stored.get_mut(partition) {
                stored.confirmed = Instant::now();
            }
        }
        let (owner, cluster) = (Arc::clone(&self.owner), Arc::clone(&self.cluster));
        self.answers.spawn_blocking(move || {
            let partitions: Vec<i32> = expected.iter().map(|(partition, _)| *partition).collect();
            let found = owner.blocking_lock().compare(&partitions);
            let short = short_log(&cluster, &expected);
            Answer::Compared(Comparison { expected, found, short })
        });
    }

    /// Ends the session if progress is not as it knows it, or a log is too short. (The next session finds out whether it
    /// was cut, when it takes the partition.)
    pub(super) fn on_comparison(&self, mut comparison: Comparison) -> Result<(), SessionError> {
        let short = comparison.short.take();
        // A partition in a commit has counted that one already.
        comparison.mismatch(|partition| self.pipeline.ownership(partition))?;
        short.map_or(Ok(()), |short| Err(SessionError::Broken(short)))
    }
}

/// Says so if a log ends before progress. Brokers that do not answer are not asked for the next one.
fn short_log(cluster: &Cluster, known: &[(i32, Ownership)]) -> Option<String> {
    for (partition, ownership) in known {
        for metric in Metric::ALL {
            let (_, high) = cluster.watermarks(metric, *partition).ok()?;
            let next = ownership.next[metric.index()];
            if high < next {
                let what = format!("the log of {metric}, partition {partition}, ends at {high}");
                return Some(format!("{what}, and was read up to {next}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const KNOWN: Ownership = Ownership { epoch: 3, owner: Uuid::nil(), commits: 5, next: [0; 3] };

    fn compare(found: Option<Ownership>, now: Option<Ownership>) -> Result<(), StoreError> {
        let comparison = Comparison { expected: vec![(0, KNOWN)], found: Ok(vec![(0, found)]), short: None };
        comparison.mismatch(|_| now)
    }

    #[test]
    fn a_difference_ends_the_session_unless_a_commit_or_the_group_came_between() {
        let back = Some(Ownership { commits: 4, ..KNOWN });
        let next = Some(Ownership { commits: 6, ..KNOWN });
        assert!(compare(Some(KNOWN), Some(KNOWN)).is_ok());
        assert!(matches!(compare(back, Some(KNOWN)), Err(StoreError::Moved { partition: 0, .. })));
        assert!(matches!(compare(None, Some(KNOWN)), Err(StoreError::Moved { found: None, .. })));
        assert!(compare(next, next).is_ok(), "a commit was built, and may be stored or not");
        assert!(compare(Some(KNOWN), next).is_ok());
        assert!(compare(back, None).is_ok(), "the group took the partition");
    }
}
