//! Whether a batch fits into what the client sends and the topics take: found out before it is sent.
//!
//! **The brokers' limit is for a message as it is sent**, so for a compressed one; the client's own limit is for the
//! message before that.

use crate::kafka::{Cluster, Connection, KafkaError, Limits, TopicSettings};
use crate::message::EncodedSnapshot;
use crate::metric::{Metric, PerMetric};
use std::fmt;
use std::time::Duration;

/// What a batch of records has beside the body and the key of its only message: heads and lengths. In bytes, at most.
pub const AROUND: u64 = 200;

/// The level that librdkafka compresses with where none is set.
const ZSTD_LEVEL: i32 = 3;

/// How long the brokers may take to tell their limits. (The embedded broker of the quick start never does.)
const ANSWER: Duration = Duration::from_secs(1);

/// The limits of the client and of the topics.
pub struct Fit {
    /// Brokers and topics.
    kafka: Connection,
    /// What the client sends.
    limits: Limits,
    /// `max.message.bytes` of each topic; `None`: the brokers do not tell this user.
    topics: PerMetric<Option<u64>>,
}

/// A message that is too large, and what would help.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Where it would go.
    topic: String,
    /// How many bytes it has, and how many of them reach the brokers.
    bytes: Bytes,
    /// How many customers there are.
    customers: usize,
    /// How many bytes are allowed.
    limit: u64,
    /// The setting that says so.
    setting: Setting,
}

/// The size of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes {
    /// As it is.
    plain: u64,
    /// Compressed with zstd.
    zstd: u64,
    /// Whether it is sent so.
    is_compressed: bool,
}

/// Which limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// A property of the client.
    Client(&'static str),
    /// `max.message.bytes` of the topic.
    Topic,
}

impl Fit {
    /// Asks the brokers for their limits.
    ///
    /// # Errors
    /// [`KafkaError::Property`]. A broker that does not answer soon is none: it judges what is sent itself.
    pub async fn ask(cluster: &Cluster, kafka: &Connection) -> Result<Self, KafkaError> {
        let limits = Limits::of(kafka)?;
        let asked = tokio::time::timeout(ANSWER, cluster.topic_settings()).await;
        let settings: Option<PerMetric<TopicSettings>> = asked.ok().and_then(Result::ok).flatten();
        let topics = settings.map(|settings| settings.map(|settings| settings.max_message_bytes));
        Ok(Self { kafka: kafka.clone(), limits, topics: topics.unwrap_or_default() })
    }

    /// Compares the messages of a batch with the limits.
    ///
    /// # Errors
    /// The first message that is too large.
    pub fn check(&self, batch: &EncodedSnapshot) -> Result<(), TooLarge> {
        Metric::ALL.into_iter().try_for_each(|metric| self.check_message(metric, batch))
    }

    fn check_message(&self, metric: Metric, batch: &EncodedSnapshot) -> Result<(), TooLarge> {
        let (body, around) = (&batch.bodies[metric], AROUND + batch.key.len() as u64);
        let plain = body.len() as u64 + around;
        let of_client = [
            (self.limits.message_bytes, "message.max.bytes"),
            (self.limits.queue_bytes, "queue.buffering.max.kbytes"),
        ];
        let of_client = of_client.into_iter().find(|(limit, _)| *limit < plain);
        let of_topic = self.topics[metric].filter(|limit| *limit < plain);
        let (limit, setting) = match (of_client, of_topic) {
            (None, None) => return Ok(()),
            (Some((limit, name)), _) => (limit, Setting::Client(name)),
            (None, Some(limit)) => (limit, Setting::Topic),
        };
        let codec = self.limits.codec.as_deref();
        // Of another codec the size is not known here. The brokers judge it.
        if setting == Setting::Topic && !matches!(codec, None | Some("zstd")) {
            return Ok(());
        }
        let level = self.limits.level.unwrap_or(ZSTD_LEVEL);
        let zstd = zstd::bulk::compress(body, level).map_or(plain, |body| body.len() as u64 + around);
        let is_compressed = codec == Some("zstd");
        if setting == Setting::Topic && is_compressed && zstd <= limit {
            return Ok(());
        }
        Err(TooLarge {
            topic: self.kafka.topic(metric).to_owned(),
            bytes: Bytes { plain, zstd, is_compressed },
            customers: batch.customers,
            limit,
            setting,
        })
    }
}

