//! The agents: what each is, has and was told, with indexes of those that have free slots and those where attempts wait.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    limits,
    message::{Reach, RecallReason},
    resources::{Capacity, Labels, Machine},
    state::Intake,
    time::Timestamp,
};

use crate::{
    attempts::overtime::{Clock, Punctuality},
    event::{Quarantine, StreamId},
    fleet::{outgoing::Outgoing, roster::Roster, speed::Speed, twins::Twins, waking::Sleeper},
    placement::select::Load,
    time::history::History,
};

/// An order that was not sent yet. No agent has read that far.
pub(crate) const UNSENT: u64 = u64::MAX;

/// One enrolled machine.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub name: String,
    /// The group that it was put into when it joined.
    pub group: Option<String>,
    pub intake: Intake,
    /// Nothing of it is believed.
    pub quarantine: Option<Box<Quarantine>>,
    pub link: Link,
    pub touch: Touch,
    /// It was out of touch on this stream, and has not said since what it has.
    pub returned: bool,
    pub last_heard: Option<Timestamp>,
    /// What it said of itself when it last connected.
    pub facts: Option<Box<Facts>>,
    pub capacity: Option<Capacity>,
    /// The live attempts that were given to it.
    pub held: BTreeMap<AttemptId, Held>,
    /// How many of them have started.
    pub begun: u32,
    /// How many of them it was asked to give back.
    pub recalled: u32,
    /// The most memory that attempts were seen to have on this stream, taken or free. Reports alone would not do: what
    /// an agent reports as free is stale the moment an attempt starts or ends, and leaves out what warm executors of
    /// ended attempts keep. That other programs take memory is the agent's own concern: it pauses.
    pub memory_budget_bytes: u64,
    /// How much of it attempts may take that occupy a slot, by their limits.
    memory_taken_bytes: u64,
    /// Attempts that have started and can be moved.
    movables: u32,
    pub speed: Speed,
    pub refusals: BTreeMap<JobId, Refusal>,
    /// Results that were taken or refused, by the order that says so, until the agent has read it.
    pub accepted: BTreeMap<AttemptId, u64>,
    /// Attempts that were taken from it at once, by the order that says so, until the agent has read it.
    pub withdrawn: BTreeMap<AttemptId, u64>,
    /// What is said to it at the end of this turn.
    pub outgoing: Outgoing,
    pub misdeeds: Misdeeds,
    pub sleeper: Sleeper,
    pub twins: Twins,
    pub history: History,
    /// What it had to give since it last held nothing.
    pub slot_time: SlotTime,
    pub punctuality: Punctuality,
    indexed: Indexed,
    /// It may have changed since the indexes were brought up to date.
    touched: bool,
}

/// Whether words reach it.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    Away,
    Open(Stream),
    /// The stream is open, but nothing was heard on it for longer than the lease.
    Silent(Stream),
}

/// Whether it is where it should be. An agent that left in good order, or never came, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Kept,
    /// Its stream closed without a farewell, or this coordinator has just begun and knows that it has attempts: it may
    /// be there in a moment.
    Awaited {
        since: Timestamp,
    },
    /// Nothing was heard of it for the silence limit: what it has is unreachable. `since`: its last word. `together`: it
    /// fell silent together with others, and no copies of what it has start before then.
    Lost {
        since: Timestamp,
        together: Option<Timestamp>,
    },
}

impl Touch {
    /// Since when it is out of touch, if it is.
    pub(crate) fn lost_since(self) -> Option<Timestamp> {
        match self {
            Self::Lost { since, .. } => Some(since),
            Self::Kept | Self::Awaited { .. } => None,
        }
    }
}

/// One work stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub id: StreamId,
    pub since: Timestamp,
    /// Orders sent on it; the newest has this number.
    pub orders: u64,
    /// Jobs whose briefs were sent on it.
    pub briefs: BTreeSet<JobId>,
}

/// What an agent is.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub version: String,
    pub machine: Machine,
    /// All labels, those of the machine included.
    pub labels: Labels,
    /// What is missing of the cage around its executors, if it is not closed.
    pub open_cage: Option<String>,
}

