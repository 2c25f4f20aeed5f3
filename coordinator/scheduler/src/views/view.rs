//! What can be read off a scheduler: progress, the fleet, and why a task is not running.

use std::{collections::BTreeMap, fmt};

use lull_shared::{
    amount::sizes,
    constraint::Constraint,
    id::{AgentId, AttemptId, JobId, TaskId, TaskIndex},
    resources::{Capacity, Labels, Machine},
    state::{Intake, JobState, PauseReason, TaskCounts, TaskState, WaitReason},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::event::Quarantine;

use crate::placement::build::Choice;

/// A job's progress at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    pub job: JobId,
    pub state: JobState,
    /// Cancelled or expired and not ended yet: what it will end as.
    pub stopping: Option<JobState>,
    pub counts: TaskCounts,
    /// How many of those with agents are with such only of which nothing is heard.
    #[serde(default)]
    pub unreachable: u32,
    /// Why nothing of it may start at the moment.
    pub waiting: Option<WaitReason>,
    /// Attempts that were moved: evicted, or recalled after their start.
    pub moved: u64,
    /// Attempts that were lost.
    #[serde(default)]
    pub lost: u64,
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
    /// Since when nothing is heard of it, if that is longer than the silence limit and it did not take its leave: its
    /// attempts are unreachable.
    #[serde(default)]
    pub silent_since: Option<Timestamp>,
    /// Since when its machine sleeps, as it said when it fell asleep.
    pub asleep: Option<Timestamp>,
    pub version: Option<String>,
    pub machine: Option<Machine>,
    /// All labels, those of the machine included.
    pub labels: Labels,
    pub capacity: Option<Capacity>,
    /// What is missing of the cage around its executors, if it is not closed.
    pub open_cage: Option<String>,
    /// Attempts that are with it, running or waiting there.
    pub attempts: Vec<AttemptId>,
    /// Snapshots that it keeps, of its own tasks and for others.
    pub snapshots: usize,
    /// Its words about attempts that it did not hold, since this coordinator leads.
    pub claims_refused: u64,
    /// How often it broke the protocol, since this coordinator leads.
    pub breaches: u64,
    /// How often it held an attempt beyond its time limit, lately.
    pub overtimes: u64,
}

/// Why a task is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub task: TaskId,
    pub state: TaskState,
    /// What holds it back, whatever the agents do.
    pub waiting: Option<WaitReason>,
    /// When it expires.
    pub finish_by: Option<Timestamp>,
    /// Where it is, if an agent has it.
    pub at: Option<Placement>,
    /// Where else it is: copies that were started beside the first.
    #[serde(default)]
    pub beside: Vec<Placement>,
    /// How it stands with a second copy, if nothing is heard of those that have it.
    #[serde(default)]
    pub second_copy: Option<SecondCopy>,
    /// Tasks that are started before it if nothing changes.
    pub ahead: Option<u64>,
    /// Which build it executes or, if it is with no agent, will, and why; as things stand now.
    pub build: Choice,
    /// One verdict for each agent.
    pub agents: Vec<AgentVerdict>,
    /// What is wrong with the network.
    #[serde(default)]
    pub outage: Option<Outage>,
}

/// Why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobExplanation {
    pub view: JobView,
    /// Tasks of it that run, and on how many agents.
    pub running: u32,
    pub running_on: u32,
    /// Tasks that wait on an agent for the one before them.
    pub with_agents: u32,
    /// Tasks that would run and are with such agents only of which nothing is heard.
    pub out_of_touch: u32,
    /// As many of its tasks are with agents as may be at once, and that is how many.
    pub at_once: Option<u32>,
    /// When its tasks expire.
    pub finish_by: Option<Timestamp>,
    /// Tasks that are paused where they are, by the kind of the reason.
    pub paused: Vec<HeldTasks>,
    /// When the first of those that wait for a retry is tried again.
    pub retries_from: Option<Timestamp>,
    /// Jobs of the same submitter that go before it.
    pub ahead: u64,
    /// One verdict on a task of it for each agent.
    pub agents: Vec<AgentVerdict>,
    /// What is wrong with the network.
    pub outage: Option<Outage>,
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
    /// Since when nothing is heard of its agent, if it is unreachable.
    #[serde(default)]
    pub unreachable: Option<Timestamp>,
    /// Why it was started although nothing had gone wrong, in words.
    #[serde(default)]
    pub cause: Option<String>,
}

