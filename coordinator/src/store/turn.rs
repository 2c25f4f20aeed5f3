//! What one turn's changes come to: the rows that a database must hold afterwards, each once.
//!
//! A turn may touch a task several times: an attempt ends, the next begins and ends too. A database need not see the
//! steps. Folding them here keeps a commit to a handful of statements over sets of rows, whatever the order of the
//! changes was. Each task carries what its row must look like *before* the turn; a backend checks that in the same
//! statement that changes the row, and refuses the whole turn if it does not hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lull_scheduler::{
    effect::{Change, EndedAttempt, NewJob, TaskAfter},
    event::{EndedTask, QuarantineKind, Retrying},
    history::IdleHours,
};
use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId},
    message::{Build, Payload, SnapshotRef},
    resources::{Labels, Machine},
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskState, Usage},
    time::Timestamp,
};

use super::{
    bounds,
    record::{AuditRecord, Totals, who},
    usage,
};

/// The changes contradict each other or what is stored: the scheduler is wrong, and nothing is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the changes contradict what is stored: {0}")]
pub struct Broken(pub String);

/// The rows of one turn.
#[derive(Debug, Default)]
pub struct Turn {
    pub jobs_new: Vec<NewJob>,
    pub jobs: BTreeMap<JobId, JobPatch>,
    pub tasks: BTreeMap<TaskId, TaskPatch>,
    pub attempts: BTreeMap<AttemptId, AttemptPatch>,
    pub results: Vec<ResultRow>,
    pub logs: Vec<LogRow>,
    /// What is kept to be compared.
    pub answers: BTreeMap<AttemptId, Digest>,
    /// Tasks of which what was kept before the turn goes, before anything new is kept.
    pub answers_dropped: BTreeSet<TaskId>,
    /// What becomes of tasks' snapshots.
    pub snapshots: BTreeMap<TaskId, Option<SnapshotRow>>,
    pub agents: BTreeMap<AgentId, AgentPatch>,
    /// When agents' machines were there for work.
    pub hours: BTreeMap<AgentId, HoursRow>,
    /// How often it changed who is thrown out.
    pub revocations: u32,
    pub audit: Vec<AuditRecord>,
}

/// What becomes of one column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Patch<T> {
    /// The new value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Whether the column changes.
    pub fn is_change(&self) -> bool {
        !matches!(self, Self::Keep)
    }
}

/// What changes on a job's row.
#[derive(Debug, Default)]
pub struct JobPatch {
    /// When it must have ended from now on, if that changes.
    pub finish_by: Option<Timestamp>,
    /// How many tasks get their row, and the mark that must be reached by that.
    pub started: u32,
    pub expanded: u32,
    pub stop: Patch<Stop>,
    pub end: Patch<(JobState, Timestamp)>,
    /// How far a retry has come.
    pub retry: Patch<Retrying>,
    /// What is added to the counters, or taken from them for tasks that are queued again.
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub expired: i64,
}

/// Somebody or a rule stopped a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    pub state: JobState,
    pub by: String,
    pub at: Timestamp,
}

/// What becomes of a task's row.
#[derive(Debug, PartialEq, Eq)]
pub struct TaskPatch {
    pub before: Before,
    /// None: as before.
    pub attempts: Option<u32>,
    /// None: as before.
    pub failures: Option<u32>,
    pub failures_added: u32,
    pub place: Place,
}

/// What a task's row must be before the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There is none.
    Absent,
    /// It waits, after this many attempts if that is known.
    Waiting { attempts: Option<u32> },
    /// It is with an agent, after this many attempts if that is known, and after so many at least.
    At { attempts: Option<u32>, at_least: u32 },
    /// It ended like this, after this many attempts.
    Ended { state: TaskState, attempts: u32 },
}

/// Where a task is after the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// With an agent; None: with the same as before.
    At {
        agent: Option<AgentId>,
        paused: bool,
    },
    Waiting {
        state: TaskState,
        not_before: Timestamp,
    },
    Ended {
        state: TaskState,
        at: Timestamp,
    },
}

