//! Rows of a database to records: written once for all databases, since they have the same columns.

use std::collections::BTreeMap;

use bytes::Bytes;
use lull_scheduler::{
    event::{
        AgentSnapshot, Answer, EndedTask, JobSnapshot, OpenAttempt, OpenPlace, OpenTask, Quarantine, QuarantineKind, Retrying,
        Saved,
    },
    history::IdleHours,
    rollout,
};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId, Term, TokenId, VersionId},
    identity::Signed,
    job::JobSpec,
    message::{Build, ModuleKind, Payload, SnapshotRef},
    release::Platform,
    resources::{Labels, Machine},
    state::{AttemptEnd, Intake, JobState, TaskCounts, TaskState, Usage},
    time::Timestamp,
};
use serde::de::DeserializeOwned;

use super::{
    lead::{Counts, LeaderRow},
    record::*,
};

/// A row that does not hold what the store writes.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of the store holds {found}; was it changed by hand?")]
pub struct Damaged {
    column: String,
    found: String,
}

impl Damaged {
    /// The column.
    #[cfg(test)]
    pub fn column(&self) -> &str {
        &self.column
    }

    /// What was found where something else should be.
    pub fn new(column: &str, found: impl Into<String>) -> Self {
        Self { column: column.to_owned(), found: found.into() }
    }
}

/// One row, read by column name. `None` is NULL.
pub(super) trait Columns {
    fn int(&self, column: &str) -> Result<Option<i64>, Damaged>;
    fn text(&self, column: &str) -> Result<Option<String>, Damaged>;
    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Damaged>;
}

fn need<T>(column: &str, value: Option<T>) -> Result<T, Damaged> {
    value.ok_or_else(|| Damaged::new(column, "nothing"))
}

/// An integer that must be there.
pub(super) fn int(row: &dyn Columns, column: &str) -> Result<i64, Damaged> {
    need(column, row.int(column)?)
}

fn u64_of(row: &dyn Columns, column: &str) -> Result<u64, Damaged> {
    Ok(int(row, column)? as u64)
}

/// A small number that must be there.
pub(super) fn u32_of(row: &dyn Columns, column: &str) -> Result<u32, Damaged> {
    let value = int(row, column)?;
    u32::try_from(value).map_err(|_| Damaged::new(column, value.to_string()))
}

/// A text that must be there.
pub(super) fn text(row: &dyn Columns, column: &str) -> Result<String, Damaged> {
    need(column, row.text(column)?)
}

/// Bytes that must be there.
pub(super) fn bytes(row: &dyn Columns, column: &str) -> Result<Vec<u8>, Damaged> {
    need(column, row.bytes(column)?)
}

fn time(row: &dyn Columns, column: &str) -> Result<Timestamp, Damaged> {
    int(row, column).map(Timestamp)
}

fn time_if(row: &dyn Columns, column: &str) -> Result<Option<Timestamp>, Damaged> {
    Ok(row.int(column)?.map(Timestamp))
}

fn word<T>(row: &dyn Columns, column: &str, from_word: fn(&str) -> Option<T>) -> Result<T, Damaged> {
    let found = text(row, column)?;
    from_word(&found).ok_or_else(|| Damaged::new(column, found))
}

fn word_if<T>(row: &dyn Columns, column: &str, from_word: fn(&str) -> Option<T>) -> Result<Option<T>, Damaged> {
    row.text(column)?.map(|found| from_word(&found).ok_or_else(|| Damaged::new(column, found))).transpose()
}

fn json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, Damaged> {
    serde_json::from_str(text).map_err(|error| Damaged::new(column, format!("JSON that does not fit ({error})")))
}

fn json_if<T: DeserializeOwned>(row: &dyn Columns, column: &str) -> Result<Option<T>, Damaged> {
    row.text(column)?.map(|text| json(column, &text)).transpose()
}

/// A digest.
pub(super) fn digest(column: &str, bytes: &[u8]) -> Result<Digest, Damaged> {
    let bytes = bytes.try_into().map_err(|_| Damaged::new(column, format!("a digest of {} bytes", bytes.len())))?;
    Ok(Digest::from_bytes(bytes))
}

