use super::*;
use proptest::prelude::*;

fn decoded(json: &str) -> Body {
    decode(Metric::Recency, Some(json.as_bytes())).unwrap()
}

#[test]
fn a_plain_body_is_read() {
    let body = decoded(r#" {"recency": [1, 2.5, -0.0, 1e3], "extra": {"a": [null]}} "#);
    assert_eq!(body.values.unwrap(), [1.0, 2.5, -0.0, 1000.0]);
    assert_eq!(body.customer_ids, Ok(None));
    assert_eq!(body.as_of, Ok(None));
    assert_eq!(body.population, Ok(None));
}

#[test]
fn optional_fields_are_read() {
    let body = decoded(
        r#"{"customer_id":["a",7,-9223372036854775808,""],"as_of":"2026-01-02T03:04:05+01:00",
            "population":"shop-1","recency":[1,2,3,4]}"#,
    );
    let ids = body.customer_ids.unwrap().unwrap();
    assert_eq!(ids.iter().collect::<Vec<_>>(), ["a", "7", "-9223372036854775808", ""]);
    assert_eq!(body.as_of.unwrap().unwrap().to_rfc3339(), "2026-01-02T02:04:05+00:00");
    assert_eq!(body.population.unwrap().unwrap(), "shop-1");
}

#[test]
fn a_name_that_stands_twice_means_its_last_value() {
    assert_eq!(decoded(r#"{"recency":[1],"recency":[2]}"#).values.unwrap(), [2.0]);
    // The same through the slow path.
    assert_eq!(decoded(r#"{"recency":[1],"x":NaN,"recency":[2]}"#).values.unwrap(), [2.0]);
}

#[test]
fn every_malformed_body_is_refused_as_such() {
    let cases: &[&[u8]] = &[
        b"",
        b" ",
        b"null",
        b"1",
        b"\"recency\"",
        b"[1,2]",
        b"{",
        b"{}}",
        b"{} {}",
        b"{\"recency\":[1,]}",
        b"{'recency':[1]}",
        b"{\"recency\":[01]}",
        b"{\"recency\":[+1]}",
        b"{\"recency\":[.5]}",
        b"{\"recency\":[1] // c\n}",
        b"\xef\xbb\xbf{\"recency\":[1]}",
        b"{\"recency\":[1],\"x\":\"\xff\"}",
        b"{\"recency\":[0x10]}",
        b"{\"recency\":[nan]}",
        b"{\"recency\":[1NaN]}",
        b"{\"recency\":[NaN1]}",
        b"{\"recency\":[-NaN]}",
        b"{\"recency\":[1],NaN:1}",
        b"\xff\xfe{\x00}\x00",
    ];
    for case in cases {
        let problem = decode(Metric::Recency, Some(case)).unwrap_err();
        assert_eq!(problem.reason, Reason::Malformed, "{}", String::from_utf8_lossy(case));
    }
    assert_eq!(decode(Metric::Recency, None).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn a_bad_field_is_named_with_its_element() {
    let cases = [
        (r#"{}"#, "is missing"),
        (r#"{"frequency":[1]}"#, "is missing"),
        (r#"{"recency":null}"#, "is not an array"),
        (r#"{"recency":{"0":1}}"#, "is not an array"),
        (r#"{"recency":"[1]"}"#, "is not an array"),
        (r#"{"recency":NaN}"#, "is not an array"),
        (r#"{"recency":[1,"2"]}"#, "element 1 is not a number"),
        (r#"{"recency":[null,true]}"#, "element 1 is not a number"),
        (r#"{"recency":[1,[2]]}"#, "element 1 is not a number"),
        (r#"{"recency":[1,{}]}"#, "element 1 is not a number"),
        // An earlier version put this in place of a bare word.
        (r#"{"recency":[1,{"":"NaN"}]}"#, "element 1 is not a number"),
    ];
    for (json, what) in cases {
        let problem = decoded(json).values.unwrap_err();
        assert_eq!(problem.reason, Reason::BadField, "{json}");
        assert!(problem.detail.ends_with(what), "{json}: {}", problem.detail);
    }
}

#[test]
fn what_is_not_finite_is_named_with_its_element() {
    for element in ["null", "NaN", "Infinity", "-Infinity", "1e400", "-1e999"] {
        let problem = decoded(&format!(r#"{{"recency":[1,{element},null]}}"#)).values.unwrap_err();
        assert_eq!(problem.reason, Reason::NotFinite, "{element}");
        assert!(problem.detail.contains("element 1 "), "{element}: {}", problem.detail);
    }
}

#[test]
fn numbers_at_the_limits_keep_every_bit() {
    let cases = [
        ("1.7976931348623157e308", f64::MAX),
        ("5e-324", 5e-324),
        ("2e-324", 0.0),
        ("2.2250738585072011e-308", f64::from_bits(0x000f_ffff_ffff_ffff)),
        ("9007199254740993", 9007199254740992.0),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
        ("0.1", 0.1),
        ("1e-400", 0.0),
    ];
    for (text, expected) in cases {
        let fast = decoded(&format!(r#"{{"recency":[{text}]}}"#)).values.unwrap();
        let slow = decoded(&format!(r#"{{"x":NaN,"recency":[{text}]}}"#)).values.unwrap();
        assert_eq!(fast[0].to_bits(), expected.to_bits(), "{text}");
        assert_eq!(slow[0].to_bits(), expected.to_bits(), "{text}");
    }
}

#[test]
fn bad_optional_fields_leave_the_values_readable() {
    let cases = [
        (r#""customer_id":null"#, Reason::BadCustomerId),
        (r#""customer_id":"a""#, Reason::BadCustomerId),
        (r#""customer_id":[1.5]"#, Reason::BadCustomerId),
        (r#""customer_id":[null]"#, Reason::BadCustomerId),
        (r#""customer_id":[9223372036854775808]"#, Reason::BadCustomerId),
        (r#""customer_id":["a\u0000"]"#, Reason::BadCustomerId),
        (r#""customer_id":["\ud800"]"#, Reason::BadCustomerId),
        (r#""as_of":null"#, Reason::BadAsOf),
        (r#""as_of":1700000000"#, Reason::BadAsOf),
        (r#""as_of":"yesterday""#, Reason::BadAsOf),
        (r#""as_of":"2026-01-02""#, Reason::BadAsOf),
        (r#""as_of":"2026-01-02T03:04:05""#, Reason::BadAsOf),
        (r#""as_of":"2026-01-02T03:04:05\u221201:00""#, Reason::BadAsOf),
        (r#""population":7"#, Reason::BadPopulation),
        (r#""population":"a\u0000b""#, Reason::BadPopulation),
    ];
    for (field, reason) in cases {
        let body = decoded(&format!(r#"{{{field},"recency":[1]}}"#));
        assert_eq!(body.values, Ok(vec![1.0]), "{field}");
        let found = [body.customer_ids.err(), body.as_of.err(), body.population.err()];
        let found: Vec<Reason> = found.into_iter().flatten().map(|p| p.reason).collect();
        assert_eq!(found, [reason], "{field}");
    }
}

#[test]
fn what_is_said_of_a_body_can_be_stored_and_is_short() {
    let long = format!("\"{}\"", "secret ".repeat(1_000));
    let cases = [
        decoded(r#"{"recency":[1],"as_of":"\u0000\n"}"#).as_of.unwrap_err(),
        decoded(&format!(r#"{{"recency":[1],"as_of":{long}}}"#)).as_of.unwrap_err(),
        decode(Metric::Recency, Some(long.as_bytes())).unwrap_err(),
    ];
    for problem in cases {
        assert!(!problem.detail.contains(char::is_control), "{}", problem.detail);
        assert!(problem.detail.len() < 200, "{}", problem.detail);
    }
}

#[test]
fn the_weight_of_a_message_counts_its_key_twice() {
    // Pairing keeps a copy of it.
    let (metric, key, value) = (Metric::Recency, Some(vec![0; 1_000]), Some(vec![0; 50]));
    let message = Message { metric, partition: 0, offset: 0, timestamp: None, key, value };
    let empty = Message { key: None, value: None, ..message.clone() };
    assert_eq!(message.weight() - empty.weight(), 2_050);
}

#[test]
fn deep_nesting_in_an_ignored_field_is_ignored() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decoded(&format!(r#"{{"x":{deep},"recency":[1]}}"#)).values.unwrap(), [1.0]);
    assert!(decoded(&format!(r#"{{"recency":[{deep}]}}"#)).values.is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(Metric::Monetary, Some(&bytes));
    }

    #[test]
    fn any_text_of_json_pieces_is_read_without_a_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"recency\"", "\"customer_id\"", "\"as_of\"", "\"population\"", "\"", "\\",
            "NaN", "Infinity", "-Infinity", "null", "1", "-", "1e999", "0.5", "\"\\ud800\"", "\"2026-01-01T00:00:00Z\"", " ", "é",
        ]), 0..30),
    ) {
        let _ = decode(Metric::Recency, Some(pieces.concat().as_bytes()));
    }

    #[test]
    fn both_paths_read_the_same(values in prop::collection::vec(prop::num::f64::NORMAL, 1..20), ids in prop::collection::vec(any::<i64>(), 1..20)) {
        let body = format!(r#"{{"recency":{values:?},"customer_id":{ids:?}}}"#);
        let fast = decode(Metric::Recency, Some(body.as_bytes())).unwrap();
        prop_assert_eq!(fast, diagnose::diagnose(Metric::Recency, &body).unwrap());
    }
}
