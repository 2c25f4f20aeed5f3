//! When a job is expected to end: what is left of it, at the rate at which its tasks end now, while its window is open.

use std::time::Duration;

use lull_scheduler::view::JobView;
use lull_shared::{
    job::JobSpec,
    state::{TaskState, WaitReason},
    time::Timestamp,
    window::Window,
};

/// Times that a window closes on the way to the end; further ahead nothing is foretold.
const CLOSINGS_MAX: usize = 14;

/// What is expected of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// When its tasks may start, if they may not now.
    pub begins: Option<Timestamp>,
    /// When the last of them ends, if that can be told.
    pub ends: Option<Timestamp>,
    /// How much later than it must.
    pub late: Option<Duration>,
    /// How much earlier.
    pub early: Option<Duration>,
    /// Tasks that end in an hour, as things are.
    pub hourly: Option<u64>,
}

/// What is expected of an active job.
pub(super) fn plan(spec: &JobSpec, view: &JobView, now: Timestamp) -> Plan {
    let begins = match &view.waiting {
        Some(WaitReason::Window { opens }) => *opens,
        _ => None,
    };
    let counts = &view.counts;
    let left: u64 = TaskState::ALL.into_iter().filter(|state| !state.is_ended()).map(|state| u64::from(counts.get(state))).sum();
    let at_once = u64::from(counts.running);
    let mean_us = view.mean_wall_us.filter(|mean| *mean > 0);
    let hourly = mean_us.filter(|_| at_once > 0).map(|mean| at_once.saturating_mul(3_600_000_000) / mean);
    let length = mean_us.filter(|_| at_once > 0).map(|mean| Duration::from_micros(left.saturating_mul(mean) / at_once));
    let ends = length.and_then(|length| end(spec.window.as_ref(), begins.unwrap_or(now), length));
    let (late, early) = match (ends, spec.finish_by) {
        (Some(ends), Some(by)) if ends > by => (Some(ends.since(by)), None),
        (Some(ends), Some(by)) => (None, Some(by.since(ends))),
        (_, _) => (None, None),
    };
    Plan { begins, ends, late, early, hourly }
}

/// When so much work is done that begins then and goes on while the window is open.
fn end(window: Option<&Window>, begins: Timestamp, length: Duration) -> Option<Timestamp> {
    let Some(window) = window else { return Some(begins + length) };
    let (mut at, mut left) = (window.next_open(begins)?, length);
    for _ in 0..CLOSINGS_MAX {
        let Some(closes) = window.next_change(at) else { return Some(at + left) };
        let open = closes.since(at);
        if open >= left {
            return Some(at + left);
        }
        left -= open;
        at = window.next_open(closes)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        id::JobId,
        state::{JobState, TaskCounts},
    };

    use super::*;
    use crate::store::conformance::sample;

    fn at(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().expect("a moment").into()
    }

    fn view(running: u32, queued: u32, mean_s: Option<u64>) -> JobView {
        JobView {
            job: JobId(1),
            state: JobState::Active,
            stopping: None,
            counts: TaskCounts { running, queued, succeeded: 7, ..TaskCounts::default() },
            unreachable: 0,
            waiting: None,
            moved: 0,
            lost: 0,
            mean_wall_us: mean_s.map(|seconds| seconds * 1_000_000),
        }
    }

    #[test]
    fn what_is_left_ends_at_the_rate_at_which_it_goes_on() {
        let (mut spec, now) = (sample::spec(20), at("2027-03-01T22:00:00Z"));
        spec.finish_by = Some(at("2027-03-01T23:00:00Z"));
        let early = plan(&spec, &view(2, 8, Some(360)), now);
        assert_eq!(
            (early.ends, early.early, early.late),
            (Some(at("2027-03-01T22:30:00Z")), Some(Duration::from_secs(1_800)), None)
        );
        assert_eq!(early.hourly, Some(20));
        let late = plan(&spec, &view(1, 19, Some(360)), now);
        assert_eq!((late.early, late.late), (None, Some(Duration::from_secs(3_600))));
    }

    #[test]
    fn nothing_is_foretold_of_what_never_ran() {
        let (spec, now) = (sample::spec(20), at("2027-03-01T22:00:00Z"));
        for view in [view(0, 20, Some(60)), view(3, 17, None)] {
            assert_eq!(plan(&spec, &view, now), Plan::default());
        }
    }

    #[test]
    fn work_that_is_not_done_when_its_window_closes_goes_on_when_it_opens() {
        let window: Window = "22:00-06:00 UTC".parse().expect("a window");
        let hours = |hours: u64| Duration::from_secs(3_600 * hours);
        let ends = |from: &str, length| end(Some(&window), at(from), length);
        assert_eq!(ends("2027-03-01T23:00:00Z", hours(3)), Some(at("2027-03-02T02:00:00Z")));
        assert_eq!(ends("2027-03-01T12:00:00Z", hours(3)), Some(at("2027-03-02T01:00:00Z")));
        assert_eq!(ends("2027-03-01T23:00:00Z", hours(9)), Some(at("2027-03-03T00:00:00Z")), "an hour past two closings");
        assert_eq!(ends("2027-03-01T23:00:00Z", hours(10_000)), None);
    }
}
