//! The memory budget: how much may be read ahead of what is settled.
//!
//! Owns `--buffer-bytes`. Pure.
//!
//! Below half of the budget, everything is read. Above it, only two kinds of topics are read: those that are
//! *behind*, of which little waits for partners, and **always those that the oldest waiting message lacks**.
//! So reading completes batches instead of filling memory. The budget may be exceeded by one batch of the
//! largest size seen, so that a batch can be completed however small the budget is. It counts messages as
//! they came; `session::queue` limits the scores that are computed ahead.

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
    /// `--buffer-bytes`
    limit: usize,
    /// Bytes of the messages read and not yet settled.
    held: usize,
    /// Bytes of the largest message so far.
    largest: usize,
    /// Whether some topics may not be read now.
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

    /// Bytes of the messages read and not yet settled.
    pub fn held(&self) -> usize {
        self.held
    }

    /// What may be read now. Once restricted, reading opens again only below a quarter of the budget: a pause
    /// throws away what was fetched of the topic, so it should not come with every message.
    pub fn reading(&mut self) -> Reading {
        let bound = if self.restricted { self.limit / 4 } else { self.half() };
        self.restricted = self.held > bound;
        match (self.restricted, self.held >= self.limit + 3 * self.largest) {
            (false, _) => Reading::All,
            (true, false) => Reading::Behind,
            (true, true) => Reading::Nothing,
        }
    }

    /// Whether a topic is behind, if `waiting` bytes of it wait for partners and `partitions` are held.
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
        budget.release(1100);
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
