//! Faults of topics.

use crate::kafka::{add_partitions, create_topics, delete_records, delete_topics};
use crate::load::{Load, RECOVERY, Report, judge};
use crate::watch;
use crate::world::{World, shared_kafka, wait_for};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::time::Instant;

/// The topics come one after the other, while the reader waits for them.
pub fn missing(times: u32, _: &mut StdRng) -> Report {
    each(times, |_| {
        let mut load = Load::none(World::without_topics("missing", &shared_kafka(), 2));
        let mut reader = load.world.reader(&[]);
        reader.wait_until_it_says("recency 0, frequency 0, monetary 0");
        create_topics(&load.world.kafka, &load.world.topics[..1], 2);
        reader.wait_until_it_says("recency 2, frequency 0, monetary 0");
        load.world.produce(&["--batches", "20", "--interval", "1ms"]);
        let begun = Instant::now();
        wait_for("the first batches", || (load.stored() >= Some(20)).then_some(()));
        load.recovered(begun.elapsed(), RECOVERY);
        reader.stop();
        load.finish(1)
    })
}

/// A topic is deleted and created again, and has grown beyond the stored position before the reader sees it.
/// The reader stops. A new group stores what is there.
pub fn created_again(times: u32, random: &mut StdRng) -> Report {
    each(times, |round| {
        let mut world = World::new("again", 1);
        let mut reader = world.reader(&[]);
        world.produce(&["--batches", "10", "--interval", "1ms"]);
        world.wait_for_batches(10);
        // While it runs, or while it is away.
        if round % 2 == 0 {
            reader.stop();
        }
        let topic = random.random_range(0..3);
        delete_topics(&world.kafka, &world.topics[topic..=topic]);
        create_topics(&world.kafka, &world.topics[topic..=topic], 1);
        world.produce(&["--batches", "40", "--interval", "0"]);
        if round % 2 == 0 {
            reader = world.reader(&[]);
        }
        reader.fails(1, "created again");
        assert_eq!(world.number("SELECT count(*) FROM batches"), Some(10));
        stored_by_another_group(&mut world)
    })
}

/// Retention removes what was not yet read. The reader stops. A new group stores what is left.
pub fn retention(times: u32, random: &mut StdRng) -> Report {
    each(times, |_| {
        let mut world = World::new("retention", 1);
        world.produce(&["--batches", "5", "--interval", "1ms"]);
        world.catch_up(&[]);
        world.produce(&["--batches", "10", "--interval", "1ms"]);
        delete_records(&world.kafka, &world.topics[random.random_range(0..3)], 0, 20);
        world.reader(&[]).fails(1, "is not in the log");
        assert_eq!(world.number("SELECT count(*) FROM batches"), Some(5));
        stored_by_another_group(&mut world)
    })
}

/// Everything is stored, and then retention removes all of it, including the transaction markers.
pub fn markers(times: u32, _: &mut StdRng) -> Report {
    each(times, |_| {
        let world = World::new("markers", 1);
        let mut reader = world.reader(&[]);
        world.produce(&["--batches", "5", "--interval", "1ms"]);
        // Five messages and five markers in each topic.
        wait_for("progress past the markers", || {
            let next = "SELECT recency_next + frequency_next + monetary_next FROM progress";
            (world.number(next) == Some(30)).then_some(())
        });
        reader.kill_9();
        // What it has counted is deleted below.
        watch::forget(&world);
        world.topics.iter().for_each(|topic| delete_records(&world.kafka, topic, 0, 10));
        let mut load = Load::start(world);
        let mut reader = load.world.reader(&[]);
        load.runs();
        reader.stop();
        load.producer.take().unwrap().stop();
        // The judge cannot see what was removed; the five batches are counted instead.
        load.world.catch_up(&[]);
        let gone = "SELECT count(*) FROM batches WHERE recency_offset < 10";
        assert_eq!(load.world.number(gone), Some(5));
        forget_what_is_gone(&load.world);
        load.finish(1)
    })
}

fn forget_what_is_gone(world: &World) {
    use diesel::connection::SimpleConnection;
    let gone = "DELETE FROM segments USING batches WHERE id = batch_id AND recency_offset < 10;
                DELETE FROM batches WHERE recency_offset < 10";
    world.connect().batch_execute(gone).unwrap();
}

/// Under load, all three topics get more partitions, one after the other.
pub fn partitions_added(times: u32, _: &mut StdRng) -> Report {
    each(times, |_| {
        let mut load = Load::start(World::new("added", 1));
        let mut reader = load.world.reader(&[]);
        load.runs();
        for count in [2, 4] {
            load.world.topics.iter().for_each(|topic| add_partitions(&load.world.kafka, topic, count));
            let begun = Instant::now();
            // This producer knows the new partitions at once; the other one goes on without them.
            load.world.produce_as("newcomer", &["--batches", "20", "--interval", "1ms"]);
            let last = format!("SELECT count(*) FROM batches WHERE partition = {}", count - 1);
            wait_for("a batch of the new partition", || (load.world.number(&last) > Some(0)).then_some(()));
            load.recovered(begun.elapsed(), RECOVERY * 3);
        }
        reader.stop();
        load.finish(1)
    })
}

/// A new group stores everything that the topics hold.
pub fn stored_by_another_group(world: &mut World) -> Report {
    world.name += "_again";
    world.catch_up(&["--pairing-timeout", "1s"]);
    let (rows, differences) = judge(world, &["--progress"]);
    Report { times: 1, rows, differences, ..Report::default() }
}

/// Every time has a world of its own.
fn each(times: u32, mut one: impl FnMut(u32) -> Report) -> Report {
    (0..times).map(&mut one).fold(Report::default(), Report::and)
}
