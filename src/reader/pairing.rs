//! Pairing: three topics in, whole batches out.
//!
//! Owns which messages belong together and which never will; and, per topic, what was read and what is
//! settled ([`Progress`]). Does not own bodies (`score`) or rows (`store`). Pure: time comes in as a
//! parameter, the *reading clock*, which stands still while the reader does not read.
//!
//! **A key pairs first in, first out, within a partition, and by nothing else.** A message is given up only
//! when its partner is known to be missing: `--pairing-timeout` after it was read, every topic it lacks has
//! been read up to the high watermark of that moment.
//!
//! A `Pairing` lives as long as one assignment of the group: the partitions it holds are taken together and
//! dropped together, so everything in it was read under one ownership.

mod elsewhere;
mod lane;

use crate::coordinates::{MessageId, TopicPartition};
use crate::message::{Message, Problem, Reason};
use crate::metric::{Metric, PerMetric};
use crate::reader::key;
use crate::reader::progress::{Progress, Read};
use elsewhere::GivenUp;
use lane::{Key, Lane, Missed};
use std::collections::BTreeMap;
use std::time::Duration;

/// The three messages of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// One per metric, all of one partition.
    pub messages: PerMetric<Message>,
}

impl Batch {
    /// The partition that the three messages stand on.
    pub fn partition(&self) -> i32 {
        self.messages.recency.partition
    }

    /// Memory that its messages take, in bytes.
    pub fn weight(&self) -> usize {
        self.messages.values().map(Message::weight).sum()
    }
}

/// A message that will not be scored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message with its bytes.
    pub message: Message,
    /// The reason and the sentence about it.
    pub problem: Problem,
    /// The offset of the recency message of the batch with which it was refused; `None` if it was refused
    /// alone.
    pub refused_with: Option<i64>,
}

/// What pairing has decided and the session has not yet collected.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The whole batches, in the order in which they became whole.
    pub batches: Vec<Batch>,
    /// The messages given up, in the order in which they were given up.
    pub dead_letters: Vec<DeadLetter>,
}

/// When a message was read: by the reading clock, then by a running number.
type Age = (Duration, u64);

/// A partition as it is taken, and where its three topics stand.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The partition number.
    pub partition: i32,
    /// What an earlier owner settled.
    pub progress: PerMetric<Progress>,
}

/// Everything that was read from the partitions held and is not yet settled.
#[derive(Debug)]
pub struct Pairing {
    /// `--pairing-timeout`
    timeout: Duration,
    /// What is held of each partition.
    lanes: BTreeMap<i32, Lane>,
    /// Messages read so far.
    read: u64,
    /// What was given up a while ago, to recognise keys that stand on several partitions.
    given_up: GivenUp,
    /// See [`Pairing::take_outbox`].
    outbox: Outbox,
}

