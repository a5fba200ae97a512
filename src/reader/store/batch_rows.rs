//! The rows of `batches` as Postgres's binary COPY wants them.
//!
//! Owns the bytes; source: PostgreSQL documentation, `COPY`, "Binary Format", and the `recv` functions of the types.
//! All integers big-endian.
//!
//! The one idea: a commit of thousands of small batches is a stream of rows, too. As an INSERT each row would be
//! fifteen parameters of a statement that Postgres parses and plans anew.

use super::rows::{HEADER, NULL, TRAILER, encode_text};
use super::source::Source;
use crate::reader::quintile::Edges;
use crate::reader::score::{Rules, Scored};
use chrono::{DateTime, Utc};
use std::io::{self, Write};

/// The columns of `batches` but `stored_at`, which has a default.
const FIELDS: i16 = 15;
/// The type of an array's elements: `float8`.
const FLOAT8: i32 = 701;
/// Bytes of an array of six: header (20), and per element a length and the number.
const EDGES_LENGTH: i32 = 20 + 6 * (4 + 8);
/// Postgres's clock begins at 2000-01-01; this is in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Writes a row per batch, each with its id, as one COPY stream.
///
/// # Errors
/// Those of `out`.
pub(super) fn write<'a>(
    out: &mut (impl Write + ?Sized),
    rules: &Rules,
    source: &Source,
    batches: impl Iterator<Item = (i64, &'a Scored)>,
) -> io::Result<()> {
    let mut rows = HEADER.to_vec();
    for (id, batch) in batches {
        encode_row(&mut rows, id, batch, rules, source);
    }
    rows.extend_from_slice(&TRAILER);
    out.write_all(&rows)
}

/// In the order of [`super::insert::batches`].
fn encode_row(row: &mut Vec<u8>, id: i64, batch: &Scored, rules: &Rules, source: &Source) {
    row.extend_from_slice(&FIELDS.to_be_bytes());
    encode_i64(row, id);
    encode_text(row, &source.consumer_group);
    encode_i32(row, batch.partition);
    batch.offsets.iter().for_each(|&offset| encode_i64(row, offset));
    encode_optional(row, batch.key.as_deref().map(key_text).as_deref());
    encode_optional(row, batch.population.as_deref());
    encode_i64(row, postgres_time(batch.as_of));
    // Bounded by `--max-customers`, which is an i32.
    encode_i32(row, batch.customers() as i32);
    encode_text(row, rules.ties.name());
    encode_text(row, rules.segments.identity());
    batch.cuts.iter().for_each(|cut| encode_edges(row, &cut.edges));
}

/// One dimension of six numbers, none of them null, counted from 1.
fn encode_edges(row: &mut Vec<u8>, edges: &Edges) {
    for number in [EDGES_LENGTH, 1, 0, FLOAT8, 6, 1] {
        row.extend_from_slice(&number.to_be_bytes());
    }
    for edge in edges {
        row.extend_from_slice(&8i32.to_be_bytes());
        row.extend_from_slice(&edge.to_be_bytes());
    }
}

fn encode_i64(row: &mut Vec<u8>, number: i64) {
    row.extend_from_slice(&8i32.to_be_bytes());
    row.extend_from_slice(&number.to_be_bytes());
}

fn encode_i32(row: &mut Vec<u8>, number: i32) {
    row.extend_from_slice(&4i32.to_be_bytes());
    row.extend_from_slice(&number.to_be_bytes());
}

fn encode_optional(row: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => encode_text(row, text),
        None => row.extend_from_slice(&NULL),
    }
}

/// Microseconds since 2000-01-01. Postgres keeps no smaller part of a second; Diesel cuts it off, too.
fn postgres_time(time: DateTime<Utc>) -> i64 {
    // Every time that can be stored is within i64 microseconds of both epochs.
    time.timestamp_micros().saturating_sub(POSTGRES_EPOCH)
}

/// A key as text: itself where Postgres can store it, else `\x` and its bytes in hex.
fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => key.iter().fold(String::from("\\x"), |text, byte| text + &format!("{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_text_or_as_hex() {
        assert_eq!(key_text("schlüssel".as_bytes()), "schlüssel");
        assert_eq!(key_text(b""), "");
        assert_eq!(key_text(b"a\0b"), "\\x610062");
        assert_eq!(key_text(b"\xff\x00"), "\\xff00");
    }

    #[test]
    fn times_count_from_the_epoch_of_postgres() {
        let at = |text: &str| postgres_time(text.parse().unwrap());
        assert_eq!(at("2000-01-01T00:00:00Z"), 0);
        assert_eq!(at("1999-12-31T23:59:59.999999Z"), -1);
        assert_eq!(at("2026-11-25T00:00:00.0000019Z"), 848_880_000_000_001);
    }

    #[test]
    fn edges_take_the_bytes_that_their_length_says() {
        let mut row = Vec::new();
        encode_edges(&mut row, &[1.0; 6]);
        assert_eq!(row.len(), 4 + EDGES_LENGTH as usize);
    }
}
