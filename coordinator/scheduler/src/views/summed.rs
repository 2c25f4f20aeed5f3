//! Why a job is where it is: its tasks by what holds them, and what is in the way on each agent.

use std::collections::BTreeMap;

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    state::{Intake, PauseReason},
    time::Timestamp,
};

use crate::{
    Scheduler,
    placement::feasible::obstacles,
    views::view::{AgentVerdict, HeldTasks, JobExplanation},
};

impl Scheduler {
    /// Why an active job is where it is; `None`: it has ended, or there is none.
    pub fn explain_job(&self, job: JobId, now: Timestamp) -> Option<JobExplanation> {
        let view = self.job(job, now)?;
        let active = self.jobs.get(&job)?;
        let mut with_agents = 0;
        let mut running_on: BTreeMap<AgentId, u32> = BTreeMap::new();
        let mut paused: BTreeMap<&'static str, HeldTasks> = BTreeMap::new();
        for (index, copies) in active.tasks.with_agents() {
            let first = copies.iter().next();
            match first.and_then(|live| live.paused.as_ref()).filter(|_| copies.are_paused()) {
                Some(reason) => note(&mut paused, reason, TaskId { job, index }),
                None => {
                    // Of the others nobody knows whether they run.
                    for live in copies.iter().filter(|live| !self.is_unreachable(live.agent)) {
                        let attempt = AttemptId { task: TaskId { job, index }, number: live.number };
                        match self.fleet.get(live.agent).and_then(|agent| agent.held.get(&attempt)) {
                            Some(held) if held.started => *running_on.entry(live.agent).or_default() += 1,
                            Some(_) | None => with_agents += 1,
                        }
                    }
                }
            }
        }
        let demand = self.demands.get(active.demand);
        let taking = self.fleet.iter().filter(|(_, agent)| agent.intake != Intake::Revoked);
        let agents = taking.map(|(id, agent)| AgentVerdict {
            agent: id,
            name: agent.name.clone(),
            obstacles: obstacles(agent, demand, job, now).into_iter().map(|one| self.obstacle_on_wall(one)).collect(),
        });
        Some(JobExplanation {
            running: running_on.values().sum(),
            running_on: running_on.len() as u32,
            with_agents,
            paused: paused.into_values().collect(),
            retries_from: active.tasks.next_wake().map(|at| self.on_wall(at)),
            ahead: self.shares.before(active.submitter, active.rank).filter(|rank| rank.job != job).count() as u64,
            agents: agents.collect(),
            outage: self.outage(now),
            view,
        })
    }
}

fn note(paused: &mut BTreeMap<&'static str, HeldTasks>, reason: &PauseReason, example: TaskId) {
    let first = || HeldTasks { reason: reason.clone(), tasks: 0, example };
    paused.entry(reason.kind()).or_insert_with(first).tasks += 1;
}
