//! Taking rows away that `--retain` keeps no longer.
//!
//! **Expiring a batch and taking its rows away are one transaction.** A partition is dropped if nobody needs any batch of
//! its window (`retention`); the function of the migration looks again once it has the locks. Otherwise rows of this
//! group are deleted.

use super::partitions::{Done, Now, window};
use super::windows::IDS;
use super::{Store, StoreError, readiness};
use crate::failpoint;
use crate::postgres::{PostgresError, check_deletes};
use crate::reader::retention::{Holds, Retention, Step, next_step};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Double, Integer, Text};
use std::time::Duration;

/// Rows deleted in one transaction, at least those of one batch.
const ROWS_AT_ONCE: i64 = 200_000;

/// The windows whose first batch is due, or that have none, with what they hold. `$2` and `$3` are seconds.
const HOLDS: &str = "
    WITH windows AS (
        SELECT (substring(pg_get_expr(relpartbound, c.oid) from '''([0-9]+)''')::bigint / 10000000000) AS number
        FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
        WHERE inhparent = to_regclass('segments')
            AND pg_get_expr(relpartbound, c.oid) ~ '^FOR VALUES FROM \\(''[0-9]+''\\) TO \\(''[0-9]*0000000000''\\)$')
    SELECT number, coalesce(ours, 0) AS ours, coalesce(due, 0) AS due, coalesce(overdue, 0) AS overdue,
        coalesce(others, 0) AS others
    FROM windows
    LEFT JOIN LATERAL (SELECT stored_at FROM batches WHERE id >= number * 10000000000 AND id < (number + 1) * 10000000000
        ORDER BY id LIMIT 1) first ON true
    LEFT JOIN LATERAL (
        SELECT count(*) FILTER (WHERE is_ours) AS ours,
            count(*) FILTER (WHERE is_ours AND stored_at < now() - make_interval(secs => $2)) AS due,
            count(*) FILTER (WHERE is_ours AND stored_at < now() - make_interval(secs => $2 + $3)) AS overdue,
            count(*) FILTER (WHERE NOT is_ours) AS others
        FROM (SELECT stored_at, consumer_group = $1 AS is_ours FROM batches
              WHERE id >= number * 10000000000 AND id < (number + 1) * 10000000000
                  AND expired_at IS NULL AND retracted_at IS NULL) live) counted ON true
    WHERE first.stored_at IS NULL OR first.stored_at < now() - make_interval(secs => $2)
    ORDER BY number";

/// A row of [`HOLDS`].
#[derive(QueryableByName)]
struct Contents {
    /// The window.
    #[diesel(sql_type = BigInt)]
    number: i64,
    /// See [`Holds`], as the others.
    #[diesel(sql_type = BigInt)]
    ours: i64,
    /// Due.
    #[diesel(sql_type = BigInt)]
    due: i64,
    /// Overdue.
    #[diesel(sql_type = BigInt)]
    overdue: i64,
    /// Of other groups.
    #[diesel(sql_type = BigInt)]
    others: i64,
}

/// Batches of this group in a window that are older than `$3` seconds.
const DUE: &str = "
    SELECT id, customers FROM batches
    WHERE consumer_group = $1 AND id >= $2 AND id < $2 + 10000000000 AND stored_at < now() - make_interval(secs => $3)
        AND expired_at IS NULL AND retracted_at IS NULL
    ORDER BY id LIMIT 5000";

/// A row of [`DUE`].
#[derive(QueryableByName)]
struct Due {
    /// The batch.
    #[diesel(sql_type = BigInt)]
    id: i64,
    /// Its rows.
    #[diesel(sql_type = Integer)]
    customers: i32,
}

/// Whether a window has a partition, and no batches.
const IS_ORPHANED: &str = "
    SELECT rfm_partition_of_window($1) IS NOT NULL AND NOT EXISTS (
        SELECT FROM batches WHERE id >= $1 * 10000000000 AND id < ($1 + 1) * 10000000000) AS done";

const EXPIRE_ALL: &str = "
    UPDATE batches SET expired_at = now()
    WHERE consumer_group = $1 AND id >= $2 AND id < $2 + 10000000000 AND stored_at < now() - make_interval(secs => $3)
        AND expired_at IS NULL AND retracted_at IS NULL";
