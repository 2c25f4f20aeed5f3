//! How certain it is that nobody else leads.
//!
//! Others take over when they have watched this lease for its whole length without a renewal. So until that long after
//! the last renewal was asked for, by the steady clock and by the wall clock (one of them may stand still while the
//! process or its machine is frozen), no other coordinator writes, and what needs no commit may be said without asking
//! the store. Afterwards every word waits until the store has confirmed the term.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lull_shared::time::Timestamp;
use tokio::time::Instant;

use crate::clock;

/// A store that takes longer than this to renew a lease is not there for people who wait. A large transaction before the
/// renewal does not take so long.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// How long a lease lasts, and how often it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long another coordinator watches this one's lease without a renewal before it takes over.
    pub length: Duration,
    pub renewal: Duration,
}

impl Default for LeaseTimes {
    /// With the time of a look, of loading the store and of the agents' way there, a handover stays below ten seconds; two
    /// renewals may fail.
    fn default() -> Self {
        Self { length: Duration::from_secs(6), renewal: Duration::from_secs(2) }
    }
}

/// The lease as the loop and its renewer share it.
#[derive(Debug, Clone)]
pub struct Lease {
    times: LeaseTimes,
    asked: Arc<Mutex<Clocks>>,
    answered: Arc<Mutex<Clocks>>,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    pub steady: Instant,
    pub wall: Timestamp,
}

impl Clocks {
    /// This one.
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: clock::now() }
    }
}

impl Lease {
    /// A lease that is asked for now.
    pub fn begin(times: LeaseTimes) -> Self {
        let now = Clocks::now();
        Self { times, asked: Arc::new(Mutex::new(now)), answered: Arc::new(Mutex::new(now)) }
    }

    /// How long it lasts, and how often it is renewed.
    pub fn times(&self) -> LeaseTimes {
        self.times
    }

    /// The store answered just now, whatever it said.
    pub fn answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Clocks::now();
    }

    /// When the store answered last, if an answer is overdue since: it is gone, or takes its time.
    pub fn store_silent_since(&self) -> Option<Timestamp> {
        let last = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = self.times.renewal + ANSWER_MAX;
        (last.steady.elapsed() > overdue).then_some(last.wall)
    }

    /// It was renewed; the renewal was asked for then. Answers may overtake each other: the newest question counts.
    pub fn renewed(&self, asked: Clocks) {
        let mut newest = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.steady > newest.steady {
            *newest = asked;
        }
    }

    /// When the newest renewal that the store has confirmed was asked for.
    pub fn asked(&self) -> Clocks {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody else can have taken over by now.
    pub fn is_certain(&self) -> bool {
        self.is_certain_at(Clocks::now())
    }

    fn is_certain_at(&self, now: Clocks) -> bool {
        let asked = self.asked();
        now.steady.saturating_duration_since(asked.steady) < self.times.length && now.wall.since(asked.wall) < self.times.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_certain_until_either_clock_says_that_it_may_have_lapsed() {
        let lease = Lease::begin(LeaseTimes::default());
        let began = *lease.asked.lock().expect("nobody panicked");
        let later = |steady, wall| Clocks {
            steady: began.steady + Duration::from_secs(steady),
            wall: began.wall + Duration::from_secs(wall),
        };
        assert!(lease.is_certain_at(later(5, 5)));
        assert!(!lease.is_certain_at(later(6, 6)));
        assert!(!lease.is_certain_at(later(0, 6)), "the steady clock stood still while the machine slept");
        assert!(!lease.is_certain_at(later(6, 0)), "somebody set the wall clock back");
        lease.renewed(later(5, 5));
        assert!(lease.is_certain_at(later(10, 10)));
        lease.renewed(later(2, 2));
        assert!(lease.is_certain_at(later(10, 10)), "an answer that was overtaken changes nothing");
    }

    #[tokio::test]
    async fn a_store_is_silent_when_an_answer_is_overdue() {
        let lease = Lease::begin(LeaseTimes::default());
        assert_eq!(lease.store_silent_since(), None);
        let last = Clocks { steady: Instant::now() - Duration::from_secs(6), wall: Timestamp::from_millis(5_000) };
        *lease.answered.lock().expect("nobody panicked") = last;
        assert_eq!(lease.store_silent_since(), Some(last.wall));
        lease.answered();
        assert_eq!(lease.store_silent_since(), None);
    }
}
