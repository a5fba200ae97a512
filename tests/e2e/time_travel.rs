//! Postgres goes back in time under a live reader: a restore, a change by hand. Nothing may be lost.

use crate::world::{World, wait_for};
use diesel::connection::SimpleConnection;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

fn run(program: &str, arguments: &[&str]) {
    try_run(program, arguments).unwrap_or_else(|error| panic!("{error}"));
}

fn try_run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(error()) }
}

fn dump(world: &World, file: &str) {
    run("pg_dump", &["--format=custom", "--file", file, &world.database_url]);
}

fn restore(world: &World, file: &str) {
    run("pg_restore", &["--clean", "--if-exists", "--dbname", &world.database_url, file]);
}

/// A restore that changes nothing if it fails: it may meet a commit.
fn restore_at_once(world: &World, file: &str) {
    let flags = ["--clean", "--if-exists", "--single-transaction", "--dbname", &world.database_url, file];
    wait_for("a restore", || try_run("pg_restore", &flags).inspect_err(|error| eprintln!("{error}")).ok());
}

#[test]
fn what_a_restore_under_an_idle_reader_takes_back_is_stored_again() {
    let world = World::new("restored", 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump").to_str().unwrap().to_owned();
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "20", "--interval", "1ms"]);
    world.wait_for_batches(20);
    dump(&world, &file);
    world.produce(&["--batches", "20", "--interval", "1ms"]);
    world.wait_for_batches(40);
    restore(&world, &file);
    // No message arrives: the reader must notice by itself.
    world.wait_for_batches(40);
    world.produce(&["--batches", "5", "--interval", "1ms"]);
    world.wait_for_batches(45);
    let said = reader.said();
    assert!(said.contains("expected") && said.contains("found"), "{said}");
    reader.stop();
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("45 batches"), "{said}");
}

#[test]
fn what_a_restore_under_a_busy_reader_takes_back_is_stored_again() {
    restored_under_load("restored_busy", restore);
}

#[test]
fn what_a_restore_in_one_transaction_takes_back_is_stored_again() {
    restored_under_load("restored_at_once", restore_at_once);
}

