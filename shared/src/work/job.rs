//! What a user submits: a version, an array of inputs and the conditions under which they run.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    amount::quoted,
    codes::ExitCodes,
    constraint::Constraint,
    digest::{BlobRef, Digest},
    id::{JobId, VersionId},
    limits,
    numbers::Numbers,
    share::Share,
    state::Failure,
    time::Timestamp,
    window::Window,
    zone::Zone,
};

/// A job as the coordinator decides about it. Everything in it was checked when it was submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What people call it; the function's name where they gave none.
    pub name: String,
    pub version: VersionId,
    /// The command line of every task, without the program's name.
    pub args: Vec<String>,
    /// Variables of every task's environment, beside those of the function contract.
    pub env: Vec<(String, String)>,
    pub inputs: Inputs,
    pub priority: Priority,
    pub retry: RetryPolicy,
    pub limits: AttemptLimits,
    pub grants: Grants,
    /// All must hold on an agent.
    pub constraints: Vec<Constraint>,
    pub window: Option<Window>,
    /// Tasks that have not ended by then expire.
    pub finish_by: Option<Timestamp>,
    /// The time zone of whoever submitted it: what its moments mean to them.
    #[serde(default)]
    pub zone: Zone,
    pub after: Vec<Dependency>,
    /// After this many failed tasks the rest of the job is cancelled.
    pub failures_max: Option<u32>,
    /// At most so many of its tasks are with agents at once.
    #[serde(default)]
    pub at_once: Option<u32>,
    /// How a function exits that has succeeded.
    #[serde(default)]
    pub exit_codes: ExitCodes,
    /// A task that fails like this is not tried again.
    #[serde(default)]
    pub fail_fast_on: Vec<FailureClass>,
    /// A second submission by the same person with the same key is the same job.
    pub idempotency_key: Option<String>,
    /// What was asked for under the key: the digest of all of it. Another request under the same key is refused.
    #[serde(default)]
    pub request: Option<Digest>,
    /// Whether its tasks run so that they can be moved.
    #[serde(default)]
    pub moving: Moving,
    /// The share of its tasks whose output counts only once another agent has brought the same.
    #[serde(default)]
    pub verify: Share,
    /// How long nothing may be heard of an agent before what it has of this job counts as lost, in milliseconds.
    #[serde(default = "lost_after_default")]
    pub lost_after_ms: u64,
}

fn lost_after_default() -> u64 {
    limits::LOST_AFTER_DEFAULT.as_millis() as u64
}

/// Whether tasks run with the build that can be suspended and go on elsewhere, if their version has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moving {
    /// Where it is expected to be worth its cost.
    #[default]
    Auto,
    Always,
    Never,
}

impl JobSpec {
    /// A job that asks for nothing beyond the defaults.
    pub fn plain(name: impl Into<String>, version: VersionId, inputs: Inputs) -> Self {
        Self {
            name: name.into(),
            version,
            args: Vec::new(),
            env: Vec::new(),
            inputs,
            priority: Priority::default(),
            retry: RetryPolicy::default(),
            limits: AttemptLimits::default(),
            grants: Grants::default(),
            constraints: Vec::new(),
            window: None,
            finish_by: None,
            zone: Zone::utc(),
            after: Vec::new(),
            failures_max: None,
            at_once: None,
            exit_codes: ExitCodes::default(),
            fail_fast_on: Vec::new(),
            idempotency_key: None,
            request: None,
            moving: Moving::Auto,
            verify: Share::NONE,
            lost_after_ms: lost_after_default(),
        }
    }

    /// How long nothing may be heard of an agent before what it has of this job counts as lost.
    pub fn lost_after(&self) -> Duration {
        Duration::from_millis(self.lost_after_ms)
    }
}

/// Where a job's inputs come from. No variant costs memory per task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inputs {
    /// Task `i` reads the decimal number `first + i`, without a line end.
    Range { first: u64, count: u32 },
    /// Task `i` reads number `i` of these, as decimal text without a line end.
    Numbers(Numbers),
    /// Task `i` reads entry `i` of a [`crate::pack`].
    Pack { pack: BlobRef, count: u32 },
}

