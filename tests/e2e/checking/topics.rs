//! What can be wrong with the topics, the group, and the rights in Kafka.

use super::Checked;
use crate::kafka::{Plain, create_topics, delete_records, set_topic};
use crate::membership::{beside, stranger};
use crate::rights::{PASSWORD, Rights, allow, flags_of};
use crate::security::Secure;
use crate::world::{World, shared_kafka, wait_for};
use chrono::Utc;
use rdkafka::consumer::Consumer as _;

#[test]
fn topics_that_lose_messages_or_take_none_are_named() {
    let world = World::healthy("check_topics", 1);
    let [recency, frequency, monetary] = &world.topics;
    let keep = ("retention.ms", "-1");
    let cases = [
        (recency, vec![("retention.ms", "604800000")], format!("`{recency}` keeps messages for 7 days")),
        (frequency, vec![keep, ("retention.bytes", "1000000")], format!("`{frequency}` keeps 1000000 bytes")),
        (monetary, vec![keep, ("cleanup.policy", "compact")], format!("`{monetary}` is compacted")),
    ];
    for (topic, settings, words) in cases {
        set_topic(&world.kafka, topic, &settings);
        world.check_reader(&[]).has_only("warn", "retention", &words);
        set_topic(&world.kafka, topic, &[keep]);
    }
    set_topic(&world.kafka, frequency, &[keep, ("max.message.bytes", "2000")]);
    world.check_producer(&[]).is_all_ok();
    let words = format!("`{frequency}` takes 2000 bytes (max.message.bytes)");
    world.check_producer(&["--customers", "400"]).has_only("FAILED", "message size", &words);
    let compressed = ["--customers", "400", "--kafka-property", "compression.type=zstd"];
    world.check_producer(&compressed).has_only("warn", "message size", &words);
    let small = ["--customers", "200", "--kafka-property", "message.max.bytes=1000"];
    world.check_producer(&small).has_only(
        "FAILED",
        "message size",
        "message.max.bytes of this client allows 1000",
    );
    set_topic(&world.kafka, monetary, &[keep, ("min.insync.replicas", "2")]);
    world.check_producer(&[]).has_only("FAILED", "replicas", "min.insync.replicas is 2");
    set_topic(&world.kafka, monetary, &[keep]);
    let long = ["--kafka-property", "transaction.timeout.ms=86400000"];
    world.check_producer(&long).has_only("FAILED", "transactional id", "the brokers accept 900000 at most");
}

#[test]
fn positions_that_retention_has_removed_are_named_and_so_is_what_a_new_group_cannot_have() {
    let world = World::healthy("check_removed", 1);
    delete_records(&world.kafka, &world.topics[1], 0, 2);
    world.check_reader(&[]).is_all_ok();
    let new = World {
        name: "a-new-group".to_owned(),
        kafka: world.kafka.clone(),
        database_url: world.database_url.clone(),
        topics: world.topics.clone(),
        partitions: 1,
    };
    new.check_reader(&[]).has_only(
        "warn",
        "positions",
        &format!("the log of `{}`, partition 0, begins at 2", world.topics[1]),
    );
    let mut connection = world.connect();
    diesel::connection::SimpleConnection::batch_execute(
        &mut connection,
        "UPDATE progress SET frequency_next = 0",
    )
    .unwrap();
    world.check_reader(&[]).has_only("FAILED", "positions", "the stored position 0");
}

#[test]
fn topics_that_do_not_fit_together_are_named_by_both_programs() {
    let world = World::without_topics("check_counts", &shared_kafka(), 1);
    let [recency, frequency, monetary] = &world.topics;
    create_topics(&world.kafka, &[recency.clone(), frequency.clone()], 2);
    let checked = world.check_reader(&[]);
    checked.has("FAILED", "topics", &format!("missing: `{monetary}`"));
    checked.has("skipped", "leaders", "topics are missing");
    assert!(!checked.said.contains("do not fit together"), "{}", checked.said);
    world.check_producer(&[]).has("ok", "topics", "with 2 partitions");
    create_topics(&world.kafka, std::slice::from_ref(monetary), 1);
    for checked in [world.check_reader(&[]), world.check_producer(&[])] {
        checked.has("FAILED", "topics", "the partition counts differ: recency 2, frequency 2, monetary 1");
        checked.has("skipped", "leaders", "do not fit together");
    }
    let invalid = World { topics: ["a", "no good", "c"].map(str::to_owned), ..world };
    invalid.check_producer(&[]).has("FAILED", "topics", "do not accept the topic name `no good`");
}

