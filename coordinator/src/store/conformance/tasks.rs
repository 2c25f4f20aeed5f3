//! Reading jobs, tasks, logs and results, page by page.

use lull_scheduler::effect::{Change, TaskAfter};
use lull_shared::{
    digest::BlobRef,
    id::{AgentId, JobId},
    message::Payload,
    state::{AttemptEnd, JobState, TaskState},
};

use super::{super::record::*, World, sample::*};
use crate::version::Which;

/// Ten tasks: 0 succeeded, 1 failed, 2 runs, 3 waits, the others never started.
async fn mixed(world: World) -> World {
    let world = world.peopled(2).await;
    let mut turn = vec![submitted(1, 10)];
    turn.extend((0..4).map(|index| started(attempt(1, index, 1), 1, 10)));
    turn.push(succeeded(attempt(1, 0, 1), 1, 11, b"zero"));
    turn.push(ended(attempt(1, 1, 1), 1, 11, AttemptEnd::Failed, TaskAfter::Failed));
    turn.push(ended(attempt(1, 3, 1), 1, 11, AttemptEnd::Failed, TaskAfter::Again { not_before: at(50), failures: 1 }));
    world.commit(&turn).await;
    world
}

async fn indexes(world: &World, state: Option<TaskState>, from: u32, limit: u32) -> Vec<u32> {
    let filter = TaskFilter { state, from, limit };
    let tasks = world.store.tasks(JobId(1), &filter).await.expect("an answer");
    tasks.iter().map(|found| found.task.index).collect()
}

pub(super) async fn tasks_that_never_started_are_listed(world: World) {
    let world = mixed(world).await;
    let tasks = world.store.tasks(JobId(1), &TaskFilter::default()).await.expect("an answer");
    let states: Vec<TaskState> = tasks.iter().map(|found| found.state).collect();
    let mut expected = vec![TaskState::Succeeded, TaskState::Failed, TaskState::Running, TaskState::Waiting];
    expected.resize(10, TaskState::Queued);
    assert_eq!(states, expected);
    assert_eq!((tasks[9].attempts, tasks[9].agent, tasks[9].started), (0, None, None));
    for found in tasks {
        assert_eq!(world.store.task(found.task).await.expect("an answer"), Some(found));
    }
    world.commit(&[stopped(1, JobState::Expired, 20)]).await;
    assert_eq!(indexes(&world, Some(TaskState::Expired), 0, 0).await, [4, 5, 6, 7, 8, 9]);
    assert_eq!(indexes(&world, Some(TaskState::Queued), 0, 0).await, [0_u32; 0]);
}

pub(super) async fn filters_and_pages_cut_where_they_should(world: World) {
    let world = mixed(world).await;
    assert_eq!(indexes(&world, None, 2, 4).await, [2, 3, 4, 5]);
    assert_eq!(indexes(&world, None, 9, 4).await, [9]);
    assert_eq!(indexes(&world, None, 10, 4).await, [0_u32; 0]);
    assert_eq!(indexes(&world, Some(TaskState::Queued), 0, 3).await, [4, 5, 6]);
    assert_eq!(indexes(&world, Some(TaskState::Queued), 7, 0).await, [7, 8, 9]);
    assert_eq!(indexes(&world, Some(TaskState::Failed), 0, 0).await, [1]);
    assert_eq!(indexes(&world, Some(TaskState::Failed), 2, 0).await, [0_u32; 0]);
    assert_eq!(indexes(&world, Some(TaskState::Moving), 0, 0).await, [0_u32; 0]);
}

