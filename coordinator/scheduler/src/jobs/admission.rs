//! What people ask for: jobs in and cancelled; agents opened, cordoned, drained, revoked.

use std::collections::BTreeMap;

use lull_shared::{
    id::{AgentId, JobId},
    job::{DependencyCondition, JobSpec},
    message::{GoodbyeReason, RecallReason},
    state::{AttemptEnd, Intake, JobState},
    time::Timestamp,
};

use crate::{
    Scheduler,
    effect::{Change, Effect, NewJob, Order, Refusal, Reply, StoppedBy},
    event::{JobSnapshot, RequestId, Retrying, Submission},
    jobs::{
        holding::Holding,
        job::{Gate, Job, Pace},
        share::SubmitterId,
        tasks::Tasks,
    },
    placement::rank::rank,
    time::timers::Timer,
};

impl Scheduler {
    pub(crate) fn reply(&mut self, request: RequestId, reply: Result<Reply, Refusal>) {
        let reply = reply.unwrap_or_else(Reply::Refused);
        self.effects.push_back(Effect::Reply { request, reply });
    }

    /// Takes a job in, in constant time whatever its size.
    pub(crate) fn submit(&mut self, submission: Submission) -> Result<Reply, Refusal> {
        let submitter = self.shares.intern(Some(submission.owner));
        if let Some(job) = self.with_key(submitter, &submission.spec) {
            let same = self.jobs.get(&job).is_some_and(|known| known.new.spec.request == submission.spec.request);
            return if same { Ok(Reply::Submitted { job, existing: true }) } else { Err(Refusal::KeyTaken { job }) };
        }
        self.check_room(submitter, &submission.spec)?;
        check_finish_by(&submission.spec, self.wall())?;
        let after = self.open_dependencies(&submission.spec, &submission.ended)?;
        let job = self.next_job();
        let new = NewJob {
            job,
            owner: Some(submission.owner),
            submitter: submission.submitter,
            spec: submission.spec,
            version_name: submission.version_name,
            seed: submission.seed,
            movable: submission.movable,
            at: self.wall(),
        };
        self.effects.push_back(Effect::Record(Change::JobSubmitted(Box::new(new.clone()))));
        let tasks = Tasks::new(new.spec.inputs.count());
        self.insert_job(new, tasks, after, None, None);
        Ok(Reply::Submitted { job, existing: false })
    }

    fn with_key(&self, submitter: SubmitterId, spec: &JobSpec) -> Option<JobId> {
        self.keys.get(&(submitter, spec.idempotency_key.clone()?)).copied()
    }

    /// The submitter's own share first: whoever has used that up is told so, and not that the network is full.
    pub(crate) fn check_room(&self, submitter: SubmitterId, spec: &JobSpec) -> Result<(), Refusal> {
        self.holdings.check(submitter, Holding::of(spec), self.limits.allowance)?;
        let active = self.jobs.len();
        if active < self.limits.jobs_active_max { Ok(()) } else { Err(Refusal::TooManyJobs { active }) }
    }

    /// The jobs that it must wait for; those that have ended as they should are left out.
    pub(crate) fn open_dependencies(
        &self,
        spec: &JobSpec,
        ended: &BTreeMap<JobId, JobState>,
    ) -> Result<BTreeMap<JobId, DependencyCondition>, Refusal> {
        for dependency in &spec.after {
            let job = dependency.job;
            if self.jobs.contains_key(&job) {
                continue;
            }
            let state = *ended.get(&job).ok_or(Refusal::NoJob(job))?;
            if dependency.condition == DependencyCondition::Ok && state != JobState::Succeeded {
                return Err(Refusal::DependencyFailed { job, state });
            }
        }
        Ok(self.active_dependencies(spec))
    }

    /// Those of the jobs in `after` that are active. `Ok` outweighs `Any` where a job is named twice.
    pub(crate) fn active_dependencies(&self, spec: &JobSpec) -> BTreeMap<JobId, DependencyCondition> {
        let mut after = BTreeMap::new();
        for dependency in spec.after.iter().filter(|dependency| self.jobs.contains_key(&dependency.job)) {
            let condition = after.entry(dependency.job).or_insert(dependency.condition);
            if dependency.condition == DependencyCondition::Ok {
                *condition = DependencyCondition::Ok;
            }
        }
        after
    }

    /// Puts a job among the active ones.
    pub(crate) fn insert_job(
        &mut self,
        mut new: NewJob,
        tasks: Tasks,
        after: BTreeMap<JobId, DependencyCondition>,
        stopping: Option<JobState>,
        retrying: Option<Retrying>,
    ) {
        let id = new.job;
        let holding = Holding::of(&new.spec);
        (new.spec.args, new.spec.env) = Default::default();
        let submitter = self.shares.intern(new.owner);
        self.holdings.add(submitter, holding);
        if let Some(key) = new.spec.idempotency_key.clone() {
            self.keys.insert((submitter, key), id);
        }
        let submitted = self.ranked_at(id, new.at);
        let job = Job {
            submitter,
            holding,
            demand: self.demands.add(&new.spec),
            rank: rank(id, new.spec.priority, submitted, &self.limits),
            tasks,
            gate: Gate { after, closed_until: None },
            stopping,
            retried: false,
            retrying: None,
            listed: false,
            known_by: Default::default(),
            pace: Pace::default(),
            passed_over: None,
            watched: false,
            moved: 0,
            lost: 0,
            new: Box::new(new),
        };
        self.jobs.insert(id, job);
        self.note_dependant(id);
        self.go_through(id, retrying);
        self.open_gates(id);
    }

