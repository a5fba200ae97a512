//! The world around pairing: logs that grow, a broker that answers, a database that remembers. Every call
//! goes to [`Pairing`] and to the naive implementation, and the results are compared.

use crate::MEMORY;
use crate::books::{EMPTY_BOOKS, EMPTY_PARTITION, PER_UNSETTLED, bytes_of};
use crate::model::Model;
use crate::target::Story;
use rfm_stream::coordinates::{MessageId, TopicPartition};
use rfm_stream::message::{Message, Reason};
use rfm_stream::metric::{Metric, PerMetric};
use rfm_stream::reader::key;
use rfm_stream::reader::pairing::{Batch, DeadLetter, Outbox, Pairing, Taken};
use rfm_stream::reader::progress::{Progress, Read};
use std::collections::BTreeSet;
use std::time::Duration;

/// One topic of one partition, as Kafka and the database have it.
#[derive(Default)]
pub struct Topic {
    pub log: Vec<Message>,
    /// The high watermark.
    pub end: i64,
    /// The present owner has read everything below.
    pub cursor: i64,
    /// What the database has: the lowest offset not settled, and the settled offsets.
    next: i64,
    settled: BTreeSet<i64>,
}

impl Topic {
    /// The key of the message at `offset`, as stored in the tables.
    fn key_text(&self, offset: i64) -> Option<String> {
        let message = self.log.iter().find(|message| message.offset == offset);
        message?.key.as_deref().map(key::text)
    }
}

/// A question for a high watermark that is not answered yet.
pub struct Question {
    pub partition: usize,
    pub metric: Metric,
    asked: Duration,
    /// The end at the time of the question.
    end: i64,
    /// The owner that asked. An answer may come when there is another owner, or none.
    epoch: i64,
}

pub struct World<'a> {
    pub topics: Vec<[Topic; 3]>,
    pub questions: Vec<Question>,
    /// Handed over and not yet settled: the messages of a batch, or one dead letter.
    pub unstored: Vec<Vec<MessageId>>,
    pub now: Duration,
    pub model: Model,
    pairing: Pairing,
    epoch: i64,
    /// What `pairing` has allocated, including the messages that it was given.
    memory: isize,
    /// The most that it has been allowed so far.
    allowed: isize,
    pub story: &'a mut Story,
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

impl<'a> World<'a> {
    pub fn new(partitions: usize, timeout: Duration, story: &'a mut Story) -> Self {
        story.code(|| format!("let mut pairing = Pairing::new({timeout:?}); // {partitions} partitions"));
        let before = MEMORY.current_usage();
        let pairing = Pairing::new(timeout);
        let memory = MEMORY.current_usage() as isize - before as isize;
        Self {
            topics: (0..partitions).map(|_| Default::default()).collect(),
            questions: Vec::new(),
            unstored: Vec::new(),
            now: Duration::ZERO,
            model: Model::new(timeout, partitions),
            pairing,
            epoch: 0,
            memory,
            allowed: 0,
            story,
        }
    }

    /// Calls `pairing`, and notes how memory changed.
    fn call<T>(&mut self, call: impl FnOnce(&mut Pairing) -> T) -> T {
        let before = MEMORY.current_usage() as isize;
        let result = call(&mut self.pairing);
        self.memory += MEMORY.current_usage() as isize - before;
        result
    }

    /// A new owner takes these partitions, with what the database has.
    pub fn take(&mut self, partitions: impl Iterator<Item = usize>) {
        self.epoch += 1;
        let single = self.topics.len() == 1;
        for p in partitions {
            let next = self.topics[p].each_ref().map(|topic| topic.next);
            let settled =
                self.topics[p].each_ref().map(|topic| topic.settled.range(topic.next..).copied().collect());
            self.topics[p].iter_mut().for_each(|topic| topic.cursor = topic.next);
            self.story.code(|| format!("take({p}, {next:?}, {settled:?});"));
            self.model.take(p, next, settled.clone());
            let topics = &self.topics[p];
            let progress = PerMetric::from_fn(|metric| {
                let t = metric as usize;
                let keys = settled[t].iter().map(|&offset| (offset, topics[t].key_text(offset)));
                Progress::resume(next[t], keys.collect(), None)
            });
            self.call(|pairing| {
                pairing.take(Taken { partition: p as i32, progress }, single);
            });
        }
    }

