//! What people look at: the views and functions. `tests/python/results.py` computes their answers anew.

use crate::kafka::Plain;
use crate::world::{World, repository};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use std::fmt::Write as _;
use std::process::Command;

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

/// A snapshot as a sender sends it.
#[derive(Clone, Copy)]
struct Snapshot {
    key: &'static str,
    population: Option<&'static str>,
    /// The month of `as_of`.
    month: u32,
    /// How often it was corrected: other values, and a later message time.
    correction: u32,
    /// Whether it names the customers.
    has_ids: bool,
    partition: i32,
}

impl Snapshot {
    /// The ids: some come, some go, and in later months one stands twice.
    fn ids(self) -> Vec<String> {
        let mut ids: Vec<String> = (self.month..40 + 2 * self.month).map(|i| format!("c{i}")).collect();
        ids.insert(3, "ann".to_owned());
        ids.insert(5, "twin".to_owned());
        if self.month > 4 {
            ids.push("twin".to_owned());
        }
        ids
    }

    /// Values with many ties, cents and refunds.
    fn values(self, metric: usize) -> Vec<f64> {
        let seed = self.month * 7 + self.correction * 5;
        let count = self.ids().len() as u32;
        let value = |i: u32| match metric {
            0 => f64::from((i * 37 + seed * 11) % 90),
            1 => f64::from(1 + (i * i + seed) % 17 / 4),
            _ => f64::from((i * 7919 + seed * 104_729) % 100_000) / 100.0 - 150.0,
        };
        (0..count).map(value).collect()
    }

