//! What the reader holds of one assignment: its partitions, and everything read from them and not yet stored.
//!
//! **A holding lives from an assignment to the next revocation**, which drops it. So nothing here is ever
//! reset, and nothing of an earlier ownership can get into a commit of a later one. Threads that still score
//! for a dropped holding run to their end, and their results are lost.

mod lag;

use super::SessionError;
use super::held::Held;
use super::marks::Marks;
use super::partners::Partners;
use super::queue::{Fill, Queue};
use super::receipt::{Commit, Receipt, build};
use super::scorers::Scorers;
use crate::coordinates::{NextOffset, TopicPartition};
use crate::failpoint;
use crate::message::Message;
use crate::metric::{Metric, PerMetric};
use crate::reader::Options;
use crate::reader::budget::{Budget, Reading};
use crate::reader::pairing::{Pairing, Taken};
use crate::reader::progress::Read;
use crate::reader::score::Rules;
use crate::reader::store::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module.
pub(super) struct Holding {
    /// The messages that wait for partners, and how far each topic is settled.
    pairing: Pairing,
    /// Whole batches and messages given up, which wait to be scored or stored.
    queue: Queue,
    /// The threads that score.
    scorers: Scorers,
    /// How much may be read ahead.
    budget: Budget,
    /// When to log that messages wait for partners.
    partners: Partners,
    /// The topics that are not read at present.
    paused: BTreeSet<TopicPartition>,
    /// What is known of each partition held.
    partitions: BTreeMap<i32, Held>,
}

impl Holding {
    /// Holds no partition yet, and scores by `rules`.
    pub(super) fn new(options: &Options, rules: Arc<Rules>) -> Self {
        Self {
            pairing: Pairing::new(options.pairing_timeout),
            queue: Queue::default(),
            scorers: Scorers::new(rules),
            budget: Budget::new(options.buffer_bytes),
            partners: Partners::default(),
            paused: BTreeSet::new(),
            partitions: BTreeMap::new(),
        }
    }

    /// Adds a partition. See [`Pairing::take`] for `single_partition`.
    pub(super) fn add(&mut self, taken: Taken, held: Held, single_partition: bool) {
        self.partitions.insert(taken.partition, held);
        self.pairing.take(taken, single_partition);
    }

