use super::*;
use crate::message::CustomerIds;
use crate::reader::edges::FixedEdges;
use crate::reader::grid::Grid;
use crate::reader::quintile;
use crate::reader::segment::SegmentMap;
use std::time::Duration;

fn rules() -> Rules {
    Rules::new(SegmentMap::built_in().unwrap())
}

/// A snapshot of this day; ids are whole numbers.
fn snapshot(day: u64, frequency: Vec<f64>, ids: Option<std::ops::Range<u64>>) -> Scored {
    let others: Vec<f64> = (0..frequency.len()).map(|i| i as f64).collect();
    let values = PerMetric { recency: others.clone(), frequency, monetary: others };
    let cuts = values.as_ref().map(|column| quintile::cut(column).unwrap());
    let customer_ids = ids.map(|ids| {
        let mut all = CustomerIds::default();
        ids.for_each(|id| all.push(id));
        all
    });
    let columns = values.as_ref().map(Vec::as_slice);
    let grid = Grid::add_up(columns, &cuts.recency.codes, &cuts.frequency.codes);
    Scored {
        partition: 0,
        offsets: PerMetric::default(),
        key: None,
        population: Some("north".to_owned()),
        as_of: DateTime::UNIX_EPOCH + Duration::from_secs(day * 86_400),
        produced_at: None,
        values,
        cuts,
        customer_ids,
        grid,
    }
}

/// Different values, so that no edges are equal.
fn spread(customers: usize) -> Vec<f64> {
    (0..customers).map(|i| i as f64).collect()
}

/// What is said of these snapshots, stored in this order under the ids 1, 2, 3, …
fn said(rules: &Rules, snapshots: &[Scored]) -> Vec<Shift> {
    let mut shifts = Shifts::default();
    (1..).zip(snapshots).flat_map(|(id, snapshot)| shifts.compare(rules, id, snapshot)).collect()
}

/// 10 000 customers, of whom these have one order, two, and three; the others have more, each another number.
fn orders(one: usize, two: usize, three: usize) -> Vec<f64> {
    let few = [(1.0, one), (2.0, two), (3.0, three)];
    let few = few.into_iter().flat_map(|(orders, customers)| std::iter::repeat_n(orders, customers));
    few.chain((4..).map(f64::from)).take(10_000).collect()
}

#[test]
fn an_empty_quintile_is_said_once_per_population_and_once_more_when_others_are_empty() {
    let days = [orders(5_000, 0, 0), orders(5_100, 0, 0), orders(7_000, 0, 0), orders(5_000, 0, 0)];
    let snapshots: Vec<Scored> = (1..).zip(days).map(|(day, column)| snapshot(day, column, None)).collect();
    let found = said(&rules(), &snapshots);
    let empty =
        |which, sharing| Change::Empty { metric: Metric::Frequency, which, sharing, customers: 10_000 };
    let empties: Vec<_> = found.iter().filter(|shift| matches!(shift.change, Change::Empty { .. })).collect();
    let changes: Vec<Change> = empties.iter().map(|shift| shift.change).collect();
    assert_eq!(changes, [empty(0b01, 5_000), empty(0b11, 7_000)]);
    assert_eq!((empties[0].batch, empties[0].before, empties[1].batch), (1, None, 3));
    assert_eq!(empties[0].population.as_deref(), Some("north"));
    assert_eq!(
        changes[0].to_string(),
        "1 of the 5 quintiles of frequency are empty: 5000 of 10000 customers share one value (see `Your data, choose \
         this` in docs/guide.md)"
    );
}

#[test]
fn what_is_called_empty_is_empty() {
    let columns = [(orders(5_000, 0, 0), 1), (orders(2_000, 8_000, 0), 3), (orders(10_000, 0, 0), 4)];
    // Of the last one, an edge lies between two values: no edges are equal there, and still nobody is between.
    let columns = columns.into_iter().chain([(orders(2_500, 0, 0), 0), (orders(1_000, 7_000, 2_000), 3)]);
    for (column, wanted) in columns {
        let cut = quintile::cut(&column).unwrap();
        assert_eq!(change::empty(&cut).count_ones(), wanted, "{:?}", cut.edges);
    }
}

#[test]
fn quintiles_are_not_empty_under_rank_and_fixed_edges_are_none() {
    let edges = FixedEdges::from_file(b"frequency 1 2 3 4").unwrap();
    for rules in [Rules { ties: Ties::Rank, ..rules() }, Rules { edges, ..rules() }] {
        let snapshots = [snapshot(1, orders(5_000, 0, 0), None), snapshot(2, orders(3_000, 3_000, 0), None)];
        assert_eq!(said(&rules, &snapshots), []);
    }
}

