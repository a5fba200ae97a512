//! Statements that add rows, executed for good, or once more to find out why they were refused.
//!
//! Diesel hides the SQLSTATE of a failed statement, and without it a lock or a full disk looks like a row that
//! Postgres refuses. A [`Rehearsal`] executes the same statements on a connection that tells the code, and
//! never commits.

use super::connecting::{self, without_location};
use super::libpq::{Connection, Refused};
use super::sqlstate::SqlState;
use super::watch::{Backend, Watch};
use super::{Address, PostgresError, schema};
use chrono::DateTime;
use diesel::connection::Connection as _;
use diesel::pg::{CopyFormat, CopyTarget, Pg, PgMetadataLookup, PgQueryBuilder, PgTypeMetadata};
use diesel::prelude::*;
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::query_builder::{AstPass, QueryBuilder as _, QueryFragment, QueryId};
use diesel::result::Error as DieselError;
use std::cell::RefCell;
use std::io::{self, Write};
use std::time::Duration;

/// What executes statements that return no rows.
pub trait Statements {
    /// Executes a statement. Returns how many rows it took.
    ///
    /// # Errors
    /// Those of the statement.
    fn execute(&mut self, statement: impl QueryFragment<Pg> + QueryId) -> Result<usize, PostgresError>;

    /// Copies rows in the format of a binary COPY into `table`, which is `segments` or one of its partitions, as a
    /// statement names it. Returns how many it took.
    ///
    /// # Errors
    /// Those of the statement.
    fn copy_into_segments(
        &mut self,
        table: &str,
        write: impl Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<usize, PostgresError>;
}

/// For good, once the transaction is committed.
impl Statements for PgConnection {
    fn execute(&mut self, statement: impl QueryFragment<Pg> + QueryId) -> Result<usize, PostgresError> {
        Ok(self.execute_returning_count(&statement)?)
    }

    fn copy_into_segments(
        &mut self,
        table: &str,
        write: impl Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<usize, PostgresError> {
        COPY_TARGET.set(table.to_owned());
        let copied = diesel::copy_from(schema::segments::table)
            .from_raw_data(Target, |out| {
                write(out).map_err(|error| DieselError::SerializationError(error.into()))
            })
            .with_format(CopyFormat::Binary)
            .execute(self);
        Ok(copied?)
    }
}

/// The columns as `schema` has them.
const COLUMNS: &str = " (batch_id, recency, frequency, monetary, row_no, recency_score, frequency_score, monetary_score, \
    rf_score, segment, customer_id)";

thread_local! {
    /// The table of the COPY that this thread executes.
    static COPY_TARGET: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A table whose name is known only when the program runs. Diesel asks the type for it, and not the value.
struct Target;

impl CopyTarget for Target {
    type Table = schema::segments::table;
    type SqlType = schema::segments::SqlType;

    fn walk_target(mut pass: AstPass<'_, '_, Pg>) -> QueryResult<()> {
        COPY_TARGET.with_borrow(|table| pass.push_sql(table));
        pass.push_sql(COLUMNS);
        Ok(())
    }
}

/// Locks are not waited for: that there is one is the answer.
const NO_WAITING: &str = "SET LOCAL lock_timeout = '1s'";

/// When the transaction began, and when the server was started. In RFC 3339, whatever the settings.
const BEGUN: &str = r#"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
const STARTED: &str =
    r#"SELECT to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// How long the server may take to say when. It has just begun the transaction.
const ANSWER: Duration = Duration::from_secs(10);

/// A transaction that ends with a rollback.
pub struct Rehearsal(Connection);

impl Rehearsal {
    /// Begins the transaction, on a connection of its own. `watch` learns which server process works
    /// for it.
    ///
    /// # Errors
    /// The server admits no other connection.
    pub fn begin(address: &Address, watch: &Watch) -> Result<Self, PostgresError> {
        let no_connection =
            |refused: Refused| PostgresError::Unreachable(without_location(&refused.message).into());
        let mut connection = connecting::open(address, &[]).map_err(no_connection)?;
        let (begun, started) = begin(&mut connection).map_err(judge)?;
        let time = |text: String| DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc());
        if let (Ok(begun), Ok(started)) = (time(begun), time(started)) {
            watch.served_by(Backend { pid: connection.pid(), begun }, started);
        }
        Ok(Self(connection))
    }
}

fn begin(connection: &mut Connection) -> Result<(String, String), Refused> {
    for statement in ["BEGIN", super::BEGIN, NO_WAITING] {
        connection.execute(statement, &[])?;
    }
    Ok((connection.value(BEGUN, ANSWER)?, connection.value(STARTED, ANSWER)?))
}

impl Statements for Rehearsal {
    fn execute(&mut self, statement: impl QueryFragment<Pg> + QueryId) -> Result<usize, PostgresError> {
        let mut sql = PgQueryBuilder::default();
        statement.to_sql(&mut sql, &Pg)?;
        let mut binds = RawBytesBindCollector::<Pg>::new();
        statement.collect_binds(&mut binds, &mut BuiltInTypes, &Pg)?;
        let types = binds.metadata.iter().map(|metadata| metadata.oid().unwrap_or_default());
        let parameters: Vec<_> = types.zip(binds.binds).collect();
        self.0.execute(&sql.finish(), &parameters).map_err(judge)
    }

    fn copy_into_segments(
        &mut self,
        table: &str,
        write: impl Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<usize, PostgresError> {
        let copy = format!("COPY {table}{COLUMNS} FROM STDIN (FORMAT binary)");
        self.0.copy_in(&copy, |out| write(out)).map_err(judge)
    }
}

/// Diesel asks for types that the server defined. The tables have none.
struct BuiltInTypes;

impl PgMetadataLookup for BuiltInTypes {
    fn lookup_type(&mut self, _name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        PgTypeMetadata::new(0, 0)
    }
}

/// What a refused statement means.
fn judge(refused: Refused) -> PostgresError {
    let Some(sqlstate) = refused.sqlstate else { return PostgresError::Unreachable(refused.message.into()) };
    let source = format!("{sqlstate}: {}", without_location(&refused.message)).into();
    if sqlstate.blames_statement() {
        PostgresError::Statement(source)
    } else if sqlstate == SqlState::READ_ONLY {
        PostgresError::ReadOnly(source)
    } else {
        PostgresError::Busy(source)
    }
}
