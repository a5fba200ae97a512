//! The soaks: hours of usual work, compressed. Memory, descriptors, threads and processor time must not grow, and with
//! `--retain` neither the disk.
//!
//! Rates are printed, not judged, because they depend on the machine (scripts/bench measures them). If the
//! machine gets busier after the greatest rate was measured, the reader falls behind. Then the backlog is
//! allowed more time and memory.

use crate::load::{Load, RECOVERY, Report};
use crate::process::{Sample, mebibytes, range};
use crate::slowness;
use crate::world::{Daemon, PATIENCE, World, wait_for};
use diesel::connection::SimpleConnection;
use rand::rngs::StdRng;
use std::thread;
use std::time::{Duration, Instant};

/// Customers per batch: enough that the producer's transactions do not limit the rate.
const CUSTOMERS: u64 = 20_000;
/// How often the stored rows are removed: half an hour of them would fill the disk.
const TAKEN_EVERY: Duration = Duration::from_secs(10);
/// MiB by which the reader's memory may grow, besides a twentieth: for a reader that keeps up, and for one
/// with a backlog (`--buffer-bytes`, and room for the batches under way).
const NOISE: f64 = 1.0;
const BACKLOG: f64 = 256.0 + 64.0;

/// How long the reader of the second soak keeps rows, in windows of 5 s, and by how much the disk in use may grow: a
/// window more or less, segments of the write-ahead log, and what VACUUM has not come to yet.
const RETAINED: [&str; 4] = ["--segments-window", "5s", "--retain", "10s"];
const DISK_NOISE: f64 = 0.35;
/// How long a window may last at most: it begins a moment after its time, and a drop may wait for autovacuum meanwhile.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);

/// Runs for `seconds` at half the greatest rate of this machine, which also runs the producer, Kafka and
/// Postgres. The test counts the rows and takes them away.
pub fn soak(seconds: u32, _: &mut StdRng) -> Report {
    run(seconds, &RETAINED[..2])
}

/// The same with a reader that takes the rows away itself.
pub fn soak_retaining(seconds: u32, _: &mut StdRng) -> Report {
    run(seconds, &RETAINED)
}

fn run(seconds: u32, flags: &[&str]) -> Report {
    let retains = flags.contains(&"--retain");
    let mut load = Load::none(World::new("soak", 3));
    let mut reader = load.world.reader(flags);
    let customers = CUSTOMERS.to_string();
    let (greatest, first) = greatest_rate(&load, &reader, &customers);
    let (per_batch, more) = time_per_batch(&load.world, &customers);
    // A batch is sent, then the producer pauses.
    let pause = Duration::from_secs_f64(CUSTOMERS as f64 / (greatest / 2.0)).saturating_sub(per_batch);
    let interval = format!("{}us", pause.as_micros().max(1));
    let mut producer = load.world.producer(&["--interval", &interval, "--customers", &customers]);
    let begun = (Instant::now(), load.stored().unwrap());
    load.world.connect().batch_execute(COUNTED).unwrap();
    let mut disk = Vec::new();
    let seen = thread::scope(|scope| {
        let sampling = scope.spawn(|| Sample::every_second(&reader, u64::from(seconds)));
        while !sampling.is_finished() {
            if retains {
                thread::sleep(Duration::from_secs(1));
                disk.push([DATABASE, WAL].map(|bytes| load.world.number(bytes).unwrap()));
            } else {
                thread::sleep(TAKEN_EVERY);
                take_away_windows(&load.world);
            }
        }
        sampling.join().unwrap()
    });
    let rate = CUSTOMERS as f64 * (load.stored().unwrap() - begun.1) as f64 / begun.0.elapsed().as_secs_f64();
    producer.stop();
    let sent = first + more + producer.said().matches(" sent ").count() as i64;
    let lag = Instant::now();
    wait_for("the last batch of the soak", || (load.stored() >= Some(sent)).then_some(()));
    let lag = lag.elapsed();
    let is_busy = slowness::since(begun.0) > 1.0;
    load.recovered(lag, if is_busy { PATIENCE } else { RECOVERY });
    reader.stop();
    let mut note = format!(
        "{rate:.0} rows/s, {:.0} % of the most that was reached; the last batch after {:.1} s; {}",
        100.0 * rate / greatest,
        lag.as_secs_f64(),
        steadiness(&seen, if is_busy { BACKLOG } else { NOISE })
    );
    if retains {
        note += &flatness(&disk);
        note += &windows(&load.world, &reader.said());
    }
    load.world.connect().batch_execute(&count("segments")).unwrap();
    let (rows, differences) = complete(&load.world, sent);
    Report { times: 1, rows, differences, slowest: load.slowest, note: Some(note), ..Report::default() }
}

