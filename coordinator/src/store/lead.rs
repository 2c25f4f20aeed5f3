//! The lead of a term: what every write shows, and what the store says to it.
//!
//! ```text
//! take_over -> Lead { term, holder, counts } --shown with each write--> the leader's row
//!                      ^                                                 | other term or holder: Fenced
//!                      +---------- counts, if it was done ---------------+ fewer writes than confirmed: Lost
//!                                                                        | other number of turns: Contradiction
//! ```
//! The row counts the writes that it let through, and the turns of the scheduler among them. A store that has fewer
//! writes than it once confirmed has forgotten some: a replica that lagged behind took over, or a backup was restored.
//! A turn says the number of turns that came before it. So a turn that was in doubt and arrives after the store was
//! loaded either finds that another came first, or is found by the next one. A load shows nothing and changes nothing.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lull_scheduler::event::Snapshot;
use lull_shared::id::Term;

use super::{StoreError, record::LeaderRecord};

/// Who leads, in which term. Clones share what the store has confirmed.
#[derive(Clone)]
pub struct Lead {
    pub term: Term,
    /// What the leader's row calls this coordinator.
    pub holder: Arc<str>,
    known: Arc<Mutex<Counts>>,
}

/// What a store has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Transactions that were fenced, renewals and turns among them.
    pub writes: u64,
    /// Turns of the scheduler.
    pub turns: u64,
}

/// The leader's row as a write finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaderRow {
    pub leader: LeaderRecord,
    pub counts: Counts,
}

/// A store that has forgotten writes which it had confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store has forgotten {} of the {known} writes that it had confirmed; it was restored from a backup, or a replica that \
     lagged behind took over\nhint: the coordinator goes on from what the store holds; look through the audit for what is missing",
    known.saturating_sub(*found)
)]
pub struct Lost {
    /// Writes that were confirmed.
    pub known: u64,
    /// Writes that the store knows of.
    pub found: u64,
}

/// What a loading brings.
#[derive(Debug)]
pub struct Loaded {
    pub snapshot: Snapshot,
    /// Said by the first loading after the store forgot something; from then on its own count is what counts.
    pub lost: Option<Lost>,
}

/// What a write does to the scheduler's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The scheduler's turn.
    Turn,
    /// Anything else.
    Other,
}

/// What one write shows: the counts are those of the moment before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub term: Term,
    pub holder: Arc<str>,
    /// The store has at least so many.
    pub writes: u64,
    /// The number of turns before this one; none if it is no turn.
    pub turns: Option<u64>,
}

impl Lead {
    /// A lead of which no count is known yet.
    pub fn new(term: Term, holder: &str) -> Self {
        Self::with_counts(term, holder, Counts::default())
    }

    /// The same lead with counts of its own: what a write that was sent long ago still shows.
    #[cfg(test)]
    pub(super) fn apart(&self) -> Self {
        Self::with_counts(self.term, &self.holder, *self.known())
    }

    /// A lead as the leader's row tells of it.
    pub(super) fn with_counts(term: Term, holder: &str, counts: Counts) -> Self {
        Self { term, holder: holder.into(), known: Arc::new(Mutex::new(counts)) }
    }

    /// What a write shows now.
    pub(super) fn shown(&self, kind: Kind) -> Shown {
        let Counts { writes, turns } = *self.known();
        Shown { term: self.term, holder: self.holder.clone(), writes, turns: (kind == Kind::Turn).then_some(turns) }
    }

    /// A write was done, and this is what the row said then. Answers come in any order.
    pub(super) fn confirmed(&self, counts: Counts) {
        let mut known = self.known();
        known.writes = known.writes.max(counts.writes);
        known.turns = known.turns.max(counts.turns);
    }

    /// The store was loaded while the row said this. What it has forgotten, if it has.
    pub(super) fn loaded(&self, counts: Counts) -> Option<Lost> {
        let mut known = self.known();
        let lost = (counts.writes < known.writes).then_some(Lost { known: known.writes, found: counts.writes });
        *known = counts;
        lost
    }

    fn known(&self) -> MutexGuard<'_, Counts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same coordinator in the same term.
impl PartialEq for Lead {
    fn eq(&self, other: &Self) -> bool {
        self.term == other.term && self.holder == other.holder
    }
}

impl Eq for Lead {}

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in term {}, {:?}", self.holder, self.term.0, self.known())
    }
}

impl LeaderRow {
    /// Whether this is who leads.
    pub(super) fn is_led_by(&self, term: Term, holder: &str) -> bool {
        self.leader.term == term && self.leader.holder.as_deref() == Some(holder)
    }

