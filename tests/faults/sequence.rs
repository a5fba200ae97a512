//! All faults in a random sequence, from a model of what can happen next.
//!
//! Episodes, each with topics and a database of its own on one Kafka and one Postgres of this sequence. An
//! episode is a list of acts, drawn one by one from those that its model allows now; after every few acts
//! everything is healed and the next batch must be stored in time; at its end the judge compares.

use crate::brokers::{self, SESSION};
use crate::kafka::{Plain, add_partitions};
use crate::load::{Load, RECOVERY, Report};
use crate::postgres::{address, through};
use crate::proxy::{CUT_AFTER, CUT_BEFORE, Proxy};
use crate::senders::send_at;
use crate::world::{Daemon, Server, World};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Acts of one episode, and after how many of them everything is healed.
const ACTS: u32 = 24;
const ACTS_UNTIL_HEALED: u32 = 6;
const MOST_READERS: usize = 3;
const MOST_PARTITIONS: usize = 6;
/// A killed reader is noticed after its session timeout (`brokers::SESSION`).
const RECOVERS: Duration = Duration::from_secs(6).saturating_add(RECOVERY);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    StartReader,
    StartDyingReader,
    KillReader,
    StopReader,
    FreezeReader,
    WakeReader,
    CutCommit,
    TerminateBackends,
    SlowPostgres,
    PostgresAway,
    KafkaAway,
    FreezeKafka,
    SlowKafka,
    KillProducer,
    DyingProducer,
    AbortBatches,
    InterleaveLoseAndDouble,
    AddPartition,
}

const ACTS_OF_ALL_KINDS: [Act; 18] = [
    Act::StartReader,
    Act::StartDyingReader,
    Act::KillReader,
    Act::StopReader,
    Act::FreezeReader,
    Act::WakeReader,
    Act::CutCommit,
    Act::TerminateBackends,
    Act::SlowPostgres,
    Act::PostgresAway,
    Act::KafkaAway,
    Act::FreezeKafka,
    Act::SlowKafka,
    Act::KillProducer,
    Act::DyingProducer,
    Act::AbortBatches,
    Act::InterleaveLoseAndDouble,
    Act::AddPartition,
];

/// Steps at which a reader, and a producer, can die.
const STEPS: [&str; 9] = [
    "after_poll",
    "after_pairing",
    "after_scoring",
    "after_begin",
    "mid_copy",
    "after_copy",
    "after_progress",
    "before_commit",
    "after_commit",
];
const PRODUCER_STEPS: [&str; 2] = ["between_messages", "before_producer_commit"];

/// The servers of the sequence.
struct Servers {
    kafka: Server,
    postgres: Server,
    proxy: Proxy,
}

/// One episode, and the model of it: who runs, who is frozen.
struct Episode<'a> {
    servers: &'a Servers,
    load: Load,
    url: String,
    running: Vec<Daemon>,
    frozen: Vec<Daemon>,
    /// They die at a step, if they get there.
    doomed: Vec<Daemon>,
    /// Of each topic; senders by hand go on using the first two.
    partitions: usize,
    sent: u32,
}

/// Episodes, for so many seconds.
pub fn run(seconds: u32, random: &mut StdRng) -> Report {
    let (kafka, postgres) = (Server::kafka(), Server::postgres());
    let proxy = Proxy::start(address(&postgres.address));
    let servers = Servers { kafka, postgres, proxy };
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut report = Report::default();
    let mut number = 0;
    while Instant::now() < end {
        report = report.and(Episode::start(&servers, number).play(random, end));
        number += 1;
    }
    report
}

impl<'a> Episode<'a> {
    fn start(servers: &'a Servers, number: u32) -> Self {
        let name = format!("episode{number}");
        let world = World::on(&name, &servers.kafka.address, &servers.postgres.address, 2);
        crate::kafka::create_topics(&world.kafka, &world.topics, 2);
        let url = through(&world.database_url, servers.proxy.port);
        let load = Load::start(world);
        let mut episode = Self {
            servers,
            load,
            url,
            running: Vec::new(),
            frozen: Vec::new(),
            doomed: Vec::new(),
            partitions: 2,
            sent: 0,
        };
        episode.start_reader();
        episode
    }

