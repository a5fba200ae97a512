//! One partition of the three topics: which messages wait for partners.

use super::{Age, Batch, DeadLetter, Outbox};
use crate::message::{Message, Problem, Reason};
use crate::metric::{Metric, PerMetric};
use crate::reader::progress::Progress;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A batch key; `None` ("no key") is a key like any other.
pub(super) type Key = Option<Arc<[u8]>>;

/// A message that is given up, unless its partners come: the oldest of its key.
#[derive(Debug)]
pub(super) struct Missed {
    /// Its topic.
    pub(super) metric: Metric,
    /// Its key.
    pub(super) key: Key,
    /// The topics that have no message with its key on its partition.
    pub(super) lacks: Vec<Metric>,
}

impl Missed {
    /// Why it is given up after `timeout`.
    pub(super) fn detail(&self, timeout: Duration) -> String {
        let lacks: Vec<&str> = self.lacks.iter().map(|metric| metric.name()).collect();
        let timeout = humantime::format_duration(timeout);
        format!("no message with its key came on this partition of {} within {timeout}", lacks.join(" or "))
    }
}

/// Per topic, the messages of one key that wait, oldest first. At least one queue is empty; otherwise the
/// oldest three would have been paired.
type Queues = PerMetric<VecDeque<(Age, Message)>>;

/// What is known about the end of a topic.
#[derive(Clone, Copy, Debug, Default)]
enum End {
    #[default]
    Unknown,
    /// Asked for at this moment.
    Asked(Duration),
    /// The high watermark was `high`, at the moment `asked` or later.
    Known { asked: Duration, high: i64 },
}

/// See [`super::Pairing`]; a lane is what it holds of one partition.
#[derive(Debug)]
pub(super) struct Lane {
    /// How far each topic is read and settled.
    pub(super) progress: PerMetric<Progress>,
    /// The topics have no other partition, so messages without a key can be paired.
    single_partition: bool,
    /// `--pairing-timeout`
    timeout: Duration,
    /// The messages that wait for partners.
    waiting: HashMap<Key, Queues>,
    /// Per topic, the weight of the messages that wait.
    pub(super) waiting_bytes: PerMetric<usize>,
    /// The messages that wait, by age.
    by_age: BTreeMap<Age, (Metric, Key)>,
    /// Where each topic ends.
    ends: PerMetric<End>,
}

impl Lane {
    pub(super) fn new(progress: PerMetric<Progress>, single_partition: bool, timeout: Duration) -> Self {
        Self {
            progress,
            single_partition,
            timeout,
            waiting: HashMap::new(),
            waiting_bytes: PerMetric::default(),
            by_age: BTreeMap::new(),
            ends: PerMetric::default(),
        }
    }

    /// Takes in a message. What becomes whole or is given up goes into `outbox`.
    pub(super) fn push(&mut self, message: Message, age: Age, outbox: &mut Outbox) {
        if message.key.is_none() && !self.single_partition {
            let detail = "no key, and the topics have more than one partition: give the three messages of a \
                          batch the same key";
            return give_up(message, Problem::new(Reason::NoKey, detail), outbox);
        }
        let key: Key = message.key.as_deref().map(Arc::from);
        self.by_age.insert(age, (message.metric, key.clone()));
        self.waiting_bytes[message.metric] += message.weight();
        let queue = &mut self.waiting.entry(key.clone()).or_default()[message.metric];
        // Most keys are unique, and the four places of a new queue would take more memory than the budget
        // counts.
        if queue.is_empty() {
            queue.reserve_exact(1);
        }
        queue.push_back((age, message));
        self.pair(&key, outbox);
    }

    /// Pairs the heads of the queues of `key` as long as there are three.
    fn pair(&mut self, key: &Key, outbox: &mut Outbox) {
        while let Some(heads) = self.heads(key) {
            if key.is_none()
                && let Some((oldest, spread)) = too_far_apart(heads, self.timeout)
            {
                let detail = format!(
                    "without a key, and its time differs by {} from that of the messages beside it",
                    humantime::format_duration(spread)
                );
                self.drop_head(oldest, key, Problem::new(Reason::Unpaired, detail), outbox);
                continue;
            }
            if let Some(messages) = PerMetric::from_fn(|metric| self.pop(metric, key)).all() {
                outbox.batches.push(Batch { messages });
            }
        }
    }

    /// The oldest waiting message of `key` in each topic, if there is one in all three.
    fn heads(&self, key: &Key) -> Option<PerMetric<&Message>> {
        let heads = self.waiting.get(key)?.as_ref().map(|queue| queue.front()).all()?;
        Some(heads.map(|(_, message)| message))
    }

    /// Removes the oldest waiting message of `key` in a topic from everything but `progress`.
    fn pop(&mut self, metric: Metric, key: &Key) -> Option<Message> {
        let queues = self.waiting.get_mut(key)?;
        let (age, message) = queues[metric].pop_front()?;
        if queues.values().all(VecDeque::is_empty) {
            self.waiting.remove(key);
        }
        self.by_age.remove(&age);
        self.waiting_bytes[metric] -= message.weight();
        Some(message)
    }

