//! A reader with nothing to do: when to say so. Reads no clock.
//!
//! Without this line, a quiet log would look like that of a reader that hangs. It has this module as its target, so
//! `RUST_LOG=rfm_stream::reader::session::rest=warn` turns it off.

use chrono::{DateTime, SecondsFormat, Utc};
use std::time::{Duration, Instant};

/// How often it is said.
const EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Since when there is nothing to do.
    since: Option<Instant>,
    /// How long that had lasted when it was said last.
    said: Duration,
}

impl Rest {
    /// Something was stored.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// How long there has been nothing to do, if it is time to say so.
    pub(super) fn due(&mut self, has_nothing_to_do: bool, now: Instant) -> Option<Duration> {
        if !has_nothing_to_do {
            self.end();
            return None;
        }
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        if lasted < self.said + EVERY {
            return None;
        }
        self.said = lasted;
        Some(lasted)
    }
}

/// Says so.
pub(super) fn say(lasted: Duration, partitions: usize, last_commit: Option<DateTime<Utc>>) {
    let last_commit = last_commit.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
    tracing::info!(
        for_s = lasted.as_secs(),
        partitions,
        lag = 0,
        last_commit,
        "nothing to do: everything in the topics is stored"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_minute_and_only_while_nothing_happens() {
        let (mut rest, begun) = (Rest::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let said: Vec<u64> =
            (0..200).filter_map(|second| rest.due(true, at(second))).map(|lasted| lasted.as_secs()).collect();
        assert_eq!(said, [60, 120, 180]);
        rest.end();
        assert_eq!(rest.due(true, at(250)), None, "something was stored");
        assert_eq!(rest.due(false, at(300)), None);
        assert_eq!(rest.due(true, at(311)), None, "it begins here");
        assert_eq!(rest.due(true, at(371)), Some(EVERY));
    }
}
