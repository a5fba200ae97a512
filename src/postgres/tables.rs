//! The tables of this crate: made by migrations, and found again later.
//!
//! **Tables are made only when a program starts.** A program at work that finds some missing waits: a restore
//! is under way, and a row written meanwhile would be lost or would break it. A restore makes constraints and
//! indexes last, so tables that have theirs are whole.

use super::{PostgresError, obstacles};
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::collections::BTreeSet;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Held while migrating: Diesel takes no lock, and two programs may start at once. Any fixed number does.
const MIGRATION_LOCK: i64 = 0x0052_464D_5354_524D;

/// What there is of the tables: each table, a column of the newest migration, and each index that the
/// migrations make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(BTreeSet<String>);

/// Tables, columns and valid indexes: `progress`, `progress.commits`, `progress (consumer_group, partition)`.
const INVENTORY: &str = "
    WITH ours AS (
        SELECT oid, relname FROM pg_class WHERE oid IN (to_regclass('batches'), to_regclass('segments'),
            to_regclass('dead_letters'), to_regclass('progress'), to_regclass('sources'),
            to_regclass('segment_maps')))
    SELECT relname::text AS what FROM ours
    UNION
    SELECT format('%s.%s', relname, attname)
    FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT format('%s (%s)', relname, string_agg(attname, ', ' ORDER BY attnum))
    FROM (SELECT ours.relname, i.indexrelid, a.attname, a.attnum
          FROM ours JOIN pg_index i ON i.indrelid = ours.oid AND i.indisvalid
          JOIN pg_attribute a ON a.attrelid = i.indexrelid) columns
    GROUP BY relname, indexrelid";

/// The newest migration's column: tables of an earlier version lack it.
const NEWEST: &str = "batches.edges_from";

/// The part of the inventory that the migrations make. Users may add columns and indexes, and drop them
/// again.
const MADE_BY_MIGRATIONS: [&str; 16] = [
    NEWEST,
    "batches",
    "segments",
    "dead_letters",
    "progress",
    "sources",
    "segment_maps",
    "batches (id)",
    "batches (consumer_group, partition, recency_offset)",
    "batches (consumer_group, partition, frequency_offset)",
    "batches (consumer_group, partition, monetary_offset)",
    "segments (batch_id)",
    "dead_letters (consumer_group, topic, partition, offset)",
    "progress (consumer_group, partition)",
    "sources (consumer_group)",
    "segment_maps (segment_map, rf_score)",
];

/// Brings the tables up to date, inside the transaction of the caller. Returns the migrations that were run.
/// Programs that start together migrate one after the other: each waits until the other's transaction ends.
///
/// **A role without the right to create needs none if there is nothing to create**: somebody else made the
/// tables.
///
/// # Errors
/// [`PostgresError::Unsuitable`], and those of the statements; the caller's transaction then changes nothing.
pub fn migrate(connection: &mut PgConnection) -> Result<Vec<String>, PostgresError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
        .bind::<BigInt, _>(MIGRATION_LOCK)
        .execute(connection)?;
    if !is_pending(connection)? {
        return Ok(Vec::new());
    }
    check_right_to_create(connection)?;
    stay_in_schema(connection)?;
    let run = connection.run_pending_migrations(MIGRATIONS).map_err(obstacles::of_migration)?;
    Ok(run.iter().map(ToString::to_string).collect())
}

/// Changes tables where they are. Without this, migrations would make a second set if a schema of the role's
/// name (`"$user"`) comes before theirs.
fn stay_in_schema(connection: &mut PgConnection) -> QueryResult<()> {
    const SCHEMA: &str = "
        SELECT set_config('search_path', quote_ident(nspname), true)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('progress')";
    diesel::sql_query(SCHEMA).execute(connection).map(drop)
}

/// Whether migrations are to be run. Where nothing is known of those that were, the tables themselves tell.
fn is_pending(connection: &mut PgConnection) -> Result<bool, PostgresError> {
    let Some(run) = run_versions(connection)? else {
        return Ok(MADE_BY_MIGRATIONS.len() > Tables::look(connection)?.0.len());
    };
    let all = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(PostgresError::Statement)?;
    Ok(!all.iter().all(|migration| run.contains(&migration.name().version().to_string())))
}

