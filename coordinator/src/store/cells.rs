//! Changes to rows of a database: written once for all databases, the mirror of `rows.rs`.
//!
//! Each table that a turn writes has its columns here, and a function that lays out one row as that many cells, in this
//! order. SQLite binds them as `?1`, `?2`, ...; SQL Server is sent them as JSON arrays, of which `OPENJSON` takes `'$[0]'`,
//! `'$[1]'`, ... The columns of a patch, which changes a row that is there, are those of its table and what they must be
//! before.

use std::borrow::Cow;

use lull_scheduler::effect::NewJob;
use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId, TaskId, TokenId},
    message::Payload,
    time::Timestamp,
};
use serde::Serialize;

use super::{
    bounds::{self, number},
    decide,
    record::{AuditRecord, Totals},
    rows,
    turn::{AgentPatch, AttemptPatch, Before, HoursRow, JobPatch, LogRow, Patch, Place, ResultRow, SnapshotRow, TaskPatch, Work},
};

/// One value on its way into a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
    /// Bytes or NULL: a column of bytes is one in every row.
    Bytes(Option<Cow<'a, [u8]>>),
}

macro_rules! cell_from {
    ($($type:ty: $value:ident => $cell:expr;)*) => {
        $(impl<'a> From<$type> for Cell<'a> {
            fn from($value: $type) -> Self {
                $cell
            }
        })*
    };
}

cell_from! {
    i64: value => Self::Int(value);
    i16: value => Self::Int(value.into());
    i8: value => Self::Int(value.into());
    u16: value => Self::Int(value.into());
    u32: value => Self::Int(value.into());
    u64: value => Self::Int(number(value));
    bool: value => Self::Int(value.into());
    Timestamp: value => Self::Int(value.0);
    JobId: value => Self::Int(number(value.0));
    AgentId: value => Self::Int(number(value.0));
    TokenId: value => Self::Int(number(value.0));
    &'a str: value => Self::Text(value.into());
    String: value => Self::Text(value.into());
    &'a [u8]: value => Self::Bytes(Some(value.into()));
    Option<&'a [u8]>: value => Self::Bytes(value.map(Cow::from));
    Digest: value => Self::from(Some(value));
    Option<Digest>: value => Self::from(value.map(|digest| *digest.as_bytes()));
    Option<[u8; 32]>: value => Self::Bytes(value.map(|bytes| bytes.to_vec().into()));
}

macro_rules! cell_from_option {
    ($($type:ty),*) => {
        $(impl<'a> From<Option<$type>> for Cell<'a> {
            fn from(value: Option<$type>) -> Self {
                value.map_or(Self::Null, Self::from)
            }
        })*
    };
}

cell_from_option!(i64, u16, u32, u64, Timestamp, AgentId, TokenId, &'a str, String);

/// The columns of a table that a turn writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// The parameter of SQL Server's procedure that takes its rows.
    #[cfg(test)]
    pub name: &'static str,
    /// Their names, and whether they hold bytes.
    pub columns: &'static [(&'static str, bool)],
}

