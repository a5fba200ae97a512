//! Faults in a random sequence, from a model of what can happen next.
//!
//! A sequence has its own Kafka and Postgres. It consists of episodes, each with its own topics and database.
//! An episode is a list of acts, drawn one by one from those that its model allows at the moment. After every
//! few acts everything is healed, and the next batch must be stored in time. At the end of the episode the
//! judge compares. Some episodes begin before their topics exist, and some go on to an ending that must stop
//! the reader.
//!
//! The only broker is also the group's coordinator: with Kafka away, both are lost.

mod acts;
mod endings;
mod time_travel;

use crate::kafka::create_topics;
use crate::load::{Load, RECOVERY, Report};
use crate::postgres::{address, through};
use crate::proxy::Proxy;
use crate::world::{Daemon, Server, World};
use acts::{ACTS_OF_ALL_KINDS, Act};
use endings::Ending;
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
/// A killed reader is noticed after its session timeout (`brokers::SESSION`). If it dies while the group
/// still waits for another member, the timeouts add up. (While a member joins, the coordinator does not check
/// whether it is alive.)
const RECOVERS: Duration = Duration::from_secs(2 * 6).saturating_add(RECOVERY);

/// The servers of the sequence.
struct Servers {
    kafka: Server,
    postgres: Server,
    proxy: Proxy,
}

/// One episode and its model: which programs run, and which are frozen.
struct Episode<'a> {
    servers: &'a mut Servers,
    load: Load,
    url: String,
    running: Vec<Daemon>,
    frozen: Vec<Daemon>,
    /// These die at a step, if they get there.
    doomed: Vec<Daemon>,
    /// The partitions of each topic; senders by hand keep using the first two.
    partitions: usize,
    sent: u32,
}

/// Runs episodes for `seconds`.
pub fn run(seconds: u32, random: &mut StdRng) -> Report {
    let (kafka, postgres) = (Server::kafka(), Server::postgres());
    let proxy = Proxy::start(address(&postgres.address));
    let mut servers = Servers { kafka, postgres, proxy };
    let end = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut report = Report::default();
    let mut number = 0;
    while Instant::now() < end {
        report = report.and(Episode::start(&mut servers, number, random).play(random, end));
        number += 1;
    }
    // Some acts make Postgres forget batches, and nobody counts how many.
    report.overcounted = 0;
    report
}

impl<'a> Episode<'a> {
    /// With all of its topics, or with a reader that waits for some of them.
    fn start(servers: &'a mut Servers, number: u32, random: &mut StdRng) -> Self {
        let name = format!("episode{number}");
        let world = World::on(&name, &servers.kafka.address, &servers.postgres.address, 2);
        let url = through(&world.database_url, servers.proxy.port);
        let mut episode = Self {
            servers,
            load: Load::none(world),
            url,
            running: Vec::new(),
            frozen: Vec::new(),
            doomed: Vec::new(),
            partitions: 2,
            sent: 0,
        };
        let (kafka, topics) = (episode.load.world.kafka.clone(), episode.load.world.topics.clone());
        let (there, missing) = topics.split_at(random.random_range(0..=3));
        if !there.is_empty() {
            create_topics(&kafka, there, 2);
        }
        episode.start_reader();
        if !missing.is_empty() {
            let partitions = [0, 1, 2].map(|topic| if topic < there.len() { 2 } else { 0 });
            let [recency, frequency, monetary] = partitions;
            let waits = format!("recency {recency}, frequency {frequency}, monetary {monetary}");
            episode.running[0].wait_until_it_says(&waits);
            create_topics(&kafka, missing, 2);
        }
        episode.start_producer();
        episode
    }

    /// Acts until the episode is complete, or the time is over.
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
        let report = self.load.judged(acts, &["--progress"]);
        report.and(Ending::drawn(random).happens_to(&mut self.load, self.partitions, random))
    }

    fn is_possible(&self, act: Act) -> bool {
        let readers = self.running.len() + self.frozen.len() + self.doomed.len();
        match act {
            Act::StartReader | Act::StartDyingReader => readers < MOST_READERS,
            Act::KillReader | Act::StopReader | Act::FreezeReader => !self.running.is_empty(),
            Act::WakeReader => !self.frozen.is_empty(),
            // Some reader has to commit.
            Act::CutCommit => !self.running.is_empty() && self.frozen.is_empty(),
            // A program that is still starting would create the missing tables.
            Act::RestorePostgres | Act::FailOver => {
                self.doomed.is_empty() && self.running.iter().all(|reader| reader.said().contains(" ready "))
            }
            Act::AddPartition => self.partitions < MOST_PARTITIONS,
            _ => true,
        }
    }

    /// Ends every fault that lasts, and checks that work goes on.
    fn heal(&mut self) {
        self.servers.proxy.plan_cut(0);
        for reader in self.frozen.drain(..) {
            reader.signal("CONT");
            self.running.push(reader);
        }
        for mut reader in self.doomed.drain(..) {
            let ended = reader.kill_9();
            assert_eq!(ended.code(), None, "a reader ended by itself; it said:\n{}", reader.said());
        }
        // No act is a reason for a reader to end.
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
        // Programs learn of an added partition when they next refresh their metadata.
        self.load.waits_for(self.partitions as i32);
    }
}
