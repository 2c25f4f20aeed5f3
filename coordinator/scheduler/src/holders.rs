//! Which agents hold the code of which version, as far as somebody asked: the bytes that need not travel again.
//!
//! Soft state, told by the edge that hears what agents hold; it is empty after a restart until they have said so again.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::id::{AgentId, VersionId};

/// Versions whose holders are kept. The edge tells of fewer; beyond it none are added.
const VERSIONS_MAX: usize = 1024;

/// Agents by version.
#[derive(Debug, Clone, Default)]
pub(super) struct Holders(BTreeMap<VersionId, BTreeSet<AgentId>>);

impl Holders {
    /// Who holds a version's code, if anybody does.
    pub(super) fn of(&self, version: VersionId) -> Option<&BTreeSet<AgentId>> {
        self.0.get(&version)
    }

    pub(super) fn update(&mut self, version: VersionId, gained: Vec<AgentId>, lost: &[AgentId]) {
        if self.0.len() >= VERSIONS_MAX && !self.0.contains_key(&version) {
            return;
        }
        let holders = self.0.entry(version).or_default();
        holders.retain(|agent| !lost.contains(agent));
        holders.extend(gained);
        if holders.is_empty() {
            self.0.remove(&version);
        }
    }
}
