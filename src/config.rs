//! Flags and environment: the only door to clap and to variables.
//!
//! Owns the names of section "Flags" of the README and their defaults; turns them into the options of
//! the two daemons. **Flag > environment > `.env` > default.**

use crate::failure::Failure;
use crate::kafka::{Cluster, Connection, Consumer, KafkaError, PROPERTY_HINT, Sender, parse_properties};
use crate::reader::quintile::Ties;
use crate::reader::score::Rules;
use crate::reader::segment::SegmentMap;
use crate::telemetry::LogFormat;
use crate::{producer, reader};
use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Args, Parser};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Reads `.env` in this folder or one above, then the flags of the program.
///
/// # Errors
/// A `.env` that cannot be read. What is wrong with the flags themselves ends the process here: clap
/// prints it and exits with 2.
pub fn parse<T: Parser>() -> Result<T, Failure> {
    match dotenvy::dotenv() {
        Err(error) if !error.not_found() => {
            let hint = "it lies in this folder or one above; a line is NAME=VALUE; a value with blanks or # needs quotes";
            // dotenvy's own sentence quotes the line, which may hold a password.
            let error = match error {
                dotenvy::Error::LineParse(..) => anyhow!("a line of `.env` is not NAME=VALUE"),
                error => anyhow::Error::new(error).context("cannot read `.env`"),
            };
            Err(Failure::configuration(error, hint.to_owned()))
        }
        _ => Ok(parse_flags(std::env::args_os())),
    }
}

/// Parses flags; an empty variable counts as none, since many ways of setting variables know only empty.
fn parse_flags<T: Parser>(args: impl IntoIterator<Item = OsString>) -> T {
    let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = T::command().mut_args(|arg| if is_empty(&arg) { arg.env(None) } else { arg });
    let mut matches = command.get_matches_from(args);
    T::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// What both programs need to find Kafka.
#[derive(Debug, Args)]
pub struct KafkaFlags {
    /// Where the brokers are
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "KAFKA_BOOTSTRAP_SERVERS",
        default_value = "localhost:9092"
    )]
    bootstrap_servers: String,
    /// Topic of the recency messages
    #[arg(long, value_name = "TOPIC", env = "RECENCY_TOPIC", default_value = "recency", value_parser = NonEmptyStringValueParser::new())]
    recency_topic: String,
    /// Topic of the frequency messages
    #[arg(long, value_name = "TOPIC", env = "FREQUENCY_TOPIC", default_value = "frequency", value_parser = NonEmptyStringValueParser::new())]
    frequency_topic: String,
    /// Topic of the monetary messages
    #[arg(long, value_name = "TOPIC", env = "MONETARY_TOPIC", default_value = "monetary", value_parser = NonEmptyStringValueParser::new())]
    monetary_topic: String,
    /// Any librdkafka property (TLS, SASL, …); repeatable [env: KAFKA_PROPERTIES=NAME=VALUE,NAME="A,B"]
    #[arg(long, value_name = "NAME=VALUE")]
    kafka_property: Vec<String>,
    /// The environment's twin of --kafka-property
    #[arg(long, hide = true, env = "KAFKA_PROPERTIES", hide_env_values = true, default_value = "")]
    kafka_properties: String,
    /// How log lines look (the variable RUST_LOG sets their level)
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = log_format())]
    log_format: LogFormat,
}

impl KafkaFlags {
    fn connection(&self) -> Result<Connection, Failure> {
        let topics = [&self.recency_topic, &self.frequency_topic, &self.monetary_topic].map(Clone::clone);
        let [recency, frequency, monetary] = &topics;
        if recency == frequency || frequency == monetary || monetary == recency {
            let error = anyhow!("two of the three topics have the same name: {}", topics.join(", "));
            return Err(Failure::configuration(error, None));
        }
        let wrong = |source: &'static str| {
            move |what: String| Failure::configuration(anyhow!(what).context(format!("in {source}")), None)
        };
        let mut properties = parse_properties(&self.kafka_properties).map_err(wrong("KAFKA_PROPERTIES"))?;
        for property in &self.kafka_property {
            // One property per flag, so that its commas need no quotes.
            let quoted = property.split_once('=').map(|(name, value)| {
                if value.contains(',') && !value.starts_with('"') {
                    format!("{name}=\"{value}\"")
                } else {
                    property.clone()
                }
            });
            let parsed = parse_properties(quoted.as_ref().unwrap_or(property));
            properties.extend(parsed.map_err(wrong("--kafka-property"))?);
        }
        Ok(Connection { bootstrap_servers: self.bootstrap_servers.clone(), topics, properties })
    }
}

