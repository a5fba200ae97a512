//! Fuzzing with a time budget: `scripts/fuzz`. Random inputs for the decoder, for pairing and for orders as CSV, each
//! judged by a naive implementation of the same contract.
//!
//!   fuzz [--seconds N | --long] [--seed N] [TARGET...]
//!
//! Each target runs in a process of its own, so that its allocations are counted separately. It prints one
//! line at its end. After a failure it also prints the smallest failing input, as code for a test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fuzzer that cannot go on fails"
)]
#![allow(clippy::print_stdout, reason = "the lines are the answer")]

mod bodies;
mod books;
mod choices;
mod contract;
mod decoder;
mod json;
mod ledger;
mod model;
mod numbers;
mod orders;
mod pairing;
mod target;
mod time;
mod world;

use peak_alloc::PeakAlloc;
use std::process::{Command, exit};
use std::time::Duration;
use target::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const TARGETS: [Target; 3] = [
    Target { name: "decoder", check: decoder::check },
    Target { name: "pairing", check: pairing::check },
    Target { name: "orders", check: orders::check },
];

/// The default: long enough to see that the fuzzers work. CI and long runs ask for more.
const SECONDS: u64 = 5;
const SECONDS_OF_A_LONG_RUN: u64 = 900;

struct Flags {
    seconds: u64,
    seed: u64,
    targets: Vec<&'static Target>,
}

fn flags() -> Result<Flags, String> {
    let mut flags = Flags { seconds: SECONDS, seed: rand::random::<u32>().into(), targets: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|n| n.parse().ok());
            number.ok_or_else(|| format!("`{word}` needs a number behind it"))
        };
        match word.as_str() {
            "--seconds" => flags.seconds = number()?,
            "--long" => flags.seconds = SECONDS_OF_A_LONG_RUN,
            "--seed" => flags.seed = number()?,
            name => {
                let target = TARGETS.iter().find(|target| target.name == name);
                flags.targets.push(target.ok_or_else(|| format!("no such target or flag: `{name}`"))?);
            }
        }
    }
    if flags.targets.is_empty() {
        flags.targets = TARGETS.iter().collect();
    }
    Ok(flags)
}

fn main() {
    let Flags { seconds, seed, targets } = flags().unwrap_or_else(|error| {
        println!("error: {error}");
        exit(2);
    });
    if let [target] = targets[..] {
        exit(if target.run(Duration::from_secs(seconds), seed) { 0 } else { 1 });
    }
    let fuzz = std::env::current_exe().unwrap();
    let start = |target: &Target| {
        let (seconds, seed) = (seconds.to_string(), seed.to_string());
        Command::new(&fuzz).args(["--seconds", &seconds, "--seed", &seed, target.name]).spawn().unwrap()
    };
    let processes: Vec<_> = targets.into_iter().map(|target| (target.name, start(target))).collect();
    let mut failed = false;
    for (name, mut process) in processes {
        let status = process.wait().unwrap();
        failed |= !status.success();
        if status.code().is_none() {
            println!("fuzz {name}: FAILED: ended by {status}, seed {seed}");
        }
    }
    exit(if failed { 1 } else { 0 });
}
