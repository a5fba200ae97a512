//! `producer check`: everything that can be asked before a producer starts, or beside one that runs.
//!
//! Owns the list, and the questions that only a producer has. The others are in `checklist::brokers`.
//!
//! **Nothing is sent or created, and a producer that works under the transactional id goes on.**

use super::fit::AROUND;
use super::{Options, Origin, source};
use crate::checklist::brokers::{Brokers, missing_topics};
use crate::checklist::{Answer, Findings, Outcome, Question, go_through};
use crate::failure::Failure;
use crate::kafka::{Cluster, Connection, Creation, Limits, Right, Sender, TopicSettings, UNACCEPTABLE_MS};
use crate::metric::{Metric, PerMetric};
use crate::shutdown::Shutdown;
use std::process::ExitCode;
use tokio::runtime::Handle;

/// What is asked about, and what was found out so far.
struct Subject {
    /// What the flags say.
    options: Options,
    /// The brokers.
    brokers: Brokers,
}

/// The list. A question may rely on those before it.
static QUESTIONS: [Question<Subject>; 10] = [
    Question { name: "snapshots", ask: snapshots },
    Question { name: "brokers", ask: |subject| subject.brokers.answer() },
    Question { name: "topics", ask: topics },
    Question { name: "leaders", ask: |subject| subject.brokers.leaders() },
    Question { name: "replicas", ask: replicas },
    Question { name: "right on the topics", ask: |subject| subject.brokers.right_on_topics() },
    Question { name: "right to read the topics", ask: right_to_read },
    Question { name: "transactional id", ask: transactional_id },
    Question { name: "message size", ask: message_size },
    Question { name: "times of messages", ask: |subject| subject.brokers.times() },
];

/// Asks everything. Exit code 1 if something would keep the producer from its work.
///
/// # Errors
/// It was asked to stop.
pub async fn run(options: Options, shutdown: Shutdown) -> Result<ExitCode, Failure> {
    let brokers = Brokers::new(options.kafka.clone(), Right::Write);
    go_through(&QUESTIONS, Subject { options, brokers }, &shutdown).await
}

/// The orders can be read, if there are any.
fn snapshots(subject: &mut Subject) -> Outcome {
    match &subject.options.origin {
        Origin::Random(random) => Ok(Answer::Ok(format!("random values of {} customers", random.customers))),
        Origin::Orders(orders) => match orders.place.check(&orders.columns) {
            Ok(found) => Ok(Answer::Ok(found)),
            Err(error) => {
                let then = match subject.options.most() {
                    None => "the producer would try again at each interval",
                    Some(_) => "the producer would end with exit code 1",
                };
                Err(Answer::failed(format!("{} cannot be read: {error:#}", orders.place), then))
            }
        },
    }
}

/// The user may read what was sent before, if the producer asks for that.
fn right_to_read(subject: &mut Subject) -> Outcome {
    match &subject.options.origin {
        Origin::Orders(orders) if !orders.keys().is_empty() => {
            subject.brokers.cluster()?;
            Cluster::new(&subject.options.kafka, Right::Read)?.check_right_on_topics()?;
            Ok(Answer::Ok("Read is allowed: what the topics have already is not sent again".to_owned()))
        }
        _ => Ok(Answer::Ok("none is needed".to_owned())),
    }
}

/// The topics are there, or can be created.
fn topics(subject: &mut Subject) -> Outcome {
    let Subject { options, brokers } = subject;
    brokers.topics(|cluster, counts| {
        let existing: Vec<usize> = counts.values().copied().filter(|&count| count > 0).collect();
        let (least, most) = (existing.iter().min(), existing.iter().max());
        if least != most {
            return Err(missing_topics(&options.kafka, counts));
        }
        could_create(cluster, &options.kafka, counts, most.copied().unwrap_or(options.partitions))
    })
}

/// Asks whether the missing topics could be created.
fn could_create(
    cluster: &Cluster,
    kafka: &Connection,
    counts: &PerMetric<usize>,
    partitions: usize,
) -> Outcome {
    let missing: Vec<&str> = Metric::ALL
        .into_iter()
        .filter(|&metric| counts[metric] == 0)
        .map(|metric| kafka.topic(metric))
        .collect();
    for topic in &missing {
        match Handle::current().block_on(cluster.could_create_topic(topic, partitions))? {
            Creation::TooFewBrokers(refusal) => return Err(refusal.into()),
            Creation::Made | Creation::Existed => {}
        }
    }
    let missing = missing.join(", ");
    Ok(Answer::Ok(format!("the producer creates {missing} with {partitions} partitions when it starts")))
}

