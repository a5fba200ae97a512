//! The first row: what separates the cells, and where the columns are that `--orders-columns` names.

use super::super::{Columns, time};
use super::excerpt;
use super::money::Amount;
use super::records::Records;
use anyhow::{Context, anyhow, bail, ensure};
use std::io::Read;

/// What can separate cells.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// How many columns of a header an error names.
const MOST_NAMES: usize = 20;

/// Where the columns are.
pub struct Header {
    /// How many there are.
    pub len: usize,
    /// Who ordered.
    pub customer: Column,
    /// When.
    pub time: Column,
    /// The money.
    pub amount: Column,
    /// What the money is multiplied by.
    pub factor: Option<Column>,
    /// Which order the row belongs to.
    pub order: Option<Column>,
}

/// A column.
pub struct Column {
    /// How many are before it.
    pub place: usize,
    /// Its name.
    pub name: String,
}

impl Header {
    /// Reads the header. From there on the rows are cut at the delimiter under which all named columns are found,
    /// else at the one that makes most cells.
    ///
    /// # Errors
    /// Names the columns that it lacks or has twice, and those that it has.
    pub fn read<R: Read>(records: &mut Records<R>, columns: &Columns) -> anyhow::Result<Self> {
        let wanted = wanted(columns);
        let delimiter = delimiter(records, &wanted)?;
        records.set_delimiter(delimiter);
        let record = records.next()?.context("there is nothing in it, not even a header")?;
        let line = record.line;
        let names: Result<Vec<&str>, _> = record.cells().map(std::str::from_utf8).collect();
        let names =
            names.map_err(|_| anyhow!("line {line}: the header is not UTF-8: save the file as UTF-8"))?;
        let missing: Vec<&str> = wanted.iter().copied().filter(|name| !names.contains(name)).collect();
        if !missing.is_empty() {
            return Err(lacks(line, &missing, &names));
        }
        let column = |name: &String| {
            let mut places = (0..names.len()).filter(|&place| names[place] == name);
            let place = places.next().with_context(|| format!("no column `{name}`"))?;
            ensure!(
                places.next().is_none(),
                "line {line}: the header has two columns {}",
                excerpt(name.as_bytes())
            );
            Ok(Column { place, name: name.clone() })
        };
        let [amount, factor @ ..] = &columns.amount[..] else { bail!("`amount` names no column") };
        Ok(Self {
            len: names.len(),
            customer: column(&columns.customer)?,
            time: column(&columns.time)?,
            amount: column(amount)?,
            factor: factor.first().map(column).transpose()?,
            order: columns.order.as_ref().map(column).transpose()?,
        })
    }
}

/// The named columns.
fn wanted(columns: &Columns) -> Vec<&str> {
    let one = [&columns.customer, &columns.time];
    one.into_iter().chain(&columns.amount).chain(&columns.order).map(String::as_str).collect()
}

fn delimiter<R: Read>(records: &mut Records<R>, wanted: &[&str]) -> anyhow::Result<u8> {
    let mut best = (0, b',');
    for delimiter in DELIMITERS {
        let cells = records.peek(delimiter)?;
        if wanted.iter().all(|name| cells.iter().any(|cell| cell == name.as_bytes())) {
            return Ok(delimiter);
        }
        if cells.len() > best.0 {
            best = (cells.len(), delimiter);
        }
    }
    Ok(best.1)
}

/// Columns are missing. **If the first row is an order, it is not quoted**: that would name a customer.
fn lacks(line: u64, missing: &[&str], names: &[&str]) -> anyhow::Error {
    let list = |names: &[&str]| {
        let shown: Vec<String> = names.iter().take(MOST_NAMES).map(|name| excerpt(name.as_bytes())).collect();
        let more = names.len().saturating_sub(MOST_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", shown.join(", "))
    };
    let missing = list(missing);
    // Some columns have names that only begin as a value does.
    let begins = names.iter().filter(|name| begins_as_value(name)).count();
    if 2 * begins >= names.len() || names.iter().any(|name| is_value(name)) {
        return anyhow!(
            "line {line} has values and not the names of columns: the file needs a header, with the columns {missing}"
        );
    }
    let separated =
        if names.len() == 1 { "; columns are separated by commas, semicolons or tabs" } else { "" };
    let names = list(names);
    anyhow!(
        "line {line}: the header has no column {missing}; it has {names}{separated}; --orders-columns says which to read"
    )
}

/// Whether a cell is an order's and not a header's.
fn is_value(cell: &str) -> bool {
    time::since_1970(cell.as_bytes()).is_some() || Amount::parse(cell.as_bytes()).is_ok()
}

fn begins_as_value(cell: &str) -> bool {
    cell.chars().next().is_some_and(|c| c.is_ascii_digit() || "+-$€£".contains(c))
}
