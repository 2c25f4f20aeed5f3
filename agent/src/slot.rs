//! One place where attempts run, and the executor process in it: CORE, pure.
//!
//! Owns the transitions of a single slot. Which attempt comes next is the session's business, processes are the
//! shell's.
//!
//! ```text
//! idle --start--> starting --ready--> warm --push--> running <--freeze/thaw--> paused
//!  ^                 |                 ^ |              |  |                     |
//!  |                 |                 | |   last done  |  | stop                | stop
//!  |                 +--stop--+        +-+--------------+  v                     v
//!  +---------gone---- stopping <------------------------------------------------+
//! ```
//! A running slot has one attempt at the front; further ones of the same job may wait in the executor's pipe, so
//! that tasks of a fraction of a millisecond need no round trip each.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{collections::VecDeque, time::Duration};

use lull_shared::{
    id::{AttemptId, JobId},
    message::Payload,
    time::Timestamp,
};

/// A slot's number, from 0.
pub type SlotId = u16;

/// An attempt and its input, wherever it is between its offer and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its place in the order of offers; it keeps it when it is put back.
    pub order: u64,
    pub attempt: AttemptId,
    pub input: Payload,
    /// Whether its input, when that is a blob, has been asked for and is kept in the cache for it.
    pub pinned: bool,
    pub offered: Timestamp,
}

impl Held {
    /// The job it belongs to.
    pub fn job(&self) -> JobId {
        self.attempt.task.job
    }
}

/// How a slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// No process.
    Idle,
    /// Its executor is being started; `first` is gone when it was recalled meanwhile.
    Starting { job: JobId, first: Option<Held>, since: Timestamp },
    /// Its executor is ready for the next attempt of its job, or of another one that fits it.
    Warm { executor: Executor, since: Timestamp },
    /// The front of its work has been on the processor since then.
    Running { work: Work, since: Timestamp },
    /// Its process is frozen.
    Paused { work: Work },
    /// Its process was killed and is not gone yet; then it is started again for `then`.
    Stopping { job: JobId, then: Option<Held> },
}

/// A living executor process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executor {
    /// Whose attempts it runs at present.
    pub job: JobId,
    /// Since when it runs those.
    pub since: Timestamp,
}

/// What a running or frozen executor has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub executor: Executor,
    /// What it executes.
    pub front: Held,
    /// When the front began.
    pub begun: Timestamp,
    /// Unpaused running time of the front before the present stretch.
    pub spent: Duration,
    /// What it was given beyond that and begins by itself.
    pub rest: VecDeque<Held>,
}

/// An attempt that its executor brought to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub held: Held,
    pub begun: Timestamp,
}

