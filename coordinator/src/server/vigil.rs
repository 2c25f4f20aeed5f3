//! CORE: when one that stands by may take over.
//!
//! Whoever reigns renews its lease in the store. The one that stands by does not compare the lease's end with its own
//! clock, since the clocks of two machines need not agree: it takes over when it has watched the same lease, by its own
//! clock, for as long as a lease lasts. A store that does not answer proves nothing, and watching begins anew: the one
//! that reigns cannot renew meanwhile either.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::{id::Epoch, time::Timestamp};

use crate::store::record::ReignRecord;

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else reigns: take over.
    Vacant,
    /// It was not renewed for a whole lease: take over, if it still ends then.
    Lapsed { until: Timestamp },
    /// Somebody reigns; the last sign of life was seen this long ago.
    Held { quiet: Duration },
}

/// Watches one lease.
#[derive(Debug)]
pub struct Vigil {
    own: String,
    lease: Duration,
    seen: Option<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    epoch: Epoch,
    until: Timestamp,
    since: Duration,
}

impl Vigil {
    /// For the coordinator that the store calls `own`.
    pub fn new(own: String, lease: Duration) -> Self {
        Self { own, lease, seen: None }
    }

    /// Takes what the store said; `now` counts from any fixed moment and never goes back.
    pub fn look(&mut self, reign: &ReignRecord, now: Duration) -> Claim {
        match &reign.holder {
            None => return Claim::Vacant,
            // An earlier life of this process: nobody else writes in its name.
            Some(holder) if *holder == self.own => return Claim::Vacant,
            Some(_) => {}
        }
        let seen = match self.seen.take().filter(|seen| seen.epoch == reign.epoch && seen.until == reign.until) {
            Some(same) => same,
            None => Seen { epoch: reign.epoch, until: reign.until, since: now },
        };
        let quiet = now.saturating_sub(seen.since);
        self.seen = Some(seen);
        if quiet >= self.lease { Claim::Lapsed { until: reign.until } } else { Claim::Held { quiet } }
    }

    /// The store did not answer.
    pub fn blinked(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);

    fn reign(holder: Option<&str>, epoch: u64, until: i64) -> ReignRecord {
        ReignRecord { epoch: Epoch(epoch), holder: holder.map(Into::into), until: Timestamp(until) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 + seconds)
    }

    fn vigil() -> Vigil {
        Vigil::new("us".into(), LEASE)
    }

    #[test]
    fn a_reign_that_was_given_up_or_is_our_own_can_be_taken_at_once() {
        assert_eq!(vigil().look(&reign(None, 3, 0), at(0)), Claim::Vacant);
        assert_eq!(vigil().look(&reign(Some("us"), 3, i64::MAX), at(0)), Claim::Vacant);
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_taken_whatever_the_other_clock_says() {
        let mut vigil = vigil();
        for second in 0..60 {
            // Renewed every other second, by a clock that is years behind.
            let claim = vigil.look(&reign(Some("them"), 3, second as i64 / 2), at(second));
            assert_eq!(claim, Claim::Held { quiet: Duration::from_secs(second % 2) });
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_lapses_after_its_own_length_and_not_before() {
        let mut vigil = vigil();
        let far = reign(Some("them"), 3, i64::MAX - 1);
        assert_eq!(vigil.look(&far, at(0)), Claim::Held { quiet: Duration::ZERO });
        assert_eq!(vigil.look(&far, at(5)), Claim::Held { quiet: Duration::from_secs(5) });
        assert_eq!(vigil.look(&far, at(6)), Claim::Lapsed { until: Timestamp(i64::MAX - 1) });
    }

    #[test]
    fn another_epoch_begins_a_new_watch() {
        let mut vigil = vigil();
        vigil.look(&reign(Some("them"), 3, 50), at(0));
        assert_eq!(vigil.look(&reign(Some("others"), 4, 50), at(6)), Claim::Held { quiet: Duration::ZERO });
    }

    #[test]
    fn a_store_that_did_not_answer_proves_nothing_about_whoever_reigns() {
        let mut vigil = vigil();
        vigil.look(&reign(Some("them"), 3, 50), at(0));
        vigil.blinked();
        assert_eq!(vigil.look(&reign(Some("them"), 3, 50), at(30)), Claim::Held { quiet: Duration::ZERO });
    }
}