/// Restores twice while batches come.
fn restored_under_load(name: &str, restore: fn(&World, &str)) {
    let world = World::new(name, 3);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump").to_str().unwrap().to_owned();
    let mut reader = world.reader(&[]);
    let mut producer = world.producer(&["--interval", "5ms"]);
    world.wait_for_batches(100);
    dump(&world, &file);
    let before = world.number("SELECT count(*) FROM batches").unwrap();
    world.wait_for_batches(before + 100);
    for _ in 0..2 {
        restore(&world, &file);
        let stored = wait_for("the tables", || world.number("SELECT count(*) FROM batches"));
        world.wait_for_batches(stored + 100);
    }
    producer.stop();
    reader.stop();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

/// The upkeep of `segments` works on a connection of its own. A partition that it made in the middle of a restore would
/// never get the index that comes last, and the index of the whole table would never become valid.
#[test]
fn the_upkeep_makes_no_partition_in_the_middle_of_a_restore() {
    let world = World::new("restored_in_steps", 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump").to_str().unwrap().to_owned();
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "5", "--interval", "1ms"]);
    world.wait_for_batches(5);
    dump(&world, &file);
    // What the upkeep cannot do is tried again, soon at first, and the restore brings the function back.
    world.connect().batch_execute("ALTER FUNCTION rfm_window(interval) RENAME TO hidden").unwrap();
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    world.wait_for_batches(7);
    let step =
        |flags: &[&str]| run("pg_restore", &[flags, &["--dbname", &world.database_url, &file]].concat());
    step(&["--section=pre-data", "--clean", "--if-exists"]);
    // Its tries come within seconds, those of the session after ten.
    reader.wait_until_it_says("a restore is under way");
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass('segments')";
    assert_eq!(world.number(partitions), Some(1), "it said:\n{}", reader.said());
    step(&["--section=data"]);
    step(&["--section=post-data"]);
    world.wait_for_batches(7);
    reader.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

/// How many batches were committed by what a reader says.
fn batches_committed(said: &str) -> usize {
    let counts = said.split("committed batches=").skip(1);
    counts.map(|rest| rest.split(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// Changes progress under an idle reader and sends batches: the next commit must fail.
fn changed_by_hand(name: &str, change: &str) {
    let world = World::new(name, 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    wait_for("progress past the markers", || {
        (world.number("SELECT recency_next FROM progress") == Some(6)).then_some(())
    });
    // The row may be seen before the line about it.
    wait_for("lines about the three batches", || (batches_committed(&reader.said()) == 3).then_some(()));
    let before = reader.said().len();
    world.connect().batch_execute(change).unwrap();
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    reader.wait_until_it_says("expected");
    let said = reader.said();
    let (until, _) = said[before..].split_once("expected").unwrap();
    assert!(!until.contains("committed"), "it committed before it compared:\n{said}");
    world.wait_for_batches(5);
    reader.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn every_commit_moves_the_count() {
    let world = World::new("counts", 1);
    let mut reader = world.reader(&[]);
    for batches in 1..=3 {
        world.produce(&["--batches", "1"]);
        world.wait_for_batches(batches);
        assert!(world.number("SELECT commits FROM progress") >= Some(batches), "after {batches} batches");
    }
    reader.stop();
    let commits = world.number("SELECT commits FROM progress");
    // Taking a partition changes epoch and owner, but is no commit.
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT commits FROM progress"), commits);
}

#[test]
fn a_commit_under_another_owner_writes_nothing() {
    changed_by_hand("owner", "UPDATE progress SET owner = '00000000-0000-4000-8000-000000000000'");
}

#[test]
fn a_commit_under_another_count_writes_nothing() {
    changed_by_hand("count", "UPDATE progress SET commits = commits - 1");
}

#[test]
fn positions_that_were_changed_by_hand_are_not_overwritten() {
    changed_by_hand("positions", "UPDATE progress SET recency_next = 0");
}

/// Restores the state before the last two batches, with the same epoch and owner. Nobody commits.
#[test]
fn an_owner_whose_commit_is_undone_reads_again_what_is_gone() {
    let world = World::new("undone", 1);
    let mut reader = world.reader(&[]);
    let past = |next: i64| {
        wait_for("progress past the markers", || {
            (world.number("SELECT recency_next FROM progress") == Some(next)).then_some(())
        });
    };
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    past(6);
    world.connect().batch_execute("CREATE TABLE noted AS SELECT * FROM progress").unwrap();
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    past(10);
    let undo = "BEGIN;
        DELETE FROM segments WHERE batch_id > 3; DELETE FROM batches WHERE id > 3;
        DELETE FROM progress; INSERT INTO progress SELECT * FROM noted;
        COMMIT";
    world.connect().batch_execute(undo).unwrap();
    world.wait_for_batches(5);
    reader.wait_until_it_says("expected");
    reader.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

/// Restores the state before the group's first commit, as a failover to a standby that lagged far behind
/// does.
#[test]
fn a_server_that_knows_nothing_of_a_partition_gets_everything_again() {
    let world = World::new("no_row", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    world.wait_for_batches(3);
    let change = "BEGIN; DELETE FROM segments; DELETE FROM batches; DELETE FROM progress; COMMIT";
    world.connect().batch_execute(change).unwrap();
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    reader.wait_until_it_says("found no row");
    world.wait_for_batches(5);
    reader.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

/// Tables, rows and constraints that are missing for a while, as in the middle of a restore: statements that
/// hide them, and statements that bring them back.
const HIDDEN: [(&str, &str); 4] = [
    (
        "ALTER TABLE progress SET SCHEMA hidden; ALTER TABLE batches SET SCHEMA hidden",
        "ALTER TABLE hidden.progress SET SCHEMA public; ALTER TABLE hidden.batches SET SCHEMA public",
    ),
    ("ALTER TABLE segments SET SCHEMA hidden", "ALTER TABLE hidden.segments SET SCHEMA public"),
    (
        "CREATE TABLE hidden.sources AS SELECT * FROM sources; DELETE FROM sources",
        "INSERT INTO sources SELECT * FROM hidden.sources; DROP TABLE hidden.sources",
    ),
    (
        "ALTER TABLE batches DROP CONSTRAINT batches_consumer_group_partition_recency_offset_key",
        "ALTER TABLE batches ADD CONSTRAINT batches_consumer_group_partition_recency_offset_key
            UNIQUE (consumer_group, partition, recency_offset)",
    ),
];

#[test]
fn a_session_that_meets_a_restore_creates_nothing_and_waits() {
    let world = World::new("half_restored", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    world.wait_for_batches(2);
    let mut admin = world.connect();
    admin.batch_execute("CREATE SCHEMA hidden").unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let all = world.number(tables);
    let mut waits = 0;
    for (number, (hide, show)) in HIDDEN.into_iter().enumerate() {
        admin.batch_execute(hide).unwrap();
        let hidden = world.number(tables);
        crate::outages::cut_connections(&world);
        waits += 1;
        wait_for("the reader to wait", || {
            (reader.said().matches("a restore is under way").count() >= waits).then_some(())
        });
        sleep(Duration::from_secs(1));
        assert_eq!(world.number(tables), hidden, "nothing is created; it said:\n{}", reader.said());
        admin.batch_execute(show).unwrap();
        assert_eq!(world.number(tables), all);
        world.produce(&["--batches", "1"]);
        world.wait_for_batches(3 + number as i64);
        waits = reader.said().matches("a restore is under way").count();
    }
    reader.stop();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_restart_after_the_tables_were_dropped_starts_over() {
    let world = World::new("dropped", 1);
    world.produce(&["--batches", "4", "--interval", "1ms"]);
    let mut reader = world.reader(&[]);
    world.wait_for_batches(4);
    world
        .connect()
        .batch_execute(
            "DROP TABLE segments, batches, dead_letters, progress, sources, __diesel_schema_migrations CASCADE",
        )
        .unwrap();
    reader.wait_until_it_says("a restore is under way");
    assert_eq!(world.number("SELECT count(*) FROM batches"), None, "nothing is created");
    reader.stop();
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("4 batches"), "{said}");
}

#[test]
fn a_sequence_behind_its_table_stops_the_reader_with_the_statement_that_sets_it() {
    let world = World::new("sequence", 1);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    world.catch_up(&[]);
    world.connect().batch_execute("ALTER TABLE batches ALTER id RESTART").unwrap();
    let mut reader = world.reader(&[]);
    reader.fails(1, "`batches` has id 3, and its sequence has given 0 so far");
    let said = reader.said();
    let (_, statement) = said.split_once("set the sequence: ").unwrap();
    world.connect().batch_execute(statement.lines().next().unwrap()).unwrap();
    world.produce(&["--batches", "2", "--interval", "1ms"]);
    world.catch_up(&[]);
    let said = world.verify(&["--progress", "--expect-dead", "0"]);
    assert!(said.contains("5 batches"), "{said}");
}

#[test]
fn rows_whose_batch_is_yet_to_come_stop_the_reader() {
    let world = World::new("rows_to_come", 1);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    world.catch_up(&[]);
    world.connect().batch_execute("TRUNCATE batches, progress RESTART IDENTITY").unwrap();
    let mut reader = world.reader(&[]);
    reader.fails(1, "`segments` has rows of batch 1, and the sequence of `batches` has given 0 so far");
    world.connect().batch_execute("TRUNCATE segments").unwrap();
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_newest_batch_without_rows_causes_a_warning() {
    let world = World::new("bare", 1);
    world.produce(&["--batches", "3", "--interval", "1ms"]);
    world.catch_up(&[]);
    world.connect().batch_execute("TRUNCATE segments").unwrap();
    let reader = world.catch_up(&[]);
    assert!(reader.said().contains("batch 3, the newest of partition 0, has no rows"), "{}", reader.said());
}

/// Everything but `segments` is restored, so the next ids would be those of existing rows.
#[test]
fn a_restore_of_a_part_under_a_live_reader_mixes_no_batches() {
    let world = World::new("part", 1);
    let folder = tempfile::tempdir().unwrap();
    let [file, list] = ["dump", "list"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "5", "--interval", "1ms"]);
    world.wait_for_batches(5);
    dump(&world, &file);
    world.produce(&["--batches", "5", "--interval", "1ms"]);
    world.wait_for_batches(10);
    // Without what depends on the part that stays.
    world.connect().batch_execute("DROP VIEW customer_segments CASCADE").unwrap();
    run(
        "sh",
        &["-c", &format!("pg_restore --list {file} | grep -v -e segments -e customer_history > {list}")],
    );
    let part = ["--clean", "--if-exists", "--use-list", &list, "--dbname", &world.database_url, &file];
    run("pg_restore", &part);
    reader.fails(1, "`segments` has rows of batch 6, and the sequence of `batches` has given 5 so far");
    let rows = "SELECT count(*) FROM (SELECT batch_id FROM segments GROUP BY 1 HAVING count(*) <> 100) odd";
    assert_eq!(world.number(rows), Some(0), "no batch has rows of two");
}