    /// The partitions held.
    pub(super) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.partitions.keys().copied()
    }

    /// Whether no partition is held.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// How the next commit of a partition must find it.
    pub(super) fn ownership(&self, partition: i32) -> Option<Ownership> {
        self.partitions.get(&partition).map(|held| held.ownership)
    }

    // --- reading ---

    /// Takes in a message read at `now` by the reading clock.
    pub(super) fn push(&mut self, message: Message, now: Duration) -> Read {
        let weight = message.weight();
        let read = self.pairing.push(message, now);
        if read == Read::New {
            self.budget.hold(weight);
            failpoint::reach("after_poll");
        }
        read
    }

    /// Notes how far each topic was read, including offsets that hold no message.
    pub(super) fn read_up_to(&mut self, positions: &[NextOffset]) {
        for &NextOffset { metric, partition, offset, leader_epoch } in positions {
            self.pairing.read_up_to(TopicPartition { metric, partition }, offset, leader_epoch);
        }
    }

    /// The positions of the consumer, and the stored ones where it has read nothing yet.
    pub(super) fn positions(&self, mut read: Vec<NextOffset>) -> Vec<NextOffset> {
        for (&partition, held) in &self.partitions {
            for (metric, &offset) in held.stored.iter() {
                if !read.iter().any(|next| (next.metric, next.partition) == (metric, partition)) {
                    read.push(NextOffset { metric, partition, offset, leader_epoch: None });
                }
            }
        }
        read
    }

    /// See [`Pairing::watermarks_wanted`].
    pub(super) fn watermarks_wanted(&mut self, now: Duration) -> Vec<TopicPartition> {
        self.pairing.watermarks_wanted(now)
    }

    /// See [`Pairing::on_watermark`].
    pub(super) fn on_watermark(&mut self, at: TopicPartition, asked: Duration, high: Option<i64>) {
        self.pairing.on_watermark(at, asked, high);
    }

    /// See [`Pairing::expire`].
    pub(super) fn expire(&mut self, now: Duration) {
        self.pairing.expire(now);
    }

    /// If it is to be logged at `now` that messages wait for partners: of the oldest its partition, the topics
    /// that lack its key, and how long it has waited.
    pub(super) fn awaited(&mut self, now: Duration) -> Option<(i32, Vec<Metric>, Duration)> {
        let waited = self.pairing.oldest_read().map(|read| now.saturating_sub(read));
        let is_due = self.partners.is_due(waited);
        let (partition, lacks) = self.pairing.oldest_lacks().filter(|_| is_due)?;
        Some((partition, lacks, waited?))
    }

    /// What may be read now.
    pub(super) fn reading(&mut self) -> Reading {
        self.budget.reading()
    }

    /// Gives up the oldest waiting message as `unpaired` if memory is full and nothing under way would free
    /// any. Otherwise the reader would stall for ever. `commits` says whether commits are under way. Returns
    /// whether a message was given up.
    pub(super) fn make_room(&mut self, commits: bool) -> bool {
        let full = self.budget.reading() == Reading::Nothing;
        let at_rest = !commits && self.scorers.are_idle() && self.queue.is_empty();
        let evicted = full && at_rest && self.pairing.evict_oldest();
        if evicted {
            self.collect();
        }
        evicted
    }

    /// What to pause and what to resume now, as the memory budget requires. Counts both as done.
    pub(super) fn change_paused(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let reading = self.budget.reading();
        let closed = self.closed_topics(reading);
        let pause = closed.difference(&self.paused).copied().collect();
        let resume = self.paused.difference(&closed).copied().collect();
        self.paused = closed;
        (pause, resume)
    }

    /// What is paused now.
    pub(super) fn paused(&self) -> Vec<TopicPartition> {
        self.paused.iter().copied().collect()
    }

    /// The topics that may not be read now.
    fn closed_topics(&self, reading: Reading) -> BTreeSet<TopicPartition> {
        if reading == Reading::All {
            return BTreeSet::new();
        }
        let oldest = self.pairing.oldest_lacks();
        let awaited = |at: TopicPartition| {
            oldest.as_ref().is_some_and(|(of, lacks)| *of == at.partition && lacks.contains(&at.metric))
        };
        let is_behind = |at: TopicPartition| {
            self.budget.is_behind(self.pairing.waiting_bytes(at.partition)[at.metric], self.partitions.len())
        };
        let is_open = |at: TopicPartition| reading == Reading::Behind && (is_behind(at) || awaited(at));
        self.topic_partitions().filter(|&at| !is_open(at)).collect()
    }

    fn topic_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions().flat_map(|partition| Metric::ALL.map(|metric| TopicPartition { metric, partition }))
    }

    // --- scoring and storing ---

    /// Hands what pairing has decided to the queue.
    pub(super) fn collect(&mut self) {
        let outbox = self.pairing.take_outbox();
        outbox.batches.iter().for_each(|_| failpoint::reach("after_pairing"));
        self.queue.add(outbox);
    }

    /// Gives batches to the threads that score, as long as one is free.
    pub(super) fn start_scoring(&mut self) {
        while self.scorers.is_one_free()
            && let Some(batches) = self.queue.take_to_score()
        {
            self.scorers.start(batches);
        }
    }

    /// Waits for a thread that scores, and queues its results. `None`: none is at work. Nothing is lost if
    /// the future is dropped.
    pub(super) async fn scored(&mut self) -> Option<Result<(), SessionError>> {
        let scored = self.scorers.next().await?;
        failpoint::reach("after_scoring");
        Some(scored.map(|scored| self.queue.add_scored(scored)))
    }

    /// Whether something can go into a commit; the partitions in `busy` are in one already.
    pub(super) fn has_unstored(&self, busy: &BTreeSet<i32>) -> bool {
        self.queue.has_unstored(busy)
    }

    /// Builds the next commit, if there is something to store.
    pub(super) fn next_commit(&mut self, fill: Fill<'_>) -> Option<Commit> {
        let selection = self.queue.take_for_commit(fill);
        build(selection, &mut self.pairing, &mut self.partitions)
    }

    /// Accounts for what a commit has stored. Returns whether any of it was of this holding.
    pub(super) fn on_commit(&mut self, receipt: &Receipt, now: Instant) -> bool {
        let mut is_ours = false;
        for part in &receipt.parts {
            // The partition may have been revoked and assigned again since; then it has another owner, a
            // random id.
            let held = self.partitions.get_mut(&part.partition);
            let Some(held) = held.filter(|held| held.ownership.owner == part.owner) else { continue };
            held.on_commit(part.next, now);
            self.budget.release(part.weight);
            is_ours = true;
        }
        is_ours
    }

    // --- what is stored ---

    /// Queues all progress that is not stored yet.
    pub(super) fn note_all_progress(&mut self) {
        for (&partition, held) in &self.partitions {
            if self.pairing.progress(partition).is_some_and(|progress| progress != held.stored) {
                self.queue.add_progress_of(partition);
            }
        }
    }

    /// Queues progress that no batch would store; `busy` are the partitions in a commit.
    pub(super) fn note_progress(&mut self, marks: Option<&Marks>, busy: &BTreeSet<i32>, now: Instant) {
        for partition in self.unstored_progress(marks, busy, now) {
            self.queue.add_progress_of(partition);
        }
    }

    /// The partitions whose progress is to be stored: a while after the last commit, or at once if nothing
    /// else is missing to have caught up.
    fn unstored_progress(&self, marks: Option<&Marks>, busy: &BTreeSet<i32>, now: Instant) -> Vec<i32> {
        let is_due = |(partition, held): &(&i32, &Held)| {
            let progress = self.pairing.progress(**partition);
            let end = marks.and_then(|marks| marks.end(**partition));
            progress.is_some_and(|progress| held.is_progress_due(progress, end, now))
        };
        let due = self.partitions.iter().filter(is_due).map(|(&partition, _)| partition);
        due.filter(|partition| !busy.contains(partition)).collect()
    }

    /// What `progress` is known to say of a partition, if it is held.
    pub(super) fn stored(&self, partition: i32) -> Option<PerMetric<i64>> {
        self.partitions.get(&partition).map(|held| held.stored)
    }

    /// How far a partition is read, if it is held.
    pub(super) fn read(&self, partition: i32) -> Option<PerMetric<i64>> {
        self.pairing.positions(partition)
    }

    /// The partitions whose progress nothing has confirmed for `limit`, and how `progress` should have them.
    /// Then counts them as confirmed.
    pub(super) fn confirm_older_than(
        &mut self,
        limit: Duration,
        busy: &BTreeSet<i32>,
        now: Instant,
    ) -> Vec<(i32, Ownership)> {
        let due = self.partitions.iter_mut().filter(|(partition, _)| !busy.contains(partition));
        due.filter_map(|(&partition, held)| Some((partition, held.confirm_older_than(limit, now)?))).collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
