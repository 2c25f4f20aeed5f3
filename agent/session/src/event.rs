//! What the session hears and what it wants done.

use std::{sync::Arc, time::Duration};

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId},
    identity::{Authority, Signed},
    message::{Build, Finished, GoodbyeReason, Outcome, Payload, ToAgentFrame, ToCoordinator, Welcome},
    policy::Changes,
    resources::{Capacity, Card, Labels, Machine},
    state::{Failure, Part, Trouble, Usage},
};

use super::{
    attempts::plan::Plan,
    remark::Remark,
    words::policy::{MachineWord, Standing},
};
use crate::{
    attempts::slot::SlotId,
    guard::{Announcement, OwnerWord, Rules, Sample},
};

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Config {
    pub agent: AgentId,
    pub agent_version: String,
    /// Numbers of this start of the program, drawn at random: the second takes the place of the first when another program
    /// turns out to use this one's identity.
    pub instances: [u64; 2],
    /// Stands for the machine, as its operating system names it.
    pub machine_number: u64,
    pub machine: Machine,
    pub labels: Labels,
    /// Whose signature makes a module trustworthy.
    pub authority: Authority,
    pub rules: Rules,
    /// The policy to begin with.
    pub standing: Standing,
    pub slots: u16,
    /// What all executors together may take, in bytes.
    pub memory_bytes_max: u64,
    /// How much running time of a movable attempt a machine that is switched off may cost.
    pub snapshot_every: Duration,
    /// How long an executor with nothing to do is kept for the next task or job.
    pub warm_time: Duration,
    /// Whether it works also where the cage around its executors is not closed.
    pub works_in_open_cage: bool,
}

/// A result that an earlier life of this agent kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub attempt: AttemptId,
    /// Its output, when that is too large for a message.
    pub output: Option<BlobRef>,
}

/// What happens to a session.
#[derive(Debug, Clone)]
pub enum Event {
    /// A work stream to a coordinator is open.
    Connected,
    /// It closed.
    Disconnected,
    /// The coordinator said something.
    Frame(ToAgentFrame),
    /// Asked for by [`Effect::Fetch`]: the blob is in the cache and stays there, or why not.
    Fetched { digest: Digest, result: Result<(), String> },
    /// The executor of a slot can take attempts.
    Ready { slot: SlotId },
    /// The executor of a slot could not be started; nothing of it is left.
    StartFailed { slot: SlotId, error: StartError },
    /// An executor ended an attempt.
    Done { slot: SlotId, done: Box<Done> },
    /// Asked for by [`Effect::Checkpoint`] or [`Effect::Suspend`]: the snapshot is in the cache and stays there. If the
    /// attempt was suspended, its executor ends now.
    Saved { slot: SlotId, attempt: AttemptId, snapshot: BlobRef, suspended: bool },
    /// A snapshot that was to be gone on from cannot be used: the attempt begins anew.
    BeginsAnew { slot: SlotId, attempt: AttemptId, reason: String },
    /// An executor process is gone; the last event of this process. `failed` is the attempt that it ran and what that
    /// failed of, when there was one and the process was not killed on purpose.
    Gone { slot: SlotId, failed: Option<(AttemptId, Failure)> },
    /// Something of the agent's own does not work. If an attempt ended with it, that is given up, and its process, which
    /// is gone or about to be, is told of by [`Event::Gone`].
    Trouble { trouble: Trouble, ended: Option<(SlotId, AttemptId)> },
    /// Asked for by [`Effect::Probe`]: whether this part works, or why not.
    Probed { part: Part, result: Result<(), String> },
    /// What is missing of the cage around executors, if anything is.
    Caged { missing: Option<String> },
    /// Asked for by [`Effect::Keep`]: these results are durable.
    Kept { attempts: Vec<AttemptId> },
    /// The outbox could not take these, a full disk for example.
    NotKept { attempts: Vec<AttemptId>, reason: String },
    /// Asked for by [`Effect::Recollect`] or [`Effect::Keep`]: what the outbox holds, and what it has lost.
    Recollected { records: Vec<Finished>, missing: Vec<AttemptId> },
    /// Asked for by [`Effect::Deliver`]: the coordinator has the output, or why not.
    Delivered { attempt: AttemptId, delivery: Delivery },
    /// A measurement of the machine.
    Sample(Sample),
    /// Keyboard or mouse moved at this moment.
    Input,
    /// The operating system announces something.
    Announced(Announcement),
    /// The owner said something.
    Owner(OwnerWord),
    /// The owner narrows what the administrator allows.
    Narrowed(Box<Changes>),
    /// What the machine's administrator says was read.
    MachineSays(Box<MachineWord>),
    /// The agent is about to become another version and gives everything away, or is not after all.
    Upgrading(bool),
    /// The machine slept for this long, which the clock counted.
    Slept(Duration),
    /// The agent shall stop within this time.
    Stop { grace: Duration },
}

