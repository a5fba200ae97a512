//! Fixed edges, rules for customer ids, and the warnings about what changed from snapshot to snapshot.

use crate::kafka::Plain;
use crate::world::{Daemon, World};
use diesel::connection::SimpleConnection;
use std::fs;
use std::process::Command;
use tempfile::NamedTempFile;

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

const EDGES: &str = "# ours\r\nrecency 30 90.5 180 300 # days\r\nfrequency 50 100 200 360.25\r\n";

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// The same topics and database under another consumer group.
fn other_group(world: &World, name: &str) -> World {
    World {
        name: format!("{}_{name}", world.name),
        kafka: world.kafka.clone(),
        database_url: world.database_url.clone(),
        topics: world.topics.clone(),
        partitions: world.partitions,
    }
}

/// How many batches of the group have these words in `edges_from`.
fn batches_from(world: &World, edges_from: &str) -> i64 {
    let group = &world.name;
    let query =
        format!("SELECT count(*) FROM batches WHERE consumer_group = '{group}' AND edges_from {edges_from}");
    world.number(&query).unwrap()
}

/// Sends a batch to partition 0: a column for each metric, and fields of the recency message.
fn send(world: &World, key: &str, columns: [&str; 3], fields: &str) {
    let plain = Plain::new(&world.kafka);
    for ((topic, metric), column) in world.topics.iter().zip(METRICS).zip(columns) {
        let fields = if metric == "recency" { fields } else { "" };
        let body = format!(r#"{{"{metric}":[{column}]{fields}}}"#);
        plain.send(topic, 0, Some(key.as_bytes()), Some(body.as_bytes()));
    }
    plain.flush();
}

#[test]
fn edges_of_a_file_cut_the_metrics_that_it_names_and_ties_the_others() {
    let world = World::new("edges", 2);
    world.produce(&["--batches", "30", "--interval", "0", "--customers", "400", "--seed", "7"]);
    let edges = file(&format!("\u{feff}{EDGES}"));
    // Four of ten values at most: monetary is full of ties.
    send(&world, "tied", ["1,30,31,500", "51,50,360.25,1e300", "7,7,7,9"], "");
    let reader = world.catch_up(&["--edges", path(&edges), "--ties", "rank"]);
    world.verify(&[
        "--edges",
        path(&edges),
        "--ties",
        "rank",
        "--expect-batches",
        "31",
        "--expect-dead",
        "0",
    ]);
    let said = reader.said();
    let ready = said.lines().find(|line| line.contains("ready version=")).unwrap();
    let identity = ready.split("edges=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(identity.len() == 64 && ready.contains("customer_ids=\"any\""), "{ready}");
    assert_eq!(batches_from(&world, &format!("= '{identity}'")), 31);
    let kept = "fixed_metrics = '{recency,frequency}' AND recency_edges[2:5] = '{30,90.5,180,300}' AND \
                (batch_key <> 'tied' OR frequency_edges = '{50,50,100,200,360.25,1e300}')";
    assert_eq!(world.number(&format!("SELECT count(*) FROM batches WHERE {kept}")), Some(31));

    // As a variable; and `--ties reject` refuses what is cut by quintiles, and nothing else.
    let again = other_group(&world, "reject");
    let mut reader = Daemon::start(
        again.reader_command().arg("--until-caught-up").envs([("EDGES", path(&edges)), ("TIES", "reject")]),
    );
    reader.catches_up();
    again.verify(&[
        "--edges",
        path(&edges),
        "--ties",
        "reject",
        "--expect-batches",
        "30",
        "--expect-dead",
        "3",
    ]);
}

#[test]
fn edges_of_a_stored_batch_cut_later_ones_whatever_becomes_of_it() {
    let world = World::new("edges_from", 1);
    let few = ["1,2,3,4,5,6,7,8,9,10", "1,1,1,1,1,1,2,2,3,9", "5,10,20,40,80,160,320,640,1280,2560"];
    send(&world, "first", few, "");
    world.catch_up(&[]);
    let id = world.number("SELECT id FROM batches").unwrap().to_string();
    world.produce(&["--batches", "20", "--interval", "0", "--customers", "300", "--seed", "8"]);
    world.command(&["retract", &id]).succeeds();

    // `reject` has nothing to reject, although two edges of the batch are equal.
    let later = other_group(&world, "later");
    let flags = ["--edges-from", &id, "--ties", "reject"];
    let reader = later.catch_up(&flags);
    assert!(reader.said().contains(&format!("edges=\"batch:{id}\"")), "{}", reader.said());
    later.verify(&[&flags[..], &["--expect-batches", "21", "--expect-dead", "0"]].concat());
    assert_eq!(batches_from(&later, &format!("= 'batch:{id}'")), 21);
    later.check_reader(&flags).has("ok", "edges", &format!("those of batch {id}"));
    later.check_reader(&flags).has("ok", "rules", &format!("edges batch:{id}, as before"));
    later.check_reader(&["--ties", "reject"]).has("warn", "rules", &format!("scored under batch:{id}"));

    // A batch that was cut at these edges has them, too, also where its values lie beyond them.
    let its = later.number(&format!("SELECT max(id) FROM batches WHERE edges_from = 'batch:{id}'")).unwrap();
    let third = other_group(&world, "third");
    third.catch_up(&["--edges-from", &its.to_string()]);
    third.verify(&["--edges-from", &its.to_string(), "--expect-batches", "21"]);
}

