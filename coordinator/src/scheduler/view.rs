//! What can be read off a scheduler: progress, the fleet, and why a task is not running.

use lull_shared::{
    constraint::Constraint,
    id::{AgentId, AttemptId, JobId, TaskId},
    resources::{Capacity, Labels, Machine},
    state::{Intake, JobState, PauseReason, TaskCounts, TaskState, WaitReason},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::event::Quarantine;

use super::build::Choice;

/// A job's progress at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    pub job: JobId,
    pub state: JobState,
    /// Cancelled or expired and not ended yet: what it will end as.
    pub stopping: Option<JobState>,
    pub counts: TaskCounts,
    /// Why nothing of it may start at the moment.
    pub waiting: Option<WaitReason>,
    /// Attempts that were moved: evicted, recalled after their start, or lost.
    pub moved: u64,
    /// The mean wall time of its recent successful attempts, in microseconds.
    pub mean_wall_us: Option<u64>,
}

/// An agent at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    pub agent: AgentId,
    pub name: String,
    pub intake: Intake,
    /// Why nothing of it is believed.
    pub quarantine: Option<Quarantine>,
    /// Since when its work stream is open; none when it is away.
    pub connected: Option<Timestamp>,
    pub last_heard: Option<Timestamp>,
    /// Since when its machine sleeps, as it said when it fell asleep.
    pub asleep: Option<Timestamp>,
    pub version: Option<String>,
    pub machine: Option<Machine>,
    /// All labels, those of the machine included.
    pub labels: Labels,
    pub capacity: Option<Capacity>,
    /// Attempts that are with it, running or waiting there.
    pub attempts: Vec<AttemptId>,
    /// Snapshots that it keeps, of its own tasks and for others.
    pub snapshots: usize,
    /// Its words about attempts that it did not hold, since this coordinator reigns.
    pub claims_refused: u64,
    /// How often it broke the protocol, since this coordinator reigns.
    pub breaches: u64,
}

/// Why a task is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub task: TaskId,
    pub state: TaskState,
    /// What holds it back, whatever the agents do.
    pub waiting: Option<WaitReason>,
    /// Where it is, if an agent has it.
    pub at: Option<Placement>,
    /// Where else it is: copies that were started beside the first.
    #[serde(default)]
    pub beside: Vec<Placement>,
    /// Tasks that are started before it if nothing changes.
    pub ahead: Option<u64>,
    /// Which build it executes or, if it is with no agent, will, and why; as things stand now.
    pub build: Choice,
    /// One verdict for each agent that is not revoked.
    pub agents: Vec<AgentVerdict>,
}

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobExplanation {
    pub view: JobView,
    /// Attempts of it that run, and on how many agents.
    pub running: u32,
    pub running_on: u32,
    /// Attempts that wait on an agent for the one before them.
    pub with_agents: u32,
    /// Tasks that are paused where they are, by the kind of the reason.
    pub paused: Vec<HeldTasks>,
    /// When the first of those that wait for a retry is tried again.
    pub retries_from: Option<Timestamp>,
    /// Jobs of the same submitter that go before it.
    pub ahead: u64,
    /// One verdict on a task of it for each agent that is not revoked.
    pub agents: Vec<AgentVerdict>,
}

/// Tasks that one kind of reason holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTasks {
    pub reason: PauseReason,
    pub tasks: u32,
    pub example: TaskId,
}

/// A live attempt's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub attempt: AttemptId,
    pub agent: AgentId,
    pub agent_name: String,
    pub since: Timestamp,
    pub paused: Option<PauseReason>,
    /// Why it was started although nothing had gone wrong, in words.
    #[serde(default)]
    pub cause: Option<String>,
}

/// Whether one agent could start the task, and all that is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentVerdict {
    pub agent: AgentId,
    pub name: String,
    /// Empty: it could start the task now.
    pub obstacles: Vec<Obstacle>,
}

/// One reason why a task cannot start on an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    #[error("it is not connected{}", last_heard.map(|at| format!(" (last heard at {at})")).unwrap_or_default())]
    Away { last_heard: Option<Timestamp> },
    #[error("it sleeps since {since}{}", tried_to_wake(*tries, *tried))]
    Asleep { since: Timestamp, tries: u32, tried: Option<Timestamp> },
    #[error("it is {}", .0.as_str())]
    Closed(Intake),
    #[error("it is quarantined: {reason}")]
    Quarantined { reason: String },
    #[error("it has brought an output of this task, which is compared with that of another agent")]
    Answered,
    #[error("{0}")]
    Paused(PauseReason),
    #[error("all of its {slots} slots are taken ({running} running, {waiting} waiting there)")]
    NoFreeSlot { slots: u16, running: u32, waiting: u32 },
    #[error("{needed_bytes} bytes of memory are needed and {free_bytes} are free")]
    Memory { needed_bytes: u64, free_bytes: u64 },
    #[error("the job wants {constraint} and it has {}", actual.clone().unwrap_or_else(|| "no such label".into()))]
    Label { constraint: Constraint, actual: Option<String> },
    #[error("it refused the last offer ({reason}) and is asked again at {until}")]
    Refused { reason: String, until: Timestamp },
}

/// How often a sleeping machine was tried to be woken.
fn tried_to_wake(tries: u32, tried: Option<Timestamp>) -> String {
    match (tries, tried) {
        (1, Some(at)) => format!("; it was tried to wake it once, at {at}"),
        (2.., Some(at)) => format!("; it was tried to wake it {tries} times, last at {at}"),
        (_, _) => String::new(),
    }
}
