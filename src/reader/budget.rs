//! The memory budget: how much may be read ahead of what is settled.
//!
//! Owns `--buffer-bytes`. Pure.
//!
//! The one idea: below half of the budget everything is read. Above it only what the oldest waiting
//! message lacks is read, so that the reader frees memory rather than fill it. **The part above half
//! always has room for a whole batch of the largest size seen**: a batch can be completed however small
//! the budget, and memory stays below the budget plus one such batch.

/// What may be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every topic of every partition.
    All,
    /// Only the topics that the oldest waiting message lacks.
    OldestOnly,
    /// Nothing, until something is settled.
    Nothing,
}

/// Bytes read and not yet settled, against their limit.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: usize,
    largest: usize,
    restricted: bool,
}

impl Budget {
    /// A budget of `limit` bytes (`--buffer-bytes`), of which nothing is used.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: 0, largest: 0, restricted: false }
    }

    /// A message of `weight` bytes was read.
    pub fn hold(&mut self, weight: usize) {
        self.held += weight;
        self.largest = self.largest.max(weight);
    }

    /// Messages of `weight` bytes in all were settled.
    pub fn release(&mut self, weight: usize) {
        self.held = self.held.saturating_sub(weight);
    }

    /// Everything read was forgotten.
    pub fn release_all(&mut self) {
        self.held = 0;
    }

    /// Whether the budget is used up, room for the last batch included.
    pub fn is_full(&self) -> bool {
        self.held >= self.half() + (self.limit / 2).max(3 * self.largest)
    }

    /// What may be read now. Once restricted, reading opens again only below 3/8 of the budget: pausing
    /// a topic throws away what was fetched of it, so it should not happen with every message.
    pub fn reading(&mut self) -> Reading {
        let bound = if self.restricted { self.half() / 4 * 3 } else { self.half() };
        self.restricted = self.held > bound;
        match (self.restricted, self.is_full()) {
            (false, _) => Reading::All,
            (true, false) => Reading::OldestOnly,
            (true, true) => Reading::Nothing,
        }
    }

    fn half(&self) -> usize {
        self.limit / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_narrows_as_memory_fills_and_widens_later() {
        let mut budget = Budget::new(800);
        budget.hold(100);
        budget.hold(100);
        budget.hold(100);
        budget.hold(100);
        assert_eq!(budget.reading(), Reading::All);
        budget.hold(100);
        assert_eq!(budget.reading(), Reading::OldestOnly);
        budget.release(150);
        assert_eq!(budget.reading(), Reading::OldestOnly, "350 is above 3/8");
        budget.release(50);
        assert_eq!(budget.reading(), Reading::All);
        (0..5).for_each(|_| budget.hold(100));
        assert_eq!((budget.reading(), budget.is_full()), (Reading::Nothing, true));
        budget.release_all();
        assert_eq!(budget.reading(), Reading::All);
    }

    #[test]
    fn a_batch_larger_than_the_budget_can_be_completed() {
        let mut budget = Budget::new(10);
        budget.hold(1000);
        assert_eq!(budget.reading(), Reading::OldestOnly);
        budget.hold(1000);
        assert_eq!(budget.reading(), Reading::OldestOnly);
        budget.hold(1000);
        assert!(!budget.is_full());
    }
}
