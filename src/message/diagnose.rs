//! The slow second reading of a body that the fast path refused: says what is wrong, field by field.
//!
//! **It never contradicts the fast path**: what both can read has the same value. It reads more only
//! where the contract does: Python's bare `NaN` and `Infinity`, `-0` as an integer id.

use super::{Body, CustomerIds, Metric, Problem, Reason, parse_as_of};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Reads `text` again, slowly.
///
/// # Errors
/// [`Reason::Malformed`] if it is no JSON object even when the bare words are allowed.
pub(super) fn diagnose(metric: Metric, text: &str) -> Result<Body, Problem> {
    let text = quote_bare_words(text);
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&text).map_err(|e| {
        // serde's own sentence about a value of the wrong type quotes all of it.
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

/// The bare words of Python's `json` module, and what [`quote_bare_words`] makes of them: objects,
/// so that no field takes them for anything it allows.
const BARE_WORDS: [(&str, &str); 3] =
    [("-Infinity", r#"{"":"-Infinity"}"#), ("Infinity", r#"{"":"Infinity"}"#), ("NaN", r#"{"":"NaN"}"#)];

/// Replaces bare `NaN`, `Infinity` and `-Infinity` outside strings by JSON that stands for them.
fn quote_bare_words(text: &str) -> Cow<'_, str> {
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
        } else if let Some((word, json)) = BARE_WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            out.push_str(json);
            rest = &rest[word.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Cow::Owned(out)
}

/// Where the string that `text` starts with ends: past its closing quote, or at the end of the text.
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

/// The metric's values. An element that is no number at all outranks one that is not finite.
fn values(metric: Metric, raw: Option<&str>) -> Result<Vec<f64>, Problem> {
    let bad_field =
        |what: &str| Problem::new(Reason::BadField, format!("`{metric}` message: field `{metric}` {what}"));
    let raw = raw.ok_or_else(|| bad_field("is missing"))?;
    let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| bad_field("is not an array"))?;

    let mut values = Vec::with_capacity(elements.len());
    let mut not_finite = None;
    for (i, element) in elements.iter().enumerate() {
        match number(element.get()) {
            Some(x) if x.is_finite() => values.push(x),
            Some(_) => not_finite = not_finite.or(Some(i)),
            None => return Err(bad_field(&format!("element {i} is not a number"))),
        }
    }
    not_finite.map_or(Ok(values), |i| {
        let detail = format!("`{metric}` message: field `{metric}` element {i} is not a finite number");
        Err(Problem::new(Reason::NotFinite, detail))
    })
}

/// A JSON number (infinite if f64 cannot hold it), null (NaN) or one of the bare words (not finite).
fn number(raw: &str) -> Option<f64> {
    if raw == "null" || BARE_WORDS.iter().any(|(_, json)| *json == raw) {
        return Some(f64::NAN);
    }
    // Rust's parser takes more than JSON's numbers, but here JSON's grammar was checked already.
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| raw.parse().ok()).flatten()
}

fn customer_ids(metric: Metric, raw: &str) -> Result<CustomerIds, Problem> {
    let bad = |what: String| {
        Problem::new(Reason::BadCustomerId, format!("`{metric}` message: `customer_id` {what}"))
    };
    let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| bad("is not an array".into()))?;
    let mut ids = CustomerIds::default();
    for (i, element) in elements.iter().enumerate() {
        if let Ok(integer) = element.get().parse::<i64>() {
            ids.push(integer);
            continue;
        }
        let id = serde_json::from_str::<String>(element.get())
            .map_err(|_| bad(format!("element {i} is neither a string nor an integer within i64")))?;
        if id.contains('\0') {
            return Err(bad(format!("element {i} contains U+0000, which Postgres cannot store")));
        }
        ids.push(id);
    }
    Ok(ids)
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
