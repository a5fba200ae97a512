//! Order statistics: the values at a few ranks of a column, without sorting it. Pure.
//!
//! The one idea (Floyd and Rivest, "Expected time bounds for selection", 1975): a sorted sample tells between which
//! two values a rank lies, in about 99 of 100 columns. One look at every value counts what lies below, inside and above
//! such brackets, and keeps what lies inside; only that is looked at again. **The sample decides how fast it goes,
//! never the answer**: if a rank lies in none of the brackets after all, the column is sorted.

use multiversion::multiversion;

/// Columns up to this length are sorted: brackets would hold half of them and more.
const SMALL: usize = 6_000;
/// As many as there are inner edges. Ranks that need more share the last one.
const BRACKETS: usize = 4;
/// What can be said of a value: in which bracket it lies (odd), or between which (even).
const MARKS: usize = 2 * BRACKETS + 1;
/// Values marked at a time: with their marks and a buffer 17 KiB, in the nearest cache.
const BLOCK: usize = 1_024;

/// The values at some `ranks` (0-based, below the length) of finite values, as if these were sorted. In a column of
/// more than [`SMALL`] values the ranks must ascend. Which of 0.0 and -0.0 stands first is left open.
pub(super) fn at_ranks<const N: usize>(column: &[f64], ranks: [usize; N]) -> [f64; N] {
    let mut found = [0.0; N];
    find(column, &ranks, &mut found);
    found
}

fn find(column: &[f64], ranks: &[usize], found: &mut [f64]) {
    if column.len() <= SMALL || !find_inside(&brackets_around(ranks, column), column, ranks, found) {
        find_by_sorting(column, ranks, found);
    }
}

fn find_by_sorting(column: &[f64], ranks: &[usize], found: &mut [f64]) {
    let sorted = sorted(column.iter().copied());
    found.iter_mut().zip(ranks).for_each(|(found, &rank)| *found = sorted[rank]);
}

/// Sorts as `f64::total_cmp` does, by integers in the same order.
fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    // Below zero, all bits but the sign are turned over; twice is not at all.
    let turned = |bits: i64| bits ^ ((bits >> 63) as u64 >> 1) as i64;
    let mut keys: Vec<i64> = values.map(|x| turned(x.to_bits() as i64)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| f64::from_bits(turned(key) as u64)).collect()
}

/// From the `least` to the `greatest` value that may stand at a rank.
#[derive(Clone, Copy)]
struct Bracket {
    least: f64,
    greatest: f64,
}

impl Bracket {
    /// No value lies in it.
    const NONE: Self = Self { least: f64::INFINITY, greatest: f64::INFINITY };

    /// Its values are not all equal.
    fn is_wide(self) -> bool {
        self.least < self.greatest
    }
}

/// Ascending brackets without a common value, in which the ranks probably lie.
fn brackets_around(ranks: &[usize], column: &[f64]) -> [Bracket; BRACKETS] {
    let sample = sample(column);
    let last = sample.len() - 1;
    let mut brackets = [Bracket::NONE; BRACKETS];
    let mut used = 0;
    for &rank in ranks {
        let share = rank as f64 / column.len() as f64;
        // Three standard deviations of how many of the sample lie below the rank.
        let margin = 1.0 + 3.0 * (sample.len() as f64 * share * (1.0 - share)).sqrt();
        let (from, to) = (share * last as f64 - margin, share * last as f64 + margin);
        let least = if from < 0.0 { f64::NEG_INFINITY } else { sample[from as usize] };
        let greatest = sample.get(to as usize).copied().unwrap_or(f64::INFINITY);
        if used == BRACKETS || used > 0 && least <= brackets[used - 1].greatest {
            brackets[used - 1].greatest = greatest;
        } else {
            brackets[used] = Bracket { least, greatest };
            used += 1;
        }
    }
    brackets
}

/// Some of the column, sorted.
fn sample(column: &[f64]) -> Vec<f64> {
    let n = column.len();
    sorted((0..sample_size(n)).map(|i| column[sampled(i, n)]))
}

