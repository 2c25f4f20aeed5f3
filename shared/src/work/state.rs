//! How tasks, attempts and jobs stand, and why.
//!
//! ```text
//! task     waiting(reason) -> queued -> running <-> paused -> succeeded | failed | cancelled | expired
//!             ^                            |                    (failed only when no retry is left)
//!             +------ lost, evicted, recalled, failed with a retry left
//!          verifying: an output is there, and another agent's is waited for that must be the same
//! attempt  live -> succeeded | failed | evicted | recalled | lost | cancelled
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    amount::{counted, exact_ms, size},
    hint,
    hours::WeekMinute,
    id::JobId,
    resources::Labels,
    shown::without_number,
    time::Timestamp,
};

/// How a task stands, without the reasons: what is counted, listed and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum TaskState {
    Queued,
    Waiting,
    Running,
    Paused,
    Moving,
    Verifying,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

impl TaskState {
    /// Every state, in the order in which a task goes through them.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Waiting,
        Self::Running,
        Self::Paused,
        Self::Moving,
        Self::Verifying,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word used everywhere: database, interface and tables.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// The rest of a sentence about a task: it is queued, it failed, it was cancelled.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Queued => "is queued",
            Self::Waiting => "is waiting",
            Self::Running => "is running",
            Self::Paused => "is paused",
            Self::Moving => "is moving",
            Self::Verifying => "is being verified",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "was cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether the task will never run again by itself.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
            Self::Queued | Self::Waiting | Self::Running | Self::Paused | Self::Moving | Self::Verifying => false,
        }
    }
}

/// How many tasks of a job stand how. Their sum is the job's size at every moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    pub queued: u32,
    pub waiting: u32,
    pub running: u32,
    pub paused: u32,
    pub moving: u32,
    pub verifying: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub cancelled: u32,
    pub expired: u32,
}

impl TaskCounts {
    /// The count of one state.
    pub fn get(&self, state: TaskState) -> u32 {
        match state {
            TaskState::Queued => self.queued,
            TaskState::Waiting => self.waiting,
            TaskState::Running => self.running,
            TaskState::Paused => self.paused,
            TaskState::Moving => self.moving,
            TaskState::Verifying => self.verifying,
            TaskState::Succeeded => self.succeeded,
            TaskState::Failed => self.failed,
            TaskState::Cancelled => self.cancelled,
            TaskState::Expired => self.expired,
        }
    }

    /// The count of one state, to change it.
    pub fn get_mut(&mut self, state: TaskState) -> &mut u32 {
        match state {
            TaskState::Queued => &mut self.queued,
            TaskState::Waiting => &mut self.waiting,
            TaskState::Running => &mut self.running,
            TaskState::Paused => &mut self.paused,
            TaskState::Moving => &mut self.moving,
            TaskState::Verifying => &mut self.verifying,
            TaskState::Succeeded => &mut self.succeeded,
            TaskState::Failed => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
            TaskState::Expired => &mut self.expired,
        }
    }

    /// All tasks.
    pub fn total(&self) -> u64 {
        TaskState::ALL.into_iter().map(|state| u64::from(self.get(state))).sum()
    }

    /// Tasks that have ended, however.
    pub fn ended(&self) -> u64 {
        TaskState::ALL.into_iter().filter(|state| state.is_ended()).map(|state| u64::from(self.get(state))).sum()
    }
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// Some task has not ended.
    Active,
    /// Every task succeeded.
    Succeeded,
    /// All ended, some failed.
    Failed,
    /// All ended, some because somebody or a rule cancelled the job.
    Cancelled,
    /// All ended, some because `finish_by` came.
    Expired,
}

impl JobState {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }

    /// The rest of a sentence about a job: it is active, it failed, it was cancelled.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Active => "is active",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "was cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing of the job will run again by itself.
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::Active)
    }
}

/// Why a task waits although it could be queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// The job's window is closed; it opens then, if it ever does.
    Window { opens: Option<Timestamp> },
    /// Other jobs must end first: those that have not.
    Dependency { jobs: Vec<JobId> },
    /// The pause before a retry.
    Backoff { until: Timestamp },
    /// So many agents brought an output, and another one's is needed to compare.
    Verification { outputs: u32 },
    /// As many of the job's tasks are with agents as may be at once.
    AtOnce { tasks: u32 },
}

