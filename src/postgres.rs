//! Postgres: the door to it for every part of this crate.
//!
//! Owns addresses, connections, transactions with their settings, the meaning of errors, the schema with its
//! migrations, and the watch on a server that may go silent. Knows neither batches nor progress: the
//! exactly-once commit is in `reader::store`, which uses this module and is not used by it.
//!
//! Everything here blocks, and libpq has no limit on how long. So each [`Client`] works on a thread that may
//! wait, and writes down in its [`Watch`] what it waits for. A task that must not wait reads the watch and
//! asks a [`probe`].
//!
//! **Nothing is kept in the server between two transactions**: no setting of the session, no named statement,
//! no lock. So every transaction may run in another server process, as it does behind a pooler.

mod address;
mod connecting;
mod error;
mod libpq;
mod numbers;
mod obstacles;
mod probe;
mod publication;
mod read_only;
pub(crate) mod schema;
mod server;
mod sqlstate;
mod statements;
mod suitability;
mod tables;
mod watch;
mod way;

pub use address::Address;
pub use connecting::explain_limit;
pub use error::{PostgresError, Remedy, chain};
pub use numbers::Numbers;
pub use probe::{Diagnosis, Probe, judge, probe};
pub use publication::check_deletes;
pub use read_only::{Column, QueryError, ReadOnly};
pub use server::{Facts, clock_skew};
pub use statements::{Rehearsal, Statements};
pub use suitability::{Warnings, check as check_suitability, check_rights};
pub use tables::{Tables, migrate, pending};
pub use watch::{Backend, CONNECTING, Waiting, Watch};
pub use way::{Pooler, Way};

use chrono::{DateTime, Utc};
use diesel::connection::CacheSize;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Integer, Timestamptz};
use std::sync::Arc;
use std::time::Duration;

/// How long a statement waits for a lock in a transaction of ours.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of one transaction, and the server process that serves it. A program that freezes inside a
/// transaction keeps its locks for at most 5 s; others wait for a lock for longer than that. A large batch may
/// take longer than the role's own limits allow. The server notices within half a minute that the program's
/// host is gone.
const BEGIN: &str = "
    SELECT pg_backend_pid() AS pid, now() AS begun, pg_postmaster_start_time() AS server,
        set_config('idle_in_transaction_session_timeout', '5s', true),
        set_config('lock_timeout', '10s', true),
        set_config('statement_timeout', '0', true),
        set_config('tcp_keepalives_idle', '10', true),
        set_config('tcp_keepalives_interval', '5', true),
        set_config('tcp_keepalives_count', '3', true),
        set_config('tcp_user_timeout', '30s', true),
        CASE WHEN current_setting('server_version_num')::int >= 170000
            THEN set_config('transaction_timeout', '0', true) END";

/// What [`BEGIN`] answers.
#[derive(QueryableByName)]
struct Begun {
    /// The server process.
    #[diesel(sql_type = Integer)]
    pid: i32,
    /// When the transaction began.
    #[diesel(sql_type = Timestamptz)]
    begun: DateTime<Utc>,
    /// When the server was started.
    #[diesel(sql_type = Timestamptz)]
    server: DateTime<Utc>,
}

/// What the statements of a transaction see, and whether they may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED: each statement sees what is committed when it starts. May write.
    ReadCommitted,
    /// REPEATABLE READ, READ ONLY: all statements see the same moment.
    ReadOnlySnapshot,
}

/// One connection to Postgres.
pub struct Client {
    /// The connection; every use of it is recorded in `watch`.
    connection: PgConnection,
    /// What the connection waits for, read by another task.
    watch: Arc<Watch>,
}

impl Client {
    /// Connects. `watch` records what the connection waits for, now and in every transaction.
    ///
    /// # Errors
    /// [`PostgresError::Unreachable`] or [`PostgresError::Refused`].
    pub fn connect(address: &Address, watch: Arc<Watch>) -> Result<Self, PostgresError> {
        let mut connection = {
            let _work = watch.begin(CONNECTING);
            connecting::connect(address)?
        };
        // A named statement belongs to one server process.
        connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        Ok(Self { connection, watch })
    }

    /// Runs `work` in a transaction: commits if it returns `Ok`, rolls back otherwise. `step` says in a log
    /// line what the transaction is for.
    ///
    /// # Errors
    /// Those of `work`, and those of BEGIN and COMMIT. **After an error of the connection the outcome is
    /// unknown.**
    pub fn transaction<T, E: From<DieselError>>(
        &mut self,
        step: &'static str,
        isolation: Isolation,
        work: impl FnOnce(&mut PgConnection, &Watch) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self { connection, watch } = self;
        let _work = watch.begin(step);
        let mut transaction = match isolation {
            // The role or the database may have another default.
            Isolation::ReadCommitted => connection.build_transaction().read_committed(),
            Isolation::ReadOnlySnapshot => connection.build_transaction().repeatable_read().read_only(),
        };
        transaction.run(|connection| {
            let Begun { pid, begun, server } = diesel::sql_query(BEGIN).get_result(connection)?;
            watch.served_by(Backend { pid, begun }, server);
            let done = work(connection, watch)?;
            watch.step("COMMIT");
            Ok(done)
        })
    }

    /// Runs `work` once more in a transaction that is rolled back, on another connection.
    ///
    /// # Errors
    /// Those of `work`, with the meaning of the server's code.
    pub fn rehearse<T, E: From<PostgresError>>(
        &mut self,
        step: &'static str,
        address: &Address,
        work: impl FnOnce(&mut Rehearsal, &Watch) -> Result<T, E>,
    ) -> Result<T, E> {
        let _work = self.watch.begin(step);
        work(&mut Rehearsal::begin(address, &self.watch)?, &self.watch)
    }

    /// Runs statements outside a transaction, each committed by itself and without the settings of a
    /// transaction. For questions about a transaction that failed.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn ask<T, E>(
        &mut self,
        step: &'static str,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let _work = self.watch.begin(step);
        work(&mut self.connection)
    }
}
