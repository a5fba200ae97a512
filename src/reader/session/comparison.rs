//! Compares the stored progress of an idle reader with what its session knows, and with the logs.
//!
//! A commit compares by itself. Without commits, a restored database would go unnoticed until the next batch,
//! and the rows that it lacks would be missing until then. A cut log would go unnoticed, too: librdkafka
//! distrusts a broker that was restored from an old copy. It fetches nothing from such a broker, and reports
//! no error.

use super::{Membership, Session, SessionError};
use crate::kafka::{Cluster, KafkaError};
use crate::metric::Metric;
use crate::reader::store::{Ownership, StoreError};
use std::time::{Duration, Instant};

/// Progress is compared when nothing has confirmed it for this long.
const COMPARE_AFTER: Duration = Duration::from_secs(10);

/// What a comparison found.
pub(super) struct Comparison {
    /// What the session knew when the comparison began.
    expected: Vec<(i32, Ownership)>,
    /// What the table says, in the same order.
    found: Result<Vec<(i32, Option<Ownership>)>, StoreError>,
    /// A sentence about a log that ends before progress, if one does; or why the brokers do not say.
    short: Result<Option<String>, KafkaError>,
}

impl Comparison {
    /// An error if a partition is not as expected, unless `now` says that its ownership has changed since the
    /// comparison began.
    fn mismatch(self, now: impl Fn(i32) -> Option<Ownership>) -> Result<(), StoreError> {
        for ((partition, expected), (_, found)) in self.expected.into_iter().zip(self.found?) {
            // A commit that began meanwhile compares by itself.
            if found != Some(expected) && now(partition) == Some(expected) {
                return Err(StoreError::moved(partition, expected, found));
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Starts a comparison of the progress that nothing has confirmed for a while.
    pub(super) fn compare_progress(&mut self) {
        let Membership::Holding(holding) = &mut self.membership else { return };
        let expected = holding.confirm_older_than(COMPARE_AFTER, self.writers.busy(), Instant::now());
        if expected.is_empty() {
            return;
        }
        let partitions: Vec<i32> = expected.iter().map(|(partition, _)| *partition).collect();
        let compare = self.owner.task(move |store| store.compare(&partitions));
        self.brokers.ask(move |cluster| {
            let found = compare();
            let short = short_log(cluster, &expected).or_else(|_| short_log(&cluster.afresh()?, &expected));
            Comparison { expected, found, short }
        });
    }

    /// Ends the session if progress is not as the session knows it, or a log is too short. (The next session
    /// finds out, when it takes the partition, whether that log was cut.)
    pub(super) fn on_comparison(&mut self, mut comparison: Comparison) -> Result<(), SessionError> {
        let short = std::mem::replace(&mut comparison.short, Ok(None));
        // The ownership of a partition already counts a commit that is under way.
        comparison.mismatch(|partition| self.membership.ownership(partition))?;
        match short {
            Ok(None) => {
                // Progress can be read while a lock keeps a batch from being stored.
                if self.writers.are_idle() {
                    self.memory.vitals.is_sound();
                }
                Ok(())
            }
            Ok(Some(short)) => Err(SessionError::Broken(short)),
            Err(error @ KafkaError::Refused { .. }) => Err(error.into()),
            Err(error) => {
                self.brokers.on_trouble(&format!("cannot ask for the ends of the logs: {error}"));
                Ok(())
            }
        }
    }
}

/// A sentence about the first log that ends before progress.
///
/// **A client that has seen a later leader epoch gets no answer from a broker that was restored from an old
/// copy**, so the caller asks again with another one.
fn short_log(cluster: &Cluster, known: &[(i32, Ownership)]) -> Result<Option<String>, KafkaError> {
    for (partition, ownership) in known {
        for metric in Metric::ALL {
            let (_, high) = cluster.watermarks(metric, *partition)?;
            let next = ownership.next[metric];
            if high < next {
                let what = format!("the log of {metric}, partition {partition}, ends at {high}");
                return Ok(Some(format!("{what}, but was read up to {next}")));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::PerMetric;
    use uuid::Uuid;

    const KNOWN: Ownership = Ownership {
        epoch: 3,
        owner: Uuid::nil(),
        commits: 5,
        next: PerMetric { recency: 0, frequency: 0, monetary: 0 },
    };

    fn compare(found: Option<Ownership>, now: Option<Ownership>) -> Result<(), StoreError> {
        let comparison =
            Comparison { expected: vec![(0, KNOWN)], found: Ok(vec![(0, found)]), short: Ok(None) };
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