/// An attempt that is with an agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// The order that gave it; 0 when it was on an earlier stream.
    pub order: u64,
    pub started: bool,
    /// Since when it takes a slot; `None` while it waits behind others.
    pub occupies: Option<Timestamp>,
    /// It came to wait behind others, and was said to run later, or never.
    pub waited: bool,
    pub recall: Option<Recall>,
    /// What it may take at most.
    pub memory_bytes: u64,
    /// It can be suspended and go on elsewhere.
    pub movable: bool,
    /// It began where an earlier one left off, or may have.
    pub resumed: bool,
    /// Since when it is off the processor for want of room, though it could go on elsewhere.
    pub stalled: Option<Timestamp>,
    pub clock: Clock,
}

/// An attempt that the agent was asked to give back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recall {
    pub reason: RecallReason,
    pub order: u64,
    /// The agent that has room for it.
    pub to: Option<AgentId>,
}

impl Recall {
    /// Whether a free slot is kept for it.
    fn rebalances(&self) -> bool {
        match self.reason {
            RecallReason::Rebalance | RecallReason::Roomier | RecallReason::Faster => true,
            RecallReason::Drain | RecallReason::Window | RecallReason::Cancelled | RecallReason::Stale => false,
        }
    }
}

impl Held {
    /// Whether a recall of that reach is answered by giving it back, not by going on.
    pub(crate) fn gives_back(&self, reach: Reach) -> bool {
        match reach {
            Reach::Waiting => !self.started,
            Reach::Movable => !self.started || self.movable,
            Reach::All => true,
        }
    }
}

/// A job whose last offer the agent refused.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub reason: String,
    pub lacks: Lack,
    /// Refusals in a row.
    pub count: u32,
    pub until: Timestamp,
}

/// What would have to change for the agent to think otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    Memory {
        needed_bytes: u64,
    },
    Room,
    Leave,
    /// It broke the protocol when it told the end of one of the job's attempts. A new stream changes nothing about that.
    Manners,
    Other,
}

/// The time of an agent's slots since it last held nothing: attempts there can have no more of it together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SlotTime {
    since: Timestamp,
    /// The most that it had.
    slots: u16,
    /// What attempts had that are over.
    taken_us: u64,
}

impl SlotTime {
    /// It holds an attempt since then, and has so many slots now.
    pub(crate) fn note(&mut self, since: Timestamp, slots: u16) {
        (self.since, self.slots) = (self.since.min(since), self.slots.max(slots));
    }

    /// What no attempt has had yet.
    pub(crate) fn left_us(&self, now: Timestamp) -> u64 {
        let elapsed_us = crate::placement::rank::micros(now.since(self.since));
        elapsed_us.saturating_mul(u64::from(self.slots.max(1))).saturating_sub(self.taken_us)
    }

    /// An attempt had so much.
    pub(crate) fn take(&mut self, used_us: u64) {
        self.taken_us = self.taken_us.saturating_add(used_us);
    }
}

/// What an agent said that was not believed. An honest agent is late now and then; a lying one is often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Misdeeds {
    /// Words about attempts that it did not hold.
    pub claims: u64,
    /// How often it broke the protocol.
    pub breaches: u64,
    /// How often it did so on its newest stream since a result of it was last taken, each time soon after the time before.
    pub in_a_row: u32,
    pub last_breach: Option<Timestamp>,
}

/// Under which keys the agent stands in the indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Indexed {
    free: Option<Load>,
    free_slots: u32,
    slots: u32,
    waiting: u32,
    /// Of one that runs what can be moved.
    percent: Option<u32>,
    /// Since when one that has attempts is out of touch.
    doubtful: Option<Timestamp>,
}

