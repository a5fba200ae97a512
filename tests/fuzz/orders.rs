//! Orders: files with every shape of cell, from sound to noise, added up by the reader of CSV and by the naive ledger.
//! They must agree: on every bit, or on the line for which a file is refused.

use crate::choices::Choices;
use crate::ledger::{self, Book, Named, Refused};
use crate::target::Story;
use chrono::{DateTime, Utc};
use rfm_stream::producer::source::orders::{Columns, Totals, csv};
use std::io::{self, Read};

pub fn check(c: &mut Choices, story: &mut Story) -> Result<(), String> {
    check_columns(c)?;
    let named = Named {
        customer: name(c, "c"),
        time: name(c, "t"),
        amount: if c.once_in(3) { vec!["a".into(), name(c, "n")] } else { vec!["a".into()] },
        order: c.once_in(3).then(|| "o".into()),
    };
    let as_of: DateTime<Utc> = c.pick(&INSTANTS).parse().unwrap();
    let file = file(c, &named);
    let most = c.pick(&[1 << 20, 1, 2, 3, 7, 100]);
    story.code(|| format!("// {:?}, as of {as_of}, {most} bytes at a time", list(&named)));
    story.code(|| format!("b\"{}\"", file.escape_ascii()));

    let columns: Columns = list(&named).parse().map_err(|e| format!("{}: {e:#}", list(&named)))?;
    let found = csv::add_up(Drip { bytes: &file, most }, &columns, as_of);
    let instant = i128::from(as_of.timestamp_micros()) * 1_000;
    let expected = ledger::add_up(&file, &named, instant);
    story.outcome(if expected.is_ok() { "added up" } else { "refused" });
    match (found, expected) {
        (Ok(found), Ok(expected)) => {
            let found = book(&found);
            (found == expected).then_some(()).ok_or_else(|| format!("{found:?}, expected {expected:?}"))
        }
        (Err(error), Err(Refused(line))) => {
            let said = format!("{error:#}");
            let is_there = line.is_none_or(|line| {
                said.starts_with(&format!("line {line}:"))
                    || said.starts_with(&format!("line {line},"))
                    || said.starts_with(&format!("line {line} has values"))
            });
            let is_short = said.chars().count() <= 2_000 && !said.chars().any(char::is_control);
            (is_there && is_short).then_some(()).ok_or_else(|| format!("{said:?}, expected line {line:?}"))
        }
        (found, expected) => Err(format!("{found:?}, expected {expected:?}")),
    }
}

const INSTANTS: [&str; 4] = [
    "2012-01-01T00:00:00Z",
    "2011-12-31T23:59:59.999999Z",
    "0000-01-01T00:00:00.000001Z",
    "9999-12-31T00:00:00Z",
];

fn book(totals: &Totals) -> Book {
    let columns = &totals.columns;
    let numbers = columns.recency.iter().zip(&columns.frequency).zip(&columns.monetary);
    let numbers = numbers.map(|((&r, &f), &m)| [r, f, m].map(f64::to_bits));
    Book {
        customers: totals.ids.iter().map(str::to_owned).zip(numbers).collect(),
        orders: totals.orders,
        no_customer: totals.left_out.no_customer,
        refunds_only: totals.left_out.refunds_only,
    }
}

/// Gives a few bytes at a time.
struct Drip<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.most.min(buffer.len());
        self.bytes.read(&mut buffer[..most])
    }
}

/// The list of columns, as `--orders-columns` has it.
fn list(named: &Named) -> String {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let amount: Vec<String> = named.amount.iter().map(quoted).collect();
    let order = named.order.as_ref().map_or(String::new(), |order| format!(",order={}", quoted(order)));
    format!(
        "customer={},time={},amount={}{order}",
        quoted(&named.customer),
        quoted(&named.time),
        amount.join("*")
    )
}

/// The name of a column, mostly plain.
fn name(c: &mut Choices, plain: &str) -> String {
    if c.once_in(12) {
        c.pick(&["a b", "x,y", "p*q", "=", "\"", ";", "\t", "é", " "]).into()
    } else {
        plain.into()
    }
}

/// Any list of columns: it is read, or refused with a word.
fn check_columns(c: &mut Choices) -> Result<(), String> {
    const PIECES: [&str; 14] =
        ["customer", "time", "amount", "order", "=", "=", "=", ",", ",", "*", "\"", " ", "x", "é"];
    let text: String = (0..c.below(14)).map(|_| c.pick(&PIECES)).collect();
    match text.parse::<Columns>() {
        Ok(columns) if columns.amount.is_empty() || columns.amount.len() > 2 => {
            Err(format!("{text:?}: {columns:?}"))
        }
        Ok(_) => Ok(()),
        Err(error) => (!error.to_string().is_empty()).then_some(()).ok_or(text),
    }
}

