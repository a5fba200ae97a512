//! Orders become snapshots, from a file and from a pipe (`orders_sql` has those in a Postgres).

use crate::kafka::limit_messages;
use crate::probe::{ANY_PORT, Probe};
use crate::world::{Daemon, World};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;

/// Orders of a few months; a row without a customer, a refund, and a customer who has only that.
const ORDERS: &str = "\
customer_id,ordered_at,amount
ann,2024-01-05,10.10
bob,2024-01-20T12:00:00Z,20.20
,2024-01-21,5
ann,2024-02-10,0.20
eve,2024-02-11,-3
bob,2024-02-28,-20.20
cid,2024-03-01T00:00:00Z,7
";
const QUARTER: &str = "2024-02-01..2024-04-01/1mo";

/// A file of orders in a folder of its own.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new(orders: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.csv");
        fs::write(&path, orders).unwrap();
        Self { _folder: folder, path }
    }

    fn flag(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Replaces the file as one should: by another one that gets its name.
    fn replace(&self, orders: &str) {
        let other = self.path.with_extension("new");
        fs::write(&other, orders).unwrap();
        fs::rename(other, &self.path).unwrap();
    }
}

/// The rows of the newest batch of each key, as the database has them, in order.
fn rows(world: &World) -> String {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        line: String,
    }
    let query = "
        SELECT concat_ws(' ', b.batch_key, s.customer_id, s.recency, s.frequency, s.monetary) AS line
        FROM segments s JOIN batches b ON b.id = s.batch_id ORDER BY b.batch_key, b.produced_at, s.row_no";
    let rows: Vec<Row> = diesel::RunQueryDsl::load(diesel::sql_query(query), &mut world.connect()).unwrap();
    rows.into_iter().map(|row| row.line).collect::<Vec<_>>().join("\n")
}

fn sent(producer: &Daemon) -> usize {
    producer.said().matches(" sent key=").count()
}

#[test]
fn a_range_over_a_file_becomes_a_snapshot_per_step() {
    let world = World::new("orders_range", 3);
    let file = File::new(ORDERS);
    let mut producer = world.producer(&["--orders", file.flag(), "--as-of", QUARTER]);
    producer.succeeds();
    assert_eq!(sent(&producer), 3, "{}", producer.said());
    let said = producer.said();
    assert!(said.contains("orders=7 customers=3 no_customer=1 refunds_only=1"), "{said}");
    world.catch_up(&[]);
    let expected = "\
2024-02-01T00:00:00Z ann 27 1 10.1
2024-02-01T00:00:00Z bob 11 1 20.2
2024-03-01T00:00:00Z ann 20 2 10.3
2024-03-01T00:00:00Z bob 40 1 0
2024-04-01T00:00:00Z ann 51 2 10.3
2024-04-01T00:00:00Z bob 71 1 0
2024-04-01T00:00:00Z cid 31 1 7";
    assert_eq!(rows(&world), expected);
    let as_of = "SELECT count(*) FROM batches WHERE as_of = batch_key::timestamptz AND population IS NULL";
    assert_eq!(world.number(as_of), Some(3));
    world.verify(&["--progress", "--expect-batches", "3", "--expect-dead", "0"]);
}

#[test]
fn a_range_that_is_run_again_sends_what_is_missing_and_what_was_corrected() {
    let world = World::new("orders_again", 3);
    let file = File::new(ORDERS);
    let flags = ["--orders", file.flag(), "--as-of", QUARTER, "--population", "north"];
    let run = || {
        let mut producer = world.producer(&flags);
        producer.succeeds();
        sent(&producer)
    };
    world.produce(&["--orders", file.flag(), "--as-of", "2024-03-01", "--population", "north"]);
    assert_eq!(run(), 2, "one of three is there");
    assert_eq!(run(), 0, "all are there");
    // Who ordered and when stays as it was, so the recency messages do, too.
    file.replace(&ORDERS.replace("ann,2024-02-10,0.20", "ann,2024-02-10,0.30"));
    assert_eq!(run(), 2, "the first month is as it was");
    assert_eq!(run(), 0);
    file.replace(ORDERS);
    assert_eq!(run(), 2, "the newest message counts, not one of those before it");
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-batches", "7", "--expect-dead", "0"]);
    let keys = "SELECT count(DISTINCT batch_key) FROM batches WHERE population = 'north' AND batch_key LIKE 'north@%'";
    assert_eq!(world.number(keys), Some(3));
}

