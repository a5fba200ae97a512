//! What may be read now: the memory budget, put into effect.

use super::{Session, SessionError};
use crate::message::Metric;
use crate::reader::budget::Reading;
use std::collections::BTreeSet;

impl Session<'_> {
    /// Pauses and resumes topics as the memory budget wants it.
    pub(super) fn control_reading(&mut self) -> Result<(), SessionError> {
        let reading = self.budget.reading();
        if reading == Reading::All && self.paused.is_empty() {
            return Ok(());
        }
        // Memory is full, and nothing is under way that would free any: the oldest message makes room, or
        // the reader would stall for ever.
        if reading == Reading::Nothing && self.pipeline.is_empty() && self.pairing.evict_oldest() {
            self.pipeline.collect(&mut self.pairing);
            self.start_work()?;
        }
        let closed = self.closed_topics(reading);
        let pause: Vec<_> = closed.difference(&self.paused).copied().collect();
        if !pause.is_empty() {
            self.consumer.pause(&pause)?;
        }
        let resume: Vec<_> = self.paused.difference(&closed).copied().collect();
        if !resume.is_empty() {
            self.consumer.resume(&resume)?;
        }
        self.paused = closed;
        Ok(())
    }

    /// The topics that may not be read now.
    fn closed_topics(&self, reading: Reading) -> BTreeSet<(Metric, i32)> {
        let oldest = self.pairing.oldest_lacks();
        let awaited = |metric: Metric, partition: i32| {
            oldest.as_ref().is_some_and(|(of, lacks)| *of == partition && lacks.contains(&metric))
        };
        let partitions = self.pairing.partitions().count();
        let is_behind = |metric: Metric, partition: i32| {
            self.budget.is_behind(self.pairing.waiting_bytes(partition)[metric.index()], partitions)
        };
        let is_open = |metric: Metric, partition: i32| match reading {
            Reading::All => true,
            Reading::Nothing => false,
            Reading::Behind => is_behind(metric, partition) || awaited(metric, partition),
        };
        let held =
            self.pairing.partitions().flat_map(|partition| Metric::ALL.map(|metric| (metric, partition)));
        held.filter(|&(metric, partition)| !is_open(metric, partition)).collect()
    }
}
