//! Faults while windows of `segments` begin and go.

use crate::load::{FAILOVER, Load, Report};
use crate::world::{Daemon, World, wait_for};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::time::Duration;

/// Where a reader dies: in the upkeep of the windows, and in a commit beside it.
const STEPS: [&str; 7] =
    ["in_prepare", "after_prepare", "in_enter", "before_drop", "in_drop", "after_ids", "after_window"];
/// Rows are kept for two seconds, in windows of one.
const BRIEF: [&str; 4] = ["--retain", "2s", "--segments-window", "1s"];
/// The number of the newest window.
const NEWEST: &str = "SELECT window_no FROM segments_day";

/// Waits for windows to begin and to go.
fn roll(world: &World, times: i64) {
    let newest = world.number(NEWEST).unwrap_or_default();
    wait_for("windows", || (world.number(NEWEST)? >= newest + times).then_some(()));
    let oldest = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'segments'::regclass";
    wait_for("the end of a window", || (world.number(oldest) < Some(8)).then_some(()));
}

pub fn die_at_each_step(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("window_steps", 2));
    for step in STEPS.iter().cycle().take(times as usize) {
        let point = format!("{step}:{}:abort", random.random_range(1..3));
        let mut dying = load.world.reader_with_failpoint(&point, &BRIEF);
        assert_eq!(dying.exit_code(), None, "it died at {step}; it said:\n{}", dying.said());
        let mut next = load.world.reader(&BRIEF);
        load.recovers_within(FAILOVER);
        roll(&load.world, 2);
        next.kill_9();
        let behind =
            "SELECT (SELECT last_value / 10000000000 FROM batches_id_seq) - window_no FROM segments_day";
        assert!(load.world.number(behind) <= Some(1), "{step}");
    }
    load.finish(times)
}

pub fn come_and_go(times: u32, _: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("windows", 2));
    let mut readers = [load.world.reader(&BRIEF), load.world.reader(&BRIEF)];
    load.recovers_within(FAILOVER);
    roll(&load.world, i64::from(times));
    for reader in &mut readers {
        assert!(!reader.said().contains("starting over"), "{}", reader.said());
        reader.stop();
    }
    load.finish(times)
}

/// A reader is frozen in a commit, with ids of a window that nobody needs any more. Once it wakes, its batch must be
/// stored, and with all its rows.
pub fn freeze_at_a_step(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::start(World::new("window_frozen", 1));
    for round in 0..times {
        let step = ["after_ids", "mid_copy", "before_commit"][round as usize % 3];
        let point = format!("{step}:{}:stop", random.random_range(2..10));
        let mut frozen = load.world.reader_with_failpoint(&point, &["--retain", "10days"]);
        wait_for("a frozen reader", || is_stopped(&frozen).then_some(()));
        let mut admin = load.world.connect();
        admin
            .batch_execute(
                "UPDATE segments_day SET day = day - interval '300 years';
                 SELECT rfm_prepare_window(next), rfm_enter_window(next, '1 day') FROM rfm_window('1 day')",
            )
            .unwrap();
        // All batches of the windows that are past have expired.
        admin
            .batch_execute(
                "BEGIN; UPDATE batches SET expired_at = now() WHERE expired_at IS NULL;
                 DELETE FROM segments WHERE batch_id IN (SELECT id FROM batches WHERE expired_at = now()); COMMIT;
                 SET lock_timeout = '200ms'",
            )
            .unwrap();
        let past = "SELECT window_no - 1 FROM segments_day";
        let past = load.world.number(past).unwrap();
        let drop = format!("SELECT rfm_drop_window({past})");
        if step == "mid_copy" {
            // It holds its lock for as long as it is frozen, and the window stays.
            assert!(diesel::sql_query(&drop).execute(&mut admin).is_err());
        } else {
            // Postgres ends the transaction of a reader that is frozen between two statements.
            wait_for("the end of the window", || diesel::sql_query(&drop).execute(&mut admin).ok());
        }
        frozen.signal("CONT");
        load.recovers_within(FAILOVER + Duration::from_secs(5));
        frozen.stop();
    }
    load.finish(times)
}

/// Whether the process is stopped.
fn is_stopped(daemon: &Daemon) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
