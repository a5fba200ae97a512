//! The CSV reader against an independent implementation of the rules (tests/python/orders.py), to the bit.
//!
//! `scripts/test interop` writes the files and says where they are.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says what it has done"
)]

use rfm_stream::producer::source::orders::{Columns, Totals, csv};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What differs between what a file gives and what it must give; empty if nothing does.
fn differences(folder: &Path, case: &Value) -> Vec<String> {
    let text = |field: &str| case[field].as_str().unwrap();
    let (columns, as_of): (Columns, _) = (text("columns").parse().unwrap(), text("as_of").parse().unwrap());
    match csv::read(&csv::Input::File(folder.join(text("file"))), &columns, as_of) {
        Ok(totals) => compare(case, &totals),
        Err(error) => vec![format!("{error:#}")],
    }
}

fn compare(case: &Value, totals: &Totals) -> Vec<String> {
    let ids: Vec<&str> = totals.ids.iter().collect();
    if case["ids"] != serde_json::json!(ids) {
        return vec![format!("ids are {ids:?} and not {}", case["ids"])];
    }
    let mut differences = Vec::new();
    let columns = &totals.columns;
    for (name, found) in
        [("recency", &columns.recency), ("frequency", &columns.frequency), ("monetary", &columns.monetary)]
    {
        let expected: Vec<f64> =
            case[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!(expected.len(), found.len(), "{name} of {}", case["file"]);
        for (id, (expected, found)) in ids.iter().zip(expected.iter().zip(found)) {
            if expected.to_bits() != found.to_bits() {
                differences.push(format!("{name} of {id:?} is {found:?} and not {expected:?}"));
            }
        }
    }
    let left_out = totals.left_out;
    let counts = [
        ("orders", totals.orders),
        ("no_customer", left_out.no_customer),
        ("refunds_only", left_out.refunds_only),
    ];
    for (name, found) in counts {
        if case[name] != found {
            differences.push(format!("{name} is {found} and not {}", case[name]));
        }
    }
    differences
}

#[test]
fn snapshots_of_random_orders_equal_those_of_another_implementation() {
    let folder =
        std::env::var("RFM_TEST_ORDERS").expect("RFM_TEST_ORDERS is not set: run `scripts/test interop`");
    let folder = PathBuf::from(folder);
    let expected = std::fs::read_to_string(folder.join("expected.jsonl")).unwrap();
    let (mut files, mut customers, mut wrong) = (0, 0, Vec::new());
    for line in expected.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        files += 1;
        customers += case["ids"].as_array().unwrap().len();
        wrong.extend(differences(&folder, &case).into_iter().map(|what| format!("{}: {what}", case["file"])));
    }
    assert!(files > 0, "there is no file");
    let first = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} differences in {files} files:\n{first}", wrong.len());
    println!("{files} files, {customers} customers, 0 differences");
}
