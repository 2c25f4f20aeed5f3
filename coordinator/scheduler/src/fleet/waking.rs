//! Sleeping machines are woken when there is work that they could do: a few at a time, by a neighbour on their subnet.
//!
//! ```text
//! Sleeps --stream closes--> asleep --work without room, its policy and hours allow it, a neighbour is there--> Wake
//!                              ^                                                                             |
//!                              +---- did not come: again after ten minutes, then twice as long each time ----+
//! ```
//! Soft: a coordinator that takes over wakes only those that it has seen fall asleep.

use std::{collections::BTreeSet, time::Duration};

use lull_shared::{
    hours::WeekMinute,
    id::AgentId,
    limits::CARDS_MAX,
    policy::{Leave, Policy},
    resources::Card,
    state::Intake,
    time::Timestamp,
};

use crate::{
    Scheduler,
    fleet::agents::{Agent, Link},
    placement::feasible::unmet,
    time::timers::Timer,
};

/// How many are woken at once, and how long they have to come and take work before more are.
const WAKES_MAX: usize = 4;
const WAKE_TIME: Duration = Duration::from_secs(60);
/// A machine that did not come is tried again after this long; it doubles with each time...
const AGAIN_MIN: Duration = Duration::from_secs(600);
/// ...up to this.
const AGAIN_MAX: Duration = Duration::from_secs(8 * 60 * 60);

/// What is known of a machine's sleep, and of how to wake it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sleeper {
    /// By which it can be woken.
    pub cards: Vec<Card>,
    /// Its policy and how far its clock is ahead of UTC, in minutes, if that lets it be woken.
    pub policy: Option<(Box<Policy>, i16)>,
    /// Since when it sleeps, as it said.
    pub asleep: Option<Timestamp>,
    /// How often it was tried to wake it since then, and when last.
    pub tries: u32,
    pub tried: Option<Timestamp>,
}

impl Sleeper {
    /// It is awake.
    pub(crate) fn wake_up(&mut self) {
        (self.asleep, self.tries, self.tried) = (None, 0, None);
    }

    /// Whether its policy lets it be woken for work at this time, and it was not tried too lately.
    fn may_be_woken(&self, now: Timestamp, wall: Timestamp) -> bool {
        let Some((policy, clock_ahead_min)) = &self.policy else { return false };
        let pause = AGAIN_MIN.saturating_mul(1 << self.tries.saturating_sub(1).min(16)).min(AGAIN_MAX);
        let rested = self.tried.is_none_or(|tried| tried + pause <= now);
        rested && policy.leave(WeekMinute::at(wall, *clock_ahead_min), false) == Leave::Away
    }
}

impl Scheduler {
    /// An agent says by which cards its machine can be woken.
    pub(crate) fn note_cards(&mut self, id: AgentId, mut cards: Vec<Card>) {
        cards.truncate(CARDS_MAX);
        self.fleet.known(id).sleeper.cards = cards;
    }

    /// An agent's machine is about to sleep.
    pub(crate) fn falls_asleep(&mut self, id: AgentId) {
        let now = self.now;
        let agent = self.fleet.known(id);
        agent.sleeper.asleep = Some(now);
        let held: Vec<_> = agent.held.iter().filter(|(_, held)| held.started).map(|(attempt, _)| *attempt).collect();
        // For a liar that says so, and stays, that has its limit too.
        held.into_iter().for_each(|attempt| self.rest_attempt(id, attempt));
        self.time_agent(id);
        self.sleepers.insert(id);
    }

    /// An agent is there and does not sleep.
    pub(crate) fn is_awake(&mut self, id: AgentId) {
        let slept = self.fleet.agent(id).sleeper.asleep.is_some();
        self.fleet.known(id).sleeper.wake_up();
        self.sleepers.remove(&id);
        if slept && self.fleet.agent(id).stream().is_some() {
            self.time_again(id);
        }
    }

    /// Whether an agent's policy lets it be woken.
    pub(crate) fn note_wakeable(&mut self, id: AgentId, policy: Option<Box<Policy>>, clock_ahead_min: i16) {
        if let Some(agent) = self.fleet.get_mut(id) {
            agent.sleeper.policy = policy.map(|policy| (policy, clock_ahead_min));
        }
    }

    /// The policy is another one: what is said of machines that are not there to take it does not hold any more.
    pub(crate) fn doubt_wakeable(&mut self) {
        for id in self.sleepers.clone() {
            self.fleet.known(id).sleeper.policy = None;
        }
    }

    /// Wakes a few machines if there is work for them that nobody who is there has room for.
    pub(crate) fn wake_sleepers(&mut self) {
        let waits = !self.sleepers.is_empty() && self.shares.first(|_| true, |_| true).is_some();
        if !waits {
            return self.timers.clear(Timer::Waking);
        }
        if self.now >= self.wakes_next {
            let chosen = self.choose_sleepers();
            chosen.into_iter().for_each(|(sleeper, neighbour)| self.wake_sleeper(sleeper, neighbour));
            self.wakes_next = self.now + WAKE_TIME;
        }
        self.timers.set_or_clear(Timer::Waking, Some(self.wakes_next));
    }

    /// Those that were tried the least, each with a neighbour.
    fn choose_sleepers(&self) -> Vec<(AgentId, AgentId)> {
        let could = |id: &AgentId| {
            let agent = self.fleet.get(*id)?;
            let away = !matches!(agent.link, Link::Open(_)) && agent.intake == Intake::Open && agent.quarantine.is_none();
            let fits = |demand| unmet(agent, self.demands.get(demand), u64::MAX).next().is_none();
            let wanted = away && agent.sleeper.may_be_woken(self.now, self.wall()) && self.shares.first(fits, |_| true).is_some();
            wanted.then_some((agent.sleeper.tries, *id))
        };
        let sleepers: BTreeSet<(u32, AgentId)> = self.sleepers.iter().filter_map(could).collect();
        let with_neighbour = |(_, id): (u32, AgentId)| Some((id, self.neighbour_of(id)?));
        sleepers.into_iter().filter_map(with_neighbour).take(WAKES_MAX).collect()
    }

    /// An agent that is connected and in a subnet of this one.
    fn neighbour_of(&self, id: AgentId) -> Option<AgentId> {
        let cards = &self.fleet.get(id)?.sleeper.cards;
        let near = |agent: &Agent| {
            let mut own = agent.sleeper.cards.iter();
            matches!(agent.link, Link::Open(_)) && own.any(|own| cards.iter().any(|card| card.subnet == own.subnet))
        };
        self.fleet.iter().find(|(other, agent)| *other != id && near(agent)).map(|(other, _)| other)
    }

    fn wake_sleeper(&mut self, id: AgentId, neighbour: AgentId) {
        let sleeper = &mut self.fleet.known(id).sleeper;
        sleeper.tries = sleeper.tries.saturating_add(1);
        sleeper.tried = Some(self.now);
        let cards = sleeper.cards.clone();
        self.fleet.known(neighbour).outgoing.wake.extend(cards);
    }
}
