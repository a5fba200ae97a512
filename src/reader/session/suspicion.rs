//! Which batch Postgres refuses: found by storing batches one by one after a statement failed.

use super::error::SessionError;
use crate::reader::pairing::Position;
use crate::reader::store::StoreError;

/// So often a batch may fail alone, on a sound connection, before the reader stops and names it.
const TRIES: u32 = 3;
/// So many commits of a single batch must succeed before batches are stored together again.
const PROBATION: u32 = 200;

/// Kept over sessions, since a failed commit ends its session.
#[derive(Debug, Default)]
pub struct Suspicion {
    /// Commits to go until the suspicion is over.
    probation: u32,
    /// The batch that failed alone last, and how often.
    failed: Option<(Position, u32)>,
}

impl Suspicion {
    /// Whether batches are to be stored one by one.
    pub(super) fn is_active(&self) -> bool {
        self.probation > 0
    }

    /// Draws the conclusion from a commit; `single` is the batch, if there was only one.
    pub(super) fn judge(
        &mut self,
        single: Option<Position>,
        result: Result<(), StoreError>,
    ) -> Result<(), SessionError> {
        match result {
            Ok(()) => {
                self.probation = self.probation.saturating_sub(1);
                Ok(())
            }
            Err(error) if error.blames_statement() => {
                self.probation = PROBATION;
                self.accuse(single, error)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn accuse(&mut self, single: Option<Position>, source: StoreError) -> Result<(), SessionError> {
        let Some(first) = single else { return Err(source.into()) };
        let before = self.failed.filter(|(position, _)| *position == first).map_or(0, |(_, times)| times);
        self.failed = Some((first, before + 1));
        if before + 1 < TRIES {
            Err(source.into())
        } else {
            Err(SessionError::RefusedBatch { first, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Metric;

    fn at(offset: i64) -> Option<Position> {
        Some(Position { partition: 0, metric: Metric::Recency, offset })
    }

    fn refused() -> Result<(), StoreError> {
        Err(StoreError::Statement("no".into()))
    }

    #[test]
    fn a_batch_that_fails_alone_three_times_is_named() {
        let mut suspicion = Suspicion::default();
        assert!(matches!(suspicion.judge(None, refused()), Err(SessionError::Store(_))));
        assert!(suspicion.is_active());
        assert!(matches!(suspicion.judge(at(7), refused()), Err(SessionError::Store(_))));
        assert!(suspicion.judge(at(5), Ok(())).is_ok());
        assert!(matches!(suspicion.judge(at(7), refused()), Err(SessionError::Store(_))));
        assert!(matches!(
            suspicion.judge(at(7), refused()),
            Err(SessionError::RefusedBatch { first: Position { offset: 7, .. }, .. })
        ));
    }

    #[test]
    fn a_broken_connection_accuses_nobody() {
        let mut suspicion = Suspicion::default();
        for _ in 0..10 {
            let broken = Err(StoreError::Unreachable("gone".into()));
            assert!(matches!(suspicion.judge(at(7), broken), Err(SessionError::Store(_))));
        }
        assert!(!suspicion.is_active());
    }

    #[test]
    fn suspicion_ends_after_its_probation() {
        let mut suspicion = Suspicion::default();
        let _ = suspicion.judge(None, refused());
        (0..PROBATION).for_each(|_| suspicion.judge(None, Ok(())).unwrap());
        assert!(!suspicion.is_active());
    }
}
