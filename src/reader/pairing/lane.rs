//! One partition of the three topics: who waits for whom.

use super::{Age, Batch, DeadLetter};
use crate::message::{Message, Metric, Problem, Reason};
use crate::reader::progress::Progress;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A batch key; `None` ("no key") is a key like any other.
type Key = Option<Arc<[u8]>>;

/// The messages of one key that wait, per topic, oldest first. Never are all three queues non-empty:
/// then they would have been paired.
type Queues = [VecDeque<(Age, Message)>; 3];

/// What is known of a topic's end.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Unknown,
    /// Asked for at this moment.
    Asked(Duration),
    /// At this moment or later, the high watermark was `high`.
    Known {
        asked: Duration,
        high: i64,
    },
}

/// See [`super::Pairing`]; a lane is what it holds of one partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) epoch: i64,
    pub(super) progress: [Progress; 3],
    /// Batches that became whole, not yet handed over.
    whole: Vec<[Message; 3]>,
    /// Messages given up, not yet handed over.
    given_up: Vec<DeadLetter>,
    single_partition: bool,
    timeout: Duration,
    waiting: HashMap<Key, Queues>,
    /// Per topic, the weight of the messages that wait.
    pub(super) waiting_bytes: [usize; 3],
    by_age: BTreeMap<Age, (Metric, Key)>,
    marks: [Mark; 3],
}

impl Lane {
    pub(super) fn new(
        epoch: i64,
        progress: [Progress; 3],
        single_partition: bool,
        timeout: Duration,
    ) -> Self {
        Self {
            epoch,
            progress,
            whole: Vec::new(),
            given_up: Vec::new(),
            single_partition,
            timeout,
            waiting: HashMap::new(),
            waiting_bytes: [0; 3],
            by_age: BTreeMap::new(),
            marks: [Mark::Unknown; 3],
        }
    }

    pub(super) fn push(&mut self, message: Message, age: Age) {
        if message.key.is_none() && !self.single_partition {
            let detail = "no key, and the topics have more than one partition: give the three messages of a \
                          batch the same key";
            return self.give_up(message, Problem::new(Reason::NoKey, detail));
        }
        let key: Key = message.key.as_deref().map(Arc::from);
        self.by_age.insert(age, (message.metric, key.clone()));
        self.waiting_bytes[message.metric.index()] += message.weight();
        let queue = &mut self.waiting.entry(key.clone()).or_default()[message.metric.index()];
        // Most keys are unique; the four places that a queue begins with would cost more than the budget counts.
        if queue.is_empty() {
            queue.reserve_exact(1);
        }
        queue.push_back((age, message));
        self.pair(&key);
    }

    /// Hands over what became whole or was given up, with the epoch it was read under.
    pub(super) fn hand_over(&mut self, batches: &mut Vec<Batch>, dead_letters: &mut Vec<(i64, DeadLetter)>) {
        let epoch = self.epoch;
        batches.extend(self.whole.drain(..).map(|messages| Batch { epoch, messages }));
        dead_letters.extend(self.given_up.drain(..).map(|letter| (epoch, letter)));
    }

    /// Pairs the heads of the queues of `key` as long as there are three.
    fn pair(&mut self, key: &Key) {
        while let Some(heads) = self.heads(key) {
            if key.is_none()
                && let Some((oldest, spread)) = too_far_apart(heads, self.timeout)
            {
                let detail = format!(
                    "without a key, and its time differs by {} from that of the messages beside it",
                    humantime::format_duration(spread)
                );
                self.drop_head(oldest, key, Problem::new(Reason::Unpaired, detail));
                continue;
            }
            let taken = Metric::ALL.map(|metric| self.pop(metric, key));
            if let [Some(recency), Some(frequency), Some(monetary)] = taken {
                self.whole.push([recency, frequency, monetary]);
            }
        }
    }

    /// The oldest waiting message of `key` in each topic, if there is one in all three.
    fn heads(&self, key: &Key) -> Option<[&Message; 3]> {
        match self.waiting.get(key)?.each_ref().map(|queue| queue.front()) {
            [Some((_, r)), Some((_, f)), Some((_, m))] => Some([r, f, m]),
            _ => None,
        }
    }

    /// Takes the oldest waiting message of `key` in a topic out of all books but `progress`.
    fn pop(&mut self, metric: Metric, key: &Key) -> Option<Message> {
        let queues = self.waiting.get_mut(key)?;
        let (age, message) = queues[metric.index()].pop_front()?;
        if queues.iter().all(VecDeque::is_empty) {
            self.waiting.remove(key);
        }
        self.by_age.remove(&age);
        self.waiting_bytes[metric.index()] -= message.weight();
        Some(message)
    }

    fn drop_head(&mut self, metric: Metric, key: &Key, problem: Problem) {
        if let Some(message) = self.pop(metric, key) {
            self.give_up(message, problem);
        }
    }

