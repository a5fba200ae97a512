//! Rows that a person takes away: rightly, as the guide says, and in a way that would mix batches.

use crate::topics::send;
use crate::world::{World, repository, wait_for};
use diesel::connection::SimpleConnection;

const BATCHES: &str = "SELECT count(*) FROM batches";
/// Rows that a batch should not have: `send` has three customers in each.
const MIXED: &str =
    "SELECT count(*) FROM (SELECT FROM segments GROUP BY batch_id HAVING count(*) <> 3) mixed";

#[test]
fn ids_given_again_by_a_truncated_sequence_are_never_shared() {
    let world = World::new("purge_restart", 1);
    let mut reader = world.reader(&[]);
    send(&world, 0..9);
    world.wait_for_batches(9);
    // While the reader runs: nothing that it checks at its start can show this.
    world.connect().batch_execute("TRUNCATE batches RESTART IDENTITY").unwrap();
    send(&world, 10..12);
    reader.fails(1, "`segments` has rows of batch ");
    assert!(
        reader.said().contains("the sequence of `batches` has gone back from 9 to 1"),
        "{}",
        reader.said()
    );
    assert!(reader.said().contains("delete the rows whose batch is not in `batches`"), "{}", reader.said());
    assert_eq!((world.number(BATCHES), world.number(MIXED)), (Some(0), Some(0)));
    world.reader(&[]).fails(1, "`segments` has rows of batch ");

    // What the hint says.
    let orphans = "DELETE FROM segments WHERE batch_id NOT IN (SELECT id FROM batches)";
    world.connect().batch_execute(orphans).unwrap();
    world.catch_up(&[]);
    assert_eq!((world.number(BATCHES), world.number(MIXED)), (Some(2), Some(0)));
}

#[test]
fn ids_are_not_shared_if_the_tables_could_not_be_compared_at_the_start() {
    let world = World::new("purge_locked", 1);
    send(&world, 0..9);
    world.catch_up(&[]);
    world.connect().batch_execute("TRUNCATE batches RESTART IDENTITY").unwrap();
    send(&world, 10..12);
    let mut other = world.connect();
    other.batch_execute("BEGIN; LOCK segments").unwrap();
    let mut reader = world.reader(&["--until-caught-up"]);
    reader.wait_until_it_says("took partition");
    other.batch_execute("COMMIT").unwrap();
    reader.fails(1, "`segments` has rows of batch ");
    assert!(reader.said().contains("the tables were not compared"), "{}", reader.said());
    assert_eq!((world.number(BATCHES), world.number(MIXED)), (Some(0), Some(0)));

    // Where nothing is wrong, the work goes on.
    let orphans = "DELETE FROM segments WHERE batch_id NOT IN (SELECT id FROM batches)";
    world.connect().batch_execute(orphans).unwrap();
    other.batch_execute("BEGIN; LOCK segments").unwrap();
    let mut reader = world.reader(&["--until-caught-up"]);
    reader.wait_until_it_says("took partition");
    other.batch_execute("COMMIT").unwrap();
    reader.catches_up();
    assert_eq!((world.number(BATCHES), world.number(MIXED)), (Some(2), Some(0)));
}

#[test]
fn an_id_that_is_taken_is_passed_over() {
    let world = World::new("purge_few", 1);
    let mut reader = world.reader(&[]);
    send(&world, 0..1);
    world.wait_for_batches(1);
    world.connect().batch_execute("TRUNCATE batches RESTART IDENTITY").unwrap();
    // The id is given again, alone or with the next one. Nothing is stored under it.
    send(&world, 10..12);
    world.wait_for_batches(2);
    reader.stop();
    assert_eq!((world.number(BATCHES), world.number(MIXED)), (Some(2), Some(0)), "{}", reader.said());
    assert!(world.number("SELECT min(id) FROM batches") > Some(1), "{}", reader.said());
}

#[test]
fn rows_purged_as_the_guide_says_stay_away_and_the_reader_goes_on() {
    let guide = std::fs::read_to_string(repository().join("docs/guide.md")).unwrap();
    let begin = guide.find("BEGIN;\nTRUNCATE segments;").expect("the guide has the statements");
    let statements = guide[begin..].split("```").next().unwrap();

    let world = World::new("purge", 1);
    let mut reader = world.reader(&[]);
    send(&world, 0..9);
    world.wait_for_batches(9);
    wait_for("progress past them", || {
        (world.number("SELECT min(monetary_next) FROM progress") == Some(9)).then_some(())
    });
    world.connect().batch_execute(statements).unwrap();
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(0));
    send(&world, 10..12);
    world.wait_for_batches(3);
    reader.stop();
    // Again, and while none runs.
    world.connect().batch_execute(statements).unwrap();
    send(&world, 20..22);
    let last = world.catch_up(&[]);
    assert!(last.said().contains("has no rows in `segments`"), "{}", last.said());
    assert_eq!((world.number(BATCHES), world.number(MIXED)), (Some(3), Some(0)), "{}", last.said());
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(6));
}
