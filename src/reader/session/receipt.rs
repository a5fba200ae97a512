//! What goes into a commit, and what is known of it once it succeeded. Pure.
//!
//! **A commit is built together with the progress that it makes true.** What it stores is settled in
//! [`Pairing`] when it is built, and counted in [`Held`]. The next commit of that partition is built only
//! after this one has succeeded. If it fails, the session ends, and everything that relied on it is dropped.

use super::held::Held;
use super::queue::{Outcome, Selection, Unstored};
use crate::coordinates::{MessageId, NextOffset};
use crate::message::Problem;
use crate::metric::{Metric, PerMetric};
use crate::reader::pairing::{DeadLetter, Pairing};
use crate::reader::score::{Rules, Scored};
use crate::reader::shifts::{Shift, Shifts};
use crate::reader::store::Part;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// A commit, ready to be executed.
#[derive(Debug)]
pub(super) struct Commit {
    /// What is stored, per partition.
    pub(super) parts: Vec<Part>,
    /// Per partition of `parts`, the bytes that the memory budget gets back.
    weights: Vec<usize>,
    /// The first message of the batch, if there is only one.
    pub(super) only: Option<MessageId>,
}

/// What a commit has stored.
#[derive(Debug)]
pub(super) struct Receipt {
    /// Per partition.
    pub(super) parts: Vec<StoredPart>,
    /// Batches stored.
    pub(super) batches: usize,
    /// Rows stored.
    pub(super) customers: usize,
    /// What was refused.
    pub(super) dead_letters: Vec<RefusedMessage>,
    /// From the beginning of the transaction to the answer to COMMIT.
    pub(super) took: Duration,
    /// Per batch whose messages have times: from the newest of them to the answer to COMMIT.
    pub(super) latencies: Vec<Duration>,
    /// What the batches have changed in their populations.
    pub(super) shifts: Vec<Shift>,
    /// What is known of these populations now.
    pub(super) populations: Shifts,
}

/// What a commit has stored of one partition.
#[derive(Debug)]
pub(super) struct StoredPart {
    /// The partition number.
    pub(super) partition: i32,
    /// The owner that stored it.
    pub(super) owner: Uuid,
    /// What `progress` says now.
    pub(super) next: PerMetric<i64>,
    /// Bytes that the memory budget gets back.
    pub(super) weight: usize,
}

/// A message that became a dead letter, and why.
#[derive(Debug)]
pub(super) struct RefusedMessage {
    /// The message.
    pub(super) id: MessageId,
    /// The reason and the sentence about it.
    pub(super) problem: Problem,
}

/// What a commit stores of one partition, while it is being built.
#[derive(Default)]
struct PartContent {
    /// Batches to store.
    batches: Vec<Scored>,
    /// Messages to keep unscored.
    dead_letters: Vec<DeadLetter>,
    /// Bytes of both in the memory budget.
    weight: usize,
    /// Per topic, the messages of both.
    messages: PerMetric<i64>,
}

/// Builds a commit of what was selected, settles it in `pairing`, and counts it in `held`. `None`: there is
/// nothing to store.
pub(super) fn build(
    selection: Selection,
    pairing: &mut Pairing,
    held: &mut BTreeMap<i32, Held>,
) -> Option<Commit> {
    let mut contents: BTreeMap<i32, PartContent> = BTreeMap::new();
    let mut first = Vec::new();
    for unstored in selection.unstored {
        let messages = messages(&unstored);
        first.extend(messages.first().copied());
        let content = contents.entry(unstored.partition).or_default();
        for message in messages {
            content.messages[message.metric] += 1;
            pairing.settle(message);
        }
        content.weight += unstored.weight;
        match unstored.outcome {
            Outcome::Scored(scored) => content.batches.push(*scored),
            Outcome::Refused(refused) => content.dead_letters.extend(refused),
        }
    }
    for partition in selection.progress_of {
        contents.entry(partition).or_default();
    }

    let (mut parts, mut weights) = (Vec::new(), Vec::new());
    for (partition, PartContent { batches, dead_letters, weight, messages }) in contents {
        let (Some(next), Some(held)) = (pairing.progress(partition), held.get_mut(&partition)) else {
            continue;
        };
        let leader_epochs = pairing.leader_epochs(partition);
        let expected = held.count_commit(next, messages);
        parts.push(Part { partition, expected, next, leader_epochs, batches, dead_letters });
        weights.push(weight);
    }
    let only = if let [only] = first[..] { Some(only) } else { None };
    (!parts.is_empty()).then_some(Commit { parts, weights, only })
}