fn file(c: &mut Choices, named: &Named) -> Vec<u8> {
    let delimiter = c.pick(&[",", ",", ";", "\t"]);
    let line_end = c.pick(&["\n", "\n", "\r\n", "\r"]);
    let mut names: Vec<&str> = vec![&named.customer, &named.time];
    names.extend(named.amount.iter().chain(&named.order).map(String::as_str));
    if c.once_in(4) {
        names.push(c.pick(&["more", "c", "", "x;y;z;u;v;w", "\u{feff}"]));
    }
    if c.once_in(40) {
        names.pop();
    }
    let by = c.below(names.len());
    names.rotate_left(by);
    let mut file = if c.once_in(6) { "\u{feff}".to_owned() } else { String::new() };
    file += &row(c, &names, delimiter);
    for _ in 0..c.below(12) {
        file += line_end;
        let cells: Vec<String> = names.iter().map(|name| cell(c, name, named)).collect();
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        file += &row(c, &cells, delimiter);
    }
    if !c.once_in(4) {
        file += line_end;
    }
    let mut file = file.into_bytes();
    if c.once_in(5) {
        (0..=c.below(3)).for_each(|_| mutate(c, &mut file));
    }
    file
}

/// A row, some of its cells in quotes.
fn row(c: &mut Choices, cells: &[&str], delimiter: &str) -> String {
    let mut written = Vec::new();
    for cell in cells {
        let must = cell.contains(['"', '\n', '\r', ',', ';', '\t']);
        let is_quoted = c.once_in(5) || (must && !c.once_in(20));
        written.push(if is_quoted {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            (*cell).to_owned()
        });
    }
    written.join(delimiter)
}

fn cell(c: &mut Choices, name: &str, named: &Named) -> String {
    if name == named.customer {
        let customer =
            c.pick(&["x", "y", "z", "xy", "", " x", "é", "a,b", "a\nb", "\"", "\u{feff}x", "z\u{1}"]);
        if c.once_in(6) { customer.repeat(9) } else { customer.to_owned() }
    } else if name == named.time {
        time(c)
    } else if named.amount.iter().any(|amount| amount == name) {
        amount(c)
    } else {
        c.pick(&["1", "2", "3", "1", "2", "a\r\nb", "é"]).to_owned()
    }
}

fn time(c: &mut Choices) -> String {
    const TIMES: [&str; 16] = [
        "2011-12-01",
        "20111130",
        "2011-12-01 08:30",
        "2011-12-01T08:30:15",
        "2011-12-31T23:59:59.999999999Z",
        "2011-12-31T23:59:59.9999990001",
        "2011-12-31T00:00:00.000000001",
        "2011-12-31 23:59:60",
        "2012-01-01T00:00:00+00:01",
        "2012-01-01 00:00:00-00:01",
        "2011-12-31 18:00-06",
        "2012-02-29",
        "2011-02-29",
        "0000-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "31/12/2011",
    ];
    let times = if c.once_in(6) { &TIMES } else { &TIMES[..12] };
    let mut time: Vec<char> = c.pick(times).chars().collect();
    if c.once_in(20) {
        let at = c.below(time.len());
        time[at] = c.pick(&['0', '9', '-', ':', 'T', '+', '.', 'Z', '7', ' ', '\u{2212}']);
    }
    time.into_iter().collect()
}

fn amount(c: &mut Choices) -> String {
    const ODD: [&str; 20] = [
        "1e300",
        "-1e300",
        "1e308",
        "9e307",
        "1e309",
        "1e-323",
        "1e-16383",
        "1e-16384",
        "1e1000000",
        "-0.00",
        "5.",
        ".5",
        "+7",
        "1,5",
        "$5",
        "",
        "9223372036854775807",
        "99999999999999999999999999999999999999",
        "0e99999999999",
        "1e",
    ];
    if c.once_in(8) {
        return c.pick(&ODD).to_owned();
    }
    let sign = c.pick(&["", "", "", "-", "+"]);
    let digits = |c: &mut Choices, most: usize| {
        (0..=c.below(most)).map(|_| char::from(b'0' + c.below(10) as u8)).collect::<String>()
    };
    let whole = if c.once_in(10) { digits(c, 40) } else { digits(c, 4) };
    let places = match c.below(10) {
        0..=6 => digits(c, 2),
        7 => digits(c, 40),
        8 => return format!("{sign}{whole}"),
        _ => return format!("{sign}{whole}.{}e{}", digits(c, 3), c.pick(&["1", "-3", "+20", "-30"])),
    };
    format!("{sign}{whole}.{places}")
}

/// Changes some of the bytes.
fn mutate(c: &mut Choices, file: &mut Vec<u8>) {
    const PIECES: [&[u8]; 12] =
        [b"\"", b"\"\"", b",", b";", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\"\n\"", b" ", b"9"];
    let at = c.below(file.len() + 1);
    let end = (at + c.below(8)).min(file.len());
    match c.below(5) {
        0 if at < file.len() => file[at] ^= 1 << c.below(8),
        1 => drop(file.drain(at..end)),
        2 => file.truncate(at),
        _ => drop(file.splice(at..at, c.pick(&PIECES).iter().copied())),
    }
}
