//! How a command finds its group in the tables. **It makes nothing**: neither tables nor the group's row.

use super::{KafkaSource, Store, StoreError};
use crate::metric::Metric;
use crate::postgres::schema::sources;
use crate::postgres::{Isolation, PostgresError, Tables, check_rights};
use diesel::prelude::*;

impl Store {
    /// Checks the tables, and that the group was stored in them from the topics of the source that the
    /// connection was made with. From here on the source is the stored one, with its cluster. `rights` are
    /// tables with what the command needs to do with them beside a reader's work.
    ///
    /// # Errors
    /// [`PostgresError::Unsuitable`], [`PostgresError::Refused`], [`StoreError::OtherSource`]; those of the
    /// statements.
    pub fn join_group(&mut self, rights: &[(&str, &str)]) -> Result<(), StoreError> {
        let (tables, stored) = self.transaction(
            "checking the tables",
            Isolation::ReadOnlySnapshot,
            |connection, _, context| {
                let tables = Tables::look(connection)?;
                tables.check_current()?;
                check_rights(connection, rights)?;
                let group = &context.source.consumer_group;
                let stored: Option<KafkaSource> = sources::table
                    .find(group)
                    .select(KafkaSource::as_select())
                    .first(connection)
                    .optional()?;
                Ok((tables, stored.ok_or_else(|| no_such_group(group))?))
            },
        )?;
        let wanted = &self.context.source;
        if Metric::ALL.iter().any(|&metric| stored.topic(metric) != wanted.topic(metric)) {
            return Err(stored.differs_from(wanted));
        }
        (self.context.tables, self.context.source) = (tables, stored);
        self.check_tables().map(drop)
    }

    /// The group, and whose offsets its progress counts.
    pub fn source(&self) -> &KafkaSource {
        &self.context.source
    }
}

fn no_such_group(group: &str) -> StoreError {
    let what = format!("no reader of the consumer group `{group}` has stored anything in this database");
    let hint = "check --group-id and the database; the groups are in the table `sources`".to_owned();
    PostgresError::Unsuitable { what, hint }.into()
}
