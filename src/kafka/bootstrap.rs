//! Back to the bootstrap servers, for a client that knows no broker any more.
//!
//! librdkafka forgets brokers that the newest metadata does not name. If the only broker of a cluster is
//! fenced for a moment, that broker is the last one. The metadata that names none also stops the timer that
//! would ask the bootstrap servers again, so **the client never reconnects** (librdkafka issue 5301). The
//! statistics show that no broker is connected and none is being tried; then the bootstrap servers are added
//! again, as at the start.

#![expect(unsafe_code, reason = "rdkafka has no safe call for it")]

use rdkafka::client::{Client, ClientContext};
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::statistics::{Broker, Statistics};
use std::ffi::CString;
use std::sync::Arc;
use tokio::sync::Notify;

/// States of a broker that is not connected. librdkafka tries one that it still wants.
pub(super) const RESTING: [&str; 2] = ["INIT", "DOWN"];

/// In microseconds. A broker that is away is tried again within 1.5 s (`reconnect.backoff.max.ms` and its
/// jitter), so one that rests for longer is not being tried.
const LONGEST_REST: i64 = 1_600_000;

/// Raised when a client has no broker left.
#[derive(Default)]
pub(super) struct BrokersLost(Notify);

impl BrokersLost {
    /// Looks at the brokers in a client's statistics.
    pub(super) fn check(&self, statistics: &Statistics) {
        if statistics.brokers.values().all(is_out_of_use) {
            self.0.notify_one();
        }
    }

    /// Waits until the client has no broker left.
    pub(super) async fn raised(&self) {
        self.0.notified().await;
    }
}

/// Whether a broker is neither connected nor being tried. Handles that stand for a role, not for an address,
/// do not count.
pub(super) fn is_out_of_use(broker: &Broker) -> bool {
    let is_address = ["learned", "configured"].contains(&broker.source.as_str());
    let rests = RESTING.contains(&broker.state.as_str()) && broker.stateage > LONGEST_REST;
    !is_address || rests
}

/// Reconnects a producer for as long as it lives. A consumer does so in its own loop; nobody polls a
/// producer.
pub(super) async fn rebootstrap_whenever_lost<C: ClientContext + 'static>(
    producer: FutureProducer<C>,
    lost: Arc<BrokersLost>,
    servers: String,
) {
    loop {
        lost.raised().await;
        rebootstrap(producer.client(), &servers);
    }
}

/// Makes the client try the bootstrap servers again.
pub(super) fn rebootstrap<C: ClientContext>(client: &Client<C>, servers: &str) {
    // The client's own configuration came from the same text, so there is no zero byte in it.
    let Ok(list) = CString::new(servers) else { return };
    // SAFETY: the handle lives as long as `client`; the call copies the list and may be made on any thread.
    let added = unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    tracing::debug!(added, "no broker is known any more: trying the bootstrap servers again");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(source: &str, state: &str, stateage: i64) -> Broker {
        Broker { source: source.into(), state: state.into(), stateage, ..Broker::default() }
    }

    #[test]
    fn a_broker_is_out_of_use_when_it_is_neither_connected_nor_tried() {
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
