//! The naive implementation of pairing: everything ever read, in one list per partition, which every question
//! searches from the front.

use rfm_stream::coordinates::MessageId;
use rfm_stream::message::{Message, Reason};
use rfm_stream::metric::Metric;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    HandedOver,
    Settled,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    read_at: Duration,
    /// Counts everything that was ever read, of all partitions.
    number: u64,
    state: State,
}

/// A high watermark from the broker: it was `end` at the time of the question.
#[derive(Debug)]
struct Answer {
    metric: Metric,
    asked: Duration,
    end: i64,
}

#[derive(Debug, Default)]
pub struct Partition {
    pub is_held: bool,
    position: [i64; 3],
    settled_before: [BTreeSet<i64>; 3],
    entries: Vec<Entry>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
pub struct Model {
    pub timeout: Duration,
    pub partitions: Vec<Partition>,
    read: u64,
    /// What pairing must hand over next, in this order.
    pub batches: Vec<[Message; 3]>,
    pub letters: Vec<(Message, Reason)>,
}

impl Partition {
    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.state == State::Waiting)
    }

    fn first(&self, metric: Metric, key: &Option<Vec<u8>>) -> Option<usize> {
        let is_it =
            |e: &Entry| e.state == State::Waiting && e.message.metric == metric && e.message.key == *key;
        self.entries.iter().position(is_it)
    }

    pub fn lacks(&self, key: &Option<Vec<u8>>) -> Vec<Metric> {
        Metric::ALL.into_iter().filter(|&metric| self.first(metric, key).is_none()).collect()
    }

    pub fn waiting_bytes(&self) -> [usize; 3] {
        Metric::ALL.map(|metric| {
            self.waiting().filter(|e| e.message.metric == metric).map(|e| e.message.weight()).sum()
        })
    }

    /// Per topic, the lowest offset read and not settled, or the next to read.
    pub fn progress(&self) -> [i64; 3] {
        Metric::ALL.map(|metric| {
            let open =
                self.entries.iter().filter(|e| e.message.metric == metric && e.state != State::Settled);
            open.map(|e| e.message.offset).min().unwrap_or(self.position[metric as usize])
        })
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting().count()
    }

    pub fn unsettled(&self) -> usize {
        self.entries.iter().filter(|e| e.state != State::Settled).count()
    }
}

impl Model {
    pub fn new(timeout: Duration, partitions: usize) -> Self {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Self { timeout, partitions, read: 0, batches: Vec::new(), letters: Vec::new() }
    }

    pub fn take(&mut self, partition: usize, next: [i64; 3], settled: [BTreeSet<i64>; 3]) {
        self.partitions[partition] =
            Partition { is_held: true, position: next, settled_before: settled, ..Partition::default() };
    }

    pub fn forget_all(&mut self) {
        self.partitions.iter_mut().for_each(|partition| *partition = Partition::default());
        self.batches.clear();
        self.letters.clear();
    }

    pub fn push(&mut self, message: Message, now: Duration) -> bool {
        let single = self.partitions.len() == 1;
        let partition = &mut self.partitions[message.partition as usize];
        let (p, metric, offset) = (message.partition as usize, message.metric as usize, message.offset);
        if !partition.is_held || offset < partition.position[metric] {
            return false;
        }
        partition.position[metric] = offset + 1;
        if partition.settled_before[metric].contains(&offset) {
            return false;
        }
        self.read += 1;
        let no_key = message.key.is_none() && !single;
        let state = if no_key { State::HandedOver } else { State::Waiting };
        if no_key {
            self.letters.push((message.clone(), Reason::NoKey));
        }
        let key = message.key.clone();
        partition.entries.push(Entry { message, read_at: now, number: self.read, state });
        self.pair(p, &key);
        true
    }

    /// Pairs the oldest messages of this key.
    fn pair(&mut self, partition: usize, key: &Option<Vec<u8>>) {
        let partition = &mut self.partitions[partition];
        while let [Some(r), Some(f), Some(m)] = Metric::ALL.map(|metric| partition.first(metric, key)) {
            let three = [r, f, m];
            if let (None, Some(oldest)) = (key, too_far_apart(&partition.entries, three, self.timeout)) {
                partition.entries[oldest].state = State::HandedOver;
                let message = partition.entries[oldest].message.clone();
                self.letters.push((message, Reason::Unpaired));
                continue;
            }
            three.iter().for_each(|&i| partition.entries[i].state = State::HandedOver);
            self.batches.push(three.map(|i| partition.entries[i].message.clone()));
        }
    }

