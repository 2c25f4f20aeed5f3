//! What jobs demand of an agent. Jobs that demand the same share one entry, so that an agent is tried against each
//! demand once and not against each job.

use std::collections::BTreeMap;

use lull_shared::{constraint::Constraint, job::JobSpec};

/// A demand's number in this process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DemandId(u64);

/// What an agent must be and have free.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    pub constraints: Vec<Constraint>,
    pub memory_bytes: u64,
    key: String,
    jobs: u32,
}

/// All demands of active jobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demands {
    last: u64,
    by_key: BTreeMap<String, DemandId>,
    demands: BTreeMap<DemandId, Demand>,
}

impl Demands {
    /// Counts one more job with the demand of this spec.
    pub(crate) fn add(&mut self, spec: &JobSpec) -> DemandId {
        let key = key(spec);
        let last = &mut self.last;
        let id = *self.by_key.entry(key.clone()).or_insert_with(|| {
            *last += 1;
            DemandId(*last)
        });
        let new = || Demand { constraints: spec.constraints.clone(), memory_bytes: spec.limits.memory_bytes, key, jobs: 0 };
        self.demands.entry(id).or_insert_with(new).jobs += 1;
        id
    }

    /// Counts one job less.
    pub(crate) fn remove(&mut self, id: DemandId) {
        let demand = self.demands.get_mut(&id).expect("a job's demand is known");
        demand.jobs -= 1;
        if demand.jobs == 0 {
            self.by_key.remove(&demand.key);
            self.demands.remove(&id);
        }
    }

    /// The demand of an active job.
    pub(crate) fn get(&self, id: DemandId) -> &Demand {
        self.demands.get(&id).expect("a job's demand is known")
    }

    /// What does not add up, if anything.
    pub(crate) fn audit(&self, jobs: usize) -> Result<(), String> {
        let counted: usize = self.demands.values().map(|demand| demand.jobs as usize).sum();
        if counted == jobs && self.by_key.len() == self.demands.len() {
            return Ok(());
        }
        Err(format!("{counted} jobs are counted by their demands and {jobs} are active"))
    }
}

/// Equal for equal demands: labels hold neither line ends nor comparison signs.
fn key(spec: &JobSpec) -> String {
    let mut words: Vec<_> = spec.constraints.iter().map(Constraint::to_string).collect();
    words.sort_unstable();
    words.dedup();
    words.push(spec.limits.memory_bytes.to_string());
    words.join("\n")
}

#[cfg(test)]
mod tests {
    use lull_shared::{id::VersionId, job::Inputs};

    use super::*;

    fn spec(constraints: &[&str], memory_bytes: u64) -> JobSpec {
        let mut spec = JobSpec::plain("f", VersionId(1), Inputs::Range { first: 0, count: 1 });
        spec.constraints = constraints.iter().map(|constraint| constraint.parse().expect("a constraint")).collect();
        spec.limits.memory_bytes = memory_bytes;
        spec
    }

    #[test]
    fn jobs_that_demand_the_same_share_an_entry_until_the_last_of_them_is_gone() {
        let mut demands = Demands::default();
        let first = demands.add(&spec(&["os=linux", "gpu=yes"], 1));
        assert_eq!(demands.add(&spec(&["gpu=yes", "os=linux", "gpu=yes"], 1)), first, "order and repetition say nothing");
        let others = [spec(&["os=linux"], 1), spec(&["os=linux", "gpu=yes"], 2), spec(&["os!=linux", "gpu=yes"], 1)];
        let others = others.map(|spec| demands.add(&spec));
        assert!(others.iter().all(|other| *other != first) && others[0] != others[1], "{others:?}");
        assert_eq!(demands.get(others[1]).memory_bytes, 2);
        assert_eq!((demands.audit(5), demands.audit(4).is_err()), (Ok(()), true));
        demands.remove(first);
        assert_eq!((demands.get(first).constraints.len(), demands.audit(4)), (2, Ok(())));
        demands.remove(first);
        assert_eq!(demands.audit(3), Ok(()));
        assert_ne!(demands.add(&spec(&["os=linux", "gpu=yes"], 1)), first, "a number is never used twice");
    }
}
