//! Injects faults, many times each, and has the judge recompute everything afterwards. `scripts/faults`.
//!
//! Each fault has a world of its own: topics, a database, a producer that sends batches all the time.
//! After each injection the next stored batch ends the recovery; at the end everything is compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fault that cannot be injected fails"
)]
#![allow(clippy::print_stdout, reason = "the table is the answer")]
#![allow(dead_code, reason = "`world` and `kafka` are shared with the end-to-end tests")]

#[path = "../e2e/kafka.rs"]
mod kafka;
mod load;
mod proxy;
mod readers;
mod senders;
mod servers;
#[path = "../e2e/world.rs"]
mod world;

use load::Report;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, mpsc};
use std::thread;

/// A fault, how often it is injected in a short run, and how.
struct Fault {
    name: &'static str,
    times: u32,
    inject: fn(u32, &mut StdRng) -> Report,
}

const FAULTS: [Fault; 24] = [
    Fault { name: "reader: kill -9", times: 50, inject: readers::kill },
    Fault { name: "reader: dies after poll", times: 5, inject: |n, r| readers::die_at("after_poll", n, r) },
    Fault {
        name: "reader: dies after pairing",
        times: 5,
        inject: |n, r| readers::die_at("after_pairing", n, r),
    },
    Fault {
        name: "reader: dies after scoring",
        times: 5,
        inject: |n, r| readers::die_at("after_scoring", n, r),
    },
    Fault { name: "reader: dies after BEGIN", times: 5, inject: |n, r| readers::die_at("after_begin", n, r) },
    Fault { name: "reader: dies in mid COPY", times: 5, inject: |n, r| readers::die_at("mid_copy", n, r) },
    Fault { name: "reader: dies after COPY", times: 5, inject: |n, r| readers::die_at("after_copy", n, r) },
    Fault {
        name: "reader: dies after progress",
        times: 5,
        inject: |n, r| readers::die_at("after_progress", n, r),
    },
    Fault {
        name: "reader: dies before COMMIT",
        times: 5,
        inject: |n, r| readers::die_at("before_commit", n, r),
    },
    Fault {
        name: "reader: dies after COMMIT",
        times: 5,
        inject: |n, r| readers::die_at("after_commit", n, r),
    },
    Fault { name: "reader: frozen, then wakes", times: 10, inject: readers::freeze },
    Fault { name: "reader: frozen in a transaction", times: 3, inject: readers::freeze_in_transaction },
    Fault { name: "readers: two and three, come, go, die", times: 10, inject: readers::churn },
    Fault { name: "reader: SIGTERM under load", times: 50, inject: readers::terminate },
    Fault { name: "postgres: cut during COMMIT", times: 20, inject: servers::cut_commit },
    Fault { name: "postgres: backend terminated", times: 5, inject: servers::terminate_backend },
    Fault { name: "postgres: stopped for 1 s", times: 5, inject: servers::postgres_away_1s },
    Fault { name: "postgres: stopped for 30 s", times: 5, inject: servers::postgres_away_30s },
    Fault { name: "postgres: 200 ms away", times: 5, inject: servers::postgres_slow },
    Fault { name: "kafka: stopped and started", times: 3, inject: servers::kafka_restart },
    Fault { name: "kafka: killed and started", times: 3, inject: servers::kafka_killed },
    Fault { name: "kafka: frozen for 2 s", times: 3, inject: servers::kafka_frozen },
    Fault { name: "producer: kill -9", times: 10, inject: senders::kill },
    Fault { name: "senders: interleaved, aborted, lost, doubled", times: 10, inject: senders::mixed },
];

/// Worlds at work at the same time: two cores, and much waiting.
const PARALLEL: usize = 3;

struct Flags {
    factor: u32,
    seed: u64,
    names: Vec<String>,
}

fn flags() -> Flags {
    let mut flags = Flags { factor: 1, seed: rand::random(), names: Vec::new() };
    let mut words = std::env::args().skip(1);
    let number = |word: Option<String>| word.and_then(|n| n.parse().ok()).expect("a number behind the flag");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--long" => flags.factor = 10,
            "--times" => flags.factor = number(words.next()) as u32,
            "--seed" => flags.seed = number(words.next()),
            name => flags.names.push(name.to_owned()),
        }
    }
    flags
}

fn main() {
    let Flags { factor, seed, names } = flags();
    println!("faults: seed {seed} (repeat with --seed {seed})");
    let chosen =
        |fault: &&Fault| names.is_empty() || names.iter().any(|name| fault.name.contains(name.as_str()));
    let (queue, next) = mpsc::channel();
    FAULTS.iter().enumerate().filter(|(_, fault)| chosen(fault)).for_each(|job| queue.send(job).unwrap());
    drop(queue);

    let (next, results) = (Mutex::new(next), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let job = next.lock().unwrap().recv();
                    let Ok((place, fault)) = job else { return };
                    let mut random = StdRng::seed_from_u64(seed ^ place as u64);
                    let run = || (fault.inject)(fault.times * factor, &mut random);
                    let report = catch_unwind(AssertUnwindSafe(run));
                    eprintln!("{}: {}", fault.name, if report.is_ok() { "done" } else { "FAILED" });
                    results.lock().unwrap().push((place, report.ok()));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(place, _)| *place);
    std::process::exit(if print(&results) { 0 } else { 1 });
}

/// Prints the table; says whether all is well.
fn print(results: &[(usize, Option<Report>)]) -> bool {
    println!(
        "\n{:<46} {:>6} {:>9} {:>5} {:>8} {:>6} {:>17}",
        "fault", "times", "rows", "lost", "doubled", "wrong", "slowest recovery"
    );
    let (mut injected, mut sums, mut failed) = (0, [0; 3], 0);
    for (place, report) in results {
        let name = FAULTS[*place].name;
        let Some(report) = report else {
            println!("{name:<46} FAILED: see above");
            failed += 1;
            continue;
        };
        let [lost, doubled, wrong] = report.differences;
        let slowest = report.slowest.map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        println!(
            "{name:<46} {:>6} {:>9} {lost:>5} {doubled:>8} {wrong:>6} {slowest:>17}",
            report.times, report.rows
        );
        injected += report.times;
        sums.iter_mut().zip(report.differences).for_each(|(sum, n)| *sum += n);
    }
    let [lost, doubled, wrong] = sums;
    if failed > 0 {
        println!("\n{failed} faults could not be judged");
    }
    println!("\nfaults: {injected} injected, {lost} lost, {doubled} doubled, {wrong} wrong");
    failed == 0 && sums == [0; 3]
}
