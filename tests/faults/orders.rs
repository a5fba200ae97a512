//! Faults of producers that make snapshots of orders: they are killed, and their orders are cut off under them.

use crate::load::{Load, Report};
use crate::world::{Server, World, wait_for};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Customers of the orders; each has one before the first snapshot.
const CUSTOMERS: usize = 400;
/// Orders of a customer in the file that is cut, and in the Postgres that is killed.
const EACH: usize = 300;
const IN_POSTGRES: usize = 1_000;

/// Orders as CSV: `each` per customer, on as many days, the first on 1 January 2020.
fn orders(each: usize) -> String {
    let mut csv = "customer_id,ordered_at,amount\n".to_owned();
    for order in 0..each {
        for customer in 0..CUSTOMERS {
            let (month, day) = (1 + order / 28 % 12, 1 + order % 28);
            writeln!(csv, "c{customer},2020-{month:02}-{day:02},{order}.25").unwrap();
        }
    }
    csv
}

/// Ranges, each longer than the one before, whose producers are killed at a random moment. In the end every snapshot is
/// there, and none twice.
pub fn kill_in_a_range(times: u32, random: &mut StdRng) -> Report {
    let world = World::new("orders_kill", 3);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    fs::write(&file, orders(3)).unwrap();
    // Time to connect takes more than a hundred steps.
    let range = |round: u32| format!("2020-02-01..{}/1h", hours_later(4 * round + 4));
    let start = |range: &str| world.producer(&["--orders", file.to_str().unwrap(), "--as-of", range]);
    for round in 0..times {
        let mut producer = start(&range(round));
        if random.random_bool(0.8) {
            wait_for("a snapshot that is read", || {
                (producer.said().contains("read orders") || !producer.is_running()).then_some(())
            });
            sleep(Duration::from_millis(random.random_range(0..60)));
        } else {
            sleep(Duration::from_millis(random.random_range(0..3_000)));
        }
        producer.kill_9();
    }
    start(&range(times)).succeeds();
    let steps = i64::from(4 * times + 5);
    let load = Load::none(world);
    load.world.catch_up(&[]);
    let number = |query: &str| load.world.number(query).unwrap();
    let (all, different) =
        (number("SELECT count(*) FROM batches"), number("SELECT count(DISTINCT batch_key) FROM batches"));
    let mut report = load.finish(times);
    report.differences[0] += (steps - different).unsigned_abs();
    report.differences[1] += (all - different).unsigned_abs();
    report
}

/// The instant so many hours after the beginning of the ranges.
fn hours_later(hours: u32) -> String {
    let (day, hour) = (hours / 24, hours % 24);
    format!("2020-{:02}-{:02}T{hour:02}:00:00Z", 2 + day / 28, 1 + day % 28)
}

/// The Postgres with the orders is killed in the middle of the query. No snapshot is of a part of the orders.
pub fn kill_their_postgres(times: u32, random: &mut StdRng) -> Report {
    let postgres = Server::postgres();
    let load = Load::none(World::new("orders_postgres", 1));
    // 2 s of work, in which it can be killed, and 400 customers.
    let query = "SELECT g % 400 AS customer_id, date '2020-01-01' AS ordered_at, 1 AS amount,
        CASE WHEN g % 4000 = 0 THEN pg_sleep(0.02) END AS pause FROM generate_series(1, 400000) AS g OFFSET 0";
    let flags = ["--orders-sql", query, "--orders-url", &postgres.address, "--interval", "10ms"];
    let mut producer = load.world.producer(&flags);
    let sent = || producer.said().matches(" sent key=").count();
    for _ in 0..times {
        let before = sent();
        wait_for("a snapshot", || (sent() > before).then_some(()));
        sleep(Duration::from_millis(random.random_range(100..2_000)));
        postgres.run("kill");
        let before = producer.said().matches("there is no snapshot to send").count();
        wait_for("the producer to notice", || {
            (producer.said().matches("there is no snapshot to send").count() > before).then_some(())
        });
        postgres.run("start");
    }
    let before = sent();
    wait_for("a snapshot", || (sent() > before).then_some(()));
    producer.stop();
    whole(load, times, IN_POSTGRES)
}

/// The file is cut, or written to from its beginning, while it is read, and then replaced by a whole one. No snapshot is
/// of a part of the orders.
pub fn cut_their_file(times: u32, random: &mut StdRng) -> Report {
    let load = Load::none(World::new("orders_cut", 1));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let csv = orders(EACH);
    replace(&file, &csv);
    let flags = ["--orders", file.to_str().unwrap(), "--interval", "1ms"];
    let mut producer = load.world.producer(&flags);
    let lines = || producer.said().lines().count();
    producer.wait_until_it_says(" sent key=");
    for round in 0..times {
        sleep(Duration::from_millis(random.random_range(0..500)));
        // In the middle of a time: what is left is no file that could be read as a whole one.
        let from = random.random_range(100..csv.len() / 2);
        let cut = from + csv[from..].find(",2020").unwrap() + 3;
        if round % 2 == 0 {
            File::options().write(true).open(&file).unwrap().set_len(cut as u64).unwrap();
        } else {
            fs::write(&file, &csv.as_bytes()[..cut]).unwrap();
        }
        replace(&file, &csv);
        let before = lines();
        wait_for("its next lines", || (lines() > before + 1).then_some(()));
    }
    producer.stop();
    whole(load, times, EACH)
}

fn replace(file: &Path, csv: &str) {
    let other = file.with_extension("new");
    fs::write(&other, csv).unwrap();
    fs::rename(other, file).unwrap();
}

/// Lets the judge look, and counts what is of a part of the customers, or of their orders, as wrong.
fn whole(load: Load, times: u32, each: usize) -> Report {
    load.world.catch_up(&[]);
    let parts = format!(
        "SELECT (SELECT count(*) FROM batches WHERE customers <> {CUSTOMERS})
            + (SELECT count(*) FROM segments WHERE frequency <> {each})"
    );
    let parts = load.world.number(&parts).unwrap();
    let mut report = load.finish(times);
    report.differences[2] += parts.unsigned_abs();
    report
}
