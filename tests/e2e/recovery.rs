//! The guarantees about ownership, positions and batches that Postgres refuses.

use crate::kafka::{Plain, delete_records};
use crate::world::{World, wait_for};
use diesel::connection::SimpleConnection;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn a_commit_under_an_older_epoch_writes_nothing_and_the_reader_starts_over() {
    let world = World::new("epoch", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    // As if another reader had taken the partition and this one had not noticed.
    world.connect().batch_execute("UPDATE progress SET epoch = epoch + 1").unwrap();
    world.produce(&["--batches", "1", "--interval", "0"]);
    reader.wait_until_it_says("belongs to another reader now");
    world.wait_for_batches(2);
    // The epoch may be higher: on a busy machine the reader may lose its place in the group and take the
    // partition again.
    assert!(world.number("SELECT epoch FROM progress") >= Some(3));
    reader.stop();
    world.verify(&["--expect-dead", "0"]);
}

#[test]
fn a_frozen_reader_writes_nothing_when_it_wakes() {
    let world = World::new("frozen", 2);
    let mut producer = world.producer(&["--interval", "10ms", "--batches", "600"]);
    let mut frozen = world.reader(&[]);
    frozen.wait_until_it_says("committed");
    frozen.signal("STOP");
    let stored = world.number("SELECT count(*) FROM batches").unwrap();
    let mut heir = world.reader(&[]);
    heir.wait_until_it_says("took partition");
    world.wait_for_batches(stored + 20);
    frozen.signal("CONT");
    producer.succeeds();
    world.wait_for_batches(600);
    frozen.stop();
    heir.stop();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_position_that_the_log_no_longer_has_stops_the_reader() {
    let world = World::new("gone", 1);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    delete_records(&world.kafka, &world.topics[1], 0, 6);
    let mut reader = world.reader(&[]);
    reader.fails(1, "the stored position 2 of the topic");
    let said = reader.said();
    assert!(
        said.contains(&world.topics[1]) && said.contains("partition 0") && said.contains("6..8"),
        "{said}"
    );
    assert!(said.contains("--group-id"), "{said}");
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(1));
}

#[test]
fn other_topics_under_the_same_group_stop_the_reader() {
    let mut world = World::new("other_source", 1);
    world.catch_up(&[]);
    let other = World::new("other_source_too", 1);
    world.topics = other.topics;
    world.reader(&[]).fails(1, "has progress of the topics");
}

#[test]
fn a_group_that_starts_late_starts_at_the_beginning_of_the_log() {
    let world = World::new("late", 1);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    world.topics.iter().for_each(|topic| delete_records(&world.kafka, topic, 0, 2));
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2));
    assert_eq!(world.number("SELECT min(recency_offset) FROM batches"), Some(2));
}

#[test]
fn a_batch_settled_above_progress_is_not_stored_again() {
    let world = World::new("above", 1);
    let plain = Plain::new(&world.kafka);
    let send = |topic: usize, key: &str| {
        let body = format!(r#"{{"{}":[1,2,3]}}"#, ["recency", "frequency", "monetary"][topic]);
        plain.send(&world.topics[topic], 0, Some(key.as_bytes()), Some(body.as_bytes()));
    };
    // `late` lacks its monetary message. In recency it is below `early`, in frequency above it.
    for (topic, key) in [(0, "late"), (0, "early"), (1, "early"), (1, "late"), (2, "early")] {
        send(topic, key);
    }
    plain.flush();
    let mut reader = world.reader(&["--pairing-timeout", "60s"]);
    world.wait_for_batches(1);
    reader.kill_9();
    assert_eq!(world.number("SELECT recency_next FROM progress"), Some(0), "below `early`");
    assert_eq!(world.number("SELECT frequency_next FROM progress"), Some(1), "above `early`");

    send(2, "late");
    plain.flush();
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2));
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_batch_that_postgres_refuses_three_times_stops_the_reader_and_is_named() {
    let world = World::new("poison", 1);
    world.catch_up(&[]);
    world
        .connect()
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.batch_key = 'poison' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON batches FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .unwrap();
    let plain = Plain::new(&world.kafka);
    for key in ["one", "two", "poison", "three"] {
        for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
            plain.send(topic, 0, Some(key.as_bytes()), Some(format!(r#"{{"{metric}":[1,2,3]}}"#).as_bytes()));
        }
    }
    plain.flush();
    let mut reader = world.reader(&[]);
    reader.fails(1, "postgres refused the batch at partition 0, recency offset 2 three times");
    assert!(reader.said().contains("not this one"), "{}", reader.said());

    world.connect().batch_execute("DROP TRIGGER refuse ON batches").unwrap();
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("4 batches"), "{said}");
}

#[test]
fn a_topic_paused_when_the_group_moves_is_read_again() {
    let world = World::new("paused", 2);
    let plain = Plain::new(&world.kafka);
    let body = |metric: &str| format!(r#"{{"{metric}":[1,2,3]}}"#);
    let send = |topic: usize, metric: &str| {
        for i in 0..2_000 {
            plain.send(
                &world.topics[topic],
                i % 2,
                Some(i.to_string().as_bytes()),
                Some(body(metric).as_bytes()),
            );
        }
        plain.flush();
    };
    // Far more than the budget, so the reader pauses recency.
    send(0, "recency");
    let flags = ["--buffer-bytes", "200KiB", "--pairing-timeout", "600s"];
    let mut reader = world.reader(&flags);
    reader.wait_until_it_says("took partition");
    sleep(Duration::from_secs(1));
    let mut other = world.reader(&flags);
    other.wait_until_it_says("took partition");
    other.stop();
    send(1, "frequency");
    send(2, "monetary");
    world.wait_for_batches(2_000);
    reader.stop();
    world.verify(&["--expect-dead", "0"]);
}

#[test]
fn partners_in_another_order_are_found_within_the_budget() {
    let world = World::new("skewed", 1);
    let plain = Plain::new(&world.kafka);
    // One topic is ahead, and each of the others has the keys in its own order.
    let order = |metric: &str| -> Vec<i32> {
        (0..600)
            .map(|i| match metric {
                "recency" => i,
                "frequency" => i ^ 3,
                _ => i ^ 5,
            })
            .collect()
    };
    for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
        for key in order(metric) {
            let body = format!(r#"{{"{metric}":[{key},{}]}}"#, key + 1);
            plain.send(topic, 0, Some(key.to_string().as_bytes()), Some(body.as_bytes()));
        }
        plain.flush();
    }
    world.catch_up(&["--buffer-bytes", "100KiB", "--pairing-timeout", "5s"]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("600 batches"), "{said}");
}

#[test]
fn two_readers_share_the_partitions_and_a_third_of_two_gets_none() {
    let world = World::new("sharing", 2);
    let mut readers: Vec<_> = (0..2).map(|_| world.reader(&[])).collect();
    let holds_one = |reader: &crate::world::Daemon| {
        let said = reader.said();
        let last = said.rfind("gave partitions back").map_or(said.as_str(), |at| &said[at..]);
        last.matches("took partition").count() == 1
    };
    wait_for("one partition each", || readers.iter().all(holds_one).then_some(()));
    let mut third = world.reader(&["--until-caught-up"]);
    world.produce(&["--batches", "10", "--interval", "0"]);
    world.wait_for_batches(10);
    third.succeeds();
    sleep(Duration::from_millis(100));
    for reader in &mut readers {
        reader.stop();
    }
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}
