//! The network in one look.

use axum::{Json, extract::State};
use lull_shared::state::TaskCounts;

use super::{Shared, agents, auth::Viewer, error::Answer, jobs, shape};
use crate::{
    api::{Health, HealthStatus, ServerBody, Status},
    scheduler::Scheduler,
    server::Coordinator,
    store::record::JobFilter,
};

/// Jobs that the summary lists; `lull job list` shows them all.
const JOBS_LISTED: u32 = 20;

/// `GET /health`
pub async fn health() -> Json<Health> {
    Json(Health { status: HealthStatus::Ok })
}

/// `GET /status`
pub async fn status(State(state): Shared, _viewer: Viewer) -> Answer<Json<Status>> {
    let look = |scheduler: &Scheduler, at| (scheduler.jobs(at), scheduler.agents(), scheduler.outage(at));
    let (views, agents, outage) = state.coordinator.dispatch.query(look).await?;
    let mut tasks = TaskCounts::default();
    for view in &views {
        for state in lull_shared::state::TaskState::ALL {
            *tasks.get_mut(state) += view.counts.get(state);
        }
    }
    let filter = JobFilter { state: Some(lull_shared::state::JobState::Active), limit: JOBS_LISTED, ..JobFilter::default() };
    let records = state.coordinator.store.jobs(&filter).await?;
    Ok(Json(Status {
        coordinator: describe(&state.coordinator),
        agents: agents::summary(&agents),
        outage: outage.as_ref().map(shape::outage),
        jobs_active: views.len() as u64,
        tasks,
        jobs: jobs::merge(&records, &views),
        totals: state.coordinator.store.totals().await?,
    }))
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