#[test]
fn a_row_that_cannot_be_read_refuses_the_snapshot_until_it_is_mended() {
    let world = World::new("orders_row", 1);
    let file = File::new(&ORDERS.replace("2024-02-10,0.20", "2024-02-10,\"1.234,56\""));
    let mut once = world.producer(&["--orders", file.flag(), "--batches", "1"]);
    once.fails(1, "line 5");
    assert!(once.said().contains("`1.234,56`") && once.said().contains("decimal point"), "{}", once.said());
    let mut daemon = world.producer(&["--orders", file.flag(), "--interval", "100ms"]);
    daemon.wait_until_it_says("trying again after the interval");
    file.replace(ORDERS);
    daemon.wait_until_it_says(" sent key=");
    daemon.stop();
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let world = World::new("orders_later", 1);
    let file = File::new(ORDERS);
    fs::remove_file(&file.path).unwrap();
    let mut once = world.producer(&["--orders", file.flag(), "--as-of", QUARTER]);
    once.fails(1, "cannot be read");
    let mut daemon = world.producer(&["--orders", file.flag(), "--interval", "100ms"]);
    daemon.wait_until_it_says("there is no such file");
    file.replace("customer_id,ordered_at,amount\n");
    daemon.wait_until_it_says("no customer has an order yet");
    file.replace(ORDERS);
    daemon.wait_until_it_says(" sent key=");
    daemon.stop();
}

#[test]
fn standard_input_is_read_once() {
    let world = World::new("orders_pipe", 1);
    let mut producer = world.producer_command();
    producer.args([
        "--orders",
        "-",
        "--as-of",
        "2024-04-01",
        "--orders-columns",
        "customer=who,time=when,amount=price*count",
    ]);
    let pipe = tempfile::tempfile().unwrap();
    (&pipe).write_all(b"who;when;price;count\r\nann;20240105;2.5;3\r\n\"b;b\";20240331;1;1\r\n").unwrap();
    std::io::Seek::rewind(&mut &pipe).unwrap();
    Daemon::start(producer.stdin(Stdio::from(pipe))).succeeds();
    world.catch_up(&[]);
    let expected = "2024-04-01T00:00:00Z ann 87 1 7.5\n2024-04-01T00:00:00Z b;b 1 1 1";
    assert_eq!(rows(&world), expected);
}

#[test]
fn a_step_without_customers_is_said_and_not_sent() {
    let world = World::new("orders_none", 1);
    let file = File::new(ORDERS);
    let mut producer = world.producer(&["--orders", file.flag(), "--as-of", "2023-12-01..2024-02-01/1mo"]);
    producer.succeeds();
    assert_eq!(sent(&producer), 1);
    assert_eq!(
        producer.said().matches("no customer has an order before this time").count(),
        2,
        "{}",
        producer.said()
    );
}

#[test]
fn a_snapshot_that_the_topic_does_not_take_is_found_before_it_is_sent() {
    let world = World::new("orders_large", 1);
    let mut orders = String::from("customer_id,ordered_at,amount\n");
    (0..5_000).for_each(|i| writeln!(orders, "customer {i},2024-01-01,1.50").unwrap());
    let file = File::new(&orders);
    limit_messages(&world.kafka, &world.topics[0], 50_000);
    let flags = ["--orders", file.flag(), "--as-of", "2024-02-01"];
    let mut producer = world.producer(&flags);
    producer.fails(1, "the topic takes 50000 at most (max.message.bytes): about");
    assert!(producer.said().contains("compression.type=zstd"), "{}", producer.said());
    world.produce(&[&flags[..], &["--kafka-property", "compression.type=zstd"]].concat());
    world.catch_up(&[]);
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(5_000));
}

