//! The threads that score.

use super::SessionError;
use super::queue::Unstored;
use crate::reader::pairing::Batch;
use crate::reader::score::Rules;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Threads that score at the same time.
const SCORERS: usize = 2;

/// See the module.
pub(super) struct Scorers {
    /// How batches are scored.
    rules: Arc<Rules>,
    /// The threads at work.
    threads: JoinSet<Vec<Unstored>>,
}

impl Scorers {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self { rules, threads: JoinSet::new() }
    }

    /// Whether no thread is at work.
    pub(super) fn are_idle(&self) -> bool {
        self.threads.is_empty()
    }

    pub(super) fn is_one_free(&self) -> bool {
        self.threads.len() < SCORERS
    }

    pub(super) fn start(&mut self, batches: Vec<Batch>) {
        let rules = Arc::clone(&self.rules);
        let score = move || batches.into_iter().map(|batch| Unstored::scored(&rules, batch)).collect();
        self.threads.spawn_blocking(score);
    }

    /// Waits for a thread. `None`: none is at work. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Unstored>, SessionError>> {
        Some(self.threads.join_next().await?.map_err(SessionError::from))
    }
}
