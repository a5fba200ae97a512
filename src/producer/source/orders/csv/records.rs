//! Bytes become rows of cells (RFC 4180).
//!
//! Owns the buffers and the numbers of the lines. Two ways give the same cells: a line without quotes is cut at its
//! delimiters where it lies in the buffer; any other row goes through `csv-core`, byte by byte. **A row has 1 MiB at
//! most**, so that memory stays bounded where a quote is left open.

use super::quotes::{Quotes, Stray};
use anyhow::{Context, anyhow, bail};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::{memchr, memchr_iter};
use std::io::{ErrorKind, Read};

/// The longest row, in bytes.
const LONGEST_ROW: usize = 1 << 20;

/// How much is read at a time.
const BUFFER: usize = 256 << 10;

/// The mark that some programs put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a CSV file, the header among them.
pub struct Records<R> {
    /// The file, decompressed.
    input: R,
    /// What was read of it.
    buffer: Box<[u8]>,
    /// Where the next row begins in the buffer.
    begin: usize,
    /// Where the buffer's content ends.
    end: usize,
    /// Whether all has been read.
    over: bool,
    /// The physical line at `begin`, counted from 1.
    line: u64,
    /// Where in the buffer the next quote and the next carriage return are, if that is known.
    next: Marks,
    /// What separates the cells.
    delimiter: u8,
    /// Reads the rows that are not plain.
    core: Reader,
    /// The cells of the last row that was not plain.
    cells: Vec<u8>,
    /// Where each cell of the last row ends.
    ends: Vec<usize>,
}

/// The first place at or behind which a quote and a carriage return were found; the buffer's length: there is none.
#[derive(Clone, Copy, Default)]
struct Marks {
    /// Of a quote.
    quote: Option<usize>,
    /// Of a carriage return.
    carriage_return: Option<usize>,
}

/// A row.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The physical line on which it begins.
    pub line: u64,
    /// The physical line on which it ends.
    pub last_line: u64,
    /// Its cells.
    text: &'a [u8],
    /// Where each cell ends in the text.
    ends: &'a [usize],
    /// How many bytes stand between two cells.
    gap: usize,
}

impl<'a> Record<'a> {
    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A cell.
    pub fn cell(&self, place: usize) -> &'a [u8] {
        let begin = if place == 0 { 0 } else { self.ends[place - 1] + self.gap };
        &self.text[begin..self.ends[place]]
    }

    /// All cells.
    pub fn cells(&self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).map(|place| self.cell(place))
    }
}

impl<R: Read> Records<R> {
    /// The rows of an input, behind its byte order mark.
    pub fn new(input: R) -> anyhow::Result<Self> {
        let mut records = Self {
            input,
            buffer: vec![0; BUFFER].into(),
            begin: 0,
            end: 0,
            over: false,
            line: 1,
            next: Marks::default(),
            delimiter: b',',
            core: core(b','),
            cells: Vec::new(),
            ends: Vec::new(),
        };
        while records.end < BYTE_ORDER_MARK.len() && !records.over {
            records.fill()?;
        }
        if records.buffer[..records.end].starts_with(BYTE_ORDER_MARK) {
            records.begin = BYTE_ORDER_MARK.len();
        }
        Ok(records)
    }

    /// The cells of the next row if `delimiter` separates them; the row stays unread. Of a row longer than the
    /// buffer, those that are in there.
    pub fn peek(&mut self, delimiter: u8) -> anyhow::Result<Vec<Vec<u8>>> {
        if !self.at_row()? {
            return Ok(Vec::new());
        }
        loop {
            // The row may be the last, and end without a line feed.
            let end: &[u8] = if self.over { b"\n" } else { b"" };
            let row = [&self.buffer[self.begin..self.end], end].concat();
            let (mut cells, mut ends) = (vec![0; row.len()], vec![0; row.len()]);
            let (result, _, _, count) = core(delimiter).read_record(&row, &mut cells, &mut ends);
            if result == ReadRecordResult::Record || self.over || self.is_full() {
                let begins = std::iter::once(0).chain(ends.iter().copied());
                return Ok(begins
                    .zip(&ends)
                    .take(count)
                    .map(|(begin, &end)| cells[begin..end].to_vec())
                    .collect());
            }
            self.fill()?;
        }
    }