/// How tasks stand that were never started.
pub(super) fn state_of_never_started(stopping: Option<JobState>) -> TaskState {
    match stopping {
        None => TaskState::Queued,
        Some(JobState::Expired) => TaskState::Expired,
        Some(JobState::Active | JobState::Succeeded | JobState::Failed | JobState::Cancelled) => TaskState::Cancelled,
    }
}

fn task_id(row: &dyn Columns) -> Result<TaskId, Damaged> {
    Ok(TaskId { job: JobId(u64_of(row, "job_id")?), index: u32_of(row, "task_index")? })
}

fn attempt_id(row: &dyn Columns) -> Result<AttemptId, Damaged> {
    Ok(AttemptId { task: task_id(row)?, number: u32_of(row, "number")? })
}

/// What was submitted, and by when it must have ended now: a retry may have changed that.
fn spec(row: &dyn Columns) -> Result<JobSpec, Damaged> {
    Ok(JobSpec { finish_by: time_if(row, "finish_by_us")?, ..json("spec", &text(row, "spec")?)? })
}

/// A job for people, from the columns of `jobs` and its open tasks counted by state.
pub(super) fn job_record(row: &dyn Columns) -> Result<JobRecord, Damaged> {
    let stopping = word_if(row, "stopping", JobState::from_word)?;
    let count = |column| u32_of(row, column);
    let moving = count("moving")?;
    // Those that are verified are counted by what they would be otherwise.
    let other = |column: &str| -> Result<(u32, u32), Damaged> {
        let verified = u32_of(row, &format!("verified_{column}"))?;
        Ok((u32_of(row, column)?.saturating_sub(verified), verified))
    };
    let [queued, waiting, running, paused] = [other("queued")?, other("waiting")?, other("running")?, other("paused")?];
    let mut counts = TaskCounts {
        queued: queued.0.saturating_sub(moving),
        moving,
        waiting: waiting.0,
        running: running.0,
        paused: paused.0,
        verifying: queued.1 + waiting.1 + running.1 + paused.1,
        succeeded: count("succeeded")?,
        failed: count("failed")?,
        cancelled: count("cancelled")?,
        expired: count("expired")?,
    };
    *counts.get_mut(state_of_never_started(stopping)) += count("task_count")? - count("expanded")?;
    Ok(JobRecord {
        job: JobId(u64_of(row, "job_id")?),
        owner: owner(row)?,
        submitter: text(row, "submitter")?,
        spec: spec(row)?,
        version_name: text(row, "version_name")?,
        submitted: time(row, "submitted_us")?,
        ended: time_if(row, "ended_us")?,
        state: word(row, "state", JobState::from_word)?,
        stopping,
        stopped_by: row.text("stopped_by")?,
        counts,
    })
}

fn owner(row: &dyn Columns) -> Result<Option<TokenId>, Damaged> {
    Ok(row.int("owner_id")?.map(|token| TokenId(token as u64)))
}

/// What an owner used in an hour: slot-microseconds.
pub(super) fn owner_hour(row: &dyn Columns) -> Result<(Option<TokenId>, i64, i64), Damaged> {
    Ok((owner(row)?, int(row, "hour_number")?, int(row, "slot_us")?))
}

/// Somebody who was thrown out, or nobody, and the count of changes.
pub(super) fn revocation(row: &dyn Columns) -> Result<(u64, Option<Vec<u8>>), Damaged> {
    Ok((u64_of(row, "revocations")?, row.bytes("peer")?))
}

/// All who were thrown out, from such rows.
pub(super) fn revocations(rows: Vec<(u64, Option<Vec<u8>>)>) -> RevocationsRecord {
    let counter = rows.first().map_or(0, |(counter, _)| *counter);
    RevocationsRecord { counter, peers: rows.into_iter().filter_map(|(_, peer)| peer).collect() }
}

/// The name of an agent in small letters, its number and how it stands.
pub(super) fn name_taken(row: &dyn Columns) -> Result<(String, (AgentId, Standing)), Damaged> {
    let agent = agent_record(row)?;
    Ok((agent.name.to_ascii_lowercase(), (agent.agent, agent.standing())))
}

