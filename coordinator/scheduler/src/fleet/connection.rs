//! Agents come, go silent, come back and go.
//!
//! ```text
//! away --hello--> open --silent for the lease--> silent --any word--> open
//!   ^               |  stream closed, farewell, revoked   |
//!   +---------------+-------------------------------------+
//! ```
//! Neither a closed stream nor silence ends an attempt: one of whose agent nothing was heard for the silence limit is
//! unreachable ([`crate::attempts::silence`]), and goes on when the agent is back.
//!
//! What an agent holds is compared with what it was given on two occasions: its hello, and every heartbeat. An attempt
//! that the agent has and should not have is recalled; one that it should have, and would have if it had read the
//! order that gave it, is lost.

use lull_shared::{
    id::{AgentId, AttemptId},
    limits::{self, SNAPSHOTS_PER_AGENT_MAX},
    message::{GoodbyeReason, Hello, RecallReason},
    resources::{Capacity, Labels},
    state::{AttemptEnd, Intake, Part, PauseReason, Trouble, full_labels},
    time::Timestamp,
};

use crate::{
    Scheduler,
    effect::{Change, Effect, Order},
    event::{AgentSnapshot, StreamId},
    fleet::agents::{Agent, Facts, Held, Lack, Link, Recall, Stream, Touch},
    time::timers::Timer,
};

/// Recalls and words in one list: more than an agent may hold makes no sense.
const LIST_MAX: usize = limits::ATTEMPTS_PER_AGENT_MAX;

impl Scheduler {
    /// A machine was enrolled, or its name changed.
    pub(crate) fn enrolled(&mut self, snapshot: AgentSnapshot) {
        match self.fleet.get_mut(snapshot.agent) {
            Some(agent) => (agent.name, agent.group) = (snapshot.name, snapshot.group),
            None => {
                let mut agent = Agent::new(snapshot.name, snapshot.intake);
                agent.group = snapshot.group;
                agent.quarantine = snapshot.quarantine.map(Box::new);
                self.fleet.insert(snapshot.agent, agent);
            }
        }
    }

    /// An agent opened a stream.
    pub(crate) fn connected(&mut self, id: AgentId, stream: StreamId, hello: Hello, from: String) {
        let refusal = match self.fleet.get(id) {
            None => Some(GoodbyeReason::Protocol("it is not enrolled here".into())),
            Some(agent) if agent.intake == Intake::Revoked => Some(GoodbyeReason::Revoked),
            Some(agent) if agent.stream().is_some_and(|current| current.id >= stream) => return,
            Some(_) if hello.holding.len() > LIST_MAX || hello.snapshots.len() > SNAPSHOTS_PER_AGENT_MAX => {
                Some(GoodbyeReason::Protocol(too_many()))
            }
            Some(_) => self.is_cloned(id, &hello.instance, from).then_some(GoodbyeReason::Cloned),
        };
        if let Some(reason) = refusal {
            let order = Order::Goodbye { reason };
            self.effects.push_back(Effect::Send { agent: id, stream, number: 1, order });
            return;
        }
        if self.fleet.agent(id).stream().is_some() {
            self.send(id, Order::Goodbye { reason: GoodbyeReason::Superseded });
        }
        self.open_stream(id, stream, hello);
    }

    fn open_stream(&mut self, id: AgentId, stream: StreamId, mut hello: Hello) {
        let now = self.now;
        self.forget_briefs(id);
        cut_labels(&mut hello.labels);
        hello.agent_version.truncate(hello.agent_version.floor_char_boundary(limits::NAME_BYTES_MAX));
        let agent = self.fleet.known(id);
        agent.link = Link::Open(Stream { id: stream, since: now, orders: 0, briefs: Default::default() });
        agent.last_heard = Some(now);
        agent.refusals.retain(|_, refusal| refusal.lacks == Lack::Manners);
        agent.outgoing = Default::default();
        agent.memory_budget_bytes = agent.memory_reported_bytes(&hello.capacity);
        agent.capacity = Some(hello.capacity.bounded());
        let labels = full_labels(&hello.labels, &agent.name, agent.group.as_deref(), &hello.machine);
        let open_cage = hello.open_cage.map(|missing| Trouble::new(Part::Cage, missing).reason);
        let (version, machine) = (hello.agent_version.clone(), hello.machine.clone());
        agent.facts = Some(Box::new(Facts { version, machine, labels, open_cage }));
        // Numbers begin anew: whatever was given before counts as read, and so does what was acknowledged.
        agent.held.values_mut().for_each(|held| held.order = 0);
        // Results that it did not see acknowledged follow the greeting, and so do those of withdrawn attempts; after its first
        // heartbeat nothing more comes of them.
        agent.accepted.values_mut().for_each(|order| *order = 0);
        agent.withdrawn.values_mut().for_each(|order| *order = 0);
        let intake = if agent.quarantine.is_some() { Intake::Cordoned } else { agent.intake };
        self.effects.push_back(Effect::Record(Change::AgentConnected {
            agent: id,
            version: hello.agent_version,
            machine: hello.machine,
            labels: hello.labels,
            at: self.wall(),
        }));
        self.send(id, Order::Welcome { intake });
        self.timers.set(Timer::Lease(id), now + self.limits.lease);
        self.set_refusal_timer(id);
        self.regain_touch(id);
        self.ask_back_again(id);
        self.recall_stale(id, &hello.holding);
        self.settle_copies(id, &hello.holding);
        self.note_foreign_jobs(id, hello.snapshots.iter().map(|kept| kept.task.job));
        self.relearn_kept(id, hello.snapshots);
        self.is_awake(id);
        self.time_again(id);
        self.wake_agent(id);
        self.note_presence(id);
    }

