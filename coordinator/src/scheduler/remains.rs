//! What is left of attempts that come to no result: their logs and what they used, as their agents said last.
//!
//! Of an attempt that is killed that is said just before it is released; of one that runs its log's end now and then, for the
//! case that its machine vanishes. In memory until the attempt ends, and bounded over all of them: beyond it the oldest
//! attempts' go, which costs a log and nothing else.

use std::collections::BTreeMap;

use lull_shared::{
    id::{AgentId, AttemptId, TaskId},
    limits::LOG_BYTES_MAX,
    message::Remains,
    state::Usage,
};

use super::Scheduler;

/// Logs of all attempts together, in bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one of them takes beside its log.
const ENTRY_BYTES: usize = 160;

/// What was said last of live attempts.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    remains: BTreeMap<AttemptId, Remains>,
    bytes: usize,
}

impl Seen {
    fn put(&mut self, remains: Remains) {
        self.take(remains.attempt);
        self.bytes += remains.log.len() + ENTRY_BYTES;
        self.remains.insert(remains.attempt, remains);
        while self.bytes > BYTES_MAX
            && let Some((_, oldest)) = self.remains.pop_first()
        {
            self.bytes -= oldest.log.len() + ENTRY_BYTES;
        }
    }

    /// What was last said of the attempts of a task.
    fn of(&self, task: TaskId) -> impl Iterator<Item = &Remains> {
        let (first, last) = (AttemptId { task, number: 0 }, AttemptId { task, number: u32::MAX });
        self.remains.range(first..=last).map(|(_, remains)| remains)
    }

    /// What was said of an attempt that ends.
    pub(super) fn take(&mut self, attempt: AttemptId) -> Option<Remains> {
        let remains = self.remains.remove(&attempt)?;
        self.bytes -= remains.log.len() + ENTRY_BYTES;
        Some(remains)
    }
}

impl Scheduler {
    /// What the live attempts of a task had used when their agents last said it.
    pub fn used_so_far(&self, task: TaskId) -> BTreeMap<AttemptId, Usage> {
        self.seen.of(task).map(|remains| (remains.attempt, remains.usage)).collect()
    }

    /// An agent says what is left of an attempt, or would be.
    pub(super) fn note_remains(&mut self, id: AgentId, mut remains: Remains) {
        if !self.fleet.known(id).held.contains_key(&remains.attempt) {
            return self.disbelieve(id, remains.attempt);
        }
        let limits = self.jobs.get(&remains.attempt.task.job).map(|job| job.new.spec.limits).unwrap_or_default();
        let cut = remains.log.len().saturating_sub(limits.log_bytes.min(LOG_BYTES_MAX) as usize);
        // A copy: a slice would keep the whole frame.
        remains.log = bytes::Bytes::copy_from_slice(&remains.log[cut..]);
        remains.log_dropped_bytes = remains.log_dropped_bytes.saturating_add(cut as u64);
        self.seen.put(remains);
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::JobId;

    use super::*;

    #[test]
    fn what_is_left_of_attempts_is_bounded_over_all_and_goes_with_each() {
        let mut seen = Seen::default();
        let attempt = |index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 };
        let log = bytes::Bytes::from(vec![b'x'; LOG_BYTES_MAX as usize]);
        let fit = (BYTES_MAX / (log.len() + ENTRY_BYTES)) as u32;
        for index in 0..fit + 10 {
            seen.put(Remains { attempt: attempt(index), log: log.clone(), log_dropped_bytes: 0, usage: Usage::default() });
        }
        assert_eq!((seen.remains.len(), seen.bytes <= BYTES_MAX), (fit as usize, true));
        assert!(seen.take(attempt(9)).is_none(), "the oldest have gone");
        for index in 10..fit + 10 {
            assert!(seen.take(attempt(index)).is_some());
        }
        assert_eq!((seen.remains.len(), seen.bytes), (0, 0));
    }
}
