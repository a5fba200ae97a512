//! A long column divided by brackets: one pass finds the values at a few ranks, and most of the codes. Pure.
//!
//! A bracket is two values between which a rank probably lies. A sample of the column gives brackets that
//! hold all ranks in about 99 of 100 columns (Floyd and Rivest, "Expected time bounds for selection", 1975).
//! One pass marks each value as below, inside or above each bracket, and keeps the values inside; only these
//! are examined again. **The sample decides the speed, never the result**: if a rank lies in no bracket, the
//! division finds nothing, and selection takes over.

use super::blocks::{BLOCK, blocks, prefetch};
use super::codes;
use super::selection::{self, NO_EXTREMES, extremes};
use multiversion::multiversion;

/// Columns up to this length are not divided: brackets would hold nearly half of the values, and selection is
/// as fast.
const SMALL: usize = 10_000;
/// One bracket per inner edge. Ranks that need more share the last one.
const BRACKETS: usize = 4;
/// A mark says in which bracket a value lies (odd), or between which (even).
const MARKS: usize = 2 * BRACKETS + 1;
/// Stands for a bracket whose values are not kept.
const NO_MARK: u8 = u8::MAX;

/// A column after one pass.
pub(super) struct Division {
    /// One around each rank.
    brackets: [Bracket; BRACKETS],
    /// The mark of every value: one for each lower end of a bracket that it reaches, and one for each upper end
    /// that it exceeds.
    marks: Vec<u8>,
    /// How many values have each mark.
    counts: [usize; MARKS],
    /// The values inside wide brackets.
    kept: Vec<f64>,
    /// Their places in the column; `u32` takes half the memory of `usize`.
    places: Vec<u32>,
    /// The least and the greatest value.
    pub(super) extremes: (f64, f64),
}

impl Division {
    /// Divides a column around ascending `ranks`. `None` if that does not pay: the column is short, or the
    /// brackets hold more than half of it (with few different values, every further division might keep all
    /// of them). Also `None` if the column is too long for places of 32 bits.
    pub(super) fn around(ranks: &[usize], column: &[f64]) -> Option<Self> {
        if column.len() <= SMALL || u32::try_from(column.len()).is_err() {
            return None;
        }
        debug_assert!(ranks.is_sorted());
        Self::by(brackets_around(ranks, column), column)
    }

    fn by(brackets: [Bracket; BRACKETS], column: &[f64]) -> Option<Self> {
        // Room for all of them, so that nothing moves as they grow. Pages that are not written take no
        // memory.
        let most = column.len() / 2 + BLOCK;
        let mut division = Self {
            brackets,
            marks: vec![0; column.len()],
            counts: [0; MARKS],
            kept: Vec::with_capacity(most),
            places: Vec::with_capacity(most),
            extremes: NO_EXTREMES,
        };
        let kept_marks = std::array::from_fn(|i| 2 * i + 1)
            .map(|mark| if division.keeps(mark) { mark as u8 } else { NO_MARK });
        let mut found = [0; BLOCK];
        let firsts = (0u32..).step_by(BLOCK);
        for (((block, next), marks), first) in
            blocks(column).zip(division.marks.chunks_mut(BLOCK)).zip(firsts)
        {
            // A quarter of the next block at a time: a processor has only so many loads in flight, and more
            // would stall the work.
            let mut quarters = next.chunks(BLOCK / 4);
            let mut prefetch_some = || prefetch(quarters.next().unwrap_or_default());
            prefetch_some();
            mark_block(block, &brackets, marks);
            prefetch_some();
            division.extremes = extremes(block, division.extremes);
            prefetch_some();
            count_marks(marks, &mut division.counts);
            prefetch_some();
            let found = places_of(marks, kept_marks, &mut found);
            division.kept.extend(found.iter().map(|&place| block[usize::from(place)]));
            division.places.extend(found.iter().map(|&place| first + u32::from(place)));
            if division.kept.len() > column.len() / 2 {
                return None;
            }
        }
        Some(division)
    }

