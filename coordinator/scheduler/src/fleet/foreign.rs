//! What agents have that the store does not know: it was restored from a backup, and lives on from an older state.
//!
//! A number that was given once is never given to another job: an agent that still has a result of the first could bring it
//! for the second. So numbers go on above those that a term is known to have given ([`numbers_beyond`]), numbers that agents
//! name are left out, and an agent is given nothing of a job of which it has attempts that this store never gave, until it
//! does not name them any more. A claim costs the numbers that it names and no others: whoever names the highest number there
//! is does not bring the others to an end.

use std::collections::{BTreeMap, BTreeSet};

use lull_shared::id::{AgentId, AttemptId, JobId};

use crate::{
    Scheduler,
    fleet::{agents::Lack, burden::Burden},
};

/// Numbers that are remembered, each as often as agents name it: more than a fleet holds that lost its store for a night. Beyond
/// it the highest of whoever names the most is forgotten, so that nobody takes another's place.
const FOREIGN_MAX: usize = 64 * 1024;
/// Numbers are left out up to a multiple of this, at least so many: people see where the gap is, and scripts that know an
/// older number meet no other job.
const GAP: u64 = 1_000;
/// How far above its own numbers a restored store believes those that an agent names which proves to have seen a later term:
/// no site submits as many jobs between a backup and the need for it.
const BELIEVED_MAX: u64 = 1_000_000;

/// The number up to which jobs count as given, once a restored store has given `last` and an agent names these jobs that
/// proves to have seen a later term.
pub fn numbers_beyond(last: u64, named: impl IntoIterator<Item = JobId>) -> u64 {
    let believed = last.saturating_add(BELIEVED_MAX);
    let highest = named.into_iter().map(|job| job.0).filter(|job| *job <= believed).fold(last, u64::max);
    (highest / GAP).saturating_add(2).saturating_mul(GAP)
}

/// Numbers of jobs that agents named, above all that were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Foreign {
    named: BTreeSet<(JobId, AgentId)>,
    by_agent: BTreeMap<AgentId, BTreeSet<JobId>>,
    burden: Burden,
}

impl Foreign {
    fn note(&mut self, job: JobId, by: AgentId, last: u64) {
        if job.0 <= last || !self.named.insert((job, by)) {
            return;
        }
        self.by_agent.entry(by).or_default().insert(job);
        self.burden.add(by, 1);
        while self.burden.total() > FOREIGN_MAX
            && let Some(heaviest) = self.burden.heaviest()
            && let Some(highest) = self.by_agent.get(&heaviest).and_then(BTreeSet::last).copied()
        {
            self.forget(highest, heaviest);
        }
    }

    fn forget(&mut self, job: JobId, by: AgentId) {
        self.named.remove(&(job, by));
        self.burden.remove(by, 1);
        if let Some(own) = self.by_agent.get_mut(&by) {
            own.remove(&job);
            if own.is_empty() {
                self.by_agent.remove(&by);
            }
        }
    }

    /// The next number after this one that nobody named.
    fn next(&mut self, last: u64) -> u64 {
        let mut next = last.saturating_add(1);
        while let Some((first, by)) = self.named.first().copied().filter(|(first, _)| first.0 <= next) {
            self.forget(first, by);
            let is_last = self.named.first().is_none_or(|(other, _)| *other != first);
            next += u64::from(first.0 == next && is_last);
        }
        next
    }
}

impl Scheduler {
    /// The highest job number given so far.
    pub fn last_job(&self) -> u64 {
        self.last_job
    }

    /// The number of a new job.
    pub(crate) fn next_job(&mut self) -> JobId {
        self.last_job = self.foreign.next(self.last_job);
        JobId(self.last_job)
    }

    /// An agent names these jobs.
    pub(crate) fn note_foreign_jobs(&mut self, by: AgentId, jobs: impl IntoIterator<Item = JobId>) {
        for job in jobs {
            self.foreign.note(job, by, self.last_job);
        }
    }

