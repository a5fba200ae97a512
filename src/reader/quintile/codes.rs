//! Codes: which quintile each value lies in. Pure.
//!
//! Owns the rule that a code is the number of inner edges below the value: for values in any order, for
//! ascending values, and for ranks in place of values. A divided column gets most of its codes from its marks
//! instead (see `division`).

use multiversion::multiversion;

/// How many of the inner `edges` lie below each value: quintiles closed on the right.
pub(super) fn by_value(values: &[f64], edges: [f64; 4]) -> Vec<u8> {
    let mut codes = vec![0; values.len()];
    fill(&mut codes, values, edges);
    codes
}

/// A loop over slices. With `collect` in its place, it depends on where the compiler puts that function whether
/// it is compiled for AVX2.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn fill(codes: &mut [u8], values: &[f64], edges: [f64; 4]) {
    for (code, &x) in codes.iter_mut().zip(values) {
        *code = edges.iter().map(|&edge| u8::from(edge < x)).sum();
    }
}

/// The same codes for ascending values; the edges ascend, too.
pub(super) fn in_order(values: &[f64], edges: [f64; 4]) -> Vec<u8> {
    let mut codes = Vec::with_capacity(values.len());
    for (code, edge) in (0..).zip(edges) {
        codes.resize(values.partition_point(|&x| x <= edge), code);
    }
    codes.resize(values.len(), 4);
    codes
}

/// Codes of the ranks 1..=n that a stable sort gives the values: the closed form of `qcut` over 1..=n. `None`
/// for fewer than two values.
pub(super) fn by_rank(values: &[f64]) -> Option<Vec<u8>> {
    let steps = values.len().checked_sub(1).filter(|&steps| steps > 0)?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Finite values always compare. Under `partial_cmp`, -0.0 and 0.0 are equal; under `total_cmp` they are
    // not.
    order.sort_by(|&i, &j| values[i].partial_cmp(&values[j]).unwrap_or(std::cmp::Ordering::Equal));
    let mut codes = vec![0; values.len()];
    for (place, &row) in order.iter().enumerate() {
        codes[row] = (5 * place).div_ceil(steps).saturating_sub(1) as u8;
    }
    Some(codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ascending_values_have_the_same_codes_either_way(
            mut values in prop::collection::vec((-9i8..9).prop_map(f64::from), 0..60),
            mut edges in prop::array::uniform4((-20i8..20).prop_map(|twice| f64::from(twice) / 2.0)),
        ) {
            values.sort_by(f64::total_cmp);
            edges.sort_by(f64::total_cmp);
            prop_assert_eq!(in_order(&values, edges), by_value(&values, edges));
        }
    }
}
