//! Quintiles: five groups of values, equal to `pandas.qcut(values, 5)` of pandas 3, bit for bit.
//!
//! Owns the edges, the codes and what happens to tied edges. Does not own scores (a code becomes a
//! score in `score`). Pure.
//!
//! The one idea: an edge needs the values at two ranks, not a sorted column, and the look at every value that finds
//! these tells most of the codes, too (see `division`; short columns: `selection`). **Every float
//! operation is a single f64 operation, in the order written**; a fused multiply-add or another order changes
//! last bits, and with them codes.

mod blocks;
mod division;
mod selection;

use blocks::{blocks, prefetch};
use division::Division;
use multiversion::multiversion;
use selection::{NO_EXTREMES, extremes};
use std::fmt;
use std::str::FromStr;

/// `numpy.linspace(0, 1, 6)` as pandas 3 uses it: it moves 0.6000000000000001 up by one ulp.
/// Source: pandas `core/reshape/tile.py`, `qcut`.
const QUANTILES: [f64; 6] = [0.0, 0.2, 0.4, f64::from_bits(0x3FE3_3333_3333_3335), 0.8, 1.0];

/// The edges of the five quintiles, ascending: minimum, four inner edges, maximum. Never -0.0.
pub type Edges = [f64; 6];

/// What happens to a column two of whose six edges are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Equal values share a score; the quintiles that collapsed stay empty.
    #[default]
    Share,
    /// Equal values are told apart by their row, as `qcut(x.rank(method="first"))` does.
    Rank,
    /// The batch is refused, as pandas raises.
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

/// A column that was cut: one code 0..=4 per value, and the edges of the values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// Which quintile each value lies in, in the order of the values.
    pub codes: Vec<u8>,
    /// The edges, also where the codes come from ranks.
    pub edges: Edges,
}

/// Why a column has no quintiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// There is nothing to cut.
    #[error("no values")]
    Empty,
    /// Two neighbouring values differ by more than f64 can say.
    #[error("the difference of two neighbouring values overflows")]
    Overflow,
    /// Two edges are equal and the policy does not allow it.
    #[error("two quintile edges are equal")]
    Tied,
}

/// Cuts a column of finite `values` into quintiles, as [`Ties::Share`] has it.
///
/// # Errors
/// [`CutError::Empty`] and [`CutError::Overflow`].
pub fn cut(values: &[f64]) -> Result<Cut, CutError> {
    let places = Places::in_column_of(values.len()).ok_or(CutError::Empty)?;
    if ascend(values) {
        let edges = places.edges(places.ranks.map(|rank| values[rank]))?;
        return Ok(Cut { codes: codes_in_order(values, inner(edges)), edges });
    }
    if let Some((division, at)) = places.found_by_division(values) {
        let edges = places.edges(at)?;
        return Ok(Cut { codes: division.codes(inner(edges)), edges });
    }
    let edges = places.edges(places.found_by_selection(values))?;
    Ok(Cut { codes: codes_by_value(values, inner(edges)), edges })
}

impl Cut {
    /// What becomes of the cut of these `values` under a policy for tied edges.
    ///
    /// # Errors
    /// [`CutError::Tied`] under [`Ties::Reject`], and for a single value under [`Ties::Rank`].
    pub fn under(self, ties: Ties, values: &[f64]) -> Result<Self, CutError> {
        let tied = self.edges.windows(2).any(|pair| pair[0] == pair[1]);
        match ties {
            Ties::Reject if tied => Err(CutError::Tied),
            Ties::Rank if tied => Ok(Self { codes: codes_by_rank(values)?, ..self }),
            Ties::Share | Ties::Rank | Ties::Reject => Ok(self),
        }
    }
}

/// Where the edges lie in a sorted column: each between the values at two neighbouring ranks.
struct Places {
    /// The two ranks of each edge; the last value is its own successor.
    ranks: [usize; 12],
    /// How far from the first of the two values to the second.
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

    /// The values at the ranks, if the column is worth dividing and has no two values that are too far apart.
    fn found_by_division(&self, values: &[f64]) -> Option<(Division, [f64; 12])> {
        let ranks = self.inner_ranks();
        let division = Division::around(ranks, values)?;
        if are_far_apart(division.extremes) {
            return None;
        }
        let at = with_extremes(&division.at_ranks(ranks)?, division.extremes);
        Some((division, at))
    }

    /// The values at the ranks of any column.
    fn found_by_selection(&self, values: &[f64]) -> [f64; 12] {
        let extremes = extremes(values, NO_EXTREMES);
        let select = |ranks| selection::at_ranks(values.iter().copied(), ranks);
        if are_far_apart(extremes) {
            let at = select(&self.ranks);
            return std::array::from_fn(|i| at[i]);
        }
        with_extremes(&select(self.inner_ranks()), extremes)
    }