    /// An agent says that it has these attempts. Those that this store cannot have given keep their jobs away from it.
    pub(crate) fn note_foreign(&mut self, id: AgentId, named: &[AttemptId]) {
        for attempt in named {
            let AttemptId { task, number } = *attempt;
            self.foreign.note(task.job, id, self.last_job);
            let given = self.jobs.get(&task.job).and_then(|job| job.tasks.attempts(task.index));
            if given.is_some_and(|given| number > given) {
                let reason = format!("it still has {attempt}, which this coordinator's store does not know");
                self.keep_away(id, task.job, reason);
            }
        }
    }

    /// The agent is given nothing of the job before it has said anew what it has.
    fn keep_away(&mut self, id: AgentId, job: JobId, reason: String) {
        self.note_refusal(id, job, reason, Lack::Other);
        let until = self.now + self.limits.lease;
        if let Some(refusal) = self.fleet.known(id).refusals.get_mut(&job) {
            refusal.until = refusal.until.max(until);
        }
        self.set_refusal_timer(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_above_what_was_seen_with_a_gap_that_people_see() {
        let beyond = |last, named: &[u64]| numbers_beyond(last, named.iter().copied().map(JobId));
        assert_eq!(beyond(0, &[]), 2_000);
        assert_eq!(beyond(57, &[12, 60]), 2_000);
        assert_eq!(beyond(57, &[61_234]), 63_000);
        assert_eq!(beyond(57, &[u64::MAX, 1_000_058]), 2_000, "whoever names such a number is not believed");
        assert_eq!(beyond(57, &[57 + BELIEVED_MAX]), 1_002_000, "the last number that is believed");
        assert_eq!(beyond(57, &[58 + BELIEVED_MAX]), 2_000);
        assert_eq!(beyond(u64::MAX, &[]), u64::MAX);
    }

    #[test]
    fn only_the_numbers_that_were_named_are_left_out() {
        let mut foreign = Foreign::default();
        for job in [3, 7, 8, 9, u64::MAX] {
            foreign.note(JobId(job), AgentId(1), 5);
            foreign.note(JobId(job), AgentId(2), 5);
        }
        assert_eq!([foreign.next(5), foreign.next(6), foreign.next(10)], [6, 10, 11]);
        assert_eq!((foreign.named.len(), foreign.burden.total()), (2, 2));
    }

    #[test]
    fn numbers_that_agents_name_are_remembered_up_to_a_bound_until_the_own_ones_reach_them() {
        let mut foreign = Foreign::default();
        for job in 1..=FOREIGN_MAX as u64 + 10 {
            foreign.note(JobId(job), AgentId(1), 0);
        }
        assert_eq!(foreign.named.len(), FOREIGN_MAX);
        assert_eq!(foreign.next(0), FOREIGN_MAX as u64 + 1);
        assert!(foreign.named.is_empty() && foreign.by_agent.is_empty());
        assert_eq!(foreign.burden.total(), 0);
    }

    #[test]
    fn an_agent_that_names_endlessly_many_numbers_takes_no_other_agents_place() {
        let (mut foreign, liar) = (Foreign::default(), AgentId(1));
        // Also those that the others name.
        for job in 1..=2 * FOREIGN_MAX as u64 {
            foreign.note(JobId(2 * job), liar, 0);
        }
        for honest in 2..12 {
            foreign.note(JobId(honest), AgentId(honest), 0);
            foreign.note(JobId(1_000_000 + honest), AgentId(honest), 0);
        }
        for job in 1..=FOREIGN_MAX as u64 {
            foreign.note(JobId(3 * job), liar, 0);
        }
        assert_eq!((foreign.named.len(), foreign.burden.total()), (FOREIGN_MAX, FOREIGN_MAX));
        for honest in 2..12 {
            for job in [honest, 1_000_000 + honest] {
                assert!(foreign.named.contains(&(JobId(job), AgentId(honest))), "{job}");
            }
        }
    }
}
