//! Fixed edges: what columns are cut at under `--edges` and `--edges-from`, so that shares compare over time.
//!
//! Owns the format of the file, which edges of a stored batch can be used again, and their name in
//! `batches.edges_from`. Does not own the cut itself (`quintile`). Pure: `config` reads the file, and the store
//! the batch.

use crate::metric::{Metric, PerMetric};
use anyhow::{Context, anyhow, bail};
use sha2::{Digest, Sha256};

/// The edges between the five groups of a column: the inner four of six.
pub type Inner = [f64; 4];

/// The metrics that have fixed edges, and these. A metric without any is cut by quintiles.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedEdges {
    /// Four ascending numbers each, of which two may be equal only if they are those of a batch.
    inner: PerMetric<Option<Inner>>,
    /// See [`FixedEdges::identity`].
    identity: String,
    /// Whether they are from a file.
    are_of_file: bool,
}

/// No metric has fixed edges; the identity is `quintiles`.
impl Default for FixedEdges {
    fn default() -> Self {
        Self { inner: PerMetric::default(), identity: "quintiles".into(), are_of_file: false }
    }
}

impl FixedEdges {
    /// Edges from the bytes of a file. Each line names a metric and four ascending numbers, with blanks between
    /// them. `#` starts a comment. A byte order mark and the line ends of Windows are ignored. The identity is
    /// the SHA-256 of the bytes.
    ///
    /// # Errors
    /// Names the line that is wrong, and how it should be.
    pub fn from_file(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("the edges are not UTF-8")?;
        let mut lines: PerMetric<Option<usize>> = PerMetric::default();
        let mut inner = PerMetric::default();
        for (number, line) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
            let words = line.split_once('#').map_or(line, |(edges, _comment)| edges);
            let found = edges_of_line(words).map_err(|why| anyhow!("line {number}: {why}"))?;
            let Some((metric, edges)) = found else { continue };
            if let Some(first) = lines[metric].replace(number) {
                bail!("line {number}: {metric} has its edges in line {first} already");
            }
            inner[metric] = Some(edges);
        }
        if inner.values().all(Option::is_none) {
            bail!("no line names a metric and its edges");
        }
        let identity = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { inner, identity, are_of_file: true })
    }

    /// The inner edges of the batch `id`, as `batches` has its six of each metric. The outer two are its least and
    /// greatest value, which are no matter here. **Inner edges may be equal**: where many customers share a value,
    /// quintiles collapse, and stay collapsed under these edges.
    ///
    /// # Errors
    /// Which column cannot be used, and why.
    pub fn of_batch(id: i64, columns: PerMetric<Option<Vec<f64>>>) -> Result<Self, String> {
        let inner = PerMetric::try_from_fn(|metric| {
            let wrong = |what: &str| format!("`{metric}_edges` of batch {id} {what}");
            let column = columns[metric].as_deref().ok_or_else(|| wrong("is null"))?;
            let [_, inner @ .., _] =
                *<&[f64; 6]>::try_from(column).map_err(|_| wrong("has not six edges"))?;
            if !inner.iter().all(|edge| edge.is_finite()) || !inner.is_sorted() {
                return Err(wrong("does not ascend"));
            }
            Ok(Some(inner.map(positive_zero)))
        })?;
        Ok(Self { inner, identity: format!("batch:{id}"), are_of_file: false })
    }

    /// The value of `batches.edges_from`: `quintiles`, the SHA-256 of a file, or `batch:ID`.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The value of `batches.fixed_metrics`: the metrics that a file names; `None` without a file.
    pub fn named_by_file(&self) -> Option<Vec<&'static str>> {
        let named = Metric::ALL.into_iter().filter(|&metric| self.inner[metric].is_some());
        self.are_of_file.then(|| named.map(Metric::name).collect())
    }

    /// The fixed edges of a metric; `None`: it is cut by quintiles.
    pub fn of(&self, metric: Metric) -> Option<Inner> {
        self.inner[metric]
    }
}

/// The metric of a line and its edges; `None` if nothing stands in it.
fn edges_of_line(line: &str) -> Result<Option<(Metric, Inner)>, String> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let Some(metric) = Metric::ALL.into_iter().find(|metric| metric.name() == name) else {
        return Err(format!("`{}` is none of recency, frequency and monetary", shown(name)));
    };
    let numbers: Vec<f64> = words.map(number).collect::<Result<_, _>>()?;
    let Ok(edges) = Inner::try_from(&numbers[..]) else {
        return Err(format!("{metric} needs four edges, and has {}", numbers.len()));
    };
    if let Some(pair) = edges.windows(2).find(|pair| pair[0] >= pair[1]) {
        let [lower, upper] = [pair[0], pair[1]];
        return Err(format!("the edges of {metric} must ascend, and {upper} does not lie above {lower}"));
    }
    Ok(Some((metric, edges)))
}

