//! The network in one look.

use std::{collections::BTreeSet, time::Duration};

use axum::{Json, extract::State, http::Uri};
use lull_scheduler::{Scheduler, effect::NewJob};
use lull_shared::{id::AgentId, state::TaskCounts};
use tokio::time::timeout;

use crate::{
    api::{Health, HealthStatus, ServerBody, Status, shape},
    http::{
        Shared,
        door::{
            auth::Viewer,
            error::{Answer, Refused},
            takes::without_parameters,
        },
        fleet::{agents, upgrades::standing_still},
        work::jobs,
    },
    store::{
        ForPeople, StoreResult,
        record::{JobFilter, JobRecord, Totals},
    },
    term::Coordinator,
};

/// How long it is waited for the loop and for the store, each: with the caller's token, somebody who looks has an answer
/// within two seconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// Jobs that the summary lists; `lull job list` shows them all.
const JOBS_LISTED: u32 = 20;

/// `GET /health`
pub(crate) async fn health(uri: Uri) -> Answer<Json<Health>> {
    without_parameters(&uri)?;
    Ok(Json(Health { status: HealthStatus::Ok }))
}

/// `GET /status`
pub(crate) async fn status(State(state): Shared, _viewer: Viewer) -> Answer<Json<Status>> {
    let look = |scheduler: &Scheduler, at| {
        let newest: Vec<NewJob> = scheduler.newest(JOBS_LISTED as usize).cloned().collect();
        (scheduler.jobs(at), newest, scheduler.agents(), scheduler.outage(at))
    };
    let lease = &state.coordinator.lease;
    let looked = timeout(PATIENCE, state.coordinator.dispatch.query(look)).await;
    // It has begun to lead and not loaded yet.
    let Ok(looked) = looked else { return Err(Refused::store_silent(lease.asked().wall, false)) };
    let (views, newest, agents, outage) = looked?;
    let mut tasks = TaskCounts::default();
    for view in &views {
        for state in lull_shared::state::TaskState::ALL {
            *tasks.get_mut(state) += view.counts.get(state);
        }
    }
    let remembered = match lease.store_silent_since() {
        Some(since) => Err(since),
        None => match timeout(PATIENCE, remembered(&*state.coordinator.store)).await {
            Ok(Ok(remembered)) => Ok(remembered),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the status is answered from memory");
                Err(lease.asked().wall)
            }
            Err(_) => Err(lease.asked().wall),
        },
    };
    let (jobs, totals, left, store_silent) = match remembered {
        Ok((records, totals, left)) => (jobs::merge(&records, &views), Some(totals), left, None),
        Err(since) => (shape::jobs_in_memory(&newest, &views), None, BTreeSet::new(), Some(shape::store_silent(since))),
    };
    Ok(Json(Status {
        coordinator: describe(&state.coordinator),
        store_silent,
        store_loss: state.coordinator.loss.as_ref().map(shape::store_loss),
        agents: agents::summary(&agents, &left),
        outage: outage.as_ref().map(shape::outage),
        upgrades_stopped: standing_still(&state.coordinator.upgrades.all()),
        jobs_active: views.len() as u64,
        tasks,
        jobs,
        totals,
    }))
}

/// What only the store knows.
async fn remembered(store: &dyn ForPeople) -> StoreResult<(Vec<JobRecord>, Totals, BTreeSet<AgentId>)> {
    let filter = JobFilter { state: Some(lull_shared::state::JobState::Active), limit: JOBS_LISTED, ..JobFilter::default() };
    Ok((store.jobs(&filter).await?, store.totals().await?, agents::left(store).await?))
}

fn describe(coordinator: &Coordinator) -> ServerBody {
    ServerBody {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: coordinator.network.to_string(),
        store: coordinator.store.describe(),
        term: coordinator.lead.term.0,
        since: coordinator.since.to_jiff(),
    }
}
