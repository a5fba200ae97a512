//! Logs that lose messages after they were read, and use their offsets again.

use crate::topics::send;
use crate::world::{Daemon, Server, World, connect, wait_for};
use diesel::connection::SimpleConnection;
use std::process::Command;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// The reader ends, and says what happened and what to do. Another reader says the same, however far the log
/// has grown by then. Nothing of the new log is stored.
fn stops_for_good(world: &World, mut reader: Daemon, stored: i64, words: &str) {
    for _ in 0..2 {
        reader.fails(1, "was cut below what is stored");
        let said = reader.said();
        let topic = world.topics.iter().any(|topic| said.contains(&format!("topic `{topic}`")));
        assert!(topic && said.contains("partition 0") && said.contains("--group-id"), "{said}");
        assert!(said.contains(words), "expected `{words}`: {said}");
        assert_eq!(world.number("SELECT count(*) FROM batches"), Some(stored), "{said}");
        assert_eq!(world.number("SELECT count(*) FROM dead_letters"), Some(0), "{said}");
        send(world, 1_000..1_020);
        reader = world.reader(&[]);
    }
    reader.fails(1, "was cut below what is stored");
    let kept = "SELECT count(*) FROM progress WHERE log_cut LIKE '%was cut below what is stored%'";
    assert_eq!(world.number(kept), Some(1));
}

/// Topics of one partition, on two of the three brokers, the first of which leads. They are configured to
/// lose messages rather than be unavailable.
fn create_careless_topics(brokers: &[Server; 3], topics: &[String]) {
    for topic in topics {
        let careless = ["unclean.leader.election.enable=true", "min.insync.replicas=1"];
        let create = ["--create", "--topic", topic, "--replica-assignment", "1:2"];
        let configs = careless.iter().flat_map(|config| ["--config", config]);
        brokers[0].tool(TOPICS, &create.into_iter().chain(configs).collect::<Vec<_>>());
    }
}

fn describe(broker: &Server, topic: &str) -> String {
    broker.tool(TOPICS, &["--describe", "--topic", topic])
}

fn three_brokers(name: &str) -> ([Server; 3], World) {
    let brokers = Server::three_kafkas();
    let addresses = brokers.each_ref().map(|broker| broker.address.as_str()).join(",");
    let world = World::without_topics(name, &addresses, 1);
    create_careless_topics(&brokers, &world.topics);
    (brokers, world)
}

/// Stores five batches that both replicas have, and five that only broker 1 has. Then broker 1 dies, and
/// broker 2, which never saw the last five, leads.
fn lose_the_last_five(brokers: &[Server; 3], world: &World) {
    send(world, 0..5);
    world.wait_for_batches(5);
    brokers[1].run("stop");
    send(world, 5..10);
    world.wait_for_batches(10);
    wait_for("progress", || {
        (world.number("SELECT min(recency_next) FROM progress") == Some(10)).then_some(())
    });
}

fn elect_uncleanly(brokers: &[Server; 3], world: &World) {
    brokers[0].run("kill");
    brokers[1].run("start");
    wait_for("an unclean election", || {
        let led = |topic: &String| describe(&brokers[2], topic).contains("Leader: 2");
        world.topics.iter().all(led).then_some(())
    });
}

#[test]
fn an_unclean_election_stops_a_reader_that_comes_later_and_a_clean_one_does_not() {
    let (brokers, world) = three_brokers("unclean_later");
    let mut reader = world.reader(&[]);
    send(&world, 0..5);
    world.wait_for_batches(5);
    // A clean one first: broker 2 has everything that broker 1 has.
    brokers[0].run("kill");
    wait_for("broker 2 to lead", || {
        let led = |topic: &String| describe(&brokers[2], topic).contains("Leader: 2");
        world.topics.iter().all(led).then_some(())
    });
    send(&world, 5..10);
    world.wait_for_batches(10);
    reader.stop();
    brokers[0].run("start");
    wait_for("broker 1 to catch up", || {
        let caught_up = |topic: &String| {
            ["Isr: 1,2", "Isr: 2,1"].iter().any(|isr| describe(&brokers[2], topic).contains(isr))
        };
        world.topics.iter().all(caught_up).then_some(())
    });
    let elect = ["--election-type", "preferred", "--all-topic-partitions"];
    brokers[2].tool("org.apache.kafka.tools.LeaderElectionCommand", &elect);
    let mut reader = world.reader(&[]);
    send(&world, 10..15);
    world.wait_for_batches(15);
    wait_for("progress", || {
        (world.number("SELECT min(recency_next) FROM progress") == Some(15)).then_some(())
    });
    let epochs = "SELECT count(*) FROM progress WHERE recency_leader_epoch > 0 AND frequency_leader_epoch > 0
        AND monetary_leader_epoch > 0";
    assert_eq!(world.number(epochs), Some(1), "{}", reader.said());
    brokers[1].run("stop");
    send(&world, 15..20);
    world.wait_for_batches(20);
    wait_for("progress", || {
        (world.number("SELECT min(recency_next) FROM progress") == Some(20)).then_some(())
    });
    reader.stop();
    elect_uncleanly(&brokers, &world);
    // As many as were lost, and more.
    send(&world, 100..120);
    stops_for_good(&world, world.reader(&[]), 20, "leader epoch");
}