impl Place {
    /// The state's word.
    pub fn state(&self) -> TaskState {
        match self {
            Self::At { paused: true, .. } => TaskState::Paused,
            Self::At { paused: false, .. } => TaskState::Running,
            Self::Waiting { state, .. } | Self::Ended { state, .. } => *state,
        }
    }
}

/// What becomes of an attempt's row.
#[derive(Debug, Default)]
pub struct AttemptPatch {
    /// It begins in this turn.
    pub begun: Option<Begun>,
    pub pause: Patch<PauseReason>,
    pub over: Option<Over>,
}

/// How an attempt begins.
#[derive(Debug, Clone)]
pub struct Begun {
    pub agent: AgentId,
    pub at: Timestamp,
    pub build: Build,
    pub resume: Option<Box<SnapshotRef>>,
    /// Why the task runs once more although nothing went wrong, in words.
    pub cause: Option<String>,
}

/// The newest snapshot of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRow {
    pub snapshot: SnapshotRef,
    pub agent: AgentId,
    pub at: Timestamp,
}

/// How an attempt was.
#[derive(Debug)]
pub struct Over {
    pub agent: AgentId,
    pub at: Timestamp,
    pub end: AttemptEnd,
    pub reason: Option<String>,
    pub failure: Option<Failure>,
    pub usage: Usage,
    /// For how long it had a slot, in microseconds.
    pub slot_us: u64,
}

/// One output.
#[derive(Debug)]
pub struct ResultRow {
    pub attempt: AttemptId,
    pub output: Payload,
}

/// One log that is not empty.
#[derive(Debug)]
pub struct LogRow {
    pub attempt: AttemptId,
    pub log: Bytes,
    pub dropped_bytes: u64,
}

/// What changes on an agent's row.
#[derive(Debug, Default)]
pub struct AgentPatch {
    pub connected: Option<Box<Connected>>,
    pub disconnected: Option<Timestamp>,
    pub intake: Option<Intake>,
    pub results_refused: u32,
    pub quarantine: Patch<QuarantineRow>,
}

/// That nothing of an agent is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    pub kind: QuarantineKind,
    pub at: Timestamp,
    pub reason: String,
}

/// What the audit says of the moment by which a retried job must have ended.
pub fn finish_by_words(finish_by: Option<Timestamp>) -> String {
    finish_by.map(|at| format!("to finish by {at}")).unwrap_or_default()
}

/// When an agent's machine was there for work.
#[derive(Debug)]
pub struct HoursRow {
    pub hours: Box<IdleHours>,
    pub at: Timestamp,
}

/// What an agent said of itself.
#[derive(Debug)]
pub struct Connected {
    pub at: Timestamp,
    pub version: String,
    pub machine: Machine,
    pub labels: Labels,
}

/// What the attempts came to that ended with one agent in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    pub attempts: u32,
    pub succeeded: u32,
    pub failed: u32,
    /// Evicted, recalled or lost.
    pub moved: u32,
    pub slot_us: u64,
    pub cpu_us: u64,
}

impl Turn {
    fn over(&self) -> impl Iterator<Item = (AttemptId, &Over)> {
        self.attempts.iter().filter_map(|(attempt, patch)| Some((*attempt, patch.over.as_ref()?)))
    }

    /// The slot time of attempts that are over, in microseconds, by hour and job.
    pub fn usage(&self) -> BTreeMap<(i64, JobId), i64> {
        let mut sums: BTreeMap<(i64, JobId), i64> = BTreeMap::new();
        for (attempt, over) in self.over() {
            let sum = sums.entry((usage::hour(over.at), attempt.task.job)).or_default();
            *sum = sum.saturating_add(bounds::number(over.slot_us));
        }
        sums
    }