/// Enough brokers have all that was written, so that more is accepted.
fn replicas(subject: &mut Subject) -> Outcome {
    let kafka = subject.brokers.kafka.clone();
    let settings = subject.brokers.settings()?.clone();
    let mut found = Findings::default();
    for replicas in subject.brokers.cluster()?.replicas()? {
        let (least, topic) =
            (settings[replicas.at.metric].min_insync_replicas.unwrap_or(1), replicas.at.metric);
        if replicas.in_sync < least {
            found.fail(
                format!(
                    "`{}`, partition {}, has {} replicas in sync, and min.insync.replicas is {least}",
                    kafka.topic(topic),
                    replicas.at.partition,
                    replicas.in_sync
                ),
                "start the brokers that are away: nothing is accepted meanwhile",
            );
        }
    }
    Ok(found.answer("enough are in sync"))
}

/// The user may write under the id, and the brokers accept the timeout of its transactions.
fn transactional_id(subject: &mut Subject) -> Outcome {
    let id = &subject.options.transactional_id;
    let timeout = Limits::of(&subject.options.kafka)?.transaction_ms;
    let longest = Handle::current().block_on(subject.brokers.cluster()?.longest_transaction_ms())?;
    // Without knowing it is not asked: the question might end a producer that works.
    let Some(longest) = longest else {
        return Ok(Answer::skipped(
            "the brokers do not tell this user transaction.max.timeout.ms (it needs `DescribeConfigs` on the cluster), \
             and with a great one the question would end a producer that works",
        ));
    };
    if longest < timeout {
        return Ok(Answer::failed(
            format!("transaction.timeout.ms is {timeout}, and the brokers accept {longest} at most"),
            "lower transaction.timeout.ms in --kafka-property, or raise transaction.max.timeout.ms of the brokers",
        ));
    }
    if longest >= i64::from(UNACCEPTABLE_MS) {
        return Ok(Answer::skipped(
            "with this transaction.max.timeout.ms of the brokers, the question would end a producer that works",
        ));
    }
    Sender::check_right_on_id(&subject.options.kafka, id)?;
    Ok(Answer::Ok(format!("Write is allowed under `{id}`")))
}

/// A batch of `--customers` fits into what the client sends and the topics take.
fn message_size(subject: &mut Subject) -> Outcome {
    let Origin::Random(random) = &subject.options.origin else {
        return Ok(Answer::Ok("each snapshot is compared with the limits before it is sent".to_owned()));
    };
    let customers = random.customers;
    let batch = source::longest(random);
    let batch = batch.map_err(|error| Answer::failed(error.to_string(), "change --customers"))?;
    let sizes = batch.bodies.map(|body| body.len() as u64 + AROUND);
    let (kafka, limits) = (subject.options.kafka.clone(), Limits::of(&subject.options.kafka)?);
    let (settings, mut found) = (subject.brokers.settings(), Findings::default());
    for (metric, settings) in settings.iter().flat_map(|settings| settings.iter()) {
        too_large(&mut found, kafka.topic(metric), settings, sizes[metric], &limits);
    }
    let largest = sizes.values().copied().max().unwrap_or_default();
    for (name, limit) in
        [("message.max.bytes", limits.message_bytes), ("queue.buffering.max.kbytes", limits.queue_bytes)]
    {
        if largest > limit {
            let what = format!(
                "{name} of this client allows {limit} bytes, and a message of {customers} customers has {largest}"
            );
            found.fail(what, format!("raise {name} in --kafka-property, or send fewer --customers"));
        }
    }
    let answer =
        found.answer(format!("a message of {customers} customers has up to {largest} bytes, and may have"));
    match (answer, settings) {
        (Answer::Ok(_), Err(unknown)) => Err(unknown),
        (answer, _) => Ok(answer),
    }
}

/// Judges whether a topic takes a message of `size` bytes.
fn too_large(found: &mut Findings, topic: &str, settings: &TopicSettings, size: u64, limits: &Limits) {
    let Some(limit) = settings.max_message_bytes.filter(|limit| *limit < size) else { return };
    let what = format!("`{topic}` takes {limit} bytes (max.message.bytes), and a message has up to {size}");
    if limits.codec.is_some() {
        found.warn(
            what,
            "it may fit once it is compressed; to be sure, raise max.message.bytes of the topics",
        );
    } else {
        found.fail(what, "send fewer --customers, or raise `max.message.bytes` of the topics");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_a_topic_does_not_take_fails_unless_it_is_compressed() {
        let limits = |compresses: bool| {
            let codec = compresses.then(|| "lz4".to_owned());
            Limits { message_bytes: 9, queue_bytes: 9, codec, level: None, transaction_ms: 9 }
        };
        let judged = |limit, compresses| {
            let settings = TopicSettings { max_message_bytes: limit, ..TopicSettings::default() };
            let mut found = Findings::default();
            too_large(&mut found, "t", &settings, 1_000, &limits(compresses));
            found.answer("fine")
        };
        assert!(matches!(judged(Some(1_000), false), Answer::Ok(_)));
        assert!(matches!(judged(None, false), Answer::Ok(_)));
        assert!(matches!(judged(Some(999), false), Answer::Failed { .. }));
        assert!(matches!(judged(Some(999), true), Answer::Warn { .. }));
    }
}
