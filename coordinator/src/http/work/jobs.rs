//! Jobs: lists, one job, and what can be done to it.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use lull_scheduler::{
    effect::{Refusal, Reply},
    event::Event,
    view::JobView,
};
use lull_shared::{bound, id::JobId, state::JobState};
use serde::Deserialize;

use crate::{
    api::{Affected, JobBody, JobDetails, Page, RetryRequest, shape},
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Caller, Options, Submitter, Viewer},
            error::{Answer, Refused},
            page::Limit,
        },
        work::causes,
    },
    store::record::{JobFilter, JobRecord, who},
};

/// Jobs in one part of a list.
const PAGE_DEFAULT: u32 = 100;
/// Moves that are listed with a job: a night has thousands, and the newest are what people ask for.
const MOVES_MAX: u32 = 100;

/// Which jobs to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// Only those of the caller.
    mine: Option<bool>,
    state: Option<JobState>,
    submitter: Option<String>,
    name: Option<String>,
    before: Option<JobId>,
    limit: Option<Limit<{ bound::JOBS_SHOWN.most }>>,
}

/// `GET /jobs`
pub(crate) async fn list(State(state): Shared, viewer: Viewer, Asked(asked): Asked<Filter>) -> Answer<Json<Page<JobBody>>> {
    let limit = Limit::or(asked.limit, PAGE_DEFAULT);
    let filter = JobFilter {
        state: asked.state,
        owner: (asked.mine == Some(true)).then_some(viewer.token),
        submitter: asked.submitter.filter(|_| asked.mine != Some(true)),
        name: asked.name,
        before: asked.before,
        limit,
    };
    let records = state.coordinator.store.jobs(&filter).await?;
    let active: Vec<JobId> = records.iter().filter(|record| !record.state.is_ended()).map(|record| record.job).collect();
    let views = match active.is_empty() {
        true => Vec::new(),
        false => {
            let read = move |scheduler: &lull_scheduler::Scheduler, at| {
                active.iter().filter_map(|job| scheduler.job(*job, at)).collect::<Vec<_>>()
            };
            state.coordinator.dispatch.query(read).await?
        }
    };
    let next = records.last().filter(|_| records.len() as u32 == limit).map(|last| last.job.to_string());
    Ok(Json(Page { items: merge(&records, &views), next }))
}

/// `GET /jobs/{job}`
pub(crate) async fn show(State(state): Shared, _viewer: Viewer, At(job): At<JobId>) -> Answer<Json<JobDetails>> {
    let (record, view) = look(&state, job).await?;
    let moves = state.coordinator.store.moves(job, MOVES_MAX).await?.into_iter().map(shape::task_move).collect();
    let failures = causes::of(&state, &record).await?;
    Ok(Json(JobDetails { job: shape::job(&record, view.as_ref()), terms: shape::terms(&record), moves, failures }))
}

/// `POST /jobs/{job}/cancel`
pub(crate) async fn cancel(State(state): Shared, caller: Submitter, At(job): At<JobId>) -> Answer<Json<Affected>> {
    check_owner(&state, &caller, job).await?;
    let by = caller.who();
    match state.coordinator.dispatch.request(move |request| Event::Cancel { request, job, by }).await? {
        // The scheduler forgets what has ended; the store says how.
        Reply::Refused(Refusal::NoJob(job)) => {
            let state = remembered(&state, job).await?.state;
            Err(Refusal::Ended { job, state }.into())
        }
        reply => done(reply),
    }
}

/// `POST /jobs/{job}/retry`
pub(crate) async fn retry(
    State(state): Shared,
    caller: Submitter,
    At(job): At<JobId>,
    Options(wanted): Options<RetryRequest>,
) -> Answer<Json<Affected>> {
    check_owner(&state, &caller, job).await?;
    let finish_by = wanted.finish_by.map(Into::into);
    done(state.coordinator.dispatch.retry(job, caller.who(), finish_by).await?)
}

/// A job as remembered and, while it is active, as the scheduler sees it.
pub(crate) async fn look(state: &Interface, job: JobId) -> Answer<(JobRecord, Option<JobView>)> {
    let record = remembered(state, job).await?;
    if record.state.is_ended() {
        return Ok((record, None));
    }
    let view = state.coordinator.dispatch.query(move |scheduler, at| scheduler.job(job, at)).await?;
    match view {
        Some(view) => Ok((record, Some(view))),
        // It has ended in between, and the store says how.
        None => Ok((remembered(state, job).await?, None)),
    }
}

/// A job as remembered.
pub(crate) async fn remembered(state: &Interface, job: JobId) -> Answer<JobRecord> {
    state.coordinator.store.job(job).await?.ok_or_else(|| no_job(job))
}

/// Records with the views that belong to them.
pub(crate) fn merge(records: &[JobRecord], views: &[JobView]) -> Vec<JobBody> {
    let views: BTreeMap<JobId, &JobView> = views.iter().map(|view| (view.job, view)).collect();
    let view_of = |record: &JobRecord| views.get(&record.job).copied().filter(|_| !record.state.is_ended());
    records.iter().map(|record| shape::job(record, view_of(record))).collect()
}

/// The answer to a request that changes something.
pub(crate) fn done(reply: Reply) -> Answer<Json<Affected>> {
    match reply {
        Reply::Done { affected } => Ok(Json(Affected { affected })),
        Reply::Submitted { .. } => Ok(Json(Affected { affected: 1 })),
        Reply::Refused(refusal) => Err(refusal.into()),
    }
}

async fn check_owner(state: &Interface, caller: &Caller, job: JobId) -> Answer<()> {
    let record = remembered(state, job).await?;
    if caller.may_change(record.owner) {
        return Ok(());
    }
    let owner = who(record.owner, &record.submitter);
    Err(Refused::denied(format!("{job} was submitted by {owner}; only they or an administrator may change it")))
}

fn no_job(job: JobId) -> Refused {
    Refused::not_found(format!("there is no job {job}"), "`lull job list` shows the jobs")
}
