//! Waiting for something that is away: how long, and how often to say so.

use rand::RngExt as _;
use std::future::Future;
use std::time::{Duration, Instant};

/// Pauses that double from a first one up to a cap, each shortened at random by up to half, so that
/// many waiting clients do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with pauses of about `first`, ends with pauses of about `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.cap);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It worked: the next pause is a first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// When to speak of something that lasts: at once, then after 2, 4, 8, … and every 60 seconds.
#[derive(Debug, Default)]
pub struct Steps {
    since: Option<Instant>,
    said: Duration,
}

impl Steps {
    /// Something began that is not worth a word before 2 s have passed.
    pub fn begun() -> Self {
        Self { since: Some(Instant::now()), said: Duration::ZERO }
    }

    /// If it is time to speak again: for how long it has lasted.
    pub fn due(&mut self) -> Option<Duration> {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return Some(Duration::ZERO);
        };
        let lasted = since.elapsed();
        let next = (self.said * 2).clamp(Duration::from_secs(2), self.said + Duration::from_secs(60));
        if lasted < next {
            return None;
        }
        self.said = lasted;
        Some(lasted)
    }

    /// It is over: the next time is a first time again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Awaits `future` for as long as it takes, and calls `say` at the [`Steps`] of it, from 2 s on.
pub async fn patiently<T>(future: impl Future<Output = T>, mut say: impl FnMut(Duration)) -> T {
    let mut steps = Steps::begun();
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            result = &mut future => return result,
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if let Some(lasted) = steps.due() {
                    say(lasted);
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
