//! Rows of cells become orders: what counts of each, in chunks.
//!
//! **Every row is read in full, also one that does not count**: whether a file can be read does not depend on the
//! instant of the snapshot.

use super::super::{Columns, time};
use super::excerpt;
use super::header::{Column, Header};
use super::money::{Amount, Refusal};
use super::records::{Record, Records};
use anyhow::{anyhow, bail};
use chrono::{DateTime, Utc};
use hashbrown::DefaultHashBuilder;
use memchr::memchr;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasher, Hasher};
use std::io::Read;

/// Orders that count.
#[derive(Default)]
pub struct Chunk {
    /// The ids of their customers, one behind the other.
    pub ids: String,
    /// What else is known of them.
    pub rows: Vec<Row>,
    /// If `order` is named: what stands for the order of each row, and its customer.
    pub orders: Vec<OrderHash>,
}

/// An order that counts.
pub struct Row {
    /// Where the customer's id ends in `ids`.
    pub id_end: usize,
    /// A hash of the id.
    pub hash: u64,
    /// In microseconds since 1970, rounded up.
    pub time: i64,
    /// The money.
    pub amount: Amount,
}

/// 128 bits of a keyed hash: that two orders of a file have the same need not be feared, even of ids that were chosen
/// for it.
pub type OrderHash = [u64; 2];

/// How many rows and bytes of ids a chunk has, at least until the input is over.
const CHUNK_ROWS: usize = 4096;
const CHUNK_BYTES: usize = 256 << 10;

impl Chunk {
    fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_ROWS || self.ids.len() >= CHUNK_BYTES
    }

    /// Forgets the orders, and keeps the memory for others.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.rows.clear();
        self.orders.clear();
    }
}

/// The rows of a CSV file as orders.
pub struct Rows<R> {
    /// The rows as text.
    records: Records<R>,
    /// Makes orders of them.
    reader: RowReader,
}

/// What makes an order of a row.
struct RowReader {
    /// Where the columns are.
    header: Header,
    /// Orders before this count, in microseconds since 1970.
    as_of: i64,
    /// Hashes ids of customers.
    customers: DefaultHashBuilder,
    /// Hashes ids of orders.
    orders: SipHasher13,
    /// What was read so far.
    counts: Counts,
}

/// How many rows there were before the instant.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// All of them.
    pub orders: u64,
    /// Those without a customer.
    pub no_customer: u64,
}

impl<R: Read> Rows<R> {
    /// Reads the header.
    pub fn new(input: R, columns: &Columns, as_of: DateTime<Utc>) -> anyhow::Result<Self> {
        let mut records = Records::new(input)?;
        let header = Header::read(&mut records, columns)?;
        let reader = RowReader {
            header,
            as_of: as_of.timestamp_micros(),
            customers: DefaultHashBuilder::default(),
            orders: SipHasher13::new_with_keys(rand::random(), rand::random()),
            counts: Counts::default(),
        };
        Ok(Self { records, reader })
    }

    /// Appends orders to a chunk until it is full. Returns whether there may be more.
    pub fn fill(&mut self, chunk: &mut Chunk) -> anyhow::Result<bool> {
        while !chunk.is_full() {
            let Some(record) = self.records.next()? else { return Ok(false) };
            self.reader.read(record, chunk)?;
        }
        Ok(true)
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.reader.counts
    }
}

