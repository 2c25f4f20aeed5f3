//! Reading jobs: for the scheduler when it starts, and for people.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lull_scheduler::{
    effect::Change,
    event::{EndedTask, JobSnapshot, Snapshot},
};
use lull_shared::{
    id::{JobId, TaskId, TaskIndex, TokenId},
    state::JobState,
};
use tiberius::Row;

use super::{
    super::{
        Lead, Ledger, Loaded, Reading, StoreResult,
        bounds::number,
        decide,
        lead::{Kind, LeaderRow, Refusal},
        record::*,
        rows::{self, Columns, Damaged},
        turn::{Broken, Turn},
        usage,
    },
    SqlServer,
    connection::Answer,
    error::Fail,
    session::{Outcome, Session, Value},
    statements, turn,
};

/// A turn that was in doubt arrives once; more than a few of them in a row are not ours.
const LOADS_MAX: usize = 4;

/// Every row of one of an answer's SELECTs.
pub(super) fn all<T>(
    answer: &Answer,
    select: usize,
    read: impl Fn(&dyn Columns) -> Result<T, Damaged>,
) -> Result<Vec<T>, Damaged> {
    let none = Vec::new();
    let rows: &Vec<Row> = answer.get(select).unwrap_or(&none);
    rows.iter().map(|row| read(row)).collect()
}

