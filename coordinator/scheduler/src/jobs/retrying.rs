//! A job runs again: what ended badly of it is queued again, a part at a time.
//!
//! ```text
//! retry -> Record(JobRetried), Record(TasksRetried) -> Look: the next -> EndedBadly -> Record(TasksRetried) -> Look ..
//! ```
//! Tasks that have ended cost nothing here, so a part of them is read from the store when its turn comes; the first comes with
//! the wish, and most retries need no other. How far a retry has come is remembered with each part: a coordinator that takes
//! over goes on from there. Between the parts everybody has their turn, and what was queued again starts.
//!
//! The stop is undone at once, and so are the failures: those that the retry has yet to come to do not count against
//! `failures_max`. A task that ends badly before the retry comes to it is queued again as well.

use lull_shared::{
    id::{JobId, TaskIndex},
    state::TaskState,
};

use crate::{
    Scheduler,
    effect::{Change, Effect, Look, Refusal, Reply},
    event::{EndedTask, Retry, Retrying},
    jobs::{
        admission::{check_finish_by, new_job, snapshot_tasks},
        job::Job,
    },
    time::timers::Timer,
};

impl Scheduler {
    /// Lets the tasks of a job that ended badly run again, and undoes a stop. What it waits for must have ended as it should,
    /// as when it was submitted, or may still.
    pub(crate) fn retry(&mut self, retry: Retry) -> Result<Reply, Refusal> {
        let Retry { by, finish_by, job: mut snapshot, tasks: first, next, ended } = retry;
        let id = snapshot.job;
        let wall = self.wall();
        match finish_by {
            Some(at) if at <= wall => return Err(Refusal::FinishByPassed(at)),
            Some(at) => snapshot.spec.finish_by = Some(at),
            None => check_finish_by(&snapshot.spec, wall).map_err(overdue)?,
        }
        let after = self.open_dependencies(&snapshot.spec, &ended)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            let affected = match some(job.tasks.ended_badly(), id) {
                // Whoever looks at the store may see its tasks as they were before.
                Err(Refusal::NothingToRetry(_)) if job.retried => return Err(Refusal::RetriedAlready(id)),
                affected => affected?,
            };
            let retrying = job.tasks.reopen_fresh();
            job.retried = true;
            job.stopping = None;
            job.new.spec.finish_by = snapshot.spec.finish_by;
            let before = std::mem::replace(&mut job.gate.after, after);
            for dependency in before.into_keys() {
                self.forget_dependant(dependency, id);
            }
            self.timers.clear(Timer::Stopping(id));
            self.note_dependant(id);
            self.effects.push_back(Effect::Record(Change::JobRetried { job: id, by, finish_by, retrying, at: wall }));
            self.open_gates(id);
            self.close_dependants(id);
            self.begin(id, retrying, first, next);
            return Ok(Reply::Done { affected });
        }
        if !snapshot.state.is_ended() || !snapshot.open.is_empty() {
            return Err(Refusal::Changed(id));
        }
        let submitter = self.shares.intern(snapshot.owner);
        self.check_room(submitter, &snapshot.spec)?;
        let mut tasks = snapshot_tasks(&snapshot, self.now);
        let affected = some(tasks.ended_badly(), id)?;
        let retrying = tasks.reopen_fresh();
        self.effects.push_back(Effect::Record(Change::JobRetried { job: id, by, finish_by, retrying, at: wall }));
        self.last_job = self.last_job.max(id.0);
        self.insert_job(new_job(snapshot), tasks, after, None, None);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.retried = true;
        }
        self.close_dependants(id);
        self.begin(id, retrying, first, next);
        Ok(Reply::Done { affected })
    }

    /// A job is not at its end any more: active jobs that wait for its end begin nothing until it ends again, whoever leads
    /// then. What runs of them goes on.
    fn close_dependants(&mut self, id: JobId) {
        let names_it = |job: &Job| job.stopping.is_none() && job.new.spec.after.iter().any(|after| after.job == id);
        let naming: Vec<JobId> = self.jobs.iter().filter(|(_, job)| names_it(job)).map(|(dependant, _)| *dependant).collect();
        for dependant in naming {
            let after = self.active_dependencies(&self.jobs[&dependant].new.spec);
            if let Some(job) = self.jobs.get_mut(&dependant) {
                job.gate.after = after;
            }
            self.note_dependant(dependant);
        }
    }

    /// Asks for the next tasks that a retry is to queue again; none: it is through.
    pub(crate) fn go_through(&mut self, id: JobId, retrying: Option<Retrying>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.retrying = None;
        if let Some(retrying) = retrying {
            self.looks += 1;
            job.retrying = Some((retrying, self.looks));
            let limit = self.limits.retry_part_max;
            self.effects.push_back(Effect::Look(Look { number: self.looks, job: id, from: retrying.from, limit }));
        }
    }

    /// The first part of a retry, if there is anything to go through.
    fn begin(&mut self, id: JobId, retrying: Option<Retrying>, first: Vec<EndedTask>, next: Option<TaskIndex>) {
        match retrying {
            Some(retrying) => self.queue_again(id, retrying, first, next),
            // A retry that was under way has nothing left to do.
            None => self.go_through(id, None),
        }
    }

    /// These tasks of a job have ended badly: its retry queues them again, if it still wants to.
    pub(crate) fn ended_badly(&mut self, look: u64, id: JobId, ended: Vec<EndedTask>, next: Option<TaskIndex>) {
        let asked = self.jobs.get(&id).and_then(|job| job.retrying);
        // It was stopped meanwhile, or begun anew.
        let Some((retrying, _)) = asked.filter(|(_, asked)| *asked == look) else { return };
        self.queue_again(id, retrying, ended, next);
    }

    fn queue_again(&mut self, id: JobId, retrying: Retrying, mut ended: Vec<EndedTask>, next: Option<TaskIndex>) {
        let at = self.wall();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        ended.retain(|task| job.tasks.has_ended(task.index));
        job.tasks.reopen(&ended, self.now);
        let failed = ended.iter().filter(|task| task.state == TaskState::Failed).count() as u32;
        let next = next.map(|from| Retrying { from, forgiven: retrying.forgiven.saturating_sub(failed) });
        self.effects.push_back(Effect::Record(Change::TasksRetried { job: id, tasks: ended, retrying: next, at }));
        self.go_through(id, next);
        if self.jobs.get(&id).is_some_and(Job::is_over) {
            self.closing.insert(id);
        }
    }
}

/// So many tasks are to run again; there must be some.
fn some(affected: u32, job: JobId) -> Result<u64, Refusal> {
    if affected == 0 { Err(Refusal::NothingToRetry(job)) } else { Ok(affected.into()) }
}

/// What is said of a moment that has passed, of a job that ran before.
fn overdue(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::FinishByPassed(at) => Refusal::Overdue(at),
        other => other,
    }
}