impl WaitReason {
    /// The moment that it speaks of.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Window { opens } => *opens,
            Self::Backoff { until } => Some(*until),
            Self::Dependency { .. } | Self::Verification { .. } | Self::AtOnce { .. } => None,
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window { opens: Some(opens) } => write!(f, "the job's window opens at {opens}"),
            Self::Window { opens: None } => f.write_str("the job's window never opens"),
            Self::Dependency { jobs } => write!(f, "the job waits for {} to end", listed(jobs)),
            Self::Verification { outputs: 1 } => {
                f.write_str("one agent brought an output, which counts once another agent has brought the same")
            }
            Self::Verification { outputs } => {
                write!(f, "{outputs} agents brought different outputs, and one more agent must settle which is right")
            }
            Self::AtOnce { tasks: 1 } => f.write_str("one task of the job is with an agent, and no more may be at once"),
            Self::AtOnce { tasks } => write!(f, "{tasks} tasks of the job are with agents, and no more may be at once"),
            Self::Backoff { until } => write!(f, "the last attempt failed, and the next one may start at {until}"),
        }
    }
}

/// Jobs that are named in one sentence; of more the rest is counted.
const JOBS_NAMED_MAX: usize = 4;

/// `j1`, `j1 and j2`, `j1, j2, j3, j4 and 7 more`.
fn listed(jobs: &[JobId]) -> String {
    let mut named: Vec<String> = jobs.iter().take(JOBS_NAMED_MAX).map(ToString::to_string).collect();
    if jobs.len() > JOBS_NAMED_MAX {
        named.push(format!("{} more", jobs.len() - JOBS_NAMED_MAX));
    }
    match named.pop() {
        Some(last) if !named.is_empty() => format!("{} and {last}", named.join(", ")),
        only => only.unwrap_or_default(),
    }
}

/// How an attempt ended. Only `Failed` spends a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum AttemptEnd {
    Succeeded,
    Failed,
    /// The agent gave it up, for its owner's sake for example.
    Evicted,
    /// The coordinator took it back, to place it better.
    Recalled,
    /// Its agent vanished or did not know it any more.
    Lost,
    Cancelled,
}

impl AttemptEnd {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The end with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

/// Why an attempt failed, in terms its function's author can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    #[error("it exited with code {code}")]
    Exit { code: i32 },
    #[error("it trapped: {message}")]
    Trap { message: String, backtrace: Vec<String> },
    #[error("it ran longer than its limit of {}; raise --time-limit or give it less to do", exact_ms(*limit_ms))]
    TimeLimit { limit_ms: u64 },
    #[error("it needed more memory than its limit of {}; raise --memory", size(*limit_bytes))]
    MemoryLimit { limit_bytes: u64 },
    #[error("it wrote more output than its limit of {}; raise --output-limit", size(*limit_bytes))]
    OutputLimit { limit_bytes: u64 },
    #[error("it filled its scratch folder of {}; raise --scratch-limit", size(*limit_bytes))]
    ScratchLimit { limit_bytes: u64 },
    #[error("the agent cannot run this module: {}", hint::in_one_line(reason))]
    BadModule { reason: String },
    #[error("its executor process died ({how}); if it happens on every agent, the function brings down the engine")]
    ExecutorDied { how: String },
    /// Said by the coordinator alone.
    #[error("it was given up after {} that ended by no word of its own; the last one: {last}", counted(u64::from(*times), "attempt"))]
    GivenUp { times: u32, last: String },
    /// Said by the coordinator alone.
    #[error(
        "it is not deterministic: {runs} agents brought {runs} different outputs; leave --verify out, or make its output depend on its \
         input alone (LULL_ATTEMPT differs with each run)"
    )]
    NotDeterministic { runs: u32 },
    /// Said by the coordinator alone.
    #[error(
        "{} lost while running it: none came back with it, and no further one is risked; see what it does to a machine before \
         `lull job retry`",
        if *machines == 1 { "1 machine was".to_owned() } else { format!("{machines} machines were") }
    )]
    MachinesLost { machines: u32 },
}