/// What an executor says about an attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub attempt: AttemptId,
    pub outcome: Outcome,
    pub log: bytes::Bytes,
    pub log_dropped_bytes: u64,
    pub usage: Usage,
}

/// What became of a large output on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The coordinator has it, durably.
    Stored,
    /// The coordinator has no use for it.
    Unwanted,
    /// It did not get there: to be tried again.
    Failed,
}

/// Why an executor could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// The compiled artifact cannot be used here; the module itself may.
    Artifact(String),
    /// What was to be loaded is not in the cache any more, or not whole.
    Missing(String),
    /// No executor could run this module.
    Module(String),
    /// This machine failed.
    Executor(String),
    /// Something beside the executor of this machine did.
    Trouble(Trouble),
}

/// What a session wants done. Effects of a slot are carried out in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// To the coordinator, on the present stream.
    Send(ToCoordinator),
    /// Close the present stream.
    Close(CloseReason),
    /// The coordinator's word on certificate and addresses: to be kept.
    Adopt(Box<Welcome>),
    /// Where coordinators are from now on: to be kept.
    Learn(Vec<String>),
    /// What the administrator allows: to be kept.
    KeepPolicy(Signed),
    /// The coordinator wants this agent to be the version of this release, or of none any more.
    Upgrade(Option<Signed>),
    /// Publish by gossip.
    Publish(Capacity),
    /// Put the blob into the cache and keep it there. Answered by [`Event::Fetched`].
    Fetch(BlobRef),
    /// The blob is not needed any more, for now.
    Unpin(Digest),
    /// Start an executor. Answered by [`Event::Ready`] or [`Event::StartFailed`].
    Start {
        slot: SlotId,
        plan: Arc<Plan>,
        build: Build,
    },
    /// Turn an executor to another job, whose plan fits the one that it was started with.
    Serve {
        slot: SlotId,
        plan: Arc<Plan>,
    },
    /// Give an executor an attempt. Answered by [`Event::Done`] or [`Event::Gone`].
    Run {
        slot: SlotId,
        attempt: AttemptId,
        input: Payload,
        /// A snapshot in the cache to go on from.
        resume: Option<BlobRef>,
    },
    /// Write down the state of what runs, which goes on. Answered by [`Event::Saved`], or not at all.
    Checkpoint {
        slot: SlotId,
        attempt: AttemptId,
    },
    /// Write down the state of what runs, frozen or not, and end its executor. Answered by [`Event::Saved`] and
    /// [`Event::Gone`], by `Gone` alone if it could not be written, or by `Done` if it ended first.
    Suspend {
        slot: SlotId,
        attempt: AttemptId,
    },
    /// This snapshot is not needed any more: unpin it and delete it.
    Erase(Digest),
    Freeze {
        slot: SlotId,
    },
    Thaw {
        slot: SlotId,
    },
    /// Kill an executor, frozen or not. Answered by [`Event::Gone`] (or by `StartFailed` while it starts).
    Kill {
        slot: SlotId,
    },
    /// Say what this attempt wrote to its log from this byte on.
    ReadLog {
        attempt: AttemptId,
        from: u64,
    },
    /// Try whether this part of the agent works again. Answered by [`Event::Probed`], for a cage by [`Event::Caged`].
    Probe(Part),
    /// Make a result durable, with the log and the usage of an executor that was killed. Answered by [`Event::Kept`] or [`Event::NotKept`].
    Keep(Arc<Finished>),
    /// Read kept results. Answered by [`Event::Recollected`].
    Recollect(Vec<AttemptId>),
    /// Hand a large output to the coordinator. Answered by [`Event::Delivered`].
    Deliver {
        attempt: AttemptId,
        output: BlobRef,
    },
    /// These results need not be kept any longer.
    Drop(Vec<AttemptId>),
    /// Tell the machines with these cards to wake up.
    Wake(Vec<Card>),
    /// To be read in the log.
    Log(Remark),
    /// Everything is in order: the process may end.
    Quit,
}

/// Why the session ends a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("the coordinator ended the connection: {0}")]
    Goodbye(GoodbyeReason),
    #[error("the coordinator did not answer the greeting")]
    NoWelcome,
    #[error("the coordinator broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the coordinator was silent for too long")]
    Silent,
    #[error("another coordinator has taken over from this one")]
    Stale,
}