impl TooLarge {
    /// What to do about it; `fewer` is how to send fewer customers.
    pub fn hint(&self, fewer: &str) -> String {
        let Bytes { zstd, is_compressed, .. } = self.bytes;
        match self.setting {
            Setting::Client(name) => format!("raise {name} in --kafka-property, or {fewer}"),
            Setting::Topic if !is_compressed && zstd <= self.limit => {
                format!(
                    "give --kafka-property compression.type=zstd, raise max.message.bytes of the topics, or {fewer}"
                )
            }
            Setting::Topic => format!("raise max.message.bytes of the topics, or {fewer}"),
        }
    }

    /// How many customers fit, if the others are like these.
    fn fitting(&self) -> u64 {
        let Bytes { plain, zstd, is_compressed } = self.bytes;
        let sent = if is_compressed && self.setting == Setting::Topic { zstd } else { plain };
        let share = u128::from(self.customers as u64) * u128::from(self.limit.saturating_sub(AROUND));
        u64::try_from(share / u128::from(sent.max(1))).unwrap_or(u64::MAX)
    }
}

impl std::error::Error for TooLarge {}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, bytes: Bytes { plain, zstd, is_compressed }, customers, limit, setting } = self;
        write!(f, "the message on `{topic}` would have {plain} bytes for {customers} customers (")?;
        let of_compressed = if *is_compressed { "compressed" } else { "with zstd" };
        write!(f, "{zstd} {of_compressed}), and ")?;
        match setting {
            Setting::Client(name) => {
                write!(f, "this client sends {limit} at most before compression ({name})")?
            }
            Setting::Topic => write!(f, "the topic takes {limit} at most (max.message.bytes)")?,
        }
        write!(f, ": about {} customers fit", self.fitting())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Snapshot;

    fn fit(topic: Option<u64>, client: u64, codec: Option<&str>) -> Fit {
        let topics = PerMetric::from_fn(|metric| metric.name().to_owned());
        let kafka = Connection { bootstrap_servers: "nowhere:1".into(), topics, properties: Vec::new() };
        let codec = codec.map(str::to_owned);
        let limits =
            Limits { message_bytes: client, queue_bytes: u64::MAX, codec, level: None, transaction_ms: 1 };
        Fit { kafka, limits, topics: PerMetric::from_fn(|_| topic) }
    }

    fn batch(customers: usize) -> EncodedSnapshot {
        let columns = PerMetric::from_fn(|_| (0..customers).map(|i| (i % 365) as f64).collect());
        let customer_ids = None;
        Snapshot { key: "k".into(), as_of: None, population: None, customer_ids, columns }.encode().unwrap()
    }

    #[test]
    fn what_is_within_the_limits_or_judged_by_the_brokers_is_sent() {
        let batch = batch(10_000);
        for fit in [
            fit(None, u64::MAX, None),
            fit(Some(100_000), u64::MAX, None),
            fit(Some(50_000), u64::MAX, Some("zstd")),
            fit(Some(5), u64::MAX, Some("lz4")),
        ] {
            assert_eq!(fit.check(&batch), Ok(()));
        }
    }

    #[test]
    fn what_is_too_large_names_sizes_limits_and_what_would_help() {
        let said = |fit: Fit| {
            let error = fit.check(&batch(10_000)).unwrap_err();
            format!("{error}; {}", error.hint("send fewer"))
        };
        let topic = said(fit(Some(50_000), u64::MAX, None));
        for word in [
            "`recency`",
            "10000 customers",
            "takes 50000",
            "max.message.bytes",
            "with zstd",
            "compression.type=zstd",
        ] {
            assert!(topic.contains(word), "{topic}");
        }
        let client = said(fit(None, 30_000, Some("zstd")));
        assert!(
            client.contains("before compression (message.max.bytes)") && client.contains("raise"),
            "{client}"
        );
        assert!(said(fit(Some(300), u64::MAX, Some("zstd"))).ends_with("topics, or send fewer"));
    }

    #[test]
    fn so_many_customers_fit() {
        let limit = 30_000;
        let error = fit(Some(limit), u64::MAX, None).check(&batch(10_000)).unwrap_err();
        let fitting = usize::try_from(error.fitting()).unwrap();
        assert!((4_000..7_000).contains(&fitting), "{fitting}");
        assert_eq!(fit(Some(limit), u64::MAX, None).check(&batch(fitting * 9 / 10)), Ok(()));
    }
}
