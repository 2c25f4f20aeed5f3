//! The active jobs. Whoever takes a job to change it leaves a mark, and at the end of the turn each marked job is put where it
//! belongs: no caller says what changed, and none can forget to.

use std::{collections::BTreeMap, ops::Deref};

use lull_shared::id::JobId;

use crate::jobs::job::Job;

/// Jobs by number. All reading goes through the map itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    active: BTreeMap<JobId, Job>,
    /// Jobs that may have changed since they were put where they belong; some of them more than once.
    touched: Vec<JobId>,
}

impl Jobs {
    pub(crate) fn insert(&mut self, id: JobId, job: Job) {
        self.active.insert(id, job);
        self.touched.push(id);
    }

    pub(crate) fn get_mut(&mut self, id: &JobId) -> Option<&mut Job> {
        let job = self.active.get_mut(id)?;
        if self.touched.last() != Some(id) {
            self.touched.push(*id);
        }
        Some(job)
    }

    /// The same, to note where it is listed. That is no change that must be followed by another look.
    pub(crate) fn get_to_list(&mut self, id: JobId) -> Option<&mut Job> {
        self.active.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: &JobId) -> Option<Job> {
        self.active.remove(id)
    }

    /// The jobs that may have changed, each once, in the order of their numbers; none of them is marked afterwards.
    pub(crate) fn take_touched(&mut self) -> Vec<JobId> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

impl Deref for Jobs {
    type Target = BTreeMap<JobId, Job>;

    fn deref(&self) -> &Self::Target {
        &self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::driver::{Driver, spec};

    #[test]
    fn a_job_that_is_taken_to_be_changed_is_looked_at_once() {
        let mut driver = Driver::new();
        let jobs = [driver.submit(spec(1)), driver.submit(spec(1))];
        let known = &mut driver.scheduler.jobs;
        assert!(known.take_touched().is_empty(), "a turn leaves no marks");
        for job in [jobs[1], jobs[0], jobs[1]] {
            assert!(known.get_mut(&job).is_some());
        }
        assert_eq!(known.take_touched(), jobs);
        assert!(known.get_to_list(jobs[0]).is_some() && known.take_touched().is_empty());
        assert!(known.get_mut(&JobId(99)).is_none() && known.take_touched().is_empty());
    }
}
