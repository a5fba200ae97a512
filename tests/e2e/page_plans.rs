//! What the page's questions read in Postgres: the plans by which it has answered them (`auto_explain`).
//!
//! Nothing here is timed. **Every statement of the page's connection is looked at**, also those that nobody has thought
//! of here.

use crate::probe::{ANY_PORT, Probe};
use crate::world::{Server, World, shared_kafka, wait_for};
use diesel::connection::SimpleConnection as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Snapshots beside those that have rows.
const MANY: u32 = 100_000;
/// A batch in each of these windows.
const WINDOWS: u32 = 5;

/// A statement with its plan.
struct Planned {
    /// The process of the server.
    pid: String,
    /// The statement.
    query: String,
    /// Its uppermost node.
    root: Value,
}

/// What a node of a plan has read.
#[derive(Debug)]
struct Read {
    /// The kind of the node.
    node: String,
    /// The table; empty if it reads other nodes.
    table: String,
    /// The index, if it uses one.
    index: String,
    /// How many rows, in all loops, with those that a filter has removed.
    rows: f64,
}

/// A reader with its page, and a server that writes plans into its log.
struct Watched {
    world: World,
    probe: Probe,
    log: PathBuf,
    _daemon: crate::world::Daemon,
    _postgres: Server,
}

impl Watched {
    /// With a batch in each window, and `MANY` older ones without rows.
    fn new() -> Self {
        let postgres = Server::postgres();
        let world = World::on("page_plans", &shared_kafka(), &postgres.address, 1);
        crate::kafka::create_topics(&world.kafka, &world.topics, 1);
        let name = &world.name;
        let settings = [
            ("session_preload_libraries", "'auto_explain'"),
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_analyze", "on"),
            ("auto_explain.log_timing", "off"),
            ("auto_explain.log_format", "'json'"),
            ("auto_explain.log_nested_statements", "on"),
        ];
        let settings =
            settings.map(|(name_of, value)| format!("ALTER DATABASE {name} SET {name_of} = {value};"));
        let daemon = world.reader(&ANY_PORT);
        let probe = Probe::of(&daemon);
        probe.wait_for_readyz(200);
        fill(&world);
        // The page has not connected yet.
        world.connect().batch_execute(&settings.concat()).unwrap();
        let log = postgres.path.join("pg/log");
        Self { world, probe, log, _daemon: daemon, _postgres: postgres }
    }

