//! What a producer shows of itself over `--http`: whether it can send, and what it has sent.

use super::Options;
use super::source::orders::Counters;
use crate::failure::Failure;
use crate::health::{Health, Obstacle};
use crate::http;
use crate::kafka::{Cluster, KafkaError};
use crate::message::EncodedSnapshot;
use crate::metrics::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, SECONDS};
use chrono::Utc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the brokers are asked for the topics, and how often to look whether they have answered.
const ASK_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Silence after which the producer does not count as ready. A question that is answered takes milliseconds.
const UNREADY_AFTER: Duration = Duration::from_millis(900);

/// See the module.
pub(super) struct Vitals {
    /// Whether the producer can send.
    pub(super) health: Arc<Health>,
    /// What it has sent.
    metrics: Metrics,
}

/// The numbers. **They count what an answer has confirmed.**
struct Metrics {
    /// Batches in transactions that were committed.
    batches: IntCounter,
    /// Their customers.
    customers: IntCounter,
    /// Transactions, by result.
    transactions: IntCounterVec,
    /// How long those took that were committed.
    seconds: Histogram,
    /// When the last one was committed.
    last_sent: IntGauge,
    /// What was read to make them.
    orders: Counters,
}

impl Vitals {
    /// Those of a producer that starts. With `--http`, begins to show them.
    ///
    /// # Errors
    /// `--http` cannot be used.
    pub(super) fn start(options: &Options) -> Result<Self, Failure> {
        let failed = |error: Error| Failure::at_work(error, None);
        let registry = Registry::new().map_err(failed)?;
        let metrics = Metrics::new(&registry).map_err(failed)?;
        let health = Arc::new(Health::starting());
        if let Some(address) = &options.http {
            http::start(address, Arc::clone(&health), registry, None)?;
            tokio::spawn(Arc::clone(&health).go_round());
        }
        Ok(Self { health, metrics })
    }

    /// The topics are there, and the transactional id is opened. With `--http`, goes on to ask for the topics:
    /// an idle producer would not notice an outage before its next batch.
    pub(super) fn opened(&self, cluster: Arc<Cluster>, options: &Options) {
        self.health.set(Obstacle::Assignment, None);
        self.health.set(Obstacle::Connections, None);
        self.health.set(Obstacle::Session, None);
        if options.http.is_some() {
            tokio::spawn(watch_silence(Arc::clone(&cluster), Arc::clone(&self.health)));
            tokio::spawn(watch_topics(cluster, Arc::clone(&self.health)));
        }
    }

    /// What counts the orders that are read.
    pub(super) fn orders(&self) -> Counters {
        self.metrics.orders.clone()
    }

    /// It waits for the topics.
    pub(super) fn awaits_topics(&self, what: &str) {
        self.health.set(Obstacle::Assignment, Some(what.to_owned()));
    }

    /// Something does not get through.
    pub(super) fn is_held_up(&self, what: &str) {
        self.health.set(Obstacle::Connections, Some(what.to_owned()));
    }

    /// A transaction was aborted.
    pub(super) fn aborted(&self) {
        self.metrics.transactions.with_label_values(&["aborted"]).inc();
    }

    /// A transaction with these batches was committed.
    pub(super) fn committed(&self, batches: &[EncodedSnapshot], took: Duration) {
        self.health.set(Obstacle::Connections, None);
        let metrics = &self.metrics;
        metrics.transactions.with_label_values(&["committed"]).inc();
        metrics.batches.inc_by(batches.len() as u64);
        metrics.customers.inc_by(batches.iter().map(|batch| batch.customers as u64).sum());
        metrics.seconds.observe(took.as_secs_f64());
        metrics.last_sent.set(Utc::now().timestamp());
    }
}

/// Notes that the brokers do not answer, for as long as they do not.
async fn watch_silence(cluster: Arc<Cluster>, health: Arc<Health>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let unanswered = cluster.unanswered().filter(|(_, lasted)| *lasted >= UNREADY_AFTER);
        let what = unanswered.map(|(question, _)| {
            let waits_for = question.map(|what| format!(": waiting for {what}")).unwrap_or_default();
            cluster.with_trouble(format!("kafka has not answered{waits_for}"))
        });
        health.set(Obstacle::Brokers, what);
    }
}

/// Asks for the topics again and again.
async fn watch_topics(cluster: Arc<Cluster>, health: Arc<Health>) {
    loop {
        let (asked, begun) = (Arc::clone(&cluster), Instant::now());
        let topics = tokio::task::spawn_blocking(move || asked.topic_partitions()).await;
        match topics {
            Ok(Ok(topics)) if topics.equal().is_some() => health.set(Obstacle::Assignment, None),
            Ok(Ok(topics)) => {
                let what = format!("the topics are missing or have unequal partition counts: {topics}");
                health.set(Obstacle::Assignment, Some(what));
            }
            Ok(Err(error @ KafkaError::Refused { .. })) => {
                health.set(Obstacle::Assignment, Some(error.to_string()));
            }
            // `watch_silence` notices.
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(ASK_EVERY.saturating_sub(begun.elapsed())).await;
    }
}

impl Metrics {
    fn new(registry: &Registry) -> Result<Self, Error> {
        let orders = Counters {
            read: registry.counter("rfm_orders_read_total", "Orders read")?,
            left_out: registry.counters(
                "rfm_orders_left_out_total",
                "Orders and customers left out, by reason",
                "why",
                Counters::REASONS,
            )?,
        };
        Ok(Self {
            orders,
            batches: registry
                .counter("rfm_batches_sent_total", "Batches in transactions that were committed")?,
            customers: registry.counter("rfm_customers_sent_total", "Customers of these batches")?,
            transactions: registry.counters(
                "rfm_transactions_total",
                "Transactions, by result",
                "result",
                ["committed", "aborted"],
            )?,
            seconds: registry.histogram(
                "rfm_transaction_seconds",
                "From the beginning of a transaction to the answer to its commit",
                &SECONDS,
            )?,
            last_sent: registry.gauge(
                "rfm_last_sent_timestamp_seconds",
                "When a transaction was last committed, in seconds since 1970; 0 before the first",
            )?,
        })
    }
}
