//! What the scheduler wants to be woken for: at most one time for each thing and kind.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::{AgentId, JobId},
    time::Timestamp,
};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Look whether the agent was heard in time.
    Lease(AgentId),
    /// Look whether the agent keeps to time limits.
    Overtime(AgentId),
    /// Look at what is with agents that are out of touch.
    Silence,
    /// The agent may be offered again what it refused.
    Refusal(AgentId),
    /// Write down when machines were there for work.
    Hours,
    /// A task's pause before its retry is over.
    Backoff(JobId),
    /// The job's window opens or closes.
    Window(JobId),
    /// An attempt has been off the processor for want of room for a while.
    Stalled,
    /// Look for tasks of the job that take much longer than others.
    Straggler(JobId),
    /// The job should have finished by now.
    FinishBy(JobId),
    /// More of a stopped job's waiting tasks are to end.
    Stopping(JobId),
    /// Sleeping machines may be woken.
    Waking,
    /// Copies of some snapshots are to be counted.
    Keepers,
}

/// All of them by time.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Timestamp, Timer)>,
    times: BTreeMap<Timer, Timestamp>,
}

impl Timers {
    /// Sets the timer, wherever it stood.
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.clear(timer);
        self.times.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets the timer if it is not set.
    pub(super) fn set_once(&mut self, timer: Timer, at: Timestamp) {
        if !self.times.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Sets the timer, unless it is due earlier.
    pub(super) fn set_sooner(&mut self, timer: Timer, at: Timestamp) {
        if self.times.get(&timer).is_none_or(|known| *known > at) {
            self.set(timer, at);
        }
    }

    /// Sets the timer to the time, or clears it.
    pub(super) fn set_or_clear(&mut self, timer: Timer, at: Option<Timestamp>) {
        match at {
            Some(at) if self.times.get(&timer) == Some(&at) => {}
            Some(at) => self.set(timer, at),
            None => self.clear(timer),
        }
    }

    /// Forgets the timer.
    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.times.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Whether the timer is set.
    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.times.contains_key(&timer)
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due, with its time.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        let (at, timer) = self.by_time.first().copied().filter(|(at, _)| *at <= now)?;
        self.clear(timer);
        Some((at, timer))
    }

    /// What does not add up, if anything.
    pub(super) fn audit(&self) -> Result<(), String> {
        let agree =
            self.by_time.len() == self.times.len() && self.by_time.iter().all(|(at, timer)| self.times.get(timer) == Some(at));
        if agree { Ok(()) } else { Err(format!("{} timers by time and {} by name", self.by_time.len(), self.times.len())) }
    }
}
