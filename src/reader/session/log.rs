//! Checks that the logs are still those that were read, when partitions are taken and while messages are read
//! again.
//!
//! A topic keeps its id when its log is cut, by an unclean leader election or because a broker was restored
//! from an old copy. Kafka then uses the offsets again, and the reader would skip the new messages there.
//! Three things show a cut, and **the verdict is kept in the tables, so a restart does not forget it**:
//!
//! - the log ends below what was read, or below a settled message;
//! - the leader epoch stored with a position ends below that position (KIP-320; `kafka::log`);
//! - the log has a message with another key where the tables have a settled one. The last one below progress
//!   is compared here, those above it when they are read again (`Progress::read`).
//!
//! ARCHITECTURE.md says which cuts nothing shows.

use super::{Session, SessionError};
use crate::coordinates::{MessageId, NextOffset, TopicPartition};
use crate::kafka::Cluster;
use crate::metric::{Metric, PerMetric};
use crate::reader::pairing::Taken;
use crate::reader::progress::Progress;
use crate::reader::store::{KafkaSource, Ownership, Store};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

/// Of one partition: the first offset and the high watermark of each topic's log.
pub(in crate::reader) type Watermarks = PerMetric<(i64, i64)>;

/// A broker that was frozen believes that it still leads, and reports an old end of the log, until it hears
/// of its successor. That takes less than this, if it has a network. So a log counts as cut only if it still
/// looks cut after this time.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The log of one topic's partition, as errors name it.
struct Log<'a> {
    /// The name of the topic.
    topic: &'a str,
    /// Its metric.
    metric: Metric,
    /// The partition.
    partition: i32,
}

pub(in crate::reader) fn watermarks(cluster: &Cluster, partition: i32) -> Result<Watermarks, SessionError> {
    Ok(PerMetric::try_from_fn(|metric| cluster.watermarks(metric, partition))?)
}

/// Where reading goes on in the three topics of a partition.
pub(super) fn positions(taken: &Taken) -> [NextOffset; 3] {
    Metric::ALL.map(|metric| {
        let progress = &taken.progress[metric];
        let (offset, leader_epoch) = (progress.next(), progress.leader_epoch());
        NextOffset { metric, partition: taken.partition, offset, leader_epoch }
    })
}

/// Checks that the log of each topic has the position to go on from, and the settled messages above it.
pub(in crate::reader) fn check(
    source: &KafkaSource,
    taken: &Taken,
    watermarks: Watermarks,
) -> Result<(), SessionError> {
    for metric in Metric::ALL {
        let (topic, partition) = (source.topic(metric), taken.partition);
        let progress = &taken.progress[metric];
        let (low, high) = watermarks[metric];
        let next = progress.next();
        if next < low {
            let topic = topic.to_owned();
            return Err(SessionError::PositionGone { topic, metric, partition, next, log: low..high });
        }
        if next > high {
            let what = format!("it was read up to {next}, and it holds {low}..{high}");
            return Err(Log { topic, metric, partition }.was_cut(&what));
        }
        if let Some(settled) = progress.last_settled().filter(|&settled| settled >= high) {
            let what = format!("the message at {settled} is stored, and it holds {low}..{high}");
            return Err(Log { topic, metric, partition }.was_cut(&what));
        }
    }
    Ok(())
}

/// Stores the verdict of [`check`] that a log is too short, if the log still is after a while.
pub(super) fn keep(
    store: &mut Store,
    cluster: &Cluster,
    source: &KafkaSource,
    taken: &Taken,
    error: SessionError,
) -> SessionError {
    if !matches!(error, SessionError::LogCut(_)) {
        return error;
    }
    tracing::warn!("{error}; looking again in {} s", LOOK_AGAIN_AFTER.as_secs());
    sleep(LOOK_AGAIN_AFTER);
    let still = watermarks(cluster, taken.partition).and_then(|after| check(source, taken, after));
    match still {
        Err(error @ SessionError::LogCut(_)) => {
            let kept = store.keep_cut(taken.partition, &error.to_string());
            kept.err().map_or(error, SessionError::from)
        }
        Err(error) => error,
        Ok(()) => SessionError::Broken("the log was shorter for a moment".into()),
    }
}

