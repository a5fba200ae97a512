//! Back to the bootstrap servers, for a client that has forgotten every broker it knew.
//!
//! librdkafka forgets brokers that the newest metadata does not name. Where the only broker of a cluster was
//! fenced for a moment, that is the last one; the answer that names none also stops the timer that would
//! have asked the bootstrap servers again, and **the client stays deaf for ever** (librdkafka issue 5301). So
//! the statistics tell when nobody is connected and nobody is being tried, and the bootstrap servers are
//! added anew, as at the start.

#![expect(unsafe_code, reason = "rdkafka has no safe call for it")]

use rdkafka::client::{Client, ClientContext};
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::statistics::{Broker, Statistics};
use std::ffi::CString;
use std::sync::Arc;
use tokio::sync::Notify;

/// In microseconds. A broker that is away is tried again within 1.5 s (`reconnect.backoff.max.ms` and its
/// jitter), so one that rests for longer is not being tried.
const RESTS: i64 = 1_600_000;

/// Raised when a client has no broker left.
#[derive(Default)]
pub(super) struct Deafness(Notify);

impl Deafness {
    /// Looks at what librdkafka says of its brokers.
    pub(super) fn look_at(&self, statistics: &Statistics) {
        if statistics.brokers.values().all(is_out_of_use) {
            self.0.notify_one();
        }
    }

    /// Waits until the client has no broker left.
    pub(super) async fn begins(&self) {
        self.0.notified().await;
    }
}

/// Whether a broker is neither connected nor being tried. Handles that stand for a role, not for an address,
/// say nothing.
fn is_out_of_use(broker: &Broker) -> bool {
    let is_address = ["learned", "configured"].contains(&broker.source.as_str());
    let rests = ["INIT", "DOWN"].contains(&broker.state.as_str()) && broker.stateage > RESTS;
    !is_address || rests
}

/// Keeps a producer, which nobody polls, from staying deaf.
pub(super) async fn keep_hearing<C: ClientContext + 'static>(
    producer: FutureProducer<C>,
    deafness: Arc<Deafness>,
    servers: String,
) {
    loop {
        deafness.begins().await;
        ask_again(producer.client(), &servers);
    }
}

/// Has the client try the bootstrap servers again.
pub(super) fn ask_again<C: ClientContext>(client: &Client<C>, servers: &str) {
    // Its own configuration came from the same text, so there is no zero byte in it.
    let Ok(list) = CString::new(servers) else { return };
    // SAFETY: the handle lives as long as `client`; the call copies the list and may be made on any thread.
    let added = unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    tracing::debug!(added, "no broker is known any more: asking the bootstrap servers again");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(source: &str, state: &str, stateage: i64) -> Broker {
        Broker { source: source.into(), state: state.into(), stateage, ..Broker::default() }
    }

    #[test]
    fn a_client_is_deaf_when_it_neither_has_nor_tries_a_broker() {
        let cases = [
            (broker("learned", "UP", 60_000_000), false),
            (broker("learned", "TRY_CONNECT", 200_000), false),
            (broker("configured", "CONNECT", 20_000_000), false),
            (broker("configured", "INIT", 900_000), false),
            (broker("learned", "INIT", 5_000_000), true),
            (broker("logical", "UP", 5_000_000), true),
        ];
        for (broker, expected) in cases {
            assert_eq!(is_out_of_use(&broker), expected, "{broker:?}");
        }
    }
}
