//! What is promised, and how a broken promise is told.

use std::{any::Any, fmt};

use lull_shared::id::{AgentId, AttemptId, JobId, TaskId};

/// The promises that a run holds the cores to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing runs while the owner needs the machine, beyond the time that the guard may take.
    OwnerFirst,
    /// Every task is somewhere, and what was acknowledged is in the store.
    NothingLost,
    /// A task completes once, by its live attempt, and only failures spend retries.
    CountedOnce,
    /// Nothing leaves the coordinator that the store does not know.
    RecordBeforeSend,
    /// When all faults heal, every job ends.
    Ends,
    /// A machine that goes dark costs a task that can be moved at most what it did since its last snapshot.
    Carried,
    /// One attempt in a slot; queues within their bounds.
    Bounded,
    /// No panic, and every core agrees with itself.
    Sound,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnerFirst => "owner first",
            Self::NothingLost => "nothing is lost",
            Self::CountedOnce => "completion is counted once",
            Self::RecordBeforeSend => "record before send",
            Self::Ends => "every job ends",
            Self::Carried => "an outage costs little",
            Self::Bounded => "everything is bounded",
            Self::Sound => "the cores are sound",
        })
    }
}

/// Whom a violation concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Agent(AgentId),
    Job(JobId),
    Task(TaskId),
}

impl From<AgentId> for Subject {
    fn from(agent: AgentId) -> Self {
        Self::Agent(agent)
    }
}

impl From<AttemptId> for Subject {
    fn from(attempt: AttemptId) -> Self {
        Self::Task(attempt.task)
    }
}

impl From<JobId> for Subject {
    fn from(job: JobId) -> Self {
        Self::Job(job)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => agent.fmt(f),
            Self::Job(job) => job.fmt(f),
            Self::Task(task) => task.fmt(f),
        }
    }
}

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    pub promise: Promise,
    pub what: String,
    pub about: Vec<Subject>,
}

impl Violation {
    pub fn new(promise: Promise, what: impl Into<String>, about: &[Subject]) -> Self {
        Self { promise, what: what.into(), about: about.to_vec() }
    }

    /// A core panicked.
    pub fn of_panic(panic: &Box<dyn Any + Send>) -> Self {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Self::new(Promise::Sound, words.unwrap_or_else(|| "a panic without words".into()), &[])
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken promise: {}: {}", self.promise, self.what)
    }
}

/// Goes on, or the promise is broken.
pub(crate) type Checked = Result<(), Violation>;

/// Holds the condition to the promise.
pub(crate) fn hold(promise: Promise, condition: bool, what: impl FnOnce() -> String, about: &[Subject]) -> Checked {
    if condition { Ok(()) } else { Err(Violation::new(promise, what(), about)) }
}
