//! Reading jobs: for the scheduler when it starts, and for people.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lull_scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot, Snapshot},
};
use lull_shared::{
    id::{JobId, TaskId, TaskIndex, TokenId},
    state::{JobState, TaskState},
};
use rusqlite::{Transaction, params, params_from_iter, types::Value};

use super::{
    super::{
        Lead, Ledger, Loaded, Reading, StoreResult,
        bounds::number,
        decide,
        lead::{Kind, Refusal},
        record::*,
        rows,
        turn::Turn,
        usage,
    },
    Embedded,
    error::Fail,
    leadership,
    reader::{all, first},
    turn,
};

/// Jobs of a page (`SELECT job_id ..`), the newest first, each with its open tasks counted by state. SQLite would rather go
/// through all tasks of a job by the primary key than through the open ones by their index, so the index is named: a job has
/// millions of tasks, and this is read at every look at it.
fn jobs_of(page: &str) -> String {
    format!(
        "WITH page AS ({page}),
    open_tasks AS (
        SELECT tasks.job_id, sum(tasks.state = 'queued') AS queued, sum(tasks.state = 'waiting') AS waiting,
            sum(tasks.state = 'running') AS running, sum(tasks.state = 'paused') AS paused
        FROM page CROSS JOIN tasks INDEXED BY tasks_open ON tasks.job_id = page.job_id AND tasks.ended_us IS NULL
        GROUP BY tasks.job_id),
    verified AS (
        SELECT tasks.job_id, sum(tasks.state = 'queued') AS queued, sum(tasks.state = 'waiting') AS waiting,
            sum(tasks.state = 'running') AS running, sum(tasks.state = 'paused') AS paused
        FROM (SELECT DISTINCT answers.job_id, answers.task_index FROM page CROSS JOIN answers ON answers.job_id = page.job_id) AS told
        CROSS JOIN tasks ON tasks.job_id = told.job_id AND tasks.task_index = told.task_index
        GROUP BY tasks.job_id),
    moved AS (
        SELECT tasks.job_id, count(*) AS moving
        FROM page CROSS JOIN snapshots ON snapshots.job_id = page.job_id
        CROSS JOIN tasks ON tasks.job_id = snapshots.job_id AND tasks.task_index = snapshots.task_index AND tasks.state = 'queued'
        GROUP BY tasks.job_id)
    SELECT jobs.job_id, jobs.owner_id, jobs.submitter, jobs.spec, jobs.finish_by_us, jobs.version_name, jobs.submitted_us,
        jobs.ended_us, jobs.state, jobs.stopping, jobs.stopped_by, jobs.task_count, jobs.expanded, jobs.succeeded, jobs.failed,
        jobs.cancelled, jobs.expired,
        coalesce(open_tasks.queued, 0) AS queued, coalesce(open_tasks.waiting, 0) AS waiting,
        coalesce(open_tasks.running, 0) AS running, coalesce(open_tasks.paused, 0) AS paused,
        coalesce(verified.queued, 0) AS verified_queued, coalesce(verified.waiting, 0) AS verified_waiting,
        coalesce(verified.running, 0) AS verified_running, coalesce(verified.paused, 0) AS verified_paused,
        coalesce(moved.moving, 0) AS moving
    FROM page
    CROSS JOIN jobs ON jobs.job_id = page.job_id
    LEFT JOIN open_tasks ON open_tasks.job_id = jobs.job_id
    LEFT JOIN verified ON verified.job_id = jobs.job_id
    LEFT JOIN moved ON moved.job_id = jobs.job_id
    ORDER BY jobs.job_id DESC"
    )
}

const SNAPSHOT: &str =
    "SELECT job_id, owner_id, submitter, spec, finish_by_us, version_name, seed, submitted_us, state, stopping,
    retry_from, retry_forgiven, expanded, succeeded, failed, cancelled, expired FROM jobs";

