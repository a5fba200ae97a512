//! Whose offsets a group's progress counts: the cluster, the topics, and their ids.
//!
//! The one idea: **what is stored here is never replaced**, so whoever comes later finds out that his topics
//! are other ones.

use super::{Store, StoreError};
use crate::message::Metric;
use crate::reader::schema::{progress, sources};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

diesel::define_sql_function! {
    /// The first that is not null.
    fn coalesce(first: Nullable<Text>, second: Nullable<Text>) -> Nullable<Text>;
}

/// Whose offsets a group's progress counts.
#[derive(Clone, Debug, PartialEq, Eq, Insertable, Queryable, Selectable)]
#[diesel(table_name = sources)]
pub struct Source {
    /// `--group-id`
    pub consumer_group: String,
    /// What the brokers call their cluster.
    pub cluster_id: String,
    /// `--recency-topic`
    pub recency_topic: String,
    /// `--frequency-topic`
    pub frequency_topic: String,
    /// `--monetary-topic`
    pub monetary_topic: String,
}

impl Source {
    /// The topic of a metric.
    pub fn topic(&self, metric: Metric) -> &str {
        match metric {
            Metric::Recency => &self.recency_topic,
            Metric::Frequency => &self.frequency_topic,
            Metric::Monetary => &self.monetary_topic,
        }
    }

    fn describe(&self) -> String {
        let topics = Metric::ALL.map(|metric| format!("`{}`", self.topic(metric))).join(", ");
        format!("the topics {topics} of cluster `{}`", self.cluster_id)
    }
}

impl Store {
    /// Binds the group to its source, the first time; later, checks that it still is the same.
    ///
    /// # Errors
    /// [`StoreError::OtherSource`].
    pub fn claim_source(&mut self) -> Result<(), StoreError> {
        diesel::insert_into(sources::table)
            .values(&self.source)
            .on_conflict_do_nothing()
            .execute(&mut self.connection)?;
        let stored = sources::table
            .find(&self.source.consumer_group)
            .select(Source::as_select())
            .first(&mut self.connection)?;
        if stored == self.source {
            return Ok(());
        }
        let group = stored.consumer_group.clone();
        let (stored, found) = (stored.describe(), self.source.describe());
        Err(StoreError::OtherSource { group, stored, found })
    }

    /// The ids of the group's topics, in the order of [`Metric::ALL`], as they are stored; those that are not
    /// stored yet are taken from `found`. Of two readers that come at once the first one's are stored, and both
    /// get them.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn claim_topics(&mut self, found: &[Option<String>; 3]) -> Result<[Option<String>; 3], StoreError> {
        use sources::{frequency_topic_id, monetary_topic_id, recency_topic_id};
        let [recency, frequency, monetary] = found;
        let ids: (Option<String>, Option<String>, Option<String>) =
            diesel::update(sources::table.find(&self.source.consumer_group))
                .set((
                    recency_topic_id.eq(coalesce(recency_topic_id, recency)),
                    frequency_topic_id.eq(coalesce(frequency_topic_id, frequency)),
                    monetary_topic_id.eq(coalesce(monetary_topic_id, monetary)),
                ))
                .returning((recency_topic_id, frequency_topic_id, monetary_topic_id))
                .get_result(&mut self.connection)?;
        Ok(ids.into())
    }

    /// Where the group stands in the topic of `metric`: each partition, and the next offset to read.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn positions(&mut self, metric: Metric) -> Result<Vec<(i32, i64)>, StoreError> {
        type Next = (i32, i64, i64, i64);
        let of_group = progress::table
            .filter(progress::consumer_group.eq(&self.source.consumer_group))
            .order(progress::partition)
            .select((
                progress::partition,
                progress::recency_next,
                progress::frequency_next,
                progress::monetary_next,
            ))
            .load::<Next>(&mut self.connection)?;
        let next = |(partition, recency, frequency, monetary): Next| {
            (partition, [recency, frequency, monetary][metric.index()])
        };
        Ok(of_group.into_iter().map(next).collect())
    }
}
