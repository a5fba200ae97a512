//! Flags and environment variables. Only this module uses clap and reads variables.
//!
//! Owns the names and defaults in docs/guide.md, and turns them into the options of the
//! two daemons. **Flag > environment > `.env` > default.**

mod arguments;
mod commands;
mod database;
mod env_file;
mod kafka;
mod orders;
mod plain;
mod rivals;
mod scoring;
mod values;

pub use commands::{Producer, ProducerCommand, Reader, ReaderCommand};
pub use env_file::EnvFile;

use crate::failure::Failure;
use crate::http::ListenAddress;
use crate::kafka::{Cluster, Consumer, KafkaError, Newest, PROPERTY_HINT, Sender};
use crate::producer::Origin;
use crate::producer::source::Random;
use crate::reader::retention::Retention;
use crate::telemetry::LogFormat;
use crate::{producer, reader};
use anyhow::anyhow;
use bytesize::ByteSize;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser};
use database::DatabaseFlags;
use kafka::KafkaFlags;
use orders::OrdersFlags;
use plain::plain;
use scoring::ScoringFlags;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use values::{duration, longer_than_nothing};

/// Reads `.env` in the current directory or the nearest above, then the flags of the program.
///
/// # Errors
/// `.env` cannot be read, or an argument is none of the program's. About anything else that is wrong with
/// the flags, clap prints the error and exits with 2 here.
pub fn parse<T: Parser>() -> Result<(T, EnvFile), Failure> {
    let names: BTreeSet<String> =
        T::command().get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())).collect();
    // A program with a database reads libpq's variables, too.
    let is_ours = |name: &str| {
        names.contains(name) || (name.starts_with("PG") && names.contains(database::URL_VARIABLE))
    };
    let env_file = EnvFile::load(is_ours)?;
    let flags = arguments::parse(std::env::args_os(), &env_file)?;
    Ok((flags, env_file))
}

/// The failure for a property that librdkafka does not accept.
fn wrong_property(error: KafkaError) -> Failure {
    Failure::configuration(error, PROPERTY_HINT.to_owned())
}

/// Flags of the producer, also with a command.
#[derive(Debug, Args)]
pub struct ProducerFlags {
    #[command(flatten)]
    kafka: KafkaFlags,
    /// Pause between batches; 0 means no pause, and many batches per transaction
    #[arg(long, value_name = "TIME", env = "PRODUCE_INTERVAL", default_value = "60s", value_parser = duration)]
    interval: Duration,
    #[command(flatten)]
    orders: OrdersFlags,
    /// Customers per batch
    #[arg(long, value_name = "N", env = "PRODUCE_CUSTOMERS", default_value = "100",
          value_parser = clap::value_parser!(u32).range(1..))]
    customers: u32,
    /// Stop after this many batches [default: never]
    #[arg(long, value_name = "N", env = "PRODUCE_BATCHES")]
    batches: Option<u64>,
    /// Seed of the values, to make them repeatable [default: random]
    #[arg(long, value_name = "N", env = "PRODUCE_SEED")]
    seed: Option<u64>,
    /// Partitions of the topics that the producer creates
    #[arg(long, value_name = "N", env = "PRODUCE_PARTITIONS", default_value = "3",
          value_parser = clap::value_parser!(u16).range(1..))]
    partitions: u16,
    /// Kafka's transactional id; a second producer with the same id ends the first
    #[arg(long, value_name = "ID", env = "PRODUCE_TRANSACTIONAL_ID", default_value = "rfm-producer", value_parser = NonEmptyStringValueParser::new())]
    transactional_id: String,
    /// Answer /livez, /readyz and /metrics at this address [default: off]
    #[arg(long, value_name = "ADDR:PORT", env = "PRODUCER_HTTP")]
    http: Option<ListenAddress>,
}

impl ProducerFlags {
    /// `--log-format`
    pub fn log_format(&self) -> LogFormat {
        self.kafka.log_format
    }