    pub fn read_up_to(&mut self, partition: usize, metric: Metric, position: i64) {
        let at = &mut self.partitions[partition].position[metric as usize];
        *at = position.max(*at);
    }

    pub fn settle(&mut self, id: MessageId) {
        let is_it = |e: &&mut Entry| e.message.id() == id;
        let entries = &mut self.partitions[id.partition as usize].entries;
        entries.iter_mut().filter(is_it).for_each(|entry| entry.state = State::Settled);
    }

    /// The partition of the message that has waited longest, and its place there.
    fn oldest_place(&self) -> Option<(usize, usize)> {
        let all = self.partitions.iter().enumerate().flat_map(|(p, partition)| {
            partition.entries.iter().enumerate().map(move |(i, entry)| (p, i, entry))
        });
        let waiting = all.filter(|(.., entry)| entry.state == State::Waiting);
        waiting.min_by_key(|(.., entry)| (entry.read_at, entry.number)).map(|(p, i, _)| (p, i))
    }

    pub fn oldest_lacks(&self) -> Option<(i32, Vec<Metric>)> {
        let (p, i) = self.oldest_place()?;
        let partition = &self.partitions[p];
        Some((p as i32, partition.lacks(&partition.entries[i].message.key)))
    }

    pub fn evict_oldest(&mut self) -> bool {
        let Some((p, i)) = self.oldest_place() else { return false };
        self.give_up(p, i);
        true
    }

    fn give_up(&mut self, p: usize, i: usize) {
        let partition = &mut self.partitions[p];
        partition.entries[i].state = State::HandedOver;
        let message = partition.entries[i].message.clone();
        self.letters.push((message, Reason::Unpaired));
    }

    pub fn has_overdue(&self, partition: usize, now: Duration) -> bool {
        self.partitions[partition].waiting().any(|entry| entry.read_at + self.timeout <= now)
    }

    pub fn answered(&mut self, partition: usize, metric: Metric, asked: Duration, end: i64) {
        self.partitions[partition].answers.push(Answer { metric, asked, end });
    }

    /// Gives up these messages, all at `now`. An error for one that must not be given up.
    pub fn expire(&mut self, expired: &[Message], now: Duration) -> Result<(), String> {
        let mut places = Vec::new();
        for message in expired {
            let p = message.partition as usize;
            let at = self.partitions[p].first(message.metric, &message.key);
            let at = at.filter(|&i| self.partitions[p].entries[i].message == *message);
            let i =
                at.ok_or_else(|| format!("given up, but not the first of its key that waits: {message:?}"))?;
            self.may_expire(p, i, now)?;
            places.push((p, i));
        }
        places.into_iter().for_each(|(p, i)| self.give_up(p, i));
        Ok(())
    }

    /// A message may be given up only after its time, and only if every topic that lacks its key was read up
    /// to an end that was asked for after that time.
    fn may_expire(&self, p: usize, i: usize, now: Duration) -> Result<(), String> {
        let partition = &self.partitions[p];
        let entry = &partition.entries[i];
        let due = entry.read_at + self.timeout;
        let read_up = |metric: Metric| {
            let here = partition.position[metric as usize];
            partition.answers.iter().any(|a| a.metric == metric && a.asked >= due && a.end <= here)
        };
        let missing: Vec<Metric> = partition.lacks(&entry.message.key);
        if due > now {
            return Err(format!("given up before its time {due:?}: {:?}", entry.message));
        }
        match missing.into_iter().find(|&metric| !read_up(metric)) {
            Some(metric) => Err(format!("given up before {metric} was read up: {:?}", entry.message)),
            None => Ok(()),
        }
    }
}

/// Of three messages without a key, the one to give up: the oldest, if their times are too far apart.
fn too_far_apart(entries: &[Entry], three: [usize; 3], limit: Duration) -> Option<usize> {
    let [r, f, m] = three.map(|i| entries[i].message.timestamp);
    let times = [r?, f?, m?];
    let oldest = (0..3).min_by_key(|&i| times[i])?;
    let spread = i128::from(*times.iter().max()?) - i128::from(times[oldest]);
    (spread > limit.as_millis() as i128).then_some(three[oldest])
}
