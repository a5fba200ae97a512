//! The settings of topics and brokers that decide whether messages are accepted, and how long they stay.

use super::client_log::Reporting;
use super::creation::FIXED_TO_CREATE;
use super::{ANSWER_TIMEOUT, Cluster, KafkaError};
use crate::metric::PerMetric;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::str::FromStr;

/// What a topic is set to, as far as the brokers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// `retention.ms`: how long messages are kept; -1 for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`: how much of a partition is kept; -1 without limit.
    pub retention_bytes: Option<i64>,
    /// Whether `cleanup.policy` compacts the log.
    pub is_compacted: bool,
    /// `max.message.bytes`: the largest batch of records.
    pub max_message_bytes: Option<u64>,
    /// `min.insync.replicas`: without so many, nothing is accepted.
    pub min_insync_replicas: Option<usize>,
}

impl TopicSettings {
    fn of(resource: &ConfigResource) -> Self {
        let policy: Option<String> = setting(resource, "cleanup.policy");
        Self {
            retention_ms: setting(resource, "retention.ms"),
            retention_bytes: setting(resource, "retention.bytes"),
            is_compacted: policy.is_some_and(|policy| policy.contains("compact")),
            max_message_bytes: setting(resource, "max.message.bytes"),
            min_insync_replicas: setting(resource, "min.insync.replicas"),
        }
    }
}

/// A setting, if the brokers tell it.
fn setting<T: FromStr>(resource: &ConfigResource, name: &str) -> Option<T> {
    resource.get(name)?.value.as_ref()?.parse().ok()
}

impl Cluster {
    /// The settings of the three topics, which must exist. `None`: this user may not ask (`DescribeConfigs`).
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub async fn topic_settings(&self) -> Result<Option<PerMetric<TopicSettings>>, KafkaError> {
        let topics = self.connection.topics.as_ref().map(|topic| ResourceSpecifier::Topic(topic));
        let described = self.describe(&topics.into_array()).await?;
        Ok(described.map(|found| {
            let mut found = found.iter().map(TopicSettings::of);
            PerMetric::from_fn(|_| found.next().unwrap_or_default())
        }))
    }

    /// `transaction.max.timeout.ms` of a broker; `None` if it does not tell this user.
    ///
    /// # Errors
    /// [`KafkaError::Transient`] if no broker answers.
    pub async fn longest_transaction_ms(&self) -> Result<Option<i64>, KafkaError> {
        let broker = self.ask("which brokers there are", |client| self.one_broker(client))?;
        let described = self.describe(&[ResourceSpecifier::Broker(broker)]).await?;
        Ok(described.and_then(|found| setting(found.first()?, "transaction.max.timeout.ms")))
    }

    /// The settings of resources, in the same order; `None` if this user may not ask.
    async fn describe(
        &self,
        resources: &[ResourceSpecifier<'_>],
    ) -> Result<Option<Vec<ConfigResource>>, KafkaError> {
        let config = self.connection.client_config(&[], &FIXED_TO_CREATE);
        let admin: AdminClient<_> = config.create_with_context(Reporting::default())?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let mut found = Vec::new();
        for described in admin.describe_configs(resources, &options).await? {
            match described {
                // Of what the user may not see, rdkafka tells no error, and no setting.
                Ok(resource) if resource.entries.is_empty() => return Ok(None),
                Ok(resource) => found.push(resource),
                Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => return Ok(None),
                Err(code) => return Err(KafkaError::Transient(format!("no settings: {code}"))),
            }
        }
        Ok(Some(found))
    }
}
