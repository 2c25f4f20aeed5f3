//! What happens to the scheduler: people's wishes, agents' words, and the network's comings and goings.

use std::collections::BTreeMap;

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskIndex, TokenId, VersionId},
    job::JobSpec,
    message::{Build, Hello, SnapshotRef, ToCoordinator},
    policy::Policy,
    resources::Capacity,
    state::{Intake, JobState},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::time::history::IdleHours;

/// One work stream of one agent; a later stream of the same agent has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Echoed by the reply to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Somebody submits a job. Its version exists and everything in `spec` is within its limits.
    Submit { request: RequestId, submission: Box<Submission> },
    /// Somebody cancels a job: nothing new starts, what runs is stopped.
    Cancel { request: RequestId, job: JobId, by: String },
    /// Somebody wants tasks that ended badly to run again.
    Retry { request: RequestId, retry: Box<Retry> },
    /// Asked for by [`crate::effect::Look`]: started tasks of a job that ended badly, in the order of their indices. `next`:
    /// where more of them may be.
    EndedBadly { look: u64, job: JobId, tasks: Vec<EndedTask>, next: Option<TaskIndex> },
    /// The large output of an attempt is on its way from its agent, in so many bytes.
    Brings { agent: AgentId, attempt: AttemptId, size_bytes: u64 },
    /// The administrator opens, cordons, drains or revokes an agent.
    SetIntake { request: RequestId, agent: AgentId, intake: Intake, by: String },
    /// The administrator lets an agent in again that was revoked.
    Restore { request: RequestId, agent: AgentId, by: String },
    /// The administrator trusts an agent again that was quarantined.
    Trust { request: RequestId, agent: AgentId, by: String },
    /// A machine was enrolled; the store knows it already.
    Enrolled { agent: AgentSnapshot },
    /// An agent opened a work stream from some address and said hello. An older stream of it is superseded.
    Connected { agent: AgentId, stream: StreamId, hello: Box<Hello>, from: String },
    /// A work stream closed.
    Disconnected { agent: AgentId, stream: StreamId },
    /// An agent said something; ignored if the stream is not its newest.
    Message { agent: AgentId, stream: StreamId, message: ToCoordinator },
    /// An agent broke the protocol in a way that the edge sees. `stream` is none when it had not said its hello; `told`: the
    /// attempts whose ends it told in that way.
    Breach { agent: AgentId, stream: Option<StreamId>, what: String, told: Vec<AttemptId> },
    /// Gossip: what an agent offers.
    Capacity { capacity: Capacity },
    /// Agents that came to hold the code of a version, and that hold it no more. Soft: one that is not known to hold it
    /// is given work all the same.
    Holders { version: VersionId, gained: Vec<AgentId>, lost: Vec<AgentId> },
    /// What holds on an agent's machine, if that lets it be woken, and how far its clock is ahead of UTC, in minutes.
    Wakeable { agent: AgentId, policy: Option<Box<Policy>>, clock_ahead_min: i16 },
    /// The policy is another one; agents that are there say what they make of it.
    PolicyChanged,
    /// Asked for by [`crate::effect::OwnCopy::Keep`], or left by an earlier life: this coordinator has these snapshots.
    KeptHere { blobs: Vec<BlobRef> },
    /// Asked for by [`crate::effect::OwnCopy::Keep`]: this coordinator could not fetch it.
    NotKeptHere { digest: Digest },
}

/// A job on its way in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The token that submits it: whose it is, and among whose the fair shares are made.
    pub owner: TokenId,
    /// What that token is called, for people.
    pub submitter: String,
    pub spec: JobSpec,
    /// The version as people call it, `name@2`.
    pub version_name: String,
    /// The seed of the job's deterministic randomness, drawn at the edge.
    pub seed: u64,
    /// What moving its tasks costs, if they can be moved.
    pub movable: Option<Movable>,
    /// How those of the jobs in `spec.after` stand that the store knows as ended.
    pub ended: BTreeMap<JobId, JobState>,
}

/// A wish that a job's badly ended tasks run again. All but the wish was read from the store after the last commit.
#[derive(Debug, Clone)]
pub struct Retry {
    pub by: String,
    /// When it must have ended now, in place of what was said before.
    pub finish_by: Option<Timestamp>,
    /// Without its open tasks: an active job's are known, and one that has ended has none.
    pub job: JobSnapshot,
    /// The first of its started tasks that ended badly, and where more of them may be.
    pub tasks: Vec<EndedTask>,
    pub next: Option<TaskIndex>,
    /// How those of the jobs that it waits for stand that the store knows as ended.
    pub ended: BTreeMap<JobId, JobState>,
}

/// That a version has a migratable build, and what running it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movable {
    /// The migratable build's time on a sample over the plain build's, in percent: 100 costs nothing.
    pub cost_percent: u32,
}

