//! Which dead letters belong together. Pure.
//!
//! - What was refused together stays together (`dead_letters.refused_with`). Rows of an earlier version do not
//!   say so. They had one reason and one detail, and their keys were paired first in, first out.
//! - What was refused alone is paired by [`Pairing`], as if these were all messages of the partition.

use crate::message::Reason;
use crate::metric::{Metric, PerMetric};
use crate::reader::pairing::{Pairing, Taken};
use crate::reader::store::Letter;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// What the letters of one partition make.
#[derive(Debug, Default)]
pub(super) struct Grouped {
    /// Three letters each, of one batch.
    pub(super) batches: Vec<PerMetric<Letter>>,
    /// How many letters have no partners.
    pub(super) alone: usize,
}

/// What the letters of a batch share, beside their partition.
type Shared = (Option<i64>, Reason, i64, Option<Vec<u8>>);

/// Groups the letters of a partition, which are in the order of their offsets. `single_partition` says that
/// the topics have no other, and `timeout` is `--pairing-timeout`: both decide whether messages without a key
/// can be paired.
pub(super) fn group(letters: Vec<Letter>, single_partition: bool, timeout: Duration) -> Grouped {
    let count = letters.len();
    let was_alone = |letter: &Letter| matches!(letter.reason, Reason::Unpaired | Reason::NoKey);
    let (alone, together): (Vec<Letter>, Vec<Letter>) = letters.into_iter().partition(was_alone);
    let mut batches = refused_together(together);
    batches.extend(refused_alone(alone, single_partition, timeout));
    batches.sort_by_key(|batch| batch.recency.message.offset);
    let alone = count - 3 * batches.len();
    Grouped { batches, alone }
}

fn refused_together(letters: Vec<Letter>) -> Vec<PerMetric<Letter>> {
    let mut queues: BTreeMap<Shared, PerMetric<VecDeque<Letter>>> = BTreeMap::new();
    for letter in letters {
        let shared = match letter.refused_with {
            // Nothing else can tell these apart, not even an edit by hand.
            Some(with) => (Some(with), Reason::Malformed, 0, None),
            None => (None, letter.reason, letter.detail, letter.message.key.clone()),
        };
        queues.entry(shared).or_default()[letter.message.metric].push_back(letter);
    }
    let mut batches = Vec::new();
    for mut queue in queues.into_values() {
        while let Some(batch) = PerMetric::from_fn(|metric| queue[metric].pop_front()).all() {
            batches.push(batch);
        }
    }
    batches
}