/// A property that no client takes.
fn wrong_property(error: KafkaError) -> Failure {
    Failure::configuration(error, PROPERTY_HINT.to_owned())
}

/// Sends random customer snapshots to the three topics, each whole in a Kafka transaction
#[derive(Debug, Parser)]
#[command(name = "producer", version)]
pub struct ProducerFlags {
    #[command(flatten)]
    kafka: KafkaFlags,
    /// Pause between batches; 0 for none, and many batches per transaction
    #[arg(long, value_name = "TIME", env = "PRODUCE_INTERVAL", default_value = "60s", value_parser = duration)]
    interval: Duration,
    /// Customers per batch
    #[arg(long, value_name = "N", env = "PRODUCE_CUSTOMERS", default_value = "100",
          value_parser = clap::value_parser!(u32).range(1..))]
    customers: u32,
    /// Stop after this many batches [default: never]
    #[arg(long, value_name = "N", env = "PRODUCE_BATCHES")]
    batches: Option<u64>,
    /// Makes the values repeatable [default: random]
    #[arg(long, value_name = "N", env = "PRODUCE_SEED")]
    seed: Option<u64>,
    /// Partitions of topics that have to be created
    #[arg(long, value_name = "N", env = "PRODUCE_PARTITIONS", default_value = "3",
          value_parser = clap::value_parser!(u16).range(1..))]
    partitions: u16,
    /// A second producer with the same id ends the first
    #[arg(long, value_name = "ID", env = "PRODUCE_TRANSACTIONAL_ID", default_value = "rfm-producer", value_parser = NonEmptyStringValueParser::new())]
    transactional_id: String,
}

impl ProducerFlags {
    /// `--log-format`
    pub fn log_format(&self) -> LogFormat {
        self.kafka.log_format
    }

    /// The options of the producer.
    ///
    /// # Errors
    /// Names the flag that is wrong.
    pub fn options(&self) -> Result<producer::Options, Failure> {
        let kafka = self.kafka.connection()?;
        Sender::check(&kafka, &self.transactional_id).map_err(wrong_property)?;
        Cluster::check(&kafka).and_then(|()| Cluster::check_creating(&kafka)).map_err(wrong_property)?;
        Ok(producer::Options {
            kafka,
            interval: self.interval,
            customers: self.customers as usize,
            batches: self.batches,
            seed: self.seed,
            partitions: usize::from(self.partitions),
            transactional_id: self.transactional_id.clone(),
        })
    }
}

/// Pairs the messages of the three topics, scores them, and stores every snapshot exactly once
#[derive(Debug, Parser)]
#[command(name = "reader", version)]
pub struct ReaderFlags {
    #[command(flatten)]
    kafka: KafkaFlags,
    /// Where Postgres is: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Consumer group; a new one starts at the beginning of the topics
    #[arg(long, value_name = "ID", env = "KAFKA_GROUP_ID", default_value = "rfm-reader", value_parser = NonEmptyStringValueParser::new())]
    group_id: String,
    /// Two quintile edges are equal: equal values share a score, are told apart by row, or the batch is refused
    #[arg(long, env = "TIES", default_value = "share", value_parser = ties())]
    ties: Ties,
    /// File with own segments: a line per rule, pattern over the RF score, blank, name
    #[arg(long, value_name = "FILE", env = "SEGMENT_MAP")]
    segment_map: Option<PathBuf>,
    /// Larger batches are dead letters
    #[arg(long, value_name = "N", env = "MAX_CUSTOMERS", default_value = "10000000",
          value_parser = clap::value_parser!(i32).range(1..))]
    max_customers: i32,
    /// How long a message waits for its partners, once they could have been read
    #[arg(long, value_name = "TIME", env = "PAIRING_TIMEOUT", default_value = "20s", value_parser = duration)]
    pairing_timeout: Duration,
    /// Memory for messages that are read and not yet stored, like 256MiB; at least 64KiB
    #[arg(long, value_name = "SIZE", env = "BUFFER_BYTES", default_value = "256MiB")]
    buffer_bytes: ByteSize,
    /// Stop once everything is stored that was there at the start
    #[arg(long, env = "UNTIL_CAUGHT_UP")]
    until_caught_up: bool,
}