#[test]
fn an_edge_that_jumps_is_said_with_the_customers_that_it_moves() {
    // The third edge is the 6 001st value: 2.0, then 1.0, without a changed order of the 1 500 who have two.
    let days = [orders(5_800, 1_500, 500), orders(6_200, 1_500, 100), orders(6_300, 1_500, 0)];
    let snapshots: Vec<Scored> = (1..).zip(days).map(|(day, column)| snapshot(day, column, None)).collect();
    let found = said(&rules(), &snapshots);
    let jumps: Vec<&Shift> =
        found.iter().filter(|shift| matches!(shift.change, Change::Jumped { .. })).collect();
    let [jump] = jumps[..] else { panic!("{found:?}") };
    let change =
        Change::Jumped { metric: Metric::Frequency, from: 2.0, to: 1.0, moved: 1_500, customers: 10_000 };
    assert_eq!((jump.batch, jump.before, jump.change), (2, Some(1), change));
}

#[test]
fn an_edge_that_moves_with_every_snapshot_is_said_once_and_again_after_it_rested() {
    let moved = |day, by: f64| snapshot(day, spread(1_000).iter().map(|x| x + by).collect(), None);
    let by = [0.0, 200.0, 400.0, 400.0, 600.0];
    let snapshots: Vec<Scored> = (1..).zip(by).map(|(day, by)| moved(day, by)).collect();
    let batches: Vec<i64> = said(&rules(), &snapshots).iter().map(|shift| shift.batch).collect();
    assert_eq!(batches, [2, 5]);
}

#[test]
fn two_samples_of_the_same_customers_have_no_jump() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    for customers in [10, 100, 1_000, 30_000] {
        let mut sample = |day| {
            let column = (0..customers).map(|_| f64::from(rng.random_range(0..=365))).collect();
            snapshot(day, column, None)
        };
        let snapshots: Vec<Scored> = (1..=30).map(&mut sample).collect();
        let jumps =
            said(&rules(), &snapshots).into_iter().filter(|s| matches!(s.change, Change::Jumped { .. }));
        assert_eq!(jumps.count(), 0, "{customers}");
    }
}

#[test]
fn tied_columns_under_rank_are_not_cut_by_their_edges() {
    let snapshots =
        [snapshot(1, orders(5_800, 1_500, 500), None), snapshot(2, orders(6_200, 1_500, 100), None)];
    assert_eq!(said(&Rules { ties: Ties::Rank, ..rules() }, &snapshots), []);
}

#[test]
fn ids_of_other_customers_are_said_once_until_they_match_again() {
    let days = [0..500, 50..550, 1_000..1_500, 2_000..2_500, 2_010..2_510, 0..500];
    let snapshots: Vec<Scored> = (1..)
        .zip(days)
        .map(|(day, ids)| snapshot(day, spread(ids.end as usize - ids.start as usize), Some(ids)))
        .collect();
    let found = said(&rules(), &snapshots);
    let strangers: Vec<i64> = found
        .iter()
        .filter(|shift| matches!(shift.change, Change::Strangers { judged: 50.., found: 0 }))
        .map(|shift| shift.batch)
        .collect();
    assert_eq!((strangers, found.len()), (vec![3, 6], 2));
}

#[test]
fn customers_who_come_or_go_are_no_strangers() {
    for (before, now) in [(0..10_000, 0..100), (0..100, 0..10_000), (0..100, 99..104), (0..3, 7..10)] {
        let ids = [before.clone(), now.clone()];
        let snapshots = (1..)
            .zip(ids)
            .map(|(day, ids)| snapshot(day, spread(ids.end as usize - ids.start as usize), Some(ids)));
        let found = said(&rules(), &snapshots.collect::<Vec<_>>());
        let is_stranger = |shift: &Shift| matches!(shift.change, Change::Strangers { .. });
        assert!(!found.iter().any(is_stranger), "{before:?} {now:?}: {found:?}");
    }
}

#[test]
fn customers_who_lose_their_ids_are_said() {
    let snapshots = [
        snapshot(1, spread(100), Some(0..100)),
        snapshot(2, spread(100), None),
        snapshot(3, spread(100), None),
    ];
    let found = said(&rules(), &snapshots);
    assert_eq!(
        found.iter().map(|shift| (shift.batch, shift.change)).collect::<Vec<_>>(),
        [(2, Change::Nameless)]
    );
}

