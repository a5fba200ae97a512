//! How much a message may have, as far as the producer's own client decides that.

use super::settings::{DEFAULTS, FIXED};
use crate::kafka::settings::Settings;
use crate::kafka::{Connection, KafkaError};

/// The limits of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `message.max.bytes`
    pub message_bytes: u64,
    /// `queue.buffering.max.kbytes`, in bytes.
    pub queue_bytes: u64,
    /// What messages are compressed with, so that the brokers see fewer bytes; `None`: nothing.
    pub codec: Option<String>,
    /// `compression.level`; `None`: the codec's own.
    pub level: Option<i32>,
    /// `transaction.timeout.ms`
    pub transaction_ms: i64,
}

impl Limits {
    /// Those of a producer with these properties. Connects to nobody.
    ///
    /// # Errors
    /// [`KafkaError::Property`].
    pub fn of(connection: &Connection) -> Result<Self, KafkaError> {
        let settings = Settings::of_client(&connection.client_config(&DEFAULTS, &FIXED))?;
        let number = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
        let codecs = ["topic.compression.codec", "compression.codec"].map(|name| settings.get(name));
        Ok(Self {
            message_bytes: number("message.max.bytes").unwrap_or(u64::MAX),
            queue_bytes: number("queue.buffering.max.kbytes").map_or(u64::MAX, |kbytes| kbytes * 1024),
            codec: codecs
                .into_iter()
                .flatten()
                .find(|codec| *codec != "none" && *codec != "inherit")
                .map(Into::into),
            level: settings
                .get("compression.level")
                .and_then(|level| level.parse().ok())
                .filter(|level| *level >= 0),
            transaction_ms: number("transaction.timeout.ms")
                .and_then(|ms| i64::try_from(ms).ok())
                .unwrap_or(60_000),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::PerMetric;

    fn limits(properties: &[(&str, &str)]) -> Limits {
        let topics = PerMetric::from_fn(|metric| metric.name().to_owned());
        let properties = properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Limits::of(&Connection { bootstrap_servers: "nowhere:1".into(), topics, properties }).unwrap()
    }

    #[test]
    fn the_limits_of_a_client_are_those_of_its_properties() {
        let usual = limits(&[]);
        let expected = (1_000_000_000, 1_048_576 * 1024, None, 60_000);
        assert_eq!((usual.message_bytes, usual.queue_bytes, usual.codec, usual.transaction_ms), expected);
        assert_eq!(limits(&[("message.max.bytes", "5000")]).message_bytes, 5000);
        assert_eq!(limits(&[("compression.type", "zstd")]).codec.as_deref(), Some("zstd"));
        assert_eq!(limits(&[("transaction.timeout.ms", "90000")]).transaction_ms, 90_000);
    }
}
