//! Dead letters that are scored again: reading them, and storing what can be stored by now.
//!
//! **Their messages stay settled at every moment**: a batch is stored and its three letters are taken away in
//! one transaction. So it makes no difference to readers of the group, neither to one that is at work nor to
//! one that takes the partition meanwhile and reads both tables in one snapshot.

use super::insert::{self, Added};
use super::readiness::Known;
use super::{Store, StoreError};
use crate::failpoint;
use crate::message::{Message, Problem, Reason};
use crate::metric::{Metric, PerMetric};
use crate::postgres::Isolation;
use crate::reader::score::{Rules, Scored};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};

/// A dead letter without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The row's id.
    pub id: i64,
    /// Why it was refused.
    pub reason: Reason,
    /// The message; its value is left out.
    pub message: Message,
    /// The offset of the recency message of its batch; `None` if it was refused alone, or by an earlier
    /// version.
    pub refused_with: Option<i64>,
    /// A hash of the detail, which the letters of a batch share.
    pub detail: i64,
}

/// The partitions that have letters.
const PARTITIONS: &str =
    "SELECT DISTINCT partition FROM dead_letters WHERE consumer_group = $1 ORDER BY partition";

/// The letters of a partition with one of these reasons, by offset.
const LETTERS: &str = r#"
    SELECT id, topic, "offset", key, produced_at, reason, refused_with, hashtextextended(detail, 0) AS detail
    FROM dead_letters
    WHERE consumer_group = $1 AND partition = $2 AND reason = ANY($3)
    ORDER BY "offset""#;

/// A row of [`LETTERS`].
#[derive(QueryableByName)]
struct Row {
    /// The row's id.
    #[diesel(sql_type = BigInt)]
    id: i64,
    /// The topic of the message.
    #[diesel(sql_type = Text)]
    topic: String,
    /// Its own offset.
    #[diesel(sql_type = BigInt)]
    offset: i64,
    /// Its key.
    #[diesel(sql_type = Nullable<Binary>)]
    key: Option<Vec<u8>>,
    /// Kafka's time of the message.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    produced_at: Option<DateTime<Utc>>,
    /// See [`Letter::reason`].
    #[diesel(sql_type = Text)]
    reason: String,
    /// See [`Letter::refused_with`].
    #[diesel(sql_type = Nullable<BigInt>)]
    refused_with: Option<i64>,
    /// See [`Letter::detail`].
    #[diesel(sql_type = BigInt)]
    detail: i64,
}

/// **Locks the letters**, so that of two that score them again one finds them gone. In one order, so that
/// neither waits for the other.
const LOCK: &str = "SELECT id FROM dead_letters WHERE id = ANY($1) ORDER BY id FOR UPDATE";

/// A row of [`LOCK`].
#[derive(QueryableByName)]
struct Locked {
    /// The letter's id.
    #[diesel(sql_type = BigInt)]
    #[expect(dead_code, reason = "only the number of rows counts")]
    id: i64,
}

/// The bodies of letters.
const BODIES: &str = "SELECT id, value FROM dead_letters WHERE id = ANY($1)";

/// A row of [`BODIES`].
#[derive(QueryableByName)]
struct Body {
    /// The letter's id.
    #[diesel(sql_type = BigInt)]
    id: i64,
    /// The body.
    #[diesel(sql_type = Nullable<Binary>)]
    value: Option<Vec<u8>>,
}

/// Keeps what is wrong now; a letter of which the same is known stays as it is.
const REFUSE_AGAIN: &str = "
    UPDATE dead_letters SET reason = $2, detail = $3, refused_with = $4
    WHERE id = ANY($1) AND (reason, detail, refused_with) IS DISTINCT FROM ($2, $3, $4)";

