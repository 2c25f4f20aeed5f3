//! Jobs: how they are submitted and how they stand.

use std::collections::BTreeMap;

use lull_shared::{
    codes::ExitCodes,
    constraint::Constraint,
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId, TokenId},
    job::{Dependency, DependencyCondition, FailureClass, Moving},
    numbers::Numbers,
    share::Share,
    state::{AttemptEnd, JobState, TaskCounts, TaskState},
    zone::Zone,
};
use serde::{Deserialize, Serialize};

use super::{BlobBody, Reason, ResumedBody, Text, text::moment};

/// `POST /jobs`. What is left out takes the default that `lull job submit --help` names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// `name` for the newest version or `name@3`.
    pub function: String,
    pub inputs: InputsBody,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub priority: i8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Text<Constraint>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    #[serde(default, deserialize_with = "moment", skip_serializing_if = "Option::is_none")]
    pub finish_by: Option<jiff::Timestamp>,
    /// The same, so long after the job has come in. It goes into the comparison under an idempotency key as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_in_ms: Option<u64>,
    /// The time zone of whoever submits, like `Europe/Amsterdam`: that of the window, if it names none. UTC if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Text<Zone>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<AfterBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_max: Option<u32>,
    /// At most so many of its tasks are with agents at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// The exit codes that mean success, like `0,3-5`. Only 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_codes: Option<Text<ExitCodes>>,
    /// Failures after which a task is not tried again, like `trap` or `exit=2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail_fast_on: Vec<Text<FailureClass>>,
    /// A second submission by the same person with the same key is the same job. Another request with it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Whether its tasks run so that they can be moved, which costs some speed.
    #[serde(default)]
    pub moving: Moving,
    /// The share of its tasks, like `5%`, whose output counts only once another agent has brought the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Share>,
    /// How long nothing may be heard of an agent before what it has of this job counts as lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_after_ms: Option<u64>,
}

/// Where a job's inputs come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InputsBody {
    /// Task `i` reads the decimal number `first + i`.
    Range { first: u64, count: u32 },
    /// Task `i` reads number `i` of these, like `0-10:2,20`.
    Numbers(Text<Numbers>),
    /// Task `i` reads entry `i` of an input pack that was uploaded before.
    Pack { digest: Digest, size_bytes: u64 },
}

impl Default for InputsBody {
    fn default() -> Self {
        Self::Range { first: 0, count: 1 }
    }
}

/// Something that a function may touch beyond its input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The machine's real clock.
    Clock,
    /// Real randomness.
    Random,
    /// A private folder, `/scratch`.
    Scratch,
}

/// A job that must end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AfterBody {
    pub job: JobId,
    pub condition: DependencyCondition,
}

impl From<AfterBody> for Dependency {
    fn from(after: AfterBody) -> Self {
        Self { job: after.job, condition: after.condition }
    }
}

impl From<Dependency> for AfterBody {
    fn from(after: Dependency) -> Self {
        Self { job: after.job, condition: after.condition }
    }
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    pub job: JobId,
    /// The same person submitted it before under the same idempotency key.
    pub existing: bool,
    /// The version that was chosen, `name@2`.
    pub function: String,
    pub tasks: u32,
    /// The time zone that its times were understood in.
    #[serde(default)]
    pub zone: Text<Zone>,
    /// When its tasks may start, with the zone that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// When the window opens, if it is closed now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<jiff::Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_by: Option<jiff::Timestamp>,
    /// What about it will probably not go as it was meant, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `POST /jobs/{job}/retry`. Nothing need be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// When its tasks must have ended now, in place of what was said before.
    #[serde(default, deserialize_with = "moment", skip_serializing_if = "Option::is_none")]
    pub finish_by: Option<jiff::Timestamp>,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobBody {
    pub job: JobId,
    pub name: String,
    /// The version, as `name@2`.
    pub function: String,
    pub submitter: String,
    /// The token that submitted it; absent when it is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<TokenId>,
    pub state: JobState,
    /// Cancelled or expired and not ended yet: what it will end as.
    pub stopping: Option<JobState>,
    pub stopped_by: Option<String>,
    /// How it ended and why, or why it is being stopped, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub tasks: u64,
    pub counts: TaskCounts,
    /// How many of those with agents are with such only of which nothing is heard: their results still count.
    #[serde(default)]
    pub unreachable: u32,
    /// Why nothing of it may start at the moment.
    pub waiting: Option<Reason>,
    /// Attempts that were moved to another agent after they had started; known while the job is active.
    pub moved: Option<u64>,
    /// Attempts that were lost with their machines; known while the job is active.
    #[serde(default)]
    pub lost: Option<u64>,
    /// The mean wall time of its recent successful attempts.
    pub mean_wall_ms: Option<f64>,
    pub priority: i8,
    pub submitted: jiff::Timestamp,
    pub ended: Option<jiff::Timestamp>,
}

/// `GET /jobs/summary`: jobs in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsSummary {
    pub states: Vec<StateCount>,
    /// Active jobs by the kind of what holds them: `window`, `dependency`, `running`, ...; `failing` counts besides.
    pub held: BTreeMap<String, u64>,
}

/// Jobs of one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    pub state: JobState,
    pub jobs: u64,
    /// There are more: nobody counted further.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A job with the conditions under which it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDetails {
    #[serde(flatten)]
    pub job: JobBody,
    pub terms: JobTerms,
    /// Its tasks' moves, the newest first; older ones are with each task.
    #[serde(default)]
    pub moves: Vec<MoveBody>,
    /// Why its failed tasks failed, the most frequent cause first.
    #[serde(default)]
    pub failures: Vec<CauseBody>,
}

