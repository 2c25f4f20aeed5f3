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
use lull_shared::{hint, id::Term, time::Timestamp};

use crate::{
    clock,
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
        let detail = hint::in_one_line(&loss.message);
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
    use std::time::Duration;

    use lull_shared::time::Timestamp;

    use super::*;
    use crate::store::{
        Attendance as _, Leadership as _, Ledger as _, Lost, Registry as _, Takeover, memory::Memory, record::LeaderRecord,
    };

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

    #[test]
    fn a_store_that_says_what_it_lost_is_believed_and_what_happens_every_day_is_no_loss() {
        let (losses, lead) = (Losses::default(), Lead::new(Term(5), "us"));
        for usual in [
            StoreError::Determinate(anyhow::anyhow!("away")),
            StoreError::Indeterminate(anyhow::anyhow!("cut off")),
            StoreError::Contradiction(anyhow::anyhow!("something else")),
        ] {
            assert!(!losses.judge(&usual, &lead), "{usual}");
        }
        assert_eq!(losses.last(), None);
        assert!(losses.judge(&StoreError::Lost(Lost { known: 9, found: 7 }), &lead));
        assert!(losses.last().is_some() && losses.last() == losses.unsettled());
    }

    #[tokio::test]
    async fn a_store_is_told_once_what_it_forgot_and_goes_on_above_all_that_was_known() {
        for (led_in, given) in [(9, 50), (1, 0)] {
            let store = Memory::default();
            let Ok(Takeover::Ours(lead)) = store.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
                panic!("a new store has no leader");
            };
            let losses = Losses::default();
            losses.leads(Term(led_in));
            losses.leads(Term(1));
            losses.gave(given);
            losses.gave(1);
            losses.note("it forgot\nhint: look".into());
            let loss = losses.unsettled().expect("it is to be told");
            losses.settle(&store, &lead, &loss).await.expect("memory answers");
            assert_eq!((losses.unsettled(), losses.last()), (None, Some(loss)));
            let leader = store.leader().await.expect("memory answers");
            assert_eq!((leader.holder, leader.term), (None, Term(led_in)), "the lead ends with it");
            let Ok(Takeover::Ours(lead)) = store.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
                panic!("nobody leads");
            };
            assert!(lead.term > Term(led_in));
            assert!(store.load(&lead).await.expect("memory answers").snapshot.last_job > given.max(1));
            let lines = store.audit(10).await.expect("memory answers");
            let told = lines.iter().filter(|line| line.action == "store.loss").map(|line| line.detail.as_str());
            assert_eq!(told.collect::<Vec<_>>(), ["it forgot; look"]);
        }
    }
}
