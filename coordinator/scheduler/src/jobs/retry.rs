//! How long a failed task, or an agent that refused a job, is left alone: doubling pauses, spread by the task's name so
//! that what failed together does not come back together.

use std::time::Duration;

use lull_shared::{id::AttemptId, job::RetryPolicy};

/// The pause after a task's failure number `failures` (from 1): between a half and the whole of the doubled pause.
pub(crate) fn pause_after_failure(policy: &RetryPolicy, failures: u32, attempt: AttemptId, seed: u64) -> Duration {
    let whole_us = doubled(policy.backoff_ms.saturating_mul(1_000), failures, policy.backoff_max_ms.saturating_mul(1_000));
    let half_us = whole_us / 2;
    let spread = mix(seed ^ mix(attempt.task.job.0 ^ mix(u64::from(attempt.task.index) << 32 | u64::from(attempt.number))));
    Duration::from_micros(whole_us - half_us + spread % (half_us + 1))
}

/// The pause after so many refusals in a row (from 1).
pub(crate) fn pause_after_refusal(count: u32, first: Duration, longest: Duration) -> Duration {
    let micros = crate::placement::rank::micros;
    Duration::from_micros(doubled(micros(first), count, micros(longest)))
}

fn doubled(first_us: u64, count: u32, longest_us: u64) -> u64 {
    let factor = 1_u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX);
    first_us.saturating_mul(factor).min(longest_us)
}

/// SplitMix64: every input bit moves every output bit, the same on every machine.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use lull_shared::id::{JobId, TaskId};

    use super::*;

    fn pause(failures: u32, index: u32) -> Duration {
        let policy = RetryPolicy { retries: 9, backoff_ms: 1_000, backoff_max_ms: 60_000 };
        let attempt = AttemptId { task: TaskId { job: JobId(1), index }, number: failures };
        pause_after_failure(&policy, failures, attempt, 42)
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        for (failures, whole) in [(1, 1), (2, 2), (5, 16), (7, 60), (200, 60)] {
            let pause = pause(failures, 0);
            assert!(pause >= Duration::from_secs(whole) / 2 && pause <= Duration::from_secs(whole), "{failures}: {pause:?}");
        }
    }

    #[test]
    fn tasks_that_failed_together_come_back_apart_and_always_alike() {
        assert_ne!(pause(1, 0), pause(1, 1));
        assert_eq!(pause(1, 0), pause(1, 0));
    }

    #[test]
    fn refusals_double_from_a_second_to_a_minute() {
        let pause = |count| pause_after_refusal(count, Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!([1, 2, 3, 7, 99].map(|count| pause(count).as_secs()), [1, 2, 4, 60, 60]);
    }
}
