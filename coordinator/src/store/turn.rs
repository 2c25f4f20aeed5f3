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
    amount::counted,
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
pub(super) struct Turn {
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
pub(super) enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Patch<T> {
    /// The new value, if there is one.
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Whether the column changes.
    pub(super) fn is_change(&self) -> bool {
        !matches!(self, Self::Keep)
    }
}

/// What changes on a job's row.
#[derive(Debug, Default)]
pub(super) struct JobPatch {
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
pub(super) struct Stop {
    pub state: JobState,
    pub by: String,
    pub at: Timestamp,
}

/// What becomes of a task's row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TaskPatch {
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
pub(super) enum Before {
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
pub(super) enum Place {
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
    pub(super) fn state(&self) -> TaskState {
        match self {
            Self::At { paused: true, .. } => TaskState::Paused,
            Self::At { paused: false, .. } => TaskState::Running,
            Self::Waiting { state, .. } | Self::Ended { state, .. } => *state,
        }
    }
}

/// What becomes of an attempt's row.
#[derive(Debug, Default)]
pub(super) struct AttemptPatch {
    /// It begins in this turn.
    pub begun: Option<Begun>,
    pub pause: Patch<PauseReason>,
    pub over: Option<Over>,
}

/// How an attempt begins.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub agent: AgentId,
    pub at: Timestamp,
    pub build: Build,
    pub resume: Option<Box<SnapshotRef>>,
    /// Why the task runs once more although nothing went wrong, in words.
    pub cause: Option<String>,
}

/// The newest snapshot of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotRow {
    pub snapshot: SnapshotRef,
    pub agent: AgentId,
    pub at: Timestamp,
}

/// How an attempt was.
#[derive(Debug)]
pub(super) struct Over {
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
pub(super) struct ResultRow {
    pub attempt: AttemptId,
    pub output: Payload,
}

/// One log that is not empty.
#[derive(Debug)]
pub(super) struct LogRow {
    pub attempt: AttemptId,
    pub log: Bytes,
    pub dropped_bytes: u64,
}

/// What changes on an agent's row.
#[derive(Debug, Default)]
pub(super) struct AgentPatch {
    pub connected: Option<Box<Connected>>,
    pub disconnected: Option<Timestamp>,
    pub intake: Option<Intake>,
    pub results_refused: u32,
    pub quarantine: Patch<QuarantineRow>,
}

/// That nothing of an agent is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuarantineRow {
    pub kind: QuarantineKind,
    pub at: Timestamp,
    pub reason: String,
}

/// What the audit says of the moment by which a retried job must have ended.
pub(super) fn finish_by_words(finish_by: Option<Timestamp>) -> String {
    finish_by.map(|at| format!("to finish by {at}")).unwrap_or_default()
}

/// When an agent's machine was there for work.
#[derive(Debug)]
pub(super) struct HoursRow {
    pub hours: Box<IdleHours>,
    pub at: Timestamp,
}

/// What an agent said of itself.
#[derive(Debug)]
pub(super) struct Connected {
    pub at: Timestamp,
    pub version: String,
    pub machine: Machine,
    pub labels: Labels,
}

/// What the attempts came to that ended with one agent in one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
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
    pub(super) fn usage(&self) -> BTreeMap<(i64, JobId), i64> {
        let mut sums: BTreeMap<(i64, JobId), i64> = BTreeMap::new();
        for (attempt, over) in self.over() {
            let sum = sums.entry((usage::hour(over.at), attempt.task.job)).or_default();
            *sum = sum.saturating_add(bounds::number(over.slot_us));
        }
        sums
    }

