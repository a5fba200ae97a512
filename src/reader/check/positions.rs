//! What the tables say of the topics: whether the stored offsets are still those of these logs.

use super::Subject;
use crate::checklist::{Answer, Findings, Outcome};
use crate::metric::Metric;
use crate::reader::session::{SessionError, log, topics};
use crate::reader::store::StoreError;
use std::collections::BTreeMap;

pub(super) fn source(subject: &mut Subject) -> Outcome {
    subject.brokers.cluster()?;
    let group = subject.options.group_id.clone();
    let known = subject.tables()?.knows_group();
    if !known.map_err(|error| subject.failed(error))? {
        return Ok(Answer::Ok(format!(
            "`{group}` is a new group, which begins at the beginning of the topics"
        )));
    }
    let same = subject.tables()?.compare_source();
    same.map_err(|error| subject.failed(error))?;
    subject.brokers.partitions()?;
    let found = subject.brokers.cluster()?.topic_ids()?;
    let (source, stored) = (subject.source(), subject.tables()?.stored_topic_ids());
    let stored = stored.map_err(|error| subject.failed(error))?;
    let Subject { brokers, store: Some(store), .. } = subject else {
        return Err(Answer::skipped("there is no connection to postgres"));
    };
    let same = topics::check(store, brokers.cluster()?, &source, &stored, &found);
    same.map_err(|error| subject.failed(error))?;
    subject.is_known = true;
    Ok(Answer::Ok(format!("`{group}` has read these topics of this cluster before")))
}

pub(super) fn positions(subject: &mut Subject) -> Outcome {
    let count = subject.brokers.partitions()?;
    let stored = subject.tables()?.group_positions();
    let stored = stored.map_err(|error| subject.failed(error))?;
    if stored.is_empty() {
        return new_group(subject, count);
    }
    if !subject.is_known {
        return Err(Answer::skipped("the stored positions are not of these topics"));
    }
    let (mut found, mut sound, mut left) = (Findings::default(), Vec::new(), 0);
    for (partition, _) in stored {
        if usize::try_from(partition).is_ok_and(|partition| partition >= count) {
            let what =
                format!("`progress` has partition {partition}, and the topics have {count} partitions");
            found.fail(what, "the topics were created again: use another --group-id");
            continue;
        }
        let taken = subject.tables()?.look_at_partition(partition);
        let taken = taken.map_err(|error| subject.failed(error))?;
        let watermarks = log::watermarks(subject.brokers.cluster()?, partition);
        let watermarks = watermarks.map_err(|error| subject.failed(error))?;
        match log::check(&subject.source(), &taken, watermarks) {
            Ok(()) => {
                left += Metric::ALL
                    .map(|metric| watermarks[metric].1 - taken.progress[metric].next())
                    .iter()
                    .sum::<i64>();
                sound.push((taken, watermarks));
            }
            Err(error) => match subject.failed(error) {
                Answer::Failed { what, hint } => found.fail(what, hint),
                other => return Err(other),
            },
        }
    }
    let answer = found.answer(format!("the logs have all of them; up to {left} messages are not stored yet"));
    subject.positions = matches!(answer, Answer::Ok(_)).then_some(sound);
    Ok(answer)
}

/// A group without positions: whether it gets everything that was ever sent.
fn new_group(subject: &mut Subject, count: usize) -> Outcome {
    let cluster = subject.brokers.cluster()?;
    for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
        for metric in Metric::ALL {
            let (low, _) = cluster.watermarks(metric, partition)?;
            if low > 0 {
                let topic = subject.brokers.kafka.topic(metric);
                return Ok(Answer::warn(
                    format!(
                        "the log of `{topic}`, partition {partition}, begins at {low}: what was before is removed"
                    ),
                    "the group cannot store it; give the topics a longer retention if it should have",
                ));
            }
        }
    }
    subject.positions = Some(Vec::new());
    Ok(Answer::Ok("none; the logs have everything from offset 0 on".to_owned()))
}

pub(super) fn logs(subject: &mut Subject) -> Outcome {
    let source = subject.source();
    let Subject { brokers, store: Some(store), positions: Some(positions), .. } = subject else {
        return Err(Answer::skipped("the logs do not have the stored positions, or these are not known"));
    };
    let cluster = brokers.cluster()?;
    let looked = log::Known::of(store, positions.iter().map(|(taken, watermarks)| (taken, watermarks)))
        .and_then(|known| known.look(cluster, &source));
    match looked {
        Ok(None) => Ok(Answer::Ok("none was cut".to_owned())),
        Ok(Some((_, error))) | Err(error) => Err(subject.failed(error)),
    }
}

pub(super) fn other_databases(subject: &mut Subject) -> Outcome {
    subject.brokers.partitions()?;
    subject.tables()?;
    // Kafka first: the table may move on meanwhile, and never back.
    let committed = subject.brokers.cluster()?.committed(&subject.options.group_id, Metric::Recency)?;
    let stored: Result<BTreeMap<i32, i64>, StoreError> = subject.tables()?.group_positions().map(|stored| {
        stored.into_iter().map(|(partition, next)| (partition, next[Metric::Recency])).collect()
    });
    let stored = stored.map_err(|error| subject.failed(SessionError::from(error)))?;
    let above = committed
        .into_iter()
        .find(|(partition, committed)| *committed > stored.get(partition).copied().unwrap_or_default());
    let Some((partition, committed)) = above else {
        return Ok(Answer::Ok("the group stores in this one only, as far as Kafka knows".to_owned()));
    };
    let here = stored.get(&partition).map_or_else(|| "no row".to_owned(), ToString::to_string);
    Ok(Answer::warn(
        format!(
            "Kafka's committed offset of partition {partition} is {committed}, and progress in this database has {here}"
        ),
        "a reader of the group may use another database: give each its own --group-id. (Or Postgres went back in time, or \
         somebody set the offset)",
    ))
}