/// All agents. Whoever takes an agent to change it leaves a mark, and [`Fleet::settle`] brings the indexes up to date with all
/// that are marked: no caller says what changed, and none can forget to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fleet {
    agents: Roster,
    /// Agents with free slots, the least loaded first.
    free: BTreeSet<(Load, AgentId)>,
    /// Agents with more attempts than slots, those with the most last.
    crowded: BTreeSet<(u32, AgentId)>,
    free_slots: u64,
    /// Agents of known speed where something runs that can be moved, the slowest last.
    slow: BTreeSet<(u32, AgentId)>,
    /// Attempts that are off the processor for want of room and can be moved, the longest first.
    stalled: BTreeSet<(Timestamp, AttemptId, AgentId)>,
    /// Slots of all agents that take work.
    slots: u64,
    /// Agents that are out of touch and have attempts, those that are so the longest first.
    doubtful: BTreeSet<(Timestamp, AgentId)>,
    /// Attempts that are on their way back to be placed better.
    pub rebalancing: u64,
    /// Agents that may have changed since the indexes were brought up to date.
    touched: Vec<AgentId>,
    /// Agents for which words wait.
    speaking: BTreeSet<AgentId>,
}

impl Agent {
    /// A machine that has not connected yet.
    pub(crate) fn new(name: String, intake: Intake) -> Self {
        Self {
            name,
            group: None,
            intake,
            quarantine: None,
            link: Link::Away,
            touch: Touch::Kept,
            returned: false,
            last_heard: None,
            facts: None,
            capacity: None,
            held: BTreeMap::new(),
            begun: 0,
            recalled: 0,
            memory_budget_bytes: 0,
            memory_taken_bytes: 0,
            movables: 0,
            speed: Speed::default(),
            refusals: BTreeMap::new(),
            accepted: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            outgoing: Outgoing::default(),
            misdeeds: Misdeeds::default(),
            sleeper: Sleeper::default(),
            twins: Twins::default(),
            history: History::default(),
            slot_time: SlotTime::default(),
            punctuality: Punctuality::default(),
            indexed: Indexed::default(),
            touched: false,
        }
    }

    /// Attempts that may run at once.
    pub(crate) fn slots(&self) -> u16 {
        self.capacity.as_ref().map_or(0, |capacity| capacity.slots.min(limits::SLOTS_PER_AGENT_MAX))
    }

    /// The open stream, silent or not.
    pub(crate) fn stream(&self) -> Option<&Stream> {
        match &self.link {
            Link::Open(stream) | Link::Silent(stream) => Some(stream),
            Link::Away => None,
        }
    }

