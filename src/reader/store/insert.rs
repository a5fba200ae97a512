//! What a commit adds to the tables.

use super::{Part, Source, rows};
use crate::reader::schema;
use crate::reader::score::{Rules, Scored};
use chrono::{DateTime, Utc};
use diesel::pg::CopyFormat;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

/// Rows per INSERT: Postgres allows 65 535 parameters in a statement.
const INSERT_ROWS: usize = 1_000;
/// Bytes of dead letters per INSERT: Postgres takes 1 GB in one message.
const INSERT_BYTES: usize = 64 * 1024 * 1024;

/// Ids for so many batches, in order.
pub(super) fn new_batch_ids(connection: &mut PgConnection, count: usize) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Id {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let ids = diesel::sql_query("SELECT nextval('batches_id_seq') AS id FROM generate_series(1, $1)")
        .bind::<BigInt, _>(count as i64)
        .load::<Id>(connection)?;
    Ok(ids.into_iter().map(|row| row.id).collect())
}

/// Streams the rows of the batches into `segments`.
pub(super) fn segments(
    connection: &mut PgConnection,
    rules: &Rules,
    ids: &[i64],
    scored: &[&Scored],
) -> QueryResult<usize> {
    let rows = ids.iter().copied().zip(scored.iter().copied());
    diesel::copy_from(schema::segments::table)
        .from_raw_data(schema::segments::table, |out| {
            rows::write(out, &rules.segments, rows.clone())
                .map_err(|e| diesel::result::Error::SerializationError(e.into()))
        })
        .with_format(CopyFormat::Binary)
        .execute(connection)
}

#[derive(Insertable)]
#[diesel(table_name = schema::batches)]
struct BatchRow<'a> {
    id: i64,
    consumer_group: &'a str,
    partition: i32,
    recency_offset: i64,
    frequency_offset: i64,
    monetary_offset: i64,
    batch_key: Option<String>,
    population: Option<&'a str>,
    as_of: DateTime<Utc>,
    customers: i32,
    ties: &'a str,
    segment_map: &'a str,
    recency_edges: &'a [f64],
    frequency_edges: &'a [f64],
    monetary_edges: &'a [f64],
}

/// Inserts a row per batch.
pub(super) fn batches(
    connection: &mut PgConnection,
    rules: &Rules,
    source: &Source,
    ids: &[i64],
    scored: &[&Scored],
) -> QueryResult<()> {
    let rows = ids.iter().zip(scored).map(|(&id, batch)| {
        let [recency_offset, frequency_offset, monetary_offset] = batch.offsets;
        let [recency, frequency, monetary] = &batch.cuts;
        BatchRow {
            id,
            consumer_group: &source.consumer_group,
            partition: batch.partition,
            recency_offset,
            frequency_offset,
            monetary_offset,
            batch_key: batch.key.as_deref().map(key_text),
            population: batch.population.as_deref(),
            as_of: batch.as_of,
            // Bounded by `--max-customers`, which is an i32.
            customers: batch.customers() as i32,
            ties: rules.ties.name(),
            segment_map: rules.segments.identity(),
            recency_edges: &recency.edges,
            frequency_edges: &frequency.edges,
            monetary_edges: &monetary.edges,
        }
    });
    let rows: Vec<BatchRow<'_>> = rows.collect();
    rows.chunks(INSERT_ROWS).try_for_each(|rows| {
        diesel::insert_into(schema::batches::table).values(rows).execute(connection).map(drop)
    })
}

/// A key as text: itself where Postgres can store it, else `\x` and its bytes in hex.
fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => key.iter().fold(String::from("\\x"), |text, byte| text + &format!("{byte:02x}")),
    }
}

#[derive(Insertable)]
#[diesel(table_name = schema::dead_letters)]
struct DeadLetterRow<'a> {
    consumer_group: &'a str,
    topic: &'a str,
    partition: i32,
    offset: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    reason: &'a str,
    detail: &'a str,
    produced_at: Option<DateTime<Utc>>,
}

/// Inserts a row per message that is not scored.
pub(super) fn dead_letters(
    connection: &mut PgConnection,
    source: &Source,
    parts: &[Part],
) -> QueryResult<()> {
    let rows = parts.iter().flat_map(|part| &part.dead_letters).map(|letter| DeadLetterRow {
        consumer_group: &source.consumer_group,
        topic: source.topic(letter.message.metric),
        partition: letter.message.partition,
        offset: letter.message.offset,
        key: letter.message.key.as_deref(),
        value: letter.message.value.as_deref(),
        reason: letter.problem.reason.name(),
        detail: &letter.problem.detail,
        produced_at: letter.message.produced_at(),
    });
    let rows: Vec<DeadLetterRow<'_>> = rows.collect();
    portions(&rows).try_for_each(|rows| {
        diesel::insert_into(schema::dead_letters::table).values(rows).execute(connection).map(drop)
    })
}

/// Cuts rows into what fits into one statement each.
fn portions<'a>(rows: &'a [DeadLetterRow<'a>]) -> impl Iterator<Item = &'a [DeadLetterRow<'a>]> {
    let (mut count, mut bytes) = (0, 0);
    rows.chunk_by(move |row, _| {
        count += 1;
        bytes += row.value.map_or(0, <[u8]>::len) + row.key.map_or(0, <[u8]>::len);
        let fits = count < INSERT_ROWS && bytes < INSERT_BYTES;
        if !fits {
            (count, bytes) = (0, 0);
        }
        fits
    })
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
}
