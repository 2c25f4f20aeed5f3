//! Which agents hold the code of which version, as far as somebody asked: the bytes that need not travel again.
//!
//! Soft state, told by the edge that hears what agents hold; it is empty after a restart until they have said so again.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::id::{AgentId, VersionId};

/// Versions whose holders are kept. The edge tells of fewer; beyond it none are added.
const VERSIONS_MAX: usize = 1024;

/// Agents by version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders(BTreeMap<VersionId, BTreeSet<AgentId>>);

impl Holders {
    /// Who holds a version's code, if anybody does.
    pub(crate) fn of(&self, version: VersionId) -> Option<&BTreeSet<AgentId>> {
        self.0.get(&version)
    }

    pub(crate) fn update(&mut self, version: VersionId, gained: Vec<AgentId>, lost: &[AgentId]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_come_and_go_and_of_no_more_versions_than_are_kept() {
        let mut holders = Holders::default();
        let of =
            |holders: &Holders, version| holders.of(VersionId(version)).map(|all| all.iter().map(|id| id.0).collect::<Vec<_>>());
        let agents = |numbers: &[u64]| numbers.iter().copied().map(AgentId).collect::<Vec<_>>();
        holders.update(VersionId(1), agents(&[3, 1]), &[]);
        holders.update(VersionId(1), agents(&[2]), &agents(&[3]));
        assert_eq!((of(&holders, 1), of(&holders, 2)), (Some(vec![1, 2]), None));
        holders.update(VersionId(1), Vec::new(), &agents(&[1, 2]));
        assert_eq!(of(&holders, 1), None);
        for version in 1..=VERSIONS_MAX as u64 + 1 {
            holders.update(VersionId(version), agents(&[1]), &[]);
        }
        let [last, beyond] = [VERSIONS_MAX as u64, VERSIONS_MAX as u64 + 1].map(|version| of(&holders, version));
        assert_eq!((last, beyond), (Some(vec![1]), None));
        holders.update(VersionId(1), agents(&[2]), &[]);
        assert_eq!(of(&holders, 1), Some(vec![1, 2]), "of those that are kept more is learnt");
    }
}
