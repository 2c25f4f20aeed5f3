//! What each submitter has under way, and how much that may be: whoever fills a network fills his own share of it.

use std::{collections::BTreeMap, fmt};

use lull_shared::job::{Inputs, JobSpec};

use super::{effect::Refusal, share::SubmitterId};

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
pub(super) struct Holding {
    jobs: u64,
    tasks: u64,
    input_bytes: u64,
    argument_bytes: u64,
}

impl Holding {
    /// What one job is.
    pub(super) fn of(spec: &JobSpec) -> Self {
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
pub(super) struct Holdings(BTreeMap<SubmitterId, Holding>);

impl Holdings {
    /// Refuses what would be more than a submitter may have.
    pub(super) fn check(&self, submitter: SubmitterId, more: Holding, allowed: Allowance) -> Result<(), Refusal> {
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

    pub(super) fn add(&mut self, submitter: SubmitterId, job: Holding) {
        let has = self.0.entry(submitter).or_default();
        *has = has.plus(job);
    }

    /// Whoever has nothing under way is forgotten.
    pub(super) fn remove(&mut self, submitter: SubmitterId, job: Holding) {
        let Some(has) = self.0.get_mut(&submitter) else { return };
        *has = has.less(job);
        if has.jobs == 0 {
            self.0.remove(&submitter);
        }
    }
}