/// Failed tasks with one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseBody {
    /// In the words of the example; numbers in them may be others with other tasks.
    pub message: String,
    pub tasks: u64,
    pub example: TaskId,
    /// The first line of the example's log.
    pub log: Option<String>,
}

/// `GET /jobs/{job}/explain`: why a job is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobExplanationBody {
    pub job: JobId,
    pub name: String,
    pub state: JobState,
    /// All of it in one line for people.
    pub summary: String,
    pub counts: TaskCounts,
    /// Its tasks by what holds them.
    pub tasks: Vec<HeldBody>,
    /// The agents by what is in the way of a further task; none when nothing is left to start.
    pub agents: Vec<InTheWayBody>,
}

/// Tasks in one state for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBody {
    pub tasks: u64,
    pub state: TaskState,
    pub reason: Option<Reason>,
    pub example: Option<TaskId>,
}

/// Agents with the same kind of obstacle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InTheWayBody {
    pub agents: u64,
    /// The first of them in the words of `example`; none: they could start a task now.
    pub reason: Option<Reason>,
    pub example: String,
}

/// A task left a machine unfinished and was started again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveBody {
    /// The attempt that took over.
    pub attempt: AttemptId,
    pub from: AgentId,
    pub from_name: String,
    pub to: AgentId,
    pub to_name: String,
    /// How the attempt before ended, and why.
    pub end: AttemptEnd,
    pub cause: Option<String>,
    /// The snapshot that went along; absent when the task began anew.
    pub resumed: Option<ResumedBody>,
    /// When the task left the one machine.
    pub left: jiff::Timestamp,
    /// How long it was nowhere, in milliseconds.
    pub pause_ms: u64,
}

/// The conditions under which a job's tasks run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobTerms {
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub inputs: InputsBody,
    pub retries: u32,
    pub backoff_ms: u64,
    pub backoff_max_ms: u64,
    pub time_limit_ms: u64,
    pub memory_bytes: u64,
    pub output_bytes: u64,
    pub log_bytes: u64,
    pub scratch_bytes: u64,
    pub grants: Vec<Grant>,
    pub require: Vec<Text<Constraint>>,
    pub window: Option<String>,
    pub finish_by: Option<jiff::Timestamp>,
    /// The time zone of whoever submitted it.
    #[serde(default)]
    pub zone: Text<Zone>,
    pub after: Vec<AfterBody>,
    pub failures_max: Option<u32>,
    /// At most so many of its tasks are with agents at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// The exit codes that mean success.
    #[serde(default)]
    pub exit_codes: Text<ExitCodes>,
    /// Failures after which a task is not tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail_fast_on: Vec<Text<FailureClass>>,
    pub idempotency_key: Option<String>,
    /// The share of its tasks whose output counts only once another agent has brought the same; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Share>,
    /// How long nothing may be heard of an agent before what it has of this job counts as lost.
    #[serde(default)]
    pub lost_after_ms: u64,
}

/// One task's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultBody {
    pub task: TaskId,
    /// What people know the input by.
    pub label: Option<String>,
    pub attempt: u32,
    pub output: BlobBody,
    /// The bytes, in base64, when they are few; otherwise fetch `/jobs/{job}/tasks/{index}/output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline_base64: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_submission_names_a_function_and_inputs() {
        let text = r#"{"function":"stats","inputs":{"range":{"first":0,"count":10}}}"#;
        let request: SubmitRequest = serde_json::from_str(text).expect("a submission");
        assert_eq!(request.inputs, InputsBody::Range { first: 0, count: 10 });
        assert_eq!(request.retries, None);
    }

    #[test]
    fn a_full_submission_reads_back_what_it_writes() {
        let request = SubmitRequest {
            function: "stats@2".into(),
            inputs: InputsBody::Pack { digest: Digest::of(b"x"), size_bytes: 1 },
            name: Some("night".into()),
            args: vec!["--width".into(), "100".into()],
            env: [("K".into(), "V".into())].into(),
            priority: -3,
            retries: Some(1),
            time_limit_ms: Some(60_000),
            grants: vec![Grant::Clock, Grant::Scratch],
            require: vec![Text("memory>=8GiB".parse().expect("a constraint"))],
            window: Some("22:00-06:00".into()),
            finish_by: Some("2026-11-24T05:00:00Z".parse().expect("an instant")),
            after: vec![AfterBody { job: JobId(3), condition: DependencyCondition::Any }],
            failures_max: Some(9),
            zone: Some(Text("Europe/Amsterdam".parse().expect("a zone"))),
            at_once: Some(4),
            exit_codes: Some(Text("0,3-5".parse().expect("codes"))),
            fail_fast_on: vec![Text(FailureClass::Trap), Text(FailureClass::Exit(Some(2)))],
            idempotency_key: Some("k".into()),
            ..SubmitRequest::default()
        };
        let text = serde_json::to_string(&request).expect("it encodes");
        assert!(text.contains(r#""after":[{"job":"j3","condition":"any"}]"#), "{text}");
        assert!(text.contains(r#""exit_codes":"0,3-5","fail_fast_on":["trap","exit=2"]"#), "{text}");
        assert_eq!(serde_json::from_str::<SubmitRequest>(&text).expect("it decodes"), request);
        let listed = InputsBody::Numbers(Text("0-10:2,20".parse().expect("numbers")));
        assert_eq!(serde_json::to_string(&listed).expect("it encodes"), r#"{"numbers":"0-10:2,20"}"#);
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let text = r#"{"function":"stats","inputs":{"range":{"first":0,"count":1}},"prioritty":3}"#;
        let error = serde_json::from_str::<SubmitRequest>(text).expect_err("no such field");
        assert!(error.to_string().contains("prioritty"), "{error}");
    }
}
