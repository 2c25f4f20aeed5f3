//! What agents and coordinators say to each other on the work stream.
//!
//! Each frame is a [`ToAgentFrame`] or a [`ToCoordinatorFrame`]: a batch of messages. Frames to the agent are
//! numbered, and the agent's heartbeat names the last number it has read, so that the coordinator can tell an attempt
//! the agent has not heard of yet from one that it has lost. Times travel as durations: clocks need not agree.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    amount::sizes,
    codes::ExitCodes,
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId, Term},
    identity::Signed,
    job::{AttemptLimits, Grants},
    limits::MESSAGES_PER_FRAME_MAX,
    policy::Changes,
    release::UpgradeReport,
    resources::{Capacity, Card, Labels, Machine},
    state::{Failure, Intake, PauseReason, Trouble, Usage},
    time::Timestamp,
};

/// A batch to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToAgentFrame {
    /// The last order that is complete with this frame. Orders are numbered from 1 on each stream; an order that
    /// takes several frames is announced by the last of them only.
    pub number: u64,
    /// At most [`MESSAGES_PER_FRAME_MAX`].
    #[serde(deserialize_with = "messages")]
    pub messages: Vec<ToAgent>,
}

/// A batch to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToCoordinatorFrame {
    /// At most [`MESSAGES_PER_FRAME_MAX`].
    #[serde(deserialize_with = "messages")]
    pub messages: Vec<ToCoordinator>,
}

/// The messages of a frame; too many are refused before there is room for them.
fn messages<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Visitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MESSAGES_PER_FRAME_MAX} messages")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut messages = Vec::new();
            while let Some(message) = sequence.next_element()? {
                if messages.len() == MESSAGES_PER_FRAME_MAX {
                    return Err(de::Error::invalid_length(messages.len() + 1, &self));
                }
                messages.push(message);
            }
            Ok(messages)
        }
    }

    deserializer.deserialize_seq(Visitor(PhantomData))
}

/// What a coordinator says to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToAgent {
    /// The answer to `Hello`: always the first message.
    Welcome(Welcome),
    /// What all tasks of a job have in common; sent once per stream before the job's first assignment.
    Brief(Box<JobBrief>),
    /// Offers: the agent starts them as slots come free, or refuses them.
    Assign(Vec<Assignment>),
    /// Give these up. Answered by `Released` for each that was held.
    Recall { attempts: Vec<AttemptId>, reason: RecallReason },
    /// These results are durable: the agent may delete them.
    Acknowledge { attempts: Vec<AttemptId> },
    /// No more attempts of this job will come: its brief and warm executors can go.
    Forget { job: JobId },
    /// Nobody needs these snapshots any more: their tasks have ended or have newer ones.
    Discard { snapshots: Vec<Digest> },
    /// Keep a copy of a snapshot that another agent made, should that machine vanish. Answered by `Keeps` or `Unkept`.
    Keep { task: TaskId, snapshot: BlobRef },
    /// Others keep these snapshots, or nobody needs them: the agent may go. Answers `Unkept` with
    /// [`UnkeptReason::Leaving`], once that is so.
    Safe { snapshots: Vec<Digest> },
    /// Wake these machines: the cards are in subnets of this agent's. At most [`crate::limits::CARDS_MAX`].
    Wake(Vec<Card>),
    /// Whether the agent may expect new work.
    Intake(Intake),
    /// Where coordinators can be reached from now on, in place of what `Welcome` said.
    Coordinators(Vec<String>),
    /// What is allowed on this machine from now on: a signed [`crate::policy::Sheet`].
    Policy(Signed),
    /// Somebody reads the log of an attempt that runs: what does it say from this byte on? Answered by `Log`.
    ReadLog { attempt: AttemptId, from: u64 },
    /// The coordinator closes the stream, and why.
    Goodbye { reason: GoodbyeReason },
    /// This agent is to become another version: a signed [`crate::release::Release`]; none: it is to become no other, if it is not
    /// with the installer yet. Answered by `Upgrade`.
    Upgrade(Option<Signed>),
}

