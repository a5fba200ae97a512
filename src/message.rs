//! The wire format: what a message on one of the three topics says.
//!
//! Owns the names of the metrics, the reasons a message can be refused for, and the JSON body. Does
//! not own Kafka's side of a message (key, offset, time: see `kafka`) nor what three bodies mean
//! together (see `reader::score`). Pure: bytes in, values or a [`Problem`] out.
//!
//! The one idea: a body is read by a strict, fast path that knows no excuses. Only when that fails
//! does `diagnose` read it again, slowly, to say which field and which element is wrong.

mod diagnose;
mod strict;

use chrono::{DateTime, Datelike, Utc};
use std::fmt;

/// One of the three numbers known of a customer, each on a topic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Days since the last order: the smaller, the better.
    Recency,
    /// Orders so far.
    Frequency,
    /// Money spent so far.
    Monetary,
}

impl Metric {
    /// The three, in the order in which every `[T; 3]` of this crate holds them.
    pub const ALL: [Metric; 3] = [Metric::Recency, Metric::Frequency, Metric::Monetary];

    /// The name of the metric and of its field in the body, whatever the topic is called.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Recency => "recency",
            Metric::Frequency => "frequency",
            Metric::Monetary => "monetary",
        }
    }

    /// Its place in a `[T; 3]`.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message as it was read: Kafka's coordinates, and the bytes that nobody looked into yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which of the three topics it stood on.
    pub metric: Metric,
    /// Its partition, the same number in all three topics of a batch.
    pub partition: i32,
    /// Its own offset.
    pub offset: i64,
    /// Kafka's time of the message in milliseconds since 1970, where it has one.
    pub timestamp: Option<i64>,
    /// The batch key. No key and an empty key are different keys.
    pub key: Option<Vec<u8>>,
    /// The body; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What the bookkeeping of one message costs beside its key and value, in bytes; so that a backlog of
/// tiny messages is bounded too.
const MESSAGE_OVERHEAD: usize = 512;

/// The first year whose every instant Postgres's `timestamptz` has; it begins late in 4714 BC, which is year
/// -4713. (It ends later than `chrono` does.)
const FIRST_STORABLE_YEAR: i32 = -4712;

impl Message {
    /// When Kafka says the message was produced; `None` if it does not say, or Postgres cannot store it.
    pub fn produced_at(&self) -> Option<DateTime<Utc>> {
        let time = DateTime::from_timestamp_millis(self.timestamp?)?;
        (time.year() >= FIRST_STORABLE_YEAR).then_some(time)
    }

    /// Memory that the message takes while it waits to be paired and stored, in bytes. Pairing keeps a copy of
    /// its key.
    pub fn weight(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        2 * len(&self.key) + len(&self.value) + MESSAGE_OVERHEAD
    }
}

/// Why a message is a dead letter. **The order is the contract's**: a batch with several faults is
/// refused for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its partners never came.
    Unpaired,
    /// It has no key, and the topics have more than one partition.
    NoKey,
    /// A tombstone, not UTF-8, not JSON, or not an object.
    Malformed,
    /// The metric's field is missing or not an array of numbers.
    BadField,
    /// A null, NaN, an infinity, a number outside f64, or two values whose difference is.
    NotFinite,
    /// No customers.
    Empty,
    /// The arrays differ in length.
    LengthMismatch,
    /// More customers than `--max-customers`.
    TooLarge,
    /// `customer_id` is of the wrong type, disagrees, or cannot be stored.
    BadCustomerId,
    /// `as_of` is of the wrong type, disagrees, or cannot be stored.
    BadAsOf,
    /// `population` is of the wrong type, disagrees, or cannot be stored.
    BadPopulation,
    /// Two quintile edges are equal and `--ties` does not allow it.
    TiedEdges,
}

impl Reason {
    /// The word kept in `dead_letters.reason`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Unpaired => "unpaired",
            Reason::NoKey => "no_key",
            Reason::Malformed => "malformed",
            Reason::BadField => "bad_field",
            Reason::NotFinite => "not_finite",
            Reason::Empty => "empty",
            Reason::LengthMismatch => "length_mismatch",
            Reason::TooLarge => "too_large",
            Reason::BadCustomerId => "bad_customer_id",
            Reason::BadAsOf => "bad_as_of",
            Reason::BadPopulation => "bad_population",
            Reason::TiedEdges => "tied_edges",
        }
    }
}

