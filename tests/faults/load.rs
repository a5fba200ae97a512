//! A world under load: a producer that sends all the time, recovery times, the judge's verdict.

use crate::world::{Daemon, PATIENCE, World, repository};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Session timeout of the readers, as `World::reader` sets it.
pub const SESSION_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Recovery without a person: within this, after an outage's end or a session timeout.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// What one fault did.
pub struct Report {
    pub times: u32,
    pub rows: u64,
    /// Rows or messages lost, doubled, wrong.
    pub differences: [u32; 3],
    pub slowest: Option<Duration>,
}

/// A world with a producer at work.
pub struct Load {
    pub world: World,
    producer: Option<Daemon>,
    slowest: Option<Duration>,
}

impl Load {
    /// So many batches of 100 customers per second, for as long as it takes.
    pub fn start(world: World) -> Self {
        let producer = world.producer(&["--interval", "15ms", "--customers", "100"]);
        producer.wait_until_it_says("sent ");
        Self { world, producer: Some(producer), slowest: None }
    }

    /// Without a producer of ours.
    pub fn none(world: World) -> Self {
        Self { world, producer: None, slowest: None }
    }

    pub fn stored(&self) -> Option<i64> {
        self.world.number("SELECT count(*) FROM batches")
    }

    /// The outage is over: waits for the next batch to be stored, and checks that it comes in time.
    pub fn recovers_within(&mut self, limit: Duration) {
        let begun = Instant::now();
        let mut before = None;
        let took = loop {
            let now = self.stored();
            before = before.or(now);
            if now > before {
                break begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "no batch was stored any more");
            sleep(Duration::from_millis(10));
        };
        self.slowest = self.slowest.max(Some(took));
        assert!(took < limit, "recovery took {took:?}, more than {limit:?}");
    }

    /// Stops the producer, lets a reader catch up, and asks the judge.
    pub fn finish(self, times: u32) -> Report {
        self.finish_with(times, &["--progress", "--expect-dead", "0"])
    }

    pub fn finish_with(mut self, times: u32, flags: &[&str]) -> Report {
        if let Some(mut producer) = self.producer.take() {
            producer.stop();
        }
        self.world.catch_up(&["--pairing-timeout", "2s"]);
        let (rows, differences) = judge(&self.world, flags);
        Report { times, rows, differences, slowest: self.slowest }
    }
}

/// Rows verified, and the differences: lost, doubled, wrong.
fn judge(world: &World, flags: &[&str]) -> (u64, [u32; 3]) {
    let output = Command::new(repository().join("target/python/bin/python"))
        .arg(repository().join("tests/python/verify.py"))
        .args(["--bootstrap-servers", &world.kafka, "--database-url", &world.database_url])
        .args(["--group-id", &world.name, "--topics"])
        .args(&world.topics)
        .args(flags)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let rows =
        said.split(" rows,").next().and_then(|head| head.rsplit(' ').next()).and_then(|n| n.parse().ok());
    let rows = rows.unwrap_or_else(|| panic!("the judge gave no verdict: {said}"));
    let mut differences = [0; 3];
    for line in said.lines().filter(|line| line.starts_with("wrong: ")) {
        let kind = if line.contains("not in") {
            0
        } else if line.contains("no such") || line.contains("of no expected") || line.contains("twice") {
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