impl Failure {
    /// A stable word for tables and the database.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Exit { .. } => "exit",
            Self::Trap { .. } => "trap",
            Self::TimeLimit { .. } => "time_limit",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::OutputLimit { .. } => "output_limit",
            Self::ScratchLimit { .. } => "scratch_limit",
            Self::BadModule { .. } => "bad_module",
            Self::NotDeterministic { .. } => "not_deterministic",
            Self::MachinesLost { .. } => "machines_lost",
            Self::ExecutorDied { .. } => "executor_died",
            Self::GivenUp { .. } => "given_up",
        }
    }

    /// How much its words take; at most [`crate::limits::FAILURE_BYTES_MAX`] are believed of anybody.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Trap { message, backtrace } => {
                message.len() + backtrace.iter().map(String::len).sum::<usize>() + backtrace.len()
            }
            Self::BadModule { reason: text } | Self::ExecutorDied { how: text } | Self::GivenUp { last: text, .. } => text.len(),
            Self::Exit { .. }
            | Self::NotDeterministic { .. }
            | Self::MachinesLost { .. }
            | Self::TimeLimit { .. }
            | Self::MemoryLimit { .. }
            | Self::OutputLimit { .. }
            | Self::ScratchLimit { .. } => 0,
        }
    }
}

/// Why an agent runs nothing at the moment, or not this attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// The owner said so, until then or until they say otherwise.
    Owner { until: Option<Timestamp> },
    /// Other programs use this share of the processors, in percent.
    Busy { cpu_percent: u8 },
    /// Less memory than the policy demands is free, in bytes.
    Memory { free_bytes: u64 },
    /// Keyboard or mouse moved after a long rest: the owner, or a bumped desk.
    Touched,
    /// The owner uses the machine; work goes on after so much time without input, in seconds.
    Present { idle_s: u32 },
    /// The policy's hours are over; they begin again then, by the machine's clock.
    Hours { opens: Option<WeekMinute> },
    /// Beside the owner only so many slots run, and this is in none of them.
    Beside { slots: u16 },
    /// No sensor sees whether the owner is there.
    Unseen,
    /// Programs waited this share of the time for memory, in percent.
    Stalled { percent: u8 },
    /// It runs on battery, which has this charge if that is known, in percent.
    Battery { percent: Option<u8> },
    /// It is too hot, in degrees Celsius.
    Temperature { celsius: u8 },
    /// A program fills the screen.
    FullScreen,
    /// Its network is metered.
    Metered,
    /// It waits to be restarted.
    Reboot,
    /// Its lid is closed and it is not on mains power.
    Lid,
    /// It goes to sleep.
    Sleep,
    /// It is being shut down.
    Shutdown,
    /// The agent has just started and has not measured anything yet.
    Starting,
    /// Something of its own does not work.
    Trouble(Trouble),
    /// The agent gives what it has to others, and becomes another version.
    Upgrade,
}

/// A part of an agent that functions need and that may fail by no fault of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Where results are kept.
    Outbox,
    /// Where modules, inputs and snapshots are kept.
    Cache,
    /// Where functions may write.
    Scratch,
    /// The processes that run functions, and the engine in them.
    Executor,
    /// That these processes live as long as the agent wants.
    Killed,
    /// What holds these processes.
    Cage,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outbox => "it cannot keep results",
            Self::Cache => "it cannot keep modules and inputs",
            Self::Scratch => "its scratch folder cannot be used",
            Self::Executor => "it cannot start executors",
            Self::Killed => "its executors are killed from outside",
            Self::Cage => "the cage around its executors is not closed",
        })
    }
}

/// What does not work at an agent, and why. It costs no function a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{part}: {}", without_number(reason))]
pub struct Trouble {
    pub part: Part,
    pub reason: String,
}

impl Trouble {
    /// Longer reasons are cut.
    pub const REASON_BYTES_MAX: usize = 512;

    /// A trouble whose reason is not longer than anybody takes.
    pub fn new(part: Part, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(Self::REASON_BYTES_MAX));
        Self { part, reason }
    }
}

impl PauseReason {
    /// The same with words no longer than anybody takes.
    pub fn bounded(self) -> Self {
        match self {
            Self::Trouble(Trouble { part, reason }) => Self::Trouble(Trouble::new(part, reason)),
            other => other,
        }
    }

