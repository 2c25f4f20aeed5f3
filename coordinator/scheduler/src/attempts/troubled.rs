//! What agents' own troubles mean to a task: nothing, unless they follow it wherever it goes.
//!
//! An executor that somebody killed is not the function's fault, and one that is killed on a second machine is: a function
//! that has the system run out of memory looks just so. Every other trouble is its agent's; so many in a row end the task
//! all the same, so that nothing goes round for ever. Kept in memory alone: after a change of coordinators a task may go
//! round once more.

use std::fmt;

use lull_shared::{
    id::AgentId,
    state::{Failure, Part, Trouble},
};

/// What ended an attempt that is its agent's own doing and not the function's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Own<'a> {
    /// Something of it does not work, as it says itself.
    Trouble(&'a Trouble),
    /// It told the end in a way that breaks the protocol.
    Breach(&'a str),
}

impl fmt::Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trouble(trouble) => trouble.fmt(f),
            Self::Breach(what) => write!(f, "it broke the protocol: {what}"),
        }
    }
}

/// The troubles of one task that were held against nobody yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubled {
    count: u32,
    killed_on: Option<AgentId>,
}

impl Troubled {
    /// One more. The failure that it comes to, if it is one too many: the tally begins anew then.
    pub(crate) fn note(&mut self, agent: AgentId, own: Own<'_>, max: u32) -> Option<Failure> {
        self.count = self.count.saturating_add(1);
        let elsewhere = self.killed_on.is_some_and(|other| other != agent);
        let killed = match own {
            Own::Trouble(Trouble { part: Part::Killed, reason }) => Some(reason),
            Own::Trouble(_) | Own::Breach(_) => None,
        };
        let failure = match killed {
            Some(reason) if elsewhere => Some(Failure::ExecutorDied { how: format!("{reason}, on two machines") }),
            _ if self.count >= max => Some(Failure::GivenUp { times: self.count, last: own.to_string() }),
            _ => None,
        };
        if failure.is_some() {
            *self = Self::default();
        } else if killed.is_some() {
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
        assert_eq!(troubled.note(AgentId(1), Own::Trouble(&killed()), 16), None);
        assert_eq!(troubled.note(AgentId(1), Own::Trouble(&killed()), 16), None);
        assert!(matches!(troubled.note(AgentId(2), Own::Trouble(&killed()), 16), Some(Failure::ExecutorDied { .. })));
        assert_eq!(troubled.note(AgentId(3), Own::Trouble(&killed()), 16), None, "the tally begins anew");
    }

    #[test]
    fn what_never_comes_to_an_end_is_given_up() {
        let mut troubled = Troubled::default();
        let disk = Trouble::new(Part::Outbox, "no space left");
        let ends = (1..).find_map(|times| Some((times, troubled.note(AgentId(times % 3), Own::Trouble(&disk), 5)?)));
        assert!(matches!(ends, Some((5, Failure::GivenUp { times: 5, .. }))), "{ends:?}");
    }
}
