//! The RF grid of a batch: how many customers each of its 25 cells has, and the sums of their values.
//!
//! Owns the arithmetic, and the order of the cells. Does not own the codes (`quintile`). Pure.
//!
//! **The sums are as good as if f64 had twice the digits**, so refunds may cancel almost everything: what an addition
//! rounds off is exactly known (two-sum; Knuth, TAOCP 2, 4.2.2, theorem B) and added up beside the sum. The error is below
//! u |sum| + (n u)² Σ|x|, where u is 2^-53 (Ogita, Rump, Oishi: Accurate sum and dot product, 2005).

use crate::metric::PerMetric;

/// The cells of the grid.
pub const CELLS: usize = 25;

/// A number for each cell. The first five are those of the recency score 1, by frequency score.
pub type Cells<T> = [T; CELLS];

/// Customers and sums per cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// How many customers there are.
    pub customers: Cells<i32>,
    /// The sums of their values; `None` if one of them is not finite.
    pub sums: PerMetric<Option<Cells<f64>>>,
}

/// Powers of two: where a sum leaves f64 on the way, values that are so much smaller are added up. A batch has fewer than
/// 2^31 customers.
const SMALLER: f64 = 1.0 / LARGER;
const LARGER: f64 = (1u64 << 31) as f64;

/// A power of two that is not below [`CELLS`]: a cell below it needs no check of bounds.
const PLACES: usize = 32;

impl Grid {
    /// Adds up columns of finite `values`. `recency` and `frequency` are the codes 0..=4 of their quintiles; a recency code
    /// of 0 is the recency score 5.
    pub fn add_up(values: PerMetric<&[f64]>, recency: &[u8], frequency: &[u8]) -> Self {
        // Rows take turns between two sets of sums. With one, the processor often waits until the row before has been
        // written to the same cell.
        let mut sets = [[Sums::default(); PLACES]; 2];
        let PerMetric { recency: r, frequency: f, monetary: m } = values;
        let rows = cells(recency, frequency).zip(r.iter().zip(f)).zip(m).enumerate();
        for (row, ((cell, (&r, &f)), &m)) in rows {
            // A count below 2^53 is exact in f64, and the four are added at once.
            sets[row % 2][cell % PLACES].add([r, f, m, 1.0]);
        }
        let total = |cell: usize| {
            let [mut sums, others] = sets.map(|set| set[cell]);
            sums.add(others.high);
            sums.add(others.low);
            sums.total()
        };
        let totals: Cells<[f64; 4]> = std::array::from_fn(total);
        let sums = values.zip([0, 1, 2].map(|metric| totals.map(|total| total[metric])).into());
        let sums =
            sums.map(
                |(column, sums)| {
                    if is_finite(&sums) { Some(sums) } else { smaller(sums, column, recency, frequency) }
                },
            );
        Self { customers: totals.map(|total| total[3] as i32), sums }
    }
}

/// The cell of each customer.
fn cells<'a>(recency: &'a [u8], frequency: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let cell = |(&recency, &frequency): (&u8, &u8)| {
        5 * 4usize.saturating_sub(recency.into()) + usize::from(frequency)
    };
    recency.iter().zip(frequency).map(cell)
}

/// The `sums` of a column, where those that are not finite are added up once more.
fn smaller(sums: Cells<f64>, column: &[f64], recency: &[u8], frequency: &[u8]) -> Option<Cells<f64>> {
    let mut again = [Sums::default(); PLACES];
    for (cell, &value) in cells(recency, frequency).zip(column) {
        again[cell % PLACES].add([value * SMALLER, 0.0, 0.0, 0.0]);
    }
    let cell =
        |cell: usize| if sums[cell].is_finite() { sums[cell] } else { again[cell].total()[0] * LARGER };
    Some(std::array::from_fn(cell)).filter(is_finite)
}

fn is_finite(sums: &Cells<f64>) -> bool {
    sums.iter().all(|sum| sum.is_finite())
}

/// Four sums, and what their additions rounded off.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// The sums as additions gave them.
    high: [f64; 4],
    /// What is missing from them.
    low: [f64; 4],
}

impl Sums {
    /// Adds a value to each: without a branch, since the values of a cell have no order.
    #[inline]
    fn add(&mut self, values: [f64; 4]) {
        for ((high, low), value) in self.high.iter_mut().zip(&mut self.low).zip(values) {
            let sum = *high + value;
            let added = sum - *high;
            *low += (*high - (sum - added)) + (value - added);
            *high = sum;
        }
    }

