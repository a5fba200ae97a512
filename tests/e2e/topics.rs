//! Topics that are deleted and created again: another log under the same name.

use crate::kafka::{Plain, create_topics, delete_topics};
use crate::world::{Daemon, World};
use diesel::connection::SimpleConnection;

const ALL_IDS: &str = "SELECT count(*) FROM sources WHERE recency_topic_id IS NOT NULL
    AND frequency_topic_id IS NOT NULL AND monetary_topic_id IS NOT NULL";

/// Sends batches without transactions, to partition 0: one record each, no markers.
pub fn send(world: &World, keys: std::ops::Range<i32>) {
    let plain = Plain::new(&world.kafka);
    for key in keys {
        for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
            let body = format!(r#"{{"{metric}":[1,2,3]}}"#);
            plain.send(topic, 0, Some(key.to_string().as_bytes()), Some(body.as_bytes()));
        }
    }
    plain.flush();
}

/// The reader ends, and says which topic was created again, where it stood, and what to do. Nothing was
/// stored.
fn stops(world: &World, reader: &mut Daemon, topic: usize, log: &str) {
    reader.fails(1, "was deleted and created again");
    let said = reader.said();
    let metric = ["recency", "frequency", "monetary"][topic];
    let named = format!("the topic `{}` ({metric})", world.topics[topic]);
    assert!(said.contains(&named) && said.contains("--group-id"), "{said}");
    let position = format!("partition 0 at 3, its log now has {log}");
    assert!(said.contains(&position), "expected `{position}`: {said}");
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(3), "{said}");
    assert_eq!(world.number("SELECT count(*) FROM dead_letters"), Some(0), "{said}");
    let next = "SELECT min(recency_next + frequency_next + monetary_next) FROM progress WHERE partition = 0";
    assert_eq!(world.number(next), Some(9), "{said}");
}

/// A world in which three batches were sent, and a reader that has stored them.
fn with_three_batches(name: &str) -> (World, Daemon) {
    let world = World::new(name, 1);
    let reader = world.reader(&[]);
    send(&world, 0..3);
    world.wait_for_batches(3);
    (world, reader)
}

#[test]
fn a_topic_created_again_while_no_reader_runs_is_recognised() {
    let (world, mut reader) = with_three_batches("again_down");
    reader.stop();
    // Only one of the three, and all three are beyond the stored position.
    delete_topics(&world.kafka, &world.topics[1..2]);
    create_topics(&world.kafka, &world.topics[1..2], 1);
    send(&world, 10..20);
    stops(&world, &mut world.reader(&[]), 1, "0..10");
    stops(&world, &mut world.reader(&["--until-caught-up"]), 1, "0..10");
}

#[test]
fn a_topic_created_again_and_still_short_is_recognised() {
    let (world, mut reader) = with_three_batches("again_short");
    reader.stop();
    delete_topics(&world.kafka, &world.topics[2..]);
    create_topics(&world.kafka, &world.topics[2..], 1);
    stops(&world, &mut world.reader(&[]), 2, "0..0");
}

#[test]
fn topics_created_again_at_once_while_a_reader_runs_are_recognised() {
    let (world, mut reader) = with_three_batches("again_at_once");
    delete_topics(&world.kafka, &world.topics);
    create_topics(&world.kafka, &world.topics, 1);
    send(&world, 10..20);
    stops(&world, &mut reader, 0, "0..");
}

#[test]
fn a_topic_created_again_at_once_while_a_reader_runs_is_recognised() {
    let (world, mut reader) = with_three_batches("again_one");
    delete_topics(&world.kafka, &world.topics[1..2]);
    create_topics(&world.kafka, &world.topics[1..2], 1);
    send(&world, 10..20);
    stops(&world, &mut reader, 1, "0..");
}

#[test]
fn a_reader_waits_for_topics_that_were_deleted_and_recognises_new_ones() {
    let (world, mut reader) = with_three_batches("again_later");
    delete_topics(&world.kafka, &world.topics);
    reader.wait_until_it_says("recency 0, frequency 0, monetary 0");
    create_topics(&world.kafka, &world.topics, 1);
    send(&world, 10..20);
    stops(&world, &mut reader, 0, "0..");
}

#[test]
fn topics_created_again_with_more_partitions_are_recognised() {
    let (world, mut reader) = with_three_batches("again_more");
    delete_topics(&world.kafka, &world.topics);
    create_topics(&world.kafka, &world.topics, 3);
    send(&world, 10..20);
    stops(&world, &mut reader, 0, "0..");
    assert_eq!(world.number("SELECT count(*) FROM progress"), Some(1));
}

#[test]
fn a_topic_created_again_with_more_partitions_than_the_others_is_recognised() {
    let (world, mut reader) = with_three_batches("again_unequal");
    delete_topics(&world.kafka, &world.topics[..1]);
    create_topics(&world.kafka, &world.topics[..1], 2);
    stops(&world, &mut reader, 0, "0..");
}

#[test]
fn another_group_reads_the_new_topics() {
    let (mut world, mut reader) = with_three_batches("again_group");
    reader.stop();
    delete_topics(&world.kafka, &world.topics);
    create_topics(&world.kafka, &world.topics, 1);
    send(&world, 10..20);
    stops(&world, &mut world.reader(&[]), 0, "0..10");
    world.name += "_again";
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("10 batches"), "{said}");
}

#[test]
fn ids_that_an_earlier_version_did_not_store_are_filled_in() {
    let (world, mut reader) = with_three_batches("again_upgrade");
    reader.stop();
    assert_eq!(world.number(ALL_IDS), Some(1));
    world
        .connect()
        .batch_execute("UPDATE sources SET recency_topic_id = NULL, monetary_topic_id = NULL")
        .unwrap();
    let mut readers = [world.reader(&[]), world.reader(&[])];
    send(&world, 3..5);
    world.wait_for_batches(5);
    for reader in &mut readers {
        reader.stop();
    }
    assert_eq!(world.number(ALL_IDS), Some(1));
    delete_topics(&world.kafka, &world.topics[2..]);
    create_topics(&world.kafka, &world.topics[2..], 1);
    send(&world, 10..20);
    world.reader(&[]).fails(1, "was deleted and created again");
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(5));
}

#[test]
fn the_ids_of_topics_that_come_later_are_stored() {
    let world = World::without_topics("ids_later", &crate::world::shared_kafka(), 1);
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("recency 0, frequency 0, monetary 0");
    create_topics(&world.kafka, &world.topics, 1);
    send(&world, 0..3);
    world.wait_for_batches(3);
    reader.stop();
    assert_eq!(world.number(ALL_IDS), Some(1));
}
