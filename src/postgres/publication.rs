//! Logical replication: whether rows of a table may be deleted.
//!
//! Postgres refuses to delete rows of a published table that nothing identifies to the subscribers. **Its
//! code (55000) is that of many other errors, and Diesel hides it**, so the catalog is asked before.

use super::PostgresError;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

/// The first publication that keeps rows of the table, or of one of its partitions, from being deleted.
const FORBIDDEN_BY: &str = "
    SELECT (
        SELECT format('%I', p.pubname)
        FROM (SELECT $1::regclass AS leaf UNION SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf) t
        JOIN pg_class c ON c.oid = t.leaf AND c.relkind = 'r'
        JOIN LATERAL (SELECT t.leaf AS published UNION SELECT relid FROM pg_partition_ancestors(t.leaf)) a ON true
        JOIN pg_class pc ON pc.oid = a.published
        JOIN pg_namespace n ON n.oid = pc.relnamespace
        JOIN pg_publication_tables pt ON pt.schemaname = n.nspname AND pt.tablename = pc.relname
        JOIN pg_publication p ON p.pubname = pt.pubname AND p.pubdelete
        WHERE c.relreplident = 'n'
            OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)
        ORDER BY p.pubname LIMIT 1) AS publication";

/// A row of [`FORBIDDEN_BY`].
#[derive(QueryableByName)]
struct Publication {
    /// Its name, as a statement writes it.
    #[diesel(sql_type = Nullable<Text>)]
    publication: Option<String>,
}

/// Checks that rows of `table` may be deleted.
///
/// # Errors
/// [`PostgresError::Unsuitable`]; those of the statement.
pub fn check_deletes(connection: &mut PgConnection, table: &str) -> Result<(), PostgresError> {
    let found: Publication = diesel::sql_query(FORBIDDEN_BY).bind::<Text, _>(table).get_result(connection)?;
    let Some(publication) = found.publication else { return Ok(()) };
    Err(PostgresError::Unsuitable {
        what: format!(
            "rows of `{table}` cannot be deleted: the publication {publication} publishes deletes, and the table has no \
             replica identity"
        ),
        hint: format!(
            "ALTER TABLE {table} REPLICA IDENTITY FULL (of a partitioned table: of each partition); or do not publish \
             deletes: ALTER PUBLICATION {publication} SET (publish = 'insert, update')"
        ),
    })
}
