//! Outputs that are compared before they count, and agents of which nothing is believed.

use lull_scheduler::{
    effect::{Change, TaskAfter},
    event::{Answer, OpenTask, Quarantine, QuarantineKind},
};
use lull_shared::{
    digest::Digest,
    id::{AgentId, JobId},
    state::{AttemptEnd, JobState, TaskCounts, TaskState},
};

use super::{World, sample::*};
use crate::store::record::TaskFilter;

async fn open(world: &World) -> OpenTask {
    world.store.load(&world.lead).await.expect("the store loads").snapshot.jobs[0].open[0].clone()
}

async fn counts(world: &World) -> TaskCounts {
    world.store.job(JobId(1)).await.expect("an answer").expect("the job is there").counts
}

fn again(seconds: u64) -> TaskAfter {
    TaskAfter::Again { not_before: at(seconds), failures: 0 }
}

/// A task of which agent 1 has brought an output.
async fn with_an_answer(world: World) -> World {
    let world = world.peopled(3).await;
    world.commit(&[submitted(1, 2), started(attempt(1, 0, 1), 1, 10)]).await;
    world.commit(&[answered(attempt(1, 0, 1), 1, 20, b"out", again(20))]).await;
    world
}

pub(super) async fn an_output_that_is_compared_is_durable_and_does_not_count(world: World) {
    let world = with_an_answer(world).await;
    let first = Answer { number: 1, agent: AgentId(1), digest: Digest::of(b"out") };
    for world in [&world, &world.reopened().await] {
        assert_eq!(open(world).await.answers, [first]);
        assert_eq!(counts(world).await, TaskCounts { verifying: 1, queued: 1, ..TaskCounts::default() });
        assert_eq!(world.store.result(task(1, 0)).await.expect("an answer"), None);
    }
    let verifying = TaskFilter { state: Some(TaskState::Verifying), ..TaskFilter::default() };
    let listed = world.store.tasks(JobId(1), &verifying).await.expect("an answer");
    assert_eq!(listed.iter().map(|task| (task.task.index, task.state)).collect::<Vec<_>>(), [(0, TaskState::Verifying)]);
    world.commit(&[started(attempt(1, 0, 2), 2, 30)]).await;
    assert_eq!(counts(&world).await, TaskCounts { verifying: 1, queued: 1, ..TaskCounts::default() });
    world.refused(&[job_ended(1, JobState::Succeeded, 31)]).await;
    let attempts = world.store.attempts(task(1, 0)).await.expect("an answer");
    assert_eq!((attempts[0].end, attempts[0].reason.as_deref()), (Some(AttemptEnd::Succeeded), Some("it is compared")));
}

pub(super) async fn a_task_that_ends_keeps_nothing_to_compare(world: World) {
    let world = with_an_answer(world).await;
    let dropped = Change::AnswersDropped { task: task(1, 0) };
    world.commit(&[started(attempt(1, 0, 2), 2, 30), answered(attempt(1, 0, 2), 2, 31, b"other", again(31))]).await;
    assert_eq!(open(&world).await.answers.len(), 2);
    world.commit(&[started(attempt(1, 0, 3), 3, 40), succeeded(attempt(1, 0, 3), 3, 41, b"out"), dropped.clone()]).await;
    assert_eq!(counts(&world).await, TaskCounts { succeeded: 1, queued: 1, ..TaskCounts::default() });
    // Brought and dropped in one turn.
    let brought = answered(attempt(1, 1, 1), 1, 51, b"out", TaskAfter::Cancelled);
    let gone = Change::AnswersDropped { task: task(1, 1) };
    world.commit(&[started(attempt(1, 1, 1), 1, 50), stopped(1, JobState::Cancelled, 50), brought, gone]).await;
    world.commit(&[job_ended(1, JobState::Cancelled, 52)]).await;
    world.commit(&[retried(1, Some((0, 0)), 60)]).await;
    world.commit(&[tasks_retried(1, &[bad_task(1, 1, TaskState::Cancelled)], None, 60)]).await;
    assert_eq!((open(&world).await.index, open(&world).await.answers), (1, vec![]));
    assert_eq!(counts(&world).await, TaskCounts { succeeded: 1, queued: 1, ..TaskCounts::default() });
}

pub(super) async fn a_quarantine_is_remembered_until_it_is_lifted(world: World) {
    let (world, kind) = (world.peopled(2).await, QuarantineKind::Output);
    let reason = "its output of j1.0 differs from what two other agents brought".to_owned();
    world.commit(&[Change::AgentQuarantined { agent: AgentId(2), kind, reason: reason.clone(), at: at(10) }]).await;
    let found = Quarantine { kind, since: at(10), reason: reason.clone() };
    for world in [&world, &world.reopened().await] {
        let agents = world.store.load(&world.lead).await.expect("the store loads").snapshot.agents;
        assert_eq!(agents.into_iter().map(|agent| agent.quarantine).collect::<Vec<_>>(), [None, Some(found.clone())]);
        assert_eq!(world.store.agents().await.expect("an answer")[1].quarantine, Some(found.clone()));
    }
    if let Some(rows) = world.backend.view("quarantine_list").await {
        assert_eq!(rows.len(), 1, "{rows:?}");
    }
    let audit = world.store.audit(1).await.expect("an answer");
    assert_eq!((audit[0].action.as_str(), audit[0].detail.as_str()), ("agent.quarantine", reason.as_str()));
    world.commit(&[Change::AgentTrusted { agent: AgentId(2), by: "root".into(), at: at(20) }]).await;
    assert_eq!(world.store.agents().await.expect("an answer")[1].quarantine, None);
    assert_eq!(world.store.audit(1).await.expect("an answer")[0].action, "agent.trust");
    let kind = QuarantineKind::Cloned;
    world.commit(&[Change::AgentQuarantined { agent: AgentId(1), kind, reason, at: at(30) }]).await;
    let found = world.store.agents().await.expect("an answer").swap_remove(0).quarantine.expect("it was found");
    assert_eq!((found.kind, found.since), (kind, at(30)));
    world.refused(&[Change::AgentTrusted { agent: AgentId(9), by: "root".into(), at: at(20) }]).await;
}
