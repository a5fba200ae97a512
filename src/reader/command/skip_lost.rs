//! `reader skip-lost`: moves positions that the logs no longer have to where the logs begin.
//!
//! **Only what is gone is skipped.** The partition is taken as a reader takes it, so running readers are
//! fenced, and its logs are compared with what is known of them, as a reader does. Then one commit moves
//! progress, compared with what was taken. What is settled above the new position stays settled: both tables
//! are left as they are.

use super::{Ended, carry_out};
use crate::failpoint;
use crate::failure::Failure;
use crate::kafka::{Cluster, Right};
use crate::metric::Metric;
use crate::reader::Options;
use crate::reader::pairing::Taken;
use crate::reader::progress::Progress;
use crate::reader::score::Rules;
use crate::reader::session::SessionError;
use crate::reader::session::log::{self, Watermarks, watermarks};
use crate::reader::session::owner::Owner;
use crate::reader::session::topics;
use crate::reader::store::{KafkaSource, Ownership, Part, Store, StoreError};
use crate::shutdown::Shutdown;
use std::sync::Arc;

/// How often it tries, if readers take the partitions between its own two steps. Each needs a moment to do
/// so.
const ATTEMPTS: usize = 5;

/// A partition whose logs no longer have a position.
struct Lost {
    /// What is stored of it.
    taken: Taken,
    /// What its logs have.
    log: Watermarks,
}

/// Moves what is lost; with `dry_run` only says what would be moved.
///
/// # Errors
/// A log was cut or is another one; Postgres or the brokers fail; `shutdown` is requested before it is done.
pub async fn skip_lost(options: Options, dry_run: bool, shutdown: Shutdown) -> Result<(), Failure> {
    carry_out(&options, &[], &shutdown, async |owner| run(owner, &options, dry_run).await).await
}

async fn run(owner: &mut Owner, options: &Options, dry_run: bool) -> Result<Ended, SessionError> {
    let (source, rules) = (owner.source.clone(), options.rules.clone());
    let cluster = Arc::new(Cluster::new(&options.kafka, Right::Read)?);
    owner
        .run(move |store| {
            let desk = Desk { store, cluster: &cluster, source: &source };
            desk.check_source()?;
            if dry_run { desk.look() } else { desk.skip(&rules) }
        })
        .await?;
    Ok(Ended::Done)
}

/// What the work needs.
struct Desk<'a> {
    /// The tables.
    store: &'a mut Store,
    /// The brokers.
    cluster: &'a Cluster,
    /// The group, and whose offsets its progress counts.
    source: &'a KafkaSource,
}

