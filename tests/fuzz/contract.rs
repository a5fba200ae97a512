//! The contract, naively: what one body and three of them mean, implemented a second time from docs/guide.md.
//!
//! Shares only the names of reasons with the decoder. In two things that the contract leaves open, this
//! follows the decoder: a name that is not Unicode makes the body malformed, and an array of ids in which an
//! element is no id has no length to compare.

use crate::json::{self, Json};
use crate::time;
use rfm_stream::message::Reason;
use rfm_stream::metric::Metric;
use rfm_stream::reader::customer_ids::IdRule;
use rfm_stream::reader::quintile::Ties;
use std::collections::BTreeSet;

/// Why a field is refused, and which element it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: Reason,
    pub element: Option<usize>,
}

type Field<T> = Result<T, Fault>;

/// An instant: seconds since 1970, and nanoseconds (1e9 and more in a leap second).
pub type Instant = (i64, u32);

#[derive(Clone, Debug)]
pub struct Body {
    pub values: Field<Vec<f64>>,
    pub ids: Field<Option<Vec<String>>>,
    pub as_of: Field<Option<Instant>>,
    pub population: Field<Option<String>>,
}

fn fault<T>(reason: Reason, element: Option<usize>) -> Field<T> {
    Err(Fault { reason, element })
}

/// The content of a body; `None` if it is malformed.
pub fn read(metric: Metric, body: Option<&[u8]>) -> Option<Body> {
    let Json::Object(fields) = json::parse(std::str::from_utf8(body?).ok()?)? else { return None };
    if fields.iter().any(|(name, _)| name.is_none()) {
        return None;
    }
    let last = |wanted: &str| {
        fields.iter().rev().find(|(name, _)| name.as_deref() == Some(wanted)).map(|(_, value)| value)
    };
    Some(Body {
        values: values(last(metric.name())),
        ids: last("customer_id").map(ids).transpose(),
        as_of: last("as_of").map(as_of).transpose(),
        population: last("population").map(population).transpose(),
    })
}

fn values(field: Option<&Json>) -> Field<Vec<f64>> {
    let Some(Json::Array(elements)) = field else { return fault(Reason::BadField, None) };
    let number = |element: &Json| match element {
        Json::Number(text) => text.parse().ok(),
        Json::Null | Json::Word => Some(f64::NAN),
        _ => None,
    };
    let numbers: Vec<Option<f64>> = elements.iter().map(number).collect();
    if let Some(i) = numbers.iter().position(Option::is_none) {
        return fault(Reason::BadField, Some(i));
    }
    let numbers: Vec<f64> = numbers.into_iter().flatten().collect();
    match numbers.iter().position(|x| !x.is_finite()) {
        Some(i) => fault(Reason::NotFinite, Some(i)),
        None => Ok(numbers),
    }
}

fn ids(field: &Json) -> Field<Vec<String>> {
    let Json::Array(elements) = field else { return fault(Reason::BadCustomerId, None) };
    let id = |(i, element): (usize, &Json)| match element {
        Json::Text(Some(text)) if !text.contains('\0') => Ok(text.clone()),
        // JSON has one way to write an integer, except zero, which may have a sign.
        Json::Number(text) if text == "-0" => Ok("0".into()),
        Json::Number(text) if text.parse::<i64>().is_ok() => Ok(text.clone()),
        _ => fault(Reason::BadCustomerId, Some(i)),
    };
    elements.iter().enumerate().map(id).collect()
}

fn as_of(field: &Json) -> Field<Instant> {
    let Json::Text(Some(text)) = field else { return fault(Reason::BadAsOf, None) };
    time::rfc3339(text).map_or(fault(Reason::BadAsOf, None), Ok)
}

fn population(field: &Json) -> Field<String> {
    match field {
        Json::Text(Some(text)) if !text.contains('\0') => Ok(text.clone()),
        _ => fault(Reason::BadPopulation, None),
    }
}

/// The content of three bodies together.
#[derive(Debug, PartialEq)]
pub struct Scored {
    /// Bit for bit.
    pub values: [Vec<u64>; 3],
    pub edges: [[u64; 6]; 3],
    pub codes: [Vec<u8>; 3],
    pub ids: Option<Vec<String>>,
    pub as_of: Instant,
    pub population: Option<String>,
}

/// The inner edges of each metric that has fixed ones.
pub type Fixed = [Option<[f64; 4]>; 3];

/// How to score, and Kafka's times of the messages.
pub struct Circumstances {
    pub ties: Ties,
    /// The inner edges of each metric that has fixed ones.
    pub fixed: Fixed,
    pub customer_ids: IdRule,
    pub max_customers: usize,
    pub timestamps: [Option<i64>; 3],
}

