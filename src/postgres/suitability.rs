//! Whether the database suits: kinds and columns of the tables, and what the role may do with them.
//!
//! **A binary COPY is not checked by Postgres**: eight bytes of a float are as good a `bigint` or `money`. So
//! the columns are compared before anything is written. Users may add columns that a row can do without.

use super::PostgresError;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Nullable, Text};

/// Per table, its columns with their types; `!` is NOT NULL, and `=` means that the database gives the value.
const COLUMNS: [(&str, &str); 6] = [
    (
        "batches",
        "id bigint!, consumer_group text!, partition integer!, recency_offset bigint!, frequency_offset bigint!, \
         monetary_offset bigint!, batch_key text, population text, as_of timestamp with time zone!, \
         customers integer!, ties text!, segment_map text!, recency_edges double precision[]!, \
         frequency_edges double precision[]!, monetary_edges double precision[]!, \
         stored_at timestamp with time zone!=, expired_at timestamp with time zone, \
         produced_at timestamp with time zone, retracted_at timestamp with time zone, \
         rf_customers integer[], rf_recency double precision[], rf_frequency double precision[], \
         rf_monetary double precision[], edges_from text, fixed_metrics text[]",
    ),
    (
        "segments",
        "batch_id bigint!, recency double precision!, frequency double precision!, monetary double precision!, \
         row_no integer!, recency_score smallint!, frequency_score smallint!, monetary_score smallint!, \
         rf_score text!, segment text!, customer_id text",
    ),
    (
        "dead_letters",
        "id bigint!=, consumer_group text!, topic text!, partition integer!, offset bigint!, key bytea, \
         value bytea, reason text!, detail text!, produced_at timestamp with time zone, \
         stored_at timestamp with time zone!=, refused_with bigint",
    ),
    (
        "progress",
        "consumer_group text!, partition integer!, epoch bigint!, recency_next bigint!, frequency_next bigint!, \
         monetary_next bigint!, owner uuid, commits bigint!, updated_at timestamp with time zone, \
         recency_leader_epoch integer, frequency_leader_epoch integer, monetary_leader_epoch integer, log_cut text",
    ),
    (
        "sources",
        "consumer_group text!, cluster_id text!, recency_topic text!, frequency_topic text!, monetary_topic text!, \
         recency_topic_id text, frequency_topic_id text, monetary_topic_id text",
    ),
    ("segment_maps", "segment_map text!, rf_score text!, segment text!"),
];

/// What the role must be allowed to do with each table. `batches` gets its ids from a sequence.
const RIGHTS: [(&str, &str); 6] = [
    ("batches", "SELECT, INSERT"),
    ("segments", "SELECT, INSERT"),
    ("dead_letters", "SELECT, INSERT"),
    ("progress", "SELECT, INSERT, UPDATE"),
    ("sources", "SELECT, INSERT, UPDATE"),
    ("segment_maps", "SELECT, INSERT"),
];

/// A table of ours as it is. Columns of which one is nullable are written as in [`COLUMNS`].
#[derive(Debug, QueryableByName)]
struct Found {
    /// Its name.
    #[diesel(sql_type = Text)]
    name: String,
    /// Whether rows can be written to it: a table, perhaps partitioned.
    #[diesel(sql_type = Bool)]
    is_table: bool,
    /// Its name, or the names of its partitions, if Postgres empties it or them after a crash.
    #[diesel(sql_type = Array<Text>)]
    unlogged: Vec<String>,
    /// Whether policies hide rows from this role.
    #[diesel(sql_type = Bool)]
    hides_rows: bool,
    /// What this role may not do.
    #[diesel(sql_type = Array<Text>)]
    lacks: Vec<String>,
    /// Its columns.
    #[diesel(sql_type = Array<Text>)]
    columns: Vec<String>,
}

const TABLES: &str = "
    SELECT c.relname::text AS name, c.relkind IN ('r', 'p') AS is_table,
        ARRAY(SELECT u.relname::text FROM pg_class u WHERE u.relpersistence = 'u'
              AND (u.oid = c.oid OR u.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid))) AS unlogged,
        row_security_active(c.oid) AS hides_rows,
        ARRAY(SELECT r FROM unnest(string_to_array(w.rights, ', ')) r
              WHERE NOT has_table_privilege(c.oid, r) AND NOT has_any_column_privilege(c.oid, r)) AS lacks,
        ARRAY(SELECT format('%s %s', attname, format_type(atttypid, atttypmod))
                  || CASE WHEN attnotnull THEN '!' ELSE '' END
                  || CASE WHEN atthasdef OR attidentity <> '' THEN '=' ELSE '' END
                  || CASE WHEN attgenerated <> '' THEN ' GENERATED' ELSE '' END
              FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum) AS columns
    FROM unnest($1::text[], $2::text[]) AS w (name, rights) JOIN pg_class c ON c.oid = to_regclass(w.name)";