/// The messages of an outcome.
fn messages(unstored: &Unstored) -> Vec<MessageId> {
    match &unstored.outcome {
        Outcome::Scored(scored) => scored.messages().into_array().to_vec(),
        Outcome::Refused(letters) => letters.iter().map(|letter| letter.message.id()).collect(),
    }
}

impl Commit {
    /// Its batches.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Scored> {
        self.parts.iter().flat_map(|part| &part.batches)
    }

    /// What the batches have changed in their populations, once they are stored under these ids. `populations` is
    /// what was known of them before.
    pub(super) fn shifts(&self, rules: &Rules, ids: &[i64], populations: &mut Shifts) -> Vec<Shift> {
        let batches = self.batches().zip(ids);
        batches.flat_map(|(batch, id)| populations.compare(rules, *id, batch)).collect()
    }

    /// What it has stored, once it succeeded at `now`, but for shifts; and its batches, which nobody needs any more.
    pub(super) fn receipt(self, took: Duration, now: DateTime<Utc>) -> (Receipt, Vec<Scored>) {
        let produced = self.batches().filter_map(|batch| batch.produced_at);
        // The clocks of two machines may differ by more than that.
        let latencies = produced.map(|at| (now - at).to_std().unwrap_or_default()).collect();
        let batches = self.parts.iter().map(|part| part.batches.len()).sum();
        let customers = self.batches().map(Scored::customers).sum();
        let (mut parts, mut dead_letters, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        for (part, weight) in self.parts.into_iter().zip(self.weights) {
            let Part { partition, expected, next, .. } = part;
            stored.extend(part.batches);
            parts.push(StoredPart { partition, owner: expected.owner, next, weight });
            let refused = |DeadLetter { message, problem, .. }| RefusedMessage { id: message.id(), problem };
            dead_letters.extend(part.dead_letters.into_iter().map(refused));
        }
        let (shifts, populations) = (Vec::new(), Shifts::default());
        let receipt =
            Receipt { parts, batches, customers, dead_letters, took, latencies, shifts, populations };
        (receipt, stored)
    }
}

