//! The connection that takes partitions and reads what is stored, and the watchdog over all connections of
//! the session.

use super::upkeep::Upkeep;
use super::watchdog::Watchdog;
use super::{SessionError, blocking};
use crate::reader::store::{KafkaSource, Store};
use std::sync::Arc;
use tokio::sync::Mutex;

/// See the module.
pub(in crate::reader) struct Owner {
    /// Shared with the threads that use it, one after the other.
    store: Arc<Mutex<Store>>,
    /// Watches all connections of the session.
    watchdog: Watchdog,
    /// The cluster and topics to which the offsets of this group belong.
    pub(in crate::reader) source: KafkaSource,
    /// The upkeep of `segments`; `None` for a command.
    pub(super) upkeep: Option<Upkeep>,
}

impl Owner {
    pub(in crate::reader) fn new(store: Store, watchdog: Watchdog, source: KafkaSource) -> Self {
        Self { store: Arc::new(Mutex::new(store)), watchdog, source, upkeep: None }
    }

    /// The same, for a session.
    pub(super) fn with(self, upkeep: Upkeep) -> Self {
        Self { upkeep: Some(upkeep), ..self }
    }

    /// Runs `work` with the connection, on a thread. An error if Postgres goes mute meanwhile.
    pub(in crate::reader) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let task = self.task(work);
        self.watchdog.guard(async { blocking(task).await? }).await
    }

    /// Does work that uses the connection. An error if Postgres goes mute meanwhile.
    pub(super) async fn guard<T>(
        &mut self,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        self.watchdog.guard(work).await
    }

    /// Wraps `work` with the connection into a task for a thread.
    pub(super) fn task<T, W: FnOnce(&mut Store) -> T>(&self, work: W) -> impl FnOnce() -> T + use<T, W> {
        let store = Arc::clone(&self.store);
        move || work(&mut store.blocking_lock())
    }

    /// Returns once Postgres is mute, and never before. Nothing is lost if the future is dropped.
    pub(super) async fn mute(&mut self) -> SessionError {
        self.watchdog.alarm().await
    }
}
