//! Pairing: three topics in, whole batches out.
//!
//! Owns which messages belong together and which never will; and, per topic, what was read and what
//! is settled ([`Progress`]). Does not own bodies (`score`) nor rows (`store`). Pure: time comes in as
//! a parameter, the *reading clock*, which stands still while the reader does not read.
//!
//! The one idea: **a key pairs first in, first out, within a partition, and by nothing else**. A
//! message is given up only when its partner is known to be missing: `--pairing-timeout` after it was
//! read, every topic it lacks is read up to the high watermark of that moment.

mod lane;

use crate::message::{Message, Metric, Problem};
use crate::reader::key;
use crate::reader::progress::{Progress, Read};
use lane::Lane;
use std::collections::BTreeMap;
use std::time::Duration;

/// The three messages of a batch, in the order of [`Metric::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Under which ownership of the partition they were read.
    pub epoch: i64,
    /// One per metric, all of one partition.
    pub messages: [Message; 3],
}

/// A message that will not be scored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message with its bytes.
    pub message: Message,
    /// The reason and the sentence about it.
    pub problem: Problem,
}

/// When a message was read: by the reading clock, then by a running number.
type Age = (Duration, u64);

/// A partition as it is taken: whose it is, and where its three topics stand.
#[derive(Debug)]
pub struct Taken {
    /// The partition number.
    pub partition: i32,
    /// The epoch under which it is owned now.
    pub epoch: i64,
    /// Per topic, what an earlier owner settled.
    pub progress: [Progress; 3],
}

/// Everything that was read and not yet settled, of the partitions held.
#[derive(Debug)]
pub struct Pairing {
    timeout: Duration,
    lanes: BTreeMap<i32, Lane>,
    read: u64,
    batches: Vec<Batch>,
    dead_letters: Vec<(i64, DeadLetter)>,
}

impl Pairing {
    /// Holds no partition yet; `timeout` is `--pairing-timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, lanes: BTreeMap::new(), read: 0, batches: Vec::new(), dead_letters: Vec::new() }
    }

    /// Starts with a partition. `single_partition` says that the topics have no other, so that messages
    /// without a key can be paired.
    pub fn take(&mut self, taken: Taken, single_partition: bool) {
        let lane = Lane::new(taken.epoch, taken.progress, single_partition, self.timeout);
        self.lanes.insert(taken.partition, lane);
    }

    /// Forgets every partition and all that was read of it.
    pub fn forget_all(&mut self) {
        self.lanes.clear();
        self.batches.clear();
        self.dead_letters.clear();
    }

    /// The partitions held.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.lanes.keys().copied()
    }

    /// Whether no partition is held.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The epoch under which `partition` is held.
    pub fn epoch(&self, partition: i32) -> Option<i64> {
        self.lanes.get(&partition).map(|lane| lane.epoch)
    }

    /// Takes in a message read at `now`. Says what it is; if it is not to be settled (not ours, or settled before) it
    /// is dropped here.
    pub fn push(&mut self, message: Message, now: Duration) -> Read {
        let Some(lane) = self.lanes.get_mut(&message.partition) else { return Read::Passed };
        let has_key = |stored: Option<&str>| stored == message.key.as_deref().map(key::text).as_deref();
        let read = lane.progress[message.metric.index()].read(message.offset, has_key);
        if read == Read::New {
            self.read += 1;
            lane.push(message, (now, self.read));
            lane.hand_over(&mut self.batches, &mut self.dead_letters);
        }
        read
    }

    /// Notes that all below `position` was read on the topic of `metric`, messages or not; and the leader epoch of
    /// the last of it, if the brokers tell.
    pub fn read_up_to(&mut self, partition: i32, metric: Metric, position: i64, epoch: Option<i32>) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            let progress = &mut lane.progress[metric.index()];
            progress.read_up_to(position);
            epoch.into_iter().for_each(|epoch| progress.note_epoch(position, epoch));
        }
    }

    /// Notes that a message is settled (or will be, by the commit now being built).
    pub fn settle(&mut self, message: Position) {
        if let Some(lane) = self.lanes.get_mut(&message.partition) {
            lane.progress[message.metric.index()].settle(message.offset);
        }
    }

    /// Per topic of `partition`, the lowest offset not yet settled.
    pub fn progress(&self, partition: i32) -> Option<[i64; 3]> {
        self.lanes.get(&partition).map(|lane| lane.progress.each_ref().map(Progress::next))
    }

    /// Per topic of `partition`, a leader epoch in which the log had everything below its progress.
    pub fn leader_epochs(&self, partition: i32) -> [Option<i32>; 3] {
        let lane = self.lanes.get(&partition);
        lane.map_or([None; 3], |lane| lane.progress.each_ref().map(Progress::leader_epoch))
    }

    /// The topics whose high watermark is needed now to tell late messages from missing ones. Each is
    /// named once, until [`Pairing::mark`] answers.
    pub fn ask_marks(&mut self, now: Duration) -> Vec<(i32, Metric)> {
        let lanes = self.lanes.iter_mut();
        lanes.flat_map(|(&p, lane)| lane.ask_marks(now).into_iter().map(move |metric| (p, metric))).collect()
    }

    /// The answer to what [`Pairing::ask_marks`] asked at `asked`: the high watermark, or `None` if the broker did
    /// not say. **An answer counts for its own question only**: one that an earlier owner asked may come late, and
    /// knows nothing of what was written since.
    pub fn mark(&mut self, partition: i32, metric: Metric, asked: Duration, high: Option<i64>) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.mark(metric, asked, high);
        }
    }

    /// Gives up the messages whose partners are known to be missing.
    pub fn expire(&mut self, now: Duration) {
        for lane in self.lanes.values_mut() {
            lane.expire(now);
            lane.hand_over(&mut self.batches, &mut self.dead_letters);
        }
    }

    /// Gives up the oldest waiting message for want of memory. Says whether there was one.
    pub fn evict_oldest(&mut self) -> bool {
        let oldest = self.oldest();
        if let Some(lane) = oldest.and_then(|partition| self.lanes.get_mut(&partition)) {
            lane.evict_oldest();
            lane.hand_over(&mut self.batches, &mut self.dead_letters);
        }
        oldest.is_some()
    }

    /// What the oldest waiting message waits for: its partition, and the topics that lack its key.
    pub fn oldest_lacks(&self) -> Option<(i32, Vec<Metric>)> {
        let partition = self.oldest()?;
        Some((partition, self.lanes.get(&partition)?.oldest_lacks()))
    }

    /// Per topic of `partition`, the weight of the messages that wait for partners.
    pub fn waiting_bytes(&self, partition: i32) -> [usize; 3] {
        self.lanes.get(&partition).map_or([0; 3], |lane| lane.waiting_bytes)
    }

    /// The batches that became whole since the last call.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.batches)
    }

    /// The messages given up since the last call, each with the epoch it was read under.
    pub fn take_dead_letters(&mut self) -> Vec<(i64, DeadLetter)> {
        std::mem::take(&mut self.dead_letters)
    }

    /// The partition of the message that has waited longest.
    fn oldest(&self) -> Option<i32> {
        let ages = self.lanes.iter().filter_map(|(&partition, lane)| Some((lane.oldest()?, partition)));
        ages.min().map(|(_, partition)| partition)
    }
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition number.
    pub partition: i32,
    /// Which of the three topics.
    pub metric: Metric,
    /// The message's own offset.
    pub offset: i64,
}

#[cfg(test)]
mod tests;
