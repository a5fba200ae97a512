//! The ledger: what a CSV file of orders adds up to, naively. The whole text is taken apart character by character, and
//! every number is a `BigDecimal`.

use crate::time::rfc3339;
use bigdecimal::{BigDecimal, Signed, Zero};
use std::collections::{BTreeMap, BTreeSet};

/// Which columns of the file mean what.
pub struct Named {
    pub customer: String,
    pub time: String,
    pub amount: Vec<String>,
    pub order: Option<String>,
}

/// What the file adds up to: the id of each customer, and the bits of the three numbers.
#[derive(Debug, PartialEq)]
pub struct Book {
    pub customers: Vec<(String, [u64; 3])>,
    pub orders: u64,
    pub no_customer: u64,
    pub refunds_only: u64,
}

/// The file is refused, for what is on this line; `None`: for the whole.
#[derive(Debug, PartialEq)]
pub struct Refused(pub Option<u64>);

type Cells = Vec<Vec<u8>>;

/// The unread text.
struct Text<'a> {
    rest: &'a [u8],
    line: u64,
}

impl Text<'_> {
    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line += u64::from(byte == b'\n');
        Some(byte)
    }

    /// The line and the cells of the next row. If `is_lenient`, text behind a closing quote belongs to the cell, and a
    /// cell that does not end is none.
    fn row(&mut self, delimiter: u8, is_lenient: bool) -> Result<Option<(u64, Cells)>, Refused> {
        while self.rest.first().is_some_and(|byte| b"\r\n".contains(byte)) {
            self.take();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (line, mut cells) = (self.line, Vec::new());
        loop {
            let mut cell = Vec::new();
            if self.rest.first() == Some(&b'"') {
                let opened = self.line;
                self.take();
                match self.quoted(&mut cell) {
                    false if is_lenient => return Ok(Some((line, cells))),
                    false => return Err(Refused(Some(opened))),
                    true => {}
                }
                let is_end = |byte: &u8| [delimiter, b'\r', b'\n'].contains(byte);
                if !is_lenient && self.rest.first().is_some_and(|byte| !is_end(byte)) {
                    return Err(Refused(Some(self.line)));
                }
            }
            loop {
                match self.take() {
                    Some(byte) if byte == delimiter => break,
                    None | Some(b'\n' | b'\r') => {
                        cells.push(cell);
                        return Ok(Some((line, cells)));
                    }
                    Some(byte) => cell.push(byte),
                }
            }
            cells.push(cell);
        }
    }

    /// Reads up to the closing quote; false: there is none.
    fn quoted(&mut self, cell: &mut Vec<u8>) -> bool {
        while let Some(byte) = self.take() {
            if byte == b'"' {
                if self.rest.first() != Some(&b'"') {
                    return true;
                }
                self.take();
            }
            cell.push(byte);
        }
        false
    }
}

/// Nanoseconds since 1970.
pub fn time(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let text = match text.len() {
        8 => format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]),
        _ => text.to_owned(),
    };
    let (date, clock) = text.split_at_checked(10)?;
    if clock.is_empty() {
        return nanoseconds(&format!("{date}T00:00:00Z"));
    }
    let zone = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone);
    let seconds = if clock.len() == 6 { ":00" } else { "" };
    let zone = match zone.len() {
        0 => "Z".to_owned(),
        3 => format!("{zone}:00"),
        _ => zone.to_owned(),
    };
    nanoseconds(&[date, clock, seconds, &zone].concat())
}

fn nanoseconds(text: &str) -> Option<i128> {
    let (seconds, nanoseconds) = rfc3339(text)?;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
}

/// A plain decimal that can be held.
pub fn decimal(text: &[u8]) -> Option<BigDecimal> {
    let text = std::str::from_utf8(text).ok()?;
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
    let digits: String = unsigned.replacen('.', "", 1);
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(&digits) || !is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)) {
        return None;
    }
    if digits.bytes().all(|digit| digit == b'0') {
        return Some(BigDecimal::zero());
    }
    let exponent: i64 = exponent.parse().ok().filter(|exponent| (-100_000..=100_000).contains(exponent))?;
    let places = unsigned.split_once('.').map_or(0, |(_, places)| places.len() as i64) - exponent;
    let sign = if number.starts_with('-') { "-" } else { "" };
    held(BigDecimal::new(format!("{sign}{digits}").parse().ok()?, places))
}

/// The number, if Postgres's numeric has so many places, and f64 so great a number.
fn held(number: BigDecimal) -> Option<BigDecimal> {
    let (_, places) = number.as_bigint_and_exponent();
    let is_held = number.is_zero() || (places <= 16_383 && number.digits() as i64 - places <= 309);
    is_held.then_some(number)
}

