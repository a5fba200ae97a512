use super::super::held::PROGRESS_AFTER;
use super::*;
use crate::kafka::Connection;
use crate::message::{Problem, Reason};
use crate::metric::PerMetric;
use crate::postgres::Address;
use crate::reader::pairing::DeadLetter;
use crate::reader::progress::Progress;
use crate::reader::score::Rules;
use crate::reader::segment::SegmentMap;
use crate::reader::session::queue::{Outcome, Unstored};
use crate::reader::session::receipt::StoredPart;
use uuid::Uuid;

/// Those of a reader with a memory budget of 6 000 bytes.
pub(in crate::reader::session) fn options() -> Options {
    let topics = PerMetric::from(["r", "f", "m"].map(str::to_owned));
    Options {
        kafka: Connection { bootstrap_servers: String::new(), topics, properties: Vec::new() },
        database: Address::new("", "--database-url", "rfm-reader").unwrap(),
        group_id: "g".to_owned(),
        rules: Rules::new(SegmentMap::built_in().unwrap()),
        edges_from: None,
        pairing_timeout: Duration::from_secs(20),
        buffer_bytes: 6_000,
        until_caught_up: false,
        http: None,
        retention: Default::default(),
        env_file: None,
    }
}

const START: PerMetric<i64> = PerMetric { recency: 10, frequency: 10, monetary: 10 };
const OWNER: Ownership = Ownership { epoch: 3, owner: Uuid::from_u128(7), commits: 5, next: START };

/// Of no partition.
pub(in crate::reader::session) fn empty() -> Holding {
    let options = options();
    let rules = Arc::new(options.rules.clone());
    Holding::new(&options, rules)
}

/// Partitions of which everything below 10 is stored, and whose logs ended at 12.
pub(in crate::reader::session) fn holding(partitions: &[i32], now: Instant) -> Holding {
    let mut holding = empty();
    for &partition in partitions {
        let progress = PerMetric::from_fn(|_| Progress::resume(10, BTreeMap::new(), None));
        let held = Held::when_taken(OWNER, [12; 3].into(), now);
        holding.add(Taken { partition, progress }, held, false);
    }
    holding
}

fn at(metric: Metric, partition: i32) -> TopicPartition {
    TopicPartition { metric, partition }
}

fn message(metric: Metric, offset: i64, key: &str, bytes: usize) -> Message {
    let (key, value) = (Some(key.into()), Some(vec![b' '; bytes]));
    Message { metric, partition: 0, offset, timestamp: Some(0), key, value }
}

/// A commit of partition 0 under `owner` that stored everything below `next`.
fn receipt(owner: Uuid, next: i64, weight: usize) -> Receipt {
    let part = StoredPart { partition: 0, owner, next: [next; 3].into(), weight };
    Receipt {
        parts: vec![part],
        batches: 1,
        customers: 1,
        dead_letters: Vec::new(),
        took: Duration::ZERO,
        latencies: Vec::new(),
        shifts: Vec::new(),
        populations: Default::default(),
    }
}

/// Messages that are not stored yet, in all topics.
fn lag(holding: &Holding, high: impl Fn(TopicPartition) -> Option<i64>) -> i64 {
    holding.lag(high).map(|(_, lag)| lag).sum()
}

fn read_up_to(holding: &mut Holding, offset: i64) {
    holding.read_up_to(&Metric::ALL.map(|metric| NextOffset {
        metric,
        partition: 0,
        offset,
        leader_epoch: None,
    }));
}

#[test]
fn lag_is_what_is_not_stored_of_the_newest_end_that_is_known() {
    let holding = holding(&[0, 1], Instant::now());
    assert_eq!(lag(&holding, |_| None), 12, "two messages in each of six topics");
    assert_eq!(lag(&holding, |_| Some(3)), 12, "an end from before the partition was taken");
    let ten_of_one = |of| (of == at(Metric::Monetary, 1)).then_some(20);
    assert_eq!(lag(&holding, ten_of_one), 20, "two of each other");
}

#[test]
fn a_message_lags_until_its_commit_succeeds_and_a_marker_until_it_is_read_past() {
    let mut holding = holding(&[0], Instant::now());
    for metric in Metric::ALL {
        holding.push(message(metric, 10, "a", 10), Duration::ZERO);
    }
    assert_eq!(lag(&holding, |_| None), 6, "a message and a marker in each topic");
    read_up_to(&mut holding, 12);
    assert_eq!(lag(&holding, |_| None), 3);
    holding.collect();
    holding.queue.take_to_score();
    let letters = Metric::ALL.map(|metric| DeadLetter {
        message: message(metric, 10, "a", 10),
        problem: Problem::new(Reason::Empty, "test"),
        refused_with: None,
    });
    let refused = Outcome::Refused(letters.into());
    holding.queue.add_scored(vec![Unstored { partition: 0, weight: 0, outcome: refused }]);
    let busy = BTreeSet::new();
    let fill = Fill { busy: &busy, idle_writers: 1, one_at_a_time: false };
    assert!(holding.next_commit(fill).is_some());
    assert_eq!(lag(&holding, |_| None), 3, "the commit is under way");
    holding.on_commit(&receipt(OWNER.owner, 12, 0), Instant::now());
    assert_eq!(lag(&holding, |_| None), 0);
}