    /// Whether values of this mark are kept, and examined again.
    fn keeps(&self, mark: usize) -> bool {
        mark % 2 == 1 && self.brackets[mark / 2].is_wide()
    }

    /// The values that would stand at ascending `ranks` if the column were sorted. `None` if one of them lies
    /// in no bracket. Either of 0.0 and -0.0 may come first.
    pub(super) fn at_ranks(&self, ranks: &[usize]) -> Option<Vec<f64>> {
        debug_assert!(ranks.is_sorted());
        let (mut mark, mut below, mut kept_below) = (0, 0, 0);
        let mut found = vec![0.0; ranks.len()];
        let (mut places, mut kept_ranks) = (Vec::new(), Vec::new());
        for (place, &rank) in ranks.iter().enumerate() {
            while below + self.counts[mark] <= rank {
                below += self.counts[mark];
                kept_below += if self.keeps(mark) { self.counts[mark] } else { 0 };
                mark += 1;
            }
            if self.keeps(mark) {
                places.push(place);
                kept_ranks.push(rank - below + kept_below);
            } else if mark % 2 == 1 {
                found[place] = self.brackets[mark / 2].least;
            } else {
                return None;
            }
        }
        if places.is_empty() {
            return Some(found);
        }
        let again = Self::around(&kept_ranks, &self.kept).and_then(|kept| kept.at_ranks(&kept_ranks));
        let values = again.unwrap_or_else(|| selection::at_ranks(self.kept.iter().copied(), &kept_ranks));
        places.into_iter().zip(values).for_each(|(place, value)| found[place] = value);
        Some(found)
    }

    /// How many of the `edges` lie below each value. Each edge lies between the values at two neighbouring
    /// ranks that [`Self::at_ranks`] found, or equals one of them. So a gap between brackets has no values if
    /// an edge lies in it.
    pub(super) fn codes(self, edges: [f64; 4]) -> Vec<u8> {
        let codes_of: [usize; MARKS] = std::array::from_fn(|mark| {
            if mark % 2 == 1 && !self.keeps(mark) {
                edges.iter().filter(|&&edge| edge < self.brackets[mark / 2].least).count()
            } else if mark < 2 {
                0
            } else {
                // A gap. A wide bracket has the code of the gap below it, until its kept values get theirs.
                edges.iter().filter(|&&edge| edge <= self.brackets[mark / 2 - 1].greatest).count()
            }
        });
        debug_assert!(codes_of.is_sorted());
        // The first marks whose values lie above one, two, three, four edges.
        let first = std::array::from_fn(|i| codes_of.partition_point(|&code| code <= i) as u8);
        let Self { mut marks, kept, places, .. } = self;
        marks_to_codes(&mut marks, first);
        let mut codes = marks;
        for (place, code) in places.into_iter().zip(codes::by_value(&kept, edges)) {
            codes[place as usize] = code;
        }
        codes
    }
}

/// The `least` and the `greatest` value that may stand at a rank.
#[derive(Clone, Copy)]
struct Bracket {
    /// The lower end.
    least: f64,
    /// The upper end.
    greatest: f64,
}

impl Bracket {
    /// A bracket that holds no value.
    const NONE: Self = Self { least: f64::INFINITY, greatest: f64::INFINITY };

    /// Whether its values can differ.
    fn is_wide(self) -> bool {
        self.least < self.greatest
    }
}

