//! A sample of the customer ids of a snapshot: those with the least fingerprints. Pure.
//!
//! **Two snapshots sample the same ids, as far as they have them**: which id has a low one does not depend on the
//! snapshot. So whether ids of one are in the other can be seen without keeping them. Source: Broder, "On the
//! resemblance and containment of documents", 1997. Ids that a sender chose so that they collide could only
//! mislead a warning.

use crate::message::CustomerIds;
use std::collections::BTreeSet;

/// Ids in a sample: a kilobyte.
const SIZE: usize = 128;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The fingerprints, ascending and different.
    fingerprints: Box<[u64]>,
    /// Every id with a fingerprint up to this one is in the sample.
    up_to: u64,
}

impl Sample {
    pub(super) fn of(ids: &CustomerIds) -> Self {
        let (mut least, mut up_to) = (BTreeSet::new(), u64::MAX);
        for fingerprint in ids.fingerprints() {
            if fingerprint <= up_to && least.insert(fingerprint) && least.len() > SIZE {
                least.pop_last();
                up_to = least.last().copied().unwrap_or_default();
            }
        }
        Self { fingerprints: least.into_iter().collect(), up_to }
    }

    /// How many ids of the sample `before` would be in this one if their customers were still there, and how many of
    /// these are.
    pub(super) fn find(&self, before: &Self) -> (usize, usize) {
        let judged = &before.fingerprints[..before.fingerprints.partition_point(|&one| one <= self.up_to)];
        let found = judged.iter().filter(|one| self.fingerprints.binary_search(one).is_ok()).count();
        (judged.len(), found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ids: std::ops::Range<usize>) -> Sample {
        let mut all = CustomerIds::default();
        ids.for_each(|id| all.push(format_args!("C{id:06}")));
        Sample::of(&all)
    }

    #[test]
    fn a_sample_finds_the_share_of_ids_that_are_still_there() {
        let before = sample(0..100_000);
        let share = |ids| {
            let (judged, found) = sample(ids).find(&before);
            (judged, found as f64 / judged.max(1) as f64)
        };
        assert_eq!(share(0..100_000), (SIZE, 1.0));
        // More customers: fewer can be judged, and all of these are there.
        let (judged, all) = share(0..400_000);
        assert!((15..60).contains(&judged) && (all - 1.0).abs() < 1e-9, "{judged} {all}");
        let (_, half) = share(50_000..150_000);
        assert!((0.3..0.7).contains(&half), "{half}");
        // Fewer customers: those that are left are a part of all.
        let (judged, tenth) = share(0..10_000);
        assert!(judged == SIZE && (0.03..0.25).contains(&tenth), "{judged} {tenth}");
        assert_eq!(share(100_000..200_000).1, 0.0);
    }

    #[test]
    fn a_few_ids_are_all_sampled_and_repeated_ones_once() {
        let mut ids = CustomerIds::default();
        (0..1_000).for_each(|i| ids.push(i % 100));
        let few = Sample::of(&ids);
        assert_eq!((few.fingerprints.len(), few.up_to), (100, u64::MAX));
        assert_eq!(few.find(&few), (100, 100));
    }
}
