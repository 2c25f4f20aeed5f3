//! Reading jobs: for the scheduler when it starts, and for people.

use std::collections::BTreeMap;

use lull_shared::id::{JobId, TaskId, TaskIndex, TokenId};
use tiberius::Row;

use super::{
    super::{
        Lead, Loaded,
        bounds::number,
        decide,
        lead::{LeaderRow, Refusal},
        record::*,
        rows::{self, Columns, Damaged},
        usage,
    },
    connection::Answer,
    error::Fail,
    session::{Session, Value},
    statements,
};
use crate::scheduler::event::{EndedTask, JobSnapshot, Snapshot};

/// A turn that was in doubt arrives once; more than a few of them in a row are not ours.
const LOADS_MAX: usize = 4;

/// Every row of one of an answer's SELECTs.
pub fn all<T>(answer: &Answer, select: usize, read: impl Fn(&dyn Columns) -> Result<T, Damaged>) -> Result<Vec<T>, Damaged> {
    let none = Vec::new();
    let rows: &Vec<Row> = answer.get(select).unwrap_or(&none);
    rows.iter().map(|row| read(row)).collect()
}

/// The first row of one of an answer's SELECTs.
pub fn first<T>(answer: &Answer, select: usize, read: impl Fn(&dyn Columns) -> Result<T, Damaged>) -> Result<Option<T>, Damaged> {
    answer.get(select).and_then(|rows| rows.first()).map(|row| read(row)).transpose()
}

/// Everything a scheduler needs to go on.
pub async fn load(session: &Session, lead: &Lead) -> Result<Loaded, Fail> {
    for _ in 0..LOADS_MAX {
        let answer = session.read(statements::LOAD, &[usage::HOURS_MAX.into()]).await?;
        let (before, after) = (leader_row(&answer, 0)?, leader_row(&answer, 8)?);
        if !after.is_led_by(lead.term, &lead.holder) {
            return Err(Refusal::Fenced(after.leader).into());
        }
        if before.counts.turns == after.counts.turns {
            return Ok(Loaded { snapshot: snapshot(&answer)?, lost: lead.loaded(after.counts) });
        }
    }
    Err(Fail::Contended)
}

fn leader_row(answer: &Answer, select: usize) -> Result<LeaderRow, Damaged> {
    first(answer, select, rows::leader_row)?.ok_or_else(|| Damaged::new("leader", "no row"))
}

fn snapshot(answer: &Answer) -> Result<Snapshot, Damaged> {
    let last_job = first(answer, 1, |row| rows::int(row, "last_job"))?.unwrap_or(0);
    let jobs = all(answer, 2, rows::job_snapshot)?;
    let mut jobs: BTreeMap<JobId, JobSnapshot> = jobs.into_iter().map(|job| (job.job, job)).collect();
    for (job, task) in rows::gather_open(all(answer, 3, rows::open_task)?) {
        if let Some(job) = jobs.get_mut(&job) {
            job.open.push(task);
        }
    }
    let open = jobs.iter_mut().flat_map(|(id, job)| job.open.iter_mut().map(|task| (*id, task)));
    rows::add_answers(open, all(answer, 7, rows::answer)?);
    Ok(Snapshot {
        last_job: last_job as u64,
        jobs: jobs.into_values().collect(),
        agents: all(answer, 4, rows::agent_snapshot)?,
        hours: all(answer, 5, rows::idle_hours)?,
        usage: usage::faded(&all(answer, 6, rows::owner_hour)?),
    })
}

/// A job and its started tasks that ended badly.
pub async fn load_for_retry(session: &Session, job: JobId) -> Result<Option<(JobSnapshot, Vec<EndedTask>)>, Fail> {
    let answer = session.read(statements::RETRY, &[number(job.0).into()]).await?;
    let Some(mut snapshot) = first(&answer, 0, rows::job_snapshot)? else { return Ok(None) };
    let open = rows::gather_open(all(&answer, 1, rows::open_task)?);
    snapshot.open = open.into_iter().map(|(_, task)| task).collect();
    rows::add_answers(snapshot.open.iter_mut().map(|task| (job, task)), all(&answer, 3, rows::answer)?);
    Ok(Some((snapshot, all(&answer, 2, rows::ended_task)?)))
}

/// A page of jobs, newest first.
pub async fn jobs(session: &Session, filter: &JobFilter) -> Result<Vec<JobRecord>, Fail> {
    page_of_jobs(session, filter, None).await
}

