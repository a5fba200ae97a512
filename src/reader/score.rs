//! Scores: three bodies in, a scored batch out, or the one reason why not.
//!
//! Owns what the three messages mean together: that they agree, and their scores. Does not own the
//! format of a body (`message`) nor the arithmetic of a column (`quintile`). Pure.
//!
//! The one idea: every fault of a batch is looked for, and **the first in the contract's order is the
//! reason for all three messages**, whichever of them it was found in.

use crate::message::{CustomerIds, Message, Metric, Problem, Reason, decode};
use crate::reader::pairing::{Batch, DeadLetter};
use crate::reader::quintile::{self, Cut, CutError, Ties};
use crate::reader::segment::SegmentMap;
use chrono::{DateTime, Utc};

/// How batches are scored: the part of the configuration that decides what is stored.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `--ties`
    pub ties: Ties,
    /// `--segment-map`
    pub segments: SegmentMap,
    /// `--max-customers`
    pub max_customers: usize,
}

/// A batch with its scores. The three columns and the ids all have one entry per customer, in the
/// order of the messages.
#[derive(Debug)]
pub struct Scored {
    /// The partition that the three messages stood on.
    pub partition: i32,
    /// Their offsets.
    pub offsets: [i64; 3],
    /// Their key.
    pub key: Option<Vec<u8>>,
    /// Whose customers these are.
    pub population: Option<String>,
    /// The instant of the snapshot.
    pub as_of: DateTime<Utc>,
    /// The values as they came.
    pub values: [Vec<f64>; 3],
    /// Their quintiles; a recency code 0 is the best, a frequency or monetary code 0 the worst.
    pub cuts: [Cut; 3],
    /// Who the customers are, if the sender says.
    pub customer_ids: Option<CustomerIds>,
}

impl Scored {
    /// How many customers the batch has.
    pub fn customers(&self) -> usize {
        self.values[0].len()
    }
}

/// The scores 1..=5 of a customer, from its three codes 0..=4: the more recent, the better.
pub fn scores([recency, frequency, monetary]: [u8; 3]) -> [u8; 3] {
    [5 - recency, frequency + 1, monetary + 1]
}

/// Scores a batch.
///
/// # Errors
/// The three messages as dead letters of one and the same reason.
pub fn score(rules: &Rules, batch: Batch) -> Result<Scored, Vec<DeadLetter>> {
    let [recency, ..] = &batch.messages;
    let (partition, key) = (recency.partition, recency.key.clone());
    let offsets = batch.messages.each_ref().map(|message| message.offset);
    match examine(rules, &batch) {
        Ok(Content { values, cuts, customer_ids, as_of, population }) => {
            Ok(Scored { partition, offsets, key, population, as_of, values, cuts, customer_ids })
        }
        Err(problem) => {
            let letter = |message| DeadLetter { message, problem: problem.clone() };
            Err(batch.messages.into_iter().map(letter).collect())
        }
    }
}

/// What three bodies say together.
struct Content {
    values: [Vec<f64>; 3],
    cuts: [Cut; 3],
    customer_ids: Option<CustomerIds>,
    as_of: DateTime<Utc>,
    population: Option<String>,
}

/// Checks in the order of the contract; the order of the statements is the order of the reasons.
fn examine(rules: &Rules, batch: &Batch) -> Result<Content, Problem> {
    let bodies = batch.messages.each_ref().map(|message| decode(message.metric, message.value.as_deref()));
    let [recency, frequency, monetary] = bodies;
    let [r, f, m] = [recency?, frequency?, monetary?];

    let values = all_or_first([r.values, f.values, m.values])?;
    let cuts = all_cuts(&values)?;
    let customers = check_lengths(&values, [&r.customer_ids, &f.customer_ids, &m.customer_ids])?;
    if customers > rules.max_customers {
        let detail = format!("{customers} customers, more than --max-customers {}", rules.max_customers);
        return Err(Problem::new(Reason::TooLarge, detail));
    }
    let ids = [r.customer_ids, f.customer_ids, m.customer_ids];
    let customer_ids = agreed(ids, Reason::BadCustomerId, "customer_id")?;
    let as_of = agreed([r.as_of, f.as_of, m.as_of], Reason::BadAsOf, "as_of")?;
    let as_of = as_of.map_or_else(|| earliest_timestamp(batch), Ok)?;
    let population = agreed([r.population, f.population, m.population], Reason::BadPopulation, "population")?;

    let [r, f, m] = cuts;
    let settled = |metric: Metric, cut| settle_ties(metric, cut, &values[metric.index()], rules.ties);
    let cuts = [settled(Metric::Recency, r)?, settled(Metric::Frequency, f)?, settled(Metric::Monetary, m)?];
    Ok(Content { values, cuts, customer_ids, as_of, population })
}

/// All three, or the first of their problems in the order of reasons.
fn all_or_first<T: Default>(columns: [Result<T, Problem>; 3]) -> Result<[T; 3], Problem> {
    let mut problems = Vec::new();
    let columns = columns.map(|column| column.map_err(|problem| problems.push(problem)).unwrap_or_default());
    problems.into_iter().min_by_key(|problem| problem.reason).map_or(Ok(columns), Err)
}

/// The three columns cut, or the first of their problems in the order of reasons.
fn all_cuts(columns: &[Vec<f64>; 3]) -> Result<[Cut; 3], Problem> {
    let cut = |metric: Metric| {
        quintile::cut(&columns[metric.index()]).map_err(|e| match e {
            CutError::Empty => Problem::new(Reason::Empty, format!("`{metric}` message: no customers")),
            _ => Problem::new(Reason::NotFinite, format!("`{metric}` message: {e}")),
        })
    };
    all_or_first(Metric::ALL.map(cut))
}

/// How many customers there are, if all arrays agree on it.
fn check_lengths(
    values: &[Vec<f64>; 3],
    ids: [&Result<Option<CustomerIds>, Problem>; 3],
) -> Result<usize, Problem> {
    let mismatch = |detail: String| Err(Problem::new(Reason::LengthMismatch, detail));
    let lengths = values.each_ref().map(Vec::len);
    let [customers, ..] = lengths;
    if lengths.iter().any(|&length| length != customers) {
        let [r, f, m] = lengths;
        return mismatch(format!("the arrays have {r} (recency), {f} (frequency), {m} (monetary) elements"));
    }
    for (metric, ids) in Metric::ALL.into_iter().zip(ids) {
        if let Ok(Some(ids)) = ids
            && ids.len() != customers
        {
            let n = ids.len();
            return mismatch(format!("`{metric}` message: {n} customer ids for {customers} customers"));
        }
    }
    Ok(customers)
}

/// The value of an optional field that may stand in any of the three messages.
fn agreed<T: PartialEq>(
    fields: [Result<Option<T>, Problem>; 3],
    reason: Reason,
    name: &str,
) -> Result<Option<T>, Problem> {
    let mut found: Option<(Metric, T)> = None;
    let [r, f, m] = fields;
    for (metric, value) in Metric::ALL.into_iter().zip([r?, f?, m?]) {
        match (&found, value) {
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

/// The earliest of the three message times: what `as_of` means where no message has it.
fn earliest_timestamp(batch: &Batch) -> Result<DateTime<Utc>, Problem> {
    let earliest =
        batch.messages.iter().filter(|message| message.timestamp.is_some()).min_by_key(|m| m.timestamp);
    earliest.and_then(Message::produced_at).ok_or_else(|| {
        Problem::new(Reason::BadAsOf, "no `as_of`, and the messages have no time that could stand for it")
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