/// Ascending brackets in which the ranks probably lie. No two have a value in common.
fn brackets_around(ranks: &[usize], column: &[f64]) -> [Bracket; BRACKETS] {
    let (n, size) = (column.len(), sample_size(column.len()));
    let ends = ranks.iter().map(|&rank| {
        let share = rank as f64 / n as f64;
        // Three standard deviations of the number of sampled values below the rank.
        let margin = 1.0 + 3.0 * (size as f64 * share * (1.0 - share)).sqrt();
        let middle = share * (size - 1) as f64;
        (middle - margin, middle + margin)
    });
    let inside = |end: f64| (0.0..size as f64).contains(&end).then_some(end as usize);
    let wanted: Vec<usize> = ends.clone().flat_map(|(from, to)| [from, to]).filter_map(inside).collect();
    let sample = (0..size).map(|i| column[sampled(i, n)]);
    let mut found = selection::at_ranks(sample, &wanted).into_iter();

    let mut brackets = [Bracket::NONE; BRACKETS];
    let mut used = 0;
    for (from, to) in ends {
        let mut at = |end| inside(end).and_then(|_| found.next());
        let (least, greatest) = (at(from).unwrap_or(f64::NEG_INFINITY), at(to).unwrap_or(f64::INFINITY));
        if used == BRACKETS || used > 0 && least <= brackets[used - 1].greatest {
            brackets[used - 1].greatest = greatest;
        } else {
            brackets[used] = Bracket { least, greatest };
            used += 1;
        }
    }
    brackets
}

/// A larger sample costs more but gives narrower brackets. At n^(2/3) both cost about the same.
fn sample_size(n: usize) -> usize {
    (1.5 * (n as f64).powf(2.0 / 3.0)) as usize
}

/// The place in `n` values of the i-th sampled one. Steps of the golden section spread evenly and rarely fall
/// in step with a period of the column.
fn sampled(i: usize, n: usize) -> usize {
    ((u128::from((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) * n as u128) >> 64) as usize
}

/// Gives each value of a block its mark.
#[multiversion(targets("x86_64+avx2"))]
fn mark_block(block: &[f64], brackets: &[Bracket; BRACKETS], marks: &mut [u8]) {
    // First in integers as wide as the values, then narrowed: compilers vectorise both loops.
    let mut wide = [0; BLOCK];
    let wide = &mut wide[..block.len()];
    for (mark, &x) in wide.iter_mut().zip(block) {
        *mark = brackets.iter().map(|b| i64::from(b.least <= x) + i64::from(b.greatest < x)).sum();
    }
    for (mark, &wide) in marks.iter_mut().zip(&*wide) {
        *mark = wide as u8;
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn count_marks(marks: &[u8], counts: &mut [usize; MARKS]) {
    // Few enough at a time for a byte to count them.
    for marks in marks.chunks(128) {
        for (wanted, count) in (0u8..).zip(&mut *counts) {
            *count += usize::from(marks.iter().map(|&mark| u8::from(mark == wanted)).sum::<u8>());
        }
    }
}

/// The places of the wanted marks.
fn places_of<'a>(marks: &[u8], wanted: [u8; BRACKETS], found: &'a mut [u16; BLOCK]) -> &'a [u16] {
    let mut is_wanted = [0; BLOCK];
    are_wanted(marks, wanted, &mut is_wanted);
    let mut length = 0;
    for (first, ones) in (0..).step_by(64).zip(is_wanted.as_chunks().0) {
        let mut bits = bits_of(ones);
        // One turn per place: the processor mispredicts about one branch in 64 values, not one per place.
        while bits != 0 {
            found[length] = first + bits.trailing_zeros() as u16;
            length += 1;
            bits &= bits - 1;
        }
    }
    &found[..length]
}

/// One for each wanted mark, zero for each other.
#[multiversion(targets("x86_64+avx2"))]
fn are_wanted(marks: &[u8], wanted: [u8; BRACKETS], is_wanted: &mut [u8]) {
    for (is_wanted, mark) in is_wanted.iter_mut().zip(marks) {
        *is_wanted = wanted.iter().fold(0, |any, wanted| any | u8::from(wanted == mark));
    }
}

/// Packs zeros and ones into bits, the first of them lowest.
fn bits_of(ones: &[u8; 64]) -> u64 {
    let mut bits = 0;
    for (i, &eight) in ones.as_chunks::<8>().0.iter().enumerate() {
        // The highest byte of the product holds the lowest bits of the eight bytes, in their order.
        bits |= u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * i);
    }
    bits
}