impl Inputs {
    /// How many tasks the job has.
    pub fn count(&self) -> u32 {
        match self {
            Self::Range { count, .. } | Self::Pack { count, .. } => *count,
            Self::Numbers(numbers) => numbers.count(),
        }
    }

    /// The number that task `index` reads, if its inputs are numbers and there is such a task.
    pub fn number(&self, index: u32) -> Option<u64> {
        match self {
            Self::Range { first, count } if index < *count => first.checked_add(u64::from(index)),
            Self::Numbers(numbers) => numbers.get(index),
            Self::Range { .. } | Self::Pack { .. } => None,
        }
    }

    /// The blob that they are in, if they are in one.
    pub fn pack(&self) -> Option<&BlobRef> {
        match self {
            Self::Pack { pack, .. } => Some(pack),
            Self::Range { .. } | Self::Numbers(_) => None,
        }
    }
}

/// How urgent a job is among those of its submitter's share: higher runs first, 0 is ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub i8);

/// What is done after an attempt that failed. Attempts lost with a machine or taken back are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Further attempts after the first failed one.
    pub retries: u32,
    /// The pause before the first retry, in milliseconds; it doubles with each.
    pub backoff_ms: u64,
    /// The longest pause, in milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 2, backoff_ms: 1_000, backoff_max_ms: 5 * 60 * 1_000 }
    }
}

/// Failures of a function that are told apart when it is decided whether to try again. Its encoding is its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FailureClass {
    /// It exited with this code, or with any that does not mean success.
    Exit(Option<u8>),
    Trap,
    TimeLimit,
    MemoryLimit,
    OutputLimit,
    ScratchLimit,
}

/// The text does not name a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} does not name a failure\nhint: write trap, exit, exit=CODE, time-limit, memory-limit, output-limit or scratch-limit",
    quoted(.0)
)]
pub struct NoFailureClass(String);

impl FailureClass {
    /// Whether the failure is one of these.
    pub fn contains(self, failure: &Failure) -> bool {
        match (self, failure) {
            (Self::Exit(wanted), Failure::Exit { code }) => wanted.is_none_or(|wanted| i32::from(wanted) == *code),
            (Self::Trap, Failure::Trap { .. })
            | (Self::TimeLimit, Failure::TimeLimit { .. })
            | (Self::MemoryLimit, Failure::MemoryLimit { .. })
            | (Self::OutputLimit, Failure::OutputLimit { .. })
            | (Self::ScratchLimit, Failure::ScratchLimit { .. }) => true,
            (Self::Exit(_) | Self::Trap | Self::TimeLimit | Self::MemoryLimit | Self::OutputLimit | Self::ScratchLimit, _) => {
                false
            }
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(None) => f.write_str("exit"),
            Self::Exit(Some(code)) => write!(f, "exit={code}"),
            Self::Trap => f.write_str("trap"),
            Self::TimeLimit => f.write_str("time-limit"),
            Self::MemoryLimit => f.write_str("memory-limit"),
            Self::OutputLimit => f.write_str("output-limit"),
            Self::ScratchLimit => f.write_str("scratch-limit"),
        }
    }
}

impl FromStr for FailureClass {
    type Err = NoFailureClass;

    fn from_str(text: &str) -> Result<Self, NoFailureClass> {
        let no = || NoFailureClass(text.chars().take(64).collect());
        match text.trim().split_once('=') {
            Some(("exit", code)) => code.parse().map(|code| Self::Exit(Some(code))).map_err(|_| no()),
            Some(_) => Err(no()),
            None => match text.trim().replace('_', "-").as_str() {
                "exit" => Ok(Self::Exit(None)),
                "trap" => Ok(Self::Trap),
                "time-limit" => Ok(Self::TimeLimit),
                "memory-limit" => Ok(Self::MemoryLimit),
                "output-limit" => Ok(Self::OutputLimit),
                "scratch-limit" => Ok(Self::ScratchLimit),
                _ => Err(no()),
            },
        }
    }
}

impl TryFrom<String> for FailureClass {
    type Error = NoFailureClass;

    fn try_from(text: String) -> Result<Self, NoFailureClass> {
        text.parse()
    }
}

