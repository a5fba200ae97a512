//! The page's questions to the database. They change nothing.
//!
//! **None of them reads more for a population with more snapshots**: a list ends at its limit by the index
//! `batches_snapshots`, and all else is found by the ids of batches. Where a population has fewer snapshots than
//! the limit, the rest of the index is read, but no row of another population. Only the names of all populations,
//! which are asked for seldom, and a population that is named by its hash take a look at every batch.

mod rows;

pub use rows::{Batch, Cell, Move, Population, Rule, Snapshot, Summary, Version};

use super::request::{HASHED, Named};
use crate::postgres::PostgresError;
use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use std::cmp::Reverse;
use std::time::Duration;

/// How many populations the page offers.
const MOST_POPULATIONS: i64 = 1000;

/// Whether a batch is of any population.
const OF_ALL: &str = "$2::text IS NULL AND $5::bigint IS NULL";

/// Whether a batch is of the population that `$2` names and whose hash is `$5`; see [`Named`]. **The index has
/// the hash**, so that nothing else of other populations is read.
const OF_POPULATION: &str =
    "coalesce(hashtextextended(population, 0), 0) = $5 AND (coalesce(population, '') = $2 OR octet_length(population) > 300
    AND 'sha256:' || encode(sha256(convert_to(population, 'UTF8')), 'hex') = $2)";

/// The hashes of the populations that `$1` names: of no population and of the empty name, or of a name.
const HASHES: &str =
    "SELECT 0::bigint AS hash WHERE $1 = '' UNION SELECT hashtextextended($1, 0) ORDER BY hash";

/// The same, if `$1` may be the SHA-256 of a long name. All batches are looked at.
const HASHES_OF_LONG: &str = "
    SELECT hashtextextended(population, 0) AS hash FROM batches
    WHERE octet_length(population) > 300 AND 'sha256:' || encode(sha256(convert_to(population, 'UTF8')), 'hex') = $1
    UNION SELECT hashtextextended($1, 0) ORDER BY hash";

/// Of several batches for one `as_of`, the first of this order counts, as in the view `snapshots`.
const COUNTS_FIRST: &str = "produced_at DESC NULLS LAST, batch_key COLLATE \"C\" DESC NULLS LAST, partition DESC, recency_offset DESC";

/// The snapshots of the group, newest first: what the view `snapshots` has, which reads the batches of all
/// populations up to its limit. **It walks from time to time, so that it reads no more than it lists**, if the
/// planner has no other choice ([`WALK`]).
const SNAPSHOTS: &str = "
    WITH RECURSIVE walk (at, place) AS (
        (SELECT as_of, 1 FROM batches
        WHERE consumer_group = $1 AND ($3::timestamptz IS NULL OR as_of <= $3) AND retracted_at IS NULL AND OF_POPULATION
        ORDER BY as_of DESC LIMIT 1)
        UNION ALL
        SELECT earlier.as_of, place + 1 FROM walk CROSS JOIN LATERAL (
            SELECT as_of FROM batches
            WHERE consumer_group = $1 AND as_of < walk.at AND retracted_at IS NULL AND OF_POPULATION
            ORDER BY as_of DESC LIMIT 1
        ) AS earlier
        WHERE place < $4
    ), listed AS (
        SELECT l.* FROM walk CROSS JOIN LATERAL (
            SELECT DISTINCT ON (population) id, consumer_group, population, as_of, produced_at, customers,
                expired_at IS NOT NULL AS expired, segment_map, rf_customers, edges_from, fixed_metrics, recency_edges,
                frequency_edges, monetary_edges
            FROM batches
            WHERE consumer_group = $1 AND as_of = walk.at AND retracted_at IS NULL AND OF_POPULATION
            ORDER BY population DESC, COUNTS_FIRST
        ) AS l
        LIMIT $4
    )
    SELECT l.id AS batch_id, l.consumer_group, l.population, l.as_of, l.produced_at, l.customers, l.expired,
        l.segment_map, l.rf_customers, p.id AS previous_batch_id,
        CASE WHEN l.edges_from LIKE 'batch:%' THEN 0
            WHEN l.edges_from <> 'quintiles' AND l.fixed_metrics IS NULL THEN NULL ELSE (
            SELECT count(*)::int
            FROM (VALUES ('recency', l.recency_edges), ('frequency', l.frequency_edges), ('monetary', l.monetary_edges))
                AS metrics (name, edges)
            CROSS JOIN generate_series(1, 5) AS i
            WHERE edges[i] = edges[i + 1] AND name <> ALL (coalesce(l.fixed_metrics, '{}'))) END AS empty_quintiles
    FROM listed AS l
    LEFT JOIN LATERAL (
        SELECT id FROM batches b
        WHERE b.consumer_group = $1 AND b.as_of < l.as_of AND b.retracted_at IS NULL
            AND b.population IS NOT DISTINCT FROM l.population
            AND coalesce(hashtextextended(b.population, 0), 0) = coalesce(hashtextextended(l.population, 0), 0)
        ORDER BY as_of DESC, COUNTS_FIRST LIMIT 1
    ) AS p ON true
    ORDER BY l.as_of DESC, l.population DESC";

