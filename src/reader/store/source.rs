//! Whose offsets a group's progress counts: the cluster, the topics, and their ids.
//!
//! The one idea: **what is stored here is never replaced**, so whoever comes later finds out that his topics
//! are other ones.

use super::{Context, Isolation, Store, StoreError};
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

impl Context {
    /// Binds the group to its source, the first time.
    pub(super) fn bind_source(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        diesel::insert_into(sources::table)
            .values(&self.source)
            .on_conflict_do_nothing()
            .execute(connection)?;
        Ok(())
    }

    /// Checks that the group's source is still the same.
    pub(super) fn check_source(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let stored = sources::table
            .find(&self.source.consumer_group)
            .select(Source::as_select())
            .first(connection)
            .optional()?
            .ok_or_else(|| StoreError::Unready("`sources` lacks the row of the group".to_owned()))?;
        if stored == self.source {
            return Ok(());
        }
        let group = stored.consumer_group.clone();
        let (stored, found) = (stored.describe(), self.source.describe());
        Err(StoreError::OtherSource { group, stored, found })
    }
}

impl Store {
    /// The ids of the group's topics, in the order of [`Metric::ALL`], as they are stored; those that are not
    /// stored yet are taken from `found`. Of two readers that come at once the first one's are stored, and both
    /// get them.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn claim_topics(&mut self, found: &[Option<String>; 3]) -> Result<[Option<String>; 3], StoreError> {
        use sources::{frequency_topic_id, monetary_topic_id, recency_topic_id};
        type Ids = (Option<String>, Option<String>, Option<String>);
        let [recency, frequency, monetary] = found;
        self.transaction("comparing the ids of the topics", Isolation::Usual, |connection, context| {
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
            Ok(ids.into())
        })
    }

    /// Where the group stands in the topic of `metric`: each partition, and the next offset to read.
    ///
    /// # Errors
    /// Those of the statement.
    pub fn positions(&mut self, metric: Metric) -> Result<Vec<(i32, i64)>, StoreError> {
        type Next = (i32, i64, i64, i64);
        let of_group: Vec<Next> =
            self.transaction("reading progress", Isolation::Usual, |connection, context| {
                let rows = progress::table
                    .filter(progress::consumer_group.eq(&context.source.consumer_group))
                    .order(progress::partition)
                    .select((
                        progress::partition,
                        progress::recency_next,
                        progress::frequency_next,
                        progress::monetary_next,
                    ));
                Ok(rows.load(connection)?)
            })?;
        let next = |(partition, recency, frequency, monetary): Next| {
            (partition, [recency, frequency, monetary][metric.index()])
        };
        Ok(of_group.into_iter().map(next).collect())
    }
}
