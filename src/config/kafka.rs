//! The flags about Kafka, which both programs have.

use super::plain;
use super::values::log_format;
use crate::failure::Failure;
use crate::kafka::{Connection, parse_properties};
use crate::metric::PerMetric;
use crate::telemetry::LogFormat;
use anyhow::anyhow;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// Flags of both programs.
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
    /// Any librdkafka property (TLS, SASL, …); repeatable. A VALUE that starts with " ends at the next ", and
    /// "" in it means "; any other is taken as it is, in the variable up to its first comma
    /// [env: KAFKA_PROPERTIES=NAME=VALUE,NAME="A,B"]
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) kafka_property: Vec<String>,
    /// The variable for --kafka-property
    #[arg(long, hide = true, env = "KAFKA_PROPERTIES", hide_env_values = true, default_value = "")]
    kafka_properties: String,
    /// Format of log lines (the variable RUST_LOG sets the level)
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = log_format())]
    pub(super) log_format: LogFormat,
}

impl KafkaFlags {
    /// Brokers, topics and properties.
    ///
    /// # Errors
    /// A flag is wrong; the error names it.
    pub(super) fn connection(&self) -> Result<Connection, Failure> {
        let topics = PerMetric {
            recency: self.recency_topic.clone(),
            frequency: self.frequency_topic.clone(),
            monetary: self.monetary_topic.clone(),
        };
        let PerMetric { recency, frequency, monetary } = &topics;
        plain::topics(&topics)?;
        plain::brokers(&self.bootstrap_servers)?;
        if recency == frequency || frequency == monetary || monetary == recency {
            let error = anyhow!("two of the three topics have the same name: {}", topics);
            return Err(Failure::configuration(error, None));
        }
        let properties = self.properties()?;
        Ok(Connection { bootstrap_servers: self.bootstrap_servers.clone(), topics, properties })
    }

    /// The properties of the variable, then those of the flags.
    fn properties(&self) -> Result<Vec<(String, String)>, Failure> {
        let wrong = |source: &'static str| {
            move |what: String| {
                Failure::configuration(anyhow!(what).context(format!("{source} is wrong")), None)
            }
        };
        let mut properties = parse_properties(&self.kafka_properties).map_err(wrong("KAFKA_PROPERTIES"))?;
        for property in &self.kafka_property {
            properties.extend(parse_properties(&quoted(property)).map_err(wrong("--kafka-property"))?);
        }
        Ok(properties)
    }
}

/// A property of a flag in the notation of the variable. A flag holds one property, so its commas need no
/// quotes, and quotes inside the value need no doubling.
fn quoted(property: &str) -> String {
    match property.split_once('=') {
        Some((name, value)) if !value.starts_with('"') => {
            format!("{name}=\"{}\"", value.trim().replace('"', "\"\""))
        }
        _ => property.to_owned(),
    }
}
