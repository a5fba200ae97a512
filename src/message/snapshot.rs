//! Encoding: a snapshot of customers becomes the bodies of three messages.
//!
//! **What is encoded here can be decoded**: [`Snapshot::encode`] refuses what [`decode`](super::decode) would
//! refuse.

use super::CustomerIds;
use crate::metric::{Metric, PerMetric};
use anyhow::{bail, ensure};
use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// Customers and their three numbers at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The batch key of the three messages.
    pub key: String,
    /// The instant that the snapshot describes; `None`: the time of its messages.
    pub as_of: Option<DateTime<Utc>>,
    /// Whose customers these are.
    pub population: Option<String>,
    /// Who the customers are, in the order of the columns.
    pub customer_ids: Option<CustomerIds>,
    /// The values of each metric: one finite number per customer.
    pub columns: PerMetric<Vec<f64>>,
}

/// A snapshot in the wire format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedSnapshot {
    /// The batch key of the three messages.
    pub key: String,
    /// How many customers there are.
    pub customers: usize,
    /// The body of each metric's message.
    pub bodies: PerMetric<Vec<u8>>,
}

impl Snapshot {
    /// The three messages. Ids stand in the recency message only, time and population in all three.
    ///
    /// # Errors
    /// Names what a reader would refuse: no customers, columns or ids that differ in length, a number that is
    /// not finite, U+0000 in a text, a year outside 0 to 9999.
    pub fn encode(self) -> anyhow::Result<EncodedSnapshot> {
        self.check()?;
        let bodies = PerMetric::try_from_fn(|metric| self.body(metric))?;
        let customers = self.customers();
        Ok(EncodedSnapshot { key: self.key, customers, bodies })
    }

    fn customers(&self) -> usize {
        self.columns.recency.len()
    }

    fn check(&self) -> anyhow::Result<()> {
        let customers = self.customers();
        ensure!(customers > 0, "the snapshot has no customers");
        for (metric, column) in self.columns.iter() {
            let found = column.len();
            ensure!(found == customers, "`{metric}` has {found} values, `recency` {customers}");
        }
        if let Some(ids) = &self.customer_ids {
            ensure!(ids.len() == customers, "{} customer ids for {customers} customers", ids.len());
            let zero = ids.iter().position(|id| id.contains('\0'));
            ensure!(zero.is_none(), "customer id {} contains U+0000", zero.unwrap_or_default());
        }
        ensure!(!self.population.iter().any(|name| name.contains('\0')), "the population contains U+0000");
        // RFC 3339 writes a year with four digits.
        ensure!(
            self.as_of.is_none_or(|time| (0..=9999).contains(&time.year())),
            "the year of `as_of` has more than four digits"
        );
        Ok(())
    }

    /// The body of the message of `metric`: its column first, then what else is known.
    fn body(&self, metric: Metric) -> anyhow::Result<Vec<u8>> {
        let column = &self.columns[metric];
        if let Some(i) = column.iter().position(|x| !x.is_finite()) {
            bail!("`{metric}` value {i} is not finite");
        }
        let mut body = Vec::new();
        put(&mut body, metric.name(), column)?;
        if metric == Metric::Recency
            && let Some(ids) = &self.customer_ids
        {
            put(&mut body, "customer_id", ids)?;
        }
        if let Some(as_of) = self.as_of {
            put(&mut body, "as_of", &as_of.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
        }
        if let Some(population) = &self.population {
            put(&mut body, "population", population)?;
        }
        body.push(b'}');
        Ok(body)
    }
}

/// Appends a field to an object that is still open.
fn put(object: &mut Vec<u8>, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
    object.push(if object.is_empty() { b'{' } else { b',' });
    serde_json::to_writer(&mut *object, name)?;
    object.push(b':');
    serde_json::to_writer(object, value)
}

impl Serialize for CustomerIds {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        json.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Body, decode};
    use super::*;
    use proptest::prelude::*;

    fn plain(columns: [Vec<f64>; 3]) -> Snapshot {
        Snapshot {
            key: "k".into(),
            as_of: None,
            population: None,
            customer_ids: None,
            columns: columns.into(),
        }
    }

    fn ids<T: AsRef<str>>(of: &[T]) -> CustomerIds {
        let mut ids = CustomerIds::default();
        of.iter().for_each(|id| ids.push(id.as_ref()));
        ids
    }

