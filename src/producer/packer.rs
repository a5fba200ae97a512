//! Packing: takes snapshots from a source, and decides which of them share a transaction.
//!
//! Does not own where they come from (`source`), nor the sending (`transaction`).
//!
//! **A batch keeps its key, its bytes and its place in the order**, also if it is put back and packed again.

use super::source::Snapshots;
use crate::message::EncodedSnapshot;
use std::collections::VecDeque;
use std::time::Duration;

/// The size of a transaction. The batch that reaches either bound is its last one.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Batches.
    pub batches: usize,
    /// Bytes of all bodies.
    pub bytes: usize,
}

impl Bounds {
    /// One batch per transaction.
    pub const ONE: Self = Self { batches: 1, bytes: 8 << 20 };

    /// One batch per transaction, unless the interval is 0. Then many batches share what a transaction costs
    /// (some round trips, and a marker in every partition), so that it hardly counts; and the transaction
    /// still takes only a fraction of a second.
    pub fn of(interval: Duration) -> Self {
        let batches = if interval.is_zero() { 1_000 } else { 1 };
        Self { batches, ..Self::ONE }
    }
}

/// Packs the snapshots of a source into transactions.
pub struct Packer {
    /// Where new snapshots come from.
    source: Snapshots,
    /// How many batches to take from the source; `None`: all.
    left: Option<u64>,
    /// The size of a transaction.
    bounds: Bounds,
    /// Batches that were put back: they come first.
    returned: VecDeque<EncodedSnapshot>,
    /// The source failed after the batches that were packed last. The next call reports it.
    failed: Option<anyhow::Error>,
}

impl Packer {
    /// Packs at most `batches` batches of `source`.
    pub fn new(source: Snapshots, batches: Option<u64>, bounds: Bounds) -> Self {
        Self { source, left: batches, bounds, returned: VecDeque::new(), failed: None }
    }

    /// Whether nothing more will come.
    pub fn is_done(&self) -> bool {
        self.left == Some(0) && self.returned.is_empty() && self.failed.is_none()
    }

    /// How many batches it will still give; `None`: all that the source has.
    pub fn left(&self) -> Option<u64> {
        self.left.map(|left| left + self.returned.len() as u64)
    }

