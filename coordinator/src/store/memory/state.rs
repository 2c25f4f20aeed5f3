//! What is remembered, and how each change changes it: one at a time, as its words say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use imbl::{OrdMap, Vector};
use lull_scheduler::{
    effect::{Change, EndedAttempt, NewJob, TaskAfter},
    event::{Answer, EndedTask, Quarantine, Retrying, Saved},
    history::IdleHours,
};
use lull_shared::{
    amount::counted,
    digest::{Digest, Outline},
    id::{AgentId, AttemptId, JobId, TaskId, Term},
    message::{Build, Payload},
    state::{AttemptEnd, Failure, JobState, PauseReason, TaskState, Usage},
    time::Timestamp,
};

use super::super::{
    bounds,
    lead::Counts,
    record::{
        AgentRecord, AuditRecord, CoordinatorRecord, LabelRecord, NetworkRecord, PolicyRecord, Resumed, RolloutRecord,
        TokenRecord, VersionRecord, who,
    },
    turn::{BREACH_FOUND_BY, Broken, audit_row, breach_words, changes_who_is_out, finish_by_words, intake_action, stop_action},
    usage,
};

/// Everything. Cheap to copy whatever it holds, since copies share what is the same in both, so that a turn is tried on
/// a copy and kept or dropped as a whole.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub term: Term,
    pub holder: Option<String>,
    /// How often somebody was thrown out or let in again.
    pub revocations: u64,
    pub lease_end: Timestamp,
    /// What was taken in.
    pub counts: Counts,
    /// Jobs have been numbered up to here, whatever is among them.
    pub last_job: u64,
    /// By peer.
    pub coordinators: BTreeMap<String, CoordinatorRecord>,
    pub network: Option<NetworkRecord>,
    pub jobs: OrdMap<JobId, Arc<Job>>,
    pub agents: OrdMap<AgentId, Arc<Agent>>,
    pub tokens: Vec<Arc<(TokenRecord, [u8; 32])>>,
    pub versions: Vec<Arc<Version>>,
    pub label_moves: Vec<Arc<LabelRecord>>,
    /// By version.
    pub policies: Vec<Arc<PolicyRecord>>,
    /// By number.
    pub rollouts: BTreeMap<u64, Arc<RolloutRecord>>,
    pub audit: Vector<Arc<AuditRecord>>,
    /// Slot-microseconds by job and hour.
    pub usage: OrdMap<(JobId, i64), i64>,
    pub blobs: OrdMap<Digest, Arc<Blob>>,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub new: Arc<NewJob>,
    pub state: JobState,
    pub ended: Option<Timestamp>,
    pub stop: Option<(JobState, String, Timestamp)>,
    /// How far a retry has come.
    pub retrying: Option<Retrying>,
    /// Those that were started; the first of the others has the next index.
    pub tasks: OrdMap<u32, Arc<Task>>,
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub place: Place,
    pub failures: u32,
    pub attempts: Vec<Attempt>,
    /// Where its next attempt goes on.
    pub saved: Option<Saved>,
    /// What was brought for it, to be compared.
    pub answers: Vec<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// One or several of its attempts are with agents.
    At,
    Waiting {
        state: TaskState,
        not_before: Timestamp,
    },
    Ended {
        state: TaskState,
        at: Timestamp,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub agent: AgentId,
    pub started: Timestamp,
    pub build: Build,
    pub resumed: Option<Resumed>,
    pub cause: Option<String>,
    pub pause: Option<PauseReason>,
    pub over: Option<Over>,
}

#[derive(Debug, Clone)]
pub(super) struct Over {
    pub at: Timestamp,
    pub end: AttemptEnd,
    pub reason: Option<String>,
    pub failure: Option<Failure>,
    pub usage: Usage,
    pub output: Option<Payload>,
    pub log: Bytes,
    pub log_dropped_bytes: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub record: AgentRecord,
    pub hours: Option<Box<IdleHours>>,
    pub results_refused: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Version {
    pub record: VersionRecord,
    pub blobs: Vec<Digest>,
}

#[derive(Debug)]
pub(super) struct Blob {
    pub bytes: Bytes,
    pub outline: Outline,
    pub touched: Timestamp,
}

impl Task {
    /// Attempts that were lost, since it last failed for that.
    pub(super) fn lost(&self) -> u32 {
        let over = self.attempts.iter().rev().filter_map(|attempt| attempt.over.as_ref());
        let lost = over.filter(|over| over.end == AttemptEnd::Lost);
        lost.take_while(|over| over.failure.is_none()).count() as u32
    }