/// The larger the sample, the narrower the brackets; at n^(2/3) both cost about the same.
fn sample_size(n: usize) -> usize {
    (1.5 * (n as f64).powf(2.0 / 3.0)) as usize
}

/// Which of `n` values the sample takes: steps of the golden section, which spread evenly and meet few periods.
fn sampled(i: usize, n: usize) -> usize {
    ((u128::from((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) * n as u128) >> 64) as usize
}

/// Finds the values at ascending ranks if all of these lie in brackets, and those hold half of the column at most;
/// says whether they do.
fn find_inside(brackets: &[Bracket; BRACKETS], column: &[f64], ranks: &[usize], found: &mut [f64]) -> bool {
    debug_assert!(ranks.is_sorted());
    let Some((counts, kept)) = divide(column, brackets) else { return false };
    let (mut mark, mut below, mut kept_below) = (0, 0, 0);
    let (mut places, mut kept_ranks) = (Vec::new(), Vec::new());
    for (place, &rank) in ranks.iter().enumerate() {
        while below + counts[mark] <= rank {
            below += counts[mark];
            kept_below += if keeps(brackets, mark) { counts[mark] } else { 0 };
            mark += 1;
        }
        if keeps(brackets, mark) {
            places.push(place);
            kept_ranks.push(rank - below + kept_below);
        } else if mark % 2 == 1 {
            found[place] = brackets[mark / 2].least;
        } else {
            return false;
        }
    }
    let mut values = vec![0.0; kept_ranks.len()];
    find(&kept, &kept_ranks, &mut values);
    places.into_iter().zip(values).for_each(|(place, value)| found[place] = value);
    true
}

/// How many values have which mark, and those of them that have to be looked at again. `None` if these are more than
/// half: then sorting is faster (and few different values might all be kept again and again).
fn divide(column: &[f64], brackets: &[Bracket; BRACKETS]) -> Option<([usize; MARKS], Vec<f64>)> {
    let mut counts = [0; MARKS];
    let mut kept = Vec::new();
    let kept_marks: [bool; MARKS] = std::array::from_fn(|mark| keeps(brackets, mark));
    let (mut marks, mut buffer) = ([0; BLOCK], [0.0; BLOCK]);
    for block in column.chunks(BLOCK) {
        let marks = &mut marks[..block.len()];
        mark_block(block, brackets, marks);
        count_marks(marks, &mut counts);
        // Every value is written, and written over unless it is kept: a processor cannot guess which.
        let mut length = 0;
        for (&x, &mark) in block.iter().zip(&*marks) {
            buffer[length] = x;
            length += usize::from(kept_marks[usize::from(mark)]);
        }
        kept.extend_from_slice(&buffer[..length]);
        if kept.len() > column.len() / 2 {
            return None;
        }
    }
    Some((counts, kept))
}

/// Whether values of this mark have to be looked at again.
fn keeps(brackets: &[Bracket; BRACKETS], mark: usize) -> bool {
    mark % 2 == 1 && brackets[mark / 2].is_wide()
}

/// A value's mark is how many of the brackets' ends it has passed.
#[multiversion(targets("x86_64+avx2"))]
fn mark_block(block: &[f64], brackets: &[Bracket; BRACKETS], marks: &mut [u8]) {
    for (mark, &x) in marks.iter_mut().zip(block) {
        *mark = brackets.iter().map(|b| u8::from(b.least <= x) + u8::from(b.greatest < x)).sum();
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn count_marks(marks: &[u8], counts: &mut [usize; MARKS]) {
    // So few at a time that a byte can count them.
    for marks in marks.chunks(128) {
        for (wanted, count) in (0u8..).zip(&mut *counts) {
            *count += usize::from(marks.iter().map(|&mark| u8::from(mark == wanted)).sum::<u8>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::seq::SliceRandom;

    fn check<const N: usize>(column: &[f64], ranks: [usize; N]) {
        let mut sorted = column.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        assert_eq!(at_ranks(column, ranks), ranks.map(|rank| sorted[rank]), "{ranks:?}");
    }

    /// 0.0, 1.0, 2.0 … in some order.
    fn shuffled(n: u32) -> Vec<f64> {
        let mut column: Vec<f64> = (0..n).map(f64::from).collect();
        column.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
        column
    }

    #[test]
    fn columns_that_crowd_spread_or_collapse_have_their_ranks() {
        let long = |value: fn(usize) -> f64| (0..10_000).map(value).collect::<Vec<f64>>();
        let columns = [
            long(|_| 7.0),
            long(|i| (i % 2) as f64),
            long(|i| if i == 0 { 1e300 } else { i as f64 }),
            long(|i| if i < 3 { f64::MAX } else { -f64::MAX }),
            long(|i| f64::from_bits(1 + (i % 9) as u64)),
            long(|i| 2f64.powi(-((i % 1_000) as i32))),
            long(|i| if i % 2 == 0 { 0.0 } else { -0.0 }),
            long(|i| 1.0 + i as f64 * f64::EPSILON),
            shuffled(10_000),
        ];
        for column in columns {
            for ranks in [[0, 0, 1], [1_999, 2_000, 2_001], [4_999, 5_000, 9_999], [9_998, 9_999, 9_999]] {
                check(&column, ranks);
            }
            // Apart from each other, more than there are brackets.
            check(&column, std::array::from_fn::<usize, 12, _>(|i| i * 900));
        }
    }

    #[test]
    fn brackets_hold_the_ranks_and_little_else() {
        let column = shuffled(100_000);
        let ranks = [20_000, 20_001, 40_000, 40_001, 60_000, 60_001, 80_000, 80_001];
        let brackets = brackets_around(&ranks, &column);
        let (_, kept) = divide(&column, &brackets).unwrap();
        assert!(kept.len() < column.len() / 4, "{} kept", kept.len());
        let mut found = [0.0; 8];
        assert!(find_inside(&brackets, &column, &ranks, &mut found));
        assert_eq!(found, ranks.map(|rank| rank as f64));
    }

    #[test]
    fn a_rank_outside_the_brackets_is_noticed() {
        let column = shuffled(5_000);
        let mut brackets = [Bracket::NONE; BRACKETS];
        brackets[0] = Bracket { least: 1_000.0, greatest: 1_100.0 };
        brackets[1] = Bracket { least: 3_000.0, greatest: 3_000.0 };
        let inside = |rank| {
            let mut found = [f64::NAN];
            find_inside(&brackets, &column, &[rank], &mut found).then_some(found[0])
        };
        let found = [999, 1_000, 1_100, 1_101, 2_999, 3_000, 3_001, 4_999].map(inside);
        assert_eq!(found, [None, Some(1_000.0), Some(1_100.0), None, None, Some(3_000.0), None, None]);
    }

    #[test]
    fn a_sample_that_misleads_changes_nothing() {
        // All that the sample sees is large, and nothing else.
        let n = 10_000;
        let mut column = vec![0.0; n];
        (0..sample_size(n)).for_each(|i| column[sampled(i, n)] = 1.0 + i as f64);
        let ranks = [1_999, 2_000, 6_000];
        assert!(!find_inside(&brackets_around(&ranks, &column), &column, &ranks, &mut [0.0; 3]));
        check(&column, ranks);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn ranks_are_those_of_the_sorted_column(
            column in prop_oneof![
                prop::collection::vec(-1e3..1e3f64, 6_001..12_000),
                prop::collection::vec((0..40u32).prop_map(f64::from), 6_001..12_000),
                prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 6_001..12_000),
                prop::collection::vec((-300.0..300.0f64).prop_map(|e| 10f64.powf(e)), 1..12_000),
            ],
            ranks in any::<[prop::sample::Index; 5]>(),
        ) {
            let mut ranks = ranks.map(|rank| rank.index(column.len()));
            ranks.sort_unstable();
            check(&column, ranks);
        }
    }
}