/// Rows per second while the producer sends as fast as it can, and the batches that it sent.
fn greatest_rate(load: &Load, reader: &Daemon, customers: &str) -> (f64, i64) {
    const BATCHES: i64 = 250;
    reader.wait_until_it_says("took partition");
    let batches = BATCHES.to_string();
    let flags = ["--interval", "0", "--customers", customers, "--batches", &batches];
    let mut producer = load.world.producer(&flags);
    load.runs();
    let (begun, before) = (Instant::now(), load.stored().unwrap());
    producer.succeeds();
    wait_for("the backlog to be stored", || (load.stored() >= Some(BATCHES)).then_some(()));
    ((BATCHES - before) as f64 * CUSTOMERS as f64 / begun.elapsed().as_secs_f64(), BATCHES)
}

/// How long the producer takes for a batch that it sends alone, and how many it sent.
fn time_per_batch(world: &World, customers: &str) -> (Duration, i64) {
    let mut producer = world.producer(&["--interval", "1ms", "--customers", customers, "--batches", "100"]);
    producer.succeeds();
    let said = producer.said();
    let times =
        said.lines().filter_map(|line| line.split_once(" ms=")?.1.split(' ').next()?.parse::<u64>().ok());
    (Duration::from_millis(times.sum::<u64>()) / 100, 100)
}

/// Checks that memory (but for `room` MiB), descriptors and threads do not grow, and describes them. The
/// first fifth is warming up.
fn steadiness(samples: &[Sample], room: f64) -> String {
    let steady = &samples[samples.len() / 5..];
    let (early, late) = steady.split_at(steady.len() / 2);
    let median = |samples: &[Sample], of: fn(&Sample) -> u64| {
        let mut sorted: Vec<u64> = samples.iter().map(of).collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    let [before, after] = [early, late].map(|samples| mebibytes(median(samples, |sample| sample.rss)));
    // They come and go: connections of probes, threads that ask.
    let grows = |of: fn(&Sample) -> u64| median(late, of) > median(early, of) + 2;
    let slope = (after - before) / (late.len() as f64 / 60.0);
    let descriptors = range(steady.iter().map(|sample| sample.descriptors));
    let threads = range(steady.iter().map(|sample| sample.threads));
    let cpu = samples[samples.len() - 1].cpu - samples[0].cpu;
    let said = format!(
        "memory {before:.1} MiB, then {after:.1} MiB ({slope:+.2} MiB/min); descriptors {}..{}, threads {}..{}; {:.0} % of a core",
        descriptors.0,
        descriptors.1,
        threads.0,
        threads.1,
        100.0 * cpu.as_secs_f64() / samples.len() as f64
    );
    assert!(after <= 1.05 * before + room, "memory grows: {said}");
    assert!(
        !grows(|sample| sample.descriptors) && !grows(|sample| sample.threads),
        "something leaks: {said}"
    );
    said
}

/// Bytes of the database and of the write-ahead log.
const DATABASE: &str = "SELECT pg_database_size(current_database())";
const WAL: &str = "SELECT sum(size) FROM pg_ls_waldir()";

/// Checks that the disk in use does not grow, and describes it. The first third is warming up: the write-ahead log grows
/// to its usual size.
fn flatness(disk: &[[i64; 2]]) -> String {
    let steady = &disk[disk.len() / 3..];
    let (early, late) = steady.split_at(steady.len() / 2);
    let greatest = |part: &[[i64; 2]], of: fn(&[i64; 2]) -> i64| {
        part.iter().map(of).max().unwrap_or_default() as f64 / 1e6
    };
    let mut said = String::new();
    for (name, of) in
        [("database", (|[database, _]| *database) as fn(&[i64; 2]) -> i64), ("WAL", |[_, wal]| *wal)]
    {
        said += &format!("; {name} at most {:.0} MB, then {:.0} MB", greatest(early, of), greatest(late, of));
    }
    let [early, late] = [early, late].map(|part| greatest(part, |[database, wal]| database + wal));
    assert!(late <= early * (1.0 + DISK_NOISE), "the disk in use grows{said}");
    said
}

/// Checks that windows begin in time, and describes what became of them.
fn windows(world: &World, said: &str) -> String {
    let longest = "SELECT max(ms) FROM (
        SELECT extract(epoch FROM max(stored_at) - min(stored_at)) * 1000 AS ms FROM batches GROUP BY id / 10000000000) w";
    let longest = Duration::from_millis(world.number(longest).unwrap().unsigned_abs());
    slowness::in_time("a window", longest, LONGEST_WINDOW);
    let (mut deleted, mut dropped) = (0, 0);
    for line in said.lines().filter(|line| line.contains(" expired batches=")) {
        let value = |name: &str| line.split_once(name).and_then(|(_, rest)| rest.split(' ').next()).unwrap();
        deleted += value("rows_deleted=").parse::<u64>().unwrap();
        dropped += value("windows_dropped=").split(',').filter(|window| *window != "\"\"").count();
    }
    format!(
        "; {} windows begun, {dropped} dropped, the longest of {:.1} s; {deleted} rows deleted one by one",
        said.matches("began a window").count(),
        longest.as_secs_f64(),
    )
}

