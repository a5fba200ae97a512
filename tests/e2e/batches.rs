//! The main job, with nothing in its way.

use crate::kafka::Plain;
use crate::world::{World, wait_for};

#[test]
fn a_thousand_batches_are_stored_as_pandas_scores_them() {
    let world = World::new("thousand", 3);
    world.produce(&["--batches", "1000", "--customers", "100", "--interval", "0", "--seed", "1"]);
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(100_000));
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("1000 batches") && said.contains("100000 rows"), "{said}");
}

#[test]
fn batches_of_all_sizes_are_stored_together() {
    let world = World::new("sizes", 2);
    for customers in ["1", "2", "5", "6", "999", "20000"] {
        world.produce(&["--batches", "2", "--customers", customers, "--interval", "0"]);
    }
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_running_reader_stores_what_comes_and_tells_of_it() {
    let world = World::new("running", 3);
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("took partition");
    world.produce(&["--batches", "5", "--interval", "0"]);
    world.wait_for_batches(5);
    reader.wait_until_it_says("committed batches=");
    assert!(reader.stop().as_secs() < 8);
    assert!(!reader.said().contains("ERROR"), "{}", reader.said());
    world.verify(&[]);
}

#[test]
fn an_idle_reader_stores_progress_past_transaction_markers() {
    let world = World::new("idle", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "1", "--interval", "0"]);
    // One message and one marker in each topic.
    wait_for("progress past the marker", || {
        (world.number("SELECT recency_next + frequency_next + monetary_next FROM progress") == Some(6))
            .then_some(())
    });
    reader.stop();
    world.verify(&["--progress"]);
}

#[test]
fn one_topic_far_ahead_of_the_others_is_waited_for() {
    let world = World::new("ahead", 1);
    let plain = Plain::new(&world.kafka);
    let bodies = |metric: &str, i: i32| format!(r#"{{"{metric}":[{i},{},{}]}}"#, i + 1, i + 2);
    // More than the budget below can hold, and all of it before its partners.
    for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
        for i in 0..3_000 {
            plain.send(topic, 0, Some(i.to_string().as_bytes()), Some(bodies(metric, i).as_bytes()));
        }
        plain.flush();
    }
    world.catch_up(&["--buffer-bytes", "300KiB", "--pairing-timeout", "2s"]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("3000 batches"), "{said}");
}

#[test]
fn an_open_transaction_is_awaited_and_an_aborted_one_passed_over() {
    let world = World::new("transactions", 1);
    let send = |producer: &Plain, key: &str| {
        for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
            producer.send(
                topic,
                0,
                Some(key.as_bytes()),
                Some(format!(r#"{{"{metric}":[1,2,3]}}"#).as_bytes()),
            );
        }
    };
    let aborted = Plain::transactional(&world.kafka, &format!("{}.aborted", world.name));
    aborted.begin();
    send(&aborted, "aborted");
    aborted.flush();
    aborted.abort();
    let open = Plain::transactional(&world.kafka, &format!("{}.open", world.name));
    open.begin();
    send(&open, "open");
    open.flush();
    let plain = Plain::new(&world.kafka);
    send(&plain, "plain");
    plain.flush();

    let mut reader = world.reader(&["--until-caught-up", "--pairing-timeout", "1s"]);
    reader.wait_until_it_says("took partition");
    // Far longer than the pairing timeout: a message behind an open transaction is not missing.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(reader.is_running(), "{}", reader.said());
    open.commit();
    reader.succeeds();
    // It had to catch up with what was there at its start. The marker of `commit` was not.
    let said = world.verify(&["--expect-dead", "0"]);
    assert!(said.contains("2 batches"), "{said}");
}

#[test]
fn own_segments_and_ties_are_stored_with_their_names() {
    let world = World::new("segments", 1);
    let map = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(map.path(), "5. recent\n.. other\n").unwrap();
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&["--segment-map", map.path().to_str().unwrap(), "--ties", "rank"]);
    let named = "SELECT count(*) FROM segments WHERE (segment = 'recent') = (recency_score = 5)";
    assert_eq!(world.number(named), Some(100));
    let recorded = "SELECT count(*) FROM batches WHERE ties = 'rank' AND length(segment_map) = 64";
    assert_eq!(world.number(recorded), Some(1));
}
