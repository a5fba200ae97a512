//! Shifts: what changed from one snapshot of a population to the next for another reason than what customers did.
//! The reader warns of them.
//!
//! Owns what is kept of each population, what counts as a shift, and how often it is said. Does not log. Pure.
//!
//! **A snapshot is compared with the one stored before it of the same population, if its `as_of` is later.** Late
//! and repeated snapshots are passed over. What was stored before the process started is not known. A shift is
//! found once a batch is stored, and costs little: a sample of the column shows whether an edge may have jumped,
//! and a sample of the ids stands for all of them.

mod change;
mod sample;

pub use change::Change;

use super::quintile::{Edges, Ties};
use super::score::{Rules, Scored};
use crate::metric::{Metric, PerMetric};
use chrono::{DateTime, Utc};
use sample::Sample;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Populations that are kept. When there is another one, the one that was stored longest ago is forgotten.
const POPULATIONS: usize = 1_000;
/// Bytes of the longest name of a population that is kept.
const LONGEST_NAME: usize = 256;
/// A shift that comes and goes is said so many times, and later only when their number is a power of two.
const OFTEN: u32 = 8;

/// What is known of the populations. See the module.
#[derive(Clone, Debug, Default)]
pub struct Shifts {
    /// By name; `None` is the one without.
    known: BTreeMap<Option<String>, Arc<Known>>,
    /// How many snapshots were taken in.
    turns: u64,
}

/// What is kept of a population: of its newest snapshot, and of what was said.
#[derive(Clone, Debug)]
struct Known {
    /// The id of the snapshot.
    batch: i64,
    /// Its instant.
    as_of: DateTime<Utc>,
    /// Its customers.
    customers: usize,
    /// Its edges.
    edges: PerMetric<Edges>,
    /// Some of its customer ids, if it has any.
    ids: Option<Sample>,
    /// What was said of the population.
    said: Said,
    /// The number of the turn in which it was taken in.
    turn: u64,
}

/// What was said of a population.
#[derive(Clone, Debug, Default)]
struct Said {
    /// Per metric, a bit for each set of empty quintiles.
    empty: PerMetric<u32>,
    /// Per metric, that an edge jumped.
    jumped: PerMetric<Recurring>,
    /// That the ids are other ones.
    strangers: Recurring,
    /// That most customers are gone.
    fell: Recurring,
}

/// A shift that may last, or come again.
#[derive(Clone, Copy, Debug, Default)]
struct Recurring {
    /// Whether the last comparison found it.
    is_on: bool,
    /// How often it began.
    times: u32,
}

/// A shift that is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// The id of the batch that has it.
    pub batch: i64,
    /// The id of the one before; `None` if it was not compared with any.
    pub before: Option<i64>,
    /// The population of both.
    pub population: Option<String>,
    /// What changed.
    pub change: Change,
}

