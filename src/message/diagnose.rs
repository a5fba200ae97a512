//! The slow path: reads a body that the fast path refused, and says field by field what is wrong.
//!
//! **It never contradicts the fast path**: what both can read has the same value. It accepts more only where
//! the contract does: Python's bare `NaN` and `Infinity`, and `-0` as an integer id.

use super::{Body, CustomerIds, Problem, Reason, parse_as_of};
use crate::metric::Metric;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Reads `text` again, slowly.
///
/// # Errors
/// [`Reason::Malformed`] if it is not a JSON object, even with the bare words allowed.
pub(super) fn diagnose(metric: Metric, text: &str) -> Result<Body, Problem> {
    let text = replace_bare_words(text);
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&text).map_err(|e| {
        // serde's message about a value of the wrong type quotes the whole value.
        let what = if e.is_data() { "not an object".to_owned() } else { format!("not JSON: {e}") };
        Problem::new(Reason::Malformed, format!("`{metric}` message: {what}"))
    })?;
    let field = |name: &str| fields.get(name).map(|raw| raw.get());
    Ok(Body {
        values: values(metric, field(metric.name())),
        customer_ids: field("customer_id").map(|raw| customer_ids(metric, raw)).transpose(),
        as_of: field("as_of").map(|raw| as_of(metric, raw)).transpose(),
        population: field("population").map(|raw| population(metric, raw)).transpose(),
    })
}

/// The bare words of Python's `json` module.
const BARE_WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Replaces them: a number outside f64, which no field allows. The blanks separate it from its neighbours, so
/// that they do not form another number with it.
const NO_NUMBER: &str = " 1e999 ";

/// Replaces bare `NaN`, `Infinity` and `-Infinity` outside strings with [`NO_NUMBER`].
fn replace_bare_words(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = end_of_string(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if let Some(word) = BARE_WORDS.iter().find(|word| rest.starts_with(**word)) {
            out.push_str(NO_NUMBER);
            rest = &rest[word.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Cow::Owned(out)
}

/// The length of the string literal at the start of `text`: up to its closing quote, or else to the end of
/// the text.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// The metric's values. An element that is not a number is reported before one that is not finite.
fn values(metric: Metric, raw: Option<&str>) -> Result<Vec<f64>, Problem> {
    let bad_field =
        |what: &str| Problem::new(Reason::BadField, format!("`{metric}` message: field `{metric}` {what}"));
    let raw = raw.ok_or_else(|| bad_field("is missing"))?;
    let (mut values, mut not_finite, mut no_number) = (Vec::new(), None, None);
    each_element(raw, |i, element| match number(element) {
        Some(x) if x.is_finite() => values.push(x),
        Some(_) => not_finite = not_finite.or(Some(i)),
        None => no_number = no_number.or(Some(i)),
    })
    .map_err(|_| bad_field("is not an array"))?;
    match (no_number, not_finite) {
        (Some(i), _) => Err(bad_field(&format!("element {i} is not a number"))),
        (None, Some(i)) => {
            let detail = format!("`{metric}` message: field `{metric}` element {i} is not a finite number");
            Err(Problem::new(Reason::NotFinite, detail))
        }
        (None, None) => Ok(values),
    }
}

/// Passes on the elements of an array as text, one at a time: collected, many short elements would take many
/// times the memory of the array.
fn each_element<'a>(raw: &'a str, take: impl FnMut(usize, &'a str)) -> serde_json::Result<()> {
    serde_json::Deserializer::from_str(raw).deserialize_seq(Elements(take))
}

struct Elements<F>(F);

impl<'de, F: FnMut(usize, &'de str)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut i = 0;
        while let Some(element) = seq.next_element::<&RawValue>()? {
            (self.0)(i, element.get());
            i += 1;
        }
        Ok(())
    }
}

/// A JSON number, or NaN for null. A number outside f64 is infinite; so is the one that replaces a bare word.
fn number(raw: &str) -> Option<f64> {
    if raw == "null" {
        return Some(f64::NAN);
    }
    // Rust's parser accepts more than JSON's numbers, but serde has already checked JSON's grammar.
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| raw.parse().ok()).flatten()
}

fn customer_ids(metric: Metric, raw: &str) -> Result<CustomerIds, Problem> {
    let bad = |what: String| {
        Problem::new(Reason::BadCustomerId, format!("`{metric}` message: `customer_id` {what}"))
    };
    let (mut ids, mut problem) = (CustomerIds::default(), None);
    each_element(raw, |i, element| match customer_id(element) {
        Ok(id) => ids.push(id),
        Err(what) => problem = problem.take().or_else(|| Some(bad(format!("element {i} {what}")))),
    })
    .map_err(|_| bad("is not an array".into()))?;
    problem.map_or(Ok(ids), Err)
}

fn customer_id(raw: &str) -> Result<String, &'static str> {
    if let Ok(integer) = raw.parse::<i64>() {
        return Ok(integer.to_string());
    }
    let id: String =
        serde_json::from_str(raw).map_err(|_| "is neither a string nor an integer within i64")?;
    if id.contains('\0') {
        return Err("contains U+0000, which Postgres cannot store");
    }
    Ok(id)
}

fn as_of(metric: Metric, raw: &str) -> Result<chrono::DateTime<chrono::Utc>, Problem> {
    let text: String = serde_json::from_str(raw)
        .map_err(|_| Problem::new(Reason::BadAsOf, format!("`{metric}` message: `as_of` is not a string")))?;
    parse_as_of(metric, &text)
}

fn population(metric: Metric, raw: &str) -> Result<String, Problem> {
    let bad = |what| Problem::new(Reason::BadPopulation, format!("`{metric}` message: `population` {what}"));
    let text: String = serde_json::from_str(raw).map_err(|_| bad("is not a string"))?;
    if text.contains('\0') {
        return Err(bad("contains U+0000, which Postgres cannot store"));
    }
    Ok(text)
}