/// A job for the scheduler; its open tasks come from other rows.
pub(super) fn job_snapshot(row: &dyn Columns) -> Result<JobSnapshot, Damaged> {
    Ok(JobSnapshot {
        job: JobId(u64_of(row, "job_id")?),
        owner: owner(row)?,
        submitter: text(row, "submitter")?,
        spec: spec(row)?,
        version_name: text(row, "version_name")?,
        seed: u64_of(row, "seed")?,
        submitted: time(row, "submitted_us")?,
        movable: None,
        state: word(row, "state", JobState::from_word)?,
        stopping: word_if(row, "stopping", JobState::from_word)?,
        retrying: retrying(row)?,
        expanded: u32_of(row, "expanded")?,
        succeeded: u32_of(row, "succeeded")?,
        failed: u32_of(row, "failed")?,
        cancelled: u32_of(row, "cancelled")?,
        expired: u32_of(row, "expired")?,
        open: Vec::new(),
    })
}

fn retrying(row: &dyn Columns) -> Result<Option<Retrying>, Damaged> {
    Ok(match row.int("retry_from")? {
        None => None,
        Some(_) => Some(Retrying { from: u32_of(row, "retry_from")?, forgiven: u32_of(row, "retry_forgiven")? }),
    })
}

/// An open task and its job, with one of its live attempts if it is with agents: a row for each of them.
pub(super) fn open_task(row: &dyn Columns) -> Result<(JobId, OpenTask), Damaged> {
    let place = match row.int("agent_id")? {
        Some(_) => OpenPlace::At(vec![open_attempt(row)?]),
        None => OpenPlace::Waiting { not_before: time(row, "not_before_us")? },
    };
    let task = task_id(row)?;
    let (attempts, failures) = (u32_of(row, "attempts")?, u32_of(row, "failures")?);
    let saved = row.bytes("snapshot_digest")?.map(|bytes| saved(row, &bytes)).transpose()?;
    let lost = u32_of(row, "lost")?;
    Ok((task.job, OpenTask { index: task.index, attempts, failures, lost, place, saved, answers: Vec::new() }))
}

fn open_attempt(row: &dyn Columns) -> Result<OpenAttempt, Damaged> {
    Ok(OpenAttempt {
        number: u32_of(row, "number")?,
        agent: AgentId(u64_of(row, "attempt_agent")?),
        since: time(row, "started_us")?,
        resumed_us: row.int("resumed_spent_us")?.map(|us| us as u64),
        build: word(row, "build", build_from_word)?,
        cause: row.text("cause")?.map(String::into_boxed_str),
    })
}

/// Something that was brought for an open task, and its task.
pub(super) fn answer(row: &dyn Columns) -> Result<(TaskId, Answer), Damaged> {
    let digest = digest("digest", &bytes(row, "digest")?)?;
    Ok((task_id(row)?, Answer { number: u32_of(row, "number")?, agent: AgentId(u64_of(row, "agent_id")?), digest }))
}

/// Gives open tasks, in the order of their index, what was brought for them, in the order of tasks and attempts.
pub(super) fn add_answers<'a>(open: impl Iterator<Item = (JobId, &'a mut OpenTask)>, answers: Vec<(TaskId, Answer)>) {
    let mut by_task: BTreeMap<TaskId, Vec<Answer>> = BTreeMap::new();
    answers.into_iter().for_each(|(task, answer)| by_task.entry(task).or_default().push(answer));
    if by_task.is_empty() {
        return;
    }
    for (job, task) in open {
        task.answers = by_task.remove(&TaskId { job, index: task.index }).unwrap_or_default();
    }
}

/// Rows of one task come one after the other: puts the attempts of each together.
pub(super) fn gather_open(rows: Vec<(JobId, OpenTask)>) -> Vec<(JobId, OpenTask)> {
    let mut gathered: Vec<(JobId, OpenTask)> = Vec::with_capacity(rows.len());
    for (job, task) in rows {
        match (gathered.last_mut(), task.place) {
            (Some((last_job, last)), OpenPlace::At(more)) if *last_job == job && last.index == task.index => {
                if let OpenPlace::At(live) = &mut last.place {
                    live.extend(more);
                }
            }
            (_, place) => gathered.push((job, OpenTask { place, ..task })),
        }
    }
    gathered
}

