//! The soak: hours of usual work in short. Memory, descriptors, threads and processor time stay as they are.

use crate::load::{Load, RECOVERY, Report};
use crate::process::{Sample, mebibytes, range};
use crate::resources::samples;
use crate::world::{Daemon, World, wait_for};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use rand::rngs::StdRng;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Customers per batch: so many that the producer's transactions do not limit the rate.
const CUSTOMERS: u64 = 20_000;
/// What is stored is taken away so often, in seconds: half an hour of it would fill the disk.
const TAKEN_EVERY: u64 = 10;

/// So many seconds at half the rate that this machine can do with producer, Kafka and Postgres on it.
pub fn soak(seconds: u32, _: &mut StdRng) -> Report {
    let mut load = Load::none(World::new("soak", 3));
    let mut reader = load.world.reader(&[]);
    let customers = CUSTOMERS.to_string();
    let (greatest, first) = greatest_rate(&load, &reader, &customers);
    let (per_batch, more) = time_per_batch(&load.world, &customers);
    // A batch is sent, then the producer pauses.
    let pause = Duration::from_secs_f64(CUSTOMERS as f64 / (greatest / 2.0)).saturating_sub(per_batch);
    let interval = format!("{}us", pause.as_micros().max(1));
    let mut producer = load.world.producer(&["--interval", &interval, "--customers", &customers]);

    let (begun, before) = (Instant::now(), load.stored().unwrap());
    let (mut taken, mut seen) = (Taken::default(), Vec::new());
    while seen.len() < seconds as usize {
        seen.extend(samples(&reader, TAKEN_EVERY));
        taken.take(&load.world);
    }
    let stored = taken.keys.len() as i64 + load.stored().unwrap() - before;
    let rate = CUSTOMERS as f64 * stored as f64 / begun.elapsed().as_secs_f64();
    producer.stop();

    let sent = first + more + producer.said().matches(" sent ").count() as i64;
    let left = sent - taken.keys.len() as i64;
    let lag = Instant::now();
    wait_for("the last batch of the soak", || (load.stored() >= Some(left)).then_some(()));
    load.recovered(lag.elapsed(), RECOVERY);
    reader.stop();
    taken.take(&load.world);
    assert!(rate > 0.35 * greatest, "{rate} rows/s is too little of {greatest}");
    let share = 100.0 * rate / greatest;
    let note = format!("{rate:.0} rows/s, {share:.0} % of the most that was reached; {}", steadiness(&seen));
    let missing = (sent - taken.keys.len() as i64).unsigned_abs();
    let refused = load.world.number("SELECT count(*) FROM dead_letters").unwrap().unsigned_abs();
    let differences = [missing, taken.doubled, taken.wrong + refused];
    Report { times: 1, rows: taken.rows, differences, slowest: load.slowest, note: Some(note) }
}

/// What was stored, counted (it is too much to recompute), and taken out of the tables while the reader works.
#[derive(Default)]
struct Taken {
    keys: HashSet<String>,
    rows: u64,
    /// Batches whose key was there before.
    doubled: u64,
    /// Batches that have not every row once.
    wrong: u64,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    batch_key: Option<String>,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    rows: i64,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    whole: bool,
}

/// A batch has rows 0 to customers - 1 if their number, sum and sum of squares say so.
const COUNT: &str = "WITH s AS (SELECT batch_id, count(*) AS n, sum(row_no) AS sum,
                                      sum(row_no::bigint * row_no) AS squares FROM segments GROUP BY batch_id)
    SELECT batch_key, coalesce(n, 0) AS rows,
           (n, sum, squares) IS NOT DISTINCT FROM (customers::bigint, customers::bigint * (customers - 1) / 2,
               customers::numeric * (customers - 1) * (2 * customers - 1) / 6) AS whole
    FROM s FULL JOIN batches ON id = batch_id";

impl Taken {
    fn take(&mut self, world: &World) {
        let taken = world.connect().transaction(|connection| {
            connection.batch_execute("LOCK TABLE segments, batches IN ACCESS EXCLUSIVE MODE")?;
            let counted: Vec<Counted> = diesel::sql_query(COUNT).load(connection)?;
            connection.batch_execute("TRUNCATE segments, batches")?;
            Ok::<_, diesel::result::Error>(counted)
        });
        for Counted { batch_key, rows, whole } in taken.unwrap() {
            self.rows += rows.unsigned_abs();
            self.wrong += u64::from(!whole);
            // Rows without a batch have no key.
            self.doubled += u64::from(batch_key.is_some_and(|key| !self.keys.insert(key)));
        }
    }
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

/// How long the producer takes for a batch that it sends alone; and so many of them were sent.
fn time_per_batch(world: &World, customers: &str) -> (Duration, i64) {
    let mut producer = world.producer(&["--interval", "1ms", "--customers", customers, "--batches", "100"]);
    producer.succeeds();
    let said = producer.said();
    let times =
        said.lines().filter_map(|line| line.split_once(" ms=")?.1.split(' ').next()?.parse::<u64>().ok());
    (Duration::from_millis(times.sum::<u64>()) / 100, 100)
}

/// Checks that memory, descriptors and threads stay as they are, and says so. The first fifth is warming up.
fn steadiness(samples: &[Sample]) -> String {
    let steady = &samples[samples.len() / 5..];
    let (early, late) = steady.split_at(steady.len() / 2);
    let median = |samples: &[Sample]| {
        let mut rss: Vec<u64> = samples.iter().map(|sample| sample.rss).collect();
        rss.sort_unstable();
        mebibytes(rss[rss.len() / 2])
    };
    let (before, after) = (median(early), median(late));
    let slope = (after - before) / (late.len() as f64 / 60.0);
    let descriptors = range(steady.iter().map(|sample| sample.descriptors));
    let threads = range(steady.iter().map(|sample| sample.threads));
    let (_, cpu) = (samples[0].cpu, samples[samples.len() - 1].cpu - samples[0].cpu);
    let said = format!(
        "memory {before:.1} MiB, then {after:.1} MiB ({slope:+.2} MiB/min); descriptors {}..{}, threads {}..{}; {:.0} % of a core",
        descriptors.0,
        descriptors.1,
        threads.0,
        threads.1,
        100.0 * cpu.as_secs_f64() / samples.len() as f64
    );
    assert!(after <= 1.05 * before + 1.0, "memory grows: {said}");
    assert!(
        descriptors.1 - descriptors.0 <= 2 && threads.1 - threads.0 <= 2,
        "something is left behind: {said}"
    );
    said
}
