//! Faults of readers.

use crate::load::{FAILOVER, Load, Report, SESSION_TIMEOUT};
use crate::slowness;
use crate::world::{Daemon, World};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn pause(random: &mut StdRng, millis: u64) {
    sleep(Duration::from_millis(random.random_range(0..millis)));
}

pub fn kill(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("kill", 3));
    for _ in 0..times {
        let mut reader = load.world.reader(&[]);
        // It dies at work, or while it is still taking partitions.
        if random.random() {
            load.recovers_within(FAILOVER);
        } else {
            reader.wait_until_it_says("took partition");
        }
        pause(random, 600);
        reader.kill_9();
    }
    let mut last = load.world.reader(&[]);
    load.recovers_within(FAILOVER);
    last.stop();
    load.finish(times)
}

pub fn die_at(step: &str, times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new(step, 2));
    for _ in 0..times {
        let point = format!("{step}:{}:abort", random.random_range(1..15));
        let mut dying = load.world.reader_with_failpoint(&point, &[]);
        assert_eq!(dying.exit_code(), None, "it died at {step}; it said:\n{}", dying.said());
        let mut next = load.world.reader(&[]);
        load.recovers_within(FAILOVER);
        next.kill_9();
    }
    load.finish(times)
}

pub fn freeze(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("freeze", 2));
    for _ in 0..times {
        let mut frozen = load.world.reader(&[]);
        frozen.wait_until_it_says("committed");
        pause(random, 300);
        frozen.signal("STOP");
        let mut heir = load.world.reader(&[]);
        load.recovers_within(FAILOVER);
        heir.wait_until_it_says("took partition");
        frozen.signal("CONT");
        pause(random, 1_000);
        frozen.stop();
        heir.stop();
    }
    load.finish(times)
}

/// Frozen between its change of `progress` and COMMIT: it holds a lock on the row that its heir needs. Or
/// frozen in mid COPY: it holds no lock that the heir needs.
pub fn freeze_in_transaction(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("freeze_tx", 1));
    for _ in 0..times {
        let step = ["before_commit", "mid_copy"][random.random_range(0..2)];
        let point = format!("{step}:{}:stop", random.random_range(2..10));
        let mut frozen = load.world.reader_with_failpoint(&point, &[]);
        frozen.wait_until_it_says("took partition");
        let mut heir = load.world.reader(&[]);
        heir.wait_until_it_says("took partition");
        // Postgres ends the transaction of the frozen one after 5 s.
        load.recovers_within(FAILOVER + Duration::from_secs(5));
        frozen.signal("CONT");
        pause(random, 1_000);
        frozen.stop();
        heir.stop();
    }
    load.finish(times)
}

pub fn churn(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("churn", 3));
    let mut readers: Vec<Daemon> = vec![load.world.reader(&[])];
    for _ in 0..times {
        while readers.len() < random.random_range(2..4) {
            readers.push(load.world.reader(&[]));
        }
        pause(random, 2_500);
        let mut gone = readers.swap_remove(random.random_range(0..readers.len()));
        match random.random_range(0..3) {
            0 => {
                gone.kill_9();
            }
            1 => {
                gone.stop();
            }
            _ => {
                gone.signal("STOP");
                sleep(SESSION_TIMEOUT * 2);
                gone.signal("CONT");
                pause(random, 500);
                gone.stop();
            }
        }
        load.recovers_within(FAILOVER);
    }
    for reader in &mut readers {
        reader.stop();
    }
    load.finish(times)
}

/// There is a backlog at its start, and commits have few batches, so the signal comes near its first commit,
/// or between two.
pub fn terminate(times: u32, random: &mut StdRng) -> Report {
    const BATCHES: u32 = 20;
    let load = Load::none(World::new("terminate", 3));
    let (mut slowest, mut left, mut done, begun) = (Duration::ZERO, 0, 0, Instant::now());
    for round in 1..=times {
        load.world.produce(&["--batches", &BATCHES.to_string(), "--customers", "2000", "--interval", "0"]);
        let before = load.stored().unwrap_or(0);
        let mut reader = load.world.reader(&["--buffer-bytes", "300KiB"]);
        if random.random() {
            reader.wait_until_it_says("took partition");
            pause(random, 30);
        } else {
            reader.wait_until_it_says("committed");
        }
        slowest = slowest.max(reader.stop());
        let stored = load.stored().unwrap_or(0);
        left += u32::from(stored < i64::from(BATCHES * round));
        done += u32::from(stored > before);
    }
    let seconds = slowest.as_secs_f64();
    let note =
        format!("{left} left work undone, {done} had stored some; the slowest took {seconds:.1} s to end");
    // How often the signal hits the intended moment also depends on the machine.
    let met = 5 * left >= 4 * times && 5 * done >= times;
    let met_sometimes = slowness::since(begun) > 1.0 && left > 0 && done > 0;
    assert!(met || met_sometimes, "of {times}: {note}");
    Report { note: Some(note), ..load.finish(times) }
}

/// Without a fault, the judge finds nothing.
pub fn sound(times: u32, _: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("sound", 3));
    let mut reader = load.world.reader(&[]);
    load.recovers_within(FAILOVER);
    reader.stop();
    load.finish(times)
}
