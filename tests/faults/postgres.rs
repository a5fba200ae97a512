//! Faults of Postgres and of the connection to it.

use crate::load::{Load, RECOVERY, Report};
use crate::proxy::{CUT_AFTER, CUT_BEFORE, Proxy};
use crate::world::{Server, World, connect};
use diesel::connection::SimpleConnection;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::thread::sleep;
use std::time::Duration;

/// The address of a server in a Postgres URL, and the URL with another port in its place.
pub fn through(url: &str, port: u16) -> String {
    let (before, after) = url.rsplit_once(':').unwrap();
    let (_, database) = after.split_once('/').unwrap();
    format!("{before}:{port}/{database}")
}

pub fn address(url: &str) -> &str {
    url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0
}

pub fn cut_commit(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("cut_commit", 2));
    let proxy = Proxy::start(address(&load.world.database_url));
    let url = through(&load.world.database_url, proxy.port);
    let mut reader = load.world.reader(&["--database-url", &url]);
    load.runs();
    let mut outcomes = [0; 2];
    for round in 0..times {
        // Cuts before and after the COMMIT, at random moments.
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
    load.runs();
    for _ in 0..times {
        terminate_backends(&load.world);
        load.recovers_within(RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

/// Ends all connections of readers.
pub fn terminate_backends(world: &World) {
    let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'rfm-reader' AND datname = current_database()";
    connect(&world.database_url).batch_execute(query).unwrap();
}

/// Stopped or killed, and away for `seconds`.
pub fn away(times: u32, seconds: u64, random: &mut StdRng) -> Report {
    let postgres = Server::postgres();
    let mut world = World::new("postgres_away", 2);
    world.database_url = postgres.address.clone();
    let mut load = Load::start(world);
    let mut reader = load.world.reader(&[]);
    for _ in 0..times {
        load.runs();
        postgres.run(if random.random() { "stop" } else { "kill" });
        sleep(Duration::from_secs(seconds));
        postgres.run("start");
        load.recovers_within(RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

pub fn slow(times: u32, _: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("postgres_slow", 2));
    let proxy = Proxy::start(address(&load.world.database_url));
    let url = through(&load.world.database_url, proxy.port);
    let mut reader = load.world.reader(&["--database-url", &url]);
    load.runs();
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