    /// The moment that it speaks of.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Owner { until } => *until,
            _ => None,
        }
    }

    /// A stable word for tables, programs and the portal.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Owner { .. } => "owner",
            Self::Busy { .. } => "busy",
            Self::Memory { .. } => "memory",
            Self::Touched => "touched",
            Self::Present { .. } => "present",
            Self::Hours { .. } => "hours",
            Self::Beside { .. } => "beside",
            Self::Unseen => "unseen",
            Self::Stalled { .. } => "stalled",
            Self::Battery { .. } => "battery",
            Self::Temperature { .. } => "temperature",
            Self::FullScreen => "full_screen",
            Self::Metered => "metered",
            Self::Reboot => "reboot",
            Self::Lid => "lid",
            Self::Sleep => "sleep",
            Self::Shutdown => "shutdown",
            Self::Starting => "starting",
            Self::Upgrade => "upgrade",
            Self::Trouble(Trouble { part, .. }) => match part {
                Part::Outbox => "outbox_trouble",
                Part::Cache => "cache_trouble",
                Part::Scratch => "scratch_trouble",
                Part::Executor => "executor_trouble",
                Part::Killed => "killed_trouble",
                Part::Cage => "cage_trouble",
            },
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { until: Some(until) } => write!(f, "its owner paused it until {until}"),
            Self::Owner { until: None } => f.write_str("its owner paused it"),
            Self::Busy { cpu_percent } => write!(f, "other programs use {cpu_percent} % of its processors"),
            Self::Memory { free_bytes } => write!(f, "only {} of memory is free", size(*free_bytes)),
            Self::Touched => f.write_str("its keyboard or mouse moved a moment ago"),
            Self::Present { idle_s } => {
                let idle = exact_ms(u64::from(*idle_s) * 1_000);
                write!(f, "its owner uses it; it works after {idle} without input")
            }
            Self::Hours { opens: Some(opens) } => write!(f, "its policy lets it work from {opens} on, by its own clock"),
            Self::Hours { opens: None } => f.write_str("its policy never lets it work"),
            Self::Beside { slots: 1 } => f.write_str("beside its owner it runs 1 task at a time"),
            Self::Beside { slots } => write!(f, "beside its owner it runs {slots} tasks at a time"),
            Self::Unseen => f.write_str("nothing on it sees whether its owner is there; the policy `unseen = true` lets it work"),
            Self::Stalled { percent } => write!(f, "its programs wait {percent} % of the time for memory"),
            Self::Battery { percent: Some(percent) } => write!(f, "it runs on battery, at {percent} %"),
            Self::Battery { percent: None } => f.write_str("it runs on battery"),
            Self::Temperature { celsius } => write!(f, "it is {celsius} degrees hot"),
            Self::FullScreen => f.write_str("a program fills its screen"),
            Self::Metered => f.write_str("its network is metered"),
            Self::Reboot => f.write_str("it waits to be restarted"),
            Self::Lid => f.write_str("its lid is closed and it is not on mains power"),
            Self::Sleep => f.write_str("it goes to sleep"),
            Self::Shutdown => f.write_str("it is being shut down"),
            Self::Starting => f.write_str("it has just started and does not know yet whether its owner is there"),
            Self::Upgrade => f.write_str("its agent is being upgraded"),
            Self::Trouble(trouble) => write!(f, "{trouble}"),
        }
    }
}

/// Whether an agent takes new work, by the administrator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Intake {
    #[default]
    Open,
    /// Nothing new is placed there.
    Cordoned,
    /// Nothing new, what waits there is taken back, what runs may finish.
    Draining,
    /// Never again: its certificate is void.
    Revoked,
}

impl Intake {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The intake with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

/// What was used by an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Time from its start to its end, pauses included, in microseconds.
    pub wall_us: u64,
    /// Processor time of its executor, in microseconds.
    pub cpu_us: u64,
    /// The largest linear memory it had, in bytes.
    pub memory_peak_bytes: u64,
}

/// The label of the group that a machine was put into when it joined.
pub const GROUP_LABEL: &str = "group";

