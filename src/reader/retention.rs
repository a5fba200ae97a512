//! What becomes of a window of `segments`: a pure function of what the tables say.
//!
//! **A partition is dropped only if nobody needs any of its batches.** Until then a reader deletes the rows of its own
//! group. It waits with that until all of them are due, because a window that is dropped costs nothing; but not for
//! longer than a window lasts.

use std::time::Duration;

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `--retain`; `None`: for ever.
    pub retain: Option<Duration>,
    /// How long a window lasts.
    pub window: Duration,
}

/// Rows are kept for ever, in windows of a day: from midnight to midnight in UTC.
impl Default for Retention {
    fn default() -> Self {
        Self { retain: None, window: Duration::from_secs(24 * 60 * 60) }
    }
}

/// What is known of a window. Batches that are expired or retracted do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Whether new batches get their ids in a later window.
    pub is_past: bool,
    /// Batches of this group.
    pub ours: i64,
    /// Of these, how many are to be kept no longer.
    pub due: i64,
    /// Of these, how many have been due for as long as a window lasts.
    pub overdue: i64,
    /// Batches of other groups.
    pub others: i64,
}

/// What is to be done with a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing for now.
    Keep,
    /// Expire what is due, and drop the partition.
    Drop,
    /// Expire what is due, and delete its rows.
    Delete,
    /// Expire what is overdue, and delete its rows.
    DeleteOverdue,
}

/// What is to be done with a window that holds this.
pub fn next_step(holds: Holds) -> Step {
    let Holds { is_past, ours, due, overdue, others } = holds;
    match (is_past && due == ours, others) {
        (true, 0) => Step::Drop,
        (true, _) if ours > 0 => Step::Delete,
        _ if overdue > 0 => Step::DeleteOverdue,
        _ => Step::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_dropped_only_if_it_is_past_and_nobody_needs_it() {
        let holds = |is_past, ours, due, overdue, others| Holds { is_past, ours, due, overdue, others };
        let cases = [
            (holds(true, 3, 3, 0, 0), Step::Drop),
            (holds(true, 0, 0, 0, 0), Step::Drop),
            (holds(true, 3, 2, 0, 0), Step::Keep),
            (holds(true, 3, 2, 1, 0), Step::DeleteOverdue),
            (holds(true, 3, 3, 1, 2), Step::Delete),
            (holds(true, 0, 0, 0, 2), Step::Keep),
            (holds(false, 3, 3, 0, 0), Step::Keep),
            (holds(false, 3, 3, 2, 0), Step::DeleteOverdue),
            (holds(false, 0, 0, 0, 0), Step::Keep),
        ];
        for (holds, step) in cases {
            assert_eq!(next_step(holds), step, "{holds:?}");
        }
    }
}
