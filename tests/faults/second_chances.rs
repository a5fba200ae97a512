//! Commands that die at each of their steps, beside running readers under load.

use crate::kafka::delete_records;
use crate::load::{Load, RECOVERY, Report};
use crate::watch;
use crate::world::{Daemon, World, wait_for};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Dies there: before the transaction, in it, and after it.
const RESCORE: [&str; 5] = ["after_begin", "after_copy", "after_delete", "before_commit", "after_commit"];
const RETRACT: [&str; 4] = ["after_begin", "after_delete", "before_commit", "after_commit"];
const SKIP_LOST: [&str; 5] =
    ["after_taking", "after_begin", "after_progress", "before_commit", "after_commit"];

/// The step of this time.
fn step<const N: usize>(steps: [&'static str; N], time: u32) -> &'static str {
    steps[time as usize % N]
}

fn dies(mut command: Daemon, step: &str) {
    assert_eq!(command.exit_code(), None, "it died at {step}; it said:\n{}", command.said());
}

/// Batches above the limit of the readers become dead letters all the time, and are scored again without it.
pub fn rescore(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start_with(World::new("rescore", 2), &["--interval", "15ms", "--customers", "40"]);
    let large = format!("{}.large", load.world.name);
    let flags = ["--transactional-id", &large, "--interval", "25ms", "--customers", "100"];
    let mut large = load.world.producer(&flags);
    let mut readers = [(); 2].map(|()| load.world.reader(&["--max-customers", "50"]));
    for time in 0..times {
        let enough = "SELECT count(*) FROM dead_letters";
        wait_for("dead letters", || (load.world.number(enough) > Some(60)).then_some(()));
        let step = step(RESCORE, time);
        let point = format!("{step}:{}:abort", random.random_range(1..15));
        dies(load.world.command_with_failpoint(&point, &["rescore"]), step);
        load.recovers_within(RECOVERY);
    }
    large.stop();
    for reader in &mut readers {
        reader.stop();
    }
    load.producer.take().unwrap().stop();
    load.world.catch_up(&["--max-customers", "50"]);
    load.world.command(&["rescore"]).succeeds();
    load.finish(times)
}

/// Some batches at a time. What died is done again.
pub fn retract(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("retract", 2));
    let mut reader = load.world.reader(&[]);
    load.recovers_within(RECOVERY * 3);
    for time in 0..times {
        let newest = load.world.number("SELECT max(id) FROM batches").unwrap();
        let chosen = |n: i64| load.world.number(&format!("SELECT min(id) FROM batches WHERE id >= {n}"));
        let ids = [1, random.random_range(1..newest), newest].map(|n| chosen(n).unwrap().to_string());
        let words = ["retract", &ids[0], &ids[1], &ids[2]];
        let step = step(RETRACT, time);
        dies(load.world.command_with_failpoint(&format!("{step}:1:abort"), &words), step);
        load.recovers_within(RECOVERY);
        load.world.command(&words).succeeds();
    }
    reader.stop();
    assert!(load.world.number("SELECT count(*) FROM batches WHERE retracted_at IS NOT NULL") > Some(1));
    load.finish(times)
}

/// Retention takes five batches that were not read yet.
pub fn skip_lost(times: u32, _: &mut StdRng) -> Report {
    let one = |time| {
        let world = World::new("skip_lost", 1);
        world.produce(&["--batches", "5", "--interval", "1ms"]);
        world.catch_up(&[]);
        // If this reader was asked before it ended, it has counted what `forget_below` deletes.
        watch::forget(&world);
        world.produce(&["--batches", "10", "--interval", "1ms"]);
        // Each batch is a message and a marker.
        world.topics.iter().for_each(|topic| delete_records(&world.kafka, topic, 0, 20));
        world.reader(&[]).fails(1, "is not in the log");
        let step = step(SKIP_LOST, time);
        dies(world.command_with_failpoint(&format!("{step}:1:abort"), &["skip-lost"]), step);
        world.command(&["skip-lost"]).succeeds();
        let mut load = Load::start(world);
        let mut reader = load.world.reader(&[]);
        load.recovers_within(RECOVERY * 3);
        reader.stop();
        load.producer.take().unwrap().stop();
        load.world.catch_up(&[]);
        // The judge cannot see what was removed.
        assert_eq!(load.world.number("SELECT count(*) FROM batches WHERE recency_offset < 20"), Some(5));
        forget_below(&load.world, 20);
        load.finish(1)
    };
    (0..times).map(one).fold(Report::default(), Report::and)
}

fn forget_below(world: &World, offset: i64) {
    use diesel::connection::SimpleConnection;
    let gone = format!(
        "DELETE FROM segments USING batches WHERE id = batch_id AND recency_offset < {offset};
         DELETE FROM batches WHERE recency_offset < {offset}"
    );
    world.connect().batch_execute(&gone).unwrap();
}