/// While [`SNAPSHOTS`] are read, the index on time and group is the only way to their order. (The planner
/// cannot know how many batches are of a population that a parameter names, and would rather sort them all.)
const WALK: &str =
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off";
const WALKED: &str = "SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL enable_bitmapscan TO DEFAULT; SET LOCAL enable_sort TO DEFAULT";

/// A batch of the group, whether it counts or not.
const BATCH: &str = "
    SELECT id AS batch_id, population, as_of, produced_at, stored_at, customers, ties, segment_map, edges_from,
        expired_at IS NOT NULL AS expired, retracted_at IS NOT NULL AS retracted
    FROM batches WHERE consumer_group = $1 AND id = $2";

/// The 25 cells of a batch, from `11` to `55`.
const CELLS: &str = "
    SELECT m.rf_score, m.segment, b.rf_customers[cell] AS customers, b.rf_recency[cell] AS recency,
        b.rf_frequency[cell] AS frequency, b.rf_monetary[cell] AS monetary
    FROM batches b JOIN segment_maps m USING (segment_map)
    CROSS JOIN LATERAL (SELECT 5 * (left(m.rf_score, 1)::int - 1) + right(m.rf_score, 1)::int AS cell) AS place
    WHERE b.id = $1 ORDER BY m.rf_score";

/// The segments of batches.
const SUMMARIES: &str = "
    SELECT batch_id, segment, customers::bigint, share::float8, mean_recency::float8, mean_frequency::float8,
        monetary::float8, monetary_share::float8
    FROM segment_summary WHERE batch_id = ANY ($1) ORDER BY batch_id, segment COLLATE \"C\"";

/// The segments of scores.
const MAPS: &str = "SELECT segment_map, rf_score, segment FROM segment_maps WHERE segment_map = ANY ($1)";

/// The populations of the group, with the names that addresses have for them.
const POPULATIONS: &str = "
    SELECT DISTINCT CASE WHEN octet_length(population) > 300
            THEN 'sha256:' || encode(sha256(convert_to(population, 'UTF8')), 'hex')
            ELSE coalesce(population, '') END AS named,
        left(coalesce(population, ''), 300) AS begins
    FROM SOURCE WHERE consumer_group = $1 AND retracted_at IS NULL ORDER BY named LIMIT $2";
/// Where [`POPULATIONS`] come from.
const ALL: &str = "batches";
const NEWEST: &str = "(SELECT * FROM batches ORDER BY id DESC LIMIT 1000) AS newest";

/// Changes with every commit of the group, and with every batch of another one.
const VERSION: &str = "
    SELECT coalesce((SELECT max(id) FROM batches), 0)::bigint AS newest,
        coalesce((SELECT sum(commits) FROM progress WHERE consumer_group = $1), 0)::bigint AS commits";

/// How many of these batches are there with their rows, as far as their rows of `batches` say.
const THERE: &str = "
    SELECT count(*) AS number FROM batches
    WHERE consumer_group = $1 AND id = ANY ($2) AND retracted_at IS NULL AND expired_at IS NULL";

/// Whether the first row of a batch has an id; no row if the batch has none. (The planner takes the rows of a batch to
/// lie anywhere in their partition, and would look for the first one from its beginning.)
const HAS_IDS: &str = "SELECT customer_id IS NOT NULL AS yes FROM segments WHERE batch_id = $1 LIMIT 1";

/// A connection for one moment, and whose batches are asked for.
pub struct Queries<'a> {
    /// The connection, in a transaction that only reads.
    pub connection: &'a mut PgConnection,
    /// The group.
    pub group: &'a str,
}

/// A result of these queries.
type Asked<T> = Result<T, PostgresError>;

