//! The partitions of `segments`: each holds a window of batch ids.
//!
//! Owns where the rows of a commit go. Which window new ids are in, and how long a window lasts, is up to
//! `partitions`. **Rows are copied into a partition only if it stands for the whole table**: the role has the rights,
//! no policy applies, and no trigger of the table would be passed over. Otherwise, and if users partitioned the table
//! in their own way or not at all, they go through the table.

use super::partitions::Done;
use super::{Context, Store, StoreError, readiness};
use crate::postgres::{Isolation, PostgresError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Oid, Text};

/// How many ids a window has. The functions of the migration know it, too.
pub(super) const IDS: i64 = 10_000_000_000;

/// The table as a whole.
pub(super) const WHOLE: &str = "segments";

/// The number of the window that an id is in.
pub(super) fn number(id: i64) -> i64 {
    id.div_euclid(IDS)
}

/// Where the rows of a window go.
#[derive(Clone, Debug, QueryableByName)]
pub(super) struct Window {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub(super) number: i64,
    /// The table, as a statement names it.
    #[diesel(sql_type = Text)]
    pub(super) table: String,
    /// The partition, if the rows go into one directly.
    #[diesel(sql_type = Nullable<Oid>)]
    pub(super) partition: Option<u32>,
    /// Whether there is any table that takes these ids.
    #[diesel(sql_type = Bool)]
    is_there: bool,
}

/// Where rows go. A partition is found by its name, since Postgres locks a table whose bounds it tells. (A COPY into one
/// with other bounds would fail.) Only if there is none of that name, the bounds are looked at. A table that is not
/// partitioned, or partitioned otherwise, takes all ids that it can.
const WINDOWS: &str = "
    SELECT number, CASE WHEN p.is_whole THEN p.name ELSE 'segments' END AS table,
        CASE WHEN p.is_whole THEN p.oid END AS partition,
        CASE WHEN p.oid IS NOT NULL OR EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('segments') AND relkind <> 'p')
            THEN true
            ELSE EXISTS (
                SELECT FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid, pg_get_expr(relpartbound, c.oid) AS bounds
                WHERE inhparent = to_regclass('segments')
                    AND (bounds = format('FOR VALUES FROM (%L) TO (%L)', number * 10000000000, (number + 1) * 10000000000)
                        OR bounds !~ '^FOR VALUES FROM .''(0|[0-9]+0000000000)''. TO .''[0-9]+0000000000''.$'))
            END AS is_there
    FROM unnest($1::int8[]) AS number
    LEFT JOIN LATERAL (
        SELECT c.oid, format('%I.%I', nspname, relname) AS name,
            relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'INSERT')
                AND NOT row_security_active(c.oid)
                AND NOT EXISTS (SELECT FROM pg_trigger
                    WHERE tgrelid = inhparent AND NOT tgisinternal AND tgtype & 1 = 0) AS is_whole
        FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE inhparent = to_regclass('segments') AND relname = format('segments_%s', number)) AS p ON true";

/// How many of these partitions are there still.
const STILL_THERE: &str = "
    SELECT oid FROM unnest($1::oid[]) AS oid WHERE NOT EXISTS (
        SELECT FROM pg_inherits i WHERE inhparent = to_regclass('segments') AND inhrelid = oid
            AND to_jsonb(i) ->> 'inhdetachpending' IS DISTINCT FROM 'true')";

/// The next id that the sequence of `batches` gives, as far as this role may know.
const NEXT_ID: &str = "
    SELECT coalesce(pg_sequence_last_value(seq), 0) + 1 AS id
    FROM (SELECT to_regclass('batches_id_seq') AS seq) s WHERE has_sequence_privilege(seq, 'USAGE')";

