//! Keys of every kind: each pairs its own messages, is kept byte for byte, and harms none of the others.

use crate::kafka::Plain;
use crate::world::World;
use diesel::prelude::*;
use diesel::sql_types::{Bytea, Nullable, Text};
use std::collections::BTreeMap;

/// What `batches.batch_key` says for each.
fn keys() -> Vec<(Vec<u8>, String)> {
    let text = |key: &str| (key.as_bytes().to_vec(), key.to_owned());
    let bytes = |key: &[u8]| {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        (key.to_vec(), format!("\\x{hex}"))
    };
    vec![
        text(""),
        text(" "),
        text("plain"),
        text("plain "),
        text("Österreich 漢 😀"),
        text("'; DROP TABLE batches; --"),
        text("\\x00"),
        text("NULL"),
        text("\u{1}\n\t\u{7f}"),
        bytes(b"\0"),
        bytes(b"plain\0"),
        bytes(b"\xff\xfe"),
        bytes(b"\xed\xa0\x80"),
        bytes(&7u64.to_be_bytes()),
        text(&"k".repeat(1024 * 1024)),
        bytes(&[0xff; 1024 * 1024]),
    ]
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Nullable<Text>)]
    batch_key: Option<String>,
}

#[derive(QueryableByName)]
struct Letter {
    #[diesel(sql_type = Nullable<Bytea>)]
    key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    value: Option<Vec<u8>>,
    #[diesel(sql_type = Text)]
    reason: String,
}

#[test]
fn every_kind_of_key_pairs_its_own_and_a_tombstone_keeps_it() {
    let world = World::new("keys", 1);
    let plain = Plain::new(&world.kafka);
    let keys = keys();
    // A sound batch of each key, then a tombstone of each key in all three topics. The topics have the keys
    // in different orders.
    for (topic, (metric, by)) in world.topics.iter().zip([("recency", 0), ("frequency", 5), ("monetary", 11)])
    {
        let mut turned = keys.clone();
        turned.rotate_left(by);
        let body = format!(r#"{{"{metric}":[1,2,3]}}"#);
        turned.iter().for_each(|(key, _)| plain.send(topic, 0, Some(key), Some(body.as_bytes())));
        turned.iter().for_each(|(key, _)| plain.send(topic, 0, Some(key), None));
    }
    plain.flush();
    let reader = world.catch_up(&[]);
    assert!(!reader.said().contains("panicked"), "{}", reader.said());

    let stored: Vec<Key> =
        diesel::sql_query("SELECT batch_key FROM batches").load(&mut world.connect()).unwrap();
    let mut stored: Vec<Option<String>> = stored.into_iter().map(|row| row.batch_key).collect();
    let mut expected: Vec<Option<String>> = keys.iter().map(|(_, kept)| Some(kept.clone())).collect();
    stored.sort();
    expected.sort();
    assert!(stored == expected, "the keys of the batches");

    let query = "SELECT key, value, reason FROM dead_letters";
    let letters: Vec<Letter> = diesel::sql_query(query).load(&mut world.connect()).unwrap();
    let mut kept: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for letter in letters {
        assert_eq!((letter.reason.as_str(), letter.value), ("malformed", None));
        *kept.entry(letter.key.unwrap()).or_default() += 1;
    }
    assert!(kept == keys.into_iter().map(|(key, _)| (key, 3)).collect(), "the keys of the tombstones");
    world.verify(&["--progress"]);
}
