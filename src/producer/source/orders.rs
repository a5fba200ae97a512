//! Orders become snapshots: per customer, how long ago the last order was, how many there were, and their money.
//!
//! Owns the instants of the snapshots, their keys, and what is said of rows that do not count. Does not own where the
//! orders are: `csv` reads them from a file or a pipe, `sql` has a Postgres add them up. **Both give the same
//! [`Totals`] for the same orders.**
//!
//! **A range that is run again goes on where it ended:** a snapshot of which the topics have the same messages is not
//! sent; one whose orders were corrected is.

mod as_of;
mod columns;
pub mod csv;
pub mod sql;
mod time;
mod totals;

pub use as_of::{AsOf, Range};
pub use columns::Columns;
pub use totals::{LeftOut, Totals};

use super::Snapshots;
use crate::kafka::Newest;
use crate::message::{EncodedSnapshot, Snapshot};
use crate::metrics::{IntCounter, IntCounterVec};
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

/// Whose orders, and as of when.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Where they are.
    pub place: Place,
    /// `--orders-columns`
    pub columns: Columns,
    /// `--as-of`
    pub as_of: AsOf,
    /// `--population`
    pub population: Option<String>,
}

/// Where orders are.
#[derive(Clone, Debug)]
pub enum Place {
    /// `--orders`
    Csv(csv::Input),
    /// `--orders-sql` and `--orders-url`
    Sql(sql::Query),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Csv(input) => input.fmt(f),
            Self::Sql(query) => query.fmt(f),
        }
    }
}

impl Place {
    /// Adds up the orders before `as_of`.
    ///
    /// # Errors
    /// They cannot be read: what is wrong, where, and what to do.
    pub fn read(&self, columns: &Columns, as_of: DateTime<Utc>) -> anyhow::Result<Totals> {
        match self {
            Self::Csv(input) => csv::read(input, columns, as_of),
            Self::Sql(query) => sql::read(query, columns, as_of),
        }
    }
}

impl Place {
    /// Looks whether the orders can be read, without reading them, and says what was found.
    ///
    /// # Errors
    /// They cannot: why not.
    pub fn check(&self, columns: &Columns) -> anyhow::Result<String> {
        match self {
            Self::Csv(csv::Input::StandardInput) => Ok("standard input, which is not looked at".to_owned()),
            Self::Csv(input) => {
                csv::check(input, columns).map(|()| format!("{input} has the columns {columns}"))
            }
            Self::Sql(query) => sql::check(query, columns),
        }
    }
}

/// The counters of `/metrics`.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Orders read.
    pub read: IntCounter,
    /// What was left out, by reason.
    pub left_out: IntCounterVec,
}

impl Counters {
    /// The names of the reasons, in the order of the fields of [`LeftOut`].
    pub const REASONS: [&str; 2] = ["no_customer", "refunds_only"];

    fn add(&self, totals: &Totals) {
        let LeftOut { no_customer, refunds_only } = totals.left_out;
        self.read.inc_by(totals.orders);
        for (reason, count) in Self::REASONS.into_iter().zip([no_customer, refunds_only]) {
            self.left_out.with_label_values(&[reason]).inc_by(count);
        }
    }
}

impl Orders {
    /// Whether there is an end: a range has one, and a pipe is read once.
    pub fn is_finite(&self) -> bool {
        matches!(self.as_of, AsOf::Range(_)) || matches!(self.place, Place::Csv(csv::Input::StandardInput))
    }

    /// How many snapshots there are at most; `None`: no end.
    pub fn most(&self) -> Option<u64> {
        match &self.as_of {
            AsOf::Range(range) => Some(range.instants().count() as u64),
            AsOf::Now => self.is_finite().then_some(1),
        }
    }

    /// The keys of the snapshots of a range; none if the instants are not known yet.
    pub fn keys(&self) -> HashSet<String> {
        match &self.as_of {
            AsOf::Range(range) => range.instants().map(|as_of| self.key(as_of)).collect(),
            AsOf::Now => HashSet::new(),
        }
    }

    /// The snapshots, without those that the topics have, as `newest` says.
    pub fn snapshots(self, newest: Newest, counters: Counters) -> Snapshots {
        let is_now = self.as_of == AsOf::Now;
        let mut instants: Box<dyn Iterator<Item = DateTime<Utc>> + Send> = match &self.as_of {
            AsOf::Range(range) => Box::new(range.instants()),
            AsOf::Now if self.is_finite() => Box::new(std::iter::once_with(now)),
            AsOf::Now => Box::new(std::iter::repeat_with(now)),
        };
        Box::new(std::iter::from_fn(move || {
            for as_of in instants.by_ref() {
                match self.snapshot(as_of, &counters) {
                    Ok(Some(snapshot)) if newest.has(&snapshot) => {
                        tracing::info!(
                            key = snapshot.key,
                            "the topics have this snapshot; it is not sent again"
                        );
                    }
                    Ok(None) if !is_now => {
                        tracing::warn!(as_of = %shown(as_of), "no customer has an order before this time: nothing to send");
                    }
                    found => return Some(found.and_then(|found| found.context(NO_CUSTOMER))),
                }
            }
            None
        }))
    }

    /// The snapshot as of an instant; `None`: nobody has ordered before.
    fn snapshot(&self, as_of: DateTime<Utc>, counters: &Counters) -> anyhow::Result<Option<EncodedSnapshot>> {
        let begun = Instant::now();
        let read = self.place.read(&self.columns, as_of);
        let totals = read.with_context(|| format!("{} cannot be read", self.place))?;
        counters.add(&totals);
        log_read(&totals, as_of, begun.elapsed());
        if totals.ids.is_empty() {
            return Ok(None);
        }
        let snapshot = Snapshot {
            key: self.key(as_of),
            as_of: Some(as_of),
            population: self.population.clone(),
            customer_ids: Some(totals.ids),
            columns: totals.columns,
        };
        snapshot.encode().map(Some)
    }

    /// The batch key: whose customers, as of when.
    fn key(&self, as_of: DateTime<Utc>) -> String {
        let as_of = shown(as_of);
        self.population.as_ref().map_or_else(|| as_of.clone(), |population| format!("{population}@{as_of}"))
    }
}

/// Why a daemon has nothing to send.
const NO_CUSTOMER: &str = "no customer has an order yet";

/// The time, as precisely as Postgres can store it.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// RFC 3339 with `Z`, and a fraction only if there is one.
fn shown(as_of: DateTime<Utc>) -> String {
    as_of.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Writes a line per reading, with how many rows do not count.
fn log_read(totals: &Totals, as_of: DateTime<Utc>, took: Duration) {
    let (orders, customers) = (totals.orders, totals.ids.len());
    let (as_of, ms) = (shown(as_of), took.as_millis() as u64);
    let some = |count: u64| (count > 0).then_some(count);
    let LeftOut { no_customer, refunds_only } = totals.left_out;
    let (no_customer, refunds_only) = (some(no_customer), some(refunds_only));
    tracing::info!(as_of, orders, customers, no_customer, refunds_only, ms, "read orders");
}
