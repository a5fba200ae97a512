//! What others set up in the database that would make the reader store a second time what it has stored.

use super::{Context, StoreError};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};

/// Tables `sources` of this program that this role may read, the one that the search path leads to first. `source` is
/// the table's name for a statement.
const SOURCES: &str = "
    SELECT n.nspname::text AS schema, coalesce(current_schema()::text, '') AS current,
        format('%I.%I', n.nspname, c.relname) AS source, c.oid IS NOT DISTINCT FROM to_regclass('sources')::oid AS is_ours
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = 'sources' AND c.relkind IN ('r', 'p')
        AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
        AND (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped AND attname IN
            ('consumer_group', 'cluster_id', 'recency_topic', 'frequency_topic', 'monetary_topic')) = 5
    ORDER BY is_ours DESC, n.nspname LIMIT 100";

/// A row of [`SOURCES`].
#[derive(QueryableByName)]
struct Sources {
    /// Its schema.
    #[diesel(sql_type = Text)]
    schema: String,
    /// The schema in which this connection makes tables.
    #[diesel(sql_type = Text)]
    current: String,
    /// The table.
    #[diesel(sql_type = Text)]
    source: String,
    /// Whether it is the one of this connection.
    #[diesel(sql_type = Bool)]
    is_ours: bool,
}

/// What a table says of the group.
#[derive(QueryableByName)]
struct Group {
    /// Whether it has the group.
    #[diesel(sql_type = Bool)]
    is_there: bool,
    /// Whether it has the group with this cluster and these topics.
    #[diesel(sql_type = Bool)]
    is_same: bool,
}

impl Context {
    /// Checks, before tables or rows are made, that the group has none in another schema. (The search path of a
    /// connection may be another one than before: by the URL, by the environment, or behind a pooler by what
    /// another client has set.) **A second set would store everything again.** A group of the same name with another
    /// cluster or other topics is another one: two environments may share a database.
    pub(super) fn check_schema(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let all: Vec<Sources> = diesel::sql_query(SOURCES).load(connection)?;
        let ours = all.iter().find(|sources| sources.is_ours);
        for sources in &all {
            let Group { is_there, is_same } = self.group_in(connection, &sources.source)?;
            if sources.is_ours && is_there {
                return Ok(());
            }
            if is_same {
                let (here, act) = match ours {
                    Some(ours) => (&ours.schema, "store the group again"),
                    None => (&sources.current, "make them"),
                };
                let (group, here) = (self.source.consumer_group.clone(), here.clone());
                return Err(StoreError::OtherSchema { group, here, there: sources.schema.clone(), act });
            }
        }
        Ok(())
    }

    /// What the table `source` says of this group.
    fn group_in(&self, connection: &mut PgConnection, source: &str) -> QueryResult<Group> {
        let group = format!(
            "SELECT count(*) > 0 AS is_there,
                count(*) FILTER (WHERE cluster_id::text = $2
                    AND (recency_topic::text, frequency_topic::text, monetary_topic::text) = ($3, $4, $5)) > 0 AS is_same
             FROM {source} WHERE consumer_group::text = $1"
        );
        diesel::sql_query(group)
            .bind::<Text, _>(&self.source.consumer_group)
            .bind::<Text, _>(&self.source.cluster_id)
            .bind::<Text, _>(&self.source.recency_topic)
            .bind::<Text, _>(&self.source.frequency_topic)
            .bind::<Text, _>(&self.source.monetary_topic)
            .get_result(connection)
    }
}
