//! What stands in the way of a migration: objects of users.
//!
//! **The migrations' own words are recognised here**, since Diesel hides all of an error but its words.

use super::PostgresError;

/// What a migration says that finds objects of users which it cannot make again. Diesel hides all of the error but
/// its words; these are our own (`migrations/2026-11-27-000000_partition_segments`).
const CANNOT_CARRY: &str = "cannot be carried over: ";

/// What a migration says that finds objects of users under its names (`migrations/2026-11-27-300000_results`).
const TAKEN: &str = "names that are taken: ";

/// The error of a migration that was not run.
pub(super) fn of_migration(error: Box<dyn std::error::Error + Send + Sync>) -> PostgresError {
    let said = error.to_string();
    if let Some((_, what)) = said.split_once(TAKEN) {
        return PostgresError::Unsuitable {
            what: format!(
                "this version makes a table, views and functions, and there are others of these names: {what}"
            ),
            hint: "rename or drop yours, and start the reader again; or use a schema of its own".to_owned(),
        };
    }
    if let Some((_, what)) = said.split_once(CANNOT_CARRY) {
        return PostgresError::Unsuitable {
            what: format!(
                "this version makes `segments` a partitioned table, and this cannot be carried over: {what}"
            ),
            hint: "drop or change it, start the reader again, and then make it again on the new table"
                .to_owned(),
        };
    }
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => PostgresError::from(*error),
        Err(error) => PostgresError::Statement(error),
    }
}