impl Receipt {
    /// The offsets to commit to the group, for tools that show lag.
    pub(super) fn next_offsets(&self) -> Vec<NextOffset> {
        let of_part = |&StoredPart { partition, next, .. }: &StoredPart| {
            Metric::ALL.map(|metric| NextOffset {
                metric,
                partition,
                offset: next[metric],
                leader_epoch: None,
            })
        };
        self.parts.iter().flat_map(of_part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Reason};
    use crate::reader::pairing::{Batch, Taken};
    use crate::reader::segment::SegmentMap;
    use crate::reader::store::Ownership;
    use std::collections::BTreeSet;
    use std::time::Instant;

    const START: PerMetric<i64> = PerMetric { recency: 0, frequency: 0, monetary: 0 };
    const OWNER: Ownership = Ownership { epoch: 3, owner: Uuid::from_u128(7), commits: 5, next: START };

    fn message(metric: Metric, offset: i64, key: &str) -> Message {
        let (key, value) = (Some(key.into()), Some(format!(r#"{{"{metric}":[1.0,2.0]}}"#).into()));
        Message { metric, partition: 0, offset, timestamp: Some(0), key, value }
    }

    /// Holds partition 0, with these keys read from all three topics, in this order.
    fn holding(keys: &[&str]) -> (Pairing, BTreeMap<i32, Held>) {
        let mut pairing = Pairing::new(Duration::from_secs(20));
        pairing.take(Taken { partition: 0, progress: PerMetric::default() }, false);
        for (key, offset) in keys.iter().zip(0..) {
            for metric in Metric::ALL {
                pairing.push(message(metric, offset, key), Duration::ZERO);
            }
        }
        let held = Held::when_taken(OWNER, PerMetric::default(), Instant::now());
        (pairing, BTreeMap::from([(0, held)]))
    }

    fn scored(batch: Batch) -> Unstored {
        let rules = Rules::new(SegmentMap::built_in().unwrap());
        Unstored::scored(&rules, batch)
    }

    fn refused(metric: Metric, offset: i64) -> Unstored {
        let problem = Problem::new(Reason::Unpaired, "alone");
        let letter = DeadLetter { message: message(metric, offset, "x"), problem, refused_with: None };
        Unstored { partition: 0, weight: 11, outcome: Outcome::Refused(vec![letter]) }
    }

    fn selection(unstored: Vec<Unstored>, progress_of: &[i32]) -> Selection {
        Selection { unstored, progress_of: progress_of.iter().copied().collect() }
    }

    #[test]
    fn a_commit_takes_the_progress_that_it_makes_true_and_counts_itself() {
        let (mut pairing, mut held) = holding(&["a", "b"]);
        let batches = pairing.take_outbox().batches.into_iter().map(scored).collect::<Vec<_>>();
        let [a, b] = <[Unstored; 2]>::try_from(batches).unwrap();
        let weight = b.weight;

        // The second batch first: progress stays below the first one.
        let second = build(selection(vec![b], &[]), &mut pairing, &mut held).unwrap();
        let [part] = &second.parts[..] else { panic!("{second:?}") };
        assert_eq!((part.expected, part.next), (OWNER, [0; 3].into()));
        assert_eq!(second.only, Some(MessageId { metric: Metric::Recency, partition: 0, offset: 1 }));
        let (receipt, _) = second.receipt(Duration::ZERO, DateTime::UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(receipt.latencies, [Duration::from_secs(2)], "its messages are of the beginning of 1970");
        assert_eq!((receipt.batches, receipt.customers, receipt.parts[0].weight), (1, 2, weight));
        assert_eq!(receipt.parts[0].owner, OWNER.owner);
        let next = |metric| NextOffset { metric, partition: 0, offset: 0, leader_epoch: None };
        assert_eq!(receipt.next_offsets(), Metric::ALL.map(next));

        let first = build(selection(vec![a], &[]), &mut pairing, &mut held).unwrap();
        let [part] = &first.parts[..] else { panic!("{first:?}") };
        assert_eq!(part.expected.commits, OWNER.commits + 1, "the commit before this one counts");
        assert_eq!(part.next, [2; 3].into());
    }

    #[test]
    fn progress_alone_is_a_commit_and_nothing_is_none() {
        let (mut pairing, mut held) = holding(&[]);
        assert!(build(Selection::default(), &mut pairing, &mut held).is_none());
        assert!(build(selection(vec![], &[9]), &mut pairing, &mut held).is_none(), "9 is not held");
        let commit = build(selection(vec![], &[0]), &mut pairing, &mut held).unwrap();
        assert_eq!((commit.parts.len(), commit.only), (1, None));
    }

    #[test]
    fn a_receipt_names_every_dead_letter() {
        let (mut pairing, mut held) = holding(&[]);
        let letters = vec![refused(Metric::Monetary, 4), refused(Metric::Recency, 6)];
        let commit = build(selection(letters, &[]), &mut pairing, &mut held).unwrap();
        assert_eq!(commit.only, None, "two outcomes");
        let (receipt, _) = commit.receipt(Duration::ZERO, DateTime::UNIX_EPOCH);
        let named: BTreeSet<_> = receipt.dead_letters.iter().map(|l| (l.id.metric, l.id.offset)).collect();
        assert_eq!(named, BTreeSet::from([(Metric::Monetary, 4), (Metric::Recency, 6)]));
        assert!(receipt.dead_letters.iter().all(|letter| letter.problem.reason == Reason::Unpaired));
        assert_eq!((receipt.batches, receipt.parts[0].weight), (0, 22));
    }
}
