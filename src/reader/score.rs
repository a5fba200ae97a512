//! Scores: three bodies in; a scored batch out, or the one reason why there is none.
//!
//! Owns what the three messages mean together: the checks that they agree, and their scores. Does not own the
//! format of a body (`message`) or the arithmetic of a column (`quintile`). Pure.
//!
//! A batch may have several faults, in any of its messages. **The first in the contract's order is the reason
//! for all three messages.**

use crate::coordinates::MessageId;
use crate::message::{CustomerIds, Message, Problem, Reason, decode};
use crate::metric::Metric;
use crate::metric::PerMetric;
use crate::reader::customer_ids::IdRule;
use crate::reader::edges::FixedEdges;
use crate::reader::grid::Grid;
use crate::reader::pairing::{Batch, DeadLetter};
use crate::reader::quintile::{self, Cut, CutError, Ties};
use crate::reader::segment::SegmentMap;
use chrono::{DateTime, Utc};

/// How batches are scored: the part of the configuration that decides what is stored.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `--ties`, for what is cut by quintiles.
    pub ties: Ties,
    /// `--edges` or `--edges-from`
    pub edges: FixedEdges,
    /// `--customer-ids`
    pub customer_ids: IdRule,
    /// `--segment-map`
    pub segments: SegmentMap,
    /// `--max-customers`
    pub max_customers: usize,
}

impl Rules {
    /// The rules of a reader whose flags name nothing but this map.
    pub fn new(segments: SegmentMap) -> Self {
        Self {
            ties: Ties::default(),
            edges: FixedEdges::default(),
            customer_ids: IdRule::default(),
            segments,
            max_customers: 10_000_000,
        }
    }
}

/// A batch with its scores. The three columns and the ids have one entry per customer, in the order of the
/// messages.
#[derive(Debug)]
pub struct Scored {
    /// The partition of the three messages.
    pub partition: i32,
    /// Their offsets.
    pub offsets: PerMetric<i64>,
    /// Their key.
    pub key: Option<Vec<u8>>,
    /// The population of the customers.
    pub population: Option<String>,
    /// The instant of the snapshot.
    pub as_of: DateTime<Utc>,
    /// The newest of the three message times, if a message has one.
    pub produced_at: Option<DateTime<Utc>>,
    /// The values of the messages.
    pub values: PerMetric<Vec<f64>>,
    /// The groups of the values. A recency code of 0 is the best, a frequency or monetary code of 0 the
    /// worst.
    pub cuts: PerMetric<Cut>,
    /// The ids of the customers, if the sender gives any.
    pub customer_ids: Option<CustomerIds>,
    /// Customers and sums per pair of recency and frequency scores.
    pub grid: Grid,
}

impl Scored {
    /// How many customers the batch has.
    pub fn customers(&self) -> usize {
        self.values.recency.len()
    }

    /// Its three messages.
    pub fn messages(&self) -> PerMetric<MessageId> {
        let id =
            |metric: Metric| MessageId { metric, partition: self.partition, offset: self.offsets[metric] };
        PerMetric::from_fn(id)
    }
}

/// The scores 1..=5 of a customer from its three codes 0..=4. A smaller recency scores higher.
pub fn scores([recency, frequency, monetary]: [u8; 3]) -> [u8; 3] {
    [5 - recency, frequency + 1, monetary + 1]
}

/// Scores a batch.
///
/// # Errors
/// The three messages as dead letters, all with the same reason.
pub fn score(rules: &Rules, batch: Batch) -> Result<Scored, Vec<DeadLetter>> {
    let (partition, key) = (batch.partition(), batch.messages.recency.key.clone());
    let offsets = batch.messages.as_ref().map(|message| message.offset);
    let produced_at = batch.messages.values().filter_map(Message::produced_at).max();
    match examine(rules, &batch) {
        Ok(Content { values, cuts, customer_ids, as_of, population }) => {
            let columns = values.as_ref().map(Vec::as_slice);
            let grid = Grid::add_up(columns, &cuts.recency.codes, &cuts.frequency.codes);
            Ok(Scored {
                partition,
                offsets,
                key,
                population,
                as_of,
                produced_at,
                values,
                cuts,
                customer_ids,
                grid,
            })
        }
        Err(problem) => {
            let refused_with = Some(offsets.recency);
            let letter = |message| DeadLetter { message, problem: problem.clone(), refused_with };
            Err(batch.messages.into_array().into_iter().map(letter).collect())
        }
    }
}

/// What three bodies say together.
struct Content {
    /// The values as they came.
    values: PerMetric<Vec<f64>>,
    /// Their groups.
    cuts: PerMetric<Cut>,
    /// The customers, if the sender names them.
    customer_ids: Option<CustomerIds>,
    /// The instant of the snapshot.
    as_of: DateTime<Utc>,
    /// The population, if the sender names it.
    population: Option<String>,
}