impl Queries<'_> {
    /// No statement takes longer from here on, nor waits long for a lock, nor takes a second processor.
    /// (Compiling takes longer than any of these statements.)
    pub fn within(&mut self, limit: Duration) -> Asked<()> {
        let milliseconds = limit.as_millis();
        Ok(self.connection.batch_execute(&format!(
            "SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = 1000;
             SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off"
        ))?)
    }

    /// In which state the tables are.
    pub fn version(&mut self) -> Asked<Version> {
        Ok(diesel::sql_query(VERSION).bind::<Text, _>(self.group).get_result(self.connection)?)
    }

    /// The populations: of all batches, or of the newest only.
    pub fn populations(&mut self, of_all: bool) -> Asked<Vec<Population>> {
        let query = POPULATIONS.replace("SOURCE", if of_all { ALL } else { NEWEST });
        let query = diesel::sql_query(query).bind::<Text, _>(self.group).bind::<BigInt, _>(MOST_POPULATIONS);
        Ok(query.load(self.connection)?)
    }

    /// Snapshots, newest first: of a population or of all, up to a time or all.
    pub fn snapshots(
        &mut self,
        population: Option<&Named>,
        until: Option<DateTime<Utc>>,
        limit: u16,
    ) -> Asked<Vec<Snapshot>> {
        let (condition, hashes) = match population {
            None => (OF_ALL, vec![None]),
            Some(named) => (OF_POPULATION, self.hashes(named)?.into_iter().map(Some).collect()),
        };
        let query = SNAPSHOTS.replace("OF_POPULATION", condition).replace("COUNTS_FIRST", COUNTS_FIRST);
        self.connection.batch_execute(WALK)?;
        let mut snapshots: Vec<Snapshot> = Vec::new();
        for hash in hashes {
            let query = diesel::sql_query(&query)
                .bind::<Text, _>(self.group)
                .bind::<Nullable<Text>, _>(population)
                .bind::<Nullable<Timestamptz>, _>(until)
                .bind::<BigInt, _>(i64::from(limit))
                .bind::<Nullable<BigInt>, _>(hash);
            snapshots.extend(query.load::<Snapshot>(self.connection)?);
        }
        self.connection.batch_execute(WALKED)?;
        if population.is_some() {
            snapshots.sort_by_key(|snapshot| (Reverse(snapshot.as_of), snapshot.population.is_some()));
            snapshots.truncate(limit.into());
        }
        Ok(snapshots)
    }

    /// By which hashes the populations of this name are found.
    fn hashes(&mut self, named: &Named) -> Asked<Vec<i64>> {
        #[derive(QueryableByName)]
        struct Row {
            /// One of them.
            #[diesel(sql_type = BigInt)]
            hash: i64,
        }
        let query = if named.starts_with(HASHED) { HASHES_OF_LONG } else { HASHES };
        let rows: Vec<Row> = diesel::sql_query(query).bind::<Text, _>(named).load(self.connection)?;
        Ok(rows.into_iter().map(|row| row.hash).collect())
    }

    /// A batch of the group.
    pub fn batch(&mut self, id: i64) -> Asked<Option<Batch>> {
        let query = diesel::sql_query(BATCH).bind::<Text, _>(self.group).bind::<BigInt, _>(id);
        Ok(query.get_result(self.connection).optional()?)
    }

    /// The 25 cells of a batch; none if its map is not known.
    pub fn cells(&mut self, id: i64) -> Asked<Vec<Cell>> {
        Ok(diesel::sql_query(CELLS).bind::<BigInt, _>(id).load(self.connection)?)
    }

    /// The segments of batches.
    pub fn summaries(&mut self, ids: &[i64]) -> Asked<Vec<Summary>> {
        Ok(diesel::sql_query(SUMMARIES).bind::<Array<BigInt>, _>(ids).load(self.connection)?)
    }

    /// The segments of scores in these maps.
    pub fn maps(&mut self, maps: &[&str]) -> Asked<Vec<Rule>> {
        Ok(diesel::sql_query(MAPS).bind::<Array<Text>, _>(maps).load(self.connection)?)
    }

    /// Whether the rows of both batches are there, as far as `batches` says.
    pub fn are_there(&mut self, one: i64, other: i64) -> Asked<bool> {
        #[derive(QueryableByName)]
        struct Row {
            /// How many of them.
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let query =
            diesel::sql_query(THERE).bind::<Text, _>(self.group).bind::<Array<BigInt>, _>(vec![one, other]);
        let row: Row = query.get_result(self.connection)?;
        Ok(row.number == if one == other { 1 } else { 2 })
    }

    /// Whether the customers of a batch have ids; `None` if it has no rows.
    pub fn has_ids(&mut self, id: i64) -> Asked<Option<bool>> {
        #[derive(QueryableByName)]
        struct Row {
            /// Whether they have.
            #[diesel(sql_type = Bool)]
            yes: bool,
        }
        self.connection.batch_execute("SET LOCAL enable_seqscan = off")?;
        let row: Option<Row> =
            diesel::sql_query(HAS_IDS).bind::<BigInt, _>(id).get_result(self.connection).optional()?;
        self.connection.batch_execute("SET LOCAL enable_seqscan TO DEFAULT")?;
        Ok(row.map(|row| row.yes))
    }

    /// How many customers went from which segment to which.
    pub fn moves(&mut self, from: i64, to: i64) -> Asked<Vec<Move>> {
        let query =
            diesel::sql_query("SELECT from_segment, to_segment, customers FROM segment_moves($1, $2)");
        Ok(query.bind::<BigInt, _>(from).bind::<BigInt, _>(to).load(self.connection)?)
    }
}
