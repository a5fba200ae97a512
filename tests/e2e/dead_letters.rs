//! What cannot be scored is kept with its bytes, and does its neighbours no harm.

use crate::kafka::Plain;
use crate::world::World;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bytea, Nullable, Text};

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

#[derive(Debug, PartialEq, QueryableByName)]
struct Letter {
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Nullable<Bytea>)]
    key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    value: Option<Vec<u8>>,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Text)]
    detail: String,
    #[diesel(sql_type = BigInt)]
    offset: i64,
}

fn letters(world: &World) -> Vec<Letter> {
    let query =
        "SELECT topic, key, value, reason, detail, \"offset\" FROM dead_letters ORDER BY topic, \"offset\"";
    diesel::sql_query(query).load(&mut world.connect()).unwrap()
}

fn sound(metric: &str) -> String {
    format!(r#"{{"{metric}":[1,2,3,4,5,6]}}"#)
}

/// A batch whose recency message is `bad`, between two sound ones. `ties` are further flags of the reader.
fn refused_between_neighbours(reason: &str, bad: Option<&[u8]>, flags: &[&str]) {
    let world = World::new(&format!("letter_{reason}"), 1);
    let plain = Plain::new(&world.kafka);
    for key in ["before", "bad", "after"] {
        for (topic, metric) in world.topics.iter().zip(METRICS) {
            let sound = sound(metric);
            let value = if key == "bad" && metric == "recency" { bad } else { Some(sound.as_bytes()) };
            plain.send(topic, 0, Some(key.as_bytes()), value);
        }
    }
    plain.flush();
    let reader = world.catch_up(flags);

    check_letters(reason, bad, &letters(&world));
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2), "{reason}: the neighbours");
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(12), "{reason}: the neighbours");
    assert_eq!(
        world.number("SELECT sum(recency_next + frequency_next + monetary_next) FROM progress"),
        Some(9)
    );
    let said = reader.said();
    assert_eq!(said.matches("dead letter").count(), 3, "one line each:\n{said}");
    let fields = format!("topic=\"{}\" partition=0 offset=1 reason=\"{reason}\"", world.topics[0]);
    assert!(said.contains(&fields), "{said}");
}

/// Three letters of one reason, each with the bytes that were sent.
fn check_letters(reason: &str, bad: Option<&[u8]>, letters: &[Letter]) {
    assert_eq!(letters.len(), 3, "{reason}: {letters:?}");
    for letter in letters {
        assert_eq!((letter.reason.as_str(), letter.offset), (reason, 1), "{letter:?}");
        assert_eq!(letter.key.as_deref(), Some(b"bad".as_slice()));
        assert_eq!(letter.detail, letters[0].detail);
        let is_bad = letter.topic.ends_with("recency");
        let sound = METRICS.iter().find(|metric| letter.topic.ends_with(*metric)).map(|metric| sound(metric));
        let expected = if is_bad { bad.map(<[u8]>::to_vec) } else { sound.map(String::into_bytes) };
        assert_eq!(letter.value, expected, "{reason}: the bytes are kept");
    }
}

