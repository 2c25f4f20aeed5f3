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
    api::{Affected, AttemptBody, JobBody, JobDetails, JobsSummary, Page, RetryRequest, StateCount, shape},
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

impl Filter {
    /// Jobs of this state, submitter and name, if these are given, below a number.
    pub(crate) fn new(
        state: Option<JobState>,
        submitter: Option<String>,
        name: Option<String>,
        mine: Option<bool>,
        before: Option<JobId>,
    ) -> Self {
        Self { mine, state, submitter, name, before, limit: None }
    }
}

/// `GET /jobs`
pub(crate) async fn list(State(state): Shared, viewer: Viewer, Asked(asked): Asked<Filter>) -> Answer<Json<Page<JobBody>>> {
    let limit = Limit::or(asked.limit, PAGE_DEFAULT);
    Ok(Json(listed(&state, &viewer, asked, limit).await?))
}

/// A part of the list of jobs.
pub(crate) async fn listed(state: &Interface, viewer: &Caller, asked: Filter, limit: u32) -> Answer<Page<JobBody>> {
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
    Ok(Page { items: merge(&records, &views), next })
}

/// `GET /jobs/{job}`
pub(crate) async fn show(State(state): Shared, _viewer: Viewer, At(job): At<JobId>) -> Answer<Json<JobDetails>> {
    let (record, view) = look(&state, job).await?;
    Ok(Json(details(&state, &record, view.as_ref()).await?))
}

/// A job with its conditions, its moves and its failures.
pub(crate) async fn details(state: &Interface, record: &JobRecord, view: Option<&JobView>) -> Answer<JobDetails> {
    let moves = state.coordinator.store.moves(record.job, MOVES_MAX).await?.into_iter().map(shape::task_move).collect();
    let failures = causes::of(state, record).await?;
    Ok(JobDetails { job: shape::job(record, view), terms: shape::terms(record), moves, failures })
}

/// How far jobs of one state are counted: beyond it nobody wants to know.
const COUNTED_MAX: u32 = 10_000;

/// `GET /jobs/summary`: how many there are of each state, and what holds the active ones.
pub(crate) async fn summary(State(state): Shared, _viewer: Viewer) -> Answer<Json<JobsSummary>> {
    Ok(Json((*state.live.jobs(&state).await?).clone()))
}

/// The same, counted now.
pub(crate) async fn summed(state: &Interface) -> Answer<JobsSummary> {
    let counts = state.coordinator.store.job_counts(COUNTED_MAX).await?;
    let states = counts.into_iter().map(|(state, jobs)| StateCount { state, jobs, more: jobs >= COUNTED_MAX.into() });
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    let views = state.coordinator.dispatch.query(|scheduler, at| scheduler.jobs(at)).await?;
    for kind in views.iter().flat_map(held_by) {
        *held.entry(kind.to_owned()).or_default() += 1;
    }
    Ok(JobsSummary { states: states.collect(), held })
}

/// What holds an active job, by the kind of the reason, and whether tasks of it fail.
fn held_by(view: &JobView) -> impl Iterator<Item = &'static str> + use<> {
    let counts = &view.counts;
    let held = match &view.waiting {
        _ if view.stopping.is_some() => "stopping",
        Some(reason) => shape::wait_kind(reason),
        None if counts.running + counts.paused + counts.verifying > 0 => "running",
        None => "queued",
    };
    [Some(held), (counts.failed > 0).then_some("failing")].into_iter().flatten()
}

/// Active jobs that are held by this kind of reason, newest first, below a number.
pub(crate) async fn active_held_by(state: &Interface, kind: String, before: Option<JobId>, most: usize) -> Answer<Vec<JobBody>> {
    let read = move |scheduler: &lull_scheduler::Scheduler, at| {
        let below = |view: &JobView| before.is_none_or(|before| view.job < before);
        let views = scheduler.jobs(at).into_iter().rev().filter(below);
        let views: Vec<JobView> = views.filter(|view| held_by(view).any(|held| held == kind)).take(most).collect();
        let wanted: std::collections::BTreeSet<JobId> = views.iter().map(|view| view.job).collect();
        let found = scheduler.newest(usize::MAX).filter(|new| wanted.contains(&new.job)).cloned();
        (found.collect::<Vec<_>>(), views)
    };
    let (jobs, views) = state.coordinator.dispatch.query(read).await?;
    Ok(shape::jobs_in_memory(&jobs, &views))
}

/// Attempts in one part of a list, where nobody says how many.
const ATTEMPTS_DEFAULT: u32 = 100;

/// Which attempts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempts {
    /// Of tasks with a lower index.
    before: Option<u32>,
    limit: Option<Limit<{ bound::TASKS_PAGE.most }>>,
}

/// `GET /jobs/{job}/attempts`: those of the tasks with the highest index first.
pub(crate) async fn attempts(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<JobId>,
    Asked(asked): Asked<Attempts>,
) -> Answer<Json<Page<AttemptBody>>> {
    remembered(&state, job).await?;
    let limit = Limit::or(asked.limit, ATTEMPTS_DEFAULT);
    let items = newest_attempts(&state, job, asked.before, limit).await?;
    // Of a task that is cut in two the rest comes again with the next part.
    let last = items.last().filter(|_| items.len() as u32 == limit).map(|last| last.attempt.task.index);
    let next = last.map(|last| if Some(last) == asked.before.and_then(|before| before.checked_sub(1)) { last } else { last + 1 });
    Ok(Json(Page { items, next: next.map(|next| next.to_string()) }))
}

/// Attempts of a job's tasks, those with the highest index first.
pub(crate) async fn newest_attempts(state: &Interface, job: JobId, before: Option<u32>, limit: u32) -> Answer<Vec<AttemptBody>> {
    let records = state.coordinator.store.newest_attempts(job, before, limit).await?;
    let unreachable = state.coordinator.dispatch.query(move |scheduler, _| scheduler.unreachable(job)).await?;
    Ok(records.into_iter().map(|record| shape::attempt(record, &unreachable, &BTreeMap::new())).collect())
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
