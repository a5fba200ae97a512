//! `rescore`, `retract` and `skip-lost`: beside running readers, killed at each step, and rehearsed.

use crate::kafka::{Plain, delete_records};
use crate::slowness;
use crate::topics;
use crate::world::{Daemon, World, random, wait_for};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use rand::RngExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

/// Runs a command to its end; what it said.
fn run(world: &World, words: &[&str]) -> String {
    let mut daemon = world.command(words);
    daemon.succeeds();
    daemon.said()
}

/// Runs a command that fails with these words and a hint; what it said.
fn fails(world: &World, words: &[&str], why: &str) -> String {
    let mut daemon = world.command(words);
    daemon.fails(1, why);
    assert!(daemon.said().contains("hint: "), "{}", daemon.said());
    daemon.said()
}

/// Every row of every table, with the transaction that wrote it.
fn everything(world: &World) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        row: String,
    }
    let tables = ["batches", "segments", "dead_letters", "progress", "sources"];
    let of = |table: &str| {
        format!("SELECT '{table} ' || xmin || ' ' || xmax || ' ' || t::text AS row FROM {table} t")
    };
    let query = tables.map(of).join(" UNION ALL ") + " ORDER BY 1";
    let rows: Vec<Row> = diesel::sql_query(query).load(&mut world.connect()).unwrap();
    rows.into_iter().map(|row| row.row).collect()
}

/// Runs a command with --dry-run, which must change nothing; what it said.
fn rehearse(world: &World, words: &[&str]) -> String {
    let before = everything(world);
    let said = run(world, &[words, &["--dry-run"]].concat());
    assert!(everything(world) == before, "a dry run changes nothing; it said:\n{said}");
    said
}

