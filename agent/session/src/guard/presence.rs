//! Whether the owner is there, from the history of their input.
//!
//! ```text
//! input after a rest of the idle time, a minute at least --> touched --nothing more for BUMP--> away: a bumped desk
//!                                                              | input beyond BURST
//! any other input ------------------------------------------> present --no input for the idle time--> away
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::time::Timestamp;

/// A desk that is bumped moves the mouse for this long.
const BURST: Duration = Duration::from_millis(500);
/// Whoever moves nothing more for so long after a first input did not come back. Work goes on within two seconds.
pub(super) const BUMP: Duration = Duration::from_millis(1_500);
/// Input after a shorter rest is somebody's, however short the policy's idle time.
const REST_MIN: Duration = Duration::from_secs(60);
/// Two sources report the same input at most so far apart.
const SAME: Duration = Duration::from_millis(250);

/// When there was input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presence {
    /// The last input, or what is assumed before any was seen.
    last: Timestamp,
    /// The last input that was more than a bump.
    real: Timestamp,
    /// The first input after a long rest.
    touch: Option<Timestamp>,
    /// Nobody has said yet when the last input was: the owner counts as there when the agent starts.
    assumed: bool,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Away,
    Touched { until: Timestamp },
    Present { until: Timestamp },
}

impl Presence {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { last: now, real: now, touch: None, assumed: true }
    }

    /// Whether no source has seen anything, neither input nor rest.
    pub(super) fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// There was input at that time.
    pub(super) fn input(&mut self, at: Timestamp, idle: Duration) {
        if at <= self.last && !self.assumed {
            return;
        }
        let rest = at.since(self.last);
        let bump = self.touch.is_some_and(|first| at.since(first) <= BURST);
        if !bump {
            (self.touch, self.real) = if rest < idle.max(REST_MIN) { (None, at) } else { (Some(at), self.real) };
        }
        (self.last, self.assumed) = (at, false);
    }

    /// The last input was so long ago, says somebody who asks now and then.
    pub(super) fn rested(&mut self, ago: Duration, idle: Duration, now: Timestamp) {
        let at = now - ago;
        if self.assumed && at <= self.last {
            *self = Self { last: at, real: at, touch: None, assumed: false };
        } else if at > self.last + SAME {
            self.input(at, idle);
        } else if at > self.last {
            self.real = if self.real == self.last { at } else { self.real };
            self.last = at;
        }
        self.assumed = false;
    }

    /// Whether the owner is there at `now`.
    pub(super) fn owner(&self, idle: Duration, now: Timestamp) -> Owner {
        if idle.is_zero() {
            return Owner::Away;
        }
        let until = self.real + idle;
        if now < until {
            return Owner::Present { until };
        }
        match self.touch {
            Some(first) if now < first + BUMP => Owner::Touched { until: first + BUMP },
            Some(_) | None => Owner::Away,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(600);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn ago(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Somebody whose last input was long before the beginning.
    fn away() -> Presence {
        let mut presence = Presence::new(at(0));
        presence.rested(IDLE * 10, IDLE, at(0));
        presence
    }

    fn present(until_ms: i64) -> Owner {
        Owner::Present { until: at(until_ms) }
    }

    #[test]
    fn the_owner_counts_as_there_at_the_start_until_a_source_says_something() {
        let mut presence = Presence::new(at(0));
        assert_eq!((presence.is_assumed(), presence.owner(IDLE, at(0))), (true, present(600_000)));
        presence.rested(IDLE, IDLE, at(0));
        assert_eq!((presence.is_assumed(), presence.owner(IDLE, at(0))), (false, Owner::Away));
        let mut presence = Presence::new(at(0));
        presence.input(at(0), IDLE);
        assert_eq!((presence.is_assumed(), presence.owner(IDLE, at(0))), (false, present(600_000)), "input right at the start");
        let mut presence = Presence::new(at(0));
        presence.rested(Duration::ZERO, IDLE, at(100));
        assert_eq!((presence.is_assumed(), presence.owner(IDLE, at(100))), (false, present(600_100)), "and right after it");
        let mut presence = Presence::new(at(0));
        presence.rested(Duration::ZERO, IDLE, at(0));
        assert_eq!((presence.is_assumed(), presence.owner(IDLE, at(0))), (false, present(600_000)));
    }

    #[test]
    fn input_within_half_a_second_of_the_first_is_the_same_bump_and_any_later_one_is_the_owner() {
        for (later_ms, owner) in
            [(0, Owner::Touched { until: at(1_500) }), (500, Owner::Touched { until: at(1_500) }), (501, present(600_501))]
        {
            let mut presence = away();
            presence.input(at(0), IDLE);
            presence.input(at(later_ms), IDLE);
            assert_eq!(presence.owner(IDLE, at(later_ms)), owner, "{later_ms} ms");
        }
    }

    #[test]
    fn a_touch_is_over_after_a_second_and_a_half_and_presence_after_the_idle_time() {
        let mut presence = away();
        presence.input(at(0), IDLE);
        assert_eq!(presence.owner(IDLE, at(1_499)), Owner::Touched { until: at(1_500) });
        assert_eq!(presence.owner(IDLE, at(1_500)), Owner::Away);
        presence.input(at(2_000), IDLE);
        assert_eq!(presence.owner(IDLE, at(601_999)), present(602_000));
        assert_eq!(presence.owner(IDLE, at(602_000)), Owner::Away);
        assert_eq!(presence.owner(Duration::ZERO, at(2_000)), Owner::Away, "a policy that waits for nobody");
    }

    #[test]
    fn input_after_the_idle_time_and_a_minute_may_be_a_bump_and_after_a_shorter_rest_it_is_not() {
        let idle = |seconds| Duration::from_secs(seconds);
        for (idle, rest_ms, touched) in
            [(idle(600), 599_999, false), (idle(600), 600_000, true), (idle(10), 59_999, false), (idle(10), 60_000, true)]
        {
            let mut presence = away();
            (presence.last, presence.real) = (at(0), at(0));
            presence.input(at(rest_ms), idle);
            let owner = presence.owner(idle, at(rest_ms));
            assert_eq!(matches!(owner, Owner::Touched { .. }), touched, "{idle:?}, {rest_ms} ms: {owner:?}");
        }
    }

    #[test]
    fn news_of_older_input_that_comes_late_changes_nothing() {
        let mut presence = away();
        presence.input(at(0), IDLE);
        presence.input(at(10_000), IDLE);
        let before = presence.owner(IDLE, at(10_000));
        presence.input(at(5_000), IDLE);
        presence.rested(ago(7_000), IDLE, at(10_000));
        assert_eq!((before, presence.owner(IDLE, at(10_000))), (present(610_000), present(610_000)));
    }

    #[test]
    fn a_source_that_tells_of_the_same_input_a_little_later_tells_of_no_other_one() {
        // The first touch, and what a second source says of it so much later.
        for (same_ms, owner) in [(250, Owner::Away), (251, Owner::Away), (501, present(600_501))] {
            let mut presence = away();
            presence.input(at(0), IDLE);
            presence.rested(ago(10), IDLE, at(same_ms + 10));
            assert_eq!(presence.owner(IDLE, at(2_000)), owner, "{same_ms} ms");
        }
        // Of somebody who is there both name the last input, and the later one counts.
        let mut presence = away();
        presence.input(at(0), IDLE);
        presence.input(at(10_000), IDLE);
        presence.rested(ago(0), IDLE, at(10_250));
        assert_eq!(presence.owner(IDLE, at(11_000)), present(610_250));
        // A touch stays one, whatever is said of it.
        let mut presence = away();
        presence.input(at(0), IDLE);
        presence.rested(ago(0), IDLE, at(250));
        presence.rested(ago(0), IDLE, at(400));
        assert_eq!(presence.owner(IDLE, at(1_000)), Owner::Touched { until: at(1_500) });
    }

    #[test]
    fn sources_that_differ_by_a_quarter_of_a_second_at_most_do_not_make_a_bump_a_presence() {
        for (apart_ms, owner) in [(250, Owner::Away), (251, present(601_251))] {
            let mut presence = away();
            presence.input(at(0), IDLE);
            presence.input(at(500), IDLE);
            // The bump is over; one source names its last input again, a little later than the other did.
            (presence.last, presence.touch) = (at(1_000), Some(at(0)));
            presence.rested(ago(0), IDLE, at(1_000 + apart_ms));
            assert_eq!(presence.owner(IDLE, at(2_000)), owner, "{apart_ms} ms");
        }
    }
}
