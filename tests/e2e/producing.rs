//! Many batches in one transaction: `producer --interval 0`.

use crate::kafka::limit_messages;
use crate::world::{Daemon, Server, World, random};
use rand::RngExt as _;
use std::thread::sleep;
use std::time::Duration;

/// How many batches a producer says it has sent. A line is about one batch, or says about how many.
fn sent(producer: &Daemon) -> i64 {
    let said = producer.said();
    let lines = said.lines().filter(|line| line.contains(" sent "));
    lines.map(|line| field(line, "batches=").unwrap_or(1)).sum()
}

fn field(line: &str, name: &str) -> Option<i64> {
    let (_, rest) = line.split_once(name)?;
    rest.split(' ').next()?.parse().ok()
}

/// Stores everything, then checks that each batch that the producer reported is there once, and nothing else
/// is.
fn stores_exactly(world: &World, batches: i64, customers: i64) {
    world.catch_up(&[]);
    let number = |query: &str| world.number(query).unwrap();
    assert_eq!(number("SELECT count(*) FROM batches"), batches);
    assert_eq!(number("SELECT count(DISTINCT batch_key) FROM batches"), batches, "each of them once");
    assert_eq!(number("SELECT count(*) FROM segments"), batches * customers);
    assert_eq!(number("SELECT count(*) FROM dead_letters"), 0, "none in part");
}

#[test]
fn a_producer_puts_many_batches_into_a_transaction_each_of_which_arrives_once() {
    let world = World::new("together", 3);
    let mut producer = world.producer(&["--batches", "2500", "--interval", "0", "--customers", "20"]);
    producer.succeeds();
    assert_eq!(producer.said().matches(" sent ").count(), 3, "{}", producer.said());
    assert_eq!(sent(&producer), 2_500);
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-batches", "2500", "--expect-dead", "0"]);
}

#[test]
fn a_producer_with_an_interval_sends_each_batch_alone() {
    let world = World::new("alone", 3);
    let mut producer = world.producer(&["--batches", "20", "--interval", "1ms"]);
    producer.succeeds();
    let said = producer.said();
    assert_eq!(said.lines().filter(|line| line.contains(" sent key=")).count(), 20, "{said}");
    stores_exactly(&world, 20, 100);
}

#[test]
fn a_producer_whose_broker_stops_and_dies_sends_every_batch_once() {
    let broker = Server::kafka();
    let world = World::without_topics("together_broker", &broker.address, 2);
    let mut producer = world.producer(&["--interval", "0", "--customers", "3"]);
    for how in ["stop", "kill", "kill"] {
        let before = sent(&producer);
        crate::world::wait_for("batches", || (sent(&producer) > before).then_some(()));
        broker.run(how);
        broker.run("start");
    }
    let before = sent(&producer);
    crate::world::wait_for("batches", || (sent(&producer) > before).then_some(()));
    producer.stop();
    stores_exactly(&world, sent(&producer), 3);
}

#[test]
fn a_producer_asked_to_stop_has_sent_what_it_says() {
    let world = World::new("together_stop", 3);
    let mut random = random(&world.name);
    let mut all = 0;
    for _ in 0..3 {
        let mut producer = world.producer(&["--interval", "0", "--customers", "3"]);
        producer.wait_until_it_says("sent batches=");
        sleep(Duration::from_millis(random.random_range(0..300)));
        producer.stop();
        all += sent(&producer);
    }
    stores_exactly(&world, all, 3);
}

#[test]
fn a_second_producer_ends_the_first_in_the_middle_of_its_transaction() {
    let world = World::new("together_fenced", 2);
    let mut first = world.producer(&["--interval", "0", "--customers", "3"]);
    first.wait_until_it_says("sent batches=");
    world.produce(&["--batches", "1", "--interval", "0", "--customers", "3"]);
    first.fails(1, "took over");
    assert!(first.said().contains("--transactional-id"), "{}", first.said());
    stores_exactly(&world, sent(&first) + 1, 3);
}

#[test]
fn batches_that_are_too_large_only_together_are_sent_with_fewer_others() {
    let world = World::new("together_large", 1);
    world.topics.iter().for_each(|topic| limit_messages(&world.kafka, topic, 5_000));
    let mut producer = world.producer(&["--batches", "100", "--interval", "0", "--customers", "100"]);
    producer.succeeds();
    assert!(producer.said().contains("per transaction"), "{}", producer.said());
    assert_eq!(sent(&producer), 100);
    stores_exactly(&world, 100, 100);
}

#[test]
fn a_batch_too_large_alone_ends_a_producer_that_sends_many_batches() {
    let world = World::new("together_too_large", 1);
    limit_messages(&world.kafka, &world.topics[1], 1_000);
    let mut producer = world.producer(&["--interval", "0", "--customers", "5000"]);
    producer.fails(1, "the topic takes 1000 at most");
    assert_eq!(sent(&producer), 0);
    // What it had sent is aborted and not left open, so the reader is through at once.
    stores_exactly(&world, 0, 5_000);
}

#[test]
fn a_producer_waits_while_the_queue_of_its_batches_is_full() {
    let world = World::new("together_queue", 2);
    let queue = ["--kafka-property", "queue.buffering.max.messages=10"];
    let flags = ["--batches", "500", "--interval", "0", "--customers", "3"];
    let mut producer = world.producer(&[&flags[..], &queue].concat());
    producer.succeeds();
    assert!(!producer.said().contains("WARN"), "{}", producer.said());
    stores_exactly(&world, 500, 3);
}
