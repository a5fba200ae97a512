//! What was sent before is found: of each key the newest committed body in each topic, and nothing else.

use crate::kafka::{Plain, create_topics, delete_records, delete_topics};
use crate::rights::{PASSWORD, Rights, allow};
use crate::security::{Secure, user};
use crate::world::{Server, World, random, wait_for};
use rand::RngExt as _;
use rfm_stream::kafka::{Connection, KafkaError, Newest};
use rfm_stream::message::EncodedSnapshot;
use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver};

fn connection(world: &World) -> Connection {
    Connection {
        bootstrap_servers: world.kafka.clone(),
        topics: world.topics.clone().into(),
        properties: Vec::new(),
    }
}

/// A batch whose three bodies begin with these words.
fn batch(key: &str, words: [&str; 3]) -> EncodedSnapshot {
    let bodies = words.map(|word| format!("{word} of {key}").into_bytes());
    EncodedSnapshot { key: key.to_owned(), customers: 1, bodies: bodies.into() }
}

/// Sends a batch to a partition.
fn send(sender: &Plain, world: &World, partition: i32, batch: &EncodedSnapshot) {
    for (topic, body) in world.topics.iter().zip(batch.bodies.values()) {
        sender.send(topic, partition, Some(batch.key.as_bytes()), Some(body));
    }
}

fn keys(batches: &[&EncodedSnapshot]) -> HashSet<String> {
    batches.iter().map(|batch| batch.key.clone()).collect()
}

/// Reads on a thread of its own.
fn read(connection: Connection, batches: &[&EncodedSnapshot]) -> Receiver<Result<Newest, KafkaError>> {
    let (keys, (done, reading)) = (keys(batches), mpsc::channel());
    std::thread::spawn(move || done.send(Newest::read(&connection, &keys)));
    reading
}

/// The result, once it is there.
fn result(reading: &Receiver<Result<Newest, KafkaError>>) -> Result<Newest, KafkaError> {
    wait_for("what was sent before", || reading.try_recv().ok())
}

#[test]
fn the_newest_committed_bodies_of_a_key_are_what_was_sent() {
    let world = World::new("sent", 2);
    let sender = Plain::transactional(&world.kafka, &world.name);
    let [whole, other] = ["whole", "other"].map(|key| batch(key, ["r", "f", "m"]));
    let [old, new] = ["m", "m corrected"].map(|monetary| batch("corrected", ["r", "f", monetary]));
    let (part, aborted) = (batch("part", ["r", "f", "m"]), batch("aborted", ["r", "f", "m"]));
    let all = [&whole, &other, &new, &part, &aborted];
    let none = Newest::read(&connection(&world), &keys(&all)).unwrap();
    assert!(none.is_empty() && !none.has(&whole), "the topics are empty");

    for (partition, batch) in [(0, &whole), (1, &old), (0, &other), (1, &new)] {
        sender.begin();
        send(&sender, &world, partition, batch);
        sender.commit();
    }
    sender.begin();
    sender.send(&world.topics[0], 0, Some(b"part"), Some(&part.bodies.recency));
    sender.commit();
    for batch in [&aborted, &old] {
        sender.begin();
        send(&sender, &world, 1, batch);
        sender.flush();
        sender.abort();
    }
    let sent = Newest::read(&connection(&world), &keys(&all)).unwrap();
    assert_eq!(all.map(|batch| sent.has(batch)), [true, true, true, false, false]);
    assert!(!sent.has(&old), "it was corrected");
    assert_eq!(sent.len(), 4);
    // A key that nobody asked for is not kept.
    assert!(!Newest::read(&connection(&world), &keys(&[&other])).unwrap().has(&whole));
    // What retention has taken away is not there.
    delete_records(&world.kafka, &world.topics[1], 0, 2);
    let sent = Newest::read(&connection(&world), &keys(&all)).unwrap();
    assert_eq!(all.map(|batch| sent.has(batch)), [false, true, true, false, false]);
}

