//! The memory budget: how much may be read ahead of what is settled.
//!
//! Owns `--buffer-bytes`. Pure.
//!
//! The one idea: below half of the budget everything is read. Above it only topics that are *behind* are
//! read, those of which little waits for partners, and **always what the oldest waiting message lacks**: so
//! reading completes batches rather than fill memory. The budget is exceeded by one batch of the largest
//! size seen, so a batch can be completed however small the budget is. It counts messages as they came;
//! what is made of them (scores) is bounded by the pipeline.

/// What may be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every topic of every partition.
    All,
    /// Only topics that are behind ([`Budget::is_behind`]) or that the oldest waiting message lacks.
    Behind,
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

    /// What may be read now. Once restricted, reading opens again only below a quarter of the budget:
    /// pausing a topic throws away what was fetched of it, so it should not happen with every message.
    pub fn reading(&mut self) -> Reading {
        let bound = if self.restricted { self.limit / 4 } else { self.half() };
        self.restricted = self.held > bound;
        match (self.restricted, self.held >= self.limit + 3 * self.largest) {
            (false, _) => Reading::All,
            (true, false) => Reading::Behind,
            (true, true) => Reading::Nothing,
        }
    }

    /// Whether a topic of which `waiting` bytes wait for partners is behind, with so many partitions held.
    pub fn is_behind(&self, waiting: usize, partitions: usize) -> bool {
        waiting < self.half() / (3 * partitions.max(1))
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
        (0..4).for_each(|_| budget.hold(100));
        assert_eq!(budget.reading(), Reading::All);
        budget.hold(100);
        assert_eq!(budget.reading(), Reading::Behind);
        budget.release(250);
        assert_eq!(budget.reading(), Reading::Behind, "250 is above a quarter");
        budget.release(50);
        assert_eq!(budget.reading(), Reading::All);
        (0..9).for_each(|_| budget.hold(100));
        assert_eq!(budget.reading(), Reading::Nothing, "1100 is the budget and one batch");
        budget.release_all();
        assert_eq!(budget.reading(), Reading::All);
    }

    #[test]
    fn a_topic_is_behind_while_little_of_it_waits() {
        let mut budget = Budget::new(600);
        budget.hold(80);
        assert!(budget.is_behind(99, 1) && !budget.is_behind(100, 1));
        assert!(budget.is_behind(49, 2) && !budget.is_behind(50, 2));
    }

    #[test]
    fn a_batch_larger_than_the_budget_can_be_completed() {
        let mut budget = Budget::new(10);
        for _ in 0..2 {
            budget.hold(1000);
            assert_eq!(budget.reading(), Reading::Behind);
        }
        budget.hold(1000);
        assert_eq!(budget.reading(), Reading::Behind, "the batch is whole");
    }
}
