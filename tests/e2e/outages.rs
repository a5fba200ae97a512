//! What heals by itself is waited for, and said.

use crate::kafka::{add_partitions, create_topics};
use crate::world::{Server, World, connect, wait_for};
use diesel::connection::SimpleConnection;

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

/// Ends all connections of readers.
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