const EXPIRE: &str = "
    UPDATE batches SET expired_at = now()
    WHERE id = ANY($1) AND expired_at IS NULL AND retracted_at IS NULL";
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";
const DELETE: &str = "DELETE FROM segments WHERE batch_id BETWEEN $1 AND $2 AND batch_id = ANY($3)";

/// What this role may not do, and `--retain` needs.
const LACKS: &str = "
    SELECT coalesce(string_agg(what, ', '), '') AS lacks, current_user::text AS role
    FROM (VALUES ('UPDATE (expired_at) ON batches', has_column_privilege('batches', 'expired_at', 'UPDATE')),
        ('DELETE ON segments', has_table_privilege('segments', 'DELETE'))) AS rights (what, has) WHERE NOT has";

/// A row of [`LACKS`].
#[derive(QueryableByName)]
struct Lacks {
    /// The rights, as GRANT takes them.
    #[diesel(sql_type = Text)]
    lacks: String,
    /// The role.
    #[diesel(sql_type = Text)]
    role: String,
}

/// What was done in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Batches of this group that were expired.
    pub batches: usize,
    /// Windows whose partition was dropped.
    pub dropped: Vec<i64>,
    /// Rows that were deleted where a partition could not be dropped.
    pub deleted: usize,
    /// Past windows that have rows, and no batch.
    pub orphaned: Vec<i64>,
    /// Whether there is more to do.
    pub more: bool,
}

/// A window in which something is to be done.
#[derive(Clone, Copy, Debug)]
pub struct DueWindow {
    /// Its number.
    number: i64,
    /// What is to be done.
    step: Step,
    /// Batches are expired that were stored longer ago than this.
    older: Duration,
}

