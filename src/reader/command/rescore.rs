//! `reader rescore`: scores dead letters again under today's flags, and stores what can be stored.
//!
//! **One transaction per batch** stores it and takes its three letters away. So a command that dies leaves
//! each batch either stored or refused, and the next one goes on.

use super::grouping::{Grouped, group};
use super::{Ended, carry_out};
use crate::failpoint;
use crate::failure::Failure;
use crate::kafka::{Cluster, Right};
use crate::message::Reason;
use crate::metric::PerMetric;
use crate::reader::Options;
use crate::reader::pairing::{Batch, DeadLetter};
use crate::reader::score::{Rules, score};
use crate::reader::session::SessionError;
use crate::reader::session::owner::Owner;
use crate::reader::store::{Letter, Store};
use crate::shutdown::Shutdown;
use crate::telemetry::Progress;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to score again.
#[derive(Clone, Debug)]
pub struct Rescoring {
    /// `--reason`; empty: all.
    pub reasons: Vec<Reason>,
    /// `--dry-run`
    pub dry_run: bool,
}

/// What became of three letters.
enum Outcome {
    /// They are stored as a batch.
    Stored {
        /// The batch's id; `None` in a dry run.
        id: Option<i64>,
        /// Its customers.
        customers: usize,
    },
    /// They are refused again.
    Refused(Reason),
    /// Somebody else took them meanwhile.
    Gone,
}

/// How many of each there are.
#[derive(Debug, Default)]
struct Tally {
    /// Batches stored.
    stored: usize,
    /// Their rows.
    customers: usize,
    /// Batches refused again, by reason.
    refused: BTreeMap<&'static str, usize>,
    /// Batches that somebody else took meanwhile.
    gone: usize,
    /// Letters without partners.
    alone: usize,
}

/// Scores dead letters again until all were tried once.
///
/// # Errors
/// Postgres fails, the brokers do not say how many partitions there are, or `shutdown` is requested before all
/// were tried.
pub async fn rescore(options: Options, what: Rescoring, shutdown: Shutdown) -> Result<(), Failure> {
    let rights = &[("dead_letters", "UPDATE, DELETE")];
    carry_out(&options, rights, &shutdown, async |owner| run(owner, &options, what, &shutdown).await).await
}

async fn run(
    owner: &mut Owner,
    options: &Options,
    what: Rescoring,
    shutdown: &Shutdown,
) -> Result<Ended, SessionError> {
    let Rescoring { mut reasons, dry_run } = what;
    if reasons.is_empty() {
        reasons = Reason::ALL.to_vec();
    }
    let (rules, edges_from) = (options.rules.clone(), options.edges_from);
    let rules = Arc::new(owner.run(move |store| Ok(store.with_edges(&rules, edges_from)?)).await?);
    if !dry_run {
        let rules = Arc::clone(&rules);
        owner.run(move |store| Ok(store.keep_segment_map(&rules.segments)?)).await?;
    }
    let (mut tally, mut single) = (Tally::default(), None);
    for partition in owner.run(|store| Ok(store.partitions_with_letters()?)).await? {
        let wanted = reasons.clone();
        let letters = owner.run(move |store| Ok(store.letters(partition, &wanted)?)).await?;
        let is_single = is_single(options, owner, &letters, &mut single).await?;
        let Grouped { batches, alone } = group(letters, is_single, options.pairing_timeout);
        tally.alone += alone;
        let (progress, mut left) = (Progress::begin(Some(batches.len() as u64), "batches"), batches.len());
        for letters in batches {
            if shutdown.is_requested() {
                report(&tally, dry_run);
                return Ok(Ended::Stopped);
            }
            let rules = Arc::clone(&rules);
            let outcome = owner.run(move |store| try_again(store, &rules, letters, dry_run)).await?;
            failpoint::reach("after_commit");
            tally.add(outcome, partition);
            left -= 1;
            progress.left(Some(left as u64));
        }
    }
    report(&tally, dry_run);
    Ok(Ended::Done)
}

/// Whether the topics have one partition. The brokers are asked only if a letter has no key, and once.
async fn is_single(
    options: &Options,
    owner: &mut Owner,
    letters: &[Letter],
    known: &mut Option<bool>,
) -> Result<bool, SessionError> {
    if let Some(known) = *known {
        return Ok(known);
    }
    if letters.iter().all(|letter| letter.message.key.is_some()) {
        return Ok(false);
    }
    let cluster = Cluster::new(&options.kafka, Right::Read)?;
    let topics = owner.run(move |_| Ok(cluster.topic_partitions()?)).await?;
    Ok(*known.insert(topics.equal() == Some(1)))
}

/// Scores the batch of three letters, and keeps what comes of it.
fn try_again(
    store: &mut Store,
    rules: &Rules,
    letters: PerMetric<Letter>,
    dry_run: bool,
) -> Result<Outcome, SessionError> {
    let (ids, first) =
        (letters.as_ref().map(|letter| letter.id).into_array(), letters.recency.message.offset);
    let Some(messages) = store.with_bodies(letters)? else { return Ok(Outcome::Gone) };
    match score(rules, Batch { messages }) {
        Ok(scored) => {
            let customers = scored.customers();
            if dry_run {
                return Ok(Outcome::Stored { id: None, customers });
            }
            let stored = store.store_letters(rules, &scored, ids)?;
            Ok(stored.map_or(Outcome::Gone, |id| Outcome::Stored { id: Some(id), customers }))
        }
        Err(refused) => {
            let Some(DeadLetter { problem, .. }) = refused.into_iter().next() else {
                return Ok(Outcome::Gone);
            };
            if !dry_run {
                store.refuse_again(ids, &problem, first)?;
            }
            Ok(Outcome::Refused(problem.reason))
        }
    }
}

impl Tally {
    /// Counts an outcome, and logs what was stored.
    fn add(&mut self, outcome: Outcome, partition: i32) {
        match outcome {
            Outcome::Stored { id, customers } => {
                self.stored += 1;
                self.customers += customers;
                if let Some(batch) = id {
                    tracing::info!(batch, partition, customers, "stored dead letters");
                }
            }
            Outcome::Refused(reason) => *self.refused.entry(reason.name()).or_default() += 3,
            Outcome::Gone => self.gone += 3,
        }
    }

    /// `malformed 3, tied_edges 6`
    fn reasons(&self) -> String {
        let each = self.refused.iter().map(|(reason, count)| format!("{reason} {count}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Says how many of each there are.
fn report(tally: &Tally, dry_run: bool) {
    let Tally { stored, customers, refused, gone, alone } = tally;
    let refused_again: usize = refused.values().sum();
    tracing::info!(
        batches = stored,
        customers,
        letters = 3 * stored,
        refused_again,
        reasons = tally.reasons(),
        alone,
        gone,
        "{}",
        if dry_run { "would rescore" } else { "rescored" }
    );
}
