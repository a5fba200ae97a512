//! The fast path: reads a body in one pass, or fails without details.

use super::{Body, CustomerIds, parse_as_of};
use crate::metric::Metric;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Reads the whole of `text`.
///
/// # Errors
/// Anything that breaks the contract, except a bad `as_of`: that is a field of the [`Body`] with a full
/// [`Problem`](super::Problem).
pub(super) fn read(metric: Metric, text: &str) -> serde_json::Result<Body> {
    let mut json = serde_json::Deserializer::from_str(text);
    let body = (BodySeed { metric }).deserialize(&mut json)?;
    json.end()?;
    Ok(body)
}

/// Reads the whole object. Its errors only say that something is wrong.
struct BodySeed {
    /// Whose field is read.
    metric: Metric,
}

impl<'de> DeserializeSeed<'de> for BodySeed {
    type Value = Body;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Body, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BodySeed {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// If a name occurs twice, its last value counts, as in Python and JavaScript.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut values = None;
        let (mut customer_ids, mut as_of, mut population) = (None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                n if n == self.metric.name() => values = Some(map.next_value()?),
                "customer_id" => customer_ids = Some(map.next_value_seed(IdsSeed)?),
                "as_of" => as_of = Some(map.next_value::<String>()?),
                "population" => population = Some(map.next_value::<String>()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if population.as_deref().is_some_and(|p| p.contains('\0')) {
            return Err(A::Error::custom("U+0000 in population"));
        }
        Ok(Body {
            values: Ok(values.ok_or_else(|| A::Error::custom("no values"))?),
            customer_ids: Ok(customer_ids),
            as_of: as_of.map(|text| parse_as_of(self.metric, &text)).transpose(),
            population: Ok(population),
        })
    }
}

/// Reads the array of customer ids.
struct IdsSeed;

impl<'de> DeserializeSeed<'de> for IdsSeed {
    type Value = CustomerIds;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<CustomerIds, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for IdsSeed {
    type Value = CustomerIds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings or integers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CustomerIds, A::Error> {
        let mut ids = CustomerIds::default();
        while seq.next_element_seed(IdSeed(&mut ids))?.is_some() {}
        Ok(ids)
    }
}

/// Reads one customer id and appends it to the list.
struct IdSeed<'a>(&'a mut CustomerIds);

impl<'de> DeserializeSeed<'de> for IdSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for IdSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string without U+0000 or an integer within i64")
    }

    fn visit_str<E: serde::de::Error>(self, id: &str) -> Result<(), E> {
        if id.contains('\0') {
            return Err(E::custom("U+0000 in a customer id"));
        }
        self.0.push(id);
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, id: i64) -> Result<(), E> {
        self.0.push(id);
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<(), E> {
        self.visit_i64(i64::try_from(id).map_err(E::custom)?)
    }
}
