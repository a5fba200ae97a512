//! Partitions come and go: what a session does when the group moves them.
//!
//! **Taking a partition raises its epoch before anything is read of it**; the offsets of the database are
//! in the first `assign`, so that no position is ever Kafka's.

use super::log::{self, Watermarks, watermarks};
use super::stored::Stored;
use super::waiting::Idle;
use super::{Session, SessionError, blocking};
use crate::kafka::Cluster;
use crate::message::Metric;
use crate::reader::pairing::Taken;
use crate::reader::progress::Progress;
use crate::reader::store::{Ownership, Source, Store};
use std::sync::Arc;

impl Session<'_> {
    /// Takes the partitions that the group gives us, and starts reading.
    pub(super) async fn on_assigned(&mut self, assigned: Vec<(Metric, i32)>) -> Result<(), SessionError> {
        // librdkafka may assign again without having revoked (partitions were added meanwhile). What it knows
        // of positions then is of the old assignment, so nothing here may go on.
        if !self.pairing.is_empty() {
            return Err(SessionError::Rejoin);
        }
        let cluster = Arc::clone(&self.cluster);
        let topics = blocking(move || cluster.topic_partitions()).await??;
        let Some(count) = topics.equal() else {
            self.misfit = true;
            self.consumer.assign(&[])?;
            tracing::warn!("the group assigned topics that do not fit; partitions: {topics}");
            return Ok(());
        };
        // **Before the positions**: what is created anew from here on has another id than what is stored now.
        self.verify_topics().await?;
        let partitions = whole_partitions(&assigned);
        let taken = self.take(partitions).await?;

        let mut positions = Vec::with_capacity(assigned.len());
        for (taken, ownership, watermarks) in taken {
            let partition = taken.partition;
            self.pipeline.hold(partition, ownership);
            let next = taken.progress.each_ref().map(Progress::next);
            positions.extend(log::positions(&taken));
            let high = watermarks.map(|(_, high)| high);
            self.stored.insert(partition, Stored::when_taken(next, high));
            if self.options.until_caught_up {
                self.memory.targets.entry(partition).or_insert(high);
            }
            tracing::info!(partition, epoch = taken.epoch, from = %offsets(next), "took partition");
            self.pairing.take(taken, count == 1);
        }
        // Part of the topics may be assigned before the group knows of them all: that is no assignment.
        self.assigned = assigned.is_empty() || !positions.is_empty();
        self.misfit = !self.assigned;
        self.consumer.assign(&positions)?;
        Ok(())
    }

    /// Finishes the commit under way, and forgets everything else that was read.
    pub(super) async fn on_revoked(&mut self) -> Result<(), SessionError> {
        let finished = self.finish_commits().await;
        let gone: Vec<String> = self.pairing.partitions().map(|partition| partition.to_string()).collect();
        if !gone.is_empty() {
            tracing::info!(partitions = gone.join(","), "gave partitions back");
        }
        // librdkafka keeps a partition paused that is given back and comes again.
        let paused: Vec<_> = std::mem::take(&mut self.paused).into_iter().collect();
        self.consumer.resume(&paused)?;
        self.consumer.unassign()?;
        self.pairing.forget_all();
        self.pipeline.forget_all();
        self.budget.release_all();
        self.stored.clear();
        self.assigned = false;
        self.idle = Idle::begun();
        finished
    }

    /// Takes partitions in the database, on a thread.
    async fn take(
        &mut self,
        partitions: Vec<i32>,
    ) -> Result<Vec<(Taken, Ownership, Watermarks)>, SessionError> {
        let (cluster, source) = (Arc::clone(&self.cluster), self.source.clone());
        self.with_owner(move |owner| {
            let take = |p: i32| take_one(owner, &cluster, &source, p);
            let taken: Vec<_> = partitions.into_iter().map(take).collect::<Result<_, _>>()?;
            log::verify(owner, &cluster, &source, &taken)?;
            Ok(taken)
        })
        .await
    }
}

/// Takes one partition, and looks at its logs.
fn take_one(
    store: &mut Store,
    cluster: &Cluster,
    source: &Source,
    partition: i32,
) -> Result<(Taken, Ownership, Watermarks), SessionError> {
    let before = watermarks(cluster, partition)?;
    let (taken, ownership) = store.take(partition, before.map(|(low, _)| low))?;
    if log::check(source, &taken, before).is_ok() {
        return Ok((taken, ownership, before));
    }
    // The last owner may have gone on after the first look at the log.
    let after = watermarks(cluster, partition)?;
    match log::check(source, &taken, after) {
        Ok(()) => Ok((taken, ownership, after)),
        Err(error) => Err(log::keep(store, cluster, source, &taken, error)),
    }
}

/// The partitions of which all three topics are ours.
fn whole_partitions(assigned: &[(Metric, i32)]) -> Vec<i32> {
    let of = |wanted: Metric| assigned.iter().filter(move |(metric, _)| *metric == wanted).map(|(_, p)| *p);
    let both = |p: &i32| of(Metric::Frequency).any(|f| f == *p) && of(Metric::Monetary).any(|m| m == *p);
    of(Metric::Recency).filter(both).collect()
}

/// The three offsets of a partition, in the order of the metrics.
fn offsets(next: [i64; 3]) -> String {
    next.map(|offset| offset.to_string()).join("/")
}
