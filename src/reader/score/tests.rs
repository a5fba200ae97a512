use super::*;
use crate::message::Message;

fn rules(ties: Ties) -> Rules {
    Rules { ties, segments: SegmentMap::built_in().unwrap(), max_customers: 5 }
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