#[test]
fn dead_letters_are_scored_again_at_the_edges_of_a_batch() {
    let world = World::new("edges_again", 1);
    send(&world, "sound", ["1,2,3,4,5,6", "1,2,3,4,5,6", "1,2,3,4,5,6"], "");
    send(&world, "tied", ["1,2,3,4,5,6", "1,1,1,1,1,6", "1,2,3,4,5,6"], "");
    world.catch_up(&["--ties", "reject"]);
    let id = world.number("SELECT id FROM batches").unwrap().to_string();
    let mut rescore = world.command(&["rescore", "--ties", "reject", "--edges-from", &id]);
    rescore.succeeds();
    assert!(rescore.said().contains("rescored batches=1 customers=6"), "{}", rescore.said());
    assert_eq!(batches_from(&world, &format!("= 'batch:{id}'")), 1);
    let scores = "SELECT sum(frequency_score * 10 ^ row_no) FROM segments WHERE batch_id <> ";
    assert_eq!(
        world.number(&format!("{scores}{id}")),
        Some(511_111),
        "1 lies below all edges of the sound batch"
    );
}

#[test]
fn a_batch_that_has_no_edges_to_use_ends_the_reader_with_a_hint() {
    let world = World::new("no_edges", 1);
    send(&world, "one", ["1,2,3", "1,2,3", "1,2,3"], "");
    world.catch_up(&[]);
    let id = world.number("SELECT id FROM batches").unwrap();
    let absent = (id + 1).to_string();
    let gone = format!("--edges-from has no edges to use: there is no batch {absent} in `batches`");
    let mut reader = world.reader(&["--edges-from", &absent]);
    reader.fails(1, &gone);
    assert!(reader.said().contains("hint: give the id of a batch"), "{}", reader.said());
    world.command(&["rescore", "--edges-from", &absent]).fails(1, &gone);
    world.check_reader(&["--edges-from", &absent]).has("FAILED", "edges", &gone);

    let spoil = |edges: &str| {
        let update = format!("UPDATE batches SET frequency_edges = {edges}");
        world.connect().batch_execute(&update).unwrap();
    };
    for (edges, why) in [("'{1,2,3}'", "has not six edges"), ("'{1,3,2,4,5,6}'", "does not ascend")] {
        spoil(edges);
        let why = format!("`frequency_edges` of batch {id} {why}");
        world.reader(&["--edges-from", &id.to_string()]).fails(1, &why);
        world.check_reader(&["--edges-from", &id.to_string()]).has("FAILED", "edges", &why);
    }
}

#[test]
fn flags_about_edges_that_are_wrong_are_usage_errors() {
    let start = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reader"));
        Daemon::start(
            command
                .args(["--database-url", "postgres:///x"])
                .args(args)
                .envs(variables.iter().copied())
                .current_dir("/"),
        )
    };
    let (good, bad) = (file(EDGES), file("recency 1 2 3 4\nfrequency 9 7 5 3\n"));
    start(&["--edges", path(&good), "--edges-from", "7"], &[])
        .fails(2, "both --edges and --edges-from are given");
    start(&[], &[("EDGES", path(&good)), ("EDGES_FROM", "7")])
        .fails(2, "both --edges and --edges-from are given");
    let mut wrong = start(&["--edges", path(&bad)], &[("EDGES_FROM", "7")]);
    wrong.fails(2, "line 2: the edges of frequency must ascend, and 7 does not lie above 9");
    assert!(
        wrong.said().contains("is not usable") && wrong.said().contains("hint: a line per metric"),
        "{}",
        wrong.said()
    );
    assert_eq!(start(&["--edges-from", "seven"], &[]).exit_code(), Some(2));
    assert_eq!(start(&["--customer-ids", "some"], &[]).exit_code(), Some(2));
}