    fn send(self, plain: &Plain, topics: &[String; 3], begin: DateTime<Utc>) {
        for (place, topic) in topics.iter().enumerate() {
            let (metric, values) = (METRICS[place], self.values(place));
            let mut body =
                format!(r#"{{"{metric}":{values:?},"as_of":"2026-{:02}-01T00:00:00Z""#, self.month);
            if let Some(population) = self.population {
                write!(body, r#","population":"{population}""#).unwrap();
            }
            if self.has_ids && place == 0 {
                write!(body, r#","customer_id":{:?}"#, self.ids()).unwrap();
            }
            body.push('}');
            // The months were sent one after the other, within the retention of the topics.
            let time =
                begin.timestamp_millis() + i64::from(self.month * 60_000 + self.correction * 3_600_000);
            let (key, body) = (Some(self.key.as_bytes()), Some(body.as_bytes()));
            plain.send_at(topic, self.partition, key, body, Some(time));
        }
    }
}

/// Snapshots with duplicates, late ones, populations, and some without ids.
fn snapshots() -> Vec<Snapshot> {
    let plain = Snapshot { key: "", population: None, month: 0, correction: 0, has_ids: true, partition: 0 };
    let of = |key, month| Snapshot { key, month, ..plain };
    vec![
        of("one", 1),
        of("three", 3),
        of("four", 4),
        of("five", 5),
        // Late: the month before was sent after this one.
        of("two", 2),
        // Sent twice in the same millisecond by a retry: the keys decide, as bytes.
        Snapshot { partition: 1, ..of("Six", 6) },
        of("six", 6),
        // Corrected, and the correction is stored first: another partition.
        Snapshot { correction: 2, partition: 1, ..of("three again", 3) },
        Snapshot { correction: 1, ..of("three later", 3) },
        // A correction that is retracted below.
        Snapshot { correction: 3, partition: 1, ..of("four wrong", 4) },
        of("seven", 7),
        Snapshot { population: Some("de"), ..of("de@6", 6) },
        Snapshot { population: Some("de"), ..of("de@7", 7) },
        // The newest of all is of another population.
        Snapshot { population: Some(r"fr'; --%"), ..of("fr@8", 8) },
        Snapshot { population: Some("nameless"), has_ids: false, ..of("nameless@6", 6) },
        Snapshot { population: Some("nameless"), has_ids: false, ..of("nameless@7", 7) },
    ]
}

/// Runs the judge.
fn judge(world: &World, flags: &[&str]) -> String {
    let python = repository().join("target/python/bin/python");
    let mut command = Command::new(python);
    command.current_dir(repository()).arg("tests/python/results.py").arg(&world.database_url).args(flags);
    let output = command.output().expect("target/python exists: scripts/test makes it");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the judge found differences: {said}");
    said
}

/// The same servers and topics, seen by another group.
fn as_group(world: &World, group: &str) -> World {
    let World { topics, kafka, database_url, partitions, .. } = world;
    let (topics, kafka, database_url) = (topics.clone(), kafka.clone(), database_url.clone());
    World { name: group.to_owned(), topics, kafka, database_url, partitions: *partitions }
}

#[test]
fn views_functions_and_the_queries_of_the_documents_give_the_recomputed_answers() {
    let world = as_group(&World::new("results", 2), "rfm-reader");
    let plain = Plain::new(&world.kafka);
    let begin = Utc::now() - TimeDelta::hours(6);
    snapshots().iter().for_each(|snapshot| snapshot.send(&plain, &world.topics, begin));
    for (place, topic) in world.topics.iter().enumerate() {
        let body = if place == 1 { "[no json" } else { r#"{"recency":[1],"monetary":[2]}"# };
        plain.send(topic, 0, Some(b"bad"), Some(body.as_bytes()));
    }
    plain.flush();
    world.catch_up(&[]);
    // Another group scores the same topics in its own way.
    let map = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(map.path(), "5. recent\n.. other\n").unwrap();
    let other = as_group(&world, "other");
    other.catch_up(&["--segment-map", map.path().to_str().unwrap(), "--ties", "rank"]);
    let wrong = "SELECT id FROM batches WHERE batch_key = 'four wrong' AND consumer_group = 'rfm-reader'";
    let wrong = world.number(wrong).unwrap().to_string();
    world.command(&["retract", &wrong]).succeeds();
    world
        .connect()
        .batch_execute(
            r#"UPDATE dead_letters SET topic = 'frequency', "offset" = 826
               WHERE consumer_group = 'rfm-reader' AND topic LIKE '%.frequency'"#,
        )
        .unwrap();
    let said = judge(&world, &["--changes", "--documents", "README.md", "docs/guide.md"]);
    assert!(said.contains("checked: Where did the customers go"), "{said}");
}

/// The partitions of `segments` from which a query reads.
fn partitions_read(world: &World, query: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Read {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
    }
    let mut connection = world.connect();
    let read = "SELECT relname::text AS name FROM pg_stat_xact_user_tables
        WHERE relname LIKE 'segments\\_%' AND coalesce(seq_scan, 0) + coalesce(idx_scan, 0) > 0 ORDER BY relname";
    connection
        .transaction(|connection| {
            connection.batch_execute(query)?;
            diesel::sql_query(read).load::<Read>(connection)
        })
        .unwrap()
        .into_iter()
        .map(|read| read.name)
        .collect()
}

#[test]
fn no_view_reads_partitions_that_it_does_not_need() {
    let world = World::new("partitions_read", 1);
    world.catch_up(&[]);
    // A batch per window: of two groups in turns, 0 to 5.
    world
        .connect()
        .batch_execute(
            "SELECT rfm_prepare_window(n) FROM generate_series(1, 5) n;
             INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, as_of,
                customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges)
             SELECT n * 10000000000 + 7, 'group' || n % 2, 0, n, n, n, now() + n * interval '1 day', 200, 'share', 'default',
                '{1,2,3,4,5,6}', '{1,2,3,4,5,6}', '{1,2,3,4,5,6}' FROM generate_series(0, 5) n;
             INSERT INTO segments SELECT n * 10000000000 + 7, i, i, i, i, 5, 5, 5, '55', 'champions', i
             FROM generate_series(0, 5) n, generate_series(0, 199) i;
             UPDATE batches SET expired_at = now() WHERE id = 7;
             ANALYZE",
        )
        .unwrap();
    let all: &[&str] = &["segments_1", "segments_2", "segments_3", "segments_4", "segments_5"];
    let cases: [(&str, &[&str]); 9] = [
        ("SELECT * FROM snapshots", &[]),
        ("SELECT * FROM latest_snapshots", &[]),
        ("SELECT * FROM segment_summary", &[]),
        ("SELECT * FROM customer_segments", &["segments_4", "segments_5"]),
        ("SELECT * FROM customer_segments WHERE consumer_group = 'group1'", &["segments_5"]),
        (
            "SELECT segment, count(*) FROM customer_segments WHERE batch_id = 40000000007 GROUP BY 1",
            &["segments_4"],
        ),
        ("SELECT * FROM segment_moves(20000000007, 40000000007)", &["segments_2", "segments_4"]),
        ("SELECT * FROM customer_history('7')", all),
        (
            "SELECT * FROM customer_history('7') WHERE consumer_group = 'group0'",
            &["segments_2", "segments_4"],
        ),
    ];
    for (query, partitions) in cases {
        assert_eq!(partitions_read(&world, query), partitions, "{query}");
    }
}

/// How many rows of `batches` a query reads.
fn batches_read(world: &World, query: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Read {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        rows: i64,
    }
    let read =
        "SELECT seq_tup_read + idx_tup_fetch AS rows FROM pg_stat_xact_user_tables WHERE relname = 'batches'";
    let read = world.connect().transaction(|connection| {
        connection.batch_execute(query)?;
        diesel::sql_query(read).get_result::<Read>(connection)
    });
    read.unwrap().rows
}

#[test]
fn a_list_of_the_newest_snapshots_reads_little_more_than_it_lists() {
    let world = World::new("newest_snapshots", 1);
    world.catch_up(&[]);
    // Most have no population, as when nobody names one; every tenth is of a shop. The group `few` has ten.
    world
        .connect()
        .batch_execute(
            "INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, population,
                as_of, produced_at, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges)
             SELECT n, CASE WHEN n % 2000 = 0 THEN 'few' ELSE 'many' END, 0, n, n, n, CASE WHEN n % 10 = 0 THEN 'shop' END,
                now() + n * interval '1 minute', now(), 200, 'share', 'default', '{1,2,3,4,5,6}', '{1,2,3,4,5,6}',
                '{1,2,3,4,5,6}' FROM generate_series(1, 20000) n;
             ANALYZE",
        )
        .unwrap();
    for (query, most) in [
        ("SELECT * FROM snapshots ORDER BY as_of DESC LIMIT 20", 100),
        ("SELECT * FROM snapshots WHERE population IS NULL ORDER BY as_of DESC LIMIT 20", 100),
        ("SELECT * FROM snapshots WHERE population = 'shop' ORDER BY as_of DESC LIMIT 20", 500),
        ("SELECT * FROM snapshots WHERE consumer_group = 'many' ORDER BY as_of DESC LIMIT 20", 100),
        ("SELECT * FROM snapshots WHERE consumer_group = 'few' ORDER BY as_of DESC LIMIT 20", 100),
        ("SELECT * FROM snapshots WHERE batch_id = 12345", 10),
        // Which groups and populations there are, every batch tells.
        ("SELECT * FROM latest_snapshots", 20_000 + 100),
    ] {
        let read = batches_read(&world, query);
        assert!(read <= most, "{read} rows: {query}");
    }
}

#[test]
fn the_latest_snapshots_of_many_populations_of_which_most_have_ended_are_found_at_once() {
    let world = World::new("ended_populations", 1);
    world.catch_up(&[]);
    // 200 shops report at the same instants. Of these, 190 ended before the last 100 of them.
    world
        .connect()
        .batch_execute(
            "INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, population,
                as_of, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges)
             SELECT n, 'shops', 0, n, n, n, 'shop ' || n % 200, now() + n / 200 * interval '1 minute', 200, 'share', 'default',
                '{1,2,3,4,5,6}', '{1,2,3,4,5,6}', '{1,2,3,4,5,6}' FROM generate_series(0, 39999) n
             WHERE n < 20000 OR n % 200 < 10;
             ANALYZE",
        )
        .unwrap();
    let all = 21_000;
    let read = batches_read(&world, "SELECT * FROM latest_snapshots");
    assert!(read <= all + 200 * 10, "{read} rows of {all}");
    assert_eq!(world.number("SELECT count(*) FROM latest_snapshots"), Some(200));
}

#[test]
fn options_that_users_have_set_on_the_views_outlive_the_migration() {
    const MIGRATION: &str = include_str!("../../migrations/2026-11-28-000000_newest_snapshots/up.sql");
    const BACK: &str = include_str!("../../migrations/2026-11-28-000000_newest_snapshots/down.sql");
    let world = World::new("view_options", 1);
    world.catch_up(&[]);
    let options = || {
        lines(
            &world,
            "SELECT relname, reloptions FROM pg_class WHERE oid IN ('snapshots'::regclass, 'latest_snapshots'::regclass)
             ORDER BY relname",
        )
    };
    let mut connection = world.connect();
    connection
        .batch_execute(
            "ALTER VIEW snapshots SET (security_barrier = true); ALTER VIEW latest_snapshots SET (security_barrier = on)",
        )
        .unwrap();
    let set = options();
    assert_eq!(set.len(), 2);
    for migration in [BACK, MIGRATION] {
        connection.batch_execute(migration).unwrap();
        assert_eq!(options(), set);
    }
}

/// A table of numbers, one a line, of a query.
fn lines(world: &World, query: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = diesel::sql_types::Text)]
        line: String,
    }
    let query = format!("SELECT q::text AS line FROM ({query}) q");
    let lines: Vec<Line> = diesel::sql_query(query).load(&mut world.connect()).unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