/// Checks a batch. **The order of the statements is the contract's order of reasons.**
fn examine(rules: &Rules, batch: &Batch) -> Result<Content, Problem> {
    let bodies = batch.messages.as_ref().map(|message| decode(message.metric, message.value.as_deref()));
    let (r, f, m) = (bodies.recency?, bodies.frequency?, bodies.monetary?);

    let values = all_or_first([r.values, f.values, m.values].into())?;
    let cuts = all_cuts(&rules.edges, &values)?;
    let customers = check_lengths(&values, [&r.customer_ids, &f.customer_ids, &m.customer_ids].into())?;
    if customers > rules.max_customers {
        let detail = format!("{customers} customers, more than --max-customers {}", rules.max_customers);
        return Err(Problem::new(Reason::TooLarge, detail));
    }
    let ids = [r.customer_ids, f.customer_ids, m.customer_ids];
    let customer_ids = agreed(ids.into(), Reason::BadCustomerId, "customer_id")?;
    check_ids(rules.customer_ids, customer_ids.as_ref())?;
    let as_of = agreed([r.as_of, f.as_of, m.as_of].into(), Reason::BadAsOf, "as_of")?;
    let as_of = as_of.map_or_else(|| earliest_timestamp(batch), Ok)?;
    let populations = [r.population, f.population, m.population];
    let population = agreed(populations.into(), Reason::BadPopulation, "population")?;

    let settled = |metric: Metric, cut| match rules.edges.of(metric) {
        Some(_) => Ok(cut),
        None => settle_ties(metric, cut, &values[metric], rules.ties),
    };
    let cuts = PerMetric {
        recency: settled(Metric::Recency, cuts.recency)?,
        frequency: settled(Metric::Frequency, cuts.frequency)?,
        monetary: settled(Metric::Monetary, cuts.monetary)?,
    };
    Ok(Content { values, cuts, customer_ids, as_of, population })
}

/// All three columns, or the problem whose reason comes first.
fn all_or_first<T: Default>(columns: PerMetric<Result<T, Problem>>) -> Result<PerMetric<T>, Problem> {
    let mut problems = Vec::new();
    let columns = columns.map(|column| column.map_err(|problem| problems.push(problem)).unwrap_or_default());
    problems.into_iter().min_by_key(|problem| problem.reason).map_or(Ok(columns), Err)
}

/// The cuts of the three columns, or the problem whose reason comes first.
fn all_cuts(edges: &FixedEdges, columns: &PerMetric<Vec<f64>>) -> Result<PerMetric<Cut>, Problem> {
    let cut = |metric: Metric| {
        let values = &columns[metric];
        let cut =
            edges.of(metric).map_or_else(|| quintile::cut(values), |inner| quintile::cut_at(values, inner));
        cut.map_err(|e| match e {
            CutError::Empty => Problem::new(Reason::Empty, format!("`{metric}` message: no customers")),
            _ => Problem::new(Reason::NotFinite, format!("`{metric}` message: {e}")),
        })
    };
    all_or_first(PerMetric::from_fn(cut))
}

/// The number of customers, if the lengths of all arrays agree.
fn check_lengths(
    values: &PerMetric<Vec<f64>>,
    ids: PerMetric<&Result<Option<CustomerIds>, Problem>>,
) -> Result<usize, Problem> {
    let mismatch = |detail: String| Err(Problem::new(Reason::LengthMismatch, detail));
    let lengths = values.as_ref().map(Vec::len);
    let customers = lengths.recency;
    if lengths.values().any(|&length| length != customers) {
        let [r, f, m] = lengths.into_array();
        return mismatch(format!("the arrays have {r} (recency), {f} (frequency), {m} (monetary) elements"));
    }
    for (metric, ids) in ids {
        if let Ok(Some(ids)) = ids
            && ids.len() != customers
        {
            let n = ids.len();
            return mismatch(format!("`{metric}` message: {n} customer ids for {customers} customers"));
        }
    }
    Ok(customers)
}

/// The value of an optional field, which any of the three messages may have.
fn agreed<T: PartialEq>(
    fields: PerMetric<Result<Option<T>, Problem>>,
    reason: Reason,
    name: &str,
) -> Result<Option<T>, Problem> {
    let mut found: Option<(Metric, T)> = None;
    for (metric, value) in fields {
        match (&found, value?) {
            (Some((first, known)), Some(value)) if *known != value => {
                let detail = format!("the `{first}` and `{metric}` messages disagree on `{name}`");
                return Err(Problem::new(reason, detail));
            }
            (None, Some(value)) => found = Some((metric, value)),
            _ => {}
        }
    }
    Ok(found.map(|(_, value)| value))
}

fn check_ids(rule: IdRule, ids: Option<&CustomerIds>) -> Result<(), Problem> {
    rule.check(ids)
        .map_err(|breach| Problem::new(Reason::BadCustomerId, format!("{breach} (--customer-ids {rule})")))
}

/// The earliest of the three message times: the meaning of `as_of` if no message has the field.
fn earliest_timestamp(batch: &Batch) -> Result<DateTime<Utc>, Problem> {
    let earliest =
        batch.messages.values().filter(|message| message.timestamp.is_some()).min_by_key(|m| m.timestamp);
    earliest.and_then(Message::produced_at).ok_or_else(|| {
        Problem::new(Reason::BadAsOf, "no `as_of`, and the messages have no timestamp to use instead")
    })
}

fn settle_ties(metric: Metric, cut: Cut, values: &[f64], ties: Ties) -> Result<Cut, Problem> {
    cut.under(ties, values).map_err(|e| {
        let detail = format!("`{metric}` message: {e} (--ties {ties})");
        Problem::new(Reason::TiedEdges, detail)
    })
}

#[cfg(test)]
mod tests;
