//! One turn of the scheduler, cut in two at the commit: what is to be remembered, and what may be said after that.
//!
//! ```text
//! scheduler --drain--> Turn --commit--> Sealed: orders and replies
//!                       ^  |
//!                       +--+ refused: nothing happened
//! ```
//! The only way from the one to the other is a commit that the store confirms, so nothing that it does not know can
//! leave. Pure but for the store: the coordinator's loop and the simulator share it.

use lull_scheduler::{
    Scheduler,
    effect::{Change, Custody, Effect, Look, Order, Reply},
    event::{RequestId, StreamId},
};
use lull_shared::id::AgentId;

use super::Ended;
use crate::store::{Lead, Ledger, StoreError};

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

#[cfg(test)]
mod tests {
    use lull_scheduler::{
        Limits,
        event::{AgentSnapshot, Event, Submission},
    };
    use lull_shared::{
        id::{TokenId, VersionId},
        job::{Inputs, JobSpec},
        message::{Finished, Hello, Outcome, Payload, ToCoordinator},
        state::{Intake, Usage},
        time::Timestamp,
    };

    use super::*;
    use crate::store::conformance::sample;

    #[test]
    fn results_that_weigh_more_than_a_transaction_takes_go_in_several() {
        let (agent, stream, now) = (AgentId(1), StreamId(1), Timestamp::from_millis(1));
        let mut scheduler = Scheduler::restore(Default::default(), Limits::default(), 1, now);
        let joined = AgentSnapshot { agent, name: "desk".into(), group: None, intake: Intake::Open, quarantine: None };
        scheduler.handle(Event::Enrolled { agent: joined }, now);
        let hello = Box::new(Hello {
            agent_version: "1".into(),
            machine: sample::machine(),
            labels: Default::default(),
            capacity: sample::capacity(agent.0, 256),
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        });
        scheduler.handle(Event::Connected { agent, stream, hello, from: "here".into() }, now);
        let mut spec = JobSpec::plain("light", VersionId(1), Inputs::Range { first: 0, count: 256 });
        spec.limits.memory_bytes = 1 << 20;
        spec.limits.log_bytes = 64 << 10;
        let submission = Submission {
            owner: TokenId(1),
            submitter: "ann".into(),
            spec,
            version_name: "f@1".into(),
            seed: 1,
            movable: None,
            ended: Default::default(),
        };
        scheduler.handle(Event::Submit { request: RequestId(1), submission: Box::new(submission) }, now);
        while scheduler.poll_effect().is_some() {}
        let held = scheduler.agent(agent).expect("it has joined").attempts;

        let results = held.iter().map(|attempt| Finished {
            attempt: *attempt,
            outcome: Outcome::Succeeded { output: Payload::inline(&b"42"[..]) },
            log: vec![b'x'; 64 << 10].into(),
            log_dropped_bytes: 0,
            usage: Usage { wall_us: 1_000_000, ..Usage::default() },
        });
        let message = ToCoordinator::Finished(results.collect());
        scheduler.handle(Event::Message { agent, stream, message }, now);
        let mut parts = Vec::new();
        while scheduler.next_effect().is_some() {
            let turn = Turn::drain(&mut scheduler);
            parts.push(turn.changes().iter().map(Change::size_bytes).sum::<usize>());
        }
        assert!(held.len() == 256 && parts.len() == 2, "{} attempts, {parts:?}", held.len());
        assert!(parts.iter().all(|bytes| *bytes < 17 << 20), "{parts:?}");
    }
}
