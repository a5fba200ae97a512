//! A column, and what is known of the order of its values: that decides how its edges and codes are found.
//! Pure.
//!
//! Edges need the values at twelve ranks. An ascending column has them in place. A long column in another
//! order is divided (see `division`); a column that cannot be divided is searched by selection and then coded
//! value by value.

use super::blocks::{blocks, prefetch};
use super::codes;
use super::division::Division;
use super::selection::{self, NO_EXTREMES, extremes};
use multiversion::multiversion;

/// Two ranks per edge, ascending: the values that the edge lies between.
pub(super) type Ranks = [usize; 12];

/// What is known of a column.
pub(super) enum Column<'a> {
    /// No value is less than the one before it.
    Ascending(&'a [f64]),
    /// Divided around the inner ranks.
    Divided {
        /// Boxed: it is large, and the other variants are small.
        division: Box<Division>,
        /// The values at the ranks.
        at: [f64; 12],
    },
    /// Nothing is known.
    Unordered(&'a [f64]),
}

impl<'a> Column<'a> {
    /// Examines a column of at least one value, for the sake of the values at `ranks`.
    pub(super) fn examine(values: &'a [f64], ranks: &Ranks) -> Self {
        if is_ascending(values) {
            return Self::Ascending(values);
        }
        Self::divide(values, ranks).unwrap_or(Self::Unordered(values))
    }

    /// `None` if the column is not worth dividing, if its extremes are too far apart, or if the division
    /// missed a rank.
    fn divide(values: &[f64], ranks: &Ranks) -> Option<Self> {
        let division = Division::around(inner(ranks), values)?;
        if are_far_apart(division.extremes) {
            return None;
        }
        let at = with_extremes(&division.at_ranks(inner(ranks))?, division.extremes);
        Some(Self::Divided { division: Box::new(division), at })
    }

    /// The values at the `ranks` that the column was examined for, as if it were sorted. The value at the
    /// second rank may be the least instead: the first edge is the least value, and needs the second rank
    /// only to notice an overflow.
    pub(super) fn at_ranks(&self, ranks: &Ranks) -> [f64; 12] {
        match self {
            Self::Ascending(values) => ranks.map(|rank| values[rank]),
            Self::Divided { at, .. } => *at,
            Self::Unordered(values) => select(values, ranks),
        }
    }

    /// How many of the inner `edges` lie below each value. The edges come from the values at the ranks.
    pub(super) fn codes(self, edges: [f64; 4]) -> Vec<u8> {
        match self {
            Self::Ascending(values) => codes::in_order(values, edges),
            Self::Divided { division, .. } => division.codes(edges),
            Self::Unordered(values) => codes::by_value(values, edges),
        }
    }
}

/// The values at the ranks of any column.
fn select(values: &[f64], ranks: &Ranks) -> [f64; 12] {
    let extremes = extremes(values, NO_EXTREMES);
    let select = |ranks| selection::at_ranks(values.iter().copied(), ranks);
    if are_far_apart(extremes) {
        let at = select(ranks);
        return std::array::from_fn(|i| at[i]);
    }
    with_extremes(&select(inner(ranks)), extremes)
}

/// The ranks of the four inner edges.
fn inner(ranks: &Ranks) -> &[usize] {
    &ranks[2..10]
}

/// Whether the difference of the extremes overflows. Only then can that of two neighbours overflow, and only
/// then does the value at the second rank matter.
fn are_far_apart((least, greatest): (f64, f64)) -> bool {
    (greatest - least).is_infinite()
}

/// The values at all ranks, from those at the inner ranks.
fn with_extremes(at_inner: &[f64], (least, greatest): (f64, f64)) -> [f64; 12] {
    std::array::from_fn(|i| match i {
        0 | 1 => least,
        10 | 11 => greatest,
        _ => at_inner[i - 2],
    })
}

/// Whether no value is less than the one before it.
pub(super) fn is_ascending(values: &[f64]) -> bool {
    let mut last = f64::NEG_INFINITY;
    blocks(values).all(|(block, next)| {
        // All of it at once: comparing a block takes too little time to spread the requests over.
        prefetch(next);
        let (Some(&first), Some(&end)) = (block.first(), block.last()) else { return true };
        let is_ascending = last <= first && is_block_ascending(block);
        last = end;
        is_ascending
    })
}

/// The same of a block. It does not stop early, so that several pairs are compared at a time.
#[multiversion(targets("x86_64+avx2"))]
fn is_block_ascending(block: &[f64]) -> bool {
    block.iter().zip(&block[1..]).map(|(a, b)| u64::from(a > b)).sum::<u64>() == 0
}

#[cfg(test)]
mod tests {
    use super::super::blocks::BLOCK;
    use super::*;

    #[test]
    fn one_value_out_of_order_is_noticed_wherever_it_stands() {
        for length in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 1] {
            let column: Vec<f64> = (0..length).map(|i| (i / 3) as f64).collect();
            assert!(is_ascending(&column), "{length}");
            for place in 1..column.len() {
                let mut column = column.clone();
                column[place - 1] = column[place] + 0.5;
                assert!(!is_ascending(&column), "{length}, {place}");
            }
        }
        assert!(is_ascending(&[-0.0, 0.0, -0.0]));
    }

    #[test]
    fn a_column_is_examined_for_what_it_is() {
        let ranks = [0, 1, 2_400, 2_401, 4_800, 4_801, 7_200, 7_201, 9_600, 9_601, 11_999, 11_999];
        let ascending: Vec<f64> = (0..12_000).map(f64::from).collect();
        let shuffled: Vec<f64> = (0..12_000).map(|i| f64::from(i * 7_919 % 12_000)).collect();
        let is = |values: &[f64]| match Column::examine(values, &ranks) {
            Column::Ascending(_) => "ascending",
            Column::Divided { .. } => "divided",
            Column::Unordered(_) => "unordered",
        };
        assert_eq!(is(&ascending), "ascending");
        assert_eq!(is(&shuffled), "divided");
        let mut far_apart = shuffled.clone();
        (far_apart[0], far_apart[1]) = (f64::MAX, f64::MIN);
        assert_eq!(is(&far_apart), "unordered");
        let short = &shuffled[..500];
        assert!(matches!(Column::examine(short, &[0; 12]), Column::Unordered(_)));
    }

    #[test]
    fn the_values_at_the_ranks_do_not_depend_on_how_they_are_found() {
        let ranks = [0, 1, 2_400, 2_401, 4_800, 4_801, 7_200, 7_201, 9_600, 9_601, 11_999, 11_999];
        let shuffled: Vec<f64> = (0..12_000).map(|i| f64::from(i * 7_919 % 12_000)).collect();
        let ascending: Vec<f64> = (0..12_000).map(f64::from).collect();
        let edges = [2_400.2, 4_800.5, 7_200.0, 9_600.9];
        let columns = [Column::examine(&shuffled, &ranks), Column::Unordered(&shuffled)];
        let [first, wanted @ ..] = Column::examine(&ascending, &ranks).at_ranks(&ranks);
        for column in columns {
            let [found_first, found @ ..] = column.at_ranks(&ranks);
            assert_eq!((found_first, &found[1..]), (first, &wanted[1..]));
            assert_eq!(column.codes(edges), codes::by_value(&shuffled, edges));
        }
    }
}
