//! One turn of the scheduler, cut in two at the commit: what is to be remembered, and what may be said after that.
//!
//! ```text
//! scheduler --drain--> Turn --commit--> Sealed: orders and replies
//!                       ^  |
//!                       +--+ refused: nothing happened
//! ```
//! The only way from the one to the other is a commit that the store confirms, so nothing that it does not know can
//! leave. Pure but for the store: the coordinator's loop and the simulator share it.

use std::time::Duration;

use lull_shared::{id::AgentId, time::Timestamp};

use super::Ended;
use crate::{
    scheduler::{
        Scheduler,
        effect::{Change, Custody, Effect, Look, Order, Reply},
        event::{RequestId, StreamId},
    },
    store::{Lead, Ledger, StoreError},
};

/// A commit that took this long made the loop deaf; silence of agents in the meantime proves nothing.
const STALL: Duration = Duration::from_millis(500);

/// Rows after which a transaction is closed: a server takes so many in a second or two, far below its deadline.
const CHANGES_MAX: usize = 4_096;
/// The same by what they weigh: results and logs of up to 64 KiB travel with them.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A turn that is not remembered yet.
#[derive(Debug)]
#[must_use = "a turn that is not committed is lost"]
pub struct Turn {
    changes: Vec<Change>,
    sealed: Sealed,
    /// Even if nothing changes, the store must confirm the term before anything is said.
    to_be_confirmed: bool,
}

/// What may be said, since the store knows all that it says.
#[derive(Debug, Default)]
pub struct Sealed {
    pub orders: Vec<Outgoing>,
    pub replies: Vec<(RequestId, Reply)>,
    /// What is to become of this coordinator's own copies of snapshots.
    pub custody: Vec<Custody>,
    /// What is to be read from the store.
    pub looks: Vec<Look>,
}

/// One order on its way to an agent.
#[derive(Debug)]
pub struct Outgoing {
    pub agent: AgentId,
    pub stream: StreamId,
    /// The order's number on its stream.
    pub number: u64,
    pub order: Order,
}

/// What came of a commit.
#[derive(Debug)]
pub enum Committed {
    Done(Sealed),
    /// The store certainly did not do it: the same turn may be tried again.
    Refused(Turn, StoreError),
    /// This term is over, and what the turn would have said is not said.
    Ended(Ended, StoreError),
}

impl Turn {
    /// Takes what the scheduler wants done, as far as one transaction goes. What is left is for the next turn.
    pub fn drain(scheduler: &mut Scheduler) -> Self {
        let (mut changes, mut sealed, mut rows, mut bytes) = (Vec::new(), Sealed::default(), 0, 0);
        while let Some(next) = scheduler.next_effect() {
            let is_whole = rows >= CHANGES_MAX || bytes >= BYTES_MAX;
            if is_whole && matches!(next, Effect::Record(change) if !change.continues()) {
                break;
            }
            let Some(effect) = scheduler.poll_effect() else { break };
            match effect {
                Effect::Record(change) => {
                    rows += change.rows();
                    bytes += change.size_bytes();
                    changes.push(change);
                }
                Effect::Send { agent, stream, number, order } => {
                    sealed.orders.push(Outgoing { agent, stream, number, order });
                }
                Effect::Reply { request, reply } => sealed.replies.push((request, reply)),
                Effect::Custody(custody) => sealed.custody.push(custody),
                Effect::Look(look) => sealed.looks.push(look),
            }
        }
        Self { changes, sealed, to_be_confirmed: false }
    }

    /// The same, and what it says is only said when the store has confirmed the term, whether it changes anything or
    /// not: for a coordinator whose lease may have lapsed.
    pub fn to_be_confirmed(self) -> Self {
        let says_something = !(self.sealed.orders.is_empty() && self.sealed.replies.is_empty());
        Self { to_be_confirmed: says_something, ..self }
    }

    /// What is to be remembered.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Has it remembered; a turn without changes has nothing that could be forgotten.
    pub async fn commit(self, store: &dyn Ledger, lead: &Lead) -> Committed {
        if self.changes.is_empty() && !self.to_be_confirmed {
            return Committed::Done(self.sealed);
        }
        match store.commit(lead, &self.changes).await {
            Ok(()) => Committed::Done(self.sealed),
            Err(error @ StoreError::Determinate(_)) if error.passes() => Committed::Refused(self, error),
            // To repeat it is of no use: what is stored tells how to go on.
            Err(
                error @ (StoreError::Determinate(_)
                | StoreError::Indeterminate(_)
                | StoreError::Contradiction(_)
                | StoreError::Lost(_)),
            ) => Committed::Ended(Ended::InDoubt, error),
            Err(error @ StoreError::Fenced(_)) => Committed::Ended(Ended::Fenced, error),
        }
    }
}

/// Excuses the agents' silence if a commit took so long that the loop was deaf meanwhile.
pub fn excuse_silence(scheduler: &mut Scheduler, took: Duration, lease: Duration, now: Timestamp) {
    if took > STALL {
        scheduler.excuse_silence(now + lease);
    }
}