pub(super) async fn jobs_are_paged_and_filtered(world: World) {
    let world = world.peopled(0).await;
    let mut turn = Vec::new();
    for number in 1..=6 {
        let mut spec = spec(1);
        spec.name = if number % 2 == 0 { "even".into() } else { "odd".into() };
        turn.push(submitted_as(number, if number <= 3 { "anna" } else { "ben" }, spec));
    }
    turn.extend([stopped(2, JobState::Cancelled, 9), job_ended(2, JobState::Cancelled, 9)]);
    world.commit(&turn).await;
    let list = async |filter: JobFilter| -> Vec<u64> {
        world.store.jobs(&filter).await.expect("an answer").iter().map(|job| job.job.0).collect()
    };
    let all = JobFilter::default();
    assert_eq!(list(all.clone()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(list(JobFilter { limit: 2, ..all.clone() }).await, [6, 5]);
    assert_eq!(list(JobFilter { limit: 2, before: Some(JobId(5)), ..all.clone() }).await, [4, 3]);
    assert_eq!(list(JobFilter { state: Some(JobState::Cancelled), ..all.clone() }).await, [2]);
    assert_eq!(list(JobFilter { submitter: Some("ben".into()), name: Some("even".into()), ..all.clone() }).await, [6, 4]);
    assert_eq!(list(JobFilter { submitter: Some("BEN".into()), ..all }).await, [0_u64; 0], "names are exact");
}

pub(super) async fn logs_and_results_are_found(world: World) {
    let world = mixed(world).await;
    let log = |attempt| world.store.log(task(1, 0), attempt);
    let newest = log(None).await.expect("an answer").expect("there is a log");
    assert_eq!((newest.attempt.number, &newest.log[..]), (1, &b"done\n"[..]));
    assert_eq!(log(Some(1)).await.expect("an answer"), Some(newest));
    assert_eq!(log(Some(2)).await.expect("an answer"), None);
    let empty = world.store.log(task(1, 1), None).await.expect("an answer").expect("an ended attempt has a log");
    assert!(empty.log.is_empty());
    assert_eq!(world.store.log(task(1, 2), None).await.expect("an answer"), None, "a live one has none yet");

    let blob = BlobRef::of(b"large");
    let mut large = succeeded(attempt(1, 2, 1), 1, 12, b"");
    if let Change::AttemptEnded(end) = &mut large {
        end.output = Some(Payload::Blob(blob));
    }
    world.commit(&[large, started(attempt(1, 3, 2), 2, 60), succeeded(attempt(1, 3, 2), 2, 61, b"")]).await;
    let results = world.store.results(JobId(1), 0, 10).await.expect("an answer");
    assert_eq!(results.iter().map(|found| found.task.index).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!((&results[1].output, results[2].attempt), (&Payload::Blob(blob), 2));
    let record = world.store.task(task(1, 2)).await.expect("an answer").expect("the task is there");
    assert_eq!(record.output_bytes, Some(5));
    let page = world.store.results(JobId(1), 1, 1).await.expect("an answer");
    assert_eq!(page.iter().map(|found| found.task.index).collect::<Vec<_>>(), [2]);
    assert_eq!(world.store.attempts(task(1, 3)).await.expect("an answer")[1].agent, AgentId(2));
}

pub(super) async fn what_is_not_there_is_none(world: World) {
    let world = mixed(world).await;
    let store = &world.store;
    assert_eq!(store.job(JobId(9)).await.expect("an answer"), None);
    assert!(store.load_for_retry(JobId(9)).await.expect("an answer").is_none());
    assert!(store.ended_badly(JobId(9), 0, 10).await.expect("an answer").is_empty());
    assert!(store.tasks(JobId(9), &TaskFilter::default()).await.expect("an answer").is_empty());
    for missing in [task(9, 0), task(1, 10), task(1, u32::MAX)] {
        assert_eq!(store.task(missing).await.expect("an answer"), None);
        assert!(store.attempts(missing).await.expect("an answer").is_empty());
        assert_eq!(store.log(missing, None).await.expect("an answer"), None);
        assert_eq!(store.result(missing).await.expect("an answer"), None);
    }
    assert_eq!(store.agent_by_peer(b"nobody").await.expect("an answer"), None);
    assert_eq!(store.version_named("nothing", &Which::Usual).await.expect("an answer"), None);
    assert_eq!(store.job_by_key(owner("anna"), "no key").await.expect("an answer"), None);
    assert!(store.blob_outline(&BlobRef::of(b"?").digest).await.expect("an answer").is_none());
    assert_eq!(store.blob_piece(&BlobRef::of(b"?").digest, 0).await.expect("an answer"), None);
}