#[test]
fn every_reason_keeps_the_bytes_and_spares_the_neighbours() {
    type Case = (&'static str, Option<&'static [u8]>, &'static [&'static str]);
    let cases: [Case; 10] = [
        ("malformed", None, &[]),
        ("bad_field", Some(br#"{"frequency":[1,2,3,4,5,6]}"#), &[]),
        ("not_finite", Some(br#"{"recency":[1,2,NaN,4,5,6]}"#), &[]),
        ("empty", Some(br#"{"recency":[]}"#), &[]),
        ("length_mismatch", Some(br#"{"recency":[1,2]}"#), &[]),
        (
            "bad_customer_id",
            Some(br#"{"recency":[1,2,3,4,5,6],"customer_id":["a","b","c","d","e","f\u0000"]}"#),
            &[],
        ),
        ("bad_as_of", Some(br#"{"recency":[1,2,3,4,5,6],"as_of":"yesterday"}"#), &[]),
        ("bad_population", Some(br#"{"recency":[1,2,3,4,5,6],"population":7}"#), &[]),
        ("tied_edges", Some(br#"{"recency":[1,1,1,1,1,6]}"#), &["--ties", "reject"]),
        ("malformed", Some(b"\xff\xfe"), &[]),
    ];
    for (reason, bad, flags) in cases {
        refused_between_neighbours(reason, bad, flags);
    }
}

#[test]
fn a_batch_above_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let long = format!(r#"{{"recency":[{}]}}"#, "1,".repeat(6) + "1");
    let world = World::new("letter_too_large", 1);
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(METRICS) {
        plain.send(topic, 0, Some(b"small"), Some(sound(metric).as_bytes()));
        plain.send(topic, 0, Some(b"large"), Some(long.replace("recency", metric).as_bytes()));
    }
    plain.flush();
    world.catch_up(&["--max-customers", "6"]);
    assert_eq!(letters(&world).iter().map(|l| l.reason.as_str()).collect::<Vec<_>>(), ["too_large"; 3]);
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(6));
}

#[test]
fn a_message_without_partners_is_given_up_alone() {
    let world = World::new("letter_unpaired", 2);
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(METRICS) {
        plain.send(topic, 0, Some(b"whole"), Some(sound(metric).as_bytes()));
        if metric != "monetary" {
            plain.send(topic, 0, Some(b"torn"), Some(sound(metric).as_bytes()));
        }
        plain.send(topic, 0, Some(b"whole too"), Some(sound(metric).as_bytes()));
    }
    plain.flush();
    world.catch_up(&["--pairing-timeout", "1s"]);
    let letters = letters(&world);
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in letters {
        assert_eq!((letter.reason.as_str(), letter.key.as_deref()), ("unpaired", Some(b"torn".as_slice())));
        assert!(letter.detail.contains("monetary"), "{}", letter.detail);
    }
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(2));
}

#[test]
fn two_partitioners_are_told_by_the_keys_that_they_place_differently() {
    let world = World::new("letter_partitioners", 3);
    let [java, librdkafka] = ["murmur2_random", "consistent_random"]
        .map(|partitioner| Plain::partitioning(&world.kafka, partitioner));
    for key in 0..20 {
        for (topic, metric) in world.topics.iter().zip(METRICS) {
            let plain = if metric == "recency" { &java } else { &librdkafka };
            plain.send(topic, -1, Some(format!("key {key}").as_bytes()), Some(sound(metric).as_bytes()));
        }
    }
    [java, librdkafka].iter().for_each(Plain::flush);
    world.catch_up(&["--pairing-timeout", "1s"]);
    let letters = letters(&world);
    assert!(letters.len() >= 3, "{letters:?}");
    for letter in letters {
        let words = if letter.topic == world.topics[0] {
            "came on this partition of frequency or monetary within 1s; one came on partition "
        } else {
            "came on this partition of recency within 1s; one came on partition "
        };
        assert!(
            letter.detail.contains(words) && letter.detail.contains("murmur2_random"),
            "{}",
            letter.detail
        );
    }
    world.verify(&[]);
}

#[test]
fn messages_without_a_key_on_several_partitions_are_refused_one_by_one() {
    let world = World::new("letter_no_key", 2);
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(METRICS) {
        plain.send(topic, 1, None, Some(sound(metric).as_bytes()));
        plain.send(topic, 1, Some(b"k"), Some(sound(metric).as_bytes()));
    }
    plain.flush();
    world.catch_up(&[]);
    let letters = letters(&world);
    assert_eq!(
        letters.iter().map(|l| (l.reason.as_str(), &l.key)).collect::<Vec<_>>(),
        [("no_key", &None); 3]
    );
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(1));
}

#[test]
fn a_key_that_is_no_text_is_kept_in_hex_and_a_batch_without_one_has_none() {
    let world = World::new("keys", 1);
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(METRICS) {
        for key in [Some(b"\xff\x00".as_slice()), None, Some(b"plain")] {
            plain.send(topic, 0, key, Some(sound(metric).as_bytes()));
        }
    }
    plain.flush();
    world.catch_up(&[]);
    for (condition, count) in
        [("batch_key = '\\xff00'", 1), ("batch_key IS NULL", 1), ("batch_key = 'plain'", 1)]
    {
        assert_eq!(
            world.number(&format!("SELECT count(*) FROM batches WHERE {condition}")),
            Some(count),
            "{condition}"
        );
    }
}