#[test]
fn an_unclean_election_stops_a_reader_that_is_at_work() {
    let (brokers, world) = three_brokers("unclean_live");
    let reader = world.reader(&["--kafka-property", "session.timeout.ms=20000"]);
    lose_the_last_five(&brokers, &world);
    elect_uncleanly(&brokers, &world);
    send(&world, 100..120);
    stops_for_good(&world, reader, 10, "partition 0");
}

fn copy(from: &str, to: &str) {
    assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success());
}

/// Ten batches are stored; then the broker is restored to its state after the first five.
fn restore_after_five(broker: &Server, world: &World, before: impl FnOnce()) {
    let data = broker.path.join("data").to_str().unwrap().to_owned();
    send(world, 0..5);
    world.wait_for_batches(5);
    broker.run("stop");
    copy(&data, &format!("{data}.old"));
    broker.run("start");
    send(world, 5..10);
    world.wait_for_batches(10);
    wait_for("progress", || {
        (world.number("SELECT min(recency_next) FROM progress") == Some(10)).then_some(())
    });
    before();
    broker.run("stop");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&format!("{data}.old"), &data);
    broker.run("start");
}

fn one_broker(name: &str) -> (Server, World) {
    let broker = Server::kafka();
    let world = World::without_topics(name, &broker.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    (broker, world)
}

/// The leader epochs go back in time with the log, so they do not show the cut.
#[test]
fn a_broker_restored_from_an_old_copy_stops_a_reader_that_comes_later() {
    let (broker, world) = one_broker("restored");
    let mut reader = world.reader(&["--kafka-property", "session.timeout.ms=6000"]);
    restore_after_five(&broker, &world, || {
        reader.kill_9();
    });
    // Beyond its position.
    send(&world, 100..120);
    stops_for_good(&world, world.reader(&[]), 10, "another one with another key");
}

#[test]
fn a_broker_restored_from_an_old_copy_stops_a_reader_that_is_at_work() {
    let (broker, world) = one_broker("restored_live");
    let reader = world.reader(&["--kafka-property", "session.timeout.ms=6000"]);
    restore_after_five(&broker, &world, || {});
    stops_for_good(&world, reader, 10, "it was read up to 10, and it holds 0..5");
}

/// A key above progress that differs from the one in the tables is noticed when it is read again.
#[test]
fn a_message_that_is_passed_over_has_the_key_that_is_stored() {
    let world = World::new("passed", 1);
    send(&world, 0..5);
    world.catch_up(&[]);
    let back = "UPDATE progress SET recency_next = 0, frequency_next = 0, monetary_next = 0,
        recency_leader_epoch = NULL, frequency_leader_epoch = NULL, monetary_leader_epoch = NULL";
    connect(&world.database_url).batch_execute(back).unwrap();
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(5), "read again and passed over");
    let other = format!("{back}; UPDATE batches SET batch_key = 'other' WHERE frequency_offset = 3");
    connect(&world.database_url).batch_execute(&other).unwrap();
    stops_for_good(&world, world.reader(&[]), 5, "the message at 3 is stored, and another one");
}

/// A log that ends before a message that is settled.
#[test]
fn a_settled_message_above_the_end_of_the_log_stops_the_reader() {
    let world = World::new("above", 1);
    send(&world, 0..5);
    world.catch_up(&[]);
    let above = "UPDATE progress SET recency_next = 0; UPDATE batches SET recency_offset = 7 WHERE recency_offset = 4";
    connect(&world.database_url).batch_execute(above).unwrap();
    stops_for_good(&world, world.reader(&[]), 5, "the message at 7 is stored, and it holds 0..5");
}