const OPEN: &str = "SELECT tasks.job_id, tasks.task_index, tasks.attempts, tasks.failures, tasks.agent_id, tasks.not_before_us,
    (SELECT COUNT(*) FROM attempts AS gone
        WHERE gone.job_id = tasks.job_id AND gone.task_index = tasks.task_index AND gone.outcome = 'lost'
            AND gone.number > COALESCE((SELECT MAX(last.number) FROM attempts AS last
                WHERE last.job_id = tasks.job_id AND last.task_index = tasks.task_index AND last.outcome = 'lost'
                    AND last.failure_kind IS NOT NULL), 0)) AS lost,
    attempts.number, attempts.agent_id AS attempt_agent, attempts.started_us, attempts.resumed_spent_us,
    attempts.build, attempts.cause, snapshots.digest AS snapshot_digest, snapshots.size_bytes AS snapshot_bytes,
    snapshots.spent_us AS snapshot_spent_us, snapshots.agent_id AS snapshot_agent
    FROM tasks INDEXED BY tasks_open
    LEFT JOIN snapshots ON snapshots.job_id = tasks.job_id AND snapshots.task_index = tasks.task_index
    LEFT JOIN attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
        AND attempts.ended_us IS NULL
    WHERE tasks.ended_us IS NULL AND tasks.job_id BETWEEN ?1 AND ?2
    ORDER BY tasks.job_id, tasks.task_index, attempts.number";

/// Started tasks of a job (?1) of a page (`SELECT task_index ..`), in the order of their index.
fn tasks_of(page: &str) -> String {
    format!(
        "SELECT tasks.job_id, tasks.task_index, tasks.attempts,
        CASE WHEN EXISTS (SELECT 1 FROM answers WHERE answers.job_id = tasks.job_id AND answers.task_index = tasks.task_index)
            THEN 'verifying' WHEN tasks.state = 'queued' AND snapshots.digest IS NOT NULL THEN 'moving' ELSE tasks.state END AS state,
        tasks.failures, tasks.not_before_us, tasks.ended_us,
        attempts.agent_id, agents.name AS agent_name, attempts.started_us, results.size_bytes AS output_bytes,
        CASE WHEN attempts.ended_us IS NULL THEN earlier.reason ELSE attempts.reason END AS reason
    FROM ({page}) AS page
    CROSS JOIN tasks ON tasks.job_id = ?1 AND tasks.task_index = page.task_index
    LEFT JOIN results ON results.job_id = tasks.job_id AND results.task_index = tasks.task_index
    JOIN attempts ON attempts.job_id = tasks.job_id AND attempts.task_index = tasks.task_index
        AND attempts.number = coalesce(results.number, (SELECT max(live.number) FROM attempts AS live
            WHERE live.job_id = tasks.job_id AND live.task_index = tasks.task_index AND live.ended_us IS NULL), tasks.attempts)
    JOIN agents ON agents.agent_id = attempts.agent_id
    LEFT JOIN attempts AS earlier ON earlier.job_id = tasks.job_id AND earlier.task_index = tasks.task_index
        AND earlier.number = attempts.number - 1
    LEFT JOIN snapshots ON snapshots.job_id = tasks.job_id AND snapshots.task_index = tasks.task_index
    ORDER BY tasks.task_index"
    )
}

/// Which started tasks of a job (?1) are in a state, from an index (?2) on, at most so many (?3). Each state has an index, so
/// that a few among millions are found at once.
fn page_of(state: Option<TaskState>) -> String {
    const NO_ANSWER: &str =
        "NOT EXISTS (SELECT 1 FROM answers WHERE answers.job_id = tasks.job_id AND answers.task_index = tasks.task_index)";
    const NO_SNAPSHOT: &str =
        "NOT EXISTS (SELECT 1 FROM snapshots WHERE snapshots.job_id = tasks.job_id AND snapshots.task_index = tasks.task_index)";
    let open = |state: TaskState| {
        format!("tasks INDEXED BY tasks_open WHERE tasks.state = '{state}' AND tasks.ended_us IS NULL AND {NO_ANSWER}")
    };
    let (table, rows) = match state {
        None => ("tasks", "tasks WHERE TRUE".to_owned()),
        Some(state @ TaskState::Queued) => ("tasks", format!("{} AND {NO_SNAPSHOT}", open(state))),
        Some(state @ (TaskState::Waiting | TaskState::Running | TaskState::Paused)) => ("tasks", open(state)),
        Some(TaskState::Moving) => (
            "snapshots",
            format!(
                "snapshots CROSS JOIN tasks ON tasks.job_id = snapshots.job_id AND tasks.task_index = snapshots.task_index
                 WHERE tasks.state = 'queued' AND {NO_ANSWER}"
            ),
        ),
        Some(TaskState::Verifying) => ("answers", "answers WHERE TRUE".to_owned()),
        Some(TaskState::Succeeded) => ("results", "results WHERE TRUE".to_owned()),
        Some(state @ (TaskState::Failed | TaskState::Cancelled | TaskState::Expired)) => {
            let bad = "tasks INDEXED BY tasks_bad WHERE tasks.ended_us IS NOT NULL AND tasks.state <> 'succeeded'";
            ("tasks", format!("{bad} AND tasks.state = '{state}'"))
        }
    };
    // Several may have brought something for one task.
    let each = if table == "answers" { "DISTINCT " } else { "" };
    format!(
        "SELECT {each}{table}.task_index FROM {rows} AND {table}.job_id = ?1 AND {table}.task_index >= ?2
         ORDER BY {table}.task_index LIMIT ?3"
    )
}

