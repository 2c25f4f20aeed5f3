//! What is allowed on machines.

use std::collections::BTreeMap;

use lull_shared::{id::AgentId, policy::Changes};
use serde::{Deserialize, Serialize};

use super::Reason;

/// The network's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyBody {
    /// 0 until somebody sets something.
    pub version: u64,
    pub set: Option<jiff::Timestamp>,
    pub set_by: Option<String>,
    /// What holds on machines without an override.
    pub settings: Vec<SettingBody>,
    pub overrides: Vec<OverrideBody>,
    /// What whoever has just set something may not have meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingBody {
    pub key: String,
    pub value: String,
    pub meaning: String,
    /// Whether it was set, or is what it is by default.
    pub set: bool,
}

/// What differs on some machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideBody {
    pub conditions: Vec<String>,
    pub settings: BTreeMap<String, String>,
}

/// `PUT /policy`: a change, for all machines or for those that meet the conditions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPolicy {
    #[serde(default)]
    pub conditions: Vec<String>,
    #[serde(default)]
    pub set: Changes,
    /// Settings that shall be what they are without being set.
    #[serde(default)]
    pub reset: Vec<String>,
}

/// `POST /policy/preview`: what a change would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPreview {
    /// What would be other than it is, a line each; none: nothing.
    pub changes: Vec<String>,
    /// Machines that have joined and meet the conditions.
    pub machines: u64,
    /// What whoever asks may not mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What an agent may do, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlookBody {
    pub agent: AgentId,
    pub name: String,
    /// The version that holds there, as the agent said last; absent if it never did.
    pub version: Option<u64>,
    /// The version that should hold.
    pub version_set: u64,
    /// What its owner narrows.
    pub narrowed: BTreeMap<String, String>,
    /// What holds there.
    pub settings: BTreeMap<String, String>,
    /// The time that its clock shows, if it said how that differs from UTC.
    pub local: Option<String>,
    /// What it does now: absent while it is away.
    pub now: Option<Doing>,
    /// What the policy lets it do at the moment that was asked about, by its own clock; now if none was.
    pub at: Option<Moment>,
    /// Each hour of each day of its week, Monday first.
    pub week: Vec<Vec<Hour>>,
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// Attempts that may run at once; 0 when nothing may.
    pub slots: u16,
    /// Why nothing may.
    pub reason: Option<Reason>,
}

/// What a policy allows at one moment of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// As in `mon 14:00`.
    pub at: String,
    pub owner_away: Doing,
    pub owner_there: Doing,
}

/// One hour: in how many of its minutes what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// While the owner is away, all that the policy gives.
    pub full_min: u8,
    /// Light work, the owner there or not.
    pub light_min: u8,
}