    /// The batches of the next transaction; none if the source is over. **Blocks for as long as the source
    /// does.**
    ///
    /// # Errors
    /// The source has no snapshot this time. It can be asked again.
    pub fn pack(&mut self) -> anyhow::Result<Vec<EncodedSnapshot>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while batches.len() < self.bounds.batches && bytes < self.bounds.bytes {
            match self.next() {
                Some(Ok(batch)) => {
                    bytes += batch.bodies.values().map(Vec::len).sum::<usize>();
                    batches.push(batch);
                }
                Some(Err(error)) if batches.is_empty() => return Err(error),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        Ok(batches)
    }

    /// Takes back the batches of a transaction that was too large. From now on a transaction carries at most
    /// half as many; returns this number.
    pub fn split(&mut self, batches: Vec<EncodedSnapshot>) -> usize {
        self.bounds.batches = (batches.len() / 2).max(1);
        for batch in batches.into_iter().rev() {
            self.returned.push_front(batch);
        }
        self.bounds.batches
    }

    /// The next batch: one that was put back, or a new one.
    fn next(&mut self) -> Option<anyhow::Result<EncodedSnapshot>> {
        if let Some(batch) = self.returned.pop_front() {
            return Some(Ok(batch));
        }
        if self.left == Some(0) {
            return None;
        }
        let Some(batch) = self.source.next() else {
            self.left = Some(0);
            return None;
        };
        if batch.is_ok() {
            self.left = self.left.map(|left| left - 1);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Random;
    use super::*;
    use crate::metric::PerMetric;
    use anyhow::anyhow;

    const ALONE: Bounds = Bounds { batches: 1, bytes: usize::MAX };

    fn together(batches: usize) -> Bounds {
        Bounds { batches, bytes: usize::MAX }
    }

    fn random(customers: usize, seed: Option<u64>) -> Snapshots {
        Random { customers, seed, population: None }.snapshots()
    }

    fn packer(seed: u64, customers: usize, bounds: Bounds) -> Packer {
        Packer::new(random(customers, Some(seed)), Some(25), bounds)
    }

    /// All batches, transaction by transaction.
    fn transactions(mut packer: Packer) -> Vec<Vec<EncodedSnapshot>> {
        let mut transactions = Vec::new();
        while !packer.is_done() {
            transactions.push(packer.pack().unwrap());
        }
        transactions
    }

    fn bodies(batches: &[EncodedSnapshot]) -> Vec<&PerMetric<Vec<u8>>> {
        batches.iter().map(|batch| &batch.bodies).collect()
    }

    #[test]
    fn the_bodies_are_the_same_however_many_batches_share_a_transaction() {
        let alone = transactions(packer(7, 50, ALONE)).concat();
        for batches in [1, 2, 10, 100] {
            let together = transactions(packer(7, 50, together(batches))).concat();
            assert_eq!(bodies(&alone), bodies(&together));
        }
    }

    #[test]
    fn a_transaction_is_full_with_the_batch_that_reaches_a_bound() {
        let sizes = |bounds| transactions(packer(1, 50, bounds)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(ALONE), [1; 25]);
        assert_eq!(sizes(together(10)), [10, 10, 5]);
        assert_eq!(sizes(Bounds { batches: 10, bytes: 1 }), [1; 25]);
        // 50 customers are 150 numbers of 4 to 6 characters with their comma: 600 to 940 bytes with the rest.
        let sizes = sizes(Bounds { batches: 10, bytes: 2_500 });
        let (_, full) = sizes.split_last().unwrap();
        assert!(full.iter().all(|n| (3..=5).contains(n)), "{sizes:?}");
    }

    #[test]
    fn only_an_interval_of_zero_puts_batches_together() {
        assert!(Bounds::of(Duration::ZERO).batches > 1);
        assert_eq!(Bounds::of(Duration::from_nanos(1)).batches, 1);
    }

    #[test]
    fn batches_that_are_split_come_next_as_they_were_with_fewer_others() {
        let expected = transactions(packer(3, 5, ALONE)).concat();
        let mut packer = packer(3, 5, together(10));
        let first = packer.pack().unwrap();
        let keys: Vec<String> = first.iter().map(|batch| batch.key.clone()).collect();
        assert_eq!(packer.split(first), 5);
        let again = transactions(packer);
        assert_eq!(again.iter().map(Vec::len).collect::<Vec<_>>(), [5; 5]);
        let again = again.concat();
        assert!(again.iter().zip(&keys).all(|(batch, key)| batch.key == *key));
        assert_eq!(bodies(&again), bodies(&expected));
    }

    #[test]
    fn the_last_batches_can_be_split_after_the_source_is_over() {
        let mut packer = packer(3, 5, together(100));
        let all = packer.pack().unwrap();
        assert!(packer.is_done());
        packer.split(all);
        assert!(!packer.is_done());
        assert_eq!(transactions(packer).iter().map(Vec::len).collect::<Vec<_>>(), [12, 12, 1]);
    }

    /// A source that answers from a list: a snapshot of so many customers, or a failure.
    fn listed(answers: Vec<Result<usize, &'static str>>) -> Snapshots {
        let snapshot =
            |customers| random(customers, None).next().ok_or_else(|| anyhow!("random values end"))?;
        Box::new(answers.into_iter().map(move |answer| answer.map_err(|why| anyhow!(why)).and_then(snapshot)))
    }

    #[test]
    fn a_source_that_fails_for_a_while_keeps_what_it_had_and_goes_on() {
        let answers = vec![Ok(1), Ok(2), Err("line 7"), Err("line 8"), Ok(0), Ok(3)];
        let mut packer = Packer::new(listed(answers), None, together(10));
        let said: Vec<Result<Vec<usize>, String>> =
            std::iter::from_fn(|| (!packer.is_done()).then(|| packer.pack()))
                .map(|packed| match packed {
                    Ok(batches) => Ok(batches.iter().map(|batch| batch.customers).collect()),
                    Err(error) => Err(error.to_string()),
                })
                .collect();
        let failed = |why: &str| Err(why.to_owned());
        let expected = [
            Ok(vec![1, 2]),
            failed("line 7"),
            failed("line 8"),
            failed("the snapshot has no customers"),
            Ok(vec![3]),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn failures_are_not_counted_as_batches() {
        let mut packer = Packer::new(listed(vec![Err("not yet"), Ok(1), Ok(2), Ok(3)]), Some(2), ALONE);
        assert!(packer.pack().is_err());
        assert_eq!(transactions(packer).len(), 2);
    }

    #[test]
    fn a_source_that_is_over_gives_nothing_and_is_not_asked_again() {
        let mut asked = 0;
        let source = std::iter::from_fn(move || {
            asked += 1;
            assert_eq!(asked, 1);
            None
        });
        let mut packer = Packer::new(Box::new(source), None, together(10));
        assert!(packer.pack().unwrap().is_empty());
        assert!(packer.is_done());
        assert!(packer.pack().unwrap().is_empty());
    }
}
