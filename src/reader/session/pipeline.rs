//! From whole batches to committed rows: scoring and storing, beside the reading.
//!
//! Owns the connections that write and everything between pairing and the commit. Does not own progress:
//! it asks [`Pairing`] for it at the moment a commit is built.
//!
//! The one idea: partitions are independent. Each is in at most one commit at a time; whoever waits
//! meanwhile goes into the next commit together (group commit).

use super::error::SessionError;
use super::suspicion::Suspicion;
use crate::message::{Message, Metric};
use crate::reader::pairing::{Batch, DeadLetter, Pairing, Position};
use crate::reader::score::{Rules, Scored, score};
use crate::reader::store::{Part, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};

/// Threads that score at the same time.
const SCORERS: usize = 2;
/// Bytes of messages given to a scorer at once: one large batch, or many small ones.
const SCORING_BYTES: usize = 1024 * 1024;
/// Customers scored ahead of the commits: enough to keep the writers busy, and a bound on memory.
const SCORED_AHEAD: usize = 1_000_000;
/// Customers after which a commit takes no further batch. A commit costs a flush; this many make it
/// negligible.
const COMMIT_CUSTOMERS: usize = 500_000;
/// Batches after which a commit takes no further one: bounds the time to the first visible row.
const COMMIT_BATCHES: usize = 5_000;

/// What becomes of one or three messages.
#[derive(Debug)]
enum Outcome {
    Scored(Box<Scored>),
    Refused(Vec<DeadLetter>),
}

/// An outcome that waits for its commit.
#[derive(Debug)]
struct Waiting {
    partition: i32,
    epoch: i64,
    /// Bytes of its messages in the memory budget.
    weight: usize,
    customers: usize,
    outcome: Outcome,
}

/// A commit that was built: what it stores, and what the session wants to know when it is done.
#[derive(Debug)]
pub(super) struct Receipt {
    /// Partitions, and the progress that they have now.
    pub(super) progress: Vec<(i32, [i64; 3])>,
    /// Batches stored.
    pub(super) batches: usize,
    /// Rows stored.
    pub(super) customers: usize,
    /// Per dead letter: where it stood and why.
    pub(super) dead_letters: Vec<String>,
    /// Bytes that the memory budget gets back.
    pub(super) weight: usize,
    /// Since the commit was begun.
    pub(super) took: Duration,
    /// Where a commit of a single batch has its first message.
    alone: Option<Position>,
}

/// What a thread came back with.
enum Done {
    Scored(Vec<Waiting>),
    Committed { store: Box<Store>, receipt: Receipt, result: Result<(), StoreError> },
}

/// See the module.
pub(super) struct Pipeline {
    rules: Arc<Rules>,
    to_score: VecDeque<Batch>,
    ready: BTreeMap<i32, VecDeque<Waiting>>,
    /// Partitions whose progress is to be stored although nothing else is.
    to_note: BTreeSet<i32>,
    in_commit: BTreeSet<i32>,
    #[expect(clippy::vec_box, reason = "a connection travels to a thread and back; as a pointer")]
    idle: Vec<Box<Store>>,
    work: JoinSet<Done>,
    scoring: usize,
    scored_ahead: usize,
}

impl Pipeline {
    pub(super) fn new(rules: Rules, writers: Vec<Store>) -> Self {
        Self {
            rules: Arc::new(rules),
            to_score: VecDeque::new(),
            ready: BTreeMap::new(),
            to_note: BTreeSet::new(),
            in_commit: BTreeSet::new(),
            idle: writers.into_iter().map(Box::new).collect(),
            work: JoinSet::new(),
            scoring: 0,
            scored_ahead: 0,
        }
    }

    /// Takes over what pairing has brought forth.
    pub(super) fn collect(&mut self, pairing: &mut Pairing) {
        self.to_score.extend(pairing.take_batches());
        for (epoch, letter) in pairing.take_dead_letters() {
            let (partition, weight) = (letter.message.partition, letter.message.weight());
            let outcome = Outcome::Refused(vec![letter]);
            let waiting = Waiting { partition, epoch, weight, customers: 0, outcome };
            self.ready.entry(partition).or_default().push_back(waiting);
        }
    }

