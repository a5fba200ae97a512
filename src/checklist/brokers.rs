//! The questions to the brokers that both programs ask.

use super::{Answer, Outcome};
use crate::kafka::{Cluster, Connection, Right, TopicSettings};
use crate::metric::{Metric, PerMetric};
use chrono::Utc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The brokers, and what is found out about them.
pub struct Brokers {
    /// Brokers and topics.
    pub kafka: Connection,
    /// What the program does with the topics.
    right: Right,
    /// The client that asks; `None` before a broker has answered.
    cluster: Option<Cluster>,
    /// The id of the cluster.
    pub id: Option<String>,
    /// The partitions of each topic, if the three have the same number.
    pub partitions: Option<usize>,
    /// Whether some of the topics are missing.
    is_missing: bool,
    /// The settings of the topics, if the brokers tell them.
    settings: Option<PerMetric<TopicSettings>>,
}

/// Clocks that differ by more are worth a warning.
pub const LARGEST_SKEW: Duration = Duration::from_secs(1);

/// How far into the future the times of messages are looked for.
const AHEAD: [(i64, &str); 5] = [(3_600, "an hour"), (60, "a minute"), (10, "10 s"), (5, "5 s"), (1, "1 s")];

impl Brokers {
    /// Asks nobody yet.
    pub fn new(kafka: Connection, right: Right) -> Self {
        Self { kafka, right, cluster: None, id: None, partitions: None, is_missing: false, settings: None }
    }

    /// The client, if a broker has answered it.
    pub fn cluster(&self) -> Result<&Cluster, Answer> {
        self.cluster.as_ref().ok_or_else(|| Answer::skipped("no broker has answered"))
    }

    /// How many partitions each of the topics has.
    pub fn partitions(&self) -> Result<usize, Answer> {
        self.partitions.ok_or_else(|| {
            Answer::skipped(match self.is_missing {
                true => "topics are missing",
                false => "the topics do not fit together, or are not known",
            })
        })
    }

    /// Whether a broker answers, and which cluster it is of.
    pub fn answer(&mut self) -> Outcome {
        let cluster = Cluster::new(&self.kafka, self.right)?;
        let id = cluster.id()?;
        let at = &self.kafka.bootstrap_servers;
        let answer = Answer::Ok(format!("cluster `{id}` answers at {at}"));
        (self.cluster, self.id) = (Some(cluster), Some(id));
        Ok(answer)
    }

    /// Whether the topics are there, with equal partition counts. `missing` answers for those that are not.
    pub fn topics(&mut self, missing: impl FnOnce(&Cluster, &PerMetric<usize>) -> Outcome) -> Outcome {
        let found = self.cluster()?.topic_partitions()?;
        if let Some(partitions) = found.equal() {
            self.partitions = Some(partitions);
            let names = self.kafka.topic_list();
            return Ok(Answer::Ok(format!("{names}; partitions of each: {partitions}")));
        }
        let counts = found.counts;
        self.is_missing = counts.values().any(|&count| count == 0);
        if self.is_missing {
            return missing(self.cluster()?, &counts);
        }
        Ok(Answer::failed(
            format!("the partition counts differ: {found}"),
            "add partitions to the topics that have fewer (kafka-topics --alter --partitions); nothing is read or sent \
             while the counts differ",
        ))
    }

    /// Whether every partition has a leader.
    pub fn leaders(&mut self) -> Outcome {
        let partitions = self.partitions()?;
        let without: Vec<String> = self
            .cluster()?
            .replicas()?
            .into_iter()
            .filter(|replicas| !replicas.has_leader)
            .map(|replicas| format!("`{}` {}", self.kafka.topic(replicas.at.metric), replicas.at.partition))
            .collect();
        if without.is_empty() {
            return Ok(Answer::Ok(format!("all {} partitions have one", 3 * partitions)));
        }
        let hint = "start the brokers that have their replicas; see kafka-topics --describe --unavailable-partitions";
        Ok(Answer::failed(format!("no broker leads {}", without.join(", ")), hint))
    }

    /// Whether the program has its right on the topics.
    pub fn right_on_topics(&mut self) -> Outcome {
        self.partitions()?;
        self.cluster()?.check_right_on_topics()?;
        Ok(Answer::Ok(format!("{:?} is allowed", self.right)))
    }

    /// The settings of the topics, asked once.
    pub fn settings(&mut self) -> Result<&PerMetric<TopicSettings>, Answer> {
        self.partitions()?;
        if self.settings.is_none() {
            self.settings = Handle::current().block_on(self.cluster()?.topic_settings())?;
        }
        let names = self.kafka.topic_list();
        self.settings.as_ref().ok_or_else(|| {
            Answer::warn(
                "the brokers do not tell this user the settings of the topics",
                format!("allow it `DescribeConfigs` on {names}, or look yourself: kafka-configs --describe"),
            )
        })
    }

    /// Whether the newest messages are from the future. That a clock of a sender or a broker is behind cannot be
    /// seen, because Kafka does not tell its time.
    pub fn times(&mut self) -> Outcome {
        let partitions = self.partitions()?;
        let now = Utc::now().timestamp_millis();
        for (ahead, words) in AHEAD {
            let since = now + ahead * 1_000;
            if let Some(at) = self.cluster()?.message_since(partitions, since)? {
                let topic = self.kafka.topic(at.metric);
                return Ok(Answer::warn(
                    format!(
                        "a message in `{topic}`, partition {}, is from the future, by {words} or more: the clock of \
                         this host is behind, or that of a sender or broker ahead",
                        at.partition
                    ),
                    "set the clocks by NTP; the time of a message is the `as_of` of a snapshot that has none",
                ));
            }
        }
        Ok(Answer::Ok("no message is from the future".to_owned()))
    }
}

/// Why topics are missing.
pub fn missing_topics(kafka: &Connection, counts: &PerMetric<usize>) -> Answer {
    let missing = Metric::ALL.into_iter().filter(|&metric| counts[metric] == 0);
    let names: Vec<String> = missing.map(|metric| format!("`{}`", kafka.topic(metric))).collect();
    Answer::failed(
        format!("missing: {}", names.join(", ")),
        "create the three topics with the same number of partitions (kafka-topics --create); the bundled producer does so",
    )
}
