//! Agents: lists, one of them, and whether it takes work.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use lull_scheduler::{Scheduler, effect::Reply, event::Event, view::AgentView};
use lull_shared::{
    alike,
    amount::quoted,
    id::{AgentId, TokenId},
    state::Intake,
};
use tokio::time::{Duration, Instant};

use crate::{
    api::{Affected, AgentBody, AgentDeed, AgentsSummary, IntakeRequest, Page, Spread, shape},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::{Admin, At, Body, Viewer},
            error::{Answer, Refused},
        },
        fleet::upgrades,
        work::jobs::done,
    },
    store::{Registry, StoreResult, record::AgentRecord},
    term::Coordinator,
};

/// Everybody who is connected confirms within a fraction of this that he has heard who was thrown out.
const SPREAD_WAIT: Duration = Duration::from_secs(2);
const SPREAD_LOOK: Duration = Duration::from_millis(20);

/// `GET /agents`
pub(crate) async fn list(State(state): Shared, _viewer: Viewer) -> Answer<Json<Page<AgentBody>>> {
    Ok(Json(Page::whole(all(&state).await?)))
}

/// All enrolled machines.
pub(crate) async fn all(state: &Interface) -> Answer<Vec<AgentBody>> {
    let records = state.coordinator.store.agents().await?;
    let views = state.coordinator.dispatch.query(|scheduler, _| scheduler.agents()).await?;
    let views: BTreeMap<AgentId, &AgentView> = views.iter().map(|view| (view.agent, view)).collect();
    let listed = records.iter().filter(|record| record.removed.is_none());
    Ok(listed.map(|record| known(state, record, views.get(&record.agent).copied())).collect())
}

/// What is known of an agent but the hours of its week.
fn known(state: &Interface, record: &AgentRecord, view: Option<&AgentView>) -> AgentBody {
    let mut body = shape::agent(record, view);
    body.behind = state.coordinator.upgrades.of(record.agent).map(upgrades::behind);
    if let Some(report) = state.coordinator.policies.reported(record.agent) {
        body.policy_version = Some(report.version);
        body.narrowed = report.owner.given().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    }
    body
}

/// `GET /agents/{id-or-name}`
pub(crate) async fn show(State(state): Shared, _viewer: Viewer, At(called): At<String>) -> Answer<Json<AgentBody>> {
    Ok(Json(found(&state, &called).await?))
}

/// One agent, by its id or its name.
pub(crate) async fn found(state: &Interface, called: &str) -> Answer<AgentBody> {
    let record = find(state, called).await?;
    let agent = record.agent;
    let look = move |scheduler: &Scheduler| (scheduler.agent(agent), scheduler.idle_hours(agent));
    let (view, hours) = state.coordinator.dispatch.query(move |scheduler, _| look(scheduler)).await?;
    Ok(AgentBody { idle_hours: hours.as_ref().map(shape::idle_hours), ..known(state, &record, view.as_ref()) })
}

/// `POST /agents/{id-or-name}/intake`
pub(crate) async fn set_intake(
    State(state): Shared,
    admin: Admin,
    At(called): At<String>,
    Body(wanted): Body<IntakeRequest>,
) -> Answer<Json<AgentDeed>> {
    let record = find(&state, &called).await?;
    let (agent, intake, by) = (record.agent, wanted.intake, admin.who());
    let reply = state.coordinator.dispatch.request(move |request| Event::SetIntake { request, agent, intake, by }).await?;
    let unchanged = record.intake == intake;
    let deed = deed(&state, record, reply, intake == Intake::Revoked).await?;
    Ok(Json(AgentDeed { unchanged, ..deed.0 }))
}

/// `POST /agents/{id-or-name}/restore`
pub(crate) async fn restore(State(state): Shared, admin: Admin, At(called): At<String>) -> Answer<Json<AgentDeed>> {
    let record = find(&state, &called).await?;
    let (agent, by) = (record.agent, admin.who());
    let reply = state.coordinator.dispatch.request(move |request| Event::Restore { request, agent, by }).await?;
    let Json(deed) = deed(&state, record, reply, true).await?;
    Ok(Json(AgentDeed { unchanged: deed.affected == 0, ..deed }))
}