/// A row of [`NEXT_ID`].
#[derive(QueryableByName)]
struct NextId {
    /// The id.
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// A row of [`STILL_THERE`].
#[derive(QueryableByName)]
struct Gone {
    /// A partition that is gone.
    #[diesel(sql_type = Oid)]
    oid: u32,
}

impl Context {
    /// Where the rows of batches with these ids go, for each window in which one is. Asks only about windows that this
    /// connection has not used yet.
    pub(super) fn windows_of(
        &self,
        connection: &mut PgConnection,
        ids: &[i64],
    ) -> Result<Vec<Window>, StoreError> {
        let mut numbers: Vec<i64> = ids.iter().map(|id| number(*id)).collect();
        numbers.dedup();
        self.in_use.borrow_mut().clone_from(&numbers);
        let mut known = self.windows.borrow_mut();
        let unknown: Vec<i64> = numbers.iter().copied().filter(|n| !known.contains_key(n)).collect();
        if !unknown.is_empty() {
            for window in look(connection, &unknown)? {
                if !window.is_there {
                    return Err(StoreError::WindowGone { first: window.number * IDS });
                }
                known.insert(window.number, window);
            }
        }
        Ok(numbers.iter().filter_map(|number| known.get(number).cloned()).collect())
    }

    /// Checks that the partitions that this transaction uses are still there. (Retention may have dropped others.)
    pub(super) fn check_windows(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let known = self.windows.borrow();
        let in_use = self.in_use.borrow();
        let used = || in_use.iter().filter_map(|number| known.get(number));
        let partitions: Vec<u32> = used().filter_map(|window| window.partition).collect();
        let gone: Vec<Gone> =
            diesel::sql_query(STILL_THERE).bind::<Array<Oid>, _>(&partitions).load(connection)?;
        let is_gone = |window: &&Window| gone.iter().any(|gone| Some(gone.oid) == window.partition);
        used()
            .find(is_gone)
            .map_or(Ok(()), |window| Err(StoreError::WindowGone { first: window.number * IDS }))
    }
}

fn look(connection: &mut PgConnection, numbers: &[i64]) -> QueryResult<Vec<Window>> {
    diesel::sql_query(WINDOWS).bind::<Array<BigInt>, _>(numbers).load(connection)
}

impl Store {
    /// Makes the partition for the next ids, if there is none: a backup may have the sequence of a later moment than
    /// its tables.
    ///
    /// # Errors
    /// [`StoreError::Unready`] in the middle of a restore; those of the statements.
    pub(super) fn make_window(&mut self) -> Result<(), StoreError> {
        self.transaction("looking at the windows", Isolation::ReadCommitted, |connection, _, _| {
            let next: Option<NextId> = diesel::sql_query(NEXT_ID).get_result(connection).optional()?;
            let Some(next) = next else { return Ok(()) };
            let windows = look(connection, &[number(next.id)])?;
            if windows.iter().any(|window| !window.is_there) {
                // Shorter than `deadlock_timeout`: where this and a restore wait for each other, the restore goes on.
                connection.batch_execute("SET LOCAL lock_timeout = '500ms'")?;
                readiness::keep_restores_out(connection)?;
                if !diesel::sql_query(HAS_FUNCTIONS).get_result::<Done>(connection)?.done {
                    return Err(without_functions().into());
                }
                diesel::sql_query("SELECT rfm_prepare_window($1)")
                    .bind::<BigInt, _>(number(next.id))
                    .execute(connection)?;
            }
            Ok(())
        })
    }
}

/// Whether there is the function that makes windows.
const HAS_FUNCTIONS: &str = "SELECT to_regprocedure('rfm_prepare_window(bigint)') IS NOT NULL AS done";

fn without_functions() -> PostgresError {
    let what =
        "`segments` has no partition for the next batch ids, and the functions that make one are missing";
    let hint = "a backup of single tables lacks them, and the rows of `segments`: restore a backup of the whole database or \
        schema";
    PostgresError::Unsuitable { what: what.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_the_window_whose_bounds_are_around_it() {
        let cases = [(0, 0), (1, 0), (IDS - 1, 0), (IDS, 1), (IDS + 1, 1), (7 * IDS, 7), (-1, -1)];
        for (id, window) in cases {
            assert_eq!(number(id), window, "{id}");
        }
    }
}
