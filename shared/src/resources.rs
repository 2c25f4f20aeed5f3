//! What a machine is and what of it is free.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{id::AgentId, state::PauseReason};

/// A machine's fixed facts and the names its administrator gave it, as constraints see them.
///
/// `os`, `arch`, `cores`, `memory` (bytes) and `name` are set by the agent; all others are the administrator's.
pub type Labels = BTreeMap<String, String>;

/// What an agent is: sent once per connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The operating system as `std::env::consts::OS` names it.
    pub os: String,
    /// The processor as `std::env::consts::ARCH` names it.
    pub arch: String,
    /// Logical processors.
    pub cores: u16,
    /// Physical memory, in bytes.
    pub memory_bytes: u64,
    /// Which compiled artifacts this agent's engine can load; equal strings are interchangeable.
    pub engine: String,
}

/// What an agent offers at this moment: soft state, true a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub agent: AgentId,
    /// Counts up with each change since the agent started; an older one than known is ignored.
    pub sequence: u64,
    /// Attempts that may run at once.
    pub slots: u16,
    /// Attempts that run now.
    pub slots_busy: u16,
    /// Attempts received and not yet started.
    pub waiting: u32,
    /// The share of the machine's processors that others leave free, in percent.
    pub cpu_free_percent: u8,
    /// Memory that attempts may still take, in bytes.
    pub memory_free_bytes: u64,
    /// Why nothing runs here, when nothing may.
    pub paused: Option<PauseReason>,
}
