//! What a reader shows of itself over `--http`: whether it works, and what it has done. It outlives every
//! session.

mod rate;

use super::Options;
use crate::failure::Failure;
use crate::health::{Health, Obstacle};
use crate::message::{Problem, Reason};
use crate::metrics::{Error, Histogram, IntCounter, IntCounterVec, IntGauge, Registry, SECONDS, Table};
use chrono::{DateTime, Utc};
use rate::Rate;
use std::sync::Arc;
use std::time::Duration;

/// From a message to its row, in seconds: from a few milliseconds to a backlog of hours.
const LATENCY_SECONDS: [f64; 16] =
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0];

/// See the module.
pub struct Vitals {
    /// Whether the reader works.
    pub health: Arc<Health>,
    /// What it has done.
    metrics: Metrics,
    /// How many customers it stores just now.
    rate: Rate,
}

/// The numbers. **They count what an answer has confirmed**: a commit whose answer was lost may be in the
/// tables, and is not counted.
struct Metrics {
    /// Batches stored.
    batches: IntCounter,
    /// Rows of `segments` stored.
    customers: IntCounter,
    /// Dead letters stored, by reason.
    dead_letters: IntCounterVec,
    /// Transactions.
    commits: IntCounter,
    /// How long they took.
    commit_seconds: Histogram,
    /// From the newest message of a batch to its commit.
    latency: Histogram,
    /// Messages not stored yet.
    lag: Table<2>,
    /// Bytes read and not stored yet.
    buffer: IntGauge,
    /// Partitions held.
    partitions: IntGauge,
    /// Sessions that had been open and ended early, by cause.
    sessions_ended: IntCounterVec,
    /// When something was last stored.
    last_commit: IntGauge,
}

/// What a commit has added, for [`Vitals::stored`].
pub struct Stored<'a> {
    /// Batches.
    pub batches: usize,
    /// Rows.
    pub customers: usize,
    /// Why each dead letter was refused.
    pub refused: &'a mut dyn Iterator<Item = &'a Problem>,
    /// How long the transaction took.
    pub took: Duration,
    /// Per batch whose messages have times: from the newest of them to the commit.
    pub latencies: &'a [Duration],
}

/// What a session holds, for [`Vitals::holds`].
#[derive(Default)]
pub struct Backlog {
    /// Topic, partition, and messages not stored yet.
    pub lag: Vec<(String, i32, i64)>,
    /// Bytes read and not stored yet.
    pub buffered: usize,
    /// Partitions.
    pub partitions: usize,
}

/// What the reader has done since it started, and what it has still to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Batches stored.
    pub batches: u64,
    /// Customers stored.
    pub customers: u64,
    /// Customers stored per second, over the last ten.
    pub rate: f64,
    /// Messages not stored yet; `None` before that is known, or if no partition is held.
    pub lag: Option<i64>,
    /// Partitions held.
    pub partitions: i64,
    /// When a transaction last succeeded.
    pub last_commit: Option<DateTime<Utc>>,
    /// Dead letters by reason, of those reasons that have any.
    pub dead_letters: Vec<(&'static str, u64)>,
}

