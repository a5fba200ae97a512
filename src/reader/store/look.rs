//! Looks at the database that change nothing, for `check`: in read-only transactions that end soon.

use super::{Context, Store, StoreError};
use crate::metric::PerMetric;
use crate::postgres::schema::sources;
use crate::postgres::{Facts, Isolation, Tables, Warnings, check_suitability, clock_skew, pending};
use crate::reader::pairing::Taken;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use std::time::Duration;

/// Locks are not waited for long, and nothing takes long.
const SOON: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'";

/// Dead letters that are counted.
pub const MOST_COUNTED: i64 = 10_000;

/// The group's dead letters by reason, as far as they are counted.
const DEAD_LETTERS: &str = "
    SELECT reason, count(*) AS n FROM (SELECT reason FROM dead_letters WHERE consumer_group = $1 LIMIT $2) letters
    GROUP BY reason ORDER BY n DESC, reason";

/// Under which rules the newest batch of the group was scored.
const RULES: &str = "
    SELECT b.ties, b.segment_map, coalesce(b.edges_from, 'quintiles') AS edges_from
    FROM progress p
    CROSS JOIN LATERAL (SELECT id, ties, segment_map, edges_from FROM batches
        WHERE consumer_group = p.consumer_group AND partition = p.partition
        ORDER BY recency_offset DESC LIMIT 1) b
    WHERE p.consumer_group = $1 ORDER BY b.id DESC LIMIT 1";

/// What begins and drops windows of `segments`, and is not here. All of it comes with the migration.
const LACKS: &str = "
    SELECT coalesce(string_agg(name, ', '), '') AS lacks FROM (
        SELECT name, to_regprocedure(name) IS NOT NULL AS is_there
        FROM unnest(ARRAY['rfm_copy_grants(oid,oid)', 'rfm_check_caller()', 'rfm_partition_of_window(bigint)',
            'rfm_prepare_window(bigint)', 'rfm_window(interval)', 'rfm_enter_window(bigint,interval)',
            'rfm_is_over(bigint)', 'rfm_hold_window(bigint)', 'rfm_drop_window(bigint)',
            'rfm_summarize_window(bigint)']) name
        UNION ALL SELECT 'segments_day', to_regclass('segments_day') IS NOT NULL) needed
    WHERE NOT is_there";

/// A row of [`DEAD_LETTERS`].
#[derive(Debug, QueryableByName)]
pub struct Refused {
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub n: i64,
}

/// A row of [`RULES`].
#[derive(Debug, QueryableByName)]
pub struct StoredRules {
    /// As in `batches`.
    #[diesel(sql_type = Text)]
    pub ties: String,
    /// As in `batches`.
    #[diesel(sql_type = Text)]
    pub segment_map: String,
    /// As in `batches`; that of an earlier version is `quintiles`.
    #[diesel(sql_type = Text)]
    pub edges_from: String,
}

impl Store {
    /// What the server says of itself.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn facts(&mut self) -> Result<Facts, StoreError> {
        self.look(|connection, _| Ok(Facts::ask(connection)?))
    }

    /// How far the clocks differ.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn clock_skew(&mut self) -> Result<Duration, StoreError> {
        self.look(|connection, _| Ok(clock_skew(connection)?))
    }

    /// The migrations that the reader would run when it starts. Checks the tables if there are none.
    ///
    /// # Errors
    /// What would end the reader: [`StoreError::OtherSchema`], a missing right, columns that are not as they
    /// should be.
    pub fn look_at_tables(&mut self) -> Result<(Vec<String>, Warnings), StoreError> {
        self.look(|connection, context| {
            context.check_schema(connection)?;
            let pending = pending(connection)?;
            if !pending.is_empty() {
                return Ok((pending, Warnings::new()));
            }
            let warnings = check_suitability(connection)?;
            Tables::look(connection)?.check_whole()?;
            context.check_sequences(connection)?;
            Ok((pending, warnings))
        })
    }

    /// What begins and drops windows of `segments`, and is not here; empty if nothing is missing.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn missing_for_windows(&mut self) -> Result<String, StoreError> {
        #[derive(QueryableByName)]
        struct Missing {
            /// Their names.
            #[diesel(sql_type = Text)]
            lacks: String,
        }
        self.look(|connection, _| Ok(diesel::sql_query(LACKS).get_result::<Missing>(connection)?.lacks))
    }

    /// Whether there are tables of this program, perhaps of an earlier version.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn has_any_table(&mut self) -> Result<bool, StoreError> {
        self.look(|connection, _| Ok(Tables::look(connection)? != Tables::default()))
    }

    /// Whether the group has its row in `sources`, and so is not a new one.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn knows_group(&mut self) -> Result<bool, StoreError> {
        self.look(|connection, context| {
            let row = sources::table.find(&context.source.consumer_group);
            Ok(diesel::select(diesel::dsl::exists(row)).get_result(connection)?)
        })
    }

    /// Checks that the group's offsets are of this cluster and these topics.
    ///
    /// # Errors
    /// [`StoreError::OtherSource`]; those of the statement.
    pub fn compare_source(&mut self) -> Result<(), StoreError> {
        self.look(|connection, context| context.check_source(connection))
    }

    /// The ids of the topics that are stored.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn stored_topic_ids(&mut self) -> Result<PerMetric<Option<String>>, StoreError> {
        type Ids = (Option<String>, Option<String>, Option<String>);
        self.look(|connection, context| {
            let ids = (sources::recency_topic_id, sources::frequency_topic_id, sources::monetary_topic_id);
            let row = sources::table.find(&context.source.consumer_group).select(ids);
            let found: Option<Ids> = row.first(connection).optional()?;
            Ok(found.map_or_else(PerMetric::default, |(recency, frequency, monetary)| PerMetric {
                recency,
                frequency,
                monetary,
            }))
        })
    }

    /// How far a partition is, and what is settled above that; without taking it.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn look_at_partition(&mut self, partition: i32) -> Result<Taken, StoreError> {
        self.look(|connection, context| context.read_taken(connection, partition))
    }

    /// The group's dead letters by reason; the first [`MOST_COUNTED`] of them.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn dead_letters(&mut self) -> Result<Vec<Refused>, StoreError> {
        self.look(|connection, context| {
            let counted = diesel::sql_query(DEAD_LETTERS)
                .bind::<Text, _>(&context.source.consumer_group)
                .bind::<BigInt, _>(MOST_COUNTED);
            Ok(counted.load(connection)?)
        })
    }

    /// Under which rules the newest batch of the group was scored.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn stored_rules(&mut self) -> Result<Option<StoredRules>, StoreError> {
        self.look(|connection, context| {
            let newest = diesel::sql_query(RULES).bind::<Text, _>(&context.source.consumer_group);
            Ok(newest.get_result(connection).optional()?)
        })
    }

    /// Runs `work` in a transaction that changes nothing and ends soon.
    fn look<T>(
        &mut self,
        work: impl FnOnce(&mut PgConnection, &Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction("looking at the database", Isolation::ReadOnlySnapshot, |connection, _, context| {
            connection.batch_execute(SOON)?;
            work(connection, context)
        })
    }
}