/// Turns marks into codes. `first` holds the first marks of the codes 1 to 4; a code is how many of these a
/// mark reaches.
#[multiversion(targets("x86_64+avx2"))]
fn marks_to_codes(marks: &mut [u8], first: [u8; 4]) {
    for mark in marks {
        *mark = first.iter().map(|&first| u8::from(first <= *mark)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::seq::SliceRandom;

    /// 0.0, 1.0, 2.0 … in some order.
    fn shuffled(n: u32) -> Vec<f64> {
        let mut column: Vec<f64> = (0..n).map(f64::from).collect();
        column.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
        column
    }

    /// Whether a division finds the values at the ranks, which are pairs of neighbours. If so, checks them,
    /// and the codes for edges at the ranks and between neighbours.
    fn is_divided(column: &[f64], ranks: [usize; 8]) -> bool {
        let mut sorted = column.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let Some(division) = Division::around(&ranks, column) else { return false };
        assert_eq!(division.extremes, (sorted[0], sorted[sorted.len() - 1]));
        let Some(found) = division.at_ranks(&ranks) else { return false };
        assert_eq!(found, ranks.map(|rank| sorted[rank]), "{ranks:?}");
        let [a, b, c, d, e, f, g, h] = ranks.map(|rank| sorted[rank]);
        for edges in
            [[a, c, e, g], [b, d, f, h], [(a, b), (c, d), (e, f), (g, h)].map(|(a, b)| a / 2.0 + b / 2.0)]
        {
            let division = Division::around(&ranks, column).unwrap();
            assert!(division.codes(edges) == codes::by_value(column, edges), "{ranks:?} {edges:?}");
        }
        true
    }

    /// The ranks of quintiles, and others.
    const RANKS: [[usize; 8]; 4] = [
        [2_399, 2_400, 4_799, 4_800, 7_199, 7_200, 9_599, 9_600],
        [0, 1, 1, 2, 2, 3, 11_998, 11_999],
        [5_998, 5_999, 5_999, 6_000, 6_000, 6_001, 6_001, 6_002],
        [100, 101, 2_000, 2_001, 2_300, 2_301, 2_600, 2_601],
    ];

    #[test]
    fn columns_that_crowd_spread_or_collapse_are_divided() {
        let long = |value: fn(usize) -> f64| (0..12_000).map(value).collect::<Vec<f64>>();
        let columns = [
            long(|_| 7.0),
            long(|i| (i % 2) as f64),
            long(|i| (i % 40) as f64),
            long(|i| if i == 0 { 1e300 } else { (i * 7 % 12_000) as f64 }),
            long(|i| if i < 3 { f64::MAX } else { -f64::MAX }),
            long(|i| 2f64.powi(-((i % 1_000) as i32))),
            long(|i| if i % 2 == 0 { 0.0 } else { -0.0 }),
            long(|i| 1.0 + (i * 7 % 12_000) as f64 * f64::EPSILON),
            // Customers who bought nothing, and others: narrow and wide brackets side by side.
            long(|i| [0.0, -0.0, 0.0, 5.0][i % 4] + (i % 4 / 3 * (i * 7 % 12_000)) as f64),
            long(|i| if i % 10 < 3 { 0.0 } else { (i * 7 % 12_000) as f64 }),
            shuffled(12_000),
        ];
        for (i, column) in columns.iter().enumerate() {
            assert!(is_divided(column, RANKS[0]), "column {i}");
            for ranks in &RANKS[1..] {
                is_divided(column, *ranks);
            }
        }
        let nine_values = long(|i| f64::from_bits(1 + (i % 9) as u64));
        assert!(!is_divided(&nine_values, RANKS[0]), "brackets hold more than half");
    }

    #[test]
    fn places_are_those_of_the_marks_wanted() {
        for length in [0, 1, 63, 64, 65, BLOCK - 1, BLOCK] {
            let all = vec![3; length];
            assert_eq!(places_of(&all, [3; BRACKETS], &mut [0; BLOCK]).len(), length);
            let marks: Vec<u8> = (0..length).map(|i| (i * i % 11) as u8).collect();
            let wanted = [1, NO_MARK, 9, NO_MARK];
            let expected: Vec<u16> =
                (0u16..).zip(&marks).filter(|(_, mark)| wanted.contains(mark)).map(|(i, _)| i).collect();
            assert_eq!(places_of(&marks, wanted, &mut [0; BLOCK]), expected, "{length}");
        }
    }

    #[test]
    fn brackets_hold_the_ranks_and_little_else() {
        let column = shuffled(100_000);
        let ranks = [20_000, 20_001, 40_000, 40_001, 60_000, 60_001, 80_000, 80_001];
        let division = Division::around(&ranks, &column).unwrap();
        assert!(division.kept.len() < column.len() / 4, "{} kept", division.kept.len());
        assert!(is_divided(&column, ranks));
    }

    #[test]
    fn a_rank_outside_the_brackets_is_noticed() {
        let column = shuffled(5_000);
        let mut brackets = [Bracket::NONE; BRACKETS];
        brackets[0] = Bracket { least: 1_000.0, greatest: 1_100.0 };
        brackets[1] = Bracket { least: 3_000.0, greatest: 3_000.0 };
        let division = Division::by(brackets, &column).unwrap();
        let inside = |rank| division.at_ranks(&[rank]).map(|found| found[0]);
        let found = [999, 1_000, 1_100, 1_101, 2_999, 3_000, 3_001, 4_999].map(inside);
        assert_eq!(found, [None, Some(1_000.0), Some(1_100.0), None, None, Some(3_000.0), None, None]);
        let edges = [1_000.0, 1_050.5, 1_100.0, 3_000.0];
        assert_eq!(division.codes(edges), codes::by_value(&column, edges));
    }

    #[test]
    fn a_sample_that_misleads_is_noticed() {
        // The sample sees all the large values, and no others.
        let n = 12_000;
        let mut column = vec![0.0; n];
        (0..sample_size(n)).for_each(|i| column[sampled(i, n)] = 1.0 + i as f64);
        let division = Division::around(&RANKS[0], &column).unwrap();
        assert_eq!(division.at_ranks(&RANKS[0]), None);
        // Selection finds the ranks instead.
        let cut = super::super::cut(&column).unwrap();
        let [_, edges @ .., _] = cut.edges;
        assert_eq!(edges[..3], [0.0; 3]);
        assert_eq!(cut.codes, codes::by_value(&column, edges));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn ranks_and_codes_are_those_of_the_sorted_column(
            column in prop_oneof![
                prop::collection::vec(-1e3..1e3f64, 12_000..16_000),
                prop::collection::vec((0..40u32).prop_map(f64::from), 12_000..16_000),
                prop::collection::vec(prop_oneof![Just(0.0), Just(-0.0), 0.0..100.0f64], 12_000..16_000),
                prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 12_000..16_000),
                prop::collection::vec((-300.0..300.0f64).prop_map(|e| 10f64.powf(e)), 12_000..16_000),
            ],
            ranks in any::<[prop::sample::Index; 4]>(),
        ) {
            let ranks = ranks.map(|rank| rank.index(column.len() - 1));
            let mut ranks = std::array::from_fn(|i| ranks[i / 2] + i % 2);
            ranks.sort_unstable();
            // The test above shows that division usually works: a sample misleads in one of a hundred
            // columns.
            is_divided(&column, ranks);
            is_divided(&column, std::array::from_fn(|i| column.len() * (i / 2 + 1) / 5 + i % 2));
        }
    }
}
