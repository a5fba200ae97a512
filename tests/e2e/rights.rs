//! The rights that docs/guide.md lists are enough, and a missing one ends the program and is named.

use crate::security::{Secure, is_refused, properties, user};
use crate::world::{Daemon, Server, World, repository};
use std::process::Command;

/// All users have the same password.
pub const PASSWORD: &str = "s3cret";

/// Gives rights: `USER:OPERATION:RESOURCE:NAME`.
pub fn allow(broker: &Server, rights: &[String]) {
    let python = repository().join("target/python/bin/python");
    let mut command = Command::new(python);
    command.arg(repository().join("tests/python/allow.py")).arg(&broker.address).args(rights);
    let output = command.output().expect("target/python exists: scripts/test makes it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub fn flags_of(name: &str) -> Vec<String> {
    properties(&user("sasl_plaintext", name, PASSWORD))
}

fn reader(world: &World, name: &str) -> Daemon {
    let flags = flags_of(name);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    world.reader(&[&["--until-caught-up"], &flags[..]].concat())
}

fn producer(world: &World, name: &str) -> Daemon {
    let flags = flags_of(name);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    world.producer(&[&["--batches", "2", "--interval", "0"], &flags[..]].concat())
}

/// The rights of users, to which `with` adds.
pub struct Rights<'a>(pub &'a World, pub Vec<String>);

impl Rights<'_> {
    /// One operation on the first topics, in the order recency, frequency, monetary.
    pub fn topics(&mut self, name: &str, operation: &str, count: usize) -> &mut Self {
        let topics = self.0.topics[..count].iter();
        self.1.extend(topics.map(|topic| format!("{name}:{operation}:topic:{topic}")));
        self
    }

    /// Something on what is called like the world: its group, or its transactional id.
    pub fn and(&mut self, name: &str, operation: &str, resource: &str) -> &mut Self {
        self.1.push(format!("{name}:{operation}:{resource}:{}", self.0.name));
        self
    }

    pub fn monetary(&mut self, name: &str, operation: &str) -> &mut Self {
        self.1.push(format!("{name}:{operation}:topic:{}", self.0.topics[2]));
        self
    }
}

#[test]
fn the_least_rights_are_enough_and_each_missing_one_ends_the_program_and_is_named() {
    let names =
        "reader no_group half_reader blind_reader writer no_id half_writer blind_writer looker nobody";
    let users: Vec<String> = names.split(' ').map(|name| format!("{name}:{PASSWORD}")).collect();
    let secure = Secure::start(&users.join(" "));
    let world = secure.world("rights");
    crate::kafka::create_topics(&secure.broker.address, &world.topics, 1);
    let mut rights = Rights(&world, Vec::new());
    rights.topics("reader", "read", 3).and("reader", "read", "group");
    rights.topics("no_group", "read", 3);
    rights.topics("half_reader", "read", 2).monetary("half_reader", "describe");
    rights.and("half_reader", "read", "group");
    rights.topics("blind_reader", "read", 2).and("blind_reader", "read", "group");
    rights.topics("writer", "write", 3).and("writer", "write", "transactional_id");
    rights.topics("no_id", "write", 3);
    rights.topics("half_writer", "write", 2).monetary("half_writer", "describe");
    rights.and("half_writer", "write", "transactional_id");
    rights.topics("blind_writer", "write", 2).and("blind_writer", "write", "transactional_id");
    rights.topics("looker", "describe", 3).and("looker", "write", "transactional_id");
    allow(&secure.broker, &rights.1);

    producer(&world, "writer").succeeds();
    reader(&world, "reader").succeeds();
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2));

    let [recency, frequency, monetary] = &world.topics;
    let id = &world.name;
    let lacks = |right: &str, what: &str| format!("kafka does not allow this user `{right}` on {what}");
    for (name, right) in [
        ("no_group", lacks("Read", &format!("the group `{id}`"))),
        ("half_reader", lacks("Read", &format!("the topic `{monetary}`"))),
        ("blind_reader", lacks("Read", &format!("the topic `{monetary}`"))),
        // The group or a topic: the brokers are asked about both at the same time.
        ("nobody", "kafka does not allow this user `Read` on the ".to_owned()),
    ] {
        is_refused(&mut reader(&world, name), &right);
    }
    // A new group has no position to check, so the first fetch is what is denied.
    let (topics, kafka, database_url) =
        (world.topics.clone(), world.kafka.clone(), world.database_url.clone());
    let fresh = World { name: format!("{}_fresh", world.name), topics, kafka, database_url, partitions: 1 };
    allow(&secure.broker, &[format!("half_reader:read:group:{}", fresh.name)]);
    is_refused(&mut reader(&fresh, "half_reader"), &lacks("Read", &format!("the topic `{monetary}`")));
    for (name, right) in [
        ("no_id", lacks("Write", &format!("the transactional id `{id}`"))),
        ("half_writer", lacks("Write", &format!("the topic `{monetary}`"))),
        ("blind_writer", lacks("Write", &format!("the topic `{monetary}`"))),
        ("looker", lacks("Write", &format!("the topic `{recency}`, `{frequency}`, `{monetary}`"))),
        ("nobody", lacks("Write", &format!("the topic `{recency}`"))),
    ] {
        is_refused(&mut producer(&world, name), &right);
    }
    // What was refused left nothing behind, not even an open transaction.
    reader(&world, "reader").succeeds();
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2));
    assert_eq!(world.number("SELECT count(*) FROM dead_letters"), Some(0));
}

#[test]
fn a_topic_that_cannot_be_created_ends_the_producer_with_its_name_and_the_reason() {
    let secure = Secure::start(&["creator", "writer"].map(|name| format!("{name}:{PASSWORD}")).join(" "));
    let world = secure.world("creation");
    let mut rights = Rights(&world, Vec::new());
    for name in ["creator", "writer"] {
        rights.topics(name, "write", 3).and(name, "write", "transactional_id");
    }
    rights.topics("creator", "create", 3);
    allow(&secure.broker, &rights.1);
    let words = format!("`Create` on the topic `{}`, which does not exist", world.topics[0]);
    is_refused(&mut producer(&world, "writer"), &words);
    producer(&world, "creator").succeeds();

    // A name that no topic can have, for both programs.
    let mut invalid = World::without_topics("invalid", &secure.broker.address, 1);
    invalid.topics[1] = "no good".to_owned();
    is_refused(&mut invalid.producer(&[]), "the brokers do not accept the topic name `no good`");
    is_refused(&mut invalid.reader(&[]), "the brokers do not accept the topic name `no good`");
}

#[test]
fn too_few_brokers_for_the_replicas_end_the_producer_after_a_while() {
    let broker = Server::start_with("scripts/kafka", &[("KAFKA_REPLICAS", "3")], &[]);
    let world = World::without_topics("replicas", &broker.address, 1);
    let mut producer = world.producer(&[]);
    producer.wait_until_it_says("still trying");
    producer.fails(1, &format!("cannot create the topic `{}`", world.topics[0]));
    assert!(producer.said().contains("default.replication.factor"), "{}", producer.said());
}