/// `DELETE /agents/{id-or-name}`: takes it off the list for good, if it does not belong to the network any more.
pub(crate) async fn remove(State(state): Shared, admin: Admin, At(called): At<String>) -> Answer<Json<AgentDeed>> {
    let record = find(&state, &called).await?;
    let (agent, by, coordinator) = (record.agent, admin.who(), &state.coordinator);
    if record.intake != Intake::Revoked && record.left().is_none() {
        let message = format!("{} ({agent}) belongs to the network: it has not left, and was not revoked", record.name);
        let hint = "`lull-agent leave` lets it leave while it runs, `lull agent revoke` throws it out; then it can be removed";
        return Err(Refused::conflict(message, hint));
    }
    if record.intake != Intake::Revoked {
        // Whoever kept a copy of its key must not come back without being seen.
        let (intake, by) = (Intake::Revoked, by.clone());
        let reply = coordinator.dispatch.request(move |request| Event::SetIntake { request, agent, intake, by }).await?;
        let Json(_) = done(reply)?;
        coordinator.mesh.spread_revocations().await;
    }
    let removed = coordinator.store.remove_agent(&coordinator.lead, agent, &by, clock::now()).await?;
    let (affected, unchanged) = (u64::from(removed), !removed);
    Ok(Json(AgentDeed { agent, name: record.name, affected, unchanged, spread: None, token: None }))
}

/// `POST /agents/{id-or-name}/trust`
pub(crate) async fn trust(State(state): Shared, admin: Admin, At(called): At<String>) -> Answer<Json<AgentDeed>> {
    let record = find(&state, &called).await?;
    let (agent, by) = (record.agent, admin.who());
    let reply = state.coordinator.dispatch.request(move |request| Event::Trust { request, agent, by }).await?;
    let Json(deed) = deed(&state, record, reply, false).await?;
    Ok(Json(AgentDeed { unchanged: deed.affected == 0, ..deed }))
}

/// What was done and to which agent; if it is to be spread, when everybody who is connected has heard of it, or is too slow.
async fn deed(state: &Interface, record: AgentRecord, reply: Reply, spreads: bool) -> Answer<Json<AgentDeed>> {
    let Json(Affected { affected }) = done(reply)?;
    let coordinator = &state.coordinator;
    let (mut spread, mut token) = (None, None);
    if spreads {
        spread = Some(wait_for_spread(coordinator, &record).await?);
        let now = clock::now();
        let joined_with = coordinator.store.tokens().await?.into_iter().find(|token| token.token == record.token.0);
        token = joined_with.filter(|token| token.admits_machines(now)).map(|token| TokenId(token.token));
    }
    Ok(Json(AgentDeed { agent: record.agent, name: record.name, affected, unchanged: false, spread, token }))
}

async fn wait_for_spread(coordinator: &Coordinator, about: &AgentRecord) -> Answer<Spread> {
    let edition = coordinator.mesh.spread_revocations().await;
    let edition = edition.ok_or_else(|| Refused::unavailable("it is done, and nobody could be told of it yet"))?;
    let until = Instant::now() + SPREAD_WAIT;
    let heard = loop {
        let (heard, unheard) = coordinator.mesh.heard_of(edition, &about.peer).await;
        if unheard == 0 || Instant::now() >= until {
            break heard;
        }
        tokio::time::sleep(SPREAD_LOOK).await;
    };
    let agents = coordinator.store.agents().await?;
    let belongs = |agent: &&AgentRecord| agent.intake != Intake::Revoked && agent.left().is_none() && agent.agent != about.agent;
    let others = agents.iter().filter(belongs).count() as u64;
    // Without this one.
    let all = others + coordinator.store.coordinators().await?.len().saturating_sub(1) as u64;
    Ok(Spread { heard, unheard: all.saturating_sub(heard) })
}