    /// Acts until there were enough of them, or the time is over.
    fn play(mut self, random: &mut StdRng, end: Instant) -> Report {
        let mut acts = 0;
        while acts < ACTS && (Instant::now() < end || acts % ACTS_UNTIL_HEALED != 0) {
            let possible: Vec<Act> =
                ACTS_OF_ALL_KINDS.into_iter().filter(|&act| self.is_possible(act)).collect();
            let act = *possible.choose(random).unwrap();
            eprintln!("{}: {act:?}", self.load.world.name);
            self.perform(act, random);
            acts += 1;
            sleep(Duration::from_millis(random.random_range(0..1_200)));
            if acts % ACTS_UNTIL_HEALED == 0 {
                self.heal();
            }
        }
        self.heal();
        self.running.iter_mut().for_each(|reader| {
            reader.stop();
        });
        self.load.finish_with(acts, &["--progress"])
    }

    fn is_possible(&self, act: Act) -> bool {
        let readers = self.running.len() + self.frozen.len() + self.doomed.len();
        match act {
            Act::StartReader | Act::StartDyingReader => readers < MOST_READERS,
            Act::KillReader | Act::StopReader | Act::FreezeReader => !self.running.is_empty(),
            Act::WakeReader => !self.frozen.is_empty(),
            // Somebody has to commit.
            Act::CutCommit => !self.running.is_empty() && self.frozen.is_empty(),
            Act::AddPartition => self.partitions < MOST_PARTITIONS,
            _ => true,
        }
    }

    fn perform(&mut self, act: Act, random: &mut StdRng) {
        match act {
            Act::StartReader
            | Act::StartDyingReader
            | Act::KillReader
            | Act::StopReader
            | Act::FreezeReader
            | Act::WakeReader => self.perform_on_readers(act, random),
            Act::CutCommit | Act::TerminateBackends | Act::SlowPostgres | Act::PostgresAway => {
                self.perform_on_postgres(act, random);
            }
            Act::KafkaAway => {
                self.servers.kafka.run(["stop", "kill"][random.random_range(0..2)]);
                self.servers.kafka.run("start");
            }
            Act::FreezeKafka => brokers::freeze(&self.servers.kafka, Duration::from_secs(2)),
            Act::SlowKafka => brokers::slow_down(&self.servers.kafka),
            Act::KillProducer | Act::DyingProducer => self.end_producer(act, random),
            Act::AbortBatches => self.send_batches(false, random),
            Act::InterleaveLoseAndDouble => self.send_batches(true, random),
            Act::AddPartition => {
                self.partitions += 1;
                let world = &self.load.world;
                world.topics.iter().for_each(|topic| add_partitions(&world.kafka, topic, self.partitions));
            }
        }
    }

    fn start_reader(&mut self) {
        self.running.push(self.load.world.reader(&self.reader_flags()));
    }

    /// Behind the proxy, and with time enough for the partners of a message that was lost.
    fn reader_flags(&self) -> [&str; 6] {
        ["--database-url", &self.url, "--pairing-timeout", "3s", SESSION[0], SESSION[1]]
    }

    fn perform_on_readers(&mut self, act: Act, random: &mut StdRng) {
        let taken = |readers: &mut Vec<Daemon>, random: &mut StdRng| {
            readers.swap_remove(random.random_range(0..readers.len()))
        };
        match act {
            Act::StartDyingReader => {
                let step = STEPS.choose(random).unwrap();
                let point = format!("{step}:{}:abort", random.random_range(1..30));
                let dying = self.load.world.reader_with_failpoint(&point, &self.reader_flags());
                self.doomed.push(dying);
            }
            Act::KillReader => {
                taken(&mut self.running, random).kill_9();
            }
            Act::StopReader => {
                let mut reader = taken(&mut self.running, random);
                // One that has said nothing yet may not listen to signals yet.
                if reader.said().is_empty() {
                    reader.kill_9();
                } else {
                    let took = reader.stop();
                    assert!(took < Duration::from_secs(8), "a reader took {took:?} to end");
                }
            }
            Act::FreezeReader => {
                let reader = taken(&mut self.running, random);
                reader.signal("STOP");
                self.frozen.push(reader);
            }
            Act::WakeReader => {
                let reader = taken(&mut self.frozen, random);
                reader.signal("CONT");
                self.running.push(reader);
            }
            _ => self.start_reader(),
        }
    }