/// Sends a batch to partition 0 that both programs agree on.
fn send(world: &World, key: Option<&str>, values: &str) {
    let plain = Plain::new(&world.kafka);
    for (topic, metric) in world.topics.iter().zip(METRICS) {
        plain.send(
            topic,
            0,
            key.map(str::as_bytes),
            Some(format!(r#"{{"{metric}":[{values}]}}"#).as_bytes()),
        );
    }
    plain.flush();
}

/// Sends one message of a batch.
fn send_one(world: &World, metric: usize, key: Option<&str>, values: &str) {
    let (plain, name) = (Plain::new(&world.kafka), METRICS[metric]);
    let value = format!(r#"{{"{name}":[{values}]}}"#);
    plain.send(&world.topics[metric], 0, key.map(str::as_bytes), Some(value.as_bytes()));
    plain.flush();
}

fn letters(world: &World, condition: &str) -> i64 {
    world.number(&format!("SELECT count(*) FROM dead_letters WHERE {condition}")).unwrap()
}

#[test]
fn letters_that_todays_flags_accept_are_stored_as_if_they_had_never_been_refused() {
    let world = World::new("rescored", 2);
    world.produce(&["--batches", "6", "--interval", "0"]);
    world.produce(&["--batches", "4", "--interval", "0", "--customers", "20"]);
    world.catch_up(&["--max-customers", "50"]);
    assert_eq!(letters(&world, "reason = 'too_large' AND refused_with IS NOT NULL"), 18);
    let said = rehearse(&world, &["rescore"]);
    assert!(said.contains("would rescore batches=6 customers=600 letters=18 refused_again=0"), "{said}");
    // Flags on both sides of the word.
    let said =
        run(&world, &["rescore", "--reason", "unpaired", "--reason", "malformed", "--max-customers", "100"]);
    assert!(said.contains("rescored batches=0 customers=0 letters=0"), "{said}");
    let said = run(&world, &["rescore", "--reason", "too_large"]);
    assert!(said.contains("rescored batches=6 customers=600 letters=18 refused_again=0"), "{said}");
    assert!(said.contains("alone=0 gone=0"), "{said}");
    world.verify(&["--progress", "--expect-batches", "10", "--expect-dead", "0"]);
    let said = run(&world, &["rescore"]);
    assert!(said.contains("rescored batches=0 customers=0 letters=0 refused_again=0"), "{said}");
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-batches", "10", "--expect-dead", "0"]);
}

#[test]
fn letters_that_are_refused_again_keep_their_rows_with_what_is_wrong_now() {
    let world = World::new("refused_again", 1);
    send(&world, Some("a"), "1,1,1,1,1,6");
    send(&world, Some("b"), "1,2,null,4,5,6");
    world.catch_up(&["--max-customers", "3"]);
    let ids = "SELECT sum(id) + sum(extract(epoch FROM stored_at)::bigint) FROM dead_letters";
    let (before, wrong_before) = (world.number(ids), letters(&world, "reason = 'not_finite'"));
    assert_eq!((wrong_before, letters(&world, "reason = 'too_large'")), (3, 3));
    let said = run(&world, &["rescore", "--ties", "reject"]);
    assert!(said.contains("batches=0 customers=0 letters=0 refused_again=6"), "{said}");
    assert!(said.contains("not_finite 3, tied_edges 3"), "{said}");
    assert_eq!(
        letters(&world, "reason = 'tied_edges' AND detail LIKE '%--ties reject%' AND refused_with = 0"),
        3
    );
    assert_eq!((world.number(ids), letters(&world, "reason = 'not_finite'")), (before, 3));
    let before = everything(&world);
    run(&world, &["rescore", "--ties", "reject"]);
    assert!(everything(&world) == before, "the same again is not written again");
}

#[test]
fn what_an_earlier_version_refused_together_is_found_by_its_keys() {
    let world = World::new("rescored_old", 1);
    for key in [Some("a"), Some("b"), Some("a"), None, None] {
        send(&world, key, "1,2,3,4,5,6");
    }
    world.catch_up(&["--max-customers", "3"]);
    world.connect().batch_execute("UPDATE dead_letters SET refused_with = NULL").unwrap();
    let said = run(&world, &["rescore"]);
    assert!(said.contains("rescored batches=5 customers=30 letters=15"), "{said}");
    world.verify(&["--progress", "--expect-batches", "5", "--expect-dead", "0"]);
}

#[test]
fn partners_that_came_too_late_are_paired_among_the_letters() {
    let world = World::new("rescored_late", 1);
    let reader = world.reader(&["--pairing-timeout", "500ms"]);
    for metric in [0, 1] {
        send_one(&world, metric, Some("late"), "1,2,3");
        send_one(&world, metric, None, "4,5,6");
    }
    wait_for("four letters", || (world.number("SELECT count(*) FROM dead_letters") == Some(4)).then_some(()));
    send_one(&world, 2, Some("late"), "1,2,3");
    send_one(&world, 2, None, "4,5,6");
    send_one(&world, 2, Some("alone"), "1,2,3");
    wait_for("all letters", || (world.number("SELECT count(*) FROM dead_letters") == Some(7)).then_some(()));
    // Without a key, times that lie further apart do not pair.
    let said = run(&world, &["rescore", "--pairing-timeout", "1ms"]);
    assert!(said.contains("rescored batches=1 customers=3 letters=3 refused_again=0"), "{said}");
    assert!(said.contains("alone=4"), "{said}");
    let said = run(&world, &["rescore", "--pairing-timeout", "10min"]);
    assert!(said.contains("rescored batches=1 customers=3 letters=3") && said.contains("alone=1"), "{said}");
    drop(reader);
    world.verify(&["--expect-batches", "2", "--expect-dead", "1"]);
}

#[test]
fn two_that_rescore_at_once_store_every_batch_once() {
    let world = World::new("rescored_twice", 1);
    world.produce(&["--batches", "150", "--interval", "0"]);
    world.catch_up(&["--max-customers", "50"]);
    let mut both = [(); 2].map(|()| world.command(&["rescore"]));
    both.iter_mut().for_each(Daemon::succeeds);
    let count = |words: &str| both.iter().map(|daemon| daemon.said().matches(words).count()).sum::<usize>();
    assert_eq!(count("stored dead letters"), 150);
    world.verify(&["--progress", "--expect-batches", "150", "--expect-dead", "0"]);
}

#[test]
fn rescoring_killed_at_random_moments_beside_readers_under_load_stores_every_batch_once() {
    let world = World::new("rescored_kills", 2);
    let mut random = random(&world.name);
    let small = ["--max-customers", "50"];
    let mut large = world.producer(&["--interval", "10ms", "--customers", "100"]);
    let mut readers = [world.reader(&small), world.reader(&small)];
    wait_for("dead letters", || (world.number("SELECT count(*) FROM dead_letters") > Some(30)).then_some(()));
    for _ in 0..10 {
        let mut killed = world.command(&["rescore"]);
        killed.wait_until_it_says("stored dead letters");
        sleep(Duration::from_millis(random.random_range(0..150)));
        killed.kill_9();
    }
    large.stop();
    readers.iter_mut().for_each(|reader| {
        reader.stop();
        assert!(!reader.said().contains("starting over"), "{}", reader.said());
    });
    world.catch_up(&small);
    run(&world, &["rescore"]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

/// The ids of the batches of a world, in order.
fn ids(world: &World) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        id: i64,
    }
    let rows: Vec<Row> =
        diesel::sql_query("SELECT id FROM batches ORDER BY id").load(&mut world.connect()).unwrap();
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

#[test]
fn a_retracted_batch_loses_its_rows_and_is_not_stored_again() {
    let world = World::new("retracted", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "5", "--interval", "0"]);
    world.wait_for_batches(5);
    let ids = ids(&world);
    let (first, newest) = (ids[1].as_str(), ids[4].as_str());
    let said = rehearse(&world, &["retract", first, newest]);
    assert!(said.contains("would retract batches=2 rows=200"), "{said}");
    let said = run(&world, &["retract", first, newest]);
    assert!(said.contains("retracted batches=2 rows=200"), "{said}");
    let of_retracted = format!("SELECT count(*) FROM segments WHERE batch_id IN ({first}, {newest})");
    assert_eq!(world.number(&of_retracted), Some(0));
    assert_eq!(world.number("SELECT count(*) FROM batches WHERE retracted_at IS NOT NULL"), Some(2));
    let said = run(&world, &["retract", newest]);
    assert!(said.contains("retracted before") && said.contains("retracted batches=0 rows=0"), "{said}");

    // Neither the running reader nor the next one stores it again, or finds anything wrong.
    world.produce(&["--batches", "2", "--interval", "0"]);
    world.wait_for_batches(7);
    reader.stop();
    assert!(!reader.said().contains("WARN"), "{}", reader.said());
    run(&world, &["retract", self::ids(&world)[6].as_str()]);
    let next = world.catch_up(&[]);
    assert!(!next.said().contains("WARN"), "{}", next.said());
    world.verify(&["--progress", "--expect-batches", "7", "--expect-dead", "0"]);
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(400));
}

/// Runs a command that waits for a lock, asks it to stop, and checks that it fails soon and says so.
fn fails_when_stopped(world: &World, words: &[&str]) {
    let mut waiting = world.command(words);
    waiting.wait_until_it_says("postgres has not answered");
    let begun = Instant::now();
    waiting.signal("TERM");
    waiting.fails(1, "stopped before all was done");
    slowness::in_time("the end of a command that waits", begun.elapsed(), Duration::from_secs(5));
    assert!(waiting.said().contains("hint: run the command again"), "{}", waiting.said());
}

#[test]
fn a_command_that_is_stopped_before_it_was_done_has_failed_and_does_nothing_later() {
    let world = World::new("stopped_commands", 1);
    topics::send(&world, 0..4);
    world.catch_up(&["--max-customers", "1"]);
    topics::send(&world, 4..8);
    world.catch_up(&[]);
    topics::send(&world, 8..10);
    delete_records(&world.kafka, &world.topics[0], 0, 9);
    let (id, before) = (ids(&world)[0].clone(), everything(&world));
    let mut other = world.connect();
    other
        .batch_execute("BEGIN; LOCK TABLE batches, progress, dead_letters IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    for words in [&["retract", &id][..], &["skip-lost"], &["rescore"]] {
        fails_when_stopped(&world, words);
    }
    other.batch_execute("COMMIT").unwrap();
    // Their connections end once they have the lock.
    wait_for("the end of their connections", || {
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'
            AND pid <> pg_backend_pid()";
        (world.number(others) == Some(0)).then_some(())
    });
    assert!(everything(&world) == before, "a command that was stopped changes nothing");
    assert!(run(&world, &["retract", &id]).contains("retracted batches=1"));
}

#[test]
fn a_command_that_cannot_connect_names_the_address_to_look_at() {
    let world = World::new("command_nowhere", 1);
    let words = ["retract", "1", "--database-url", "postgres://postgres@127.0.0.1:1/rfm"];
    let said = fails(&world, &words, "postgres cannot be reached");
    assert!(said.contains("hint: check --database-url, and look at the server at 127.0.0.1:1/rfm"), "{said}");
    assert!(!said.contains("what it has said"), "{said}");
}

#[test]
fn what_is_no_batch_of_the_group_is_named_and_nothing_is_retracted() {
    let mut world = World::new("not_retracted", 1);
    world.produce(&["--batches", "2", "--interval", "0"]);
    world.catch_up(&[]);
    let ids = ids(&world);
    let (own, group) = (ids[0].as_str(), world.name.clone());
    fails(&world, &["retract", own, "999"], "nothing was retracted: there is no batch 999");
    assert_eq!(world.number("SELECT count(*) FROM batches WHERE retracted_at IS NOT NULL"), Some(0));
    let mut wrong = world.command(&["retract", "postgres://rfm:hunter2@h/d"]);
    wrong.fails(2, "one of the words behind the command is no BATCH_ID");
    assert!(!wrong.said().contains("hunter2"), "{}", wrong.said());
    world.name += "_other";
    let why =
        format!("no reader of the consumer group `{}` has stored anything in this database", world.name);
    fails(&world, &["retract", own], &why);
    world.catch_up(&[]);
    let why = format!("batch {own} is of the consumer group `{group}`, not of `{}`", world.name);
    fails(&world, &["retract", own], &why);
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(400));
}

#[test]
fn a_publication_that_forbids_deletes_is_named_with_the_way_out() {
    let world = World::new("published", 1);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    let id = &ids(&world)[0];
    let execute = |sql: &str| world.connect().batch_execute(sql).unwrap();
    execute("CREATE PUBLICATION \"to BI\" FOR TABLE segments");
    let said = fails(
        &world,
        &["retract", id],
        "the publication \"to BI\" publishes deletes, and the table has no replica identity",
    );
    assert!(said.contains("REPLICA IDENTITY FULL"), "{said}");
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(100));
    execute("ALTER TABLE segments REPLICA IDENTITY FULL; ALTER TABLE segments_0 REPLICA IDENTITY FULL");
    rehearse(&world, &["retract", id]);
    execute(
        "ALTER TABLE segments REPLICA IDENTITY DEFAULT; ALTER TABLE segments_0 REPLICA IDENTITY DEFAULT;
         ALTER PUBLICATION \"to BI\" SET (publish = 'insert')",
    );
    assert!(run(&world, &["retract", id]).contains("retracted batches=1 rows=100"));
}

