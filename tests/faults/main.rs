//! Injects faults, many times each, and lets the judge recompute everything afterwards. Run it with
//! `scripts/faults`.
//!
//! Each fault has a world of its own: topics, a database, a producer that sends batches all the time. A
//! recovery ends when the next batch of every partition is stored. At the end everything is compared. The
//! fault's line says FAILED if a recovery takes too long (on a busy machine: longer than `slowness` allows),
//! or if a program hangs or panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fault that cannot be injected fails"
)]
#![allow(clippy::print_stdout, reason = "the table is the answer")]
#![allow(dead_code, reason = "`world`, `kafka` and `slowness` are shared with the end-to-end tests")]

mod brokers;
mod catalogue;
mod cluster;
mod failover;
#[path = "../e2e/kafka.rs"]
mod kafka;
mod load;
mod mute;
mod orders;
mod postgres;
#[path = "../e2e/probe.rs"]
mod probe;
mod process;
mod proxy;
mod readers;
mod replicas;
mod resources;
mod restore;
mod second_chances;
mod senders;
mod sequence;
#[path = "../e2e/slowness.rs"]
mod slowness;
mod soak;
mod topics;
mod watch;
mod windows;
#[path = "../e2e/world.rs"]
mod world;

use catalogue::{FAULTS, Fault};
use load::Report;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How many worlds are at work at the same time. There are two cores, and much of the time is spent waiting.
const PARALLEL: usize = 3;

struct Flags {
    /// The long run's counts, and this share of them; `None`: the counts of CI.
    long: Option<f64>,
    seed: u64,
    names: Vec<String>,
}

impl Flags {
    fn parse() -> Self {
        let mut flags = Flags { long: None, seed: rand::random(), names: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("a value behind {word}"));
            match word.as_str() {
                "--long" => flags.long = Some(1.0),
                "--share" => flags.long = Some(value().parse().expect("a number behind --long --share")),
                "--seed" => flags.seed = value().parse().expect("a number behind --seed"),
                name => flags.names.push(name.to_owned()),
            }
        }
        flags
    }

    fn times(&self, fault: &Fault) -> u32 {
        self.long.map_or(fault.ci, |share| (f64::from(fault.long) * share).ceil() as u32)
    }

    fn chosen(&self, fault: &Fault) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| fault.name.contains(name.as_str()))
    }
}

fn main() {
    let flags = Flags::parse();
    assert!(world::WATCHER.set(watch::WATCHER).is_ok());
    println!("faults: seed {} (repeat with --seed {0})", flags.seed);
    let begun = Instant::now();
    let chosen: Vec<usize> = (0..FAULTS.len()).filter(|&place| flags.chosen(&FAULTS[place])).collect();
    let (alone, mut together): (Vec<usize>, Vec<usize>) =
        chosen.into_iter().partition(|&place| FAULTS[place].alone);
    // The longest first, so that none of them runs alone at the end.
    together.sort_by_key(|&place| FAULTS[place].begins_late);
    let results = Mutex::new(BTreeMap::new());
    work(together, PARALLEL, &flags, &results);
    work(alone, 1, &flags, &results);
    let is_well = print(&results.into_inner().unwrap(), begun);
    std::process::exit(if is_well { 0 } else { 1 });
}

/// What each fault did, and its longest wait past a deadline, with what was allowed.
type Results = BTreeMap<usize, (Option<Report>, Option<(Duration, Duration)>)>;

/// Runs the faults at these places, several at a time.
fn work(places: Vec<usize>, parallel: usize, flags: &Flags, results: &Mutex<Results>) {
    let queue = Mutex::new(places.into_iter());
    thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                loop {
                    let Some(place) = queue.lock().unwrap().next() else { return };
                    let (fault, begun) = (&FAULTS[place], Instant::now());
                    let mut random = StdRng::seed_from_u64(flags.seed ^ place as u64);
                    let run = || (fault.inject)(flags.times(fault), &mut random);
                    let report = catch_unwind(AssertUnwindSafe(run)).ok();
                    let outcome = if report.is_some() { "done" } else { "FAILED" };
                    eprintln!("{}: {outcome} in {} s", fault.name, begun.elapsed().as_secs());
                    results.lock().unwrap().insert(place, (report, slowness::stretched()));
                }
            });
        }
    });
}

/// Prints the table. Returns whether all is well.
fn print(results: &Results, begun: Instant) -> bool {
    println!(
        "\n{:<50} {:>6} {:>9} {:>5} {:>8} {:>6} {:>17}",
        "fault", "times", "rows", "lost", "doubled", "wrong", "slowest recovery"
    );
    let (mut injected, mut sums, mut failed, mut notes) = (0, [0; 3], 0, Vec::new());
    for (place, (report, stretched)) in results {
        let name = FAULTS[*place].name;
        let Some(report) = report else {
            println!("{name:<50} FAILED: see above");
            failed += 1;
            continue;
        };
        let [lost, doubled, wrong] = report.differences;
        let slowest = report.slowest.map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        println!(
            "{name:<50} {:>6} {:>9} {lost:>5} {doubled:>8} {wrong:>6} {slowest:>17}{}",
            report.times,
            report.rows,
            stretched.map_or(String::new(), |(waited, allowed)| format!(
                "  (waited {:.1} s, allowed {:.1} s on this busy machine)",
                waited.as_secs_f64(),
                allowed.as_secs_f64()
            ))
        );
        injected += report.times;
        sums.iter_mut().zip(report.differences).for_each(|(sum, n)| *sum += n);
        if report.overcounted > report.taken_back {
            println!("{name}: FAILED: the counters have {} batches more than the tables", report.overcounted);
            failed += 1;
        }
        if report.taken_back > 0 {
            let n = report.taken_back;
            notes.push(format!("{name}: Postgres forgot {n} batches that had been committed"));
        }
        notes.extend(report.note.iter().map(|note| format!("{name}: {note}")));
    }
    println!();
    notes.iter().for_each(|note| println!("{note}"));
    let panics = world::PANICS.load(Ordering::Relaxed);
    println!("{}", watch::summary());
    println!("{} s, {failed} faults failed, {panics} panics", begun.elapsed().as_secs());
    println!("work took {:.1} times as long as on an idle machine", slowness::of_the_run());
    let [lost, doubled, wrong] = sums;
    println!("\nfaults: {injected} injected, {lost} lost, {doubled} doubled, {wrong} wrong");
    failed == 0 && panics == 0 && sums == [0; 3]
}
