//! What is known of the customers at one instant: what a source of orders gives, and what a snapshot is made of.

use crate::message::CustomerIds;
use crate::metric::PerMetric;
use chrono::{DateTime, Utc};

/// One column per metric, for the customers with an order before the instant, in ascending order of their ids'
/// bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Who they are.
    pub ids: CustomerIds,
    /// Whole days since the last order; orders; money, rounded once from its exact sum.
    pub columns: PerMetric<Vec<f64>>,
    /// Rows before the instant, refunds and those without a customer included.
    pub orders: u64,
    /// What of them does not count.
    pub left_out: LeftOut,
}

/// What is left out of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Rows whose customer is empty or null.
    pub no_customer: u64,
    /// Customers with nothing but refunds.
    pub refunds_only: u64,
}

impl Totals {
    /// Appends a customer.
    pub fn push(
        &mut self,
        id: &str,
        last_order: DateTime<Utc>,
        orders: u64,
        money: f64,
        as_of: DateTime<Utc>,
    ) {
        self.ids.push(id);
        self.columns.recency.push(whole_days(last_order, as_of));
        self.columns.frequency.push(orders as f64);
        self.columns.monetary.push(money);
    }
}

/// Whole days of 86 400 s from one instant to another, rounded down.
fn whole_days(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).num_seconds().div_euclid(86_400) as f64
}
