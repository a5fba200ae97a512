//! From whole batches to committed rows: scoring and storing, beside the reading.
//!
//! Owns the connections that write and everything between pairing and the commit. Does not own progress:
//! it asks [`Pairing`] for it at the moment a commit is built.
//!
//! The one idea: partitions are independent. Each is in at most one commit at a time; whoever waits
//! meanwhile goes into the next commit together (group commit).

use super::commit::{Outcome, Receipt, Unstored, build};
use super::error::SessionError;
use super::suspicion::Suspicion;
use crate::failpoint;
use crate::message::Message;
use crate::reader::pairing::{Batch, Pairing};
use crate::reader::score::{Rules, score};
use crate::reader::store::{Ownership, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;
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

/// What a thread came back with.
enum Done {
    /// Under which generation they were read.
    Scored(u64, Vec<Unstored>),
    Committed {
        store: Box<Store>,
        receipt: Receipt,
        result: Result<(), StoreError>,
    },
}

/// See the module.
pub(super) struct Pipeline {
    rules: Arc<Rules>,
    to_score: VecDeque<Batch>,
    ready: BTreeMap<i32, VecDeque<Unstored>>,
    /// Partitions whose progress is to be stored although nothing else is.
    to_note: BTreeSet<i32>,
    in_commit: BTreeSet<i32>,
    /// How the next commit of each partition held must find it.
    held: BTreeMap<i32, Ownership>,
    #[expect(clippy::vec_box, reason = "a connection travels to a thread and back; as a pointer")]
    idle: Vec<Box<Store>>,
    work: JoinSet<Done>,
    scoring: usize,
    scored_ahead: usize,
    /// Raised when everything is forgotten, and the memory budget with it.
    generation: u64,
}

impl Pipeline {
    pub(super) fn new(rules: Rules, writers: Vec<Store>) -> Self {
        Self {
            rules: Arc::new(rules),
            to_score: VecDeque::new(),
            ready: BTreeMap::new(),
            to_note: BTreeSet::new(),
            in_commit: BTreeSet::new(),
            held: BTreeMap::new(),
            idle: writers.into_iter().map(Box::new).collect(),
            work: JoinSet::new(),
            scoring: 0,
            scored_ahead: 0,
            generation: 0,
        }
    }

    /// Takes over what pairing has brought forth.
    pub(super) fn collect(&mut self, pairing: &mut Pairing) {
        for batch in pairing.take_batches() {
            failpoint::reach("after_pairing");
            self.to_score.push_back(batch);
        }
        for (epoch, letter) in pairing.take_dead_letters() {
            let (partition, weight) = (letter.message.partition, letter.message.weight());
            let outcome = Outcome::Refused(vec![letter]);
            let unstored = Unstored { partition, epoch, weight, customers: 0, outcome };
            self.ready.entry(partition).or_default().push_back(unstored);
        }
    }

    /// The progress of this partition is to be stored even if nothing else is.
    pub(super) fn note_progress(&mut self, partition: i32) {
        self.to_note.insert(partition);
    }

    /// A partition was taken: the next commit must find it like this.
    pub(super) fn hold(&mut self, partition: i32, ownership: Ownership) {
        self.held.insert(partition, ownership);
    }

    /// How the next commit of a partition must find it.
    pub(super) fn ownership(&self, partition: i32) -> Option<Ownership> {
        self.held.get(&partition).copied()
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
        self.held.clear();
        self.scored_ahead = 0;
        self.generation += 1;
    }

    /// Whether a commit can be begun.
    pub(super) fn may_commit(&self) -> bool {
        let waits = |(partition, queue): (&i32, &VecDeque<Unstored>)| {
            !queue.is_empty() && !self.in_commit.contains(partition)
        };
        !self.idle.is_empty() && self.ready.iter().any(waits)
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
        let generation = self.generation;
        self.work.spawn_blocking(move || {
            Done::Scored(generation, batches.into_iter().map(|batch| score_one(&rules, batch)).collect())
        });
        true
    }

    fn start_commit(&mut self, pairing: &mut Pairing, suspicion: &Suspicion) -> bool {
        if self.idle.is_empty() {
            return false;
        }
        let unstored = self.take_unstored(suspicion.is_active());
        let noted = std::mem::take(&mut self.to_note);
        let (noted, kept) = noted.into_iter().partition(|partition| !self.in_commit.contains(partition));
        self.to_note = kept;
        let (parts, mut receipt) = build(pairing, &mut self.held, unstored, noted);
        let Some(mut store) = (!parts.is_empty()).then(|| self.idle.pop()).flatten() else { return false };

        self.in_commit.extend(parts.iter().map(|part| part.partition));
        receipt.generation = self.generation;
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
    fn take_unstored(&mut self, one_only: bool) -> Vec<Unstored> {
        let free = |(partition, queue): &(&i32, &mut VecDeque<Unstored>)| {
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
                && let Some(unstored) = queue.pop_front()
            {
                customers += unstored.customers;
                taken.push(unstored);
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
            Done::Scored(generation, scored) => {
                failpoint::reach("after_scoring");
                self.scoring -= 1;
                // What was forgotten meanwhile stays forgotten: an epoch may repeat where Postgres went back in time.
                if generation != self.generation {
                    return Ok(None);
                }
                for unstored in scored {
                    self.scored_ahead += unstored.customers;
                    self.ready.entry(unstored.partition).or_default().push_back(unstored);
                }
                Ok(None)
            }
            Done::Committed { store, mut receipt, result } => {
                suspicion.judge(receipt.single, result)?;
                failpoint::reach("after_commit");
                if receipt.generation != self.generation {
                    // Its memory was given back already, with everything else that was forgotten.
                    receipt.weight = 0;
                }
                for (partition, _) in &receipt.progress {
                    self.in_commit.remove(partition);
                }
                self.idle.push(store);
                Ok(Some(receipt))
            }
        }
    }
}

fn score_one(rules: &Rules, batch: Batch) -> Unstored {
    let (epoch, weight) = (batch.epoch, weight(&batch.messages));
    let partition = batch.messages[0].partition;
    let outcome = match score(rules, batch) {
        Ok(scored) => Outcome::Scored(Box::new(scored)),
        Err(letters) => Outcome::Refused(letters),
    };
    let customers = if let Outcome::Scored(scored) = &outcome { scored.customers() } else { 0 };
    Unstored { partition, epoch, weight, customers, outcome }
}

fn weight(messages: &[Message]) -> usize {
    messages.iter().map(Message::weight).sum()
}
