//! Progress moves: the last statement of every commit, and the one that makes it exactly once.

use super::ownership::made_anew;
use super::{Context, Part, StoreError};
use crate::failpoint;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Oid, Text, Uuid as SqlUuid};
use uuid::Uuid;

/// The statement that makes exactly-once true: it changes a row only if nobody else has since this session wrote or read
/// it, and makes the next one of the count.
const COMPARE_AND_SET: &str = "
    UPDATE progress AS p
    SET recency_next = n.recency, frequency_next = n.frequency, monetary_next = n.monetary,
        recency_leader_epoch = n.recency_epoch, frequency_leader_epoch = n.frequency_epoch,
        monetary_leader_epoch = n.monetary_epoch,
        commits = p.commits + 1,
        updated_at = now()
    FROM unnest($3::int4[], $4::int8[], $5::uuid[], $6::int8[], $7::int8[], $8::int8[], $9::int8[],
            $10::int8[], $11::int8[], $12::int8[], $13::int4[], $14::int4[], $15::int4[])
        AS n (partition, epoch, owner, commits, recency, frequency, monetary,
            recency_was, frequency_was, monetary_was, recency_epoch, frequency_epoch, monetary_epoch)
    WHERE p.consumer_group = $1 AND p.partition = n.partition
        AND p.epoch = n.epoch
        AND p.owner = n.owner
        AND p.commits = n.commits
        AND (p.recency_next, p.frequency_next, p.monetary_next) = (n.recency_was, n.frequency_was, n.monetary_was)
        AND p.tableoid = $2";

impl Context {
    /// Moves the progress of partitions if each is still as this session knows it.
    pub(super) fn move_progress(
        &self,
        connection: &mut PgConnection,
        parts: &[Part],
    ) -> Result<(), StoreError> {
        let each = |of: fn(&Part) -> i64| -> Vec<i64> { parts.iter().map(of).collect() };
        let partitions: Vec<i32> = parts.iter().map(|part| part.partition).collect();
        let owners: Vec<Uuid> = parts.iter().map(|part| part.expected.owner).collect();
        let expected =
            |place: usize| -> Vec<i64> { parts.iter().map(|part| part.expected.next[place]).collect() };
        let leader_epochs = |place: usize| -> Vec<Option<i32>> {
            parts.iter().map(|part| part.leader_epochs[place]).collect()
        };
        let moved = diesel::sql_query(COMPARE_AND_SET)
            .bind::<Text, _>(&self.source.consumer_group)
            .bind::<Oid, _>(self.progress_oid)
            .bind::<Array<Integer>, _>(&partitions)
            .bind::<Array<BigInt>, _>(each(|part| part.expected.epoch))
            .bind::<Array<SqlUuid>, _>(owners)
            .bind::<Array<BigInt>, _>(each(|part| part.expected.commits))
            .bind::<Array<BigInt>, _>(each(|part| part.next[0]))
            .bind::<Array<BigInt>, _>(each(|part| part.next[1]))
            .bind::<Array<BigInt>, _>(each(|part| part.next[2]))
            .bind::<Array<BigInt>, _>(expected(0))
            .bind::<Array<BigInt>, _>(expected(1))
            .bind::<Array<BigInt>, _>(expected(2))
            .bind::<Array<Nullable<Integer>>, _>(leader_epochs(0))
            .bind::<Array<Nullable<Integer>>, _>(leader_epochs(1))
            .bind::<Array<Nullable<Integer>>, _>(leader_epochs(2))
            .execute(connection)?;
        failpoint::reach("after_progress");
        // Without this check, a reader that has lost its partition, or whose server went back in time, could still
        // write.
        if moved == parts.len() { Ok(()) } else { Err(self.mismatch(connection, parts, &partitions)?) }
    }

    /// Which of the parts is not as expected, and what there is instead.
    fn mismatch(
        &self,
        connection: &mut PgConnection,
        parts: &[Part],
        partitions: &[i32],
    ) -> Result<StoreError, StoreError> {
        let found = self.find(connection, partitions)?;
        let differs = parts.iter().zip(found).find(|(part, (_, found))| *found != Some(part.expected));
        // Where no row differs, the table does.
        Ok(differs.map_or_else(made_anew, |(part, (partition, found))| {
            StoreError::moved(partition, part.expected, found)
        }))
    }
}