const ANSWERS: &str = "SELECT answers.job_id, answers.task_index, answers.number, answers.digest, attempts.agent_id FROM answers
    JOIN attempts ON attempts.job_id = answers.job_id AND attempts.task_index = answers.task_index AND attempts.number = answers.number
    WHERE answers.job_id BETWEEN ?1 AND ?2 ORDER BY answers.job_id, answers.task_index, answers.number";

/// Everything a scheduler needs to go on.
pub(super) fn load(tx: &Transaction<'_>) -> Result<Snapshot, Fail> {
    let last_job =
        first(tx, "SELECT max(last_job, coalesce((SELECT max(job_id) FROM jobs), 0)) AS job_id FROM leader", [], |row| {
            rows::int(row, "job_id")
        })?;
    let sql = format!("{SNAPSHOT} WHERE ended_us IS NULL ORDER BY job_id");
    let mut jobs: BTreeMap<JobId, JobSnapshot> =
        all(tx, &sql, [], rows::job_snapshot)?.into_iter().map(|job| (job.job, job)).collect();
    for (job, task) in rows::gather_open(all(tx, OPEN, params![0, i64::MAX], rows::open_task)?) {
        if let Some(job) = jobs.get_mut(&job) {
            job.open.push(task);
        }
    }
    let open = jobs.iter_mut().flat_map(|(id, job)| job.open.iter_mut().map(|task| (*id, task)));
    rows::add_answers(open, all(tx, ANSWERS, params![0, i64::MAX], rows::answer)?);
    let columns = "SELECT agent_id, name, group_name, intake, quarantined_us, quarantine_reason, quarantine_kind FROM agents ORDER BY agent_id";
    let agents = all(tx, columns, [], rows::agent_snapshot)?;
    let idle = "SELECT agent_id, shares, taken, clock_ahead_min FROM idle_hours ORDER BY agent_id";
    let idle = all(tx, idle, [], rows::idle_hours)?;
    let hours = all(
        tx,
        "SELECT jobs.owner_id, usage_hours.hour_number, sum(usage_hours.slot_us) AS slot_us
         FROM usage_hours JOIN jobs ON jobs.job_id = usage_hours.job_id
         WHERE usage_hours.hour_number > (SELECT max(hour_number) FROM usage_hours) - ?1
         GROUP BY jobs.owner_id, usage_hours.hour_number ORDER BY jobs.owner_id, usage_hours.hour_number",
        [usage::HOURS_MAX],
        rows::owner_hour,
    )?;
    Ok(Snapshot {
        last_job: last_job.unwrap_or(0) as u64,
        jobs: jobs.into_values().collect(),
        agents,
        hours: idle,
        usage: usage::faded(&hours),
    })
}

/// A job without its open tasks.
pub(super) fn load_for_retry(tx: &Transaction<'_>, job: JobId) -> Result<Option<JobSnapshot>, Fail> {
    first(tx, &format!("{SNAPSHOT} WHERE job_id = ?1"), [number(job.0)], rows::job_snapshot)
}