    /// The options of the producer.
    ///
    /// # Errors
    /// A flag is wrong; the error names it.
    pub fn options(&self, env_file: &EnvFile) -> Result<producer::Options, Failure> {
        let kafka = self.kafka.connection()?;
        plain("--transactional-id", &self.transactional_id)?;
        Sender::check(&kafka, &self.transactional_id).map_err(wrong_property)?;
        Cluster::check(&kafka).and_then(|()| Cluster::check_creating(&kafka)).map_err(wrong_property)?;
        let origin = match self.orders.orders()? {
            Some(orders) => {
                Newest::check(&kafka).map_err(wrong_property)?;
                Origin::Orders(Box::new(orders))
            }
            None => Origin::Random(Random {
                customers: self.customers as usize,
                seed: self.seed,
                population: self.orders.population()?,
            }),
        };
        Ok(producer::Options {
            kafka,
            origin,
            interval: self.interval,
            batches: self.batches,
            partitions: usize::from(self.partitions),
            transactional_id: self.transactional_id.clone(),
            http: self.http.clone(),
            env_file: env_file.path().map(Path::to_owned),
        })
    }
}

/// Flags of the reader, also with a command.
#[derive(Debug, Args)]
pub struct ReaderFlags {
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    database: DatabaseFlags,
    /// Consumer group; a new one starts at the beginning of the topics
    #[arg(long, value_name = "ID", env = "KAFKA_GROUP_ID", default_value = "rfm-reader", value_parser = NonEmptyStringValueParser::new())]
    group_id: String,
    #[command(flatten)]
    scoring: ScoringFlags,
    /// How long a message waits for the others of its batch, once they could have been read
    #[arg(long, value_name = "TIME", env = "PAIRING_TIMEOUT", default_value = "20s", value_parser = duration)]
    pairing_timeout: Duration,
    /// Memory for messages that are read but not stored yet, at least 64KiB
    #[arg(long, value_name = "SIZE", env = "BUFFER_BYTES", default_value = "256MiB")]
    buffer_bytes: ByteSize,
    /// Keep the rows of `segments` for this long; they go a window (a day) later at the latest [default: for ever]
    #[arg(long, value_name = "TIME", env = "RETAIN", value_parser = longer_than_nothing)]
    retain: Option<Duration>,
    /// How long a window of `segments` lasts; for tests
    #[arg(long, value_name = "TIME", hide = true, default_value = "1day", value_parser = longer_than_nothing,
          overrides_with = "segments_window")]
    segments_window: Duration,
    /// Stop once everything that was in the topics at the start is stored
    #[arg(long, env = "UNTIL_CAUGHT_UP")]
    until_caught_up: bool,
    /// Show the page, and answer /livez, /readyz, /metrics and /api/ at this address [default: off]
    #[arg(long, value_name = "ADDR:PORT", env = "READER_HTTP")]
    http: Option<ListenAddress>,
}

impl ReaderFlags {
    /// `--log-format`
    pub fn log_format(&self) -> LogFormat {
        self.kafka.log_format
    }

    /// The options of the reader. Reads the files of the segment map and of the edges.
    ///
    /// # Errors
    /// A flag or one of the files is wrong; the error names it.
    pub fn options(&self, env_file: &EnvFile) -> Result<reader::Options, Failure> {
        plain("--group-id", &self.group_id)?;
        let database = self.database.address()?;
        if self.buffer_bytes < LEAST_BUFFER {
            let error = anyhow!("--buffer-bytes {} is less than {LEAST_BUFFER}", self.buffer_bytes);
            return Err(Failure::configuration(error, None));
        }
        let kafka = self.kafka.connection()?;
        let checks = [Consumer::check, Cluster::check, Cluster::check_asking, Cluster::check_committed];
        checks.iter().try_for_each(|check| check(&kafka)).map_err(wrong_property)?;
        let (rules, edges_from) = self.scoring.rules()?;
        Ok(reader::Options {
            kafka,
            database,
            group_id: self.group_id.clone(),
            rules,
            edges_from,
            pairing_timeout: self.pairing_timeout,
            buffer_bytes: usize::try_from(self.buffer_bytes.as_u64()).unwrap_or(usize::MAX),
            until_caught_up: self.until_caught_up,
            http: self.http.clone(),
            retention: Retention { retain: self.retain, window: self.segments_window },
            env_file: env_file.path().map(Path::to_owned),
        })
    }
}

/// The text of a file, without a byte order mark.
fn text_file(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

/// With less, the reader would constantly pause and resume topics.
const LEAST_BUFFER: ByteSize = ByteSize::kib(64);

#[cfg(test)]
mod tests;
