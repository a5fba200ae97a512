//! A Kafka broker for the quick start and for fast tests, without Java: librdkafka's mock cluster in a
//! process of its own, so that whatever happens to it happens to nobody else.
//!
//! `embedded-broker [PARTITIONS]` creates the topics `recency`, `frequency` and `monetary`, prints its
//! address on stdout, and runs until it is told to stop. It keeps a few MiB per partition and knows
//! nothing of committed and uncommitted messages: it is no broker for real data.

#![allow(clippy::print_stdout, reason = "the address is this program's answer")]

use rdkafka::mocking::MockCluster;
use std::error::Error;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let partitions = std::env::args().nth(1).map_or(Ok(3), |count| count.parse())?;
    let cluster = MockCluster::new(1)?;
    for topic in ["recency", "frequency", "monetary"] {
        cluster.create_topic(topic, partitions, 1)?;
    }
    println!("{}", cluster.bootstrap_servers());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
