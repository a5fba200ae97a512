//! Orders in a Postgres, which adds them up itself.
//!
//! Owns what is asked of that server, and what is said of an answer that is no snapshot. Does not own the
//! text of the statements (`statement`), nor which types of columns they can be made of (`kinds`).
//!
//! **One statement reads the user's query, once, and returns a row per customer.** Only if that row says that
//! something cannot be counted, another statement finds out what.

mod kinds;
mod statement;

use super::{Columns, Totals};
use crate::postgres::{Address, QueryError, ReadOnly};
use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use kinds::{Kinds, Time};
use statement::Statement;
use std::fmt;
use std::sync::Once;

/// The rows of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// `--orders-sql`
    pub text: String,
    /// `--orders-url`
    pub address: Address,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the query on {}", self.address)
    }
}

/// Times of Postgres count from the year 2000. In microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// A row of [`Statement::aggregation`]: customer, last order, rows, orders, money, and rows that cannot be
/// counted.
type Row<'a> = [Option<&'a [u8]>; 6];

/// Has the server add up the orders before `as_of`.
///
/// # Errors
/// No connection, a query that the server does not execute, or orders that cannot be counted: what, and how many.
pub fn read(query: &Query, columns: &Columns, as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
    add_up(query, columns, as_of, false)
}

/// The same; `collates`: texts are compared by their bytes, whatever the server knows of them.
fn add_up(query: &Query, columns: &Columns, as_of: DateTime<Utc>, collates: bool) -> anyhow::Result<Totals> {
    let failed = |error| explain(query, error);
    let mut transaction = ReadOnly::begin(&query.address).map_err(failed)?;
    let found = transaction.describe(&query.text).map_err(failed)?;
    let kinds = Kinds::choose(columns, &found, collates || transaction.has_lax_collations())?;
    say_zone(columns, kinds.time);
    let statement = Statement::new(&query.text, columns, &kinds, as_of);
    let (mut totals, mut trouble) = (Totals::default(), None);
    let streamed = transaction.stream(&statement.aggregation(), |row| {
        trouble = trouble.take().or_else(|| add(&mut totals, row, as_of).err());
    });
    match (streamed, trouble) {
        (Ok(()), None) => {
            transaction.end();
            Ok(in_order(totals))
        }
        (Ok(()), Some(Trouble::Uncounted)) => {
            let wrong = what_is_wrong(&mut transaction, columns, &statement).map_err(failed)?;
            bail!(wrong.unwrap_or_else(|| "the amounts of --orders-sql have no finite sum".to_owned()))
        }
        (Ok(()), Some(Trouble::Other(error))) => Err(error),
        (Err(error), _) if error.is_of_a_collation() && !collates => add_up(query, columns, as_of, true),
        (Err(error), _) if error.is_of_a_value() => {
            // The transaction is over. In another one the rows may differ, or the query itself fails.
            let mut other = ReadOnly::begin(&query.address).map_err(failed)?;
            let wrong = what_is_wrong(&mut other, columns, &statement).ok().flatten();
            Err(wrong.map_or_else(|| failed(error), |wrong| anyhow!(wrong)))
        }
        (Err(error), _) => Err(failed(error)),
    }
}

/// Looks at the query without executing it, and says what was found.
///
/// # Errors
/// As those of [`read`].
pub fn check(query: &Query, columns: &Columns) -> anyhow::Result<String> {
    let failed = |error| explain(query, error);
    let mut transaction = ReadOnly::begin(&query.address).map_err(failed)?;
    let found = transaction.describe(&query.text).map_err(failed)?;
    let kinds = Kinds::choose(columns, &found, true)?;
    let statement = Statement::new(&query.text, columns, &kinds, Utc::now());
    transaction.plan(&statement.aggregation()).map_err(failed)?;
    let server = format!("{} at {}", transaction.server(), query.address);
    transaction.end();
    let zone = if kinds.time == Time::WithZone { "" } else { ", which counts as UTC" };
    let typed = |name: &String| {
        let column = found.iter().find(|column| column.name == *name);
        format!("`{name}` ({})", column.map_or("", |column| &column.type_name))
    };
    let amount = columns.amount.iter().map(typed).collect::<Vec<_>>().join(" * ");
    let order = columns.order.as_ref().map(|order| format!(", order {}", typed(order)));
    Ok(format!(
        "{server}: customer {}, time {}{zone}, amount {amount}{}",
        typed(&columns.customer),
        typed(&columns.time),
        order.unwrap_or_else(|| ", each row is an order".to_owned()),
    ))
}

/// Says once that times without a zone are taken for UTC.
fn say_zone(columns: &Columns, time: Time) {
    static SAID: Once = Once::new();
    if time != Time::WithZone {
        SAID.call_once(|| {
            tracing::info!(
                "the column `{}` of --orders-sql has no time zone: its times count as UTC",
                columns.time
            );
        });
    }
}

/// Why a row is not added.
enum Trouble {
    /// The server has found rows that cannot be counted.
    Uncounted,
    /// Something else.
    Other(anyhow::Error),
}

/// Adds a row of the answer.
fn add(totals: &mut Totals, row: Row<'_>, as_of: DateTime<Utc>) -> Result<(), Trouble> {
    let [customer, last, rows, orders, money, uncounted] = row;
    let number = |field| count(field).map_err(Trouble::Other);
    let money = money.and_then(|bytes| bytes.try_into().ok()).map(f64::from_be_bytes);
    let Some(money) = money.filter(|money| money.is_finite() && matches!(count(uncounted), Ok(0))) else {
        return Err(Trouble::Uncounted);
    };
    let (rows, orders) = (number(rows)?, number(orders)?);
    totals.orders += rows;
    let Some(customer) = customer.filter(|customer| !customer.is_empty()) else {
        totals.left_out.no_customer += rows;
        return Ok(());
    };
    let customer = std::str::from_utf8(customer)
        .map_err(|_| Trouble::Other(anyhow!("a customer of --orders-sql is not UTF-8")))?;
    match last {
        None => totals.left_out.refunds_only += 1,
        Some(last) => totals.push(customer, time(last).map_err(Trouble::Other)?, orders, money, as_of),
    }
    Ok(())
}

