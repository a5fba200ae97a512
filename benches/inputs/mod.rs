//! The kernels and what they work on.
//!
//! `benches/kernels.py` writes the inputs, so that other languages work on the same bits: `NAME.f64`, little-endian
//! values, and `NAME.json`, a recency body of the values of `NAME.f64`. Without them there is nothing to measure.

use rfm_stream::message::{CustomerIds, Message, Snapshot, decode};
use rfm_stream::metric::{Metric, PerMetric};
use rfm_stream::reader::customer_ids::IdRule;
use rfm_stream::reader::pairing::Batch;
use rfm_stream::reader::quintile::{cut, cut_at};
use rfm_stream::reader::score::{Rules, score};
use rfm_stream::reader::segment::SegmentMap;
use rfm_stream::reader::shifts::Shifts;
use rfm_stream::reader::write_rows;
use std::hint::black_box;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::{env, fs, io};

/// Something to measure.
pub struct Kernel {
    /// What it does.
    pub group: &'static str,
    /// By whom, or on what.
    pub name: String,
    /// Bytes that it takes in or, of rows, gives out.
    pub bytes: u64,
    /// Does it once.
    pub run: Box<dyn Fn()>,
}

/// Reads the values out of a recency body; `None` if it cannot.
pub type Decoder = fn(&[u8]) -> Option<Vec<f64>>;

/// Who can read a body.
pub const DECODERS: [(&str, Decoder); 5] = [
    ("reader", |body| decode(Metric::Recency, Some(body)).ok()?.values.ok()),
    ("serde_json Value", |body| {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        value.get("recency")?.as_array()?.iter().map(serde_json::Value::as_f64).collect()
    }),
    ("serde_json Vec", |body| Some(serde_json::from_slice::<Recency>(body).ok()?.recency)),
    // It reads in place, so it gets a copy: the bytes may be needed for a dead letter.
    ("simd-json Vec", |body| Some(simd_json::from_slice::<Recency>(&mut body.to_vec()).ok()?.recency)),
    ("sonic-rs Vec", |body| Some(sonic_rs::from_slice::<Recency>(body).ok()?.recency)),
];

#[derive(serde::Deserialize)]
struct Recency {
    recency: Vec<f64>,
}

/// A body, and the values it was made of.
pub struct Body {
    /// The name of its file.
    pub name: String,
    /// JSON.
    pub text: Vec<u8>,
    /// In order.
    pub values: Vec<f64>,
}

/// Where the inputs are.
pub fn directory() -> PathBuf {
    env::var_os("RFM_BENCH_INPUTS").map_or_else(|| "target/bench/kernels".into(), PathBuf::from)
}

/// All of them.
pub fn kernels() -> anyhow::Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for (name, values) in columns()? {
        kernels.extend(column_kernels(&name, values));
    }
    for body in bodies()? {
        kernels.extend(body_kernels(body));
    }
    if let Some(batch) = batch()? {
        kernels.extend(snapshot_kernels(batch.clone())?);
        kernels.extend(batch_kernels(batch)?);
    }
    Ok(kernels)
}

/// The bodies, by name.
pub fn bodies() -> anyhow::Result<Vec<Body>> {
    let names = names("json")?.into_iter();
    names
        .map(|name| {
            let text = fs::read(directory().join(format!("{name}.json")))?;
            let values = read_values(&name)?;
            Ok(Body { name, text, values })
        })
        .collect()
}

/// The columns that are no body's, by name.
fn columns() -> anyhow::Result<Vec<(String, Vec<f64>)>> {
    let bodies = names("json")?;
    let names = names("f64")?.into_iter().filter(|name| !bodies.contains(name));
    names.map(|name| Ok((name.clone(), read_values(&name)?))).collect()
}

fn names(extension: &str) -> anyhow::Result<Vec<String>> {
    let Ok(files) = fs::read_dir(directory()) else { return Ok(Vec::new()) };
    let paths: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    let paths = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == extension));
    let mut names: Vec<String> =
        paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn read_values(name: &str) -> io::Result<Vec<f64>> {
    let bytes = fs::read(directory().join(format!("{name}.f64")))?;
    let (values, _) = bytes.as_chunks::<8>();
    Ok(values.iter().map(|value| f64::from_le_bytes(*value)).collect())
}

