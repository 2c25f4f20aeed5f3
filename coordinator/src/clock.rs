//! EDGE: the one place where the coordinator reads its clocks.
//!
//! Two of them, for two purposes. The clock on the wall is UTC as this machine has it, and people set it, forwards and
//! backwards: promises that were made by it follow it (windows, `finish_by`, tokens, certificates), and so does what is
//! written down. Pauses, leases and limits pass by a steady time, which begins with the wall and goes its own way: a clock
//! that is put back stops nothing, and one that is put forward ends nothing early.

use std::time::Duration;

use lull_shared::time::Timestamp;
use tokio::time::Instant;

/// A smaller change of the wall against the steady clock is drift. Windows and `finish_by` are as exact as this.
const STEP_MIN_US: i64 = 1_000_000;

/// UTC now by the clock on the wall. It may be earlier than an earlier answer.
pub fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}

/// A steady time that began with the clock on the wall.
#[derive(Debug, Clone)]
pub struct Steady {
    began: Timestamp,
    since: Instant,
    ahead_us: i64,
}

impl Steady {
    /// Begins now.
    pub fn start() -> Self {
        Self { began: now(), since: Instant::now(), ahead_us: 0 }
    }

    /// The steady time now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// When that time has come.
    pub fn when(&self, due: Timestamp) -> Instant {
        let now = Instant::now();
        now + due.since(self.at(now))
    }

    /// How far the wall is ahead in microseconds, if it was set since this was asked last.
    pub fn step(&mut self) -> Option<Step> {
        self.step_at(now(), Instant::now())
    }

    fn step_at(&mut self, wall: Timestamp, instant: Instant) -> Option<Step> {
        let ahead_us = wall.0.saturating_sub(self.at(instant).0);
        let by_us = ahead_us.saturating_sub(self.ahead_us);
        if by_us.abs() < STEP_MIN_US {
            return None;
        }
        self.ahead_us = ahead_us;
        Some(Step { by_us, ahead_us })
    }

    fn at(&self, instant: Instant) -> Timestamp {
        self.began + instant.saturating_duration_since(self.since)
    }
}

/// The clock on the wall was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// By so many microseconds; less than nothing: back.
    pub by_us: i64,
    /// How far it is ahead of the steady time now.
    pub ahead_us: i64,
}

impl Step {
    /// For people: `put back by 2h`.
    pub fn in_words(&self) -> String {
        let whole = Duration::from_secs(self.by_us.unsigned_abs() / 1_000_000);
        format!("put {} by {}", if self.by_us < 0 { "back" } else { "forward" }, humantime::format_duration(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_goes_on_whatever_is_done_to_the_clock_on_the_wall() {
        let (start, second) = (Instant::now(), Duration::from_secs);
        let mut steady = Steady { began: Timestamp::from_millis(7_200_000), since: start, ahead_us: 0 };
        let wall = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        assert_eq!(steady.step_at(wall(7_210), start + second(10)), None);
        assert_eq!(steady.at(start + second(10)), wall(7_210));
        let back = steady.step_at(wall(11), start + second(11)).expect("it was put back by two hours");
        assert_eq!((back.by_us, back.ahead_us), (-7_200_000_000, -7_200_000_000));
        assert_eq!(back.in_words(), "put back by 2h");
        assert_eq!(steady.at(start + second(12)), wall(7_212), "and the steady time has gone on");
        assert_eq!(steady.step_at(wall(12), start + second(12)), None, "it is told once");
        let forth = steady.step_at(wall(7_213), start + second(13)).expect("it was put forward again");
        assert_eq!((forth.by_us, forth.ahead_us), (7_200_000_000, 0));
    }
}
