//! Which job goes first: fair share between submitters, then urgency within one, then the order of submission.
//!
//! The submitter goes first who has the least, counting what was used lately and what is with agents now. Among the jobs
//! of one submitter each step of priority is worth a head start of [`Limits::priority_step`]: the higher priority
//! goes first, yet a job that waits long enough overtakes a stream of newer ones.

use std::time::Duration;

use lull_shared::{id::JobId, job::Priority, time::Timestamp};

use crate::limits::Limits;

/// A job's place among its submitter's: the smaller the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    urgency: i64,
    pub job: JobId,
}

/// A job's place among those of its submitter.
pub(crate) fn rank(job: JobId, priority: Priority, submitted: Timestamp, limits: &Limits) -> Rank {
    let step = i64::try_from(limits.priority_step.as_micros()).unwrap_or(i64::MAX);
    Rank { urgency: submitted.0.saturating_sub(step.saturating_mul(i64::from(priority.0))), job }
}

/// What one submitter has had and has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Consumption {
    /// Slot-microseconds of attempts that ended, decayed.
    pub used_us: u64,
    /// Attempts that occupy a slot.
    pub running: u32,
    /// The sum of the microseconds since the epoch at which they began to.
    pub began_us: i128,
    /// Attempts that are with agents, those that wait there included.
    pub placed: u32,
}

/// A submitter's place among all: the smaller the earlier.
pub(crate) fn share(consumption: &Consumption, now: Timestamp, limits: &Limits) -> u64 {
    let running_us = i128::from(now.0) * i128::from(consumption.running) - consumption.began_us;
    let running_us = u64::try_from(running_us.max(0)).unwrap_or(u64::MAX);
    let placed_us = micros(limits.attempt_weight).saturating_mul(u64::from(consumption.placed));
    consumption.used_us.saturating_add(running_us).saturating_add(placed_us)
}

/// What is left of a usage after some time.
pub(crate) fn decayed(used_us: u64, elapsed: Duration, limits: &Limits) -> u64 {
    let half_lives = elapsed.as_secs_f64() / limits.usage_half_life.as_secs_f64().max(1.0);
    (used_us as f64 * (-half_lives).exp2()) as u64
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp(hours * 3_600_000_000)
    }

    #[test]
    fn the_higher_priority_goes_first_then_the_earlier_submission() {
        let limits = Limits::default();
        let of = |job, priority, hours| rank(JobId(job), Priority(priority), at(hours), &limits);
        assert!(of(2, 1, 5) < of(1, 0, 0));
        assert!(of(1, 0, 0) < of(2, 0, 0), "one instant: by number");
        assert!(of(1, 0, 0) < of(2, 0, 1));
    }

    #[test]
    fn nothing_waits_for_ever_behind_newer_jobs_of_higher_priority() {
        let limits = Limits::default();
        assert!(rank(JobId(1), Priority(0), at(0), &limits) < rank(JobId(9), Priority(2), at(49), &limits));
    }

    #[test]
    fn what_runs_counts_as_it_runs() {
        let limits = Limits { attempt_weight: Duration::ZERO, ..Limits::default() };
        let runs = Consumption { used_us: 5, running: 2, began_us: 2 * at(1).0 as i128, placed: 2 };
        assert_eq!(share(&runs, at(2), &limits), 5 + 2 * 3_600_000_000);
        assert_eq!(share(&runs, at(0), &limits), 5, "a clock that went back takes nothing away");
    }

    #[test]
    fn usage_halves_with_each_half_life() {
        let limits = Limits::default();
        assert_eq!(decayed(1_000, limits.usage_half_life, &limits), 500);
        assert_eq!(decayed(1_000, Duration::ZERO, &limits), 1_000);
    }
}
