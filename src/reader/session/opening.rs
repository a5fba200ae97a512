//! What a session needs before it begins: an answer of the brokers, and connections to Postgres.

use super::watchdog::Watchdog;
use super::{Memory, SessionError, blocking};
use crate::backoff::patiently;
use crate::kafka::{Cluster, KafkaError, TopicIds};
use crate::reader::Options;
use crate::reader::store::{Source, Store, StoreError, Tables, Watch};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Connections that commit different partitions at the same time. Postgres works a connection with one
/// process, so one writer uses one core of the server.
const WRITERS: usize = 2;
/// Pause between two questions for the brokers at the start.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Asks what cluster this is until a broker answers.
pub(super) async fn ask_cluster_id(cluster: Arc<Cluster>, options: &Options) -> Result<String, SessionError> {
    let asking = async {
        loop {
            let cluster = Arc::clone(&cluster);
            match blocking(move || cluster.id()).await? {
                Err(KafkaError::Transient(_)) => tokio::time::sleep(ASK_AGAIN).await,
                answer => return Ok(answer?),
            }
        }
    };
    let brokers = &options.kafka.bootstrap_servers;
    patiently(asking, |away| {
        tracing::warn!(for_s = away.as_secs(), "no broker answers at {brokers}; still trying");
    })
    .await
}

/// What the offsets of this group count.
pub(super) fn source(options: &Options, cluster_id: String) -> Source {
    let [recency_topic, frequency_topic, monetary_topic] = options.kafka.topics.clone();
    let consumer_group = options.group_id.clone();
    Source { consumer_group, cluster_id, recency_topic, frequency_topic, monetary_topic }
}

/// The connections of a session.
pub(super) struct Connections {
    /// Takes partitions.
    pub(super) owner: Store,
    /// Commit.
    pub(super) writers: Vec<Store>,
    /// The ids of the topics that the group has read so far.
    pub(super) topics: TopicIds,
}

/// Opens the connections. The first session of a process brings the tables up to date; later ones only look at them.
pub(super) async fn connect(
    watchdog: &mut Watchdog,
    options: &Options,
    source: &Source,
    memory: &mut Memory,
) -> Result<Connections, SessionError> {
    let watches = (0..=WRITERS).map(|_| watchdog.watch()).collect();
    let (url, source, tables) = (options.database_url.clone(), source.clone(), memory.tables.clone());
    let connecting = async { blocking(move || open(&url, source, tables.as_ref(), watches)).await? };
    let connections = watchdog.guard(connecting).await?;
    memory.tables = Some(connections.owner.tables().clone());
    Ok(connections)
}

/// Opens a connection for each watch.
fn open(
    database_url: &str,
    source: Source,
    tables: Option<&Tables>,
    watches: Vec<Arc<Watch>>,
) -> Result<Connections, SessionError> {
    let mut stores = connect_all(database_url, &source, watches)?.into_iter();
    let mut owner = stores.next().ok_or_else(|| SessionError::Broken("no connection".into()))?;
    if let Some(tables) = tables {
        owner.find_tables(tables)?;
    } else {
        for migration in owner.make_tables()? {
            tracing::info!(migration, "created or changed the tables");
        }
    }
    // Before the first id is given: the next batch may get one that rows have already.
    let found = owner.find_contradictions()?;
    if tables.is_none() {
        found.iter().for_each(|contradiction| tracing::warn!("{contradiction}"));
    }
    let topics = owner.claim_topics(&TopicIds::default())?;
    let mut writers: Vec<Store> = stores.collect();
    writers.iter_mut().for_each(|writer| writer.join(&owner));
    Ok(Connections { owner, writers, topics })
}

/// Makes the connections at the same time: a host of the URL that does not answer costs each of them seconds.
fn connect_all(
    database_url: &str,
    source: &Source,
    watches: Vec<Arc<Watch>>,
) -> Result<Vec<Store>, StoreError> {
    thread::scope(|scope| {
        let connect = |watch| scope.spawn(|| Store::connect(database_url, source.clone(), watch));
        let connecting: Vec<_> = watches.into_iter().map(connect).collect();
        let panicked = |_| StoreError::Unreachable("a thread failed".into());
        connecting.into_iter().map(|thread| thread.join().map_err(panicked)?).collect()
    })
}
