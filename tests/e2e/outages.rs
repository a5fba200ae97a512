//! Outages that end by themselves: both programs say what they wait for, and then go on.

use crate::kafka::{Plain, add_partitions, create_topics};
use crate::slowness;
use crate::world::{Daemon, Server, World, connect, wait_for};
use diesel::connection::SimpleConnection;
use std::time::{Duration, Instant};

#[test]
fn a_reader_waits_for_topics_and_for_equal_partition_counts() {
    let world = World::without_topics("no_topics", &crate::world::shared_kafka(), 2);
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("recency 0, frequency 0, monetary 0");
    create_topics(&world.kafka, &world.topics[..2], 2);
    create_topics(&world.kafka, &world.topics[2..], 1);
    reader.wait_until_it_says("recency 2, frequency 2, monetary 1");
    add_partitions(&world.kafka, &world.topics[2], 2);
    world.produce(&["--batches", "3", "--interval", "0"]);
    world.wait_for_batches(3);
    reader.stop();
    world.verify(&["--expect-dead", "0"]);
}

#[test]
fn a_producer_gives_a_missing_topic_the_partitions_of_the_others() {
    let world = World::without_topics("some_topics", &crate::world::shared_kafka(), 5);
    create_topics(&world.kafka, &world.topics[..1], 2);
    let mut producer = world.producer(&["--batches", "1", "--interval", "0"]);
    producer.succeeds();
    assert_eq!(producer.said().matches("created topic").count(), 2, "{}", producer.said());
    assert!(producer.said().contains("partitions=2"), "{}", producer.said());
}

#[test]
fn partitions_added_later_are_read() {
    let world = World::new("added", 1);
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("took partition partition=0");
    world.topics.iter().for_each(|topic| add_partitions(&world.kafka, topic, 3));
    reader.wait_until_it_says("took partition partition=2");
    world.produce(&["--batches", "20", "--interval", "0"]);
    world.wait_for_batches(20);
    reader.stop();
    world.verify(&["--expect-dead", "0"]);
}

#[test]
fn both_programs_wait_for_a_broker_and_survive_its_restart() {
    let broker = Server::kafka();
    let world = World::without_topics("broker", &broker.address, 2);
    broker.run("stop");
    let mut reader = world.reader(&["--kafka-property", "session.timeout.ms=6000"]);
    let mut producer = world.producer(&["--interval", "50ms", "--batches", "200"]);
    reader.wait_until_it_says("no broker answers");
    producer.wait_until_it_says("no broker answers");
    broker.run("start");
    world.wait_for_batches(5);
    for how in ["stop", "kill"] {
        let stored = world.number("SELECT count(*) FROM batches").unwrap();
        broker.run(how);
        broker.run("start");
        world.wait_for_batches(stored + 10);
    }
    producer.succeeds();
    assert_eq!(producer.said().matches(" sent ").count(), 200, "{}", producer.said());
    world.wait_for_batches(200);
    reader.stop();
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("200 batches"), "{said}");
}