    fn perform_on_postgres(&mut self, act: Act, random: &mut StdRng) {
        let Servers { postgres, proxy, .. } = self.servers;
        match act {
            Act::CutCommit => proxy.plan_cut([CUT_BEFORE, CUT_AFTER][random.random_range(0..2)]),
            Act::SlowPostgres => {
                proxy.delay(Duration::from_millis(200));
                sleep(Duration::from_secs(3));
                proxy.delay(Duration::ZERO);
            }
            Act::PostgresAway => {
                postgres.run(["stop", "kill"][random.random_range(0..2)]);
                sleep(Duration::from_millis(random.random_range(0..3_000)));
                postgres.run("start");
            }
            _ => crate::postgres::terminate_backends(&self.load.world),
        }
    }

    /// The producer dies; another one with its id takes over.
    fn end_producer(&mut self, act: Act, random: &mut StdRng) {
        self.load.producer.take().unwrap().kill_9();
        if act == Act::DyingProducer {
            let step = PRODUCER_STEPS.choose(random).unwrap();
            let point = format!("{step}:{}:abort", random.random_range(1..20));
            let mut dying = self.load.world.producer_with_failpoint(&point, &["--interval", "5ms"]);
            assert_eq!(dying.exit_code(), None, "it said:\n{}", dying.said());
        }
        self.start_producer();
    }

    fn start_producer(&mut self) {
        self.load.producer = Some(self.load.world.producer(&["--interval", "15ms", "--customers", "100"]));
    }

    /// A second sender's transaction: keys in another order in every topic, a message lost, one doubled.
    fn send_batches(&mut self, whole: bool, random: &mut StdRng) {
        use rand::seq::SliceRandom as _;
        let mut messages: Vec<(usize, u32)> =
            (0..3).flat_map(|topic| (0..20).map(move |key| (topic, key))).collect();
        messages.swap_remove(random.random_range(0..messages.len()));
        messages.push(messages[random.random_range(0..messages.len())]);
        messages.shuffle(random);
        // A client of its own each time: it would not survive Kafka's outages as the producer does.
        let world = &self.load.world;
        let sender = Plain::transactional(&world.kafka, &format!("{}.second", world.name));
        sender.begin();
        for (topic, key) in messages {
            send_at(world, &sender, topic, &format!("second.{}.{key}", self.sent), random, None);
        }
        self.sent += 1;
        sender.flush();
        if whole { sender.commit() } else { sender.abort() }
    }

    /// Ends every fault that lasts, and sees to it that work goes on.
    fn heal(&mut self) {
        self.servers.proxy.plan_cut(0);
        for reader in self.frozen.drain(..) {
            reader.signal("CONT");
            self.running.push(reader);
        }
        self.doomed.drain(..).for_each(|mut reader| {
            reader.kill_9();
        });
        // Nothing that happens here is a reason for a reader to end.
        for reader in &mut self.running {
            assert!(reader.is_running(), "a reader ended; it said:\n{}", reader.said());
        }
        if self.running.is_empty() {
            self.start_reader();
        }
        if !self.load.producer.as_mut().is_some_and(Daemon::is_running) {
            panic!(
                "{}: the producer ended: {}",
                self.load.world.name,
                self.load.producer.as_ref().map_or(String::new(), Daemon::said)
            );
        }
        self.load.recovers_within(RECOVERS);
    }
}
