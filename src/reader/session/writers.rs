//! The connections that commit, and the threads that use them.

use super::SessionError;
use super::queue::Fill;
use super::receipt::{Commit, Receipt};
use super::refusals::Refusals;
use crate::coordinates::MessageId;
use crate::failpoint;
use crate::reader::score::Rules;
use crate::reader::shifts::Shifts;
use crate::reader::store::{Store, StoreError};
use chrono::Utc;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::{JoinSet, spawn_blocking};

/// So many batches are freed beside the next commit.
const MANY: usize = 100;

/// See the module.
pub(super) struct Writers {
    /// How batches were scored, as the rows record it.
    rules: Arc<Rules>,
    /// Idle connections.
    #[expect(clippy::vec_box, reason = "a connection travels to a thread and back; as a pointer")]
    idle: Vec<Box<Store>>,
    /// Commits under way.
    threads: JoinSet<Committed>,
    /// The partitions in these commits.
    busy: BTreeSet<i32>,
}

/// The result of a thread.
struct Committed {
    /// The connection, to be used again.
    store: Box<Store>,
    /// The partitions of the commit.
    partitions: Vec<i32>,
    /// See [`Commit::only`].
    only: Option<MessageId>,
    /// What was stored, or why nothing was.
    result: Result<Receipt, StoreError>,
}

impl Writers {
    pub(super) fn new(rules: Arc<Rules>, connections: Vec<Store>) -> Self {
        let idle = connections.into_iter().map(Box::new).collect();
        Self { rules, idle, threads: JoinSet::new(), busy: BTreeSet::new() }
    }

    /// How batches are scored.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// Whether a connection is idle.
    pub(super) fn is_one_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Whether no commit is under way.
    pub(super) fn are_idle(&self) -> bool {
        self.threads.is_empty()
    }

    /// The partitions in commits under way.
    pub(super) fn busy(&self) -> &BTreeSet<i32> {
        &self.busy
    }

    /// Starts the commit that `build` returns, if a connection is idle and there is something to store.
    /// Its batches are compared with `known` once they are stored. Returns whether it did.
    pub(super) fn start_next(
        &mut self,
        one_at_a_time: bool,
        known: &Shifts,
        build: impl FnOnce(Fill<'_>) -> Option<Commit>,
    ) -> bool {
        let fill = Fill { busy: &self.busy, idle_writers: self.idle.len(), one_at_a_time };
        let Some(mut store) = self.idle.pop() else { return false };
        let Some(commit) = build(fill) else {
            self.idle.push(store);
            return false;
        };
        let partitions: Vec<i32> = commit.parts.iter().map(|part| part.partition).collect();
        self.busy.extend(&partitions);
        let (rules, mut populations) = (Arc::clone(&self.rules), known.of(commit.batches()));
        self.threads.spawn_blocking(move || {
            let begun = Instant::now();
            let only = commit.only;
            let result = store.commit(&rules, &commit.parts).map(|ids| {
                let (took, now) = (begun.elapsed(), Utc::now());
                let shifts = commit.shifts(&rules, &ids, &mut populations);
                let (receipt, stored) = commit.receipt(took, now);
                // To free thousands of batches takes milliseconds, in which this connection can be at work again.
                // (Large ones are few, are freed at once, and never lie beside those of the next commit.)
                if stored.len() > MANY {
                    spawn_blocking(move || drop(stored));
                }
                Receipt { shifts, populations, ..receipt }
            });
            Committed { store, partitions, only, result }
        });
        true
    }

    /// Waits for a commit. `None`: none is under way. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self, refusals: &mut Refusals) -> Option<Result<Receipt, SessionError>> {
        let committed = self.threads.join_next().await?;
        Some(committed.map_err(SessionError::from).and_then(|committed| self.finish(committed, refusals)))
    }

    fn finish(&mut self, committed: Committed, refusals: &mut Refusals) -> Result<Receipt, SessionError> {
        let Committed { store, partitions, only, result } = committed;
        let receipt = refusals.judge(only, result)?;
        failpoint::reach("after_commit");
        self.idle.push(store);
        partitions.iter().for_each(|partition| {
            self.busy.remove(partition);
        });
        Ok(receipt)
    }
}