    /// Sets a job's clocks going and lists it if it may start; ends it if there is nothing to do.
    pub(crate) fn open_gates(&mut self, id: JobId) {
        let job = self.jobs.get(&id).expect("only active jobs have gates");
        if job.is_over() {
            self.closing.insert(id);
        }
        let (finish_by, backoff) = (job.new.spec.finish_by.map(|at| self.when_wall(at)), job.tasks.next_wake());
        if job.stopping.is_none() {
            self.timers.set_or_clear(Timer::FinishBy(id), finish_by);
            self.timers.set_or_clear(Timer::Backoff(id), backoff);
            self.turn_window(id);
        }
    }

    /// Stops a job at somebody's wish.
    pub(crate) fn cancel(&mut self, id: JobId, by: &str) -> Result<Reply, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::NoJob(id))?;
        if job.stopping.is_some() {
            return Ok(Reply::Done { affected: 0 });
        }
        let affected = u64::from(job.tasks.open());
        self.stop(id, JobState::Cancelled, &StoppedBy::Caller(by.to_owned()));
        Ok(Reply::Done { affected })
    }

    /// The jobs that this one waits for know it.
    pub(crate) fn note_dependant(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        for dependency in job.gate.after.keys() {
            self.dependants.entry(*dependency).or_default().insert(id);
        }
    }

    /// Changes whether an agent takes work.
    pub(crate) fn set_intake(&mut self, id: AgentId, intake: Intake, by: String) -> Result<Reply, Refusal> {
        let agent = self.fleet.get_mut(id).ok_or(Refusal::NoAgent(id))?;
        if agent.intake == intake {
            return Ok(Reply::Done { affected: 0 });
        }
        if agent.intake == Intake::Revoked {
            return Err(Refusal::Revoked(id));
        }
        let before = std::mem::replace(&mut agent.intake, intake);
        self.effects.push_back(Effect::Record(Change::AgentIntake { agent: id, intake, before, by, at: self.wall() }));
        let affected = match intake {
            Intake::Open | Intake::Cordoned => {
                let told = if self.fleet.agent(id).quarantine.is_some() { Intake::Cordoned } else { intake };
                self.send(id, Order::Intake(told));
                0
            }
            Intake::Draining => {
                self.send(id, Order::Intake(intake));
                self.recall_all(id, RecallReason::Drain)
            }
            Intake::Revoked => {
                self.send(id, Order::Goodbye { reason: GoodbyeReason::Revoked });
                let affected = self.end_all(id, AttemptEnd::Lost, "its agent was revoked");
                self.close_stream(id);
                self.excuse(id);
                affected
            }
        };
        self.wake_agent(id);
        Ok(Reply::Done { affected })
    }

    /// Lets an agent in again that was thrown out.
    pub(crate) fn restore_agent(&mut self, id: AgentId, by: String) -> Result<Reply, Refusal> {
        let agent = self.fleet.get_mut(id).ok_or(Refusal::NoAgent(id))?;
        let before = agent.intake;
        if before != Intake::Revoked {
            return Ok(Reply::Done { affected: 0 });
        }
        agent.intake = Intake::Open;
        let change = Change::AgentIntake { agent: id, intake: Intake::Open, before, by, at: self.wall() };
        self.effects.push_back(Effect::Record(change));
        Ok(Reply::Done { affected: 1 })
    }
}

pub(crate) fn check_finish_by(spec: &JobSpec, now: Timestamp) -> Result<(), Refusal> {
    match spec.finish_by {
        Some(at) if at <= now => Err(Refusal::FinishByPassed(at)),
        Some(_) | None => Ok(()),
    }
}

/// The tasks of a job as it was remembered.
pub(crate) fn snapshot_tasks(snapshot: &JobSnapshot, now: Timestamp) -> Tasks {
    let ended = lull_shared::state::TaskCounts {
        succeeded: snapshot.succeeded,
        failed: snapshot.failed,
        cancelled: snapshot.cancelled,
        expired: snapshot.expired,
        ..Default::default()
    };
    let stopped_as = snapshot.stopping.map(crate::jobs::job::stopped_as);
    Tasks::restore(snapshot.spec.inputs.count(), snapshot.expanded, ended, &snapshot.open, stopped_as, now)
}

/// A job as it was submitted, from how it was remembered.
pub(crate) fn new_job(snapshot: JobSnapshot) -> NewJob {
    NewJob {
        job: snapshot.job,
        owner: snapshot.owner,
        submitter: snapshot.submitter,
        spec: snapshot.spec,
        version_name: snapshot.version_name,
        seed: snapshot.seed,
        movable: snapshot.movable,
        at: snapshot.submitted,
    }
}
