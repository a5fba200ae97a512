//! Postgres: with `store/`, the only place with queries.
//!
//! Owns what is stored, and the transaction that makes it exactly once. Does not decide what to store.
//! Everything here blocks; the session calls it on threads made for that.
//!
//! The one idea: **rows, `batches`, dead letters and progress move in one transaction, which succeeds
//! only if the partition is exactly as this session left it** (`ownership`). Whatever the reader remembers may be
//! lost or wrong; what the tables say is enough to go on.
//!
//! **Nothing is kept in the server between two transactions**: no setting of the session, no named statement, no
//! lock. So every transaction may run in another server process, as behind a pooler.

mod address;
mod compare_and_set;
mod contradictions;
mod error;
mod evidence;
mod insert;
mod ownership;
mod probe;
mod rows;
mod source;
mod tables;
mod watch;

pub use address::longest_connect;
pub use error::StoreError;
pub use ownership::Ownership;
pub use probe::{Probe, Verdict, judge, probe};
pub use rows::write as write_rows;
pub use source::Source;
pub use tables::Tables;
pub use watch::{CONNECTING, Waiting, Watch};

use crate::failpoint;
use crate::reader::pairing::DeadLetter;
use crate::reader::score::{Rules, Scored};
use chrono::{DateTime, Utc};
use diesel::connection::CacheSize;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Timestamptz};
use std::sync::Arc;
use watch::Backend;

/// Settings of one transaction, and who serves it. A reader that froze inside a transaction keeps its locks for 5 s at
/// most; who waits for them waits longer than that. One whose host is gone is noticed by the server within half a
/// minute.
const BEGIN: &str = "
    SELECT pg_backend_pid() AS pid, now() AS begun, pg_postmaster_start_time() AS server,
        set_config('idle_in_transaction_session_timeout', '5s', true),
        set_config('lock_timeout', '10s', true),
        set_config('tcp_keepalives_idle', '10', true),
        set_config('tcp_keepalives_interval', '5', true),
        set_config('tcp_keepalives_count', '3', true),
        set_config('tcp_user_timeout', '30s', true)";

/// What [`BEGIN`] answers.
#[derive(QueryableByName)]
struct Begun {
    #[diesel(sql_type = Integer)]
    pid: i32,
    #[diesel(sql_type = Timestamptz)]
    begun: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    server: DateTime<Utc>,
}

/// What a transaction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isolation {
    /// READ COMMITTED: each statement what is committed by then.
    Usual,
    /// REPEATABLE READ, reading only: all statements the same moment.
    OneSnapshot,
}

/// What one transaction stores of one partition.
#[derive(Debug)]
pub struct Part {
    /// The partition number.
    pub partition: i32,
    /// How the partition must be found.
    pub expected: Ownership,
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
    context: Context,
}

/// What statements need to know beside the connection they run on.
struct Context {
    source: Source,
    watch: Arc<Watch>,
    /// What must be there.
    tables: Tables,
    /// Which table `progress` was when the session began.
    progress_oid: u32,
    /// This is not the first session of the process.
    is_later: bool,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] or [`StoreError::Refused`].
    pub fn connect(database_url: &str, source: Source, watch: Arc<Watch>) -> Result<Self, StoreError> {
        let connection = {
            let _work = watch.begin(CONNECTING);
            let mut connection = PgConnection::establish(&address::with_defaults(database_url))?;
            // Named statements are of one server process.
            connection.set_prepared_statement_cache_size(CacheSize::Disabled);
            connection
        };
        Ok(Self {
            connection,
            context: Context { source, watch, tables: Tables::default(), progress_oid: 0, is_later: false },
        })
    }

    /// Makes this a connection of the same session as `owner`, which has found the tables.
    pub fn join(&mut self, owner: &Self) {
        self.context.tables = owner.context.tables.clone();
        self.context.progress_oid = owner.context.progress_oid;
    }

    /// Stores everything or nothing.
    ///
    /// COPY comes first and progress last, so a reader that freezes on the way holds no lock that its
    /// successor needs.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if one of the partitions is not as expected. **After any error the outcome
    /// is unknown and the connection is to be dropped**; the tables tell which it was.
    pub fn commit(&mut self, rules: &Rules, parts: &[Part]) -> Result<(), StoreError> {
        self.transaction("storing batches", Isolation::Usual, |connection, context| {
            failpoint::reach("after_begin");
            let scored: Vec<&Scored> = parts.iter().flat_map(|part| &part.batches).collect();
            let ids = insert::new_batch_ids(connection, scored.len())?;
            if !scored.is_empty() {
                context.watch.step("COPY into `segments`");
                insert::segments(connection, rules, &ids, &scored, &context.watch)?;
            }
            failpoint::reach("after_copy");
            context.watch.step("INSERT into `batches`");
            insert::batches(connection, rules, &context.source, &ids, &scored)?;
            insert::dead_letters(connection, &context.source, &context.watch, parts)?;
            context.watch.step("UPDATE of `progress`");
            context.move_progress(connection, parts)?;
            failpoint::reach("before_commit");
            Ok(())
        })
    }

    /// Does `work` in a transaction of its own.
    fn transaction<T>(
        &mut self,
        step: &'static str,
        isolation: Isolation,
        work: impl FnOnce(&mut PgConnection, &Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Self { connection, context } = self;
        let _work = context.watch.begin(step);
        let mut transaction = match isolation {
            Isolation::Usual => connection.build_transaction(),
            Isolation::OneSnapshot => connection.build_transaction().repeatable_read().read_only(),
        };
        let done = transaction.run(|connection| {
            let Begun { pid, begun, server } = diesel::sql_query(BEGIN).get_result(connection)?;
            context.watch.served_by(Backend { pid, begun }, server);
            let done = work(connection, context)?;
            context.watch.step("COMMIT");
            Ok(done)
        });
        done.map_err(|error| match error {
            StoreError::Statement(_) | StoreError::Refused { .. } => why_failed(connection, context, error),
            other => other,
        })
    }
}

/// Why a statement failed: because the connection broke (during COPY that looks the same), because the tables are not
/// there or are other ones (a restore grants rights last), or for a reason of its own.
fn why_failed(connection: &mut PgConnection, context: &Context, error: StoreError) -> StoreError {
    context.watch.step("looking at the tables");
    match context.tables.check(connection).and_then(|()| context.is_table_of_session(connection)) {
        Ok(()) if context.is_later => error.when_rights_may_come(),
        Ok(()) => error,
        Err(missing @ StoreError::Unready(_)) => missing,
        Err(_) => error.on_broken_connection(),
    }
}