#[test]
fn orders_are_counted() {
    let world = World::new("orders_counted", 1);
    let file = File::new(ORDERS);
    let flags = ["--orders", file.flag(), "--interval", "1h"];
    let mut producer = world.producer(&[&flags[..], &ANY_PORT].concat());
    producer.wait_until_it_says(" sent key=");
    let metrics = Probe::of(&producer).metrics();
    assert_eq!(metrics["rfm_orders_read_total"], 7.0);
    assert_eq!(metrics[r#"rfm_orders_left_out_total{why="no_customer"}"#], 1.0);
    assert_eq!(metrics[r#"rfm_orders_left_out_total{why="refunds_only"}"#], 1.0);
    producer.stop();
}

#[test]
fn flags_about_orders_that_contradict_each_other_are_usage_errors() {
    let world = World::without_topics("orders_flags", "127.0.0.1:1", 1);
    let cases: [(&[&str], &str); 13] = [
        (&["--orders", "x.csv", "--customers", "5"], "cannot be used with"),
        (&["--orders", "x.csv", "--seed", "5"], "--seed"),
        (&["--orders-sql", "SELECT 1", "--orders-url", "postgres://x", "--seed", "5"], "--seed"),
        (&["--orders", "x.csv", "--orders-sql", "SELECT 1"], "--orders-sql"),
        (&["--orders-sql", "SELECT 1"], "has no database"),
        (&["--orders", "-", "--as-of", QUARTER], "standard input can be read once"),
        (&["--as-of", "2024-01-01"], "no orders"),
        (&["--orders-columns", "customer=x"], "no orders"),
        (&["--orders", "x.csv", "--as-of", "2024-01-01..2024-02-01"], "no step"),
        (&["--orders", "x.csv", "--as-of", "2024-01-01..2024-12-01/1month"], "a month is 1mo"),
        (&["--orders", "x.csv", "--orders-url", "postgres://x"], "no --orders-sql"),
        (&["--orders", "x.csv", "--population", ""], "--population"),
        (&["--orders", "/dev/zero"], "can be read once"),
    ];
    for (flags, words) in cases {
        let mut producer = world.producer(flags);
        assert_eq!(producer.exit_code(), Some(2), "{flags:?}: {}", producer.said());
        assert!(producer.said().contains(words), "{flags:?}: {}", producer.said());
    }
}

#[test]
fn a_flag_beats_the_variables_of_what_it_excludes() {
    let world = World::new("orders_rivals", 1);
    let file = File::new(ORDERS);
    let mut producer = world.producer_command();
    producer.env("PRODUCE_CUSTOMERS", "5").env("PRODUCE_SEED", "7").env("PRODUCE_ORDERS_SQL", "SELECT 1");
    let mut producer = Daemon::start(producer.args(["--orders", file.flag(), "--as-of", QUARTER]));
    producer.succeeds();
    assert_eq!(sent(&producer), 3);
    let mut both = world.producer_command();
    both.env("PRODUCE_CUSTOMERS", "5").env("PRODUCE_ORDERS", file.flag());
    let mut both = Daemon::start(&mut both);
    assert_eq!(both.exit_code(), Some(2), "{}", both.said());
    assert!(both.said().contains("cannot be used with"), "{}", both.said());
}

#[test]
fn what_only_the_brokers_can_judge_is_refused_with_a_hint_about_orders() {
    let world = World::new("orders_codec", 1);
    let mut orders = String::from("customer_id,ordered_at,amount\n");
    (0..5_000).for_each(|i| writeln!(orders, "customer {},2024-01-01,1.50", i * 7_919).unwrap());
    let file = File::new(&orders);
    limit_messages(&world.kafka, &world.topics[0], 5_000);
    let flags =
        ["--orders", file.flag(), "--as-of", "2024-02-01", "--kafka-property", "compression.type=lz4"];
    let mut producer = world.producer(&flags);
    producer.fails(1, "the brokers refuse the batch");
    let said = producer.said();
    assert!(said.contains("each with a --population") && !said.contains("--customers"), "{said}");
}

#[test]
fn a_pipe_whose_last_row_has_no_end_is_warned_of() {
    let world = World::new("orders_end", 1);
    let pipe = tempfile::tempfile().unwrap();
    (&pipe).write_all(b"customer_id,ordered_at,amount\nann,2024-01-05,12").unwrap();
    std::io::Seek::rewind(&mut &pipe).unwrap();
    let mut producer = world.producer_command();
    producer.args(["--orders", "-", "--as-of", "2024-02-01"]).stdin(Stdio::from(pipe));
    let mut producer = Daemon::start(&mut producer);
    producer.succeeds();
    assert!(producer.said().contains("it may have been cut off"), "{}", producer.said());
}

#[test]
fn a_check_looks_at_orders_and_at_the_right_to_know_what_was_sent() {
    let world = World::new("orders_check", 1);
    let file = File::new(ORDERS);
    let check = |flags: &[&str]| {
        let output = world.producer_command().arg("check").args(flags).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check(&["--orders", file.flag(), "--as-of", QUARTER]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("has the columns customer=`customer_id`") && said.contains("Read is allowed"),
        "{said}"
    );
    let (code, said) = check(&["--orders", file.flag(), "--orders-columns", "amount=total"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no column `total`") && said.contains("try again at each interval"), "{said}");
}
