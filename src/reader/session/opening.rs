//! What a session needs before it begins: an answer of the brokers, and connections to Postgres.

use super::watchdog::Watchdog;
use super::{Memory, SessionError, blocking};
use crate::backoff::wait_and_report;
use crate::health::{Health, Obstacle};
use crate::kafka::{Cluster, KafkaError, TopicIds};
use crate::metric::PerMetric;
use crate::postgres::{Address, PostgresError, explain_limit};
use crate::reader::Options;
use crate::reader::score::Rules;
use crate::reader::store::{KafkaSource, Store, StoreError, Tables, Watch};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Connections that commit different partitions at the same time. Postgres serves a connection with one
/// process, so one writer uses one core of the server.
pub(in crate::reader) const WRITERS: usize = 2;
/// Pause between two attempts to reach the brokers at the start.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Asks what cluster this is until a broker answers.
pub(super) async fn ask_cluster_id(cluster: Arc<Cluster>, health: &Health) -> Result<String, SessionError> {
    let asking = async {
        loop {
            let cluster = Arc::clone(&cluster);
            match blocking(move || cluster.id()).await? {
                Err(KafkaError::Transient(_)) => tokio::time::sleep(ASK_AGAIN).await,
                answer => return Ok(answer?),
            }
        }
    };
    let answered = wait_and_report(asking, |away| {
        let what = cluster.no_answer();
        tracing::warn!(for_s = away.as_secs(), "{what}; still trying");
        health.set(Obstacle::Brokers, Some(what));
    })
    .await;
    health.set(Obstacle::Brokers, None);
    answered
}

/// The cluster and topics to which the offsets of this group belong.
pub(in crate::reader) fn source(options: &Options, cluster_id: String) -> KafkaSource {
    let PerMetric { recency, frequency, monetary } = options.kafka.topics.clone();
    KafkaSource {
        consumer_group: options.group_id.clone(),
        cluster_id,
        recency_topic: recency,
        frequency_topic: frequency,
        monetary_topic: monetary,
    }
}

/// Logs what the reader works with: wrong variables show here, and the wrong `.env`.
pub(super) fn log_ready(options: &Options, rules: &Rules, source: &KafkaSource) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        group = source.consumer_group,
        database = %options.database,
        cluster = source.cluster_id,
        topics = options.kafka.topic_list(),
        ties = rules.ties.name(),
        segment_map = rules.segments.identity(),
        edges = rules.edges.identity(),
        customer_ids = rules.customer_ids.name(),
        env_file = options.env_file.as_ref().map(|path| tracing::field::display(path.display())),
        "ready"
    );
}

/// The connections of a session.
pub(super) struct Connections {
    /// Takes partitions.
    pub(super) owner: Store,
    /// They commit.
    pub(super) writers: Vec<Store>,
    /// The ids of the topics that the group has read so far.
    pub(super) topics: TopicIds,
    /// How batches are scored.
    pub(super) rules: Arc<Rules>,
}

/// Opens the connections. The first session of a process brings the tables up to date; later ones only check
/// them.
pub(super) async fn connect(
    watchdog: &mut Watchdog,
    options: &Options,
    source: &KafkaSource,
    memory: &mut Memory,
) -> Result<Connections, SessionError> {
    let watches = (0..=WRITERS).map(|_| watchdog.watch()).collect();
    let (options, source) = (options.clone(), source.clone());
    let (tables, rules) = (memory.tables.clone(), memory.rules.clone());
    let connecting =
        async { blocking(move || open(&options, source, tables.as_ref(), rules, watches)).await? };
    let connections = watchdog.guard(connecting).await?;
    memory.tables = Some(connections.owner.tables().clone());
    memory.rules = Some(Arc::clone(&connections.rules));
    Ok(connections)
}

/// Opens a connection for each watch.
fn open(
    options: &Options,
    source: KafkaSource,
    tables: Option<&Tables>,
    rules: Option<Arc<Rules>>,
    watches: Vec<Arc<Watch>>,
) -> Result<Connections, SessionError> {
    let (address, needed) = (&options.database, watches.len());
    let stores = connect_all(address, &source, watches).map_err(|error| match error {
        StoreError::Postgres(error) => explain_limit(address, error, needed).into(),
        error => error,
    })?;
    let mut stores = stores.into_iter();
    let mut owner = stores.next().ok_or_else(|| SessionError::Broken("no connection".into()))?;
    if let Some(tables) = tables {
        owner.find_tables(tables)?;
    } else {
        let (run, warnings) = owner.make_tables()?;
        run.iter().for_each(|migration| tracing::info!(migration, "created or changed the tables"));
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    }
    // Before the first id is given out: the next batch might get an id that rows already have.
    let found = owner.find_contradictions()?;
    if tables.is_none() {
        found.iter().for_each(|contradiction| tracing::warn!("{contradiction}"));
    }
    owner.keep_segment_map(&options.rules.segments)?;
    if options.retention.retain.is_some() {
        owner.check_right_to_expire()?;
    }
    let rules = match rules {
        Some(rules) => rules,
        None => owner.with_edges(&options.rules, options.edges_from)?.into(),
    };
    let topics = owner.claim_topics(&TopicIds::default())?;
    let mut writers: Vec<Store> = stores.collect();
    writers.iter_mut().for_each(|writer| writer.join(&owner));
    Ok(Connections { owner, writers, topics, rules })
}

/// Opens the connections at the same time, because a host of the URL that does not answer costs each of them
/// seconds.
fn connect_all(
    address: &Address,
    source: &KafkaSource,
    watches: Vec<Arc<Watch>>,
) -> Result<Vec<Store>, StoreError> {
    thread::scope(|scope| {
        let connect = |watch| scope.spawn(|| Store::connect(address, source.clone(), watch));
        let connecting: Vec<_> = watches.into_iter().map(connect).collect();
        let panicked = |_| PostgresError::Unreachable("a thread failed".into());
        connecting.into_iter().map(|thread| thread.join().map_err(panicked)?).collect()
    })
}
