//! Taking partitions, and reading what `progress` says of them.
//!
//! **Epoch and owner are committed before anything is read** (`Store::take`).

use super::ownership::Ownership;
use super::{Context, Store, StoreError};
use crate::metric::{Metric, PerMetric};
use crate::postgres::Isolation;
use crate::postgres::schema::{batches, dead_letters, progress};
use crate::reader::key;
use crate::reader::pairing::Taken;
use crate::reader::progress::Progress;
use diesel::dsl::now;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Oid, Timestamptz};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The three positions of a row of `progress`.
type Next = (i64, i64, i64);
/// A row of `progress`: partition, then the parts of an [`Ownership`].
type Row = (i32, i64, Option<Uuid>, i64, Next);
/// The same as it was just written, with the table's oid in place of the owner.
type Written = (i64, i64, u32, Next);

/// The columns of [`Next`].
const NEXT: (progress::recency_next, progress::frequency_next, progress::monetary_next) =
    (progress::recency_next, progress::frequency_next, progress::monetary_next);

impl Ownership {
    fn of_row((partition, epoch, owner, commits, next): Row) -> (i32, Self) {
        (
            partition,
            Self {
                epoch,
                owner: owner.unwrap_or_default(),
                commits,
                next: PerMetric::from(<[i64; 3]>::from(next)),
            },
        )
    }
}

impl Store {
    /// Takes a partition: from here on, a commit of an earlier owner fails. If the group has no progress in
    /// it, it starts at `beginning`, per topic.
    ///
    /// **Epoch and owner are committed before anything is read.** So whatever an earlier owner commits, it
    /// has committed before that, and it is seen here. All is read from one snapshot, which must have this
    /// owner.
    ///
    /// # Errors
    /// [`StoreError::Moved`] or [`StoreError::Unready`] if another server answers meanwhile or a restore
    /// begins; those of the statements.
    pub fn take(
        &mut self,
        partition: i32,
        beginning: PerMetric<i64>,
    ) -> Result<(Taken, Ownership), StoreError> {
        let expected =
            self.transaction("taking a partition", Isolation::ReadCommitted, |connection, _, context| {
                context.write_owner(connection, partition, beginning)
            })?;
        // Between the two transactions a pooler may switch to a server that does not know the first.
        self.transaction("reading progress", Isolation::ReadOnlySnapshot, |connection, _, context| {
            let found = context.find(connection, &[partition])?.pop().and_then(|(_, found)| found);
            if found != Some(expected) {
                return Err(StoreError::moved(partition, expected, found));
            }
            Ok((context.read_taken(connection, partition)?, expected))
        })
    }

    /// What is settled of a partition, without taking it.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn settled(&mut self, partition: i32) -> Result<Taken, StoreError> {
        self.transaction("reading progress", Isolation::ReadOnlySnapshot, |connection, _, context| {
            context.read_taken(connection, partition)
        })
    }

    /// What `progress` says of each partition now.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn compare(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Ownership>)>, StoreError> {
        self.transaction("comparing progress", Isolation::ReadCommitted, |connection, _, context| {
            context.find(connection, partitions)
        })
    }
}

impl Context {
    /// Raises the epoch of a partition and writes a new owner.
    fn write_owner(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        beginning: PerMetric<i64>,
    ) -> Result<Ownership, StoreError> {
        let owner = Uuid::new_v4();
        let written = (
            progress::epoch.eq(progress::epoch + 1),
            progress::owner.eq(Some(owner)),
            progress::updated_at.eq(now.into_sql::<Timestamptz>().nullable()),
        );
        let raised = diesel::update(progress::table.find((&self.source.consumer_group, partition)))
            .set(written)
            .returning((progress::epoch, progress::commits, table_id(), NEXT))
            .get_result(connection)
            .optional()?;
        let (epoch, commits, table, next): Written = match raised {
            Some(raised) => raised,
            None => self.insert_first(connection, partition, beginning, owner)?,
        };
        self.check_oid(table)?;
        Ok(Ownership { epoch, owner, commits, next: PerMetric::from(<[i64; 3]>::from(next)) })
    }