async fn page_of_jobs(session: &Session, filter: &JobFilter, alone: Option<JobId>) -> Result<Vec<JobRecord>, Fail> {
    let before = filter.before.map_or(i64::MAX, |job| number(job.0));
    let values = [
        filter.limit_or_default().into(),
        filter.state.map(|state| state.as_str().to_owned()).into(),
        filter.submitter.clone().into(),
        filter.name.clone().into(),
        before.into(),
        filter.owner.map(|owner| number(owner.0)).into(),
        alone.map(|job| number(job.0)).into(),
    ];
    Ok(all(&session.read(statements::JOBS, &values).await?, 0, rows::job_record)?)
}

/// One job.
pub async fn job(session: &Session, job: JobId) -> Result<Option<JobRecord>, Fail> {
    Ok(page_of_jobs(session, &JobFilter::default(), Some(job)).await?.pop())
}

/// The job that an owner submitted under a key.
pub async fn job_by_key(session: &Session, owner: TokenId, key: &str) -> Result<Option<JobId>, Fail> {
    let digest = Value::from(&decide::key_digest(owner, key)[..]);
    let answer = session.read(statements::JOB_BY_KEY, &[digest]).await?;
    Ok(first(&answer, 0, |row| rows::int(row, "job_id"))?.map(|job| JobId(job as u64)))
}

async fn page(
    session: &Session,
    job: JobId,
    filter: &TaskFilter,
    before: i64,
) -> Result<(Option<rows::Extent>, Vec<TaskRecord>), Fail> {
    let values = [
        number(job.0).into(),
        filter.limit_or_default().into(),
        filter.from.into(),
        before.into(),
        filter.state.map(|state| state.as_str().to_owned()).into(),
    ];
    let answer = session.read(statements::TASKS, &values).await?;
    Ok((first(&answer, 0, rows::extent)?, all(&answer, 1, rows::task_record)?))
}

/// A page of tasks, those without rows included.
pub async fn tasks(session: &Session, job: JobId, filter: &TaskFilter) -> Result<Vec<TaskRecord>, Fail> {
    let (extent, mut found) = page(session, job, filter, i64::MAX).await?;
    if let Some(extent) = extent {
        extent.append_never_started(job, filter, &mut found);
    }
    Ok(found)
}

/// One task.
pub async fn task(session: &Session, task: TaskId) -> Result<Option<TaskRecord>, Fail> {
    let filter = TaskFilter { state: None, from: task.index, limit: 1 };
    let (extent, mut found) = page(session, task.job, &filter, i64::from(task.index) + 1).await?;
    let Some(extent) = extent.filter(|extent| task.index < extent.count) else { return Ok(None) };
    Ok(Some(found.pop().unwrap_or_else(|| extent.never_started(task))))
}

/// A task's attempts, in order.
pub async fn attempts(session: &Session, task: TaskId) -> Result<Vec<AttemptRecord>, Fail> {
    let answer = session.read(statements::ATTEMPTS, &[number(task.job.0).into(), task.index.into()]).await?;
    Ok(all(&answer, 0, rows::attempt_record)?)
}

/// Tasks that left a machine unfinished and were started again, the newest first.
pub async fn moves(session: &Session, job: JobId, limit: u32) -> Result<Vec<MoveRecord>, Fail> {
    let answer = session.read(statements::MOVES, &[number(job.0).into(), limit.into()]).await?;
    Ok(all(&answer, 0, rows::move_record)?)
}

/// The log of one ended attempt, the newest if none is named.
pub async fn log(session: &Session, task: TaskId, attempt: Option<u32>) -> Result<Option<LogRecord>, Fail> {
    let values = [number(task.job.0).into(), task.index.into(), attempt.into()];
    Ok(first(&session.read(statements::LOG, &values).await?, 0, rows::log_record)?)
}

/// A page of outputs.
pub async fn results(session: &Session, job: JobId, from: TaskIndex, limit: u32) -> Result<Vec<ResultRecord>, Fail> {
    let values = [number(job.0).into(), limit.into(), from.into(), i64::MAX.into()];
    Ok(all(&session.read(statements::RESULTS, &values).await?, 0, rows::result_record)?)
}

/// One output.
pub async fn result(session: &Session, task: TaskId) -> Result<Option<ResultRecord>, Fail> {
    let values = [number(task.job.0).into(), 1_u32.into(), task.index.into(), (i64::from(task.index) + 1).into()];
    Ok(first(&session.read(statements::RESULTS, &values).await?, 0, rows::result_record)?)
}

/// Counts over all time.
pub async fn totals(session: &Session) -> Result<Totals, Fail> {
    Ok(first(&session.read(statements::TOTALS, &[]).await?, 0, rows::totals)?.unwrap_or_default())
}
