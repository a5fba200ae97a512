use super::*;
use crate::message::Message;

fn rules(ties: Ties) -> Rules {
    Rules { ties, max_customers: 5, ..Rules::new(SegmentMap::built_in().unwrap()) }
}

fn message(metric: Metric, value: Option<&str>) -> Message {
    let value = value.map(|v| v.as_bytes().to_vec());
    let timestamp = Some(1_000 * (3 - metric as i64));
    Message { metric, partition: 1, offset: 10 + metric as i64, timestamp, key: Some(b"k".into()), value }
}

fn batch(values: [Option<&str>; 3]) -> Batch {
    let [r, f, m] = values;
    let messages = [message(Metric::Recency, r), message(Metric::Frequency, f), message(Metric::Monetary, m)];
    Batch { messages: messages.into() }
}

const R: &str = r#"{"recency":[1,2,3]}"#;
const F: &str = r#"{"frequency":[1,2,3]}"#;
const M: &str = r#"{"monetary":[1,2,3]}"#;

#[test]
fn a_sound_batch_is_scored() {
    let ids = r#"{"frequency":[1,2,3],"customer_id":["a",2,"c"],"population":"p"}"#;
    let same = r#"{"monetary":[1,2,3],"customer_id":["a","2","c"]}"#;
    let scored = score(&rules(Ties::Share), batch([Some(R), Some(ids), Some(same)])).unwrap();
    assert_eq!((scored.partition, scored.offsets, scored.customers()), (1, [10, 11, 12].into(), 3));
    assert_eq!(scored.as_of.timestamp_millis(), 1_000, "the earliest of the three");
    assert_eq!(scored.population.as_deref(), Some("p"));
    assert_eq!(scored.cuts.recency.codes, [0, 2, 4]);
    assert_eq!(scores([0, 2, 4]), [5, 3, 5]);
    assert_eq!(scored.customer_ids.unwrap().iter().collect::<Vec<_>>(), ["a", "2", "c"]);
}