fn saved(row: &dyn Columns, digest_bytes: &[u8]) -> Result<Saved, Damaged> {
    let blob = BlobRef { digest: digest("snapshot_digest", digest_bytes)?, size_bytes: u64_of(row, "snapshot_bytes")? };
    let snapshot = SnapshotRef { blob, spent_us: u64_of(row, "snapshot_spent_us")? };
    Ok(Saved { snapshot, agent: AgentId(u64_of(row, "snapshot_agent")?) })
}

/// A badly ended task, for a retry.
pub(super) fn ended_task(row: &dyn Columns) -> Result<EndedTask, Damaged> {
    Ok(EndedTask {
        index: u32_of(row, "task_index")?,
        attempts: u32_of(row, "attempts")?,
        state: word(row, "state", TaskState::from_word)?,
        failed_at: row.int("failed_at")?.map(|agent| AgentId(agent as u64)),
    })
}

/// A started task for people.
pub(super) fn task_record(row: &dyn Columns) -> Result<TaskRecord, Damaged> {
    Ok(TaskRecord {
        task: task_id(row)?,
        state: word(row, "state", TaskState::from_word)?,
        attempts: u32_of(row, "attempts")?,
        failures: u32_of(row, "failures")?,
        agent: Some(AgentId(u64_of(row, "agent_id")?)),
        agent_name: Some(text(row, "agent_name")?),
        started: time_if(row, "started_us")?,
        ended: time_if(row, "ended_us")?,
        reason: row.text("reason")?,
        not_before: time_if(row, "not_before_us")?,
        output_bytes: row.int("output_bytes")?.map(|bytes| bytes as u64),
    })
}

/// The size of a job's array, how much of it has rows, and how the rest stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub count: u32,
    pub expanded: u32,
    pub rest: TaskState,
    pub ended: Option<Timestamp>,
}

/// What is needed to tell tasks without rows.
pub(super) fn extent(row: &dyn Columns) -> Result<Extent, Damaged> {
    let stopped = time_if(row, "stopped_us")?;
    Ok(Extent {
        count: u32_of(row, "task_count")?,
        expanded: u32_of(row, "expanded")?,
        rest: state_of_never_started(word_if(row, "stopping", JobState::from_word)?),
        ended: stopped,
    })
}

impl Extent {
    /// A task that was never started.
    pub(super) fn never_started(&self, task: TaskId) -> TaskRecord {
        TaskRecord {
            task,
            state: self.rest,
            attempts: 0,
            failures: 0,
            agent: None,
            agent_name: None,
            started: None,
            ended: self.ended,
            reason: None,
            not_before: None,
            output_bytes: None,
        }
    }

    /// Appends the tasks without rows that a filter asks for, up to its limit.
    pub(super) fn append_never_started(&self, job: JobId, filter: &TaskFilter, tasks: &mut Vec<TaskRecord>) {
        if filter.state.is_some_and(|state| state != self.rest) {
            return;
        }
        let room = (filter.limit_or_default() as usize).saturating_sub(tasks.len());
        let rest = filter.from.max(self.expanded)..self.count;
        tasks.extend(rest.take(room).map(|index| self.never_started(TaskId { job, index })));
    }
}

/// An attempt for people.
pub(super) fn attempt_record(row: &dyn Columns) -> Result<AttemptRecord, Damaged> {
    let end = word_if(row, "outcome", AttemptEnd::from_word)?;
    let usage = || -> Result<Usage, Damaged> {
        Ok(Usage {
            wall_us: u64_of(row, "wall_us")?,
            cpu_us: u64_of(row, "cpu_us")?,
            memory_peak_bytes: u64_of(row, "memory_peak_bytes")?,
        })
    };
    Ok(AttemptRecord {
        attempt: attempt_id(row)?,
        agent: AgentId(u64_of(row, "agent_id")?),
        agent_name: text(row, "agent_name")?,
        started: time(row, "started_us")?,
        build: word(row, "build", build_from_word)?,
        resumed: row.int("resumed_bytes")?.map(|size| resumed(row, size)).transpose()?,
        cause: row.text("cause")?,
        ended: time_if(row, "ended_us")?,
        end,
        reason: row.text("reason")?,
        failure: json_if(row, "failure")?,
        paused: json_if(row, "pause")?,
        usage: end.map(|_| usage()).transpose()?,
    })
}