    /// The ranks of the four inner edges.
    fn inner_ranks(&self) -> &[usize] {
        &self.ranks[2..10]
    }

    /// The edges, from the values at the ranks.
    fn edges(&self, at: [f64; 12]) -> Result<Edges, CutError> {
        let mut edges = [0.0; 6];
        for (i, edge) in edges.iter_mut().enumerate() {
            // `+ 0.0` turns -0.0 into 0.0, which is equal but prints otherwise.
            *edge = interpolate(at[2 * i], at[2 * i + 1], self.shares[i])? + 0.0;
        }
        Ok(edges)
    }
}

/// Whether the extremes of a column differ by more than f64 can say; two neighbours may do so then. If not, the second
/// least does not matter: the first edge is the least.
fn are_far_apart((least, greatest): (f64, f64)) -> bool {
    (greatest - least).is_infinite()
}

/// The values at all ranks, from those at the inner ones.
fn with_extremes(inner: &[f64], (least, greatest): (f64, f64)) -> [f64; 12] {
    std::array::from_fn(|i| match i {
        0 | 1 => least,
        10 | 11 => greatest,
        _ => inner[i - 2],
    })
}

/// The point at `t` in 0.0..1.0 between `a` and `b`, as numpy's `lerp` computes it.
fn interpolate(a: f64, b: f64, t: f64) -> Result<f64, CutError> {
    let d = b - a;
    if d.is_infinite() {
        return Err(CutError::Overflow);
    }
    Ok(if t >= 0.5 { b - d * (1.0 - t) } else { a + d * t })
}

/// Whether no value is less than the one before it.
fn ascend(values: &[f64]) -> bool {
    let mut last = f64::NEG_INFINITY;
    blocks(values).all(|(block, next)| {
        // All at once, as hardly anything is done with a block here.
        prefetch(next);
        let (Some(&first), Some(&end)) = (block.first(), block.last()) else { return true };
        let ascends = last <= first && block_ascends(block);
        last = end;
        ascends
    })
}

/// The same of a block, without stopping early, so that pairs are compared several at a time.
#[multiversion(targets("x86_64+avx2"))]
fn block_ascends(block: &[f64]) -> bool {
    block.iter().zip(&block[1..]).map(|(a, b)| u64::from(a > b)).sum::<u64>() == 0
}

/// Those that part values.
fn inner([_, edges @ .., _]: Edges) -> [f64; 4] {
    edges
}

/// How many of the inner edges lie below each value: quintiles closed on the right.
#[multiversion(targets("x86_64+avx2"))]
fn codes_by_value(values: &[f64], edges: [f64; 4]) -> Vec<u8> {
    let code = |&x: &f64| edges.iter().map(|&edge| u8::from(edge < x)).sum();
    values.iter().map(code).collect()
}

/// The same of ascending values, and ascending edges.
fn codes_in_order(values: &[f64], edges: [f64; 4]) -> Vec<u8> {
    let mut codes = Vec::with_capacity(values.len());
    for (code, edge) in (0..).zip(edges) {
        codes.resize(values.partition_point(|&x| x <= edge), code);
    }
    codes.resize(values.len(), 4);
    codes
}

/// Codes of the ranks 1..=n that a stable sort gives; closed form of `qcut` over 1..=n.
fn codes_by_rank(values: &[f64]) -> Result<Vec<u8>, CutError> {
    let steps = values.len().checked_sub(1).filter(|&steps| steps > 0).ok_or(CutError::Tied)?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Finite values always compare; -0.0 and 0.0 are equal here, unlike under `total_cmp`.
    order.sort_by(|&i, &j| values[i].partial_cmp(&values[j]).unwrap_or(std::cmp::Ordering::Equal));
    let mut codes = vec![0; values.len()];
    for (place, &row) in order.iter().enumerate() {
        codes[row] = (5 * place).div_ceil(steps).saturating_sub(1) as u8;
    }
    Ok(codes)
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
    fn one_value_out_of_order_is_noticed_wherever_it_stands() {
        for length in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 1] {
            let column: Vec<f64> = (0..length).map(|i| (i / 3) as f64).collect();
            assert!(ascend(&column), "{length}");
            for place in 1..column.len() {
                let mut column = column.clone();
                column[place - 1] = column[place] + 0.5;
                assert!(!ascend(&column), "{length}, {place}");
            }
        }
        assert!(ascend(&[-0.0, 0.0, -0.0]));
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
