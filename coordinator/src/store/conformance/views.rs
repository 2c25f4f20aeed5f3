//! The views for people, where the backend has them.

use lull_shared::state::{AttemptEnd, JobState};

use super::{World, sample::*};
use crate::{
    scheduler::effect::TaskAfter,
    store::record::{NewPolicy, PolicyRecord},
};

/// Every view that a database has.
pub const VIEWS: [&str; 12] = [
    "coordinator_list",
    "policy_list",
    "job_progress",
    "task_list",
    "attempt_list",
    "failures",
    "agent_list",
    "agent_hours",
    "move_list",
    "daily_usage",
    "version_list",
    "audit_list",
];

pub async fn every_view_can_be_read(world: World) {
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
    assert!(world.store.set_policy(world.term, policy).await.expect("kept"));
    for view in VIEWS {
        if let Some(rows) = world.backend.view(view).await {
            assert!(!rows.is_empty(), "{view} shows something");
            println!("{}: {view}: {}", world.backend.name(), rows[0].join(" | "));
        }
    }
}
