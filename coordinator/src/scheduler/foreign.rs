//! What agents have that the store does not know: it was restored from a backup, and lives on from an older state.
//!
//! A number that was given once is never given to another job: an agent that still has a result of the first could bring it
//! for the second. So numbers go on above those that a term is known to have given ([`numbers_beyond`]), numbers that agents
//! name are left out, and an agent is given nothing of a job of which it has attempts that this store never gave, until it
//! does not name them any more. A claim costs the numbers that it names and no others: whoever names the highest number there
//! is does not bring the others to an end.

use std::collections::BTreeSet;

use lull_shared::id::{AgentId, AttemptId, JobId};

use super::{Scheduler, fleet::Lack};

/// Numbers that are remembered, of all agents together: more than a fleet holds that lost its store for a night.
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
pub(super) struct Foreign(BTreeSet<JobId>);

impl Foreign {
    fn note(&mut self, job: JobId, last: u64) {
        if job.0 > last && self.0.len() < FOREIGN_MAX {
            self.0.insert(job);
        }
    }

    /// The next number after this one that nobody named.
    fn next(&mut self, last: u64) -> u64 {
        let mut next = last.saturating_add(1);
        while let Some(first) = self.0.first().copied().filter(|first| first.0 <= next) {
            self.0.pop_first();
            next += u64::from(first.0 == next);
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
    pub(super) fn next_job(&mut self) -> JobId {
        self.last_job = self.foreign.next(self.last_job);
        JobId(self.last_job)
    }

    /// Somebody names these jobs.
    pub(super) fn note_foreign_jobs(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        for job in jobs {
            self.foreign.note(job, self.last_job);
        }
    }

    /// An agent says that it has these attempts. Those that this store cannot have given keep their jobs away from it.
    pub(super) fn note_foreign(&mut self, id: AgentId, named: &[AttemptId]) {
        for attempt in named {
            let AttemptId { task, number } = *attempt;
            self.foreign.note(task.job, self.last_job);
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
        assert_eq!(beyond(u64::MAX, &[]), u64::MAX);
    }

    #[test]
    fn only_the_numbers_that_were_named_are_left_out() {
        let mut foreign = Foreign::default();
        for job in [3, 7, 8, 9, u64::MAX] {
            foreign.note(JobId(job), 5);
        }
        assert_eq!([foreign.next(5), foreign.next(6), foreign.next(10)], [6, 10, 11]);
        assert_eq!(foreign.0.len(), 1);
    }

    #[test]
    fn numbers_that_agents_name_are_remembered_up_to_a_bound_until_the_own_ones_reach_them() {
        let mut foreign = Foreign::default();
        for job in 1..=FOREIGN_MAX as u64 + 10 {
            foreign.note(JobId(job), 0);
        }
        assert_eq!(foreign.0.len(), FOREIGN_MAX);
        assert_eq!(foreign.next(0), FOREIGN_MAX as u64 + 1);
        assert!(foreign.0.is_empty());
    }
}
