//! `--until-caught-up`: it ends once the group has stored what was there at its start, and says what it waits
//! for until then.

use crate::kafka::{Plain, add_partitions, create_topics};
use crate::world::{Daemon, World, wait_for};
use diesel::connection::SimpleConnection;

const BATCHES: &str = "SELECT count(*) FROM batches";

fn until_caught_up(world: &World) -> Daemon {
    world.reader(&["--until-caught-up", "--pairing-timeout", "1s"])
}

/// Three messages with one key, without a transaction. With `null` among the values they cannot be scored.
fn send(world: &World, partition: i32, key: &str, value: &str) {
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
        let body = format!(r#"{{"{metric}":[{value}]}}"#);
        plain.send(topic, partition, Some(key.as_bytes()), Some(body.as_bytes()));
    }
    plain.flush();
}

#[test]
fn a_reader_without_a_partition_waits_for_the_one_that_holds_it_and_names_it() {
    let world = World::new("caught_others", 1);
    let mut holder = world.reader(&["--kafka-property", "client.id=holder-7"]);
    holder.wait_until_it_says("took partition");
    // The holder can read, and cannot store.
    let mut locking = world.connect();
    locking.batch_execute("BEGIN; LOCK TABLE segments IN EXCLUSIVE MODE").unwrap();
    world.produce(&["--batches", "5", "--interval", "0"]);
    let mut waiting = until_caught_up(&world);
    waiting.wait_until_it_says("waiting to catch up: partition 0 at 0/0/0 of ");
    waiting.wait_until_it_says("held by `holder-7` at 127.0.0.1");
    assert!(waiting.is_running() && world.number(BATCHES) == Some(0), "{}", waiting.said());
    locking.batch_execute("COMMIT").unwrap();
    waiting.succeeds();
    assert_eq!(world.number(BATCHES), Some(5));
    holder.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn of_two_readers_neither_ends_before_the_other_has_stored_its_part() {
    const LOCK: i64 = 4711;
    let world = World::new("caught_two", 3);
    // Nobody can store a batch of partition 2 while the test holds a lock.
    world.catch_up(&[]);
    let mut locking = world.connect();
    let block = format!(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NEW; END';
         CREATE TRIGGER wait BEFORE INSERT ON batches FOR EACH ROW WHEN (NEW.partition = 2) EXECUTE FUNCTION wait();
         SELECT pg_advisory_lock({LOCK})"
    );
    locking.batch_execute(&block).unwrap();
    world.produce(&["--batches", "30", "--interval", "0"]);
    let mut readers = [until_caught_up(&world), until_caught_up(&world)];
    wait_for("a reader that waits for the other", || {
        let waits = |reader: &Daemon| {
            reader.said().lines().any(|line| {
                line.contains("waiting to catch up: partition 2 at ")
                    && line.contains("held by `rfm-reader` at 127.0.0.1")
            })
        };
        readers.iter().any(waits).then_some(())
    });
    assert!(readers.iter_mut().all(Daemon::is_running), "{}\n{}", readers[0].said(), readers[1].said());
    locking.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).unwrap();
    for reader in &mut readers {
        reader.succeeds();
        assert_eq!(world.number(BATCHES), Some(30), "{}", reader.said());
    }
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_reader_beside_one_that_goes_on_ends_once_both_have_stored_all() {
    let world = World::new("caught_beside", 3);
    let mut other = world.reader(&[]);
    other.wait_until_it_says("took partition");
    // Transactions end in markers, which an idle reader stores a second later.
    world.produce(&["--batches", "30", "--interval", "0"]);
    let mut reader = until_caught_up(&world);
    reader.succeeds();
    assert_eq!(world.number(BATCHES), Some(30));
    assert!(other.is_running());
    world.produce(&["--batches", "3", "--interval", "0"]);
    world.wait_for_batches(33);
    other.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn dead_letters_between_the_start_and_the_marks_end_it_with_3() {
    let world = World::new("caught_letters", 2);
    send(&world, 0, "sound", "1, 2");
    send(&world, 1, "bad", "1, null");
    let mut first = until_caught_up(&world);
    assert_eq!(first.exit_code(), Some(3), "{}", first.said());
    assert!(first.said().contains("caught up, with messages that were not scored"), "{}", first.said());
    assert!(
        first.said().contains("batches=1 customers=2 dead_letters=3 s=") && !first.said().contains("error:"),
        "{}",
        first.said()
    );
    // They lie before the start of the next run.
    until_caught_up(&world).succeeds();
    send(&world, 0, "sound too", "3, 4");
    until_caught_up(&world).succeeds();

    // Letters of another reader count.
    let mut other = world.reader(&[]);
    wait_for("both partitions", || (other.said().matches("took partition").count() == 2).then_some(()));
    let mut locking = world.connect();
    locking.batch_execute("BEGIN; LOCK TABLE dead_letters IN EXCLUSIVE MODE").unwrap();
    send(&world, 0, "bad too", "null");
    send(&world, 1, "bad too", "null");
    let mut reader = until_caught_up(&world);
    reader.wait_until_it_says("took partition");
    locking.batch_execute("COMMIT").unwrap();
    assert_eq!(reader.exit_code(), Some(3), "{}", reader.said());
    assert!(reader.said().contains("dead_letters=6"), "{}", reader.said());
    other.stop();
}

#[test]
fn topics_that_are_missing_or_unequal_are_waited_for() {
    let world = World::new("caught_topics", 2);
    let other = World::without_topics("caught_missing", &world.kafka, 1);
    let mut reader = until_caught_up(&other);
    reader.wait_until_it_says("waiting for the topics, which must all exist");
    create_topics(&other.kafka, &other.topics, 1);
    add_partitions(&other.kafka, &other.topics[0], 2);
    reader.wait_until_it_says("whose partition counts must be equal");
    assert!(reader.is_running(), "{}", reader.said());
    other.topics[1..].iter().for_each(|topic| add_partitions(&other.kafka, topic, 2));
    send(&other, 1, "late", "1, 2");
    reader.succeeds();
    // Nothing was ever committed to these partitions, and they are empty.
    until_caught_up(&world).succeeds();
}

#[test]
fn an_open_transaction_is_waited_for_and_said_in_one_line() {
    let world = World::new("caught_open", 1);
    let open = Plain::transactional(&world.kafka, &world.name);
    open.begin();
    for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
        open.send(topic, 0, Some(b"k"), Some(format!(r#"{{"{metric}":[1,2]}}"#).as_bytes()));
    }
    open.flush();
    let mut reader = until_caught_up(&world);
    let line = "waiting for the end of a transaction that a producer has open";
    wait_for("the line and the next one", || (reader.said().matches(line).count() == 2).then_some(()));
    open.commit();
    reader.succeeds();
    assert!(!reader.said().contains("waiting to catch up"), "{}", reader.said());
    assert_eq!(world.number(BATCHES), Some(1));
}
