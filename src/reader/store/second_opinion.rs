//! Whether the rows of a commit are to blame for its failure, or the state of the server.

use super::insert::{self, Added};
use super::{Part, Store, StoreError};
use crate::postgres::{LOCK_TIMEOUT, PostgresError};
use crate::reader::score::{Rules, Scored};
use std::time::Duration;

impl Store {
    /// Judges a commit that failed after `took`, for a reason that Diesel does not tell: executes it once more
    /// and rolls back. What is refused then has a code. If nothing is, the first error stays.
    pub(super) fn second_opinion(
        &mut self,
        rules: &Rules,
        parts: &[Part],
        error: StoreError,
        took: Duration,
    ) -> StoreError {
        if !error.blames_statement() {
            return error;
        }
        match (self.rehearse(rules, parts), error) {
            (Ok(()), error) => error,
            // There was no other connection to ask on. What failed this late may have waited for a lock.
            (Err(StoreError::Postgres(PostgresError::Unreachable(_))), StoreError::Postgres(error))
                if took >= LOCK_TIMEOUT =>
            {
                error.on_lock().into()
            }
            (Err(StoreError::Postgres(PostgresError::Unreachable(_))), error) => error,
            (Err(why), _) => why,
        }
    }

    fn rehearse(&mut self, rules: &Rules, parts: &[Part]) -> Result<(), StoreError> {
        let Self { client, context, address } = self;
        let scored: Vec<&Scored> = parts.iter().flat_map(|part| &part.batches).collect();
        let (ids, windows) = client.ask("asking for ids", |connection| {
            let ids = insert::new_batch_ids(connection, scored.len())?;
            let windows = context.windows_of(connection, &ids)?;
            Ok::<_, StoreError>((ids, windows))
        })?;
        let (source, windows) = (&context.source, &windows);
        let added = Added { rules, source, ids: &ids, windows, scored: &scored, parts };
        client.rehearse("finding out why a commit failed", address, |rehearsal, watch| {
            added.insert(rehearsal, watch)
        })
    }
}
