//! Moving progress: the last statement of every commit, and the one that makes it exactly-once.

use super::readiness::{Known, SEGMENTS, replaced};
use super::windows::Window;
use super::{Context, Part, StoreError};
use crate::failpoint;
use crate::metric::Metric;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Oid, Text, Uuid as SqlUuid};
use uuid::Uuid;

/// The statement that makes exactly-once true. It changes a row only if nobody else has changed it since this
/// session wrote or read it, and adds one to its count. And only if `segments` is still the table whose
/// columns this session has compared: a COPY would have written floats into whatever they are now. (It holds a
/// lock, so they stay as they are until the end.) What `segments` is now is [`SEGMENTS`], which follows. And only if
/// the partitions that the rows were copied into are still its own: rows of one that somebody detached would be lost.
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
        AND p.tableoid = $2
        AND $17 = (SELECT count(*) FROM pg_inherits i WHERE inhparent = to_regclass('segments') AND inhrelid = ANY($18)
            AND to_jsonb(i) ->> 'inhdetachpending' IS DISTINCT FROM 'true')
        AND $16 = ";

impl Context {
    /// Moves the progress of partitions if each is still as this session knows it.
    pub(super) fn move_progress(
        &self,
        connection: &mut PgConnection,
        parts: &[Part],
        windows: &[Window],
    ) -> Result<(), StoreError> {
        let each = |of: fn(&Part) -> i64| -> Vec<i64> { parts.iter().map(of).collect() };
        let partitions: Vec<i32> = parts.iter().map(|part| part.partition).collect();
        let owners: Vec<Uuid> = parts.iter().map(|part| part.expected.owner).collect();
        let expected =
            |metric: Metric| -> Vec<i64> { parts.iter().map(|part| part.expected.next[metric]).collect() };
        let leader_epochs = |metric: Metric| -> Vec<Option<i32>> {
            parts.iter().map(|part| part.leader_epochs[metric]).collect()
        };
        let used: Vec<u32> = windows.iter().filter_map(|window| window.partition).collect();
        let moved = diesel::sql_query(format!("{COMPARE_AND_SET}{SEGMENTS}"))
            .bind::<Text, _>(&self.source.consumer_group)
            .bind::<Oid, _>(self.known.progress)
            .bind::<Array<Integer>, _>(&partitions)
            .bind::<Array<BigInt>, _>(each(|part| part.expected.epoch))
            .bind::<Array<SqlUuid>, _>(owners)
            .bind::<Array<BigInt>, _>(each(|part| part.expected.commits))
            .bind::<Array<BigInt>, _>(each(|part| part.next.recency))
            .bind::<Array<BigInt>, _>(each(|part| part.next.frequency))
            .bind::<Array<BigInt>, _>(each(|part| part.next.monetary))
            .bind::<Array<BigInt>, _>(expected(Metric::Recency))
            .bind::<Array<BigInt>, _>(expected(Metric::Frequency))
            .bind::<Array<BigInt>, _>(expected(Metric::Monetary))
            .bind::<Array<Nullable<Integer>>, _>(leader_epochs(Metric::Recency))
            .bind::<Array<Nullable<Integer>>, _>(leader_epochs(Metric::Frequency))
            .bind::<Array<Nullable<Integer>>, _>(leader_epochs(Metric::Monetary))
            .bind::<BigInt, _>(self.known.segments)
            .bind::<BigInt, _>(used.len() as i64)
            .bind::<Array<Oid>, _>(&used)
            .execute(connection)?;
        failpoint::reach("after_progress");
        // Without this check, a reader that has lost its partition could still write, and so could one whose
        // server went back in time.
        if moved == parts.len() { Ok(()) } else { Err(self.mismatch(connection, parts, &partitions)?) }
    }

    /// Which part is not as expected, and what is there instead.
    fn mismatch(
        &self,
        connection: &mut PgConnection,
        parts: &[Part],
        partitions: &[i32],
    ) -> Result<StoreError, StoreError> {
        let found = self.find(connection, partitions)?;
        let differs = parts.iter().zip(found).find(|(part, (_, found))| *found != Some(part.expected));
        if let Some((part, (partition, found))) = differs {
            return Ok(StoreError::moved(partition, part.expected, found));
        }
        let now = Known::look(connection)?;
        let windows = || self.check_windows(connection).err();
        Ok(self.known.check_unchanged(now).err().or_else(windows).unwrap_or_else(replaced))
    }
}
