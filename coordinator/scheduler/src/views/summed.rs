//! Why a job is where it is: its tasks by what holds them, and what is in the way on each agent.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    state::PauseReason,
    time::Timestamp,
};

use crate::{
    Scheduler,
    attempts::copies::Live,
    placement::feasible::obstacles,
    views::view::{AgentVerdict, HeldTasks, JobExplanation},
};

impl Scheduler {
    /// Why an active job is where it is; `None`: it has ended, or there is none.
    pub fn explain_job(&self, job: JobId, now: Timestamp) -> Option<JobExplanation> {
        let view = self.job(job, now)?;
        let active = self.jobs.get(&job)?;
        let (mut running, mut with_agents, mut out_of_touch) = (0, 0, 0);
        let mut running_on: BTreeSet<AgentId> = BTreeSet::new();
        let mut paused: BTreeMap<&'static str, HeldTasks> = BTreeMap::new();
        // What is being verified is counted as that.
        for (index, copies) in active.tasks.with_agents().filter(|(index, _)| active.tasks.answers(*index).is_empty()) {
            let task = TaskId { job, index };
            let first = copies.iter().next();
            if let Some(reason) = first.and_then(|live| live.paused.as_ref()).filter(|_| copies.are_paused()) {
                note(&mut paused, reason, task);
                continue;
            }
            let has_started = |live: &&Live| {
                let attempt = AttemptId { task, number: live.number };
                self.fleet.get(live.agent).and_then(|agent| agent.held.get(&attempt)).is_some_and(|held| held.started)
            };
            // Of the others nobody knows whether they run.
            let heard = || copies.iter().filter(|live| !self.is_unreachable(live.agent));
            let runs_on: Vec<AgentId> = heard().filter(has_started).map(|live| live.agent).collect();
            match (runs_on.is_empty(), heard().next()) {
                (false, _) => running += 1,
                (true, Some(_)) => with_agents += 1,
                (true, None) => out_of_touch += 1,
            }
            running_on.extend(runs_on);
        }
        let demand = self.demands.get(active.demand);
        let agents = self.fleet.iter().map(|(id, agent)| AgentVerdict {
            agent: id,
            name: agent.name.clone(),
            obstacles: obstacles(agent, demand, job, now).into_iter().map(|one| self.obstacle_on_wall(one)).collect(),
        });
        Some(JobExplanation {
            running,
            running_on: running_on.len() as u32,
            with_agents,
            out_of_touch,
            at_once: active.new.spec.at_once.filter(|_| active.is_full()),
            finish_by: active.new.spec.finish_by,
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
