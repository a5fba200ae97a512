//! Orders become snapshots: per customer, how long ago the last order was, how many there were, and their money.
//!
//! Owns the instants of the snapshots, their keys, and what is said of rows that do not count. Does not own where the
//! orders are: `csv` reads them from a file or a pipe, `sql` has a Postgres add them up. **Both give the same
//! [`Totals`] for the same orders.**

mod as_of;
mod columns;
mod csv;
mod time;
mod totals;

pub use as_of::{AsOf, Range};
pub use columns::Columns;
pub use csv::Input;
pub use totals::{LeftOut, Totals};