    /// Why a write that shows this was not let through; none if it is to be.
    pub(super) fn refusal(&self, shown: &Shown) -> Option<Refusal> {
        let Counts { writes, turns } = self.counts;
        if !self.is_led_by(shown.term, &shown.holder) {
            Some(Refusal::Fenced(self.leader.clone()))
        } else if writes < shown.writes {
            Some(Refusal::Lost(Lost { known: shown.writes, found: writes }))
        } else {
            shown.turns.filter(|shown| *shown != turns).map(|shown| Refusal::Overtaken { shown, found: turns })
        }
    }

    /// The counts after a write was let through.
    pub(super) fn counted(&self, shown: &Shown) -> Counts {
        Counts { writes: self.counts.writes + 1, turns: self.counts.turns + u64::from(shown.turns.is_some()) }
    }
}

/// Why a write was not let through: it certainly did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{}", fenced_words(.0))]
    Fenced(LeaderRecord),
    #[error(transparent)]
    Lost(Lost),
    /// A turn that was in doubt arrived after the store was loaded.
    #[error("the store has {found} turns where this coordinator knows of {shown}: one that was in doubt was done after all")]
    Overtaken { shown: u64, found: u64 },
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fenced(leader) => Self::Fenced(leader),
            Refusal::Lost(lost) => Self::Lost(lost),
            Refusal::Overtaken { .. } => Self::Contradiction(refusal.into()),
        }
    }
}

/// Who leads instead, for people.
pub(super) fn fenced_words(leader: &LeaderRecord) -> String {
    let term = leader.term.0;
    match &leader.holder {
        Some(holder) => format!("another coordinator has taken over: {holder} leads in term {term}"),
        None => format!("this coordinator does not lead any more: term {term} was given up"),
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::time::Timestamp;

    use super::*;

    fn row(term: u64, holder: &str, writes: u64, turns: u64) -> LeaderRow {
        let leader = LeaderRecord { term: Term(term), holder: Some(holder.into()), until: Timestamp(9) };
        LeaderRow { leader, counts: Counts { writes, turns } }
    }

    #[test]
    fn term_and_holder_are_compared_and_the_row_comes_back() {
        let lead = Lead::new(Term(4), "north");
        assert_eq!(row(4, "north", 0, 0).refusal(&lead.shown(Kind::Turn)), None);
        for other in [row(5, "north", 0, 0), row(4, "south", 0, 0), row(3, "north", 0, 0)] {
            assert_eq!(other.refusal(&lead.shown(Kind::Other)), Some(Refusal::Fenced(other.leader.clone())));
        }
        let words = Refusal::Fenced(row(5, "south", 0, 0).leader).to_string();
        assert_eq!(words, "another coordinator has taken over: south leads in term 5");
    }

    #[test]
    fn a_store_with_fewer_writes_than_it_confirmed_has_lost_some() {
        let lead = Lead::new(Term(4), "north");
        let before = lead.shown(Kind::Other);
        lead.confirmed(Counts { writes: 7, turns: 2 });
        lead.confirmed(Counts { writes: 6, turns: 1 });
        let lost = Lost { known: 7, found: 5 };
        assert_eq!(row(4, "north", 5, 1).refusal(&lead.shown(Kind::Turn)), Some(Refusal::Lost(lost)));
        assert_eq!(row(4, "north", 5, 1).refusal(&before), None, "what was sent before the answer came knows no better");
        assert_eq!(lead.loaded(Counts { writes: 5, turns: 1 }), Some(lost), "the first loading tells");
        assert_eq!(lead.loaded(Counts { writes: 5, turns: 1 }), None, "and the next goes on from what there is");
        assert_eq!(row(4, "north", 5, 1).refusal(&lead.shown(Kind::Turn)), None);
        assert!(lost.to_string().starts_with("the store has forgotten 2 of the 7 writes"), "{lost}");
    }

    #[test]
    fn a_turn_that_was_overtaken_is_not_repeated() {
        let lead = Lead::new(Term(4), "north");
        let overtaken = Refusal::Overtaken { shown: 0, found: 1 };
        assert_eq!(row(4, "north", 1, 1).refusal(&lead.shown(Kind::Turn)), Some(overtaken.clone()));
        assert_eq!(row(4, "north", 1, 1).refusal(&lead.shown(Kind::Other)), None, "others go beside turns");
        assert!(matches!(StoreError::from(overtaken), StoreError::Contradiction(_)));
    }
}
