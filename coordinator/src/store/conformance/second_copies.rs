//! Tasks of which several attempts are live.

use lull_scheduler::{
    effect::{Change, TaskAfter},
    event::{OpenAttempt, OpenPlace},
};
use lull_shared::{
    id::{AgentId, JobId},
    message::{Build, Payload},
    state::{AttemptEnd, PauseReason, TaskCounts, TaskState},
};

use super::{World, sample::*};

/// A task that agent 1 has, and agent 2 beside it.
async fn with_second_copies(world: World) -> World {
    let world = world.peopled(3).await;
    world.commit(&[submitted(1, 2), started(attempt(1, 0, 1), 1, 10)]).await;
    world.commit(&[started_beside(attempt(1, 0, 2), 2, 20)]).await;
    world
}

async fn place(world: &World) -> OpenPlace {
    world.store.load(&world.lead).await.expect("the store loads").snapshot.jobs[0].open[0].place.clone()
}

async fn counts(world: &World) -> TaskCounts {
    world.store.job(JobId(1)).await.expect("an answer").expect("the job is there").counts
}

fn continues(agent: u64, failures: u32) -> TaskAfter {
    TaskAfter::Continues { agent: AgentId(agent), paused: false, failures }
}

pub(super) async fn a_task_may_be_with_two_agents_and_counts_once(world: World) {
    let world = with_second_copies(world).await;
    assert_eq!(counts(&world).await, TaskCounts { running: 1, queued: 1, ..TaskCounts::default() });
    let first = OpenAttempt { number: 1, agent: AgentId(1), since: at(10), resumed_us: None, build: Build::Plain, cause: None };
    let second = OpenAttempt {
        number: 2,
        agent: AgentId(2),
        since: at(20),
        resumed_us: None,
        build: Build::Plain,
        cause: Some("the first is slow".into()),
    };
    assert_eq!(place(&world).await, OpenPlace::At(vec![first, second]));
    assert_eq!(place(&world.reopened().await).await, place(&world).await, "a crash forgets neither");
    world.refused(&[started_beside(attempt(1, 0, 3), 2, 21)]).await;
    world.refused(&[started(attempt(1, 0, 3), 3, 21)]).await;
    world.refused(&[started_beside(attempt(1, 1, 1), 3, 21)]).await;
    let attempts = world.store.attempts(task(1, 0)).await.expect("an answer");
    assert_eq!(attempts.iter().map(|found| found.cause.as_deref()).collect::<Vec<_>>(), [None, Some("the first is slow")]);
}

pub(super) async fn the_first_result_wins_and_the_other_copy_is_over(world: World) {
    let world = with_second_copies(world).await;
    let over = ended(attempt(1, 0, 2), 2, 30, AttemptEnd::Cancelled, continues(1, 0));
    world.commit(&[over, succeeded(attempt(1, 0, 1), 1, 30, b"first")]).await;
    world.refused(&[succeeded(attempt(1, 0, 2), 2, 31, b"second")]).await;
    assert_eq!(counts(&world).await, TaskCounts { succeeded: 1, queued: 1, ..TaskCounts::default() });
    let result = world.store.result(task(1, 0)).await.expect("an answer").expect("there is a result");
    assert_eq!((result.attempt, result.output), (1, Payload::inline(b"first".to_vec())));
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.state, record.attempts, record.failures), (TaskState::Succeeded, 2, 0));
    assert_eq!((record.agent, record.reason, record.output_bytes), (Some(AgentId(1)), None, Some(5)), "of the winner");
    let log = world.store.log(task(1, 0), None).await.expect("an answer").expect("there is a log");
    assert_eq!(log.attempt.number, 1, "of the winner");
}

pub(super) async fn a_copy_that_ends_leaves_the_task_to_the_other(world: World) {
    let world = with_second_copies(world).await;
    world.commit(&[ended(attempt(1, 0, 1), 1, 30, AttemptEnd::Failed, continues(2, 1))]).await;
    assert_eq!(counts(&world).await, TaskCounts { running: 1, queued: 1, ..TaskCounts::default() });
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.agent, record.attempts, record.failures), (Some(AgentId(2)), 2, 1));
    // A third beside it, and an end and a beginning in one turn.
    let lost = ended(attempt(1, 0, 2), 2, 40, AttemptEnd::Lost, continues(3, 1));
    world.commit(&[started_beside(attempt(1, 0, 3), 3, 40), lost, started_beside(attempt(1, 0, 4), 2, 40)]).await;
    let OpenPlace::At(live) = place(&world).await else { panic!("it is with agents") };
    assert_eq!(live.iter().map(|live| (live.number, live.agent.0)).collect::<Vec<_>>(), [(3, 3), (4, 2)]);
    let again = TaskAfter::Again { not_before: at(50), failures: 1 };
    world
        .commit(&[
            ended(attempt(1, 0, 3), 3, 50, AttemptEnd::Evicted, continues(2, 1)),
            ended(attempt(1, 0, 4), 2, 50, AttemptEnd::Evicted, again),
        ])
        .await;
    assert_eq!(place(&world).await, OpenPlace::Waiting { not_before: at(50) });
}

pub(super) async fn a_task_is_paused_when_all_its_copies_are(world: World) {
    let world = with_second_copies(world).await;
    let pause = |number, task_paused| {
        let reason = Some(PauseReason::Busy { cpu_percent: 90 });
        Change::AttemptPaused { attempt: attempt(1, 0, number), reason, task_paused, at: at(25) }
    };
    world.commit(&[pause(1, false)]).await;
    assert_eq!(counts(&world).await, TaskCounts { running: 1, queued: 1, ..TaskCounts::default() });
    world.commit(&[pause(2, true)]).await;
    assert_eq!(counts(&world).await, TaskCounts { paused: 1, queued: 1, ..TaskCounts::default() });
    let after = TaskAfter::Continues { agent: AgentId(2), paused: true, failures: 0 };
    world.commit(&[ended(attempt(1, 0, 1), 1, 30, AttemptEnd::Evicted, after)]).await;
    assert_eq!(counts(&world).await, TaskCounts { paused: 1, queued: 1, ..TaskCounts::default() });
}
