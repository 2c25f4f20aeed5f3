//! The views for people, where the backend has them.

use lull_scheduler::{
    effect::{Change, TaskAfter},
    event::QuarantineKind,
    history::{HOURS, IdleHours},
};
use lull_shared::{
    id::AgentId,
    state::{AttemptEnd, JobState},
};

use super::{World, sample::*};
use crate::store::record::{NewPolicy, PolicyRecord};

/// Every view that a database has.
pub(crate) const VIEWS: [&str; 17] = [
    "agent_hours",
    "agent_list",
    "attempt_list",
    "audit_list",
    "coordinator_list",
    "daily_usage",
    "failure_list",
    "hourly_usage",
    "idle_hour_list",
    "job_progress",
    "label_list",
    "move_list",
    "policy_list",
    "quarantine_list",
    "rollout_list",
    "task_list",
    "version_list",
];

pub(crate) async fn a_task_that_is_with_no_agent_is_open_in_the_views(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 3), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)]).await;
    let again = |seconds| TaskAfter::Again { not_before: at(seconds), failures: 0 };
    world.commit(&[ended(attempt(1, 0, 1), 1, 20, AttemptEnd::Evicted, again(20))]).await;
    if let Some(rows) = world.backend.view("task_list").await {
        // Each database shows its cells in its own way.
        let forms = |word: &str| [word.to_owned(), format!("{word:?}"), format!("{:?}", word.as_bytes())];
        let told = |word: &str| rows.iter().flatten().any(|cell| forms(word).iter().any(|form| cell.contains(form)));
        assert!(told("open") && told("running"), "{rows:?}");
        assert!(!told("queued") && !told("waiting"), "that is known to the coordinator alone: {rows:?}");
    }
}

pub(crate) async fn every_view_can_be_read(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 3), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)]).await;
    world.commit(&[succeeded(attempt(1, 0, 1), 1, 3_610, b"out")]).await;
    let end = ended(attempt(1, 1, 1), 1, 20, AttemptEnd::Failed, TaskAfter::Failed);
    let moved = TaskAfter::Again { not_before: at(22), failures: 0 };
    world.commit(&[end, started(attempt(1, 2, 1), 1, 21)]).await;
    world.commit(&[ended(attempt(1, 2, 1), 1, 22, AttemptEnd::Evicted, moved), started(attempt(1, 2, 2), 1, 23)]).await;
    world.commit(&[stopped(1, JobState::Cancelled, 30)]).await;
    world.store.check_in(&coordinator("north", at(1)), at(0)).await.expect("noted");
    let record = PolicyRecord { version: 1, set_by: "root".into(), ..PolicyRecord::default() };
    let policy = NewPolicy { follows: 0, record, detail: String::new() };
    assert!(world.store.set_policy(&world.lead, policy).await.expect("kept"));
    let label = label("resize", "stable", 1, 0, None);
    assert!(world.store.move_label(&world.lead, label).await.expect("an answer"));
    assert!(world.store.begin_rollout(&world.lead, rollout(1, "0.2.0")).await.expect("begun"));
    let hours = IdleHours::from_bytes(&[100; HOURS], None, 60).expect("a share");
    let kind = QuarantineKind::Output;
    let quarantined = Change::AgentQuarantined { agent: AgentId(1), kind, reason: "it differed".into(), at: at(31) };
    world.commit(&[Change::AgentHours { agent: AgentId(1), hours: Box::new(hours), at: at(31) }, quarantined]).await;
    for view in VIEWS {
        if let Some(rows) = world.backend.view(view).await {
            assert!(!rows.is_empty(), "{view} shows something");
            if view == "agent_hours" {
                assert_eq!(rows.len(), 2, "attempts of one agent ended in two hours: {rows:?}");
            }
            println!("{}: {view}: {}", world.backend.name(), rows[0].join(" | "));
        }
    }
}
