//! Who fills what all agents share: beyond its bound whoever has put the most into it makes room, and nobody else.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::id::AgentId;

/// How much each agent has put in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Burden {
    of: BTreeMap<AgentId, usize>,
    by_weight: BTreeSet<(usize, AgentId)>,
    total: usize,
}

impl Burden {
    pub(crate) fn add(&mut self, agent: AgentId, weight: usize) {
        let before = self.of.get(&agent).copied().unwrap_or(0);
        self.set(agent, before, before + weight);
    }

    pub(crate) fn remove(&mut self, agent: AgentId, weight: usize) {
        let before = self.of.get(&agent).copied().unwrap_or(0);
        assert!(before >= weight, "{agent} has put in {before}, of which {weight} are taken out");
        self.set(agent, before, before - weight);
    }

    fn set(&mut self, agent: AgentId, before: usize, after: usize) {
        self.by_weight.remove(&(before, agent));
        self.total = self.total - before + after;
        if after == 0 {
            self.of.remove(&agent);
        } else {
            self.of.insert(agent, after);
            self.by_weight.insert((after, agent));
        }
    }

    /// What all have put in.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Who has put in the most.
    pub(crate) fn heaviest(&self) -> Option<AgentId> {
        self.by_weight.last().map(|(_, agent)| *agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_put_in_the_most_is_known_at_every_moment() {
        let (mut burden, [one, two]) = (Burden::default(), [1, 2].map(AgentId));
        assert_eq!((burden.heaviest(), burden.total()), (None, 0));
        burden.add(one, 5);
        burden.add(two, 3);
        assert_eq!((burden.heaviest(), burden.total()), (Some(one), 8));
        burden.add(two, 3);
        assert_eq!((burden.heaviest(), burden.total()), (Some(two), 11));
        burden.remove(two, 6);
        assert_eq!((burden.heaviest(), burden.total()), (Some(one), 5));
        burden.remove(one, 5);
        assert!(burden.of.is_empty() && burden.by_weight.is_empty());
    }
}
