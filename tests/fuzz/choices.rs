//! Choices: the random numbers that an input is made of.
//!
//! An input is a function of a list of numbers. proptest can make a list shorter and its numbers smaller, and
//! so it can shrink inputs of any shape. **Zero is the simplest choice**, and the only one after the end of
//! the list.

/// A list of random numbers that is read once.
pub struct Choices<'a>(std::slice::Iter<'a, u32>);

impl<'a> Choices<'a> {
    pub fn of(numbers: &'a [u32]) -> Self {
        Self(numbers.iter())
    }

    pub fn number(&mut self) -> u32 {
        self.0.next().copied().unwrap_or(0)
    }

    pub fn wide(&mut self) -> u64 {
        (u64::from(self.number()) << 32) | u64::from(self.number())
    }

    /// A number in `0..n`, small if the choice is.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.number()) * n as u64) >> 32) as usize
    }

    /// True once in `n` times, and never at the end of the list.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