impl Slot {
    /// The job whose executor is here.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Idle => None,
            Self::Starting { job, .. } | Self::Stopping { job, .. } => Some(*job),
            Self::Warm { executor, .. } => Some(executor.job),
            Self::Running { work, .. } | Self::Paused { work } => Some(work.executor.job),
        }
    }

    /// Everything that is held here, in order.
    pub fn held(&self) -> Vec<&Held> {
        match self {
            Self::Idle | Self::Warm { .. } => Vec::new(),
            Self::Starting { first: one, .. } | Self::Stopping { then: one, .. } => one.iter().collect(),
            Self::Running { work, .. } | Self::Paused { work } => std::iter::once(&work.front).chain(&work.rest).collect(),
        }
    }

    /// How many attempts its executor was given; none when it has none or does not run.
    pub fn piped(&self) -> Option<usize> {
        match self {
            Self::Running { work, .. } => Some(1 + work.rest.len()),
            Self::Idle | Self::Starting { .. } | Self::Warm { .. } | Self::Paused { .. } | Self::Stopping { .. } => None,
        }
    }

    /// Whether there is a process that can be frozen.
    pub fn has_process(&self) -> bool {
        match self {
            Self::Starting { .. } | Self::Warm { .. } | Self::Running { .. } | Self::Paused { .. } => true,
            Self::Idle | Self::Stopping { .. } => false,
        }
    }

    /// Gives an executor that is warm or running one more attempt of its job; hands it back when it is neither.
    pub fn push(&mut self, held: Held, now: Timestamp) -> Option<Held> {
        match self {
            Self::Warm { executor, .. } => {
                let work = Work { executor: *executor, front: held, begun: now, spent: Duration::ZERO, rest: VecDeque::new() };
                *self = Self::Running { work, since: now };
                None
            }
            Self::Running { work, .. } => {
                work.rest.push_back(held);
                None
            }
            Self::Idle | Self::Starting { .. } | Self::Paused { .. } | Self::Stopping { .. } => Some(held),
        }
    }

    /// A warm executor is turned to another job.
    pub fn serve(&mut self, other: JobId, now: Timestamp) {
        if let Self::Warm { executor, .. } = self {
            *executor = Executor { job: other, since: now };
        }
    }

    /// Its executor has started: it is warm, and what it was started for comes back.
    pub fn ready(&mut self, now: Timestamp) -> Option<Held> {
        let Self::Starting { job, first, since } = self else { return None };
        let (executor, first) = (Executor { job: *job, since: *since }, first.take());
        *self = Self::Warm { executor, since: now };
        first
    }

    /// Its executor ended an attempt. None when that is not the front: a word from a process that was given up.
    pub fn finish(&mut self, attempt: AttemptId, now: Timestamp) -> Option<Ended> {
        let (Self::Running { work, .. } | Self::Paused { work }) = self else { return None };
        if work.front.attempt != attempt {
            return None;
        }
        let begun = std::mem::replace(&mut work.begun, now);
        let Some(next) = work.rest.pop_front() else {
            let held = work.front.clone();
            *self = Self::Warm { executor: work.executor, since: now };
            return Some(Ended { held, begun });
        };
        let held = std::mem::replace(&mut work.front, next);
        work.spent = Duration::ZERO;
        if let Self::Running { since, .. } = self {
            *since = now;
        }
        Some(Ended { held, begun })
    }

    /// Its process leaves the processor; what it held is reported.
    pub fn freeze(&mut self, now: Timestamp) {
        *self = match std::mem::replace(self, Self::Idle) {
            Self::Running { mut work, since } => {
                work.spent += now.since(since);
                Self::Paused { work }
            }
            other => other,
        };
    }

    /// Its process goes on.
    pub fn thaw(&mut self, now: Timestamp) {
        *self = match std::mem::replace(self, Self::Idle) {
            Self::Paused { work } => Self::Running { work, since: now },
            other => other,
        };
    }

    /// The machine slept for this long: that was no running time.
    pub fn slept(&mut self, by: Duration, now: Timestamp) {
        if let Self::Running { since, .. } = self {
            *since = (*since + by).min(now);
        }
    }

    /// When the front has run for `limit`, unless it is frozen first.
    pub fn deadline(&self, limit: Duration) -> Option<Timestamp> {
        match self {
            Self::Running { work, since } => Some(*since + limit.saturating_sub(work.spent)),
            Self::Idle | Self::Starting { .. } | Self::Warm { .. } | Self::Paused { .. } | Self::Stopping { .. } => None,
        }
    }

    /// Its process is killed; everything it held comes back.
    pub fn stop(&mut self) -> Vec<Held> {
        let Some(job) = self.job() else { return Vec::new() };
        match std::mem::replace(self, Self::Stopping { job, then: None }) {
            Self::Idle | Self::Warm { .. } => Vec::new(),
            Self::Starting { first: one, .. } | Self::Stopping { then: one, .. } => one.into_iter().collect(),
            Self::Running { work, .. } | Self::Paused { work } => std::iter::once(work.front).chain(work.rest).collect(),
        }
    }

    /// Its process is gone; everything it held comes back.
    pub fn gone(&mut self) -> Vec<Held> {
        let held = self.stop();
        *self = Self::Idle;
        held
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::TaskId;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn held(index: u32) -> Held {
        let attempt = AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        Held { order: u64::from(index), attempt, input: Payload::inline(Vec::new()), pinned: false, offered: at(0) }
    }

    fn running(count: u32) -> Slot {
        let mut slot = Slot::Starting { job: JobId(1), first: Some(held(0)), since: at(0) };
        let first = slot.ready(at(10)).expect("it was started for one");
        assert_eq!(slot.push(first, at(10)), None);
        for index in 1..count {
            assert_eq!(slot.push(held(index), at(10)), None);
        }
        slot
    }

    #[test]
    fn only_unpaused_time_counts_towards_the_limit() {
        let mut slot = running(1);
        let limit = Duration::from_millis(100);
        assert_eq!(slot.deadline(limit), Some(at(110)));
        slot.freeze(at(40));
        assert_eq!(slot.deadline(limit), None);
        slot.thaw(at(1_000));
        assert_eq!(slot.deadline(limit), Some(at(1_070)));
        slot.slept(Duration::from_millis(500), at(1_600));
        assert_eq!(slot.deadline(limit), Some(at(1_570)));
    }

    #[test]
    fn the_next_in_the_pipe_begins_when_the_front_ends() {
        let mut slot = running(2);
        assert_eq!(slot.finish(held(1).attempt, at(20)), None, "it is not at the front");
        let ended = slot.finish(held(0).attempt, at(20)).expect("the front");
        assert_eq!((ended.held, ended.begun), (held(0), at(10)));
        assert_eq!(slot.deadline(Duration::from_millis(100)), Some(at(120)));
        slot.finish(held(1).attempt, at(30)).expect("the next");
        assert!(matches!(slot, Slot::Warm { .. }));
    }

    #[test]
    fn a_result_that_was_on_its_way_when_the_process_froze_is_taken() {
        let mut slot = running(1);
        slot.freeze(at(11));
        assert!(slot.finish(held(0).attempt, at(12)).is_some());
    }

    #[test]
    fn whatever_a_killed_process_held_comes_back_in_order() {
        let mut slot = running(3);
        assert_eq!(slot.stop().iter().map(|held| held.order).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(slot.finish(held(0).attempt, at(20)), None, "a late word of the killed process");
        assert_eq!(slot.gone(), []);
        assert_eq!(slot, Slot::Idle);
    }
}
