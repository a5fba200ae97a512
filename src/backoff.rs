//! Waiting for something that is unavailable: how long to pause, and when to log it.

use rand::RngExt as _;
use std::future::Future;
use std::time::{Duration, Instant};

/// Pauses that double up to a cap. Each is shortened at random by up to half, so that many clients do not
/// retry at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// The first pause.
    first: Duration,
    /// The longest pause.
    cap: Duration,
    /// The next pause, before it is shortened.
    next: Duration,
}

impl Backoff {
    /// Pauses from `first` up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.cap);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts over with the first pause, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// When to log something that lasts: at once, after 2, 4, 8, … seconds, then every 60 seconds.
#[derive(Debug, Default)]
pub struct LogThrottle {
    /// When it began.
    since: Option<Instant>,
    /// How long it had lasted when it was last logged.
    logged: Duration,
}

impl LogThrottle {
    /// For something that begins now and is not logged before it has lasted 2 s.
    pub fn begun() -> Self {
        Self { since: Some(Instant::now()), logged: Duration::ZERO }
    }

    /// How long it has lasted, if it is time to log it; otherwise `None`. The first call begins it.
    pub fn due(&mut self) -> Option<Duration> {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return Some(Duration::ZERO);
        };
        let lasted = since.elapsed();
        let next = (self.logged * 2).clamp(Duration::from_secs(2), self.logged + Duration::from_secs(60));
        if lasted < next {
            return None;
        }
        self.logged = lasted;
        Some(lasted)
    }

    /// Forgets it, once it is over.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Awaits `future` without a limit. From 2 s on, calls `report` when a [`LogThrottle`] says so, with the time
/// waited.
pub async fn wait_and_report<T>(future: impl Future<Output = T>, mut report: impl FnMut(Duration)) -> T {
    let mut throttle = LogThrottle::begun();
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            result = &mut future => return result,
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if let Some(lasted) = throttle.due() {
                    report(lasted);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for full in [1.0, 2.0, 4.0, 5.0, 5.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!((full / 2.0..=full).contains(&pause), "{pause} of {full}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