    /// The plans of the page's connection for a question.
    fn plans(&self, path: &str) -> Vec<Planned> {
        let before = self.said().len();
        let answer = self.probe.get(path);
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
        let pages = "coalesce((SELECT max(id) FROM batches)";
        wait_for("plans", || {
            let planned = planned(&self.said()[before..]);
            let pids: BTreeSet<String> =
                planned.iter().filter(|one| one.query.contains(pages)).map(|one| one.pid.clone()).collect();
            let plans: Vec<Planned> = planned.into_iter().filter(|one| pids.contains(&one.pid)).collect();
            plans.iter().any(|one| !one.query.contains(pages)).then_some(plans)
        })
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn id(&self, window: u32) -> i64 {
        i64::from(window) * 10_000_000_000 + 7
    }
}

fn fill(world: &World) {
    let (name, last) = (&world.name, WINDOWS);
    let columns = "id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, as_of, customers, ties,
        segment_map, recency_edges, frequency_edges, monetary_edges, rf_customers, rf_recency, rf_frequency, rf_monetary";
    let values = "200, 'share', 'default', '{1,2,3,4,5,6}'::float8[], '{1,2,3,4,5,6}'::float8[], '{1,2,3,4,5,6}'::float8[],
        array_fill(8, ARRAY[25]), array_fill(8::float8, ARRAY[25]), array_fill(8::float8, ARRAY[25]),
        array_fill(8::float8, ARRAY[25])";
    let query = format!(
        "SELECT rfm_prepare_window(n) FROM generate_series(1, {last}) n;
         INSERT INTO batches ({columns})
         SELECT n * 10000000000 + 7, '{name}', 7, n, n, n, timestamptz '2026-01-01Z' + n * interval '1 day', {values}
         FROM generate_series(1, {last}) n;
         INSERT INTO batches ({columns})
         SELECT -i, '{name}', 7, 1000 + i, 1000 + i, 1000 + i, timestamptz '2026-01-01Z' - i * interval '1 second', {values}
         FROM generate_series(1, {MANY}) i;
         INSERT INTO segments SELECT n * 10000000000 + batch, i, i, i, i, 5, 5, 5, '55', 'champions', i
         FROM generate_series(1, {last}) n, generate_series(1, 7) batch, generate_series(0, 199) i;
         ANALYZE"
    );
    world.connect().batch_execute(&query).unwrap();
}

/// The plans in a log, whatever language the server speaks.
fn planned(log: &str) -> Vec<Planned> {
    let (mut planned, mut pid, mut json) = (Vec::new(), String::new(), String::new());
    for line in log.lines() {
        match line.strip_prefix('\t') {
            Some(more) => json.push_str(more),
            None => {
                json.clear();
                pid = line
                    .split_once('[')
                    .and_then(|(_, rest)| rest.split_once(']'))
                    .map_or("", |(pid, _)| pid)
                    .to_owned();
            }
        }
        if line == "\t}"
            && let Ok(whole) = serde_json::from_str::<Value>(&json)
            && let Some(query) = whole["Query Text"].as_str()
        {
            planned.push(Planned { pid: pid.clone(), query: query.to_owned(), root: whole["Plan"].clone() });
        }
    }
    planned
}

/// What the nodes of a plan have read and sorted.
fn reads(node: &Value) -> Vec<Read> {
    let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let of_loop =
        number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    let own = Read {
        node: text("Node Type"),
        table: text("Relation Name"),
        index: text("Index Name"),
        rows: of_loop * number("Actual Loops"),
    };
    let below = node["Plans"].as_array().into_iter().flatten().flat_map(reads);
    std::iter::once(own).chain(below).collect()
}

#[test]
fn no_question_of_the_page_reads_a_partition_of_segments_that_it_does_not_need() {
    let watched = Watched::new();
    let id = |window| watched.id(window);
    let cases: [(String, &[&str]); 8] = [
        ("/".to_owned(), &["segments_5"]),
        (format!("/?batch={}", id(3)), &["segments_3"]),
        (format!("/?batch={}&since={}", id(4), id(2)), &["segments_2", "segments_4"]),
        (format!("/api/moves?from={}&to={}", id(1), id(3)), &["segments_1", "segments_3"]),
        (format!("/api/batches/{}", id(2)), &[]),
        ("/api/batches".to_owned(), &[]),
        ("/api/batches?population=&limit=1000".to_owned(), &[]),
        ("/?batch=-500".to_owned(), &["segments_0"]),
    ];
    for (path, expected) in cases {
        let plans = watched.plans(&path);
        let read: Vec<Read> = plans.iter().flat_map(|plan| reads(&plan.root)).collect();
        for plan in plans.iter().filter(|plan| plan.query.contains("customer_id IS NOT NULL")) {
            let read = reads(&plan.root);
            let is_whole = |read: &Read| read.table.starts_with("segments") && read.node == "Seq Scan";
            assert!(!read.iter().any(is_whole), "{path}: one row is looked for in all: {read:#?}");
        }
        let partitions: BTreeSet<&str> = read
            .iter()
            .map(|read| read.table.as_str())
            .filter(|table| table.starts_with("segments"))
            .collect();
        assert!(
            partitions.iter().all(|partition| expected.contains(partition)),
            "{path}: {partitions:?}, not {expected:?}"
        );
        // (A window without rows of the batch may be left out.)
        assert!(
            path.contains("=-") || partitions.len() == expected.len(),
            "{path}: {partitions:?}, not {expected:?}"
        );
    }
}

#[test]
fn a_list_of_100_000_snapshots_is_read_by_its_index_up_to_its_limit_and_not_sorted() {
    let watched = Watched::new();
    let cases = [
        ("/".to_owned(), 61.0),
        ("/?population=".to_owned(), 61.0),
        ("/?batch=-50000".to_owned(), 61.0),
        ("/api/batches".to_owned(), 60.0),
        ("/api/batches?limit=1000".to_owned(), 1000.0),
        ("/api/batches?population=nobody".to_owned(), 1.0),
    ];
    for (path, limit) in cases {
        let plans = watched.plans(&path);
        let lists: Vec<&Planned> =
            plans.iter().filter(|plan| plan.query.contains("RECURSIVE walk")).collect();
        assert!(!lists.is_empty(), "{path}");
        for list in lists {
            let read = reads(&list.root);
            let of_table = || read.iter().filter(|read| read.table == "batches");
            assert!(of_table().all(|read| read.index == "batches_snapshots"), "{path}: {read:#?}");
            // Of each snapshot its time, its row and the one before; and one more to see that there is none.
            let rows: f64 = of_table().map(|read| read.rows).sum();
            assert!(rows <= 4.0 * limit, "{path}: {rows} rows of `batches` for {limit} snapshots: {read:#?}");
            let sorted = read.iter().filter(|read| read.node.contains("Sort")).map(|read| read.rows);
            assert!(sorted.fold(0.0, f64::max) <= limit, "{path}: {read:#?}");
        }
        // All else is found by ids. Only all populations are looked for in every batch.
        for plan in plans.iter().filter(|plan| {
            !plan
                .query
                .contains("FROM batches WHERE consumer_group = $1 AND retracted_at IS NULL ORDER BY named")
        }) {
            let read = reads(&plan.root);
            let most =
                read.iter().filter(|read| read.table == "batches").map(|read| read.rows).fold(0.0, f64::max);
            assert!(most <= 3.0 * limit.max(1000.0), "{path}: {}: {read:#?}", plan.query);
            assert!(
                read.iter().all(|read| read.table != "batches" || read.node != "Seq Scan"),
                "{path}: {}: {read:#?}",
                plan.query
            );
        }
    }
    assert_eq!(watched.world.number("SELECT count(*) FROM batches"), Some(i64::from(MANY + WINDOWS)));
}
