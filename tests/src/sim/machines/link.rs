//! Work streams: ordered, late, and gone with what was on its way.

use std::time::Duration;

use lull_scheduler::event::StreamId;
use lull_shared::{
    id::AgentId,
    message::{ToAgentFrame, ToCoordinator},
    time::Timestamp,
};

use crate::sim::{
    events::{CoordinatorId, MachineId, What},
    options::Kind,
    world::World,
};

/// A stream's place in the world.
pub(crate) type LinkId = usize;

/// One work stream between one life of an agent and one life of a coordinator.
#[derive(Debug)]
pub(crate) struct Stream {
    pub machine: MachineId,
    pub agent: AgentId,
    pub machine_life: u32,
    pub coordinator: CoordinatorId,
    pub coordinator_life: u32,
    /// Set when the coordinator has read the greeting.
    pub number: Option<StreamId>,
    /// When the last frame of each way arrives: none overtakes it.
    to_agent_last: Timestamp,
    to_coordinator_last: Timestamp,
    /// Nothing passes any more.
    pub broken: bool,
    /// Nothing passes until then.
    pub stalled_until: Timestamp,
}

impl World {
    /// Opens a stream; both ends hear of it when it is there.
    pub(crate) fn open_link(&mut self, machine: MachineId, coordinator: CoordinatorId) -> LinkId {
        self.links.push(Stream {
            machine,
            agent: self.machines[machine].agent,
            machine_life: self.machines[machine].life,
            coordinator,
            coordinator_life: self.coordinators[coordinator].life,
            number: None,
            to_agent_last: self.now,
            to_coordinator_last: self.now,
            broken: false,
            stalled_until: Timestamp::default(),
        });
        self.links.len() - 1
    }

    fn latency(&mut self) -> Duration {
        let late = self.dice.links.chance(0.0005 * self.options.rate(Kind::Link));
        let base = self.dice.links.seconds(0.000_3, 0.003);
        if late && !self.healed { base + self.dice.links.seconds(0.1, 15.0) } else { base }
    }

    pub(crate) fn send_to_agent(&mut self, link: LinkId, frame: ToAgentFrame) {
        let at = self.now + self.latency();
        let stream = &mut self.links[link];
        stream.to_agent_last = stream.to_agent_last.max(at);
        let at = stream.to_agent_last;
        self.queue.push(at, What::ToAgent { link, frame: Box::new(frame) });
    }

    pub(crate) fn send_to_coordinator(&mut self, link: LinkId, messages: Vec<ToCoordinator>) {
        let at = self.now + self.latency();
        let stream = &mut self.links[link];
        stream.to_coordinator_last = stream.to_coordinator_last.max(at);
        let at = stream.to_coordinator_last;
        self.queue.push(at, What::ToCoordinator { link, messages });
    }

    /// The agent's end is closed in good order: what was sent arrives.
    pub(crate) fn close_from_agent(&mut self, link: LinkId) {
        let at = self.links[link].to_coordinator_last.max(self.now) + Duration::from_millis(1);
        self.queue.push(at, What::CoordinatorSeesEnd { link });
    }

    /// The coordinator's end is closed in good order.
    pub(crate) fn close_from_coordinator(&mut self, link: LinkId) {
        let at = self.links[link].to_agent_last.max(self.now) + Duration::from_millis(1);
        self.queue.push(at, What::AgentSeesEnd { link });
        self.queue.push(at + Duration::from_millis(2), What::CoordinatorSeesEnd { link });
    }

    /// The stream breaks with everything on its way; the ends notice after these times.
    pub(crate) fn cut(&mut self, link: LinkId, agent_after: Duration, coordinator_after: Duration) {
        if !std::mem::replace(&mut self.links[link].broken, true) {
            self.queue.push(self.now + agent_after, What::AgentSeesEnd { link });
            self.queue.push(self.now + coordinator_after, What::CoordinatorSeesEnd { link });
        }
    }

    /// How long an end that is not told takes to find out: pings that are not answered.
    pub(crate) fn unnoticed(&mut self) -> Duration {
        self.dice.links.seconds(5.0, 60.0)
    }
}
