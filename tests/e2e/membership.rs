//! Other members of the group that keep a reader from its work.

use crate::slowness;
use crate::world::{World, wait_for};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A consumer of the reader's group that subscribes to the first topic only.
pub fn stranger(world: &World, assignor: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &world.kafka).set("group.id", &world.name);
    config.set("client.id", "dashboard").set("partition.assignment.strategy", assignor);
    config.set("session.timeout.ms", "6000");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[&world.topics[0]]).unwrap();
    consumer
}

/// Polls the stranger while `work` runs.
pub fn beside(consumer: &BaseConsumer, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drop(consumer.poll(Duration::from_millis(50)));
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
}

#[test]
fn a_member_that_subscribes_to_one_topic_only_is_named_and_may_leave() {
    for partitions in [3, 1] {
        let world = World::new("stranger", partitions);
        world.produce(&["--batches", "20", "--interval", "0"]);
        let stranger = stranger(&world, "range");
        let mut joined = None;
        beside(&stranger, || {
            let taken = || stranger.assignment().is_ok_and(|taken| taken.count() > 0).then_some(());
            wait_for("the other member to get partitions", taken);
            let reader = world.reader(&[]);
            let begun = Instant::now();
            reader.wait_until_it_says("messages of recency to others");
            let said = reader.said();
            assert!(said.contains("client `dashboard` at 127.0.0.1"), "{said}");
            assert!(said.contains(&format!("subscribes to {}", world.topics[0])), "{said}");
            slowness::in_time("the line", begun.elapsed(), Duration::from_secs(20));
            joined = Some(reader);
        });
        drop(stranger);
        // Without it, everything is read.
        world.wait_for_batches(20);
        joined.unwrap().stop();
        world.verify(&["--progress", "--expect-batches", "20", "--expect-dead", "0"]);
    }
}

#[test]
fn a_member_with_another_assignor_is_named_while_it_keeps_the_reader_out() {
    let world = World::new("assignor", 1);
    world.produce(&["--batches", "2", "--interval", "0"]);
    let stranger = stranger(&world, "roundrobin");
    let mut joined = None;
    beside(&stranger, || {
        let taken = || stranger.assignment().is_ok_and(|taken| taken.count() > 0).then_some(());
        wait_for("the other member to get partitions", taken);
        let reader = world.reader(&[]);
        let member = "has a member that does not share out partitions by `range`";
        reader.wait_until_it_says(&format!("the group `{}` {member}", world.name));
        joined = Some(reader);
    });
    drop(stranger);
    world.wait_for_batches(2);
    joined.unwrap().stop();
}

#[test]
fn a_reader_whose_instance_id_another_one_uses_ends_and_names_it() {
    let world = World::new("instance", 1);
    let id = ["--kafka-property", "group.instance.id=rack-7"];
    let mut first = world.reader(&id);
    first.wait_until_it_says("took partition");
    let mut second = world.reader(&id);
    first.fails(1, "has joined with the group.instance.id `rack-7` of this reader");
    assert!(
        first.said().contains("hint: give every reader a group.instance.id of its own"),
        "{}",
        first.said()
    );
    world.produce(&["--batches", "3", "--interval", "0"]);
    world.wait_for_batches(3);
    assert!(second.is_running());
    second.stop();
}