/// The labels of an agent with the facts that the agent itself reports filled in, and with what it cannot say of itself: its
/// name, and its group.
pub fn full_labels(own: &Labels, name: &str, group: Option<&str>, machine: &crate::resources::Machine) -> Labels {
    let mut labels = own.clone();
    labels.remove(GROUP_LABEL);
    labels.extend(group.map(|group| (GROUP_LABEL.to_owned(), group.to_owned())));
    labels.insert("name".into(), name.into());
    labels.insert("os".into(), machine.os.clone());
    labels.insert("arch".into(), machine.arch.clone());
    labels.insert("cores".into(), machine.cores.to_string());
    labels.insert("memory".into(), machine.memory_bytes.to_string());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_word(state.as_str()), Some(state));
        }
        assert_eq!(AttemptEnd::from_word("lost"), Some(AttemptEnd::Lost));
        assert_eq!(JobState::from_word("nonsense"), None);
    }

    #[test]
    fn limits_are_told_as_people_write_them() {
        let told = |failure: Failure| failure.to_string();
        let time = told(Failure::TimeLimit { limit_ms: 90_000 });
        assert_eq!(time, "it ran longer than its limit of 1m 30s; raise --time-limit or give it less to do");
        assert!(told(Failure::TimeLimit { limit_ms: 4_000 }).contains("limit of 4s;"));
        let size = told(Failure::MemoryLimit { limit_bytes: 64 << 20 });
        assert_eq!(size, "it needed more memory than its limit of 64.0 MiB; raise --memory");
        assert!(told(Failure::OutputLimit { limit_bytes: 1 << 10 }).contains("limit of 1.0 KiB;"));
        assert!(told(Failure::ScratchLimit { limit_bytes: 3 << 29 }).contains("folder of 1.5 GiB;"));
    }

    #[test]
    fn a_machine_cannot_say_of_itself_what_it_is_called_or_in_which_group_it_is() {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let said = ["group", "name", "os", "arch", "cores", "memory"].map(|name| label(name, "own"));
        let own: Labels = said.into_iter().chain([label("site", "here")]).collect();
        let (os, arch, engine) = ("linux".into(), "x86_64".into(), "e".into());
        let machine = crate::resources::Machine { os, arch, cores: 4, memory_bytes: 8, engine };
        let full = full_labels(&own, "desk", None, &machine);
        assert!(!full.contains_key("group") && full.values().all(|value| value != "own"), "{full:?}");
        assert_eq!((full["name"].as_str(), full["site"].as_str(), full["cores"].as_str()), ("desk", "here", "4"));
        assert_eq!(full_labels(&own, "desk", Some("lab"), &machine)["group"], "lab");
    }

    #[test]
    fn counts_add_up() {
        let mut counts = TaskCounts::default();
        for state in TaskState::ALL {
            *counts.get_mut(state) += 1;
        }
        assert_eq!((counts.total(), counts.ended()), (10, 4));
    }

    #[test]
    fn each_word_stands_for_one_thing_and_any_other_for_none() {
        for intake in [Intake::Open, Intake::Cordoned, Intake::Draining, Intake::Revoked] {
            assert_eq!(Intake::from_word(intake.as_str()), Some(intake));
        }
        let ends = ["succeeded", "failed", "evicted", "recalled", "lost", "cancelled"];
        assert_eq!(ends.map(|word| AttemptEnd::from_word(word).map(AttemptEnd::as_str)), ends.map(Some));
        assert_eq!(JobState::from_word("active").map(JobState::as_str), Some("active"));
        assert_eq!((TaskState::from_word("x"), AttemptEnd::from_word("x"), Intake::from_word("x")), (None, None, None));
    }

    #[test]
    fn the_reason_of_a_trouble_is_cut_between_letters() {
        let most = Trouble::REASON_BYTES_MAX;
        let length = |reason: String| Trouble::new(Part::Cache, reason).reason.len();
        assert_eq!((length("x".repeat(most)), length("x".repeat(most + 1))), (most, most));
        assert_eq!(length(format!("x{}", "ä".repeat(most))), most - 1);
    }

    #[test]
    fn an_agents_labels_hold_what_its_machine_is() {
        let (os, arch, engine) = ("linux".into(), "x86_64".into(), "e".into());
        let machine = crate::resources::Machine { os, arch, cores: 4, memory_bytes: 8, engine };
        let full = full_labels(&Labels::new(), "desk", Some("lab"), &machine);
        let right = [("arch", "x86_64"), ("cores", "4"), ("group", "lab"), ("memory", "8"), ("name", "desk"), ("os", "linux")];
        assert_eq!(full, right.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }
}
