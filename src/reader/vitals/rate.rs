//! How many customers are stored per second, over the last ten seconds.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Over how many seconds.
const SECONDS: usize = 10;

/// See the module.
pub struct Rate {
    /// When it began to count.
    begun: Instant,
    /// The counts of the last seconds, each beside the number of its second.
    counts: Mutex<[(u64, u64); SECONDS]>,
}

impl Default for Rate {
    fn default() -> Self {
        Self { begun: Instant::now(), counts: Mutex::default() }
    }
}

impl Rate {
    /// Counts what was stored now.
    pub fn add(&self, count: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut counts, self.begun.elapsed().as_secs(), count);
    }

    /// What was stored per second.
    pub fn per_second(&self) -> f64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        per_second(&counts, self.begun.elapsed().as_secs())
    }
}

fn add(counts: &mut [(u64, u64); SECONDS], second: u64, count: u64) {
    let place = &mut counts[second as usize % SECONDS];
    *place = (second, if place.0 == second { place.1 + count } else { count });
}

/// **A program that is younger than ten seconds has had only its own.**
fn per_second(counts: &[(u64, u64); SECONDS], second: u64) -> f64 {
    let is_recent = |then: u64| second - then.min(second) < SECONDS as u64;
    let sum: u64 = counts.iter().filter(|&&(then, _)| is_recent(then)).map(|&(_, count)| count).sum();
    sum as f64 / (second + 1).min(SECONDS as u64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_ten_seconds_does_not_count() {
        let mut counts = [(0, 0); SECONDS];
        add(&mut counts, 0, 10);
        assert_eq!(per_second(&counts, 0), 10.0);
        add(&mut counts, 0, 10);
        assert_eq!(per_second(&counts, 3), 5.0, "four seconds");
        add(&mut counts, 9, 80);
        assert_eq!(per_second(&counts, 9), 10.0);
        assert_eq!(per_second(&counts, 10), 8.0, "the first second is over");
        add(&mut counts, 10, 20);
        assert_eq!(per_second(&counts, 12), 10.0);
        assert_eq!(per_second(&counts, 30), 0.0);
    }
}
