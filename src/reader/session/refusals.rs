//! Finds the batch that Postgres refuses, by storing batches one at a time after a statement failed.

use super::error::SessionError;
use crate::coordinates::MessageId;
use crate::reader::store::StoreError;
use std::collections::BTreeMap;

/// How many times a batch may fail alone, on a sound connection, before the reader stops and names it.
const TRIES: u32 = 3;
/// How many commits must succeed before batches are stored together again.
const PROBATION: u32 = 200;
/// How many batches that failed alone are remembered; if there are more, counting begins again. Two writers fail by
/// turns, so a few would do.
const REMEMBERED: usize = 1000;

/// Outlives sessions, because a failed commit ends its session.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Commits to go until the search is over.
    probation: u32,
    /// How many times each batch failed alone, by its first message.
    failed: BTreeMap<MessageId, u32>,
}

impl Refusals {
    /// Whether batches are stored one at a time.
    pub(super) fn is_searching(&self) -> bool {
        self.probation > 0
    }

    /// Draws the conclusion from the result of a commit; `only` is its batch, if there was only one.
    pub(super) fn judge<T>(
        &mut self,
        only: Option<MessageId>,
        result: Result<T, StoreError>,
    ) -> Result<T, SessionError> {
        match result {
            Ok(stored) => {
                self.probation = self.probation.saturating_sub(1);
                if let Some(first) = only {
                    self.failed.remove(&first);
                }
                Ok(stored)
            }
            Err(error) if error.blames_statement() => {
                self.probation = PROBATION;
                Err(self.isolate(only, error))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn isolate(&mut self, only: Option<MessageId>, source: StoreError) -> SessionError {
        let Some(first) = only else { return source.into() };
        if self.failed.len() >= REMEMBERED && !self.failed.contains_key(&first) {
            self.failed.clear();
        }
        let times = self.failed.entry(first).or_default();
        *times += 1;
        if *times < TRIES { source.into() } else { SessionError::RefusedBatch { first, source } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::postgres::PostgresError;

    fn at(offset: i64) -> Option<MessageId> {
        Some(MessageId { partition: 0, metric: Metric::Recency, offset })
    }

    fn refused() -> Result<(), StoreError> {
        Err(PostgresError::Statement("no".into()).into())
    }

    #[test]
    fn a_batch_that_fails_alone_three_times_is_named() {
        let mut refusals = Refusals::default();
        assert!(matches!(refusals.judge(None, refused()), Err(SessionError::Store(_))));
        assert!(refusals.is_searching());
        assert!(matches!(refusals.judge(at(7), refused()), Err(SessionError::Store(_))));
        assert!(refusals.judge(at(5), Ok(())).is_ok());
        assert!(matches!(refusals.judge(at(7), refused()), Err(SessionError::Store(_))));
        assert!(matches!(
            refusals.judge(at(7), refused()),
            Err(SessionError::RefusedBatch { first: MessageId { offset: 7, .. }, .. })
        ));
    }

    #[test]
    fn batches_that_fail_by_turns_are_counted_each() {
        let mut refusals = Refusals::default();
        for offset in [7, 5, 7, 5] {
            assert!(matches!(refusals.judge(at(offset), refused()), Err(SessionError::Store(_))));
        }
        assert!(matches!(refusals.judge(at(7), refused()), Err(SessionError::RefusedBatch { .. })));
    }

    #[test]
    fn a_batch_that_was_stored_is_forgotten() {
        let mut refusals = Refusals::default();
        for _ in 0..5 {
            assert!(matches!(refusals.judge(at(7), refused()), Err(SessionError::Store(_))));
            assert!(refusals.judge(at(7), Ok(())).is_ok());
        }
        assert!(refusals.failed.is_empty());
    }

    #[test]
    fn a_broken_connection_starts_no_search() {
        let mut refusals = Refusals::default();
        for _ in 0..10 {
            let broken: Result<(), _> = Err(PostgresError::Unreachable("gone".into()).into());
            assert!(matches!(refusals.judge(at(7), broken), Err(SessionError::Store(_))));
        }
        assert!(!refusals.is_searching());
    }

    #[test]
    fn the_search_ends_after_its_probation() {
        let mut refusals = Refusals::default();
        let _ = refusals.judge(None, refused());
        (0..PROBATION).for_each(|_| refusals.judge(None, Ok(())).unwrap());
        assert!(!refusals.is_searching());
    }
}
