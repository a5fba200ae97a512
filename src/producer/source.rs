//! Where batches come from: values made up at random, as many batches at a time as fit into a transaction.
//!
//! The one idea: **the values follow from the seed and the order of the batches alone**, whatever the
//! transactions look like in which they travel.

use crate::kafka::Batch;
use crate::message::{Metric, encode};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::time::Duration;
use uuid::Uuid;

/// The greatest value of each metric: days, orders, money. The least is 0.
const GREATEST: [u32; 3] = [365, 365, 999];

/// How much one transaction carries: it is full with the batch that reaches either bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In batches.
    pub batches: usize,
    /// Of the bodies.
    pub bytes: usize,
}

impl Bounds {
    /// A batch per transaction, but for an interval of 0. What a transaction costs beside its batches (some
    /// requests that wait for each other, and a marker in every partition) is then shared by so many that it
    /// hardly counts; it is still over within a fraction of a second.
    pub fn of(interval: Duration) -> Self {
        let batches = if interval.is_zero() { 1_000 } else { 1 };
        Self { batches, bytes: 8 << 20 }
    }
}

/// Makes batches up.
pub struct Source {
    random: ChaCha8Rng,
    customers: usize,
    /// How many are still to be made up; `None` for ever.
    left: Option<u64>,
    /// Made up and put back: they come first.
    returned: VecDeque<Batch>,
}

impl Source {
    /// `batches` of `customers` each, with the values of `seed`.
    pub fn new(customers: usize, batches: Option<u64>, seed: Option<u64>) -> Self {
        let random = seed.map_or_else(rand::make_rng, ChaCha8Rng::seed_from_u64);
        Self { random, customers, left: batches, returned: VecDeque::new() }
    }

    /// Whether nothing more will come.
    pub fn is_exhausted(&self) -> bool {
        self.left == Some(0) && self.returned.is_empty()
    }

    /// The batches of the next transaction: as many as `bounds` allow, at least one if there is one.
    ///
    /// # Errors
    /// Those of [`encode`].
    pub fn next(&mut self, bounds: Bounds) -> anyhow::Result<Vec<Batch>> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while batches.len() < bounds.batches.max(1) && bytes < bounds.bytes && !self.is_exhausted() {
            let batch = match self.returned.pop_front() {
                Some(batch) => batch,
                None => self.make_up()?,
            };
            bytes += batch.bodies.iter().map(Vec::len).sum::<usize>();
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Takes back the batches of a transaction that was aborted; they come next, as they are.
    pub fn put_back(&mut self, batches: Vec<Batch>) {
        for batch in batches.into_iter().rev() {
            self.returned.push_front(batch);
        }
    }

    /// A batch with a new key: whole numbers as floats, uniform.
    fn make_up(&mut self) -> anyhow::Result<Batch> {
        let mut body = |metric: Metric| {
            let greatest = GREATEST[metric.index()];
            let values = (0..self.customers).map(|_| f64::from(self.random.random_range(0..=greatest)));
            encode(metric, &values.collect::<Vec<f64>>())
        };
        let bodies = [body(Metric::Recency)?, body(Metric::Frequency)?, body(Metric::Monetary)?];
        self.left = self.left.map(|left| left - 1);
        Ok(Batch { key: Uuid::now_v7().to_string(), bodies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode;

    const ALONE: Bounds = Bounds { batches: 1, bytes: usize::MAX };

    fn of_seed(seed: u64, customers: usize) -> Source {
        Source::new(customers, Some(25), Some(seed))
    }

    /// All batches of a source, transaction by transaction.
    fn transactions(mut source: Source, bounds: Bounds) -> Vec<Vec<Batch>> {
        let mut transactions = Vec::new();
        while !source.is_exhausted() {
            transactions.push(source.next(bounds).unwrap());
        }
        transactions
    }

    #[test]
    fn a_seed_repeats_the_values_but_not_the_keys_however_many_travel_together() {
        let alone = transactions(of_seed(7, 50), ALONE).concat();
        for batches in [1, 2, 10, 100] {
            let together = transactions(of_seed(7, 50), Bounds { batches, bytes: usize::MAX }).concat();
            assert_eq!(alone.len(), together.len());
            for (one, other) in alone.iter().zip(&together) {
                assert_eq!(one.bodies, other.bodies);
                assert_ne!(one.key, other.key);
            }
        }
    }

    #[test]
    fn a_seed_means_the_same_values_in_every_release() {
        let batch = of_seed(7, 4).next(ALONE).unwrap().remove(0);
        let bodies = batch.bodies.map(|body| String::from_utf8(body).unwrap());
        let expected = [
            r#"{"recency":[51.0,57.0,66.0,61.0]}"#,
            r#"{"frequency":[98.0,257.0,13.0,265.0]}"#,
            r#"{"monetary":[71.0,601.0,810.0,359.0]}"#,
        ];
        assert_eq!(bodies, expected);
    }

    #[test]
    fn a_transaction_is_full_with_the_batch_that_reaches_a_bound() {
        let sizes = |bounds| transactions(of_seed(1, 50), bounds).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(ALONE), [1; 25]);
        assert_eq!(sizes(Bounds { batches: 10, bytes: usize::MAX }), [10, 10, 5]);
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
    fn batches_that_were_put_back_come_next_as_they_were() {
        let expected = transactions(of_seed(3, 5), ALONE).concat();
        let mut source = of_seed(3, 5);
        let ten = Bounds { batches: 10, bytes: usize::MAX };
        let first = source.next(ten).unwrap();
        let keys: Vec<String> = first.iter().map(|batch| batch.key.clone()).collect();
        source.put_back(first);
        let mut again = source.next(Bounds { batches: 4, ..ten }).unwrap();
        again.extend(transactions(source, ten).concat());
        assert!(again.iter().zip(&keys).all(|(batch, key)| batch.key == *key));
        let bodies = |batches: &[Batch]| batches.iter().map(|batch| batch.bodies.clone()).collect::<Vec<_>>();
        assert_eq!(bodies(&again), bodies(&expected));
    }

    #[test]
    fn values_are_whole_and_within_their_range() {
        let batch = of_seed(1, 20_000).next(ALONE).unwrap().remove(0);
        for metric in Metric::ALL {
            let body = decode(metric, Some(&batch.bodies[metric.index()])).unwrap();
            let values = body.values.unwrap();
            let greatest = f64::from(GREATEST[metric.index()]);
            assert!(values.iter().all(|x| x.fract() == 0.0 && (0.0..=greatest).contains(x)));
            assert!(values.contains(&0.0) && values.contains(&greatest), "both ends are reached");
        }
    }
}