    /// How it stands.
    pub(super) fn state(&self) -> TaskState {
        match self.place {
            Place::At | Place::Waiting { .. } if !self.answers.is_empty() => TaskState::Verifying,
            Place::At if self.live().all(|(_, attempt)| attempt.pause.is_some()) => TaskState::Paused,
            Place::At => TaskState::Running,
            Place::Waiting { state: TaskState::Queued, .. } if self.saved.is_some() => TaskState::Moving,
            Place::Waiting { state, .. } | Place::Ended { state, .. } => state,
        }
    }
}

impl Task {
    /// Its live attempts, by number.
    pub(super) fn live(&self) -> impl Iterator<Item = (u32, &Attempt)> {
        (1..).zip(&self.attempts).filter(|(_, attempt)| attempt.over.is_none())
    }

    /// The number of the attempt that succeeded, or else of the newest live one, or else of the newest.
    pub(super) fn telling(&self) -> u32 {
        let has_output = |attempt: &Attempt| attempt.over.as_ref().is_some_and(|over| over.output.is_some());
        let succeeded = (1..).zip(&self.attempts).find(|(_, attempt)| has_output(attempt));
        succeeded.or(self.live().last()).map_or(self.attempts.len() as u32, |(number, _)| number)
    }

    /// The attempt with this number.
    pub(super) fn attempt(&self, number: u32) -> Option<&Attempt> {
        self.attempts.get(number.checked_sub(1)? as usize)
    }
}

impl Job {
    /// How many of the started tasks stand like this.
    pub(super) fn count(&self, state: TaskState) -> u32 {
        self.tasks.values().filter(|task| task.state() == state).count() as u32
    }