    fn give_up(&mut self, message: Message, problem: Problem) {
        self.given_up.push(DeadLetter { message, problem });
    }

    /// The topics whose end has to be asked for, so that what is overdue at `now` can be judged.
    pub(super) fn ask_marks(&mut self, now: Duration) -> Vec<Metric> {
        let Some(deadline) = self.newest_overdue(now).map(|read| read + self.timeout) else {
            return Vec::new();
        };
        let wanted = |metric: &Metric| match self.marks[metric.index()] {
            Mark::Unknown => true,
            Mark::Asked(_) => false,
            // One mark is waited for before the next is asked, or a busy topic would never be read up.
            Mark::Known { asked, high } => asked < deadline && self.position(*metric) >= high,
        };
        let wanted: Vec<Metric> = Metric::ALL.into_iter().filter(wanted).collect();
        wanted.iter().for_each(|metric| self.marks[metric.index()] = Mark::Asked(now));
        wanted
    }

    pub(super) fn mark(&mut self, metric: Metric, asked: Duration, high: Option<i64>) {
        let mark = &mut self.marks[metric.index()];
        if matches!(*mark, Mark::Asked(question) if question == asked) {
            *mark = high.map_or(Mark::Unknown, |high| Mark::Known { asked, high });
        }
    }

    /// Gives up what is overdue at `now` and whose partners were not there when the end was reached.
    pub(super) fn expire(&mut self, now: Duration) {
        let ends = Metric::ALL.map(|metric| self.read_to_end_since(metric));
        if ends.iter().all(Option::is_none) {
            return;
        }
        let overdue = self.by_age.range(..=last_overdue(now, self.timeout));
        let missed: Vec<(Metric, Key, Vec<&str>)> = overdue
            .filter(|(age, (metric, key))| self.is_missed(**age, *metric, key, &ends))
            .map(|(_, (metric, key))| (*metric, key.clone(), self.lacks(key).map(Metric::name).collect()))
            .collect();
        for (metric, key, lacks) in missed {
            let detail = format!(
                "no message with its key came on {} within {}",
                match &lacks[..] {
                    [one] => (*one).to_owned(),
                    several => format!("neither {}", several.join(" nor ")),
                },
                humantime::format_duration(self.timeout)
            );
            self.drop_head(metric, &key, Problem::new(Reason::Unpaired, detail));
        }
    }

    /// Whether the message of this age is the next of its key, and every topic that lacks the key has
    /// been read to its end since the message was due.
    fn is_missed(&self, age: Age, metric: Metric, key: &Key, ends: &[Option<Duration>; 3]) -> bool {
        let Some(queues) = self.waiting.get(key) else { return false };
        let is_head = queues[metric.index()].front().is_some_and(|(head, _)| *head == age);
        let deadline = age.0 + self.timeout;
        is_head && self.lacks(key).all(|topic| ends[topic.index()].is_some_and(|asked| asked >= deadline))
    }

    /// The topics on which no message of `key` waits.
    fn lacks(&self, key: &Key) -> impl Iterator<Item = Metric> {
        let queues = self.waiting.get(key);
        Metric::ALL.into_iter().filter(move |m| queues.is_none_or(|queues| queues[m.index()].is_empty()))
    }

    /// If the topic has been read up to its last known high watermark: the moment that was asked.
    fn read_to_end_since(&self, metric: Metric) -> Option<Duration> {
        match self.marks[metric.index()] {
            Mark::Known { asked, high } if self.position(metric) >= high => Some(asked),
            _ => None,
        }
    }

    fn position(&self, metric: Metric) -> i64 {
        self.progress[metric.index()].position()
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

    pub(super) fn evict_oldest(&mut self) {
        if let Some((metric, key)) = self.by_age.values().next().cloned() {
            let detail = "its partners did not come before --buffer-bytes was full; a larger budget would have \
                          waited longer";
            self.drop_head(metric, &key, Problem::new(Reason::Unpaired, detail));
        }
    }
}

/// The greatest age that is overdue at `now`; below all ages while nothing can be overdue.
fn last_overdue(now: Duration, timeout: Duration) -> Age {
    now.checked_sub(timeout).map_or((Duration::ZERO, 0), |read| (read, u64::MAX))
}

/// The oldest of three messages, and how far apart they are, if that is more than `limit`.
fn too_far_apart(heads: [&Message; 3], limit: Duration) -> Option<(Metric, Duration)> {
    let times = heads.map(|message| message.timestamp);
    let ([Some(oldest), ..], Some(newest)) = (sorted(times), times.into_iter().max()?) else { return None };
    let spread = Duration::from_millis(newest.abs_diff(oldest));
    let metric = heads.iter().find(|message| message.timestamp == Some(oldest))?.metric;
    (spread > limit).then_some((metric, spread))
}

/// `None`, a message without a time, sorts first.
fn sorted(mut times: [Option<i64>; 3]) -> [Option<i64>; 3] {
    times.sort_unstable();
    times
}
