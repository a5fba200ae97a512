//! Faults of Kafka.

use crate::load::{Load, RECOVERY, Report};
use crate::slowness;
use crate::world::{Daemon, Server, World};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A session timeout above the time after which a killed broker may register again (2 s here), on a machine
/// that is not too busy. The reader's default has the same relation to Kafka's own 9 s.
pub const SESSION: [&str; 2] = ["--kafka-property", "session.timeout.ms=6000"];
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// The last heartbeat before an outage is at most this old, if it could be sent.
const HEARTBEAT: Duration = Duration::from_secs(2);

fn with_own_kafka(times: u32, mut fault: impl FnMut(&Server)) -> Report {
    let broker = Server::kafka();
    let mut load = Load::start(World::without_topics("own_kafka", &broker.address, 2));
    let mut reader = load.world.reader(&SESSION);
    for _ in 0..times {
        load.runs();
        // Nothing shows whether a heartbeat arrived after the last outage. Without one, the group counts two
        // outages as one.
        sleep(2 * HEARTBEAT);
        let begun = Instant::now();
        fault(&broker);
        load.recovers_within(recovery(begun.elapsed()));
    }
    reader.stop();
    load.finish(times)
}

/// An outage longer than the session timeout also costs the reader its membership. Then the group first waits
/// for its old member, as for one that was killed.
///
/// (On a busy machine heartbeats come late, so even a short outage may cost the membership.)
fn recovery(outage: Duration) -> Duration {
    let in_time = HEARTBEAT + outage < SESSION_TIMEOUT && slowness::since(Instant::now() - outage) == 1.0;
    if in_time { RECOVERY } else { SESSION_TIMEOUT + RECOVERY }
}

/// `how` it ends: `stop` or `kill`. The outage is over when a broker answers again.
pub fn restart(how: &str, times: u32) -> Report {
    with_own_kafka(times, |broker| {
        broker.run(how);
        broker.run("start");
    })
}

pub fn frozen(times: u32) -> Report {
    with_own_kafka(times, |broker| freeze(broker, Duration::from_secs(2)))
}

pub fn freeze(broker: &Server, time: Duration) {
    broker.signal("STOP");
    sleep(time);
    broker.signal("CONT");
}

/// For three seconds, the broker runs a fifth of the time.
pub fn slow(times: u32) -> Report {
    with_own_kafka(times, slow_down)
}

pub fn slow_down(broker: &Server) {
    for _ in 0..20 {
        freeze(broker, Duration::from_millis(120));
        sleep(Duration::from_millis(30));
    }
}

/// Of two brokers, the one that coordinates the group dies and later comes back.
pub fn coordinator_lost(times: u32) -> Report {
    let brokers = Server::two_kafkas();
    let (mut load, mut reader) = coordinated_by_the_second(&brokers);
    for _ in 0..times {
        load.runs();
        brokers[1].run("kill");
        // The controller waits 2 s for the dead broker.
        sleep(Duration::from_secs(2));
        load.recovers_within(RECOVERY);
        brokers[1].run("start");
        load.recovers_within(RECOVERY);
        wait_until_it_coordinates(&brokers, &load.world.name);
    }
    reader.stop();
    load.finish(times)
}

/// A world whose group is coordinated by the second broker, which depends on the group's name.
fn coordinated_by_the_second(brokers: &[Server; 2]) -> (Load, Daemon) {
    loop {
        let load = Load::start(World::without_topics("two_kafkas", &brokers[0].address, 2));
        let reader = load.world.reader(&SESSION);
        load.runs();
        if coordinator(&brokers[0], &load.world.name) == Some(2) {
            return (load, reader);
        }
    }
}

/// After its return, a broker leads again once the preferred leaders are elected.
fn wait_until_it_coordinates(brokers: &[Server; 2], group: &str) {
    crate::world::wait_for("the second broker to coordinate again", || {
        let elect = ["--election-type", "preferred", "--all-topic-partitions"];
        brokers[0].tool("org.apache.kafka.tools.LeaderElectionCommand", &elect);
        (coordinator(&brokers[0], group) == Some(2)).then_some(())
    });
}

/// The id of the broker that coordinates a group: `… 127.0.0.1:PORT (ID) …`.
fn coordinator(broker: &Server, group: &str) -> Option<u32> {
    let said = broker.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &["--describe", "--state", "--group", group],
    );
    said.split_once('(').and_then(|_| said.rsplit_once(" (")?.1.split_once(')')?.0.parse().ok())
}