#[test]
fn ids_that_break_the_rule_are_dead_letters_and_no_id_is_said() {
    let world = World::new("ids", 1);
    let columns = ["1,2,3"; 3];
    send(&world, "sound", columns, r#","customer_id":["ann","bob",3]"#);
    send(&world, "twice", columns, r#","customer_id":["hush-7","bob","hush-7"]"#);
    send(&world, "number", columns, r#","customer_id":["7",8,7]"#);
    send(&world, "blank", columns, r#","customer_id":["hush-8","",""]"#);
    send(&world, "none", columns, "");
    for (rule, stored, dead) in [("any", "5", "0"), ("required", "3", "6"), ("unique", "1", "12")] {
        let group = other_group(&world, rule);
        let flags = ["--customer-ids", rule];
        let reader = group.catch_up(&flags);
        group.verify(&[&flags[..], &["--expect-batches", stored, "--expect-dead", dead]].concat());
        let said = reader.said();
        assert!(!said.contains("hush") && said.contains(&format!("customer_ids=\"{rule}\"")), "{said}");
    }
    let detail = |detail: &str| {
        let condition = format!("reason = 'bad_customer_id' AND detail = '`customer_id`: {detail}'");
        world.number(&format!("SELECT count(*) FROM dead_letters WHERE {condition}")).unwrap()
    };
    assert_eq!(detail("element 2 repeats element 0 (--customer-ids unique)"), 6);
    assert_eq!(detail("element 1 is empty (--customer-ids required)"), 3);
    // Once the rule is dropped, they are stored.
    let group = other_group(&world, "unique");
    let mut rescore = group.command(&["rescore", "--reason", "bad_customer_id"]);
    rescore.succeeds();
    assert!(rescore.said().contains("rescored batches=4"), "{}", rescore.said());
}

#[test]
fn what_changes_from_snapshot_to_snapshot_is_warned_of_once() {
    let world = World::new("shifts", 1);
    let spread: Vec<String> = (0..1_000).map(|i| i.to_string()).collect();
    let spread = spread.join(",");
    let orders = |one: usize, two: usize| {
        let orders = (0..1_000).map(|i| {
            if i < one {
                1
            } else if i < one + two {
                2
            } else {
                i
            }
        });
        orders.map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    };
    let ids = |from: usize, to: usize| {
        let ids = (from..to).map(|id| format!("\"hush-{id}\"")).collect::<Vec<_>>().join(",");
        format!(r#","population":"north","customer_id":[{ids}]"#)
    };
    let day = |day: u32, fields: &str| format!(r#","as_of":"2026-01-{day:02}T00:00:00Z"{fields}"#);
    let snapshot = |at, frequency: &str, fields: &str| {
        send(&world, &format!("{at}"), [&spread, frequency, &spread], &day(at, fields));
    };
    // An order more or less moves no customer who has two orders to another side of an edge; the others do.
    snapshot(1, &orders(580, 150), &ids(0, 1_000));
    snapshot(3, &orders(620, 110), &ids(10, 1_010));
    // Late, and so not compared.
    snapshot(2, &orders(100, 0), &ids(5_000, 6_000));
    snapshot(4, &orders(620, 110), &ids(7_000, 8_000));
    send(&world, "5", ["1,2,3", "1,2,3", "1,2,3"], &day(5, &ids(7_000, 7_003)));
    let mut reader = world.reader(&["--until-caught-up"]);
    reader.catches_up();
    let said = reader.said();
    let id = |key: u32| world.number(&format!("SELECT id FROM batches WHERE batch_key = '{key}'")).unwrap();
    let line = |words: &str| {
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(words)).collect();
        let [line] = lines[..] else { panic!("one line with `{words}`:\n{said}") };
        assert!(line.contains("WARN") && line.contains("population=\"north\""), "{line}");
        line.to_owned()
    };
    let empty = line("1 of the 5 quintiles of frequency are empty: 580 of 1000 customers share one value");
    assert!(empty.contains(&format!("batch={}", id(1))) && !empty.contains("before="), "{empty}");
    let jumped =
        line("an edge of frequency jumped from 2 to 1: for that alone, 110 of 1000 customers have another");
    assert!(jumped.contains(&format!("batch={} before={}", id(3), id(1))), "{jumped}");
    let strangers = line("the customer ids are not those of the snapshot before");
    assert!(strangers.contains(&format!("batch={} before={}", id(4), id(3))), "{strangers}");
    let fell = line("customers fell from 1000 to 3");
    assert!(fell.contains(&format!("batch={} before={}", id(5), id(4))), "{fell}");
    assert!(!said.contains("hush"), "{said}");
    world.verify(&["--expect-batches", "5"]);
}