    /// What attempts that are over came to, by hour and agent.
    pub fn work(&self) -> BTreeMap<(i64, AgentId), Work> {
        let mut sums: BTreeMap<(i64, AgentId), Work> = BTreeMap::new();
        for (_, over) in self.over() {
            let sum = sums.entry((usage::hour(over.at), over.agent)).or_default();
            sum.attempts += 1;
            match over.end {
                AttemptEnd::Succeeded => sum.succeeded += 1,
                AttemptEnd::Failed => sum.failed += 1,
                AttemptEnd::Evicted | AttemptEnd::Recalled | AttemptEnd::Lost => sum.moved += 1,
                AttemptEnd::Cancelled => {}
            }
            sum.slot_us = sum.slot_us.saturating_add(over.slot_us);
            sum.cpu_us = sum.cpu_us.saturating_add(over.usage.cpu_us);
        }
        sums
    }

    /// What the turn adds to the counts over all time.
    pub fn totals(&self) -> Totals {
        let begun = self.attempts.values().filter(|patch| patch.begun.is_some()).count();
        let lost = self.over().filter(|(_, over)| over.end == AttemptEnd::Lost).count();
        Totals {
            jobs: self.jobs_new.len() as u64,
            tasks_succeeded: self.jobs.values().map(|job| job.succeeded.max(0) as u64).sum(),
            attempts: begun as u64,
            attempts_lost: lost as u64,
            results_refused: self.agents.values().map(|agent| u64::from(agent.results_refused)).sum(),
        }
    }

    /// Folds a turn's changes, in order.
    pub fn fold(changes: &[Change]) -> Result<Self, Broken> {
        let mut turn = Self::default();
        for change in changes {
            turn.apply(change)?;
        }
        Ok(turn)
    }

    fn apply(&mut self, change: &Change) -> Result<(), Broken> {
        match change {
            Change::JobSubmitted(new) => self.submitted(new),
            Change::JobStopped { job, state, by, at } => {
                self.audit(*at, by, stop_action(*state), job.to_string(), "");
                let patch = self.jobs.entry(*job).or_default();
                (patch.stop, patch.retry) = (Patch::Set(Stop { state: *state, by: bounds::name(by), at: *at }), Patch::Clear);
            }
            Change::JobEnded { job, state, at } => self.jobs.entry(*job).or_default().end = Patch::Set((*state, *at)),
            Change::JobRetried { job, by, finish_by, retrying, at } => {
                self.audit(*at, by, "job.retry", job.to_string(), &finish_by_words(*finish_by));
                let patch = self.jobs.entry(*job).or_default();
                patch.finish_by = finish_by.or(patch.finish_by);
                (patch.stop, patch.end) = (Patch::Clear, Patch::Clear);
                patch.retry = retrying.map_or(Patch::Clear, Patch::Set);
            }
            Change::TasksRetried { job, tasks, retrying, at } => {
                for task in tasks {
                    self.task_retried(TaskId { job: *job, index: task.index }, task, *at)?;
                }
                self.jobs.entry(*job).or_default().retry = retrying.map_or(Patch::Clear, Patch::Set);
            }
            Change::AttemptStarted { attempt, agent, at, build, resume, beside, cause } => {
                let cause = cause.as_deref().map(bounds::reason);
                let begun = Begun { agent: *agent, at: *at, build: *build, resume: resume.clone(), cause };
                if *beside { self.started_beside(*attempt, begun)? } else { self.started(*attempt, begun)? }
            }
            Change::SnapshotSaved { attempt: AttemptId { task, .. }, agent, snapshot, at }
            | Change::SnapshotChosen { task, agent, snapshot, at } => {
                let row = SnapshotRow { snapshot: *snapshot, agent: *agent, at: *at };
                self.snapshots.insert(*task, Some(row));
            }
            Change::SnapshotDropped { task } => {
                self.snapshots.insert(*task, None);
            }
            Change::AnswersDropped { task } => {
                self.answers.retain(|attempt, _| attempt.task != *task);
                self.answers_dropped.insert(*task);
            }
            Change::AgentQuarantined { agent, kind, reason, at } => {
                self.audit(*at, kind.found_by(), "agent.quarantine", agent.to_string(), reason);
                let row = QuarantineRow { kind: *kind, at: *at, reason: bounds::reason(reason) };
                self.agents.entry(*agent).or_default().quarantine = Patch::Set(row);
            }
            Change::AgentTrusted { agent, by, at } => {
                self.audit(*at, by, "agent.trust", agent.to_string(), "");
                self.agents.entry(*agent).or_default().quarantine = Patch::Clear;
            }
            Change::AgentBreached { agent, what, attempts, at } => {
                self.audit(*at, BREACH_FOUND_BY, "agent.breach", agent.to_string(), &breach_words(what, *attempts));
            }
            Change::AttemptPaused { attempt, reason, task_paused, .. } => self.paused(*attempt, reason.as_ref(), *task_paused)?,
            Change::AttemptEnded(ended) => self.ended(ended)?,
            Change::TaskEnded { task, state, at } => self.task_ended(*task, *state, *at)?,
            Change::ResultRefused { agent, .. } => self.agents.entry(*agent).or_default().results_refused += 1,
            Change::AgentConnected { agent, version, machine, labels, at } => {
                self.agents.entry(*agent).or_default().connected = Some(Box::new(Connected {
                    at: *at,
                    version: bounds::name(version),
                    machine: bounds::machine(machine),
                    labels: bounds::labels(labels),
                }));
            }
            Change::AgentDisconnected { agent, at } => self.agents.entry(*agent).or_default().disconnected = Some(*at),
            Change::AgentHours { agent, hours, at } => {
                self.hours.insert(*agent, HoursRow { hours: hours.clone(), at: *at });
            }
            Change::AgentIntake { agent, intake, before, by, at } => {
                self.audit(*at, by, intake_action(*intake, *before), agent.to_string(), "");
                self.revocations += u32::from(changes_who_is_out(*intake, *before));
                self.agents.entry(*agent).or_default().intake = Some(*intake);
            }
        }
        Ok(())
    }

