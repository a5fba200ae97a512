//! Faults of one broker of three.
//!
//! The brokers fence a silent broker after `broker.session.timeout.ms` (Kafka's own 9 s here). Until then
//! nobody can commit to the partitions that it leads. So a recovery is measured from the fencing, which the
//! brokers log.

use crate::load::{Load, Report};
use crate::watch::TOLD;
use crate::world::{Daemon, Server, World, wait_for};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The reader's own defaults: `World::reader` sets shorter ones.
const READER: [&str; 4] =
    ["--kafka-property", "session.timeout.ms=16000", "--kafka-property", "heartbeat.interval.ms=1000"];
/// Readers and producers commit again within this time after the fencing.
const AFTER_FENCING: Duration = Duration::from_secs(4);
/// A broker that hangs delays the markers of a transaction, and with them the producer's next transaction,
/// until the other brokers give up their request to it (`request.timeout.ms` of the brokers, 30 s; it took up
/// to 36).
const MARKERS: Duration = Duration::from_secs(36);
/// If the group's coordinator hung, too, its members notice after their session timeout, and join again.
const SESSION_TIMEOUT: Duration = Duration::from_secs(16);
/// A question to the broker that hangs is given up after 5 s. Until then, the reader says that it waits for the answer.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// A broker that is stopped first hands over its partitions.
const AFTER_STOP: Duration = Duration::from_secs(5);

struct Cluster {
    brokers: [Server; 3],
    load: Load,
    reader: Daemon,
}

impl Cluster {
    fn start() -> Self {
        let brokers = Server::three_kafkas();
        let addresses = brokers.each_ref().map(|broker| broker.address.as_str()).join(",");
        let load = Load::start(World::without_topics("three_kafkas", &addresses, 3));
        let reader = load.world.reader(&READER);
        load.runs();
        Self { brokers, load, reader }
    }

    /// Waits until every replica is in sync again, and the brokers lead the same partitions as at the start.
    fn settles(&self) {
        let broker = &self.brokers[0];
        let topics = "org.apache.kafka.tools.TopicCommand";
        wait_for("the replicas to catch up", || {
            let behind = broker.tool(topics, &["--describe", "--under-replicated-partitions"]);
            behind.is_empty().then_some(())
        });
        let elect = ["--election-type", "preferred", "--all-topic-partitions"];
        broker.tool("org.apache.kafka.tools.LeaderElectionCommand", &elect);
        self.load.runs();
    }

    /// How many times the brokers have fenced this one, by their logs.
    fn fenced(&self, victim: usize) -> usize {
        let words = format!("Fencing broker {} ", victim + 1);
        let logs = self.brokers.iter().map(|broker| std::fs::read_to_string(broker.path.join("kafka.log")));
        logs.map(|log| log.unwrap_or_default().matches(&words).count()).sum()
    }

    /// Silences a broker, and waits until the others have fenced it.
    fn silence(&self, victim: usize, how: impl FnOnce(&Server)) -> Instant {
        let before = self.fenced(victim);
        let begun = Instant::now();
        how(&self.brokers[victim]);
        wait_for("the brokers to fence the silent one", || (self.fenced(victim) > before).then_some(()));
        begun
    }

    fn finish(mut self, times: u32) -> Report {
        assert!(self.load.producer.as_mut().unwrap().is_running(), "the producer ended by itself");
        self.reader.stop();
        self.load.finish(times)
    }
}

/// A broker is killed, and started again later.
pub fn killed(times: u32, random: &mut StdRng) -> Report {
    let mut cluster = Cluster::start();
    let first = random.random_range(0..3);
    for round in 0..times as usize {
        cluster.settles();
        let victim = (first + round) % 3;
        cluster.silence(victim, |broker| drop(broker.run("kill")));
        cluster.load.recovers_within(AFTER_FENCING);
        cluster.brokers[victim].run("start");
    }
    cluster.finish(times)
}

/// A broker hangs for longer than every timeout, and goes on later.
pub fn hung(times: u32, random: &mut StdRng) -> Report {
    let mut cluster = Cluster::start();
    let (first, mut soon) = (random.random_range(0..3), 0);
    for round in 0..times as usize {
        cluster.settles();
        let victim = (first + round) % 3;
        let begun = cluster.silence(victim, |broker| broker.signal("STOP"));
        let latest = MARKERS.max(begun.elapsed() + SESSION_TIMEOUT) + AFTER_FENCING;
        let took = cluster.load.waits_for(cluster.load.world.partitions);
        let left = latest.saturating_sub(begun.elapsed() - took);
        cluster.load.recovered_and_says_so(took, left, GIVEN_UP + TOLD);
        soon += u32::from(took < AFTER_FENCING);
        sleep(Duration::from_secs(1));
        cluster.brokers[victim].signal("CONT");
        cluster.load.runs();
    }
    let note = format!("{soon} of {times} were over within {} s of the fencing", AFTER_FENCING.as_secs());
    Report { note: Some(note), ..cluster.finish(times) }
}

/// A rolling restart: one broker after the other is stopped and started.
pub fn restarted(times: u32, random: &mut StdRng) -> Report {
    let mut cluster = Cluster::start();
    let first = random.random_range(0..3);
    for round in 0..times as usize {
        cluster.settles();
        let broker = &cluster.brokers[(first + round) % 3];
        broker.run("stop");
        cluster.load.recovers_within(AFTER_STOP);
        broker.run("start");
        cluster.load.recovers_within(AFTER_STOP);
    }
    cluster.finish(times)
}