    /// The owner is gone, and its memory with it.
    pub fn forget_all(&mut self) {
        let timeout = self.model.timeout;
        self.story.code(|| format!("pairing = Pairing::new({timeout:?});"));
        self.call(|pairing| *pairing = Pairing::new(timeout));
        self.model.forget_all();
        self.unstored.clear();
    }

    pub fn push(&mut self, message: Message) -> Result<(), String> {
        let now = self.now;
        self.story.code(|| {
            let Message { metric, partition, offset, timestamp, key, .. } = &message;
            let key = key.as_ref().map(|key| key.escape_ascii().to_string());
            format!("push({partition}, {metric:?}, {offset}, {key:?}, {timestamp:?}, {now:?});")
        });
        let expected = self.model.push(message.clone(), now);
        self.memory += bytes_of(&message);
        let found = self.call(|pairing| pairing.push(message, now));
        same("it is to be settled", found == Read::New, expected)
    }

    /// The consumer's position moved past what is no message.
    pub fn read_up_to(&mut self, p: usize, metric: Metric, position: i64) {
        let at = TopicPartition { metric, partition: p as i32 };
        self.story.code(|| format!("pairing.read_up_to({at:?}, {position}, None);"));
        self.call(|pairing| pairing.read_up_to(at, position, None));
        if self.model.partitions[p].is_held {
            self.model.read_up_to(p, metric, position);
        }
    }

    pub fn ask(&mut self) -> Result<(), String> {
        let now = self.now;
        self.story.code(|| format!("pairing.watermarks_wanted({now:?});"));
        for TopicPartition { metric, partition } in self.call(|pairing| pairing.watermarks_wanted(now)) {
            let p = partition as usize;
            if self.questions.iter().any(|q| (q.partition, q.metric, q.epoch) == (p, metric, self.epoch)) {
                return Err(format!("asked twice for {metric} {p}"));
            }
            if !self.model.has_overdue(p, now) {
                return Err(format!("asked for {metric} {p}, though nothing is overdue"));
            }
            let end = self.topics[p][metric as usize].end;
            self.questions.push(Question { partition: p, metric, asked: now, end, epoch: self.epoch });
        }
        Ok(())
    }

    /// Answers a question: with the current end, with the end at the time of the question, or not at all.
    pub fn answer(&mut self, question: usize, how: usize) {
        let Question { partition, metric, asked, end, epoch } = self.questions.remove(question);
        let high = [Some(self.topics[partition][metric as usize].end), Some(end), None][how];
        let at = TopicPartition { metric, partition: partition as i32 };
        self.story.code(|| format!("pairing.on_watermark({at:?}, {asked:?}, {high:?});"));
        self.call(|pairing| pairing.on_watermark(at, asked, high));
        // The answer to an earlier owner's question does not count.
        if high.is_some() && epoch == self.epoch {
            self.model.answered(partition, metric, asked, end);
        }
    }

    /// Takes over what is given up in `expire`. The model judges it, and does not predict it.
    pub fn expire(&mut self) -> Result<(), String> {
        self.hand_over()?;
        let now = self.now;
        self.story.code(|| format!("pairing.expire({now:?});"));
        self.call(|pairing| pairing.expire(now));
        let Outbox { batches, dead_letters } = self.take_outbox();
        same("batches", batches.len(), 0)?;
        let expired: Vec<Message> = dead_letters.iter().map(|letter| letter.message.clone()).collect();
        self.model.expire(&expired, now)?;
        self.compare_letters(dead_letters)
    }

    pub fn evict_oldest(&mut self) -> Result<(), String> {
        self.story.code(|| "pairing.evict_oldest();".into());
        same("there was one to evict", self.call(Pairing::evict_oldest), self.model.evict_oldest())
    }

    fn take_outbox(&mut self) -> Outbox {
        let outbox = self.call(Pairing::take_outbox);
        let Outbox { batches, dead_letters } = &outbox;
        self.memory -= batches.iter().flat_map(|batch| batch.messages.values()).map(bytes_of).sum::<isize>();
        self.memory -= (batches.capacity() * size_of::<Batch>()) as isize;
        let moved =
            |letter: &DeadLetter| bytes_of(&letter.message) + letter.problem.detail.capacity() as isize;
        self.memory -= dead_letters.iter().map(moved).sum::<isize>();
        self.memory -= (dead_letters.capacity() * size_of::<DeadLetter>()) as isize;
        outbox
    }

