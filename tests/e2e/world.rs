//! What a test needs of the world: servers, topics, a database, the two programs, the judge.

use crate::slowness::{self, Deadline};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Everything that is waited for comes within this time or never, on a machine that is not busy (`slowness`). A
/// fresh broker takes seconds for the first member of its first group.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A program that is asked to stop has ended after this long.
const DRAINED: Duration = Duration::from_secs(8);

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run these tests with `scripts/test e2e [NAME]`"))
}

/// The broker that all tests share.
pub fn shared_kafka() -> String {
    server("RFM_TEST_KAFKA")
}

/// The Postgres that all tests share; as the URL of its database `rfm`.
pub fn shared_postgres() -> String {
    server("RFM_TEST_POSTGRES")
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::of(PATIENCE);
    loop {
        if let Some(found) = condition() {
            deadline.met(what);
            return found;
        }
        assert!(!deadline.is_over(), "waited {PATIENCE:?} or longer for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Topics, a database and a consumer group that no other test has.
pub struct World {
    pub name: String,
    pub kafka: String,
    pub database_url: String,
    pub topics: [String; 3],
    pub partitions: i32,
}

impl World {
    /// On the shared servers, with topics of so many partitions.
    pub fn new(name: &str, partitions: i32) -> Self {
        let world = Self::without_topics(name, &shared_kafka(), partitions);
        crate::kafka::create_topics(&world.kafka, &world.topics, partitions);
        world
    }

    /// On a broker of one's own, perhaps one that does not run yet.
    pub fn without_topics(name: &str, kafka: &str, partitions: i32) -> Self {
        Self::on(name, kafka, &shared_postgres(), partitions)
    }

    /// On servers of one's own; `postgres` is the URL of its database `rfm`. Without topics.
    pub fn on(name: &str, kafka: &str, postgres: &str, partitions: i32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let database_url = postgres.replace("/rfm", &format!("/{unique}"));
        let mut admin = connect(postgres);
        admin.batch_execute(&format!("CREATE DATABASE {unique}")).unwrap();
        let topics = ["recency", "frequency", "monetary"].map(|metric| format!("{unique}.{metric}"));
        Self { name: unique, kafka: kafka.to_owned(), database_url, topics, partitions }
    }

    fn topic_flags(&self) -> Vec<String> {
        let flags = ["--recency-topic", "--frequency-topic", "--monetary-topic"];
        flags.iter().zip(&self.topics).flat_map(|(flag, topic)| [(*flag).to_owned(), topic.clone()]).collect()
    }

    /// The reader, with a session timeout that does not make a killed one be waited for. One that hardly runs may miss it:
    /// then the group takes its partitions and gives them out again, with another epoch, which costs time and nothing
    /// else. So no test counts on a partition being taken once. (It is not stretched: what it is when a reader starts
    /// would be the deadline of whoever waits when the machine may be quiet again.)
    pub fn reader(&self, flags: &[&str]) -> Daemon {
        Daemon::start(self.reader_command().args(flags))
    }

    /// A reader that dies or freezes at a step; only in a build with failpoints.
    pub fn reader_with_failpoint(&self, point: &str, flags: &[&str]) -> Daemon {
        Daemon::start(self.reader_command().env("RFM_FAILPOINT", point).args(flags))
    }

    fn reader_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reader"));
        command.args(["--bootstrap-servers", &self.kafka]).env("DATABASE_URL", &self.database_url);
        command.args(["--group-id", &self.name]).args(self.topic_flags());
        command.args([
            "--kafka-property",
            "session.timeout.ms=1500",
            "--kafka-property",
            "heartbeat.interval.ms=300",
        ]);
        command
    }

    pub fn producer(&self, flags: &[&str]) -> Daemon {
        Daemon::start(self.producer_command().args(flags))
    }

    /// A producer that dies or freezes at a step; only in a build with failpoints.
    pub fn producer_with_failpoint(&self, point: &str, flags: &[&str]) -> Daemon {
        Daemon::start(self.producer_command().env("RFM_FAILPOINT", point).args(flags))
    }

    fn producer_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_producer"));
        command.args(["--bootstrap-servers", &self.kafka]).env("PRODUCE_TRANSACTIONAL_ID", &self.name);
        command.args(self.topic_flags()).args(["--partitions", &self.partitions.to_string()]);
        command
    }

    /// Sends batches and waits until they are sent.
    pub fn produce(&self, flags: &[&str]) {
        self.producer(flags).succeeds();
    }

    /// The same beside another producer, under an id of its own.
    pub fn produce_as(&self, id: &str, flags: &[&str]) {
        let id = format!("{}.{id}", self.name);
        self.producer(&[&["--transactional-id", &id], flags].concat()).succeeds();
    }

    /// Runs a reader until it has caught up.
    pub fn catch_up(&self, flags: &[&str]) -> Daemon {
        let mut reader = self.reader(&[&["--until-caught-up"], flags].concat());
        reader.succeeds();
        reader
    }

    pub fn connect(&self) -> PgConnection {
        connect(&self.database_url)
    }

    /// A number from the database; `None` before the tables exist.
    pub fn number(&self, query: &str) -> Option<i64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            n: i64,
        }
        let row = diesel::sql_query(format!("SELECT ({query})::bigint AS n"))
            .get_result::<Row>(&mut self.connect());
        row.ok().map(|row| row.n)
    }

    /// Waits until so many batches are stored.
    pub fn wait_for_batches(&self, count: i64) {
        wait_for(&format!("{count} batches"), || {
            (self.number("SELECT count(*) FROM batches") >= Some(count)).then_some(())
        });
    }

    /// Has everything recomputed from the topics, and compares. Returns what the judge says.
    pub fn verify(&self, flags: &[&str]) -> String {
        let python = repository().join("target/python/bin/python");
        let output = Command::new(python)
            .arg(repository().join("tests/python/verify.py"))
            .args(["--bootstrap-servers", &self.kafka, "--database-url", &self.database_url])
            .args(["--group-id", &self.name, "--timeout", &judging().to_string(), "--topics"])
            .args(&self.topics)
            .args(flags)
            .output()
            .expect("target/python exists: scripts/test makes it");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "the judge found differences: {said}");
        eprintln!("{}: {}", self.name, said.trim());
        said
    }
}

