//! Bodies: what senders send, from sound to noise.
//!
//! A body is generated field by field, with every shape of name, number and string. Now and then its bytes
//! are then mutated.

use crate::choices::Choices;
use crate::numbers::number;
use rfm_stream::metric::Metric;

/// The bodies of a batch; `None` is a tombstone. Mostly they agree with each other.
pub fn batch(c: &mut Choices) -> [Option<Vec<u8>>; 3] {
    // The longest bodies test memory: their length is just above a power of two, so vectors that double are
    // half empty. Once the choices are used up, the rest is zeros.
    let customers = if c.once_in(100) { 2050 } else { c.pick(&[1, 2, 3, 5, 0, 7, 12, 40]) };
    let optional = [("customer_id", ids(c, customers)), ("as_of", time(c)), ("population", text(c))];
    Metric::ALL.map(|metric| {
        let mut body = body(c, metric, customers, &optional).into_bytes();
        if c.once_in(12) {
            (0..=c.below(3)).for_each(|_| mutate(c, &mut body));
        }
        (!c.once_in(100)).then_some(body)
    })
}

fn body(c: &mut Choices, metric: Metric, customers: usize, optional: &[(&str, String)]) -> String {
    if c.once_in(50) {
        return any(c, 3);
    }
    let mut fields = Vec::new();
    if !c.once_in(30) {
        fields.push((name(c, metric.name()), values(c, customers)));
    }
    for (field, shared) in optional {
        if c.once_in(2) {
            let value = if c.once_in(12) { another(c, field, customers) } else { shared.clone() };
            fields.push((name(c, field), value));
        }
    }
    for _ in 0..c.below(4) {
        let field = c.pick(&["x", "frequency", "recency", "", "NaN", "customer_ids", r"\ud83d\ude00"]);
        fields.push((format!("\"{field}\""), any(c, 3)));
    }
    if c.once_in(8) && !fields.is_empty() {
        // Of a name that occurs twice, the last value counts.
        let (name, _) = fields[c.below(fields.len())].clone();
        let value = if c.once_in(2) { any(c, 2) } else { values(c, customers) };
        fields.insert(c.below(fields.len() + 1), (name, value));
    }
    if fields.len() > 1 {
        let by = c.below(fields.len());
        fields.rotate_left(by);
    }
    let mut body = blanks(c).to_owned();
    body.push('{');
    for (i, (name, value)) in fields.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        body += &[comma, blanks(c), name, blanks(c), ":", blanks(c), value, blanks(c)].concat();
    }
    body + "}" + blanks(c)
}

/// White space, mostly none.
fn blanks(c: &mut Choices) -> &'static str {
    if c.once_in(3000) {
        return c.pick(&["\u{a0}", "\u{c}", "\u{feff}", "\u{2028}", "/**/", "\0", "#"]);
    }
    c.pick(&["", "", "", "", "", "", " ", "\t", "\n", "\r\n  "])
}

/// The name as written in the body, mostly plain.
fn name(c: &mut Choices, name: &str) -> String {
    match c.below(12) {
        9 => {
            let at = c.below(name.len());
            let escape = format!("\\u{:04x}", name.as_bytes()[at]);
            format!("\"{}{escape}{}\"", &name[..at], &name[at + 1..])
        }
        10 if c.once_in(4) => format!("\"{}\"", name.to_uppercase()),
        11 if c.once_in(4) => format!("\"{name}{}\"", c.pick(&[r"\u0000", r"\ud800"])),
        _ => format!("\"{name}\""),
    }
}

/// The values of a metric, mostly `customers` numbers.
fn values(c: &mut Choices, customers: usize) -> String {
    match c.below(40) {
        38 => any(c, 2),
        39 => array(c, customers + 1, |c| any(c, 2)),
        37 => array(c, customers.saturating_sub(1), number),
        36 => array(c, customers, |c| if c.once_in(4) { bare(c).to_owned() } else { number(c) }),
        35 => array(c, customers, |c| c.pick(&["-1.7e308", "1.7e308", "0", "8e307"]).to_owned()),
        _ => array(c, customers, number),
    }
}

fn bare(c: &mut Choices) -> &'static str {
    c.pick(&[
        "null",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-NaN",
        "1NaN",
        "nan",
        r#"{"":"NaN"}"#,
        "- 1",
        "\"NaN\"",
    ])
}

fn array(c: &mut Choices, length: usize, mut element: impl FnMut(&mut Choices) -> String) -> String {
    let elements: Vec<String> = (0..length).map(|_| [blanks(c), &element(c), blanks(c)].concat()).collect();
    format!("[{}]", elements.join(","))
}

/// A value of an optional field that differs from its partners'.
fn another(c: &mut Choices, field: &str, customers: usize) -> String {
    match (c.below(3), field) {
        (0, _) => any(c, 2),
        (_, "customer_id") => ids(c, customers),
        (_, "as_of") => time(c),
        _ => text(c),
    }
}

