//! A commit that is tried and taken back, for `check`: whether the role may do all that a commit does, and whether
//! triggers, rules and constraints let it.
//!
//! **It uses no number that a reader could use**: a partition and offsets that no log reaches, the last id of the
//! newest window, and no sequence. So it is in nobody's way, and leaves no gap.

use super::insert::Added;
use super::{Store, StoreError, maps, windows};
use crate::message::Message;
use crate::metric::{Metric, PerMetric};
use crate::postgres::schema::{dead_letters, progress, segment_maps, sources};
use crate::postgres::{Isolation, Rehearsal, Statements};
use crate::reader::pairing::Batch;
use crate::reader::score::{Rules, Scored, score};
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel::sql_types::BigInt;
use uuid::Uuid;

/// No topic has so many partitions, and no log is so long.
const PARTITION: i32 = i32::MAX;
const OFFSET: i64 = i64::MAX / 2;

const LAST_ID: &str = "SELECT coalesce(pg_sequence_last_value('batches_id_seq'), 0) AS id";

/// What [`LAST_ID`] answers.
#[derive(QueryableByName)]
struct Last {
    /// The last id that was given.
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl Store {
    /// Tries all that a session and its commits write, and takes it back.
    ///
    /// # Errors
    /// What would be refused, with its SQLSTATE; [`StoreError::KeptOut`].
    pub fn try_commit(&mut self, rules: &Rules) -> Result<(), StoreError> {
        let (id, windows) = self.transaction(
            "looking at the database",
            Isolation::ReadOnlySnapshot,
            |connection, _, context| {
                let last: Last = diesel::sql_query(LAST_ID).get_result(connection)?;
                let id = (windows::number(last.id) + 1) * windows::IDS - 1;
                Ok((id, context.windows_of(connection, &[id])?))
            },
        )?;
        let Self { client, context, address } = self;
        let (rules, scored) = trial(rules);
        let scored: Vec<&Scored> = scored.iter().collect();
        let source = &context.source;
        let added =
            Added { rules: &rules, source, ids: &[id], windows: &windows, scored: &scored, parts: &[] };
        client.rehearse("trying a commit", address, |rehearsal, watch| {
            let group = &source.consumer_group;
            try_source(
                rehearsal,
                group,
                diesel::insert_into(sources::table).values(source).on_conflict_do_nothing(),
            )?;
            let map = diesel::insert_into(segment_maps::table).values(maps::rows(&rules.segments));
            rehearsal.execute(map.on_conflict_do_nothing())?;
            added.insert(rehearsal, watch)?;
            try_dead_letter(rehearsal, group)?;
            try_progress(rehearsal, group)?;
            // Constraints that are looked at when a transaction is committed.
            rehearsal.execute(diesel::sql_query("SET CONSTRAINTS ALL IMMEDIATE"))?;
            Ok(())
        })
    }
}

/// A batch that can be scored under any rules.
fn trial(rules: &Rules) -> (Rules, Option<Scored>) {
    let values = "[1,2,3,4,5,6]";
    let rules = Rules { max_customers: 6, ..rules.clone() };
    let message = |metric: Metric| Message {
        metric,
        partition: PARTITION,
        offset: OFFSET,
        timestamp: Some(0),
        key: Some(b"check".to_vec()),
        value: Some(format!("{{\"{metric}\":{values}}}").into_bytes()),
    };
    let scored = score(&rules, Batch { messages: PerMetric::from_fn(message) }).ok();
    (rules, scored)
}

/// The group's row, and the ids of its topics in it.
fn try_source(
    rehearsal: &mut Rehearsal,
    group: &str,
    insert: impl QueryFragment<diesel::pg::Pg> + QueryId,
) -> Result<(), StoreError> {
    rehearsal.execute(insert)?;
    let ids = (
        sources::recency_topic_id.eq(sources::recency_topic_id),
        sources::frequency_topic_id.eq(sources::frequency_topic_id),
        sources::monetary_topic_id.eq(sources::monetary_topic_id),
    );
    taken(rehearsal, "sources", diesel::update(sources::table.find(group)).set(ids))
}

/// With an id of its own, so that the sequence stays where it is.
fn try_dead_letter(rehearsal: &mut Rehearsal, group: &str) -> Result<(), StoreError> {
    let row = (
        dead_letters::id.eq(i64::MAX),
        dead_letters::consumer_group.eq(group),
        dead_letters::topic.eq("check"),
        dead_letters::partition.eq(PARTITION),
        dead_letters::offset.eq(OFFSET),
        dead_letters::key.eq(Some(b"check".to_vec())),
        dead_letters::value.eq(None::<Vec<u8>>),
        dead_letters::reason.eq("malformed"),
        dead_letters::detail.eq("tried by check, and taken back"),
    );
    taken(rehearsal, "dead_letters", diesel::insert_into(dead_letters::table).values(row))
}

/// A partition is taken, and its progress moved.
fn try_progress(rehearsal: &mut Rehearsal, group: &str) -> Result<(), StoreError> {
    let row = (
        progress::consumer_group.eq(group),
        progress::partition.eq(PARTITION),
        progress::epoch.eq(1),
        progress::recency_next.eq(OFFSET),
        progress::frequency_next.eq(OFFSET),
        progress::monetary_next.eq(OFFSET),
        progress::owner.eq(Some(Uuid::nil())),
    );
    taken(rehearsal, "progress", diesel::insert_into(progress::table).values(row))?;
    let moved = (
        progress::epoch.eq(progress::epoch + 1),
        progress::owner.eq(Some(Uuid::max())),
        progress::recency_next.eq(OFFSET + 1),
        progress::frequency_next.eq(OFFSET + 1),
        progress::monetary_next.eq(OFFSET + 1),
        progress::recency_leader_epoch.eq(Some(0)),
        progress::frequency_leader_epoch.eq(Some(0)),
        progress::monetary_leader_epoch.eq(Some(0)),
        progress::commits.eq(progress::commits + 1),
        progress::updated_at.eq(diesel::dsl::now.into_sql::<diesel::sql_types::Timestamptz>().nullable()),
        progress::log_cut.eq(None::<String>),
    );
    taken(rehearsal, "progress", diesel::update(progress::table.find((group, PARTITION))).set(moved))
}

/// Executes a statement that must take one row.
fn taken(
    rehearsal: &mut Rehearsal,
    table: &'static str,
    statement: impl QueryFragment<diesel::pg::Pg> + QueryId,
) -> Result<(), StoreError> {
    match rehearsal.execute(statement)? {
        1 => Ok(()),
        taken => Err(StoreError::KeptOut { table, given: 1, taken }),
    }
}
