//! The decoder: decodes and scores three bodies, and compares the result with the naive implementation of the
//! contract.
//!
//! Also compares the two paths of the decoder: an additional field that holds `NaN` has no meaning, but makes
//! the fast path give up.

use crate::MEMORY;
use crate::bodies;
use crate::choices::Choices;
use crate::contract::{self, Circumstances, Fault, Fixed};
use crate::target::Story;
use chrono::{DateTime, Utc};
use rfm_stream::message::{Body, Message, Problem, Reason, decode};
use rfm_stream::metric::Metric;
use rfm_stream::reader::customer_ids::IdRule;
use rfm_stream::reader::edges::FixedEdges;
use rfm_stream::reader::pairing::Batch;
use rfm_stream::reader::quintile::Ties;
use rfm_stream::reader::score::{Rules, Scored, score};
use rfm_stream::reader::segment::SegmentMap;
use std::sync::LazyLock;

/// The longest detail of a refusal, in characters.
const LONGEST_DETAIL: usize = 500;

/// Files of `--edges`, and what they say.
const EDGES: [(&str, Fixed); 3] = [
    ("recency 0 1 2 3", [Some([0.0, 1.0, 2.0, 3.0]), None, None]),
    (
        "monetary -1e308 -0 1e-300 1e308\n# f\nfrequency 1 2.5 3 9",
        [None, Some([1.0, 2.5, 3.0, 9.0]), Some([-1e308, 0.0, 1e-300, 1e308])],
    ),
    (
        "frequency 1 2 3 4\r\nrecency 1 7 30 365\r\nmonetary 5 6 7 8",
        [Some([1.0, 7.0, 30.0, 365.0]), Some([1.0, 2.0, 3.0, 4.0]), Some([5.0, 6.0, 7.0, 8.0])],
    ),
];

pub fn check(c: &mut Choices, story: &mut Story) -> Result<(), String> {
    let (file, fixed) = if c.once_in(4) { c.pick(&EDGES) } else { ("", [None; 3]) };
    let how = Circumstances {
        ties: c.pick(&Ties::ALL),
        fixed,
        customer_ids: if c.once_in(4) { c.pick(&IdRule::ALL) } else { IdRule::Any },
        max_customers: c.pick(&[10_000, 10_000, 10_000, 2]),
        timestamps: [timestamp(c), timestamp(c), timestamp(c)],
    };
    let bodies = bodies::batch(c);
    story
        .code(|| format!("// {:?}, {} customers at most, {:?}", how.ties, how.max_customers, how.timestamps));
    story.code(|| format!("// fixed edges {file:?}, customer ids {}", how.customer_ids));
    let mut contracts = Vec::new();
    for (metric, body) in Metric::ALL.into_iter().zip(&bodies) {
        story.code(|| match body {
            Some(body) => format!("decode(Metric::{metric:?}, Some(b\"{}\"))", body.escape_ascii()),
            None => format!("decode(Metric::{metric:?}, None)"),
        });
        let expected = contract::read(metric, body.as_deref());
        check_decode(metric, body.as_deref(), expected.as_ref()).map_err(|why| format!("{metric}: {why}"))?;
        contracts.push(expected);
    }
    let expected = contract::score(contracts.try_into().unwrap(), &how);
    story.outcome(expected.as_ref().map_or_else(|reason| reason.name(), |_| "scored"));
    check_score(bodies, &how, file, expected)
}

fn timestamp(c: &mut Choices) -> Option<i64> {
    let times = [
        1_767_225_600_000,
        1_767_225_600_001,
        0,
        -1,
        -1_000_000_000_000_000,
        i64::MIN,
        i64::MAX,
        8_000_000_000_000_000,
    ];
    if c.once_in(8) { None } else { Some(if c.once_in(4) { c.pick(&times) } else { times[0] }) }
}

/// What decoding may allocate at its peak, including the result, for its worst inputs.
///
/// An array `[1,1,…]` has two bytes per element, for which 8 bytes are kept (a value, or the end of an id).
/// The vector may be half empty, and while it grows it exists one and a half times: 12 times the input. The
/// text of ids grows likewise: 3 times. Bare words are replaced in a copy of the body, 7 bytes for 3, and the
/// copy may be half empty: 4 times. (A name in the slow path's map, `"abc":1,`, has eight bytes. It takes 40
/// bytes in a node that may be half empty, and a text: 11 times, but these are not the bytes of elements.) In
/// all 12 + 3 + 4 = 19.
///
/// A long text in the place of something else costs more: serde quotes it in its message, with six bytes for
/// a control character. While the message grows, it exists one and a half times, in a buffer twice its size.
/// Then it is copied once: 6 * (3 + 1) = 24.
fn memory_allowed(input: usize) -> usize {
    24 * input + 4 * 1024
}

fn check_decode(
    metric: Metric,
    bytes: Option<&[u8]>,
    expected: Option<&contract::Body>,
) -> Result<(), String> {
    let decoded = decode_within_memory(metric, bytes)?;
    check_body(metric, &decoded, expected)?;
    let Some(slow) = bytes.and_then(forced_slow) else { return Ok(()) };
    let slow = decode_within_memory(metric, Some(&slow))?;
    match (&decoded, &slow) {
        (Err(one), Err(other)) if one.reason == other.reason => Ok(()),
        _ if decoded == slow => Ok(()),
        _ => Err(format!("the fast path says {decoded:?}, the slow path {slow:?}")),
    }
}

