//! Creating a topic, and what the brokers' answer means.

use super::client_log::Reporting;
use super::{ANSWER_TIMEOUT, Cluster, Connection, KafkaError, Right};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaType;

/// Settings that carry a guarantee; see `properties::RESERVED`. The client sends no messages, but the user
/// may have set properties for the producer that need idempotence.
pub(super) const FIXED_TO_CREATE: [(&str, &str); 2] =
    [("allow.auto.create.topics", "false"), ("enable.idempotence", "true")];

/// What came of the creation of a topic.
#[derive(Debug)]
pub enum Creation {
    /// It exists now.
    Made,
    /// It existed before.
    Existed,
    /// There are fewer brokers than replicas. More may come; if none do, this is the refusal.
    TooFewBrokers(KafkaError),
}

impl Cluster {
    /// Checks the properties for [`Cluster::create_topic`] without a connection.
    ///
    /// # Errors
    /// [`KafkaError::Property`] and [`KafkaError::Properties`].
    pub fn check_creating(connection: &Connection) -> Result<(), KafkaError> {
        connection.check(RDKafkaType::RD_KAFKA_PRODUCER, &[], &FIXED_TO_CREATE)
    }

    /// Creates a topic with the brokers' default replication.
    ///
    /// # Errors
    /// The brokers' refusal, or that none of them answers.
    pub async fn create_topic(&self, topic: &str, partitions: usize) -> Result<Creation, KafkaError> {
        self.ask_to_create(topic, partitions, false).await
    }

    /// What would come of [`Cluster::create_topic`]. Creates nothing.
    ///
    /// # Errors
    /// As above.
    pub async fn could_create_topic(&self, topic: &str, partitions: usize) -> Result<Creation, KafkaError> {
        self.ask_to_create(topic, partitions, true).await
    }

    async fn ask_to_create(
        &self,
        topic: &str,
        partitions: usize,
        validate_only: bool,
    ) -> Result<Creation, KafkaError> {
        let config = self.connection.client_config(&[], &FIXED_TO_CREATE);
        let admin: AdminClient<_> = config.create_with_context(Reporting::default())?;
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        // -1: the brokers' `default.replication.factor`.
        let new = NewTopic::new(topic, count, TopicReplication::Fixed(-1));
        let options =
            AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT)).validate_only(validate_only);
        let answer = admin.create_topics([&new], &options).await?;
        let code = answer.into_iter().find_map(|result| result.err().map(|(_, code)| code));
        creation(topic, code)
    }
}

/// What the brokers' answer to the creation of a topic means.
fn creation(topic: &str, code: Option<Code>) -> Result<Creation, KafkaError> {
    let cannot = |code: Code| format!("cannot create the topic `{topic}`: {code}");
    match code {
        None => Ok(Creation::Made),
        Some(Code::TopicAlreadyExists) => Ok(Creation::Existed),
        Some(code @ Code::InvalidReplicationFactor) => Ok(Creation::TooFewBrokers(KafkaError::Refused {
            what: cannot(code),
            hint: "the brokers' `default.replication.factor` is larger than their number: lower it, add brokers, or \
                   create the three topics yourself"
                .to_owned(),
        })),
        Some(Code::InvalidTopic) => Err(KafkaError::invalid_topic(topic)),
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            Err(KafkaError::denied(Right::Create, &format!("the topic `{topic}`, which does not exist")))
        }
        Some(
            code @ (Code::PolicyViolation
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicaAssignment
            | Code::InvalidRequest),
        ) => Err(KafkaError::Refused {
            what: cannot(code),
            hint: "create the three topics yourself, with the same number of partitions".to_owned(),
        }),
        Some(code) => Err(KafkaError::Transient(cannot(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_mends_is_tried_again_when_a_topic_is_created() {
        for code in [Code::NotController, Code::RequestTimedOut, Code::BrokerTransportFailure] {
            assert!(matches!(creation("t", Some(code)), Err(KafkaError::Transient(_))), "{code}");
        }
        for code in [Code::TopicAuthorizationFailed, Code::InvalidTopic, Code::PolicyViolation] {
            let Err(KafkaError::Refused { what, .. }) = creation("t", Some(code)) else { panic!("{code}") };
            assert!(what.contains("`t`"), "{what}");
        }
        let few = creation("t", Some(Code::InvalidReplicationFactor));
        assert!(matches!(few, Ok(Creation::TooFewBrokers(_))), "{few:?}");
        assert!(matches!(creation("t", Some(Code::TopicAlreadyExists)), Ok(Creation::Existed)));
    }
}
