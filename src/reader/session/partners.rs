//! Messages that wait for partners: when to say so.
//!
//! A message waits for up to `--pairing-timeout`, and for as long as its partners' topics are behind. What is
//! given up is decided in `pairing`.

use crate::backoff::LogThrottle;
use std::time::Duration;

/// Waits that last for less are usual: the three topics are never read at the same moment.
const SAY_AFTER: Duration = Duration::from_secs(4);

/// When to log that messages wait.
#[derive(Debug, Default)]
pub(super) struct Partners(Option<LogThrottle>);

impl Partners {
    /// Whether to log now that the oldest message has waited for `waited`; `None`: none waits.
    pub(super) fn is_due(&mut self, waited: Option<Duration>) -> bool {
        if waited.is_none_or(|waited| waited < SAY_AFTER) {
            self.0 = None;
            return false;
        }
        self.0.get_or_insert_default().due().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_once_it_lasts_and_again_when_it_has_been_over() {
        let mut partners = Partners::default();
        let short = Some(SAY_AFTER / 2);
        let steps = [(None, false), (short, false), (Some(SAY_AFTER), true), (Some(SAY_AFTER), false)];
        for (waited, expected) in steps.into_iter().chain([(short, false), (Some(SAY_AFTER), true)]) {
            assert_eq!(partners.is_due(waited), expected, "{waited:?}");
        }
    }
}