    /// Not finite where the additions left f64.
    fn total(self) -> [f64; 4] {
        std::array::from_fn(|i| self.high[i] + self.low[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bigdecimal::{BigDecimal, FromPrimitive, Zero};
    use proptest::prelude::*;

    /// Of a cell, in exact arithmetic: customers, and per metric the sum and the sum of absolute values.
    fn exact(
        columns: [&[f64]; 3],
        recency: &[u8],
        frequency: &[u8],
        cell: usize,
    ) -> (i32, [(BigDecimal, BigDecimal); 3]) {
        let (score, frequency_score) = (cell / 5 + 1, cell % 5 + 1);
        let is_in = |row: &usize| {
            (5 - usize::from(recency[*row]), usize::from(frequency[*row]) + 1) == (score, frequency_score)
        };
        let rows: Vec<usize> = (0..recency.len()).filter(is_in).collect();
        let sums = |column: &[f64]| {
            rows.iter().fold((BigDecimal::zero(), BigDecimal::zero()), |(sum, size), &row| {
                let value = BigDecimal::from_f64(column[row]).unwrap();
                (sum + &value, size + value.abs())
            })
        };
        (rows.len() as i32, columns.map(sums))
    }

    fn check(columns: [&[f64]; 3], recency: &[u8], frequency: &[u8]) {
        let number = |float: f64| BigDecimal::from_f64(float).unwrap();
        // What is less than half of the last bit above the largest f64 is rounded down to it.
        let most = number(f64::MAX) + number(2f64.powi(970));
        let grid = Grid::add_up(columns.into(), recency, frequency);
        let cells: Vec<_> = (0..CELLS).map(|cell| exact(columns, recency, frequency, cell)).collect();
        for metric in 0..3 {
            let sums = grid.sums.as_ref().into_array()[metric];
            let finite = cells.iter().all(|(_, sums)| sums[metric].0.abs() < most);
            assert_eq!(sums.is_some(), finite, "a metric has sums if each is finite");
            for (cell, (customers, exact)) in cells.iter().enumerate() {
                assert_eq!(grid.customers[cell], *customers);
                let (exact, size) = &exact[metric];
                if let Some(sums) = sums {
                    let error = (number(sums[cell]) - exact).abs();
                    let allowed = exact.abs() * number(1e-12) + size * number(1e-27);
                    assert!(error <= allowed, "{} is not {exact}", sums[cell]);
                }
            }
        }
    }

    /// Values of all sizes, few and many of them, money with cents, and refunds.
    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-100_000i32..100_000).prop_map(|cents| f64::from(cents) / 100.0),
            2 => (0i32..366).prop_map(f64::from),
            1 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
            1 => prop::sample::select(vec![f64::MAX, -f64::MAX, 1e308, -1e308, 5e-324, 1e16, -1e16, 0.0, -0.0]),
        ]
    }

    proptest! {
        #[test]
        fn counts_are_exact_and_sums_as_good_as_exact_ones(
            rows in prop::collection::vec((value(), value(), value(), 0u8..5, 0u8..5), 1..150),
        ) {
            let column = |of: fn(&(f64, f64, f64, u8, u8)) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
            let (r, f, m) = (column(|row| row.0), column(|row| row.1), column(|row| row.2));
            let recency: Vec<u8> = rows.iter().map(|row| row.3).collect();
            let frequency: Vec<u8> = rows.iter().map(|row| row.4).collect();
            check([&r, &f, &m], &recency, &frequency);
        }
    }

    #[test]
    fn the_cells_are_in_the_order_of_the_tables() {
        // Scores 5 and 1, 1 and 5: elements 21 and 5 of an SQL array.
        let grid = Grid::add_up([&[1.0, 2.0][..], &[3.0, 4.0], &[5.0, 6.0]].into(), &[0, 4], &[0, 4]);
        let filled: Vec<usize> = (0..CELLS).filter(|&cell| grid.customers[cell] > 0).collect();
        assert_eq!(filled, [4, 20]);
        let sums = grid.sums.all().unwrap();
        assert_eq!((sums.recency[20], sums.frequency[20], sums.monetary[20]), (1.0, 3.0, 5.0));
        assert_eq!((sums.recency[4], sums.frequency[4], sums.monetary[4]), (2.0, 4.0, 6.0));
    }

    #[test]
    fn refunds_that_cancel_everything_else_leave_the_cents() {
        let values = [1e16, 0.01, -1e16, 0.02, 1e-3];
        let (codes, small) = ([2; 5], [1.0; 5]);
        let grid = Grid::add_up([&small[..], &small, &values].into(), &codes, &codes);
        assert_eq!(grid.sums.monetary.unwrap()[12], 0.031);
    }

    #[test]
    fn a_sum_outside_f64_takes_the_sums_of_its_metric_only_and_one_that_comes_back_takes_none() {
        let (codes, small) = ([0; 4], [1.0; 4]);
        let [out, back] = [[1e308, 1e308, 0.0, 0.0], [1e308, 1e308, -1e308, -5e307]];
        let grid = Grid::add_up([&small[..], &out, &back].into(), &codes, &codes);
        assert_eq!(grid.sums.frequency, None);
        assert_eq!(grid.sums.recency.unwrap()[20], 4.0);
        assert!((grid.sums.monetary.unwrap()[20] - 5e307).abs() <= 5e307 * 1e-12);
    }
}
