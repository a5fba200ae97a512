//! What waits to be scored, and what is scored and waits to be stored. Pure: it knows no threads.
//!
//! Owns the limits: how much is scored ahead, and what goes into the next commit. Partitions are independent
//! of each other: each is in at most one commit at a time, and what arrives meanwhile goes into the next one
//! (group commit).

use crate::message::Message;
use crate::reader::pairing::{Batch, DeadLetter, Outbox};
use crate::reader::score::{Rules, Scored, score};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes of messages that a thread scores at once: one large batch, or many small ones.
const SCORING_BYTES: usize = 1024 * 1024;
/// Customers scored ahead of the commits: enough to keep the writers busy, and a bound on memory.
const SCORED_AHEAD: usize = 1_000_000;
/// Customers after which a commit takes no further batch. A commit costs a flush, which this many customers
/// make negligible.
const COMMIT_CUSTOMERS: usize = 500_000;
/// Batches after which a commit takes no further one: bounds the time to the first visible row.
const COMMIT_BATCHES: usize = 5_000;

/// What becomes of a batch's three messages, or of a single one.
#[derive(Debug)]
pub(super) enum Outcome {
    Scored(Box<Scored>),
    Refused(Vec<DeadLetter>),
}

/// An outcome that waits for its commit.
#[derive(Debug)]
pub(super) struct Unstored {
    /// The partition of its messages.
    pub(super) partition: i32,
    /// Bytes of its messages in the memory budget.
    pub(super) weight: usize,
    /// What is stored.
    pub(super) outcome: Outcome,
}

impl Unstored {
    /// Scores a batch, or refuses it.
    pub(super) fn scored(rules: &Rules, batch: Batch) -> Self {
        let (partition, weight) = (batch.partition(), batch.weight());
        let outcome = match score(rules, batch) {
            Ok(scored) => Outcome::Scored(Box::new(scored)),
            Err(letters) => Outcome::Refused(letters),
        };
        Self { partition, weight, outcome }
    }

    fn refused(letter: DeadLetter) -> Self {
        let Message { partition, .. } = letter.message;
        Self { partition, weight: letter.message.weight(), outcome: Outcome::Refused(vec![letter]) }
    }

    /// Rows that it adds.
    fn customers(&self) -> usize {
        match &self.outcome {
            Outcome::Scored(scored) => scored.customers(),
            Outcome::Refused(_) => 0,
        }
    }
}

/// What goes into a commit.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// What is stored.
    pub(super) unstored: Vec<Unstored>,
    /// Partitions of which only progress is stored.
    pub(super) progress_of: BTreeSet<i32>,
}

/// How commits are filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill<'a> {
    /// Partitions that are in a commit already.
    pub(super) busy: &'a BTreeSet<i32>,
    /// Writers that have nothing to do.
    pub(super) idle_writers: usize,
    /// Every batch gets a commit of its own, to find the one that Postgres refuses.
    pub(super) one_at_a_time: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Batches in the order in which they became whole.
    to_score: VecDeque<Batch>,
    /// Per partition, what waits for a commit.
    unstored: BTreeMap<i32, VecDeque<Unstored>>,
    /// Partitions whose progress is to be stored even if nothing else is.
    progress_of: BTreeSet<i32>,
    /// Customers in `unstored`.
    scored_ahead: usize,
}

impl Queue {
    /// Takes over what pairing has decided.
    pub(super) fn add(&mut self, outbox: Outbox) {
        self.to_score.extend(outbox.batches);
        outbox.dead_letters.into_iter().for_each(|letter| self.wait_for_commit(Unstored::refused(letter)));
    }

    /// Takes over what a thread has scored.
    pub(super) fn add_scored(&mut self, scored: Vec<Unstored>) {
        scored.into_iter().for_each(|unstored| self.wait_for_commit(unstored));
    }

    /// Queues the progress of this partition, to be stored even if nothing else is.
    pub(super) fn add_progress_of(&mut self, partition: i32) {
        self.progress_of.insert(partition);
    }

    fn wait_for_commit(&mut self, unstored: Unstored) {
        self.scored_ahead += unstored.customers();
        self.unstored.entry(unstored.partition).or_default().push_back(unstored);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.to_score.is_empty() && self.unstored.values().all(VecDeque::is_empty)
    }

