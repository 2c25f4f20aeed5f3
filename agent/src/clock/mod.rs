//! The time that the session is told: UTC that never runs backwards, and how long the machine slept.
//!
//! Between two readings time passes as the monotonic clock says; when the clock on the wall has run far ahead of it,
//! the machine slept (or somebody set the clock), and that was no running time.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

use std::time::Duration;

use lull_shared::time::Timestamp;

/// A smaller lead of the wall clock is drift, not sleep.
const SLEPT_MIN: Duration = Duration::from_secs(2);

/// A clock that was read before.
#[derive(Debug)]
pub struct Clock {
    anchor: Timestamp,
    /// On the clock that stands still while the machine sleeps.
    since: Duration,
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub now: Timestamp,
    /// Time that passed outside, not in this process.
    pub slept: Option<Duration>,
}

impl Clock {
    /// A clock that begins with the time on the wall.
    pub fn start() -> Self {
        Self { anchor: wall(), since: sys::awake() }
    }

    /// The time now.
    pub fn read(&mut self) -> Reading {
        self.advance(wall(), sys::awake())
    }

    /// How long it is until `due`.
    pub fn until(&self, due: Timestamp) -> Duration {
        due.since(self.anchor + sys::awake().saturating_sub(self.since))
    }

    fn advance(&mut self, wall: Timestamp, awake: Duration) -> Reading {
        let passed = self.anchor + awake.saturating_sub(self.since);
        let ahead = wall.since(passed);
        if ahead < SLEPT_MIN {
            return Reading { now: passed, slept: None };
        }
        (self.anchor, self.since) = (wall, awake);
        Reading { now: wall, slept: Some(ahead) }
    }
}

/// The clock on the wall.
pub fn wall() -> Timestamp {
    jiff::Timestamp::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_monotonic_clock_and_notices_sleep() {
        let start = Duration::from_secs(7);
        let mut clock = Clock { anchor: Timestamp::from_millis(0), since: start };
        let second = |n: u64| Duration::from_secs(n);
        let at = |n: i64| Timestamp::from_millis(n * 1_000);
        assert_eq!(clock.advance(at(9), start + second(10)), Reading { now: at(10), slept: None });
        assert_eq!(clock.advance(at(11), start + second(11)), Reading { now: at(11), slept: None });
        assert_eq!(clock.advance(at(3_600), start + second(12)), Reading { now: at(3_600), slept: Some(second(3_588)) });
        assert_eq!(clock.advance(at(3_601), start + second(13)), Reading { now: at(3_601), slept: None });
    }
}
