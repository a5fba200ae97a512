//! The segments of the map that a reader works with, in `segment_maps`: views name a batch's segments from there.
//!
//! **Written in a transaction of its own, which ends at once**: a commit that wrote them would hold locks on them, and a
//! reader that froze in it would block its successor.

use super::{Store, StoreError, insert};
use crate::postgres::Isolation;
use crate::postgres::schema::segment_maps;
use crate::reader::segment::SegmentMap;
use diesel::prelude::*;

/// A row of `segment_maps`.
#[derive(Insertable)]
#[diesel(table_name = segment_maps)]
pub(super) struct MapRow<'a> {
    /// See [`SegmentMap::identity`].
    segment_map: &'a str,
    /// Recency score and frequency score.
    rf_score: String,
    /// The segment.
    segment: &'a str,
}

/// The rows of a map, one for each score.
pub(super) fn rows(map: &SegmentMap) -> Vec<MapRow<'_>> {
    let scores = (1..=5).flat_map(|recency| (1..=5).map(move |frequency| (recency, frequency)));
    let row = |(recency, frequency)| MapRow {
        segment_map: map.identity(),
        rf_score: format!("{recency}{frequency}"),
        segment: map.segment(recency, frequency),
    };
    scores.map(row).collect()
}

impl Store {
    /// Writes the rows of a map if they are not all there. **To be called before a batch is stored under it**, in every
    /// session: a backup that was restored meanwhile may be from a time before the map was used.
    ///
    /// # Errors
    /// Those of the statements; [`StoreError::KeptOut`].
    pub fn keep_segment_map(&mut self, map: &SegmentMap) -> Result<(), StoreError> {
        self.transaction("keeping the segment map", Isolation::ReadCommitted, |connection, _, _| {
            let rows = rows(map);
            let of_map = segment_maps::table.filter(segment_maps::segment_map.eq(map.identity()));
            let kept: i64 = of_map.count().get_result(connection)?;
            if kept == rows.len() as i64 {
                return Ok(());
            }
            diesel::insert_into(segment_maps::table)
                .values(&rows)
                .on_conflict_do_nothing()
                .execute(connection)?;
            let kept: i64 = of_map.count().get_result(connection)?;
            insert::all_taken("segment_maps", rows.len(), kept as usize)
        })
    }
}
