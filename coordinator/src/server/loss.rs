//! What a store has forgotten although it had confirmed it, and how a coordinator goes on above it.
//!
//! A replica that lagged behind took over, or a backup was restored under a coordinator that leads. Whoever writes next
//! notices: the term ends, and before the next one begins the store learns what this process still knows, the highest term
//! and the newest number of a job, and the audit what happened. Agents bring what they still have: attempts that the store
//! knows go on, results that it forgot after they were acknowledged are made again, and what it has never heard of is taken
//! back.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use lull_scheduler::foreign::numbers_beyond;
use lull_shared::{id::Term, time::Timestamp};

use crate::{
    clock, hint,
    store::{
        Lead, Store, StoreError, StoreResult,
        record::{AuditRecord, Rise},
    },
};

/// A store that forgot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// When it was noticed.
    pub at: Timestamp,
    /// In words, with a hint.
    pub message: String,
}

/// What this process knows over all its terms.
#[derive(Debug, Default)]
pub struct Losses {
    term: AtomicU64,
    last_job: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest.
    last: Option<Loss>,
    /// The store has not been told yet what it forgot.
    unsettled: bool,
}

impl Losses {
    /// A term of this process begins.
    pub fn leads(&self, term: Term) {
        self.term.fetch_max(term.0, Ordering::Relaxed);
    }

    /// A job has this number, and so have others all those before it.
    pub fn gave(&self, job: u64) {
        self.last_job.fetch_max(job, Ordering::Relaxed);
    }

    /// Looks whether an error shows that the store forgot something. Whether it does.
    pub fn judge(&self, error: &StoreError, lead: &Lead) -> bool {
        match error {
            StoreError::Lost(lost) => self.note(lost.to_string()),
            StoreError::Fenced(row) if row.term < lead.term => self.note(format!(
                "the store has forgotten that this coordinator leads: it is in term {}, and this one was in term {}; it was restored \
                 from a backup, or a replica that lagged behind took over\nhint: the coordinator goes on from what the store \
                 holds; look through the audit for what is missing",
                row.term.0, lead.term.0
            )),
            _ => return false,
        }
        true
    }

    /// The store forgot something.
    pub fn note(&self, message: String) {
        let (words, hint) = hint::split(&message);
        tracing::error!(hint = hint.unwrap_or_default(), "{words}");
        let mut state = self.state();
        state.last = Some(Loss { at: clock::now(), message });
        state.unsettled = true;
    }

    /// What the store forgot last, since this process began.
    pub fn last(&self) -> Option<Loss> {
        self.state().last.clone()
    }

    /// What the store has not been told yet.
    pub fn unsettled(&self) -> Option<Loss> {
        let state = self.state();
        state.last.clone().filter(|_| state.unsettled)
    }

    /// Tells the store, under a new lead, what it forgot. That ends the lead: the next term is above all that were led in.
    pub async fn settle(&self, store: &dyn Store, lead: &Lead, loss: &Loss) -> StoreResult<()> {
        let detail = loss.message.replace("\nhint: ", "; ");
        store.note(lead, &AuditRecord::new(loss.at, "the leader", "store.loss", store.describe(), &detail)).await?;
        let rise = Rise {
            above: Term(self.term.load(Ordering::Relaxed).max(lead.term.0)),
            last_job: numbers_beyond(self.last_job.load(Ordering::Relaxed), []),
            by: "this coordinator".into(),
            at: clock::now(),
        };
        store.raise(lead, &rise).await?;
        self.state().unsettled = false;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::time::Timestamp;

    use super::*;
    use crate::store::record::LeaderRecord;

    #[test]
    fn a_row_of_an_earlier_term_is_a_loss_and_one_of_a_later_term_another_leader() {
        let (losses, lead) = (Losses::default(), Lead::new(Term(5), "us"));
        let fenced = |term| StoreError::Fenced(LeaderRecord { term: Term(term), holder: None, until: Timestamp(0) });
        assert!(!losses.judge(&fenced(6), &lead) && !losses.judge(&fenced(5), &lead));
        assert_eq!(losses.unsettled(), None);
        assert!(losses.judge(&fenced(3), &lead));
        let words = losses.unsettled().expect("it is to be told").message;
        assert!(words.contains("in term 3") && words.contains("\nhint: "), "{words}");
    }
}