    pub(super) fn drop_head(&mut self, metric: Metric, key: &Key, problem: Problem, outbox: &mut Outbox) {
        if let Some(message) = self.pop(metric, key) {
            give_up(message, problem, outbox);
        }
    }

    /// The topics whose end must still be asked for, to judge what is overdue at `now`.
    pub(super) fn watermarks_wanted(&mut self, now: Duration) -> Vec<Metric> {
        let Some(deadline) = self.newest_overdue(now).map(|read| read + self.timeout) else {
            return Vec::new();
        };
        let wanted = |metric: &Metric| match self.ends[*metric] {
            End::Unknown => true,
            End::Asked(_) => false,
            // The next watermark is asked for only once the last one is reached. Otherwise a busy topic would
            // never be at its end.
            End::Known { asked, high } => asked < deadline && self.position(*metric) >= high,
        };
        let wanted: Vec<Metric> = Metric::ALL.into_iter().filter(wanted).collect();
        wanted.iter().for_each(|&metric| self.ends[metric] = End::Asked(now));
        wanted
    }

    pub(super) fn on_watermark(&mut self, metric: Metric, asked: Duration, high: Option<i64>) {
        let end = &mut self.ends[metric];
        if matches!(*end, End::Asked(question) if question == asked) {
            *end = high.map_or(End::Unknown, |high| End::Known { asked, high });
        }
    }

    /// The messages that are overdue at `now` and had no partners when the end was reached.
    pub(super) fn missed(&self, now: Duration) -> Vec<Missed> {
        let ends = PerMetric::from_fn(|metric| self.read_to_end_since(metric));
        if ends.values().all(Option::is_none) {
            return Vec::new();
        }
        let overdue = self.by_age.range(..=last_overdue(now, self.timeout));
        overdue
            .filter(|(age, (metric, key))| self.is_missed(**age, *metric, key, &ends))
            .map(|(_, (metric, key))| self.as_missed(*metric, key))
            .collect()
    }

    fn as_missed(&self, metric: Metric, key: &Key) -> Missed {
        Missed { metric, key: key.clone(), lacks: self.lacks(key).collect() }
    }

    /// Whether the message of this age is the next of its key, and every topic that lacks the key has been
    /// read to its end since the message was due.
    fn is_missed(&self, age: Age, metric: Metric, key: &Key, ends: &PerMetric<Option<Duration>>) -> bool {
        let Some(queues) = self.waiting.get(key) else { return false };
        let is_head = queues[metric].front().is_some_and(|(head, _)| *head == age);
        let deadline = age.0 + self.timeout;
        is_head && self.lacks(key).all(|topic| ends[topic].is_some_and(|asked| asked >= deadline))
    }

    /// The topics on which no message of `key` waits.
    fn lacks(&self, key: &Key) -> impl Iterator<Item = Metric> {
        let queues = self.waiting.get(key);
        Metric::ALL.into_iter().filter(move |m| queues.is_none_or(|queues| queues[*m].is_empty()))
    }

    /// If the topic has been read up to its last known high watermark, the moment when that was asked for.
    fn read_to_end_since(&self, metric: Metric) -> Option<Duration> {
        match self.ends[metric] {
            End::Known { asked, high } if self.position(metric) >= high => Some(asked),
            _ => None,
        }
    }

    fn position(&self, metric: Metric) -> i64 {
        self.progress[metric].position()
    }

    /// When the youngest of the overdue messages was read.
    fn newest_overdue(&self, now: Duration) -> Option<Duration> {
        self.by_age.range(..=last_overdue(now, self.timeout)).next_back().map(|((read, _), _)| *read)
    }

    pub(super) fn oldest(&self) -> Option<Age> {
        self.by_age.keys().next().copied()
    }

    pub(super) fn oldest_lacks(&self) -> Vec<Metric> {
        self.by_age.values().next().map(|(_, key)| self.lacks(key).collect()).unwrap_or_default()
    }

    /// The message that has waited longest.
    pub(super) fn oldest_missed(&self) -> Option<Missed> {
        self.by_age.values().next().map(|(metric, key)| self.as_missed(*metric, key))
    }

    /// Whether a message of this key waits on a topic.
    pub(super) fn has_waiting(&self, key: &Key, metric: Metric) -> bool {
        self.waiting.get(key).is_some_and(|queues| !queues[metric].is_empty())
    }
}

fn give_up(message: Message, problem: Problem, outbox: &mut Outbox) {
    outbox.dead_letters.push(DeadLetter { message, problem, refused_with: None });
}

/// The greatest age that is overdue at `now`; below all ages while nothing can be overdue.
fn last_overdue(now: Duration, timeout: Duration) -> Age {
    now.checked_sub(timeout).map_or((Duration::ZERO, 0), |read| (read, u64::MAX))
}

/// The oldest of three messages, and how far apart they are, if that is more than `limit`.
fn too_far_apart(heads: PerMetric<&Message>, limit: Duration) -> Option<(Metric, Duration)> {
    // A message without a time has no distance from the others.
    let times = heads.map(|message| message.timestamp).all()?;
    let (oldest, newest) = (times.values().min()?, times.values().max()?);
    let (metric, _) = times.iter().find(|(_, time)| *time == oldest)?;
    let spread = Duration::from_millis(newest.abs_diff(*oldest));
    (spread > limit).then_some((metric, spread))
}