    /// What attempts that are over came to, by hour and agent.
    pub(super) fn work(&self) -> BTreeMap<(i64, AgentId), Work> {
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
    pub(super) fn totals(&self) -> Totals {
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
    pub(super) fn fold(changes: &[Change]) -> Result<Self, Broken> {
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
        let detail = format!("{}: {} with {}", new.spec.name, new.version_name, counted(count.into(), "task"));
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
pub(super) fn audit_row(at: Timestamp, by: &str, action: &str, subject: String, detail: &str) -> AuditRecord {
    AuditRecord {
        at,
        by: bounds::name(by),
        action: action.to_owned(),
        subject: bounds::name(&subject),
        detail: bounds::reason(detail),
    }
}

/// Whom the audit names for what breaches cost an agent: no person decides about it.
pub(super) const BREACH_FOUND_BY: &str = "the protocol";

/// What the audit says of a breach.
pub(super) fn breach_words(what: &str, attempts: u32) -> String {
    let taken = if attempts == 1 { "1 attempt was".to_owned() } else { format!("{attempts} attempts were") };
    format!("{taken} taken from it: {what}")
}

/// What the audit calls a stop.
pub(super) fn stop_action(state: JobState) -> &'static str {
    match state {
        JobState::Expired => "job.expire",
        JobState::Active | JobState::Succeeded | JobState::Failed | JobState::Cancelled => "job.cancel",
    }
}

/// Whether a change of intake throws somebody out or lets somebody in again.
pub(crate) fn changes_who_is_out(intake: Intake, before: Intake) -> bool {
    (intake == Intake::Revoked) != (before == Intake::Revoked)
}

/// What the audit calls a change of intake.
pub(super) fn intake_action(intake: Intake, before: Intake) -> &'static str {
    match intake {
        Intake::Open if before == Intake::Revoked => "agent.restore",
        Intake::Open => "agent.open",
        Intake::Cordoned => "agent.cordon",
        Intake::Draining => "agent.drain",
        Intake::Revoked => "agent.revoke",
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::state::AttemptEnd::{Evicted, Failed, Lost};

    use super::{
        super::conformance::sample::{
            again, answered, at, attempt, bad_task, ended, paused, started, started_beside, stopped, submitted, succeeded, task,
            task_ended, tasks_retried, with_slot,
        },
        *,
    };

    fn folded(changes: &[Change]) -> Turn {
        Turn::fold(changes).expect("the changes follow from each other")
    }

    fn waits(seconds: u64) -> TaskAfter {
        TaskAfter::Again { not_before: at(seconds), failures: 0 }
    }

    /// Steps that may stand in one turn, each with one more that contradicts them.
    fn contradictions() -> Vec<(&'static str, Vec<Change>, Change)> {
        let [first, second, third] = [1, 2, 3].map(|number| attempt(1, 0, number));
        let failed = |attempt| ended(attempt, 1, 11, Failed, TaskAfter::Failed);
        let retried = |attempts, state| tasks_retried(1, &[bad_task(0, attempts, state)], None, 12);
        vec![
            ("it is with an agent", vec![started(first, 1, 10)], started(second, 1, 11)),
            ("its number is not the next", vec![started(first, 1, 10), again(first, 1, 11, 1)], started(third, 1, 12)),
            ("attempts count from one", vec![], started(attempt(1, 0, 0), 1, 10)),
            ("it waits", vec![started(first, 1, 10), again(first, 1, 11, 1)], started_beside(second, 2, 12)),
            ("that number is taken", vec![started(first, 1, 10), started_beside(second, 2, 11)], started_beside(second, 3, 12)),
            ("it has ended", vec![started(first, 1, 10), succeeded(first, 1, 11, b"x")], succeeded(first, 1, 12, b"x")),
            (
                "it was over",
                vec![started(first, 1, 10), again(first, 1, 11, 1), started(second, 1, 12)],
                succeeded(first, 1, 13, b"x"),
            ),
            ("it has not begun", vec![started(first, 1, 10)], succeeded(second, 1, 11, b"x")),
            ("it is over and does not pause", vec![started(first, 1, 10), again(first, 1, 11, 1)], paused(first, None, 12)),
            ("an agent has it", vec![started(first, 1, 10)], task_ended(task(1, 0), TaskState::Cancelled, 11)),
            ("nothing succeeds without an agent", vec![], task_ended(task(1, 0), TaskState::Succeeded, 11)),
            ("nothing ends by running", vec![], task_ended(task(1, 0), TaskState::Running, 11)),
            ("it is retried after one attempt more", vec![started(first, 1, 10), failed(first)], retried(2, TaskState::Failed)),
            ("it ended otherwise", vec![started(first, 1, 10), failed(first)], retried(1, TaskState::Expired)),
            ("it is with an agent and not retried", vec![started(first, 1, 10)], retried(1, TaskState::Failed)),
            ("it waits already", vec![retried(1, TaskState::Failed)], retried(1, TaskState::Failed)),
            ("it succeeded", vec![], retried(1, TaskState::Succeeded)),
            ("it has not ended", vec![], retried(1, TaskState::Queued)),
        ]
    }

    #[test]
    fn a_step_that_contradicts_those_before_it_in_the_same_turn_is_refused() {
        for (why, mut steps, last) in contradictions() {
            assert!(Turn::fold(&steps).is_ok(), "{why}: {steps:?}");
            steps.push(last);
            assert!(Turn::fold(&steps).is_err(), "{why}: {steps:?}");
        }
    }

    #[test]
    fn what_follows_from_the_steps_before_it_is_folded_into_one_row() {
        let [first, second] = [1, 2].map(|number| attempt(1, 0, number));
        let before = |changes: &[Change]| {
            let turn = folded(changes);
            let patch = &turn.tasks[&task(1, 0)];
            (patch.before, patch.attempts, patch.failures, patch.failures_added, patch.place.state())
        };
        let known = |attempts| Before::Waiting { attempts: Some(attempts) };
        assert_eq!(before(&[started(first, 1, 10)]), (Before::Absent, Some(1), Some(0), 0, TaskState::Running));
        assert_eq!(before(&[started(second, 1, 10)]), (known(1), Some(2), None, 0, TaskState::Running));
        let at_least = Before::At { attempts: None, at_least: 2 };
        assert_eq!(before(&[again(second, 1, 10, 4)]), (at_least, None, Some(4), 0, TaskState::Queued));
        let later = TaskAfter::Again { not_before: at(11), failures: 4 };
        assert_eq!(before(&[ended(second, 1, 10, Failed, later)]).4, TaskState::Waiting);
        assert_eq!(before(&[ended(second, 1, 10, Failed, TaskAfter::Failed)]), (at_least, None, None, 1, TaskState::Failed));
        assert_eq!(before(&[ended(second, 1, 10, Lost, TaskAfter::Failed)]).3, 0, "a loss is no failure");
        let both = [ended(second, 1, 10, Evicted, waits(10)), started(attempt(1, 0, 3), 1, 11)];
        assert_eq!(before(&both), (at_least, Some(3), Some(0), 0, TaskState::Running));
        let beside = [started_beside(second, 2, 10)];
        let one = Before::At { attempts: Some(1), at_least: 1 };
        assert_eq!(before(&beside), (one, Some(2), None, 0, TaskState::Running));
        let job = |changes: &[Change]| {
            let turn = folded(changes);
            (turn.jobs[&JobId(1)].started, turn.jobs[&JobId(1)].expanded)
        };
        assert_eq!(job(&[started(attempt(1, 7, 1), 1, 10), started(attempt(1, 6, 1), 1, 10)]), (2, 8));
        assert!(folded(&[started(second, 1, 10)]).jobs.is_empty(), "its row is there");
        let retried =
            folded(&[tasks_retried(1, &[bad_task(0, 2, TaskState::Expired), bad_task(1, 1, TaskState::Failed)], None, 12)]);
        let counts = &retried.jobs[&JobId(1)];
        assert_eq!((counts.succeeded, counts.failed, counts.cancelled, counts.expired), (0, -1, 0, -1));
    }

    #[test]
    fn a_pause_ends_with_its_attempt_and_with_going_on() {
        let first = attempt(1, 0, 1);
        let pause = |changes: &[Change]| {
            let turn = folded(changes);
            (turn.attempts[&first].pause.clone(), turn.tasks[&first.task].place.state())
        };
        let touched = || paused(first, Some(PauseReason::Touched), 10);
        assert_eq!(pause(&[touched()]), (Patch::Set(PauseReason::Touched), TaskState::Paused));
        assert_eq!(pause(&[touched(), paused(first, None, 11)]), (Patch::Clear, TaskState::Running));
        assert_eq!(pause(&[touched(), again(first, 1, 11, 1)]), (Patch::Clear, TaskState::Queued));
        assert_eq!((Patch::Set(7).value(), Patch::<u8>::Clear.value(), Patch::<u8>::Keep.value()), (Some(&7), None, None));
        assert_eq!([Patch::Set(7), Patch::Clear, Patch::Keep].map(|patch| patch.is_change()), [true, true, false]);
    }

    #[test]
    fn an_output_counts_with_its_task_alone_and_a_log_is_kept_if_anything_was_written() {
        let first = attempt(1, 0, 1);
        let kept = |change: Change| {
            let turn = folded(&[change]);
            (turn.results.len(), turn.logs.len(), turn.answers.len())
        };
        let with_log = |mut change: Change, log: &'static [u8], dropped: u64| {
            let Change::AttemptEnded(end) = &mut change else { panic!("it ends") };
            (end.log, end.log_dropped_bytes) = (Bytes::from_static(log), dropped);
            change
        };
        let silent = |change| with_log(change, b"", 0);
        assert_eq!(kept(silent(succeeded(first, 1, 10, b"x"))), (1, 0, 0));
        assert_eq!(kept(silent(answered(first, 1, 10, b"x", waits(10)))), (0, 0, 1));
        let mut failed = succeeded(first, 1, 10, b"x");
        if let Change::AttemptEnded(end) = &mut failed {
            end.after = TaskAfter::Failed;
        }
        assert_eq!(kept(silent(failed)), (0, 0, 0));
        assert_eq!(kept(with_log(again(first, 1, 10, 1), b"x", 0)), (0, 1, 0));
        assert_eq!(kept(with_log(again(first, 1, 10, 1), b"", 1)), (0, 1, 0), "that something was written is worth a row");
        let dropped = folded(&[answered(first, 1, 10, b"x", waits(10)), Change::AnswersDropped { task: first.task }]);
        assert!(dropped.answers.is_empty() && dropped.answers_dropped.contains(&first.task));
        let other = folded(&[answered(first, 1, 10, b"x", waits(10)), Change::AnswersDropped { task: task(1, 9) }]);
        assert_eq!(other.answers.len(), 1);
    }

    #[test]
    fn what_a_turn_adds_to_all_sums_is_counted_by_hour_agent_and_job() {
        let hour = 3_600;
        let steps = [
            submitted(1, 9),
            started(attempt(1, 0, 1), 1, 10),
            started(attempt(1, 1, 1), 2, 10),
            with_slot(succeeded(attempt(1, 0, 1), 1, 10, b"x"), 5),
            with_slot(ended(attempt(1, 1, 1), 2, 10, Lost, waits(10)), 7),
            with_slot(ended(attempt(1, 2, 1), 1, 10, Failed, TaskAfter::Failed), 1),
            with_slot(ended(attempt(2, 0, 1), 1, 10 + hour, AttemptEnd::Cancelled, TaskAfter::Cancelled), 2),
            with_slot(ended(attempt(2, 1, 1), 1, 10 + hour, AttemptEnd::Recalled, waits(10)), 4),
            Change::ResultRefused { attempt: attempt(7, 0, 1), agent: AgentId(1), at: at(10) },
            Change::ResultRefused { attempt: attempt(7, 0, 1), agent: AgentId(2), at: at(10) },
            tasks_retried(1, &[bad_task(5, 1, TaskState::Failed)], None, 12),
        ];
        let turn = folded(&steps);
        let [now, next] = [10, 10 + hour].map(|second| usage::hour(at(second)));
        let second_us = 1_000_000;
        assert_eq!(turn.usage(), [((now, JobId(1)), 13 * second_us), ((next, JobId(2)), 6 * second_us)].into());
        let work = |attempts, succeeded, failed, moved, slot_s: u64, cpu_us| Work {
            attempts,
            succeeded,
            failed,
            moved,
            slot_us: slot_s * 1_000_000,
            cpu_us,
        };
        let expected = [
            ((now, AgentId(1)), work(2, 1, 1, 0, 6, 1_000_000)),
            ((now, AgentId(2)), work(1, 0, 0, 1, 7, 0)),
            ((next, AgentId(1)), work(2, 0, 0, 1, 6, 0)),
        ];
        assert_eq!(turn.work(), expected.into());
        let totals = Totals { jobs: 1, tasks_succeeded: 1, attempts: 2, attempts_lost: 1, results_refused: 2 };
        assert_eq!(turn.totals(), totals);
    }

    #[test]
    fn a_stop_ends_a_retry_and_a_retry_a_stop() {
        let retried = |finish_by| Change::JobRetried {
            job: JobId(1),
            by: "ann".into(),
            finish_by,
            retrying: Some(Retrying { from: 0, forgiven: 1 }),
            at: at(11),
        };
        let patch = |changes: &[Change]| {
            let turn = folded(changes);
            let patch = &turn.jobs[&JobId(1)];
            (patch.stop.is_change(), patch.stop.value().is_some(), patch.retry.value().copied(), patch.finish_by)
        };
        let going = Some(Retrying { from: 0, forgiven: 1 });
        let stop = || stopped(1, JobState::Cancelled, 10);
        assert_eq!(patch(&[stop(), retried(None)]), (true, false, going, None));
        assert_eq!(patch(&[retried(Some(at(99))), stop()]), (true, true, None, Some(at(99))));
        assert_eq!(
            patch(&[retried(Some(at(99))), retried(None)]).3,
            Some(at(99)),
            "what was said stands until something else is"
        );
        let intakes = [
            (Intake::Open, Intake::Revoked),
            (Intake::Revoked, Intake::Open),
            (Intake::Open, Intake::Cordoned),
            (Intake::Revoked, Intake::Revoked),
        ];
        assert_eq!(intakes.map(|(now, before)| changes_who_is_out(now, before)), [true, true, false, false]);
        let actions = intakes.map(|(now, before)| intake_action(now, before));
        assert_eq!(actions, ["agent.restore", "agent.revoke", "agent.open", "agent.revoke"]);
        assert_eq!(
            [1, 2].map(|attempts| breach_words("garbage", attempts)),
            ["1 attempt was taken from it: garbage", "2 attempts were taken from it: garbage"]
        );
    }
}