/// A move, by the attempt that took over and the one before.
pub(super) fn move_record(row: &dyn Columns) -> Result<MoveRecord, Damaged> {
    Ok(MoveRecord {
        attempt: attempt_id(row)?,
        from: AgentId(u64_of(row, "from_id")?),
        from_name: text(row, "from_name")?,
        to: AgentId(u64_of(row, "agent_id")?),
        to_name: text(row, "agent_name")?,
        end: word(row, "outcome", AttemptEnd::from_word)?,
        cause: row.text("reason")?,
        resumed: row.int("resumed_bytes")?.map(|size| resumed(row, size)).transpose()?,
        left: time(row, "ended_us")?,
        arrived: time(row, "started_us")?,
    })
}

fn resumed(row: &dyn Columns, size: i64) -> Result<Resumed, Damaged> {
    Ok(Resumed { size_bytes: size as u64, spent_us: u64_of(row, "resumed_spent_us")? })
}

/// The word for a build.
pub(super) fn build_word(build: Build) -> &'static str {
    match build {
        Build::Plain => "plain",
        Build::Migratable => "migratable",
    }
}

fn build_from_word(word: &str) -> Option<Build> {
    [Build::Plain, Build::Migratable].into_iter().find(|build| build_word(*build) == word)
}

/// An attempt's log; empty when nothing was written.
pub(super) fn log_record(row: &dyn Columns) -> Result<LogRecord, Damaged> {
    let log = Bytes::from(row.bytes("log")?.unwrap_or_default());
    Ok(LogRecord { attempt: attempt_id(row)?, log, dropped_bytes: row.int("dropped_bytes")?.unwrap_or(0) as u64 })
}

/// A task's output.
pub(super) fn result_record(row: &dyn Columns) -> Result<ResultRecord, Damaged> {
    let output = match row.bytes("blob_digest")? {
        Some(blob) => Payload::Blob(BlobRef { digest: digest("blob_digest", &blob)?, size_bytes: u64_of(row, "size_bytes")? }),
        None => Payload::inline(bytes(row, "content")?),
    };
    Ok(ResultRecord { task: task_id(row)?, attempt: u32_of(row, "number")?, output })
}

/// An agent for people.
pub(super) fn agent_record(row: &dyn Columns) -> Result<AgentRecord, Damaged> {
    let machine = || -> Result<Machine, Damaged> {
        Ok(Machine {
            os: text(row, "os")?,
            arch: text(row, "arch")?,
            cores: u32_of(row, "cores")?.try_into().unwrap_or(u16::MAX),
            memory_bytes: u64_of(row, "memory_bytes")?,
            engine: text(row, "engine")?,
        })
    };
    let version = row.text("version")?;
    let machine = version.is_some().then(machine).transpose()?;
    let labels: Labels = json("labels", &text(row, "labels")?)?;
    Ok(AgentRecord {
        agent: AgentId(u64_of(row, "agent_id")?),
        name: text(row, "name")?,
        token: TokenId(u64_of(row, "token_id")?),
        group: row.text("group_name")?,
        peer: bytes(row, "peer")?,
        intake: word(row, "intake", Intake::from_word)?,
        enrolled: time(row, "enrolled_us")?,
        last_connected: time_if(row, "last_connected_us")?,
        last_disconnected: time_if(row, "last_disconnected_us")?,
        version,
        machine,
        labels,
        quarantine: quarantine(row)?,
        left: time_if(row, "left_us")?,
        removed: time_if(row, "removed_us")?,
    })
}

/// An agent for the scheduler.
pub(super) fn agent_snapshot(row: &dyn Columns) -> Result<AgentSnapshot, Damaged> {
    Ok(AgentSnapshot {
        agent: AgentId(u64_of(row, "agent_id")?),
        name: text(row, "name")?,
        group: row.text("group_name")?,
        intake: word(row, "intake", Intake::from_word)?,
        quarantine: quarantine(row)?,
    })
}

