//! Compares quintiles, scores and segments with those of real pandas, bit for bit. `tests/golden/` has the
//! files and the scripts that made them.

#![allow(clippy::unwrap_used, reason = "it fails the test")]

use rfm_stream::reader::quintile::{CutError, Ties, cut, cut_at};
use rfm_stream::reader::score::scores;
use rfm_stream::reader::segment::SegmentMap;
use serde_json::Value;

fn cases(jsonl: &str) -> Vec<Value> {
    jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn codes_and_edges_of_every_column_equal_those_of_pandas() {
    let cases = cases(include_str!("golden/qcut_cases.jsonl"));
    let mut refused = 0;
    for case in &cases {
        let name = &case["name"];
        let values = floats(&case["values"]);
        let found = cut(&values).unwrap();
        assert_eq!(bits(&found.edges), bits(&floats(&case["edges"])), "edges of {name}");
        let result = found.under(Ties::Reject, &values);
        if case["error"].is_null() {
            assert_eq!(serde_json::json!(result.unwrap().codes), case["codes"], "codes of {name}");
        } else {
            assert_eq!(result, Err(CutError::Tied), "{name}");
            refused += 1;
        }
    }
    assert_eq!(cases.len(), 395, "the whole file was read");
    assert!(refused > 50, "{refused} refused");
}

#[test]
fn codes_at_fixed_edges_equal_those_of_pandas() {
    let cases = cases(include_str!("golden/cut_cases.jsonl"));
    for case in &cases {
        let (name, values) = (&case["name"], floats(&case["values"]));
        let inner = floats(&case["inner"]).try_into().unwrap();
        let found = cut_at(&values, inner).unwrap();
        assert_eq!(serde_json::json!(found.codes), case["codes"], "codes of {name}");
        let extreme = |better: fn(f64, f64) -> f64| values.iter().copied().reduce(better).unwrap() + 0.0;
        let [first, .., last] = found.edges;
        assert_eq!([first, last], [extreme(f64::min), extreme(f64::max)], "outer edges of {name}");
    }
    assert_eq!(cases.len(), 86, "the whole file was read");
}

#[test]
fn scores_and_segments_of_every_batch_equal_those_of_pandas() {
    let segments = SegmentMap::built_in().unwrap();
    let cases = cases(include_str!("golden/rfm_cases.jsonl"));
    for case in &cases {
        let name = &case["name"];
        let ties: Ties = case["ties"].as_str().unwrap().parse().unwrap();
        let columns = ["recency", "frequency", "monetary"].map(|column| floats(&case[column]));
        let cuts = columns.each_ref().map(|values| cut(values).unwrap().under(ties, values));

        let failed: Vec<&str> = ["recency", "frequency", "monetary"]
            .into_iter()
            .zip(&cuts)
            .filter(|(_, cut)| cut.is_err())
            .map(|(column, _)| column)
            .collect();
        if !case["error"].is_null() {
            assert_eq!(serde_json::json!(failed), case["error_columns"], "{name}");
            continue;
        }
        let [recency, frequency, monetary] = cuts.map(|cut| cut.unwrap().codes);
        for row in 0..recency.len() {
            let [r, f, m] = scores([recency[row], frequency[row], monetary[row]]);
            assert_eq!(case["recency_score"][row], r, "{name} row {row}");
            assert_eq!(case["frequency_score"][row], f, "{name} row {row}");
            assert_eq!(case["monetary_score"][row], m, "{name} row {row}");
            assert_eq!(case["rf_score"][row], format!("{r}{f}"), "{name} row {row}");
            assert_eq!(case["segment"][row], segments.segment(r, f), "{name} row {row}");
        }
    }
    assert_eq!(cases.len(), 92, "the whole file was read");
}
