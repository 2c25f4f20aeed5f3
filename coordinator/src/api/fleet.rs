//! Agents and the mesh between them.

use std::collections::BTreeMap;

use lull_scheduler::event::QuarantineKind;
use lull_shared::{
    id::{AgentId, AttemptId, TokenId},
    state::Intake,
};
use serde::{Deserialize, Serialize};

use super::Reason;

/// What to do about a cloned identity.
pub const CLONED_HINT: &str = "on one of the two, run `lull-agent leave`, then `lull-agent join` with a new token; or revoke it";

/// An enrolled machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentBody {
    pub agent: AgentId,
    pub name: String,
    /// The group that it was put into when it joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub intake: Intake,
    /// When it left the network, if it has not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<jiff::Timestamp>,
    /// When it was taken off the list, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<jiff::Timestamp>,
    /// Why nothing of it is believed, until an administrator trusts it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<QuarantineBody>,
    pub enrolled: jiff::Timestamp,
    /// Since when its work stream is open; absent when it is away.
    pub connected: Option<jiff::Timestamp>,
    pub last_heard: Option<jiff::Timestamp>,
    /// Since when nothing is heard of it, if it did not take its leave: its attempts are unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<jiff::Timestamp>,
    /// Since when its machine sleeps, as it said when it fell asleep.
    #[serde(default)]
    pub asleep: Option<jiff::Timestamp>,
    /// The agent program's version.
    pub version: Option<String>,
    /// What it is to become, if a rollout wants it to be a newer version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<super::BehindBody>,
    pub machine: Option<MachineBody>,
    /// All labels that constraints see.
    pub labels: BTreeMap<String, String>,
    pub capacity: Option<CapacityBody>,
    /// Why it runs nothing at the moment.
    pub paused: Option<Reason>,
    /// What is missing of the cage around its functions, where it is not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_cage: Option<String>,
    /// The version of the policy that holds there, as it said last; only of a single agent that was asked for.
    #[serde(default)]
    pub policy_version: Option<u64>,
    /// What its owner narrows, as it said last.
    #[serde(default)]
    pub narrowed: BTreeMap<String, String>,
    /// The part of each hour of its own week in which it was there for work, 0 to 1, averaged over weeks: a list of 24 for
    /// each day from Monday on, with null for hours that were never watched. Only of a single agent that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_hours: Option<Vec<Vec<Option<f64>>>>,
    /// Attempts that are with it, running or waiting there.
    pub attempts: Vec<AttemptId>,
    /// Snapshots that it keeps, of its own tasks and for others.
    #[serde(default)]
    pub snapshots: u64,
    /// Its words about attempts that it did not hold, since this coordinator leads: late ones, or lies.
    #[serde(default)]
    pub claims_refused: u64,
    /// How often it broke the protocol and lost its stream, since this coordinator leads.
    #[serde(default)]
    pub breaches: u64,
    /// How often it held an attempt beyond its time limit, lately and since this coordinator leads.
    #[serde(default)]
    pub overtimes: u64,
    /// Its name on the mesh.
    pub peer: String,
}

/// That nothing of an agent is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineBody {
    /// `output`: two others contradicted an output of it. `cloned`: two programs use its identity.
    pub kind: QuarantineKind,
    pub since: jiff::Timestamp,
    pub reason: String,
}

/// The fixed facts of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineBody {
    pub os: String,
    pub arch: String,
    pub cores: u16,
    pub memory_bytes: u64,
    /// Which compiled artifacts it can load.
    pub engine: String,
}

/// What a machine offered a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityBody {
    pub slots: u16,
    pub slots_busy: u16,
    /// Attempts received and not yet started.
    pub waiting: u32,
    pub cpu_free_percent: u8,
    pub memory_free_bytes: u64,
}

/// `POST /agents/{agent}/intake`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntakeRequest {
    pub intake: Intake,
}

/// What was done to an agent, and to which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDeed {
    pub agent: AgentId,
    pub name: String,
    /// Attempts there that it concerns, or 1 if it changed something else.
    pub affected: u64,
    /// It was so already, and nothing was written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// Who has heard of it, when that decides who is served on the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// The number of the token that it joined with, when that still admits machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
}

/// How far the word has got that a machine was thrown out, or let in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Peers that confirmed it, without this coordinator.
    pub heard: u64,
    /// Enrolled machines and other coordinators that did not, most of them because they are away: they hear it before they are
    /// admitted anywhere.
    pub unheard: u64,
}

/// The fleet in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentsSummary {
    /// Enrolled and not revoked.
    pub enrolled: u64,
    pub connected: u64,
    /// Connected, and running nothing for its owner's sake.
    pub paused: u64,
    pub slots: u64,
    pub slots_busy: u64,
    /// Of which nothing is heard, and which did not take their leave.
    #[serde(default)]
    pub silent: u64,
}

/// Many agents are out of touch at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageBody {
    /// `together`: a part of the network; `cut_off`: no agent at all is heard; `unmet`: this coordinator has just begun.
    pub kind: String,
    pub since: jiff::Timestamp,
    pub agents: u32,
    /// From when on copies of what they have start elsewhere, a few at a time.
    pub copies_from: Option<jiff::Timestamp>,
    /// What it means.
    pub message: String,
}

/// Somebody on the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerBody {
    pub peer: String,
    /// `agent` or `coordinator`, as its certificate says; absent for a stranger.
    pub role: Option<String>,
    pub agent: Option<AgentId>,
    pub name: Option<String>,
    /// The program and its version.
    pub software: Option<String>,
    pub address: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// `tcp` or `quic`.
    pub transport: String,
    pub round_trip_ms: Option<f64>,
    /// Whether its stream of work is open.
    pub work_open: bool,
    pub blob_bytes_sent: u64,
    pub blob_bytes_received: u64,
}

/// A connected agent's part in moving blobs, in bytes since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTraffic {
    pub agent: AgentId,
    pub name: String,
    pub peer: String,
    /// Where its connection comes from.
    pub address: Option<String>,
    /// Where it says that others can dial it.
    pub listens: Vec<String>,
    /// Blobs that it says it holds.
    pub blobs: u64,
    pub from_agents_bytes: u64,
    pub from_coordinators_bytes: u64,
    /// What it sent to others.
    pub served_bytes: u64,
}

/// A blob on the mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlobTraffic {
    pub digest: lull_shared::digest::Digest,
    pub size_bytes: u64,
    /// Connected agents that say they hold it.
    pub holders: u64,
    /// Agents that fetch it at this moment.
    pub fetching: u64,
    /// What this coordinator sent of it since it started.
    pub uploaded_bytes: u64,
    /// The same in copies.
    pub uploads: f64,
}

/// One thing that `lull net doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `listening`, `store`, `agents`, ...
    pub check: String,
    pub verdict: Verdict,
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a thing is that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    Good,
    Odd,
    Bad,
}

impl Verdict {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
