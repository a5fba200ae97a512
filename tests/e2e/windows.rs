//! The windows of `segments`: tables of the version before become partitioned, and rows go into the partition itself.

use crate::world::{World, repository, wait_for};
use diesel::connection::SimpleConnection;

impl World {
    fn run(&self, statements: &str) {
        self.connect().batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The tables as the version before made them, with `rows` rows of an earlier batch.
    fn of_the_version_before(name: &str, rows: u32) -> Self {
        let world = Self::new(name, 1);
        let mut versions = Vec::new();
        for migration in [
            "2026-11-23-000000_create_tables",
            "2026-11-25-000000_add_topic_ids",
            "2026-11-26-000000_compare_and_set",
        ] {
            let path = repository().join("migrations").join(migration).join("up.sql");
            world.run(&std::fs::read_to_string(path).unwrap());
            versions.push(format!("('{}')", migration.split('_').next().unwrap().replace('-', "")));
        }
        world.run(&format!(
            "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT now());
             INSERT INTO __diesel_schema_migrations (version) VALUES {};
             INSERT INTO segments SELECT nextval('batches_id_seq'), 1, 1, 1, n, 1, 1, 1, '11', 'hibernating', NULL
                FROM generate_series(1, {rows}) AS n;
             INSERT INTO batches SELECT DISTINCT batch_id, 'before', 0, batch_id, batch_id, batch_id, NULL, NULL, now(), 1,
                'share', 'default', '{{}}'::float8[], '{{}}'::float8[], '{{}}'::float8[], now() - interval '2 days' FROM segments",
            versions.join(", ")
        ));
        world
    }
}

/// How many rows are in a partition, and how many came there through the table.
const DIRECT: &str = "SELECT count(*) FROM segments_0";

#[test]
fn tables_of_the_version_before_keep_their_rows_and_what_users_made_on_them() {
    let world = World::of_the_version_before("upgraded", 1_000);
    let name = &world.name;
    world.run(&format!(
        "CREATE ROLE {name}_bi; GRANT SELECT ON segments TO {name}_bi; GRANT SELECT (rf_score) ON segments TO PUBLIC;
         CREATE VIEW per_segment WITH (security_barrier) AS SELECT segment, count(*) AS n FROM segments GROUP BY 1;
         CREATE VIEW above AS SELECT sum(n)::bigint AS n FROM per_segment; GRANT SELECT ON per_segment TO {name}_bi;
         CREATE PUBLICATION changes FOR TABLE segments; ALTER TABLE segments REPLICA IDENTITY FULL;
         CREATE INDEX by_customer ON segments (customer_id);
         ALTER TABLE segments ADD CONSTRAINT positive CHECK (row_no >= 0);
         COMMENT ON TABLE segments IS 'of ours'"
    ));
    let file = world.number("SELECT pg_relation_filenode('segments')");
    world.produce(&["--batches", "2", "--interval", "0"]);
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT pg_relation_filenode('segments_0')"), file, "no row was copied");
    // Both the rows of before and new ones are seen through everything.
    for (query, expected) in [
        ("SELECT count(*) FROM segments", 1_200),
        (DIRECT, 1_200),
        ("SELECT n FROM above", 1_200),
        (&format!("SELECT has_table_privilege('{name}_bi', 'segments', 'SELECT')::int"), 1),
        (&format!("SELECT has_table_privilege('{name}_bi', 'per_segment', 'SELECT')::int"), 1),
        ("SELECT has_column_privilege('public', 'segments', 'rf_score', 'SELECT')::int", 1),
        (
            "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'segments' AND pubname = 'changes'",
            1,
        ),
        (
            "SELECT count(*) FROM pg_class WHERE relname = 'per_segment' AND 'security_barrier=true' = ANY (reloptions)",
            1,
        ),
        (
            "SELECT count(*) FROM pg_class WHERE relname IN ('segments', 'segments_0') AND relreplident = 'f'",
            2,
        ),
        ("SELECT count(*) FROM pg_indexes WHERE tablename = 'segments' AND indexname = 'by_customer'", 1),
        (
            "SELECT count(*) FROM pg_constraint WHERE conname = 'positive' AND conrelid = 'segments'::regclass",
            1,
        ),
        ("SELECT (obj_description('segments'::regclass) = 'of ours')::int", 1),
    ] {
        assert_eq!(world.number(query), Some(expected), "{query}");
    }
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn what_the_migration_cannot_carry_over_is_named_and_nothing_is_changed() {
    let world = World::of_the_version_before("not_carried", 10);
    let cases = [
        (
            "CREATE MATERIALIZED VIEW frozen AS SELECT * FROM segments",
            "frozen",
            "DROP MATERIALIZED VIEW frozen",
        ),
        (
            "CREATE FUNCTION of_row(segments) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "of_row",
            "DROP FUNCTION of_row",
        ),
        ("CREATE VIEW whole AS SELECT s FROM segments s", "whole", "DROP VIEW whole"),
        (
            "CREATE VIEW theirs AS SELECT batch_id FROM segments;
             CREATE RULE taken AS ON DELETE TO theirs DO INSTEAD DELETE FROM segments WHERE batch_id = old.batch_id",
            "taken",
            "DROP VIEW theirs",
        ),
        ("CREATE UNIQUE INDEX once ON segments (row_no)", "once", "DROP INDEX once"),
        ("CREATE POLICY theirs ON segments USING (true)", "theirs", "DROP POLICY theirs ON segments"),
        ("CREATE TABLE segments_0 (n int)", "segments_0", "DROP TABLE segments_0"),
        (
            "INSERT INTO segments SELECT -1, 1, 1, 1, 1, 1, 1, 1, '11', 'x'",
            "batch ids",
            "DELETE FROM segments WHERE batch_id < 0",
        ),
    ];
    for (make, named, undo) in cases {
        world.run(make);
        let mut reader = world.reader(&[]);
        reader.fails(1, "this cannot be carried over");
        assert!(reader.said().contains(named), "{named}: {}", reader.said());
        let unchanged = "SELECT count(*) FROM pg_class WHERE relname = 'segments' AND relkind = 'r'";
        assert_eq!(world.number(unchanged), Some(1), "{make}");
        world.run(undo);
    }
    world.catch_up(&[]);
    assert_eq!(world.number(DIRECT), Some(10));
}

#[test]
fn the_ids_of_a_commit_may_lie_in_two_windows() {
    let world = World::new("straddling", 1);
    world.catch_up(&[]);
    let mut straddled = 0;
    for window in 1..=3_i64 {
        let last = window * 10_000_000_000 - 1;
        world.run(&format!("SELECT rfm_prepare_window({window}), setval('batches_id_seq', {})", last - 3));
        world.produce(&["--batches", "8", "--interval", "0"]);
        let reader = world.catch_up(&[]);
        straddled += u32::from(reader.said().contains("committed batches=8"));
        let rows = |window: i64| world.number(&format!("SELECT count(*) FROM ONLY segments_{window}"));
        let before = if window == 1 { 0 } else { 500 };
        assert_eq!((rows(window - 1), rows(window)), (Some(before + 300), Some(500)));
    }
    assert!(straddled > 0, "no round was one commit");
    world.verify(&["--progress", "--expect-batches", "24", "--expect-dead", "0"]);
}

#[test]
fn rows_go_through_the_table_where_a_partition_would_not_stand_for_it() {
    let world = World::new("through", 1);
    world.catch_up(&[]);
    // A trigger per statement sees only what goes through the table.
    world.run(
        "CREATE TABLE seen (n int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (1); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON segments FOR EACH STATEMENT EXECUTE FUNCTION note()",
    );
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM seen"), Some(1));
    world.run("DROP TRIGGER note ON segments");
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM seen"), Some(1));
    assert_eq!(world.number(DIRECT), Some(200));
}

#[test]
fn a_partition_that_is_detached_under_a_live_reader_loses_no_rows() {
    let world = World::new("detached", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    world.run("ALTER TABLE segments DETACH PARTITION segments_0");
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(2);
    assert!(
        reader.said().contains("`segments` has no partition for the batch ids from 0"),
        "{}",
        reader.said()
    );
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(100));
    assert_eq!(world.number("SELECT count(*) FROM segments_0"), Some(100));
    reader.stop();
}

#[test]
fn a_window_that_a_backup_lacks_is_made_when_a_reader_starts() {
    let world = World::new("lacking", 1);
    world.catch_up(&[]);
    world.run("SELECT setval('batches_id_seq', 29999999999)");
    world.produce(&["--batches", "3", "--interval", "0"]);
    wait_for("three batches", || {
        let mut reader = world.reader(&["--until-caught-up"]);
        reader.catches_up();
        (world.number("SELECT count(*) FROM batches") == Some(3)).then_some(())
    });
    assert_eq!(world.number("SELECT count(*) FROM segments WHERE batch_id >= 30000000000"), Some(300));
    assert_eq!(
        world.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'segments'::regclass"),
        Some(2)
    );
    world.verify(&["--progress", "--expect-dead", "0"]);
}