fn ids(c: &mut Choices, customers: usize) -> String {
    let length = if c.once_in(20) { customers + 1 } else { customers };
    let odd = c.once_in(12);
    array(c, length, |c| match c.below(if odd { 6 } else { 4 }) {
        0 | 1 => c
            .pick(&["7", "\"7\"", "0", "-0", "9223372036854775807", "-9223372036854775808", "\"\""])
            .to_owned(),
        4 => c
            .pick(&["9223372036854775808", "-9223372036854775809", "1.0", "1e2", "18446744073709551616"])
            .to_owned(),
        5 => any(c, 1),
        _ if odd => text(c),
        _ => format!("\"{}\"", c.below(30)),
    })
}

const TIMES: [&str; 22] = [
    "2026-01-02T03:04:05Z",
    "2026-01-02T04:04:05+01:00",
    "2026-01-02t03:04:05z",
    "2026-01-02 03:04:05.000-00:00",
    "2016-12-31T23:59:60Z",
    "2016-12-31T23:59:60.9999999999+23:59",
    "0000-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-23:59",
    "2024-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2026-01-02T03:04:05.Z",
    "2026-01-02T03:04:05",
    "2026-01-02T24:00:00Z",
    "2026-01-02T03:04:61Z",
    "2026-01-02T03:04:05+24:00",
    "2026-01-02T03:04:05+01",
    "2026-01-02T03:04:05\u{2212}01:00",
    "2026-00-00T00:00:00Z",
    "+2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05Z ",
    "٢026-01-02T03:04:05Z",
];

fn time(c: &mut Choices) -> String {
    let time = if c.once_in(3) { c.pick(&TIMES) } else { TIMES[c.below(4)] };
    let mut time: Vec<char> = time.chars().collect();
    if c.once_in(6) {
        let at = c.below(time.len());
        time[at] = c.pick(&['0', '9', '-', ':', 'T', '+', '.', '\u{80}', '7', ' ']);
    }
    format!("\"{}\"", time.into_iter().collect::<String>())
}

/// A string as written in the body.
fn text(c: &mut Choices) -> String {
    const USUAL: [&str; 9] = ["", "shop", "é", "漢", "😀", r"\n", r"\ud83d\ude00", r"\u0041", "NaN"];
    const ODD: [&str; 14] = [
        r"\u0000",
        r"\ud800",
        r"\udc00\ud800",
        r"\uD83D\u0041",
        "\\\"",
        r"\\",
        r"\/",
        "\u{7f}",
        "\u{80}",
        "\u{1}",
        r"\x41",
        r"\u12",
        "\u{2028}",
        "Infinity\"",
    ];
    let mut text = String::new();
    for _ in 0..c.below(4) {
        text += if c.once_in(25) { c.pick(&ODD) } else { c.pick(&USUAL) };
    }
    if c.once_in(20) {
        let times = c.pick(&[30, 600, 3000]);
        text = text.repeat(times);
    }
    format!("\"{text}\"")
}

/// Any value.
fn any(c: &mut Choices, depth: usize) -> String {
    match c.below(if depth > 0 { 12 } else { 8 }) {
        0 => number(c),
        1 | 2 => text(c),
        3 => "null".into(),
        4 => c.pick(&["true", "false"]).into(),
        5 | 6 => bare(c).into(),
        7 => time(c),
        8 | 9 => {
            let length = c.below(4);
            array(c, length, |c| any(c, depth - 1))
        }
        10 => format!("{{{}:{}}}", text(c), any(c, depth - 1)),
        _ => {
            let depth = c.pick(&[1, 2, 127, 128, 129, 600]);
            let (open, close) = c.pick(&[("[", "]"), ("{\"\":", "}")]);
            let inside = if open == "[" { "" } else { "1" };
            [&open.repeat(depth), inside, &close.repeat(depth)].concat()
        }
    }
}

const PIECES: [&[u8]; 26] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"-",
    b"+",
    b".",
    b"e",
    b"0",
    b"9",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"NaN",
    b"-Infinity",
    b"null",
    b"1e999",
    b"\\u0000",
];

/// Changes some of the bytes.
fn mutate(c: &mut Choices, body: &mut Vec<u8>) {
    let at = c.below(body.len() + 1);
    let end = (at + c.below(8)).min(body.len());
    match c.below(6) {
        0 if at < body.len() => body[at] ^= 1 << c.below(8),
        1 => drop(body.drain(at..end)),
        2 => body.truncate(at),
        3 => {
            let from = c.below(body.len() + 1);
            let piece = body[from..(from + 10).min(body.len())].to_vec();
            drop(body.splice(at..end, piece));
        }
        4 if at < body.len() => body[at] = c.below(256) as u8,
        _ => drop(body.splice(at..at, c.pick(&PIECES).iter().copied())),
    }
}
