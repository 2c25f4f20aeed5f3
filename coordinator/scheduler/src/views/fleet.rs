//! The fleet as a whole: what it offers now, and what it is expected to offer in the hours to come.

use std::collections::BTreeSet;

use lull_shared::{
    id::AgentId,
    state::{Intake, PauseReason},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Scheduler,
    fleet::agents::{Agent, Link},
    time::history::IdleHours,
    views::view::AgentView,
};

const HOUR_US: i64 = 3_600_000_000;

/// The fleet in numbers, without revoked machines and those that left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetView {
    pub enrolled: u64,
    pub connected: u64,
    /// Of which nothing is heard, and which did not take their leave.
    pub silent: u64,
    /// Connected, and running nothing for its owner's sake.
    pub paused: u64,
    /// Agents that take work now, and their slots.
    pub offering: u64,
    pub slots: u64,
    /// Slots where attempts run, whoever's they are.
    pub slots_busy: u64,
    /// Agents that need somebody: quarantined ones, and those that cannot work for trouble of their own.
    pub troubled: u64,
    /// The first of them.
    pub examples: Vec<AgentView>,
}

impl Scheduler {
    /// The fleet in numbers, with at most so many examples of agents that need somebody.
    pub fn fleet(&self, left: &BTreeSet<AgentId>, examples_max: usize) -> FleetView {
        let mut view = FleetView::default();
        for (id, agent) in self.fleet.iter().filter(|(id, agent)| belongs(*id, agent, left)) {
            view.enrolled += 1;
            view.silent += u64::from(agent.touch.lost_since().is_some());
            let trouble =
                agent.capacity.as_ref().is_some_and(|capacity| matches!(capacity.paused, Some(PauseReason::Trouble(_))));
            let connected = matches!(agent.link, Link::Open(_));
            if agent.quarantine.is_some() || (trouble && connected) {
                view.troubled += 1;
                if view.examples.len() < examples_max {
                    view.examples.push(self.agent_view(id, agent));
                }
            }
            let Some(capacity) = agent.capacity.as_ref().filter(|_| connected) else {
                view.connected += u64::from(connected);
                continue;
            };
            view.connected += 1;
            view.paused += u64::from(capacity.paused.is_some());
            view.slots_busy += u64::from(capacity.slots_busy);
            if capacity.paused.is_none() && takes_work(agent) && capacity.slots > 0 {
                view.offering += 1;
                view.slots += u64::from(capacity.slots);
            }
        }
        view
    }

    /// How many slots are expected to be offered in each of so many hours from a moment on, by the clock on the wall: each
    /// agent's slots, or processors as long as it has not said, times the part of that hour of its week in which it was there.
    pub fn slots_expected(&self, from: Timestamp, hours: usize, left: &BTreeSet<AgentId>) -> Vec<u64> {
        let mut sums = vec![0.0; hours];
        let unknown = IdleHours::default();
        for (_, agent) in self.fleet.iter().filter(|(id, agent)| belongs(*id, agent, left) && takes_work(agent)) {
            let said = agent.capacity.as_ref().map(|capacity| capacity.slots).filter(|slots| *slots > 0);
            let cores = || agent.facts.as_ref().map_or(0, |facts| facts.machine.cores);
            let slots = f64::from(said.unwrap_or_else(cores));
            let known = agent.history.hours().unwrap_or(&unknown);
            for (at, sum) in (0_i64..).map(|hour| from.0.saturating_add(hour * HOUR_US)).zip(&mut sums) {
                *sum += slots * known.expected(Timestamp(at));
            }
        }
        sums.into_iter().map(|sum| sum.round() as u64).collect()
    }
}

fn belongs(id: AgentId, agent: &Agent, left: &BTreeSet<AgentId>) -> bool {
    agent.intake != Intake::Revoked && !left.contains(&id)
}

fn takes_work(agent: &Agent) -> bool {
    agent.intake == Intake::Open && agent.quarantine.is_none()
}
