//! What a commit adds to the tables.

use super::{Part, Source, Watch, rows};
use crate::message::Metric;
use crate::reader::score::{Rules, Scored};
use crate::reader::{key, schema};
use chrono::{DateTime, Utc};
use diesel::pg::CopyFormat;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Timestamptz};
use std::io::{self, Write};

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
    watch: &Watch,
) -> QueryResult<usize> {
    let rows = ids.iter().copied().zip(scored.iter().copied());
    diesel::copy_from(schema::segments::table)
        .from_raw_data(schema::segments::table, |out| {
            rows::write(&mut Watched { out, watch }, &rules.segments, rows.clone())
                .map_err(|e| diesel::result::Error::SerializationError(e.into()))
        })
        .with_format(CopyFormat::Binary)
        .execute(connection)
}

/// A stream to Postgres. That it takes something is a sign of life.
struct Watched<'a, W: ?Sized> {
    out: &'a mut W,
    watch: &'a Watch,
}

impl<W: Write + ?Sized> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.watch.moved();
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One statement for any number of batches. **It reaches Postgres whole before it begins**: a COPY would lock
/// entries of the unique indexes while the stream is still open, and a reader that freezes then would keep its
/// successor waiting for as long as it stays frozen.
const INSERT_BATCHES: &str = "
    INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset,
        batch_key, population, as_of, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges)
    SELECT id, $1, partition, recency, frequency, monetary, key, population, as_of, customers, $2, $3,
        ($4::float8[])[(6 * n - 5)::int : (6 * n)::int], ($5::float8[])[(6 * n - 5)::int : (6 * n)::int], ($6::float8[])[(6 * n - 5)::int : (6 * n)::int]
    FROM unnest($7::int8[], $8::int4[], $9::int8[], $10::int8[], $11::int8[], $12::text[], $13::text[],
        $14::timestamptz[], $15::int4[])
        WITH ORDINALITY AS b (id, partition, recency, frequency, monetary, key, population, as_of, customers, n)";

/// Inserts a row per batch.
pub(super) fn batches(
    connection: &mut PgConnection,
    rules: &Rules,
    source: &Source,
    ids: &[i64],
    scored: &[&Scored],
) -> QueryResult<()> {
    if scored.is_empty() {
        return Ok(());
    }
    // The edges end to end, six of each batch.
    let edges = |metric: Metric| -> Vec<f64> {
        scored.iter().flat_map(|batch| batch.cuts[metric.index()].edges).collect()
    };
    let offsets = |metric: Metric| -> Vec<i64> { scored.iter().map(|b| b.offsets[metric.index()]).collect() };
    let partitions: Vec<i32> = scored.iter().map(|batch| batch.partition).collect();
    let keys: Vec<Option<String>> = scored.iter().map(|b| b.key.as_deref().map(key::text)).collect();
    let populations: Vec<Option<&str>> = scored.iter().map(|batch| batch.population.as_deref()).collect();
    let times: Vec<DateTime<Utc>> = scored.iter().map(|batch| batch.as_of).collect();
    // Bounded by `--max-customers`, which is an i32.
    let customers: Vec<i32> = scored.iter().map(|batch| batch.customers() as i32).collect();
    diesel::sql_query(INSERT_BATCHES)
        .bind::<Text, _>(&source.consumer_group)
        .bind::<Text, _>(rules.ties.name())
        .bind::<Text, _>(rules.segments.identity())
        .bind::<Array<Double>, _>(edges(Metric::Recency))
        .bind::<Array<Double>, _>(edges(Metric::Frequency))
        .bind::<Array<Double>, _>(edges(Metric::Monetary))
        .bind::<Array<BigInt>, _>(ids)
        .bind::<Array<Integer>, _>(partitions)
        .bind::<Array<BigInt>, _>(offsets(Metric::Recency))
        .bind::<Array<BigInt>, _>(offsets(Metric::Frequency))
        .bind::<Array<BigInt>, _>(offsets(Metric::Monetary))
        .bind::<Array<Nullable<Text>>, _>(keys)
        .bind::<Array<Nullable<Text>>, _>(populations)
        .bind::<Array<Timestamptz>, _>(times)
        .bind::<Array<Integer>, _>(customers)
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

impl DeadLetterRow<'_> {
    /// Bytes of the message.
    fn bytes(&self) -> usize {
        self.value.map_or(0, <[u8]>::len) + self.key.map_or(0, <[u8]>::len)
    }
}

/// Inserts a row per message that is not scored.
pub(super) fn dead_letters(
    connection: &mut PgConnection,
    source: &Source,
    watch: &Watch,
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
        watch.send("INSERT into `dead_letters`", rows.iter().map(DeadLetterRow::bytes).sum());
        diesel::insert_into(schema::dead_letters::table).values(rows).execute(connection).map(drop)
    })
}

/// Cuts rows into what fits into one statement each.
fn portions<'a>(rows: &'a [DeadLetterRow<'a>]) -> impl Iterator<Item = &'a [DeadLetterRow<'a>]> {
    let (mut count, mut bytes) = (0, 0);
    rows.chunk_by(move |row, _| {
        count += 1;
        bytes += row.bytes();
        let fits = count < INSERT_ROWS && bytes < INSERT_BYTES;
        if !fits {
            (count, bytes) = (0, 0);
        }
        fits
    })
}
