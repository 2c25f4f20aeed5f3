//! What the scheduler wants done: changes to remember, words to agents, answers to people.
//!
//! Within one turn all `Record`s are committed in one transaction; only then is anything sent or answered.

use std::fmt;

use bytes::Bytes;
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId, TaskIndex, TokenId},
    job::JobSpec,
    message::{Build, GoodbyeReason, Payload, RecallReason, SnapshotRef},
    resources::{Card, Labels, Machine},
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskState, Usage},
    time::Timestamp,
};

use crate::{
    event::{EndedTask, Movable, QuarantineKind, RequestId, Retrying, StreamId},
    jobs::holding::Counted,
    time::history::IdleHours,
};

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Effect {
    Record(Change),
    /// One order is one frame; `number` is the frame's, counting up from 1 on each stream.
    Send {
        agent: AgentId,
        stream: StreamId,
        number: u64,
        order: Order,
    },
    Reply {
        request: RequestId,
        reply: Reply,
    },
    /// A snapshot that no agent could keep a copy of.
    OwnCopy(OwnCopy),
    /// What is to be read from the store, once it has all that was recorded before.
    Look(Look),
}

/// A part of a job's started tasks that ended badly. Answered by [`crate::event::Event::EndedBadly`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Tells this question from all others of this scheduler.
    pub number: u64,
    pub job: JobId,
    /// From this task on, by index.
    pub from: TaskIndex,
    /// At most so many.
    pub limit: u32,
}

/// What this coordinator does with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnCopy {
    /// Say what is there. Answered by [`crate::event::Event::KeptHere`].
    Report,
    /// Fetch it and keep it. Answered by [`crate::event::Event::KeptHere`] or [`crate::event::Event::NotKeptHere`].
    Keep(BlobRef),
    /// Delete it, and give up its fetch.
    Discard(Digest),
}

/// Words to an agent; the shell adds what the core does not carry (manifests, inputs, certificates).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Welcome {
        intake: Intake,
    },
    /// The brief of a job, once per stream before its first assignment.
    Brief {
        job: JobId,
    },
    /// At most [`lull_shared::limits::ASSIGNMENTS_PER_FRAME_MAX`] attempts.
    Assign {
        attempts: Vec<Given>,
    },
    Recall {
        attempts: Vec<AttemptId>,
        reason: RecallReason,
    },
    Acknowledge {
        attempts: Vec<AttemptId>,
    },
    Forget {
        job: JobId,
    },
    Discard {
        snapshots: Vec<Digest>,
    },
    /// Keep a copy of a snapshot that another agent made.
    Keep {
        task: TaskId,
        snapshot: BlobRef,
    },
    /// Wake the machines with these cards.
    Wake {
        cards: Vec<Card>,
    },
    /// Others keep these snapshots, or nobody needs them.
    Safe {
        snapshots: Vec<Digest>,
    },
    Intake(Intake),
    Goodbye {
        reason: GoodbyeReason,
    },
}

/// An attempt that is given to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub attempt: AttemptId,
    pub build: Build,
    /// Where it goes on. Boxed: few attempts have one.
    pub resume: Option<Box<SnapshotRef>>,
}

/// The answer to a person's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The job exists now, or did before under the same idempotency key.
    Submitted {
        job: JobId,
        existing: bool,
    },
    /// It is done; `affected` tasks (or agents' attempts) were concerned.
    Done {
        affected: u64,
    },
    Refused(Refusal),
}