impl Desk<'_> {
    /// Checks that cluster and topics are those whose positions are stored.
    fn check_source(&self) -> Result<(), SessionError> {
        let found = KafkaSource { cluster_id: self.cluster.id()?, ..self.source.clone() };
        if found != *self.source {
            return Err(self.source.differs_from(&found).into());
        }
        Ok(())
    }

    /// Says what would be moved.
    fn look(mut self) -> Result<(), SessionError> {
        let lost = self.find()?;
        lost.iter().for_each(|lost| self.report(lost, "would skip"));
        conclude(&lost, "would skip");
        Ok(())
    }

    /// Moves what is lost.
    fn skip(mut self, rules: &Rules) -> Result<(), SessionError> {
        for attempt in 1.. {
            match self.try_to_skip(rules) {
                Err(SessionError::Store(StoreError::Moved { partition, .. })) if attempt < ATTEMPTS => {
                    tracing::info!(partition, "a reader took the partition meanwhile; trying again");
                }
                done => return done,
            }
        }
        Ok(())
    }

    fn try_to_skip(&mut self, rules: &Rules) -> Result<(), SessionError> {
        let (mut parts, mut moved) = (Vec::new(), Vec::new());
        for Lost { taken, log } in self.find()? {
            let (taken, ownership) = self.store.take(taken.partition, log.map(|(low, _)| low))?;
            failpoint::reach("after_taking");
            let log = watermarks(self.cluster, taken.partition)?;
            moved.push(Lost { taken: taken.clone(), log });
            let taken = at_the_beginning(taken, log);
            log::check(self.source, &taken, log)?;
            let taken = [(taken, ownership, log)];
            log::verify(self.store, self.cluster, self.source, &taken)?;
            parts.extend(taken.map(|(taken, ownership, _)| part(&taken, ownership)));
        }
        if !parts.is_empty() {
            self.store.commit(rules, &parts)?;
            failpoint::reach("after_commit");
        }
        moved.iter().for_each(|lost| self.report(lost, "skipped"));
        conclude(&moved, "skipped");
        Ok(())
    }

    /// The partitions whose logs no longer have a position.
    ///
    /// # Errors
    /// [`SessionError::TopicReplaced`]; [`SessionError::LogCut`] if one of all partitions' logs ends below
    /// what is stored, or was found cut before.
    fn find(&mut self) -> Result<Vec<Lost>, SessionError> {
        let stored = self.store.topic_ids()?;
        topics::check(self.store, self.cluster, self.source, &stored, &self.cluster.topic_ids()?)?;
        let mut lost = Vec::new();
        for (partition, next) in self.store.group_positions()? {
            if let Some(why) = self.store.evidence(partition, next)?.cut {
                return Err(SessionError::LogCut(why));
            }
            let (taken, log) = (self.store.settled(partition)?, watermarks(self.cluster, partition)?);
            log::check(self.source, &at_the_beginning(taken.clone(), log), log)?;
            if Metric::ALL.iter().any(|&metric| taken.progress[metric].next() < log[metric].0) {
                lost.push(Lost { taken, log });
            }
        }
        Ok(lost)
    }

    /// Says what is gone of each topic.
    fn report(&self, Lost { taken, log }: &Lost, act: &str) {
        let partition = taken.partition;
        for (metric, progress) in taken.progress.iter() {
            let (from, to) = (progress.next(), log[metric].0);
            if from < to {
                let (topic, settled) = (self.source.topic(metric), progress.settled_below(to));
                tracing::warn!(
                    topic,
                    partition,
                    from,
                    to,
                    gone = to - from,
                    settled,
                    "{act} offsets that are gone"
                );
            }
        }
    }
}

/// A partition as it is once reading goes on where its logs begin, if that is above the position.
fn at_the_beginning(mut taken: Taken, log: Watermarks) -> Taken {
    Metric::ALL.iter().for_each(|&metric| taken.progress[metric].read_up_to(log[metric].0));
    taken
}

/// What moves the progress of a partition.
fn part(taken: &Taken, expected: Ownership) -> Part {
    let next = taken.progress.as_ref().map(Progress::next);
    let leader_epochs = taken.progress.as_ref().map(Progress::leader_epoch);
    Part {
        partition: taken.partition,
        expected,
        next,
        leader_epochs,
        batches: Vec::new(),
        dead_letters: Vec::new(),
    }
}

/// Says how much is gone in all.
fn conclude(lost: &[Lost], act: &str) {
    let gone = |lost: &Lost| -> i64 {
        Metric::ALL.iter().map(|&m| (lost.log[m].0 - lost.taken.progress[m].next()).max(0)).sum()
    };
    let offsets: i64 = lost.iter().map(gone).sum();
    match lost.len() {
        0 => tracing::info!("nothing to skip: the logs have every stored position"),
        partitions => tracing::info!(partitions, offsets, "{act}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::PerMetric;
    use std::collections::BTreeMap;

    #[test]
    fn only_a_position_that_is_gone_moves_and_what_is_settled_above_stays() {
        let settled = [(6, None), (9, None)];
        let recency = Progress::resume(5, BTreeMap::from(settled), Some(4));
        let frequency = Progress::resume(8, BTreeMap::new(), Some(4));
        let progress = PerMetric { recency, frequency, monetary: Progress::resume(7, BTreeMap::new(), None) };
        let log = PerMetric { recency: (8, 12), frequency: (8, 12), monetary: (0, 12) };
        let taken = Taken { partition: 3, progress };
        assert_eq!(taken.progress.recency.settled_below(8), 1);
        let owner = Ownership { epoch: 2, owner: uuid::Uuid::nil(), commits: 5, next: [5, 8, 7].into() };
        let moved = at_the_beginning(taken, log);
        let part = part(&moved, owner);
        assert_eq!((part.partition, part.next, part.expected), (3, [8, 8, 7].into(), owner));
        assert_eq!(
            part.leader_epochs,
            [None, Some(4), None].into(),
            "what is skipped may be of a later epoch"
        );
        assert_eq!(moved.progress.recency.last_settled(), Some(9));
    }
}