#[test]
fn a_receipt_counts_for_the_ownership_it_was_made_under_only() {
    let mut holding = holding(&[0], Instant::now());
    holding.push(message(Metric::Recency, 10, "a", 5_000), Duration::ZERO);
    let full = holding.reading();
    assert!(!holding.on_commit(&receipt(Uuid::from_u128(8), 12, 5_000), Instant::now()));
    let stored = holding.stored(0);
    assert_eq!((stored, holding.reading()), (Some(START), full), "nothing is stored, no memory is free");
    assert!(holding.on_commit(&receipt(OWNER.owner, 12, 9_000), Instant::now()));
    assert_eq!((holding.stored(0), holding.reading()), (Some([12; 3].into()), Reading::All));
}

#[test]
fn what_is_stored_and_read_is_known_of_held_partitions_only() {
    let mut holding = holding(&[0], Instant::now());
    read_up_to(&mut holding, 12);
    assert_eq!((holding.stored(0), holding.read(0)), (Some([10; 3].into()), Some([12; 3].into())));
    holding.on_commit(&receipt(OWNER.owner, 12, 0), Instant::now());
    assert_eq!(holding.stored(0), Some([12; 3].into()));
    assert_eq!((holding.stored(1), holding.read(1)), (None, None));
}

#[test]
fn progress_without_a_batch_is_stored_after_a_while_or_when_it_completes_catching_up() {
    let begun = Instant::now();
    let mut holding = holding(&[0], begun);
    let (none, free) = (None, BTreeSet::new());
    let later = begun + PROGRESS_AFTER;
    assert!(holding.unstored_progress(none, &free, later).is_empty(), "nothing was read");

    read_up_to(&mut holding, 12);
    assert!(holding.unstored_progress(none, &free, begun).is_empty(), "a batch may come");
    assert_eq!(holding.unstored_progress(none, &free, later), [0]);
    assert!(holding.unstored_progress(none, &BTreeSet::from([0]), later).is_empty(), "in a commit");
    let target = |offset| Marks::new(BTreeMap::from([(0, [(0, offset); 3].into())]), &BTreeMap::new());
    assert_eq!(holding.unstored_progress(Some(&target(12)), &free, begun), [0]);
    assert!(holding.unstored_progress(Some(&target(13)), &free, begun).is_empty(), "it would not be enough");
    assert!(holding.unstored_progress(Some(&target(10)), &free, begun).is_empty(), "it has caught up before");
}

#[test]
fn a_commit_makes_the_next_one_expect_what_it_wrote() {
    let mut holding = holding(&[0], Instant::now());
    read_up_to(&mut holding, 12);
    holding.note_all_progress();
    let busy = BTreeSet::new();
    let fill = Fill { busy: &busy, idle_writers: 1, one_at_a_time: false };
    let commit = holding.next_commit(fill).unwrap();
    assert_eq!(commit.parts[0].expected, OWNER);
    assert_eq!(holding.ownership(0), Some(Ownership { commits: 6, next: [12; 3].into(), ..OWNER }));
    assert!(holding.next_commit(fill).is_none(), "nothing is left");
}

#[test]
fn progress_is_compared_where_nothing_has_confirmed_it() {
    let begun = Instant::now();
    let mut holding = holding(&[0, 1], begun);
    let limit = Duration::from_secs(10);
    let (later, free) = (begun + limit, BTreeSet::new());
    holding.on_commit(&receipt(OWNER.owner, 12, 0), begun + limit / 2);
    assert!(holding.confirm_older_than(limit, &BTreeSet::from([1]), later).is_empty(), "1 is in a commit");
    assert_eq!(holding.confirm_older_than(limit, &free, later), [(1, OWNER)]);
    assert!(holding.confirm_older_than(limit, &free, later).is_empty(), "asked once");
}

#[test]
fn above_half_the_budget_only_what_completes_batches_is_read() {
    let mut holding = holding(&[0, 1], Instant::now());
    assert_eq!(holding.change_paused(), (vec![], vec![]));
    holding.push(message(Metric::Recency, 10, "a", 3_000), Duration::ZERO);
    let (pause, resume) = holding.change_paused();
    assert_eq!((pause, resume), (vec![at(Metric::Recency, 0)], vec![]), "the others are behind");
    assert_eq!(holding.paused(), [at(Metric::Recency, 0)]);

    // Without partners for its key the oldest message is what everything waits for.
    for offset in 10..12 {
        holding.push(message(Metric::Frequency, offset, "b", 3_000), Duration::ZERO);
    }
    assert!(
        !holding.closed_topics(Reading::Behind).contains(&at(Metric::Frequency, 0)),
        "`a` lacks frequency"
    );
    assert_eq!(holding.closed_topics(Reading::Nothing).len(), 6);
}

#[test]
fn the_oldest_message_goes_only_when_memory_is_full_and_nothing_is_under_way() {
    let mut holding = holding(&[0], Instant::now());
    holding.push(message(Metric::Recency, 10, "a", 100), Duration::ZERO);
    assert!(!holding.make_room(false), "there is room");
    for offset in 11..20 {
        holding.push(message(Metric::Recency, offset, &offset.to_string(), 3_000), Duration::ZERO);
    }
    assert_eq!(holding.reading(), Reading::Nothing);
    assert!(!holding.make_room(true), "a commit may free memory");
    assert!(holding.make_room(false));
    assert!(!holding.make_room(false), "what went waits for its commit");
}