/// What of a job is with agents of which nothing is heard, each with the agent's last word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unreachable {
    pub attempts: BTreeMap<AttemptId, Timestamp>,
    /// Those of which nobody else has an attempt.
    pub tasks: BTreeMap<TaskIndex, Timestamp>,
}

/// Why a task of whose agents nothing is heard has not begun elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SecondCopy {
    #[error("a second copy starts as soon as an agent has room for it")]
    WaitsForSlot,
    #[error("many agents fell silent at once, which is most likely the network: copies start a few at a time from {from} on")]
    Together { from: Timestamp },
    #[error("no agent at all is heard, so that this coordinator may be cut off: nothing starts until some are back")]
    CutOff,
    #[error("{} and no further one is risked before one of them is back or given up", gone(*copies))]
    Enough { copies: u32 },
}

/// Many agents are out of touch at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    pub kind: OutageKind,
    /// The first of their last words, or when this coordinator began to lead.
    pub since: Timestamp,
    pub agents: u32,
    /// From when on copies of what they have start elsewhere, a few at a time.
    pub copies_from: Option<Timestamp>,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, since, agents, .. } = self;
        let count = if *agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") };
        match kind {
            OutageKind::Together => write!(
                f,
                "{count} fell silent at once from {since} on: most likely a part of the network. What they run goes on and counts"
            ),
            OutageKind::CutOff => write!(
                f,
                "no agent has been heard since {since}, when {count} fell silent: this coordinator may be cut off. What they run \
                 goes on and counts"
            ),
            OutageKind::Unmet => {
                write!(f, "this coordinator began to lead at {since} and waits for {count} to come with what they run")
            }
        }
    }
}

impl SecondCopy {
    /// The moment that it speaks of, by the clock on the wall.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Together { from } => Some(*from),
            Self::WaitsForSlot | Self::CutOff | Self::Enough { .. } => None,
        }
    }
}

impl Obstacle {
    /// Whether the machine is not there at all, or is thrown out.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Asleep { .. }) || self.is_revoked()
    }

    /// Whether the machine is thrown out.
    pub fn is_revoked(&self) -> bool {
        matches!(self, Self::Closed(Intake::Revoked))
    }

    /// The moment that it speaks of, by the clock on the wall.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Away { last_heard } => *last_heard,
            Self::Asleep { since, .. } => Some(*since),
            Self::Refused { until, .. } => Some(*until),
            Self::Paused(reason) => reason.at(),
            Self::Closed(_)
            | Self::Quarantined { .. }
            | Self::Answered
            | Self::NoFreeSlot { .. }
            | Self::Memory { .. }
            | Self::Label { .. } => None,
        }
    }
}

impl OutageKind {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum OutageKind {
    /// Many fell silent within moments, and others are heard: a part of the network.
    Together,
    /// None is heard: it is most likely this coordinator's own network.
    CutOff,
    /// This coordinator has just begun to lead, and they have not come yet.
    Unmet,
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
    #[error("{} ({running} running, {waiting} waiting there)", all_taken(*slots))]
    NoFreeSlot { slots: u16, running: u32, waiting: u32 },
    #[error("{} of memory are needed and {} are free", sizes(*needed_bytes, *free_bytes).0, sizes(*needed_bytes, *free_bytes).1)]
    Memory { needed_bytes: u64, free_bytes: u64 },
    #[error("the job wants {constraint} and it has {}", actual.clone().unwrap_or_else(|| "no such label".into()))]
    Label { constraint: Constraint, actual: Option<String> },
    #[error("it refused the last offer ({reason}) and is asked again at {until}")]
    Refused { reason: String, until: Timestamp },
}

fn gone(copies: u32) -> String {
    match copies {
        1 => "1 machine has or had it and is gone,".to_owned(),
        copies => format!("{copies} machines have or had it and are gone,"),
    }
}

fn all_taken(slots: u16) -> String {
    match slots {
        0 => "it has no slots".to_owned(),
        1 => "its one slot is taken".to_owned(),
        slots => format!("all of its {slots} slots are taken"),
    }
}

/// How often a sleeping machine was tried to be woken.
fn tried_to_wake(tries: u32, tried: Option<Timestamp>) -> String {
    match (tries, tried) {
        (1, Some(at)) => format!("; it was tried to wake it once, at {at}"),
        (2.., Some(at)) => format!("; it was tried to wake it {tries} times, last at {at}"),
        (_, _) => String::new(),
    }
}
