//! Postgres goes back in time under a live reader: a standby that lagged is promoted, or a server crashes
//! before it has written what it had confirmed.
//!
//! The batches that readers committed and the new primary lacks are counted. They had to be read again, which
//! gives the judge's `0 lost` its meaning.

use crate::kafka::create_topics;
use crate::load::{Load, Report};
use crate::postgres::through;
use crate::replicas::{Behind, Cluster, Lag, Pooling, Way, pooler, set};
use crate::world::{Daemon, Server, World, shared_kafka, wait_for};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::process::Command;
use std::time::Duration;

/// How long it may take from the promotion to the next batch of every partition.
const HEALED: Duration = Duration::from_secs(15);

/// Failovers per cluster. The next ones get a new cluster, in another variant of the same way.
const PER_CLUSTER: u32 = 2;

/// Batches that are committed while the standby lags, at least.
const COMMITTED_MEANWHILE: i64 = 40;

/// A lighter load than elsewhere, because the waits are longer and leave the judge many commits.
pub const PRODUCER: [&str; 4] = ["--interval", "30ms", "--customers", "50"];

pub fn both_hosts(times: u32, random: &mut StdRng) -> Report {
    clusters(times, |n| Way::BothHosts(n % 2 == 0), |way, times| lagging(way, times, random))
}

pub fn haproxy(times: u32, random: &mut StdRng) -> Report {
    clusters(times, |_| Way::HaProxy, |way, times| lagging(way, times, random))
}

pub fn pooled(pooling: Pooling, times: u32, random: &mut StdRng) -> Report {
    clusters(times, |n| Way::PgBouncer(pooling, Behind::ALL[n % 4]), |way, times| lagging(way, times, random))
}

/// With a standby that confirms every commit and lags only in replaying.
pub fn synchronous(times: u32, random: &mut StdRng) -> Report {
    let mut inject = |way, times| {
        let mut cluster = Cluster::start(way);
        let (mut load, mut reader) = start("synchronous", &cluster);
        for round in 0..times {
            cluster.follow_in(round);
            cluster.commit_synchronously();
            cluster.lag(Lag::Replay);
            fail_over(&mut cluster, &mut load, random);
        }
        reader.stop();
        load.finish(times)
    };
    clusters(times, any_way, &mut inject)
}

/// A reader freezes with a commit under way to the server. The promoted server gives its epoch out a second
/// time. The reader wakes while its successor is at work.
pub fn frozen(times: u32, random: &mut StdRng) -> Report {
    let mut inject = |way, times| {
        let mut cluster = Cluster::start(way);
        let mut load = Load::start_with(cluster.world("frozen_across", 1), &PRODUCER);
        let mut taken_back = 0;
        for round in 0..times {
            cluster.follow_in(round);
            let url = cluster.url_for_readers(&load.world.database_url);
            let flags = ["--database-url", url.as_str()];
            // The epoch of this reader is the last one that the standby receives.
            let mut first = load.world.reader(&flags);
            first.wait_until_it_says("committed");
            cluster.lag(Lag::Receiver);
            first.kill_9();
            let mut sleeper = load.world.reader_with_failpoint("after_scoring:30:stop", &flags);
            wait_for("the reader to freeze", || is_stopped(&sleeper).then_some(()));
            taken_back += replace_primary(&mut cluster, &mut load, random);
            let mut heir = load.world.reader(&flags);
            heir.wait_until_it_says("committed");
            sleeper.signal("CONT");
            load.recovers_within(HEALED);
            sleeper.kill_9();
            load.recovers_within(HEALED);
            heir.stop();
        }
        noted(load.finish(times), taken_back)
    };
    let transaction = |n: usize| Way::PgBouncer(Pooling::Transaction, Behind::ALL[n % 4]);
    clusters(times, |n| if n % 3 == 2 { any_way(n) } else { transaction(n) }, &mut inject)
}

/// The server crashes and loses its last commits, which it confirmed before they were on disk. The pooler
/// keeps the reader's connections.
pub fn crash(times: u32, _: &mut StdRng) -> Report {
    let (mut report, mut done) = (Report::default(), 0);
    while done < times {
        let some = (times - done).min(PER_CLUSTER + 1);
        let behind =
            [Behind::NewReloaded, Behind::InstalledReloaded][(done / (PER_CLUSTER + 1)) as usize % 2];
        report = report.and(crashes(behind, some));
        done += some;
    }
    report
}

