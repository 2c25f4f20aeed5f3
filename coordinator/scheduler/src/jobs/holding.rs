//! What each submitter has under way, and how much that may be: whoever fills a network fills his own share of it.

use std::{collections::BTreeMap, fmt};

use lull_shared::job::{Inputs, JobSpec};

use crate::{effect::Refusal, jobs::share::SubmitterId};

/// Active jobs of one submitter: a tenth of a network's.
pub const JOBS_MAX: u64 = 10_000;
/// Tasks of one submitter's active jobs: five of the largest jobs.
pub const TASKS_MAX: u64 = 50_000_000;
/// Bytes of the inputs of one submitter's active jobs.
pub const INPUT_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;
/// Bytes of their arguments and variables, which the store has in its rows: a few hundred jobs with as many as one may have.
pub const ARGUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How much one submitter may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    pub jobs: u64,
    pub tasks: u64,
    pub input_bytes: u64,
    pub argument_bytes: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { jobs: JOBS_MAX, tasks: TASKS_MAX, input_bytes: INPUT_BYTES_MAX, argument_bytes: ARGUMENT_BYTES_MAX }
    }
}

/// What a submitter's share is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Jobs,
    Tasks,
    InputBytes,
    ArgumentBytes,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jobs => "jobs",
            Self::Tasks => "tasks",
            Self::InputBytes => "bytes of inputs",
            Self::ArgumentBytes => "bytes of arguments and variables",
        })
    }
}

/// What one submitter has, or one job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Holding {
    jobs: u64,
    tasks: u64,
    input_bytes: u64,
    argument_bytes: u64,
}

impl Holding {
    /// What one job is.
    pub(crate) fn of(spec: &JobSpec) -> Self {
        let args: usize = spec.args.iter().map(String::len).sum();
        let env: usize = spec.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        let inputs = match &spec.inputs {
            Inputs::Range { .. } => 0,
            Inputs::Numbers(_) => spec.inputs.count() as u64 * size_of::<u64>() as u64,
            Inputs::Pack { pack, .. } => pack.size_bytes,
        };
        Self { jobs: 1, tasks: u64::from(spec.inputs.count()), input_bytes: inputs, argument_bytes: (args + env) as u64 }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            tasks: self.tasks.saturating_add(other.tasks),
            input_bytes: self.input_bytes.saturating_add(other.input_bytes),
            argument_bytes: self.argument_bytes.saturating_add(other.argument_bytes),
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_sub(other.jobs),
            tasks: self.tasks.saturating_sub(other.tasks),
            input_bytes: self.input_bytes.saturating_sub(other.input_bytes),
            argument_bytes: self.argument_bytes.saturating_sub(other.argument_bytes),
        }
    }
}

/// What all submitters have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holdings(BTreeMap<SubmitterId, Holding>);

impl Holdings {
    /// Refuses what would be more than a submitter may have.
    pub(crate) fn check(&self, submitter: SubmitterId, more: Holding, allowed: Allowance) -> Result<(), Refusal> {
        let has = self.0.get(&submitter).copied().unwrap_or_default();
        let counts = [
            (Counted::Jobs, has.jobs, more.jobs, allowed.jobs),
            (Counted::Tasks, has.tasks, more.tasks, allowed.tasks),
            (Counted::InputBytes, has.input_bytes, more.input_bytes, allowed.input_bytes),
            (Counted::ArgumentBytes, has.argument_bytes, more.argument_bytes, allowed.argument_bytes),
        ];
        match counts.into_iter().find(|(_, has, more, max)| has.saturating_add(*more) > *max) {
            Some((counted, has, more, max)) => Err(Refusal::ShareSpent { counted, has, more, max }),
            None => Ok(()),
        }
    }

    pub(crate) fn add(&mut self, submitter: SubmitterId, job: Holding) {
        let has = self.0.entry(submitter).or_default();
        *has = has.plus(job);
    }

    /// Whoever has nothing under way is forgotten.
    pub(crate) fn remove(&mut self, submitter: SubmitterId, job: Holding) {
        let Some(has) = self.0.get_mut(&submitter) else { return };
        *has = has.less(job);
        if has.jobs == 0 {
            self.0.remove(&submitter);
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        digest::BlobRef,
        id::{TokenId, VersionId},
        time::Timestamp,
    };

    use super::*;
    use crate::{jobs::share::Shares, limits::Limits};

    #[test]
    fn each_share_is_full_to_the_last_of_it_and_what_is_counted_first_is_told() {
        let mut shares = Shares::new(Limits::default(), Timestamp(0));
        let [ada, bob] = [1, 2].map(|token| shares.intern(Some(TokenId(token))));
        let allowed = Allowance { jobs: 2, tasks: 10, input_bytes: 100, argument_bytes: 20 };
        let one = Holding { jobs: 1, tasks: 5, input_bytes: 50, argument_bytes: 10 };
        let mut holdings = Holdings::default();
        assert_eq!(holdings.check(ada, one, allowed), Ok(()));
        holdings.add(ada, one);
        assert_eq!(holdings.check(ada, one, allowed), Ok(()), "just as much as may be");
        let more = |counted, has, more, max| Err(Refusal::ShareSpent { counted, has, more, max });
        let cases = [
            (Holding { jobs: 2, ..one }, more(Counted::Jobs, 1, 2, 2)),
            (Holding { tasks: 6, ..one }, more(Counted::Tasks, 5, 6, 10)),
            (Holding { input_bytes: 51, ..one }, more(Counted::InputBytes, 50, 51, 100)),
            (Holding { argument_bytes: 11, ..one }, more(Counted::ArgumentBytes, 10, 11, 20)),
            (Holding { tasks: 6, argument_bytes: 11, ..one }, more(Counted::Tasks, 5, 6, 10)),
        ];
        for (job, refusal) in cases {
            assert_eq!(holdings.check(ada, job, allowed), refusal);
            assert_eq!(holdings.check(bob, Holding { jobs: 1, ..job }, allowed), Ok(()), "his share is his own");
        }
        holdings.add(ada, one);
        holdings.remove(ada, one);
        assert_eq!(holdings.0.get(&ada), Some(&one));
        holdings.remove(ada, one);
        assert!(holdings.0.is_empty(), "whoever has nothing is forgotten");
    }

    #[test]
    fn a_job_is_counted_by_its_tasks_inputs_and_words() {
        let mut spec = JobSpec::plain("f", VersionId(1), Inputs::Range { first: 5, count: 7 });
        assert_eq!(Holding::of(&spec), Holding { jobs: 1, tasks: 7, input_bytes: 0, argument_bytes: 0 });
        spec.args = vec!["four".into(), "five5".into()];
        spec.env = vec![("NAME".into(), "value".into())];
        assert_eq!(Holding::of(&spec).argument_bytes, 4 + 5 + 4 + 5);
        let pack = BlobRef { size_bytes: 1_000, ..BlobRef::of(b"pack") };
        spec.inputs = Inputs::Pack { pack, count: 3 };
        assert_eq!((Holding::of(&spec).input_bytes, Holding::of(&spec).tasks), (1_000, 3));
    }
}
