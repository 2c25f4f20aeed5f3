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
    effect::{Change, Effect, Look, Order, OwnCopy, Reply},
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
    pub own_copies: Vec<OwnCopy>,
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
                Effect::OwnCopy(own_copy) => sealed.own_copies.push(own_copy),
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
    use std::{
        collections::BTreeMap,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use lull_scheduler::{
        Limits,
        event::{AgentSnapshot, Event, Submission},
    };
    use lull_shared::{
        id::{JobId, TokenId, VersionId},
        job::{Inputs, JobSpec},
        message::{Finished, Hello, Outcome, Payload, ToCoordinator},
        state::{Intake, JobState, Usage},
        time::Timestamp,
    };

    use super::*;
    use crate::store::{
        Leadership as _, Takeover,
        conformance::sample,
        faulty::{Fault, Faulty},
        memory::Memory,
    };

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

    fn submit(scheduler: &mut Scheduler, number: u64, argument_bytes: usize) {
        let args = (argument_bytes > 0).then(|| "x".repeat(argument_bytes));
        let spec = JobSpec {
            args: args.into_iter().collect(),
            ..JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: 1 })
        };
        let submission = Box::new(Submission {
            owner: TokenId(number),
            submitter: format!("person {number}"),
            spec,
            version_name: "f@1".into(),
            seed: 1,
            movable: None,
            ended: BTreeMap::new(),
        });
        scheduler.handle(Event::Submit { request: RequestId(number), submission }, Timestamp(1));
    }

    fn scheduler() -> Scheduler {
        let limits = Limits { jobs_active_max: usize::MAX, ..Limits::default() };
        Scheduler::restore(Default::default(), limits, 1, Timestamp(1))
    }

    /// How many changes each turn has until nothing is left to be done.
    fn turns(scheduler: &mut Scheduler) -> Vec<usize> {
        let cut = || {
            let turn = Turn::drain(scheduler);
            (!turn.changes.is_empty()).then_some(turn.changes.len())
        };
        std::iter::from_fn(cut).collect()
    }

    #[test]
    fn a_turn_is_closed_when_it_has_as_many_rows_as_a_transaction_takes() {
        let mut scheduler = scheduler();
        (1..=CHANGES_MAX as u64).for_each(|number| submit(&mut scheduler, number, 0));
        assert_eq!(turns(&mut scheduler), [CHANGES_MAX]);
        (1..=2 * CHANGES_MAX as u64 + 1).for_each(|number| submit(&mut scheduler, number, 0));
        assert_eq!(turns(&mut scheduler), [CHANGES_MAX, CHANGES_MAX, 1]);
    }

    #[test]
    fn a_turn_is_closed_when_it_weighs_as_much_as_a_transaction_takes() {
        let mut scheduler = scheduler();
        let full = BYTES_MAX / (1024 * 1024);
        (0..=full as u64).for_each(|number| submit(&mut scheduler, number, 1024 * 1024));
        assert_eq!(turns(&mut scheduler), [full, 1]);
    }

    #[test]
    fn what_follows_from_the_last_change_of_a_turn_is_in_it_and_so_is_what_is_said_of_it() {
        let mut scheduler = scheduler();
        (1..=CHANGES_MAX as u64).for_each(|number| submit(&mut scheduler, number, 0));
        let cancel = Event::Cancel { request: RequestId(0), job: JobId(1), by: "ann".into() };
        scheduler.handle(cancel, Timestamp(1));
        submit(&mut scheduler, 0, 0);
        let turn = Turn::drain(&mut scheduler);
        let (last, told) = (&turn.changes[CHANGES_MAX..], turn.sealed.replies.len());
        assert!(matches!(last.last(), Some(Change::JobEnded { job: JobId(1), state: JobState::Cancelled, .. })), "{last:?}");
        assert!(last.iter().all(Change::continues), "{last:?}");
        assert_eq!(told, CHANGES_MAX + 1);
        let rest = Turn::drain(&mut scheduler);
        assert_eq!((rest.changes.len(), rest.sealed.replies.len()), (1, 1));
    }

    fn ended(job: u64) -> Change {
        Change::JobEnded { job: JobId(job), state: JobState::Succeeded, at: Timestamp(1) }
    }

    fn says() -> Sealed {
        Sealed { replies: vec![(RequestId(1), Reply::Done { affected: 1 })], ..Sealed::default() }
    }

    fn orders() -> Sealed {
        let order = Order::Forget { job: JobId(1) };
        let outgoing = Outgoing { agent: AgentId(1), stream: StreamId(1), number: 1, order };
        Sealed { orders: vec![outgoing], ..Sealed::default() }
    }

    /// Commits a turn under a fault of the store: what came of it, and how often the store was asked.
    async fn commit(changes: Vec<Change>, sealed: Sealed, certain: bool, fault: Fault) -> (Committed, u32) {
        let memory = Arc::new(Memory::default());
        let Ok(Takeover::Ours(lead)) = memory.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let asked = Arc::<AtomicU32>::default();
        let counted = asked.clone();
        let store = Faulty::new(memory, move |method| match method {
            "commit" => {
                counted.fetch_add(1, Ordering::Relaxed);
                fault
            }
            _ => Fault::None,
        });
        let turn = Turn { changes, sealed, to_be_confirmed: false };
        let turn = if certain { turn } else { turn.to_be_confirmed() };
        let committed = turn.commit(&store, &lead).await;
        (committed, asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_store_is_asked_where_something_changes_or_something_is_said_by_one_who_may_be_replaced() {
        for (changes, sealed, certain, expected) in [
            (vec![], says(), true, 0),
            (vec![], orders(), true, 0),
            (vec![], Sealed::default(), false, 0),
            (vec![], says(), false, 1),
            (vec![], orders(), false, 1),
        ] {
            let case = format!("{sealed:?}, {certain}");
            let (committed, asked) = commit(changes, sealed, certain, Fault::None).await;
            assert!(matches!(committed, Committed::Done(_)), "{case}: {committed:?}");
            assert_eq!(asked, expected, "{case}");
        }
        for certain in [true, false] {
            let (_, asked) = commit(vec![ended(1)], Sealed::default(), certain, Fault::None).await;
            assert_eq!(asked, 1, "{certain}");
        }
    }

    #[tokio::test]
    async fn only_what_the_store_certainly_did_not_do_is_tried_again() {
        let (refused, _) = commit(vec![ended(1)], says(), true, Fault::Refused).await;
        let Committed::Refused(again, _) = refused else { panic!("{refused:?}") };
        assert_eq!((again.changes.len(), again.sealed.replies.len()), (1, 1), "nothing is lost of it");
        for (fault, expected) in [
            (Fault::Lost, Ended::InDoubt),
            (Fault::Unconfirmed, Ended::InDoubt),
            (Fault::Contradicted, Ended::InDoubt),
            (Fault::Fenced, Ended::Fenced),
        ] {
            let (committed, _) = commit(vec![ended(1)], says(), true, fault).await;
            assert!(matches!(&committed, Committed::Ended(ended, _) if *ended == expected), "{fault:?}: {committed:?}");
        }
    }
}