/// The fleet in numbers, without machines that `left`, and will not come back as these.
pub(crate) fn summary(views: &[AgentView], left: &BTreeSet<AgentId>) -> AgentsSummary {
    let mut summary = AgentsSummary::default();
    let belongs = |view: &&AgentView| view.intake != Intake::Revoked && !left.contains(&view.agent);
    for view in views.iter().filter(belongs) {
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

/// The agents that left the network or were taken off the list: none of them comes back as it was.
pub(crate) async fn left(store: &dyn Registry) -> StoreResult<BTreeSet<AgentId>> {
    let is_gone = |record: &AgentRecord| record.removed.is_some() || record.left().is_some();
    Ok(store.agents().await?.into_iter().filter(is_gone).map(|record| record.agent).collect())
}

pub(in crate::http) async fn find(state: &Interface, called: &str) -> Answer<AgentRecord> {
    choose(state.coordinator.store.agents().await?, called).map_err(|meant| {
        Refused::not_found(format!("there is no agent {}", quoted(called)), format!("{meant}`lull agent list` shows the agents"))
    })
}

/// The agent with this id, else with this name. A name that reads as another's id, from a time when that could be, is not
/// meant: an id always is. If there is none, which one is most likely meant.
fn choose(mut records: Vec<AgentRecord>, called: &str) -> Result<AgentRecord, String> {
    let number = called.parse::<AgentId>().ok();
    let by_id = records.iter().position(|record| Some(record.agent) == number);
    // One that was removed is found by its id alone.
    let named = |record: &&AgentRecord| record.removed.is_none();
    let at = by_id.or_else(|| records.iter().position(|record| named(&record) && record.name == called));
    let at = at.ok_or_else(|| alike::question(called, records.iter().filter(named).map(|record| record.name.as_str())))?;
    Ok(records.swap_remove(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::sample;

    #[test]
    fn an_id_wins_over_a_name_that_reads_as_one() {
        let records = || vec![sample::agent(1, "honest"), sample::agent(2, "a1"), sample::agent(3, "a9")];
        let chosen = |called: &str| choose(records(), called).ok().map(|found| found.agent.0);
        assert_eq!((chosen("a1"), chosen("1"), chosen("honest")), (Some(1), Some(1), Some(1)));
        assert_eq!((chosen("a2"), chosen("a9")), (Some(2), Some(3)), "a name is found where no id is meant");
        assert_eq!(chosen("desk"), None);
        let removed = vec![AgentRecord { removed: Some(Default::default()), ..sample::agent(1, "honest") }];
        assert!(choose(removed.clone(), "honest").is_err(), "one that was removed is found by its id alone");
        assert_eq!(choose(removed, "a1").map(|found| found.agent.0), Ok(1));
    }

    #[test]
    fn an_agent_that_is_not_there_is_told_with_the_one_that_is_meant() {
        let records = || vec![sample::agent(1, "desk-17"), sample::agent(2, "laptop")];
        let meant = |called: &str| choose(records(), called).expect_err(called);
        assert_eq!(meant("dekst-17"), "did you mean `desk-17`? ");
        assert_eq!(meant("Laptop"), "did you mean `laptop`? ");
        assert_eq!((meant("server"), meant("a9")), (String::new(), String::new()));
    }

    #[test]
    fn a_fleet_in_numbers_counts_whoever_belongs_to_it_and_offers_of_those_that_are_there() {
        use crate::store::conformance::sample::{capacity, machine};
        use lull_shared::{resources::Capacity, state::PauseReason, time::Timestamp};

        let view = AgentView {
            agent: AgentId(1),
            name: "desk".into(),
            intake: Intake::Open,
            quarantine: None,
            connected: Some(Timestamp(1)),
            last_heard: None,
            silent_since: None,
            asleep: None,
            version: None,
            machine: Some(machine()),
            labels: Default::default(),
            capacity: Some(Capacity { slots_busy: 1, ..capacity(1, 4) }),
            open_cage: None,
            attempts: Vec::new(),
            snapshots: 0,
            claims_refused: 0,
            breaches: 0,
            overtimes: 0,
        };
        let paused = Capacity { paused: Some(PauseReason::Touched), slots_busy: 2, ..capacity(2, 8) };
        let views = [
            view.clone(),
            AgentView { intake: Intake::Draining, capacity: Some(paused), ..view.clone() },
            AgentView { connected: None, silent_since: Some(Timestamp(1)), ..view.clone() },
            AgentView { connected: None, ..view.clone() },
            AgentView { capacity: None, silent_since: Some(Timestamp(1)), ..view.clone() },
            AgentView { intake: Intake::Revoked, silent_since: Some(Timestamp(1)), ..view },
        ];
        let expected = AgentsSummary { enrolled: 5, connected: 3, silent: 2, paused: 1, slots: 12, slots_busy: 3 };
        let nobody = BTreeSet::new();
        assert_eq!((summary(&views, &nobody), summary(&[], &nobody)), (expected, AgentsSummary::default()));
        assert_eq!(summary(&views, &BTreeSet::from([AgentId(1)])), AgentsSummary::default(), "whoever left is none of it");
    }
}
