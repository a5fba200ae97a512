//! The few things that outlive a session.

use super::marks::{Lacking, Marks};
use super::refusals::Refusals;
use crate::reader::score::Rules;
use crate::reader::shifts::Shifts;
use crate::reader::store::Tables;
use crate::reader::vitals::Vitals;
use crate::telemetry::Progress;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Instant;

/// See the module.
pub struct Memory {
    /// The search for a batch that Postgres refuses.
    pub(super) refusals: Refusals,
    /// With `--until-caught-up`: how far the group must get; `None` before that is known.
    pub(super) marks: Option<Marks>,
    /// How much of that is left, on a terminal.
    progress: Option<Progress>,
    /// When the process started.
    pub(super) begun: Instant,
    /// What the tables had when the process started; `None` before they were made or found.
    pub(super) tables: Option<Tables>,
    /// How the process scores; `None` before the edges of `--edges-from` were read.
    pub(super) rules: Option<Arc<Rules>>,
    /// What the newest snapshot of each population was like, to notice what changes with the next.
    pub(super) shifts: Shifts,
    /// When batches or dead letters were last stored.
    pub(super) last_commit: Option<DateTime<Utc>>,
    /// What the process shows of itself.
    pub(super) vitals: Arc<Vitals>,
}

impl Memory {
    /// That of a process that starts.
    pub fn of_process(vitals: Arc<Vitals>) -> Self {
        Self {
            refusals: Refusals::default(),
            marks: None,
            progress: None,
            begun: Instant::now(),
            tables: None,
            rules: None,
            shifts: Shifts::default(),
            last_commit: None,
            vitals,
        }
    }

    /// The group lacks this much of what it must store.
    pub(super) fn show_progress(&mut self, lacking: &[Lacking]) {
        let Some(marks) = &self.marks else { return };
        let progress =
            self.progress.get_or_insert_with(|| Progress::begin(Some(marks.messages()), "messages"));
        progress.left(Some(lacking.iter().map(Lacking::messages).sum()));
    }

    /// Nothing is left.
    pub(super) fn end_progress(&mut self) {
        self.progress = None;
    }
}