    /// Takes the batches that a thread scores next. None while enough is scored ahead.
    pub(super) fn take_to_score(&mut self) -> Option<Vec<Batch>> {
        if self.scored_ahead >= SCORED_AHEAD || self.to_score.is_empty() {
            return None;
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < SCORING_BYTES
            && let Some(batch) = self.to_score.pop_front()
        {
            bytes += batch.weight();
            batches.push(batch);
        }
        Some(batches)
    }

    /// Whether something can go into a commit now.
    pub(super) fn has_unstored(&self, busy: &BTreeSet<i32>) -> bool {
        self.unstored.iter().any(|(partition, queue)| !queue.is_empty() && !busy.contains(partition))
    }

    /// Takes what goes into the next commit.
    pub(super) fn take_for_commit(&mut self, fill: Fill<'_>) -> Selection {
        let unstored = self.take_unstored(fill);
        let progress_of =
            self.progress_of.extract_if(.., |partition| !fill.busy.contains(partition)).collect();
        Selection { unstored, progress_of }
    }

    fn take_unstored(&mut self, fill: Fill<'_>) -> Vec<Unstored> {
        let free = |(partition, queue): &(&i32, &mut VecDeque<Unstored>)| {
            !fill.busy.contains(*partition) && !queue.is_empty()
        };
        let mut queues: Vec<_> = self.unstored.iter_mut().filter(free).map(|(_, queue)| queue).collect();
        // The idle writers share the partitions, so that they work side by side.
        queues.truncate(queues.len().div_ceil(fill.idle_writers.max(1)));
        let limit = if fill.one_at_a_time { 1 } else { COMMIT_BATCHES };
        let (mut taken, mut customers) = (Vec::new(), 0);
        for queue in queues {
            while taken.len() < limit
                && customers < COMMIT_CUSTOMERS
                && let Some(unstored) = queue.pop_front()
            {
                customers += unstored.customers();
                taken.push(unstored);
            }
        }
        self.scored_ahead = self.scored_ahead.saturating_sub(customers);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Problem, Reason};
    use crate::metric::{Metric, PerMetric};
    use crate::reader::segment::SegmentMap;

    fn message(metric: Metric, partition: i32, offset: i64, customers: usize) -> Message {
        let value = format!(r#"{{"{metric}":[1.0{}]}}"#, ",1.0".repeat(customers - 1));
        Message { metric, partition, offset, timestamp: Some(0), key: None, value: Some(value.into()) }
    }

    fn batch(partition: i32, offset: i64, customers: usize) -> Batch {
        Batch { messages: PerMetric::from_fn(|metric| message(metric, partition, offset, customers)) }
    }

    /// A queue of scored batches, each given as (partition, customers).
    fn scored(batches: &[(i32, usize)]) -> Queue {
        let rules = Rules::new(SegmentMap::built_in().unwrap());
        let batches = batches.iter().zip(0..);
        let unstored = batches.map(|(&(p, n), offset)| Unstored::scored(&rules, batch(p, offset, n)));
        let mut queue = Queue::default();
        queue.add_scored(unstored.collect());
        queue
    }

    fn fill(busy: &BTreeSet<i32>) -> Fill<'_> {
        Fill { busy, idle_writers: 1, one_at_a_time: false }
    }

    fn partitions(selection: &Selection) -> Vec<i32> {
        selection.unstored.iter().map(|unstored| unstored.partition).collect()
    }

    #[test]
    fn small_batches_are_scored_together_and_a_large_one_alone() {
        let mut queue = Queue::default();
        let large = SCORING_BYTES / 4 / 3 + 1;
        queue.add(Outbox {
            batches: vec![batch(0, 0, 9), batch(0, 1, 9), batch(0, 2, large)],
            ..Outbox::default()
        });
        queue.add(Outbox { batches: vec![batch(0, 3, 9)], ..Outbox::default() });
        let lengths = [queue.take_to_score(), queue.take_to_score(), queue.take_to_score()];
        assert_eq!(lengths.map(|taken| taken.map(|batches| batches.len())), [Some(3), Some(1), None]);
        assert!(queue.is_empty());
    }

    #[test]
    fn nothing_is_scored_while_enough_is_scored_ahead() {
        let mut queue = scored(&[(0, SCORED_AHEAD)]);
        queue.add(Outbox { batches: vec![batch(0, 9, 1)], ..Outbox::default() });
        assert!(queue.take_to_score().is_none());
        queue.take_for_commit(fill(&BTreeSet::new()));
        assert!(queue.take_to_score().is_some());
    }

    #[test]
    fn a_partition_in_a_commit_waits_for_the_next_one() {
        let mut queue = scored(&[(0, 1), (1, 1), (0, 1)]);
        queue.add_progress_of(0);
        queue.add_progress_of(2);
        let busy = BTreeSet::from([0]);
        let first = queue.take_for_commit(fill(&busy));
        assert_eq!((partitions(&first), first.progress_of), (vec![1], BTreeSet::from([2])));
        assert!(!queue.has_unstored(&busy) && queue.has_unstored(&BTreeSet::new()));
        let second = queue.take_for_commit(fill(&BTreeSet::new()));
        assert_eq!((partitions(&second), second.progress_of), (vec![0, 0], BTreeSet::from([0])));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_commit_ends_with_the_batch_that_fills_it() {
        let mut queue = scored(&[(0, COMMIT_CUSTOMERS - 1), (0, 9), (0, 9)]);
        assert_eq!(partitions(&queue.take_for_commit(fill(&BTreeSet::new()))).len(), 2);
        let mut many = scored(&vec![(0, 1); COMMIT_BATCHES + 1]);
        assert_eq!(partitions(&many.take_for_commit(fill(&BTreeSet::new()))).len(), COMMIT_BATCHES);
    }

    #[test]
    fn idle_writers_share_the_partitions() {
        let mut queue = scored(&[(0, 1), (1, 1), (2, 1)]);
        let busy = BTreeSet::new();
        let two = queue.take_for_commit(Fill { busy: &busy, idle_writers: 2, one_at_a_time: false });
        assert_eq!(partitions(&two), [0, 1]);
        assert_eq!(partitions(&queue.take_for_commit(fill(&BTreeSet::from([0, 1])))), [2]);
    }

    #[test]
    fn one_at_a_time_means_one_batch_in_a_commit() {
        let mut queue = scored(&[(0, 1), (0, 1), (1, 1)]);
        let busy = BTreeSet::new();
        let alone = Fill { busy: &busy, idle_writers: 1, one_at_a_time: true };
        assert_eq!([(); 4].map(|()| queue.take_for_commit(alone).unstored.len()), [1, 1, 1, 0]);
    }

    #[test]
    fn what_pairing_gave_up_waits_for_a_commit_at_once() {
        let letter = DeadLetter {
            message: message(Metric::Recency, 3, 7, 1),
            problem: Problem::new(Reason::Unpaired, "alone"),
            refused_with: None,
        };
        let mut queue = Queue::default();
        queue.add(Outbox { batches: Vec::new(), dead_letters: vec![letter] });
        assert_eq!(partitions(&queue.take_for_commit(fill(&BTreeSet::new()))), [3]);
    }
}