impl Shifts {
    /// What is known of the populations of these batches: what a commit of them is compared with, away from here.
    pub fn of<'a>(&self, batches: impl Iterator<Item = &'a Scored>) -> Self {
        let mut part = Self { known: BTreeMap::new(), turns: self.turns };
        for population in batches.map(|batch| &batch.population) {
            if !part.known.contains_key(population)
                && let Some(known) = self.known.get(population)
            {
                part.known.insert(population.clone(), Arc::clone(known));
            }
        }
        part
    }

    /// Takes in what [`Shifts::of`] gave away and was compared further since. Returns which of the shifts that were
    /// found there are to be said: another part may have come back meanwhile with the same empty quintiles.
    pub fn take_in<'a>(&mut self, part: &Self, found: &'a [Shift]) -> Vec<&'a Shift> {
        let is_news = |shift: &&Shift| match shift.change {
            Change::Empty { metric, which, .. } => {
                let known = self.known.get(&shift.population);
                known.is_none_or(|known| known.said.empty[metric] & (1 << which) == 0)
            }
            _ => true,
        };
        let news = found.iter().filter(is_news).collect();
        for (population, new) in &part.known {
            let known = self.known.get(population);
            let mut newest = Known::clone(known.filter(|known| known.as_of >= new.as_of).unwrap_or(new));
            for other in known.into_iter().chain([new]) {
                Metric::ALL.iter().for_each(|&m| newest.said.empty[m] |= other.said.empty[m]);
            }
            self.keep(population.clone(), newest);
        }
        news
    }

    /// Compares a batch that was stored under `id` with the one before it, and keeps it in its place.
    pub fn compare(&mut self, rules: &Rules, id: i64, batch: &Scored) -> Vec<Shift> {
        let name = &batch.population;
        if name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
            return Vec::new();
        }
        let before = self.known.get(name).cloned();
        if before.as_ref().is_some_and(|before| batch.as_of <= before.as_of) {
            return Vec::new();
        }
        let ids = batch.customer_ids.as_ref().map(Sample::of);
        let mut said = before.as_ref().map(|before| before.said.clone()).unwrap_or_default();
        let mut changes = empty_quintiles(rules, batch, &mut said);
        let compared = changes.len();
        if let Some(before) = &before {
            changes.extend(before.differences(rules, batch, ids.as_ref(), &mut said));
        }
        let (customers, edges) = (batch.customers(), batch.cuts.as_ref().map(|cut| cut.edges));
        let kept = Known { batch: id, as_of: batch.as_of, customers, edges, ids, said, turn: 0 };
        self.keep(name.clone(), kept);
        let before = |place| before.as_ref().filter(|_| place >= compared).map(|before| before.batch);
        let shift =
            |(place, change)| Shift { batch: id, before: before(place), population: name.clone(), change };
        changes.into_iter().enumerate().map(shift).collect()
    }

    fn keep(&mut self, population: Option<String>, known: Known) {
        if self.known.len() >= POPULATIONS && !self.known.contains_key(&population) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.turn).map(|(name, _)| name.clone());
            oldest.map(|name| self.known.remove(&name));
        }
        self.turns += 1;
        self.known.insert(population, Arc::new(Known { turn: self.turns, ..known }));
    }
}

impl Known {
    /// What a later snapshot has changed.
    fn differences(
        &self,
        rules: &Rules,
        batch: &Scored,
        ids: Option<&Sample>,
        said: &mut Said,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for metric in Metric::ALL {
            let (before, cut) = (&self.edges[metric], &batch.cuts[metric]);
            let by_edges = rules.edges.of(metric).is_none()
                && (rules.ties != Ties::Rank || !are_tied(before) && !are_tied(&cut.edges));
            let values = &batch.values[metric];
            let jump = by_edges.then(|| change::jump(metric, before, &cut.edges, values)).flatten();
            let begins = said.jumped[metric].begins(jump.is_some());
            changes.extend(jump.filter(|_| begins));
        }
        let strangers = change::strangers(self.ids.as_ref(), ids);
        let begins = said.strangers.begins(strangers.is_some());
        changes.extend(strangers.filter(|_| begins));
        let (from, to) = (self.customers, batch.customers());
        if 2 * to < from && said.fell.happens() {
            changes.push(Change::Fell { from, to });
        }
        changes
    }
}

/// Which quintiles are empty, if that was not said before. (Under `rank` none is, and fixed edges are no quintiles.)
fn empty_quintiles(rules: &Rules, batch: &Scored, said: &mut Said) -> Vec<Change> {
    let mut changes = Vec::new();
    for metric in Metric::ALL {
        let cut = &batch.cuts[metric];
        let which = change::empty(cut);
        let bit = 1 << which;
        let is_cut = rules.ties == Ties::Share && rules.edges.of(metric).is_none();
        if which > 0 && is_cut && said.empty[metric] & bit == 0 {
            said.empty[metric] |= bit;
            changes.push(Change::empty(metric, cut, &batch.values[metric]));
        }
    }
    changes
}

fn are_tied(edges: &Edges) -> bool {
    edges.windows(2).any(|pair| pair[0] == pair[1])
}

impl Recurring {
    /// Notes whether it is there now. Returns whether to say that it begins.
    fn begins(&mut self, is_on: bool) -> bool {
        let begins = is_on && !self.is_on;
        self.is_on = is_on;
        begins && self.happens()
    }

    /// Counts one that does not last. Returns whether to say it.
    fn happens(&mut self) -> bool {
        self.times = self.times.saturating_add(1);
        self.times <= OFTEN || self.times.is_power_of_two()
    }
}

#[cfg(test)]
mod tests;
