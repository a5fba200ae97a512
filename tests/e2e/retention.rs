//! Retention removes everything that was read, including transaction markers, which are no messages.

use crate::kafka::delete_records;
use crate::world::{World, wait_for};
use diesel::connection::SimpleConnection;

/// Removes everything that the topics have, markers included.
fn retention_passes(world: &World, high: i64) {
    world.topics.iter().for_each(|topic| delete_records(&world.kafka, topic, 0, high));
}

/// Stores three batches. Each is a message and a marker per topic.
fn store_three(world: &World) -> crate::world::Daemon {
    let reader = world.reader(&[]);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    world.wait_for_batches(3);
    reader
}

/// A new reader goes on, and stores what comes next at its offsets.
fn goes_on(world: &World) {
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("from=6/6/6");
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    world.wait_for_batches(5);
    reader.stop();
    let stored = "SELECT count(*) FROM batches WHERE recency_offset IN (0, 2, 4, 6, 8)
        AND frequency_offset = recency_offset AND monetary_offset = recency_offset AND customers = 100";
    assert_eq!(world.number(stored), Some(5));
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(500));
    assert_eq!(world.number("SELECT count(*) FROM dead_letters"), Some(0));
    let next = "SELECT recency_next FROM progress WHERE (recency_next, frequency_next, monetary_next) = (10, 10, 10)";
    assert_eq!(world.number(next), Some(10));
}

fn wait_for_progress(world: &World, next: i64) {
    let query = "SELECT least(recency_next, frequency_next, monetary_next) FROM progress";
    wait_for("progress past the marker", || (world.number(query) == Some(next)).then_some(()));
}

#[test]
fn a_reader_that_was_stopped_goes_on_after_retention_took_the_last_marker() {
    let world = World::new("markers_stop", 1);
    let mut reader = store_three(&world);
    wait_for_progress(&world, 6);
    reader.stop();
    retention_passes(&world, 6);
    goes_on(&world);
}

#[test]
fn a_reader_that_was_idle_and_killed_goes_on_after_retention_took_the_last_marker() {
    let world = World::new("markers_kill", 1);
    let mut reader = store_three(&world);
    wait_for_progress(&world, 6);
    reader.kill_9();
    retention_passes(&world, 6);
    goes_on(&world);
}

#[test]
fn a_reader_stopped_right_after_a_commit_goes_on_after_retention_took_the_last_marker() {
    let world = World::new("markers_at_once", 1);
    store_three(&world).stop();
    retention_passes(&world, 6);
    goes_on(&world);
}

#[test]
fn a_commit_stores_progress_behind_the_marker_of_its_batch() {
    let world = World::new("markers_commit", 1);
    world.catch_up(&[]);
    // Records progress at the commit of a batch: 1 is the marker, 2 is behind it.
    let at_commit = "CREATE TABLE behind (least bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO behind SELECT least(recency_next - NEW.recency_offset,
                frequency_next - NEW.frequency_offset, monetary_next - NEW.monetary_offset) FROM progress;
            RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER note AFTER INSERT ON batches DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION note();";
    world.connect().batch_execute(at_commit).unwrap();
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("took partition");
    world.produce(&["--batches", "100", "--interval", "20ms"]);
    world.wait_for_batches(100);
    reader.stop();
    // Not always: the brokers may send a message and its marker one after the other.
    let behind = world.number("SELECT count(*) FROM behind WHERE least >= 2").unwrap();
    assert!(behind >= 90, "{behind} of 100");
}
