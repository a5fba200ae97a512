//! The acts of an episode: what they do to readers, Postgres, Kafka, producers and senders.

use super::{Episode, Servers};
use crate::brokers::{self, SESSION};
use crate::kafka::{Plain, add_partitions};
use crate::proxy::{CUT_AFTER, CUT_BEFORE};
use crate::senders::{an_hour_ago, send_at};
use crate::world::Daemon;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use std::thread::sleep;
use std::time::Duration;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
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
    RestorePostgres,
    FailOver,
    KafkaAway,
    FreezeKafka,
    SlowKafka,
    KillProducer,
    DyingProducer,
    AbortBatches,
    InterleaveLoseAndDouble,
    SendTopicLate,
    AddPartition,
}

pub const ACTS_OF_ALL_KINDS: [Act; 21] = [
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
    Act::RestorePostgres,
    Act::FailOver,
    Act::KafkaAway,
    Act::FreezeKafka,
    Act::SlowKafka,
    Act::KillProducer,
    Act::DyingProducer,
    Act::AbortBatches,
    Act::InterleaveLoseAndDouble,
    Act::SendTopicLate,
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

impl Episode<'_> {
    pub fn perform(&mut self, act: Act, random: &mut StdRng) {
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
            Act::RestorePostgres => self.restore(random),
            Act::FailOver => self.fail_over(random),
            Act::KafkaAway => {
                self.servers.kafka.run(["stop", "kill"][random.random_range(0..2)]);
                self.servers.kafka.run("start");
            }
            Act::FreezeKafka => brokers::freeze(&self.servers.kafka, Duration::from_secs(2)),
            Act::SlowKafka => brokers::slow_down(&self.servers.kafka),
            Act::KillProducer | Act::DyingProducer => self.end_producer(act, random),
            Act::AbortBatches => self.send_batches(false, random),
            Act::InterleaveLoseAndDouble => self.send_batches(true, random),
            Act::SendTopicLate => self.send_topic_late(random),
            Act::AddPartition => {
                self.partitions += 1;
                let world = &self.load.world;
                world.topics.iter().for_each(|topic| add_partitions(&world.kafka, topic, self.partitions));
            }
        }
    }

    pub fn start_reader(&mut self) {
        self.running.push(self.load.world.reader(&self.reader_flags()));
    }

    /// A reader behind the proxy, which soon gives up the partners of a lost message.
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
                // A program that has printed nothing may not handle signals yet.
                if reader.said().is_empty() {
                    reader.kill_9();
                } else {
                    reader.stop();
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

    pub fn start_producer(&mut self) {
        self.load.producer = Some(self.load.world.producer(&["--interval", "15ms", "--customers", "100"]));
    }

    /// Whole batches, but the messages of one topic come later than the others, with timestamps an hour
    /// older.
    fn send_topic_late(&mut self, random: &mut StdRng) {
        let late = random.random_range(0..3);
        let of = |topics: &[usize]| -> Vec<(usize, u32)> {
            topics.iter().flat_map(|&topic| (0..20).map(move |key| (topic, key))).collect()
        };
        let early: Vec<usize> = (0..3).filter(|&topic| topic != late).collect();
        self.send_as_second(of(&early), None, true, random);
        // Less than the pairing timeout.
        sleep(Duration::from_millis(random.random_range(0..1_000)));
        self.send_as_second(of(&[late]), Some(an_hour_ago()), true, random);
        self.sent += 1;
    }

    /// Keys in another order in every topic, one message lost, one doubled.
    fn send_batches(&mut self, commits: bool, random: &mut StdRng) {
        let mut messages: Vec<(usize, u32)> =
            (0..3).flat_map(|topic| (0..20).map(move |key| (topic, key))).collect();
        messages.swap_remove(random.random_range(0..messages.len()));
        messages.push(messages[random.random_range(0..messages.len())]);
        messages.shuffle(random);
        self.send_as_second(messages, None, commits, random);
        self.sent += 1;
    }

    /// A second sender's transaction: messages (topic, number of the key), all with timestamp `time` if it is
    /// given.
    fn send_as_second(
        &self,
        messages: Vec<(usize, u32)>,
        time: Option<i64>,
        commits: bool,
        random: &mut StdRng,
    ) {
        // A new client each time, because one would not survive Kafka's outages as the producer does.
        let world = &self.load.world;
        let sender = Plain::transactional(&world.kafka, &format!("{}.second", world.name));
        sender.begin();
        for (topic, key) in messages {
            send_at(world, &sender, topic, &format!("second.{}.{key}", self.sent), random, time);
        }
        sender.flush();
        if commits { sender.commit() } else { sender.abort() }
    }
}
