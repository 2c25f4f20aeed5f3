//! Every invariant in one place, for tests and the simulator to hold after each turn.

use lull_shared::id::{AttemptId, TaskId};

use crate::{Scheduler, jobs::holding::Holdings, placement::feasible::is_feasible, time::timers::Timer};

/// Pairs of jobs and agents up to which it is checked that placement left nothing undone.
const PAIRS_MAX: usize = 10_000;

impl Scheduler {
    /// What does not add up between turns, if anything, with names and numbers.
    pub fn audit(&self) -> Result<(), String> {
        let turn_ended = self.closing.is_empty() && self.lagging.is_empty() && self.woken_agents.is_empty();
        if !(turn_ended && self.awaiting.is_empty() && self.fleet.is_settled()) {
            return Err("the turn has not ended".into());
        }
        self.audit_jobs()?;
        self.audit_attempts()?;
        let saved = self.jobs.values().map(|job| job.tasks.saved_count()).sum();
        self.kept_snapshots.audit(saved, |task| self.saved_digest(task))?;
        self.fleet.audit()?;
        self.timers.audit()?;
        self.demands.audit(self.jobs.len())?;
        let mut holdings = Holdings::default();
        for job in self.jobs.values() {
            holdings.add(job.submitter, job.holding);
        }
        if holdings != self.holdings {
            return Err(format!("submitters have {holdings:?}, and are said to have {:?}", self.holdings));
        }
        self.shares.audit(self.jobs.values().map(|job| {
            let listing = job.listed.then_some((job.demand, job.rank));
            (job.submitter, job.tasks.all_live().count() as u32, listing)
        }))?;
        self.audit_work_conserved()
    }

    fn audit_jobs(&self) -> Result<(), String> {
        for (id, job) in self.jobs.iter() {
            job.tasks.audit().map_err(|what| format!("{id}: {what}"))?;
            if job.is_over() && !self.timers.is_set(Timer::Stopping(*id)) {
                return Err(format!("{id} has no open task and has not ended"));
            }
            if job.listed != job.is_startable() {
                return Err(format!("{id} is listed: {}, startable: {}", job.listed, job.is_startable()));
            }
            if job.new.spec.at_once.is_some_and(|at_once| job.tasks.with_agents().len() as u64 > u64::from(at_once)) {
                return Err(format!("{id} has {} tasks with agents, more than at once", job.tasks.with_agents().len()));
            }
            if job.listed && job.tasks.has_shunning() && !self.reluctant.contains(id) {
                return Err(format!("{id} has tasks that failed somewhere and is not looked at again for that"));
            }
            if job.stopping.is_some() && job.tasks.has_waiting() && !self.timers.is_set(Timer::Stopping(*id)) {
                return Err(format!("{id} is stopping and has tasks that wait"));
            }
            if job.stopping.is_some() && job.retrying.is_some() {
                return Err(format!("{id} is stopping and is retried"));
            }
            let missing = |dependency| self.dependants.get(dependency).is_none_or(|dependants| !dependants.contains(id));
            if let Some(dependency) = job.gate.after.keys().find(|dependency| missing(dependency)) {
                return Err(format!("{id} waits for {dependency}, which does not know it"));
            }
            if job.known_by.iter().any(|agent| self.knows(*agent, id).is_none()) {
                return Err(format!("{id} counts on an agent that does not know it"));
            }
        }
        let active = |id| self.jobs.contains_key(id);
        match self.dependants.keys().chain(self.keys.values()).find(|id| !active(id)) {
            Some(id) => Err(format!("{id} has ended and is waited for, or can be found by its key")),
            None => Ok(()),
        }
    }

    fn audit_attempts(&self) -> Result<(), String> {
        let mut live = 0;
        for (id, job) in self.jobs.iter() {
            for (index, task) in job.tasks.all_live() {
                let attempt = AttemptId { task: TaskId { job: *id, index }, number: task.number };
                live += 1;
                if self.fleet.get(task.agent).is_none_or(|agent| !agent.held.contains_key(&attempt)) {
                    return Err(format!("{attempt} is live and {} does not have it", task.agent));
                }
            }
        }
        let held: usize = self.fleet.iter().map(|(_, agent)| agent.held.len()).sum();
        if held != live {
            return Err(format!("agents have {held} attempts and {live} are live"));
        }
        for (id, agent) in self.fleet.iter() {
            if agent.held.len() > self.limits.attempts_per_agent_max as usize {
                return Err(format!("{id} has {} attempts, more than it may", agent.held.len()));
            }
            let stranger = |job| self.jobs.get(job).is_none_or(|job| !job.known_by.contains(&id));
            if let Some(job) = agent.stream().and_then(|stream| stream.briefs.iter().find(|job| stranger(job))) {
                return Err(format!("{id} keeps the brief of {job}, which does not know that"));
            }
        }
        Ok(())
    }

    /// No startable task fits a free slot.
    fn audit_work_conserved(&self) -> Result<(), String> {
        let startable: Vec<_> = self.jobs.iter().filter(|(_, job)| job.listed).collect();
        let free: Vec<_> = self.fleet.iter().filter(|(_, agent)| agent.free_slots() > 0).collect();
        if startable.len() * free.len() > PAIRS_MAX {
            return Ok(());
        }
        for (id, job) in startable {
            let fits = |agent| is_feasible(agent, self.demands.get(job.demand), *id, self.now);
            if let Some((agent, _)) =
                free.iter().find(|(agent, known)| (job.has_for(*agent) || job.has_shunned(*agent)) && fits(known))
            {
                return Err(format!("{id} could start on {agent} and does not"));
            }
        }
        Ok(())
    }

    fn knows(&self, agent: lull_shared::id::AgentId, job: &lull_shared::id::JobId) -> Option<()> {
        self.fleet.get(agent)?.stream()?.briefs.contains(job).then_some(())
    }
}