impl Store {
    /// The partitions in which the group has dead letters.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn partitions_with_letters(&mut self) -> Result<Vec<i32>, StoreError> {
        #[derive(QueryableByName)]
        struct Partition {
            /// Its number.
            #[diesel(sql_type = Integer)]
            partition: i32,
        }
        self.transaction("reading dead letters", Isolation::ReadOnlySnapshot, |connection, _, context| {
            let query = diesel::sql_query(PARTITIONS).bind::<Text, _>(&context.source.consumer_group);
            let rows: Vec<Partition> = query.load(connection)?;
            Ok(rows.into_iter().map(|row| row.partition).collect())
        })
    }

    /// The letters of a partition with one of these reasons, in the order of their offsets.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn letters(&mut self, partition: i32, reasons: &[Reason]) -> Result<Vec<Letter>, StoreError> {
        let reasons: Vec<&str> = reasons.iter().map(|reason| reason.name()).collect();
        self.transaction("reading dead letters", Isolation::ReadOnlySnapshot, |connection, _, context| {
            let rows: Vec<Row> = diesel::sql_query(LETTERS)
                .bind::<Text, _>(&context.source.consumer_group)
                .bind::<Integer, _>(partition)
                .bind::<Array<Text>, _>(reasons)
                .load(connection)?;
            let metric = |topic: &str| Metric::ALL.into_iter().find(|&m| context.source.topic(m) == topic);
            let letter = |Row { id, topic, offset, key, produced_at, reason, refused_with, detail }: Row| {
                let timestamp = produced_at.map(|time| time.timestamp_millis());
                let message =
                    Message { metric: metric(&topic)?, partition, offset, timestamp, key, value: None };
                Some(Letter { id, reason: Reason::named(&reason)?, message, refused_with, detail })
            };
            Ok(rows.into_iter().filter_map(letter).collect())
        })
    }

    /// Puts the bodies into the messages of three letters. `None` if one of them is gone.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn with_bodies(
        &mut self,
        letters: PerMetric<Letter>,
    ) -> Result<Option<PerMetric<Message>>, StoreError> {
        let ids = letters.as_ref().map(|letter| letter.id).into_array();
        self.transaction("reading dead letters", Isolation::ReadOnlySnapshot, |connection, _, _| {
            let mut bodies: Vec<Body> =
                diesel::sql_query(BODIES).bind::<Array<BigInt>, _>(&ids[..]).load(connection)?;
            let mut whole = |letter: Letter| {
                let body = bodies.iter_mut().find(|body| body.id == letter.id)?;
                Some(Message { value: body.value.take(), ..letter.message })
            };
            Ok(letters.map(&mut whole).all())
        })
    }

    /// Stores a batch and takes its three letters away. Returns the batch's id; `None`, with nothing changed,
    /// if a letter is gone: somebody else has stored the batch.
    ///
    /// # Errors
    /// Those of the statements. **After any error the outcome is unknown and the connection must be
    /// dropped.**
    pub fn store_letters(
        &mut self,
        rules: &Rules,
        scored: &Scored,
        letters: [i64; 3],
    ) -> Result<Option<i64>, StoreError> {
        self.transaction("storing dead letters", Isolation::ReadCommitted, |connection, watch, context| {
            failpoint::reach("after_begin");
            watch.step("SELECT from `dead_letters`");
            let locked: Vec<Locked> =
                diesel::sql_query(LOCK).bind::<Array<BigInt>, _>(&letters[..]).load(connection)?;
            if locked.len() < letters.len() {
                return Ok(None);
            }
            let ids = insert::new_batch_ids(connection, 1)?;
            context.check_ids(connection, &ids)?;
            let windows = context.windows_of(connection, &ids)?;
            let source = &context.source;
            let added = Added { rules, source, ids: &ids, windows: &windows, scored: &[scored], parts: &[] };
            added.insert(connection, watch)?;
            watch.step("DELETE from `dead_letters`");
            let delete = diesel::sql_query("DELETE FROM dead_letters WHERE id = ANY($1)");
            let taken = delete.bind::<Array<BigInt>, _>(&letters[..]).execute(connection)?;
            insert::all_taken("dead_letters", letters.len(), taken)?;
            failpoint::reach("after_delete");
            // A COPY would have written floats into whatever the columns are now.
            context.known.check_unchanged(Known::look(connection)?)?;
            context.check_windows(connection)?;
            failpoint::reach("before_commit");
            Ok(ids.first().copied())
        })
    }

    /// Keeps with three letters what is wrong with them now. `refused_with` is the offset of the recency
    /// message.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn refuse_again(
        &mut self,
        letters: [i64; 3],
        problem: &Problem,
        refused_with: i64,
    ) -> Result<(), StoreError> {
        self.transaction("keeping dead letters", Isolation::ReadCommitted, |connection, watch, _| {
            failpoint::reach("after_begin");
            watch.step("UPDATE of `dead_letters`");
            diesel::sql_query(REFUSE_AGAIN)
                .bind::<Array<BigInt>, _>(&letters[..])
                .bind::<Text, _>(problem.reason.name())
                .bind::<Text, _>(&problem.detail)
                .bind::<BigInt, _>(refused_with)
                .execute(connection)?;
            failpoint::reach("before_commit");
            Ok(())
        })
    }
}
