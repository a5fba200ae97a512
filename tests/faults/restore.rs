//! The database is restored from a dump while a reader is connected: while batches come, without batches, and
//! twice in a row.

use crate::load::{Load, RECOVERY, Report};
use crate::slowness::Deadline;
use crate::world::{World, wait_for};
use rand::rngs::StdRng;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long it may take from the end of a restore to the next batch of every partition, while batches come.
const HEALED: Duration = Duration::from_secs(15);
/// Without traffic, only the comparison that runs every 10 s shows the restore. Then a new session reads
/// again what is gone.
const HEALED_WITHOUT_TRAFFIC: Duration = Duration::from_secs(10).saturating_add(HEALED);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    /// Nothing is sent, so the reader has nothing to commit.
    None,
    /// Five batches are sent afterwards.
    Afterwards,
    /// Batches come all the time.
    Always,
}

const KINDS: [(Traffic, u32); 6] = [
    (Traffic::Afterwards, 1),
    (Traffic::None, 1),
    (Traffic::Always, 1),
    (Traffic::Afterwards, 2),
    (Traffic::None, 2),
    (Traffic::Always, 2),
];

/// Each kind in turn.
pub fn under_a_live_reader(times: u32, _: &mut StdRng) -> Report {
    let of_kind = |kind: u32| times / 6 + u32::from(times % 6 > kind);
    let kinds = KINDS.iter().zip(0..).filter(|&(_, kind)| of_kind(kind) > 0);
    kinds.fold(Report::default(), |report, (&(traffic, restores), kind)| {
        report.and(world_of(traffic, restores, of_kind(kind)))
    })
}

fn world_of(traffic: Traffic, restores: u32, times: u32) -> Report {
    let world = World::new("restored", 2);
    let mut load = if traffic == Traffic::Always { Load::start(world) } else { Load::none(world) };
    let mut reader = load.world.reader(&[]);
    let directory = tempfile::tempdir().unwrap();
    let (mut sent, mut taken_back) = (0, 0);
    for _ in 0..times {
        more(&load, traffic, 20, &mut sent);
        let dump = directory.path().join("dump");
        self::dump(&load.world.database_url, &dump);
        let kept = load.stored().unwrap();
        more(&load, traffic, 20, &mut sent);
        for _ in 0..restores {
            taken_back += load.stored().unwrap() - kept;
            restore(&load.world.database_url, &dump);
            heals(&mut load, traffic, &mut sent);
        }
    }
    let is_well = reader.is_running();
    assert!(is_well, "the reader ended; it said:\n{}", reader.said());
    reader.stop();
    Report { taken_back, ..load.finish(times) }
}

/// Waits until `count` more batches are stored, and sends them if nobody else does.
fn more(load: &Load, traffic: Traffic, count: i64, sent: &mut i64) {
    let wanted = if traffic == Traffic::Always {
        load.stored().unwrap_or(0) + count
    } else {
        load.world.produce(&["--batches", &count.to_string(), "--customers", "100", "--interval", "0"]);
        *sent += count;
        *sent
    };
    wait_for("batches before a restore", || (load.stored() >= Some(wanted)).then_some(()));
}

/// What was restored is stored once more, in time.
fn heals(load: &mut Load, traffic: Traffic, sent: &mut i64) {
    if traffic == Traffic::Always {
        return load.recovers_within(HEALED);
    }
    let mut limit = HEALED_WITHOUT_TRAFFIC;
    if traffic == Traffic::Afterwards {
        load.world.produce(&["--batches", "5", "--customers", "100", "--interval", "0"]);
        *sent += 5;
        limit = HEALED + RECOVERY;
    }
    let (begun, deadline) = (Instant::now(), Deadline::of(limit));
    while load.stored() != Some(*sent) {
        let stored = load.stored();
        assert!(!deadline.is_over(), "{}: {stored:?} of {sent} batches are there", load.world.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    load.recovered(begun.elapsed(), limit);
}

pub fn dump(url: &str, dump: &Path) {
    run("pg_dump", &["-Fc", "-f", dump.to_str().unwrap(), url]);
}

/// Restores as a person would who brings a table back: it drops what is there, object by object, without a
/// transaction.
pub fn restore(url: &str, dump: &Path) {
    run("pg_restore", &["--clean", "--if-exists", "-d", url, dump.to_str().unwrap()]);
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