impl RowReader {
    /// Appends the order of a row to a chunk if it counts.
    fn read(&mut self, record: Record<'_>, chunk: &mut Chunk) -> anyhow::Result<()> {
        let header = &self.header;
        if record.len() != header.len {
            return Err(wrong_length(record, header.len));
        }
        let time_cell = record.cell(header.time.place);
        let Some((seconds, nanoseconds)) = time::since_1970(time_cell) else {
            return Err(no_time(record, &header.time));
        };
        let amount = self.amount(record)?;
        let customer = text(record, &header.customer)?;
        if memchr(0, customer.as_bytes()).is_some() {
            bail!("{}: the id has a U+0000, which Postgres cannot store", place(record, &header.customer));
        }
        let order = header.order.as_ref().map(|column| text(record, column)).transpose()?;
        if order.is_some_and(str::is_empty) {
            let column = header.order.as_ref().unwrap_or(&header.customer);
            bail!("{}: is empty", place(record, column));
        }
        // The instant is a whole microsecond, so a time is before it if its microsecond is.
        let microsecond = seconds * 1_000_000 + i64::from(nanoseconds / 1_000);
        if microsecond >= self.as_of {
            return Ok(());
        }
        self.counts.orders += 1;
        if customer.is_empty() {
            self.counts.no_customer += 1;
            return Ok(());
        }
        chunk.ids.push_str(customer);
        // As many whole days lie between an instant and the next microsecond as between it and the time itself.
        let time = microsecond + i64::from(nanoseconds % 1_000 > 0);
        let hash = self.customers.hash_one(customer.as_bytes());
        chunk.rows.push(Row { id_end: chunk.ids.len(), hash, time, amount });
        chunk.orders.extend(order.map(|order| self.order_hash(customer, order)));
        Ok(())
    }

    /// The money of a row.
    fn amount(&self, record: Record<'_>) -> anyhow::Result<Amount> {
        let number = |column: &Column| {
            let cell = record.cell(column.place);
            Amount::parse(cell).map_err(|refusal| no_amount(record, column, refusal))
        };
        let amount = number(&self.header.amount)?;
        let Some(factor) = &self.header.factor else { return Ok(amount) };
        amount.times(&number(factor)?).map_err(|refusal| {
            let times = format!(" times column {}", excerpt(factor.name.as_bytes()));
            anyhow!("{}{times}: the product {refusal}", place(record, &self.header.amount))
        })
    }

    /// What stands for an order of a customer: nobody else's has the same, whatever the ids are.
    fn order_hash(&self, customer: &str, order: &str) -> OrderHash {
        let mut hasher = self.orders;
        hasher.write_usize(customer.len());
        hasher.write(customer.as_bytes());
        hasher.write(order.as_bytes());
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
}

/// A cell that must be text.
fn text<'a>(record: Record<'a>, column: &Column) -> anyhow::Result<&'a str> {
    let text = std::str::from_utf8(record.cell(column.place));
    text.map_err(|_| anyhow!("{}: the text is not UTF-8: save the file as UTF-8", place(record, column)))
}

/// Where a cell is.
fn place(record: Record<'_>, column: &Column) -> String {
    format!("line {}, column {}", record.line, excerpt(column.name.as_bytes()))
}

#[cold]
fn wrong_length(record: Record<'_>, columns: usize) -> anyhow::Error {
    let Record { line, last_line, .. } = record;
    let (few, cells) = (if record.len() < columns { "few" } else { "many" }, record.len());
    let lines = if last_line > line {
        format!("; the row ends in line {last_line}: is a quote missing or too many?")
    } else if cells > columns {
        "; a cell with a delimiter in it stands in double quotes".into()
    } else {
        String::new()
    };
    anyhow!("line {line}: too {few} cells: {cells}, and the header has {columns}{lines}")
}

#[cold]
fn no_time(record: Record<'_>, column: &Column) -> anyhow::Error {
    let (place, cell) = (place(record, column), record.cell(column.place));
    if cell.is_empty() {
        return anyhow!("{place}: the time is empty");
    }
    anyhow!(
        "{place}: {} is no time: 2010-12-31, 20101231, 2010-12-31 08:30, 2010-12-31 08:30:15.5 and RFC 3339 are read; \
         DuckDB (strptime) or a spreadsheet can write others that way",
        excerpt(cell)
    )
}

#[cold]
fn no_amount(record: Record<'_>, column: &Column, refusal: Refusal) -> anyhow::Error {
    let (place, cell) = (place(record, column), record.cell(column.place));
    if refusal == Refusal::Empty {
        return anyhow!("{place}: the amount is empty");
    }
    anyhow!("{place}: {} {refusal}", excerpt(cell))
}