fn column_kernels(name: &str, values: Vec<f64>) -> [Kernel; 3] {
    let bytes = 8 * values.len() as u64;
    let values = Rc::new(values);
    let of = Rc::clone(&values);
    let qcut = move || drop(black_box(cut(black_box(&of))));
    // At its own edges: fixed edges that the values lie around.
    let [_, inner @ .., _] = cut(&values).map(|cut| cut.edges).unwrap_or_default();
    let of = Rc::clone(&values);
    let fixed = move || drop(black_box(cut_at(black_box(&of), inner)));
    let read = move || {
        let sum = black_box(&*values).iter().fold(0u64, |sum, value| sum.wrapping_add(value.to_bits()));
        black_box(sum);
    };
    [
        Kernel { group: "qcut", name: name.to_owned(), bytes, run: Box::new(qcut) },
        Kernel { group: "cut", name: name.to_owned(), bytes, run: Box::new(fixed) },
        Kernel { group: "read", name: name.to_owned(), bytes, run: Box::new(read) },
    ]
}

fn body_kernels(body: Body) -> impl Iterator<Item = Kernel> {
    let text = Rc::new(body.text);
    DECODERS.into_iter().map(move |(who, decode)| {
        let text = Rc::clone(&text);
        Kernel {
            group: "json",
            name: format!("{} {who}", body.name),
            bytes: text.len() as u64,
            run: Box::new(move || drop(black_box(decode(black_box(&text))))),
        }
    })
}

/// Three messages, of whole numbers, as the producer's.
fn batch() -> anyhow::Result<Option<Batch>> {
    let Some(body) = bodies()?.into_iter().find(|body| body.name == "whole") else { return Ok(None) };
    let columns = PerMetric::from_fn(|_| body.values.clone());
    let snapshot =
        Snapshot { key: String::new(), as_of: None, population: None, customer_ids: None, columns };
    let mut bodies = snapshot.encode()?.bodies.map(Some);
    let messages = PerMetric::from_fn(|metric| {
        let value = bodies[metric].take();
        Message { metric, partition: 0, offset: 0, timestamp: Some(0), key: None, value }
    });
    Ok(Some(Batch { messages }))
}

/// Scoring a batch, and the rows of it.
fn batch_kernels(batch: Batch) -> anyhow::Result<[Kernel; 2]> {
    let rules = Rules { max_customers: usize::MAX, ..Rules::new(SegmentMap::built_in()?) };
    let taken =
        batch.messages.values().filter_map(|message| message.value.as_ref()).map(Vec::len).sum::<usize>();
    let Ok(scored) = score(&rules, batch.clone()) else { anyhow::bail!("the batch cannot be scored") };
    let customers = scored.customers();
    let segments = rules.segments.clone();
    let mut rows = Vec::new();
    write_rows(&mut rows, &segments, [(1, &scored)].into_iter())?;
    let given = rows.len();

    let scoring = move || drop(black_box(score(&rules, black_box(batch.clone()))));
    let encoding =
        move || drop(write_rows(&mut io::sink(), &segments, [(1, black_box(&scored))].into_iter()));
    let name = format!("{customers}");
    Ok([
        Kernel { group: "score", name: name.clone(), bytes: taken as u64, run: Box::new(scoring) },
        Kernel { group: "rows", name, bytes: given as u64, run: Box::new(encoding) },
    ])
}

/// The search for repeated ids, and the comparison with the snapshot before.
fn snapshot_kernels(batch: Batch) -> anyhow::Result<[Kernel; 2]> {
    let rules = Rules { max_customers: usize::MAX, ..Rules::new(SegmentMap::built_in()?) };
    let (Ok(before), Ok(mut later)) = (score(&rules, batch.clone()), score(&rules, batch)) else {
        anyhow::bail!("the batch cannot be scored")
    };
    let ids = ids(later.customers());
    let bytes = ids.iter().map(|id| id.len() as u64).sum();
    let unique = ids.clone();
    let checking = move || {
        let _ = black_box(IdRule::Unique.check(Some(black_box(&unique))));
    };

    // An edge has jumped, so that all of the work is done.
    (later.customer_ids, later.as_of) = (Some(ids), before.as_of + Duration::from_secs(1));
    later.cuts.recency.edges = later.cuts.recency.edges.map(|edge| edge * 1.5);
    let mut known = Shifts::default();
    known.compare(&rules, 1, &before);
    let name = format!("{}", later.customers());
    let comparing = move || drop(black_box(known.clone().compare(&rules, 2, black_box(&later))));
    Ok([
        Kernel { group: "ids", name: name.clone(), bytes, run: Box::new(checking) },
        Kernel { group: "shifts", name, bytes, run: Box::new(comparing) },
    ])
}

/// Different ids in no order.
fn ids(customers: usize) -> CustomerIds {
    let mut ids = CustomerIds::default();
    (0..customers).for_each(|i| ids.push(format_args!("C{:08}", i * 7_919 % customers.next_power_of_two())));
    ids
}
