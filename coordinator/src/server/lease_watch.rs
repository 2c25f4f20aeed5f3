//! CORE: when one that stands by may take over.
//!
//! The leader renews its lease in the store. The one that stands by does not compare the lease's end with its own
//! clock, since the clocks of two machines need not agree: it takes over when it has watched the same lease, by its own
//! clock, for as long as a lease lasts. A store that does not answer proves nothing, and watching begins anew: the one
//! that leads cannot renew meanwhile either. An answer that comes late tells of some moment between the question and
//! itself, so only the time from one answer to a later question counts.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use lull_shared::{id::Term, time::Timestamp};

use crate::store::record::LeaderRecord;

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody else leads: take over.
    Vacant,
    /// It was not renewed for a whole lease: take over, if it still ends then.
    Lapsed { until: Timestamp },
    /// Somebody leads; the last sign of life was seen this long ago.
    Held { quiet: Duration },
}

/// Watches one lease.
#[derive(Debug)]
pub(super) struct LeaseWatch {
    own: String,
    lease: Duration,
    seen: Option<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    term: Term,
    until: Timestamp,
    since: Duration,
}

impl LeaseWatch {
    /// For the coordinator that the store calls `own`.
    pub(super) fn new(own: String, lease: Duration) -> Self {
        Self { own, lease, seen: None }
    }

    /// Takes what the store said; both times count from any fixed moment and never go back.
    pub(super) fn look(&mut self, leader: &LeaderRecord, asked: Duration, answered: Duration) -> Claim {
        match &leader.holder {
            None => return Claim::Vacant,
            // An earlier life of this process: nobody else writes in its name.
            Some(holder) if *holder == self.own => return Claim::Vacant,
            Some(_) => {}
        }
        let seen = match self.seen.take().filter(|seen| seen.term == leader.term && seen.until == leader.until) {
            Some(same) => same,
            None => Seen { term: leader.term, until: leader.until, since: answered },
        };
        let quiet = asked.saturating_sub(seen.since);
        self.seen = Some(seen);
        if quiet >= self.lease { Claim::Lapsed { until: leader.until } } else { Claim::Held { quiet } }
    }

    /// The store did not answer.
    pub(super) fn blinked(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);

    fn leader(holder: Option<&str>, term: u64, until: i64) -> LeaderRecord {
        LeaderRecord { term: Term(term), holder: holder.map(Into::into), until: Timestamp(until) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 + seconds)
    }

    /// A watch whose store answers at once.
    struct Prompt(LeaseWatch);

    impl Prompt {
        fn look(&mut self, leader: &LeaderRecord, now: Duration) -> Claim {
            self.0.look(leader, now, now)
        }
    }

    fn watch() -> Prompt {
        Prompt(LeaseWatch::new("us".into(), LEASE))
    }

    #[test]
    fn a_lease_that_was_given_up_or_is_our_own_can_be_taken_at_once() {
        assert_eq!(watch().look(&leader(None, 3, 0), at(0)), Claim::Vacant);
        assert_eq!(watch().look(&leader(Some("us"), 3, i64::MAX), at(0)), Claim::Vacant);
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_taken_whatever_the_other_clock_says() {
        let mut watch = watch();
        for second in 0..60 {
            // Renewed every other second, by a clock that is years behind.
            let claim = watch.look(&leader(Some("them"), 3, second as i64 / 2), at(second));
            assert_eq!(claim, Claim::Held { quiet: Duration::from_secs(second % 2) });
        }
    }

    #[test]
    fn a_lease_that_is_not_renewed_lapses_after_its_own_length_and_not_before() {
        let mut watch = watch();
        let far = leader(Some("them"), 3, i64::MAX - 1);
        assert_eq!(watch.look(&far, at(0)), Claim::Held { quiet: Duration::ZERO });
        assert_eq!(watch.look(&far, at(5)), Claim::Held { quiet: Duration::from_secs(5) });
        assert_eq!(watch.look(&far, at(6)), Claim::Lapsed { until: Timestamp(i64::MAX - 1) });
    }

    #[test]
    fn another_term_begins_a_new_watch() {
        let mut watch = watch();
        watch.look(&leader(Some("them"), 3, 50), at(0));
        assert_eq!(watch.look(&leader(Some("others"), 4, 50), at(6)), Claim::Held { quiet: Duration::ZERO });
    }

    #[test]
    fn a_store_that_did_not_answer_proves_nothing_about_the_leader() {
        let mut watch = watch();
        watch.look(&leader(Some("them"), 3, 50), at(0));
        watch.0.blinked();
        assert_eq!(watch.look(&leader(Some("them"), 3, 50), at(30)), Claim::Held { quiet: Duration::ZERO });
    }

    #[test]
    fn an_answer_that_comes_late_does_not_make_the_leader_older() {
        let mut watch = LeaseWatch::new("us".into(), LEASE);
        let leader = leader(Some("them"), 3, 50);
        // Each may have been read just before it came: then only moments lie between them.
        assert_eq!(watch.look(&leader, at(0), at(30)), Claim::Held { quiet: Duration::ZERO });
        assert_eq!(watch.look(&leader, at(31), at(61)), Claim::Held { quiet: Duration::from_secs(1) });
        assert_eq!(watch.look(&leader, at(36), at(36)), Claim::Lapsed { until: Timestamp(50) });
    }
}
