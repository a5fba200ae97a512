//! What a session does when the group assigns and revokes partitions.
//!
//! **Taking a partition raises its epoch before anything is read from it.** The first `assign` already
//! carries the offsets of the database, so the consumer never starts at an offset that Kafka stores.

use super::held::Held;
use super::holding::Holding;
use super::idle::Idle;
use super::log::{self, Watermarks, watermarks};
use super::torn::Torn;
use super::{Membership, Session, SessionError, blocking};
use crate::coordinates::{NextOffset, TopicPartition};
use crate::kafka::Cluster;
use crate::metric::Metric;
use crate::reader::pairing::Taken;
use crate::reader::store::{KafkaSource, Ownership, Store};
use std::sync::Arc;
use std::time::Instant;

impl Session<'_> {
    /// Takes the partitions that the group has assigned, and starts reading.
    pub(super) async fn on_assigned(&mut self, assigned: Vec<TopicPartition>) -> Result<(), SessionError> {
        // librdkafka may assign again without a revocation, if partitions were added. Its positions are then
        // those of the old assignment, so this starts over.
        if self.membership.holds_some() {
            return Err(SessionError::Rejoin);
        }
        let cluster = Arc::clone(&self.brokers.cluster);
        let topics = blocking(move || cluster.topic_partitions()).await??;
        let Some(count) = topics.equal() else {
            self.membership = Membership::Misfit;
            self.consumer.assign(&[])?;
            tracing::warn!("the group assigned topics that do not fit; partitions: {topics}");
            return Ok(());
        };
        // **Before the positions are read**: if a topic is created again from here on, its id differs from
        // the one stored now.
        self.verify_topics().await?;
        self.find_marks().await?;
        if self.options.until_caught_up && self.memory.marks.is_none() {
            // The partition counts have changed since they were compared.
            return Err(SessionError::Rejoin);
        }
        let taken = self.take(whole_partitions(&assigned)).await?;
        let (holding, positions) = self.hold(taken, count == 1);
        self.brokers.other_database.begin(Instant::now());
        // The group may assign some of the topics before it knows them all. The reader then waits for all
        // three.
        self.idle.torn = Torn::of(&assigned);
        let is_misfit = holding.is_empty() && !assigned.is_empty();
        self.membership = if is_misfit { Membership::Misfit } else { Membership::Holding(holding.into()) };
        self.consumer.assign(&positions).map_err(SessionError::from)
    }

    /// Makes a holding of the partitions taken. Also returns the positions to read from.
    fn hold(
        &mut self,
        taken: Vec<(Taken, Ownership, Watermarks)>,
        single_partition: bool,
    ) -> (Holding, Vec<NextOffset>) {
        let (mut holding, mut positions) = (Holding::new(self.options, self.writers.rules()), Vec::new());
        for (taken, ownership, watermarks) in taken {
            let partition = taken.partition;
            let high = watermarks.map(|(_, high)| high);
            positions.extend(log::positions(&taken));
            let held = Held::when_taken(ownership, high, Instant::now());
            tracing::info!(partition, epoch = ownership.epoch, from = %held.stored, "took partition");
            holding.add(taken, held, single_partition);
        }
        (holding, positions)
    }

    /// Finishes the commit under way, and drops everything else that was read.
    pub(super) async fn on_revoked(&mut self) -> Result<(), SessionError> {
        let finished = self.finish_commits().await;
        if let Membership::Holding(holding) = std::mem::replace(&mut self.membership, Membership::Joining) {
            let partitions: Vec<String> =
                holding.partitions().map(|partition| partition.to_string()).collect();
            if !partitions.is_empty() {
                tracing::info!(partitions = partitions.join(","), "gave partitions back");
            }
            // In librdkafka, a paused partition stays paused when it is revoked and assigned again.
            self.consumer.resume(&holding.paused())?;
        }
        self.consumer.unassign()?;
        self.idle = Idle::begun();
        finished
    }

    /// Takes partitions in the database, on a thread.
    async fn take(
        &mut self,
        partitions: Vec<i32>,
    ) -> Result<Vec<(Taken, Ownership, Watermarks)>, SessionError> {
        let (cluster, source) = (Arc::clone(&self.brokers.cluster), self.owner.source.clone());
        self.owner
            .run(move |store| {
                let take = |p: i32| take_one(store, &cluster, &source, p);
                let taken: Vec<_> = partitions.into_iter().map(take).collect::<Result<_, _>>()?;
                log::verify(store, &cluster, &source, &taken)?;
                Ok(taken)
            })
            .await
    }
}

/// Takes one partition, and compares its logs with its progress.
fn take_one(
    store: &mut Store,
    cluster: &Cluster,
    source: &KafkaSource,
    partition: i32,
) -> Result<(Taken, Ownership, Watermarks), SessionError> {
    let before = watermarks(cluster, partition)?;
    let (taken, ownership) = store.take(partition, before.map(|(low, _)| low))?;
    if log::check(source, &taken, before).is_ok() {
        return Ok((taken, ownership, before));
    }
    // The last owner may have stored more since the watermarks were queried.
    let after = watermarks(cluster, partition)?;
    match log::check(source, &taken, after) {
        Ok(()) => Ok((taken, ownership, after)),
        Err(error) => Err(log::keep(store, cluster, source, &taken, error)),
    }
}

/// The partitions that are assigned in all three topics.
fn whole_partitions(assigned: &[TopicPartition]) -> Vec<i32> {
    let has = |metric, partition| assigned.contains(&TopicPartition { metric, partition });
    let of_recency = assigned.iter().filter(|at| at.metric == Metric::Recency).map(|at| at.partition);
    of_recency.filter(|&p| has(Metric::Frequency, p) && has(Metric::Monetary, p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partitions_of_all_three_topics_are_taken() {
        use Metric::{Frequency, Monetary, Recency};
        let assigned =
            [(Recency, 0), (Frequency, 0), (Monetary, 0), (Recency, 1), (Monetary, 1), (Frequency, 2)];
        let assigned = assigned.map(|(metric, partition)| TopicPartition { metric, partition });
        assert_eq!(whole_partitions(&assigned), [0]);
        assert!(whole_partitions(&[]).is_empty());
    }
}
