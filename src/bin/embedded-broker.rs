//! `embedded-broker`: a Kafka broker for the quick start, without Java. It is librdkafka's mock cluster.
//!
//! Creates the topics `recency`, `frequency` and `monetary`, three partitions each, prints its address on
//! stdout, and runs until it gets a signal. It is a process of its own, so that a crash of it is not a crash of
//! a program under test. It keeps a few MiB per partition and does not tell committed messages from
//! uncommitted ones, so it is **no broker for real data**.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rfm_stream::failure::Failure;
use rfm_stream::shutdown::{self, Shutdown};
use std::io::{Write, stdout};
use std::process::ExitCode;

const PARTITIONS: i32 = 3;

fn main() -> ExitCode {
    shutdown::run_to_exit(run)
}

async fn run() -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::on_signals()?;
    let failed = |error: KafkaError| Failure::at_work(error, None);
    let cluster = MockCluster::new(1).map_err(failed)?;
    for topic in ["recency", "frequency", "monetary"] {
        cluster.create_topic(topic, PARTITIONS, 1).map_err(failed)?;
    }
    writeln!(stdout(), "{}", cluster.bootstrap_servers()).map_err(|error| Failure::at_work(error, None))?;
    shutdown.requested().await;
    Ok(ExitCode::SUCCESS)
}