/// A request that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no job {0}")]
    NoJob(JobId),
    #[error("there is no agent {0}")]
    NoAgent(AgentId),
    #[error("{job} {}; nothing is left to cancel", .state.told())]
    Ended { job: JobId, state: JobState },
    #[error("{0} has no failed, cancelled or expired task to retry")]
    NothingToRetry(JobId),
    #[error("{0} was let run again already, and no task of it has ended badly since")]
    RetriedAlready(JobId),
    #[error("{0} changed at the same moment")]
    Changed(JobId),
    #[error("{0} was revoked")]
    Revoked(AgentId),
    #[error("{active} jobs are active and that is the limit")]
    TooManyJobs { active: usize },
    #[error("you have {has} {counted} under way and may have {max}; this would be {more} more")]
    ShareSpent { counted: Counted, has: u64, more: u64, max: u64 },
    #[error("{job} {}, so a job that needs it to succeed would never run", .state.told())]
    DependencyFailed { job: JobId, state: JobState },
    #[error("finish-by {0} has passed already")]
    FinishByPassed(Timestamp),
    /// A retry of a job that must have ended by a moment that has passed.
    #[error("the job had to finish by {0}, which has passed")]
    Overdue(Timestamp),
    #[error("its idempotency key belongs to {job}, which asks for something else")]
    KeyTaken { job: JobId },
}

/// Who or what stopped a job before all its tasks had come to their end. It is recorded as a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoppedBy {
    /// A person or a program, as the audit names them: never one of the words of the others.
    Caller(String),
    /// It was to finish by a moment that has passed.
    FinishBy,
    /// So many of its tasks failed that it was not to go on.
    FailuresMax,
    /// It needs another job to succeed, which ended otherwise.
    Dependency { job: JobId, state: JobState },
}

impl StoppedBy {
    const FINISH_BY: &str = "finish_by";
    const FAILURES_MAX: &str = "failures_max";
    const DEPENDENCY: [&str; 2] = ["dependency ", ", which ended as "];

    /// What a recorded text means.
    pub fn read(text: &str) -> Self {
        let [before, between] = Self::DEPENDENCY;
        let dependency = || {
            let (job, state) = text.strip_prefix(before)?.split_once(between)?;
            Some(Self::Dependency { job: job.parse().ok()?, state: JobState::from_word(state)? })
        };
        match text {
            Self::FINISH_BY => Self::FinishBy,
            Self::FAILURES_MAX => Self::FailuresMax,
            _ => dependency().unwrap_or_else(|| Self::Caller(text.to_owned())),
        }
    }
}

/// As it is recorded.
impl fmt::Display for StoppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, between] = Self::DEPENDENCY;
        match self {
            Self::Caller(who) => f.write_str(who),
            Self::FinishBy => f.write_str(Self::FINISH_BY),
            Self::FailuresMax => f.write_str(Self::FAILURES_MAX),
            Self::Dependency { job, state } => write!(f, "{before}{job}{between}{state}"),
        }
    }
}