    fn bodies(snapshot: Snapshot) -> [String; 3] {
        snapshot.encode().unwrap().bodies.map(|body| String::from_utf8(body).unwrap()).into_array()
    }

    #[test]
    fn a_plain_snapshot_has_nothing_but_its_columns() {
        let bodies = bodies(plain([vec![1.0, 0.1], vec![2.0, 1e300], vec![-3.0, -0.0]]));
        let expected =
            [r#"{"recency":[1.0,0.1]}"#, r#"{"frequency":[2.0,1e+300]}"#, r#"{"monetary":[-3.0,-0.0]}"#];
        assert_eq!(bodies, expected);
    }

    #[test]
    fn ids_stand_in_the_recency_message_and_the_rest_in_all_three() {
        let bodies = bodies(Snapshot {
            as_of: Some("2026-01-31T23:59:59.5+01:00".parse().unwrap()),
            population: Some("Köln \"Süd\"".into()),
            customer_ids: Some(ids(&["007", "a\nb"])),
            ..plain([vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]])
        });
        let expected = [
            r#"{"recency":[1.0,2.0],"customer_id":["007","a\nb"],"as_of":"2026-01-31T22:59:59.500Z","population":"Köln \"Süd\""}"#,
            r#"{"frequency":[3.0,4.0],"as_of":"2026-01-31T22:59:59.500Z","population":"Köln \"Süd\""}"#,
            r#"{"monetary":[5.0,6.0],"as_of":"2026-01-31T22:59:59.500Z","population":"Köln \"Süd\""}"#,
        ];
        assert_eq!(bodies, expected);
    }

    #[test]
    fn what_a_reader_would_refuse_is_named_and_not_encoded() {
        let one = || plain([vec![1.0], vec![2.0], vec![3.0]]);
        let cases = [
            (plain([vec![], vec![], vec![]]), "no customers"),
            (plain([vec![1.0], vec![2.0], vec![]]), "`monetary` has 0 values, `recency` 1"),
            (plain([vec![1.0], vec![f64::NAN], vec![3.0]]), "`frequency` value 0 is not finite"),
            (Snapshot { customer_ids: Some(ids(&["a", "b"])), ..one() }, "2 customer ids for 1 customers"),
            (Snapshot { customer_ids: Some(ids(&["\0"])), ..one() }, "customer id 0 contains U+0000"),
            (Snapshot { population: Some("\0".into()), ..one() }, "the population contains U+0000"),
            (Snapshot { as_of: Some(DateTime::<Utc>::MAX_UTC), ..one() }, "more than four digits"),
            (Snapshot { as_of: Some(DateTime::<Utc>::MIN_UTC), ..one() }, "more than four digits"),
        ];
        for (snapshot, words) in cases {
            let error = snapshot.encode().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    /// Any snapshot that can be encoded.
    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        let number = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
        let text = "[^\\x00]{0,8}";
        let customer = (number, number, number, text);
        let as_of = prop::option::of((-62_167_219_200_i64..253_402_300_800, 0..1_000_000_000_u32));
        let customers = prop::collection::vec(customer, 1..50);
        (customers, any::<bool>(), as_of, prop::option::of(text)).prop_map(
            |(customers, has_ids, as_of, population)| Snapshot {
                key: "k".into(),
                as_of: as_of.map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap()),
                population,
                customer_ids: has_ids
                    .then(|| ids(&customers.iter().map(|customer| &customer.3).collect::<Vec<_>>())),
                columns: PerMetric {
                    recency: customers.iter().map(|customer| customer.0).collect(),
                    frequency: customers.iter().map(|customer| customer.1).collect(),
                    monetary: customers.iter().map(|customer| customer.2).collect(),
                },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back_bit_for_bit(snapshot in any_snapshot()) {
            let encoded = snapshot.clone().encode().unwrap();
            prop_assert_eq!(encoded.customers, snapshot.columns.recency.len());
            for metric in Metric::ALL {
                let Body { values, customer_ids, as_of, population } =
                    decode(metric, Some(&encoded.bodies[metric])).unwrap();
                let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&values.unwrap()), bits(&snapshot.columns[metric]));
                let has_ids = metric == Metric::Recency;
                prop_assert_eq!(customer_ids.unwrap(), snapshot.customer_ids.clone().filter(|_| has_ids));
                prop_assert_eq!(as_of.unwrap(), snapshot.as_of);
                prop_assert_eq!(population.unwrap(), snapshot.population.clone());
            }
        }
    }
}