/// What an agent says to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// Always the first message on a stream.
    Hello(Box<Hello>),
    /// These attempts run now.
    Started { attempts: Vec<AttemptId> },
    /// This attempt left the processor and is kept in memory (`Some`), or goes on (`None`).
    Paused { attempt: AttemptId, reason: Option<PauseReason> },
    /// The agent keeps a snapshot of this attempt, which it holds or is about to release: its task can go on from there.
    /// It takes the place of an earlier one.
    Saved { attempt: AttemptId, snapshot: SnapshotRef },
    /// The agent keeps this snapshot, as it was asked to, or stays with it after all.
    Keeps(KeptSnapshot),
    /// It does not keep this snapshot, or soon will not, and why.
    Unkept { snapshot: KeptSnapshot, reason: UnkeptReason },
    /// Attempts that ended by themselves. Sent again on every new stream until acknowledged.
    Finished(Vec<Finished>),
    /// What an attempt that has no result has said and used: of one that was killed, before it is released, and now and
    /// then of one that runs, should its machine vanish.
    Remains(Box<Remains>),
    /// The answer to `ReadLog`.
    Log(LogPiece),
    /// Attempts given up, after a recall or for the owner's sake.
    Released { attempts: Vec<AttemptId>, reason: ReleaseReason },
    /// An offer not taken.
    Refused { attempt: AttemptId, reason: RefuseReason },
    /// A sign of life, and everything the agent holds, running or waiting or finished and not acknowledged.
    Heartbeat { frame_read: u64, holding: Vec<AttemptId> },
    /// What is free now, as in gossip.
    Capacity(Capacity),
    /// Which blobs it came to hold or lost, and what it moved of them.
    Blobs(BlobReport),
    /// Which policy holds on this machine; said after each welcome and when it changes.
    Policy(PolicyReport),
    /// By which cards the machine can be woken by its neighbours, or wake them; said once per stream. At most
    /// [`crate::limits::CARDS_MAX`].
    Cards(Vec<Card>),
    /// The machine is about to sleep; a later `Capacity` that is not paused for that says that it is awake.
    Sleeps,
    /// The agent leaves in good order: nothing is running here any more.
    Farewell,
    /// The machine leaves the network: it forgets who it is, and does not come back as the same agent. Said before `Farewell`.
    Leaves,
    /// How far it is with the release that it was told of.
    Upgrade(UpgradeReport),
}

/// Who an agent is and what it still has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent program's version, for people.
    pub agent_version: String,
    pub machine: Machine,
    /// The administrator's labels; see [`crate::state::full_labels`].
    pub labels: Labels,
    pub capacity: Capacity,
    /// Attempts that it runs or keeps waiting from an earlier stream. Finished ones follow as `Finished`.
    pub holding: Vec<AttemptId>,
    /// Snapshots that it keeps; answered by `Discard` for those that nobody needs. At most
    /// [`crate::limits::SNAPSHOTS_PER_AGENT_MAX`].
    pub snapshots: Vec<KeptSnapshot>,
    pub instance: Box<Instance>,
    /// What is missing of the cage around its executors, in words, if it is not closed.
    pub open_cage: Option<Box<str>>,
}

/// One run of an agent program, as the coordinator tells it from another one with the same identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Drawn anew at each start, so that two programs that take turns are found out. 0 says nothing.
    pub number: u64,
    /// Stands for the machine, as its operating system names it; the copy of a disk may have the same. 0 says nothing.
    pub machine: u64,
    /// The newest [`crate::identity::TermProof`] that it was shown, signed.
    pub term_proof: Option<Signed>,
}

/// A snapshot that an agent keeps for whoever goes on with the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSnapshot {
    pub task: TaskId,
    pub digest: Digest,
}

/// Why an agent does not keep a snapshot for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum UnkeptReason {
    /// Its owner comes first, or its hours.
    #[error("it is paused")]
    Paused,
    #[error("its network is metered")]
    Metered,
    #[error("it keeps as many as it may, or has no room for it")]
    Full,
    #[error("it could not fetch it")]
    Unavailable,
    /// It stops or goes to sleep, has the snapshot until then, and waits for `Safe` as long as it can.
    #[error("it leaves")]
    Leaving,
}

/// What changed in an agent's cache since the last report on this stream, and what it has moved of blobs since it
/// started, in bytes. Its peers are sent to it for what it says it holds; if it has not got it, they ask elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlobReport {
    /// `gained` is everything: always so in the first report on a stream.
    pub all: bool,
    /// At most [`crate::limits::HOLDINGS_MAX`], and no more than that together with those held before.
    pub gained: Vec<BlobRef>,
    pub lost: Vec<Digest>,
    pub from_agents_bytes: u64,
    pub from_coordinators_bytes: u64,
    pub served_bytes: u64,
}

/// What an agent makes of its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The version of the sheet that holds there, 0 for none.
    pub version: u64,
    /// What the owner narrows.
    pub owner: Changes,
    /// How far the machine's own clock is ahead of UTC, in minutes.
    pub clock_ahead_min: i16,
    /// The most slots that the agent may have, whatever the policy gives.
    pub slots_max: u16,
}