    /// Recalls died with the stream that they were sent on: asks again where it still matters.
    fn ask_back_again(&mut self, id: AgentId) {
        let held: Vec<_> = self.fleet.agent(id).held.keys().copied().collect();
        for attempt in held {
            self.fleet.keep(id, attempt);
            if self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopping.is_some()) {
                self.fleet.recall(id, attempt, RecallReason::Cancelled, None);
            }
        }
        if self.fleet.agent(id).intake == Intake::Draining {
            self.recall_all(id, RecallReason::Drain);
        }
    }

    /// Asks for attempts that the agent has and that do not count any more.
    fn recall_stale(&mut self, id: AgentId, holding: &[AttemptId]) {
        self.note_foreign(id, holding);
        let agent = self.fleet.known(id);
        for attempt in holding.iter().filter(|attempt| !agent.held.contains_key(attempt)) {
            agent.outgoing.recall(*attempt, RecallReason::Stale);
        }
    }

    /// A stream closed.
    pub(crate) fn disconnected(&mut self, id: AgentId, stream: StreamId) {
        if self.fleet.get(id).and_then(Agent::stream).is_none_or(|current| current.id != stream) {
            return;
        }
        self.miss(id);
    }

    /// The stream is of no use any more, and the agent may be back in a moment.
    pub(crate) fn miss(&mut self, id: AgentId) {
        self.close_stream(id);
        let agent = self.fleet.known(id);
        if agent.touch != Touch::Kept {
            return;
        }
        let since = agent.last_heard.unwrap_or(self.now);
        agent.touch = Touch::Awaited { since };
        self.timers.set(Timer::Lease(id), since + self.limits.lease);
    }

    /// The agent leaves in good order.
    pub(crate) fn farewell(&mut self, id: AgentId) {
        self.end_all(id, AttemptEnd::Evicted, "its agent stopped");
        self.close_stream(id);
        self.excuse(id);
    }

    /// Forgets the agent's stream.
    pub(crate) fn close_stream(&mut self, id: AgentId) {
        if self.fleet.get(id).and_then(Agent::stream).is_none() {
            return;
        }
        self.forget_briefs(id);
        let agent = self.fleet.known(id);
        agent.stop_clocks(self.now);
        agent.link = Link::Away;
        agent.outgoing = Default::default();
        self.timers.clear(Timer::Lease(id));
        self.timers.clear(Timer::Refusal(id));
        self.effects.push_back(Effect::Record(Change::AgentDisconnected { agent: id, at: self.wall() }));
        self.lose_keeper(id);
        self.note_presence(id);
    }

    fn forget_briefs(&mut self, id: AgentId) {
        let briefs = self.fleet.known(id).stream_mut().map(|stream| std::mem::take(&mut stream.briefs));
        for job in briefs.unwrap_or_default() {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.known_by.remove(&id);
            }
        }
    }

    /// Looks whether the agent was heard in time. `due`: when this should have been looked at.
    pub(crate) fn check_lease(&mut self, id: AgentId, due: Timestamp) {
        let lease = self.limits.lease;
        let agent = self.fleet.known(id);
        let since = match (&agent.link, agent.touch) {
            (Link::Open(_), _) => {
                let Some(heard) = agent.last_heard else { return };
                if heard + lease > self.now {
                    return self.timers.set(Timer::Lease(id), heard + lease);
                }
                heard
            }
            (Link::Away, Touch::Awaited { since }) => since,
            (Link::Away | Link::Silent(_), _) => return,
        };
        if self.now.since(due) > lease / 2 {
            // It was us who slept: the agent's words may be waiting to be read.
            return self.timers.set(Timer::Lease(id), self.now + lease);
        }
        if let Link::Open(stream) = std::mem::replace(&mut agent.link, Link::Away) {
            agent.link = Link::Silent(stream);
            self.doubt_keeper(id);
            self.note_presence(id);
        }
        self.lose_touch(id, since);
    }

    /// The agent said something.
    pub(crate) fn heard(&mut self, id: AgentId) {
        let agent = self.fleet.known(id);
        agent.last_heard = Some(self.now);
        if let Link::Silent(_) = agent.link {
            let Link::Silent(stream) = std::mem::replace(&mut agent.link, Link::Away) else { return };
            agent.link = Link::Open(stream);
            self.timers.set(Timer::Lease(id), self.now + self.limits.lease);
            self.regain_touch(id);
            self.wake_agent(id);
            self.note_presence(id);
        }
    }

    /// A sign of life, and everything that the agent has.
    pub(crate) fn heartbeat(&mut self, id: AgentId, frame_read: u64, mut holding: Vec<AttemptId>) {
        if holding.len() > LIST_MAX {
            return self.breach(id, too_many(), &[]);
        }
        holding.sort_unstable();
        holding.dedup();
        let agent = self.fleet.known(id);
        agent.accepted.retain(|_, order| *order > frame_read);
        agent.withdrawn.retain(|_, order| *order > frame_read);
        let read = agent.held.iter().filter(|(_, held)| held.order <= frame_read);
        let (kept, lost): (Vec<_>, Vec<_>) = read.partition(|(attempt, _)| holding.binary_search(attempt).is_ok());
        // What is being suspended is given back in a moment.
        let declined = |held: &Held, recall: Recall| {
            let suspends = held.started && held.gives_back(recall.reason.reach());
            recall.order <= frame_read && !suspends
        };
        let declined = kept.into_iter().filter(|(_, held)| held.recall.is_some_and(|recall| declined(held, recall)));
        let declined: Vec<_> = declined.map(|(attempt, _)| *attempt).collect();
        let lost: Vec<_> = lost.into_iter().map(|(attempt, _)| *attempt).collect();
        for attempt in declined {
            self.fleet.keep(id, attempt);
        }
        if std::mem::take(&mut self.fleet.known(id).returned) {
            self.settle_copies(id, &holding);
        }
        let told = &self.fleet.agent(id).withdrawn;
        let unknown: Vec<_> = holding.into_iter().filter(|attempt| !told.contains_key(attempt)).collect();
        self.end_missing(id, &lost);
        self.recall_stale(id, &unknown);
    }

    /// Ends attempts that the agent should have and does not have. One that is not known to have started is no loss of a
    /// machine: the order died with an earlier stream.
    fn end_missing(&mut self, id: AgentId, missing: &[AttemptId]) {
        for attempt in missing {
            let Some(held) = self.fleet.agent(id).held.get(attempt) else { continue };
            if held.started || held.resumed {
                self.end_these(id, &[*attempt], AttemptEnd::Lost, "its agent did not know it any more");
            } else {
                let reason = "its agent never had it";
                self.note_refusal(id, attempt.task.job, reason.to_owned(), Lack::Other);
                self.end_these(id, &[*attempt], AttemptEnd::Recalled, reason);
            }
        }
    }

    /// What the agent offers changed. Gossip may come late; what comes on the stream is in order.
    pub(crate) fn capacity(&mut self, id: AgentId, capacity: Capacity, by_gossip: bool) {
        let Some(agent) = self.fleet.get_mut(id).filter(|agent| agent.stream().is_some()) else { return };
        let Some(old) = agent.capacity.take() else { return };
        if by_gossip && (capacity.run != old.run || capacity.sequence <= old.sequence) {
            agent.capacity = Some(old);
            return;
        }
        let awake = !by_gossip && agent.sleeper.asleep.is_some() && capacity.paused != Some(PauseReason::Sleep);
        let resumed = old.paused.is_some() && capacity.paused.is_none();
        let paused = old.paused.is_none() && capacity.paused.is_some();
        // Gossip may overtake the word that an attempt started, and count its memory twice.
        let believed = if by_gossip && !agent.held.is_empty() { 0 } else { agent.memory_reported_bytes(&capacity) };
        let roomier = capacity.slots > old.slots || believed > agent.memory_budget_bytes;
        agent.memory_budget_bytes = agent.memory_budget_bytes.max(believed);
        agent.refusals.retain(|_, refusal| match refusal.lacks {
            Lack::Memory { needed_bytes } => capacity.memory_free_bytes < needed_bytes,
            Lack::Room => capacity.slots <= old.slots,
            Lack::Leave => !resumed,
            Lack::Manners | Lack::Other => true,
        });
        agent.capacity = Some(capacity.bounded());
        if awake {
            self.is_awake(id);
        }
        if paused {
            self.recall_all(id, RecallReason::Rebalance);
        }
        self.time_agent(id);
        if resumed || roomier {
            self.wake_agent(id);
        }
        self.note_presence(id);
    }

    /// Asks for all attempts that are given back for this reason. How many.
    pub(crate) fn recall_all(&mut self, id: AgentId, reason: RecallReason) -> u64 {
        let agent = self.fleet.known(id);
        if agent.stream().is_none() {
            return 0;
        }
        let held = agent.held.iter().filter(|(_, held)| held.gives_back(reason.reach()));
        let wanted: Vec<_> = held.map(|(attempt, _)| *attempt).collect();
        wanted.into_iter().filter(|attempt| self.fleet.recall(id, *attempt, reason, None)).count() as u64
    }
}

/// What is wrong with an agent whose lists are longer than anything it could hold.
pub(crate) fn too_many() -> String {
    format!("it named more than the {LIST_MAX} attempts that an agent may hold")
}

fn cut_labels(labels: &mut Labels) {
    labels.retain(|key, value| key.len() <= limits::NAME_BYTES_MAX && value.len() <= limits::NAME_BYTES_MAX);
    while labels.len() > limits::LABELS_MAX {
        labels.pop_last();
    }
}