impl ReaderFlags {
    /// `--log-format`
    pub fn log_format(&self) -> LogFormat {
        self.kafka.log_format
    }

    /// The options of the reader; reads the segment map.
    ///
    /// # Errors
    /// Names the flag or the file that is wrong.
    pub fn options(&self) -> Result<reader::Options, Failure> {
        let database_url = self.database_url.clone().ok_or_else(|| {
            let hint = "give --database-url postgres://USER:PASSWORD@HOST:PORT/DATABASE, or set DATABASE_URL in \
                        the environment or in `.env`";
            Failure::configuration(anyhow!("no database: where shall the segments go?"), hint.to_owned())
        })?;
        // libpq would take what follows for the host's name, and show it.
        if has_raw_slash_in_password(&database_url) {
            let hint = "percent-encode it: %2F for /, %3F for ?, %23 for #".to_owned();
            return Err(Failure::configuration(
                anyhow!("the password in --database-url contains /, ? or #"),
                hint,
            ));
        }
        if self.buffer_bytes < LEAST_BUFFER {
            let error = anyhow!("--buffer-bytes {} is less than {LEAST_BUFFER}", self.buffer_bytes);
            return Err(Failure::configuration(error, None));
        }
        let kafka = self.kafka.connection()?;
        Consumer::check(&kafka).and_then(|()| Cluster::check(&kafka)).map_err(wrong_property)?;
        Ok(reader::Options {
            kafka,
            database_url,
            group_id: self.group_id.clone(),
            rules: Rules {
                ties: self.ties,
                segments: self.segments()?,
                max_customers: usize::try_from(self.max_customers).unwrap_or(usize::MAX),
            },
            pairing_timeout: self.pairing_timeout,
            buffer_bytes: usize::try_from(self.buffer_bytes.as_u64()).unwrap_or(usize::MAX),
            until_caught_up: self.until_caught_up,
        })
    }

    fn segments(&self) -> Result<SegmentMap, Failure> {
        let Some(path) = &self.segment_map else {
            return SegmentMap::built_in().map_err(|error| Failure::configuration(error, None));
        };
        let read = std::fs::read(path).context("cannot read it");
        let map = read.and_then(|bytes| SegmentMap::from_file(&bytes));
        map.with_context(|| format!("--segment-map `{}` is not usable", path.display())).map_err(|error| {
            let hint =
                "a line per rule: pattern over the two digits of the RF score, blank, name; # for comments";
            Failure::configuration(error, hint.to_owned())
        })
    }
}

/// Whether user or password of a URL hold a character that ends the part in which they stand.
fn has_raw_slash_in_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let credentials = rest.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    credentials.contains(['/', '?', '#']) && credentials.contains(':')
}

/// With less, the reader would pause and resume topics all the time.
const LEAST_BUFFER: ByteSize = ByteSize::kib(64);

fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"])
        .map(|name| if name == "json" { LogFormat::Json } else { LogFormat::Text })
}

fn ties() -> impl TypedValueParser<Value = Ties> {
    PossibleValuesParser::new(Ties::ALL.map(Ties::name)).try_map(|name| name.parse::<Ties>())
}

/// `60s`, `2min`, `500ms`; a bare number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}: give a time like 60s, 2min or 500ms"))
}

#[cfg(test)]
mod tests;