    fn audit(&mut self, at: Timestamp, by: &str, action: &str, subject: String, detail: &str) {
        self.audit.push(audit_row(at, by, action, subject, detail));
    }

    fn submitted(&mut self, new: &NewJob) {
        let count = new.spec.inputs.count();
        let detail = format!("{}: {} with {count} tasks", new.spec.name, new.version_name);
        self.audit(new.at, &who(new.owner, &new.submitter), "job.submit", new.job.to_string(), &detail);
        self.jobs_new.push(new.clone());
    }

    fn task_retried(&mut self, id: TaskId, ended: &EndedTask, at: Timestamp) -> Result<(), Broken> {
        let EndedTask { state, attempts, .. } = *ended;
        if !state.is_ended() || state == TaskState::Succeeded {
            return Err(Broken(format!("{id} is retried after it was {state}")));
        }
        let waits = Place::Waiting { state: TaskState::Queued, not_before: at };
        let task = self.tasks.entry(id).or_insert(TaskPatch {
            before: Before::Ended { state, attempts },
            attempts: Some(attempts),
            failures: None,
            failures_added: 0,
            place: Place::Ended { state, at },
        });
        let known = task.attempts.is_none_or(|known| known == attempts);
        if !known || !matches!(task.place, Place::Ended { state: now, .. } if now == state) {
            return Err(Broken(format!("{id} is retried while it was {}", task.place.state())));
        }
        task.place = waits;
        (task.failures, task.failures_added) = (Some(0), 0);
        self.count(id.job, state, -1);
        Ok(())
    }

    fn started(&mut self, attempt: AttemptId, begun: Begun) -> Result<(), Broken> {
        let place = Place::At { agent: Some(begun.agent), paused: false };
        match self.tasks.get_mut(&attempt.task) {
            Some(task) => {
                let next = task.attempts.is_none_or(|attempts| attempts + 1 == attempt.number);
                if !next || !matches!(task.place, Place::Waiting { .. }) {
                    return Err(Broken(format!("{attempt} started while its task was {}", task.place.state())));
                }
                (task.attempts, task.place) = (Some(attempt.number), place);
            }
            None => {
                let before = match attempt.number {
                    0 => return Err(Broken(format!("{attempt} has the number 0"))),
                    1 => Before::Absent,
                    number => Before::Waiting { attempts: Some(number - 1) },
                };
                let failures = (before == Before::Absent).then_some(0);
                let task = TaskPatch { before, attempts: Some(attempt.number), failures, failures_added: 0, place };
                self.tasks.insert(attempt.task, task);
                if before == Before::Absent {
                    let job = self.jobs.entry(attempt.task.job).or_default();
                    job.started += 1;
                    job.expanded = job.expanded.max(attempt.task.index + 1);
                }
            }
        }
        self.attempts.insert(attempt, AttemptPatch { begun: Some(begun), ..AttemptPatch::default() });
        Ok(())
    }

