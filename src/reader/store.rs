//! Postgres: with `store/`, the only place with queries.
//!
//! Owns what is stored, and the transaction that makes it exactly once. Does not decide what to store.
//! Everything here blocks; the session calls it on threads made for that.
//!
//! The one idea: **rows, `batches`, dead letters and progress move in one transaction, which succeeds
//! only under the epoch that owns the partition.** Whatever the reader remembers may be lost or wrong;
//! what the tables say is enough to go on.

mod error;
mod evidence;
mod insert;
mod rows;
mod source;

pub use error::StoreError;
pub use rows::write as write_rows;
pub use source::Source;

use crate::failpoint;
use crate::message::Metric;
use crate::reader::key;
use crate::reader::pairing::{DeadLetter, Taken};
use crate::reader::progress::Progress;
use crate::reader::schema::{batches, dead_letters, progress};
use crate::reader::score::{Rules, Scored};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::collections::BTreeMap;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Held while migrating: Diesel takes no lock, and two readers may start at once. Any fixed number does.
const MIGRATION_LOCK: i64 = 0x0052_464D_5354_524D;

/// Put into the connection string where it does not say otherwise. A peer that is gone without a word
/// is noticed within half a minute.
const CONNECTION_DEFAULTS: [(&str, &str); 6] = [
    ("application_name", "rfm-reader"),
    ("connect_timeout", "10"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// A reader that froze inside a transaction keeps its locks for 5 s at most; who waits for them waits
/// longer than that. One whose host is gone is noticed by the server within half a minute.
const SESSION_SETTINGS: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '10s';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '30s'";

/// What one transaction stores of one partition.
#[derive(Debug)]
pub struct Part {
    /// The partition number.
    pub partition: i32,
    /// The epoch under which it is owned.
    pub epoch: i64,
    /// Per topic, the lowest offset that is not settled once this is stored.
    pub next: [i64; 3],
    /// Per topic, a leader epoch in which the log had everything below `next`; `None` if none is known.
    pub leader_epochs: [Option<i32>; 3],
    /// Batches to store.
    pub batches: Vec<Scored>,
    /// Messages to keep unscored.
    pub dead_letters: Vec<DeadLetter>,
}

/// A connection to Postgres.
pub struct Store {
    connection: PgConnection,
    source: Source,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] or [`StoreError::Refused`].
    pub fn connect(database_url: &str, source: Source) -> Result<Self, StoreError> {
        let mut connection = PgConnection::establish(&with_defaults(database_url))?;
        diesel::connection::SimpleConnection::batch_execute(&mut connection, SESSION_SETTINGS)?;
        Ok(Self { connection, source })
    }

    /// Brings the tables up to date; returns the migrations that were run.
    ///
    /// # Errors
    /// Those of the statements; a migration that fails changes nothing.
    pub fn migrate(&mut self) -> Result<Vec<String>, StoreError> {
        diesel::sql_query("SELECT pg_advisory_lock($1)")
            .bind::<BigInt, _>(MIGRATION_LOCK)
            .execute(&mut self.connection)?;
        let run = self.connection.run_pending_migrations(MIGRATIONS);
        let run = run.map(|versions| versions.iter().map(ToString::to_string).collect());
        let run = run.map_err(|error| match error.downcast::<diesel::result::Error>() {
            Ok(error) => StoreError::from(*error),
            Err(error) => StoreError::Statement(error),
        })?;
        diesel::sql_query("SELECT pg_advisory_unlock($1)")
            .bind::<BigInt, _>(MIGRATION_LOCK)
            .execute(&mut self.connection)?;
        Ok(run)
    }

    /// Takes a partition: from here on, a commit under an older epoch fails. `beginning` is where its
    /// topics begin, for a group that never had it.
    ///
    /// **The epoch is raised and committed before anything is read**: what an earlier owner still
    /// commits, it commits before that, and so it is seen here.
    ///
    /// # Errors
    /// Those of the statements.
    pub fn take(&mut self, partition: i32, beginning: [i64; 3]) -> Result<Taken, StoreError> {
        let [recency, frequency, monetary] = beginning;
        let epoch = diesel::insert_into(progress::table)
            .values((
                progress::consumer_group.eq(&self.source.consumer_group),
                progress::partition.eq(partition),
                progress::epoch.eq(1),
                progress::recency_next.eq(recency),
                progress::frequency_next.eq(frequency),
                progress::monetary_next.eq(monetary),
            ))
            .on_conflict((progress::consumer_group, progress::partition))
            .do_update()
            .set(progress::epoch.eq(progress::epoch + 1))
            .returning(progress::epoch)
            .get_result(&mut self.connection)?;

        let next: (i64, i64, i64) = progress::table
            .find((&self.source.consumer_group, partition))
            .select((progress::recency_next, progress::frequency_next, progress::monetary_next))
            .first(&mut self.connection)?;
        let [recency, frequency, monetary] = self.leader_epochs(partition)?;
        let progress = [
            self.progress(partition, Metric::Recency, (next.0, recency))?,
            self.progress(partition, Metric::Frequency, (next.1, frequency))?,
            self.progress(partition, Metric::Monetary, (next.2, monetary))?,
        ];
        Ok(Taken { partition, epoch, progress })
    }

    /// The progress of one topic: `next`, and what is settled at or above it, in either table, by the
    /// topic's own offset.
    fn progress(
        &mut self,
        partition: i32,
        metric: Metric,
        (next, epoch): (i64, Option<i32>),
    ) -> Result<Progress, StoreError> {
        let refused = dead_letters::table
            .select((dead_letters::offset, dead_letters::key))
            .filter(dead_letters::consumer_group.eq(&self.source.consumer_group))
            .filter(dead_letters::topic.eq(self.source.topic(metric)))
            .filter(dead_letters::partition.eq(partition))
            .filter(dead_letters::offset.ge(next))
            .load::<(i64, Option<Vec<u8>>)>(&mut self.connection)?;
        let refused = refused.into_iter().map(|(offset, key)| (offset, key.as_deref().map(key::text)));
        let stored = batches::table
            .select((offset_of(metric), batches::batch_key))
            .filter(batches::consumer_group.eq(&self.source.consumer_group))
            .filter(batches::partition.eq(partition))
            .filter(offset_of(metric).ge(next))
            .load::<(i64, Option<String>)>(&mut self.connection)?;
        Ok(Progress::resume(next, refused.chain(stored).collect::<BTreeMap<_, _>>(), epoch))
    }

    /// Stores everything or nothing.
    ///
    /// COPY comes first and progress last, so a reader that freezes on the way holds no lock that its
    /// successor needs.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another reader owns one of the partitions. **After any error the outcome
    /// is unknown and the connection is to be dropped**; the tables tell which it was.
    pub fn commit(&mut self, rules: &Rules, parts: &[Part]) -> Result<(), StoreError> {
        let source = &self.source;
        let stored = self.connection.transaction(|connection| {
            failpoint::reach("after_begin");
            let scored: Vec<&Scored> = parts.iter().flat_map(|part| &part.batches).collect();
            let ids = insert::new_batch_ids(connection, scored.len())?;
            if !scored.is_empty() {
                insert::segments(connection, rules, &ids, &scored)?;
            }
            failpoint::reach("after_copy");
            insert::batches(connection, rules, source, &ids, &scored)?;
            insert::dead_letters(connection, source, parts)?;
            parts.iter().try_for_each(|part| move_progress(connection, source, part))?;
            failpoint::reach("before_commit");
            Ok(())
        });
        // A connection that breaks during COPY looks like a statement that failed.
        stored.map_err(|error: StoreError| if self.is_sound() { error } else { error.on_broken_connection() })
    }

    fn is_sound(&mut self) -> bool {
        diesel::sql_query("SELECT 1").execute(&mut self.connection).is_ok()
    }
}

/// The connection string with [`CONNECTION_DEFAULTS`] for what it leaves open.
fn with_defaults(database_url: &str) -> String {
    let mut url = database_url.to_owned();
    let is_uri = url.starts_with("postgres://") || url.starts_with("postgresql://");
    for (name, value) in CONNECTION_DEFAULTS {
        if url.contains(&format!("{name}=")) {
            continue;
        }
        let separator = match (is_uri, url.contains('?')) {
            (true, false) => '?',
            (true, true) => '&',
            (false, _) => ' ',
        };
        url.push_str(&format!("{separator}{name}={value}"));
    }
    url
}

/// The column of `batches` that holds the offset of a metric's message.
fn offset_of(metric: Metric) -> Box<dyn BoxableExpression<batches::table, Pg, SqlType = BigInt>> {
    match metric {
        Metric::Recency => Box::new(batches::recency_offset),
        Metric::Frequency => Box::new(batches::frequency_offset),
        Metric::Monetary => Box::new(batches::monetary_offset),
    }
}

/// Moves the progress of a partition, if it is still ours.
fn move_progress(connection: &mut PgConnection, source: &Source, part: &Part) -> Result<(), StoreError> {
    let &Part { partition, epoch, next: [recency, frequency, monetary], .. } = part;
    let [recency_epoch, frequency_epoch, monetary_epoch] = part.leader_epochs;
    let owned = progress::table.find((&source.consumer_group, partition)).filter(progress::epoch.eq(epoch));
    let moved = diesel::update(owned)
        .set((
            progress::recency_next.eq(recency),
            progress::frequency_next.eq(frequency),
            progress::monetary_next.eq(monetary),
            progress::recency_leader_epoch.eq(recency_epoch),
            progress::frequency_leader_epoch.eq(frequency_epoch),
            progress::monetary_leader_epoch.eq(monetary_epoch),
        ))
        .execute(connection)?;
    failpoint::reach("after_progress");
    // The one line that makes a reader harmless which lost its partition without knowing it.
    if moved == 1 { Ok(()) } else { Err(StoreError::Fenced { partition, epoch }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_defaults_do_not_override() {
        let url = with_defaults("postgres://u@h/d?connect_timeout=3");
        assert!(url.starts_with("postgres://u@h/d?connect_timeout=3&application_name=rfm-reader&"), "{url}");
        assert_eq!(url.matches("connect_timeout").count(), 1);
        assert!(with_defaults("host=h dbname=d").starts_with("host=h dbname=d application_name=rfm-reader "));
        assert!(with_defaults("postgres://h/d").starts_with("postgres://h/d?application_name="));
    }
}
