//! The tables: made when the process starts, and only then; looked at by every later session.
//!
//! **A session that finds tables missing does not make them.** A restore is under way, and whatever is written into it is
//! lost or breaks it; the rows that it has not brought yet look like a group that never was. A restore makes
//! constraints and indexes last, so tables that have theirs are whole.

use super::{Isolation, Store, StoreError};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Oid, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::collections::BTreeSet;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Held while migrating: Diesel takes no lock, and two readers may start at once. Any fixed number does.
const MIGRATION_LOCK: i64 = 0x0052_464D_5354_524D;

/// What the tables had when the process started: each table, and each index that the migrations make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(BTreeSet<String>);

/// Tables, columns and valid indexes: `progress`, `progress.commits`, `progress (consumer_group, partition)`.
/// Indexes of users are nobody's business here.
const INVENTORY: &str = "
    WITH ours AS (
        SELECT oid, relname FROM pg_class WHERE oid IN (to_regclass('batches'), to_regclass('segments'),
            to_regclass('dead_letters'), to_regclass('progress'), to_regclass('sources')))
    SELECT relname::text AS what FROM ours
    UNION
    SELECT format('%s.%s', relname, attname)
    FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT format('%s (%s)', relname, string_agg(attname, ', ' ORDER BY attnum))
    FROM (SELECT ours.relname, i.indexrelid, a.attname, a.attnum
          FROM ours JOIN pg_index i ON i.indrelid = ours.oid AND i.indisvalid
          JOIN pg_attribute a ON a.attrelid = i.indexrelid) columns
    GROUP BY relname, indexrelid";

/// What of the inventory is ours.
const MADE_BY_MIGRATIONS: [&str; 14] = [
    // The newest migration's: a backup of an earlier version lacks it.
    "progress.commits",
    "batches",
    "segments",
    "dead_letters",
    "progress",
    "sources",
    "batches (id)",
    "batches (consumer_group, partition, recency_offset)",
    "batches (consumer_group, partition, frequency_offset)",
    "batches (consumer_group, partition, monetary_offset)",
    "segments (batch_id)",
    "dead_letters (consumer_group, topic, partition, offset)",
    "progress (consumer_group, partition)",
    "sources (consumer_group)",
];

impl Tables {
    /// What is here now.
    fn look(connection: &mut PgConnection) -> QueryResult<Self> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            what: String,
        }
        let rows: Vec<Row> = diesel::sql_query(INVENTORY).load(connection)?;
        let ours = rows.into_iter().map(|row| row.what);
        Ok(Self(ours.filter(|what| MADE_BY_MIGRATIONS.contains(&what.as_str())).collect()))
    }

    /// Whether everything is still here that there was.
    ///
    /// # Errors
    /// [`StoreError::Unready`] names what is missing.
    pub(super) fn check(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let now = Self::look(connection)?;
        let missing: Vec<&str> = self.0.difference(&now.0).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // A table that is missing has no columns and indexes either.
        let tables: Vec<&str> = missing.iter().copied().filter(|what| !what.contains(['(', '.'])).collect();
        Err(StoreError::Unready(if tables.is_empty() {
            format!("columns or indexes are missing: {}", missing.join("; "))
        } else {
            format!("tables are missing: {}", tables.join(", "))
        }))
    }
}

impl Store {
    /// Brings the tables up to date, and binds the group to its source. **At the start of the process only.** Returns
    /// the migrations that were run.
    ///
    /// # Errors
    /// Those of the statements; a migration that fails changes nothing. [`StoreError::OtherSource`].
    pub fn make_tables(&mut self) -> Result<Vec<String>, StoreError> {
        let (run, tables) =
            self.transaction("making the tables", Isolation::Usual, |connection, context| {
                diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
                    .bind::<BigInt, _>(MIGRATION_LOCK)
                    .execute(connection)?;
                let run = connection.run_pending_migrations(MIGRATIONS).map_err(of_migration)?;
                let run: Vec<String> = run.iter().map(ToString::to_string).collect();
                context.bind_source(connection)?;
                Ok((run, Tables::look(connection)?))
            })?;
        self.context.tables = tables;
        self.begin()?;
        Ok(run)
    }

    /// For a later session: looks whether the tables and the group's source are as the process found them when it started.
    ///
    /// # Errors
    /// [`StoreError::Unready`] while something is missing; [`StoreError::OtherSource`];
    /// [`StoreError::Contradiction`].
    pub fn find_tables(&mut self, tables: &Tables) -> Result<(), StoreError> {
        self.context.tables = tables.clone();
        self.context.is_later = true;
        self.begin()
    }

    /// Checks the tables, and notes which table `progress` is.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.context.progress_oid =
            self.transaction("looking at the tables", Isolation::Usual, |connection, context| {
                context.tables.check(connection)?;
                context.check_source(connection)?;
                context.check_sequences(connection)?;
                progress_oid(connection)
            })?;
        Ok(())
    }

    /// What the tables had when the process started.
    pub fn tables(&self) -> &Tables {
        &self.context.tables
    }
}

/// The number of the table `progress`.
pub(super) fn progress_oid(connection: &mut PgConnection) -> Result<u32, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Oid>)]
        oid: Option<u32>,
    }
    let row: Row = diesel::sql_query("SELECT to_regclass('progress')::oid AS oid").get_result(connection)?;
    row.oid.ok_or_else(|| StoreError::Unready("tables are missing: progress".to_owned()))
}

fn of_migration(error: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => StoreError::from(*error),
        Err(error) => StoreError::Statement(error),
    }
}