impl Pairing {
    /// Holds no partition yet; `timeout` is `--pairing-timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            lanes: BTreeMap::new(),
            read: 0,
            given_up: GivenUp::default(),
            outbox: Outbox::default(),
        }
    }

    /// Adds a partition. `single_partition` says that the topics have no other, so messages without a key can
    /// be paired.
    pub fn take(&mut self, taken: Taken, single_partition: bool) {
        let lane = Lane::new(taken.progress, single_partition, self.timeout);
        self.lanes.insert(taken.partition, lane);
    }

    /// The partitions held.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.lanes.keys().copied()
    }

    /// Takes in a message read at `now`, and returns what it is. A message that is not to be settled (its
    /// partition is not held, or it was settled before) is dropped here.
    pub fn push(&mut self, message: Message, now: Duration) -> Read {
        let Some(lane) = self.lanes.get_mut(&message.partition) else { return Read::Passed };
        let has_key = |stored: Option<&str>| stored == message.key.as_deref().map(key::text).as_deref();
        let read = lane.progress[message.metric].read(message.offset, has_key);
        if read == Read::New {
            self.read += 1;
            lane.push(message, (now, self.read), &mut self.outbox);
        }
        read
    }

    /// Notes that everything below `position` was read, messages or not; and the leader epoch of the last
    /// record, if it is known.
    pub fn read_up_to(&mut self, at: TopicPartition, position: i64, epoch: Option<i32>) {
        if let Some(lane) = self.lanes.get_mut(&at.partition) {
            let progress = &mut lane.progress[at.metric];
            progress.read_up_to(position);
            epoch.into_iter().for_each(|epoch| progress.note_epoch(position, epoch));
        }
    }

    /// Notes that a message is settled (or will be, by the commit now being built).
    pub fn settle(&mut self, message: MessageId) {
        if let Some(lane) = self.lanes.get_mut(&message.partition) {
            lane.progress[message.metric].settle(message.offset);
        }
    }

    /// Per topic of `partition`, the lowest offset not yet settled.
    pub fn progress(&self, partition: i32) -> Option<PerMetric<i64>> {
        self.lanes.get(&partition).map(|lane| lane.progress.as_ref().map(Progress::next))
    }

    /// Per topic of `partition`, the next offset to read.
    pub fn positions(&self, partition: i32) -> Option<PerMetric<i64>> {
        self.lanes.get(&partition).map(|lane| lane.progress.as_ref().map(Progress::position))
    }

    /// Per topic of `partition`, the messages below `ends` that are not settled: see [`Progress::lag`].
    pub fn lag(&self, partition: i32, ends: PerMetric<i64>) -> Option<PerMetric<i64>> {
        let lane = self.lanes.get(&partition)?;
        Some(PerMetric::from_fn(|metric| lane.progress[metric].lag(ends[metric])))
    }

    /// Per topic of `partition`, a leader epoch in which the log had everything below its progress.
    pub fn leader_epochs(&self, partition: i32) -> PerMetric<Option<i32>> {
        let lane = self.lanes.get(&partition);
        lane.map_or_else(PerMetric::default, |lane| lane.progress.as_ref().map(Progress::leader_epoch))
    }

    /// The topics whose high watermark is needed now to tell late messages from missing ones. Each is named
    /// once, until [`Pairing::on_watermark`] brings the answer.
    pub fn watermarks_wanted(&mut self, now: Duration) -> Vec<TopicPartition> {
        let of_lane = |(&partition, lane): (&i32, &mut Lane)| {
            let wanted = lane.watermarks_wanted(now).into_iter();
            wanted.map(move |metric| TopicPartition { metric, partition }).collect::<Vec<_>>()
        };
        self.lanes.iter_mut().flat_map(of_lane).collect()
    }

    /// The answer to what [`Pairing::watermarks_wanted`] asked at `asked`: the high watermark, or `None` if
    /// the broker did not say. **An answer counts for its own question only**: the answer to an earlier owner
    /// may come late, and knows nothing of what was written since.
    pub fn on_watermark(&mut self, at: TopicPartition, asked: Duration, high: Option<i64>) {
        if let Some(lane) = self.lanes.get_mut(&at.partition) {
            lane.on_watermark(at.metric, asked, high);
        }
    }

    /// Gives up the messages whose partners are known to be missing.
    pub fn expire(&mut self, now: Duration) {
        let missed = |(&partition, lane): (&i32, &Lane)| {
            lane.missed(now).into_iter().map(move |missed| (partition, missed)).collect::<Vec<_>>()
        };
        let missed: Vec<(i32, Missed)> = self.lanes.iter().flat_map(missed).collect();
        // Before any of them is dropped: two may be of the same batch, on different partitions.
        let details: Vec<String> = missed
            .iter()
            .map(|(partition, missed)| missed.detail(self.timeout) + &self.elsewhere(*partition, missed))
            .collect();
        for ((partition, missed), detail) in missed.into_iter().zip(details) {
            self.give_up(partition, &missed, detail);
        }
    }

    /// Gives up the oldest waiting message to free memory. Returns whether there was one.
    pub fn evict_oldest(&mut self) -> bool {
        let Some(partition) = self.oldest() else { return false };
        let Some(oldest) = self.lanes.get(&partition).and_then(Lane::oldest_missed) else { return false };
        let detail = "its partners did not come before --buffer-bytes was full; a larger budget would have waited longer";
        let detail = detail.to_owned() + &self.elsewhere(partition, &oldest);
        self.give_up(partition, &oldest, detail);
        true
    }

    /// Gives up a message as `unpaired`.
    fn give_up(&mut self, partition: i32, missed: &Missed, detail: String) {
        if let Some(key) = &missed.key {
            self.given_up.note(key, missed.metric, partition);
        }
        if let Some(lane) = self.lanes.get_mut(&partition) {
            let problem = Problem::new(Reason::Unpaired, detail);
            lane.drop_head(missed.metric, &missed.key, problem, &mut self.outbox);
        }
    }

    /// What to say if partners of a message are on other partitions.
    fn elsewhere(&self, partition: i32, Missed { key, lacks, .. }: &Missed) -> String {
        let Some(bytes) = key else { return String::new() };
        let waiting = |key: &Key, metric| {
            let mut others = self.lanes.iter().filter(|(other, _)| **other != partition);
            others.find(|(_, lane)| lane.has_waiting(key, metric)).map(|(&other, _)| other)
        };
        let seen = |&metric: &Metric| {
            let other =
                waiting(key, metric).or_else(|| self.given_up.other_than(partition, bytes, metric))?;
            Some((metric, other))
        };
        elsewhere::sentence(&lacks.iter().filter_map(seen).collect::<Vec<_>>())
    }

    /// What the oldest waiting message waits for: its partition, and the topics that lack its key.
    pub fn oldest_lacks(&self) -> Option<(i32, Vec<Metric>)> {
        let partition = self.oldest()?;
        Some((partition, self.lanes.get(&partition)?.oldest_lacks()))
    }

    /// When the message that has waited longest was read.
    pub fn oldest_read(&self) -> Option<Duration> {
        self.lanes.values().filter_map(Lane::oldest).min().map(|(read, _)| read)
    }

    /// Per topic of `partition`, the weight of the messages that wait for partners.
    pub fn waiting_bytes(&self, partition: i32) -> PerMetric<usize> {
        self.lanes.get(&partition).map_or_else(PerMetric::default, |lane| lane.waiting_bytes)
    }

    /// What was decided since the last call.
    pub fn take_outbox(&mut self) -> Outbox {
        std::mem::take(&mut self.outbox)
    }

    /// The partition of the message that has waited longest.
    fn oldest(&self) -> Option<i32> {
        let ages = self.lanes.iter().filter_map(|(&partition, lane)| Some((lane.oldest()?, partition)));
        ages.min().map(|(_, partition)| partition)
    }
}

#[cfg(test)]
mod tests;
