//! What one commit stores, and the progress that goes with it.

use crate::message::{Message, Metric};
use crate::reader::pairing::{DeadLetter, Pairing, Position};
use crate::reader::score::Scored;
use crate::reader::store::{Ownership, Part};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What becomes of one or three messages.
#[derive(Debug)]
pub(super) enum Outcome {
    Scored(Box<Scored>),
    Refused(Vec<DeadLetter>),
}

/// An outcome that waits for its commit.
#[derive(Debug)]
pub(super) struct Unstored {
    pub(super) partition: i32,
    pub(super) epoch: i64,
    /// Bytes of its messages in the memory budget.
    pub(super) weight: usize,
    pub(super) customers: usize,
    pub(super) outcome: Outcome,
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
    /// Under which generation of [`super::pipeline::Pipeline`] it was built.
    pub(super) generation: u64,
    /// Where a commit of a single batch has its first message.
    pub(super) single: Option<Position>,
}

/// Builds the parts of a commit, settles in `pairing` what they store, and counts the commit in `held`: **from here on
/// both count on this commit; if it fails, the session ends and they with it.**
pub(super) fn build(
    pairing: &mut Pairing,
    held: &mut BTreeMap<i32, Ownership>,
    unstored: Vec<Unstored>,
    noted: BTreeSet<i32>,
) -> (Vec<Part>, Receipt) {
    let mut contents: BTreeMap<i32, (Vec<Scored>, Vec<DeadLetter>)> = BTreeMap::new();
    let (mut weight, mut first) = (0, Vec::new());
    for unstored in unstored {
        // What was read under an earlier ownership is not ours to store.
        if pairing.epoch(unstored.partition) != Some(unstored.epoch) {
            continue;
        }
        weight += unstored.weight;
        let (batches, letters) = contents.entry(unstored.partition).or_default();
        let positions = positions(&unstored);
        first.extend(positions.first().copied());
        positions.into_iter().for_each(|position| pairing.settle(position));
        match unstored.outcome {
            Outcome::Scored(scored) => batches.push(*scored),
            Outcome::Refused(refused) => letters.extend(refused),
        }
    }
    for partition in noted {
        contents.entry(partition).or_default();
    }

    let parts = contents.into_iter().filter_map(|(partition, (batches, dead_letters))| {
        let next = pairing.progress(partition)?;
        let leader_epochs = pairing.leader_epochs(partition);
        let ownership = held.get_mut(&partition)?;
        let expected = *ownership;
        (ownership.commits, ownership.next) = (expected.commits + 1, next);
        Some(Part { partition, expected, next, leader_epochs, batches, dead_letters })
    });
    let parts: Vec<Part> = parts.collect();
    let receipt = Receipt {
        progress: parts.iter().map(|part| (part.partition, part.next)).collect(),
        batches: parts.iter().map(|part| part.batches.len()).sum(),
        customers: parts.iter().flat_map(|part| &part.batches).map(Scored::customers).sum(),
        dead_letters: parts.iter().flat_map(|part| &part.dead_letters).map(describe).collect(),
        weight,
        took: Duration::ZERO,
        generation: 0,
        single: if let [only] = first[..] { Some(only) } else { None },
    };
    (parts, receipt)
}

/// Where the messages of an outcome stand.
fn positions(unstored: &Unstored) -> Vec<Position> {
    let partition = unstored.partition;
    match &unstored.outcome {
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
