//! A sound set-up, and the proof that nothing is changed.

use crate::kafka::{committed, logs, members};
use crate::world::{World, wait_for};

/// Everything that a database has: its tables with all rows, where each row lies and which transaction wrote it, and
/// the state of its sequences.
fn content(world: &World) -> Vec<String> {
    use diesel::prelude::*;
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        what: String,
    }
    let mut connection = world.connect();
    let mut all = |query: &str| -> Vec<String> {
        let rows: Vec<Row> = diesel::sql_query(query.to_owned()).load(&mut connection).unwrap();
        rows.into_iter().map(|row| row.what).collect()
    };
    let relations = all(
        "SELECT format('%I.%I %s', nspname, relname, relkind) AS what FROM pg_class c JOIN pg_namespace n ON n.oid = \
         relnamespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
    );
    let mut content = relations.clone();
    for relation in relations {
        let (name, kind) = relation.rsplit_once(' ').unwrap();
        let columns = match kind {
            "r" => "(ctid, xmin, t)::text",
            "S" => "format('%s %s', last_value, is_called)",
            _ => continue,
        };
        content.extend(all(&format!("SELECT {columns} AS what FROM {name} t ORDER BY 1")));
    }
    content
}

#[test]
fn of_a_sound_set_up_every_line_is_ok_and_nothing_is_changed() {
    let world = World::healthy("check_sound", 2);
    let state = || {
        let kafka = [
            logs(&world.kafka, &world.name),
            committed(&world.kafka, &world.name, &world.topics, world.partitions),
            members(&world.kafka, &world.name),
        ];
        (content(&world), kafka)
    };
    wait_for("an empty group", || members(&world.kafka, &world.name).is_empty().then_some(()));
    let before = state();
    for _ in 0..2 {
        world.check_reader(&[]).is_all_ok();
        world.check_producer(&[]).is_all_ok();
    }
    assert_eq!(before, state());
    assert!(before.1[0].len() == 6 && before.1[1].len() == 6 && before.0.len() > 20, "{before:?}");
    // What was tried left nothing to go on from.
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-batches", "4", "--expect-dead", "0"]);
}

#[test]
fn before_the_first_start_nothing_is_made_and_nothing_fails_but_what_is_missing() {
    let world = World::new("check_first", 1);
    let before = content(&world);
    let checked = world.check_reader(&[]);
    checked.has("ok", "tables", "there are none");
    checked.has("skipped", "commit", "the tables are not there");
    assert_eq!((checked.code, content(&world)), (Some(0), before), "{}", checked.said);
    let none = World::without_topics("check_no_topics", &world.kafka, 3);
    none.check_producer(&[]).has("ok", "topics", "creates");
    assert!(logs(&none.kafka, &none.name).is_empty(), "no topic is created");
    none.check_reader(&[]).has("FAILED", "topics", "missing: `");
}

#[test]
fn programs_at_work_are_not_disturbed() {
    let world = World::healthy("check_beside", 1);
    let mut producer = world.producer(&["--interval", "100ms"]);
    let mut reader = world.reader(&[]);
    world.wait_for_batches(6);
    for _ in 0..3 {
        let checked = world.check_reader(&[]);
        checked.has("ok", "members of the group", "127.0.0.1");
        checked.is_all_ok();
        world.check_producer(&[]).is_all_ok();
    }
    let stored = world.number("SELECT count(*) FROM batches").unwrap();
    world.wait_for_batches(stored + 3);
    producer.stop();
    reader.stop();
    for program in [&producer, &reader] {
        assert!(!program.said().contains("WARN"), "{}", program.said());
    }
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}