/// The versions of the migrations that were run; `None` if this role cannot see them.
fn run_versions(connection: &mut PgConnection) -> Result<Option<BTreeSet<String>>, PostgresError> {
    #[derive(QueryableByName)]
    struct Version {
        /// Of a migration that was run.
        #[diesel(sql_type = Text)]
        version: String,
    }
    let known: Answer = diesel::sql_query(
        "SELECT coalesce(has_table_privilege(to_regclass('__diesel_schema_migrations'), 'SELECT'), false) AS yes",
    )
    .get_result(connection)?;
    if !known.yes {
        return Ok(None);
    }
    let run: Vec<Version> =
        diesel::sql_query("SELECT version::text FROM __diesel_schema_migrations").load(connection)?;
    Ok(Some(run.into_iter().map(|run| run.version).collect()))
}

/// The migrations that the next start of a program would run, by name. Changes nothing.
///
/// # Errors
/// [`PostgresError::Unsuitable`] if this role could not run them; those of the statements.
pub fn pending(connection: &mut PgConnection) -> Result<Vec<String>, PostgresError> {
    if !is_pending(connection)? {
        return Ok(Vec::new());
    }
    check_right_to_create(connection)?;
    let run = run_versions(connection)?.unwrap_or_default();
    let all = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(PostgresError::Statement)?;
    let pending = all.iter().filter(|migration| !run.contains(&migration.name().version().to_string()));
    Ok(pending.map(|migration| migration.name().to_string()).collect())
}

/// A yes or no of the server.
#[derive(QueryableByName)]
struct Answer {
    /// Yes.
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// Whether this role may make and change the tables.
fn check_right_to_create(connection: &mut PgConnection) -> Result<(), PostgresError> {
    #[derive(QueryableByName)]
    struct Rights {
        /// The role.
        #[diesel(sql_type = Text)]
        role: String,
        /// The schema in which tables are created; null if none of the `search_path` exists.
        #[diesel(sql_type = Nullable<Text>)]
        schema: Option<String>,
        /// Whether the role may create tables there.
        #[diesel(sql_type = Bool)]
        creates: bool,
        /// A table of the same name that this role does not own; null if there is none.
        #[diesel(sql_type = Nullable<Text>)]
        foreign: Option<String>,
        /// Whether migrations were run before.
        #[diesel(sql_type = Bool)]
        has_begun: bool,
    }
    const RIGHTS: &str = "
        SELECT current_user::text AS role, current_schema()::text AS schema,
            coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS creates,
            (SELECT min(relname::text) FROM pg_class
             WHERE oid IN (to_regclass('batches'), to_regclass('segments'), to_regclass('dead_letters'),
                           to_regclass('progress'), to_regclass('sources'))
                 AND NOT (to_regclass('__diesel_schema_migrations') IS NOT NULL
                          AND pg_has_role(relowner, 'USAGE'))) AS foreign,
            to_regclass('__diesel_schema_migrations') IS NOT NULL AS has_begun";
    let rights: Rights = diesel::sql_query(RIGHTS).get_result(connection)?;
    let Rights { role, schema, creates, foreign, has_begun } = rights;
    let here = Tables::look(connection)?;
    let (what, hint) = match (schema, foreign) {
        (None, _) => (
            format!("no schema in the search_path of role `{role}` exists, or the role may not use it"),
            "create the schema, or name another: ALTER ROLE … SET search_path, or options=-csearch_path%3DNAME in the URL"
                .to_owned(),
        ),
        (_, Some(_)) if let Some(parts) = here.missing_parts(has_begun) => (parts, MAKE_PARTS.to_owned()),
        (_, Some(table)) if has_begun => (
            format!("the tables are of an earlier version, and role `{role}` does not own `{table}`"),
            "start a reader of this version once as the owner of the tables: it brings them up to date".to_owned(),
        ),
        (Some(schema), Some(table)) => (
            format!("there is a `{table}` already, which is not this program's, in reach of schema `{schema}`"),
            "use a database or a schema of its own: CREATE SCHEMA rfm, and options=-csearch_path%3Drfm in the URL"
                .to_owned(),
        ),
        (Some(schema), None) if !creates => (
            format!("role `{role}` may not create tables in schema `{schema}`"),
            format!("allow it, GRANT CREATE ON SCHEMA {schema} TO {role}, or run migrations/ as another role"),
        ),
        _ => return Ok(()),
    };
    Err(PostgresError::Unsuitable { what, hint })
}

const MAKE_PARTS: &str = "make it as the owner of the tables, with the statements of migrations/";

/// Whether this of the inventory is a table, and not a part of one.
fn is_table(what: &str) -> bool {
    !what.contains(['(', '.'])
}

impl Tables {
    /// What is here now.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn look(connection: &mut PgConnection) -> QueryResult<Self> {
        #[derive(QueryableByName)]
        struct Row {
            /// A table, a column or an index.
            #[diesel(sql_type = Text)]
            what: String,
        }
        let rows: Vec<Row> = diesel::sql_query(INVENTORY).load(connection)?;
        let names = rows.into_iter().map(|row| row.what);
        Ok(Self(names.filter(|what| MADE_BY_MIGRATIONS.contains(&what.as_str())).collect()))
    }

