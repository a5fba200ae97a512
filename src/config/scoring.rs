//! The flags about scores, and the files that they name.

use super::values::{customer_ids, ties};
use crate::failure::Failure;
use crate::reader::customer_ids::IdRule;
use crate::reader::edges::FixedEdges;
use crate::reader::quintile::Ties;
use crate::reader::score::Rules;
use crate::reader::segment::SegmentMap;
use anyhow::{Context, anyhow};
use clap::Args;
use std::path::{Path, PathBuf};

/// What decides how a batch is scored.
#[derive(Debug, Args)]
pub(super) struct ScoringFlags {
    /// If quintile edges are equal: equal values share a score, are ordered by row, or the batch is refused
    #[arg(long, env = "TIES", default_value = "share", value_parser = ties())]
    ties: Ties,
    /// File with fixed edges instead of quintiles; a line per metric: its name and four ascending numbers
    /// [default: quintiles]
    #[arg(long, value_name = "FILE", env = "EDGES")]
    edges: Option<PathBuf>,
    /// Stored batch whose edges are used instead of quintiles
    #[arg(long, value_name = "BATCH_ID", env = "EDGES_FROM", value_parser = clap::value_parser!(i64).range(1..))]
    edges_from: Option<i64>,
    /// Whether customers may lack an id or share one; batches that break the rule are dead letters
    #[arg(long, env = "CUSTOMER_IDS", default_value = "any", value_parser = customer_ids())]
    customer_ids: IdRule,
    /// File that replaces the segments; a rule per line: pattern over the RF score, blank, name
    #[arg(long, value_name = "FILE", env = "SEGMENT_MAP")]
    segment_map: Option<PathBuf>,
    /// Most customers of a batch; larger batches are dead letters
    #[arg(long, value_name = "N", env = "MAX_CUSTOMERS", default_value = "10000000",
          value_parser = clap::value_parser!(i32).range(1..))]
    max_customers: i32,
}

impl ScoringFlags {
    /// The rules, and the batch whose edges are to be theirs. Reads the files.
    ///
    /// # Errors
    /// A file cannot be used, or edges are given in two ways.
    pub(super) fn rules(&self) -> Result<(Rules, Option<i64>), Failure> {
        let rules = Rules {
            ties: self.ties,
            edges: self.edges()?,
            customer_ids: self.customer_ids,
            segments: self.segments()?,
            max_customers: usize::try_from(self.max_customers).unwrap_or(usize::MAX),
        };
        Ok((rules, self.edges_from))
    }

    fn edges(&self) -> Result<FixedEdges, Failure> {
        let Some(path) = &self.edges else { return Ok(FixedEdges::default()) };
        if self.edges_from.is_some() {
            let error = anyhow!("both --edges and --edges-from are given");
            let hint = "give one of them, or one of EDGES and EDGES_FROM".to_owned();
            return Err(Failure::configuration(error, hint));
        }
        let hint = "a line per metric: recency, frequency or monetary, and four ascending numbers; # starts a comment";
        parsed("--edges", path, FixedEdges::from_file, hint)
    }

    fn segments(&self) -> Result<SegmentMap, Failure> {
        let Some(path) = &self.segment_map else {
            return SegmentMap::built_in().map_err(|error| Failure::configuration(error, None));
        };
        let hint =
            "a rule per line: pattern over the two digits of the RF score, blank, name; # starts a comment";
        parsed("--segment-map", path, SegmentMap::from_file, hint)
    }
}

/// What a file of a flag says; `hint` is how it should be.
fn parsed<T>(
    flag: &str,
    path: &Path,
    parse: fn(&[u8]) -> anyhow::Result<T>,
    hint: &str,
) -> Result<T, Failure> {
    let read = std::fs::read(path).context("cannot read it");
    let parsed = read.and_then(|bytes| parse(&bytes));
    parsed
        .with_context(|| format!("{flag} `{}` is not usable", path.display()))
        .map_err(|error| Failure::configuration(error, hint.to_owned()))
}
