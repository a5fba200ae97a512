//! Order statistics without a full sort: the extremes, and the values at a few ranks. Pure.

use multiversion::multiversion;

/// The least and the greatest of no values.
pub(super) const NO_EXTREMES: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);

/// The least and the greatest of the values and of the extremes so far.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn extremes(block: &[f64], (least, greatest): (f64, f64)) -> (f64, f64) {
    // Eight at a time. Otherwise each comparison would wait for the one before it.
    let (eights, rest) = block.as_chunks::<8>();
    let (mut lows, mut highs) = ([least; 8], [greatest; 8]);
    for eight in eights {
        for (low, &x) in lows.iter_mut().zip(eight) {
            if x < *low {
                *low = x;
            }
        }
    }
    for eight in eights {
        for (high, &x) in highs.iter_mut().zip(eight) {
            if x > *high {
                *high = x;
            }
        }
    }
    let least = lows.iter().chain(rest).copied().fold(least, f64::min);
    let greatest = highs.iter().chain(rest).copied().fold(greatest, f64::max);
    (least, greatest)
}

/// The values that would stand at `ranks` (0-based, below the length) if the finite values were sorted.
/// Either of 0.0 and -0.0 may come first.
pub(super) fn at_ranks(column: impl Iterator<Item = f64>, ranks: &[usize]) -> Vec<f64> {
    let mut keys: Vec<i64> = column.map(key).collect();
    let mut ascending = ranks.to_vec();
    ascending.sort_unstable();
    place(&mut keys, 0, &ascending);
    ranks.iter().map(|&rank| value(keys[rank])).collect()
}

/// Moves the keys of these ascending ranks to where sorting would move them. The first of the `keys` has rank
/// `first`.
fn place(keys: &mut [i64], first: usize, ranks: &[usize]) {
    let Some(&rank) = ranks.get(ranks.len() / 2) else { return };
    let (below, _, above) = keys.select_nth_unstable(rank - first);
    place(below, first, &ranks[..ranks.partition_point(|&other| other < rank)]);
    place(above, rank + 1, &ranks[ranks.partition_point(|&other| other <= rank)..]);
}

/// An integer that orders as `f64::total_cmp` does.
fn key(x: f64) -> i64 {
    turned(x.to_bits() as i64)
}

fn value(key: i64) -> f64 {
    f64::from_bits(turned(key) as u64)
}

/// Flips all bits but the sign, if the sign is set. It is its own inverse.
fn turned(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranks_are_those_of_the_sorted_column(
            column in prop_oneof![
                prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 1..200),
                prop::collection::vec((-3..4i8).prop_map(f64::from), 1..200),
            ],
            ranks in prop::collection::vec(any::<prop::sample::Index>(), 0..13),
        ) {
            let ranks: Vec<usize> = ranks.iter().map(|rank| rank.index(column.len())).collect();
            let mut sorted = column.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let wanted: Vec<u64> = ranks.iter().map(|&rank| sorted[rank].to_bits()).collect();
            let found = at_ranks(column.into_iter(), &ranks);
            prop_assert_eq!(found.into_iter().map(f64::to_bits).collect::<Vec<_>>(), wanted);
        }
    }
}
