//! What a session needs before it begins: an answer of the brokers, and connections to Postgres.

use super::{SessionError, blocking};
use crate::backoff::patiently;
use crate::kafka::{Cluster, KafkaError, TopicIds};
use crate::reader::Options;
use crate::reader::store::{Source, Store};
use std::sync::Arc;
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

/// Opens the connections: one that owns, and the writers. Brings the tables up to date, and tells which topics
/// the group has read so far.
pub(super) fn connect(
    database_url: &str,
    source: &Source,
) -> Result<(Store, TopicIds, Vec<Store>), SessionError> {
    let mut owner = Store::connect(database_url, source.clone())?;
    for migration in owner.migrate()? {
        tracing::info!(migration, "created or changed the tables");
    }
    owner.claim_source()?;
    let topics = owner.claim_topics(&TopicIds::default())?;
    let writers =
        (0..WRITERS).map(|_| Store::connect(database_url, source.clone())).collect::<Result<_, _>>()?;
    Ok((owner, topics, writers))
}
