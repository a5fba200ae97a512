//! Pairing: any sequence of what can happen to it. After each step it must agree with the naive
//! implementation.
//!
//! At the end everything is read and stored, and every question is answered. Then each message must have been
//! settled exactly once, whatever came before.

use crate::choices::Choices;
use crate::target::Story;
use crate::world::World;
use rfm_stream::message::Message;
use rfm_stream::metric::Metric;
use std::collections::BTreeSet;
use std::time::Duration;

pub fn check(c: &mut Choices, story: &mut Story) -> Result<(), String> {
    let partitions = c.pick(&[1, 1, 2, 3]);
    let timeout = c.pick(&[Duration::from_secs(20), Duration::from_millis(1), Duration::from_secs(3600)]);
    let mut world = World::new(partitions, timeout, story);
    world.take(0..partitions);
    for _ in 0..c.below(120) {
        step(c, &mut world)?;
        world.compare()?;
    }
    finish(&mut world)
}

fn step(c: &mut Choices, world: &mut World) -> Result<(), String> {
    let (p, metric) = (c.below(world.topics.len()), c.pick(&Metric::ALL));
    match c.below(24) {
        0..=4 => append(c, world, p),
        5..=11 => (0..=c.below(4)).try_for_each(|_| deliver(world, p, metric))?,
        12 => skip_to_end(world, p, metric),
        13 | 14 => {
            let timeout = world.model.timeout;
            world.now += c.pick(&[Duration::from_nanos(1), timeout / 2, timeout, timeout * 2]);
        }
        15 | 16 => world.ask()?,
        17 | 18 if !world.questions.is_empty() => {
            let question = c.below(world.questions.len());
            world.answer(question, c.pick(&[0, 0, 1, 1, 2]));
        }
        19 => world.expire()?,
        20 => world.hand_over()?,
        21 | 22 => commit_some(c, world, true)?,
        _ => rarely(c, world, p, metric)?,
    }
    Ok(())
}

fn rarely(c: &mut Choices, world: &mut World, p: usize, metric: Metric) -> Result<(), String> {
    match c.below(6) {
        0 => {
            // The consumer goes back, so what was read comes again.
            let log = &world.topics[p][metric as usize];
            let Some(message) = log.log.get(c.below(log.log.len())).filter(|m| m.offset < log.cursor) else {
                return Ok(());
            };
            let message = message.clone();
            world.push(message)
        }
        1 | 2 => world.evict_oldest(),
        _ => {
            // A commit may be under way, and nobody knows whether it succeeded.
            match c.below(3) {
                0 => {}
                1 => commit_some(c, world, true)?,
                _ => commit_some(c, world, false)?,
            }
            world.forget_all();
            let held: Vec<usize> = (0..world.topics.len()).filter(|_| !c.once_in(6)).collect();
            world.take(held.into_iter());
            Ok(())
        }
    }
}

/// A sender writes: mostly the three messages of a batch.
fn append(c: &mut Choices, world: &mut World, p: usize) {
    let unique = format!("key {}", world.topics[p].iter().map(|topic| topic.log.len()).sum::<usize>());
    let key = match c.below(8) {
        0..=2 => Some(unique.into_bytes()),
        3 | 4 => None,
        5 => Some(c.pick(&[&b""[..], b"\0", b"\xff", &[b'k'; 300]]).to_vec()),
        _ => Some(vec![b'a' + c.below(3) as u8]),
    };
    let timeout = world.model.timeout.as_millis() as i64;
    let sent = world.now.as_millis() as i64;
    for metric in Metric::ALL {
        let topic = &mut world.topics[p][metric as usize];
        // What is no message has an offset, too.
        topic.end += c.pick(&[0, 0, 0, 1, 5]);
        for _ in 0..c.pick(&[1, 1, 1, 1, 1, 0, 2]) {
            let time = sent + c.pick(&[0, 0, 1, timeout, timeout + 1, -timeout, i64::MAX / 2, -i64::MAX / 2]);
            let timestamp = if c.once_in(12) { None } else { Some(time) };
            let value = if c.once_in(10) { None } else { Some(vec![0; c.below(50)]) };
            let offset = topic.end;
            topic.end += 1;
            topic.log.push(Message {
                metric,
                partition: p as i32,
                offset,
                timestamp,
                key: key.clone(),
                value,
            });
        }
    }
}

/// The next message of a topic is read.
fn deliver(world: &mut World, p: usize, metric: Metric) -> Result<(), String> {
    let topic = &mut world.topics[p][metric as usize];
    let next = topic.log.iter().find(|message| message.offset >= topic.cursor).cloned();
    let Some(message) = next else { return Ok(()) };
    topic.cursor = message.offset + 1;
    world.push(message)
}

/// The consumer's position moves as far as it can without another message.
fn skip_to_end(world: &mut World, p: usize, metric: Metric) {
    let topic = &mut world.topics[p][metric as usize];
    let next = topic.log.iter().map(|message| message.offset).find(|&offset| offset >= topic.cursor);
    topic.cursor = next.unwrap_or(topic.end);
    let position = topic.cursor;
    world.read_up_to(p, metric, position);
}

fn commit_some(c: &mut Choices, world: &mut World, stored: bool) -> Result<(), String> {
    let places = (0..world.unstored.len()).filter(|_| !c.once_in(3)).collect();
    world.commit(places, stored)
}

/// Takes every partition, reads everything, waits for what is missing, and stores everything.
fn finish(world: &mut World) -> Result<(), String> {
    world.forget_all();
    world.take(0..world.topics.len());
    for p in 0..world.topics.len() {
        for metric in Metric::ALL {
            for _ in 0..world.topics[p][metric as usize].log.len() {
                deliver(world, p, metric)?;
            }
            skip_to_end(world, p, metric);
        }
    }
    world.compare()?;
    // Every round settles the first message of each key, so there are no more rounds than messages.
    while let Some(lacks) = world.model.oldest_lacks() {
        world.now += world.model.timeout;
        world.ask()?;
        while !world.questions.is_empty() {
            world.answer(0, 0);
        }
        let waiting: usize = world.model.partitions.iter().map(|partition| partition.waiting_count()).sum();
        world.expire()?;
        world.compare()?;
        let left: usize = world.model.partitions.iter().map(|partition| partition.waiting_count()).sum();
        if left >= waiting {
            return Err(format!(
                "{waiting} messages wait, all topics are at their ends, and none goes: {lacks:?}"
            ));
        }
    }
    world.hand_over()?;
    world.commit(BTreeSet::from_iter(0..world.unstored.len()), true)?;
    world.compare()?;
    world.is_done()
}
