//! Whose a data folder is, as what lies in it says. An agent and a coordinator each have one of their own: both keep an
//! `identity.key` there, and neither is who the other is.

use std::path::Path;

/// What only an agent's folder has.
const AGENTS: &[&str] = &["membership.json", "agent.lock", "agent.toml"];
/// What only a coordinator's folder has.
const COORDINATORS: &[&str] = &["authority.key", "network.id", "admin.token", "coordinator.lock", "lull.db"];

/// By which file a folder is an agent's.
pub fn mark_of_agent(data: &Path) -> Option<&'static str> {
    mark(data, AGENTS)
}

/// By which file a folder is a coordinator's.
pub fn mark_of_coordinator(data: &Path) -> Option<&'static str> {
    mark(data, COORDINATORS)
}

/// A link counts wherever it leads to: it is not for this program to say that it is not needed.
fn mark(data: &Path, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| data.join(name).symlink_metadata().is_ok())
}
