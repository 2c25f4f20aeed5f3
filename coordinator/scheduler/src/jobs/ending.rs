//! How jobs stop and end, and what that means for the jobs that wait for them; windows and deadlines.
//!
//! ```text
//! active -- cancelled, expired, too many failures, a dependency failed --> stopping -- nothing runs --> ended
//! ```
//! What waits ends in parts, so that stopping a job of millions of tasks keeps nobody waiting. So do the jobs that need another
//! to succeed: they stop before the end of the one that failed is recorded, so that a coordinator that takes over half-way
//! finds it active, and goes on.
//! A window that closes starts nothing new and takes back what waits at agents; what runs goes on.

use lull_shared::{
    id::{AttemptId, JobId, TaskId},
    job::DependencyCondition,
    message::RecallReason,
    state::{AttemptEnd, JobState},
};

use crate::{
    Scheduler,
    attempts::silence::UNHEARD,
    effect::{Change, Effect, StoppedBy},
    jobs::job::{Job, stopped_as},
    time::timers::Timer,
};

impl Scheduler {
    /// Stops a job: what waits ends now, what runs is asked back. Nothing, if it is stopping already.
    pub(crate) fn stop(&mut self, id: JobId, state: JobState, by: &StoppedBy) {
        let at = self.wall();
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.stopping.is_none()) else { return };
        job.stopping = Some(state);
        job.retrying = None;
        job.tasks.stop_fresh(stopped_as(state));
        self.effects.push_back(Effect::Record(Change::JobStopped { job: id, state, by: by.to_string(), at }));
        for timer in [Timer::Backoff(id), Timer::Window(id), Timer::Straggler(id), Timer::FinishBy(id)] {
            self.timers.clear(timer);
        }
        self.end_waiting(id);
        self.recall_live(id, RecallReason::Cancelled);
    }

    /// Ends the tasks of a stopped job that are not with an agent. There may be millions: what is more than fits goes on at
    /// the next call.
    pub(crate) fn end_waiting(&mut self, id: JobId) {
        let at = self.wall();
        let state = self.jobs.get(&id).and_then(|job| job.stopping).map(stopped_as);
        while let Some(state) = state.filter(|_| !self.is_full()) {
            let Some(index) = self.jobs.get_mut(&id).and_then(|job| job.tasks.stop_next(state)) else { break };
            let task = TaskId { job: id, index };
            self.effects.push_back(Effect::Record(Change::TaskEnded { task, state, at }));
            self.drop_saved(task);
            self.drop_answers(task);
        }
        let Some(job) = self.jobs.get(&id) else { return };
        if state.is_some() && job.tasks.has_waiting() {
            self.timers.set(Timer::Stopping(id), self.now);
        }
        if job.is_over() {
            self.closing.insert(id);
        }
    }

    /// Asks agents for the live attempts of a job that are given back for this reason.
    fn recall_live(&mut self, id: JobId, reason: RecallReason) {
        let Some(job) = self.jobs.get(&id) else { return };
        let attempt = |index, number| AttemptId { task: TaskId { job: id, index }, number };
        let live: Vec<_> = job.tasks.all_live().map(|(index, live)| (live.agent, attempt(index, live.number))).collect();
        for (agent_id, attempt) in live {
            if reason == RecallReason::Cancelled && self.is_unreachable(agent_id) {
                match self.is_full() {
                    true => self.look_soon(),
                    false => self.withdraw(agent_id, attempt, UNHEARD, AttemptEnd::Cancelled),
                }
                continue;
            }
            let agent = self.fleet.known(agent_id);
            let gives_back = agent.held.get(&attempt).is_some_and(|held| held.gives_back(reason.reach()));
            if agent.stream().is_none() || !gives_back {
                continue;
            }
            self.fleet.recall(agent_id, attempt, reason, None);
        }
    }

    /// Ends the jobs of which no task is open, and stops those that needed them to succeed. Of those what is more than fits comes
    /// at the next call, and their job ends with the last.
    pub(crate) fn close_jobs(&mut self) {
        while let Some(id) = self.closing.pop_first() {
            if self.jobs.get(&id).is_some_and(Job::is_over) {
                if self.stop_dependants(id) {
                    self.end_job(id);
                } else {
                    self.timers.set(Timer::Stopping(id), self.now);
                }
            }
        }
    }

    /// Stops the jobs that needed this one, of which no task is open, to succeed. Whether that was all of them.
    fn stop_dependants(&mut self, id: JobId) -> bool {
        let (Some(state), Some(dependants)) = (self.jobs.get(&id).map(Job::end_state), self.dependants.get(&id)) else {
            return true;
        };
        if state == JobState::Succeeded {
            return true;
        }
        let needs_success = |job: &Job| job.stopping.is_none() && job.gate.after.get(&id) == Some(&DependencyCondition::Ok);
        let needy = dependants.iter().filter(|dependant| self.jobs.get(dependant).is_some_and(needs_success));
        // One more than fits tells that there are more.
        let needy: Vec<JobId> = needy.copied().take(self.limits.effects_waiting_max + 1).collect();
        for dependant in needy {
            if self.is_full() {
                return false;
            }
            self.stop(dependant, JobState::Cancelled, &StoppedBy::Dependency { job: id, state });
        }
        true
    }

    fn end_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.reluctant.remove(&id);
        self.holdings.remove(job.submitter, job.holding);
        let state = job.end_state();
        self.effects.push_back(Effect::Record(Change::JobEnded { job: id, state, at: self.wall() }));
        if job.listed {
            self.shares.unlist(job.submitter, job.demand, job.rank);
        }
        if let Some(key) = job.new.spec.idempotency_key.clone() {
            let key = (job.submitter, key);
            // A retried job may have met a newer one with its key.
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
        self.demands.remove(job.demand);
        for timer in [Timer::Backoff(id), Timer::Window(id), Timer::Straggler(id), Timer::FinishBy(id), Timer::Stopping(id)] {
            self.timers.clear(timer);
        }
        for agent_id in job.known_by {
            let agent = self.fleet.known(agent_id);
            agent.refusals.remove(&id);
            agent.stream_mut().map(|stream| stream.briefs.remove(&id));
            agent.outgoing.forget.push(id);
        }
        for dependency in job.gate.after.into_keys() {
            self.forget_dependant(dependency, id);
        }
        for dependant in self.dependants.remove(&id).unwrap_or_default() {
            if let Some(dependant) = self.jobs.get_mut(&dependant) {
                dependant.gate.after.remove(&id);
            }
        }
    }

    pub(crate) fn forget_dependant(&mut self, dependency: JobId, dependant: JobId) {
        if let Some(dependants) = self.dependants.get_mut(&dependency) {
            dependants.remove(&dependant);
            if dependants.is_empty() {
                self.dependants.remove(&dependency);
            }
        }
    }

    /// Opens or closes a job's window as the time demands.
    pub(crate) fn turn_window(&mut self, id: JobId) {
        let wall = self.wall();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(window) = &job.new.spec.window else { return };
        let change = window.next_change(wall);
        let was_open = job.gate.closed_until.is_none();
        job.gate.closed_until = (!window.is_open(wall)).then_some(change);
        let closes = was_open && job.gate.closed_until.is_some();
        let turns = change.map(|at| self.when_wall(at));
        self.timers.set_or_clear(Timer::Window(id), turns);
        if closes {
            self.recall_live(id, RecallReason::Window);
        }
    }
}