fn refused_alone(letters: Vec<Letter>, single_partition: bool, timeout: Duration) -> Vec<PerMetric<Letter>> {
    let Some(partition) = letters.first().map(|letter| letter.message.partition) else { return Vec::new() };
    let mut pairing = Pairing::new(timeout);
    pairing.take(Taken { partition, progress: PerMetric::default() }, single_partition);
    let mut by_offset: HashMap<(Metric, i64), Letter> = HashMap::new();
    for letter in letters {
        pairing.push(letter.message.clone(), Duration::ZERO);
        by_offset.insert((letter.message.metric, letter.message.offset), letter);
    }
    let mut letter = |metric, offset| by_offset.remove(&(metric, offset));
    let paired =
        pairing.take_outbox().batches.into_iter().filter_map(|batch| {
            PerMetric::from_fn(|metric| letter(metric, batch.messages[metric].offset)).all()
        });
    paired.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A letter; its id is its offset in the three topics one after the other.
    fn letter(metric: Metric, offset: i64, key: Option<&str>, reason: Reason, with: Option<i64>) -> Letter {
        let (timestamp, key) = (Some(offset * 1_000), key.map(Into::into));
        let message = Message { metric, partition: 0, offset, timestamp, key, value: None };
        Letter { id: 100 * metric as i64 + offset, reason, message, refused_with: with, detail: 7 }
    }

    /// The offsets of the batches, and how many letters are alone.
    fn grouped(letters: Vec<Letter>, single_partition: bool) -> (Vec<[i64; 3]>, usize) {
        let Grouped { batches, alone } = group(letters, single_partition, MINUTE);
        let offsets = |batch: PerMetric<Letter>| batch.map(|letter| letter.message.offset).into_array();
        (batches.into_iter().map(offsets).collect(), alone)
    }

    /// The letters of three topics, all with the same reason: per topic, offsets and keys.
    fn letters(reason: Reason, topics: [&[(i64, Option<&str>)]; 3]) -> Vec<Letter> {
        let of_topic = |(metric, places): (Metric, &[(i64, Option<&str>)])| {
            places.iter().map(|&(offset, key)| letter(metric, offset, key, reason, None)).collect::<Vec<_>>()
        };
        Metric::ALL.into_iter().zip(topics).flat_map(of_topic).collect()
    }

    #[test]
    fn what_was_refused_together_stays_together_whatever_its_keys() {
        let with = |metric, offset, with| letter(metric, offset, Some("k"), Reason::Empty, Some(with));
        use Metric::{Frequency, Monetary, Recency};
        let letters = vec![
            with(Recency, 1, 1),
            with(Recency, 2, 2),
            with(Frequency, 1, 2),
            with(Frequency, 2, 1),
            with(Monetary, 5, 1),
            with(Monetary, 6, 2),
            // Of this one, the others are gone.
            with(Recency, 9, 9),
        ];
        assert_eq!(grouped(letters, false), (vec![[1, 2, 5], [2, 1, 6]], 1));
    }

    #[test]
    fn rows_of_an_earlier_version_go_by_key_reason_and_detail_first_in_first_out() {
        let (a, b) = (Some("a"), Some("b"));
        let old =
            letters(Reason::Empty, [&[(1, a), (2, b), (3, a)], &[(4, b), (5, a), (6, a)], &[(1, a), (2, b)]]);
        assert_eq!(grouped(old, false), (vec![[1, 5, 1], [2, 4, 2]], 2));
        let mut other = letters(Reason::Empty, [&[(1, a)], &[(1, a)], &[]]);
        other.push(letter(Metric::Monetary, 1, a, Reason::NotFinite, None));
        assert_eq!(grouped(other.clone(), false), (vec![], 3), "another reason");
        (other[2].reason, other[2].detail) = (Reason::Empty, 8);
        assert_eq!(grouped(other.clone(), false), (vec![], 3), "another detail");
        other[2].detail = 7;
        assert_eq!(grouped(other, false), (vec![[1, 1, 1]], 0));
    }

    #[test]
    fn what_was_refused_alone_is_paired_with_its_like_only() {
        let (a, b) = (Some("a"), Some("b"));
        let alone = letters(Reason::Unpaired, [&[(1, a), (8, a)], &[(2, a), (3, b)], &[(3, a), (4, a)]]);
        assert_eq!(grouped(alone, false), (vec![[1, 2, 3]], 3));
        let mut mixed = letters(Reason::Unpaired, [&[(1, a)], &[(2, a)], &[]]);
        mixed.push(letter(Metric::Monetary, 3, a, Reason::Empty, Some(77)));
        assert_eq!(grouped(mixed, false), (vec![], 3), "one of them was refused with others");
    }

    #[test]
    fn without_a_key_only_one_partition_and_near_times_pair() {
        let none = |offsets: [i64; 3]| {
            let [r, f, m] = offsets;
            letters(Reason::NoKey, [&[(r, None)], &[(f, None)], &[(m, None)]])
        };
        assert_eq!(grouped(none([1, 2, 60]), true), (vec![[1, 2, 60]], 0));
        assert_eq!(grouped(none([1, 2, 62]), true), (vec![], 3), "61 s apart");
        assert_eq!(grouped(none([1, 2, 60]), false), (vec![], 3), "several partitions");
    }
}