/// What is wrong, and where: a sentence that names field and element and never quotes a payload at
/// length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.name())]
pub struct Problem {
    /// The class of the fault.
    pub reason: Reason,
    /// Which message, field and element.
    pub detail: String,
}

/// In characters.
const LONGEST_DETAIL: usize = 500;

impl Problem {
    /// A problem with its sentence. **Whatever a sender wrote, the sentence can be stored and logged**: control
    /// characters (Postgres takes no U+0000) are escaped, and it is cut at 500 characters.
    pub fn new(reason: Reason, detail: impl AsRef<str>) -> Self {
        let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
        let detail = detail.as_ref().chars().take(LONGEST_DETAIL).map(escape).collect();
        Self { reason, detail }
    }
}

/// The body of one message. Every field stands for itself, so that a batch can be refused for the
/// first fault in the contract's order rather than the first one met.
#[derive(Debug, PartialEq)]
pub struct Body {
    /// One finite number per customer.
    pub values: Result<Vec<f64>, Problem>,
    /// Who the customers are, in the order of the values.
    pub customer_ids: Result<Option<CustomerIds>, Problem>,
    /// The instant that the snapshot describes.
    pub as_of: Result<Option<DateTime<Utc>>, Problem>,
    /// Whose customers these are.
    pub population: Result<Option<String>, Problem>,
}

/// Customer ids as Postgres will store them, end to end in one string: a million ids cost two
/// allocations, not a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerIds {
    text: String,
    ends: Vec<usize>,
}

impl CustomerIds {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }

    fn push(&mut self, id: impl fmt::Display) {
        use fmt::Write;
        // Writing into a `String` cannot fail.
        let _ = write!(self.text, "{id}");
        self.ends.push(self.text.len());
    }
}

/// Reads the body of a message on the topic of `metric`; `None` is a tombstone.
///
/// # Errors
/// [`Reason::Malformed`] where there is no JSON object at all; whatever else is wrong stands in the
/// field of [`Body`] that it concerns. `NaN`, `Infinity` and `-Infinity`, which are not JSON but
/// which Python's `json.dumps` writes, are understood as the numbers they name.
pub fn decode(metric: Metric, value: Option<&[u8]>) -> Result<Body, Problem> {
    let malformed = |what: String| Problem::new(Reason::Malformed, format!("`{metric}` message: {what}"));
    let value = value.ok_or_else(|| malformed("a tombstone (no value)".into()))?;
    let text = std::str::from_utf8(value).map_err(|e| malformed(format!("not UTF-8: {e}")))?;

    strict::read(metric, text).or_else(|_| diagnose::diagnose(metric, text))
}

/// The body of a message of `metric` that holds `values` and nothing else.
///
/// # Errors
/// A value that is not finite has no JSON.
pub fn encode(metric: Metric, values: &[f64]) -> anyhow::Result<Vec<u8>> {
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        anyhow::bail!("`{metric}` value {i} is not finite");
    }
    Ok(serde_json::to_vec(&std::collections::BTreeMap::from([(metric.name(), values)]))?)
}

/// `as_of` from its text. Errors name the text, which is short by then.
fn parse_as_of(metric: Metric, text: &str) -> Result<DateTime<Utc>, Problem> {
    let bad = |why: &dyn fmt::Display| {
        let shown: String = text.chars().take(40).collect();
        let detail = format!("`{metric}` message: `as_of` is `{shown}`, not an RFC 3339 time ({why})");
        Problem::new(Reason::BadAsOf, detail)
    };
    // `chrono` also takes U+2212, the minus sign of typesetters.
    if !text.is_ascii() {
        return Err(bad(&"not ASCII"));
    }
    DateTime::parse_from_rfc3339(text).map(|t| t.with_timezone(&Utc)).map_err(|e| bad(&e))
}

#[cfg(test)]
mod tests;
