//! `--orders-columns`: which column of the orders means what.

use std::str::FromStr;

/// The names of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Who ordered.
    pub customer: String,
    /// When.
    pub time: String,
    /// The money of the row: the product of these columns, of which there are one or two.
    pub amount: Vec<String>,
    /// Which order the row belongs to; `None`: each row is an order.
    pub order: Option<String>,
}

impl FromStr for Columns {
    type Err = anyhow::Error;

    fn from_str(_text: &str) -> anyhow::Result<Self> {
        todo!()
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            customer: "customer_id".to_owned(),
            time: "ordered_at".to_owned(),
            amount: vec!["amount".to_owned()],
            order: None,
        }
    }
}
