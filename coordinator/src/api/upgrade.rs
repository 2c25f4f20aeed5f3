//! How agents become another version.

use std::collections::BTreeMap;

use lull_scheduler::rollout::Waves;
use lull_shared::{digest::Digest, id::AgentId, release::Platform};
use serde::{Deserialize, Serialize};

/// `POST /upgrades`: a package that was uploaded, and how it is to reach the agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginUpgrade {
    pub package: Digest,
    pub platform: Platform,
    /// The version that the package holds.
    pub version: String,
    /// Rising shares of the machines in percent, the last of them 100.
    #[serde(default)]
    pub waves: Waves,
    /// Labels that a machine must have to be meant.
    #[serde(default)]
    pub conditions: Vec<String>,
    /// How long an agent has to install it, and again to come back; half an hour if left out.
    #[serde(default)]
    pub within_s: Option<u64>,
    /// How long it must stay then to count as healthy; five minutes if left out.
    #[serde(default)]
    pub steady_s: Option<u64>,
    /// The share of those that were told that may fail before the rollout stops by itself, in percent; 5 if left out.
    #[serde(default)]
    pub tolerate_percent: Option<u8>,
    /// How long agents may follow it; thirty days if left out.
    #[serde(default)]
    pub expires_s: Option<u64>,
}

/// Whether a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// It goes on, or waits for machines that are away.
    Running,
    /// Somebody stopped it, or too many failed.
    Stopped,
    /// Every machine that is meant has it.
    Done,
}

/// A rollout as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeBody {
    /// Rises with each; what agents and the audit call it.
    pub release: u64,
    pub platform: Platform,
    pub version: String,
    pub package: Digest,
    pub package_bytes: u64,
    pub state: UpgradeState,
    /// Why it stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    pub waves: Waves,
    /// How many of them have begun.
    pub waves_begun: u16,
    pub conditions: Vec<String>,
    pub within_s: u64,
    pub steady_s: u64,
    pub tolerate_percent: u8,
    /// Machines that are meant, and those of them that have an older version.
    pub machines: u64,
    pub behind: u64,
    /// How many agents are at each step: `told`, `given`, `back`, `healthy`, `waiting`, `refused`, `failed`.
    pub steps: BTreeMap<String, u64>,
    /// Those of which there is something to say.
    pub troubled: Vec<UpgradedAgent>,
    pub begun: jiff::Timestamp,
    pub begun_by: String,
    pub expires: jiff::Timestamp,
}

/// How an agent took a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradedAgent {
    pub agent: AgentId,
    pub step: String,
    pub reason: String,
}

/// What an agent that is behind is to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindBody {
    pub version: String,
    /// How far it is, once it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
