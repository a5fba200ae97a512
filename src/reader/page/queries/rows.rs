//! What the queries give: rows of the views, and of `batches`.

use super::super::request::Named;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz};

/// A state of the tables: if it is the same, so are the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, QueryableByName)]
pub struct Version {
    /// The highest id of a batch.
    #[diesel(sql_type = BigInt)]
    newest: i64,
    /// How many commits the group has made.
    #[diesel(sql_type = BigInt)]
    commits: i64,
}

/// A population of the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub struct Population {
    /// What addresses name it.
    #[diesel(sql_type = Text)]
    pub named: Named,
    /// How its name begins; empty if it has none.
    #[diesel(sql_type = Text)]
    pub begins: String,
}

/// A snapshot: a row of `snapshots`.
#[derive(Clone, Debug, QueryableByName)]
pub struct Snapshot {
    /// The batch that counts.
    #[diesel(sql_type = BigInt)]
    pub batch_id: i64,
    /// Whose customers.
    #[diesel(sql_type = Nullable<Text>)]
    pub population: Option<String>,
    /// When they were so.
    #[diesel(sql_type = Timestamptz)]
    pub as_of: DateTime<Utc>,
    /// When the newest of its messages was sent.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub produced_at: Option<DateTime<Utc>>,
    /// How many.
    #[diesel(sql_type = Integer)]
    pub customers: i32,
    /// Whether its rows were taken away.
    #[diesel(sql_type = Bool)]
    pub expired: bool,
    /// Equal neighbouring edges; `None` if nobody knows which metrics have quintiles.
    #[diesel(sql_type = Nullable<Integer>)]
    pub empty_quintiles: Option<i32>,
    /// The batch that counts for the snapshot before.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub previous_batch_id: Option<i64>,
    /// The map that named its segments.
    #[diesel(sql_type = Text)]
    pub segment_map: String,
    /// Customers per cell; `None` if an earlier version stored it.
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    pub rf_customers: Option<Vec<i32>>,
}

/// A batch.
#[derive(Clone, Debug, QueryableByName)]
pub struct Batch {
    /// Its id.
    #[diesel(sql_type = BigInt)]
    pub batch_id: i64,
    /// Whose customers.
    #[diesel(sql_type = Nullable<Text>)]
    pub population: Option<String>,
    /// When they were so.
    #[diesel(sql_type = Timestamptz)]
    pub as_of: DateTime<Utc>,
    /// When the newest of its messages was sent.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub produced_at: Option<DateTime<Utc>>,
    /// When it was stored.
    #[diesel(sql_type = Timestamptz)]
    pub stored_at: DateTime<Utc>,
    /// How many customers.
    #[diesel(sql_type = Integer)]
    pub customers: i32,
    /// `--ties`
    #[diesel(sql_type = Text)]
    pub ties: String,
    /// `default`, or the hash of a file.
    #[diesel(sql_type = Text)]
    pub segment_map: String,
    /// Where its edges are from.
    #[diesel(sql_type = Nullable<Text>)]
    pub edges_from: Option<String>,
    /// Whether `--retain` took its rows away.
    #[diesel(sql_type = Bool)]
    pub expired: bool,
    /// Whether it was retracted.
    #[diesel(sql_type = Bool)]
    pub retracted: bool,
}

/// A cell of the RF grid. All numbers are `None` if an earlier version stored the batch.
#[derive(Clone, Debug, QueryableByName)]
pub struct Cell {
    /// Its two scores.
    #[diesel(sql_type = Text)]
    pub rf_score: String,
    /// Its segment.
    #[diesel(sql_type = Text)]
    pub segment: String,
    /// Its customers.
    #[diesel(sql_type = Nullable<Integer>)]
    pub customers: Option<i32>,
    /// The sum of their recency.
    #[diesel(sql_type = Nullable<Double>)]
    pub recency: Option<f64>,
    /// The sum of their frequency.
    #[diesel(sql_type = Nullable<Double>)]
    pub frequency: Option<f64>,
    /// The sum of their monetary value.
    #[diesel(sql_type = Nullable<Double>)]
    pub monetary: Option<f64>,
}

impl Cell {
    /// The mean of a sum over the cell.
    pub fn mean(&self, sum: Option<f64>) -> Option<f64> {
        let customers = self.customers.filter(|&customers| customers > 0)?;
        Some(sum? / f64::from(customers))
    }
}

/// A row of `segment_summary`.
#[derive(Clone, Debug, QueryableByName)]
pub struct Summary {
    /// The batch.
    #[diesel(sql_type = BigInt)]
    pub batch_id: i64,
    /// The segment.
    #[diesel(sql_type = Text)]
    pub segment: String,
    /// Its customers.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub customers: Option<i64>,
    /// Which part of all customers these are.
    #[diesel(sql_type = Nullable<Double>)]
    pub share: Option<f64>,
    /// Their mean recency.
    #[diesel(sql_type = Nullable<Double>)]
    pub mean_recency: Option<f64>,
    /// Their mean frequency.
    #[diesel(sql_type = Nullable<Double>)]
    pub mean_frequency: Option<f64>,
    /// The sum of their monetary value.
    #[diesel(sql_type = Nullable<Double>)]
    pub monetary: Option<f64>,
    /// Which part of the whole sum this is.
    #[diesel(sql_type = Nullable<Double>)]
    pub monetary_share: Option<f64>,
}

/// A row of `segment_moves`.
#[derive(Clone, Debug, QueryableByName)]
pub struct Move {
    /// Where they were; `None`: they were not there.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_segment: Option<String>,
    /// Where they are; `None`: they are gone.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_segment: Option<String>,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub customers: i64,
}

/// The segment of a score.
#[derive(Clone, Debug, QueryableByName)]
pub struct Rule {
    /// The map.
    #[diesel(sql_type = Text)]
    pub segment_map: String,
    /// The score.
    #[diesel(sql_type = Text)]
    pub rf_score: String,
    /// The segment.
    #[diesel(sql_type = Text)]
    pub segment: String,
}
