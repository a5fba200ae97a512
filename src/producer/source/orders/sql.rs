//! Orders in a Postgres, which adds them up itself.

use super::{Columns, Totals};
use crate::postgres::Address;
use chrono::{DateTime, Utc};
use std::fmt;

/// `--orders-sql`, and where it runs.
#[derive(Clone, Debug)]
pub struct Query {
    /// A statement whose rows are orders.
    pub text: String,
    /// `--orders-url`
    pub address: Address,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the query on {}", self.address)
    }
}

/// Adds up the orders before `as_of`.
///
/// # Errors
/// What Postgres refuses, and why; or which column is of a type that cannot be added up.
pub fn read(_query: &Query, _columns: &Columns, _as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
    todo!()
}