/// What is known of a customer.
#[derive(Default)]
struct Customer {
    last: Option<i128>,
    orders: u64,
    distinct: BTreeSet<Vec<u8>>,
    money: BigDecimal,
}

/// Where the named columns are.
struct Places {
    count: usize,
    customer: usize,
    time: usize,
    amount: Vec<usize>,
    order: Option<usize>,
}

/// An order as it is written.
struct Order {
    customer: Vec<u8>,
    time: i128,
    money: BigDecimal,
    order: Option<Vec<u8>>,
}

/// Adds up the orders before `as_of` (nanoseconds since 1970).
pub fn add_up(file: &[u8], named: &Named, as_of: i128) -> Result<Book, Refused> {
    let text = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let delimiter = delimiter(text, named);
    let mut text = Text { rest: text, line: 1 };
    let (line, header) = text.row(delimiter, false)?.ok_or(Refused(None))?;
    let places = places(&header, named).ok_or(Refused(Some(line)))?;

    let mut customers: BTreeMap<Vec<u8>, Customer> = BTreeMap::new();
    let mut book = Book { customers: Vec::new(), orders: 0, no_customer: 0, refunds_only: 0 };
    while let Some((line, cells)) = text.row(delimiter, false)? {
        let order = order(&cells, &places).ok_or(Refused(Some(line)))?;
        if order.time >= as_of {
            continue;
        }
        book.orders += 1;
        if order.customer.is_empty() {
            book.no_customer += 1;
            continue;
        }
        let customer = customers.entry(order.customer).or_default();
        if !order.money.is_negative() {
            customer.last = customer.last.max(Some(order.time));
            customer.orders += 1;
            customer.distinct.extend(order.order);
        }
        customer.money += order.money;
    }
    for (id, customer) in customers {
        match customer.last {
            None => book.refunds_only += 1,
            Some(last) => {
                let numbers = numbers(&customer, as_of - last, named.order.is_some())?;
                book.customers.push((String::from_utf8(id).unwrap(), numbers));
            }
        }
    }
    Ok(book)
}

fn delimiter(text: &[u8], named: &Named) -> u8 {
    let mut wanted = vec![&named.customer, &named.time];
    wanted.extend(named.amount.iter().chain(&named.order));
    let headers = [b',', b';', b'\t'].map(|delimiter| {
        let header = Text { rest: text, line: 1 }.row(delimiter, true);
        (delimiter, header.ok().flatten().map_or(Vec::new(), |(_, cells)| cells))
    });
    let has_all = |cells: &Cells| wanted.iter().all(|name| cells.contains(&name.as_bytes().to_vec()));
    // Of several that are as long, the first.
    let longest = headers.iter().rev().max_by_key(|(_, cells)| cells.len());
    headers.iter().find(|(_, cells)| has_all(cells)).or(longest).map_or(b',', |(delimiter, _)| *delimiter)
}

fn places(header: &Cells, named: &Named) -> Option<Places> {
    let place = |name: &String| {
        let places: Vec<usize> = (0..header.len()).filter(|&i| header[i] == name.as_bytes()).collect();
        if let [place] = places[..] { Some(place) } else { None }
    };
    if header.iter().any(|name| std::str::from_utf8(name).is_err()) {
        return None;
    }
    let amount = named.amount.iter().map(place).collect::<Option<_>>()?;
    let order = match &named.order {
        Some(order) => Some(place(order)?),
        None => None,
    };
    let (customer, time) = (place(&named.customer)?, place(&named.time)?);
    Some(Places { count: header.len(), customer, time, amount, order })
}

/// The order of a row, if it can be read.
fn order(cells: &Cells, places: &Places) -> Option<Order> {
    if cells.len() != places.count {
        return None;
    }
    let mut money = BigDecimal::from(1);
    for &place in &places.amount {
        money = held(money * decimal(&cells[place])?)?;
    }
    let customer = cells[places.customer].clone();
    let order = places.order.map(|place| cells[place].clone());
    let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok();
    let is_sound = is_text(&customer)
        && !customer.contains(&0)
        && order.as_ref().is_none_or(|order| !order.is_empty() && is_text(order));
    is_sound.then_some(Order { customer, time: time(&cells[places.time])?, money, order })
}

/// The bits of the three numbers of a customer.
fn numbers(customer: &Customer, ago: i128, is_named: bool) -> Result<[u64; 3], Refused> {
    let days = ago.div_euclid(86_400_000_000_000) as f64;
    let orders = if is_named { customer.distinct.len() as u64 } else { customer.orders };
    let (digits, places) = customer.money.as_bigint_and_exponent();
    let money: f64 = format!("{digits}e{}", -places).parse().unwrap();
    let is_there = money.is_finite() && (money != 0.0 || customer.money.is_zero());
    if is_there { Ok([days, orders as f64, money].map(f64::to_bits)) } else { Err(Refused(None)) }
}
