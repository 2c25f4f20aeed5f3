//! The randomness that a deterministic guest sees: a stream seeded by the task, whose position can be written down.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use lull_shared::digest::Digest;
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{SeedableRng as _, TryRng},
};

use crate::executor::inside::stream::{Shared, lock};

/// What all that is random in one task grows from.
pub(in crate::executor) struct Seed([u8; 32]);

impl Seed {
    /// The seed of a task of a job.
    pub(in crate::executor) fn of_task(job_seed: u64, index: u32) -> Self {
        let words = [b"lull random 1".as_slice(), &job_seed.to_le_bytes(), &index.to_le_bytes()].concat();
        Self(*Digest::of(&words).as_bytes())
    }

    /// One of its streams.
    pub(in crate::executor) fn stream(&self, number: u64) -> Stream {
        let mut random = ChaCha12Rng::from_seed(self.0);
        random.set_stream(number);
        Stream(Arc::new(Mutex::new(random)))
    }

    /// A number for hash tables.
    pub(in crate::executor) fn small(&self) -> u128 {
        u128::from_le_bytes(std::array::from_fn(|i| self.0[i] ^ self.0[i + 16]))
    }
}

/// A stream of random bytes. Clones share one position.
#[derive(Clone)]
pub(in crate::executor) struct Stream(Shared<ChaCha12Rng>);

impl Stream {
    /// Words of 32 bits taken so far.
    pub(in crate::executor) fn position(&self) -> u128 {
        lock(&self.0).get_word_pos()
    }

    /// Goes on from there.
    pub(in crate::executor) fn resume(&self, position: u128) {
        lock(&self.0).set_word_pos(position);
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        lock(&self.0).try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        lock(&self.0).try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        lock(&self.0).try_fill_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(stream: &mut Stream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let Ok(()) = stream.try_fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn a_stream_that_goes_on_elsewhere_gives_what_it_would_have_given() {
        let seed = Seed::of_task(7, 3);
        let mut whole = seed.stream(0);
        for count in [1, 3, 4, 7, 64, 65, 255, 256, 257, 1000, 4096] {
            take(&mut whole, count);
            let mut elsewhere = seed.stream(0);
            elsewhere.resume(whole.position());
            assert_eq!(take(&mut elsewhere, 100), take(&mut whole, 100), "after {count} more");
        }
    }
}
