//! What happens to Postgres and Kafka, and to the way there.

use crate::load::{Load, RECOVERY, Report};
use crate::proxy::{CUT_AFTER, CUT_BEFORE, Proxy};
use crate::world::{Server, World, connect};
use diesel::connection::SimpleConnection;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::Duration;

/// The address of a server in a Postgres URL, and the URL with another port in its place.
fn through(url: &str, port: u16) -> String {
    let (before, after) = url.rsplit_once(':').unwrap();
    let (_, database) = after.split_once('/').unwrap();
    format!("{before}:{port}/{database}")
}

fn address(url: &str) -> &str {
    url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0
}

pub fn cut_commit(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("cut_commit", 2));
    let proxy = Proxy::start(address(&load.world.database_url));
    let url = through(&load.world.database_url, proxy.port);
    let mut reader = load.world.reader(&["--database-url", &url]);
    load.recovers_within(RECOVERY * 2);
    let mut outcomes = [0; 2];
    for round in 0..times {
        // Both outcomes occur, in random places.
        let how = if round < 2 { round + 1 } else { random.random_range(CUT_BEFORE..=CUT_AFTER) };
        outcomes[how as usize - 1] += 1;
        proxy.cut(how);
        load.recovers_within(RECOVERY);
    }
    assert!(outcomes.iter().all(|&n| n > 0), "{outcomes:?}");
    reader.stop();
    load.finish(times)
}

pub fn terminate_backend(times: u32, _: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("backend", 2));
    let mut reader = load.world.reader(&[]);
    let mut admin = connect(&load.world.database_url);
    load.recovers_within(RECOVERY * 2);
    for _ in 0..times {
        let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'rfm-reader' AND datname = current_database()";
        admin.batch_execute(query).unwrap();
        load.recovers_within(RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

pub fn postgres_away_1s(times: u32, random: &mut StdRng) -> Report {
    postgres_away(times, Duration::from_secs(1), random)
}

pub fn postgres_away_30s(times: u32, random: &mut StdRng) -> Report {
    postgres_away(times, Duration::from_secs(30), random)
}

fn postgres_away(times: u32, away: Duration, random: &mut StdRng) -> Report {
    let postgres = Server::postgres();
    let mut world = World::new("postgres_away", 2);
    world.database_url = postgres.address.clone();
    let mut load = Load::start(world);
    let mut reader = load.world.reader(&[]);
    for _ in 0..times {
        load.recovers_within(RECOVERY * 2);
        postgres.run(if random.random() { "stop" } else { "kill" });
        sleep(away);
        postgres.run("start");
        load.recovers_within(RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

pub fn postgres_slow(times: u32, _: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("postgres_slow", 2));
    let proxy = Proxy::start(address(&load.world.database_url));
    let url = through(&load.world.database_url, proxy.port);
    let mut reader = load.world.reader(&["--database-url", &url]);
    load.recovers_within(RECOVERY * 2);
    for _ in 0..times {
        proxy.delay(Duration::from_millis(200));
        // A commit has about eight round trips, each 400 ms longer now: slow, but it goes on.
        load.recovers_within(Duration::from_secs(10));
        proxy.delay(Duration::ZERO);
        load.recovers_within(RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

fn with_own_kafka(times: u32, mut fault: impl FnMut(&Server)) -> Report {
    let broker = Server::kafka();
    let world = World::without_topics("own_kafka", &broker.address, 2);
    let mut load = Load::start(world);
    let mut reader = load.world.reader(&[
        "--kafka-property",
        "session.timeout.ms=6000",
        "--kafka-property",
        "debug=cgrp,broker",
    ]);
    for _ in 0..times {
        load.recovers_within(RECOVERY * 2);
        fault(&broker);
        // A broker that was killed, and the group's session, come back within this; then the reader has 5 s.
        load.recovers_within(Duration::from_secs(6) + RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

pub fn kafka_restart(times: u32, _: &mut StdRng) -> Report {
    with_own_kafka(times, |broker| {
        broker.run("stop");
        broker.run("start");
    })
}

pub fn kafka_killed(times: u32, _: &mut StdRng) -> Report {
    with_own_kafka(times, |broker| {
        broker.run("kill");
        broker.run("start");
    })
}

pub fn kafka_frozen(times: u32, _: &mut StdRng) -> Report {
    with_own_kafka(times, |broker| {
        broker.signal("STOP");
        sleep(Duration::from_secs(2));
        broker.signal("CONT");
    })
}