    /// Started tasks.
    pub(super) fn expanded(&self) -> u32 {
        self.tasks.len() as u32
    }
}

impl State {
    /// Applies a turn to this copy; if it is refused, the copy is good for nothing.
    pub(super) fn apply_all(&mut self, changes: &[Change]) -> Result<(), Broken> {
        for change in changes {
            self.apply(change)?;
        }
        let touched: BTreeSet<JobId> = changes.iter().filter_map(Change::job).collect();
        for job in touched.iter().filter_map(|job| self.jobs.get(job)) {
            let in_order = job.tasks.get_max().is_none_or(|(last, _)| *last + 1 == job.expanded());
            let open = || job.tasks.values().any(|task| !task.state().is_ended());
            let rest = job.expanded() < job.new.spec.inputs.count() && job.stop.is_none();
            let unfinished = || rest || job.retrying.is_some() || open();
            if !in_order || job.expanded() > job.new.spec.inputs.count() || (job.state.is_ended() && unfinished()) {
                return Err(Broken(format!("{} would lose tasks", job.new.job)));
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: &Change) -> Result<(), Broken> {
        match change {
            Change::JobSubmitted(new) => self.submitted(new)?,
            Change::JobStopped { job, state, by, at } => {
                self.audit(*at, by, stop_action(*state), job.to_string(), "");
                let job = self.job(*job)?;
                (job.stop, job.retrying) = (Some((*state, bounds::name(by), *at)), None);
            }
            Change::JobEnded { job, state, at } => {
                let job = self.job(*job)?;
                (job.state, job.ended) = (*state, Some(*at));
            }
            Change::JobRetried { job, by, finish_by, retrying, at } => {
                self.audit(*at, by, "job.retry", job.to_string(), &finish_by_words(*finish_by));
                let job = self.job(*job)?;
                if finish_by.is_some() {
                    Arc::make_mut(&mut job.new).spec.finish_by = *finish_by;
                }
                (job.state, job.ended, job.stop, job.retrying) = (JobState::Active, None, None, *retrying);
            }
            Change::TasksRetried { job, tasks, retrying, at } => {
                for task in tasks {
                    self.task_retried(TaskId { job: *job, index: task.index }, task, *at)?;
                }
                self.job(*job)?.retrying = *retrying;
            }
            Change::AttemptStarted { attempt, agent, at, build, resume, beside, cause } => {
                let resumed = resume
                    .as_deref()
                    .map(|snapshot| Resumed { size_bytes: snapshot.blob.size_bytes, spent_us: snapshot.spent_us });
                let cause = cause.as_deref().map(bounds::reason);
                let begun = Attempt { agent: *agent, started: *at, build: *build, resumed, cause, pause: None, over: None };
                self.started(*attempt, *beside, begun)?;
            }
            Change::SnapshotSaved { attempt: AttemptId { task, .. }, agent, snapshot, .. }
            | Change::SnapshotChosen { task, agent, snapshot, .. } => {
                self.task(*task)?.saved = Some(Saved { snapshot: *snapshot, agent: *agent });
            }
            Change::SnapshotDropped { task } => self.task(*task)?.saved = None,
            Change::AttemptPaused { attempt, reason, .. } => self.live(*attempt)?.1.pause = reason.clone(),
            Change::AttemptEnded(ended) => self.ended(ended)?,
            Change::AnswersDropped { task } => self.task(*task)?.answers.clear(),
            Change::AgentQuarantined { agent, kind, reason, at } => {
                self.audit(*at, kind.found_by(), "agent.quarantine", agent.to_string(), reason);
                let quarantine = Quarantine { kind: *kind, since: *at, reason: bounds::reason(reason) };
                self.agent(*agent)?.record.quarantine = Some(quarantine);
            }
            Change::AgentBreached { agent, what, attempts, at } => {
                self.audit(*at, BREACH_FOUND_BY, "agent.breach", agent.to_string(), &breach_words(what, *attempts));
            }
            Change::AgentTrusted { agent, by, at } => {
                self.audit(*at, by, "agent.trust", agent.to_string(), "");
                self.agent(*agent)?.record.quarantine = None;
            }
            Change::TaskEnded { task, state, at } => {
                let found = self.task(*task)?;
                if !matches!(found.place, Place::Waiting { .. }) {
                    return Err(Broken(format!("{task} ended without an agent while it was {}", found.state())));
                }
                found.place = Place::Ended { state: *state, at: *at };
            }
            Change::ResultRefused { agent, .. } => self.agent(*agent)?.results_refused += 1,
            Change::AgentConnected { agent, version, machine, labels, at } => {
                let record = &mut self.agent(*agent)?.record;
                record.last_connected = Some(*at);
                record.version = Some(bounds::name(version));
                record.machine = Some(bounds::machine(machine));
                record.labels = bounds::labels(labels);
            }
            Change::AgentDisconnected { agent, at } => self.agent(*agent)?.record.last_disconnected = Some(*at),
            Change::AgentHours { agent, hours, .. } => self.agent(*agent)?.hours = Some(hours.clone()),
            Change::AgentIntake { agent, intake, before, by, at } => {
                self.audit(*at, by, intake_action(*intake, *before), agent.to_string(), "");
                self.revocations += u64::from(changes_who_is_out(*intake, *before));
                self.agent(*agent)?.record.intake = *intake;
            }
        }
        Ok(())
    }

    /// Appends to the audit.
    pub(super) fn audit(&mut self, at: Timestamp, by: &str, action: &str, subject: String, detail: &str) {
        self.note(audit_row(at, by, action, subject, detail));
    }

    /// Appends to the audit.
    pub(super) fn note(&mut self, line: AuditRecord) {
        self.audit.push_back(Arc::new(line));
    }

    fn job(&mut self, job: JobId) -> Result<&mut Job, Broken> {
        self.jobs.get_mut(&job).map(Arc::make_mut).ok_or_else(|| Broken(format!("there is no {job}")))
    }

    fn task(&mut self, task: TaskId) -> Result<&mut Task, Broken> {
        let found = self.job(task.job)?.tasks.get_mut(&task.index).map(Arc::make_mut);
        found.ok_or_else(|| Broken(format!("{task} was never started")))
    }

    /// An attempt that must be live, and its task's place.
    fn live(&mut self, attempt: AttemptId) -> Result<(&mut Place, &mut Attempt, &mut u32), Broken> {
        let task = self.task(attempt.task)?;
        let found = (1..).zip(&mut task.attempts).find(|(number, found)| *number == attempt.number && found.over.is_none());
        match (&mut task.place, found) {
            (place @ Place::At, Some((_, found))) => Ok((place, found, &mut task.failures)),
            _ => Err(Broken(format!("{attempt} is not live"))),
        }
    }

    fn agent(&mut self, agent: AgentId) -> Result<&mut Agent, Broken> {
        self.agents.get_mut(&agent).map(Arc::make_mut).ok_or_else(|| Broken(format!("there is no agent {agent}")))
    }

    fn submitted(&mut self, new: &NewJob) -> Result<(), Broken> {
        let detail = format!("{}: {} with {}", new.spec.name, new.version_name, counted(new.spec.inputs.count().into(), "task"));
        self.audit(new.at, &who(new.owner, &new.submitter), "job.submit", new.job.to_string(), &detail);
        let new =
            NewJob { submitter: bounds::name(&new.submitter), version_name: bounds::name(&new.version_name), ..new.clone() };
        let id = new.job;
        if let Some(key) = new.spec.idempotency_key.as_deref()
            && self.jobs.values().any(|job| job.has_key(new.owner, key))
        {
            return Err(Broken(format!("{id} has the idempotency key of another job")));
        }
        let job =
            Job { new: Arc::new(new), state: JobState::Active, ended: None, stop: None, retrying: None, tasks: OrdMap::new() };
        match self.jobs.insert(id, Arc::new(job)) {
            None => Ok(()),
            Some(_) => Err(Broken(format!("there is a {id} already"))),
        }
    }

    fn task_retried(&mut self, id: TaskId, ended: &EndedTask, at: Timestamp) -> Result<(), Broken> {
        let task = self.task(id)?;
        let right = matches!(task.place, Place::Ended { state, .. } if state == ended.state && state != TaskState::Succeeded);
        if !right || task.attempts.len() as u32 != ended.attempts {
            return Err(Broken(format!("{id} is retried while it was {}", task.state())));
        }
        (task.place, task.failures) = (Place::Waiting { state: TaskState::Queued, not_before: at }, 0);
        Ok(())
    }

    fn started(&mut self, attempt: AttemptId, beside: bool, begun: Attempt) -> Result<(), Broken> {
        let (agent, at) = (begun.agent, begun.started);
        if !self.agents.contains_key(&agent) {
            return Err(Broken(format!("there is no agent {agent}")));
        }
        let job = self.job(attempt.task.job)?;
        let place = Place::Waiting { state: TaskState::Queued, not_before: at };
        let unstarted = Task { place, failures: 0, attempts: Vec::new(), saved: None, answers: Vec::new() };
        let task = Arc::make_mut(job.tasks.entry(attempt.task.index).or_insert_with(|| Arc::new(unstarted)));
        let right = match task.place {
            Place::At => beside && task.live().all(|(_, live)| live.agent != agent),
            Place::Waiting { .. } => !beside,
            Place::Ended { .. } => false,
        };
        if !right || task.attempts.len() as u32 + 1 != attempt.number {
            return Err(Broken(format!("{attempt} started while its task was {}", task.state())));
        }
        task.place = Place::At;
        task.attempts.push(begun);
        Ok(())
    }

    fn ended(&mut self, ended: &EndedAttempt) -> Result<(), Broken> {
        let (place, attempt, failures) = self.live(ended.attempt)?;
        *place = match ended.after {
            TaskAfter::Again { not_before, failures: now } => {
                *failures = now;
                let state = if not_before > ended.at { TaskState::Waiting } else { TaskState::Queued };
                Place::Waiting { state, not_before }
            }
            TaskAfter::Continues { failures: now, .. } => {
                *failures = now;
                Place::At
            }
            TaskAfter::Succeeded => Place::Ended { state: TaskState::Succeeded, at: ended.at },
            TaskAfter::Failed => Place::Ended { state: TaskState::Failed, at: ended.at },
            TaskAfter::Cancelled => Place::Ended { state: TaskState::Cancelled, at: ended.at },
            TaskAfter::Expired => Place::Ended { state: TaskState::Expired, at: ended.at },
        };
        if matches!(place, Place::Ended { .. }) && ended.end == AttemptEnd::Failed {
            *failures += 1;
        }
        attempt.pause = None;
        attempt.over = Some(Over {
            at: ended.at,
            end: ended.end,
            reason: ended.reason.as_deref().map(bounds::reason),
            failure: ended.failure.as_ref().map(bounds::failure),
            usage: bounds::usage(ended.usage),
            output: ended.output.clone().filter(|_| ended.after == TaskAfter::Succeeded),
            log: ended.log.clone(),
            log_dropped_bytes: ended.log_dropped_bytes.min(i64::MAX as u64),
        });
        let slot_us = ended.slot_us.min(i64::MAX as u64) as i64;
        if let Some(digest) = ended.answer {
            let answer = Answer { number: ended.attempt.number, agent: ended.agent, digest };
            self.task(ended.attempt.task)?.answers.push(answer);
        }
        *self.usage.entry((ended.attempt.task.job, usage::hour(ended.at))).or_default() += slot_us;
        Ok(())
    }
}