fn quarantine(row: &dyn Columns) -> Result<Option<Quarantine>, Damaged> {
    let Some(since) = time_if(row, "quarantined_us")? else { return Ok(None) };
    let kind = word(row, "quarantine_kind", QuarantineKind::from_word)?;
    Ok(Some(Quarantine { kind, since, reason: text(row, "quarantine_reason")? }))
}

/// When an agent's machine was there for work.
pub(super) fn idle_hours(row: &dyn Columns) -> Result<(AgentId, IdleHours), Damaged> {
    let clock = int(row, "clock_ahead_min")?;
    let clock = i16::try_from(clock).map_err(|_| Damaged::new("clock_ahead_min", clock.to_string()))?;
    let (shares, taken) = (need("shares", row.bytes("shares")?)?, row.bytes("taken")?);
    let hours = IdleHours::from_bytes(&shares, taken.as_deref(), clock);
    let hours = hours.ok_or_else(|| Damaged::new("shares or taken", format!("{shares:?}, {taken:?}")))?;
    Ok((AgentId(u64_of(row, "agent_id")?), hours))
}

/// A token, without its secret.
pub(super) fn token_record(row: &dyn Columns) -> Result<TokenRecord, Damaged> {
    let uses_max = row.int("uses_max")?;
    Ok(TokenRecord {
        token: u64_of(row, "token_id")?,
        role: word(row, "role", TokenRole::from_word)?,
        name: text(row, "name")?,
        bound: Bound {
            names: row.text("bound_names")?.map(|names| json("bound_names", &names)).transpose()?.unwrap_or_default(),
            group: row.text("bound_group")?,
        },
        uses: u32_of(row, "uses")?,
        uses_max: uses_max.map(|uses| u32::try_from(uses).unwrap_or(u32::MAX)),
        created: time(row, "created_us")?,
        created_by: text(row, "created_by")?,
        expires: time_if(row, "expires_us")?,
        revoked: time_if(row, "revoked_us")?,
    })
}

fn leader_record(row: &dyn Columns) -> Result<LeaderRecord, Damaged> {
    Ok(LeaderRecord { term: Term(u64_of(row, "term")?), holder: row.text("holder")?, until: time(row, "lease_end_us")? })
}

/// Who leads, and what the store has taken in.
pub(super) fn leader_row(row: &dyn Columns) -> Result<LeaderRow, Damaged> {
    let counts = Counts { writes: u64_of(row, "writes")?, turns: u64_of(row, "turns")? };
    Ok(LeaderRow { leader: leader_record(row)?, counts })
}

/// A coordinator.
pub(super) fn coordinator_record(row: &dyn Columns) -> Result<CoordinatorRecord, Damaged> {
    Ok(CoordinatorRecord {
        peer: text(row, "peer")?,
        name: text(row, "name")?,
        machine: text(row, "machine")?,
        network: text(row, "network")?,
        http: text(row, "http")?,
        addresses: json("addresses", &text(row, "addresses")?)?,
        leads: time_if(row, "leads_us")?,
        seen: time(row, "seen_us")?,
    })
}

/// The network that a store belongs to.
pub(super) fn network_record(row: &dyn Columns) -> Result<NetworkRecord, Damaged> {
    Ok(NetworkRecord { network: text(row, "network")?, authority: text(row, "authority")? })
}

/// An edition of the policy.
pub(super) fn policy_record(row: &dyn Columns) -> Result<PolicyRecord, Damaged> {
    Ok(PolicyRecord {
        version: u64_of(row, "version")?,
        book: json("book", &text(row, "book")?)?,
        set: time(row, "set_us")?,
        set_by: text(row, "set_by")?,
    })
}