/// All that a scheduler must know to go on where another stopped.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The highest job number given so far.
    pub last_job: u64,
    /// Jobs that have not ended.
    pub jobs: Vec<JobSnapshot>,
    pub agents: Vec<AgentSnapshot>,
    /// When machines were there for work, as far as it is known.
    pub hours: Vec<(AgentId, IdleHours)>,
    /// Slot-seconds that each submitter used lately, for fair share; without a token: all whose tokens are not known any more.
    pub usage: Vec<(Option<TokenId>, f64)>,
}

/// A job as the store remembers it.
#[derive(Debug, Clone)]
pub struct JobSnapshot {
    pub job: JobId,
    pub owner: Option<TokenId>,
    pub submitter: String,
    pub spec: JobSpec,
    pub version_name: String,
    pub seed: u64,
    pub submitted: lull_shared::time::Timestamp,
    /// What moving its tasks costs, if they can be moved. A store does not know it: whoever loads reads it off the
    /// version's manifest.
    pub movable: Option<Movable>,
    pub state: JobState,
    /// Set when the job was cancelled or has expired: what it ends as once nothing of it runs.
    pub stopping: Option<JobState>,
    /// Tasks that ended badly are still to be queued again.
    pub retrying: Option<Retrying>,
    /// Tasks with an index below this have been started at least once; the others are queued, or ended as `stopping`
    /// says. The counts and `open` are of the former only.
    pub expanded: TaskIndex,
    pub succeeded: u32,
    pub failed: u32,
    pub cancelled: u32,
    pub expired: u32,
    /// Tasks below `expanded` that have not ended.
    pub open: Vec<OpenTask>,
}

/// A started task that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTask {
    pub index: TaskIndex,
    /// Attempts so far; the newest has this number.
    pub attempts: u32,
    /// How many of them failed.
    pub failures: u32,
    /// How many of them were lost, since it last failed for that.
    pub lost: u32,
    pub place: OpenPlace,
    /// Where its next attempt goes on.
    pub saved: Option<Saved>,
    /// What agents brought for it, to be compared: each of another agent, in the order of their attempts.
    pub answers: Vec<Answer>,
}

impl OpenTask {
    /// Its live attempts, in the order of their numbers; none while it waits.
    pub fn live(&self) -> &[OpenAttempt] {
        match &self.place {
            OpenPlace::At(live) => live,
            OpenPlace::Waiting { .. } => &[],
        }
    }
}

/// An output that one agent brought, by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub number: u32,
    pub agent: AgentId,
    pub digest: Digest,
}

/// A task's snapshot, and the agent that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    pub snapshot: SnapshotRef,
    pub agent: AgentId,
}

/// Where a started task is that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenPlace {
    /// With agents: its live attempts, in the order of their numbers, at least one.
    At(Vec<OpenAttempt>),
    /// It waits to be started again, not before then.
    Waiting { not_before: lull_shared::time::Timestamp },
}

/// A live attempt as the store remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAttempt {
    pub number: u32,
    pub agent: AgentId,
    pub since: lull_shared::time::Timestamp,
    /// The running time of the snapshot that it went on from, in microseconds, if it went on from one.
    pub resumed_us: Option<u64>,
    pub build: Build,
    /// Why it was started although nothing had gone wrong, in words.
    pub cause: Option<Box<str>>,
}

/// How far a retry has come that goes through a job's started tasks, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retrying {
    /// Those that ended badly are still to be queued again from this one on.
    pub from: TaskIndex,
    /// How many failures among them are forgiven: they count against `failures_max` no more.
    pub forgiven: u32,
}

/// A task that has ended badly, as far as a retry needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedTask {
    pub index: TaskIndex,
    pub attempts: u32,
    /// `failed`, `cancelled` or `expired`.
    pub state: lull_shared::state::TaskState,
    /// Where its last attempt failed, if that is how it ended.
    pub failed_at: Option<AgentId>,
}

/// An agent as the store remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSnapshot {
    pub agent: AgentId,
    pub name: String,
    /// The group that it was put into when it joined.
    pub group: Option<String>,
    pub intake: Intake,
    pub quarantine: Option<Quarantine>,
}

/// Why nothing is believed of an agent, until an administrator trusts it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub kind: QuarantineKind,
    pub since: lull_shared::time::Timestamp,
    pub reason: String,
}

/// The two ways to lose belief.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum QuarantineKind {
    /// An output of it differs from what two others brought.
    Output,
    /// Two programs use its identity. Ends by itself when one of them has enrolled anew.
    Cloned,
    /// It held attempts again and again beyond their time limits without an end.
    Overtime,
}

impl QuarantineKind {
    /// As stores and interfaces write it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What is written so.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// What people read before the reason.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Output => "not believed",
            Self::Cloned => "cloned identity",
            Self::Overtime => "keeps work too long",
        }
    }

    /// Whom the audit names: no person decides about it.
    pub const fn found_by(self) -> &'static str {
        match self {
            Self::Output => "verification",
            Self::Cloned => "the look at identities",
            Self::Overtime => "the look at time limits",
        }
    }
}