    /// An attempt begins while another of its task goes on.
    fn started_beside(&mut self, attempt: AttemptId, begun: Begun) -> Result<(), Broken> {
        let before = Before::At { attempts: attempt.number.checked_sub(1), at_least: 1 };
        let place = Place::At { agent: Some(begun.agent), paused: false };
        let task = self.tasks.entry(attempt.task).or_insert(TaskPatch {
            before,
            attempts: attempt.number.checked_sub(1),
            failures: None,
            failures_added: 0,
            place: Place::At { agent: None, paused: false },
        });
        let next = task.attempts.is_none_or(|attempts| attempts + 1 == attempt.number);
        if !next || !matches!(task.place, Place::At { .. }) {
            return Err(Broken(format!("{attempt} started beside another while its task was {}", task.place.state())));
        }
        (task.attempts, task.place) = (Some(attempt.number), place);
        self.attempts.insert(attempt, AttemptPatch { begun: Some(begun), ..AttemptPatch::default() });
        Ok(())
    }

    /// The task of an attempt that must be with an agent now.
    fn live(&mut self, attempt: AttemptId, doing: &str) -> Result<&mut TaskPatch, Broken> {
        let over = self.attempts.get(&attempt).is_some_and(|patch| patch.over.is_some());
        let task = self.tasks.entry(attempt.task).or_insert(TaskPatch {
            before: Before::At { attempts: None, at_least: attempt.number },
            attempts: None,
            failures: None,
            failures_added: 0,
            place: Place::At { agent: None, paused: false },
        });
        let beyond = task.attempts.is_some_and(|attempts| attempts < attempt.number);
        if over || beyond || !matches!(task.place, Place::At { .. }) {
            return Err(Broken(format!("{attempt} {doing} while its task was {}", task.place.state())));
        }
        Ok(task)
    }

    fn paused(&mut self, attempt: AttemptId, reason: Option<&PauseReason>, task_paused: bool) -> Result<(), Broken> {
        let task = self.live(attempt, "paused or went on")?;
        if let Place::At { paused, .. } = &mut task.place {
            *paused = task_paused;
        }
        self.attempts.entry(attempt).or_default().pause = reason.map_or(Patch::Clear, |reason| Patch::Set(reason.clone()));
        Ok(())
    }

    fn ended(&mut self, ended: &EndedAttempt) -> Result<(), Broken> {
        let attempt = ended.attempt;
        let task = self.live(attempt, "ended")?;
        let state = match ended.after {
            TaskAfter::Again { not_before, failures } => {
                let state = if not_before > ended.at { TaskState::Waiting } else { TaskState::Queued };
                task.place = Place::Waiting { state, not_before };
                (task.failures, task.failures_added) = (Some(failures), 0);
                None
            }
            TaskAfter::Continues { agent, paused, failures } => {
                task.place = Place::At { agent: Some(agent), paused };
                (task.failures, task.failures_added) = (Some(failures), 0);
                None
            }
            TaskAfter::Succeeded => Some(TaskState::Succeeded),
            TaskAfter::Failed => Some(TaskState::Failed),
            TaskAfter::Cancelled => Some(TaskState::Cancelled),
            TaskAfter::Expired => Some(TaskState::Expired),
        };
        if let Some(state) = state {
            task.place = Place::Ended { state, at: ended.at };
            task.failures_added += u32::from(ended.end == AttemptEnd::Failed);
            self.count(attempt.task.job, state, 1);
        }
        let patch = self.attempts.entry(attempt).or_default();
        patch.pause = Patch::Clear;
        patch.over = Some(Over {
            agent: ended.agent,
            at: ended.at,
            end: ended.end,
            reason: ended.reason.as_deref().map(bounds::reason),
            failure: ended.failure.as_ref().map(bounds::failure),
            usage: bounds::usage(ended.usage),
            slot_us: ended.slot_us.min(i64::MAX as u64),
        });
        if let Some(digest) = ended.answer {
            self.answers.insert(attempt, digest);
        }
        if let (Some(output), TaskAfter::Succeeded) = (&ended.output, ended.after) {
            self.results.push(ResultRow { attempt, output: output.clone() });
        }
        if !ended.log.is_empty() || ended.log_dropped_bytes > 0 {
            let dropped_bytes = ended.log_dropped_bytes.min(i64::MAX as u64);
            self.logs.push(LogRow { attempt, log: ended.log.clone(), dropped_bytes });
        }
        Ok(())
    }