    /// The open stream, silent or not, to change it.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.link {
            Link::Open(stream) | Link::Silent(stream) => Some(stream),
            Link::Away => None,
        }
    }

    /// Whether new attempts may go to it, demands aside.
    pub(crate) fn takes_work(&self) -> bool {
        crate::placement::feasible::closed(self).next().is_none()
    }

    /// Slots into which an attempt could go now.
    pub(crate) fn free_slots(&self) -> u32 {
        if self.takes_work() { u32::from(self.slots()).saturating_sub(self.held.len() as u32) } else { 0 }
    }

    /// Attempts behind the slots that were not asked back yet.
    pub(crate) fn waiting(&self) -> u32 {
        match self.link {
            Link::Open(_) => (self.held.len() as u32).saturating_sub(u32::from(self.slots())).saturating_sub(self.recalled),
            Link::Away | Link::Silent(_) => 0,
        }
    }

    /// Memory into which an attempt could go now.
    pub(crate) fn memory_free_bytes(&self) -> u64 {
        self.memory_budget_bytes.saturating_sub(self.memory_taken_bytes)
    }

    /// The memory that attempts have by this report: what is free and what those take that run.
    pub(crate) fn memory_reported_bytes(&self, report: &Capacity) -> u64 {
        let mut running: Vec<_> = self.held.values().filter(|held| held.started).map(|held| held.memory_bytes).collect();
        // An executor takes several short attempts at once; only so many executors are busy.
        running.sort_unstable();
        let taken = running.into_iter().take(usize::from(report.slots_busy));
        taken.fold(report.memory_free_bytes, u64::saturating_add)
    }

    /// Adds an attempt that was given to it then.
    pub(crate) fn give(&mut self, attempt: AttemptId, held: Held, since: Timestamp) {
        match self.held.is_empty() {
            true => self.slot_time = SlotTime { since, slots: self.slots(), taken_us: 0 },
            false => self.slot_time.note(since, self.slots()),
        }
        if held.occupies.is_some() {
            self.memory_taken_bytes = self.memory_taken_bytes.saturating_add(held.memory_bytes);
        }
        self.held.insert(attempt, held);
    }

    /// Notes that an attempt runs. Whether it waited behind others until now; `None`: it is not here.
    pub(crate) fn start(&mut self, attempt: AttemptId, now: Timestamp) -> Option<bool> {
        let held = self.held.get_mut(&attempt)?;
        self.movables += u32::from(held.movable && !held.started);
        self.begun += u32::from(!held.started);
        held.started = true;
        if held.occupies.is_some() {
            return Some(false);
        }
        held.occupies = Some(now);
        self.memory_taken_bytes = self.memory_taken_bytes.saturating_add(held.memory_bytes);
        Some(true)
    }

    /// It is out of touch: what it has takes no slot, as far as anybody knows. Since when each attempt did.
    pub(crate) fn vacate(&mut self) -> Vec<(AttemptId, Timestamp)> {
        self.memory_taken_bytes = 0;
        let taken = self.held.iter_mut().filter_map(|(attempt, held)| Some((*attempt, held.occupies.take()?)));
        taken.collect()
    }

    /// It is back: what had started goes on, as far as it says nothing else. Those attempts.
    pub(crate) fn occupy_again(&mut self, now: Timestamp) -> Vec<AttemptId> {
        let started = self.held.iter_mut().filter(|(_, held)| held.started && held.occupies.is_none());
        let mut again = Vec::new();
        for (attempt, held) in started {
            held.occupies = Some(now);
            self.memory_taken_bytes = self.memory_taken_bytes.saturating_add(held.memory_bytes);
            again.push(*attempt);
        }
        again
    }

    /// An attempt turned out to be one that can be moved.
    pub(crate) fn note_movable(&mut self, attempt: AttemptId) {
        let Some(held) = self.held.get_mut(&attempt).filter(|held| !held.movable) else { return };
        held.movable = true;
        self.movables += u32::from(held.started);
    }

    /// A result of it was taken or refused, and it is about to be told.
    pub(crate) fn note_answered(&mut self, attempt: AttemptId) {
        self.accepted.insert(attempt, UNSENT);
        if self.accepted.len() > limits::ATTEMPTS_PER_AGENT_MAX {
            self.accepted.pop_first();
        }
    }

    /// Notes that an attempt was taken from it at once. What it says of it before it has read that is no misdeed.
    pub(crate) fn note_withdrawn(&mut self, attempt: AttemptId) {
        self.withdrawn.insert(attempt, UNSENT);
        if self.withdrawn.len() > limits::ATTEMPTS_PER_AGENT_MAX {
            self.withdrawn.pop_first();
        }
        self.outgoing.recall(attempt, RecallReason::Stale);
    }

    /// How loaded it is.
    pub(crate) fn load(&self) -> Load {
        Load::of(self.held.len(), self.slots())
    }
}

impl Indexed {
    fn of(agent: &Agent) -> Self {
        let slots = if agent.takes_work() { u32::from(agent.slots()) } else { 0 };
        let free_slots = slots.saturating_sub(agent.held.len() as u32);
        let percent = agent.speed.percent().filter(|_| agent.movables > 0 && agent.stream().is_some());
        let doubtful = agent.touch.lost_since().filter(|_| !agent.held.is_empty());
        Self { free: (free_slots > 0).then(|| agent.load()), free_slots, slots, waiting: agent.waiting(), percent, doubtful }
    }
}

impl Fleet {
    pub(crate) fn insert(&mut self, id: AgentId, agent: Agent) {
        self.agents.insert(id, Agent { touched: true, ..agent });
        self.touched.push(id);
    }

    pub(crate) fn get(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: AgentId) -> Option<&mut Agent> {
        let agent = self.agents.get_mut(id)?;
        if !std::mem::replace(&mut agent.touched, true) {
            self.touched.push(id);
        }
        Some(agent)
    }

    /// An agent that is known to be known, to be read: it needs no other place in the indexes.
    pub(crate) fn agent(&self, id: AgentId) -> &Agent {
        self.agents.get(id).expect("agents are never forgotten")
    }