    /// The progress of this partition is to be stored even if nothing else is.
    pub(super) fn note_progress(&mut self, partition: i32) {
        self.to_note.insert(partition);
    }

    /// Whether a partition is in the commit under way.
    pub(super) fn is_committing(&self, partition: i32) -> bool {
        self.in_commit.contains(&partition)
    }

    /// Whether a commit is under way.
    pub(super) fn has_commits(&self) -> bool {
        !self.in_commit.is_empty()
    }

    /// Whether threads are at work.
    pub(super) fn is_busy(&self) -> bool {
        !self.work.is_empty()
    }

    /// Whether nothing is under way and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.work.is_empty() && self.to_score.is_empty() && self.ready.values().all(VecDeque::is_empty)
    }

    /// Forgets everything that is not in a commit.
    pub(super) fn forget_all(&mut self) {
        self.to_score.clear();
        self.ready.clear();
        self.to_note.clear();
        self.scored_ahead = 0;
    }

    /// Gives idle threads something to do.
    pub(super) fn start(&mut self, pairing: &mut Pairing, suspicion: &Suspicion) {
        while self.start_scoring() {}
        while self.start_commit(pairing, suspicion) {}
    }

    fn start_scoring(&mut self) -> bool {
        let may = self.scoring < SCORERS && self.scored_ahead < SCORED_AHEAD;
        if !may || self.to_score.is_empty() {
            return false;
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < SCORING_BYTES
            && let Some(batch) = self.to_score.pop_front()
        {
            bytes += weight(&batch.messages);
            batches.push(batch);
        }
        let rules = Arc::clone(&self.rules);
        self.scoring += 1;
        self.work.spawn_blocking(move || {
            Done::Scored(batches.into_iter().map(|batch| score_one(&rules, batch)).collect())
        });
        true
    }

    fn start_commit(&mut self, pairing: &mut Pairing, suspicion: &Suspicion) -> bool {
        if self.idle.is_empty() {
            return false;
        }
        let waiting = self.take_waiting(suspicion.is_active());
        let noted = std::mem::take(&mut self.to_note);
        let (noted, kept) = noted.into_iter().partition(|partition| !self.in_commit.contains(partition));
        self.to_note = kept;
        let (parts, mut receipt) = build(pairing, waiting, noted);
        let Some(mut store) = (!parts.is_empty()).then(|| self.idle.pop()).flatten() else { return false };

        self.in_commit.extend(parts.iter().map(|part| part.partition));
        let rules = Arc::clone(&self.rules);
        self.work.spawn_blocking(move || {
            let begun = Instant::now();
            let result = store.commit(&rules, &parts);
            receipt.took = begun.elapsed();
            Done::Committed { store, receipt, result }
        });
        true
    }

    /// Takes what goes into the next commit: of partitions that are in none, up to the limits; a single
    /// outcome while a batch is suspected.
    fn take_waiting(&mut self, one_only: bool) -> Vec<Waiting> {
        let free = |(partition, queue): &(&i32, &mut VecDeque<Waiting>)| {
            !self.in_commit.contains(*partition) && !queue.is_empty()
        };
        let mut queues: Vec<_> = self.ready.iter_mut().filter(free).map(|(_, queue)| queue).collect();
        // Partitions are shared out among the idle writers, so that these work side by side.
        queues.truncate(queues.len().div_ceil(self.idle.len().max(1)));
        let limit = if one_only { 1 } else { COMMIT_BATCHES };
        let (mut taken, mut customers) = (Vec::new(), 0);
        for queue in queues {
            while taken.len() < limit
                && customers < COMMIT_CUSTOMERS
                && let Some(waiting) = queue.pop_front()
            {
                customers += waiting.customers;
                taken.push(waiting);
            }
        }
        self.scored_ahead = self.scored_ahead.saturating_sub(customers);
        taken
    }

    /// Waits for a thread; returns the receipt if that was a commit. Nothing is lost if the future is
    /// dropped.
    pub(super) async fn next(&mut self, suspicion: &mut Suspicion) -> Result<Option<Receipt>, SessionError> {
        match self.work.join_next().await {
            None => Ok(None),
            Some(done) => self.finish(done, suspicion),
        }
    }

    fn finish(
        &mut self,
        done: Result<Done, JoinError>,
        suspicion: &mut Suspicion,
    ) -> Result<Option<Receipt>, SessionError> {
        match done.map_err(|error| SessionError::Broken(format!("a thread failed: {error}")))? {
            Done::Scored(scored) => {
                self.scoring -= 1;
                for waiting in scored {
                    self.scored_ahead += waiting.customers;
                    self.ready.entry(waiting.partition).or_default().push_back(waiting);
                }
                Ok(None)
            }
            Done::Committed { store, receipt, result } => {
                suspicion.judge(receipt.alone, result)?;
                for (partition, _) in &receipt.progress {
                    self.in_commit.remove(partition);
                }
                self.idle.push(store);
                Ok(Some(receipt))
            }
        }
    }
}