    fn task_ended(&mut self, id: TaskId, state: TaskState, at: Timestamp) -> Result<(), Broken> {
        if !state.is_ended() || state == TaskState::Succeeded {
            return Err(Broken(format!("{id} ended as {state} without an agent")));
        }
        let place = Place::Ended { state, at };
        match self.tasks.get_mut(&id) {
            Some(task) if matches!(task.place, Place::Waiting { .. }) => task.place = place,
            Some(task) => return Err(Broken(format!("{id} ended without an agent while it was {}", task.place.state()))),
            None => {
                let before = Before::Waiting { attempts: None };
                self.tasks.insert(id, TaskPatch { before, attempts: None, failures: None, failures_added: 0, place });
            }
        }
        self.count(id.job, state, 1);
        Ok(())
    }

    fn count(&mut self, job: JobId, state: TaskState, added: i64) {
        let patch = self.jobs.entry(job).or_default();
        match state {
            TaskState::Succeeded => patch.succeeded += added,
            TaskState::Failed => patch.failed += added,
            TaskState::Cancelled => patch.cancelled += added,
            TaskState::Expired => patch.expired += added,
            TaskState::Queued
            | TaskState::Waiting
            | TaskState::Running
            | TaskState::Paused
            | TaskState::Moving
            | TaskState::Verifying => unreachable!("only ended tasks are counted"),
        }
    }
}

/// An audit row within its bounds.
pub fn audit_row(at: Timestamp, by: &str, action: &str, subject: String, detail: &str) -> AuditRecord {
    AuditRecord {
        at,
        by: bounds::name(by),
        action: action.to_owned(),
        subject: bounds::name(&subject),
        detail: bounds::reason(detail),
    }
}

/// Whom the audit names for what breaches cost an agent: no person decides about it.
pub const BREACH_FOUND_BY: &str = "the protocol";

/// What the audit says of a breach.
pub fn breach_words(what: &str, attempts: u32) -> String {
    let taken = if attempts == 1 { "1 attempt was".to_owned() } else { format!("{attempts} attempts were") };
    format!("{taken} taken from it: {what}")
}

/// What the audit calls a stop.
pub fn stop_action(state: JobState) -> &'static str {
    match state {
        JobState::Expired => "job.expire",
        JobState::Active | JobState::Succeeded | JobState::Failed | JobState::Cancelled => "job.cancel",
    }
}

/// Whether a change of intake throws somebody out or lets somebody in again.
pub fn changes_who_is_out(intake: Intake, before: Intake) -> bool {
    (intake == Intake::Revoked) != (before == Intake::Revoked)
}

/// What the audit calls a change of intake.
pub fn intake_action(intake: Intake, before: Intake) -> &'static str {
    match intake {
        Intake::Open if before == Intake::Revoked => "agent.restore",
        Intake::Open => "agent.open",
        Intake::Cordoned => "agent.cordon",
        Intake::Draining => "agent.drain",
        Intake::Revoked => "agent.revoke",
    }
}
