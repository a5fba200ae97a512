//! Whether the logs are still those that were read, when partitions are taken and while they are read again.
//!
//! A topic keeps its id when its log is cut: by an unclean leader election, or with a broker that was restored from an
//! old copy. Offsets are used a second time then, and what stands there now would be skipped. Three things show it,
//! and **each of them is kept in the tables, so that a restart does not forget it**:
//!
//! - the log is shorter than what was read, or than a message that is settled;
//! - the leader epoch beside a position ends below it (KIP-320; `kafka::log`);
//! - where the tables have a settled message, one with another key stands: the last one below progress is looked at
//!   here, those above it when they are read again (`Progress::read`).
//!
//! What no question can show is in ARCHITECTURE.md.

use super::{Session, SessionError};
use crate::kafka::{Cluster, LogPosition};
use crate::message::Metric;
use crate::reader::pairing::{Position, Taken};
use crate::reader::progress::Progress;
use crate::reader::store::{Ownership, Source, Store};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

/// What the log has of one partition: first offset and high watermark, per topic.
pub(super) type Watermarks = [(i64, i64); 3];

/// A broker that was frozen leads, in its own eyes, until it has heard of its successor: what it says of the end of a
/// log is an old truth. So a log is cut only if it still looks so after this long, which a broker with a network does
/// not need.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The log of one topic's partition, as it is known.
struct Log<'a> {
    topic: &'a str,
    metric: Metric,
    partition: i32,
}

pub(super) fn watermarks(cluster: &Cluster, partition: i32) -> Result<Watermarks, SessionError> {
    let of = |metric| cluster.watermarks(metric, partition);
    Ok([of(Metric::Recency)?, of(Metric::Frequency)?, of(Metric::Monetary)?])
}

/// Where the topics of a partition are to be read on.
pub(super) fn positions(taken: &Taken) -> [LogPosition; 3] {
    Metric::ALL.map(|metric| {
        let progress = &taken.progress[metric.index()];
        let (offset, leader_epoch) = (progress.next(), progress.leader_epoch());
        LogPosition { metric, partition: taken.partition, offset, leader_epoch }
    })
}

/// Whether the log has what comes next, and what is settled above it, in each topic.
pub(super) fn check(source: &Source, taken: &Taken, watermarks: Watermarks) -> Result<(), SessionError> {
    for metric in Metric::ALL {
        let (topic, partition) = (source.topic(metric), taken.partition);
        let progress = &taken.progress[metric.index()];
        let (low, high) = watermarks[metric.index()];
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

/// Keeps the verdict of [`check`] that a log is too short, if it still is after a while.
pub(super) fn keep(
    store: &mut Store,
    cluster: &Cluster,
    source: &Source,
    taken: &Taken,
    error: SessionError,
) -> SessionError {
    if !matches!(error, SessionError::LogCut(_)) {
        return error;
    }
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
/// [`SessionError::LogCut`], now or earlier, which is kept.
pub(super) fn verify(
    store: &mut Store,
    cluster: &Cluster,
    source: &Source,
    taken: &[(Taken, Ownership, Watermarks)],
) -> Result<(), SessionError> {
    let mut last = Vec::new();
    for (taken, _, watermarks) in taken {
        let next = taken.progress.each_ref().map(Progress::next);
        let evidence = store.evidence(taken.partition, next)?;
        if let Some(why) = evidence.cut {
            return Err(SessionError::LogCut(why));
        }
        for (metric, last_settled) in Metric::ALL.into_iter().zip(evidence.last) {
            let (low, _) = watermarks[metric.index()];
            // What retention has taken away shows nothing.
            last.extend(last_settled.filter(|(offset, _)| *offset >= low).map(|(offset, key)| {
                let partition = taken.partition;
                (LogPosition { metric, partition, offset, leader_epoch: None }, key)
            }));
        }
    }
    let positions: Vec<LogPosition> = taken.iter().flat_map(|(taken, ..)| positions(taken)).collect();
    let found = match look(cluster, source, &positions, &last)? {
        None => return Ok(()),
        Some(_) => {
            sleep(LOOK_AGAIN_AFTER);
            look(cluster, source, &positions, &last)?
        }
    };
    let Some((partition, cut)) = found else {
        return Err(SessionError::Broken("the log looked cut for a moment".into()));
    };
    store.keep_cut(partition, &cut.to_string())?;
    Err(cut)
}

/// The first partition whose log was cut, and the error that says so.
fn look(
    cluster: &Cluster,
    source: &Source,
    positions: &[LogPosition],
    last: &[(LogPosition, Option<String>)],
) -> Result<Option<(i32, SessionError)>, SessionError> {
    let group = &source.consumer_group;
    if let Some((at, why)) = cluster.cut_below(group, positions)?.into_iter().next() {
        let (low, high) = cluster.watermarks(at.metric, at.partition)?;
        if at.offset < low {
            // Retention came between, which is no cut.
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
        return Ok(Some((at.partition, Log::at(source, at).was_cut(&what))));
    }
    let asked: Vec<LogPosition> = last.iter().map(|(at, _)| *at).collect();
    let keys = cluster.keys_at(group, &asked).unwrap_or_else(|error| {
        tracing::warn!("cannot compare the keys of what was stored last, to tell whether a log was cut: {error}; going on");
        BTreeMap::new()
    });
    let other = last.iter().find(|(at, stored)| {
        let found = keys.get(&(at.metric, at.partition));
        found.is_some_and(|found| found.as_deref().map(crate::reader::key::text) != *stored)
    });
    Ok(other.map(|(at, _)| (at.partition, Log::at(source, *at).has_another(at.offset))))
}

impl<'a> Log<'a> {
    fn at(source: &'a Source, at: LogPosition) -> Self {
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
    /// Where a message is settled, another one was read: keeps the verdict and ends the session. Nothing that was read
    /// of the new log is stored then, but for what was stored already.
    pub(super) async fn on_replaced(&mut self, at: Position) -> Result<(), SessionError> {
        let Position { partition, metric, offset } = at;
        let cut = Log { topic: self.source.topic(metric), metric, partition }.has_another(offset);
        let why = cut.to_string();
        self.with_owner(move |owner| Ok(owner.keep_cut(partition, &why)?)).await?;
        Err(cut)
    }
}
