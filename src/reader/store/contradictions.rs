//! Tables that contradict each other: parts of a backup were restored, or somebody took a part away.
//!
//! Owns what can be found cheaply when a session begins. What cannot be found is in docs/reliability.md: above all,
//! `batches` or `dead_letters` that are older than `progress`.

use super::{Context, Isolation, Store, StoreError};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

/// The newest id of each table that has one, and the last one that its sequence gave; of sequences that this role may look
/// at, and that belong to their table.
const SEQUENCES: &str = "
    SELECT 'batches' AS name, (SELECT max(id) FROM batches) AS newest, pg_sequence_last_value(seq) AS given
    FROM (SELECT pg_get_serial_sequence('batches', 'id')::regclass AS seq) s
    WHERE has_sequence_privilege(seq, 'USAGE') OR has_sequence_privilege(seq, 'SELECT')
    UNION ALL
    SELECT 'dead_letters', (SELECT max(id) FROM dead_letters), pg_sequence_last_value(seq)
    FROM (SELECT pg_get_serial_sequence('dead_letters', 'id')::regclass AS seq) s
    WHERE has_sequence_privilege(seq, 'USAGE') OR has_sequence_privilege(seq, 'SELECT')";

#[derive(QueryableByName)]
struct Sequence {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    newest: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    given: Option<i64>,
}

/// Without statistics the planner would read all of `segments` in place of its index. A table so large that this takes
/// longer is not looked at.
const CHEAP: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL statement_timeout = '1s'";

/// The last id that `batches` has given, and the least of `segments` above it: the next batches would share it.
const LAST_ID: &str = "
    SELECT coalesce(pg_sequence_last_value(seq), 0) AS id
    FROM (SELECT pg_get_serial_sequence('batches', 'id')::regclass AS seq) s
    WHERE has_sequence_privilege(seq, 'USAGE') OR has_sequence_privilege(seq, 'SELECT')";
const ROWS_TO_COME: &str = "SELECT min(batch_id) AS id FROM segments WHERE batch_id > $1";

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Nullable<BigInt>)]
    id: Option<i64>,
}

/// The newest batch of each partition, if it has no rows.
const WITHOUT_ROWS: &str = "
    SELECT b.id, p.partition
    FROM progress p
    CROSS JOIN LATERAL (SELECT id FROM batches
        WHERE consumer_group = p.consumer_group AND partition = p.partition
        ORDER BY recency_offset DESC LIMIT 1) b
    WHERE p.consumer_group = $1 AND NOT EXISTS (SELECT FROM segments s WHERE s.batch_id = b.id)
    ORDER BY p.partition";

#[derive(QueryableByName)]
struct WithoutRows {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Integer)]
    partition: i32,
}

impl Context {
    /// Whether a sequence is behind its table: the next ids would be taken already.
    pub(super) fn check_sequences(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let sequences: Vec<Sequence> = diesel::sql_query(SEQUENCES).load(connection)?;
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

impl Store {
    /// Looks for rows of `segments` without a batch, and for batches without rows. Returns what is worth a warning.
    ///
    /// # Errors
    /// [`StoreError::Contradiction`] if what comes next would be mixed with what is there.
    pub fn find_contradictions(&mut self) -> Result<Vec<String>, StoreError> {
        let found =
            self.transaction("comparing the tables", Isolation::OneSnapshot, |connection, context| {
                connection.batch_execute(CHEAP)?;
                let given = diesel::sql_query(LAST_ID).get_result::<Id>(connection).optional()?;
                // A sequence that cannot be looked at is behind nothing.
                let given = given.and_then(|row| row.id).unwrap_or(i64::MAX);
                let to_come =
                    diesel::sql_query(ROWS_TO_COME).bind::<BigInt, _>(given).get_result::<Id>(connection)?.id;
                let bare: Vec<WithoutRows> = diesel::sql_query(WITHOUT_ROWS)
                    .bind::<Text, _>(&context.source.consumer_group)
                    .load(connection)?;
                Ok((given, to_come, bare))
            });
        let (given, to_come, bare) = match found {
            Ok(found) => found,
            Err(error @ StoreError::Unreachable(_)) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "cannot compare the tables cheaply");
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
        "batch {id}, the newest of partition {partition}, has no rows in `segments`: they were taken away, or the tables were \
         restored from different moments; this group does not store them again"
    )
}