/// Compares the logs of the partitions with what is known of them.
///
/// # Errors
/// [`SessionError::LogCut`] if a log is found cut, or was earlier: the verdict is kept.
pub(in crate::reader) fn verify(
    store: &mut Store,
    cluster: &Cluster,
    source: &KafkaSource,
    taken: &[(Taken, Ownership, Watermarks)],
) -> Result<(), SessionError> {
    let known = Known::of(store, taken.iter().map(|(taken, _, watermarks)| (taken, watermarks)))?;
    let found = match known.look(cluster, source)? {
        None => return Ok(()),
        Some((_, cut)) => {
            tracing::warn!("{cut}; looking again in {} s", LOOK_AGAIN_AFTER.as_secs());
            sleep(LOOK_AGAIN_AFTER);
            known.look(cluster, source)?
        }
    };
    let Some((partition, cut)) = found else {
        return Err(SessionError::Broken("the log looked cut for a moment".into()));
    };
    store.keep_cut(partition, &cut.to_string())?;
    Err(cut)
}

/// What is known of the logs of partitions.
pub(in crate::reader) struct Known {
    /// Where reading goes on.
    positions: Vec<NextOffset>,
    /// The last message that is settled below that, per topic, if the log still has it; and its key.
    last: Vec<(MessageId, Option<String>)>,
}

impl Known {
    /// What the tables know of the partitions that have these positions and logs.
    ///
    /// # Errors
    /// [`SessionError::LogCut`] if one of the logs was found cut earlier; those of the statements.
    pub(in crate::reader) fn of<'a>(
        store: &mut Store,
        partitions: impl IntoIterator<Item = (&'a Taken, &'a Watermarks)>,
    ) -> Result<Self, SessionError> {
        let (mut next, mut last) = (Vec::new(), Vec::new());
        for (taken, watermarks) in partitions {
            let partition = taken.partition;
            let evidence = store.evidence(partition, taken.progress.as_ref().map(Progress::next))?;
            if let Some(why) = evidence.cut {
                return Err(SessionError::LogCut(why));
            }
            next.extend(positions(taken));
            for (metric, last_settled) in evidence.last {
                let (low, _) = watermarks[metric];
                // What retention has removed cannot be compared.
                last.extend(
                    last_settled
                        .filter(|(offset, _)| *offset >= low)
                        .map(|(offset, key)| (MessageId { metric, partition, offset }, key)),
                );
            }
        }
        Ok(Self { positions: next, last })
    }

    /// The first partition whose log was cut, and the error that says so.
    pub(in crate::reader) fn look(
        &self,
        cluster: &Cluster,
        source: &KafkaSource,
    ) -> Result<Option<(i32, SessionError)>, SessionError> {
        let Self { positions, last } = self;
        let group = &source.consumer_group;
        if let Some((at, why)) = cluster.cut_below(group, positions)?.into_iter().next() {
            let (low, high) = cluster.watermarks(at.metric, at.partition)?;
            if at.offset < low {
                // Retention has removed the position meanwhile, which is no cut.
                let (metric, partition, next) = (at.metric, at.partition, at.offset);
                let topic = source.topic(metric).to_owned();
                return Err(SessionError::PositionGone { topic, metric, partition, next, log: low..high });
            }
            let epoch = at.leader_epoch.unwrap_or_default();
            let what = format!(
                "it was read up to {} in leader epoch {epoch}, which ends before that now, and it holds {low}..{high} \
                 ({why})",
                at.offset
            );
            return Ok(Some((at.partition, Log::at(source, at.topic_partition()).was_cut(&what))));
        }
        let asked: Vec<MessageId> = last.iter().map(|(id, _)| *id).collect();
        let keys = cluster.keys_at(group, &asked).unwrap_or_else(|error| {
            tracing::warn!(
                "cannot compare the keys of the last stored messages, so a cut log may go unnoticed: {error}; going on"
            );
            BTreeMap::new()
        });
        let other = last.iter().find(|(id, stored)| {
            let found = keys.get(id);
            found.is_some_and(|found| found.as_deref().map(crate::reader::key::text) != *stored)
        });
        Ok(other.map(|(id, _)| (id.partition, Log::at(source, id.topic_partition()).has_another(id.offset))))
    }
}

