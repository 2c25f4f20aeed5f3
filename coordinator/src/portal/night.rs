//! What the first page shows, found out at most once a second for all who look at it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lull_scheduler::{
    FleetView, Scheduler,
    effect::NewJob,
    view::{JobView, Outage},
};
use lull_shared::{id::JobId, state::JobState, time::Timestamp};
use tokio::time::{Instant, timeout};

use crate::{
    api::{AgentBody, CauseBody, JobBody, OutageBody, StoreLoss, StoreSilent, shape},
    clock,
    http::{
        Interface,
        door::error::{Answer, Refused},
        work::causes,
    },
    portal::{
        live::Sample,
        plan::{Plan, plan},
    },
    store::{
        ForPeople, StoreResult,
        record::{AgentRecord, JobFilter, JobRecord},
    },
};

/// How long what was found out is shown to others.
const FRESH: Duration = Duration::from_secs(1);
/// How long it is waited for the loop and for the store, each.
const PATIENCE: Duration = Duration::from_millis(500);
/// Jobs that are drawn; the list of jobs has them all.
const JOBS_MAX: usize = 20;
/// Agents that are named of those that need somebody.
const AGENTS_MAX: usize = 5;
/// Jobs that ended badly lately, and how lately.
const BAD_MAX: u32 = 20;
const LATELY: Duration = Duration::from_secs(24 * 3_600);
/// Hours that are looked ahead.
pub(super) const HOURS_AHEAD: usize = 14;

/// A job that has not ended.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub body: JobBody,
    pub plan: Plan,
    pub finish_by: Option<Timestamp>,
}

/// What the first page shows.
#[derive(Debug, Clone)]
pub(super) struct Night {
    pub at: Timestamp,
    pub fleet: FleetView,
    pub outage: Option<OutageBody>,
    pub store_silent: Option<StoreSilent>,
    pub store_loss: Option<StoreLoss>,
    /// Agents that need somebody.
    pub troubled: Vec<AgentBody>,
    pub jobs_active: u64,
    pub jobs: Vec<Planned>,
    /// Jobs that failed lately, and active ones of which tasks have failed, with their most frequent cause.
    pub failing: Vec<(JobBody, Option<CauseBody>)>,
    pub past: Vec<Sample>,
    /// Slots expected in each hour from the present one on.
    pub expected: Vec<u64>,
}

/// The night as it is, or was a moment ago.
pub(super) async fn now(state: &Interface) -> Answer<Arc<Night>> {
    let mut known = state.live.night.lock().await;
    if let Some((at, night)) = &*known
        && at.elapsed() < FRESH
    {
        return Ok(night.clone());
    }
    let causes = known.as_ref().map(|(_, night)| known_causes(night)).unwrap_or_default();
    let night = Arc::new(look(state, causes).await?);
    *known = Some((Instant::now(), night.clone()));
    Ok(night)
}

/// Causes that are known as long as no further task fails.
type Causes = BTreeMap<(JobId, u32), Option<CauseBody>>;

fn known_causes(night: &Night) -> Causes {
    night.failing.iter().map(|(job, cause)| ((job.job, job.counts.failed), cause.clone())).collect()
}

struct Looked {
    fleet: FleetView,
    views: Vec<JobView>,
    newest: Vec<NewJob>,
    outage: Option<Outage>,
    expected: Vec<u64>,
}

async fn look(state: &Interface, causes: Causes) -> Answer<Night> {
    let coordinator = &state.coordinator;
    let now = clock::now();
    let left = state.live.left(coordinator).await;
    let read = move |scheduler: &Scheduler, at: Timestamp| Looked {
        fleet: scheduler.fleet(&left, AGENTS_MAX),
        views: scheduler.jobs(at),
        newest: scheduler.newest(JOBS_MAX).cloned().collect(),
        outage: scheduler.outage(at),
        expected: scheduler.slots_expected(now, HOURS_AHEAD, &left),
    };
    let looked = timeout(PATIENCE, coordinator.dispatch.query(read)).await;
    let Ok(looked) = looked else { return Err(Refused::store_silent(coordinator.lease.asked().wall, false)) };
    let looked = looked?;
    let remembered = match coordinator.lease.store_silent_since() {
        Some(since) => Err(since),
        None => match timeout(PATIENCE, remembered(&*coordinator.store)).await {
            Ok(Ok(remembered)) => Ok(remembered),
            Ok(Err(_)) | Err(_) => Err(coordinator.lease.asked().wall),
        },
    };
    let bodies = shape::jobs_in_memory(&looked.newest, &looked.views);
    let views: BTreeMap<JobId, &JobView> = looked.views.iter().map(|view| (view.job, view)).collect();
    let specs: BTreeMap<JobId, &NewJob> = looked.newest.iter().map(|new| (new.job, new)).collect();
    let jobs = bodies.into_iter().filter_map(|body| {
        let (spec, view) = (&specs.get(&body.job)?.spec, views.get(&body.job)?);
        Some(Planned { plan: plan(spec, view, now), finish_by: spec.finish_by, body })
    });
    let jobs: Vec<Planned> = jobs.collect();
    let (failing, store_silent) = match &remembered {
        Ok((failed, _)) => (failing(state, &jobs, failed, causes, now).await, None),
        Err(since) => (Vec::new(), Some(shape::store_silent(*since))),
    };
    let records = remembered.map(|(_, agents)| agents).unwrap_or_default();
    let record = |id| records.iter().find(|record| record.agent == id);
    let troubled = looked.fleet.examples.iter().filter_map(|view| Some(shape::agent(record(view.agent)?, Some(view))));
    Ok(Night {
        at: now,
        troubled: troubled.collect(),
        fleet: looked.fleet,
        outage: looked.outage.as_ref().map(shape::outage),
        store_silent,
        store_loss: coordinator.loss.as_ref().map(shape::store_loss),
        jobs_active: looked.views.len() as u64,
        jobs,
        failing,
        past: state.live.history(),
        expected: looked.expected,
    })
}

async fn remembered(store: &dyn ForPeople) -> StoreResult<(Vec<JobRecord>, Vec<AgentRecord>)> {
    let filter = JobFilter { state: Some(JobState::Failed), limit: BAD_MAX, ..JobFilter::default() };
    Ok((store.jobs(&filter).await?, store.agents().await?))
}

/// What fails, with why; the causes of what has not changed are those that are known.
async fn failing(
    state: &Interface,
    jobs: &[Planned],
    failed: &[JobRecord],
    known: Causes,
    now: Timestamp,
) -> Vec<(JobBody, Option<CauseBody>)> {
    let active = jobs.iter().map(|planned| &planned.body).filter(|body| body.counts.failed > 0).cloned();
    let lately = failed.iter().filter(|record| record.ended.is_some_and(|ended| now.since(ended) < LATELY));
    let all = active.chain(lately.map(|record| shape::job(record, None))).take(JOBS_MAX);
    let mut failing = Vec::new();
    for body in all {
        let cause = match known.get(&(body.job, body.counts.failed)) {
            Some(cause) => cause.clone(),
            None => cause(state, body.job).await,
        };
        failing.push((body, cause));
    }
    failing
}

async fn cause(state: &Interface, job: JobId) -> Option<CauseBody> {
    let looked = async {
        let record = state.coordinator.store.job(job).await.ok()??;
        causes::of(state, &record).await.ok()?.into_iter().next()
    };
    timeout(PATIENCE, looked).await.ok().flatten()
}