/// The sequence of the ids of batches.
const SEQUENCE: &str = "
    SELECT s IS NOT NULL AS is_there,
        CASE WHEN s IS NULL THEN false ELSE has_sequence_privilege(s, 'USAGE') END AS is_allowed,
        current_user::text AS role
    FROM (SELECT to_regclass('batches_id_seq')::oid AS s) AS sequence";

/// What [`SEQUENCE`] answers.
#[derive(QueryableByName)]
struct Sequence {
    /// Whether it exists.
    #[diesel(sql_type = Bool)]
    is_there: bool,
    /// Whether this role may use it.
    #[diesel(sql_type = Bool)]
    is_allowed: bool,
    /// The role.
    #[diesel(sql_type = Text)]
    role: String,
}

/// What does not prevent the work, but should be known. For the log.
pub type Warnings = Vec<String>;

/// Checks the tables that exist.
///
/// # Errors
/// [`PostgresError::Unsuitable`]; [`PostgresError::Refused`] if a right is missing; those of the statements.
pub fn check(connection: &mut PgConnection) -> Result<Warnings, PostgresError> {
    let (names, rights): (Vec<_>, Vec<_>) = RIGHTS.into_iter().unzip();
    let tables: Vec<Found> = diesel::sql_query(TABLES)
        .bind::<Array<Text>, _>(names)
        .bind::<Array<Text>, _>(rights)
        .load(connection)?;
    let sequence: Sequence = diesel::sql_query(SEQUENCE).get_result(connection)?;
    for (table, columns) in COLUMNS {
        let Some(found) = tables.iter().find(|found| found.name == table) else { continue };
        if let Some(what) = found.differs(columns) {
            let hint = "the tables must be as migrations/ makes them; change the column back, or use another database \
                        or schema";
            return Err(PostgresError::Unsuitable { what, hint: hint.to_owned() });
        }
        if found.hides_rows {
            return Err(PostgresError::Unsuitable {
                what: format!("row-level security applies to `{table}` for role `{}`", sequence.role),
                hint: format!(
                    "the reader must see and write all rows: let the owner of the tables run it, or ALTER ROLE … BYPASSRLS, \
                     or ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
                ),
            });
        }
        if let Some(what) = found.forbids(&sequence.role) {
            let hint = format!("allow it as the owner of the table: GRANT … ON {table} TO {}", sequence.role);
            return Err(PostgresError::Refused { source: what.into(), hint });
        }
    }
    if tables.iter().any(|found| found.name == "batches") {
        sequence.check()?;
    }
    Ok(tables
        .iter()
        .flat_map(|found| &found.unlogged)
        .map(|name| unlogged(name))
        .chain(encoding(connection)?)
        .collect())
}

/// Checks that this role has rights beside those of a reader: tables, with the rights.
///
/// # Errors
/// [`PostgresError::Refused`]; those of the statement.
pub fn check_rights(connection: &mut PgConnection, rights: &[(&str, &str)]) -> Result<(), PostgresError> {
    #[derive(QueryableByName)]
    struct Lacking {
        /// The table.
        #[diesel(sql_type = Text)]
        name: String,
        /// The right.
        #[diesel(sql_type = Text)]
        lacks: String,
        /// The role.
        #[diesel(sql_type = Text)]
        role: String,
    }
    const LACKING: &str = "
        SELECT w.name, r AS lacks, current_user::text AS role
        FROM unnest($1::text[], $2::text[]) AS w (name, rights), unnest(string_to_array(w.rights, ', ')) r
        WHERE NOT has_table_privilege(to_regclass(w.name)::oid, r) LIMIT 1";
    let (names, rights): (Vec<_>, Vec<_>) = rights.iter().copied().unzip();
    let lacking: Option<Lacking> = diesel::sql_query(LACKING)
        .bind::<Array<Text>, _>(names)
        .bind::<Array<Text>, _>(rights)
        .get_result(connection)
        .optional()?;
    let Some(Lacking { name, lacks, role }) = lacking else { return Ok(()) };
    let source = format!("role `{role}` has no right to {lacks} on table `{name}`").into();
    let hint = format!("run the command as the owner of the tables; or GRANT {lacks} ON {name} TO {role}");
    Err(PostgresError::Refused { source, hint })
}

impl Found {
    /// How it differs from what it should be.
    fn differs(&self, expected: &str) -> Option<String> {
        let name = &self.name;
        if !self.is_table {
            return Some(format!("`{name}` is not a table (but a view or a foreign table)"));
        }
        for column in expected.split(", ") {
            let column_name = column.split(' ').next().unwrap_or_default();
            let Some(found) = self.columns.iter().find(|found| found.split(' ').next() == Some(column_name))
            else {
                return Some(format!("table `{name}` has no column `{column_name}`"));
            };
            // Every column may have a default; some must.
            if found != column && found.strip_suffix('=') != Some(column) {
                let (found, column) = (described(found), described(column));
                return Some(format!("table `{name}` has the column `{found}` and should have `{column}`"));
            }
        }
        let is_ours = |found: &str| {
            expected.split(", ").any(|column| column.split(' ').next() == found.split(' ').next())
        };
        let stray = self.columns.iter().find(|found| !is_ours(found) && found.ends_with('!'))?;
        Some(format!(
            "table `{name}` has the column `{}`, which this program does not fill",
            described(stray)
        ))
    }