#[test]
fn a_reader_waits_for_postgres_and_survives_its_restart() {
    let postgres = Server::postgres();
    let mut world = World::new("postgres", 2);
    world.database_url = postgres.address.clone();
    postgres.run("stop");
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("postgres cannot be reached");
    postgres.run("start");
    let mut producer = world.producer(&["--interval", "30ms", "--batches", "300"]);
    world.wait_for_batches(5);
    for how in ["stop", "kill"] {
        postgres.run(how);
        postgres.run("start");
        let stored = world.number("SELECT count(*) FROM batches").unwrap();
        world.wait_for_batches(stored + 10);
    }
    producer.succeeds();
    world.wait_for_batches(300);
    reader.stop();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

/// Cuts all connections of readers to the database of `world`.
pub fn cut_connections(world: &World) {
    let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'rfm-reader' AND datname = current_database()";
    connect(&world.database_url).batch_execute(query).unwrap();
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let world = World::new("cut", 2);
    let mut reader = world.reader(&[]);
    let mut producer = world.producer(&["--interval", "10ms", "--batches", "300", "--customers", "1000"]);
    for round in 1..=5 {
        let stored = wait_for("batches", || world.number("SELECT count(*) FROM batches").filter(|n| *n > 0));
        cut_connections(&world);
        world.wait_for_batches(stored + round);
    }
    producer.succeeds();
    world.wait_for_batches(300);
    reader.stop();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_reader_whose_log_nobody_reads_goes_on_and_stops_when_it_is_asked_to() {
    let world = World::new("unread_log", 1);
    world.produce(&["--batches", "3", "--interval", "0"]);
    let mut command = world.reader_command();
    command.env("RUST_LOG", "debug").args(["--kafka-property", "debug=all"]);
    let mut reader = Daemon::unread(&mut command);
    world.wait_for_batches(3);
    for batches in [23, 43] {
        world.produce(&["--batches", "20", "--interval", "0"]);
        world.wait_for_batches(batches);
    }
    reader.stop();
    let log = reader.rest();
    assert!(log.len() > 60_000, "the pipe was not full: {} bytes", log.len());
}

#[test]
fn a_reader_behind_an_open_transaction_says_so_and_goes_on_when_it_ends() {
    let world = World::new("open_transaction", 1);
    world.produce(&["--batches", "2", "--interval", "0"]);
    let open = Plain::transactional(&world.kafka, &format!("{}.open", world.name));
    open.begin();
    open.send(&world.topics[1], 0, Some(b"open"), Some(b"{}"));
    open.flush();
    world.produce(&["--batches", "1", "--interval", "0"]);
    let mut reader = world.reader(&["--until-caught-up"]);
    reader.wait_until_it_says("waiting for the end of a transaction that a producer has open");
    let said = reader.said();
    let line = said.lines().find(|line| line.contains("has open")).unwrap();
    assert!(line.contains(&world.topics[1]) && line.contains("partition=0"), "{line}");
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2));
    open.abort();
    reader.succeeds();
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(3));
}

#[test]
fn a_message_that_waits_for_its_partners_is_said_before_it_is_given_up() {
    let world = World::new("partners", 1);
    let plain = Plain::new(&world.kafka);
    let send = |place: usize, metric: &str| {
        let body = format!(r#"{{"{metric}":[1,2,3]}}"#);
        plain.send(&world.topics[place], 0, Some(b"late"), Some(body.as_bytes()));
        plain.flush();
    };
    send(0, "recency");
    let reader = world.reader(&["--pairing-timeout", "10min"]);
    let words = format!("none has come on {} and {}", world.topics[1], world.topics[2]);
    reader.wait_until_it_says(&words);
    send(1, "frequency");
    send(2, "monetary");
    world.wait_for_batches(1);
    assert!(!reader.said().contains("dead letter"), "{}", reader.said());
}

#[test]
fn a_broker_that_freezes_is_named_within_seconds_at_the_start_and_at_work() {
    let broker = Server::kafka();
    let world = World::without_topics("frozen_wait", &broker.address, 2);
    world.produce(&["--batches", "2", "--interval", "0"]);
    let within = |reader: &Daemon, words: &str| {
        let begun = Instant::now();
        reader.wait_until_it_says(words);
        slowness::in_time("the line about a frozen broker", begun.elapsed(), Duration::from_secs(7));
    };
    // At work.
    let mut reader = world.reader(&["--kafka-property", "session.timeout.ms=6000"]);
    world.wait_for_batches(2);
    broker.signal("STOP");
    within(&reader, "kafka has not answered: waiting for the");
    broker.signal("CONT");
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(3);
    reader.stop();
    // At the start.
    let mut producer = {
        broker.signal("STOP");
        let producer = world.producer(&["--batches", "1", "--interval", "0"]);
        within(&producer, "no broker answers at");
        producer
    };
    let mut reader = world.reader(&[]);
    within(&reader, "no broker answers at");
    broker.signal("CONT");
    producer.succeeds();
    world.wait_for_batches(4);
    reader.stop();
    world.verify(&["--progress", "--expect-batches", "4", "--expect-dead", "0"]);
}
