//! What a commit adds to the tables.

use super::windows::{self, Window};
use super::{KafkaSource, Part, StoreError, Watch, rows};
use crate::failpoint;
use crate::metric::Metric;
use crate::postgres::{Numbers, Statements, schema};
use crate::reader::grid::{CELLS, Cells};
use crate::reader::key;
use crate::reader::score::{Rules, Scored};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Timestamptz};
use std::io::{self, Write};

/// Rows per INSERT: Postgres allows 65 535 parameters in a statement.
const INSERT_ROWS: usize = 1_000;
/// Bytes of dead letters per INSERT: Postgres takes 1 GB in one message.
const INSERT_BYTES: usize = 64 * 1024 * 1024;

/// Ids for `count` batches, in ascending order.
pub(super) fn new_batch_ids(connection: &mut PgConnection, count: usize) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Id {
        /// The next one of the sequence.
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

/// What a commit adds.
#[derive(Clone, Copy)]
pub(super) struct Added<'a> {
    /// How its batches were scored.
    pub(super) rules: &'a Rules,
    /// Whose offsets it settles.
    pub(super) source: &'a KafkaSource,
    /// An id for each batch, in ascending order.
    pub(super) ids: &'a [i64],
    /// Where the rows go, for each window of these ids.
    pub(super) windows: &'a [Window],
    /// The batches, in the order of the parts.
    pub(super) scored: &'a [&'a Scored],
    /// Where the dead letters are.
    pub(super) parts: &'a [Part],
}

impl Added<'_> {
    /// Adds it.
    ///
    /// # Errors
    /// Those of the statements; [`StoreError::KeptOut`].
    pub(super) fn insert(self, statements: &mut impl Statements, watch: &Watch) -> Result<(), StoreError> {
        if !self.scored.is_empty() {
            watch.step("COPY into `segments`");
            self.copy(statements, watch)?;
            failpoint::reach("after_copy");
            watch.step("INSERT into `batches`");
            batches(statements, self)?;
        }
        dead_letters(statements, self.source, watch, self.parts)
    }

    /// Copies the rows, window by window: into the partition itself, since the way through the table costs Postgres
    /// up to a tenth more.
    fn copy(self, statements: &mut impl Statements, watch: &Watch) -> Result<(), StoreError> {
        let mut scored = self.scored;
        for ids in self.ids.chunk_by(|one, next| windows::number(*one) == windows::number(*next)) {
            let (of_window, rest) = scored.split_at(ids.len());
            scored = rest;
            let number = ids.first().map(|id| windows::number(*id));
            let window = self.windows.iter().find(|window| Some(window.number) == number);
            let table = window.map_or(windows::WHOLE, |window| &window.table);
            let rows = ids.iter().copied().zip(of_window.iter().copied());
            let taken = statements.copy_into_segments(table, |out| {
                rows::write(&mut Watched { out, watch }, &self.rules.segments, rows.clone())
            })?;
            all_taken("segments", of_window.iter().map(|batch| batch.customers()).sum(), taken)?;
            failpoint::reach("after_window");
        }
        Ok(())
    }
}

/// Checks that a table took as many rows as it was given. **Without this check, a trigger or a rule that keeps
/// rows out would lose them**: progress would move past them.
pub(super) fn all_taken(table: &'static str, given: usize, taken: usize) -> Result<(), StoreError> {
    if taken == given { Ok(()) } else { Err(StoreError::KeptOut { table, given, taken }) }
}

/// A stream to Postgres. Each write that it takes is a sign of life.
struct Watched<'a, W: ?Sized> {
    /// The stream.
    out: &'a mut W,
    /// The record of what the connection waits for.
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
/// entries of the unique indexes while its stream is open, and a reader that froze then would block its
/// successor for as long as it is frozen.
const INSERT_BATCHES: &str = "
    INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset,
        batch_key, population, as_of, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges,
        produced_at, edges_from, fixed_metrics, rf_customers, rf_recency, rf_frequency, rf_monetary)
    SELECT id, $1, partition, recency, frequency, monetary, key, population, as_of, customers, $2, $3,
        ($4::float8[])[6 * n - 5 : 6 * n], ($5::float8[])[6 * n - 5 : 6 * n], ($6::float8[])[6 * n - 5 : 6 * n],
        produced, $17, $18,
        ($19::int4[])[25 * n - 24 : 25 * n],
        CASE WHEN ($20::float8[])[25 * n] <> 'NaN' THEN ($20::float8[])[25 * n - 24 : 25 * n] END,
        CASE WHEN ($21::float8[])[25 * n] <> 'NaN' THEN ($21::float8[])[25 * n - 24 : 25 * n] END,
        CASE WHEN ($22::float8[])[25 * n] <> 'NaN' THEN ($22::float8[])[25 * n - 24 : 25 * n] END
    FROM unnest($7::int8[], $8::int4[], $9::int8[], $10::int8[], $11::int8[], $12::text[], $13::text[],
        $14::timestamptz[], $15::int4[], $16::timestamptz[], $23::int4[])
        AS b (id, partition, recency, frequency, monetary, key, population, as_of, customers, produced, n)";

