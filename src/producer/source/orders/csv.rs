//! Orders from a CSV file, or from standard input.
//!
//! Two threads: one cuts the input into rows and reads their cells (`records`, `header`, `rows`), the other adds the
//! orders up per customer (`customers`). Memory goes with the number of customers and not of orders, unless `order` is
//! named: then with that of distinct orders, too.

mod customers;
mod header;
mod input;
mod money;
mod quotes;
mod records;
mod rows;

use super::{Columns, Totals};
use anyhow::anyhow;
use chrono::{DateTime, Utc};
use customers::Customers;
use header::Header;
use input::Ending;
use records::Records;
use rows::{Chunk, Counts, Rows};
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

/// Where the rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `--orders FILE`: read from its beginning for every snapshot.
    File(PathBuf),
    /// `--orders -`: read once.
    StandardInput,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::StandardInput => write!(f, "standard input"),
        }
    }
}

/// How many chunks of orders may wait to be added up.
const CHUNKS: usize = 4;

/// Adds up the orders before `as_of`.
///
/// # Errors
/// The orders cannot be read: which line and column, and of what kind the value is. Or the file was written to
/// meanwhile: that is said instead, since it may have caused the rest.
pub fn read(input: &Input, columns: &Columns, as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
    let (bytes, watch) = input::open(input)?;
    let last = Arc::default();
    let totals = add_up(Ending::new(bytes, &last), columns, as_of);
    watch.check()?;
    // RFC 4180 lets it be left out. But what writes a pipe may also have died.
    if totals.is_ok() && !matches!(last.load(Ordering::Relaxed), b'\n' | b'\r') {
        tracing::warn!("the last row of {input} has no line break behind it: it may have been cut off");
    }
    totals
}

/// Looks at the header of a file. Standard input can be read only once, so it is not looked at.
///
/// # Errors
/// The file cannot be opened, or its header lacks a column.
pub fn check(input: &Input, columns: &Columns) -> anyhow::Result<()> {
    if *input == Input::StandardInput {
        return Ok(());
    }
    let (bytes, _) = input::open(input)?;
    Header::read(&mut Records::new(bytes)?, columns)?;
    Ok(())
}

/// Adds up the orders before `as_of` in the bytes of a CSV file.
///
/// # Errors
/// As [`read`].
pub fn add_up(bytes: impl Read + Send, columns: &Columns, as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
    let mut rows = Rows::new(bytes, columns, as_of)?;
    let mut customers = Customers::default();
    // A small file needs no thread.
    let mut first = Chunk::default();
    let is_more = rows.fill(&mut first)?;
    customers.add(&first)?;
    let counts = if is_more { add_rest(rows, &mut customers)? } else { rows.counts() };
    customers.totals(counts, as_of)
}

/// Adds up what is left of the orders, which another thread reads.
fn add_rest<R: Read + Send>(rows: Rows<R>, customers: &mut Customers) -> anyhow::Result<Counts> {
    let (full, chunks) = sync_channel(CHUNKS);
    let (used, empty) = channel();
    thread::scope(|scope| {
        let reading = thread::Builder::new().name("orders".into());
        let reading = reading.spawn_scoped(scope, move || read_chunks(rows, &full, &empty))?;
        for chunk in chunks {
            customers.add(&chunk)?;
            // At the end nobody takes it back.
            let _ = used.send(chunk);
        }
        reading.join().map_err(|_| anyhow!("the thread that reads the orders panicked"))?
    })
}

/// Sends all orders to the other thread, in the chunks that it gives back.
fn read_chunks<R: Read>(
    mut rows: Rows<R>,
    full: &SyncSender<Chunk>,
    empty: &Receiver<Chunk>,
) -> anyhow::Result<Counts> {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.clear();
        let is_more = rows.fill(&mut chunk)?;
        if full.send(chunk).is_err() || !is_more {
            return Ok(rows.counts());
        }
    }
}

/// A value or a name in an error: at most 40 characters of it, none of them a control character.
fn excerpt(value: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(value);
    let shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    format!("`{shown}`{}", if text.chars().nth(LONGEST).is_some() { "…" } else { "" })
}

#[cfg(test)]
mod tests;