    /// An agent that is known to be known, to be changed.
    pub(crate) fn known(&mut self, id: AgentId) -> &mut Agent {
        self.get_mut(id).expect("agents are never forgotten")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AgentId, &Agent)> {
        self.agents.iter()
    }

    /// All agents, beginning with some number and going round.
    pub(crate) fn around(&self, start: u64) -> impl Iterator<Item = (AgentId, &Agent)> {
        let count = self.agents.iter().count();
        let start = usize::try_from(start).unwrap_or_default().checked_rem(count).unwrap_or_default();
        self.agents.iter().skip(start).chain(self.agents.iter().take(start))
    }

    /// Counts one more order on the agent's stream. Its number there, and the stream; none if there is no stream.
    pub(crate) fn number_order(&mut self, id: AgentId) -> Option<(u64, StreamId)> {
        // Nothing that is indexed changes by it.
        let stream = self.agents.get_mut(id)?.stream_mut()?;
        stream.orders += 1;
        Some((stream.orders, stream.id))
    }

    /// What waits to be said to the first agent for which anything does.
    pub(crate) fn next_words(&mut self) -> Option<(AgentId, Outgoing)> {
        self.settle();
        let id = self.speaking.pop_first()?;
        self.agents.get_mut(id).map(|agent| (id, std::mem::take(&mut agent.outgoing)))
    }

    /// Whether nothing waits to be said, and the indexes are up to date.
    pub(crate) fn is_settled(&self) -> bool {
        self.touched.is_empty() && self.speaking.is_empty()
    }

    /// Brings the indexes up to date. To be called before they are read, where agents may have changed.
    pub(crate) fn settle(&mut self) {
        while let Some(id) = self.touched.pop() {
            self.reindex(id);
        }
    }

    fn assert_settled(&self) {
        debug_assert!(self.touched.is_empty(), "an index is read that is not up to date with {:?}", self.touched);
    }

    /// Free slots of all agents that take work.
    pub(crate) fn free_slots(&self) -> u64 {
        self.assert_settled();
        self.free_slots
    }