/// The first row of one of an answer's SELECTs.
pub(super) fn first<T>(
    answer: &Answer,
    select: usize,
    read: impl Fn(&dyn Columns) -> Result<T, Damaged>,
) -> Result<Option<T>, Damaged> {
    answer.get(select).and_then(|rows| rows.first()).map(|row| read(row)).transpose()
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

/// What the numbers that `sql/commit.sql` answers with mean.
fn contradiction(number: i64) -> Broken {
    Broken(match number {
        3 => "a task is not where the changes say it was".into(),
        4 => "an attempt that should be live is not".into(),
        5 => "a job is not there, or its tasks are not started in the order of their index".into(),
        6 => "an agent is not there".into(),
        other => format!("check {other} of the batch failed"),
    })
}

#[async_trait]
impl Ledger for SqlServer {
    async fn load(&self, lead: &Lead) -> StoreResult<Loaded> {
        for _ in 0..LOADS_MAX {
            let answer = self.session.read(statements::LOAD, &[usage::HOURS_MAX.into()]).await?;
            let (before, after) = (leader_row(&answer, 0)?, leader_row(&answer, 8)?);
            if !after.is_led_by(lead.term, &lead.holder) {
                return Err(Refusal::Fenced(after.leader).into());
            }
            if before.counts.turns == after.counts.turns {
                return Ok(Loaded { snapshot: snapshot(&answer)?, lost: lead.loaded(after.counts) });
            }
        }
        Err(Fail::Contended.into())
    }

    async fn commit(&self, lead: &Lead, changes: &[Change]) -> StoreResult<()> {
        let rows = Turn::fold(changes).map_err(Fail::Broken)?;
        match self.session.fenced(lead, Kind::Turn, statements::COMMIT, turn::parameters(&rows)).await? {
            Outcome::Done { .. } => Ok(()),
            Outcome::Changed => Err(Fail::Contended.into()),
            Outcome::Contradicted(number) => Err(Fail::Broken(contradiction(number)).into()),
        }
    }

    async fn load_for_retry(&self, job: JobId) -> StoreResult<Option<JobSnapshot>> {
        let answer = self.session.read(statements::RETRY, &[number(job.0).into()]).await?;
        Ok(first(&answer, 0, rows::job_snapshot)?)
    }

    async fn ended_badly(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<EndedTask>> {
        let values = [number(job.0).into(), from.into(), limit.into()];
        let answer = self.session.read(statements::ENDED_BADLY, &values).await?;
        Ok(all(&answer, 0, rows::ended_task)?)
    }
}

#[async_trait]
impl Reading for SqlServer {
    fn describe(&self) -> String {
        self.name.clone()
    }

    async fn jobs(&self, filter: &JobFilter) -> StoreResult<Vec<JobRecord>> {
        Ok(page_of_jobs(&self.session, filter, None).await?)
    }

    async fn job(&self, job: JobId) -> StoreResult<Option<JobRecord>> {
        Ok(page_of_jobs(&self.session, &JobFilter::default(), Some(job)).await?.pop())
    }

    async fn job_counts(&self, most: u32) -> StoreResult<BTreeMap<JobState, u64>> {
        let answer = self.session.read(statements::JOB_COUNTS, &[most.into()]).await?;
        Ok(all(&answer, 0, rows::job_count)?.into_iter().collect())
    }

    async fn job_by_key(&self, owner: TokenId, idempotency_key: &str) -> StoreResult<Option<JobId>> {
        let digest = Value::from(&decide::key_digest(owner, idempotency_key)[..]);
        let answer = self.session.read(statements::JOB_BY_KEY, &[digest]).await?;
        Ok(first(&answer, 0, |row| rows::int(row, "job_id"))?.map(|job| JobId(job as u64)))
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter) -> StoreResult<Vec<TaskRecord>> {
        let (extent, mut found) = page(&self.session, job, filter, i64::MAX).await?;
        if let Some(extent) = extent {
            extent.append_never_started(job, filter, &mut found);
        }
        Ok(found)
    }

    async fn task(&self, task: TaskId) -> StoreResult<Option<TaskRecord>> {
        let filter = TaskFilter { state: None, from: task.index, limit: 1 };
        let (extent, mut found) = page(&self.session, task.job, &filter, i64::from(task.index) + 1).await?;
        let Some(extent) = extent.filter(|extent| task.index < extent.count) else { return Ok(None) };
        Ok(Some(found.pop().unwrap_or_else(|| extent.never_started(task))))
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        let answer = self.session.read(statements::ATTEMPTS, &[number(task.job.0).into(), task.index.into()]).await?;
        Ok(all(&answer, 0, rows::attempt_record)?)
    }

    async fn newest_attempts(&self, job: JobId, before: Option<TaskIndex>, limit: u32) -> StoreResult<Vec<AttemptRecord>> {
        let values = [number(job.0).into(), before.map_or(i64::MAX, i64::from).into(), limit.into()];
        let answer = self.session.read(statements::NEWEST_ATTEMPTS, &values).await?;
        Ok(all(&answer, 0, rows::attempt_record)?)
    }

    async fn moves(&self, job: JobId, limit: u32) -> StoreResult<Vec<MoveRecord>> {
        let answer = self.session.read(statements::MOVES, &[number(job.0).into(), limit.into()]).await?;
        Ok(all(&answer, 0, rows::move_record)?)
    }

    async fn log(&self, task: TaskId, attempt: Option<u32>) -> StoreResult<Option<LogRecord>> {
        let values = [number(task.job.0).into(), task.index.into(), attempt.into()];
        Ok(first(&self.session.read(statements::LOG, &values).await?, 0, rows::log_record)?)
    }

    async fn results(&self, job: JobId, from: TaskIndex, limit: u32) -> StoreResult<Vec<ResultRecord>> {
        let values = [number(job.0).into(), limit.into(), from.into(), i64::MAX.into()];
        Ok(all(&self.session.read(statements::RESULTS, &values).await?, 0, rows::result_record)?)
    }

    async fn result(&self, task: TaskId) -> StoreResult<Option<ResultRecord>> {
        let values = [number(task.job.0).into(), 1_u32.into(), task.index.into(), (i64::from(task.index) + 1).into()];
        Ok(first(&self.session.read(statements::RESULTS, &values).await?, 0, rows::result_record)?)
    }

    async fn totals(&self) -> StoreResult<Totals> {
        Ok(first(&self.session.read(statements::TOTALS, &[]).await?, 0, rows::totals)?.unwrap_or_default())
    }
}
