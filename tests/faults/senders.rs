//! Faults of senders, and what senders do wrong.

use crate::kafka::Plain;
use crate::load::{Load, RECOVERY, Report};
use crate::slowness;
use crate::world::{World, wait_for};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

pub fn kill(times: u32, random: &mut StdRng) -> Report {
    let world = World::new("producer_kill", 3);
    let mut reader = world.reader(&["--pairing-timeout", "2s"]);
    for _ in 0..times {
        let mut producer = world.producer(&["--interval", "3ms", "--customers", "100"]);
        producer.wait_until_it_says("sent ");
        sleep(Duration::from_millis(random.random_range(0..300)));
        producer.kill_9();
    }
    // It aborts what the last one left open, so the reader can go on.
    let mut load = Load::start(world);
    load.recovers_within(RECOVERY);
    reader.stop();
    load.finish(times)
}

/// A producer that dies at a step; the next one of its id aborts what it left open.
pub fn die_at(step: &str, times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::none(World::new(step, 2));
    let mut reader = load.world.reader(&["--pairing-timeout", "2s"]);
    for _ in 0..times {
        let point = format!("{step}:{}:abort", random.random_range(1..20));
        // With 0 it would send thousands of batches before its second commit.
        let interval =
            if step == "between_messages" { ["0", "5ms"][random.random_range(0..2)] } else { "5ms" };
        let mut dying = load.world.producer_with_failpoint(&point, &["--interval", interval]);
        assert_eq!(dying.exit_code(), None, "it died at {step}; it said:\n{}", dying.said());
        let before = load.stored().unwrap_or(0);
        load.world.produce(&["--batches", "3", "--interval", "1ms"]);
        let begun = Instant::now();
        wait_for("the batches of its successor", || (load.stored() >= Some(before + 3)).then_some(()));
        load.recovered(begun.elapsed(), RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

/// A producer dies in the middle of a batch. For longer than the pairing timeout, whole batches of others
/// stay behind its open transaction.
pub fn die_before_others(times: u32, random: &mut StdRng) -> Report {
    let mut load = Load::none(World::new("behind_open", 1));
    let mut reader = load.world.reader(&["--pairing-timeout", "1s"]);
    reader.wait_until_it_says("took partition");
    let plain = Plain::new(&load.world.kafka);
    for round in 0..times {
        let point = format!("between_messages:{}:abort", random.random_range(1..6));
        let mut dying = load.world.producer_with_failpoint(&point, &["--interval", "5ms"]);
        assert_eq!(dying.exit_code(), None, "it said:\n{}", dying.said());
        let before = load.stored();
        for key in 0..10 {
            (0..3).for_each(|topic| send(&load.world, &plain, topic, &format!("{round}.{key}"), random));
        }
        plain.flush();
        sleep(Duration::from_millis(random.random_range(1_500..3_000)));
        // Opens the same id: the open transaction is aborted.
        load.world.produce(&["--batches", "1"]);
        let begun = Instant::now();
        wait_for("the batches behind it", || (load.stored() >= before.map(|n| n + 11)).then_some(()));
        load.recovered(begun.elapsed(), RECOVERY);
    }
    reader.stop();
    load.finish(times)
}

/// Transactions of whole batches that are aborted, between others that are not.
pub fn aborted(times: u32, random: &mut StdRng) -> Report {
    rounds("aborted", times, random, 10, |round, world, senders, random| {
        let [plain, transactional] = senders;
        transactional.begin();
        for key in 0..20 {
            let sender = if key % 2 == 0 { transactional } else { plain };
            (0..3).for_each(|topic| send(world, sender, topic, &format!("{round}.{key}"), random));
        }
        plain.flush();
        transactional.flush();
        transactional.abort();
    })
}

/// Two senders at once. Each has its keys in another order in every topic.
pub fn interleaved(times: u32, random: &mut StdRng) -> Report {
    rounds("interleaved", times, random, 40, |round, world, senders, random| {
        let mut messages: Vec<(usize, usize, u32)> =
            (0..2).flat_map(|who| (0..3).flat_map(move |t| (0..20).map(move |key| (who, t, key)))).collect();
        messages.shuffle(random);
        senders[1].begin();
        for (who, topic, key) in messages {
            send(world, &senders[who], topic, &format!("{round}.{who}.{key}"), random);
        }
        senders[1].flush();
        senders[1].commit();
        senders[0].flush();
    })
}

/// In each round one message of one topic is never sent. Only its two partners are refused as `unpaired`.
pub fn lost(times: u32, random: &mut StdRng) -> Report {
    rounds("lost", times, random, 19, |round, world, [plain, _], random| {
        let missing = (random.random_range(0..3), random.random_range(0..20));
        for (topic, key) in (0..3).flat_map(|topic| (0..20).map(move |key| (topic, key))) {
            if (topic, key) != missing {
                send(world, plain, topic, &format!("{round}.{key}"), random);
            }
        }
        plain.flush();
    })
}

/// In each round one message of one topic is sent twice. Only the second is refused as `unpaired`.
pub fn doubled(times: u32, random: &mut StdRng) -> Report {
    rounds("doubled", times, random, 20, |round, world, [plain, _], random| {
        let twice = (random.random_range(0..3), random.random_range(0..20));
        for (topic, key) in (0..3).flat_map(|topic| (0..20).map(move |key| (topic, key))) {
            for _ in 0..if (topic, key) == twice { 2 } else { 1 } {
                send(world, plain, topic, &format!("{round}.{key}"), random);
            }
        }
        plain.flush();
    })
}

/// One topic is an hour behind when the reader starts. The partners are behind an hour of other messages, far
/// more than the budget holds. Nothing is unpaired.
pub fn behind(times: u32, random: &mut StdRng) -> Report {
    let load = Load::none(World::new("hour_behind", 1));
    let plain = Plain::new(&load.world.kafka);
    for round in 0..times {
        let late = random.random_range(0..3);
        let topics = (0..3).filter(|&topic| topic != late).chain([late]);
        for topic in topics {
            for key in 0..1_000 {
                let time = (topic == late).then(an_hour_ago);
                send_at(&load.world, &plain, topic, &format!("{round}.{key}"), random, time);
            }
            plain.flush();
        }
        load.world.catch_up(&["--buffer-bytes", "300KiB", "--pairing-timeout", "1s"]);
    }
    load.finish(times)
}

/// The time in milliseconds since 1970, as in Kafka's messages.
pub fn an_hour_ago() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now - Duration::from_secs(3_600)).as_millis() as i64
}

/// The reader dies while a batch is below its progress in one topic and above it in another. `late` came
/// before `early` in recency and after it in frequency, and lacks its monetary message.
pub fn two_orders(times: u32, random: &mut StdRng) -> Report {
    let load = Load::none(World::new("two_orders", 1));
    let plain = Plain::new(&load.world.kafka);
    for round in 0..times {
        let (early, late) = (format!("{round}.early"), format!("{round}.late"));
        for (topic, key) in [(0, &late), (0, &early), (1, &early), (1, &late), (2, &early)] {
            send(&load.world, &plain, topic, key, random);
        }
        plain.flush();
        let before = load.stored().unwrap_or(0);
        let mut reader = load.world.reader(&["--pairing-timeout", "60s"]);
        wait_for("the early batch", || (load.stored() > Some(before)).then_some(()));
        reader.kill_9();
        send(&load.world, &plain, 2, &late, random);
        plain.flush();
        load.world.catch_up(&[]);
    }
    load.finish(times)
}

/// A reader at work, and rounds of messages from a plain sender and a transactional one. Each round makes
/// `whole` batches.
fn rounds(
    name: &str,
    times: u32,
    random: &mut StdRng,
    whole: i64,
    mut round: impl FnMut(u32, &World, &[Plain; 2], &mut StdRng),
) -> Report {
    let mut load = Load::none(World::new(name, 2));
    let world = &load.world;
    let mut reader = world.reader(&["--pairing-timeout", "1s"]);
    reader.wait_until_it_says("took partition");
    let transactional = Plain::transactional(&world.kafka, &format!("{}.second", world.name));
    let senders = [Plain::new(&world.kafka), transactional];
    let mut slowest = Duration::ZERO;
    for n in 0..times {
        round(n, world, &senders, random);
        let begun = Instant::now();
        world.wait_for_batches(whole * i64::from(n + 1));
        let took = begun.elapsed();
        slowness::in_time(&world.name, took, RECOVERY);
        slowest = slowest.max(took);
    }
    reader.stop();
    load.slowest = Some(slowest);
    load.finish_with(times, &["--progress"])
}

fn send(world: &World, sender: &Plain, topic: usize, key: &str, random: &mut StdRng) {
    send_at(world, sender, topic, key, random, None);
}

/// The message of a batch of 50 random customers.
pub fn send_at(
    world: &World,
    sender: &Plain,
    topic: usize,
    key: &str,
    random: &mut StdRng,
    time: Option<i64>,
) {
    let values: Vec<f64> = (0..50).map(|_| random.random_range(-1e3..1e3)).collect();
    // The partition follows from the key alone, so that the three messages of a batch meet.
    let partition = key.bytes().map(i32::from).sum::<i32>() % world.partitions;
    let body = format!(r#"{{"{}":{values:?}}}"#, METRICS[topic]);
    sender.send_at(&world.topics[topic], partition, Some(key.as_bytes()), Some(body.as_bytes()), time);
}
