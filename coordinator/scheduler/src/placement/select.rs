//! Which of several agents gets a task: one with a free slot (others are not asked), of a long task one that will most
//! likely be left alone for as long, then the less loaded, then one that
//! knows the job already. Loads compare by quarters: a small difference is not worth fetching a module anew.
//!
//! A fourth question, whom to preempt for a more urgent task, is not asked: attempts run until they end.

use lull_shared::id::AgentId;

/// An agent that could start the task now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub agent: AgentId,
    /// The chance that the task is interrupted there, in tenths; 0 for a short one.
    pub risk: u8,
    pub load: Load,
    pub warmth: Warmth,
}

/// What an agent has of a job already: the smaller the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Warmth {
    /// Its brief, and so most likely its code and a warm executor.
    Knows,
    /// Its code, from another job of the version.
    Holds,
    Cold,
}

/// Taken slots in thousandths of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load(pub u32);

impl Load {
    /// Of an agent that has so many attempts.
    pub(crate) fn of(held: usize, slots: u16) -> Self {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        Self(held.saturating_mul(1_000).checked_div(u32::from(slots)).unwrap_or(u32::MAX))
    }

    /// The quarter that it falls in.
    pub(crate) fn quarter(self) -> u32 {
        self.0 / 250
    }
}

/// The best of them.
pub(crate) fn select(candidates: impl IntoIterator<Item = Candidate>) -> Option<AgentId> {
    let best = candidates.into_iter().min_by_key(|c| (c.risk, c.load.quarter(), c.warmth, c.load, c.agent))?;
    Some(best.agent)
}

#[cfg(test)]
mod tests {
    use super::{Warmth::*, *};

    fn candidate(agent: u64, held: usize, warmth: Warmth) -> Candidate {
        Candidate { agent: AgentId(agent), risk: 0, load: Load::of(held, 8), warmth }
    }

    #[test]
    fn the_less_loaded_agent_is_chosen_even_if_it_is_cold() {
        assert_eq!(select([candidate(1, 4, Knows), candidate(2, 0, Cold)]), Some(AgentId(2)));
    }

    #[test]
    fn among_equally_loaded_agents_the_warm_one_is_chosen() {
        assert_eq!(select([candidate(1, 2, Cold), candidate(2, 3, Knows)]), Some(AgentId(2)));
        assert_eq!(select([candidate(1, 2, Knows), candidate(2, 2, Knows)]), Some(AgentId(1)));
    }

    #[test]
    fn the_code_is_worth_a_small_difference_and_less_than_a_warm_executor() {
        assert_eq!(select([candidate(1, 2, Cold), candidate(2, 3, Holds)]), Some(AgentId(2)));
        assert_eq!(select([candidate(1, 2, Holds), candidate(2, 3, Knows)]), Some(AgentId(2)));
        assert_eq!(select([candidate(1, 0, Cold), candidate(2, 4, Holds)]), Some(AgentId(1)), "an idle machine comes first");
    }

    #[test]
    fn a_long_task_goes_where_it_is_left_alone() {
        let risky = Candidate { risk: 7, ..candidate(1, 0, Knows) };
        assert_eq!(select([risky, candidate(2, 4, Cold)]), Some(AgentId(2)));
    }

    #[test]
    fn nobody_is_chosen_among_none() {
        assert_eq!(select([]), None);
        assert_eq!(Load::of(0, 0), Load(u32::MAX), "no slots: as loaded as can be");
    }
}
