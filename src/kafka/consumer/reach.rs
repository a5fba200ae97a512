//! Whether a consumer reaches the brokers that it reads from, by its statistics: as of about a second ago.
//!
//! An error of librdkafka says that something failed, and nothing says that it is over. The statistics say what
//! is the case.

use rdkafka::statistics::{Broker, Statistics};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The state of a broker that is connected.
const CONNECTED: &str = "UP";
/// The source of handles that stand for an address. Others stand for a role.
const ADDRESSES: [&str; 2] = ["learned", "configured"];
/// The state of a partition that is read, or paused.
const READ: &str = "active";

/// A fetch may take this much longer than the broker waits for messages.
const ANSWER: Duration = Duration::from_millis(550);

/// See the module. librdkafka writes it, the session reads it.
#[derive(Debug)]
pub(super) struct Reach {
    /// A broker that is asked and says nothing for this long does not answer.
    silence: Duration,
    /// What is not reached.
    unreached: Mutex<Option<Unreached>>,
}

/// What is not reached, for a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreached {
    /// There is no connection, and librdkafka says why.
    NoConnection(String),
    /// There is one, and no answer.
    NoAnswer(String),
}

impl Reach {
    /// `fetch_wait` is how long a broker waits for messages before it answers.
    pub(super) fn new(fetch_wait: Duration) -> Self {
        Self { silence: fetch_wait + ANSWER, unreached: Mutex::default() }
    }

    /// Keeps what the statistics say.
    pub(super) fn note(&self, statistics: &Statistics) {
        let unreached = unreached(statistics, self.silence);
        *self.unreached.lock().unwrap_or_else(PoisonError::into_inner) = unreached;
    }

    /// What is not reached.
    pub(super) fn unreached(&self) -> Option<Unreached> {
        self.unreached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the statistics say is not reached: any broker at all, or the leader of a partition that is read.
fn unreached(statistics: &Statistics, silence: Duration) -> Option<Unreached> {
    let brokers = || statistics.brokers.values().filter(|b| ADDRESSES.contains(&b.source.as_str()));
    if !brokers().any(|broker| broker.state == CONNECTED) {
        return Some(Unreached::NoConnection("no broker can be reached".to_owned()));
    }
    for (topic, partitions) in &statistics.topics {
        for partition in partitions.partitions.values().filter(|partition| partition.fetch_state == READ) {
            let of = format!("partition {} of `{topic}`", partition.partition);
            let Some(leader) = brokers().find(|broker| broker.nodeid == partition.leader) else {
                return Some(Unreached::NoAnswer(format!("{of} has no leader")));
            };
            let name = &leader.nodename;
            if leader.state != CONNECTED {
                let what = format!("the broker {name} cannot be reached, which leads {of}");
                return Some(Unreached::NoConnection(what));
            }
            if is_silent(leader, silence.as_micros() as i64) {
                let what = format!("the broker {name} has not answered, which leads {of}");
                return Some(Unreached::NoAnswer(what));
            }
        }
    }
    None
}

/// Whether a broker was asked a while ago and has not answered. (Where it was asked just now, the time since its last
/// answer says nothing: nothing is asked while all topics are paused. But a client asks for metadata every 2 s.)
fn is_silent(broker: &Broker, silence: i64) -> bool {
    broker.waitresp_cnt > 0
        && broker.rxidle >= silence
        && (broker.txidle >= silence || broker.rxidle >= 2 * silence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::{Partition, Topic};
    use std::collections::HashMap;

    const SILENCE: Duration = Duration::from_millis(800);

    fn broker(nodeid: i32, state: &str, asked: i64, rxidle: i64, txidle: i64) -> (String, Broker) {
        let (source, state) = ("learned".to_owned(), state.to_owned());
        let nodename = format!("host{nodeid}:9092");
        let broker = Broker {
            nodeid,
            nodename,
            source,
            state,
            waitresp_cnt: asked,
            rxidle,
            txidle,
            ..Broker::default()
        };
        (format!("host{nodeid}:9092/{nodeid}"), broker)
    }

    fn read_from(leader: i32, state: &str) -> HashMap<String, Topic> {
        let fetch_state = state.to_owned();
        let partition = Partition { partition: 3, leader, fetch_state, ..Partition::default() };
        let topic = Topic { partitions: HashMap::from([(3, partition)]), ..Topic::default() };
        HashMap::from([("recency".to_owned(), topic)])
    }

    #[test]
    fn what_is_read_decides_which_brokers_must_answer() {
        let (up, down) = (broker(1, "UP", 1, 100_000, 100_000), broker(2, "DOWN", 0, -1, -1));
        let silent = || broker(1, "UP", 1, 900_000, 850_000);
        let asked_now = || broker(1, "UP", 1, 900_000, 100);
        let long_silent = || broker(1, "UP", 1, 1_700_000, 100);
        let at_rest = || broker(1, "UP", 0, 60_000_000, 60_000_000);
        let cases = [
            (vec![up.clone(), down.clone()], 1, "active", None),
            (vec![up.clone(), down.clone()], 2, "active", Some("host2:9092 cannot be reached")),
            (vec![up.clone(), down.clone()], 2, "none", None),
            (vec![up.clone(), down.clone()], -1, "active", Some("partition 3 of `recency` has no leader")),
            (vec![down], 1, "none", Some("no broker can be reached")),
            (vec![], 1, "none", Some("no broker can be reached")),
            (vec![silent()], 1, "active", Some("host1:9092 has not answered")),
            (vec![silent()], 1, "none", None),
            (vec![asked_now()], 1, "active", None),
            (vec![long_silent()], 1, "active", Some("has not answered")),
            (vec![at_rest()], 1, "active", None),
        ];
        for (brokers, leader, state, expected) in cases {
            let name = format!("{brokers:?}");
            let brokers = brokers.into_iter().collect();
            let statistics =
                Statistics { brokers, topics: read_from(leader, state), ..Statistics::default() };
            let found = unreached(&statistics, SILENCE);
            match expected {
                None => assert_eq!(found, None, "{name}"),
                Some(words) => {
                    assert!(format!("{found:?}").contains(words), "{name}: {found:?}")
                }
            }
        }
    }
}
