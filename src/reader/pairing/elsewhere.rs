//! A key whose messages stand on different partitions of the topics: its senders choose partitions
//! differently.
//!
//! Owns the memory of messages that were given up a while ago, which is bounded, and the sentence about a
//! message whose partners are on another partition. Changes nothing about what is paired.

use crate::metric::Metric;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

/// Messages that are remembered after they were given up. Each takes some 50 bytes.
const REMEMBERED: usize = 10_000;

/// The messages that were given up last: of each only the hash of its key, its topic and its partition.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// The newest partition of each.
    partitions: HashMap<(u64, Metric), i32>,
    /// In the order in which they were first given up.
    order: VecDeque<(u64, Metric)>,
}

impl GivenUp {
    /// Notes a message that is given up.
    pub(super) fn note(&mut self, key: &[u8], metric: Metric, partition: i32) {
        let entry = (hash(key), metric);
        if self.partitions.insert(entry, partition).is_none() {
            self.order.push_back(entry);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.partitions.remove(&oldest);
        }
    }

    /// The partition of a message with this key on this topic, unless it is `partition`.
    pub(super) fn other_than(&self, partition: i32, key: &[u8], metric: Metric) -> Option<i32> {
        self.partitions.get(&(hash(key), metric)).copied().filter(|&other| other != partition)
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What a detail adds if the key was seen on other partitions of these topics; nothing if it was not.
pub(super) fn sentence(seen: &[(Metric, i32)]) -> String {
    if seen.is_empty() {
        return String::new();
    }
    let seen: Vec<String> =
        seen.iter().map(|(metric, partition)| format!("partition {partition} of {metric}")).collect();
    format!(
        "; one came on {}, so the senders choose partitions differently: give all the same partitioner \
         (`partitioner=murmur2_random` is that of Java clients, `consistent_random` that of librdkafka) and topics of equal \
         partition counts",
        seen.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use Metric::{Frequency, Recency};

    #[test]
    fn what_was_given_up_is_remembered_within_bounds() {
        let mut given_up = GivenUp::default();
        given_up.note(b"a", Recency, 2);
        assert_eq!(given_up.other_than(0, b"a", Recency), Some(2));
        assert_eq!(given_up.other_than(2, b"a", Recency), None, "the same partition");
        assert_eq!(given_up.other_than(0, b"a", Frequency), None);
        for n in 0..2 * REMEMBERED {
            given_up.note(n.to_string().as_bytes(), Recency, 1);
        }
        assert_eq!(given_up.other_than(0, b"a", Recency), None, "long ago");
        assert_eq!((given_up.partitions.len(), given_up.order.len()), (REMEMBERED, REMEMBERED));
    }
}
