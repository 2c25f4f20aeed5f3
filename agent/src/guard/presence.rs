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
