//! The agents by number. The store numbers them from 1 on, so almost all of them stand in a plain list: each is looked up
//! several times for each task, and in a map of ten thousand every look is a walk through cold memory.

use std::collections::BTreeMap;

use lull_shared::id::AgentId;

use crate::fleet::agents::Agent;

/// Numbers below this stand in the list: eight megabytes at most. A database that left larger gaps is served from a map.
const LISTED_MAX: u64 = 1 << 20;

/// All agents, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    listed: Vec<Option<Box<Agent>>>,
    others: BTreeMap<AgentId, Box<Agent>>,
}

impl Roster {
    pub(crate) fn insert(&mut self, id: AgentId, agent: Agent) {
        let agent = Box::new(agent);
        let Some(place) = place(id) else {
            self.others.insert(id, agent);
            return;
        };
        if self.listed.len() <= place {
            self.listed.resize_with(place + 1, || None);
        }
        self.listed[place] = Some(agent);
    }

    pub(crate) fn get(&self, id: AgentId) -> Option<&Agent> {
        match place(id) {
            Some(place) => self.listed.get(place)?.as_deref(),
            None => self.others.get(&id).map(Box::as_ref),
        }
    }

    pub(crate) fn get_mut(&mut self, id: AgentId) -> Option<&mut Agent> {
        match place(id) {
            Some(place) => self.listed.get_mut(place)?.as_deref_mut(),
            None => self.others.get_mut(&id).map(Box::as_mut),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AgentId, &Agent)> {
        let listed = (0..).zip(&self.listed).filter_map(|(id, agent)| Some((AgentId(id), agent.as_deref()?)));
        listed.chain(self.others.iter().map(|(id, agent)| (*id, agent.as_ref())))
    }
}

/// Its place in the list, if it has one.
fn place(id: AgentId) -> Option<usize> {
    usize::try_from(id.0).ok().filter(|_| id.0 < LISTED_MAX)
}

#[cfg(test)]
mod tests {
    use lull_shared::state::Intake;

    use super::*;

    #[test]
    fn agents_come_in_the_order_of_their_numbers_however_large_those_are() {
        let mut roster = Roster::default();
        let numbers = [7, u64::MAX, 1, LISTED_MAX - 1, LISTED_MAX];
        for number in numbers {
            roster.insert(AgentId(number), Agent::new(number.to_string(), Intake::Open));
        }
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        assert_eq!(roster.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), sorted);
        for number in numbers {
            assert_eq!(roster.get(AgentId(number)).map(|agent| agent.name.clone()), Some(number.to_string()));
            assert!(roster.get_mut(AgentId(number)).is_some());
        }
        assert!(roster.get(AgentId(8)).is_none() && roster.get_mut(AgentId(LISTED_MAX + 1)).is_none());
    }
}