#[test]
fn a_member_that_is_no_reader_and_messages_from_the_future_are_named() {
    let world = World::healthy("check_member", 2);
    let stranger = stranger(&world, "range");
    beside(&stranger, || {
        wait_for("the other member to get partitions", || {
            stranger.assignment().is_ok_and(|taken| taken.count() > 0).then_some(())
        });
        world.check_reader(&[]).has_only("FAILED", "members of the group", "`dashboard` at 127.0.0.1");
    });
    drop(stranger);
    let plain = Plain::new(&world.kafka);
    let soon = Utc::now().timestamp_millis() + 600_000;
    plain.send_at(&world.topics[2], 1, Some(b"k"), Some(b"{}"), Some(soon));
    plain.flush();
    let words = format!("`{}`, partition 1, is from the future, by a minute or more", world.topics[2]);
    world.check_reader(&[]).has_only("warn", "times of messages", &words);
    world.check_producer(&[]).has_only("warn", "times of messages", &words);
}

#[test]
fn brokers_that_do_not_answer_are_named_and_only_what_needs_them_is_left_out() {
    let world = World::healthy("check_away", 1);
    let away =
        World { kafka: "127.0.0.1:1".into(), ..World::without_topics("check_nobody", "127.0.0.1:1", 1) };
    let checked = away.check_reader(&["--database-url", &world.database_url]);
    checked.has_only("FAILED", "brokers", "no broker answers at 127.0.0.1:1");
    checked.has("skipped", "retention", "");
    checked.has("ok", "commit", "");
    away.check_producer(&[]).has_only("FAILED", "brokers", "Connection refused");
}

/// What a user sees with this password.
fn checked_by(world: &World, name: &str, password: &str, ask: fn(&World, &[&str]) -> Checked) -> Checked {
    let flags: Vec<String> =
        flags_of(name).into_iter().map(|flag| flag.replace(PASSWORD, password)).collect();
    ask(world, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Rights in Kafka, as the names of the users say.
fn give_rights(secure: &Secure, world: &World, missing: &World) {
    let mut rights = Rights(world, Vec::new());
    for name in ["reader", "no_group", "describer"] {
        rights.topics(name, "read", 3);
    }
    rights.topics("half_reader", "read", 2).monetary("half_reader", "describe");
    rights.and("reader", "read", "group").and("half_reader", "read", "group");
    // It may look at the group and not join it.
    rights.and("describer", "describe", "group").topics("describer", "describe_configs", 3);
    rights.topics("writer", "write", 3).topics("no_id", "write", 3).topics("half_writer", "write", 2);
    rights.monetary("half_writer", "describe").topics("writer", "describe_configs", 3);
    rights.and("writer", "write", "transactional_id").and("half_writer", "write", "transactional_id");
    let mut creating = Rights(missing, Vec::new());
    creating.topics("creator", "create", 3).topics("creator", "write", 3).topics("writer", "write", 3);
    allow(&secure.broker, &[rights.1, creating.1].concat());
}

#[test]
fn each_right_that_is_missing_in_kafka_is_named() {
    let users = "reader no_group half_reader describer writer no_id half_writer creator";
    let users: Vec<String> = users.split(' ').map(|name| format!("{name}:{PASSWORD}")).collect();
    let secure = Secure::start(&users.join(" "));
    let (world, missing) = (secure.world("check_acls"), secure.world("check_acls_missing"));
    let broker = &secure.broker.address;
    create_topics(broker, &world.topics, 1);
    world.topics.iter().for_each(|topic| set_topic(broker, topic, &[("retention.ms", "-1")]));
    give_rights(&secure, &world, &missing);

    let reader = |name: &str| checked_by(&world, name, PASSWORD, World::check_reader);
    let producer = |world: &World, name: &str| checked_by(world, name, PASSWORD, World::check_producer);
    let monetary = format!("on the topic `{}`", world.topics[2]);
    // The least rights are enough to work, and not to ask for settings.
    reader("reader").has_only("warn", "retention", "do not tell this user the settings of the topics");
    let group = format!("`Read` on the group `{}`", world.name);
    reader("no_group").has("FAILED", "right on the group", &group);
    let described = reader("describer");
    described.has("FAILED", "right on the group", &group);
    described.has("ok", "retention", "");
    reader("half_reader").has("FAILED", "right on the topics", &format!("`Read` {monetary}"));
    // Whoever may not see the longest transaction that the brokers accept does not ask about the id.
    let asked = producer(&world, "writer");
    asked.has("skipped", "transactional id", "do not tell this user transaction.max.timeout.ms");
    assert!(asked.code == Some(0) && !asked.said.contains("\nwarn "), "{}", asked.said);
    let describe = ["writer", "no_id"].map(|name| format!("{name}:describe_configs:broker:kafka-cluster"));
    allow(&secure.broker, &describe);
    producer(&world, "writer").is_all_ok();
    let id = format!("`Write` on the transactional id `{}`", world.name);
    producer(&world, "no_id").has("FAILED", "transactional id", &id);
    producer(&world, "half_writer").has("FAILED", "right on the topics", &format!("`Write` {monetary}"));
    producer(&missing, "creator").has("ok", "topics", "creates");
    producer(&missing, "writer").has("FAILED", "topics", "`Create` on the topic");
    let wrong = checked_by(&world, "reader", "wrong", World::check_reader);
    wrong.has("FAILED", "brokers", "Invalid username or password");
}
