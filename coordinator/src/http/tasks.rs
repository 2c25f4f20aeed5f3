//! Tasks of a job: lists, one task, its output, its log, and why it is where it is.

use axum::{Json, extract::State, response::Response};
use lull_scheduler::{Scheduler, view::Unreachable};
use lull_shared::{
    id::{JobId, TaskId},
    message::Payload,
    state::TaskState,
};
use serde::Deserialize;

use super::{
    Interface, Shared,
    auth::{Asked, At, Viewer},
    blobs,
    error::{Answer, Refused},
    jobs, shape,
};
use crate::{
    api::{ExplanationBody, Page, ResultBody, TaskBody, TaskDetails, Text},
    store::record::{JobRecord, TaskFilter, TaskRecord},
};

/// Tasks or results in one part of a list. Results carry up to 64 KiB each.
const TASKS_DEFAULT: u32 = 1_000;
const TASKS_MAX: u32 = 10_000;
const RESULTS_DEFAULT: u32 = 100;
const RESULTS_MAX: u32 = 256;

/// Which tasks to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    state: Option<TaskState>,
    from: Option<u32>,
    limit: Option<u32>,
}

/// `GET /jobs/{job}/tasks`
pub async fn list(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<Text<JobId>>,
    Asked(asked): Asked<Filter>,
) -> Answer<Json<Page<TaskBody>>> {
    let job = jobs::remembered(&state, job.0).await?;
    let limit = asked.limit.unwrap_or(TASKS_DEFAULT).clamp(1, TASKS_MAX);
    let filter = TaskFilter { state: asked.state, from: asked.from.unwrap_or(0), limit };
    let records = state.coordinator.store.tasks(job.job, &filter).await?;
    let next = next(records.last().map(|last| last.task), records.len(), limit);
    let unreachable = unreachable(&state, job.job).await?;
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        let label = label(&state, &job, record.task.index).await?;
        items.push(shape::task(record, label, &unreachable));
    }
    Ok(Json(Page { items, next }))
}

/// `GET /jobs/{job}/tasks/{index}`
pub async fn show(State(state): Shared, _viewer: Viewer, At((job, index)): At<(Text<JobId>, u32)>) -> Answer<Json<TaskDetails>> {
    let task = TaskId { job: job.0, index };
    let record = remembered(&state, task).await?;
    let job = jobs::remembered(&state, task.job).await?;
    let label = label(&state, &job, index).await?;
    let look = move |scheduler: &Scheduler, _| (scheduler.unreachable(task.job), scheduler.used_so_far(task));
    let (unreachable, so_far) = state.coordinator.dispatch.query(look).await?;
    let attempts = state.coordinator.store.attempts(task).await?;
    let history = attempts.into_iter().map(|attempt| shape::attempt(attempt, &unreachable, &so_far)).collect();
    Ok(Json(TaskDetails { task: shape::task(record, label, &unreachable), history }))
}

/// `GET /jobs/{job}/tasks/{index}/output`
pub async fn output(State(state): Shared, _viewer: Viewer, At((job, index)): At<(Text<JobId>, u32)>) -> Answer<Response> {
    let task = TaskId { job: job.0, index };
    let record = remembered(&state, task).await?;
    let Some(result) = state.coordinator.store.result(task).await? else {
        let hint = "`lull task explain` says why it is where it is";
        return Err(Refused::not_found(format!("{task} has no output: it is {}", record.state), hint));
    };
    Ok(match result.output {
        Payload::Inline(bytes) => blobs::inline(bytes),
        Payload::Blob(blob) => blobs::stream(state.coordinator.store.clone(), blob),
    })
}

/// `GET /jobs/{job}/tasks/{index}/explain`
pub async fn explain(
    State(state): Shared,
    _viewer: Viewer,
    At((job, index)): At<(Text<JobId>, u32)>,
) -> Answer<Json<ExplanationBody>> {
    let task = TaskId { job: job.0, index };
    let explanation = state.coordinator.dispatch.query(move |scheduler, at| scheduler.explain(task, at)).await?;
    if let Some(explanation) = explanation {
        return Ok(Json(shape::explanation(explanation)));
    }
    let record = remembered(&state, task).await?;
    Ok(Json(ExplanationBody {
        task: Text(task),
        state: record.state,
        waiting: None,
        at: None,
        beside: Vec::new(),
        second_copy: None,
        ahead: None,
        build: None,
        reason: record.reason,
        outage: None,
        agents: Vec::new(),
    }))
}

/// Which results.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    from: Option<u32>,
    limit: Option<u32>,
}

/// `GET /jobs/{job}/results`
pub async fn results(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<Text<JobId>>,
    Asked(asked): Asked<Part>,
) -> Answer<Json<Page<ResultBody>>> {
    let job = jobs::remembered(&state, job.0).await?;
    let limit = asked.limit.unwrap_or(RESULTS_DEFAULT).clamp(1, RESULTS_MAX);
    let records = state.coordinator.store.results(job.job, asked.from.unwrap_or(0), limit).await?;
    let next = next(records.last().map(|last| last.task), records.len(), limit);
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        let label = label(&state, &job, record.task.index).await?;
        items.push(shape::result(&record, label));
    }
    Ok(Json(Page { items, next }))
}

/// What of the job is with agents of which nothing is heard.
async fn unreachable(state: &Interface, job: JobId) -> Answer<Unreachable> {
    Ok(state.coordinator.dispatch.query(move |scheduler, _| scheduler.unreachable(job)).await?)
}

pub(super) async fn remembered(state: &Interface, task: TaskId) -> Answer<TaskRecord> {
    let found = state.coordinator.store.task(task).await?;
    found.ok_or_else(|| Refused::not_found(format!("there is no task {task}"), "`lull task list JOB` shows a job's tasks"))
}

/// What people know the task's input by; none where it has no name.
async fn label(state: &Interface, job: &JobRecord, index: u32) -> Answer<Option<String>> {
    let label = state.coordinator.catalogue.inputs.label(&job.spec.inputs, index).await?;
    Ok(Some(label).filter(|label| !label.is_empty()))
}

fn next(last: Option<TaskId>, count: usize, limit: u32) -> Option<String> {
    last.filter(|_| count as u32 == limit).and_then(|last| last.index.checked_add(1)).map(|index| index.to_string())
}
