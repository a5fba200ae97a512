//! What a test needs: servers, topics, a database, the two programs, the judge.

use crate::slowness::{self, Deadline};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// On a quiet machine (`slowness`), what a test waits for comes within this time or never. A fresh broker
/// takes seconds for the first member of its first group.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program may take to end after it is asked to stop.
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

/// The Postgres that all tests share, as the URL of its database `rfm`. It does not speak English.
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
    /// On the shared servers, with topics of `partitions` partitions.
    pub fn new(name: &str, partitions: i32) -> Self {
        let world = Self::without_topics(name, &shared_kafka(), partitions);
        crate::kafka::create_topics(&world.kafka, &world.topics, partitions);
        world
    }

    /// On another broker, which need not run yet.
    pub fn without_topics(name: &str, kafka: &str, partitions: i32) -> Self {
        Self::on(name, kafka, &shared_postgres(), partitions)
    }

    /// On other servers, without topics. `postgres` is the URL of its database `rfm`.
    pub fn on(name: &str, kafka: &str, postgres: &str, partitions: i32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let database_url = postgres.replace("/rfm", &format!("/{unique}"));
        let mut admin = connect(postgres);
        admin.batch_execute(&format!("CREATE DATABASE {unique}")).unwrap();
        let topics = ["recency", "frequency", "monetary"].map(|metric| format!("{unique}.{metric}"));
        Self { name: unique, kafka: kafka.to_owned(), database_url, topics, partitions }
    }

    pub fn topic_flags(&self) -> Vec<String> {
        let flags = ["--recency-topic", "--frequency-topic", "--monetary-topic"];
        flags.iter().zip(&self.topics).flat_map(|(flag, topic)| [(*flag).to_owned(), topic.clone()]).collect()
    }

    /// The reader, with a short session timeout, so that tests need not wait long for a killed one. A reader
    /// that gets little processor time may miss the timeout. Then the group assigns its partitions again,
    /// with another epoch, which only costs time. So no test may rely on a partition being taken only once.
    /// (The timeout is not stretched: it is fixed when a reader starts, and the machine may be quiet again
    /// when a test waits for it.)
    pub fn reader(&self, flags: &[&str]) -> Daemon {
        watched(self.reader_command().args(flags))
    }

    /// A reader of another database, with variables; an empty `url` is none.
    pub fn reader_with(&self, url: &str, variables: &[(&str, &str)], flags: &[&str]) -> Daemon {
        let mut command = self.reader_command();
        command.env("DATABASE_URL", url).envs(variables.iter().copied());
        watched(command.args(flags))
    }

    /// A reader that dies or freezes at a step; only in a build with failpoints.
    pub fn reader_with_failpoint(&self, point: &str, flags: &[&str]) -> Daemon {
        watched(self.reader_command().env("RFM_FAILPOINT", point).args(flags))
    }

    /// The command of [`World::reader`].
    pub fn reader_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reader"));
        command.args(["--bootstrap-servers", &self.kafka]).env("DATABASE_URL", &self.database_url);
        command.args(["--group-id", &self.name]).args(self.topic_flags());
        command.args([
            "--kafka-property",
            "session.timeout.ms=1500",
            "--kafka-property",
            "heartbeat.interval.ms=300",
            // Tests that name ids may run at midnight, too. The last flag counts.
            "--segments-window",
            "36500days",
        ]);
        command
    }

    /// A command of the reader with its flags, beside the flags of [`World::reader`].
    pub fn command(&self, words: &[&str]) -> Daemon {
        Daemon::start(self.reader_command().args(words))
    }

    /// A command of the reader that dies at a step; only in a build with failpoints.
    pub fn command_with_failpoint(&self, point: &str, words: &[&str]) -> Daemon {
        Daemon::start(self.reader_command().env("RFM_FAILPOINT", point).args(words))
    }

    pub fn producer(&self, flags: &[&str]) -> Daemon {
        Daemon::start(self.producer_command().args(flags))
    }

    /// A producer that dies or freezes at a step; only in a build with failpoints.
    pub fn producer_with_failpoint(&self, point: &str, flags: &[&str]) -> Daemon {
        Daemon::start(self.producer_command().env("RFM_FAILPOINT", point).args(flags))
    }

    /// The command of [`World::producer`].
    pub fn producer_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_producer"));
        command.args(["--bootstrap-servers", &self.kafka]).env("PRODUCE_TRANSACTIONAL_ID", &self.name);
        command.args(self.topic_flags()).args(["--partitions", &self.partitions.to_string()]);
        command
    }

    /// Sends batches and waits until they are sent.
    pub fn produce(&self, flags: &[&str]) {
        self.producer(flags).succeeds();
    }

    /// The same under another transactional id, so that it can run beside another producer.
    pub fn produce_as(&self, id: &str, flags: &[&str]) {
        let id = format!("{}.{id}", self.name);
        self.producer(&[&["--transactional-id", &id], flags].concat()).succeeds();
    }

    /// Runs a reader until it has caught up, with or without dead letters.
    pub fn catch_up(&self, flags: &[&str]) -> Daemon {
        let mut reader = self.reader(&[&["--until-caught-up"], flags].concat());
        reader.catches_up();
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

    /// Waits until `count` batches are stored.
    pub fn wait_for_batches(&self, count: i64) {
        wait_for(&format!("{count} batches"), || {
            (self.number("SELECT count(*) FROM batches") >= Some(count)).then_some(())
        });
    }

    /// Lets the judge recompute everything from the topics and compare. Returns what it says.
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

/// Starts a reader, and lets somebody watch it.
fn watched(command: &mut Command) -> Daemon {
    let Some(watcher) = WATCHER.get() else { return Daemon::start(command) };
    let daemon = Daemon::start(command.args(crate::probe::ANY_PORT));
    (watcher.reader)(command, daemon.pid(), Arc::clone(&daemon.lines));
    daemon
}

/// How many seconds the judge may take.
pub fn judging() -> u64 {
    slowness::allowed(Duration::from_secs(120), Duration::ZERO).as_secs()
}

/// Connects, waiting for a server that is just starting.
pub fn connect(url: &str) -> PgConnection {
    wait_for("Postgres", || PgConnection::establish(url).ok())
}

/// Who watches the readers and servers of all tests, if somebody does: the fault tests.
pub static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// What a watcher hears of.
pub struct Watcher {
    /// A reader was started: its command, its process id, and what it says.
    pub reader: fn(&Command, u32, Arc<Mutex<Vec<String>>>),
    /// A server was stopped, killed or frozen, or is about to be started or thawed: its address, and whether it is
    /// away.
    pub server: fn(&str, bool),
}

/// How often any program has panicked so far.
pub static PANICS: AtomicU32 = AtomicU32::new(0);

/// A running program. It is killed when the test drops it.
pub struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub fn start(command: &mut Command) -> Self {
        // No variable of the caller may point it elsewhere.
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

    /// Starts a program whose stderr is a pipe that nobody reads.
    pub fn unread(command: &mut Command) -> Self {
        let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { child, lines: Arc::default() }
    }

    /// What stands in the pipe of a program that has ended, if nobody has read it.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut rest).unwrap();
        rest
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
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

    /// Waits until it ends by itself; its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Deadline::of(PATIENCE * 2);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                deadline.met("the end of a program");
                // The thread that reads stderr is a moment behind.
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

    /// Checks that it catches up; with dead letters the exit code is 3.
    pub fn catches_up(&mut self) {
        let code = self.exit_code();
        let letters = self.said().contains("caught up, with messages that were not scored");
        assert_eq!(code, Some(if letters { 3 } else { 0 }), "it said:\n{}", self.said());
        assert!(self.said().contains("caught up"), "{}", self.said());
    }

    /// Checks that it fails with this exit code, one error with these words, and a hint.
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

    /// Asks it to stop, and checks that it ends within the promised time. Returns how long that took. A program
    /// that was started a moment ago may have no handler yet, and would die of the signal.
    pub fn stop(&mut self) -> Duration {
        wait_for("a program that catches SIGTERM", || {
            (self.catches_sigterm() || !self.is_running()).then_some(())
        });
        let begun = Instant::now();
        self.signal("TERM");
        self.succeeds();
        let took = begun.elapsed();
        slowness::in_time("the end of a program that was asked to stop", took, DRAINED);
        took
    }

    fn catches_sigterm(&self) -> bool {
        /// The bit of signal 15 in the masks of /proc.
        const SIGTERM: u64 = 1 << 14;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & SIGTERM != 0)
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

/// A server of the test's own. A script of the repository starts and stops it; it is deleted with the test.
pub struct Server {
    script: PathBuf,
    pub path: PathBuf,
    /// Deletes the directory; the nodes of a cluster share it.
    _directory: Arc<tempfile::TempDir>,
    pub address: String,
}

impl Server {
    pub fn kafka() -> Self {
        Self::start("scripts/kafka", &[])
    }

    /// A broker with the data of an archive.
    pub fn kafka_from(archive: &Path) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(directory.path()).status();
        assert!(status.unwrap().success());
        Self::start_in(directory, "scripts/kafka", &[], &[])
    }

    pub fn postgres() -> Self {
        Self::start("scripts/postgres", &[])
    }

    /// Postgres whose messages are in the language of a locale: `de_DE.UTF-8`, or `C` for English.
    pub fn postgres_in(locale: &str) -> Self {
        Self::start("scripts/postgres", &[("POSTGRES_LC_MESSAGES", locale)])
    }

    /// Postgres of a version that is not the installed one: 13, 14, 16, 17 or 18.
    pub fn postgres_of(version: &str) -> Self {
        Self::start("scripts/postgres", &[("POSTGRES_VERSION", version)])
    }

    /// Two brokers with two replicas of everything. The first is also the controller, so only the second may
    /// die.
    pub fn two_kafkas() -> [Self; 2] {
        let first = Self::start("scripts/kafka", &[("KAFKA_REPLICAS", "2")]);
        let second = Self::start("scripts/kafka", &[("KAFKA_JOIN", first.directory())]);
        [first, second]
    }

    /// Three brokers with three replicas of everything; any of them may die. A silent one is fenced after
    /// Kafka's own 9 s.
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

    /// Starts what `script start DIRECTORY ARGUMENTS` starts.
    pub fn start_with(script: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), script, environment, arguments)
    }

    fn start_in(
        directory: Arc<tempfile::TempDir>,
        script: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let (script, path) = (repository().join(script), directory.path().to_owned());
        let mut server = Self { script, path, _directory: directory, address: String::new() };
        server.address = server.call("start", environment, arguments);
        // A server of before may have had the same port.
        server.comes_back("start");
        server
    }

    pub fn directory(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Runs `start`, `stop` or `kill`. The server comes back at the same address.
    pub fn run(&self, what: &str) -> String {
        self.call(what, &[], &[])
    }

    /// The same with further variables.
    pub fn run_in(&self, what: &str, environment: &[(&str, &str)]) -> String {
        self.call(what, environment, &[])
    }

    /// Runs a command of the script with further arguments.
    pub fn run_with(&self, what: &str, arguments: &[&str]) -> String {
        self.call(what, &[], arguments)
    }

    /// Runs a console tool of Kafka; its output.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        self.call("tool", &[], &[&[class, "--bootstrap-server", &self.address], arguments].concat())
    }

    fn call(&self, what: &str, environment: &[(&str, &str)], arguments: &[&str]) -> String {
        let mut command = Command::new(&self.script);
        command.arg(what).arg(&self.path).args(arguments).envs(environment.iter().copied());
        self.comes_back(arguments.first().unwrap_or(&what));
        let output = command.output().unwrap();
        self.went(arguments.first().unwrap_or(&what));
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Server {
    /// Tells the watcher that it may answer from now on.
    fn comes_back(&self, what: &str) {
        if let (Some(watcher), "start" | "CONT") = (WATCHER.get(), what) {
            (watcher.server)(&self.address, false);
        }
    }

    /// Tells the watcher that it answers no more.
    fn went(&self, what: &str) {
        if let (Some(watcher), "stop" | "kill" | "STOP") = (WATCHER.get(), what) {
            (watcher.server)(&self.address, true);
        }
    }

    /// Sends a signal to the server's process.
    pub fn signal(&self, signal: &str) {
        self.comes_back(signal);
        let pid = std::fs::read_to_string(self.path.join("pid")).unwrap();
        assert!(Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status().unwrap().success());
        self.went(signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = std::fs::read_to_string(self.path.join("kafka.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("the last lines of the server at {}:\n{}\n", self.address, last.join("\n"));
        }
        let what = match self.script.file_name().and_then(|name| name.to_str()) {
            Some("postgres" | "pgbouncer") => "destroy",
            Some("haproxy") => "stop",
            _ => "kill",
        };
        let _ = Command::new(&self.script).arg(what).arg(&self.path).output();
    }
}

/// Repeatable random numbers: every run prints its seed, and `RFM_TEST_SEED` sets it.
pub fn random(test: &str) -> rand_chacha::ChaCha8Rng {
    use rand::SeedableRng;
    let seed = std::env::var("RFM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    eprintln!("{test}: RFM_TEST_SEED={seed}");
    rand_chacha::ChaCha8Rng::seed_from_u64(seed)
}
