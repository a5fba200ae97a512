//! What a commit adds to the tables.

use super::{Part, Source, batch_rows, rows};
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

/// Streams a row per batch into `batches`.
pub(super) fn batches(
    connection: &mut PgConnection,
    rules: &Rules,
    source: &Source,
    ids: &[i64],
    scored: &[&Scored],
) -> QueryResult<()> {
    use schema::batches::dsl;
    if scored.is_empty() {
        return Ok(());
    }
    let columns = (
        dsl::id,
        dsl::consumer_group,
        dsl::partition,
        dsl::recency_offset,
        dsl::frequency_offset,
        dsl::monetary_offset,
        dsl::batch_key,
        dsl::population,
        dsl::as_of,
        dsl::customers,
        dsl::ties,
        dsl::segment_map,
        dsl::recency_edges,
        dsl::frequency_edges,
        dsl::monetary_edges,
    );
    let rows = ids.iter().copied().zip(scored.iter().copied());
    diesel::copy_from(dsl::batches)
        .from_raw_data(columns, |out| {
            batch_rows::write(out, rules, source, rows.clone())
                .map_err(|e| diesel::result::Error::SerializationError(e.into()))
        })
        .with_format(CopyFormat::Binary)
        .execute(connection)
        .map(drop)
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
