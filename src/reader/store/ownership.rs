//! Whose a partition is, as `progress` says it: taken, read, compared.
//!
//! **A commit moves progress only from exactly the epoch, the owner and the count of commits that its session wrote or
//! read last.** The epoch tells readers apart that take turns. It repeats on a server that went back in time (a
//! restore, a failover to a standby that lagged), so each taking also writes a random owner. And every commit adds
//! one to the count, so that two states under one owner differ, also where their positions do not: what was stored
//! *above* progress may be gone. The positions are compared, too: those that somebody changed by hand are not overwritten.

use super::{Context, Isolation, Store, StoreError, tables};
use crate::message::Metric;
use crate::reader::key;
use crate::reader::pairing::Taken;
use crate::reader::progress::Progress;
use crate::reader::schema::{batches, dead_letters, progress};
use diesel::dsl::now;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Oid, Timestamptz};
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// What `progress` says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Raised by every reader that takes the partition.
    pub epoch: i64,
    /// Random; written by the reader that took the partition. Nil: an earlier version took it.
    pub owner: Uuid,
    /// How many commits have moved the row.
    pub commits: i64,
    /// Per topic, the next offset to read. (The count tells of every commit; these tell of a hand.)
    pub next: [i64; 3],
}

/// `epoch 3, owner 5b0e1c2a, commit 812, at 6/6/6`
impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.simple().to_string();
        let [recency, frequency, monetary] = self.next;
        let Self { epoch, commits, .. } = self;
        let owner = &owner[..8];
        write!(f, "epoch {epoch}, owner {owner}, commit {commits}, at {recency}/{frequency}/{monetary}")
    }
}

/// The three positions of a row of `progress`.
type Next = (i64, i64, i64);
/// A row of `progress`: partition, then the parts of an [`Ownership`].
type Row = (i32, i64, Option<Uuid>, i64, Next);
/// The same as it was just written, with the table's number in place of the owner.
type Written = (i64, i64, u32, Next);

/// The columns of [`Next`].
const NEXT: (progress::recency_next, progress::frequency_next, progress::monetary_next) =
    (progress::recency_next, progress::frequency_next, progress::monetary_next);

impl Ownership {
    fn of_row((partition, epoch, owner, commits, next): Row) -> (i32, Self) {
        (partition, Self { epoch, owner: owner.unwrap_or_default(), commits, next: next.into() })
    }
}

impl Store {
    /// Takes a partition: from here on, a commit of an older owner fails. `beginning` is where its topics begin, for
    /// a group that has no progress in it.
    ///
    /// **Epoch and owner are committed before anything is read**: what an earlier owner still commits, it commits
    /// before that, and so it is seen here. What is read then is one snapshot, and must be under this owner.
    ///
    /// # Errors
    /// [`StoreError::Moved`] and [`StoreError::Unready`] if another server answers meanwhile, or a restore begins; those
    /// of the statements.
    pub fn take(&mut self, partition: i32, beginning: [i64; 3]) -> Result<(Taken, Ownership), StoreError> {
        let expected = self.transaction("taking a partition", Isolation::Usual, |connection, context| {
            context.write_owner(connection, partition, beginning)
        })?;
        // Between the two a pooler may go over to a server that does not know of the first.
        self.transaction("reading progress", Isolation::OneSnapshot, |connection, context| {
            let found = context.find(connection, &[partition])?.pop().and_then(|(_, found)| found);
            if found != Some(expected) {
                return Err(StoreError::moved(partition, expected, found));
            }
            Ok((context.read_taken(connection, partition, expected.epoch)?, expected))
        })
    }

    /// Compares the partitions held with what this session knows. Returns what the table says of each.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn compare(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Ownership>)>, StoreError> {
        self.transaction("comparing progress", Isolation::Usual, |connection, context| {
            context.find(connection, partitions)
        })
    }
}

impl Context {
    /// Raises the epoch and writes a new owner.
    fn write_owner(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        beginning: [i64; 3],
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
            None => self.begin(connection, partition, beginning, owner)?,
        };
        self.is_the_same_table(table)?;
        Ok(Ownership { epoch, owner, commits, next: next.into() })
    }

    /// The first row of a partition. If another reader writes it at the same moment, its epoch is raised.
    fn begin(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        [recency, frequency, monetary]: [i64; 3],
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

    /// Positions, and what is settled above them.
    fn read_taken(
        &self,
        connection: &mut PgConnection,
        partition: i32,
        epoch: i64,
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
        let progress = [
            self.progress(connection, partition, Metric::Recency, recency)?,
            self.progress(connection, partition, Metric::Frequency, frequency)?,
            self.progress(connection, partition, Metric::Monetary, monetary)?,
        ];
        Ok(Taken { partition, epoch, progress })
    }

    /// The progress of one topic: `next` with its leader epoch, and what is settled at or above it, in either table, by
    /// the topic's own offset.
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

    /// What `progress` says of partitions, in their order.
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

    /// Whether `progress` still is the table that it was when the session began, if it has begun.
    pub(super) fn is_table_of_session(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.progress_oid == 0 {
            return Ok(());
        }
        self.is_the_same_table(tables::progress_oid(connection)?)
    }

    /// A restore makes tables anew, and other sessions may write to them before it is done.
    fn is_the_same_table(&self, oid: u32) -> Result<(), StoreError> {
        if oid == self.progress_oid {
            return Ok(());
        }
        Err(made_anew())
    }
}

pub(super) fn made_anew() -> StoreError {
    StoreError::Unready("the table `progress` was replaced since this session began".to_owned())
}

/// Which table a row of `progress` is in: one that is made anew has another number.
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