/// A rollout, without its agents.
pub(super) fn rollout_record(row: &dyn Columns) -> Result<RolloutRecord, Damaged> {
    let package =
        BlobRef { digest: digest("package_digest", &bytes(row, "package_digest")?)?, size_bytes: u64_of(row, "package_bytes")? };
    Ok(RolloutRecord {
        number: u64_of(row, "number")?,
        platform: word(row, "platform", Platform::from_word)?,
        version: text(row, "version")?,
        package,
        release: Signed { body: bytes(row, "release_body")?, signature: bytes(row, "release_sign")? },
        expires: time(row, "expires_us")?,
        plan: json("plan_text", &text(row, "plan_text")?)?,
        standing: rollout::Standing {
            begun: u32_of(row, "waves_begun")?.try_into().unwrap_or(u16::MAX),
            forgiven: u32_of(row, "forgiven")?,
            stopped: row.text("stopped")?,
            agents: BTreeMap::new(),
        },
        begun: time(row, "begun_us")?,
        begun_by: text(row, "begun_by")?,
    })
}

/// How far an agent is with the rollout of this number.
pub(super) fn rollout_agent(row: &dyn Columns) -> Result<(u64, AgentId, rollout::Step), Damaged> {
    let (step, reason) = (text(row, "step")?, row.text("reason")?);
    let step = rollout::Step::from_word(&step, reason).ok_or_else(|| Damaged::new("step", step))?;
    Ok((u64_of(row, "number")?, AgentId(u64_of(row, "agent_id")?), step))
}

/// Rollouts with their agents.
pub(super) fn rollouts(mut records: Vec<RolloutRecord>, agents: Vec<(u64, AgentId, rollout::Step)>) -> Vec<RolloutRecord> {
    for (number, agent, step) in agents {
        if let Some(record) = records.iter_mut().find(|record| record.number == number) {
            record.standing.agents.insert(agent, step);
        }
    }
    records
}

/// A published module.
pub(super) fn version_record(row: &dyn Columns) -> Result<VersionRecord, Damaged> {
    Ok(VersionRecord {
        version: VersionId(u64_of(row, "version_id")?),
        function: text(row, "function_name")?,
        number: u32_of(row, "number")?,
        kind: word(row, "kind", kind_from_word)?,
        module: BlobRef {
            digest: digest("module_digest", &bytes(row, "module_digest")?)?,
            size_bytes: u64_of(row, "module_bytes")?,
        },
        canonical_nans: int(row, "canonical_nans")? != 0,
        manifest: Signed { body: bytes(row, "manifest")?, signature: bytes(row, "manifest_signature")? },
        interface: json("interface", &text(row, "interface")?)?,
        published: time(row, "published_us")?,
        published_by: text(row, "published_by")?,
        removed: time_if(row, "removed_us")?,
    })
}

/// A move of a label.
pub(super) fn label_record(row: &dyn Columns) -> Result<LabelRecord, Damaged> {
    Ok(LabelRecord {
        step: u64_of(row, "move_id")?,
        function: text(row, "function_name")?,
        label: text(row, "label")?,
        number: u32_of(row, "number")?,
        before: row.int("before_move_id")?.map(|step| step as u64),
        moved: time(row, "moved_us")?,
        moved_by: text(row, "moved_by")?,
    })
}

/// A line of the audit.
pub(super) fn audit_record(row: &dyn Columns) -> Result<AuditRecord, Damaged> {
    Ok(AuditRecord {
        at: time(row, "at_us")?,
        by: text(row, "by_whom")?,
        action: text(row, "operation")?,
        subject: text(row, "subject")?,
        detail: text(row, "detail")?,
    })
}

/// How many jobs of a state there are.
pub(super) fn job_count(row: &dyn Columns) -> Result<(JobState, u64), Damaged> {
    Ok((word(row, "state", JobState::from_word)?, u64_of(row, "jobs")?))
}

/// Counts over all time.
pub(super) fn totals(row: &dyn Columns) -> Result<Totals, Damaged> {
    Ok(Totals {
        jobs: u64_of(row, "jobs")?,
        tasks_succeeded: u64_of(row, "tasks_succeeded")?,
        attempts: u64_of(row, "attempts")?,
        attempts_lost: u64_of(row, "attempts_lost")?,
        results_refused: u64_of(row, "results_refused")?,
    })
}

/// The word for a module's kind.
pub(super) fn kind_word(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::Preview1 => "preview1",
        ModuleKind::Component => "component",
    }
}

fn kind_from_word(word: &str) -> Option<ModuleKind> {
    [ModuleKind::Preview1, ModuleKind::Component].into_iter().find(|kind| kind_word(*kind) == word)
}
