//! Whether a job may start on an agent, and all that is in the way: the one answer that placement and `explain` share.

use lull_shared::{id::JobId, state::Intake, time::Timestamp};

use crate::{
    fleet::agents::{Agent, Link},
    jobs::demand::Demand,
    views::view::Obstacle,
};

/// What keeps this agent from being given anything at the moment.
pub(crate) fn closed(agent: &Agent) -> impl Iterator<Item = Obstacle> + '_ {
    let away = match agent.link {
        Link::Open(_) => None,
        // That it is not connected follows from that.
        Link::Away | Link::Silent(_) if agent.intake == Intake::Revoked => None,
        Link::Away | Link::Silent(_) => Some(match agent.sleeper.asleep {
            Some(since) => Obstacle::Asleep { since, tries: agent.sleeper.tries, tried: agent.sleeper.tried },
            None => Obstacle::Away { last_heard: agent.last_heard },
        }),
    };
    let intake = (agent.intake != Intake::Open).then_some(Obstacle::Closed(agent.intake));
    let paused = agent.capacity.as_ref().and_then(|capacity| capacity.paused.clone()).map(Obstacle::Paused);
    let quarantined = agent.quarantine.as_ref().map(|quarantine| Obstacle::Quarantined { reason: quarantine.reason.clone() });
    away.into_iter().chain(intake).chain(quarantined).chain(paused)
}

/// Whether its machine is there for work, whatever the administrator says and has given to it.
pub(crate) fn is_there(agent: &Agent) -> bool {
    let offers = agent.capacity.as_ref().is_some_and(|capacity| capacity.paused.is_none() && capacity.slots > 0);
    offers && matches!(agent.link, Link::Open(_))
}

/// What the agent lacks of a job's demand, with so much memory free.
pub(crate) fn unmet<'a>(agent: &'a Agent, demand: &'a Demand, free_bytes: u64) -> impl Iterator<Item = Obstacle> + 'a {
    let memory = (demand.memory_bytes > free_bytes && agent.facts.is_some())
        .then_some(Obstacle::Memory { needed_bytes: demand.memory_bytes, free_bytes });
    let labels = agent.facts.as_ref().map(|facts| &facts.labels);
    let constraints = demand.constraints.iter().filter_map(move |constraint| {
        let labels = labels?;
        let lacking = || Obstacle::Label { constraint: constraint.clone(), actual: labels.get(&constraint.label).cloned() };
        (!constraint.accepts(labels)).then(lacking)
    });
    memory.into_iter().chain(constraints)
}

/// Why the agent is not asked again yet for this job.
pub(crate) fn refused(agent: &Agent, job: JobId, now: Timestamp) -> Option<Obstacle> {
    let refusal = agent.refusals.get(&job).filter(|refusal| refusal.until > now)?;
    Some(Obstacle::Refused { reason: refusal.reason.clone(), until: refusal.until })
}

/// That all slots are taken, if they are.
pub(crate) fn full(agent: &Agent) -> Option<Obstacle> {
    let slots = agent.slots();
    let held = agent.held.len() as u32;
    let running = agent.held.values().filter(|held| held.started).count() as u32;
    (held >= u32::from(slots)).then_some(Obstacle::NoFreeSlot { slots, running, waiting: held - running })
}

/// Everything that keeps a task of the job from starting on the agent now; nothing: it could.
pub(crate) fn obstacles(agent: &Agent, demand: &Demand, job: JobId, now: Timestamp) -> Vec<Obstacle> {
    let connected = matches!(agent.link, Link::Open(_));
    let slots = full(agent).filter(|_| connected);
    closed(agent).chain(unmet(agent, demand, agent.memory_free_bytes())).chain(slots).chain(refused(agent, job, now)).collect()
}

/// Whether the job's tasks may go to the agent at all, its free slots aside.
pub(crate) fn is_feasible(agent: &Agent, demand: &Demand, job: JobId, now: Timestamp) -> bool {
    closed(agent).next().is_none()
        && unmet(agent, demand, agent.memory_free_bytes()).next().is_none()
        && refused(agent, job, now).is_none()
}
