//! The wire format: what a message on one of the three topics says.
//!
//! Owns the names of the metrics, the reasons for which a message is refused, and the JSON body. Does not own
//! Kafka's side of a message (key, offset, time: see `kafka`) or the meaning of three bodies together (see
//! `reader::score`). Pure: bytes in; values or a [`Problem`] out.
//!
//! `strict` reads a body in one fast pass and only says whether it can. If it cannot, `diagnose` reads the
//! body again, slowly, and says which field and which element is wrong.

mod diagnose;
mod fingerprint;
mod snapshot;
mod strict;

pub use snapshot::{EncodedSnapshot, Snapshot};

use crate::coordinates::MessageId;
use crate::metric::Metric;
use chrono::{DateTime, Datelike, Utc};
use std::fmt;

/// A message as it was read: its place in Kafka, and its bytes, not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which of the three topics it is from.
    pub metric: Metric,
    /// Its partition. The three messages of a batch have the same.
    pub partition: i32,
    /// Its own offset.
    pub offset: i64,
    /// Kafka's timestamp of the message, if any: milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The batch key. `None` and an empty key are different keys.
    pub key: Option<Vec<u8>>,
    /// The body; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Bytes of bookkeeping per message, beside its key and value. Counted so that a backlog of tiny messages is
/// bounded too.
const MESSAGE_OVERHEAD: usize = 512;

/// The first year that Postgres's `timestamptz` covers in full: its range begins late in 4714 BC, which is
/// year -4713. (It ends after that of `chrono`.)
const FIRST_STORABLE_YEAR: i32 = -4712;

impl Message {
    /// Which message this is.
    pub fn id(&self) -> MessageId {
        MessageId { metric: self.metric, partition: self.partition, offset: self.offset }
    }

    /// When the message was produced, by Kafka's timestamp. `None` if it has none, or if Postgres cannot
    /// store it.
    pub fn produced_at(&self) -> Option<DateTime<Utc>> {
        let time = DateTime::from_timestamp_millis(self.timestamp?)?;
        (time.year() >= FIRST_STORABLE_YEAR).then_some(time)
    }

    /// Bytes of memory that the message takes until it is stored. Pairing keeps a copy of its key.
    pub fn weight(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        2 * len(&self.key) + len(&self.value) + MESSAGE_OVERHEAD
    }
}

/// Why a message is a dead letter. **The order is the contract's**: a batch with several faults is refused
/// for the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The other messages of its batch did not arrive.
    Unpaired,
    /// It has no key, and the topics have more than one partition.
    NoKey,
    /// A tombstone, not UTF-8, not JSON, or not an object.
    Malformed,
    /// The metric's field is missing or not an array of numbers.
    BadField,
    /// A null, NaN, an infinity, a number outside f64, or a difference of two values outside f64.
    NotFinite,
    /// No customers.
    Empty,
    /// The arrays have different lengths.
    LengthMismatch,
    /// More customers than `--max-customers`.
    TooLarge,
    /// `customer_id` has the wrong type, differs between the messages, or cannot be stored.
    BadCustomerId,
    /// `as_of` has the wrong type, differs between the messages, or cannot be stored.
    BadAsOf,
    /// `population` has the wrong type, differs between the messages, or cannot be stored.
    BadPopulation,
    /// Two quintile edges are equal, and `--ties` does not allow that.
    TiedEdges,
}

impl Reason {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 12] = [
        Reason::Unpaired,
        Reason::NoKey,
        Reason::Malformed,
        Reason::BadField,
        Reason::NotFinite,
        Reason::Empty,
        Reason::LengthMismatch,
        Reason::TooLarge,
        Reason::BadCustomerId,
        Reason::BadAsOf,
        Reason::BadPopulation,
        Reason::TiedEdges,
    ];

    /// The reason that `dead_letters.reason` names.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The value of `dead_letters.reason`.
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

/// What is wrong, and where. The sentence names field and element, and never quotes a payload at length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.name())]
pub struct Problem {
    /// The kind of fault.
    pub reason: Reason,
    /// Which message, field and element.
    pub detail: String,
}

/// In characters.
const LONGEST_DETAIL: usize = 500;

impl Problem {
    /// A problem with its sentence. **The sentence can be stored and logged, whatever the sender wrote**:
    /// control characters are escaped (Postgres does not accept U+0000), and it is cut at 500 characters.
    pub fn new(reason: Reason, detail: impl AsRef<str>) -> Self {
        let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
        let detail = detail.as_ref().chars().take(LONGEST_DETAIL).map(escape).collect();
        Self { reason, detail }
    }
}

/// The body of one message. Each field has its own result, so that a batch is refused for the first fault in
/// the contract's order, not for the first one found.
#[derive(Debug, PartialEq)]
pub struct Body {
    /// One finite number per customer.
    pub values: Result<Vec<f64>, Problem>,
    /// The ids of the customers, in the order of the values.
    pub customer_ids: Result<Option<CustomerIds>, Problem>,
    /// The time of the snapshot.
    pub as_of: Result<Option<DateTime<Utc>>, Problem>,
    /// The population of the customers.
    pub population: Result<Option<String>, Problem>,
}

/// Customer ids as Postgres stores them, concatenated in one string: a million ids take two allocations, not
/// a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerIds {
    /// All ids.
    text: String,
    /// Where each id ends in `text`, in bytes.
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

    /// A number for each id, in their order: equal for equal ids. Different ids may have the same one, but hardly ever
    /// do unless somebody chose them so.
    pub fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.iter().map(fingerprint::fingerprint)
    }

    /// Appends an id.
    pub fn push(&mut self, id: impl fmt::Display) {
        use fmt::Write;
        // Writing into a `String` cannot fail.
        let _ = write!(self.text, "{id}");
        self.ends.push(self.text.len());
    }
}

/// Reads the body of a message on the topic of `metric`; `None` is a tombstone.
///
/// # Errors
/// [`Reason::Malformed`] if the value is not a JSON object. Every other fault is in the field of [`Body`]
/// that it concerns. `NaN`, `Infinity` and `-Infinity` are read as the numbers they name: they are not JSON,
/// but Python's `json.dumps` writes them.
pub fn decode(metric: Metric, value: Option<&[u8]>) -> Result<Body, Problem> {
    let malformed = |what: String| Problem::new(Reason::Malformed, format!("`{metric}` message: {what}"));
    let value = value.ok_or_else(|| malformed("a tombstone (no value)".into()))?;
    let text = std::str::from_utf8(value).map_err(|e| malformed(format!("not UTF-8: {e}")))?;

    strict::read(metric, text).or_else(|_| diagnose::diagnose(metric, text))
}

/// Parses `as_of`. Errors quote the first 40 characters.
fn parse_as_of(metric: Metric, text: &str) -> Result<DateTime<Utc>, Problem> {
    let bad = |why: &dyn fmt::Display| {
        let shown: String = text.chars().take(40).collect();
        let detail = format!("`{metric}` message: `as_of` is `{shown}`, not an RFC 3339 time ({why})");
        Problem::new(Reason::BadAsOf, detail)
    };
    // `chrono` also accepts U+2212, the typographic minus sign.
    if !text.is_ascii() {
        return Err(bad(&"not ASCII"));
    }
    DateTime::parse_from_rfc3339(text).map(|t| t.with_timezone(&Utc)).map_err(|e| bad(&e))
}

#[cfg(test)]
mod tests;