/// Seconds for the judge.
pub fn judging() -> u64 {
    slowness::allowed(Duration::from_secs(120), Duration::ZERO).as_secs()
}

/// Connects, waiting for a server that is just starting.
pub fn connect(url: &str) -> PgConnection {
    wait_for("Postgres", || PgConnection::establish(url).ok())
}

/// How often any program has panicked so far.
pub static PANICS: AtomicU32 = AtomicU32::new(0);

/// A program that runs. It is killed when the test is done with it.
pub struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub fn start(command: &mut Command) -> Self {
        // Nothing of the caller's may lead it elsewhere.
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                PANICS.fetch_add(u32::from(line.contains("panicked at")), Ordering::Relaxed);
                sink.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub fn wait_until_it_says(&self, words: &str) {
        let deadline = Deadline::of(PATIENCE);
        while !self.said().contains(words) {
            assert!(!deadline.is_over(), "waited for `{words}`; it said:\n{}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
        deadline.met(words);
    }

    /// Its exit code, once it ends by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Deadline::of(PATIENCE * 2);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                deadline.met("the end of a program");
                // The reader of stderr is a moment behind.
                thread::sleep(slowness::allowed(Duration::from_millis(50), Duration::ZERO));
                return status.code();
            }
            assert!(!deadline.is_over(), "it does not end; it said:\n{}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn succeeds(&mut self) {
        assert_eq!(self.exit_code(), Some(0), "it said:\n{}", self.said());
    }

    /// Fails with this exit code and these words, once, and a hint.
    pub fn fails(&mut self, code: i32, words: &str) {
        assert_eq!(self.exit_code(), Some(code), "it said:\n{}", self.said());
        let said = self.said();
        assert!(said.contains(words), "expected `{words}`; it said:\n{said}");
        let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one error:\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub fn kill_9(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Asks it to stop and waits until it did, within the time that is promised; returns how long that took.
    pub fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.signal("TERM");
        self.succeeds();
        let took = begun.elapsed();
        slowness::in_time("the end of a program that was asked to stop", took, DRAINED);
        took
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = self.lines.lock().unwrap();
            let last = &lines[lines.len().saturating_sub(
                std::env::var("RFM_TEST_LINES").ok().and_then(|n| n.parse().ok()).unwrap_or(30),
            )..];
            eprintln!("the last lines of process {}:\n{}\n", self.pid(), last.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of one's own, started and stopped by a script of the repository; gone with the test.
pub struct Server {
    script: PathBuf,
    pub path: PathBuf,
    /// Where it is gone; the nodes of a cluster share it.
    _directory: Arc<tempfile::TempDir>,
    pub address: String,
}

impl Server {
    pub fn kafka() -> Self {
        Self::start("scripts/kafka", &[])
    }

    pub fn postgres() -> Self {
        Self::start("scripts/postgres", &[])
    }

    /// Postgres of another version than the one installed here: 13, 14, 16, 17 or 18.
    pub fn postgres_of(version: &str) -> Self {
        Self::start("scripts/postgres", &[("POSTGRES_VERSION", version)])
    }

    /// Two brokers that hold everything twice. The first is the controller, too, so the second may die.
    pub fn two_kafkas() -> [Self; 2] {
        let first = Self::start("scripts/kafka", &[("KAFKA_REPLICAS", "2")]);
        let second = Self::start("scripts/kafka", &[("KAFKA_JOIN", first.directory())]);
        [first, second]
    }

    /// Three brokers that hold everything three times; any of them may die. They are fenced as everywhere, after 9 s.
    pub fn three_kafkas() -> [Self; 3] {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let script = repository().join("scripts/kafka");
        let whole =
            Self { script, path: directory.path().into(), _directory: directory, address: String::new() };
        let addresses = whole.call("cluster", &[], &[]);
        let addresses: Vec<&str> = addresses.split(',').collect();
        [1, 2, 3].map(|node: usize| Self {
            script: whole.script.clone(),
            path: whole.path.join(node.to_string()),
            _directory: Arc::clone(&whole._directory),
            address: addresses[node - 1].to_owned(),
        })
    }

    fn start(script: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_with(script, environment, &[])
    }

    /// What `script start DIRECTORY ARGUMENTS` starts.
    pub fn start_with(script: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let (script, path) = (repository().join(script), directory.path().to_owned());
        let mut server = Self { script, path, _directory: directory, address: String::new() };
        server.address = server.call("start", environment, arguments);
        server
    }

    pub fn directory(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// `start`, `stop` or `kill`. It comes back at the same address.
    pub fn run(&self, what: &str) -> String {
        self.call(what, &[], &[])
    }

    /// A command of the script with further arguments.
    pub fn run_with(&self, what: &str, arguments: &[&str]) -> String {
        self.call(what, &[], arguments)
    }

    /// What a console tool of Kafka's answers.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        self.call("tool", &[], &[&[class, "--bootstrap-server", &self.address], arguments].concat())
    }

    fn call(&self, what: &str, environment: &[(&str, &str)], arguments: &[&str]) -> String {
        let mut command = Command::new(&self.script);
        command.arg(what).arg(&self.path).args(arguments).envs(environment.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Server {
    /// Sends a signal to the server's process.
    pub fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.path.join("pid")).unwrap();
        assert!(Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let what = match self.script.file_name().and_then(|name| name.to_str()) {
            Some("postgres" | "pgbouncer") => "destroy",
            Some("haproxy") => "stop",
            _ => "kill",
        };
        let _ = Command::new(&self.script).arg(what).arg(&self.path).output();
    }
}

/// Random numbers that can be had again: every run prints its seed; `RFM_TEST_SEED` repeats it.
pub fn random(test: &str) -> rand_chacha::ChaCha8Rng {
    use rand::SeedableRng;
    let seed = std::env::var("RFM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    eprintln!("{test}: RFM_TEST_SEED={seed}");
    rand_chacha::ChaCha8Rng::seed_from_u64(seed)
}