    /// Says what these tables lack, if all tables are there and are not of an earlier version.
    fn missing_parts(&self, has_begun: bool) -> Option<String> {
        let has = |what: &&str| self.0.contains(*what);
        let is_earlier = has_begun && !has(&NEWEST);
        let mut tables = MADE_BY_MIGRATIONS.iter().filter(|what| is_table(what));
        if is_earlier || !tables.all(has) { None } else { self.missing() }
    }

    /// All that the migrations make.
    fn whole() -> Self {
        Self(MADE_BY_MIGRATIONS.map(ToOwned::to_owned).into())
    }

    /// Says what is missing of what migrations make; `None` if nothing is.
    pub fn missing(&self) -> Option<String> {
        Self::whole().missing_in(self)
    }

    /// Checks, when a program starts, that nothing is missing of what migrations made that were run.
    ///
    /// # Errors
    /// [`PostgresError::Unsuitable`].
    pub fn check_whole(&self) -> Result<(), PostgresError> {
        let hint = "restore what is missing; or, to start from nothing, drop all tables of this program (with \
                    CASCADE, for their views) and __diesel_schema_migrations";
        self.missing().map_or(Ok(()), |what| Err(PostgresError::Unsuitable { what, hint: hint.to_owned() }))
    }

    /// Checks, for a command, which makes nothing, that everything is here.
    ///
    /// # Errors
    /// [`PostgresError::Unsuitable`].
    pub fn check_current(&self) -> Result<(), PostgresError> {
        let hint = "start a reader of this version once, as the owner of the tables: it makes them, and brings those of an \
                    earlier version up to date. Then run the command again";
        self.missing().map_or(Ok(()), |what| Err(PostgresError::Unsuitable { what, hint: hint.to_owned() }))
    }

    /// Says what `now` lacks of this; `None` if it lacks nothing.
    pub fn missing_in(&self, now: &Self) -> Option<String> {
        let missing: Vec<&str> = self.0.difference(&now.0).map(String::as_str).collect();
        if missing.is_empty() {
            return None;
        }
        // A table that is missing has no columns and indexes either.
        let tables: Vec<&str> = missing.iter().copied().filter(|what| is_table(what)).collect();
        Some(if tables.is_empty() {
            format!("columns or indexes are missing: {}", missing.join("; "))
        } else {
            format!("tables are missing: {}", tables.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &[&str]) -> Tables {
        Tables(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn what_is_missing_is_named_tables_before_their_parts() {
        let whole = ["progress", "progress.commits", "progress (consumer_group, partition)", "sources"];
        let cases: [(&[&str], _); 4] = [
            (&whole, None),
            (
                &["progress", "progress.commits", "sources"],
                Some("columns or indexes are missing: progress (consumer_group, partition)"),
            ),
            (&["sources"], Some("tables are missing: progress")),
            (&[], Some("tables are missing: progress, sources")),
        ];
        for (now, expected) in cases {
            assert_eq!(tables(&whole).missing_in(&tables(now)).as_deref(), expected, "{now:?}");
        }
        assert_eq!(tables(&["sources"]).missing_in(&tables(&whole)), None, "more than before is no loss");
    }

    #[test]
    fn parts_are_named_only_where_all_tables_are_and_none_is_of_an_earlier_version() {
        let without = |what: &str| {
            let mut tables = Tables::whole();
            assert!(tables.0.remove(what));
            tables
        };
        let index = "segments (batch_id)";
        let cases = [
            (without(index), true, Some("columns or indexes are missing: segments (batch_id)")),
            (without(index), false, Some("columns or indexes are missing: segments (batch_id)")),
            (without(NEWEST), true, None),
            (without(NEWEST), false, Some("columns or indexes are missing: batches.edges_from")),
            (without("segments"), false, None),
            (Tables::default(), false, None),
        ];
        for (tables, has_begun, expected) in cases {
            assert_eq!(tables.missing_parts(has_begun).as_deref(), expected, "{tables:?}");
        }
    }
}