fn crashes(behind: Behind, times: u32) -> Report {
    let postgres = Server::postgres();
    set(&postgres, "synchronous_commit = off");
    let pooler = pooler(Pooling::Transaction, behind, &postgres.address);
    let world = World::on("crash", &shared_kafka(), &postgres.address, 2);
    create_topics(&world.kafka, &world.topics, world.partitions);
    let mut load = Load::start_with(world, &PRODUCER);
    let url = through(&load.world.database_url, crate::replicas::port(&pooler.address));
    let mut reader = load.world.reader(&["--database-url", &url]);
    let mut taken_back = 0;
    for _ in 0..times {
        commits(&load, 1);
        stop_wal_writer(&load.world);
        commits(&load, COMMITTED_MEANWHILE);
        let until = load.world.number("SELECT extract(epoch FROM now()) * 1000000").unwrap();
        // What the reader stores again has a later time.
        let kept =
            format!("SELECT count(*) FROM batches WHERE extract(epoch FROM stored_at) * 1000000 < {until}");
        let before = load.world.number(&kept).unwrap();
        postgres.run_with("signal", &["KILL"]);
        postgres.run("start");
        let forgotten = before - load.world.number(&kept).unwrap();
        assert!(forgotten > 0, "the crash forgot nothing");
        taken_back += forgotten;
        load.recovers_within(HEALED);
    }
    reader.stop();
    noted(load.finish(times), taken_back)
}

/// A crash of the machine loses what is not on disk yet, a crash of Postgres only what it has not handed to
/// the system. So the process that hands it over is stopped first.
fn stop_wal_writer(world: &World) {
    let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let pid = wait_for("the WAL writer", || world.number(pid));
    assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
}

/// `times` failovers of several clusters. A cluster's number decides how it is reached.
fn clusters(times: u32, way: impl Fn(usize) -> Way, mut inject: impl FnMut(Way, u32) -> Report) -> Report {
    let mut report = Report::default();
    for (number, first) in (0..times).step_by(PER_CLUSTER as usize).enumerate() {
        let way = way(number);
        eprintln!("a cluster, reached by {way:?}");
        report = report.and(inject(way, PER_CLUSTER.min(times - first)));
    }
    report
}

fn any_way(number: usize) -> Way {
    match number % 4 {
        0 => Way::BothHosts(true),
        1 => Way::PgBouncer(Pooling::Transaction, Behind::ALL[number / 4 % 4]),
        2 => Way::HaProxy,
        _ => Way::PgBouncer(Pooling::Session, Behind::ALL[number / 4 % 4]),
    }
}

fn start(name: &str, cluster: &Cluster) -> (Load, Daemon) {
    let load = Load::start_with(cluster.world(name, 2), &PRODUCER);
    let url = cluster.url_for_readers(&load.world.database_url);
    let reader = load.world.reader(&["--database-url", &url]);
    load.runs();
    (load, reader)
}

fn lagging(way: Way, times: u32, random: &mut StdRng) -> Report {
    let mut cluster = Cluster::start(way);
    let (mut load, mut reader) = start("lagging", &cluster);
    let mut taken_back = 0;
    for round in 0..times {
        cluster.follow_in(round);
        // One failover of every cluster is certain to lose commits.
        let lag = if round == 0 { Lag::Receiver } else { Lag::drawn(random) };
        cluster.lag(lag);
        let lost = fail_over(&mut cluster, &mut load, random);
        assert!(lag == Lag::Replay || lost > 0, "the standby lagged, and had everything");
        taken_back += if lag == Lag::Receiver { lost } else { 0 };
    }
    reader.stop();
    noted(load.finish(times), taken_back)
}

/// Lets commits go on for a while, promotes the standby, and checks that work goes on in time. Returns how
/// many batches the standby lacked just before.
fn fail_over(cluster: &mut Cluster, load: &mut Load, random: &mut StdRng) -> i64 {
    commits(load, COMMITTED_MEANWHILE);
    let lost = replace_primary(cluster, load, random);
    load.recovers_within(HEALED);
    lost
}

/// Kills the primary and promotes the standby. Returns how many batches the standby lacked just before.
fn replace_primary(cluster: &mut Cluster, load: &mut Load, random: &mut StdRng) -> i64 {
    let before = load.stored().unwrap();
    crash_now(&cluster.primary, random);
    let standby = through(&load.world.database_url, crate::replicas::port(&cluster.standby.address));
    let primary = std::mem::replace(&mut load.world.database_url, standby);
    let there = load.stored().unwrap();
    load.world.database_url = primary;
    // In a real failover it takes a moment to decide that the primary is dead.
    std::thread::sleep(Duration::from_millis(random.random_range(0..3_000)));
    cluster.promote(&mut load.world);
    before - there
}

/// Crashes the server, by `pg_ctl stop -m immediate` or by kill -9 of all processes.
fn crash_now(server: &Server, random: &mut StdRng) {
    if random.random() {
        server.run("kill");
    } else {
        server.run_with("signal", &["KILL"]);
    }
}

/// Waits until `count` more batches are stored.
fn commits(load: &Load, count: i64) {
    let before = load.stored().unwrap_or(0);
    wait_for("commits", || (load.stored() >= Some(before + count)).then_some(()));
}

/// Whether it has stopped itself by a failpoint.
fn is_stopped(program: &Daemon) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

fn noted(report: Report, taken_back: i64) -> Report {
    Report { taken_back, ..report }
}
