//! A walk through everything that a program waits for: after 5 s each wait has a line that names whom it waits
//! for. The table below has a row for every place in the code that logs a wait, which a test checks, too.

use crate::kafka::{Plain, create_topics};
use crate::slowness;
use crate::world::{Daemon, Server, World, repository, shared_kafka, wait_for};
use diesel::connection::SimpleConnection;
use std::any::Any;
use std::time::{Duration, Instant};

/// How soon the line comes: 5 s, and what a program needs to get there.
const SAID: Duration = Duration::from_secs(8);

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

/// A program that waits.
struct Waiting {
    program: Daemon,
    /// What the line must say; of several sentences, separated by `|`, one.
    words: String,
    /// What must live for it to wait.
    _props: Vec<Box<dyn Any>>,
}

impl Waiting {
    fn new(program: Daemon, words: impl Into<String>) -> Self {
        Self { program, words: words.into(), _props: Vec::new() }
    }

    fn with(mut self, prop: impl Any) -> Self {
        self._props.push(Box::new(prop));
        self
    }
}

/// The file that logs the wait, what is awaited, and a program that waits for it from now on.
type Row = (&'static str, &'static str, fn() -> Waiting);

/// All waits.
const WAITS: [Row; 20] = [
    ("reader/session/opening.rs", "reader: a broker", || {
        let world = World::without_topics("wait_broker", NOBODY, 1);
        Waiting::new(world.reader(&[]), format!("no broker answers at {NOBODY}"))
    }),
    ("reader.rs", "reader: Postgres, which refuses connections", || {
        let world = World::new("wait_postgres", 1);
        let reader = world.reader(&["--database-url", &format!("postgres://{NOBODY}/rfm")]);
        Waiting::new(
            reader,
            "postgres cannot be reached: connection to server at \"127.0.0.1\", port 1 failed",
        )
    }),
    ("reader/session/watchdog.rs", "reader: Postgres, which is frozen when it connects", || {
        let postgres = Server::postgres();
        let world = World::on("wait_frozen", &shared_kafka(), &postgres.address, 1);
        postgres.run_with("signal", &["STOP"]);
        let url = format!("{}?connect_timeout=30", world.database_url);
        let reader = world.reader(&["--database-url", &url]);
        Waiting::new(reader, "postgres has not answered: still connecting").with(Thaw(postgres))
    }),
    ("reader/session/watchdog.rs", "reader: a lock in Postgres", || {
        let world = World::new("wait_lock", 1);
        let reader = world.reader(&[]);
        reader.wait_until_it_says("took partition");
        let mut locker = world.connect();
        locker.batch_execute("BEGIN; LOCK TABLE segments IN ACCESS EXCLUSIVE MODE").unwrap();
        world.produce(&["--batches", "1", "--interval", "0"]);
        Waiting::new(reader, "the server waits for a lock held by").with(locker)
    }),
    ("reader/session/upkeep.rs", "reader: a window that cannot be begun", || {
        let world = World::new("wait_window", 1);
        let reader = world.reader(&[]);
        reader.wait_until_it_says("took partition");
        world.connect().batch_execute("UPDATE segments_day SET day = day - interval '300 years'").unwrap();
        let mut locker = world.connect();
        locker.batch_execute("BEGIN; LOCK TABLE segments_day IN SHARE MODE").unwrap();
        world.produce(&["--batches", "1", "--interval", "0"]);
        Waiting::new(reader, "the windows of `segments` stay as they are").with(locker)
    }),
    ("reader.rs", "reader: tables that somebody dropped", || {
        let world = World::new("wait_tables", 1);
        let reader = world.reader(&[]);
        reader.wait_until_it_says("took partition");
        world.connect().batch_execute("DROP TABLE segments CASCADE").unwrap();
        world.produce(&["--batches", "1", "--interval", "0"]);
        Waiting::new(reader, "tables are missing: segments")
    }),
    ("reader/session/idle.rs", "reader: topics", || {
        let world = World::without_topics("wait_topics", &shared_kafka(), 1);
        Waiting::new(world.reader(&[]), "waiting for the topics, which must all exist")
    }),
    ("reader/session/idle.rs", "reader: equal partition counts", || {
        let world = World::without_topics("wait_counts", &shared_kafka(), 1);
        let [recency, frequency, monetary] = &world.topics;
        create_topics(&world.kafka, &[recency.clone(), frequency.clone()], 2);
        create_topics(&world.kafka, std::slice::from_ref(monetary), 1);
        Waiting::new(world.reader(&[]), "whose partition counts must be equal")
    }),
    ("reader/session/idle.rs", "reader: a partition", || {
        let world = World::new("wait_partition", 1);
        let first = world.reader(&[]);
        first.wait_until_it_says("took partition");
        // The partition goes to the member whose id comes first, and ids begin with the client's.
        let second = world.reader(&["--kafka-property", "client.id=z"]);
        Waiting::new(second, "waiting for a partition: there are").with(first)
    }),
    ("reader/session/idle.rs", "reader: a group whose member is dead", || {
        let world = World::new("wait_group", 1);
        let long = ["session.timeout.ms=45000", "client.id=dead"];
        let long = long.map(|property| ["--kafka-property", property]).concat();
        let mut first = world.reader(&long);
        first.wait_until_it_says("took partition");
        first.kill_9();
        Waiting::new(world.reader(&[]), "`dead` at 127.0.0.1")
    }),
    ("reader/session/catch_up.rs", "reader: what others of the group must store", || {
        let world = World::new("wait_others", 1);
        let first = world.reader(&[]);
        first.wait_until_it_says("took partition");
        let plain = Plain::new(&world.kafka);
        plain.send(&world.topics[0], 0, Some(b"alone"), Some(br#"{"recency":[1]}"#));
        plain.flush();
        let second = world.reader(&["--until-caught-up"]);
        Waiting::new(second, "waiting to catch up: partition 0 at").with(first)
    }),
    ("reader/session/held_up.rs", "reader: a transaction that somebody has open", || {
        let world = World::new("wait_transaction", 1);
        let open = Plain::transactional(&world.kafka, &format!("{}.open", world.name));
        open.begin();
        open.send(&world.topics[0], 0, Some(b"open"), Some(b"{}"));
        open.flush();
        Waiting::new(world.reader(&[]), "waiting for the end of a transaction that a producer has open")
            .with(open)
    }),
    ("reader/session/held_up.rs", "reader: the partners of a message", || {
        let world = World::new("wait_partners", 1);
        let plain = Plain::new(&world.kafka);
        plain.send(&world.topics[0], 0, Some(b"alone"), Some(br#"{"recency":[1]}"#));
        plain.flush();
        Waiting::new(world.reader(&["--pairing-timeout", "10min"]), "waiting for partners: ")
    }),
    ("reader/session/brokers.rs", "reader: brokers that went away", || {
        let broker = Server::kafka();
        let world = World::without_topics("wait_gone", &broker.address, 1);
        create_topics(&world.kafka, &world.topics, 1);
        let reader = world.reader(&[]);
        reader.wait_until_it_says("took partition");
        broker.run("kill");
        Waiting::new(reader, "; going on").with(broker)
    }),
    ("reader/session/brokers.rs", "reader: an answer of a broker that is frozen", || {
        let broker = Server::kafka();
        let world = World::without_topics("wait_answer", &broker.address, 1);
        create_topics(&world.kafka, &world.topics, 1);
        let reader = world.reader(&["--kafka-property", "session.timeout.ms=6000"]);
        reader.wait_until_it_says("took partition");
        broker.signal("STOP");
        Waiting::new(reader, "kafka has not answered: waiting for").with(Awake(broker))
    }),
    ("producer/topics.rs", "producer: a broker", || {
        let world = World::without_topics("wait_to_send", NOBODY, 1);
        Waiting::new(world.producer(&[]), format!("no broker answers at {NOBODY}"))
    }),
    ("producer/topics.rs", "producer: equal partition counts", || {
        let world = World::without_topics("wait_unequal", &shared_kafka(), 1);
        let [recency, frequency, monetary] = &world.topics;
        create_topics(&world.kafka, &[recency.clone(), frequency.clone()], 2);
        create_topics(&world.kafka, std::slice::from_ref(monetary), 1);
        Waiting::new(world.producer(&[]), "the topics have unequal partition counts")
    }),
    ("producer/transaction.rs", "producer: the brokers, in a transaction", || {
        let broker = Server::kafka();
        let world = World::without_topics("wait_confirmed", &broker.address, 1);
        let producer = world.producer(&["--interval", "300ms"]);
        producer.wait_until_it_says("sent ");
        broker.signal("STOP");
        Waiting::new(producer, "the brokers have not confirmed all messages yet|the transaction: ")
            .with(Awake(broker))
    }),
    (
        "kafka/newest.rs",
        "producer: a transaction that somebody has open, before a range is run again",
        || {
            let world = World::new("wait_newest", 1);
            let open = Plain::transactional(&world.kafka, &format!("{}.open", world.name));
            open.begin();
            open.send(&world.topics[0], 0, Some(b"open"), Some(b"{}"));
            open.flush();
            let producer = orders(&world, "SELECT 'ann' AS customer_id, now() AS ordered_at, 1 AS amount");
            Waiting::new(producer, "waiting for the end of a transaction that a producer has open: ")
                .with(open)
        },
    ),
    ("producer.rs", "producer: a query that takes long", || {
        let world = World::new("wait_query", 1);
        let query = "SELECT pg_sleep(60)::text AS customer_id, now() AS ordered_at, 1 AS amount";
        Waiting::new(orders(&world, query), "the source has not delivered a snapshot yet")
    }),
];

/// A producer of the orders of a query.
fn orders(world: &World, query: &str) -> Daemon {
    world.producer(&["--orders-url", &world.database_url, "--orders-sql", query, "--as-of", "2100-01-01"])
}

/// A frozen Postgres, which must go on to be ended.
struct Thaw(Server);

impl Drop for Thaw {
    fn drop(&mut self) {
        self.0.run_with("signal", &["CONT"]);
    }
}

/// The same of a broker.
struct Awake(Server);

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}

#[test]
fn every_wait_has_a_line_after_5_seconds_that_names_whom_it_is_for() {
    // Three at a time: most of them wait for time to pass.
    for rows in WAITS.chunks(3) {
        std::thread::scope(|scope| {
            for (_, awaited, begin) in rows {
                scope.spawn(move || {
                    let mut waiting = begin();
                    let begun = Instant::now();
                    let says = |program: &Daemon| {
                        waiting.words.split('|').any(|words| program.said().contains(words))
                    };
                    wait_for(&waiting.words, || says(&waiting.program).then_some(()));
                    slowness::in_time(awaited, begun.elapsed(), SAID);
                    assert!(waiting.program.is_running(), "{awaited}: {}", waiting.program.said());
                });
            }
        });
    }
}

#[test]
fn every_place_that_logs_a_wait_is_in_the_table() {
    let others = [
        // What the lines are made with.
        "backoff.rs",
        // When `held_up.rs` logs.
        "reader/session/partners.rs",
        // No wait: what another database has.
        "reader/session/other_database.rs",
        // `membership.rs` tests it: a rebalance comes before it.
        "reader/session/torn.rs",
    ];
    let root = repository().join("src");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let logs_a_wait = text.contains("wait_and_report(") || text.contains(".due()");
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            let is_known = WAITS.iter().any(|(file, ..)| *file == name) || others.contains(&name);
            assert!(!logs_a_wait || is_known, "`{name}` logs a wait that is not in the table");
        }
    }
}
