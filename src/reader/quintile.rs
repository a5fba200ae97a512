//! Quintiles: five groups of values, equal to `pandas.qcut(values, 5)` of pandas 3, bit for bit; or five groups
//! between edges that are given.
//!
//! Owns the edges, the codes and the policies for tied edges. Does not own scores (`score` turns codes into
//! scores), nor where given edges come from (`edges`). Pure.
//!
//! Edges need the values at a few ranks, not a sorted column. How these values and the codes are found
//! depends on what is known of the column: see `column`. **Every float operation is a single f64 operation,
//! in the order written**: a fused multiply-add or another order changes last bits, and with them codes.

mod blocks;
mod codes;
mod column;
mod division;
mod selection;

use blocks::{BLOCK, blocks, prefetch};
use column::{Column, Ranks, is_ascending};
use selection::{NO_EXTREMES, extremes};
use std::fmt;
use std::str::FromStr;

/// `numpy.linspace(0, 1, 6)` as pandas 3 uses it: it moves 0.6000000000000001 up by one ulp. Source: pandas
/// `core/reshape/tile.py`, `qcut`.
const QUANTILES: [f64; 6] = [0.0, 0.2, 0.4, f64::from_bits(0x3FE3_3333_3333_3335), 0.8, 1.0];

/// The edges of the five groups: minimum, four inner edges, maximum. Those of quintiles ascend; given inner edges
/// may lie beyond the values. Never -0.0.
pub type Edges = [f64; 6];

/// What happens to a column that has equal edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Equal values share a score. Quintiles that collapse stay empty.
    #[default]
    Share,
    /// Equal values are ordered by their row, as in `qcut(x.rank(method="first"))`.
    Rank,
    /// The batch is refused. (pandas raises an error.)
    Reject,
}

impl Ties {
    /// All of them.
    pub const ALL: [Ties; 3] = [Ties::Share, Ties::Rank, Ties::Reject];

    /// The word of `--ties` and of `batches.ties`.
    pub fn name(self) -> &'static str {
        match self {
            Ties::Share => "share",
            Ties::Rank => "rank",
            Ties::Reject => "reject",
        }
    }
}

impl fmt::Display for Ties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Ties {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ties::ALL
            .into_iter()
            .find(|ties| ties.name() == name)
            .ok_or_else(|| format!("no such policy: `{name}`"))
    }
}

/// A column cut into five groups: one code 0..=4 per value, and the edges of the values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// The group of each value, in the order of the values.
    pub codes: Vec<u8>,
    /// The edges of the values, even if the codes come from ranks.
    pub edges: Edges,
}

/// Why a column has no quintiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// The column has no values.
    #[error("no values")]
    Empty,
    /// The difference of two neighbouring values is outside f64.
    #[error("the difference of two neighbouring values overflows")]
    Overflow,
    /// Two edges are equal, and the policy does not allow that.
    #[error("two quintile edges are equal")]
    Tied,
}

/// Cuts a column of finite `values` into quintiles, by the policy [`Ties::Share`].
///
/// # Errors
/// [`CutError::Empty`] and [`CutError::Overflow`].
pub fn cut(values: &[f64]) -> Result<Cut, CutError> {
    let places = Places::in_column_of(values.len()).ok_or(CutError::Empty)?;
    let column = Column::examine(values, &places.ranks);
    let edges = places.edges(column.at_ranks(&places.ranks))?;
    let [_, inner @ .., _] = edges;
    Ok(Cut { codes: column.codes(inner), edges })
}

/// Cuts a column of finite `values` at four inner edges that ascend, whatever the values are. The outer edges are
/// the least and the greatest value. No difference is computed, so none can overflow.
///
/// # Errors
/// [`CutError::Empty`].
pub fn cut_at(values: &[f64], inner: [f64; 4]) -> Result<Cut, CutError> {
    let (Some(&first), Some(&last)) = (values.first(), values.last()) else { return Err(CutError::Empty) };
    let (codes, (least, greatest)) = if is_ascending(values) {
        (codes::in_order(values, inner), (first, last))
    } else {
        cut_blocks(values, inner)
    };
    let [first, second, third, fourth] = inner;
    let edges = [least + 0.0, first, second, third, fourth, greatest + 0.0];
    Ok(Cut { codes, edges })
}

