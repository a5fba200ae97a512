//! Whether a session has worked. If it has, an outage that ends it counts as a new one.

use std::time::{Duration, Instant};

/// A session that lasts longer than this counts as sound, even if it had nothing to store. (A session that
/// only waits for a lock ends earlier.)
const SOUND_AFTER: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Soundness {
    /// When the session was opened.
    opened: Instant,
    /// Whether a commit succeeded.
    pub(super) committed: bool,
}

impl Soundness {
    pub(super) fn begun() -> Self {
        Self { opened: Instant::now(), committed: false }
    }

    pub(super) fn has_worked(&self) -> bool {
        self.committed || self.opened.elapsed() > SOUND_AFTER
    }
}
