//! Random numbers from the distributions that the shop needs.
//!
//! Written out here, because a seed has to mean the same shop in every release, and crates of distributions change
//! their numbers. (Platforms may differ in the last bit of a logarithm. Times and amounts are rounded to seconds and
//! cents, so that hardly ever shows.)

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The numbers that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Between 0 and 1, and neither of them.
    pub fn uniform(&mut self) -> f64 {
        // 53 bits, in the middle of their interval.
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Whether something happens that has this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Exponential, with a mean of 1.
    pub fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Gamma, with a scale of 1: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.uniform().powf(shape.recip());
        }
        let d = shape - 1.0 / 3.0;
        let c = (9.0 * d).sqrt().recip();
        loop {
            let x = self.normal();
            let w = 1.0 + c * x;
            let v = w * w * w;
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Standard normal: Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = x * x + y * y;
            if s < 1.0 {
                return x * (-2.0 * s.ln() / s).sqrt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many numbers.
    fn moments(mut draw: impl FnMut(&mut Dice) -> f64) -> (f64, f64) {
        let mut dice = Dice::new(3);
        let values: Vec<f64> = (0..200_000).map(|_| draw(&mut dice)).collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 200_000.0;
        let first = mean(&mut values.iter().copied());
        (first, mean(&mut values.iter().map(|value| (value - first).powi(2))))
    }

    /// Four standard errors of 200 000 draws are below this, for the distributions here.
    fn near((mean, variance): (f64, f64), expected: (f64, f64)) {
        assert!((mean - expected.0).abs() < 0.03 * expected.1.sqrt(), "mean {mean}");
        assert!((variance / expected.1 - 1.0).abs() < 0.05, "variance {variance}");
    }

    #[test]
    fn means_and_variances_are_those_of_the_distributions() {
        near(moments(Dice::uniform), (0.5, 1.0 / 12.0));
        near(moments(Dice::exponential), (1.0, 1.0));
        near(moments(Dice::normal), (0.0, 1.0));
        for shape in [0.553, 1.0, 3.74, 6.25] {
            near(moments(|dice| dice.gamma(shape)), (shape, shape));
        }
    }
}