#[test]
fn times_are_compared_as_instants() {
    let r = r#"{"recency":[1,2,3],"as_of":"2026-01-01T01:00:00+01:00"}"#;
    let m = r#"{"monetary":[1,2,3],"as_of":"2026-01-01T00:00:00.000Z"}"#;
    assert!(score(&rules(Ties::Share), batch([Some(r), Some(F), Some(m)])).is_ok());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_first_reason_of_the_contract_is_the_reason_for_all_three() {
    use Reason::*;
    let cases: [(Reason, [Option<&str>; 3]); 24] = [
        (Malformed, [None, Some(F), Some(M)]),
        (Malformed, [Some(r#"{"recency":["x"]}"#), Some(F), Some("[]")]),
        (BadField, [Some(R), Some(r#"{"frequency":[null]}"#), Some(r#"{"monetary":7}"#)]),
        (BadField, [Some(F), Some(F), Some(M)]),
        (NotFinite, [Some(R), Some(r#"{"frequency":[1,null]}"#), Some(r#"{"monetary":[]}"#)]),
        (NotFinite, [Some(R), Some(F), Some(r#"{"monetary":[1,2,NaN]}"#)]),
        (NotFinite, [Some(r#"{"recency":[-1e308,1e308]}"#), Some(r#"{"frequency":[]}"#), Some(M)]),
        (Empty, [Some(r#"{"recency":[]}"#), Some(r#"{"frequency":[]}"#), Some(r#"{"monetary":[]}"#)]),
        (Empty, [Some(R), Some(r#"{"frequency":[]}"#), Some(M)]),
        (LengthMismatch, [Some(R), Some(r#"{"frequency":[1,2]}"#), Some(M)]),
        (LengthMismatch, [Some(r#"{"recency":[1,2,3],"customer_id":[1]}"#), Some(F), Some(M)]),
        (LengthMismatch, [Some(R), Some(F), Some(r#"{"monetary":[1,2,3],"customer_id":[]}"#)]),
        (
            TooLarge,
            [
                Some(r#"{"recency":[1,2,3,4,5,6],"customer_id":7}"#),
                Some(r#"{"frequency":[1,2,3,4,5,6]}"#),
                Some(r#"{"monetary":[1,2,3,4,5,6]}"#),
            ],
        ),
        (BadCustomerId, [Some(r#"{"recency":[1,2,3],"customer_id":[1,2,3.5]}"#), Some(F), Some(M)]),
        (
            BadCustomerId,
            [
                Some(r#"{"recency":[1,2,3],"customer_id":[1,2,3]}"#),
                Some(r#"{"frequency":[1,2,3],"customer_id":[1,2,4]}"#),
                Some(M),
            ],
        ),
        (BadCustomerId, [Some(r#"{"recency":[1,2,3],"as_of":1,"customer_id":null}"#), Some(F), Some(M)]),
        (BadAsOf, [Some(R), Some(F), Some(r#"{"monetary":[1,2,3],"as_of":"now"}"#)]),
        (
            BadAsOf,
            [
                Some(r#"{"recency":[1,2,3],"as_of":"2026-01-01T00:00:00Z"}"#),
                Some(r#"{"frequency":[1,2,3],"as_of":"2026-01-01T00:00:01Z"}"#),
                Some(M),
            ],
        ),
        (BadPopulation, [Some(R), Some(F), Some(r#"{"monetary":[1,2,3],"population":null}"#)]),
        (
            BadPopulation,
            [
                Some(R),
                Some(r#"{"frequency":[1,2,3],"population":"a"}"#),
                Some(r#"{"monetary":[1,2,3],"population":"b"}"#),
            ],
        ),
        (TiedEdges, [Some(r#"{"recency":[1,1,1]}"#), Some(F), Some(M)]),
        (TiedEdges, [Some(R), Some(F), Some(r#"{"monetary":[1,1,3]}"#)]),
        (BadPopulation, [Some(r#"{"recency":[1,1,1],"population":[]}"#), Some(F), Some(M)]),
        (BadAsOf, [Some(r#"{"recency":[1,1,1],"population":[],"as_of":{}}"#), Some(F), Some(M)]),
    ];
    for (reason, values) in cases {
        let letters = score(&rules(Ties::Reject), batch(values)).unwrap_err();
        for (letter, value) in letters.iter().zip(values) {
            assert_eq!(letter.problem.reason, reason, "{values:?}: {}", letter.problem);
            assert_eq!(letter.problem, letters[0].problem);
            assert_eq!(letter.message.value.as_deref(), value.map(str::as_bytes), "bytes are kept");
        }
    }
}

#[test]
fn messages_without_any_time_need_as_of() {
    let mut batch = batch([Some(R), Some(F), Some(M)]);
    Metric::ALL.into_iter().for_each(|metric| batch.messages[metric].timestamp = None);
    let letters = score(&rules(Ties::Share), batch).unwrap_err();
    assert_eq!(letters[0].problem.reason, Reason::BadAsOf);
}

#[test]
fn fixed_edges_cut_the_metrics_that_have_them_and_ties_is_for_the_others() {
    let edges = FixedEdges::from_file(b"frequency 1 2 4 9").unwrap();
    let fixed = Rules { edges, ..rules(Ties::Reject) };
    let tied = r#"{"frequency":[3,3,3]}"#;
    let scored = score(&fixed, batch([Some(R), Some(tied), Some(M)])).unwrap();
    assert_eq!(scored.cuts.frequency.codes, [2, 2, 2]);
    assert_eq!(
        scored.cuts.frequency.edges,
        [3.0, 1.0, 2.0, 4.0, 9.0, 3.0],
        "the outer ones are those of the values"
    );
    assert_eq!(scored.cuts.recency.codes, [0, 2, 4]);
    let letters = score(&fixed, batch([Some(r#"{"recency":[1,1,3]}"#), Some(tied), Some(M)])).unwrap_err();
    assert!(letters[0].problem.detail.starts_with("`recency` message"), "{}", letters[0].problem);
    let empty = score(&fixed, batch([Some(R), Some(r#"{"frequency":[]}"#), Some(M)])).unwrap_err();
    assert_eq!(empty[0].problem.reason, Reason::Empty);
}

#[test]
fn between_fixed_edges_no_difference_of_values_can_overflow() {
    let far = r#"{"monetary":[-1e308,1e308,1e308]}"#;
    assert_eq!(
        score(&rules(Ties::Share), batch([Some(R), Some(F), Some(far)])).unwrap_err()[0].problem.reason,
        Reason::NotFinite
    );
    let edges = FixedEdges::from_file(b"monetary 1 2 3 4").unwrap();
    let scored = score(&Rules { edges, ..rules(Ties::Share) }, batch([Some(R), Some(F), Some(far)])).unwrap();
    assert_eq!(scored.cuts.monetary.codes, [0, 4, 4]);
}

#[test]
fn ids_that_break_the_rule_are_refused_at_their_place_in_the_order() {
    let named = |ids: &str| format!(r#"{{"recency":[1,2,3],"customer_id":{ids}}}"#);
    let cases = [
        (IdRule::Any, named(r#"["a","a",""]"#), None),
        (IdRule::Required, R.to_owned(), Some("no message has `customer_id` (--customer-ids required)")),
        (IdRule::Required, named(r#"["a","a","b"]"#), None),
        (IdRule::Required, named(r#"["a","","b"]"#), Some("element 1 is empty")),
        (
            IdRule::Unique,
            named(r#"["a","b","a"]"#),
            Some("element 2 repeats element 0 (--customer-ids unique)"),
        ),
        (IdRule::Unique, named(r#"["7",8,7]"#), Some("element 2 repeats element 0")),
        (IdRule::Unique, named("[1,2,3]"), None),
    ];
    for (customer_ids, recency, wanted) in cases {
        let rules = Rules { customer_ids, ..rules(Ties::Reject) };
        // Later reasons: a bad `as_of`, a bad `population`, tied edges.
        let late = r#"{"monetary":[1,1,1],"as_of":"now","population":7}"#;
        let found = score(&rules, batch([Some(&recency), Some(F), Some(M)]));
        let with_later = score(&rules, batch([Some(&recency), Some(F), Some(late)])).unwrap_err();
        let Some(detail) = wanted else {
            assert!(found.is_ok(), "{customer_ids} {recency}");
            continue;
        };
        for letter in found.unwrap_err().iter().chain(&with_later) {
            assert_eq!(letter.problem.reason, Reason::BadCustomerId, "{recency}");
            assert!(letter.problem.detail.contains(detail), "{}", letter.problem);
        }
    }
    let rules = Rules { customer_ids: IdRule::Unique, ..rules(Ties::Share) };
    let short = score(&rules, batch([Some(&named(r#"["a","a"]"#)), Some(F), Some(M)])).unwrap_err();
    assert_eq!(short[0].problem.reason, Reason::LengthMismatch);
}