/// A batch stored by hand, whose sums are what `cells` says of the first cells of the grid.
fn store(world: &World, id: i64, columns: &str, values: &str) {
    let statement = format!(
        "INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, as_of, customers,
            ties, segment_map, recency_edges, frequency_edges, monetary_edges, {columns})
         VALUES ({id}, 'by hand', 0, {id}, {id}, {id}, now(), 5, 'share', 'default', '{{1,1,2,3,4,4}}', '{{0,0,0,1,2,3}}',
            '{{1,2,3,4,5,6}}', {values})"
    );
    world.connect().batch_execute(&statement).unwrap();
}

#[test]
fn a_summary_is_null_where_nothing_is_known_and_never_an_error() {
    let world = World::new("summaries", 1);
    world.catch_up(&[]);
    let columns = "rf_customers, rf_recency, rf_frequency, rf_monetary, edges_from";
    // Two cells, of hibernating (11) and champions (55), among 25.
    let cells = |first: &str, last: &str| {
        format!("array_cat('{{{first}}}'::float8[] || array_fill(0::float8, '{{23}}'), '{{{last}}}')")
    };
    let customers = "array_cat('{4}'::int[] || array_fill(0, '{23}'), '{1}')";
    let batch = |recency: &str, frequency: &str, monetary: &str| {
        format!("{customers}, {recency}, {frequency}, {monetary}, 'quintiles'")
    };
    store(&world, 1, columns, &batch(&cells("8", "3"), &cells("4", "9"), &cells("-50", "150")));
    store(&world, 2, columns, &batch(&cells("8", "3"), "NULL", &cells("-50", "50")));
    store(
        &world,
        3,
        columns,
        &batch(&cells("1e308", "1e308"), &cells("5e-324", "1"), &cells("1.7e308", "1.7e308")),
    );
    store(&world, 4, "edges_from", "NULL");
    store(&world, 5, columns, &batch(&cells("8", "3"), &cells("4", "9"), &cells("5e-324", "1e300")));
    let summary = |id: i64| {
        lines(
            &world,
            &format!(
                "SELECT customers, share, mean_recency, mean_frequency, monetary, monetary_share FROM segment_summary
                 WHERE batch_id = {id} AND segment IN ('hibernating', 'champions', 'at_risk') ORDER BY segment"
            ),
        )
    };
    assert_eq!(summary(1), ["(0,0,,,0,0)", "(1,0.2,3,9,150,1.5)", "(4,0.8,2,1,-50,-0.5)"]);
    assert_eq!(
        summary(2),
        ["(0,0,,,0,)", "(1,0.2,3,,50,)", "(4,0.8,2,,-50,)"],
        "no frequency, and a total of 0"
    );
    assert_eq!(
        summary(3),
        ["(0,0,,,0,0)", "(1,0.2,1e+308,1,1.7e+308,0.5)", "(4,0.8,2.5e+307,0,1.7e+308,0.5)"]
    );
    assert_eq!(summary(4), ["(,,,,,)"; 3], "of an earlier version");
    assert_eq!(summary(5)[2], "(4,0.8,2,1,5e-324,0)");
    assert_eq!(world.number("SELECT count(*) FROM segment_summary WHERE batch_id = 4"), Some(10));
    assert_eq!(world.number("SELECT customers FROM snapshots WHERE batch_id = 4"), Some(5));
}

