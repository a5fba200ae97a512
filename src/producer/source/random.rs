//! Random values: whole numbers as floats, uniform.
//!
//! **The values follow from the seed and the order of the snapshots alone**, however many of them a
//! transaction carries.

use super::Snapshots;
use crate::message::{EncodedSnapshot, Snapshot};
use crate::metric::PerMetric;
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// The greatest value of each metric: days, orders, money. The least is 0.
const GREATEST: PerMetric<u32> = PerMetric { recency: 365, frequency: 365, monetary: 999 };

/// What is made at random.
#[derive(Clone, Debug)]
pub struct Random {
    /// `--customers`: of each snapshot.
    pub customers: usize,
    /// `--seed`: makes the values repeatable; `None`: other ones every time.
    pub seed: Option<u64>,
    /// `--population`
    pub population: Option<String>,
}

impl Random {
    /// Snapshots without end. Keys are always new.
    pub fn snapshots(self) -> Snapshots {
        Box::new(self.values().map(Snapshot::encode))
    }

    /// The same, not encoded yet.
    fn values(self) -> impl Iterator<Item = Snapshot> {
        let Self { customers, seed, population } = self;
        let mut generator = seed.map_or_else(rand::make_rng, ChaCha8Rng::seed_from_u64);
        std::iter::repeat_with(move || {
            let columns = GREATEST.map(|greatest| {
                (0..customers).map(|_| f64::from(generator.random_range(0..=greatest))).collect()
            });
            snapshot(columns, population.clone())
        })
    }
}

/// A snapshot whose messages are as long as any that [`Random`] makes.
///
/// # Errors
/// See [`Snapshot::encode`].
pub fn longest(random: &Random) -> anyhow::Result<EncodedSnapshot> {
    let columns = GREATEST.map(|greatest| vec![f64::from(greatest); random.customers]);
    snapshot(columns, random.population.clone()).encode()
}

/// A snapshot with a new key.
fn snapshot(columns: PerMetric<Vec<f64>>, population: Option<String>) -> Snapshot {
    Snapshot { key: Uuid::now_v7().to_string(), as_of: None, population, customer_ids: None, columns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    /// The first snapshots under a seed.
    fn first(count: usize, seed: u64, customers: usize) -> Vec<Snapshot> {
        Random { customers, seed: Some(seed), population: None }.values().take(count).collect()
    }

    /// The bodies under a seed, in the order in which they are sent.
    fn bodies(count: usize, seed: u64, customers: usize) -> impl Iterator<Item = Vec<u8>> {
        first(count, seed, customers)
            .into_iter()
            .flat_map(|snapshot| snapshot.encode().unwrap().bodies.into_array())
    }

    #[test]
    fn a_seed_means_the_same_values_in_every_release() {
        let bodies: Vec<String> = bodies(1, 7, 4).map(|body| String::from_utf8(body).unwrap()).collect();
        let expected = [
            r#"{"recency":[51.0,57.0,66.0,61.0]}"#,
            r#"{"frequency":[98.0,257.0,13.0,265.0]}"#,
            r#"{"monetary":[71.0,601.0,810.0,359.0]}"#,
        ];
        assert_eq!(bodies, expected);
    }

    /// The SHA-256 of the bodies of 25 snapshots, each with a line feed.
    fn digest(seed: u64, customers: usize) -> String {
        let mut hash = Sha256::new();
        for body in bodies(25, seed, customers) {
            hash.update(body);
            hash.update(b"\n");
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_is_sent_under_a_seed_is_the_same_to_the_byte() {
        let cases = [(7, 50), (0, 1), (u64::MAX, 1_000)];
        let digests = cases.map(|(seed, customers)| digest(seed, customers));
        let expected = [
            "611c3d917b475805dec1d904c2c5c55513c10c218d14e8ae52b2d2015c9253e8",
            "2595825d85492045008d89c1dc347f9a0e6ef2f463ad9b1e89e1da7956892965",
            "47501012fbda1641550f0ca42c369147ef438d8c21f164d1474cf1f1696a700f",
        ];
        assert_eq!(digests, expected);
    }

    #[test]
    fn no_message_is_longer_than_the_longest() {
        let random = Random { customers: 50, seed: None, population: None };
        let longest = longest(&random).unwrap().bodies.map(|body| body.len());
        for snapshot in first(25, 7, 50) {
            let lengths = snapshot.encode().unwrap().bodies.map(|body| body.len());
            assert!(lengths.zip(longest).into_array().into_iter().all(|(length, longest)| length <= longest));
        }
    }

    #[test]
    fn a_population_stands_in_every_message() {
        let random = Random { customers: 1, seed: None, population: Some("north".into()) };
        let bodies = random.snapshots().next().unwrap().unwrap().bodies;
        let has_it = |body: &Vec<u8>| String::from_utf8_lossy(body).contains(r#""population":"north""#);
        assert!(bodies.values().all(has_it));
    }

    #[test]
    fn keys_are_uuids_of_version_7_in_ascending_order() {
        let snapshots = first(25, 7, 1);
        let keys: Vec<Uuid> = snapshots.iter().map(|snapshot| snapshot.key.parse().unwrap()).collect();
        assert!(keys.iter().all(|key| key.get_version_num() == 7));
        assert!(keys.is_sorted());
        assert!(
            snapshots.iter().zip(&keys).all(|(snapshot, key)| snapshot.key == key.hyphenated().to_string())
        );
    }

    #[test]
    fn a_seed_repeats_the_values_but_not_the_keys() {
        for (one, other) in first(25, 7, 50).iter().zip(&first(25, 7, 50)) {
            assert_eq!(one.columns, other.columns);
            assert_ne!(one.key, other.key);
        }
    }

    #[test]
    fn values_are_whole_and_within_their_range() {
        let snapshot = first(1, 1, 20_000).remove(0);
        for (values, greatest) in snapshot.columns.zip(GREATEST.map(f64::from)).into_array() {
            assert!(values.iter().all(|x| x.fract() == 0.0 && (0.0..=greatest).contains(x)));
            assert!(values.contains(&0.0) && values.contains(&greatest), "both ends are reached");
        }
    }
}
