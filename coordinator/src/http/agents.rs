//! Agents: lists, one of them, and whether it takes work.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use lull_shared::{id::AgentId, state::Intake};

use super::{
    Interface, Shared,
    auth::{Admin, At, Body, Viewer},
    error::{Answer, Refused},
    jobs::done,
    shape,
};
use crate::{
    api::{Affected, AgentBody, AgentsSummary, IntakeRequest, Page},
    scheduler::{Scheduler, event::Event, view::AgentView},
    store::record::AgentRecord,
};

/// `GET /agents`
pub async fn list(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<AgentBody>>> {
    let records = state.coordinator.store.agents().await?;
    let views = state.coordinator.dispatch.query(|scheduler, _| scheduler.agents()).await?;
    let views: BTreeMap<AgentId, &AgentView> = views.iter().map(|view| (view.agent, view)).collect();
    let items = records.iter().map(|record| shape::agent(record, views.get(&record.agent).copied())).collect();
    Ok(Json(Page::whole(items)))
}

/// `GET /agents/{id-or-name}`
pub async fn show(State(state): Shared, _viewer: Viewer, At(called): At<String>) -> Answer<Json<AgentBody>> {
    let record = find(&state, &called).await?;
    let agent = record.agent;
    let look = move |scheduler: &Scheduler| (scheduler.agent(agent), scheduler.idle_hours(agent));
    let (view, hours) = state.coordinator.dispatch.query(move |scheduler, _| look(scheduler)).await?;
    let mut body = shape::agent(&record, view.as_ref());
    body.idle_hours = hours.as_ref().map(shape::idle_hours);
    if let Some(report) = state.coordinator.policies.reported(agent) {
        body.policy_version = Some(report.version);
        body.narrowed = report.owner.given().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    }
    Ok(Json(body))
}

/// `POST /agents/{id-or-name}/intake`
pub async fn set_intake(
    State(state): Shared,
    admin: Admin,
    At(called): At<String>,
    Body(wanted): Body<IntakeRequest>,
) -> Answer<Json<Affected>> {
    let agent = find(&state, &called).await?.agent;
    let (intake, by) = (wanted.intake, admin.name.clone());
    done(state.coordinator.dispatch.request(move |request| Event::SetIntake { request, agent, intake, by }).await?)
}

/// `POST /agents/{id-or-name}/trust`
pub async fn trust(State(state): Shared, admin: Admin, At(called): At<String>) -> Answer<Json<Affected>> {
    let agent = find(&state, &called).await?.agent;
    let by = admin.name.clone();
    done(state.coordinator.dispatch.request(move |request| Event::Trust { request, agent, by }).await?)
}

/// The fleet in numbers.
pub fn summary(views: &[AgentView]) -> AgentsSummary {
    let mut summary = AgentsSummary::default();
    for view in views.iter().filter(|view| view.intake != Intake::Revoked) {
        summary.enrolled += 1;
        summary.silent += u64::from(view.silent_since.is_some());
        if view.connected.is_none() {
            continue;
        }
        summary.connected += 1;
        if let Some(capacity) = &view.capacity {
            summary.paused += u64::from(capacity.paused.is_some());
            summary.slots += u64::from(capacity.slots);
            summary.slots_busy += u64::from(capacity.slots_busy);
        }
    }
    summary
}

pub(super) async fn find(state: &Interface, called: &str) -> Answer<AgentRecord> {
    let records = state.coordinator.store.agents().await?;
    choose(records, called)
        .ok_or_else(|| Refused::not_found(format!("there is no agent {called}"), "`lull agent list` shows the agents"))
}

/// The agent with this name, else with this number. A name that looks like another's number is the name.
fn choose(records: Vec<AgentRecord>, called: &str) -> Option<AgentRecord> {
    let number = called.parse::<AgentId>().ok();
    let by_name = records.iter().position(|record| record.name == called);
    let at = by_name.or_else(|| records.iter().position(|record| Some(record.agent) == number))?;
    records.into_iter().nth(at)
}
