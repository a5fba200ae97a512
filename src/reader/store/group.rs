//! How far the whole group is, whichever of its readers stored that.

use super::{Store, StoreError};
use crate::coordinates::TopicPartition;
use crate::metric::PerMetric;
use crate::postgres::Isolation;
use crate::postgres::schema::progress;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Text};
use std::ops::Range;

/// Counts the dead letters within ranges of offsets, by the unique index.
const DEAD_LETTERS: &str = r#"
    SELECT count(*) AS n
    FROM unnest($2::text[], $3::int4[], $4::int8[], $5::int8[]) AS r (topic, partition, first, beyond)
    JOIN dead_letters d ON d.consumer_group = $1 AND d.topic = r.topic AND d.partition = r.partition
        AND d."offset" >= r.first AND d."offset" < r.beyond"#;

/// A row of [`DEAD_LETTERS`].
#[derive(QueryableByName)]
struct Count {
    /// How many there are.
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Store {
    /// The group's positions: per partition, the next offset to read of each topic.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn group_positions(&mut self) -> Result<Vec<(i32, PerMetric<i64>)>, StoreError> {
        type Next = (i32, i64, i64, i64);
        let of_group: Vec<Next> =
            self.transaction("reading progress", Isolation::ReadCommitted, |connection, _, context| {
                let rows = progress::table
                    .filter(progress::consumer_group.eq(&context.source.consumer_group))
                    .order(progress::partition)
                    .select((
                        progress::partition,
                        progress::recency_next,
                        progress::frequency_next,
                        progress::monetary_next,
                    ));
                Ok(rows.load(connection)?)
            })?;
        let next = |(partition, recency, frequency, monetary): Next| {
            (partition, PerMetric { recency, frequency, monetary })
        };
        Ok(of_group.into_iter().map(next).collect())
    }

    /// How many dead letters the group has within these ranges of offsets.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn count_dead_letters(&mut self, ranges: &[(TopicPartition, Range<i64>)]) -> Result<i64, StoreError> {
        self.transaction("counting dead letters", Isolation::ReadCommitted, |connection, _, context| {
            let topics: Vec<&str> = ranges.iter().map(|(at, _)| context.source.topic(at.metric)).collect();
            let partitions: Vec<i32> = ranges.iter().map(|(at, _)| at.partition).collect();
            let first: Vec<i64> = ranges.iter().map(|(_, range)| range.start).collect();
            let beyond: Vec<i64> = ranges.iter().map(|(_, range)| range.end).collect();
            let counted = diesel::sql_query(DEAD_LETTERS)
                .bind::<Text, _>(&context.source.consumer_group)
                .bind::<Array<Text>, _>(topics)
                .bind::<Array<Integer>, _>(partitions)
                .bind::<Array<BigInt>, _>(first)
                .bind::<Array<BigInt>, _>(beyond)
                .get_result::<Count>(connection)?;
            Ok(counted.n)
        })
    }
}
