//! A world under load: a producer that sends all the time, recovery times, the judge's verdict.

use crate::slowness::{self, Deadline};
use crate::watch;
use crate::world::{Daemon, PATIENCE, World, repository};
use diesel::prelude::*;
use std::collections::BTreeMap;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Session timeout of the readers, as `World::reader` sets it.
pub const SESSION_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Recovery without a person takes at most this long after an outage or a session timeout.
pub const RECOVERY: Duration = Duration::from_secs(5);
/// A killed reader is noticed after the session timeout. Its successor then has the time of a recovery.
pub const FAILOVER: Duration = SESSION_TIMEOUT.saturating_add(RECOVERY);

/// What one fault did.
#[derive(Default)]
pub struct Report {
    pub times: u32,
    pub rows: u64,
    /// Rows (and batches, messages, positions) lost, doubled, wrong.
    pub differences: [u64; 3],
    pub slowest: Option<Duration>,
    /// Batches that were committed and that the fault made Postgres forget. They had to be read again.
    pub taken_back: i64,
    /// Batches that the readers' counters have beyond the tables. Postgres may have forgotten as many.
    pub overcounted: i64,
    /// What else was measured.
    pub note: Option<String>,
}

impl Report {
    /// Adds two reports.
    pub fn and(mut self, other: Report) -> Self {
        self.times += other.times;
        self.rows += other.rows;
        self.differences.iter_mut().zip(other.differences).for_each(|(sum, n)| *sum += n);
        self.slowest = self.slowest.max(other.slowest);
        self.taken_back += other.taken_back;
        self.overcounted += other.overcounted;
        self.note = self.note.or(other.note);
        self
    }
}

/// A world with a producer at work.
pub struct Load {
    pub world: World,
    pub producer: Option<Daemon>,
    pub slowest: Option<Duration>,
}

impl Load {
    /// Starts a producer that sends about fifty batches of 100 customers per second until it is stopped.
    pub fn start(world: World) -> Self {
        Self::start_with(world, &["--interval", "15ms", "--customers", "100"])
    }

    /// Starts a producer with these flags.
    pub fn start_with(world: World, flags: &[&str]) -> Self {
        let producer = world.producer(flags);
        producer.wait_until_it_says("sent ");
        Self { producer: Some(producer), ..Self::none(world) }
    }

    /// Starts no producer.
    pub fn none(world: World) -> Self {
        Self { world, producer: None, slowest: None }
    }

    pub fn stored(&self) -> Option<i64> {
        self.world.number("SELECT count(*) FROM batches")
    }

    /// The outage is over: waits for the next batch of every partition, and checks that they come in time.
    pub fn recovers_within(&mut self, limit: Duration) {
        let took = self.waits_for(self.world.partitions);
        self.recovered(took, limit);
    }

    /// Waits for the next batch of each of the first partitions.
    pub fn waits_for(&self, partitions: i32) -> Duration {
        let (begun, deadline) = (Instant::now(), Deadline::of(PATIENCE));
        let before = self.stored_by_partition();
        loop {
            let now = self.stored_by_partition();
            let grew = |p: &i32| now.get(p).unwrap_or(&0) > before.get(p).unwrap_or(&0);
            if (0..partitions).all(|p| grew(&p)) {
                return begun.elapsed();
            }
            assert!(!deadline.is_over(), "{}: stored {before:?}, now {now:?}", self.world.name);
            sleep(Duration::from_millis(10));
        }
    }

    /// How many batches of each partition are stored.
    fn stored_by_partition(&self) -> BTreeMap<i32, i64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Integer)]
            partition: i32,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            n: i64,
        }
        let query = diesel::sql_query("SELECT partition, count(*) AS n FROM batches GROUP BY partition");
        // There is nothing before the reader has created the tables.
        let rows: Vec<Row> = query.load(&mut self.world.connect()).unwrap_or_default();
        rows.into_iter().map(|row| (row.partition, row.n)).collect()
    }

    /// Notes a recovery that has just ended, and checks that it was in time.
    pub fn recovered(&mut self, took: Duration, limit: Duration) {
        self.recovered_and_says_so(took, limit, watch::TOLD);
    }

    /// The same, where the reader may need the time `told` to say so.
    pub fn recovered_and_says_so(&mut self, took: Duration, limit: Duration, told: Duration) {
        self.slowest = self.slowest.max(Some(took));
        slowness::in_time(&format!("{}: recovery", self.world.name), took, limit);
        watch::recovered(&self.world, told);
    }

    /// Waits until batches are stored, without counting that as a recovery.
    pub fn runs(&self) {
        let mut before = None;
        crate::world::wait_for("the next batch", || {
            let now = self.stored();
            before = before.or(now);
            (now > before).then_some(())
        });
    }

    /// Stops the producer, lets a reader catch up, and runs the judge.
    pub fn finish(self, times: u32) -> Report {
        self.finish_with(times, &["--progress", "--expect-dead", "0"])
    }

    pub fn finish_with(mut self, times: u32, flags: &[&str]) -> Report {
        self.judged(times, flags)
    }

    /// The same, for a world that is used again afterwards.
    pub fn judged(&mut self, times: u32, flags: &[&str]) -> Report {
        if let Some(mut producer) = self.producer.take() {
            producer.stop();
        }
        self.world.catch_up(&["--pairing-timeout", "2s"]);
        let (rows, differences) = judge(&self.world, flags);
        let mut report = Report { times, rows, differences, slowest: self.slowest, ..Report::default() };
        watch::judge(&self.world, &mut report);
        report
    }
}

/// Lets the judge recompute everything from the topics and compare. Returns the rows verified, and the
/// differences.
pub fn judge(world: &World, flags: &[&str]) -> (u64, [u64; 3]) {
    let output = Command::new(repository().join("target/python/bin/python"))
        .arg(repository().join("tests/python/verify.py"))
        .args(["--bootstrap-servers", &world.kafka, "--database-url", &world.database_url])
        .args(["--group-id", &world.name, "--count", "--timeout", "600", "--topics"])
        .args(&world.topics)
        .args(flags)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let rows = number_before(&said, " rows, ")
        .unwrap_or_else(|| panic!("{}: the judge gave no verdict: {said}", world.name));
    // Rows by EXCEPT ALL; then what else differs.
    let counted = [" rows lost", " doubled", " wrong\n"].map(|words| number_before(&said, words));
    let mut differences = counted.map(|n| n.unwrap_or_else(|| panic!("the judge did not count: {said}")));
    for line in said.lines().filter(|line| line.starts_with("wrong: ")) {
        let kind = if line.contains("not in") {
            0
        } else if line.contains(" times in") {
            1
        } else {
            2
        };
        differences[kind] += 1;
        eprintln!("{}: {line}", world.name);
    }
    if !output.status.success() && differences == [0; 3] {
        differences[2] = 1;
        eprintln!("{}: {said}", world.name);
    }
    (rows, differences)
}

/// The number that stands before the first of these words.
fn number_before(said: &str, words: &str) -> Option<u64> {
    said.split(words).next().filter(|head| head.len() < said.len())?.rsplit(' ').next()?.parse().ok()
}