/// In place of sums that are not finite. Not nulls: Postgres finds its way in an array with nulls only by reading it
/// from the start.
const NO_SUMS: Cells<f64> = [f64::NAN; CELLS];

/// Inserts a row per batch.
fn batches<'a>(
    statements: &mut impl Statements,
    Added { rules, source, ids, scored, .. }: Added<'a>,
) -> Result<(), StoreError> {
    // The edges end to end, six per batch.
    let edges = |metric: Metric| Numbers::of_f64(scored.iter().map(|batch| &batch.cuts[metric].edges[..]));
    let cells = Numbers::of_i32(scored.iter().map(|batch| &batch.grid.customers[..]));
    let sums = |metric: Metric| {
        let of = |batch: &'a Scored| batch.grid.sums[metric].as_ref().map_or(&NO_SUMS[..], |sums| &sums[..]);
        Numbers::of_f64(scored.iter().copied().map(of))
    };
    // Not WITH ORDINALITY: its numbers are bigint, and places in arrays are int.
    let numbers: Vec<i32> = (1..).take(scored.len()).collect();
    let offsets = |metric: Metric| -> Vec<i64> { scored.iter().map(|b| b.offsets[metric]).collect() };
    let partitions: Vec<i32> = scored.iter().map(|batch| batch.partition).collect();
    let keys: Vec<Option<String>> = scored.iter().map(|b| b.key.as_deref().map(key::text)).collect();
    let populations: Vec<Option<&str>> = scored.iter().map(|batch| batch.population.as_deref()).collect();
    let times: Vec<DateTime<Utc>> = scored.iter().map(|batch| batch.as_of).collect();
    let produced: Vec<Option<DateTime<Utc>>> = scored.iter().map(|batch| batch.produced_at).collect();
    // Bounded by `--max-customers`, which is an i32.
    let customers: Vec<i32> = scored.iter().map(|batch| batch.customers() as i32).collect();
    let insert = diesel::sql_query(INSERT_BATCHES)
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
        .bind::<Array<Nullable<Timestamptz>>, _>(produced)
        .bind::<Text, _>(rules.edges.identity())
        .bind::<Nullable<Array<Text>>, _>(rules.edges.named_by_file())
        .bind::<Array<Integer>, _>(cells)
        .bind::<Array<Double>, _>(sums(Metric::Recency))
        .bind::<Array<Double>, _>(sums(Metric::Frequency))
        .bind::<Array<Double>, _>(sums(Metric::Monetary))
        .bind::<Array<Integer>, _>(numbers);
    all_taken("batches", scored.len(), statements.execute(insert)?)
}

/// A row of `dead_letters`; its columns as the migrations describe them.
#[derive(Insertable)]
#[diesel(table_name = schema::dead_letters)]
struct DeadLetterRow<'a> {
    /// The group that refused the message.
    consumer_group: &'a str,
    /// The name of its topic.
    topic: &'a str,
    /// Its partition.
    partition: i32,
    /// Its own offset.
    offset: i64,
    /// Its key, as it came.
    key: Option<&'a [u8]>,
    /// Its body, as it came.
    value: Option<&'a [u8]>,
    /// See [`crate::message::Reason::name`].
    reason: &'a str,
    /// Which message, field and element.
    detail: &'a str,
    /// Kafka's time of the message, if it has one that Postgres can store.
    produced_at: Option<DateTime<Utc>>,
    /// The offset of the recency message of its batch.
    refused_with: Option<i64>,
}

impl DeadLetterRow<'_> {
    /// Bytes of key and value.
    fn bytes(&self) -> usize {
        self.value.map_or(0, <[u8]>::len) + self.key.map_or(0, <[u8]>::len)
    }
}

/// Inserts a row per dead letter.
fn dead_letters(
    statements: &mut impl Statements,
    source: &KafkaSource,
    watch: &Watch,
    parts: &[Part],
) -> Result<(), StoreError> {
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
        refused_with: letter.refused_with,
    });
    let rows: Vec<DeadLetterRow<'_>> = rows.collect();
    portions(&rows).try_for_each(|rows| {
        watch.send("INSERT into `dead_letters`", rows.iter().map(DeadLetterRow::bytes).sum());
        let insert = diesel::insert_into(schema::dead_letters::table).values(rows);
        all_taken("dead_letters", rows.len(), statements.execute(insert)?)
    })
}

/// Cuts rows into portions that each fit into one statement.
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
