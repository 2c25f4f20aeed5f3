//! Chance, on a seed. Each concern has dice of its own, so that leaving one out changes the others' throws as little
//! as possible.

use std::time::Duration;

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Reproducible chance.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice for one concern of a world.
    pub fn new(seed: u64, concern: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(concern);
        Self(rng)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.random::<f64>() < probability
    }

    /// From the first to below the second.
    pub fn number(&mut self, from: u64, below: u64) -> u64 {
        self.0.random_range(from..below.max(from + 1))
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.number(0, len as u64) as usize
    }

    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.0.random())
    }

    pub fn seconds(&mut self, from: f64, to: f64) -> Duration {
        self.between(Duration::from_secs_f64(from), Duration::from_secs_f64(to))
    }

    /// Exponentially distributed: the wait for something that comes at random.
    pub fn wait(&mut self, mean: Duration) -> Duration {
        let uniform: f64 = self.0.random();
        mean.mul_f64(-(1.0 - uniform).ln())
    }

    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// A number that depends on these and nothing else.
pub(super) fn mixed(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The number as a fraction below one.
pub(super) fn fraction(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}
