//! Postgres is there and does not answer: stopped, behind a proxy that swallows, waiting for a standby or a
//! lock.
//!
//! No connection breaks, so only a clock shows it. The reader must say so in time, and go on when it can.

use crate::failover::PRODUCER;
use crate::kafka::create_topics;
use crate::load::{Load, Report};
use crate::postgres::{address, through};
use crate::probe::Probe;
use crate::proxy::Proxy;
use crate::replicas::{Cluster, Way, set};
use crate::slowness::{self, Deadline};
use crate::world::{Daemon, Server, World, shared_kafka};
use diesel::connection::SimpleConnection;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::Duration;

/// The reader says within 5 s that Postgres is mute. Half a second more is for the way there.
const SAID: Duration = Duration::from_millis(5_500);
/// How long it may take from the moment when Postgres, or its successor, answers again to the next batch of
/// every partition.
const HEALED: Duration = Duration::from_secs(15);
/// `/readyz` says so sooner than the log, which does not warn of what lasts 2 s.
const TOLD: Duration = Duration::from_secs(2);
/// What the reader says, whatever it waits for.
const WORDS: &str = "has not answered";

/// All its processes get SIGSTOP.
pub fn stopped(times: u32, random: &mut StdRng) -> Report {
    let postgres = Server::postgres();
    let (mut load, mut reader) = start(World::on("stopped", &shared_kafka(), &postgres.address, 2));
    for _ in 0..times {
        load.runs();
        says_so(&reader, || postgres.run_with("signal", &["STOP"]));
        lasts(random);
        postgres.run_with("signal", &["CONT"]);
        load.recovers_within(HEALED);
    }
    reader.stop();
    load.finish(times)
}

/// The primary stops, and the standby takes over; the reader knows both of them.
pub fn promoted(times: u32, random: &mut StdRng) -> Report {
    let way = Way::BothHosts(random.random());
    let mut cluster = Cluster::start(way);
    let mut load = Load::start_with(cluster.world("promoted", 2), &PRODUCER);
    let url = cluster.url_for_readers(&load.world.database_url);
    let mut reader = load.world.reader(&["--database-url", &url]);
    for round in 0..times {
        cluster.follow_in(round);
        load.runs();
        says_so(&reader, || cluster.primary.run_with("signal", &["STOP"]));
        cluster.promote(&mut load.world);
        load.recovers_within(HEALED);
        // It must not wake as a second primary.
        cluster.standby.run_with("signal", &["KILL"]);
    }
    reader.stop();
    load.finish(times)
}

/// A proxy accepts everything and passes nothing on. Afterwards, its old connections stay dead, and new ones
/// work.
pub fn swallowed(times: u32, random: &mut StdRng) -> Report {
    let world = World::new("swallowed", 2);
    let proxy = Proxy::start(address(&world.database_url));
    let url = through(&world.database_url, proxy.port);
    let mut load = Load::start_with(world, &PRODUCER);
    let mut reader = load.world.reader(&["--database-url", &url]);
    for _ in 0..times {
        load.runs();
        says_so(&reader, || proxy.swallow());
        lasts(random);
        proxy.pass();
        load.recovers_within(HEALED);
    }
    reader.stop();
    load.finish(times)
}

/// Every commit waits for a standby that does not come.
pub fn standby_away(times: u32, random: &mut StdRng) -> Report {
    let postgres = Server::postgres();
    let (mut load, mut reader) = start(World::on("standby_away", &shared_kafka(), &postgres.address, 2));
    for _ in 0..times {
        load.runs();
        says_so(&reader, || set(&postgres, "synchronous_standby_names = 'nobody'"));
        lasts(random);
        set(&postgres, "synchronous_standby_names = ''");
        load.recovers_within(HEALED);
    }
    reader.stop();
    load.finish(times)
}

/// Somebody locks `progress`, as a migration by hand would.
pub fn locked(times: u32, random: &mut StdRng) -> Report {
    let world = World::on("locked", &shared_kafka(), &crate::world::shared_postgres(), 2);
    let (mut load, mut reader) = start(world);
    for _ in 0..times {
        load.runs();
        let mut other = load.world.connect();
        let lock = "BEGIN; LOCK TABLE progress IN ACCESS EXCLUSIVE MODE";
        says_so(&reader, || other.batch_execute(lock).unwrap());
        lasts(random);
        other.batch_execute("COMMIT").unwrap();
        load.recovers_within(HEALED);
    }
    reader.stop();
    load.finish(times)
}

fn start(world: World) -> (Load, Daemon) {
    create_topics(&world.kafka, &world.topics, world.partitions);
    let load = Load::start_with(world, &PRODUCER);
    let reader = load.world.reader(&[]);
    (load, reader)
}

/// Makes Postgres mute, and waits until the reader says so.
fn says_so<T>(reader: &Daemon, mute: impl FnOnce() -> T) {
    let times = || reader.said().matches(WORDS).count();
    let before = times();
    Probe::of(reader).wait_for_readyz(200);
    mute();
    let (told, body) = Probe::of(reader).wait_for_readyz(503);
    slowness::in_time("503 of /readyz", told, TOLD);
    assert!(body.contains(WORDS), "{body}");
    let deadline = Deadline::of(SAID);
    while times() == before {
        assert!(!deadline.is_over(), "a mute Postgres, and the reader does not say so:\n{}", reader.said());
        sleep(Duration::from_millis(10));
    }
    deadline.met(WORDS);
}

/// A time that is shorter than the reader's patience, or longer.
fn lasts(random: &mut StdRng) {
    sleep(Duration::from_millis(random.random_range(0..15_000)));
}