    pub fn hand_over(&mut self) -> Result<(), String> {
        self.story.code(|| "pairing.take_outbox();".into());
        let Outbox { batches, dead_letters } = self.take_outbox();
        let expected = std::mem::take(&mut self.model.batches);
        same("batches", batches.len(), expected.len())?;
        for (batch, messages) in batches.into_iter().zip(expected) {
            same("batch", &batch.messages.into_array(), &messages)?;
            self.story.outcome("batches");
            self.unstored.push(messages.iter().map(Message::id).collect());
        }
        self.compare_letters(dead_letters)
    }

    fn compare_letters(&mut self, letters: Vec<DeadLetter>) -> Result<(), String> {
        let expected = std::mem::take(&mut self.model.letters);
        same("dead letters", letters.len(), expected.len())?;
        for (letter, expected) in letters.into_iter().zip(expected) {
            let reason: Reason = letter.problem.reason;
            self.story.outcome(reason.name());
            self.unstored.push(vec![letter.message.id()]);
            same("dead letter", (letter.message, reason), expected)?;
        }
        Ok(())
    }

    /// A commit settles these places of `unstored`. It succeeds, unless the owner is to die.
    pub fn commit(&mut self, places: BTreeSet<usize>, stored: bool) -> Result<(), String> {
        let mut positions = Vec::new();
        for place in places.into_iter().rev() {
            positions.extend(self.unstored.swap_remove(place));
        }
        for &position in &positions {
            self.story.code(|| format!("pairing.settle({position:?});"));
            self.call(|pairing| pairing.settle(position));
            self.model.settle(position);
        }
        if !stored {
            return Ok(());
        }
        for MessageId { partition, metric, offset } in positions {
            if !self.topics[partition as usize][metric as usize].settled.insert(offset) {
                return Err(format!("{metric} {partition} {offset} is settled twice"));
            }
        }
        for p in 0..self.topics.len() {
            let Some(progress) = self.pairing.progress(p as i32) else { continue };
            for (topic, next) in self.topics[p].iter_mut().zip(progress.into_array()) {
                if next < topic.next {
                    return Err(format!("progress of {p} moved back: {} to {next}", topic.next));
                }
                topic.next = next;
            }
        }
        Ok(())
    }

    /// Every answer of `pairing` equals that of the naive implementation, and memory is within its bound.
    pub fn compare(&mut self) -> Result<(), String> {
        let mut allowed = EMPTY_BOOKS;
        for (p, partition) in self.model.partitions.iter().enumerate() {
            let p = p as i32;
            let progress = self.pairing.progress(p).map(PerMetric::into_array);
            same("progress", progress, partition.is_held.then(|| partition.progress()))?;
            same("waiting bytes", self.pairing.waiting_bytes(p).into_array(), partition.waiting_bytes())?;
            allowed += partition.waiting_bytes().iter().sum::<usize>();
            allowed += partition.unsettled() * PER_UNSETTLED + EMPTY_PARTITION;
        }
        same("what the oldest lacks", self.pairing.oldest_lacks(), self.model.oldest_lacks())?;
        let untaken = self.model.batches.iter().flatten();
        let untaken = untaken.chain(self.model.letters.iter().map(|(message, _)| message));
        allowed += untaken.map(Message::weight).sum::<usize>();
        // Collections that were large once stay large.
        self.allowed = self.allowed.max(allowed as isize);
        if self.memory > self.allowed {
            return Err(format!("pairing holds {} bytes, more than {}", self.memory, self.allowed));
        }
        Ok(())
    }

    /// Every message of every log is settled, and progress is at the ends.
    pub fn is_done(&self) -> Result<(), String> {
        for (p, topics) in self.topics.iter().enumerate() {
            for topic in topics {
                let all: BTreeSet<i64> = topic.log.iter().map(|message| message.offset).collect();
                same("everything is settled", &topic.settled, &all)?;
                same("progress at the end", topic.next, topic.end)?;
            }
            same("nothing waits", self.pairing.waiting_bytes(p as i32), [0; 3].into())?;
        }
        Ok(())
    }
}