    /// Slots of all agents that take work; giving and ending attempts changes nothing about them.
    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    /// Agents with free slots after this place, the least loaded first.
    pub(crate) fn free_from(&self, place: (Load, AgentId)) -> impl Iterator<Item = (Load, AgentId)> + '_ {
        self.assert_settled();
        self.free.range(place..).copied()
    }

    /// Agents where attempts wait, those with the most first.
    pub(crate) fn crowded(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.assert_settled();
        self.crowded.iter().rev().map(|(_, id)| *id)
    }

    /// Agents of known speed where something runs that can be moved, the slowest first.
    pub(crate) fn slow(&self) -> impl Iterator<Item = (u32, AgentId)> + '_ {
        self.assert_settled();
        self.slow.iter().rev().copied()
    }

    /// Attempts that are off the processor for want of room and can be moved, the longest first.
    pub(crate) fn stalled(&self) -> impl Iterator<Item = (Timestamp, AttemptId, AgentId)> + '_ {
        self.stalled.iter().copied()
    }

    /// When the first attempt began to wait for room that did so after this time.
    pub(crate) fn stalled_next(&self, after: Timestamp) -> Option<Timestamp> {
        let last = TaskId { job: JobId(u64::MAX), index: u32::MAX };
        let place = (after, AttemptId { task: last, number: u32::MAX }, AgentId(u64::MAX));
        self.stalled.range(place..).next().map(|(since, ..)| *since)
    }

    /// All agents with free slots, the least loaded first.
    pub(crate) fn free(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.assert_settled();
        self.free.iter().map(|(_, id)| *id)
    }

    /// Agents that are out of touch and have attempts, those that are so the longest first.
    pub(crate) fn doubtful(&self) -> impl Iterator<Item = (Timestamp, AgentId)> + '_ {
        self.assert_settled();
        self.doubtful.iter().copied()
    }

    /// An attempt that can be moved left the processor for want of room, or is back there.
    pub(crate) fn stall(&mut self, id: AgentId, attempt: AttemptId, since: Option<Timestamp>) {
        let Some(held) = self.known(id).held.get_mut(&attempt) else { return };
        let since = since.filter(|_| held.movable);
        if held.stalled.is_some() == since.is_some() {
            return;
        }
        let before = std::mem::replace(&mut held.stalled, since);
        before.map(|since| self.stalled.remove(&(since, attempt, id)));
        since.map(|since| self.stalled.insert((since, attempt, id)));
    }

    fn reindex(&mut self, id: AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.touched = false;
        if !agent.outgoing.is_empty() {
            self.speaking.insert(id);
        }
        let new = Indexed::of(agent);
        let old = std::mem::replace(&mut agent.indexed, new);
        if old == new {
            return;
        }
        if old.free != new.free {
            old.free.map(|load| self.free.remove(&(load, id)));
            new.free.map(|load| self.free.insert((load, id)));
        }
        if old.waiting != new.waiting {
            self.crowded.remove(&(old.waiting, id));
            if new.waiting > 0 {
                self.crowded.insert((new.waiting, id));
            }
        }
        if old.percent != new.percent {
            old.percent.map(|percent| self.slow.remove(&(percent, id)));
            new.percent.map(|percent| self.slow.insert((percent, id)));
        }
        if old.doubtful != new.doubtful {
            old.doubtful.map(|since| self.doubtful.remove(&(since, id)));
            new.doubtful.map(|since| self.doubtful.insert((since, id)));
        }
        self.free_slots = self.free_slots + u64::from(new.free_slots) - u64::from(old.free_slots);
        self.slots = self.slots + u64::from(new.slots) - u64::from(old.slots);
    }

    /// Marks an attempt as asked back, for an agent that has room for it or for none in particular. `false`: it is not
    /// there, or was asked back already as far.
    pub(crate) fn recall(&mut self, id: AgentId, attempt: AttemptId, reason: RecallReason, to: Option<AgentId>) -> bool {
        let agent = self.known(id);
        let Some(held) = agent.held.get_mut(&attempt) else { return false };
        if held.recall.is_some_and(|recall| reason.reach() <= recall.reason.reach()) {
            return false;
        }
        let recall = Recall { reason, order: UNSENT, to };
        let before = held.recall.replace(recall);
        agent.recalled += u32::from(before.is_none());
        agent.outgoing.recall(attempt, reason);
        self.rebalancing += u64::from(recall.rebalances());
        self.rebalancing -= u64::from(before.is_some_and(|recall| recall.rebalances()));
        true
    }

    /// The agent kept an attempt that it was asked for.
    pub(crate) fn keep(&mut self, id: AgentId, attempt: AttemptId) {
        let agent = self.known(id);
        let Some(recall) = agent.held.get_mut(&attempt).and_then(|held| held.recall.take()) else { return };
        agent.recalled -= 1;
        self.rebalancing -= u64::from(recall.rebalances());
    }

    /// Takes an attempt off its agent.
    pub(crate) fn release(&mut self, id: AgentId, attempt: AttemptId) -> Held {
        self.stall(id, attempt, None);
        let agent = self.known(id);
        let held = agent.held.remove(&attempt).expect("a live attempt is held by its agent");
        if held.occupies.is_some() {
            agent.memory_taken_bytes -= held.memory_bytes;
        }
        agent.movables -= u32::from(held.movable && held.started);
        agent.begun -= u32::from(held.started);
        if let Some(recall) = held.recall {
            agent.recalled -= 1;
            self.rebalancing -= u64::from(recall.rebalances());
        }
        held
    }

    /// What does not add up, if anything.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let (mut free, mut crowded, mut slow, mut stalled, mut doubtful) = (0, 0, 0, 0, 0);
        let (mut free_slots, mut slots, mut rebalancing) = (0, 0, 0);
        for (id, agent) in self.agents.iter() {
            let expected = Indexed::of(agent);
            if agent.indexed != expected {
                return Err(format!("{id} is indexed as {:?} and stands at {expected:?}", agent.indexed));
            }
            free += usize::from(expected.free.is_some());
            crowded += usize::from(expected.waiting > 0);
            slow += usize::from(expected.percent.is_some());
            doubtful += usize::from(expected.doubtful.is_some());
            let there = matches!(agent.link, Link::Open(_));
            if there && agent.touch != Touch::Kept {
                return Err(format!("{id} is there and counts as {:?}", agent.touch));
            }
            stalled += agent.held.values().filter(|held| held.stalled.is_some()).count();
            let movables = agent.held.values().filter(|held| held.movable && held.started).count();
            if movables != agent.movables as usize {
                return Err(format!("{id} is counted {} attempts that can be moved and has {movables}", agent.movables));
            }
            let begun = agent.held.values().filter(|held| held.started).count();
            if begun != agent.begun as usize {
                return Err(format!("{id} is counted {} attempts that have started and has {begun}", agent.begun));
            }
            free_slots += u64::from(expected.free_slots);
            slots += u64::from(expected.slots);
            let occupying = agent.held.values().filter(|held| held.occupies.is_some());
            let taken: u64 = occupying.map(|held| held.memory_bytes).sum();
            if taken != agent.memory_taken_bytes {
                return Err(format!("{id} is counted {} bytes taken and has {taken}", agent.memory_taken_bytes));
            }
            let recalls = agent.held.values().filter_map(|held| held.recall);
            if recalls.clone().count() != agent.recalled as usize {
                return Err(format!("{id} is counted {} recalls and has {}", agent.recalled, recalls.count()));
            }
            rebalancing += recalls.filter(Recall::rebalances).count() as u64;
            if agent.held.values().any(|held| held.order == UNSENT) && agent.stream().is_some() {
                return Err(format!("{id} has an attempt that it was not told of"));
            }
        }
        let lists = (self.free.len(), self.crowded.len(), self.slow.len(), self.stalled.len(), self.doubtful.len());
        let counted = (lists, self.free_slots, self.slots, self.rebalancing);
        let expected = ((free, crowded, slow, stalled, doubtful), free_slots, slots, rebalancing);
        if counted == expected {
            return Ok(());
        }
        Err(format!("the fleet's indexes hold {counted:?} and should hold {expected:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        let touch = Touch::Lost { since: Timestamp::from_millis(5), together: None };
        fleet.insert(AgentId(1), Agent { touch, ..Agent::new("one".into(), Intake::Open) });
        fleet
    }

    fn held() -> Held {
        Held {
            order: UNSENT,
            started: false,
            occupies: None,
            waited: false,
            recall: None,
            memory_bytes: 1,
            movable: false,
            resumed: false,
            stalled: None,
            clock: Clock::default(),
        }
    }

    const ATTEMPT: AttemptId = AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 };

    #[test]
    fn whoever_changes_an_agent_need_not_say_what_changed() {
        let mut fleet = fleet();
        fleet.settle();
        assert_eq!(fleet.doubtful().count(), 0, "it has nothing");
        fleet.known(AgentId(1)).give(ATTEMPT, held(), Timestamp::default());
        fleet.settle();
        assert_eq!(fleet.doubtful().collect::<Vec<_>>(), [(Timestamp::from_millis(5), AgentId(1))]);
        fleet.release(AgentId(1), ATTEMPT);
        fleet.settle();
        assert_eq!((fleet.doubtful().count(), fleet.audit()), (0, Ok(())));
    }

    #[test]
    fn what_is_to_be_said_is_found_once_without_being_asked_for() {
        let mut fleet = fleet();
        fleet.known(AgentId(1)).outgoing.forget.push(JobId(3));
        assert!(!fleet.is_settled());
        let (agent, words) = fleet.next_words().expect("something waits");
        assert_eq!((agent, words.forget), (AgentId(1), vec![JobId(3)]));
        assert!(fleet.next_words().is_none() && fleet.is_settled());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "an index is read that is not up to date with [AgentId(1)]")]
    fn an_index_that_is_not_up_to_date_is_not_read() {
        let mut fleet = fleet();
        fleet.settle();
        fleet.known(AgentId(1)).give(ATTEMPT, held(), Timestamp::default());
        let _ = fleet.free_slots();
    }
}