#[test]
fn more_than_half_of_the_customers_must_be_gone() {
    let fell = |from: usize, to: usize| {
        let found = said(&rules(), &[snapshot(1, spread(from), None), snapshot(2, spread(to), None)]);
        found.iter().any(|shift| shift.change == Change::Fell { from, to })
    };
    assert!(fell(1_000, 499) && !fell(1_000, 500) && !fell(1_000, 2_000));
    assert!(fell(3, 1) && !fell(2, 1));
}

#[test]
fn what_comes_again_and_again_is_said_ever_less_often() {
    let sizes = [1_000, 100].into_iter().cycle().take(200);
    let snapshots: Vec<Scored> =
        (1..).zip(sizes).map(|(day, size)| snapshot(day, spread(size), None)).collect();
    let falls =
        said(&rules(), &snapshots).into_iter().filter(|s| matches!(s.change, Change::Fell { .. })).count();
    assert_eq!(falls, 8 + 3, "of 100: the first eight, the 16th, the 32nd and the 64th");
}

#[test]
fn late_and_repeated_snapshots_are_not_compared() {
    let snapshots =
        [snapshot(5, spread(1_000), None), snapshot(5, spread(9), None), snapshot(4, spread(9), None)];
    assert_eq!(said(&rules(), &snapshots), []);
    let mut shifts = Shifts::default();
    (1..).zip(&snapshots).for_each(|(id, snapshot)| drop(shifts.compare(&rules(), id, snapshot)));
    let later = shifts.compare(&rules(), 9, &snapshot(6, spread(9), None));
    assert!(later.iter().any(|shift| shift.before == Some(1)), "compared with the newest: {later:?}");
}

#[test]
fn populations_are_told_apart_and_only_so_many_are_kept() {
    let of = |name: String, day, size| Scored { population: Some(name), ..snapshot(day, spread(size), None) };
    let mut shifts = Shifts::default();
    for i in 0..POPULATIONS + 10 {
        assert_eq!(shifts.compare(&rules(), 1, &of(i.to_string(), 1, 100)), []);
    }
    assert_eq!(shifts.known.len(), POPULATIONS);
    assert_eq!(shifts.compare(&rules(), 2, &of("0".to_owned(), 2, 10)), [], "forgotten");
    assert_eq!(shifts.compare(&rules(), 2, &of(POPULATIONS.to_string(), 2, 10)).len(), 1, "kept");
    assert_eq!(shifts.compare(&rules(), 3, &of("x".repeat(10_000), 1, 100)), []);
    assert!(shifts.known.keys().all(|name| name.as_ref().is_some_and(|name| name.len() < 10)));
}

#[test]
fn what_a_commit_compares_comes_back_unless_a_newer_snapshot_came_first() {
    let [first, second, third] = [1, 2, 3].map(|day| snapshot(day, spread(100), None));
    let mut shifts = Shifts::default();
    shifts.compare(&rules(), 1, &first);
    let (mut one, mut other) = (shifts.of([&second].into_iter()), shifts.of([&third].into_iter()));
    one.compare(&rules(), 2, &second);
    other.compare(&rules(), 3, &third);
    shifts.take_in(&other, &[]);
    shifts.take_in(&one, &[]);
    let fell = shifts.compare(&rules(), 4, &snapshot(4, spread(9), None));
    assert!(!fell.is_empty() && fell.iter().all(|shift| shift.before == Some(3)), "{fell:?}");
    assert!(Shifts::default().of([&first].into_iter()).known.is_empty());
}

#[test]
fn empty_quintiles_that_two_commits_found_at_the_same_time_are_said_once() {
    let tied = |day| snapshot(day, orders(5_000, 0, 0), None);
    for [first, second] in [[1, 2], [2, 1]] {
        let mut shifts = Shifts::default();
        let mut parts = [shifts.clone(), shifts.clone()];
        let found =
            [parts[0].compare(&rules(), 1, &tied(first)), parts[1].compare(&rules(), 2, &tied(second))];
        assert_eq!([found[0].len(), found[1].len()], [1, 1]);
        let said = [0, 1].map(|i| shifts.take_in(&parts[i], &found[i]).len());
        assert_eq!(said, [1, 0], "{first} {second}");
        assert_eq!(shifts.compare(&rules(), 3, &tied(3)), []);
    }
}