impl From<FailureClass> for String {
    fn from(class: FailureClass) -> Self {
        class.to_string()
    }
}

/// What one attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLimits {
    /// Time on the processor's side of the clock while running, pauses not counted, in milliseconds.
    pub time_ms: u64,
    pub memory_bytes: u64,
    pub output_bytes: u64,
    pub log_bytes: u64,
    pub scratch_bytes: u64,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self {
            time_ms: limits::ATTEMPT_TIME_DEFAULT.as_millis() as u64,
            memory_bytes: limits::MEMORY_BYTES_DEFAULT,
            output_bytes: limits::OUTPUT_BYTES_DEFAULT,
            log_bytes: limits::LOG_BYTES_DEFAULT,
            scratch_bytes: limits::SCRATCH_BYTES_DEFAULT,
        }
    }
}

/// What a function may touch beyond its input and output. Nothing unless asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants {
    /// The machine's real clock; otherwise time starts at the job's submission and advances by being read.
    pub clock: bool,
    /// Real randomness; otherwise a stream seeded by the task.
    pub random: bool,
    /// A private folder, `/scratch`, emptied before and after.
    pub scratch: bool,
}

/// A job that must end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub job: JobId,
    pub condition: DependencyCondition,
}

/// How the job that is waited for must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// Every task succeeded; if it ends otherwise, the waiting job is cancelled.
    Ok,
    /// However it ended.
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_as_people_name_them() {
        for text in ["exit", "exit=2", "trap", "time-limit", "memory-limit", "output-limit", "scratch-limit"] {
            let class: FailureClass = text.parse().expect("a failure");
            assert_eq!(class.to_string(), text);
        }
        assert_eq!("time_limit".parse(), Ok(FailureClass::TimeLimit));
        for text in ["", "exit=", "exit=256", "exit=-1", "trap=1", "lost"] {
            assert!(text.parse::<FailureClass>().is_err(), "{text}");
        }
        let two = Failure::Exit { code: 2 };
        assert!(FailureClass::Exit(None).contains(&two) && FailureClass::Exit(Some(2)).contains(&two));
        assert!(!FailureClass::Exit(Some(3)).contains(&two) && !FailureClass::Trap.contains(&two));
    }

    #[test]
    fn each_class_holds_the_failures_of_its_kind_and_no_others() {
        use FailureClass::{Exit, MemoryLimit, OutputLimit, ScratchLimit, TimeLimit, Trap};

        let failures = [
            Failure::Exit { code: 3 },
            Failure::Trap { message: "unreachable".into(), backtrace: Vec::new() },
            Failure::TimeLimit { limit_ms: 1 },
            Failure::MemoryLimit { limit_bytes: 1 },
            Failure::OutputLimit { limit_bytes: 1 },
            Failure::ScratchLimit { limit_bytes: 1 },
            Failure::ExecutorDied { how: "signal 9".into() },
        ];
        let classes = [Exit(None), Trap, TimeLimit, MemoryLimit, OutputLimit, ScratchLimit];
        for (place, class) in classes.into_iter().enumerate() {
            let held: Vec<usize> = (0..failures.len()).filter(|other| class.contains(&failures[*other])).collect();
            assert_eq!(held, [place], "{class}");
        }
        assert!(Exit(Some(3)).contains(&failures[0]) && !Exit(Some(4)).contains(&failures[0]));
    }

    #[test]
    fn each_task_of_a_range_has_its_number_and_no_other_index_has_one() {
        let range = Inputs::Range { first: 5, count: 3 };
        assert_eq!([0, 2, 3].map(|index| range.number(index)), [Some(5), Some(7), None]);
        let numbers = Inputs::Numbers("1,3,5".parse().expect("numbers"));
        assert_eq!(([0, 2, 3].map(|index| numbers.number(index)), numbers.count()), ([Some(1), Some(5), None], 3));
        let pack = crate::digest::BlobRef::of(b"pack");
        let packed = Inputs::Pack { pack, count: 2 };
        assert_eq!((packed.number(0), packed.count(), packed.pack(), range.pack()), (None, 2, Some(&pack), None));
    }
}
