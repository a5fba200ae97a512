//! What kind of server it is, and how it is set up.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Timestamptz};
use std::time::Duration;

/// Settings that may hurt. Those of a session are read as the session gets them, since a transaction of ours has
/// its own.
const SETTINGS: [&str; 7] = [
    "autovacuum",
    "default_transaction_read_only",
    "fsync",
    "full_page_writes",
    "idle_session_timeout",
    "synchronous_commit",
    "synchronous_standby_names",
];

/// What the server says of itself.
#[derive(Clone, Debug, QueryableByName)]
pub struct Facts {
    /// Its version as a text.
    #[diesel(sql_type = Text)]
    pub version: String,
    /// The same as a number: 150014.
    #[diesel(sql_type = Integer)]
    pub number: i32,
    /// Whether it is a standby.
    #[diesel(sql_type = Bool)]
    pub is_standby: bool,
    /// Standbys that follow it.
    #[diesel(sql_type = BigInt)]
    pub standbys: i64,
    /// The role.
    #[diesel(sql_type = Text)]
    pub role: String,
    /// Connections that the role, the database and the server may have; -1 for no limit. (Only the
    /// server's applies to a superuser.)
    #[diesel(sql_type = Array<Integer>)]
    pub limits: Vec<i32>,
    /// Connections that each of them has, this one among them.
    #[diesel(sql_type = Array<BigInt>)]
    pub used: Vec<i64>,
    /// The names of settings, and their values in the same order.
    #[diesel(sql_type = Array<Text>)]
    names: Vec<String>,
    /// See `names`.
    #[diesel(sql_type = Array<Text>)]
    values: Vec<String>,
}

const FACTS: &str = "
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
        pg_is_in_recovery() AS is_standby, (SELECT count(*) FROM pg_stat_replication) AS standbys,
        session_user::text AS role,
        CASE WHEN rolsuper THEN ARRAY[-1, -1, current_setting('max_connections')::int]
            ELSE ARRAY[rolconnlimit, datconnlimit, current_setting('max_connections')::int
                - current_setting('superuser_reserved_connections')::int] END AS limits,
        ARRAY[count(*) FILTER (WHERE a.usesysid = r.oid), count(*) FILTER (WHERE a.datid = d.oid), count(*)] AS used,
        (SELECT array_agg(name ORDER BY name) FROM pg_settings WHERE name = ANY($1)) AS names,
        (SELECT array_agg(coalesce(reset_val, '') ORDER BY name) FROM pg_settings WHERE name = ANY($1)) AS values
    FROM pg_roles r, pg_database d, pg_stat_activity a
    WHERE r.rolname = session_user AND d.datname = current_database()
        AND a.backend_type = 'client backend'
    GROUP BY r.oid, rolconnlimit, rolsuper, d.oid, datconnlimit";

impl Facts {
    /// Asks for them.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn ask(connection: &mut PgConnection) -> QueryResult<Self> {
        diesel::sql_query(FACTS).bind::<Array<Text>, _>(SETTINGS.to_vec()).get_result(connection)
    }

    /// A setting; empty if this version does not have it.
    pub fn setting(&self, name: &str) -> &str {
        let mut settings = self.names.iter().zip(&self.values);
        settings.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }
}

/// How far the server's clock is from that of this host, at least: the time of the question counts for neither.
///
/// # Errors
/// Those of the statement.
pub fn clock_skew(connection: &mut PgConnection) -> QueryResult<Duration> {
    #[derive(QueryableByName)]
    struct Clock {
        /// The time of the server.
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
    }
    let before = Utc::now();
    let Clock { now } = diesel::sql_query("SELECT clock_timestamp() AS now").get_result(connection)?;
    let after = Utc::now();
    Ok((before - now).max(now - after).to_std().unwrap_or_default())
}
