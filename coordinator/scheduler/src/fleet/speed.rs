//! How fast a machine is, by what its attempts took compared with others of their jobs.

use std::time::Duration;

use crate::placement::rank::micros;

/// Results after which a machine's speed is believed.
const SAMPLES_MIN: u32 = 4;
/// Shorter attempts say more of the machine's other work than of its speed.
const TOOK_MIN: Duration = Duration::from_secs(1);
/// One attempt counts up to this: inputs differ, and one large one makes no slow machine.
const PERCENT_MAX: u64 = 800;
/// Speeds are told apart in steps, so that one more result changes nothing most of the time.
const STEP: u32 = 10;

/// What a machine's attempts took, over the means of their jobs at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Speed {
    samples: u32,
    /// In hundredths of a percent: the last eight or so weigh most.
    mean: u32,
}

impl Speed {
    /// One more attempt took so long, where those of its job take `mean_us`.
    pub(crate) fn note(&mut self, took_us: u64, mean_us: u64) {
        if took_us.min(mean_us) < micros(TOOK_MIN) {
            return;
        }
        let percent = (took_us.saturating_mul(100) / mean_us).min(PERCENT_MAX) as u32 * 100;
        self.mean = if self.samples == 0 { percent } else { self.mean - self.mean / 8 + percent / 8 };
        self.samples = self.samples.saturating_add(1);
    }

    /// The time that it takes in percent of what others take, the less the faster; `None`: not known yet.
    pub(crate) fn percent(self) -> Option<u32> {
        (self.samples >= SAMPLES_MIN).then(|| (self.mean / 100 / STEP * STEP).max(STEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn speed(took: &[u64], mean_us: u64) -> Option<u32> {
        let mut speed = Speed::default();
        took.iter().for_each(|took_us| speed.note(*took_us, mean_us));
        speed.percent()
    }

    #[test]
    fn a_machine_is_as_fast_as_its_attempts_compared_with_others() {
        assert_eq!(speed(&[20 * SECOND; 8], 10 * SECOND), Some(200));
        assert_eq!(speed(&[5 * SECOND; 8], 10 * SECOND), Some(50));
    }

    #[test]
    fn however_fast_a_machine_is_it_takes_some_time() {
        assert_eq!(speed(&[20 * SECOND; 8], 1_000_000 * SECOND), Some(STEP));
    }

    #[test]
    fn little_is_not_believed_and_short_attempts_say_nothing() {
        assert_eq!(speed(&[20 * SECOND; 3], 10 * SECOND), None);
        assert_eq!(speed(&[SECOND / 10; 100], SECOND / 10), None);
    }

    #[test]
    fn one_large_input_makes_no_slow_machine() {
        let mut took = [10 * SECOND; 9];
        took[8] = 1_000_000 * SECOND;
        assert!(speed(&took, 10 * SECOND).is_some_and(|percent| percent < 200));
    }

    #[test]
    fn four_attempts_of_a_second_are_enough_and_three_or_shorter_ones_are_not() {
        assert_eq!(speed(&[SECOND; 4], SECOND), Some(100));
        assert_eq!(speed(&[SECOND; 3], SECOND), None);
        assert_eq!(speed(&[SECOND - 1; 9], SECOND), None, "it took less");
        assert_eq!(speed(&[SECOND; 9], SECOND - 1), None, "others took less");
        let took = [10, 10, 10, 10, 18].map(|seconds| seconds * SECOND);
        assert_eq!(speed(&took, 10 * SECOND), Some(110), "one more counts for an eighth");
    }
}