impl Vitals {
    /// Those of a reader that starts, and the metrics to show. Sessions end for these `causes`.
    ///
    /// # Errors
    /// None in a build whose tests pass.
    pub fn starting(options: &Options, causes: &[&'static str]) -> Result<(Arc<Self>, Registry), Failure> {
        let failed = |error: Error| Failure::at_work(error, None);
        let registry = Registry::new().map_err(failed)?;
        let metrics = Metrics::new(&registry, options.buffer_bytes, causes).map_err(failed)?;
        let vitals = Self { health: Arc::new(Health::starting()), metrics, rate: Rate::default() };
        Ok((Arc::new(vitals), registry))
    }

    /// What the reader has done. **It waits for nothing.**
    pub fn figures(&self) -> Figures {
        let metrics = &self.metrics;
        let letters = Reason::ALL.map(Reason::name);
        let letters = letters.map(|name| (name, metrics.dead_letters.with_label_values(&[name]).get()));
        let last_commit = metrics.last_commit.get();
        Figures {
            batches: metrics.batches.get(),
            customers: metrics.customers.get(),
            rate: self.rate.per_second(),
            lag: metrics.lag.sum(),
            partitions: metrics.partitions.get(),
            last_commit: (last_commit > 0).then(|| DateTime::from_timestamp(last_commit, 0)).flatten(),
            dead_letters: letters.into_iter().filter(|&(_, count)| count > 0).collect(),
        }
    }

    /// How many batches and customers the process has stored.
    pub fn totals(&self) -> (u64, u64) {
        (self.metrics.batches.get(), self.metrics.customers.get())
    }

    /// A session has ended early, for this cause.
    pub fn session_ended(&self, cause: &'static str) {
        self.metrics.sessions_ended.with_label_values(&[cause]).inc();
        self.holds(Backlog::default());
    }

    /// There is to be another session, for the reason of the sentence. Unless the reader only joins the group
    /// again, **that it gets as far as before does not show that it can store**.
    pub fn start_over(&self, sentence: String, only_joins: bool) {
        if !only_joins {
            self.health.doubt(&sentence);
        }
        self.health.start_over(sentence);
    }

    /// The reader stores again, or could.
    pub fn is_sound(&self) {
        self.health.set(Obstacle::Doubt, None);
    }

    /// A session has its connections, and waits for the group.
    pub fn session_opened(&self) {
        let what = "waiting for the group to assign partitions".to_owned();
        self.health.set(Obstacle::Assignment, Some(what));
        self.health.set(Obstacle::Session, None);
    }

    /// A commit has succeeded.
    pub fn stored(&self, stored: Stored<'_>) {
        let metrics = &self.metrics;
        let mut keeps = stored.batches > 0;
        metrics.commits.inc();
        metrics.commit_seconds.observe(stored.took.as_secs_f64());
        metrics.last_commit.set(Utc::now().timestamp());
        metrics.batches.inc_by(stored.batches as u64);
        metrics.customers.inc_by(stored.customers as u64);
        self.rate.add(stored.customers as u64);
        stored.refused.for_each(|problem| {
            metrics.dead_letters.with_label_values(&[problem.reason.name()]).inc();
            keeps = true;
        });
        // Progress alone does not need the tables that may be locked.
        if keeps {
            self.is_sound();
        }
        stored.latencies.iter().for_each(|latency| metrics.latency.observe(latency.as_secs_f64()));
    }

    /// What the session holds now.
    pub fn holds(&self, backlog: Backlog) {
        let row = |(topic, partition, lag): (String, i32, i64)| ([topic, partition.to_string()], lag);
        self.metrics.lag.replace(backlog.lag.into_iter().map(row).collect());
        self.metrics.buffer.set(backlog.buffered as i64);
        self.metrics.partitions.set(backlog.partitions as i64);
    }
}

impl Metrics {
    fn new(registry: &Registry, buffer_limit: usize, causes: &[&'static str]) -> Result<Self, Error> {
        let reasons = Reason::ALL.map(Reason::name);
        let limit = registry.gauge("rfm_buffer_limit_bytes", "--buffer-bytes")?;
        limit.set(i64::try_from(buffer_limit).unwrap_or(i64::MAX));
        Ok(Self {
            batches: registry.counter("rfm_batches_stored_total", "Batches stored")?,
            customers: registry
                .counter("rfm_customers_stored_total", "Customers (rows of segments) stored")?,
            dead_letters: registry.counters(
                "rfm_dead_letters_total",
                "Messages kept in dead_letters, by reason",
                "reason",
                reasons,
            )?,
            commits: registry
                .counter("rfm_commits_total", "Transactions of the reader, also those of progress alone")?,
            commit_seconds: registry.histogram(
                "rfm_commit_seconds",
                "From the beginning of a transaction to the answer to COMMIT",
                &SECONDS,
            )?,
            latency: registry.histogram(
                "rfm_batch_latency_seconds",
                "From the newest of the three message times of a batch to its commit",
                &LATENCY_SECONDS,
            )?,
            lag: registry.table(
                "rfm_lag_messages",
                "Messages of a partition held that are not stored yet, as of about a second ago",
                ["topic", "partition"],
            )?,
            buffer: registry.gauge("rfm_buffer_bytes", "Bytes of messages read and not stored yet")?,
            partitions: registry.gauge("rfm_partitions_held", "Partitions that this reader holds")?,
            sessions_ended: registry.counters(
                "rfm_sessions_ended_total",
                "Sessions that had their connections and were ended by an error, by cause",
                "cause",
                causes.iter().copied(),
            )?,
            last_commit: registry.gauge(
                "rfm_last_commit_timestamp_seconds",
                "When a transaction last succeeded, in seconds since 1970; 0 before the first",
            )?,
        })
    }
}