/// Tasks of a job (?1) that ended badly, from an index (?2) on, at most so many (?3). Each state is a range of the index: as
/// many are read of each as there may be of all.
fn bad_tasks() -> String {
    let states = ["failed", "cancelled", "expired"].map(|state| {
        format!(
            "SELECT * FROM (SELECT tasks.job_id, tasks.task_index, tasks.attempts, tasks.state FROM tasks INDEXED BY tasks_bad
             WHERE tasks.job_id = ?1 AND tasks.state = '{state}' AND tasks.task_index >= ?2 AND tasks.ended_us IS NOT NULL
                 AND tasks.state <> 'succeeded' ORDER BY tasks.task_index LIMIT ?3)"
        )
    });
    format!(
        "SELECT bad.task_index, bad.attempts, bad.state,
             CASE WHEN bad.state = 'failed' THEN attempts.agent_id END AS failed_at
         FROM ({}) AS bad
         LEFT JOIN attempts ON attempts.job_id = bad.job_id AND attempts.task_index = bad.task_index
             AND attempts.number = bad.attempts AND attempts.outcome = 'failed'
         ORDER BY bad.task_index LIMIT ?3",
        states.join(" UNION ALL ")
    )
}

/// Started tasks of a job that ended badly, from one on.
pub(super) fn ended_badly(tx: &Transaction<'_>, job: JobId, from: TaskIndex, limit: u32) -> Result<Vec<EndedTask>, Fail> {
    all(tx, &bad_tasks(), params![number(job.0), from, limit], rows::ended_task)
}

/// A page of jobs, newest first.
pub(super) fn jobs(tx: &Transaction<'_>, filter: &JobFilter) -> Result<Vec<JobRecord>, Fail> {
    // Only what is asked for is in the text, so that an index can be chosen by it.
    let mut page = "SELECT jobs.job_id FROM jobs WHERE jobs.job_id < ?1".to_owned();
    let before = filter.before.map_or(i64::MAX, |job| number(job.0));
    let mut values: Vec<Value> = vec![before.into(), filter.limit_or_default().into()];
    let wanted = [
        ("state", filter.state.map(|state| state.as_str().to_owned().into())),
        ("submitter", filter.submitter.clone().map(Value::from)),
        ("name", filter.name.clone().map(Value::from)),
        ("owner_id", filter.owner.map(|owner| number(owner.0).into())),
    ];
    for (column, value) in wanted.into_iter().filter_map(|(column, value)| Some((column, value?))) {
        values.push(value);
        page.push_str(&format!(" AND jobs.{column} = ?{}", values.len()));
    }
    page.push_str(" ORDER BY jobs.job_id DESC LIMIT ?2");
    all(tx, &jobs_of(&page), params_from_iter(values), rows::job_record)
}

/// One job.
pub(super) fn job(tx: &Transaction<'_>, job: JobId) -> Result<Option<JobRecord>, Fail> {
    first(tx, &jobs_of("SELECT jobs.job_id FROM jobs WHERE jobs.job_id = ?1"), [number(job.0)], rows::job_record)
}

const JOB_STATES: [JobState; 5] =
    [JobState::Active, JobState::Succeeded, JobState::Failed, JobState::Cancelled, JobState::Expired];

/// How many jobs there are of each state: each is a range of the index, of which no more is read than is counted.
pub(super) fn job_counts(tx: &Transaction<'_>, most: u32) -> Result<BTreeMap<JobState, u64>, Fail> {
    let count = |state| {
        format!(
            "SELECT '{state}' AS state, count(*) AS jobs
             FROM (SELECT 1 FROM jobs INDEXED BY jobs_state WHERE jobs.state = '{state}' LIMIT ?1)"
        )
    };
    let counts = all(tx, &JOB_STATES.map(count).join(" UNION ALL "), [most], rows::job_count)?;
    Ok(counts.into_iter().collect())
}

/// The job that an owner submitted under a key.
pub(super) fn job_by_key(tx: &Transaction<'_>, owner: TokenId, key: &str) -> Result<Option<JobId>, Fail> {
    let digest = decide::key_digest(owner, key);
    let found = first(tx, "SELECT job_id FROM jobs WHERE key_digest = ?1", [digest], |row| rows::int(row, "job_id"))?;
    Ok(found.map(|job| JobId(job as u64)))
}

fn extent(tx: &Transaction<'_>, job: JobId) -> Result<Option<rows::Extent>, Fail> {
    let sql = "SELECT task_count, expanded, stopping, stopped_us FROM jobs WHERE job_id = ?1";
    first(tx, sql, [number(job.0)], rows::extent)
}

