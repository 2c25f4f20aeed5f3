//! The one queue: what happens when, ordered by time and then by the order in which it was put there.

use std::{cmp::Ordering, collections::BinaryHeap};

use lull_scheduler::effect::Reply;
use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    message::{ToAgentFrame, ToCoordinator},
    resources::Capacity,
    state::Failure,
    time::Timestamp,
};

use super::{coordinator::Input, machines::link::LinkId, misfortune::faults::Fault, people::users::Wish};

/// A machine's place in the world.
pub(super) type MachineId = usize;
/// A coordinator's place in the world.
pub(super) type CoordinatorId = usize;

/// Something that happens. `life` counts the starts of a process: what was meant for an earlier one does not happen.
#[derive(Debug)]
pub(super) enum What {
    Machine {
        machine: MachineId,
        life: u32,
        what: MachineEvent,
    },
    Boot {
        machine: MachineId,
    },
    WakeUp {
        machine: MachineId,
    },
    OwnerTurns {
        machine: MachineId,
    },
    /// In a week: the next act at a desk.
    Desk {
        machine: MachineId,
    },
    Fault(Fault),
    ToAgent {
        link: LinkId,
        frame: Box<ToAgentFrame>,
    },
    ToCoordinator {
        link: LinkId,
        messages: Vec<ToCoordinator>,
    },
    AgentSeesEnd {
        link: LinkId,
    },
    CoordinatorSeesEnd {
        link: LinkId,
    },
    Gossip {
        capacity: Box<Capacity>,
    },
    Coordinator {
        coordinator: CoordinatorId,
        life: u32,
        what: CoordinatorEvent,
    },
    StartCoordinator {
        coordinator: CoordinatorId,
    },
    Ask {
        wish: Wish,
    },
    /// A request reaches a coordinator.
    Arrives {
        coordinator: CoordinatorId,
        life: u32,
        input: Box<Input>,
    },
    Answered {
        number: u64,
        reply: Reply,
    },
    GivesUp {
        number: u64,
    },
    Heal,
    WeekEnds,
}

/// What happens to one agent process.
#[derive(Debug)]
pub(super) enum MachineEvent {
    /// The session wants to be called.
    Timeout,
    Sample,
    /// The owner has been busy for as long as the guard may take.
    OwnerDeadline,
    /// In a week: keyboard or mouse.
    Input {
        first: bool,
    },
    Bump,
    BumpOver,
    /// It goes off or to sleep as it said.
    Leave {
        off: bool,
        until: Timestamp,
    },
    /// Its services are told to stop.
    Stop,
    Dial,
    Opened(LinkId),
    Executor {
        slot: u16,
        tick: u64,
        news: News,
    },
    Disk(Answer),
    Fetched {
        digest: Digest,
        fetch: u64,
    },
    Delivered {
        attempt: AttemptId,
        input: u64,
    },
}

/// From a simulated executor.
#[derive(Debug)]
pub(super) enum News {
    Started,
    NotStarted(u8),
    FrontEnds,
    Suspended { attempt: AttemptId },
    Gone { failed: Option<(AttemptId, Failure)> },
}

/// From a simulated disk.
#[derive(Debug)]
pub(super) enum Answer {
    Kept(AttemptId),
    Recollected(Vec<AttemptId>),
}

/// What happens to one coordinator process.
#[derive(Debug)]
pub(super) enum CoordinatorEvent {
    TakeOver,
    Load,
    Turn,
    Commit,
    Renew,
    /// A snapshot that it keeps itself was fetched, or could not be.
    Fetched(BlobRef),
}

/// Everything that is going to happen.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    at: Timestamp,
    number: u64,
    what: What,
}

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, what: What) {
        self.heap.push(Entry { at, number: self.next, what });
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Timestamp, What)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}
