//! The reading clock: counts the time in which the reader reads.

use std::time::{Duration, Instant};

/// A longer gap between two ticks means that the process stood still, not that it read for that long.
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// See the module. **It never goes back within a session**, so one of its moments identifies a question to a
/// broker.
#[derive(Debug)]
pub(super) struct ReadingClock {
    /// The time spent reading.
    read: Duration,
    /// The last tick.
    last: Instant,
}

impl ReadingClock {
    pub(super) fn start() -> Self {
        Self { read: Duration::ZERO, last: Instant::now() }
    }

    /// Counts the time since the last tick if it was spent reading.
    pub(super) fn tick(&mut self, reading: bool, now: Instant) {
        let passed = (now - self.last).min(LONGEST_TICK);
        self.last = now;
        if reading {
            self.read += passed;
        }
    }

    /// The time spent reading up to the last tick.
    pub(super) fn now(&self) -> Duration {
        self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_spent_reading_counts_and_a_standstill_does_not() {
        let mut clock = ReadingClock::start();
        let begun = clock.last;
        let at = |ms| begun + Duration::from_millis(ms);
        clock.tick(true, at(100));
        clock.tick(false, at(300));
        clock.tick(true, at(400));
        assert_eq!(clock.now(), Duration::from_millis(200));
        clock.tick(true, at(60_000));
        assert_eq!(clock.now(), Duration::from_millis(200) + LONGEST_TICK);
    }
}