/// A page of tasks, those without rows included.
pub(super) fn tasks(tx: &Transaction<'_>, job: JobId, filter: &TaskFilter) -> Result<Vec<TaskRecord>, Fail> {
    let Some(extent) = extent(tx, job)? else { return Ok(Vec::new()) };
    let values = params![number(job.0), filter.from, filter.limit_or_default()];
    let mut found = all(tx, &tasks_of(&page_of(filter.state)), values, rows::task_record)?;
    extent.append_never_started(job, filter, &mut found);
    Ok(found)
}

/// One task.
pub(super) fn task(tx: &Transaction<'_>, task: TaskId) -> Result<Option<TaskRecord>, Fail> {
    let Some(extent) = extent(tx, task.job)?.filter(|extent| task.index < extent.count) else { return Ok(None) };
    let sql = tasks_of("SELECT ?2 AS task_index");
    let found = first(tx, &sql, params![number(task.job.0), task.index], rows::task_record)?;
    Ok(Some(found.unwrap_or_else(|| extent.never_started(task))))
}

/// A task's attempts, in order.
pub(super) fn attempts(tx: &Transaction<'_>, task: TaskId) -> Result<Vec<AttemptRecord>, Fail> {
    all(
        tx,
        "SELECT attempts.*, agents.name AS agent_name FROM attempts JOIN agents ON agents.agent_id = attempts.agent_id
         WHERE attempts.job_id = ?1 AND attempts.task_index = ?2 ORDER BY attempts.number",
        params![number(task.job.0), task.index],
        rows::attempt_record,
    )
}

/// Attempts of a job's tasks, those with the highest index first and below one.
pub(super) fn newest_attempts(
    tx: &Transaction<'_>,
    job: JobId,
    before: Option<TaskIndex>,
    limit: u32,
) -> Result<Vec<AttemptRecord>, Fail> {
    all(
        tx,
        "SELECT attempts.*, agents.name AS agent_name FROM attempts JOIN agents ON agents.agent_id = attempts.agent_id
         WHERE attempts.job_id = ?1 AND attempts.task_index < ?2
         ORDER BY attempts.task_index DESC, attempts.number DESC LIMIT ?3",
        params![number(job.0), before.map_or(i64::MAX, i64::from), limit],
        rows::attempt_record,
    )
}

/// Tasks that left a machine unfinished and were started again, the newest first.
pub(super) fn moves(tx: &Transaction<'_>, job: JobId, limit: u32) -> Result<Vec<MoveRecord>, Fail> {
    all(
        tx,
        "SELECT attempts.job_id, attempts.task_index, attempts.number, attempts.agent_id, agents.name AS agent_name,
             attempts.started_us, attempts.resumed_bytes, attempts.resumed_spent_us, earlier.agent_id AS from_id,
             from_agents.name AS from_name, earlier.outcome, earlier.reason, earlier.ended_us
         FROM attempts
         JOIN attempts AS earlier ON earlier.job_id = attempts.job_id AND earlier.task_index = attempts.task_index
             AND earlier.number = attempts.number - 1
         JOIN agents ON agents.agent_id = attempts.agent_id
         JOIN agents AS from_agents ON from_agents.agent_id = earlier.agent_id
         WHERE attempts.job_id = ?1 AND attempts.number > 1 AND earlier.ended_us <= attempts.started_us
             AND (attempts.resumed_bytes IS NOT NULL OR earlier.outcome IN ('evicted', 'lost'))
         ORDER BY attempts.started_us DESC, attempts.task_index DESC, attempts.number DESC LIMIT ?2",
        params![number(job.0), limit],
        rows::move_record,
    )
}

/// The log of one ended attempt; if none is named, of the one that succeeded, or else the newest.
pub(super) fn log(tx: &Transaction<'_>, task: TaskId, attempt: Option<u32>) -> Result<Option<LogRecord>, Fail> {
    first(
        tx,
        "SELECT attempts.job_id, attempts.task_index, attempts.number, logs.log, logs.dropped_bytes
         FROM attempts LEFT JOIN logs ON logs.job_id = attempts.job_id AND logs.task_index = attempts.task_index
             AND logs.number = attempts.number
         LEFT JOIN results ON results.job_id = attempts.job_id AND results.task_index = attempts.task_index
             AND results.number = attempts.number
         WHERE attempts.job_id = ?1 AND attempts.task_index = ?2 AND attempts.number = coalesce(?3, attempts.number)
             AND attempts.ended_us IS NOT NULL
         ORDER BY results.number IS NULL, attempts.number DESC LIMIT 1",
        params![number(task.job.0), task.index, attempt],
        rows::log_record,
    )
}