    /// Inserts the first row of a partition. If another reader has just inserted it, raises its epoch.
    fn insert_first(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        PerMetric { recency, frequency, monetary }: PerMetric<i64>,
        owner: Uuid,
    ) -> Result<Written, StoreError> {
        let row = (
            progress::consumer_group.eq(&self.source.consumer_group),
            progress::partition.eq(partition),
            progress::epoch.eq(1),
            progress::recency_next.eq(recency),
            progress::frequency_next.eq(frequency),
            progress::monetary_next.eq(monetary),
            progress::owner.eq(Some(owner)),
            progress::updated_at.eq(now.into_sql::<Timestamptz>().nullable()),
        );
        let begun = diesel::insert_into(progress::table)
            .values(row)
            .on_conflict((progress::consumer_group, progress::partition))
            .do_update()
            .set((progress::epoch.eq(progress::epoch + 1), progress::owner.eq(Some(owner))))
            .returning((progress::epoch, progress::commits, table_id(), NEXT))
            .get_result(connection)?;
        Ok(begun)
    }

    /// Reads the positions, and what is settled above them.
    pub(super) fn read_taken(
        &self,
        connection: &mut PgConnection,
        partition: i32,
    ) -> Result<Taken, StoreError> {
        type Position = (i64, Option<i32>);
        let (recency, frequency, monetary): (Position, Position, Position) = progress::table
            .find((&self.source.consumer_group, partition))
            .select((
                (progress::recency_next, progress::recency_leader_epoch),
                (progress::frequency_next, progress::frequency_leader_epoch),
                (progress::monetary_next, progress::monetary_leader_epoch),
            ))
            .first(connection)?;
        let positions = PerMetric { recency, frequency, monetary };
        let progress =
            PerMetric::try_from_fn(|metric| self.progress(connection, partition, metric, positions[metric]))?;
        Ok(Taken { partition, progress })
    }

    /// The progress of one topic: `next` with its leader epoch, and what is settled at or above `next` in
    /// either table, by the topic's offset.
    fn progress(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        metric: Metric,
        (next, leader_epoch): (i64, Option<i32>),
    ) -> Result<Progress, StoreError> {
        let refused = dead_letters::table
            .select((dead_letters::offset, dead_letters::key))
            .filter(dead_letters::consumer_group.eq(&self.source.consumer_group))
            .filter(dead_letters::topic.eq(self.source.topic(metric)))
            .filter(dead_letters::partition.eq(partition))
            .filter(dead_letters::offset.ge(next))
            .load::<(i64, Option<Vec<u8>>)>(connection)?;
        let refused = refused.into_iter().map(|(offset, key)| (offset, key.as_deref().map(key::text)));
        let stored = batches::table
            .select((offset_of(metric), batches::batch_key))
            .filter(batches::consumer_group.eq(&self.source.consumer_group))
            .filter(batches::partition.eq(partition))
            .filter(offset_of(metric).ge(next))
            .load::<(i64, Option<String>)>(connection)?;
        let settled: BTreeMap<i64, Option<String>> = refused.chain(stored).collect();
        Ok(Progress::resume(next, settled, leader_epoch))
    }

    /// What `progress` says of partitions, in the order given.
    pub(super) fn find(
        &self,
        connection: &mut PgConnection,
        partitions: &[i32],
    ) -> Result<Vec<(i32, Option<Ownership>)>, StoreError> {
        let rows: Vec<Row> = progress::table
            .filter(progress::consumer_group.eq(&self.source.consumer_group))
            .filter(progress::partition.eq_any(partitions))
            .select((progress::partition, progress::epoch, progress::owner, progress::commits, NEXT))
            .load(connection)?;
        let rows: Vec<_> = rows.into_iter().map(Ownership::of_row).collect();
        let found = |p: i32| rows.iter().find(|(partition, _)| *partition == p).map(|(_, found)| *found);
        Ok(partitions.iter().map(|&p| (p, found(p))).collect())
    }
}

/// The oid of the table that a row of `progress` is in. A table that was created again has another one.
fn table_id() -> SqlLiteral<Oid> {
    diesel::dsl::sql("progress.tableoid")
}

/// The column of `batches` that holds the offset of a metric's message.
pub(super) fn offset_of(metric: Metric) -> Box<dyn BoxableExpression<batches::table, Pg, SqlType = BigInt>> {
    match metric {
        Metric::Recency => Box::new(batches::recency_offset),
        Metric::Frequency => Box::new(batches::frequency_offset),
        Metric::Monetary => Box::new(batches::monetary_offset),
    }
}