impl Store {
    /// The windows that have rows of this group which are to be kept no longer.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn due_windows(
        &mut self,
        Retention { retain, window: length }: Retention,
    ) -> Result<Vec<DueWindow>, StoreError> {
        let Some(retain) = retain else { return Ok(Vec::new()) };
        let (current, windows) = self.brief("looking for expired batches", |connection, context| {
            let Now { current, .. } = window(connection, length)?;
            let held: Vec<Contents> = diesel::sql_query(HOLDS)
                .bind::<Text, _>(&context.source.consumer_group)
                .bind::<Double, _>(retain.as_secs_f64())
                .bind::<Double, _>(length.as_secs_f64())
                .load(connection)?;
            Ok((current, held))
        })?;
        let due = windows.into_iter().map(|Contents { number, ours, due, overdue, others }| {
            let step = next_step(Holds { is_past: number < current, ours, due, overdue, others });
            let older = if step == Step::DeleteOverdue { retain + length } else { retain };
            DueWindow { number, step, older }
        });
        Ok(due.filter(|due| due.step != Step::Keep).collect())
    }

    /// Takes away rows of a window: all of them at once, or a portion. Adds to `expired` what was done.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn expire(&mut self, due: DueWindow, expired: &mut Expired) -> Result<(), StoreError> {
        let DueWindow { number, step, older } = due;
        match step {
            Step::Keep => Ok(()),
            Step::Drop => self.drop_window(number, older, expired),
            Step::Delete | Step::DeleteOverdue => self.delete(number, older, expired),
        }
    }

    /// Expires the due batches of a window and drops its partition; both or nothing.
    fn drop_window(
        &mut self,
        number: i64,
        retain: Duration,
        expired: &mut Expired,
    ) -> Result<(), StoreError> {
        let mut is_needed = false;
        let dropped = self.brief("dropping a window of `segments`", |connection, context| {
            // It may wait for autovacuum: before anybody could wait for this transaction.
            diesel::sql_query("SELECT rfm_hold_window($1)").bind::<BigInt, _>(number).execute(connection)?;
            readiness::keep_restores_out(connection)?;
            let marked = diesel::sql_query(EXPIRE_ALL)
                .bind::<Text, _>(&context.source.consumer_group)
                .bind::<BigInt, _>(number * IDS)
                .bind::<Double, _>(retain.as_secs_f64())
                .execute(connection)?;
            failpoint::reach("before_drop");
            let dropped = diesel::sql_query("SELECT rfm_drop_window($1) AS done")
                .bind::<BigInt, _>(number)
                .get_result::<Done>(connection)?;
            failpoint::reach("in_drop");
            // Another reader stored a batch there meanwhile, or has dropped it.
            is_needed = !dropped.done;
            if is_needed { Err(DieselError::RollbackTransaction.into()) } else { Ok(marked) }
        });
        match dropped {
            Ok(marked) => {
                expired.batches += marked;
                expired.dropped.push(number);
                Ok(())
            }
            Err(_) if is_needed => self.find_orphans(number, expired),
            Err(error) => Err(error),
        }
    }

    /// Notes a window that is still there although it has no batches. Nobody knows whose rows these are.
    fn find_orphans(&mut self, number: i64, expired: &mut Expired) -> Result<(), StoreError> {
        let is_orphaned = self.brief("looking for rows of no batch", |connection, _| {
            let query = diesel::sql_query(IS_ORPHANED).bind::<BigInt, _>(number);
            Ok(query.get_result::<Done>(connection)?.done)
        })?;
        expired.orphaned.extend(is_orphaned.then_some(number));
        Ok(())
    }

    /// Expires batches of this group in a window, and deletes their rows; a portion of them.
    fn delete(&mut self, number: i64, older: Duration, expired: &mut Expired) -> Result<(), StoreError> {
        let (batches, rows, more) = self.brief("deleting expired rows", |connection, context| {
            readiness::keep_restores_out(connection)?;
            let due: Vec<Due> = diesel::sql_query(DUE)
                .bind::<Text, _>(&context.source.consumer_group)
                .bind::<BigInt, _>(number * IDS)
                .bind::<Double, _>(older.as_secs_f64())
                .load(connection)?;
            let ids = portion(&due);
            let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return Ok((0, 0, false)) };
            check_deletes(connection, "segments")?;
            let batches = diesel::sql_query(EXPIRE).bind::<Array<BigInt>, _>(&ids).execute(connection)?;
            connection.batch_execute(BY_INDEX)?;
            let rows = diesel::sql_query(DELETE)
                .bind::<BigInt, _>(first)
                .bind::<BigInt, _>(last)
                .bind::<Array<BigInt>, _>(&ids)
                .execute(connection)?;
            failpoint::reach("in_delete");
            Ok((batches, rows, ids.len() < due.len() || due.len() == 5000))
        })?;
        expired.batches += batches;
        expired.deleted += rows;
        expired.more |= more;
        Ok(())
    }

    /// Checks that this role may do what `--retain` needs.
    ///
    /// # Errors
    /// [`PostgresError::Refused`], which names what it may not; those of the statement.
    pub fn check_right_to_expire(&mut self) -> Result<(), StoreError> {
        let Lacks { lacks, role } = self.brief("checking rights", |connection, _| {
            Ok(diesel::sql_query(LACKS).get_result::<Lacks>(connection)?)
        })?;
        if lacks.is_empty() {
            return Ok(());
        }
        let grants =
            lacks.split(", ").map(|right| format!("GRANT {right} TO \"{}\"", role.replace('"', "\"\"")));
        let hint = format!(
            "--retain needs it; as the owner of the tables: {}",
            grants.collect::<Vec<_>>().join("; ")
        );
        Err(PostgresError::Refused { source: format!("role `{role}` has no right to {lacks}").into(), hint }
            .into())
    }
}

/// The first of these batches, up to [`ROWS_AT_ONCE`].
fn portion(due: &[Due]) -> Vec<i64> {
    let mut rows = 0;
    let fits = |due: &&Due| {
        let is_first = rows == 0;
        rows += i64::from(due.customers);
        is_first || rows <= ROWS_AT_ONCE
    };
    due.iter().take_while(fits).map(|due| due.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_has_whole_batches_and_at_least_one() {
        let due = |customers: &[i32]| -> Vec<Due> {
            customers.iter().zip(1..).map(|(&customers, id)| Due { id, customers }).collect()
        };
        assert_eq!(portion(&due(&[10_000_000, 1])), [1]);
        assert_eq!(portion(&due(&[100_000, 100_000, 1])), [1, 2]);
        assert_eq!(portion(&due(&[])), [0; 0]);
    }
}