/// The codes and the extremes, in one pass.
fn cut_blocks(values: &[f64], inner: [f64; 4]) -> (Vec<u8>, (f64, f64)) {
    let mut codes = vec![0; values.len()];
    let mut outer = NO_EXTREMES;
    for ((block, next), codes) in blocks(values).zip(codes.chunks_mut(BLOCK)) {
        prefetch(next);
        outer = extremes(block, outer);
        codes::fill(codes, block, inner);
    }
    (codes, outer)
}

impl Cut {
    /// Applies a policy for tied edges to the cut of these `values`.
    ///
    /// # Errors
    /// [`CutError::Tied`] under [`Ties::Reject`], and for a single value under [`Ties::Rank`].
    pub fn under(self, ties: Ties, values: &[f64]) -> Result<Self, CutError> {
        let tied = self.edges.windows(2).any(|pair| pair[0] == pair[1]);
        match ties {
            Ties::Reject if tied => Err(CutError::Tied),
            Ties::Rank if tied => Ok(Self { codes: codes::by_rank(values).ok_or(CutError::Tied)?, ..self }),
            Ties::Share | Ties::Rank | Ties::Reject => Ok(self),
        }
    }
}

/// Where the edges lie in a sorted column. Each lies between the values at two neighbouring ranks.
struct Places {
    /// The two ranks of each edge; the last value is its own successor.
    ranks: Ranks,
    /// How far each edge lies from the first of its two values to the second: 0.0..1.0.
    shares: [f64; 6],
}

impl Places {
    fn in_column_of(length: usize) -> Option<Self> {
        let last = length.checked_sub(1)?;
        let positions = QUANTILES.map(|q| last as f64 * q);
        let below = positions.map(|p| if p >= last as f64 { last } else { p.floor() as usize });
        let ranks = std::array::from_fn(|i| (below[i / 2] + i % 2).min(last));
        Some(Self { ranks, shares: std::array::from_fn(|i| positions[i] - below[i] as f64) })
    }

    /// The edges, from the values at the ranks.
    fn edges(&self, at: [f64; 12]) -> Result<Edges, CutError> {
        let mut edges = [0.0; 6];
        for (i, edge) in edges.iter_mut().enumerate() {
            // `+ 0.0` turns -0.0 into 0.0: they are equal, but print differently.
            *edge = interpolate(at[2 * i], at[2 * i + 1], self.shares[i])? + 0.0;
        }
        Ok(edges)
    }
}

/// The point at `t` in 0.0..1.0 between `a` and `b`, as numpy's `lerp` computes it.
fn interpolate(a: f64, b: f64, t: f64) -> Result<f64, CutError> {
    let d = b - a;
    if d.is_infinite() {
        return Err(CutError::Overflow);
    }
    Ok(if t >= 0.5 { b - d * (1.0 - t) } else { a + d * t })
}

#[cfg(test)]
mod tests {
    use super::blocks::BLOCK;
    use super::*;
    use proptest::prelude::*;

    fn qcut(values: &[f64], ties: Ties) -> Result<Cut, CutError> {
        cut(values)?.under(ties, values)
    }

    fn edges(values: &[f64]) -> Result<Edges, CutError> {
        cut(values).map(|cut| cut.edges)
    }

    #[test]
    fn no_values_have_no_quintiles() {
        for ties in [Ties::Share, Ties::Rank, Ties::Reject] {
            assert_eq!(qcut(&[], ties), Err(CutError::Empty));
        }
    }

    #[test]
    fn a_single_value_is_tied_with_itself() {
        assert_eq!(qcut(&[7.0], Ties::Share).unwrap().codes, [0]);
        assert_eq!(qcut(&[7.0], Ties::Rank), Err(CutError::Tied));
        assert_eq!(qcut(&[7.0], Ties::Reject), Err(CutError::Tied));
    }

