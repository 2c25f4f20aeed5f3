//! Tasks of a job: lists, one task, its output, its log, and why it is where it is.
//!
//! A store does not know what holds a job back, nor when a pause before a retry is over, so that of open tasks it is the
//! scheduler who says what waits and what is queued, here as in a job's counts.

use std::collections::BTreeMap;

use axum::{Json, extract::State, response::Response};
use lull_scheduler::{Scheduler, view::Unreachable};
use lull_shared::{
    bound,
    id::{JobId, TaskId},
    message::Payload,
    state::TaskState,
};
use serde::Deserialize;

use crate::{
    api::{ExplanationBody, Page, ResultBody, TaskBody, TaskDetails, ending, shape},
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::{Answer, Refused},
            page::Limit,
        },
        fleet::agents,
        work::{blobs, jobs},
    },
    store::record::{JobRecord, TaskFilter, TaskRecord},
};

/// Tasks or results in one part of a list, where nobody says how many.
const TASKS_DEFAULT: u32 = 1_000;
const RESULTS_DEFAULT: u32 = 100;

/// Which tasks to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    state: Option<TaskState>,
    from: Option<u32>,
    limit: Option<Limit<{ bound::TASKS_PAGE.most }>>,
}

/// `GET /jobs/{job}/tasks`
pub(crate) async fn list(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<JobId>,
    Asked(asked): Asked<Filter>,
) -> Answer<Json<Page<TaskBody>>> {
    let job = jobs::remembered(&state, job).await?;
    let limit = Limit::or(asked.limit, TASKS_DEFAULT);
    Ok(Json(page(&state, &job, asked.state, asked.from.unwrap_or(0), limit).await?))
}

/// A part of a job's tasks.
pub(crate) async fn page(
    state: &Interface,
    job: &JobRecord,
    wanted: Option<TaskState>,
    from: u32,
    limit: u32,
) -> Answer<Page<TaskBody>> {
    let (records, next) = records(state, job, wanted, from, limit).await?;
    let unreachable = unreachable(state, job.job).await?;
    let mut items = Vec::with_capacity(records.len());
    for mut record in records {
        let label = label(state, job, record.task.index).await?;
        record.reason = ending::reason(&record, job);
        items.push(shape::task(record, label, &unreachable));
    }
    Ok(Page { items, next })
}

/// `GET /jobs/{job}/tasks/{index}`
pub(crate) async fn show(State(state): Shared, _viewer: Viewer, At((job, index)): At<(JobId, u32)>) -> Answer<Json<TaskDetails>> {
    Ok(Json(details(&state, TaskId { job, index }).await?))
}

/// A task with all its attempts.
pub(crate) async fn details(state: &Interface, task: TaskId) -> Answer<TaskDetails> {
    let mut record = remembered(state, task).await?;
    correct(state, task.job, std::slice::from_mut(&mut record)).await?;
    let job = jobs::remembered(state, task.job).await?;
    record.reason = ending::reason(&record, &job);
    let label = label(state, &job, task.index).await?;
    let look = move |scheduler: &Scheduler, _| (scheduler.unreachable(task.job), scheduler.used_so_far(task));
    let (unreachable, so_far) = state.coordinator.dispatch.query(look).await?;
    let attempts = state.coordinator.store.attempts(task).await?;
    let history = attempts.into_iter().map(|attempt| shape::attempt(attempt, &unreachable, &so_far)).collect();
    Ok(TaskDetails { task: shape::task(record, label, &unreachable), history })
}

/// `GET /jobs/{job}/tasks/{index}/output`
pub(crate) async fn output(State(state): Shared, _viewer: Viewer, At((job, index)): At<(JobId, u32)>) -> Answer<Response> {
    let task = TaskId { job, index };
    let mut record = remembered(&state, task).await?;
    let Some(result) = state.coordinator.store.result(task).await? else {
        correct(&state, task.job, std::slice::from_mut(&mut record)).await?;
        let hint = format!("`lull explain {task}` says why");
        return Err(Refused::not_found(format!("{task} has no output: it {}", record.state.told()), hint));
    };
    Ok(match result.output {
        Payload::Inline(bytes) => blobs::inline(bytes),
        Payload::Blob(blob) => blobs::stream(state.coordinator.store.clone(), blob),
    })
}

/// `GET /jobs/{job}/tasks/{index}/explain`
pub(crate) async fn explain(
    State(state): Shared,
    _viewer: Viewer,
    At((job, index)): At<(JobId, u32)>,
) -> Answer<Json<ExplanationBody>> {
    Ok(Json(explained(&state, TaskId { job, index }).await?))
}

/// Why a task is where it is.
pub(crate) async fn explained(state: &Interface, task: TaskId) -> Answer<ExplanationBody> {
    let explanation = state.coordinator.dispatch.query(move |scheduler, at| scheduler.explain(task, at)).await?;
    if let Some(mut explanation) = explanation {
        let left = agents::left(&*state.coordinator.store).await?;
        explanation.agents.retain(|verdict| !left.contains(&verdict.agent));
        return Ok(shape::explanation(explanation));
    }
    let record = remembered(state, task).await?;
    let job = jobs::remembered(state, task.job).await?;
    let reason = ending::of_task(&record, &job).or(record.reason);
    Ok(ExplanationBody {
        task,
        state: record.state,
        waiting: None,
        at: None,
        beside: Vec::new(),
        second_copy: None,
        ahead: None,
        build: None,
        reason,
        outage: None,
        agents: Vec::new(),
    })
}

