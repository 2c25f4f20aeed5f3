//! What is left of attempts that come to no result: their logs and what they used, as their agents said last.
//!
//! Of an attempt that is killed that is said just before it is released; of one that runs its log's end now and then, for the
//! case that its machine vanishes. In memory until the attempt ends, and bounded over all of them: beyond it those of the agent's
//! oldest attempts go that has the most there, which costs it a log and nobody anything else.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::{
    id::{AgentId, AttemptId, JobId, TaskId},
    limits::LOG_BYTES_MAX,
    message::Remains,
    state::Usage,
};

use crate::{Scheduler, fleet::burden::Burden};

/// Logs of all attempts together, in bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one of them takes beside its log.
const ENTRY_BYTES: usize = 160;

/// What was said last of live attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    remains: BTreeMap<AttemptId, (AgentId, Remains)>,
    by_agent: BTreeSet<(AgentId, AttemptId)>,
    burden: Burden,
}

impl Seen {
    fn put(&mut self, agent: AgentId, remains: Remains) {
        let attempt = remains.attempt;
        self.take(attempt);
        self.burden.add(agent, remains.log.len() + ENTRY_BYTES);
        self.by_agent.insert((agent, attempt));
        self.remains.insert(attempt, (agent, remains));
        while self.burden.total() > BYTES_MAX
            && let Some(heaviest) = self.burden.heaviest()
            && let Some(oldest) = self.oldest_of(heaviest)
        {
            self.take(oldest);
        }
    }

    fn oldest_of(&self, agent: AgentId) -> Option<AttemptId> {
        let least = AttemptId { task: TaskId { job: JobId(0), index: 0 }, number: 0 };
        self.by_agent.range((agent, least)..).next().filter(|(other, _)| *other == agent).map(|(_, attempt)| *attempt)
    }

    /// What was last said of the attempts of a task.
    fn of(&self, task: TaskId) -> impl Iterator<Item = &Remains> {
        let (first, last) = (AttemptId { task, number: 0 }, AttemptId { task, number: u32::MAX });
        self.remains.range(first..=last).map(|(_, (_, remains))| remains)
    }

    /// What was said of an attempt that ends.
    pub(crate) fn take(&mut self, attempt: AttemptId) -> Option<Remains> {
        let (agent, remains) = self.remains.remove(&attempt)?;
        self.by_agent.remove(&(agent, attempt));
        self.burden.remove(agent, remains.log.len() + ENTRY_BYTES);
        Some(remains)
    }
}

impl Scheduler {
    /// What the live attempts of a task had used when their agents last said it.
    pub fn used_so_far(&self, task: TaskId) -> BTreeMap<AttemptId, Usage> {
        self.seen.of(task).map(|remains| (remains.attempt, remains.usage)).collect()
    }

    /// An agent says what is left of an attempt, or would be.
    pub(crate) fn note_remains(&mut self, id: AgentId, mut remains: Remains) {
        if !self.fleet.agent(id).held.contains_key(&remains.attempt) {
            return self.disbelieve(id, remains.attempt);
        }
        let limits = self.jobs.get(&remains.attempt.task.job).map(|job| job.new.spec.limits).unwrap_or_default();
        let cut = remains.log.len().saturating_sub(limits.log_bytes.min(LOG_BYTES_MAX) as usize);
        // A copy: a slice would keep the whole frame.
        remains.log = bytes::Bytes::copy_from_slice(&remains.log[cut..]);
        remains.log_dropped_bytes = remains.log_dropped_bytes.saturating_add(cut as u64);
        self.seen.put(id, remains);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remains(index: u32, log: &bytes::Bytes) -> Remains {
        let attempt = AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        Remains { attempt, log: log.clone(), log_dropped_bytes: 0, usage: Usage::default() }
    }

    #[test]
    fn an_agent_that_says_endlessly_much_takes_no_other_agents_place() {
        let mut seen = Seen::default();
        let log = bytes::Bytes::from(vec![b'x'; LOG_BYTES_MAX as usize]);
        for index in 0..8 {
            // Older attempts than the liar's.
            seen.put(AgentId(u64::from(index) + 2), remains(index, &log));
        }
        for index in 100..400 {
            seen.put(AgentId(1), remains(index, &log));
        }
        assert!(seen.burden.total() <= BYTES_MAX);
        for index in 0..8 {
            assert!(seen.of(TaskId { job: JobId(1), index }).next().is_some(), "{index}");
        }
        assert!(seen.take(remains(100, &log).attempt).is_none() && seen.take(remains(399, &log).attempt).is_some());
    }

    #[test]
    fn what_is_left_of_attempts_is_bounded_over_all_and_goes_with_each() {
        let mut seen = Seen::default();
        let attempt = |index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let log = bytes::Bytes::from(vec![b'x'; LOG_BYTES_MAX as usize]);
        let fit = (BYTES_MAX / (log.len() + ENTRY_BYTES)) as u32;
        for index in 0..fit + 10 {
            seen.put(AgentId(1), remains(index, &log));
        }
        assert_eq!((seen.remains.len(), seen.burden.total() <= BYTES_MAX), (fit as usize, true));
        assert!(seen.take(attempt(9)).is_none(), "the oldest have gone");
        for index in 10..fit + 10 {
            assert!(seen.take(attempt(index)).is_some());
        }
        assert_eq!((seen.remains.len(), seen.by_agent.len(), seen.burden.total()), (0, 0, 0));
    }
}
