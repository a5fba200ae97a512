//! The edges of a stored batch, for `--edges-from`.
//!
//! Only asks: they never change, so a process asks once.

use super::{Store, StoreError};
use crate::metric::PerMetric;
use crate::postgres::Isolation;
use crate::reader::edges::FixedEdges;
use crate::reader::score::Rules;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Double, Nullable};

/// Also of another group, and of a batch whose rows are gone.
const EDGES: &str = "SELECT recency_edges, frequency_edges, monetary_edges FROM batches WHERE id = $1";

/// A column of [`EDGES`]. (An element that a person has set to null makes it unusable, and no error of its own.)
type Column = Nullable<Array<Nullable<Double>>>;

/// What [`EDGES`] answers.
#[derive(QueryableByName)]
struct Row {
    /// Of recency.
    #[diesel(sql_type = Column)]
    recency_edges: Option<Vec<Option<f64>>>,
    /// Of frequency.
    #[diesel(sql_type = Column)]
    frequency_edges: Option<Vec<Option<f64>>>,
    /// Of monetary.
    #[diesel(sql_type = Column)]
    monetary_edges: Option<Vec<Option<f64>>>,
}

impl Store {
    /// The rules with the edges of the batch `edges_from`, if one is given.
    ///
    /// # Errors
    /// [`StoreError::NoEdges`]; those of the statement.
    pub fn with_edges(&mut self, rules: &Rules, edges_from: Option<i64>) -> Result<Rules, StoreError> {
        match edges_from {
            None => Ok(rules.clone()),
            Some(id) => Ok(Rules { edges: self.edges_of(id)?, ..rules.clone() }),
        }
    }

    /// The edges of a batch.
    fn edges_of(&mut self, id: i64) -> Result<FixedEdges, StoreError> {
        let row: Option<Row> = self.transaction(
            "reading the edges of a batch",
            Isolation::ReadOnlySnapshot,
            |connection, _, _| {
                Ok(diesel::sql_query(EDGES).bind::<BigInt, _>(id).get_result(connection).optional()?)
            },
        )?;
        let row = row.ok_or_else(|| StoreError::NoEdges(format!("there is no batch {id} in `batches`")))?;
        let columns = [row.recency_edges, row.frequency_edges, row.monetary_edges];
        let whole = |column: Option<Vec<Option<f64>>>| column?.into_iter().collect();
        FixedEdges::of_batch(id, PerMetric::from(columns).map(whole)).map_err(StoreError::NoEdges)
    }
}
