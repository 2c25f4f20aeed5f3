//! What agents' own troubles mean to a task: nothing, unless they follow it wherever it goes.
//!
//! An executor that somebody killed is not the function's fault, and one that is killed on a second machine is: a function
//! that has the system run out of memory looks just so. Every other trouble is its agent's; so many in a row end the task
//! all the same, so that nothing goes round for ever. Kept in memory alone: after a change of coordinators a task may go
//! round once more.

use lull_shared::{
    id::AgentId,
    state::{Failure, Part, Trouble},
};

/// The troubles of one task that were held against nobody yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubled {
    count: u32,
    killed_on: Option<AgentId>,
}

impl Troubled {
    /// One more. The failure that it comes to, if it is one too many: the tally begins anew then.
    pub(super) fn note(&mut self, agent: AgentId, trouble: &Trouble, max: u32) -> Option<Failure> {
        self.count = self.count.saturating_add(1);
        let elsewhere = self.killed_on.is_some_and(|other| other != agent);
        let failure = match trouble.part {
            Part::Killed if elsewhere => {
                let how = format!("{}, on two machines", trouble.reason);
                Some(Failure::ExecutorDied { how })
            }
            _ if self.count >= max => Some(Failure::GivenUp { times: self.count, last: trouble.to_string() }),
            _ => None,
        };
        if failure.is_some() {
            *self = Self::default();
        } else if trouble.part == Part::Killed {
            self.killed_on = Some(agent);
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed() -> Trouble {
        Trouble::new(Part::Killed, "killed")
    }

    #[test]
    fn whoever_is_killed_on_two_machines_is_to_blame_and_on_one_only_its_owner() {
        let mut troubled = Troubled::default();
        assert_eq!(troubled.note(AgentId(1), &killed(), 16), None);
        assert_eq!(troubled.note(AgentId(1), &killed(), 16), None);
        assert!(matches!(troubled.note(AgentId(2), &killed(), 16), Some(Failure::ExecutorDied { .. })));
        assert_eq!(troubled.note(AgentId(3), &killed(), 16), None, "the tally begins anew");
    }

    #[test]
    fn what_never_comes_to_an_end_is_given_up() {
        let mut troubled = Troubled::default();
        let disk = Trouble::new(Part::Outbox, "no space left");
        let ends = (1..).find_map(|times| Some((times, troubled.note(AgentId(times % 3), &disk, 5)?)));
        assert!(matches!(ends, Some((5, Failure::GivenUp { times: 5, .. }))), "{ends:?}");
    }
}
