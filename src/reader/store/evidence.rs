//! What the tables know of a log that was read, so that another log in its place is recognised.
//!
//! Owns how the finding that a log was cut is kept. Does not make that finding (`reader::session::log`).

use super::taking::offset_of;
use super::{Context, Store, StoreError};
use crate::metric::{Metric, PerMetric};
use crate::postgres::Isolation;
use crate::postgres::schema::{batches, dead_letters, progress};
use crate::reader::key;
use diesel::prelude::*;

/// What is known of the three logs of a partition.
#[derive(Debug)]
pub struct Evidence {
    /// Why the log is known to have been cut.
    pub cut: Option<String>,
    /// Per topic, the last message that is settled below progress: its offset, and its key as text.
    pub last: PerMetric<Option<(i64, Option<String>)>>,
}

impl Store {
    /// What is known of the logs of a partition that was read up to `next`.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn evidence(&mut self, partition: i32, next: PerMetric<i64>) -> Result<Evidence, StoreError> {
        self.transaction("reading progress", Isolation::ReadOnlySnapshot, |connection, _, context| {
            let cut = progress::table
                .find((&context.source.consumer_group, partition))
                .select(progress::log_cut)
                .first(connection)?;
            let last = PerMetric::try_from_fn(|metric| {
                context.last_settled(connection, partition, metric, next[metric])
            })?;
            Ok(Evidence { cut, last })
        })
    }

    /// Keeps the finding that the log of a partition was cut; the first one stays.
    ///
    /// **Whatever the epoch**: it is about the log, and so it holds for every owner.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn keep_cut(&mut self, partition: i32, why: &str) -> Result<(), StoreError> {
        self.transaction(
            "recording that a log was cut",
            Isolation::ReadCommitted,
            |connection, _, context| {
                diesel::update(progress::table.find((&context.source.consumer_group, partition)))
                    .filter(progress::log_cut.is_null())
                    .set(progress::log_cut.eq(why))
                    .execute(connection)?;
                Ok(())
            },
        )
    }
}

impl Context {
    /// The last message of a topic that is settled below `next`. Reads one index entry of each table.
    fn last_settled(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        metric: Metric,
        next: i64,
    ) -> Result<Option<(i64, Option<String>)>, StoreError> {
        let refused: Option<(i64, Option<Vec<u8>>)> = dead_letters::table
            .select((dead_letters::offset, dead_letters::key))
            .filter(dead_letters::consumer_group.eq(&self.source.consumer_group))
            .filter(dead_letters::topic.eq(self.source.topic(metric)))
            .filter(dead_letters::partition.eq(partition))
            .filter(dead_letters::offset.lt(next))
            .order(dead_letters::offset.desc())
            .first(connection)
            .optional()?;
        let refused = refused.map(|(offset, key)| (offset, key.as_deref().map(key::text)));
        let stored: Option<(i64, Option<String>)> = batches::table
            .select((offset_of(metric), batches::batch_key))
            .filter(batches::consumer_group.eq(&self.source.consumer_group))
            .filter(batches::partition.eq(partition))
            .filter(offset_of(metric).lt(next))
            .order(offset_of(metric).desc())
            .first(connection)
            .optional()?;
        Ok(refused.max(stored))
    }
}