    /// Says what separates the cells from here on.
    pub fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
        self.core = core(delimiter);
    }

    /// The next row; lines without a byte are passed over.
    pub fn next(&mut self) -> anyhow::Result<Option<Record<'_>>> {
        if !self.at_row()? {
            return Ok(None);
        }
        match self.plain_end()? {
            Some(newline) => Ok(Some(self.cut(newline))),
            None => self.assemble().map(Some),
        }
    }

    /// Whether there is another row; its first byte is then in the buffer.
    fn at_row(&mut self) -> anyhow::Result<bool> {
        loop {
            match self.buffer[self.begin..self.end].first() {
                Some(b'\n') => {
                    self.line += 1;
                    self.begin += 1;
                }
                Some(b'\r') => self.begin += 1,
                Some(_) => return Ok(true),
                None if self.over => return Ok(false),
                None => self.fill()?,
            }
        }
    }

    /// Where the line ends, if it lies in the buffer and is the whole row.
    fn plain_end(&mut self) -> anyhow::Result<Option<usize>> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.begin + searched..self.end];
            if let Some(place) = memchr(b'\n', rest) {
                let newline = self.begin + searched + place;
                return Ok(self.is_plain(newline).then_some(newline));
            }
            if self.over || self.is_full() {
                return Ok(None);
            }
            searched = self.end - self.begin;
            self.fill()?;
        }
    }

    /// Whether there is no quote up to the end of the line, and no carriage return but right before it.
    fn is_plain(&mut self, newline: usize) -> bool {
        let (begin, rest) = (self.begin, &self.buffer[self.begin..self.end]);
        let find = |known: Option<usize>, byte| match known {
            Some(place) if place >= begin => place,
            _ => memchr(byte, rest).map_or(usize::MAX, |place| begin + place),
        };
        let quote = find(self.next.quote, b'"');
        let carriage_return = find(self.next.carriage_return, b'\r');
        self.next = Marks { quote: Some(quote), carriage_return: Some(carriage_return) };
        quote > newline && carriage_return >= newline - 1
    }

    /// Cuts a plain line into cells.
    fn cut(&mut self, newline: usize) -> Record<'_> {
        let (begin, line) = (self.begin, self.line);
        self.begin = newline + 1;
        self.line += 1;
        let text = &self.buffer[begin..newline];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.ends.clear();
        self.ends.extend(memchr_iter(self.delimiter, text));
        self.ends.push(text.len());
        Record { line, last_line: line, text, ends: &self.ends, gap: 1 }
    }

    /// Reads a row with quotes, or one that lies in the buffer in part.
    fn assemble(&mut self) -> anyhow::Result<Record<'_>> {
        let (line, mut filled, mut count, mut last_line) = (self.line, 0, 0, self.line);
        let mut quotes = Quotes::new(line);
        self.cells.resize(self.cells.len().max(4 << 10), 0);
        self.ends.resize(self.ends.len().max(64), 0);
        loop {
            if self.begin == self.end && !self.over {
                self.fill()?;
            }
            // A last row may have no line feed; only inside of quotes does one more not end it.
            let is_last = self.begin == self.end;
            let input = if is_last { b"\n" } else { &self.buffer[self.begin..self.end] };
            let (cells, ends) = (&mut self.cells[filled..], &mut self.ends[count..]);
            let (result, read, written, ended) = self.core.read_record(input, cells, ends);
            (filled, count) = (filled + written, count + ended);
            if !is_last {
                let read = &input[..read];
                quotes.see(read, self.delimiter).map_err(stray)?;
                self.line += memchr_iter(b'\n', read).count() as u64;
                last_line = self.line - u64::from(read.ends_with(b"\n"));
                self.begin += read.len();
            }
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::OutputFull if filled >= LONGEST_ROW => return Err(too_long(line, quotes)),
                ReadRecordResult::OutputFull => self.cells.resize(2 * self.cells.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End if is_last => {
                    let opened = quotes.open().unwrap_or(line);
                    bail!("line {opened}: a quote is left open; {TWICE}");
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
        self.ends.truncate(count);
        Ok(Record { line, last_line, text: &self.cells[..filled], ends: &self.ends, gap: 0 })
    }

    /// Whether the buffer cannot take more.
    fn is_full(&self) -> bool {
        self.end - self.begin == self.buffer.len()
    }

    /// Reads more. **The buffer must not be full.** What is in it moves to its beginning.
    fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        self.next = Marks::default();
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => {
                    let read = read.with_context(|| format!("behind line {}", self.line))?;
                    self.end += read;
                    self.over = read == 0;
                    return Ok(());
                }
            }
        }
    }
}

/// A reader of CSV that treats a byte order mark like any other bytes.
fn core(delimiter: u8) -> Reader {
    let mut core = ReaderBuilder::new().delimiter(delimiter).build();
    // It would drop one at the beginning of what it reads first, which need not be the file's.
    core.read_record(b"\n", &mut [0], &mut [0]);
    core
}