#[test]
fn a_command_makes_no_tables_and_names_the_rights_that_it_lacks() {
    let world = World::new("no_tables", 1);
    let said = fails(&world, &["rescore"], "tables are missing: ");
    assert!(said.contains("start a reader of this version once"), "{said}");
    assert_eq!(world.number("SELECT count(*) FROM pg_class WHERE relname = 'batches'"), Some(0));
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    let role = format!("{}_plain", world.name);
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"
    );
    world.connect().batch_execute(&grant).unwrap();
    for (words, right) in [
        (&["rescore"][..], "DELETE on table `dead_letters`"),
        (&["retract", "1"], "DELETE on table `segments`"),
    ] {
        let options = format!("-c role={role}");
        let mut daemon = Daemon::start(world.reader_command().env("PGOPTIONS", options).args(words));
        daemon.fails(1, "postgres refused access");
        assert!(
            daemon.said().contains(&format!("role `{role}` has no right to {right}")),
            "{}",
            daemon.said()
        );
    }
    world.connect().batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

/// What the group has of partition 0: the positions, and how many batches and letters.
fn state(world: &World) -> [Option<i64>; 5] {
    ["recency_next", "frequency_next", "monetary_next"]
        .map(|next| format!("SELECT {next} FROM progress WHERE partition = 0"))
        .into_iter()
        .chain(["batches", "dead_letters"].map(|table| format!("SELECT count(*) FROM {table}")))
        .map(|query| world.number(&query))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[test]
fn positions_that_retention_took_are_moved_and_what_is_there_is_stored() {
    let world = World::new("skipped", 2);
    topics::send(&world, 0..5);
    world.catch_up(&[]);
    topics::send(&world, 5..15);
    assert!(run(&world, &["skip-lost"]).contains("nothing to skip: the logs have every stored position"));
    delete_records(&world.kafka, &world.topics[0], 0, 8);
    let mut reader = world.reader(&[]);
    reader.fails(1, "is not in the log");
    assert!(reader.said().contains("`reader skip-lost`"), "{}", reader.said());

    let gone = format!("topic=\"{}\" partition=0 from=5 to=8 gone=3 settled=0", world.topics[0]);
    for (said, act) in
        [(rehearse(&world, &["skip-lost"]), "would skip"), (run(&world, &["skip-lost"]), "skipped")]
    {
        assert!(said.contains(&format!("{act} offsets that are gone {gone}")), "{said}");
        assert!(said.contains(&format!("{act} partitions=1 offsets=3")), "{said}");
    }
    assert_eq!(state(&world), [8, 5, 5, 5, 0].map(Some));
    world.catch_up(&["--pairing-timeout", "1s"]);
    // Of 5, 6 and 7, the recency messages are gone.
    assert_eq!(state(&world), [15, 15, 15, 12, 6].map(Some));
    assert!(run(&world, &["skip-lost"]).contains("nothing to skip"));
}

#[test]
fn a_running_reader_is_fenced_and_goes_on_and_what_is_settled_above_stays_settled() {
    let world = World::new("skipped_live", 2);
    send_one(&world, 0, Some("never whole"), "1,2,3");
    let mut reader = world.reader(&["--pairing-timeout", "1h"]);
    topics::send(&world, 0..5);
    world.wait_for_batches(5);
    wait_for("progress", || (state(&world) == [0, 5, 5, 5, 0].map(Some)).then_some(()));
    delete_records(&world.kafka, &world.topics[0], 0, 3);
    let said = run(&world, &["skip-lost"]);
    // Of the three, one is lost. The other two are stored.
    assert!(said.contains("partition=0 from=0 to=3 gone=3 settled=2"), "{said}");
    topics::send(&world, 5..10);
    world.wait_for_batches(10);
    wait_for("progress", || (state(&world) == [11, 10, 10, 10, 0].map(Some)).then_some(()));
    assert!(reader.said().contains("partition 0 belongs to another reader now"), "{}", reader.said());
    reader.stop();
    let stored =
        "SELECT count(DISTINCT recency_offset) FROM batches WHERE recency_offset = frequency_offset + 1";
    assert_eq!(world.number(stored), Some(10));
}

#[test]
fn what_is_not_lost_by_retention_is_not_skipped() {
    let world = World::new("not_skipped", 1);
    topics::send(&world, 0..5);
    world.catch_up(&[]);
    let execute = |sql: &str| world.connect().batch_execute(sql).unwrap();
    execute("UPDATE progress SET recency_next = 9");
    for words in [&["skip-lost"][..], &["skip-lost", "--dry-run"]] {
        let said =
            fails(&world, words, "was cut below what is stored: it was read up to 9, and it holds 0..5");
        assert!(said.contains("--group-id"), "{said}");
    }
    execute("UPDATE progress SET recency_next = 2, log_cut = 'the log was cut, once'");
    delete_records(&world.kafka, &world.topics[0], 0, 3);
    fails(&world, &["skip-lost"], "the log was cut, once");
    execute("UPDATE progress SET log_cut = NULL");
    crate::kafka::delete_topics(&world.kafka, &world.topics[1..2]);
    crate::kafka::create_topics(&world.kafka, &world.topics[1..2], 1);
    fails(&world, &["skip-lost"], "was deleted and created again");
    assert_eq!(state(&world)[..3], [2, 5, 5].map(Some));
}

#[test]
fn letters_above_progress_are_stored_once_whoever_owns_the_partition_meanwhile() {
    let world = World::new("rescored_above", 2);
    send_one(&world, 0, Some("never whole"), "1,2,3");
    let flags = ["--pairing-timeout", "1h", "--max-customers", "5"];
    let mut reader = world.reader(&flags);
    for key in 0..6 {
        send(&world, Some(&format!("small {key}")), "1,2,3");
        send(&world, Some(&format!("large {key}")), "1,2,3,4,5,6");
    }
    wait_for("all", || (state(&world) == [0, 12, 12, 6, 18].map(Some)).then_some(()));
    // The owner of the partition knows them as settled, and so does the next one.
    let said = run(&world, &["rescore"]);
    assert!(said.contains("rescored batches=6 customers=36 letters=18"), "{said}");
    topics::send(&world, 20..22);
    world.wait_for_batches(14);
    reader.kill_9();
    let mut next = world.reader(&flags);
    next.wait_until_it_says("took partition partition=0");
    topics::send(&world, 22..24);
    world.wait_for_batches(16);
    next.stop();
    assert_eq!(state(&world), [0, 16, 16, 16, 0].map(Some));
    // The message that held progress back goes, and nothing else.
    world.catch_up(&["--pairing-timeout", "1s"]);
    assert_eq!(state(&world), [17, 16, 16, 16, 1].map(Some));
    world.verify(&["--progress", "--expect-batches", "16", "--expect-dead", "1"]);
}
