//! Everything that senders get wrong, written out by hand. Each kind of body is refused for its own reason,
//! or is no fault at all. It keeps its bytes, and harms none of its neighbours.

use crate::kafka::Plain;
use crate::world::World;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bytea, Nullable, Text};
use std::collections::BTreeMap;

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

/// A name, the body of a batch's recency message, and the reason for which it is refused (empty if it is
/// not). Its partners have three customers.
type Kind = (String, Vec<u8>, &'static str);

fn sound(metric: &str) -> String {
    format!(r#"{{"{metric}":[1,2,3]}}"#)
}

/// Kinds that differ in the text of the whole body.
fn bodies() -> Vec<(&'static str, &'static [u8], &'static str)> {
    vec![
        ("empty value", b"", "malformed"),
        ("blanks", b"  \n", "malformed"),
        ("UTF-8 with a byte order mark", b"\xef\xbb\xbf{\"recency\":[1,2,3]}", "malformed"),
        ("UTF-16", b"{\0\"\0r\0\"\0:\0[\0]\0}\0", "malformed"),
        ("Latin-1", b"{\"recency\":[1,2,3],\"x\":\"\xe9\"}", "malformed"),
        ("a cut UTF-8 sequence", b"{\"recency\":[1,2,3],\"x\":\"\xe2\x82\"}", "malformed"),
        ("a surrogate in UTF-8", b"{\"recency\":[1,2,3],\"x\":\"\xed\xa0\x80\"}", "malformed"),
        ("only zero bytes", b"\0\0\0\0", "malformed"),
        ("Avro's magic byte", b"\0\0\0\0\x01\x02\x06", "malformed"),
        ("CSV", b"1,2,3", "malformed"),
        ("XML", b"<recency>1</recency>", "malformed"),
        ("a Python dict", b"{'recency': [1, 2, 3]}", "malformed"),
        ("null", b"null", "malformed"),
        ("true", b"true", "malformed"),
        ("a number", b"3", "malformed"),
        ("a string", b"\"recency\"", "malformed"),
        ("an array", b"[1,2,3]", "malformed"),
        ("an array of an object", b"[{\"recency\":[1,2,3]}]", "malformed"),
        ("cut in the array", b"{\"recency\":[1,2", "malformed"),
        ("cut in the name", b"{\"rece", "malformed"),
        ("two objects", b"{\"recency\":[1,2,3]}{\"recency\":[1,2,3]}", "malformed"),
        ("text behind the object", b"{\"recency\":[1,2,3]} x", "malformed"),
        ("a trailing comma", b"{\"recency\":[1,2,3],}", "malformed"),
        ("a comma at the end of the array", b"{\"recency\":[1,2,3,]}", "malformed"),
        ("two commas", b"{\"recency\":[1,,2]}", "malformed"),
        ("a comment", b"{\"recency\":[1,2,3] /* c */}", "malformed"),
        ("a control character in a string", b"{\"recency\":[1,2,3],\"x\":\"\x01\"}", "malformed"),
        ("a bad escape", br#"{"recency":[1,2,3],"x":"\x41"}"#, "malformed"),
        ("an empty object", b"{}", "bad_field"),
        ("the name in capitals", br#"{"RECENCY":[1,2,3]}"#, "bad_field"),
        ("the name of another metric", br#"{"frequency":[1,2,3]}"#, "bad_field"),
        ("the name escaped", br#"{"\u0072ecency":[1,2,3]}"#, ""),
        ("the name twice", br#"{"recency":["x"],"recency":[1,2,3]}"#, ""),
        ("many blanks", b"\r\n\t {\r\n\t \"recency\" : [ 1 , 2\n, 3 ] } \n", ""),
        ("unknown fields", br#"{"recency":[1,2,3],"a":{"b":[null,"c",1e999]},"":0}"#, ""),
    ]
}

/// Kinds that differ in the value of `recency`.
fn values() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("field null", "null", "bad_field"),
        ("field a number", "1", "bad_field"),
        ("field a string", "\"[1,2,3]\"", "bad_field"),
        ("field an object", r#"{"0":1,"1":2,"2":3}"#, "bad_field"),
        ("field NaN", "NaN", "bad_field"),
        ("numbers as strings", r#"["1","2","3"]"#, "bad_field"),
        ("a boolean among numbers", "[1,true,3]", "bad_field"),
        ("an array in the array", "[[1],[2],[3]]", "bad_field"),
        ("an object in the array", "[1,{},3]", "bad_field"),
        ("a null and a string", "[null,\"2\",3]", "bad_field"),
        ("a null", "[1,null,3]", "not_finite"),
        ("NaN", "[1,NaN,3]", "not_finite"),
        ("Infinity", "[1,Infinity,3]", "not_finite"),
        ("-Infinity", "[-Infinity,2,3]", "not_finite"),
        ("above f64", "[1,1e309,3]", "not_finite"),
        ("below f64", "[-1e309,2,3]", "not_finite"),
        ("a difference above f64", "[-1.7e308,0,1.7e308]", ""),
        ("a difference that overflows", "[-1.7e308,1.7e308,1.7e308]", "not_finite"),
        ("the limits of f64", "[1.7976931348623157e308,1e308,9e307]", ""),
        ("subnormals", "[5e-324,1e-323,2.2250738585072009e-308]", ""),
        ("below subnormals", "[1e-400,-1e-400,1]", ""),
        ("zeros of both signs", "[0,-0.0,-0]", ""),
        ("integers beyond 2^53", "[9007199254740993,18446744073709551616,-9223372036854775809]", ""),
        ("very many digits", "[3.14159265358979323846264338327950288419716939937510,1E+2,1e-2]", ""),
        ("lower-case nan", "[1,nan,3]", "malformed"),
        ("hexadecimal", "[0x1,2,3]", "malformed"),
        ("a leading zero", "[01,2,3]", "malformed"),
        ("a leading plus", "[+1,2,3]", "malformed"),
        ("a bare point", "[.5,2,3]", "malformed"),
        ("a point at the end", "[1.,2,3]", "malformed"),
        ("a bare exponent", "[1e,2,3]", "malformed"),
        ("no customers", "[]", "empty"),
        ("one too few", "[1,2]", "length_mismatch"),
        ("one too many", "[1,2,3,4]", "length_mismatch"),
    ]
}

/// Kinds that differ in the optional fields.
fn fields() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("ids", r#""customer_id":["a","b","c"]"#, ""),
        ("integer ids", r#""customer_id":[9223372036854775807,-9223372036854775808,-0]"#, ""),
        ("empty and equal ids", r#""customer_id":["","",""]"#, ""),
        ("ids of all planes", r#""customer_id":["ä","\ud83d\ude00","漢"]"#, ""),
        ("ids null", r#""customer_id":null"#, "bad_customer_id"),
        ("ids a string", r#""customer_id":"abc""#, "bad_customer_id"),
        ("an id null", r#""customer_id":["a",null,"c"]"#, "bad_customer_id"),
        ("an id a float", r#""customer_id":["a",1.0,"c"]"#, "bad_customer_id"),
        ("an id beyond i64", r#""customer_id":["a",9223372036854775808,"c"]"#, "bad_customer_id"),
        ("an id with U+0000", r#""customer_id":["a","b\u0000","c"]"#, "bad_customer_id"),
        ("an id of half a surrogate pair", r#""customer_id":["a","\ud83d","c"]"#, "bad_customer_id"),
        ("too few ids", r#""customer_id":["a","b"]"#, "length_mismatch"),
        ("no ids", r#""customer_id":[]"#, "length_mismatch"),
        ("a time", r#""as_of":"2026-02-28T23:59:59.123456789-11:30""#, ""),
        ("a leap second", r#""as_of":"2016-12-31T23:59:60Z""#, ""),
        ("the year 0", r#""as_of":"0000-01-01T00:00:00Z""#, ""),
        ("the year 9999", r#""as_of":"9999-12-31T23:59:59Z""#, ""),
        ("a time without zone", r#""as_of":"2026-01-01T00:00:00""#, "bad_as_of"),
        ("a day that does not exist", r#""as_of":"2026-02-30T00:00:00Z""#, "bad_as_of"),
        ("a time with U+0000", r#""as_of":"\u0000""#, "bad_as_of"),
        ("a date", r#""as_of":"2026-01-01""#, "bad_as_of"),
        ("a number as time", r#""as_of":1767225600"#, "bad_as_of"),
        ("time null", r#""as_of":null"#, "bad_as_of"),
        ("a population", r#""population":"Österreich""#, ""),
        ("an empty population", r#""population":"""#, ""),
        ("population a number", r#""population":1"#, "bad_population"),
        ("population null", r#""population":null"#, "bad_population"),
        ("population with U+0000", r#""population":"a\u0000""#, "bad_population"),
    ]
}

/// Kinds that are large or deep.
fn large() -> Vec<Kind> {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let megabytes = |n: usize| " ".repeat(n * 1024 * 1024);
    vec![
        (
            "100 000 deep, ignored".into(),
            format!(r#"{{"recency":[1,2,3],"x":{}}}"#, deep(100_000)).into(),
            "",
        ),
        (
            "100 000 deep, in the field".into(),
            format!(r#"{{"recency":[{}]}}"#, deep(100_000)).into(),
            "bad_field",
        ),
        ("1 000 000 open brackets".into(), "[".repeat(1_000_000).into(), "malformed"),
        ("32 MiB of blanks".into(), format!(r#"{{"recency":{}[1,2,3]}}"#, megabytes(32)).into(), ""),
        ("32 MiB of a string".into(), format!(r#"{{"recency":[1,2,3],"x":"{}"}}"#, megabytes(32)).into(), ""),
        ("32 MiB of nothing".into(), vec![0; 32 * 1024 * 1024], "malformed"),
        (
            "an id of 1 MiB".into(),
            format!(r#"{{"recency":[1,2,3],"customer_id":["{}","b","c"]}}"#, "x".repeat(1 << 20)).into(),
            "",
        ),
        (
            "a population of 1 MiB".into(),
            format!(r#"{{"recency":[1,2,3],"population":"{}"}}"#, "x".repeat(1 << 20)).into(),
            "",
        ),
    ]
}

fn kinds() -> Vec<Kind> {
    let bodies = bodies().into_iter().map(|(name, body, reason)| (name.to_owned(), body.to_vec(), reason));
    let values = values().into_iter().map(|(name, value, reason)| {
        (name.to_owned(), format!(r#"{{"recency":{value}}}"#).into_bytes(), reason)
    });
    let fields = fields().into_iter().map(|(name, field, reason)| {
        (name.to_owned(), format!(r#"{{{field},"recency":[1,2,3]}}"#).into_bytes(), reason)
    });
    bodies.chain(values).chain(fields).chain(large()).collect()
}

#[derive(QueryableByName)]
struct Letter {
    #[diesel(sql_type = BigInt)]
    offset: i64,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Nullable<Bytea>)]
    value: Option<Vec<u8>>,
}

#[test]
fn every_kind_of_bad_input_is_refused_for_its_reason_and_harms_no_neighbour() {
    let world = World::new("bad_input", 1);
    let plain = Plain::new(&world.kafka);
    let kinds = kinds();
    assert!(kinds.len() >= 60, "{} kinds", kinds.len());
    // Kind i is at offset 2 i of each topic, with a sound neighbour behind it.
    for (i, (_, body, _)) in kinds.iter().enumerate() {
        for (topic, metric) in world.topics.iter().zip(METRICS) {
            let sound = sound(metric);
            let value = if metric == "recency" { body.as_slice() } else { sound.as_bytes() };
            plain.send(topic, 0, Some(format!("kind {i}").as_bytes()), Some(value));
            plain.send(topic, 0, Some(format!("neighbour {i}").as_bytes()), Some(sound.as_bytes()));
        }
        plain.flush();
    }
    let reader = world.catch_up(&[]);
    assert!(!reader.said().contains("panicked"), "{}", reader.said());

    let query = r#"SELECT "offset", reason, value FROM dead_letters WHERE topic LIKE '%recency'"#;
    let letters: Vec<Letter> = diesel::sql_query(query).load(&mut world.connect()).unwrap();
    let letters: BTreeMap<i64, Letter> = letters.into_iter().map(|letter| (letter.offset, letter)).collect();
    for (i, (name, body, reason)) in kinds.iter().enumerate() {
        let letter = letters.get(&(2 * i as i64));
        assert_eq!(letter.map_or("", |letter| &letter.reason), *reason, "{name}");
        if let Some(letter) = letter {
            assert!(letter.value.as_ref() == Some(body), "{name}: the bytes are kept");
        }
    }
    let refused = kinds.iter().filter(|(.., reason)| !reason.is_empty()).count() as i64;
    assert_eq!(world.number("SELECT count(*) FROM dead_letters"), Some(3 * refused));
    let stored = 2 * kinds.len() as i64 - refused;
    assert_eq!(
        world.number("SELECT count(*) FROM batches"),
        Some(stored),
        "the neighbours, and the kinds that are no fault"
    );
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(3 * stored));
    assert_eq!(
        world.number("SELECT count(*) FROM batches WHERE batch_key LIKE 'neigh%'"),
        Some(kinds.len() as i64)
    );
    // The judge cannot check this: Python's json and datetime know no leap second, no year 0 and no such
    // depth.
    let behind =
        format!("SELECT count(*) FROM progress WHERE recency_next + monetary_next <> {}", 4 * kinds.len());
    assert_eq!(world.number(&behind), Some(0));
}

#[test]
fn a_message_time_that_postgres_cannot_store_is_refused_and_kept_without_it() {
    let world = World::new("times", 1);
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(METRICS) {
        // 32 000 BC; Postgres begins in 4713 BC.
        plain.send_at(topic, 0, Some(b"old"), Some(sound(metric).as_bytes()), Some(-1_000_000_000_000_000));
        plain.send(topic, 0, Some(b"neighbour"), Some(sound(metric).as_bytes()));
    }
    plain.flush();
    world.catch_up(&[]);
    let refused = "SELECT count(*) FROM dead_letters WHERE reason = 'bad_as_of' AND produced_at IS NULL";
    assert_eq!(world.number(refused), Some(3));
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(1));
}

#[test]
fn messages_of_every_compression_are_read() {
    let world = World::new("codecs", 1);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let plain = Plain::compressed(&world.kafka, codec);
        for (topic, metric) in world.topics.iter().zip(METRICS) {
            let body = format!(r#"{{"{metric}":[{}1]}}"#, "1,2,3,".repeat(1_000));
            plain.send(topic, 0, Some(codec.as_bytes()), Some(body.as_bytes()));
        }
        plain.flush();
    }
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM batches"), Some(5));
    world.verify(&["--progress", "--expect-dead", "0"]);
}
