//! How much of what is held is not stored yet.

use super::Holding;
use crate::coordinates::TopicPartition;
use crate::metric::{Metric, PerMetric};

impl Holding {
    /// Per topic and partition, the messages that are not stored yet. `high` returns the current high watermark, if
    /// it is known. **Transaction markers do not count once they were read past.**
    pub(in super::super) fn lag(
        &self,
        high: impl Fn(TopicPartition) -> Option<i64>,
    ) -> impl Iterator<Item = (TopicPartition, i64)> {
        self.partitions.iter().flat_map(move |(&partition, held)| {
            let at = |metric| TopicPartition { metric, partition };
            let ends = held.ends(PerMetric::from_fn(|metric| high(at(metric))));
            let waiting = self.pairing.lag(partition, ends).unwrap_or_default();
            let committing = held.committing();
            Metric::ALL.map(|metric| (at(metric), waiting[metric] + committing[metric]))
        })
    }

    /// Bytes of the messages read and not stored yet.
    pub(in super::super) fn buffered(&self) -> usize {
        self.budget.held()
    }

    /// How many partitions are held.
    pub(in super::super) fn count(&self) -> usize {
        self.partitions.len()
    }
}