#[test]
fn empty_quintiles_are_counted_of_metrics_that_quintiles_cut() {
    let world = World::new("empty_quintiles", 1);
    world.catch_up(&[]);
    store(&world, 1, "edges_from", "NULL");
    let empty = |set: &str| {
        world.connect().batch_execute(&format!("UPDATE batches SET {set} WHERE id = 1")).unwrap();
        world.number("SELECT empty_quintiles FROM snapshots WHERE batch_id = 1")
    };
    assert_eq!(empty("edges_from = 'quintiles'"), Some(4));
    assert_eq!(empty("edges_from = NULL"), Some(4));
    assert_eq!(empty("edges_from = 'batch:7'"), Some(0));
    assert_eq!(empty("edges_from = 'abc', fixed_metrics = '{frequency}'"), Some(2), "of a file");
    assert_eq!(empty("edges_from = 'abc', fixed_metrics = NULL"), None, "which metrics is not known");
}

#[test]
fn moves_of_rows_that_are_gone_or_nameless_are_refused_and_repeated_ids_do_not_multiply() {
    let world = World::new("moves", 1);
    world.catch_up(&[]);
    for id in 1..=4 {
        store(&world, id, "edges_from", "NULL");
    }
    world
        .connect()
        .batch_execute(
            "UPDATE batches SET customers = 20000 WHERE id < 3;
             INSERT INTO segments SELECT b, 1, 1, 1, i, 5, 5, 5, '55', CASE WHEN i < 100 * b THEN 'champions' ELSE 'at_risk' END,
                CASE WHEN i < 19000 THEN 'guest' ELSE 'c' || i + b END
             FROM generate_series(1, 2) b, generate_series(0, 19999) i;
             INSERT INTO segments SELECT 3, 1, 1, 1, i, 5, 5, 5, '55', 'champions', NULL FROM generate_series(0, 4) i",
        )
        .unwrap();
    // 19 000 guests in both would be 361 000 000 pairs.
    let moves = lines(&world, "SELECT * FROM segment_moves(1, 2)");
    let expected = [
        "(at_risk,at_risk,19799)",
        "(at_risk,champions,100)",
        "(at_risk,,1)",
        "(champions,champions,100)",
        "(,at_risk,1)",
    ];
    assert_eq!(moves, expected);
    for (from, to, words) in [
        ("1", "3", "have no ids"),
        ("1", "4", "rows of batch 1 or batch 4 are gone"),
        ("99", "1", "there is no batch 99"),
        ("NULL", "1", "there is no batch NULL"),
    ] {
        let refused = world.connect().batch_execute(&format!("SELECT * FROM segment_moves({from}, {to})"));
        assert!(refused.unwrap_err().to_string().contains(words), "{words}");
    }
    for (set, words) in [
        ("retracted_at = now()", "it was retracted"),
        ("retracted_at = NULL, expired_at = now()", "--retain"),
    ] {
        let set = format!("UPDATE batches SET {set} WHERE id = 1");
        world.connect().batch_execute(&set).unwrap();
        let refused = world.connect().batch_execute("SELECT * FROM segment_moves(1, 2)");
        assert!(refused.unwrap_err().to_string().contains(words), "{words}");
    }
}