/// The scored batch, or the first reason in the contract's order that applies.
pub fn score(bodies: [Option<Body>; 3], how: &Circumstances) -> Result<Scored, Reason> {
    let [Some(r), Some(f), Some(m)] = bodies else { return Err(Reason::Malformed) };
    let bodies = [r, f, m];
    let faults = |reason| bodies.iter().any(|body| body.values.as_ref().is_err_and(|f| f.reason == reason));
    for reason in [Reason::BadField, Reason::NotFinite] {
        if faults(reason) {
            return Err(reason);
        }
    }
    let values = bodies.each_ref().map(|body| body.values.clone().unwrap_or_default());
    let edges_of =
        |i: usize| how.fixed[i].map_or_else(|| edges(&values[i]), |inner| Some(fixed(&values[i], inner)));
    let [Some(r), Some(f), Some(m)] = [0, 1, 2].map(edges_of) else {
        return Err(Reason::NotFinite);
    };
    let edges = [r, f, m];
    let lengths: Vec<usize> = values.iter().map(Vec::len).collect();
    let id_lengths = bodies.iter().filter_map(|body| body.ids.as_ref().ok()?.as_ref().map(Vec::len));
    let all_lengths: Vec<usize> = lengths.iter().copied().chain(id_lengths).collect();
    if lengths.contains(&0) {
        return Err(Reason::Empty);
    }
    if all_lengths.iter().any(|&length| length != lengths[0]) {
        return Err(Reason::LengthMismatch);
    }
    if lengths[0] > how.max_customers {
        return Err(Reason::TooLarge);
    }
    let ids = agreed(Reason::BadCustomerId, bodies.each_ref().map(|body| body.ids.clone()))?;
    if !obeys(how.customer_ids, ids.as_deref()) {
        return Err(Reason::BadCustomerId);
    }
    let as_of = agreed(Reason::BadAsOf, bodies.each_ref().map(|body| body.as_of))?;
    let earliest = || time::of_milliseconds(how.timestamps.into_iter().flatten().min()?);
    let as_of = as_of.or_else(earliest).ok_or(Reason::BadAsOf)?;
    let population = agreed(Reason::BadPopulation, bodies.each_ref().map(|body| body.population.clone()))?;
    // Under `share`, nothing is refused, and a code is how many edges lie below.
    let ties = how.fixed.map(|fixed| if fixed.is_some() { Ties::Share } else { how.ties });
    let [r, f, m] = [0, 1, 2].map(|i| codes(&values[i], &edges[i], ties[i]).ok_or(Reason::TiedEdges));
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
    let edges = edges.map(|edges| edges.map(f64::to_bits));
    Ok(Scored { values: values.map(bits), edges, codes: [r?, f?, m?], ids, as_of, population })
}

/// The one value of a field that may occur in three messages.
fn agreed<T: PartialEq>(reason: Reason, fields: [Field<Option<T>>; 3]) -> Result<Option<T>, Reason> {
    let fields: Result<Vec<Option<T>>, Fault> = fields.into_iter().collect();
    let mut said: Vec<T> = fields.map_err(|fault| fault.reason)?.into_iter().flatten().collect();
    if said.iter().any(|value| *value != said[0]) {
        return Err(reason);
    }
    Ok(said.pop())
}

/// The six edges of `pandas.qcut(values, 5)`, from a sorted column; `None` if a difference overflows.
fn edges(column: &[f64]) -> Option<[f64; 6]> {
    let mut sorted = column.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Some([0.0; 6]) };
    let edge = |q: f64| {
        let v = last as f64 * q;
        if v >= last as f64 {
            return sorted[last];
        }
        let k = v.floor();
        let (t, a, b) = (v - k, sorted[k as usize], sorted[k as usize + 1]);
        let d = b - a;
        // An infinite difference would vanish where t is 0.
        if d.is_infinite() {
            d
        } else if t >= 0.5 {
            b - d * (1.0 - t)
        } else {
            a + d * t
        }
    };
    // -0.0 is 0.0, everywhere.
    let edges = [0.0, 0.2, 0.4, 0.6000000000000002, 0.8, 1.0].map(|q| edge(q) + 0.0);
    edges.iter().all(|edge| edge.is_finite()).then_some(edges)
}

/// Fixed edges, with the least and the greatest value around them.
fn fixed(column: &[f64], [a, b, c, d]: [f64; 4]) -> [f64; 6] {
    let extreme =
        |better: fn(f64, f64) -> f64| column.iter().copied().reduce(better).unwrap_or_default() + 0.0;
    [extreme(f64::min), a, b, c, d, extreme(f64::max)]
}

/// Whether the ids are as `--customer-ids` wants them.
fn obeys(rule: IdRule, ids: Option<&[String]>) -> bool {
    let are_there = ids.is_some_and(|ids| ids.iter().all(|id| !id.is_empty()));
    match rule {
        IdRule::Any => true,
        IdRule::Required => are_there,
        IdRule::Unique => {
            are_there && ids.is_some_and(|ids| ids.len() == ids.iter().collect::<BTreeSet<_>>().len())
        }
    }
}

/// The codes 0 to 4 of a column; `None` if edges are tied and that is not allowed.
fn codes(column: &[f64], edges: &[f64; 6], ties: Ties) -> Option<Vec<u8>> {
    let tied = (1..6).any(|i| edges[i - 1] == edges[i]);
    let last = column.len() - 1;
    let by_value = |x: &f64| edges[1..5].iter().filter(|edge| *edge < x).count() as u8;
    // The place in a stable sort: how many values are smaller, or equal and further up.
    let place = |row: usize| {
        let before =
            |other: usize| column[other] < column[row] || (column[other] == column[row] && other < row);
        (0..column.len()).filter(|&other| before(other)).count()
    };
    match ties {
        Ties::Reject if tied => None,
        Ties::Rank if tied && last == 0 => None,
        Ties::Rank if tied => {
            let code = |row| (5.0 * place(row) as f64 / last as f64).ceil() as i64 - 1;
            Some((0..=last).map(|row| code(row).max(0) as u8).collect())
        }
        _ => Some(column.iter().map(by_value).collect()),
    }
}