fn count(field: Option<&[u8]>) -> anyhow::Result<u64> {
    let bytes = field.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    bytes.and_then(|count| u64::try_from(count).ok()).context("the answer of postgres has no count")
}

fn time(bytes: &[u8]) -> anyhow::Result<DateTime<Utc>> {
    let micros = bytes.try_into().ok().map(i64::from_be_bytes);
    let time = micros.and_then(|micros| DateTime::from_timestamp_micros(micros.checked_add(EPOCH)?));
    time.context("the answer of postgres has no time")
}

/// In ascending order of the ids' bytes. The server does not sort: its order would be that of its encoding.
fn in_order(totals: Totals) -> Totals {
    let ids: Vec<&str> = totals.ids.iter().collect();
    if ids.is_sorted() {
        return totals;
    }
    let mut places: Vec<usize> = (0..ids.len()).collect();
    places.sort_unstable_by_key(|&place| ids[place]);
    let mut sorted = Totals { orders: totals.orders, left_out: totals.left_out, ..Totals::default() };
    places.iter().for_each(|&place| sorted.ids.push(ids[place]));
    sorted.columns =
        totals.columns.as_ref().map(|column| places.iter().map(|&place| column[place]).collect());
    sorted
}

/// What cannot be counted, and how many rows have it; `None`: nothing.
///
/// # Errors
/// The server does not say.
fn what_is_wrong(
    transaction: &mut ReadOnly,
    columns: &Columns,
    statement: &Statement<'_>,
) -> Result<Option<String>, QueryError> {
    let (names, faults) = statement.faults(columns);
    let counts = transaction.first(&faults)?;
    let found = names.into_iter().zip(counts.into_iter().flatten()).filter(|(_, count)| count != "0");
    let found: Vec<String> = found.map(|(what, count)| format!("{what} in {count}")).collect();
    Ok((!found.is_empty()).then(|| {
        format!(
            "rows of --orders-sql cannot be counted: {}; correct them, or leave them out with WHERE",
            found.join(", ")
        )
    }))
}

/// What happened, in the words of the user's flags, with what to do about it.
fn explain(query: &Query, error: QueryError) -> anyhow::Error {
    let hint = error.hint(&query.address);
    let error = match error {
        QueryError::NoConnection(error) => error.into(),
        QueryError::Broken(_) => anyhow!(error),
        error => anyhow!(error).context("postgres does not execute --orders-sql"),
    };
    match hint {
        Some(hint) => anyhow!("{error:#}; {hint}"),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(customer: Option<&'a str>, numbers: &'a [Option<[u8; 8]>; 5]) -> Row<'a> {
        let [last, rows, orders, money, uncounted] =
            numbers.each_ref().map(|number| number.as_ref().map(|n| &n[..]));
        [customer.map(str::as_bytes), last, rows, orders, money, uncounted]
    }

    fn numbers(
        last: Option<i64>,
        rows: i64,
        orders: i64,
        money: f64,
        uncounted: i64,
    ) -> [Option<[u8; 8]>; 5] {
        let of = |number: i64| Some(number.to_be_bytes());
        [last.map(i64::to_be_bytes), of(rows), of(orders), Some(money.to_be_bytes()), of(uncounted)]
    }

    #[test]
    fn rows_become_customers_in_the_order_of_their_ids() {
        let as_of = "2000-01-03T12:00:00Z".parse().unwrap();
        let mut totals = Totals::default();
        let day = 86_400_000_000;
        for (customer, numbers) in [
            (Some("b"), numbers(Some(day), 3, 2, 1.5, 0)),
            (Some("é"), numbers(Some(-day), 1, 1, -2.0, 0)),
            (None, numbers(Some(0), 4, 4, 1.0, 0)),
            (Some(""), numbers(None, 5, 0, -1.0, 0)),
            (Some("refunds"), numbers(None, 6, 0, -1.0, 0)),
            (Some("a"), numbers(Some(2 * day), 1, 1, 0.0, 0)),
        ] {
            assert!(add(&mut totals, row(customer, &numbers), as_of).is_ok());
        }
        let totals = in_order(totals);
        assert_eq!(totals.ids.iter().collect::<Vec<_>>(), ["a", "b", "é"]);
        assert_eq!(totals.columns.into_array(), [[0.0, 1.0, 3.0], [1.0, 2.0, 1.0], [0.0, 1.5, -2.0]]);
        assert_eq!((totals.orders, totals.left_out.no_customer, totals.left_out.refunds_only), (20, 9, 1));
    }

    #[test]
    fn a_row_that_cannot_be_counted_is_not_added() {
        let as_of = "2000-01-03T12:00:00Z".parse().unwrap();
        for numbers in [
            numbers(Some(0), 1, 1, f64::NAN, 0),
            numbers(Some(0), 1, 1, f64::INFINITY, 0),
            numbers(Some(0), 1, 1, 1.0, 1),
            [None, None, None, None, None],
        ] {
            let mut totals = Totals::default();
            let added = add(&mut totals, row(Some("a"), &numbers), as_of);
            assert!(matches!(added, Err(Trouble::Uncounted)));
            assert_eq!(totals, Totals::default());
        }
    }
}