/// One fact for the store. Applying the same change twice in one term never happens; order matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    JobSubmitted(Box<NewJob>),
    /// The job was cancelled or has expired: tasks never started end as this at once, the others follow.
    JobStopped {
        job: JobId,
        state: JobState,
        by: String,
        at: Timestamp,
    },
    /// No task of the job is open any more.
    JobEnded {
        job: JobId,
        state: JobState,
        at: Timestamp,
    },
    /// A job is to run again: a stop is undone, so that what was never started is queued. Tasks that were started and ended
    /// badly follow, a part at a time.
    JobRetried {
        job: JobId,
        by: String,
        /// When it must have ended now, if that is another moment than before.
        finish_by: Option<Timestamp>,
        /// None: of those that ended badly none was started.
        retrying: Option<Retrying>,
        at: Timestamp,
    },
    /// A part of a retry: these tasks are queued again, with their failures forgiven.
    TasksRetried {
        job: JobId,
        tasks: Vec<EndedTask>,
        /// Where the retry goes on; none: it is through.
        retrying: Option<Retrying>,
        at: Timestamp,
    },
    /// An attempt is given to an agent. Inserts the task's row if this is its first.
    AttemptStarted {
        attempt: AttemptId,
        agent: AgentId,
        at: Timestamp,
        build: Build,
        /// Where it goes on, if an earlier attempt left a snapshot.
        resume: Option<Box<SnapshotRef>>,
        /// Whether another attempt of the task is live and goes on.
        beside: bool,
        /// Why the task runs once more although nothing went wrong, in words.
        cause: Option<Box<str>>,
    },
    /// A live attempt left the processor (`Some`) or went on (`None`).
    AttemptPaused {
        attempt: AttemptId,
        reason: Option<PauseReason>,
        /// Whether now all live attempts of the task are off the processor.
        task_paused: bool,
        at: Timestamp,
    },
    /// An agent keeps a snapshot of a live attempt, in place of the task's earlier one.
    SnapshotSaved {
        attempt: AttemptId,
        agent: AgentId,
        snapshot: SnapshotRef,
        at: Timestamp,
    },
    /// The task goes on from the snapshot before its newest, which cannot be had; this agent keeps that one.
    SnapshotChosen {
        task: TaskId,
        agent: AgentId,
        snapshot: SnapshotRef,
        at: Timestamp,
    },
    /// The task's snapshot is of no use any more.
    SnapshotDropped {
        task: TaskId,
    },
    /// An attempt is over, and how its task stands now.
    AttemptEnded(Box<EndedAttempt>),
    /// What was brought for the task need not be compared any more: it has ended.
    AnswersDropped {
        task: TaskId,
    },
    /// A task ended while it was not with an agent.
    TaskEnded {
        task: TaskId,
        state: TaskState,
        at: Timestamp,
    },
    /// A result came for an attempt that is not live.
    ResultRefused {
        attempt: AttemptId,
        agent: AgentId,
        at: Timestamp,
    },
    /// An agent opened a work stream.
    AgentConnected {
        agent: AgentId,
        version: String,
        machine: Machine,
        labels: Labels,
        at: Timestamp,
    },
    /// An agent's last work stream closed.
    AgentDisconnected {
        agent: AgentId,
        at: Timestamp,
    },
    AgentIntake {
        agent: AgentId,
        intake: Intake,
        before: Intake,
        by: String,
        at: Timestamp,
    },
    /// Nothing of an agent is believed any more.
    AgentQuarantined {
        agent: AgentId,
        kind: QuarantineKind,
        reason: String,
        at: Timestamp,
    },
    /// The agent is trusted again.
    AgentTrusted {
        agent: AgentId,
        by: String,
        at: Timestamp,
    },
    /// So many attempts were taken from an agent that broke the protocol.
    AgentBreached {
        agent: AgentId,
        what: String,
        attempts: u32,
        at: Timestamp,
    },
    /// When the agent's machine was there for work, in place of what was known before.
    AgentHours {
        agent: AgentId,
        hours: Box<IdleHours>,
        at: Timestamp,
    },
}

impl Change {
    /// Whether it must be in one transaction with the change before it. All others may begin one: if the coordinator dies
    /// before it is committed, another goes on from what came before as if nothing more had been decided. That a job ends,
    /// is stopped, or an agent distrusted, follows from the change before, and nobody would find it out again.
    pub fn continues(&self) -> bool {
        match self {
            Self::JobStopped { .. }
            | Self::JobEnded { .. }
            | Self::SnapshotChosen { .. }
            | Self::SnapshotDropped { .. }
            | Self::AnswersDropped { .. }
            | Self::AgentQuarantined { .. }
            | Self::AgentTrusted { .. }
            | Self::AgentBreached { .. } => true,
            Self::JobSubmitted(_)
            | Self::JobRetried { .. }
            | Self::TasksRetried { .. }
            | Self::AttemptStarted { .. }
            | Self::AttemptPaused { .. }
            | Self::AttemptEnded(_)
            | Self::SnapshotSaved { .. }
            | Self::TaskEnded { .. }
            | Self::ResultRefused { .. }
            | Self::AgentConnected { .. }
            | Self::AgentDisconnected { .. }
            | Self::AgentHours { .. }
            | Self::AgentIntake { .. } => false,
        }
    }