fn score_one(rules: &Rules, batch: Batch) -> Waiting {
    let (epoch, weight) = (batch.epoch, weight(&batch.messages));
    let partition = batch.messages[0].partition;
    let outcome = match score(rules, batch) {
        Ok(scored) => Outcome::Scored(Box::new(scored)),
        Err(letters) => Outcome::Refused(letters),
    };
    let customers = if let Outcome::Scored(scored) = &outcome { scored.customers() } else { 0 };
    Waiting { partition, epoch, weight, customers, outcome }
}

/// Builds the parts of a commit, and settles in `pairing` what they store: **from here on its progress
/// counts on this commit; if the commit fails, the session ends and `pairing` with it.**
fn build(pairing: &mut Pairing, waiting: Vec<Waiting>, noted: BTreeSet<i32>) -> (Vec<Part>, Receipt) {
    let mut contents: BTreeMap<i32, (Vec<Scored>, Vec<DeadLetter>)> = BTreeMap::new();
    let (mut weight, mut first) = (0, Vec::new());
    for waiting in waiting {
        // What was read under an earlier ownership is not ours to store.
        if pairing.epoch(waiting.partition) != Some(waiting.epoch) {
            continue;
        }
        weight += waiting.weight;
        let (batches, letters) = contents.entry(waiting.partition).or_default();
        let positions = positions(&waiting);
        first.extend(positions.first().copied());
        positions.into_iter().for_each(|position| pairing.settle(position));
        match waiting.outcome {
            Outcome::Scored(scored) => batches.push(*scored),
            Outcome::Refused(refused) => letters.extend(refused),
        }
    }
    for partition in noted {
        contents.entry(partition).or_default();
    }

    let parts = contents.into_iter().filter_map(|(partition, (batches, dead_letters))| {
        let (epoch, next) = (pairing.epoch(partition)?, pairing.progress(partition)?);
        Some(Part { partition, epoch, next, batches, dead_letters })
    });
    let parts: Vec<Part> = parts.collect();
    let receipt = Receipt {
        progress: parts.iter().map(|part| (part.partition, part.next)).collect(),
        batches: parts.iter().map(|part| part.batches.len()).sum(),
        customers: parts.iter().flat_map(|part| &part.batches).map(Scored::customers).sum(),
        dead_letters: parts.iter().flat_map(|part| &part.dead_letters).map(describe).collect(),
        weight,
        took: Duration::ZERO,
        alone: if let [only] = first[..] { Some(only) } else { None },
    };
    (parts, receipt)
}

/// Where the messages of an outcome stand.
fn positions(waiting: &Waiting) -> Vec<Position> {
    let partition = waiting.partition;
    match &waiting.outcome {
        Outcome::Scored(scored) => Metric::ALL
            .into_iter()
            .map(|metric| Position { partition, metric, offset: scored.offsets[metric.index()] })
            .collect(),
        Outcome::Refused(letters) => letters
            .iter()
            .map(|DeadLetter { message, .. }| Position {
                partition,
                metric: message.metric,
                offset: message.offset,
            })
            .collect(),
    }
}

/// Where a dead letter stood and why it is one; never a payload.
fn describe(letter: &DeadLetter) -> String {
    let Message { metric, partition, offset, .. } = letter.message;
    format!("{metric} partition={partition} offset={offset} {}", letter.problem)
}

fn weight(messages: &[Message]) -> usize {
    messages.iter().map(Message::weight).sum()
}