/// The coordinator's answer to `Hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    pub agent: AgentId,
    pub term: Term,
    /// The same term as a [`crate::identity::TermProof`], which the agent shows from now on.
    pub term_proof: Option<Signed>,
    pub heartbeat_ms: u64,
    pub intake: Intake,
    /// A fresh membership certificate when the agent's is past half of its life.
    pub certificate: Option<Vec<u8>>,
    /// What is allowed on this machine: a signed [`crate::policy::Sheet`].
    pub policy: Option<Signed>,
    /// Addresses with peer ids under which coordinators can be reached from now on.
    pub coordinators: Vec<String>,
    /// Where people look at the network with a browser, if that can be reached from the agent's machine.
    pub portal: Option<String>,
}

/// What all tasks of a job have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobBrief {
    pub job: JobId,
    /// What people call the job, for the owner's tray and status.
    pub job_name: String,
    /// Whom it is for: what the token is called that submitted it.
    pub submitter: String,
    /// The signed [`ModuleManifest`], encoded, and the network authority's signature over those bytes.
    pub manifest: Vec<u8>,
    pub manifest_signature: Vec<u8>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub limits: AttemptLimits,
    /// How the function exits when it has succeeded.
    pub exit_codes: ExitCodes,
    pub grants: Grants,
    /// With the task's index the seed of all that is random in a deterministic run.
    pub seed: u64,
    /// Where a deterministic clock begins.
    pub clock_start: Timestamp,
}

/// What the network's authority vouches for when a module is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleManifest {
    pub function: String,
    /// The version's number within its function, from 1.
    pub number: u32,
    pub kind: ModuleKind,
    pub module: BlobRef,
    /// NaNs are made canonical, so that results are the same on every kind of processor.
    pub canonical_nans: bool,
    /// The module compiled ahead, by [`Machine::engine`].
    pub artifacts: Vec<Artifact>,
    /// The build that can be suspended and go on elsewhere, if the module can be made into one.
    pub migratable: Option<MigratableBuild>,
}

/// A module made so that it can be suspended at any time and go on on another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratableBuild {
    pub module: BlobRef,
    /// As [`ModuleManifest::artifacts`].
    pub artifacts: Vec<Artifact>,
    /// Its time on a sample input over the plain build's, in percent, if that was measured: 100 costs nothing.
    pub cost_percent: Option<u32>,
}

impl MigratableBuild {
    /// What it is taken to cost while nobody has measured it: the median over functions of many kinds, rounded up.
    pub const COST_PERCENT_UNMEASURED: u32 = 110;

    /// What it costs as far as is known, in percent of the plain build's time.
    pub fn cost_percent(&self) -> u32 {
        self.cost_percent.unwrap_or(Self::COST_PERCENT_UNMEASURED)
    }
}

/// A module compiled for one kind of engine and processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub engine: String,
    pub blob: BlobRef,
}

/// The two shapes of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// A core module that imports `wasi_snapshot_preview1` and exports `_start`.
    Preview1,
    /// A component that exports `wasi:cli/run`.
    Component,
}

/// One attempt offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub attempt: AttemptId,
    pub input: Payload,
    pub build: Build,
    /// Where an earlier attempt left off; only with the migratable build.
    pub resume: Option<SnapshotRef>,
}

/// Which of a version's builds an attempt executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// The module as it was published: the fastest, and what it has done is lost with it.
    #[default]
    Plain,
    /// The one that can be suspended and go on elsewhere.
    Migratable,
}

/// The state of an attempt that was suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    pub blob: BlobRef,
    /// The function's running time until then, over all of the task's moves, in microseconds.
    pub spent_us: u64,
}

/// Bytes that are small enough to come along, or where to fetch them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    Inline(bytes::Bytes),
    Blob(BlobRef),
}

impl Payload {
    /// An inline payload.
    pub fn inline(bytes: impl Into<bytes::Bytes>) -> Self {
        Self::Inline(bytes.into())
    }

    /// How long the bytes are.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob(blob) => blob.size_bytes,
        }
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Inline(bytes) => Digest::of(bytes),
            Self::Blob(blob) => blob.digest,
        }
    }
}

/// An attempt that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub attempt: AttemptId,
    pub outcome: Outcome,
    /// The end of its standard error, bounded by the job's limit.
    pub log: bytes::Bytes,
    /// How many bytes of log were dropped from the middle.
    pub log_dropped_bytes: u64,
    pub usage: Usage,
}