    /// How many rows of the store it touches that a turn is bounded by.
    pub fn rows(&self) -> usize {
        match self {
            Self::TasksRetried { tasks, .. } => tasks.len().max(1),
            _ => 1,
        }
    }

    /// About how many bytes it brings to the store.
    pub fn size_bytes(&self) -> usize {
        let inline = |payload: &Payload| match payload {
            Payload::Inline(bytes) => bytes.len(),
            Payload::Blob(_) => 0,
        };
        ROW_BYTES * self.rows()
            + match self {
                Self::AttemptEnded(ended) => ended.output.as_ref().map_or(0, inline) + ended.log.len(),
                Self::JobSubmitted(new) => new.spec.args.iter().map(String::len).sum::<usize>(),
                _ => 0,
            }
    }

    /// The job that it concerns, if it concerns one.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::JobSubmitted(new) => Some(new.job),
            Self::JobStopped { job, .. }
            | Self::JobEnded { job, .. }
            | Self::JobRetried { job, .. }
            | Self::TasksRetried { job, .. } => Some(*job),
            Self::AttemptStarted { attempt, .. } | Self::AttemptPaused { attempt, .. } | Self::SnapshotSaved { attempt, .. } => {
                Some(attempt.task.job)
            }
            Self::AttemptEnded(ended) => Some(ended.attempt.task.job),
            Self::TaskEnded { task, .. }
            | Self::SnapshotChosen { task, .. }
            | Self::SnapshotDropped { task }
            | Self::AnswersDropped { task } => Some(task.job),
            Self::ResultRefused { .. }
            | Self::AgentConnected { .. }
            | Self::AgentDisconnected { .. }
            | Self::AgentHours { .. }
            | Self::AgentIntake { .. }
            | Self::AgentQuarantined { .. }
            | Self::AgentBreached { .. }
            | Self::AgentTrusted { .. } => None,
        }
    }
}

/// A row without what a function wrote.
const ROW_BYTES: usize = 256;

/// A job as it is submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    pub job: JobId,
    /// The token that submitted it, and whose it is; none: that is not known any more.
    pub owner: Option<TokenId>,
    /// What that token is called, for people.
    pub submitter: String,
    pub spec: JobSpec,
    pub version_name: String,
    pub seed: u64,
    /// What moving its tasks costs, if they can be moved.
    pub movable: Option<Movable>,
    pub at: Timestamp,
}

/// An attempt that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedAttempt {
    pub attempt: AttemptId,
    pub agent: AgentId,
    pub end: AttemptEnd,
    /// Why, in words, when it did not succeed.
    pub reason: Option<String>,
    pub failure: Option<Failure>,
    pub at: Timestamp,
    pub after: TaskAfter,
    /// The output, if the task succeeded with it.
    pub output: Option<Payload>,
    /// The output's digest, if it is kept to be compared with that of another agent.
    pub answer: Option<Digest>,
    pub log: Bytes,
    pub log_dropped_bytes: u64,
    pub usage: Usage,
    /// For how long it had a slot, in microseconds: what its submitter is charged for. Waiting at the agent is free.
    pub slot_us: u64,
}

/// How a task stands after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskAfter {
    /// It runs again, not before then. `failures` is its new count.
    Again {
        not_before: Timestamp,
        failures: u32,
    },
    /// Another attempt of it goes on, with this agent; `paused`: all that go on are off the processor.
    Continues {
        agent: AgentId,
        paused: bool,
        failures: u32,
    },
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stopped_a_job_reads_back_as_it_is_recorded() {
        let dependency = StoppedBy::Dependency { job: JobId(7), state: JobState::Expired };
        assert_eq!(dependency.to_string(), "dependency j7, which ended as expired");
        for by in [StoppedBy::Caller("ann (t7)".into()), StoppedBy::FinishBy, StoppedBy::FailuresMax, dependency] {
            assert_eq!(StoppedBy::read(&by.to_string()), by);
        }
        assert_eq!(StoppedBy::read("dependency on coffee"), StoppedBy::Caller("dependency on coffee".into()));
    }
}