/// Declares a table and how one of its rows is laid out, column by column.
macro_rules! table {
    (@holds) => { false };
    (@holds bytes) => { true };
    ($(#[$doc:meta])* $table:ident = $name:literal, $row:ident($($argument:ident: $type:ty),*) $(let $before:pat = $it:expr;)* { $($column:ident $(@$bytes:ident)?: $value:expr,)* }) => {
        pub(super) const $table: Table = Table {
            #[cfg(test)]
            name: $name,
            columns: &[$((stringify!($column), table!(@holds $($bytes)?))),*],
        };

        $(#[$doc])*
        pub(super) fn $row<'a>($($argument: $type),*) -> Row<'a, { $table.columns.len() }> {
            $(let $before = $it;)*
            [$(Cell::from($value)),*]
        }
    };
}

/// The cells of one row, in the order of its table's columns.
pub(super) type Row<'a, const N: usize> = [Cell<'a>; N];

/// One of our own types as it is kept.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

table! {
    /// A job that was submitted.
    JOBS_NEW = "jobs_new", job_new(new: &'a NewJob)
    let spec = &new.spec;
    let key = new.owner.zip(spec.idempotency_key.as_deref()).map(|(owner, key)| decide::key_digest(owner, key));
    {
        job_id: new.job,
        owner_id: new.owner,
        name: bounds::name(&spec.name),
        submitter: bounds::name(&new.submitter),
        version_id: spec.version.0,
        version_name: bounds::name(&new.version_name),
        priority: spec.priority.0,
        submitted_us: new.at,
        finish_by_us: spec.finish_by,
        // All 64 bits count: the sign is only how a column shows them.
        seed: new.seed as i64,
        key_digest @bytes: key,
        pack_digest @bytes: spec.inputs.pack().map(|pack| pack.digest),
        spec: json(spec),
        task_count: spec.inputs.count(),
    }
}

table! {
    /// What changes on a job's row.
    JOBS = "jobs", job(job: JobId, patch: &'a JobPatch)
    let (state, ended) = match &patch.end {
        Patch::Set((state, at)) => (Some(state.as_str()), Some(*at)),
        Patch::Clear => (Some("active"), None),
        Patch::Keep => (None, None),
    };
    let (stop, retry) = (patch.stop.value(), patch.retry.value());
    {
        job_id: job,
        finish_by_us: patch.finish_by,
        started: patch.started,
        expanded: patch.expanded,
        succeeded: patch.succeeded,
        failed: patch.failed,
        cancelled: patch.cancelled,
        expired: patch.expired,
        state: state,
        ended_us: ended,
        stop_changes: patch.stop.is_change(),
        stopping: stop.map(|stop| stop.state.as_str()),
        stopped_by: stop.map(|stop| stop.by.as_str()),
        stopped_us: stop.map(|stop| stop.at),
        retry_changes: patch.retry.is_change(),
        retry_from: retry.map(|retry| retry.from),
        retry_forgiven: retry.map(|retry| retry.forgiven),
    }
}

table! {
    /// What becomes of a task's row, and what it must be before.
    TASKS = "tasks", task(id: TaskId, patch: &'a TaskPatch)
    let (absent, attempts_before, attempts_least, agent_before, ended_before) = match patch.before {
        Before::Absent => (true, None, 0, false, None),
        Before::Waiting { attempts } => (false, attempts, 0, false, None),
        Before::At { attempts, at_least } => (false, attempts, at_least, true, None),
        Before::Ended { state, attempts } => (false, Some(attempts), 0, false, Some(state.as_str())),
    };
    let (keeps_agent, agent, not_before, ended) = match patch.place {
        Place::At { agent, .. } => (agent.is_none(), agent, None, None),
        Place::Waiting { not_before, .. } => (false, None, Some(not_before), None),
        Place::Ended { at, .. } => (false, None, None, Some(at)),
    };
    {
        job_id: id.job,
        task_index: id.index,
        absent: absent,
        attempts_before: attempts_before,
        attempts_least: attempts_least,
        agent_before: agent_before,
        // Its state, if it must have ended.
        ended_before: ended_before,
        state: patch.place.state().as_str(),
        attempts: patch.attempts,
        failures: patch.failures,
        failures_added: patch.failures_added,
        keeps_agent: keeps_agent,
        agent_id: agent,
        not_before_us: not_before,
        ended_us: ended,
    }
}

table! {
    /// What becomes of an attempt's row: it is made if `started_us` is there, and must be live otherwise.
    ATTEMPTS = "attempts", attempt(id: AttemptId, patch: &'a AttemptPatch)
    let (begun, over) = (patch.begun.as_ref(), patch.over.as_ref());
    let resume = begun.and_then(|begun| begun.resume.as_deref());
    let failure = over.and_then(|over| over.failure.as_ref());
    {
        job_id: id.task.job,
        task_index: id.task.index,
        number: id.number,
        agent_id: begun.map(|begun| begun.agent),
        started_us: begun.map(|begun| begun.at),
        build: begun.map(|begun| rows::build_word(begun.build)),
        resumed_bytes: resume.map(|snapshot| snapshot.blob.size_bytes),
        resumed_spent_us: resume.map(|snapshot| snapshot.spent_us),
        cause: begun.and_then(|begun| begun.cause.as_deref()),
        pause: patch.pause.value().map(json),
        ended_us: over.map(|over| over.at),
        outcome: over.map(|over| over.end.as_str()),
        reason: over.and_then(|over| over.reason.as_deref()),
        failure_kind: failure.map(|failure| failure.kind()),
        failure: failure.map(json),
        wall_us: over.map(|over| over.usage.wall_us),
        cpu_us: over.map(|over| over.usage.cpu_us),
        memory_peak_bytes: over.map(|over| over.usage.memory_peak_bytes),
        slot_us: over.map(|over| over.slot_us),
    }
}

table! {
    /// One output.
    RESULTS = "results", result(row: &'a ResultRow)
    let (content, blob) = match &row.output {
        Payload::Inline(bytes) => (Some(&bytes[..]), None),
        Payload::Blob(blob) => (None, Some(blob.digest)),
    };
    {
        job_id: row.attempt.task.job,
        task_index: row.attempt.task.index,
        number: row.attempt.number,
        size_bytes: row.output.size_bytes(),
        content @bytes: content,
        blob_digest @bytes: blob,
    }
}

table! {
    /// Something that is kept to be compared.
    ANSWERS = "answers", answer(id: AttemptId, digest: Digest)
    {
        job_id: id.task.job,
        task_index: id.task.index,
        number: id.number,
        digest @bytes: digest,
    }
}

table! {
    /// A task of which what was kept to be compared goes.
    ANSWERS_DROPPED = "answers_dropped", answers_dropped(task: TaskId)
    {
        job_id: task.job,
        task_index: task.index,
    }
}

table! {
    /// A task's snapshot, in the place of the one that is there; without a digest that one is only deleted.
    SNAPSHOTS = "snapshots", snapshot(task: TaskId, row: Option<&'a SnapshotRow>)
    {
        job_id: task.job,
        task_index: task.index,
        digest @bytes: row.map(|row| row.snapshot.blob.digest),
        size_bytes: row.map(|row| row.snapshot.blob.size_bytes),
        spent_us: row.map(|row| row.snapshot.spent_us),
        agent_id: row.map(|row| row.agent),
        saved_us: row.map(|row| row.at),
    }
}

table! {
    /// One log.
    LOGS = "logs", log(row: &'a LogRow)
    {
        job_id: row.attempt.task.job,
        task_index: row.attempt.task.index,
        number: row.attempt.number,
        log @bytes: &row.log[..],
        dropped_bytes: row.dropped_bytes,
    }
}

table! {
    /// When an agent's machine was there for work, in the place of what was known before.
    IDLE_HOURS = "idle_hours", idle_hours(agent: AgentId, row: &'a HoursRow)
    {
        agent_id: agent,
        shares @bytes: &row.hours.shares()[..],
        taken @bytes: &row.hours.taken()[..],
        clock_ahead_min: row.hours.clock_ahead_min,
        saved_us: row.at,
    }
}

table! {
    /// Slot time that is added to an hour of a job.
    USAGE_HOURS = "usage_hours", usage_hours(hour: i64, job: JobId, slot_us: i64)
    {
        hour_number: hour,
        job_id: job,
        slot_us: slot_us,
    }
}

table! {
    /// What is added to an hour of an agent.
    WORK_HOURS = "work_hours", work_hours(hour: i64, agent: AgentId, work: &Work)
    {
        hour_number: hour,
        agent_id: agent,
        attempts: work.attempts,
        succeeded: work.succeeded,
        failed: work.failed,
        moved: work.moved,
        slot_us: work.slot_us,
        cpu_us: work.cpu_us,
    }
}

table! {
    /// What is added to the counts over all time.
    TOTALS = "totals", totals(totals: &Totals)
    {
        jobs: totals.jobs,
        tasks_succeeded: totals.tasks_succeeded,
        attempts: totals.attempts,
        attempts_lost: totals.attempts_lost,
        results_refused: totals.results_refused,
    }
}

table! {
    /// What changes on an agent's row.
    AGENTS = "agents", agent(agent: AgentId, patch: &'a AgentPatch)
    let now = patch.connected.as_deref();
    let quarantine = patch.quarantine.value();
    {
        agent_id: agent,
        connected_us: now.map(|now| now.at),
        version: now.map(|now| now.version.as_str()),
        os: now.map(|now| now.machine.os.as_str()),
        arch: now.map(|now| now.machine.arch.as_str()),
        cores: now.map(|now| now.machine.cores),
        memory_bytes: now.map(|now| now.machine.memory_bytes),
        engine: now.map(|now| now.machine.engine.as_str()),
        labels: now.map(|now| json(&now.labels)),
        disconnected_us: patch.disconnected,
        intake: patch.intake.map(|intake| intake.as_str()),
        results_refused: patch.results_refused,
        quarantine_changes: patch.quarantine.is_change(),
        quarantined_us: quarantine.map(|row| row.at),
        quarantine_reason: quarantine.map(|row| row.reason.as_str()),
        quarantine_kind: quarantine.map(|row| row.kind.as_str()),
    }
}

table! {
    /// A line of the audit.
    AUDIT = "audit", audit(position: u32, line: &'a AuditRecord)
    {
        position: position,
        at_us: line.at,
        by_whom: line.by.as_str(),
        operation: line.action.as_str(),
        subject: line.subject.as_str(),
        detail: line.detail.as_str(),
    }
}

/// All of them.
#[cfg(test)]
pub(super) const TABLES: [Table; 15] = [
    JOBS_NEW,
    JOBS,
    TASKS,
    ATTEMPTS,
    RESULTS,
    ANSWERS_DROPPED,
    ANSWERS,
    SNAPSHOTS,
    LOGS,
    IDLE_HOURS,
    USAGE_HOURS,
    WORK_HOURS,
    TOTALS,
    AGENTS,
    AUDIT,
];