/// What is left of an attempt that came to no result, or has not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    pub attempt: AttemptId,
    /// As in [`Finished::log`]; of one that runs only its end.
    pub log: bytes::Bytes,
    pub log_dropped_bytes: u64,
    pub usage: Usage,
}

/// A part of the log of an attempt that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    pub attempt: AttemptId,
    /// The byte that was asked for.
    pub asked: u64,
    /// Where this begins: later, if what was asked for is not kept any more.
    pub from: u64,
    /// At most [`crate::limits::LOG_PIECE_BYTES`].
    pub bytes: bytes::Bytes,
    /// How much was written so far; none if the attempt does not run.
    pub total: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Standard output. A blob has been handed to the coordinator before this is said.
    Succeeded {
        output: Payload,
    },
    Failed(Failure),
}

/// Why the coordinator takes an attempt back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecallReason {
    /// Another agent could start it now.
    Rebalance,
    /// The agent drains.
    Drain,
    /// Its job's window closed: it goes on when that opens again.
    Window,
    /// It is paused here, and another agent has room for it.
    Roomier,
    /// An agent that is much faster has nothing to do.
    Faster,
    /// Its job was cancelled or expired.
    Cancelled,
    /// The coordinator does not count on this attempt any more.
    Stale,
}

/// How far a recall goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// What has not started.
    Waiting,
    /// That, and what runs and can be moved: it is suspended first.
    Movable,
    /// Everything, done or not.
    All,
}

impl RecallReason {
    /// What is given back for this reason; the rest goes on where it is.
    pub const fn reach(self) -> Reach {
        match self {
            Self::Rebalance => Reach::Waiting,
            Self::Drain | Self::Window | Self::Roomier | Self::Faster => Reach::Movable,
            Self::Cancelled | Self::Stale => Reach::All,
        }
    }
}

/// Why an agent gave attempts up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseReason {
    Recalled,
    /// The owner needs the machine.
    Evicted(PauseReason),
    /// The agent stops.
    Stopping,
    /// The agent could not go on with it, by no fault of the function as far as it knows.
    Trouble(Trouble),
}

/// Why an offer was not taken. The coordinator offers it elsewhere, and `explain` repeats the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RefuseReason {
    #[error("it already holds as many attempts as it may")]
    Full,
    #[error("it is paused")]
    Paused,
    #[error("it does not know the job's brief")]
    UnknownTerms,
    #[error("it could not fetch {digest}: {reason}")]
    Fetch { digest: Digest, reason: String },
    #[error("the module's signature or digest is wrong: {reason}")]
    Untrusted { reason: String },
    #[error("{} of memory are needed and {} are free", sizes(*needed_bytes, *free_bytes).0, sizes(*needed_bytes, *free_bytes).1)]
    Memory { needed_bytes: u64, free_bytes: u64 },
    #[error("its executor could not be started: {reason}")]
    Executor { reason: String },
    #[error("its disk refused: {reason}")]
    Disk { reason: String },
    /// The task begins anew elsewhere.
    #[error("the snapshot {digest} cannot be used: {reason}")]
    Snapshot { digest: Digest, reason: String },
}

/// Why the coordinator closes the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GoodbyeReason {
    #[error("this agent was revoked")]
    Revoked,
    #[error("another connection of the same agent took over")]
    Superseded,
    #[error("the coordinator stops; another may take over")]
    Stopping,
    #[error("the agent broke the protocol: {0}")]
    Protocol(String),
    #[error("this agent is too old; versions from {oldest} on are understood")]
    TooOld { oldest: String },
    /// Another coordinator may lead; these are its addresses, none if they are not known.
    #[error("this coordinator stands by; another leads")]
    Standby { leader: Vec<String> },
    /// Nothing is given to either until one of the two is a member in its own right.
    #[error("another machine uses this one's identity, as after copying its disk")]
    Cloned,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_so_many_messages_and_not_one_more() {
        let frame = |count| ToCoordinatorFrame { messages: vec![ToCoordinator::Farewell; count] };
        let read = |count| crate::codec::decode::<ToCoordinatorFrame>(&crate::codec::encode(&frame(count)));
        for count in [0, 1, MESSAGES_PER_FRAME_MAX] {
            assert_eq!(read(count).map(|frame| frame.messages.len()), Ok(count));
        }
        let refused = read(MESSAGES_PER_FRAME_MAX + 1).expect_err("one too many").to_string();
        let (found, most) = ((MESSAGES_PER_FRAME_MAX + 1).to_string(), format!("at most {MESSAGES_PER_FRAME_MAX} messages"));
        assert!(refused.contains(&found) && refused.contains(&most), "{refused}");
    }
}
