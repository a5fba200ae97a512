//! What happens to senders, and what senders do.

use crate::kafka::Plain;
use crate::load::{Load, RECOVERY, Report};
use crate::world::World;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::thread::sleep;
use std::time::Duration;

const METRICS: [&str; 3] = ["recency", "frequency", "monetary"];

pub fn kill(times: u32, random: &mut StdRng) -> Report {
    let world = World::new("producer_kill", 3);
    let mut reader = world.reader(&["--pairing-timeout", "2s"]);
    for _ in 0..times {
        let mut producer = world.producer(&["--interval", "0", "--customers", "100"]);
        producer.wait_until_it_says("sent ");
        sleep(Duration::from_millis(random.random_range(0..300)));
        producer.kill_9();
    }
    // Aborts what the last one left open, and lets the reader go on.
    let mut load = Load::start(world);
    load.recovers_within(RECOVERY);
    reader.stop();
    load.finish(times)
}

/// Rounds of 40 keys: every topic in an order of its own, some in transactions that are aborted, some with a
/// message lost or doubled. Lost ones leave partners that go as `unpaired`; doubled ones likewise.
pub fn mixed(times: u32, random: &mut StdRng) -> Report {
    let world = World::new("mixed", 2);
    let mut reader = world.reader(&["--pairing-timeout", "1s"]);
    let plain = Plain::new(&world.kafka);
    let transactional = Plain::transactional(&world.kafka, &format!("{}.aborts", world.name));
    for round in 0..times {
        let mut messages: Vec<(usize, u32)> =
            (0..40).flat_map(|key| (0..3).map(move |topic| (topic, key))).collect();
        let lost = messages.swap_remove(random.random_range(0..messages.len()));
        messages.push(messages[random.random_range(0..messages.len())]);
        messages.shuffle(random);
        transactional.begin();
        for (topic, key) in messages {
            let sender = if key % 5 == 0 { &transactional } else { &plain };
            send(&world, sender, topic, &format!("{round}.{key}"), random);
        }
        eprintln!("{}: round {round} lost {lost:?}", world.name);
        plain.flush();
        transactional.flush();
        if random.random() { transactional.commit() } else { transactional.abort() }
    }
    reader.stop();
    Load::none(world).finish_with(times, &["--progress"])
}

fn send(world: &World, sender: &Plain, topic: usize, key: &str, random: &mut StdRng) {
    let values: Vec<f64> = (0..50).map(|_| random.random_range(-1e3..1e3)).collect();
    // The partition follows from the key alone, so that the three messages of a batch meet.
    let partition = key.bytes().map(i32::from).sum::<i32>() % world.partitions;
    let body = format!(r#"{{"{}":{values:?}}}"#, METRICS[topic]);
    sender.send(&world.topics[topic], partition, Some(key.as_bytes()), Some(body.as_bytes()));
}
