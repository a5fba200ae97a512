//! Orders from a CSV file, or from standard input.

use super::{Columns, Totals};
use chrono::{DateTime, Utc};
use std::fmt;
use std::path::PathBuf;

/// Where the rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `--orders FILE`: read from its beginning for every snapshot.
    File(PathBuf),
    /// `--orders -`: read once.
    StandardInput,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::StandardInput => write!(f, "standard input"),
        }
    }
}

/// Adds up the orders before `as_of`.
///
/// # Errors
/// The orders cannot be read: which line and column, and of what kind the value is.
pub fn read(_input: &Input, _columns: &Columns, _as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
    todo!()
}