/// Open tasks that have not begun, or not again: a store has them in these states, and not always in that in which they are.
const NOT_BEGUN: [TaskState; 3] = [TaskState::Queued, TaskState::Waiting, TaskState::Moving];

/// A part of a job's tasks, and where the next one begins.
async fn records(
    state: &Interface,
    job: &JobRecord,
    wanted: Option<TaskState>,
    from: u32,
    limit: u32,
) -> Answer<(Vec<TaskRecord>, Option<String>)> {
    let store = &state.coordinator.store;
    let Some(wanted) = wanted.filter(|wanted| NOT_BEGUN.contains(wanted) && !job.state.is_ended()) else {
        let mut records = store.tasks(job.job, &TaskFilter { state: wanted, from, limit }).await?;
        let next = next(records.last().map(|last| last.task), records.len(), limit);
        correct(state, job.job, &mut records).await?;
        return Ok((records, next));
    };
    let mut parts = Vec::with_capacity(NOT_BEGUN.len());
    for stored in NOT_BEGUN {
        parts.push(store.tasks(job.job, &TaskFilter { state: Some(stored), from, limit }).await?);
    }
    let (mut records, next) = joined(parts, limit);
    correct(state, job.job, &mut records).await?;
    records.retain(|record| record.state == wanted);
    Ok((records, next.map(|index| index.to_string())))
}

/// One list in the order of the tasks, of which each of the parts is a beginning of at most `limit`; and from which index on
/// there may be more.
fn joined(parts: Vec<Vec<TaskRecord>>, limit: u32) -> (Vec<TaskRecord>, Option<u32>) {
    // Beyond the last of a full part others of its state may come first.
    let known = parts.iter().filter(|part| part.len() >= limit as usize).filter_map(|part| part.last());
    let known = known.map(|last| last.task.index).min();
    let mut records: Vec<TaskRecord> = parts.into_iter().flatten().collect();
    records.retain(|record| known.is_none_or(|known| record.task.index <= known));
    records.sort_by_key(|record| record.task);
    let cut = records.len() > limit as usize;
    records.truncate(limit as usize);
    let last = if cut { records.last().map(|last| last.task.index) } else { known };
    (records, last.and_then(|last| last.checked_add(1)))
}

/// Puts right how open tasks stand.
async fn correct(state: &Interface, job: JobId, records: &mut [TaskRecord]) -> Answer<()> {
    let open: Vec<u32> =
        records.iter().filter(|record| NOT_BEGUN.contains(&record.state)).map(|record| record.task.index).collect();
    if open.is_empty() {
        return Ok(());
    }
    let states = move |scheduler: &Scheduler, _| scheduler.states(job, open);
    let states: BTreeMap<u32, TaskState> = state.coordinator.dispatch.query(states).await?;
    for record in records.iter_mut().filter(|record| NOT_BEGUN.contains(&record.state)) {
        // One that has begun meanwhile has no agent here yet: it is shown as it was.
        if let Some(known) = states.get(&record.task.index).filter(|known| NOT_BEGUN.contains(known)) {
            record.state = *known;
        }
    }
    Ok(())
}

/// Which results.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    from: Option<u32>,
    limit: Option<Limit<{ bound::RESULTS_PAGE.most }>>,
}

/// `GET /jobs/{job}/results`
pub(crate) async fn results(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<JobId>,
    Asked(asked): Asked<Part>,
) -> Answer<Json<Page<ResultBody>>> {
    let job = jobs::remembered(&state, job).await?;
    let limit = Limit::or(asked.limit, RESULTS_DEFAULT);
    Ok(Json(results_page(&state, &job, asked.from.unwrap_or(0), limit).await?))
}

/// A part of what came of a job's tasks.
pub(crate) async fn results_page(state: &Interface, job: &JobRecord, from: u32, limit: u32) -> Answer<Page<ResultBody>> {
    let records = state.coordinator.store.results(job.job, from, limit).await?;
    let next = next(records.last().map(|last| last.task), records.len(), limit);
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        let label = label(state, job, record.task.index).await?;
        items.push(shape::result(&record, label));
    }
    Ok(Page { items, next })
}

/// What of the job is with agents of which nothing is heard.
async fn unreachable(state: &Interface, job: JobId) -> Answer<Unreachable> {
    Ok(state.coordinator.dispatch.query(move |scheduler, _| scheduler.unreachable(job)).await?)
}

pub(in crate::http) async fn remembered(state: &Interface, task: TaskId) -> Answer<TaskRecord> {
    let found = state.coordinator.store.task(task).await?;
    found.ok_or_else(|| Refused::not_found(format!("there is no task {task}"), "`lull task list JOB` shows a job's tasks"))
}

/// What people know the task's input by; none where it has no name.
pub(crate) async fn label(state: &Interface, job: &JobRecord, index: u32) -> Answer<Option<String>> {
    let label = state.coordinator.catalogue.inputs.label(&job.spec.inputs, index).await?;
    Ok(Some(label).filter(|label| !label.is_empty()))
}

fn next(last: Option<TaskId>, count: usize, limit: u32) -> Option<String> {
    last.filter(|_| count as u32 == limit).and_then(|last| last.index.checked_add(1)).map(|index| index.to_string())
}