#[test]
fn names_that_a_user_has_taken_are_named_and_nothing_is_changed() {
    let world = World::new("taken", 1);
    let mine = "CREATE VIEW snapshots AS SELECT 1 AS one; CREATE FUNCTION customer_history(text) RETURNS int
        LANGUAGE sql AS 'SELECT 1'";
    world.connect().batch_execute(mine).unwrap();
    let mut reader = world.reader(&["--until-caught-up"]);
    reader.fails(1, "there are others of these names: ");
    for name in ["snapshots", "customer_history(text)"] {
        assert!(reader.said().contains(name), "{}", reader.said());
    }
    assert!(reader.said().contains("rename or drop yours"), "{}", reader.said());
    assert_eq!(world.number("SELECT count(*) FROM pg_class WHERE relname = 'segment_maps'"), Some(0));
    world
        .connect()
        .batch_execute("ALTER VIEW snapshots RENAME TO my_snapshots; DROP FUNCTION customer_history(text)")
        .unwrap();
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT one FROM my_snapshots"), Some(1));
    assert_eq!(world.number("SELECT count(*) FROM segment_maps WHERE segment_map = 'default'"), Some(25));
}

#[test]
fn views_survive_a_dump_and_a_restore() {
    let world = World::new("dumped", 1);
    world.produce(&["--batches", "2", "--interval", "0"]);
    world.catch_up(&[]);
    let restored = World::without_topics("restored", &world.kafka, 1);
    let dump = Command::new("pg_dump").arg(&world.database_url).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dump.stdout).unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file.path()).arg(&restored.database_url);
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for query in [
        "SELECT * FROM snapshots",
        "SELECT * FROM segment_summary",
        "SELECT * FROM customer_segments",
        "SELECT * FROM customer_history('1')",
        "SELECT obj_description('snapshots'::regclass), obj_description('segment_moves(bigint,bigint)'::regprocedure)",
    ] {
        assert_eq!(lines(&restored, query), lines(&world, query), "{query}");
    }
}
