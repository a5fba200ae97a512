//! Rolling to a new window of `segments`, on a connection of its own and never in a commit. (`expiry` takes rows away.)
//!
//! The functions of the migration do what needs the rights of the tables' owner, and look again once they have their
//! locks. **Every transaction here waits for a lock for a moment only**, since commits queue behind it; and a reader
//! that freezes in one loses its connection after half a second. **None makes or takes away anything in the middle
//! of a restore**, when tables may be there without their rows: no session has checked them for this connection.

use super::{Context, Store, StoreError, readiness};
use crate::failpoint;
use crate::postgres::Isolation;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double, Nullable};
use std::time::Duration;

/// For transactions that others may have to wait for.
const BRIEF: &str = "
    SET LOCAL lock_timeout = '150ms';
    SET LOCAL idle_in_transaction_session_timeout = '500ms'";

/// What the sequence and the day say; see the migration.
const WINDOW: &str = "SELECT current, next, is_there FROM rfm_window(make_interval(secs => $1))";

/// A row of [`WINDOW`].
#[derive(QueryableByName)]
pub(super) struct Now {
    /// The window of the next id.
    #[diesel(sql_type = BigInt)]
    pub(super) current: i64,
    /// The window to begin; `None` while the day of the current one lasts.
    #[diesel(sql_type = Nullable<BigInt>)]
    next: Option<i64>,
    /// Whether the current window has a partition. If not, users partitioned the table in their own way.
    #[diesel(sql_type = Bool)]
    is_there: bool,
}

/// The answer of a function.
#[derive(QueryableByName)]
pub(super) struct Done {
    /// Whether it did it.
    #[diesel(sql_type = Bool)]
    pub(super) done: bool,
}

impl Store {
    /// Begins a new window, if the day of the current one is over: first its partition, and once that is committed,
    /// the sequence moves. Returns the window's number.
    ///
    /// # Errors
    /// Those of the statements. The window that there is stays then.
    pub fn roll(&mut self, length: Duration) -> Result<Option<i64>, StoreError> {
        let step = "beginning a window of `segments`";
        let now = self.brief(step, |connection, _| window(connection, length))?;
        let Some(next) = now.next.filter(|_| now.is_there) else { return Ok(None) };
        self.brief(step, |connection, _| {
            readiness::keep_restores_out(connection)?;
            diesel::sql_query("SELECT rfm_prepare_window($1)").bind::<BigInt, _>(next).execute(connection)?;
            failpoint::reach("in_prepare");
            Ok(())
        })?;
        failpoint::reach("after_prepare");
        let entered = self.brief(step, |connection, _| {
            readiness::keep_restores_out(connection)?;
            let entered = diesel::sql_query("SELECT rfm_enter_window($1, make_interval(secs => $2)) AS done")
                .bind::<BigInt, _>(next)
                .bind::<Double, _>(length.as_secs_f64())
                .get_result::<Done>(connection)?;
            failpoint::reach("in_enter");
            Ok(entered.done)
        })?;
        Ok(entered.then_some(next))
    }

    /// Makes the index cover what was stored since it was covered last.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn summarize(&mut self, length: Duration) -> Result<(), StoreError> {
        self.brief("summarizing the index of `segments`", |connection, _| {
            let Now { current, .. } = window(connection, length)?;
            for number in [current - 1, current] {
                diesel::sql_query("SELECT rfm_summarize_window($1)")
                    .bind::<BigInt, _>(number)
                    .execute(connection)?;
            }
            Ok(())
        })
    }

    /// A transaction that holds up nobody.
    pub(super) fn brief<T>(
        &mut self,
        step: &'static str,
        work: impl FnOnce(&mut PgConnection, &Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction(step, Isolation::ReadCommitted, |connection, _, context| {
            connection.batch_execute(BRIEF)?;
            work(connection, context)
        })
    }
}

pub(super) fn window(connection: &mut PgConnection, length: Duration) -> Result<Now, StoreError> {
    Ok(diesel::sql_query(WINDOW).bind::<Double, _>(length.as_secs_f64()).get_result(connection)?)
}
