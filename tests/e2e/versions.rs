//! The oldest and the newest supported version of Postgres. With `RFM_TEST_POSTGRES_VERSIONS=all`, also those
//! between them.

use crate::kafka::create_topics;
use crate::world::{Server, World, random, shared_kafka};
use rand::RngExt as _;
use std::thread::sleep;
use std::time::Duration;

/// The versions that `scripts/postgres` can fetch. All other tests run on the installed one (15 in Debian
/// 12).
const ALL: [&str; 5] = ["13", "14", "16", "17", "18"];

#[test]
fn killed_readers_store_everything_once_on_the_oldest_and_the_newest_postgres() {
    let all = std::env::var("RFM_TEST_POSTGRES_VERSIONS").is_ok_and(|which| which == "all");
    let versions = if all { &ALL[..] } else { &["13", "18"][..] };
    for version in versions {
        killed_readers_store_everything_once_on(version);
    }
}

fn killed_readers_store_everything_once_on(version: &str) {
    let postgres = Server::postgres_of(version);
    let world = World::on(&format!("postgres{version}"), &shared_kafka(), &postgres.address, 2);
    create_topics(&world.kafka, &world.topics, 2);
    let runs = world.number("SELECT current_setting('server_version_num')::int / 10000");
    assert_eq!(runs, Some(version.parse().unwrap()), "the server is of the version asked for");
    let mut random = random(&world.name);
    let mut producer = world.producer(&["--interval", "20ms", "--customers", "100"]);
    for _ in 0..3 {
        let mut reader = world.reader(&[]);
        reader.wait_until_it_says("committed");
        sleep(Duration::from_millis(random.random_range(0..1_000)));
        reader.kill_9();
    }
    producer.stop();
    world.catch_up(&["--pairing-timeout", "2s"]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}
