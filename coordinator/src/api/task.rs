//! Tasks, their attempts, and why a task is where it is.

use lull_shared::{
    id::{AgentId, AttemptId, TaskId},
    message::Build,
    state::{AttemptEnd, TaskState, Usage},
};
use serde::{Deserialize, Serialize};

use super::{OutageBody, Reason};

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBody {
    pub task: TaskId,
    /// What people know the input by: a file's name, a line, a number.
    pub label: Option<String>,
    pub state: TaskState,
    pub attempts: u32,
    pub failures: u32,
    /// Of the newest attempt, or of the one that succeeded.
    pub agent: Option<AgentId>,
    pub agent_name: Option<String>,
    pub started: Option<jiff::Timestamp>,
    /// Since when nothing is heard of the agents that have it, if it is with such only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<jiff::Timestamp>,
    pub ended: Option<jiff::Timestamp>,
    /// Why the newest ended attempt did not succeed, in words.
    pub reason: Option<String>,
    /// A retry does not start before then.
    pub not_before: Option<jiff::Timestamp>,
    pub output_bytes: Option<u64>,
}

/// A task with all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDetails {
    #[serde(flatten)]
    pub task: TaskBody,
    pub history: Vec<AttemptBody>,
}

/// One try at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptBody {
    pub attempt: AttemptId,
    pub agent: AgentId,
    pub agent_name: String,
    pub started: jiff::Timestamp,
    /// Which build of the module it executes.
    pub build: Build,
    /// What it went on from, if an earlier attempt left a snapshot.
    #[serde(default)]
    pub resumed: Option<ResumedBody>,
    /// Why it was started although nothing had gone wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    pub ended: Option<jiff::Timestamp>,
    /// Absent while it is live.
    pub end: Option<AttemptEnd>,
    pub reason: Option<String>,
    pub failure: Option<FailureBody>,
    pub paused: Option<Reason>,
    /// Since when nothing is heard of its agent, if it is live and unreachable: its result still counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<jiff::Timestamp>,
    /// Absent while it is live.
    pub usage: Option<Usage>,
    /// What it had used when its agent last said so, while it is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_so_far: Option<Usage>,
}

/// The snapshot that an attempt went on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedBody {
    pub size_bytes: u64,
    /// The running time that it holds and that was not repeated, in milliseconds.
    pub spent_ms: u64,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureBody {
    pub kind: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

/// The log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBody {
    pub attempt: AttemptId,
    /// Its standard error; what is not UTF-8 in it is replaced.
    pub text: String,
    /// Bytes left out of the middle.
    pub dropped_bytes: u64,
    /// The byte of the log that `text` begins with.
    #[serde(default)]
    pub from: u64,
    /// Where to go on reading.
    #[serde(default)]
    pub next: u64,
    /// Whether the attempt runs and may write more.
    #[serde(default)]
    pub live: bool,
}

/// Why a task is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationBody {
    pub task: TaskId,
    pub state: TaskState,
    /// What holds it back, whatever the agents do.
    pub waiting: Option<Reason>,
    /// Where it is, if an agent has it.
    pub at: Option<PlacementBody>,
    /// Where else it is: copies that were started beside the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<PlacementBody>,
    /// How it stands with a second copy, if nothing is heard of the agents that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_copy: Option<Reason>,
    /// Tasks that are started before it if nothing changes.
    pub ahead: Option<u64>,
    /// Which build it executes, or will, and why; absent once it has ended.
    #[serde(default)]
    pub build: Option<ChoiceBody>,
    /// Why it ended as it did, once it has.
    pub reason: Option<String>,
    /// What is wrong with the network, while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageBody>,
    /// One verdict for each agent that is not revoked; none for a task that has ended.
    pub agents: Vec<VerdictBody>,
}

/// Which build, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceBody {
    pub build: Build,
    pub reason: String,
}

/// The place of a live attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementBody {
    pub attempt: AttemptId,
    pub agent: AgentId,
    pub agent_name: String,
    pub since: jiff::Timestamp,
    pub paused: Option<Reason>,
    /// Since when nothing is heard of its agent, if it is unreachable: its result still counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<jiff::Timestamp>,
    /// Why it was started although nothing had gone wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// Whether one agent could start the task, and all that is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictBody {
    pub agent: AgentId,
    pub agent_name: String,
    /// Empty: it could start the task now.
    pub obstacles: Vec<Reason>,
}
