//! What a group's offsets refer to: a cluster, its topics, and their ids.
//!
//! **What is stored here is never replaced**, so that a later reader notices if its topics are other ones.

use super::{Context, Store, StoreError};
use crate::metric::{Metric, PerMetric};
use crate::postgres::Isolation;
use crate::postgres::schema::sources;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

diesel::define_sql_function! {
    /// The first that is not null.
    fn coalesce(first: Nullable<Text>, second: Nullable<Text>) -> Nullable<Text>;
}

/// What the offsets of a consumer group refer to: a cluster and its topics. A row of `sources`.
#[derive(Clone, Debug, PartialEq, Eq, Insertable, Queryable, Selectable)]
#[diesel(table_name = sources)]
pub struct KafkaSource {
    /// `--group-id`
    pub consumer_group: String,
    /// The cluster's id, as the brokers know it.
    pub cluster_id: String,
    /// `--recency-topic`
    pub recency_topic: String,
    /// `--frequency-topic`
    pub frequency_topic: String,
    /// `--monetary-topic`
    pub monetary_topic: String,
}

impl KafkaSource {
    /// The topic of a metric.
    pub fn topic(&self, metric: Metric) -> &str {
        match metric {
            Metric::Recency => &self.recency_topic,
            Metric::Frequency => &self.frequency_topic,
            Metric::Monetary => &self.monetary_topic,
        }
    }

    /// The error that this is stored, and `found` is what the flags say.
    pub fn differs_from(&self, found: &Self) -> StoreError {
        let (group, stored, found) = (self.consumer_group.clone(), self.describe(), found.describe());
        StoreError::OtherSource { group, stored, found }
    }

    fn describe(&self) -> String {
        let topics = Metric::ALL.map(|metric| format!("`{}`", self.topic(metric))).join(", ");
        format!("the topics {topics} of cluster `{}`", self.cluster_id)
    }
}

impl Context {
    /// Binds the group to its source if it has none yet.
    pub(super) fn bind_source(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        diesel::insert_into(sources::table)
            .values(&self.source)
            .on_conflict_do_nothing()
            .execute(connection)?;
        Ok(())
    }

    /// Checks that the group's stored source is this one.
    pub(super) fn check_source(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let stored = sources::table
            .find(&self.source.consumer_group)
            .select(KafkaSource::as_select())
            .first(connection)
            .optional()?
            .ok_or_else(|| StoreError::Unready("`sources` lacks the row of the group".to_owned()))?;
        if stored == self.source {
            return Ok(());
        }
        Err(stored.differs_from(&self.source))
    }
}

impl Store {
    /// The stored ids of the group's topics.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn topic_ids(&mut self) -> Result<PerMetric<Option<String>>, StoreError> {
        use sources::{frequency_topic_id, monetary_topic_id, recency_topic_id};
        self.transaction("reading `sources`", Isolation::ReadOnlySnapshot, |connection, _, context| {
            let row = sources::table.find(&context.source.consumer_group);
            let ids = (recency_topic_id, frequency_topic_id, monetary_topic_id);
            let (recency, frequency, monetary) = row.select(ids).first(connection)?;
            Ok(PerMetric { recency, frequency, monetary })
        })
    }

    /// The stored ids of the group's topics. Those that are not stored yet
    /// are taken from `found` and stored. If two readers come at once, both get the ids of the first one.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn claim_topics(
        &mut self,
        found: &PerMetric<Option<String>>,
    ) -> Result<PerMetric<Option<String>>, StoreError> {
        use sources::{frequency_topic_id, monetary_topic_id, recency_topic_id};
        type Ids = (Option<String>, Option<String>, Option<String>);
        let PerMetric { recency, frequency, monetary } = found;
        self.transaction(
            "comparing the ids of the topics",
            Isolation::ReadCommitted,
            |connection, _, context| {
                let ids: Ids = diesel::update(sources::table.find(&context.source.consumer_group))
                    .set((
                        recency_topic_id.eq(coalesce(recency_topic_id, recency)),
                        frequency_topic_id.eq(coalesce(frequency_topic_id, frequency)),
                        monetary_topic_id.eq(coalesce(monetary_topic_id, monetary)),
                    ))
                    .returning((recency_topic_id, frequency_topic_id, monetary_topic_id))
                    .get_result(connection)
                    .optional()?
                    .ok_or_else(|| StoreError::Unready("`sources` lacks the row of the group".to_owned()))?;
                let (recency, frequency, monetary) = ids;
                Ok(PerMetric { recency, frequency, monetary })
            },
        )
    }
}