/// How a quote is written that does not end a cell.
const TWICE: &str = "a quote inside of a quoted cell is written twice";

fn stray(Stray { line, opened }: Stray) -> anyhow::Error {
    anyhow!("line {line}: text stands behind a closing quote: is a quote left open in line {opened}? {TWICE}")
}

fn too_long(line: u64, quotes: Quotes) -> anyhow::Error {
    match quotes.open() {
        Some(opened) => anyhow!("line {opened}: a quote is left open, for more than 1 MiB; {TWICE}"),
        None => anyhow!("line {line}: the row is longer than 1 MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines and cells of each row.
    type Rows = Vec<(u64, u64, Vec<String>)>;

    fn rows(input: impl Read, delimiter: u8) -> anyhow::Result<Rows> {
        let mut records = Records::new(input)?;
        records.set_delimiter(delimiter);
        let mut rows = Vec::new();
        while let Some(record) = records.next()? {
            let cells = record.cells().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
            rows.push((record.line, record.last_line, cells));
        }
        Ok(rows)
    }

    /// The cells that `csv-core` alone finds in the whole text, and a line feed, if it has none at its end.
    fn by_the_crate(text: &[u8]) -> Vec<Vec<String>> {
        let text = [text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text), b"\n"].concat();
        let (mut core, mut rest, mut rows) = (core(b','), &text[..], Vec::new());
        loop {
            let (mut cells, mut ends) = (vec![0; text.len() + 1], vec![0; text.len() + 1]);
            let (result, read, _, count) = core.read_record(rest, &mut cells, &mut ends);
            if result != ReadRecordResult::Record {
                return rows;
            }
            rest = &rest[read..];
            let begins = std::iter::once(0).chain(ends.iter().copied());
            let row = begins.zip(&ends).take(count);
            rows.push(
                row.map(|(begin, &end)| String::from_utf8_lossy(&cells[begin..end]).into_owned()).collect(),
            );
        }
    }

    #[test]
    fn rows_know_their_physical_lines() {
        let text = "a,b\r\n\n\"c\nd\",e\nf,\"g\"\"\r\n\"\ni,j";
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let expected = [
            (1, 1, cells(["a", "b"])),
            (3, 4, cells(["c\nd", "e"])),
            (5, 6, cells(["f", "g\"\r\n"])),
            (7, 7, cells(["i", "j"])),
        ];
        assert_eq!(rows(text.as_bytes(), b',').unwrap(), expected);
    }

    #[test]
    fn rows_may_lie_across_the_ends_of_the_buffer() {
        let row = |number: usize| format!("{number},{}", "x".repeat(number % 97));
        let text: String = (0..20_000).map(|number| row(number) + "\n").collect();
        assert!(text.len() > 3 * BUFFER);
        let rows = rows(text.as_bytes(), b',').unwrap();
        assert_eq!(rows.len(), 20_000);
        for (number, (line, _, cells)) in rows.into_iter().enumerate() {
            assert_eq!((line, cells.join(",")), (number as u64 + 1, row(number)));
        }
    }

    #[test]
    fn a_byte_order_mark_is_one_at_the_beginning_only() {
        let cell = |text: &str| rows(text.as_bytes(), b',').unwrap().last().unwrap().2[0].clone();
        assert_eq!(cell("\u{feff}a\n"), "a");
        assert_eq!(cell("\u{feff}\"a\"\n"), "a");
        assert_eq!(cell("x\n\u{feff}a\n"), "\u{feff}a");
        assert_eq!(cell("x\n\u{feff}\"a\n"), "\u{feff}\"a");
    }

    proptest! {
        #[test]
        fn both_ways_give_the_cells_that_the_crate_gives(
            pieces in prop::collection::vec("[ab\u{feff}]|,|;|\n|\r|\r\n|\"|\"\"", 0..60), most in 1..70_usize,
        ) {
            let text = pieces.concat();
            let drip = text.as_bytes().chunks(most).fold(
                Box::new(std::io::empty()) as Box<dyn Read>, |before, chunk| Box::new(before.chain(chunk)),
            );
            let expected = by_the_crate(text.as_bytes());
            match rows(drip, b',') {
                Ok(rows) => {
                    let lines = text.matches('\n').count() as u64;
                    prop_assert!(rows.iter().all(|(first, last, _)| first <= last && *last <= lines + 1));
                    prop_assert_eq!(rows.into_iter().map(|(_, _, cells)| cells).collect::<Vec<_>>(), expected);
                }
                Err(open) => prop_assert!(open.to_string().contains("left open") && text.contains('"'), "{}", open),
            }
        }
    }
}