/// A page of outputs.
pub(super) fn results(tx: &Transaction<'_>, job: JobId, from: TaskIndex, limit: u32) -> Result<Vec<ResultRecord>, Fail> {
    let sql = "SELECT * FROM results WHERE job_id = ?1 AND task_index >= ?2 ORDER BY task_index LIMIT ?3";
    all(tx, sql, params![number(job.0), from, limit], rows::result_record)
}

/// One output.
pub(super) fn result(tx: &Transaction<'_>, task: TaskId) -> Result<Option<ResultRecord>, Fail> {
    let sql = "SELECT * FROM results WHERE job_id = ?1 AND task_index = ?2";
    first(tx, sql, params![number(task.job.0), task.index], rows::result_record)
}

/// Counts over all time.
pub(super) fn totals(tx: &Transaction<'_>) -> Result<Totals, Fail> {
    let sql = "SELECT jobs, tasks_succeeded, attempts, attempts_lost, results_refused FROM totals";
    Ok(first(tx, sql, [], rows::totals)?.unwrap_or_default())
}

#[async_trait]
impl Ledger for Embedded {
    async fn load(&self, lead: &Lead) -> StoreResult<Loaded> {
        let own = lead.clone();
        // After every turn that was handed in, also one that nobody waits for any more.
        let loaded = self.write(move |tx| {
            let row = leadership::leader_row(tx)?;
            if !row.is_led_by(own.term, &own.holder) {
                return Err(Refusal::Fenced(row.leader).into());
            }
            Ok((load(tx)?, row.counts))
        });
        let (snapshot, counts) = loaded.await?;
        Ok(Loaded { snapshot, lost: lead.loaded(counts) })
    }

    async fn commit(&self, lead: &Lead, changes: &[Change]) -> StoreResult<()> {
        let rows = Turn::fold(changes).map_err(Fail::Broken)?;
        Ok(self.writer.fenced(lead, Kind::Turn, move |tx| turn::write(tx, &rows)).await?)
    }

    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<JobSnapshot>> {
        self.read(move |tx| load_for_retry(tx, job)).await
    }

    async fn ended_badly(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<EndedTask>> {
        self.read(move |tx| ended_badly(tx, job, from, limit)).await
    }
}

#[async_trait]
impl Reading for Embedded {
    fn describe(&self) -> String {
        format!("embedded (SQLite) in {}", self.dir.display())
    }

    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>> {
        let filter = filter.clone();
        self.read(move |tx| jobs(tx, &filter)).await
    }

    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>> {
        self.read(move |tx| self::job(tx, job)).await
    }

    async fn job_counts(&self, most: u32) -> StoreResult<BTreeMap<JobState, u64>> {
        self.read(move |tx| job_counts(tx, most)).await
    }

    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>> {
        let key = idempotency_key.to_owned();
        self.read(move |tx| job_by_key(tx, owner, &key)).await
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>> {
        let filter = filter.clone();
        self.read(move |tx| tasks(tx, job, &filter)).await
    }

    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>> {
        self.read(move |tx| self::task(tx, task)).await
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        self.read(move |tx| attempts(tx, task)).await
    }

    async fn newest_attempts(&self, job: JobId, before: Option<TaskIndex>, limit: u32) -> StoreResult<Vec<AttemptRecord>> {
        self.read(move |tx| newest_attempts(tx, job, before, limit)).await
    }

    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>> {
        self.read(move |tx| moves(tx, job, limit)).await
    }

    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>> {
        self.read(move |tx| log(tx, task, attempt)).await
    }

    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>> {
        self.read(move |tx| results(tx, job, from, limit)).await
    }

    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>> {
        self.read(move |tx| result(tx, task)).await
    }

    async fn totals(&self) -> StoreResult<Totals> {
        self.read(totals).await
    }
}
