//! A task that is with agents: one attempt as a rule, and now and then a second beside it. The first of them to bring a
//! result ends the task; the others are taken back.

use lull_shared::{id::AgentId, state::PauseReason, time::Timestamp};

use crate::event::OpenAttempt;

/// A task that is with one agent or several.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    /// The number of its newest attempt.
    pub attempts: u32,
    pub failures: u32,
    /// Never empty between turns; in the order of their numbers.
    live: Vec<Live>,
}

/// One live attempt.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub number: u32,
    pub agent: AgentId,
    pub since: Timestamp,
    pub paused: Option<PauseReason>,
    /// The running time of the snapshot that it went on from, in microseconds, if it went on from one.
    pub resumed_us: Option<u64>,
    /// Why it was started although nothing had gone wrong, in words.
    pub cause: Option<Box<str>>,
    /// Whether that was because nothing was heard of the agents that had the task.
    pub for_silence: bool,
}

/// How the words begin for a copy that was started for its agents' silence. They are all that a store remembers of it.
pub(crate) const FOR_SILENCE: &str = "nothing is heard of ";

impl Live {
    /// An attempt that is given to an agent now.
    pub(crate) fn new(number: u32, agent: AgentId, since: Timestamp, resumed_us: Option<u64>) -> Self {
        Self { number, agent, since, paused: None, resumed_us, cause: None, for_silence: false }
    }
}

impl Live {
    fn because(self, cause: Option<Box<str>>) -> Self {
        let for_silence = cause.as_deref().is_some_and(|cause| cause.starts_with(FOR_SILENCE));
        Self { cause, for_silence, ..self }
    }
}

impl From<&OpenAttempt> for Live {
    fn from(open: &OpenAttempt) -> Self {
        let OpenAttempt { number, agent, since, resumed_us, build: _, cause } = open;
        Self::new(*number, *agent, *since, *resumed_us).because(cause.clone())
    }
}

impl Copies {
    /// A task with this live attempt.
    pub(crate) fn new(failures: u32, first: Live) -> Self {
        Self { attempts: first.number, failures, live: vec![first] }
    }

    /// A task as it was remembered.
    pub(crate) fn restore(attempts: u32, failures: u32, live: &[OpenAttempt]) -> Self {
        Self { attempts, failures, live: live.iter().map(Live::from).collect() }
    }

    /// Its live attempts.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Live> {
        self.live.iter()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.live.len()
    }

    /// The attempt with this number, if it is live.
    pub(crate) fn get(&self, number: u32) -> Option<&Live> {
        self.live.iter().find(|live| live.number == number)
    }

    /// The attempt with this number, to change it.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Live> {
        self.live.iter_mut().find(|live| live.number == number)
    }

    /// Those beside the attempt with this number.
    pub(crate) fn beside(&self, number: u32) -> impl Iterator<Item = &Live> {
        self.live.iter().filter(move |live| live.number != number)
    }

    /// Whether all of them are off the processor.
    pub(crate) fn are_paused(&self) -> bool {
        self.live.iter().all(|live| live.paused.is_some())
    }

    /// Whether one of them is with this agent.
    pub(crate) fn are_with(&self, agent: AgentId) -> bool {
        self.live.iter().any(|live| live.agent == agent)
    }

    /// Adds the attempt that follows the newest. Its number.
    pub(crate) fn add(&mut self, agent: AgentId, now: Timestamp, resumed_us: Option<u64>, cause: Box<str>) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.live.push(Live::new(self.attempts, agent, now, resumed_us).because(Some(cause)));
        self.attempts
    }

    /// Takes out the attempt with this number. Whether it was there.
    pub(crate) fn remove(&mut self, number: u32) -> bool {
        let before = self.live.len();
        self.live.retain(|live| live.number != number);
        self.live.len() < before
    }

    /// Whether there are some, each with an agent of its own, in the order of their numbers.
    pub(crate) fn add_up(&self) -> bool {
        let agents: std::collections::BTreeSet<_> = self.live.iter().map(|live| live.agent).collect();
        let in_order = self.live.is_sorted_by(|a, b| a.number < b.number);
        agents.len() == self.live.len() && in_order && self.live.last().is_some_and(|last| last.number <= self.attempts)
    }
}