fn decode_within_memory(metric: Metric, bytes: Option<&[u8]>) -> Result<Result<Body, Problem>, String> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let decoded = decode(metric, bytes);
    let (used, allowed) = (MEMORY.peak_usage() - before, memory_allowed(bytes.map_or(0, <[u8]>::len)));
    if used > allowed {
        return Err(format!("{used} bytes of memory at the peak, more than {allowed}"));
    }
    Ok(decoded)
}

/// The same body with an additional first field that the fast path cannot read.
fn forced_slow(body: &[u8]) -> Option<Vec<u8>> {
    let open = body.iter().position(|b| !b" \t\r\n".contains(b)).filter(|&at| body[at] == b'{')?;
    let (start, rest) = body.split_at(open + 1);
    let is_empty = rest.iter().find(|b| !b" \t\r\n".contains(b)) == Some(&b'}');
    let field: &[u8] = if is_empty { b"\"any\":NaN" } else { b"\"any\":NaN," };
    Some([start, field, rest].concat())
}

fn check_body(
    metric: Metric,
    decoded: &Result<Body, Problem>,
    expected: Option<&contract::Body>,
) -> Result<(), String> {
    let (body, expected) = match (decoded, expected) {
        (Err(problem), None) if problem.reason == Reason::Malformed => {
            return check_detail(metric, problem, None);
        }
        (Ok(body), Some(expected)) => (body, expected),
        _ => return Err(format!("{decoded:?}, expected {expected:?}")),
    };
    let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    compare(metric, &body.values, &expected.values, |one, other| bits(one) == bits(other))?;
    compare(metric, &body.customer_ids, &expected.ids, |ids, other| match (ids, other) {
        (Some(ids), Some(other)) => ids.len() == other.len() && ids.iter().eq(other),
        _ => ids.is_none() && other.is_none(),
    })?;
    compare(metric, &body.as_of, &expected.as_of, |time, other| time.map(instant) == *other)?;
    compare(metric, &body.population, &expected.population, |one, other| one == other)
}

fn instant(time: DateTime<Utc>) -> contract::Instant {
    (time.timestamp(), time.timestamp_subsec_nanos())
}

fn compare<T: std::fmt::Debug, U: std::fmt::Debug>(
    metric: Metric,
    found: &Result<T, Problem>,
    expected: &Result<U, Fault>,
    equal: impl Fn(&T, &U) -> bool,
) -> Result<(), String> {
    match (found, expected) {
        (Ok(found), Ok(expected)) if equal(found, expected) => Ok(()),
        (Err(problem), Err(fault)) if problem.reason == fault.reason => {
            check_detail(metric, problem, fault.element)
        }
        _ => Err(format!("{found:?}, expected {expected:?}")),
    }
}

/// Checks that the detail can be stored and logged, and names the message, and the element if there is one.
fn check_detail(metric: Metric, problem: &Problem, element: Option<usize>) -> Result<(), String> {
    let detail = &problem.detail;
    let says_where = element.is_none_or(|element| detail.contains(&format!(" element {element} ")));
    let length = detail.chars().count();
    if length > LONGEST_DETAIL
        || detail.chars().any(char::is_control)
        || !says_where
        || !detail.contains(metric.name())
    {
        return Err(format!("a detail of {length} characters (element {element:?}): {detail:?}"));
    }
    Ok(())
}

static SEGMENTS: LazyLock<SegmentMap> = LazyLock::new(|| SegmentMap::built_in().unwrap());

fn check_score(
    bodies: [Option<Vec<u8>>; 3],
    how: &Circumstances,
    file: &str,
    expected: Result<contract::Scored, Reason>,
) -> Result<(), String> {
    let edges =
        if file.is_empty() { Ok(FixedEdges::default()) } else { FixedEdges::from_file(file.as_bytes()) };
    let rules = Rules {
        ties: how.ties,
        edges: edges.map_err(|error| format!("{error:#}"))?,
        customer_ids: how.customer_ids,
        max_customers: how.max_customers,
        ..Rules::new(SEGMENTS.clone())
    };
    let mut messages = Metric::ALL.into_iter().zip(bodies).map(|(metric, value)| {
        let (offset, timestamp) = (metric as i64 + 7, how.timestamps[metric as usize]);
        Message { metric, partition: 3, offset, timestamp, key: Some(b"key".to_vec()), value }
    });
    let messages: [Message; 3] = std::array::from_fn(|_| messages.next().unwrap());
    match (score(&rules, Batch { messages: messages.clone().into() }), expected) {
        (Ok(scored), Ok(expected)) => {
            let found = plain(scored);
            (found == expected).then_some(()).ok_or_else(|| format!("{found:?}, expected {expected:?}"))
        }
        (Err(letters), Err(reason)) => {
            let kept = letters.iter().map(|letter| &letter.message).eq(&messages);
            let same = letters.iter().all(|l| l.problem.reason == reason && l.problem == letters[0].problem);
            let said = &letters[0].problem;
            (kept && same)
                .then_some(())
                .ok_or_else(|| format!("refused as {said}, expected {}", reason.name()))
        }
        (Ok(scored), Err(reason)) => Err(format!("{scored:?}, expected {}", reason.name())),
        (Err(letters), Ok(expected)) => Err(format!("{}, expected {expected:?}", letters[0].problem)),
    }
}

fn plain(scored: Scored) -> contract::Scored {
    contract::Scored {
        edges: scored.cuts.as_ref().map(|cut| cut.edges.map(f64::to_bits)).into_array(),
        codes: scored.cuts.map(|cut| cut.codes).into_array(),
        values: scored.values.map(|values| values.into_iter().map(f64::to_bits).collect()).into_array(),
        ids: scored.customer_ids.map(|ids| ids.iter().map(str::to_owned).collect()),
        as_of: instant(scored.as_of),
        population: scored.population,
    }
}
