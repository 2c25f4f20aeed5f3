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
    length: Duration,
    asked: Arc<Mutex<Clocks>>,
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
    pub fn begin(length: Duration) -> Self {
        Self { length, asked: Arc::new(Mutex::new(Clocks::now())) }
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
        now.steady.saturating_duration_since(asked.steady) < self.length && now.wall.since(asked.wall) < self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_certain_until_either_clock_says_that_it_may_have_lapsed() {
        let length = Duration::from_secs(6);
        let lease = Lease::begin(length);
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
    }
}
