//! What the scheduler wants to be woken for: at most one time for each thing and kind.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::{AgentId, JobId},
    time::Timestamp,
};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
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
    /// More of a stopped job's waiting tasks are to end, or of the jobs that needed one to succeed.
    Stopping(JobId),
    /// Sleeping machines may be woken.
    Waking,
    /// Copies of some snapshots are to be counted.
    Keepers,
}

/// All of them by time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Timestamp, Timer)>,
    times: BTreeMap<Timer, Timestamp>,
}

impl Timers {
    /// Sets the timer, wherever it stood.
    pub(crate) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.clear(timer);
        self.times.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets the timer if it is not set.
    pub(crate) fn set_once(&mut self, timer: Timer, at: Timestamp) {
        if !self.times.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Sets the timer, unless it is due earlier.
    pub(crate) fn set_sooner(&mut self, timer: Timer, at: Timestamp) {
        if self.times.get(&timer).is_none_or(|known| *known > at) {
            self.set(timer, at);
        }
    }

    /// Sets the timer to the time, or clears it.
    pub(crate) fn set_or_clear(&mut self, timer: Timer, at: Option<Timestamp>) {
        match at {
            Some(at) if self.times.get(&timer) == Some(&at) => {}
            Some(at) => self.set(timer, at),
            None => self.clear(timer),
        }
    }

    /// Forgets the timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.times.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Whether the timer is set.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.times.contains_key(&timer)
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due, with its time.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        let (at, timer) = self.by_time.first().copied().filter(|(at, _)| *at <= now)?;
        self.clear(timer);
        Some((at, timer))
    }

    /// What does not add up, if anything.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let agree =
            self.by_time.len() == self.times.len() && self.by_time.iter().all(|(at, timer)| self.times.get(timer) == Some(at));
        if agree { Ok(()) } else { Err(format!("{} timers by time and {} by name", self.by_time.len(), self.times.len())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u64, i64),
        Once(u64, i64),
        Sooner(u64, i64),
        SetOrClear(u64, Option<i64>),
        Clear(u64),
        Pop(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (job, at) = (0..4_u64, 0..6_i64);
        prop_oneof![
            (job.clone(), at.clone()).prop_map(|(job, at)| Step::Set(job, at)),
            (job.clone(), at.clone()).prop_map(|(job, at)| Step::Once(job, at)),
            (job.clone(), at.clone()).prop_map(|(job, at)| Step::Sooner(job, at)),
            (job.clone(), prop::option::of(at.clone())).prop_map(|(job, at)| Step::SetOrClear(job, at)),
            job.prop_map(Step::Clear),
            at.prop_map(Step::Pop),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn timers_are_what_a_list_of_them_says(steps in vec(step(), 1..60)) {
            let (mut timers, mut list) = (Timers::default(), Vec::<(i64, u64)>::new());
            for step in steps {
                let known = |list: &[(i64, u64)], job| list.iter().find(|(_, other)| *other == job).map(|(at, _)| *at);
                let (timer, put) = (|job| Timer::Backoff(JobId(job)), |list: &mut Vec<(i64, u64)>, job, at: Option<i64>| {
                    list.retain(|(_, other)| *other != job);
                    list.extend(at.map(|at| (at, job)));
                    list.sort_unstable();
                });
                match step {
                    Step::Set(job, at) => {
                        timers.set(timer(job), Timestamp(at));
                        put(&mut list, job, Some(at));
                    }
                    Step::Once(job, at) => {
                        timers.set_once(timer(job), Timestamp(at));
                        let first = known(&list, job).unwrap_or(at);
                        put(&mut list, job, Some(first));
                    }
                    Step::Sooner(job, at) => {
                        timers.set_sooner(timer(job), Timestamp(at));
                        let sooner = known(&list, job).map_or(at, |known| known.min(at));
                        put(&mut list, job, Some(sooner));
                    }
                    Step::SetOrClear(job, at) => {
                        timers.set_or_clear(timer(job), at.map(Timestamp));
                        put(&mut list, job, at);
                    }
                    Step::Clear(job) => {
                        timers.clear(timer(job));
                        put(&mut list, job, None);
                    }
                    Step::Pop(now) => {
                        let due = list.first().copied().filter(|(at, _)| *at <= now);
                        let expected = due.map(|(at, job)| (Timestamp(at), timer(job)));
                        prop_assert_eq!(timers.pop_due(Timestamp(now)), expected);
                        due.into_iter().for_each(|(_, job)| put(&mut list, job, None));
                    }
                }
                prop_assert_eq!(timers.audit(), Ok(()));
                prop_assert_eq!(timers.next(), list.first().map(|(at, _)| Timestamp(*at)));
                for job in 0..4 {
                    prop_assert_eq!(timers.is_set(timer(job)), known(&list, job).is_some());
                }
            }
        }
    }
}
