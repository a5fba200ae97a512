//! Exactly once, although processes die at random moments.

use crate::world::{World, random};
use rand::RngExt as _;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn a_reader_killed_twenty_times_stores_every_batch_once() {
    let world = World::new("reader_kills", 3);
    let mut random = random(&world.name);
    let mut producer = world.producer(&["--batches", "1000", "--interval", "40ms", "--customers", "100"]);
    for _ in 0..20 {
        let mut reader = world.reader(&[]);
        reader.wait_until_it_says("took partition");
        sleep(Duration::from_millis(random.random_range(0..700)));
        reader.kill_9();
    }
    producer.succeeds();
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("1000 batches") && said.contains("100000 rows"), "{said}");
}

#[test]
fn a_producer_killed_twenty_times_leaves_no_part_of_a_batch() {
    let world = World::new("producer_kills", 3);
    let mut random = random(&world.name);
    let mut reader = world.reader(&["--pairing-timeout", "2s"]);
    for _ in 0..20 {
        let mut producer = world.producer(&["--interval", "0", "--customers", "5"]);
        producer.wait_until_it_says("sent ");
        sleep(Duration::from_millis(random.random_range(0..150)));
        producer.kill_9();
    }
    // The last producer aborts what the one before it left open, so the reader can go on.
    world.produce(&["--batches", "1", "--interval", "0", "--customers", "5"]);
    reader.stop();
    world.catch_up(&[]);
    // There are tens of thousands of batches, so they are counted here. Other tests recompute fewer of them.
    let number = |query: &str| world.number(query).unwrap();
    let batches = number("SELECT count(*) FROM batches");
    assert!(batches > 20, "{batches}");
    assert_eq!(number("SELECT count(DISTINCT batch_key) FROM batches"), batches);
    assert_eq!(number("SELECT count(*) FROM segments"), batches * 5);
    assert_eq!(number("SELECT count(*) FROM dead_letters"), 0);
}

#[test]
fn two_readers_one_killed_ten_times_store_every_batch_once() {
    let world = World::new("two_readers", 3);
    let mut random = random(&world.name);
    let mut producer = world.producer(&["--batches", "600", "--interval", "50ms", "--customers", "100"]);
    let mut steady = world.reader(&[]);
    for _ in 0..10 {
        let mut killed = world.reader(&[]);
        killed.wait_until_it_says("took partition");
        sleep(Duration::from_millis(random.random_range(0..1_000)));
        killed.kill_9();
    }
    producer.succeeds();
    steady.stop();
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("600 batches"), "{said}");
}

#[test]
fn a_reader_stopped_under_load_ends_within_eight_seconds_and_leaves_nothing_half_written() {
    let world = World::new("stops", 3);
    let mut producer = world.producer(&["--interval", "1ms", "--customers", "2000"]);
    let mut random = random(&world.name);
    for _ in 0..5 {
        let mut reader = world.reader(&[]);
        reader.wait_until_it_says("committed");
        sleep(Duration::from_millis(random.random_range(0..300)));
        reader.stop();
    }
    producer.stop();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}
