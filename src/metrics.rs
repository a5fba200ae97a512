//! Metrics in the format of Prometheus. Only this file uses the crate `prometheus`; what is counted, and
//! when, is up to the two daemons. (`metric` is something else: recency, frequency and monetary.)
//!
//! **Reading them waits for nothing**: they are atomic numbers, and tables that the loop replaces.

pub use prometheus::{Error, Histogram, IntCounter, IntCounterVec, IntGauge};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, IntGaugeVec, Opts, TextEncoder};
use std::sync::{Arc, Mutex, PoisonError};

/// The media type of [`Registry::text`].
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// Times of single steps, in seconds: from a commit of one row to a statement that waits for a lock.
pub const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// All metrics of a program.
pub struct Registry {
    /// The metrics.
    metrics: prometheus::Registry,
    /// Whether the program does its work; set when the metrics are read.
    ready: IntGauge,
}

impl Registry {
    /// With the metrics that both programs have.
    ///
    /// # Errors
    /// A name is not one.
    pub fn new() -> Result<Self, Error> {
        let metrics = prometheus::Registry::new();
        let ready = IntGauge::new("rfm_ready", "1 if the program does its work, as /readyz says, else 0")?;
        metrics.register(Box::new(ready.clone()))?;
        let build = Opts::new("rfm_build_info", "1; the label is the version of the program");
        let build = IntGaugeVec::new(build, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register(Box::new(build))?;
        metrics.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self { metrics, ready })
    }

    /// A number that only grows.
    ///
    /// # Errors
    /// The name is none, or taken.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::new(name, help)?)
    }

    /// The same per value of a label. All `values` are there from the start, so that their first increase
    /// shows.
    ///
    /// # Errors
    /// The name is none, or taken.
    pub fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<IntCounterVec, Error> {
        let counters = self.add(IntCounterVec::new(Opts::new(name, help), &[label])?)?;
        values.into_iter().for_each(|value| drop(counters.with_label_values(&[value])));
        Ok(counters)
    }

    /// A number that grows and shrinks.
    ///
    /// # Errors
    /// The name is none, or taken.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::new(name, help)?)
    }

    /// Times in seconds, counted in `buckets`.
    ///
    /// # Errors
    /// The name is none, or taken.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    /// Numbers with labels that come and go together.
    ///
    /// # Errors
    /// The name is none, or taken.
    pub fn table<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Table<N>, Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        self.add(Table { rows: Arc::default(), gauges })
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// A metric cannot be written.
    pub fn text(&self, ready: bool) -> Result<String, Error> {
        self.ready.set(i64::from(ready));
        TextEncoder::new().encode_to_string(&self.metrics.gather())
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, Error> {
        self.metrics.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// The rows of a [`Table`]: their labels and numbers.
type Rows<const N: usize> = Vec<([String; N], i64)>;

/// Numbers whose labels come and go, as those of partitions do. They are replaced as a whole; clones share
/// them.
#[derive(Clone)]
pub struct Table<const N: usize> {
    /// The numbers.
    rows: Arc<Mutex<Rows<N>>>,
    /// How they are written.
    gauges: IntGaugeVec,
}

impl<const N: usize> Table<N> {
    /// Replaces all numbers.
    pub fn replace(&self, rows: Rows<N>) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// The sum of all numbers; `None` if there are none.
    pub fn sum(&self) -> Option<i64> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        (!rows.is_empty()).then(|| rows.iter().map(|(_, number)| number).sum())
    }
}

impl<const N: usize> Collector for Table<N> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauges.reset();
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (labels, number) in rows {
            self.gauges.with_label_values(&labels.each_ref().map(String::as_str)).set(number);
        }
        self.gauges.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_written_with_its_labels() {
        let registry = Registry::new().unwrap();
        let counters = registry.counters("rfm_x_total", "of tests", "why", ["a", "b"]).unwrap();
        counters.with_label_values(&["b"]).inc_by(3);
        let table = registry.table("rfm_lag", "of tests", ["topic"]).unwrap();
        table.replace(vec![(["gone".to_owned()], 1)]);
        registry.text(true).unwrap();
        assert_eq!(table.sum(), Some(1));
        table.replace(vec![(["there".to_owned()], 7)]);
        let text = registry.text(true).unwrap();
        for line in [r#"rfm_x_total{why="a"} 0"#, r#"rfm_x_total{why="b"} 3"#, r#"rfm_lag{topic="there"} 7"#]
        {
            assert!(text.lines().any(|written| written == line), "{line}: {text}");
        }
        assert!(!text.contains("gone"), "{text}");
        assert!(text.contains("\nrfm_ready 1\n") && text.contains("\nprocess_resident_memory_bytes "));
        assert!(text.contains(concat!("rfm_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")));
        assert!(registry.text(false).unwrap().contains("\nrfm_ready 0\n"));
        assert!(registry.counter("rfm_lag", "taken").is_err());
    }
}
