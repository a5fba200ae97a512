//! Tables that contradict each other: a part of a backup was restored, or somebody deleted a part.
//!
//! Owns the checks that are cheap when a session begins. docs/reliability.md says what they cannot find:
//! above all, `batches` or `dead_letters` that are older than `progress`.

use super::{Context, Store, StoreError};
use crate::postgres::{Isolation, PostgresError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

/// Per table with a sequence: its newest id, and the last id that the sequence gave. Only sequences that
/// belong to their table and that this role may read.
const SEQUENCES: &str = "
    SELECT 'batches' AS name, (SELECT max(id) FROM batches) AS newest, pg_sequence_last_value(seq) AS given
    FROM (SELECT pg_get_serial_sequence('batches', 'id')::regclass AS seq) s
    WHERE has_sequence_privilege(seq, 'USAGE') OR has_sequence_privilege(seq, 'SELECT')
    UNION ALL
    SELECT 'dead_letters', (SELECT max(id) FROM dead_letters), pg_sequence_last_value(seq)
    FROM (SELECT pg_get_serial_sequence('dead_letters', 'id')::regclass AS seq) s
    WHERE has_sequence_privilege(seq, 'USAGE') OR has_sequence_privilege(seq, 'SELECT')";

/// A row of [`SEQUENCES`].
#[derive(QueryableByName)]
struct Sequence {
    /// The table.
    #[diesel(sql_type = Text)]
    name: String,
    /// The newest id in the table; `None` if it is empty.
    #[diesel(sql_type = Nullable<BigInt>)]
    newest: Option<i64>,
    /// The last id that the sequence gave; `None` if it gave none.
    #[diesel(sql_type = Nullable<BigInt>)]
    given: Option<i64>,
}

/// Without statistics the planner would read all of `segments` instead of its index. If the table is so large
/// that even the index takes longer, the check is left out.
const CHEAP: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL statement_timeout = '1s'";

/// The last id that the sequence of `batches` gave, and the lowest one of `segments` above it, which a batch
/// to come would share.
const LAST_ID: &str = "
    SELECT coalesce(pg_sequence_last_value(seq), 0) AS id
    FROM (SELECT pg_get_serial_sequence('batches', 'id')::regclass AS seq) s
    WHERE has_sequence_privilege(seq, 'USAGE') OR has_sequence_privilege(seq, 'SELECT')";
const ROWS_TO_COME: &str = "SELECT min(batch_id) AS id FROM segments WHERE batch_id > $1";

/// The lowest id in `segments` that one of these batches, or one to come, would share. In one statement, so that
/// the sequence is at least as new as the rows.
const SHARED: &str = "
    SELECT min(batch_id) AS id FROM segments
    WHERE batch_id = ANY($1) OR batch_id > (SELECT coalesce(pg_sequence_last_value('batches_id_seq'), 0))";

/// For the question about [`SHARED`], which waits as long as it takes.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/// A batch's id, if there is one.
#[derive(QueryableByName)]
struct Id {
    /// The id.
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
}

/// The newest batch of each partition, if it has no rows and was not retracted.
const WITHOUT_ROWS: &str = "
    SELECT b.id, p.partition
    FROM progress p
    CROSS JOIN LATERAL (SELECT id, retracted_at, expired_at FROM batches
        WHERE consumer_group = p.consumer_group AND partition = p.partition
        ORDER BY recency_offset DESC LIMIT 1) b
    WHERE p.consumer_group = $1 AND b.retracted_at IS NULL AND b.expired_at IS NULL
        AND NOT EXISTS (SELECT FROM segments s WHERE s.batch_id = b.id)
    ORDER BY p.partition";

/// A row of [`WITHOUT_ROWS`].
#[derive(QueryableByName)]
struct WithoutRows {
    /// The batch's id.
    #[diesel(sql_type = BigInt)]
    id: i64,
    /// Its partition.
    #[diesel(sql_type = Integer)]
    partition: i32,
}

impl Context {
    /// Checks that no sequence is behind its table: its next ids would be taken. Notes the last id of a batch that
    /// was given.
    pub(super) fn check_sequences(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let sequences: Vec<Sequence> = diesel::sql_query(SEQUENCES).load(connection)?;
        let of_batches = sequences.iter().find(|sequence| sequence.name == "batches");
        self.highest_id.set(Some(of_batches.and_then(|sequence| sequence.given).unwrap_or_default()));
        let behind = sequences.into_iter().find(|s| s.newest > s.given);
        behind.map_or(Ok(()), |Sequence { name, newest, given }| {
            Err(StoreError::Contradiction {
                what: format!(
                    "`{name}` has id {}, and its sequence has given {} so far",
                    newest.unwrap_or_default(),
                    given.unwrap_or_default()
                ),
                hint: format!(
                    "restore all tables of one backup, or set the sequence: SELECT setval(pg_get_serial_sequence('{name}', \
                     'id'), (SELECT max(id) FROM {name}))"
                ),
            })
        })
    }
}

impl Context {
    /// Checks that these ids, which were just given, are those of no rows. **It asks only if the sequence has gone
    /// back, or if the session could not compare the tables when it began**: otherwise every id is new. (The sequence
    /// goes back in a restore, and with `TRUNCATE batches RESTART IDENTITY`.)
    ///
    /// The error ends the session. The next one finds out whether it is for good.
    pub(super) fn check_ids(&self, connection: &mut PgConnection, ids: &[i64]) -> Result<(), StoreError> {
        let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let highest = self.highest_id.replace(Some(last));
        if highest.is_some_and(|highest| first > highest) {
            return Ok(());
        }
        connection.batch_execute(BY_INDEX)?;
        let shared = diesel::sql_query(SHARED).bind::<Array<BigInt>, _>(ids).get_result::<Id>(connection)?.id;
        shared.map_or(Ok(()), |shared| Err(StoreError::SequenceBack { first, highest, shared }))
    }
}

impl Store {
    /// Looks for rows of `segments` without a batch, and for batches without rows. Returns warnings. If that takes too
    /// long, the first commits look for rows with their ids.
    ///
    /// # Errors
    /// [`StoreError::Contradiction`] if new batches would be mixed with rows that are there.
    pub fn find_contradictions(&mut self) -> Result<Vec<String>, StoreError> {
        let found = self.transaction(
            "comparing the tables",
            Isolation::ReadOnlySnapshot,
            |connection, _, context| {
                connection.batch_execute(CHEAP)?;
                let given = diesel::sql_query(LAST_ID).get_result::<Id>(connection).optional()?;
                // A sequence that cannot be read counts as ahead of everything.
                let given = given.and_then(|row| row.id).unwrap_or(i64::MAX);
                let to_come =
                    diesel::sql_query(ROWS_TO_COME).bind::<BigInt, _>(given).get_result::<Id>(connection)?.id;
                let bare: Vec<WithoutRows> = diesel::sql_query(WITHOUT_ROWS)
                    .bind::<Text, _>(&context.source.consumer_group)
                    .load(connection)?;
                Ok((given, to_come, bare))
            },
        );
        let (given, to_come, bare) = match found {
            Ok(found) => found,
            Err(error @ StoreError::Postgres(PostgresError::Unreachable(_))) => return Err(error),
            Err(error) => {
                self.context.highest_id.set(None);
                let error = anyhow::Error::new(error);
                tracing::warn!(
                    "the tables were not compared ({error:#}); the first commits look for rows with their ids"
                );
                return Ok(Vec::new());
            }
        };
        if let Some(id) = to_come {
            return Err(StoreError::Contradiction {
                what: format!("`segments` has rows of batch {id}, and the sequence of `batches` has given {given} so far"),
                hint: "new batches would share their ids with these rows: delete the rows whose batch is not in `batches`, \
                       or set the sequence: SELECT setval(pg_get_serial_sequence('batches', 'id'), (SELECT max(batch_id) \
                       FROM segments))"
                    .to_owned(),
            });
        }
        Ok(bare.into_iter().map(warning).collect())
    }
}

fn warning(WithoutRows { id, partition }: WithoutRows) -> String {
    format!(
        "batch {id}, the newest of partition {partition}, has no rows in `segments`: they were deleted, or the tables were \
         restored from different moments; this group does not store them again"
    )
}
