//! An upgrade goes on exactly where the version before it stopped.
//!
//! `upgrading/make` made the log and the tables with that version.

use crate::kafka::Plain;
use crate::world::{Server, World, repository, shared_postgres};
use diesel::connection::SimpleConnection as _;

/// What the version before stored, as it stored it.
const STORED: &str = "
    SELECT ('x' || left(md5(string_agg(row::text, E'\\n' ORDER BY row::text)), 15))::bit(60)::bigint FROM (
        SELECT (id, partition, recency_offset, frequency_offset, monetary_offset, batch_key, as_of, customers, ties,
            segment_map, recency_edges, frequency_edges, monetary_edges, stored_at) AS row
        FROM batches WHERE id <= 8
        UNION ALL SELECT (batch_id, row_no, recency, frequency, monetary, recency_score, frequency_score,
            monetary_score, rf_score, segment, customer_id) FROM segments WHERE batch_id <= 8
        UNION ALL SELECT (id, topic, partition, \"offset\", key, value, reason, detail, produced_at, stored_at)
        FROM dead_letters WHERE id <= 6) AS rows";

/// The tables as the version before left them.
fn backup() -> String {
    std::fs::read_to_string(repository().join("tests/e2e/upgrading/tables.sql")).unwrap()
}

/// The servers as the version before left them.
fn world() -> (World, Server) {
    let broker = Server::kafka_from(&repository().join("tests/e2e/upgrading/log.tar.gz"));
    let mut world = World::on("upgrade", &broker.address, &shared_postgres(), 2);
    world.name = "earlier".to_owned();
    world.topics = ["recency", "frequency", "monetary"].map(|metric| format!("earlier.{metric}"));
    world.connect().batch_execute(&backup()).unwrap();
    (world, broker)
}

#[test]
fn an_upgrade_goes_on_where_the_version_before_stopped() {
    let (world, _broker) = world();
    // Who could read the tables can read the views.
    let role = format!("{}_bi", world.database_url.rsplit('/').next().unwrap());
    let grants = format!("CREATE ROLE {role}; GRANT SELECT ON batches, segments TO {role}");
    world.connect().batch_execute(&grants).unwrap();
    let stored = world.number(STORED);
    assert!(stored.is_some(), "the rows of the version before");
    let mut reader = world.reader(&[]);
    world.wait_for_batches(12);
    let plain = Plain::new(&world.kafka);
    for metric in ["frequency", "monetary"] {
        let body = format!(r#"{{"{metric}": [6, 5, 4, 3, 2, 1]}}"#);
        plain.send(&format!("earlier.{metric}"), 1, Some(b"late"), Some(body.as_bytes()));
    }
    plain.flush();
    world.wait_for_batches(13);
    reader.stop();
    assert_eq!(world.number(STORED), stored, "what was stored is as it was");
    assert_eq!(world.number("SELECT max(id) FROM batches"), Some(13), "ids go on");
    assert_eq!(
        world.number("SELECT count(*) FROM batches WHERE batch_key = 'late' AND recency_offset = 0"),
        Some(1)
    );
    world.verify(&["--progress", "--expect-batches", "13", "--expect-dead", "6"]);
    let known = "SELECT count(*) FROM segment_summary WHERE batch_id <= 8 AND customers IS NOT NULL";
    assert_eq!(world.number(known), Some(0), "what was not added up is not known");
    assert_eq!(world.number("SELECT count(*) FROM segment_summary WHERE batch_id <= 8"), Some(80));
    let counted = "SELECT count(*) FROM snapshots JOIN batches ON id = batch_id WHERE id <= 8 AND snapshots.customers = batches.customers";
    assert!(world.number(counted) > Some(0), "how many customers there were is known");
    for what in ["snapshots", "latest_snapshots", "segment_summary", "customer_segments", "segment_maps"] {
        let reads = format!("SELECT has_table_privilege('{role}', '{what}', 'SELECT')::int");
        assert_eq!(world.number(&reads), Some(1), "{what}");
    }
}

/// As `pg_restore --clean` does, after what docs/operations.md says: it drops what it has, and no more.
#[test]
fn after_a_backup_of_the_version_before_a_restart_brings_the_tables_up_to_date() {
    let (world, _broker) = world();
    let mut reader = world.reader(&[]);
    world.wait_for_batches(12);
    let mut admin = world.connect();
    admin
        .batch_execute(
            "DROP VIEW snapshots, latest_snapshots, segment_summary, customer_segments CASCADE;
             DROP TABLE segments, batches, dead_letters, progress, sources, __diesel_schema_migrations",
        )
        .unwrap();
    admin.batch_execute(&backup()).unwrap();
    reader.wait_until_it_says("batches.edges_from: a restore is under way");
    reader.stop();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-batches", "12", "--expect-dead", "7"]);
}