fn number(word: &str) -> Result<f64, String> {
    let parsed = word.parse().ok().filter(|number: &f64| number.is_finite());
    parsed.map(positive_zero).ok_or_else(|| format!("`{}` is not a finite number", shown(word)))
}

/// They are equal, but print differently.
fn positive_zero(x: f64) -> f64 {
    x + 0.0
}

/// The beginning of a word, which may be anything.
fn shown(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_fixes_the_metrics_that_it_names() {
        let edges =
            FixedEdges::from_file(b"# ours\nfrequency 1 2.5 3e1 1e3 # orders\n\n recency\t-7 0 30 90\n");
        let edges = edges.unwrap();
        assert_eq!(edges.of(Metric::Frequency), Some([1.0, 2.5, 30.0, 1000.0]));
        assert_eq!(edges.of(Metric::Recency), Some([-7.0, 0.0, 30.0, 90.0]));
        assert_eq!(edges.of(Metric::Monetary), None);
        assert_eq!(edges.named_by_file(), Some(vec!["recency", "frequency"]));
        assert_eq!(edges.identity().len(), 64);
        let none = FixedEdges::default();
        assert_eq!((none.identity(), none.named_by_file()), ("quintiles", None));
    }

    #[test]
    fn a_byte_order_mark_and_the_line_ends_of_windows_are_read_over() {
        let plain = "recency 7 30 90 365\n# f\nfrequency 1 2 3 5\n";
        let windows = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
        let [plain, windows] = [plain, &windows].map(|text| FixedEdges::from_file(text.as_bytes()).unwrap());
        assert_eq!(plain.inner, windows.inner);
        assert_ne!(plain.identity(), windows.identity(), "the identity is that of the bytes");
    }

    #[test]
    fn an_edge_is_never_a_negative_zero() {
        let edges = FixedEdges::from_file(b"monetary -0 1 2 3").unwrap().of(Metric::Monetary).unwrap();
        assert!(edges[0].is_sign_positive());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        let cases: [(&[u8], &str); 13] = [
            (b"", "no line names a metric"),
            (b"# recency 1 2 3 4\n", "no line names a metric"),
            (b"\xff", "not UTF-8"),
            (b"\nRecency 1 2 3 4\n", "line 2: `Recency` is none of recency, frequency and monetary"),
            (b"recency 1 2 3\n", "line 1: recency needs four edges, and has 3"),
            (b"recency\n", "line 1: recency needs four edges, and has 0"),
            (b"recency 0 1 2 3 4 5\n", "line 1: recency needs four edges, and has 6"),
            (b"recency 1 2 3 nan\n", "line 1: `nan` is not a finite number"),
            (b"recency 1 2 3 1e999\n", "line 1: `1e999` is not a finite number"),
            (b"recency 1, 2, 3, 4\n", "line 1: `1,` is not a finite number"),
            (b"recency 1 2 2 4\n", "line 1: the edges of recency must ascend, and 2 does not lie above 2"),
            (
                b"recency 90 30 7 1\n",
                "line 1: the edges of recency must ascend, and 30 does not lie above 90",
            ),
            (b"recency 1 2 3 4\n#\nrecency 1 2 3 5\n", "line 3: recency has its edges in line 1 already"),
        ];
        for (file, message) in cases {
            let error = format!("{:#}", FixedEdges::from_file(file).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_inner_edges_of_a_batch_count_even_where_quintiles_collapsed() {
        let six = |edges: [f64; 6]| Some(edges.to_vec());
        let columns =
            [six([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), six([1.0; 6]), six([9.0, 1.0, 2.0, 3.0, 4.0, 0.0])];
        let edges = FixedEdges::of_batch(17, columns.into()).unwrap();
        assert_eq!(edges.of(Metric::Recency), Some([2.0, 3.0, 4.0, 5.0]));
        assert_eq!(edges.of(Metric::Frequency), Some([1.0; 4]));
        // Those of a batch that was itself cut at fixed edges: its values need not lie around them.
        assert_eq!(edges.of(Metric::Monetary), Some([1.0, 2.0, 3.0, 4.0]));
        assert_eq!((edges.identity(), edges.named_by_file()), ("batch:17", None));
    }

    #[test]
    fn edges_of_a_batch_that_cannot_be_used_name_the_column() {
        let good = || Some(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        for (bad, why) in [
            (None, "`monetary_edges` of batch 3 is null"),
            (Some(vec![1.0, 2.0]), "`monetary_edges` of batch 3 has not six edges"),
            (Some(vec![1.0, 2.0, 4.0, 3.0, 5.0, 6.0]), "`monetary_edges` of batch 3 does not ascend"),
            (Some(vec![1.0, 2.0, f64::NAN, 3.0, 5.0, 6.0]), "`monetary_edges` of batch 3 does not ascend"),
        ] {
            let columns = PerMetric { recency: good(), frequency: good(), monetary: bad };
            assert_eq!(FixedEdges::of_batch(3, columns).unwrap_err(), why);
        }
    }
}