    /// What the role `role` may not do with it.
    fn forbids(&self, role: &str) -> Option<String> {
        let name = &self.name;
        let lacks = self.lacks.join(", ");
        (!lacks.is_empty()).then(|| format!("role `{role}` has no right to {lacks} on table `{name}`"))
    }
}

/// The warning of a table that a crash empties.
fn unlogged(name: &str) -> String {
    format!(
        "table `{name}` is UNLOGGED: a crash of Postgres empties it, and this group does not store again what it had; \
         ALTER TABLE {name} SET LOGGED keeps it"
    )
}

/// A column in SQL's words.
fn described(column: &str) -> String {
    column.replace('=', " DEFAULT …").replace('!', " NOT NULL")
}

impl Sequence {
    fn check(self) -> Result<(), PostgresError> {
        let Self { is_there, is_allowed, role } = self;
        match (is_there, is_allowed) {
            (true, true) => Ok(()),
            (true, false) => Err(PostgresError::Refused {
                source: format!("role `{role}` has no right to USAGE on sequence `batches_id_seq`").into(),
                hint: format!("allow it as its owner: GRANT USAGE ON SEQUENCE batches_id_seq TO {role}"),
            }),
            (false, _) => Err(PostgresError::Unsuitable {
                what: "there is no sequence `batches_id_seq` for the ids of batches".to_owned(),
                hint: "make the tables as migrations/ does: batches.id is GENERATED BY DEFAULT AS IDENTITY"
                    .to_owned(),
            }),
        }
    }
}

/// A database that cannot store every text.
fn encoding(connection: &mut PgConnection) -> QueryResult<Option<String>> {
    #[derive(QueryableByName)]
    struct Row {
        /// `UTF8`, `LATIN1`, …; null if it can store every text.
        #[diesel(sql_type = Nullable<Text>)]
        encoding: Option<String>,
    }
    const ENCODING: &str = "
        SELECT CASE WHEN e NOT IN ('UTF8', 'SQL_ASCII') THEN e END AS encoding
        FROM (SELECT current_setting('server_encoding') AS e) AS setting";
    let Row { encoding } = diesel::sql_query(ENCODING).get_result(connection)?;
    Ok(encoding.map(|encoding| {
        format!(
            "the database has the encoding {encoding}: the first customer id, population or key with another character \
             stops the reader; better: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with the columns that it should have, and changes of them.
    fn found(change: impl Fn(Vec<String>) -> Vec<String>) -> Found {
        let columns = COLUMNS[1].1.split(", ").map(ToOwned::to_owned).collect();
        Found {
            name: "segments".to_owned(),
            is_table: true,
            unlogged: Vec::new(),
            hides_rows: false,
            lacks: Vec::new(),
            columns: change(columns),
        }
    }

    #[test]
    fn columns_that_someone_changed_are_named() {
        let replace = |from: &'static str, to: &'static str| {
            found(move |columns| columns.into_iter().map(|column| column.replace(from, to)).collect())
        };
        let add = |column: &'static str| {
            found(move |columns| columns.into_iter().chain([column.to_owned()]).collect())
        };
        let cases = [
            (found(|columns| columns), None),
            (found(|columns| columns.into_iter().rev().collect()), None),
            (replace("segment text!", "segment text!="), None),
            (add("note text"), None),
            (add("note text!="), None),
            (add("note text!"), Some("`note text NOT NULL`, which this program does not fill")),
            (
                replace("monetary double precision!", "monetary money!"),
                Some("`monetary money NOT NULL` and should have `monetary double precision NOT NULL`"),
            ),
            (replace("monetary double precision!", "monetary double precision"), Some("should have")),
            (replace("customer_id text", "customer_id text!"), Some("customer_id text NOT NULL")),
            (replace("customer_id text", "buyer text"), Some("has no column `customer_id`")),
        ];
        for (table, expected) in cases {
            let what = table.differs(COLUMNS[1].1);
            match expected {
                None => assert_eq!(what, None),
                Some(words) => {
                    assert!(what.as_ref().is_some_and(|what| what.contains(words)), "{words}: {what:?}")
                }
            }
        }
        let view = Found { is_table: false, ..found(|columns| columns) };
        assert!(view.differs(COLUMNS[1].1).is_some());
    }

    #[test]
    fn what_a_role_may_not_do_is_named() {
        let table = found(|columns| columns);
        assert_eq!(table.forbids("rfm"), None);
        let table = Found { lacks: vec!["INSERT".to_owned()], ..table };
        assert_eq!(table.forbids("rfm").unwrap(), "role `rfm` has no right to INSERT on table `segments`");
    }
}