#[test]
fn a_transaction_that_somebody_has_open_is_waited_for() {
    let world = World::new("sent_open", 1);
    let open = Plain::transactional(&world.kafka, &format!("{}.other", world.name));
    open.begin();
    open.send(&world.topics[2], 0, Some(b"theirs"), Some(b"{}"));
    open.flush();
    let ours = batch("ours", ["r", "f", "m"]);
    let sender = Plain::transactional(&world.kafka, &world.name);
    sender.begin();
    send(&sender, &world, 0, &ours);
    sender.commit();
    let reading = read(connection(&world), &[&ours]);
    // The other two topics are read long before.
    assert!(reading.recv_timeout(std::time::Duration::from_secs(3)).is_err(), "it does not wait");
    open.commit();
    assert!(result(&reading).unwrap().has(&ours));
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_a_topic_that_is_gone_is_an_error() {
    let broker = Server::kafka();
    let world = World::without_topics("sent_away", &broker.address, 1);
    create_topics(&world.kafka, &world.topics, 1);
    let ours = batch("ours", ["r", "f", "m"]);
    let sender = Plain::transactional(&world.kafka, &world.name);
    sender.begin();
    send(&sender, &world, 0, &ours);
    sender.commit();
    // A broker that is killed between its answer to the commit and the markers may never write the markers: Kafka 4.3
    // then shows the transaction as complete, and its messages stay behind the last stable offset.
    assert!(Newest::read(&connection(&world), &keys(&[&ours])).unwrap().has(&ours));
    broker.run("kill");
    let reading = read(connection(&world), &[&ours]);
    assert!(reading.recv_timeout(std::time::Duration::from_secs(3)).is_err(), "there is no broker");
    broker.run("start");
    assert!(result(&reading).unwrap().has(&ours));

    let open = Plain::transactional(&world.kafka, &format!("{}.other", world.name));
    open.begin();
    open.send(&world.topics[2], 0, Some(b"theirs"), Some(b"{}"));
    open.flush();
    let reading = read(connection(&world), &[&ours]);
    assert!(reading.recv_timeout(std::time::Duration::from_secs(3)).is_err(), "a transaction is open");
    broker.run("kill");
    assert!(reading.recv_timeout(std::time::Duration::from_secs(3)).is_err(), "there is no broker");
    broker.run("start");
    delete_topics(&world.kafka, &world.topics[2..]);
    let error = result(&reading).unwrap_err();
    assert!(matches!(error, KafkaError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&world.topics[2]), "{error}");
}

#[test]
fn a_range_killed_at_random_moments_leaves_nothing_out_and_sends_nothing_twice() {
    let world = World::new("range_killed", 2);
    let orders =
        "SELECT g AS customer_id, '2020-01-01'::timestamptz + g * interval '1 day' AS ordered_at, 1 AS amount
        FROM generate_series(0, 5000) AS g";
    let flags = ["--orders-url", &world.database_url, "--orders-sql", orders];
    let flags = [&flags[..], &["--as-of", "2020-01-02..2020-03-31/1d"]].concat();
    let mut random = random("range_killed");
    for _ in 0..15 {
        let mut producer = world.producer(&flags);
        wait_for("the first snapshot of this run", || {
            (producer.said().contains("sent key") || !producer.is_running()).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_millis(random.random_range(0..300)));
        producer.kill_9();
    }
    world.produce(&flags);
    // Nothing is left to be sent.
    let mut again = world.producer(&flags);
    again.succeeds();
    assert_eq!(again.said().matches("it is not sent again").count(), 90, "{}", again.said());
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(90));
    assert_eq!(world.number("SELECT count(DISTINCT as_of) FROM batches"), Some(90));
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn the_right_to_read_the_topics_is_enough() {
    let secure = Secure::start(&["reads", "writes"].map(|name| format!("{name}:{PASSWORD}")).join(" "));
    let world = secure.world("sent_rights");
    create_topics(&secure.broker.address, &world.topics, 1);
    let ours = batch("ours", ["r", "f", "m"]);
    let sender = Plain::new(&secure.broker.address);
    send(&sender, &world, 0, &ours);
    sender.flush();
    let mut rights = Rights(&world, Vec::new());
    rights.topics("reads", "read", 3).topics("writes", "write", 3).topics("writes", "read", 2);
    allow(&secure.broker, &rights.1);
    let of = |name: &str| {
        let properties = user("sasl_plaintext", name, PASSWORD);
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Newest::read(&Connection { properties, ..connection(&world) }, &keys(&[&ours]))
    };
    assert!(of("reads").unwrap().has(&ours));
    let denied = of("writes").unwrap_err().to_string();
    let expected = format!("kafka does not allow this user `Read` on the topic `{}`", world.topics[2]);
    assert_eq!(denied, expected);
}