impl<'a> Log<'a> {
    fn at(source: &'a KafkaSource, at: TopicPartition) -> Self {
        Self { topic: source.topic(at.metric), metric: at.metric, partition: at.partition }
    }

    fn was_cut(&self, what: &str) -> SessionError {
        let Self { topic, metric, partition } = self;
        SessionError::LogCut(format!(
            "the log of the topic `{topic}` ({metric}), partition {partition}, was cut below what is stored: {what}"
        ))
    }

    fn has_another(&self, offset: i64) -> SessionError {
        let what =
            format!("the message at {offset} is stored, and another one with another key stands there");
        self.was_cut(&what)
    }
}

impl Session<'_> {
    /// A message was read where another one is settled: stores the verdict and ends the session. What was
    /// read from the new log and not yet stored is not stored.
    pub(super) async fn on_replaced(&mut self, at: MessageId) -> Result<(), SessionError> {
        let MessageId { metric, partition, offset } = at;
        let cut = Log { topic: self.owner.source.topic(metric), metric, partition }.has_another(offset);
        let why = cut.to_string();
        self.owner.run(move |store| Ok(store.keep_cut(partition, &why)?)).await?;
        Err(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> KafkaSource {
        let [consumer_group, cluster_id] = ["g", "c"].map(str::to_owned);
        let [recency_topic, frequency_topic, monetary_topic] = ["r", "f", "m"].map(str::to_owned);
        KafkaSource { consumer_group, cluster_id, recency_topic, frequency_topic, monetary_topic }
    }

    /// A partition whose frequency topic was read up to `next` in leader epoch 4, with `settled` above.
    fn taken(next: i64, settled: Option<i64>) -> Taken {
        let settled = settled.into_iter().map(|offset| (offset, None)).collect();
        let frequency = Progress::resume(next, settled, Some(4));
        Taken { partition: 3, progress: PerMetric { frequency, ..PerMetric::default() } }
    }

    fn checked(next: i64, settled: Option<i64>, log: (i64, i64)) -> Result<(), SessionError> {
        let watermarks = PerMetric { recency: (0, 0), frequency: log, monetary: (0, 0) };
        check(&source(), &taken(next, settled), watermarks)
    }

    #[test]
    fn a_log_must_have_the_position_and_the_settled_messages_above_it() {
        for (next, settled, log) in [(5, None, (5, 5)), (5, None, (0, 9)), (5, Some(8), (5, 9))] {
            assert!(checked(next, settled, log).is_ok(), "{next} {settled:?} {log:?}");
        }
        let gone = checked(5, None, (6, 9));
        assert!(
            matches!(gone, Err(SessionError::PositionGone { partition: 3, next: 5, ref log, .. }) if *log == (6..9)),
            "{gone:?}"
        );
        for (next, settled, log) in [(5, None, (0, 4)), (5, Some(9), (0, 9))] {
            let Err(SessionError::LogCut(why)) = checked(next, settled, log) else {
                panic!("{next} {log:?}")
            };
            assert!(
                why.contains("topic `f` (frequency), partition 3, was cut below what is stored"),
                "{why}"
            );
        }
    }

    #[test]
    fn reading_goes_on_at_progress_with_its_leader_epoch() {
        let next = positions(&taken(5, Some(8)));
        let expected =
            NextOffset { metric: Metric::Frequency, partition: 3, offset: 5, leader_epoch: Some(4) };
        assert!(next.contains(&expected), "{next:?}");
    }
}
