//! Taking the rows of batches away.
//!
//! **The row in `batches` stays, and so its messages stay settled**: the group does not store them again.

use super::{Context, Store, StoreError, Watch};
use crate::failpoint;
use crate::postgres::{Isolation, check_deletes};
use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};

/// A batch as it was before its retraction.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Retracted {
    /// Its id.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The group that stored it.
    #[diesel(sql_type = Text)]
    pub consumer_group: String,
    /// Its partition.
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// The instant of the snapshot.
    #[diesel(sql_type = Timestamptz)]
    pub as_of: DateTime<Utc>,
    /// Whose customers it has.
    #[diesel(sql_type = Nullable<Text>)]
    pub population: Option<String>,
    /// How many customers it had.
    #[diesel(sql_type = Integer)]
    pub customers: i32,
    /// When it was retracted before.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub retracted_at: Option<DateTime<Utc>>,
}

const BATCHES: &str = "
    SELECT id, consumer_group, partition, as_of, population, customers, retracted_at
    FROM batches WHERE id = ANY($1) ORDER BY id";

/// So that two retractions of one batch come one after the other.
const LOCK: &str = " FOR UPDATE";

/// By the index, also where there are no statistics yet.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

impl Store {
    /// Takes the rows of these batches away and marks them, all or none. Returns the batches, and how many
    /// rows they had. With `is_rehearsal` it only looks.
    ///
    /// # Errors
    /// [`StoreError::NotRetractable`] if one is not the group's;
    /// [`crate::postgres::PostgresError::Unsuitable`] if a publication forbids it; those of the statements.
    pub fn retract(&mut self, ids: &[i64], is_rehearsal: bool) -> Result<(Vec<Retracted>, i64), StoreError> {
        self.transaction("retracting batches", Isolation::ReadCommitted, |connection, watch, context| {
            failpoint::reach("after_begin");
            let batches = BATCHES.to_owned() + if is_rehearsal { "" } else { LOCK };
            let batches: Vec<Retracted> =
                diesel::sql_query(batches).bind::<Array<BigInt>, _>(ids).load(connection)?;
            context.check_retractable(ids, &batches)?;
            check_deletes(connection, "segments")?;
            connection.batch_execute(BY_INDEX)?;
            let open: Vec<i64> =
                batches.iter().filter(|batch| batch.retracted_at.is_none()).map(|batch| batch.id).collect();
            let rows = if is_rehearsal { count(connection, &open)? } else { take(connection, watch, &open)? };
            failpoint::reach("before_commit");
            Ok((batches, rows))
        })
    }
}

impl Context {
    /// Checks that all of `ids` are batches of the group.
    fn check_retractable(&self, ids: &[i64], found: &[Retracted]) -> Result<(), StoreError> {
        let group = &self.source.consumer_group;
        let why = ids.iter().find_map(|&id| match found.iter().find(|batch| batch.id == id) {
            None => Some(format!("there is no batch {id}")),
            Some(batch) if batch.consumer_group != *group => Some(format!(
                "batch {id} is of the consumer group `{}`, not of `{group}`",
                batch.consumer_group
            )),
            Some(_) => None,
        });
        why.map_or(Ok(()), |why| Err(StoreError::NotRetractable(why)))
    }
}

/// How many rows the batches have.
fn count(connection: &mut PgConnection, ids: &[i64]) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Count {
        /// How many.
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let count = "SELECT count(*) AS n FROM segments WHERE batch_id = ANY($1)";
    Ok(diesel::sql_query(count).bind::<Array<BigInt>, _>(ids).get_result::<Count>(connection)?.n)
}

/// Deletes the rows of the batches, and marks these. Returns how many rows there were.
fn take(connection: &mut PgConnection, watch: &Watch, ids: &[i64]) -> QueryResult<i64> {
    watch.step("DELETE from `segments`");
    let delete = diesel::sql_query("DELETE FROM segments WHERE batch_id = ANY($1)");
    let rows = delete.bind::<Array<BigInt>, _>(ids).execute(connection)?;
    failpoint::reach("after_delete");
    watch.step("UPDATE of `batches`");
    let mark = diesel::sql_query("UPDATE batches SET retracted_at = now() WHERE id = ANY($1)");
    mark.bind::<Array<BigInt>, _>(ids).execute(connection)?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}
