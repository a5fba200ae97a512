//! Order statistics: the values at a few ranks of a column, without sorting it. Pure.
//!
//! The one idea: count the values into equal intervals between the least and the greatest; the counts tell in which
//! interval a rank lies, so only what lies there has to be looked at again. Where values crowd into one
//! interval, the same is done inside it.

/// Columns up to this length are sorted: 4 KiB, in the nearest cache.
const SMALL: usize = 512;
/// Intervals: their counts fit into the nearest cache, too.
const INTERVALS: usize = 2048;
/// How often an interval may be divided again before it is sorted. Values of any usual distribution are done with
/// after the second time; ever more crowded ones may not cost more than sorting does.
const DEEPEST: u32 = 4;

/// The values at some `ranks` (0-based, below the length) of finite values, as if these were sorted. In a column of
/// more than [`SMALL`] values the ranks must ascend. Which of 0.0 and -0.0 stands first is left open.
pub(super) fn at_ranks<const N: usize>(column: &[f64], ranks: [usize; N]) -> [f64; N] {
    let mut found = [0.0; N];
    find(column, &ranks, &mut found, DEEPEST);
    found
}

/// What lies in an interval in which ranks lie.
struct Wanted {
    /// How many values lie below the interval.
    below: usize,
    /// Which of the ranks lie in it: the first of them, and how many.
    first: usize,
    count: usize,
    values: Vec<f64>,
}

fn find(column: &[f64], ranks: &[usize], found: &mut [f64], deeper: u32) {
    let Some(intervals) = Intervals::of(column).filter(|_| column.len() > SMALL && deeper > 0) else {
        return find_by_sorting(column, ranks, found);
    };
    debug_assert!(ranks.is_sorted());
    let (mut wanted, slots) = want(&intervals.counts(column), ranks);
    for &x in column {
        // A slot beyond the last one: nothing in that interval is wanted.
        if let Some(wanted) = wanted.get_mut(usize::from(slots[intervals.place(x)])) {
            wanted.values.push(x);
        }
    }
    for Wanted { below, first, count, values } in wanted {
        let inside: Vec<usize> = ranks[first..first + count].iter().map(|rank| rank - below).collect();
        find(&values, &inside, &mut found[first..first + count], deeper - 1);
    }
}

fn find_by_sorting(column: &[f64], ranks: &[usize], found: &mut [f64]) {
    let mut sorted = column.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    for (found, &rank) in found.iter_mut().zip(ranks) {
        *found = sorted[rank];
    }
}

/// The intervals that ascending ranks lie in, and per interval which of these it is.
fn want(counts: &[usize; INTERVALS], ranks: &[usize]) -> (Vec<Wanted>, [u8; INTERVALS]) {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(ranks.len());
    let mut slots = [u8::MAX; INTERVALS];
    let (mut interval, mut below) = (0, 0);
    for (i, &rank) in ranks.iter().enumerate() {
        while below + counts[interval] <= rank {
            below += counts[interval];
            interval += 1;
        }
        if slots[interval] == u8::MAX {
            slots[interval] = wanted.len() as u8;
            wanted.push(Wanted { below, first: i, count: 0, values: Vec::with_capacity(counts[interval]) });
        }
        wanted[usize::from(slots[interval])].count += 1;
    }
    (wanted, slots)
}

/// Equal intervals from the least to the greatest value. **Which one a value lies in never falls as the value
/// rises**: a subtraction, a multiplication by something positive, and cutting off the fraction all keep order.
struct Intervals {
    least: f64,
    /// Intervals per unit.
    scale: f64,
}

impl Intervals {
    /// `None` if f64 cannot say how wide they are: the values are all equal, or too close, or too far apart.
    fn of(column: &[f64]) -> Option<Self> {
        let least = column.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let scale = (INTERVALS - 1) as f64 / (greatest - least);
        (scale.is_finite() && scale > 0.0).then_some(Self { least, scale })
    }

    fn place(&self, x: f64) -> usize {
        (((x - self.least) * self.scale) as usize).min(INTERVALS - 1)
    }

    fn counts(&self, column: &[f64]) -> [usize; INTERVALS] {
        let mut counts = [0; INTERVALS];
        column.iter().for_each(|&x| counts[self.place(x)] += 1);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(column: &[f64], ranks: [usize; 3]) {
        let mut sorted = column.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        assert_eq!(at_ranks(column, ranks), ranks.map(|rank| sorted[rank]), "{ranks:?}");
    }

    #[test]
    fn columns_that_crowd_overflow_or_collapse_have_their_ranks() {
        let long = |value: fn(usize) -> f64| (0..5_000).map(value).collect::<Vec<f64>>();
        let columns = [
            long(|_| 7.0),
            long(|i| if i == 0 { 1e300 } else { i as f64 }),
            long(|i| if i < 3 { f64::MAX } else { -f64::MAX }),
            long(|i| f64::from_bits(1 + (i % 9) as u64)),
            long(|i| 2f64.powi(-((i % 1_000) as i32))),
            long(|i| if i % 2 == 0 { 0.0 } else { -0.0 }),
            long(|i| 1.0 + i as f64 * f64::EPSILON),
        ];
        for column in columns {
            for ranks in [[0, 0, 1], [999, 1_000, 1_001], [2_499, 2_500, 4_999], [4_998, 4_999, 4_999]] {
                check(&column, ranks);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn ranks_are_those_of_the_sorted_column(
            column in prop_oneof![
                prop::collection::vec(-1e3..1e3f64, 513..3_000),
                prop::collection::vec((0..40u32).prop_map(f64::from), 513..3_000),
                prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 513..3_000),
                prop::collection::vec((-300.0..300.0f64).prop_map(|e| 10f64.powf(e)), 513..3_000),
            ],
            ranks in any::<[prop::sample::Index; 3]>(),
        ) {
            let mut ranks = ranks.map(|rank| rank.index(column.len()));
            ranks.sort_unstable();
            check(&column, ranks);
        }
    }
}
