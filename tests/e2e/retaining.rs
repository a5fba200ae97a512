//! Windows of `segments` that come and go, with days of a second or two: nothing is lost, nothing stays, nobody waits.

use crate::slowness;
use crate::world::{Daemon, Server, World, connect, shared_kafka, wait_for};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use std::time::{Duration, Instant};

/// Rows of batches that are not expired, which must all be there; and of those that are, of which none may be.
const MISSING: &str = "SELECT count(*) FROM batches b WHERE expired_at IS NULL AND retracted_at IS NULL
    AND (SELECT count(*) FROM segments WHERE batch_id = b.id) <> customers";
const LEFT: &str =
    "SELECT count(*) FROM segments JOIN batches b ON b.id = batch_id WHERE expired_at IS NOT NULL";
/// The number of the newest window.
const NEWEST: &str = "SELECT window_no FROM segments_day";
const WINDOWS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'segments'::regclass";

impl World {
    fn execute(&self, statements: &str) {
        self.connect().batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// Sends a batch, and waits until it is stored.
    fn store_one(&self) {
        let before = self.number("SELECT count(*) FROM batches").unwrap_or_default();
        self.produce(&["--batches", "1", "--interval", "0"]);
        self.wait_for_batches(before + 1);
    }

    /// The day of the window that there is, has been over for some time.
    fn end_day(&self) {
        self.execute("UPDATE segments_day SET day = day - interval '300 years'");
    }

    /// Stores a batch in each of the first two windows.
    fn fill_two_windows(&self) {
        let mut reader = self.reader(&[]);
        self.store_one();
        self.end_day();
        self.store_one();
        reader.wait_until_it_says("began a window");
        reader.stop();
    }

    fn wait_for_number(&self, query: &str, wanted: impl Fn(i64) -> bool) -> i64 {
        wait_for(query, || self.number(query).filter(|found| wanted(*found)))
    }

    /// Checks that everything is there that should be, and nothing else.
    fn is_whole(&self) {
        assert_eq!(self.number(MISSING), Some(0), "batches whose rows are not all there");
        assert_eq!(self.number(LEFT), Some(0), "rows of expired batches");
        let doubled = "SELECT count(*) - count(DISTINCT (consumer_group, batch_key)) FROM batches";
        assert_eq!(self.number(doubled), Some(0), "batches that are stored twice");
    }
}

/// A reader that keeps rows for a second, in windows of a second.
fn brief(world: &World) -> Daemon {
    world.reader(&["--retain", "1s", "--segments-window", "1s"])
}

#[test]
fn the_first_commit_of_a_day_begins_a_window_and_a_clock_that_goes_back_begins_none() {
    let world = World::new("days", 1);
    let mut reader = world.reader(&[]);
    world.store_one();
    world.end_day();
    world.store_one();
    reader.wait_until_it_says("began a window of `segments` window=1");
    world.store_one();
    let newest = "SELECT max(batch_id) - 10000000000 FROM segments";
    let before = world.number(newest).unwrap();
    assert!((1..3).contains(&before), "{before}");
    assert_eq!(world.number("SELECT count(*) FROM ONLY segments_1"), Some(100 * before));
    // The clock was ahead, and is right again: the day is before that of the window.
    world.execute("UPDATE segments_day SET day = now() + interval '300 years'");
    world.store_one();
    world.store_one();
    assert_eq!(world.number(NEWEST), Some(1));
    assert_eq!(world.number(newest), Some(before + 2));
    reader.stop();
    world.is_whole();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn windows_come_and_go_under_load_and_nothing_that_is_kept_is_missing() {
    let world = World::new("come_and_go", 2);
    let mut producer = world.producer(&["--interval", "5ms", "--customers", "500"]);
    // Both roll and drop at once.
    let mut readers = [brief(&world), brief(&world)];
    world.wait_for_number(NEWEST, |newest| newest >= 6);
    producer.stop();
    for reader in &mut readers {
        reader.stop();
    }
    for reader in &readers {
        assert!(!reader.said().contains("starting over"), "{}", reader.said());
    }
    world.is_whole();
    assert!(world.number(WINDOWS) < world.number(NEWEST), "partitions are dropped");
    let mut last = world.reader(&["--retain", "1s", "--segments-window", "1s", "--until-caught-up"]);
    last.catches_up();
    let expired = "SELECT count(*) FROM batches WHERE expired_at IS NOT NULL";
    let mut reader = brief(&world);
    let all = world.number("SELECT count(*) FROM batches");
    wait_for("the end of all rows", || (world.number(expired) == all).then_some(()));
    wait_for("no rows", || (world.number("SELECT count(*) FROM segments") == Some(0)).then_some(()));
    world.store_one();
    reader.stop();
}

#[test]
fn only_the_group_that_retains_loses_rows_and_a_window_that_others_need_stays() {
    let world = World::new("groups", 1);
    let (topics, kafka, database_url) =
        (world.topics.clone(), world.kafka.clone(), world.database_url.clone());
    let other = World { name: format!("{}_keeper", world.name), topics, kafka, database_url, partitions: 1 };
    world.produce(&["--batches", "3", "--interval", "0"]);
    other.catch_up(&[]);
    let mut reader = world.reader(&[]);
    world.wait_for_batches(6);
    world.end_day();
    world.store_one();
    reader.wait_until_it_says("began a window");
    reader.stop();
    world.execute("UPDATE batches SET stored_at = stored_at - interval '10 days' WHERE id < 10000000000");
    let mut reader = world.reader(&["--retain", "5days", "--segments-window", "1day"]);
    reader.wait_until_it_says("expired batches=");
    let ours = format!(
        "SELECT count(*) FROM batches WHERE id < 10000000000 AND expired_at IS NULL AND consumer_group = '{}'",
        world.name
    );
    assert_eq!(world.number(&ours), Some(0));
    world.is_whole();
    let rows = |group: &str| {
        let query = format!(
            "SELECT count(*) FROM segments JOIN batches b ON b.id = batch_id WHERE consumer_group = '{group}'"
        );
        world.number(&query)
    };
    assert_eq!(rows(&other.name), Some(300));
    assert_eq!(world.number(WINDOWS), Some(2), "the other group needs the window");
    reader.stop();
    // Once the other retains, too, it goes.
    let mut reader = other.reader(&["--retain", "5days", "--segments-window", "1day"]);
    reader.wait_until_it_says("windows_dropped=\"0\"");
    assert_eq!(world.number(WINDOWS), Some(1));
    reader.stop();
    world.is_whole();
}

#[test]
fn a_window_that_cannot_be_dropped_keeps_no_other_one() {
    let world = World::new("undroppable", 1);
    let mut reader = world.reader(&[]);
    world.store_one();
    for window in 1..=3 {
        world.end_day();
        world.store_one();
        reader.wait_until_it_says(&format!("began a window of `segments` window={window}"));
    }
    world.store_one();
    reader.stop();
    world.execute(
        "CREATE VIEW theirs AS SELECT * FROM segments_0; DELETE FROM batches WHERE id BETWEEN 10000000000 AND 19999999999;
         INSERT INTO segments SELECT 15000000000, 1, 1, 1, 1, 1, 1, 1, '11', 'x';
         UPDATE batches SET stored_at = stored_at - interval '10 days'",
    );
    let mut reader = world.reader(&["--retain", "5days", "--segments-window", "1day"]);
    reader.wait_until_it_says("windows_dropped=\"2\"");
    reader.wait_until_it_says("the windows of `segments` stay as they are");
    reader.wait_until_it_says("has rows of no batch, and stays window=1");
    assert_eq!(world.number(WINDOWS), Some(3));
    reader.stop();
}

#[test]
fn windows_begin_again_whatever_became_of_the_day() {
    let world = World::new("no_day", 1);
    let mut reader = world.reader(&[]);
    world.store_one();
    world.execute("TRUNCATE segments_day");
    world.store_one();
    reader.wait_until_it_says("began a window of `segments` window=1");
    world.execute("UPDATE segments_day SET day = now() + interval '300 years'");
    world.store_one();
    world.wait_for_number("SELECT (day < now() + interval '1 day')::int FROM segments_day", |is_today| {
        is_today == 1
    });
    world.end_day();
    world.store_one();
    reader.wait_until_it_says("began a window of `segments` window=2");
    reader.stop();
    world.is_whole();
}

#[test]
fn a_window_that_was_dropped_is_not_to_blame_for_what_fails_later() {
    let world = World::new("not_to_blame", 1);
    let mut reader = brief(&world);
    world.store_one();
    reader.wait_until_it_says("windows_dropped=");
    world.execute("ALTER TABLE batches ADD CONSTRAINT theirs CHECK (customers < 1) NOT VALID");
    world.produce(&["--batches", "1", "--interval", "0"]);
    reader.fails(1, "postgres refused the batch");
    assert!(!reader.said().contains("was dropped or detached"), "{}", reader.said());
}

#[test]
fn a_query_of_somebody_else_keeps_a_window_and_stalls_no_commit() {
    let world = World::new("long_query", 1);
    world.fill_two_windows();
    world.execute("UPDATE batches SET stored_at = stored_at - interval '10 days'");
    let mut other = world.connect();
    other.batch_execute("BEGIN; SELECT count(*) FROM segments").unwrap();
    let mut reader = world.reader(&["--retain", "5days", "--segments-window", "1day"]);
    let begun = Instant::now();
    for _ in 0..10 {
        let one = Instant::now();
        world.store_one();
        // Most of it is the start of a producer.
        slowness::in_time(
            "a batch beside a window that cannot be dropped",
            one.elapsed(),
            Duration::from_secs(3),
        );
    }
    reader.wait_until_it_says("the windows of `segments` stay as they are");
    let longest = reader.said().lines().filter_map(milliseconds).max().unwrap();
    slowness::in_time("a commit", Duration::from_millis(longest), Duration::from_secs(1));
    eprintln!("the longest commit of {:?} took {longest} ms", begun.elapsed());
    assert_eq!(world.number(WINDOWS), Some(2));
    other.batch_execute("COMMIT").unwrap();
    reader.wait_until_it_says("windows_dropped=\"0\"");
    reader.stop();
    world.is_whole();
}

/// A world on a Postgres of its own, whose autovacuum looks every second.
fn with_autovacuum(name: &str) -> (World, Server) {
    let postgres = Server::postgres();
    let mut admin = connect(&postgres.address);
    admin.batch_execute("ALTER SYSTEM SET autovacuum_naptime = '1s'").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let world = World::on(name, &shared_kafka(), &postgres.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    (world, postgres)
}

#[test]
fn autovacuum_of_a_past_window_gives_way_to_its_drop() {
    const AT_WORK: &str = "
        SELECT count(*) FROM pg_stat_activity JOIN pg_locks l USING (pid)
        WHERE backend_type = 'autovacuum worker' AND relation = to_regclass('segments_0') AND granted
            AND l.mode = 'ShareUpdateExclusiveLock'";
    let (world, _postgres) = with_autovacuum("vacuumed");
    let mut reader = world.reader(&[]);
    world.store_one();
    world.execute("ALTER TABLE segments_0 SET (autovacuum_enabled = false)");
    world.produce(&["--batches", "10", "--interval", "0", "--customers", "10000"]);
    world.wait_for_batches(11);
    world.end_day();
    world.store_one();
    reader.wait_until_it_says("began a window");
    reader.stop();
    // A thousand pages, and a pause after each: it would work for minutes.
    world.execute(
        "UPDATE batches SET stored_at = stored_at - interval '10 days' WHERE id < 10000000000;
         ALTER TABLE segments_0 SET (autovacuum_enabled = true, autovacuum_vacuum_insert_threshold = 1,
             autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,
             autovacuum_vacuum_cost_limit = 1)",
    );
    world.wait_for_number(AT_WORK, |workers| workers == 1);
    let mut reader = world.reader(&["--retain", "5days", "--segments-window", "1day"]);
    reader.wait_until_it_says("rows_deleted=0 windows_dropped=\"0\"");
    assert_eq!(world.number(WINDOWS), Some(1));
    reader.stop();
    world.is_whole();
}

/// How many locks on `batches` a session has that waits for the partition of the first window; none if nobody waits.
const LOCKS_OF_A_DROP_THAT_WAITS: &str = "
    WITH locks AS MATERIALIZED (SELECT pid, relation, granted FROM pg_locks)
    SELECT max((SELECT count(*) FROM locks l WHERE l.pid = w.pid AND l.relation = to_regclass('batches')))
    FROM locks w WHERE relation = to_regclass('segments_0') AND NOT granted";

#[test]
fn windows_begin_in_time_beside_one_that_cannot_be_dropped_and_ones_that_cannot_be_covered() {
    let world = World::new("in_time", 1);
    world.fill_two_windows();
    world.execute("UPDATE batches SET stored_at = stored_at - interval '10 days' WHERE id < 10000000000");
    // The lock of a VACUUM that nobody cancels.
    let mut vacuum = world.connect();
    vacuum.batch_execute("BEGIN").unwrap();
    let mut hold = |window: u32| {
        let lock = format!("LOCK TABLE ONLY segments_{window} IN SHARE UPDATE EXCLUSIVE MODE");
        vacuum.batch_execute(&lock).unwrap();
    };
    hold(0);
    let mut reader = world.reader(&["--retain", "5days", "--segments-window", "1day"]);
    world.store_one();
    reader.wait_until_it_says("the windows of `segments` stay as they are");
    // What somebody waits for holds up others: ALTER TABLE, and the commits behind it.
    let held = wait_for("a drop that waits", || world.number(LOCKS_OF_A_DROP_THAT_WAITS));
    assert_eq!(held, 0, "it has a lock on `batches` meanwhile");
    for window in 2..=6 {
        hold(window - 1);
        world.end_day();
        let begun = Instant::now();
        world.store_one();
        reader.wait_until_it_says(&format!("began a window of `segments` window={window}"));
        // The start of a producer, an attempt to drop, and a pause.
        slowness::in_time("a new window", begun.elapsed(), Duration::from_secs(6));
    }
    assert_eq!(world.number(WINDOWS), Some(7));
    vacuum.batch_execute("COMMIT").unwrap();
    reader.wait_until_it_says("windows_dropped=\"0\"");
    reader.stop();
    world.is_whole();
}

/// The `ms` of a line `committed`.
fn milliseconds(line: &str) -> Option<u64> {
    line.contains("committed").then(|| line.rsplit_once(" ms=")?.1.parse().ok())?
}

#[test]
fn a_reader_that_owns_nothing_rolls_and_drops_with_the_rights_of_the_guide() {
    let world = World::new("owns_nothing", 1);
    world.catch_up(&[]);
    let role = format!("{}_role", world.name);
    let url = world.database_url.replace("postgres@", &format!("{role}@"));
    let guide = std::fs::read_to_string(crate::world::repository().join("docs/guide.md")).unwrap();
    let grants = guide.split("```sql\n").filter(|block| block.starts_with("GRANT ")).collect::<Vec<_>>();
    assert_eq!(grants.len(), 2, "what every reader needs, and what --retain needs");
    let grant = |block: &str| {
        let statements = block.split("```").next().unwrap().replace("TO reader", &format!("TO {role}"));
        world.execute(&statements);
    };
    world.execute(&format!("CREATE ROLE {role} LOGIN"));
    grant(grants[0]);
    world
        .reader(&["--database-url", &url, "--retain", "5days", "--segments-window", "1day"])
        .fails(1, "has no right to UPDATE (expired_at) ON batches");
    grant(grants[1]);
    let flags = ["--database-url", &url, "--retain", "1s", "--segments-window", "1s"];
    let mut reader = world.reader(&flags);
    for _ in 0..4 {
        world.store_one();
    }
    reader.wait_until_it_says("windows_dropped=\"");
    wait_for("the end of the first window", || {
        (world.number("SELECT (to_regclass('segments_0') IS NULL)::int") == Some(1)).then_some(())
    });
    world.store_one();
    reader.stop();
    let owner = "SELECT count(*) FROM pg_inherits JOIN pg_class ON oid = inhrelid
                 WHERE inhparent = 'segments'::regclass AND pg_get_userbyid(relowner) <> 'postgres'";
    assert_eq!(world.number(owner), Some(0));
    world.is_whole();
}

#[test]
fn a_publication_that_refuses_the_delete_is_named_and_nothing_is_expired() {
    let world = World::new("published", 1);
    world.produce(&["--batches", "2", "--interval", "0"]);
    world.catch_up(&[]);
    world.execute(
        "CREATE PUBLICATION changes FOR TABLE segments; UPDATE batches SET stored_at = stored_at - interval '10 days'",
    );
    let mut reader = world.reader(&["--retain", "5days", "--segments-window", "1day"]);
    reader.wait_until_it_says(
        "the publication changes publishes deletes, and the table has no replica identity",
    );
    assert_eq!(world.number("SELECT count(expired_at) FROM batches"), Some(0));
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(200));
    world.execute("ALTER TABLE segments_0 REPLICA IDENTITY FULL");
    reader.wait_until_it_says("expired batches=2 rows_deleted=200");
    reader.stop();
    world.is_whole();
}

#[test]
fn the_newest_batch_is_found_at_once_however_much_was_stored_since_the_last_vacuum() {
    let world = World::new("found", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "300", "--interval", "0", "--customers", "10000"]);
    world.wait_for_batches(300);
    let mut connection = world.connect();
    connection.batch_execute("SET enable_seqscan = off").unwrap();
    let query = "SELECT count(*) FROM segments WHERE batch_id = (SELECT max(id) FROM batches)";
    let mut best = Duration::MAX;
    wait_for("a fast answer", || {
        let begun = Instant::now();
        diesel::sql_query(query).execute(&mut connection).unwrap();
        best = best.min(begun.elapsed());
        (best < Duration::from_millis(20)).then_some(())
    });
    eprintln!("of 3 million rows, the 10 000 of the newest batch are found in {best:?}");
    reader.stop();
}
