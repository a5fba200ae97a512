//! Whether the tables are ready for a session: made when the process starts, checked by every later session.
//!
//! **A session that finds tables missing does not make them** (see `postgres::tables`). The rows that a
//! restore has not brought yet look like a group that was never there. And a restore replaces tables while
//! other sessions may write to the old ones, so a session also keeps which they were.

use super::{Context, Store, StoreError};
use crate::postgres::{Client, Isolation, PostgresError, Tables, Warnings, check_suitability, migrate};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Oid};

impl Store {
    /// Brings the tables up to date, and binds the group to its source. **At the start of the process only.**
    /// Returns the migrations that were run, and what is to be known of the database.
    ///
    /// # Errors
    /// Those of the statements; a migration that fails changes nothing. [`StoreError::OtherSource`]. One that says
    /// what is missing although it was made before.
    pub fn make_tables(&mut self) -> Result<(Vec<String>, Warnings), StoreError> {
        let (run, tables) =
            self.transaction("making the tables", Isolation::ReadCommitted, |connection, _, context| {
                context.check_schema(connection)?;
                let run = migrate(connection)?;
                check_suitability(connection)?;
                let tables = Tables::look(connection)?;
                tables.check_whole()?;
                context.bind_source(connection)?;
                Ok((run, tables))
            })?;
        self.context.tables = tables;
        let warnings = self.check_tables()?;
        self.make_window()?;
        Ok((run, warnings))
    }

    /// For a later session: checks that the tables and the group's source are as the process found them when
    /// it started.
    ///
    /// # Errors
    /// [`StoreError::Unready`] while something is missing; [`StoreError::OtherSource`];
    /// [`StoreError::Contradiction`].
    pub fn find_tables(&mut self, tables: &Tables) -> Result<(), StoreError> {
        self.context.tables = tables.clone();
        self.context.is_later = true;
        self.check_tables()?;
        self.make_window()
    }

    /// Checks the tables, and keeps which they are. **Which they are is asked before the columns are compared**:
    /// a change that is committed in between is then noticed, here or by the first commit.
    pub(super) fn check_tables(&mut self) -> Result<Warnings, StoreError> {
        let (known, warnings) =
            self.transaction("checking the tables", Isolation::ReadCommitted, |connection, _, context| {
                context.check_tables(connection)?;
                let known = Known::look(connection)?;
                let warnings = check_suitability(connection)?;
                context.check_source(connection)?;
                context.check_sequences(connection)?;
                known.check_unchanged(Known::look(connection)?)?;
                Ok((known, warnings))
            })?;
        self.context.known = known;
        Ok(warnings)
    }

    /// What the tables had when the process started.
    pub fn tables(&self) -> &Tables {
        &self.context.tables
    }
}

impl Context {
    /// Checks that everything is here that the process found when it started.
    fn check_tables(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let now = Tables::look(connection)?;
        self.tables.missing_in(&now).map_or(Ok(()), |what| Err(StoreError::Unready(what)))
    }

    /// Why a transaction failed: because the connection broke (during COPY that looks like a statement that
    /// fails), because the tables are missing or were replaced (a restore grants rights last), or for a
    /// reason of its own.
    pub(super) fn why_failed(&self, client: &mut Client, error: StoreError) -> StoreError {
        let StoreError::Postgres(error @ (PostgresError::Statement(_) | PostgresError::Refused { .. })) =
            error
        else {
            return error;
        };
        let checked = client.ask("checking the tables", |connection| {
            self.check_tables(connection)?;
            // Before a session has begun there is nothing to compare with.
            if self.known == Known::default() {
                return Ok(());
            }
            self.check_oid(Known::look(connection)?.progress)?;
            self.check_windows(connection)?;
            check_suitability(connection).map(drop).map_err(StoreError::from)
        });
        match (checked, error) {
            (Ok(()), error) => error.into(),
            (Err(missing @ (StoreError::Unready(_) | StoreError::WindowGone { .. })), _) => missing,
            (Err(StoreError::Postgres(PostgresError::Refused { source, .. })), _) if self.is_later => {
                StoreError::Unready(format!("{source} (a restore grants rights last)"))
            }
            (
                Err(StoreError::Postgres(
                    why @ (PostgresError::Refused { .. } | PostgresError::Unsuitable { .. }),
                )),
                _,
            ) => why.into(),
            (Err(_), error) => error.on_broken_connection().into(),
        }
    }

    /// Checks that `oid`, a row's or the name's, is the table `progress` with which this session began.
    pub(super) fn check_oid(&self, oid: u32) -> Result<(), StoreError> {
        if oid == self.known.progress { Ok(()) } else { Err(replaced()) }
    }
}

/// Checks that no restore is under way, and lets none begin to make tables before this transaction ends: **a partition made
/// in the middle of a restore would lack the index that comes last**, and what is not restored yet looks like nothing. A
/// restore drops all tables before it makes the first one, so it waits for the lock on `batches`.
///
/// # Errors
/// [`StoreError::Unready`], and those of the statements.
pub(super) fn keep_restores_out(connection: &mut PgConnection) -> Result<(), StoreError> {
    // Asked before the lock, too: a table that is not there cannot be locked, and that error does not say what is missing.
    check_nothing_missing(connection)?;
    diesel::sql_query("SELECT FROM batches LIMIT 0").execute(connection)?;
    check_nothing_missing(connection)
}

fn check_nothing_missing(connection: &mut PgConnection) -> Result<(), StoreError> {
    Tables::look(connection)?.missing().map_or(Ok(()), |what| Err(StoreError::Unready(what)))
}

/// `progress` is another table than when the session began.
pub(super) fn replaced() -> StoreError {
    StoreError::Unready("the table `progress` was replaced since this session began".to_owned())
}

/// What `segments` is: its table, its file and the types of its columns, in a number that is cheap to compute
/// with every commit. The file is another one once the table was rewritten. A column may be dropped and added
/// with another type in the same file, and a partitioned table has no file.
pub(super) const SEGMENTS: &str = "
    (SELECT sum(attnum * (atttypid::bigint + 1))::bigint # (attrelid::bigint << 31)
            # coalesce(pg_relation_filenode(attrelid), 0)::bigint
     FROM pg_attribute
     WHERE attrelid = to_regclass('segments') AND attnum > 0 AND NOT attisdropped GROUP BY attrelid)";

/// Which tables a session began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The oid of `progress`.
    pub(super) progress: u32,
    /// What `segments` is; see [`SEGMENTS`].
    pub(super) segments: i64,
}

impl Known {
    /// Which they are now.
    pub(super) fn look(connection: &mut PgConnection) -> Result<Self, StoreError> {
        #[derive(QueryableByName)]
        struct Row {
            /// Null if there is no such table.
            #[diesel(sql_type = Nullable<Oid>)]
            progress: Option<u32>,
            /// Null if there is no such table.
            #[diesel(sql_type = Nullable<BigInt>)]
            segments: Option<i64>,
        }
        let known = format!("SELECT to_regclass('progress')::oid AS progress, {SEGMENTS} AS segments");
        let row: Row = diesel::sql_query(known).get_result(connection)?;
        let Some(progress) = row.progress else {
            return Err(StoreError::Unready("tables are missing: progress".to_owned()));
        };
        Ok(Self { progress, segments: row.segments.unwrap_or_default() })
    }

    /// Checks that they are the same `now`.
    pub(super) fn check_unchanged(self, now: Self) -> Result<(), StoreError> {
        match now {
            now if now == self => Ok(()),
            now if now.segments != self.segments => Err(StoreError::Rewritten),
            _ => Err(replaced()),
        }
    }
}