    #[test]
    fn given_edges_cut_whatever_the_values_are() {
        let inner = [1.0, 2.0, 3.0, 4.0];
        let cut = cut_at(&[2.0, 9.0, 2.5, -1e308, 1.0, 1e308, 4.0], inner).unwrap();
        assert_eq!(cut.codes, [1, 4, 2, 0, 0, 4, 3]);
        assert_eq!(cut.edges, [-1e308, 1.0, 2.0, 3.0, 4.0, 1e308]);
        let beyond = cut_at(&[7.0, 5.0], inner).unwrap();
        assert_eq!((beyond.codes, beyond.edges), (vec![4, 4], [5.0, 1.0, 2.0, 3.0, 4.0, 7.0]));
        assert_eq!(cut_at(&[], inner), Err(CutError::Empty));
        assert!(cut_at(&[-0.0], inner).unwrap().edges[0].is_sign_positive());
    }

    #[test]
    fn given_edges_cut_columns_of_any_length() {
        for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, 20 * BLOCK + 7] {
            let shuffled: Vec<f64> = (0..length).map(|i| f64::from(i as u32 * 7_919 % 10_007)).collect();
            let mut ascending = shuffled.clone();
            ascending.sort_by(f64::total_cmp);
            let inner = [10.0, 10.0, 5_000.5, 9_000.0];
            for column in [&shuffled, &ascending] {
                let Cut { codes, edges } = cut_at(column, inner).unwrap();
                assert_eq!(codes, codes::by_value(column, inner), "{length}");
                assert_eq!(edges, [ascending[0], 10.0, 10.0, 5_000.5, 9_000.0, ascending[length - 1]]);
            }
        }
    }

    #[test]
    fn a_column_cut_at_its_own_quintiles_keeps_its_codes() {
        let column: Vec<f64> = (0..12_000).map(|i| f64::from(i * 7_919 % 10_007)).collect();
        let quintiles = cut(&column).unwrap();
        let [_, inner @ .., _] = quintiles.edges;
        assert_eq!(cut_at(&column, inner), Ok(quintiles));
    }

    #[test]
    fn a_difference_outside_f64_is_refused() {
        for ties in [Ties::Share, Ties::Rank, Ties::Reject] {
            assert_eq!(qcut(&[-1e308, 1e308], ties), Err(CutError::Overflow));
        }
    }

    #[test]
    fn edges_are_never_negative_zero() {
        let cut = qcut(&[-0.0, -0.0, 0.0, -0.0], Ties::Share).unwrap();
        assert!(cut.edges.iter().all(|e| e.to_bits() == 0));
        assert_eq!(cut.codes, [0, 0, 0, 0]);
    }

    /// Columns with many ties and with none.
    fn columns() -> impl Strategy<Value = Vec<f64>> {
        prop_oneof![
            prop::collection::vec((-3i8..4).prop_map(f64::from), 1..60),
            prop::collection::vec(-1e300f64..1e300, 1..60),
        ]
    }

    proptest! {
        #[test]
        fn scores_rise_with_values(values in columns(), ties in prop::sample::select(vec![Ties::Share, Ties::Rank, Ties::Reject])) {
            if let Ok(cut) = qcut(&values, ties) {
                for (x, code) in values.iter().zip(&cut.codes) {
                    for (y, other) in values.iter().zip(&cut.codes) {
                        prop_assert!(x >= y || code <= other, "{x} < {y} but {code} > {other}");
                    }
                }
            }
        }

        #[test]
        fn equal_values_share_a_score_unless_ranked(values in columns(), ties in prop::sample::select(vec![Ties::Share, Ties::Reject])) {
            if let Ok(cut) = qcut(&values, ties) {
                for (x, code) in values.iter().zip(&cut.codes) {
                    for (y, other) in values.iter().zip(&cut.codes) {
                        prop_assert!(x != y || code == other);
                    }
                }
            }
        }

        #[test]
        fn the_order_of_rows_does_not_matter_under_share(values in columns(), seed in any::<u64>()) {
            use rand::{SeedableRng, seq::SliceRandom};
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
            let shuffled: Vec<f64> = order.iter().map(|&i| values[i]).collect();
            let (cut, again) = (qcut(&values, Ties::Share).unwrap(), qcut(&shuffled, Ties::Share).unwrap());
            prop_assert_eq!(cut.edges.map(f64::to_bits), again.edges.map(f64::to_bits));
            for (place, &row) in order.iter().enumerate() {
                prop_assert_eq!(again.codes[place], cut.codes[row]);
            }
        }

        #[test]
        fn short_columns_are_cut_as_the_reference_cuts_them(values in columns()) {
            prop_assert!(is_cut_as_the_reference_does(&values));
        }
    }

    /// Columns so long that they are divided.
    fn long_columns() -> impl Strategy<Value = Vec<f64>> {
        let of = |value: BoxedStrategy<f64>| prop::collection::vec(value, 10_001..14_000);
        prop_oneof![
            of((-1e3f64..1e3).boxed()),
            of((0..4u8).prop_map(f64::from).boxed()),
            of((0..366u16).prop_map(f64::from).boxed()),
            of((-1e300f64..1e300).boxed()),
            of(prop_oneof![Just(0.0), Just(-0.0), 0.0..100.0f64].boxed()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn long_columns_are_cut_as_the_reference_cuts_them(values in long_columns()) {
            prop_assert!(is_cut_as_the_reference_does(&values));
        }
    }

    /// Edges to the bit, and codes; also of the sorted column.
    fn is_cut_as_the_reference_does(values: &[f64]) -> bool {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let wanted = edges_by_sorting(values);
        [values, &sorted].into_iter().all(|values| match (cut(values), wanted) {
            (Ok(Cut { codes, edges }), Ok(wanted)) => {
                let code = |x: &f64| edges[1..5].iter().filter(|&edge| edge < x).count() as u8;
                bits(Ok(edges)) == bits(Ok(wanted)) && codes == values.iter().map(code).collect::<Vec<_>>()
            }
            (found, wanted) => found.err() == wanted.err(),
        })
    }

    #[test]
    fn columns_of_any_length_are_cut_as_the_reference_cuts_them() {
        let lengths = [1, 2, 100, BLOCK - 1, BLOCK, BLOCK + 1, 9_999, 10_000, 10_001];
        for length in lengths.into_iter().chain([20 * BLOCK - 1, 20 * BLOCK, 20 * BLOCK + 1]) {
            let column: Vec<f64> = (0..length).map(|i| (i * 7_919 % 10_007) as f64 / 3.0).collect();
            assert!(is_cut_as_the_reference_does(&column), "{length}");
        }
    }

    #[test]
    fn only_neighbours_can_be_too_far_apart() {
        for length in [600, 12_000] {
            let mut values: Vec<f64> =
                (0..length).map(|i| f64::from(i * 7_919 % length) * 1e304 + 1e307).collect();
            // The greatest is too far from the least, and from nothing beside it.
            values[5] = -1.75e308;
            values[6] = -1.6e308;
            values[7] = 1.7e308;
            assert!(is_cut_as_the_reference_does(&values));
            assert!(edges(&values).is_ok());
            values[6] = 1e307;
            assert_eq!(edges(&values), Err(CutError::Overflow));
        }
    }

    fn bits(edges: Result<Edges, CutError>) -> Result<[u64; 6], CutError> {
        edges.map(|edges| edges.map(f64::to_bits))
    }

    fn edges_by_sorting(values: &[f64]) -> Result<Edges, CutError> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        let mut edges = [0.0; 6];
        for (edge, q) in edges.iter_mut().zip(QUANTILES) {
            let place = last as f64 * q;
            if place >= last as f64 {
                *edge = sorted[last] + 0.0;
                continue;
            }
            let (below, t) = (place.floor() as usize, place - place.floor());
            let d = sorted[below + 1] - sorted[below];
            if d.is_infinite() {
                return Err(CutError::Overflow);
            }
            *edge = (if t >= 0.5 { sorted[below + 1] - d * (1.0 - t) } else { sorted[below] + d * t }) + 0.0;
        }
        Ok(edges)
    }
}