/// What a batch had when its rows were removed: how many rows, the sum of their numbers, and the sum of the
/// squares. If a batch's rows are removed twice, the soak fails.
const COUNTED: &str =
    "CREATE TABLE counted (batch_id bigint PRIMARY KEY, rows bigint, sum numeric, squares numeric)";

/// Counts the rows of a table.
fn count(table: &str) -> String {
    format!(
        "INSERT INTO counted SELECT batch_id, count(*), sum(row_no), sum(row_no::bigint * row_no)
         FROM {table} GROUP BY batch_id"
    )
}

/// Counts the rows of the windows that get no more ids, and drops these. It waits for no lock: what a commit still
/// uses is left for the next time.
fn take_away_windows(world: &World) {
    let past = "SELECT window_no - 2 FROM segments_day";
    let Some(last) = world.number(past) else { return };
    let mut connection = world.connect();
    for window in 0..=last {
        let table = format!("segments_{window}");
        // It fails, and changes nothing, if the window is in use or gone.
        let _ = connection.batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '200ms'; LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE;
             {}; DROP TABLE {table}; COMMIT",
            count(&table)
        ));
        let _ = connection.batch_execute("ROLLBACK");
    }
}

/// There are millions of rows, so they are counted, not recomputed. Every batch that was sent is there once,
/// with all its rows (0 to customers - 1, as far as their number, sum and sum of squares show) or, if it is expired, none.
fn complete(world: &World, sent: i64) -> (u64, [u64; 3]) {
    let number = |query: &str| world.number(query).unwrap();
    let rows = number("SELECT sum(rows) FROM counted");
    let missing = sent - number("SELECT count(DISTINCT batch_key) FROM batches");
    let doubled = number("SELECT count(*) - count(DISTINCT batch_key) FROM batches");
    let wrong = number(
        "SELECT count(*) FROM counted FULL JOIN batches ON id = batch_id
         WHERE CASE WHEN expired_at IS NULL
             THEN (rows, sum, squares) IS DISTINCT FROM (customers::bigint, customers::numeric * (customers - 1) / 2,
                 customers::numeric * (customers - 1) * (2 * customers - 1) / 6)
             ELSE rows IS NOT NULL END",
    );
    let differences = [missing, doubled, wrong + number("SELECT count(*) FROM dead_letters")];
    (rows as u64, differences.map(|n| n.unsigned_abs()))
}
