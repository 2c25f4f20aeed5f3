//! Turns: every change, and what is there after it.

use bytes::Bytes;
use lull_scheduler::{
    effect::{Change, EndedAttempt, TaskAfter},
    event::{EndedTask, OpenPlace, OpenTask, Retrying, Saved, Snapshot},
    history::{HOURS, IdleHours},
};
use lull_shared::{
    digest::BlobRef,
    id::{AgentId, JobId},
    message::{Build, Payload, SnapshotRef},
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskCounts, TaskState, Usage},
    time::Timestamp,
};

use super::{
    super::{bounds::REASON_UNITS_MAX, record::*},
    World,
    sample::*,
};

impl World {
    async fn loaded(&self) -> Snapshot {
        self.store.load(&self.lead).await.expect("the store loads").snapshot
    }

    async fn counts(&self, job: u64) -> TaskCounts {
        self.store.job(JobId(job)).await.expect("an answer").expect("the job is there").counts
    }

    async fn state(&self, job: u64, index: u32) -> TaskState {
        self.store.task(task(job, index)).await.expect("an answer").expect("the task is there").state
    }
}

pub(super) async fn a_job_is_remembered_as_it_was_submitted(world: World) {
    let world = world.peopled(0).await;
    let mut spec = spec(3);
    spec.inputs = lull_shared::job::Inputs::Range { first: u64::MAX - 5, count: 3 };
    spec.finish_by = Some(at(1_000_000));
    spec.failures_max = Some(7);
    world.commit(&[submitted_as(1, "anna", spec.clone())]).await;
    let snapshot = world.loaded().await;
    assert_eq!(snapshot.last_job, 1);
    let [job] = &snapshot.jobs[..] else { panic!("one job: {:?}", snapshot.jobs) };
    assert_eq!((job.job, job.submitter.as_str(), &job.spec, job.version_name.as_str()), (JobId(1), "anna", &spec, "resize@1"));
    assert_eq!((job.seed, job.submitted, job.state, job.stopping), (u64::MAX - 1, at(1), JobState::Active, None));
    assert_eq!((job.expanded, job.succeeded, job.open.len()), (0, 0, 0));
    let record = world.store.job(JobId(1)).await.expect("an answer").expect("the job is there");
    assert_eq!(record.counts, TaskCounts { queued: 3, ..TaskCounts::default() });
    assert_eq!((record.spec, record.submitted, record.ended), (spec, at(1), None));
}

pub(super) async fn a_task_goes_on_from_its_newest_snapshot(world: World) {
    let world = world.peopled(2).await;
    let (first, second) = (attempt(1, 0, 1), attempt(1, 0, 2));
    let pause = PauseReason::Owner { until: None };
    let paused = paused(first, Some(pause), 14);
    world.commit(&[submitted(1, 2), started(first, 1, 10), paused, saved(first, 1, 15)]).await;
    assert_eq!(world.counts(1).await, TaskCounts { queued: 1, paused: 1, ..TaskCounts::default() });
    assert_eq!(world.loaded().await.jobs[0].open[0].saved, Some(Saved { snapshot: snapshot(15), agent: AgentId(1) }));

    let again = TaskAfter::Again { not_before: at(16), failures: 0 };
    world.commit(&[saved(first, 1, 16), ended(first, 1, 16, AttemptEnd::Evicted, again)]).await;
    assert_eq!(world.counts(1).await, TaskCounts { queued: 1, moving: 1, ..TaskCounts::default() });
    let moving = TaskFilter { state: Some(TaskState::Moving), ..TaskFilter::default() };
    let listed = world.store.tasks(JobId(1), &moving).await.expect("an answer");
    assert_eq!(listed.iter().map(|task| (task.task.index, task.state)).collect::<Vec<_>>(), [(0, TaskState::Moving)]);
    let queued = TaskFilter { state: Some(TaskState::Queued), ..TaskFilter::default() };
    assert_eq!(world.store.tasks(JobId(1), &queued).await.expect("an answer").len(), 1);

    world.commit(&[resumed(second, 2, 20, snapshot(16))]).await;
    let attempts = world.store.attempts(second.task).await.expect("an answer");
    assert_eq!((attempts[0].build, attempts[0].resumed), (Build::Plain, None));
    let from = Resumed { size_bytes: snapshot(16).blob.size_bytes, spent_us: 16_000_000 };
    assert_eq!((attempts[1].build, attempts[1].resumed), (Build::Migratable, Some(from)));
    assert_eq!(world.loaded().await.jobs[0].open[0].saved, Some(Saved { snapshot: snapshot(16), agent: AgentId(1) }));

    let chosen = Change::SnapshotChosen { task: second.task, agent: AgentId(1), snapshot: snapshot(16), at: at(26) };
    world.commit(&[saved(second, 2, 25), chosen]).await;
    assert_eq!(world.loaded().await.jobs[0].open[0].saved, Some(Saved { snapshot: snapshot(16), agent: AgentId(1) }));

    let dropped = Change::SnapshotDropped { task: second.task };
    world.commit(&[saved(second, 2, 27), dropped.clone(), succeeded(second, 2, 30, b"out"), dropped]).await;
    assert_eq!(world.counts(1).await, TaskCounts { queued: 1, succeeded: 1, ..TaskCounts::default() });
    assert!(world.loaded().await.jobs[0].open.is_empty());
}

pub(super) async fn an_attempt_goes_from_start_to_result(world: World) {
    let world = world.peopled(2).await;
    world.commit(&[submitted(1, 2), started(attempt(1, 0, 1), 2, 10)]).await;
    assert_eq!(world.counts(1).await, TaskCounts { queued: 1, running: 1, ..TaskCounts::default() });
    let open = OpenTask { index: 0, attempts: 1, failures: 0, lost: 0, place: with(1, 2, 10), saved: None, answers: Vec::new() };
    assert_eq!(world.loaded().await.jobs[0].open, [open]);

    world.commit(&[succeeded(attempt(1, 0, 1), 2, 12, b"\x00out\xff")]).await;
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.state, record.attempts, record.failures), (TaskState::Succeeded, 1, 0));
    assert_eq!((record.agent, record.agent_name.as_deref()), (Some(AgentId(2)), Some("desk-2")));
    assert_eq!((record.started, record.ended, record.output_bytes), (Some(at(10)), Some(at(12)), Some(5)));
    let attempts = world.store.attempts(task(1, 0)).await.expect("an answer");
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].end, attempts[0].ended), (Some(AttemptEnd::Succeeded), Some(at(12))));
    assert_eq!(attempts[0].usage, Some(Usage { wall_us: 1_500_000, cpu_us: 1_000_000, memory_peak_bytes: 65_536 }));
    let result = world.store.result(task(1, 0)).await.expect("an answer").expect("there is a result");
    assert_eq!((result.attempt, result.output), (1, Payload::inline(b"\x00out\xff".to_vec())));

    world.commit(&[started(attempt(1, 1, 1), 1, 13)]).await;
    world.commit(&[succeeded(attempt(1, 1, 1), 1, 14, b""), job_ended(1, JobState::Succeeded, 14)]).await;
    let job = world.store.job(JobId(1)).await.expect("an answer").expect("the job is there");
    assert_eq!((job.state, job.ended, job.counts.succeeded), (JobState::Succeeded, Some(at(14)), 2));
    let snapshot = world.loaded().await;
    assert!(snapshot.jobs.is_empty(), "an ended job is not the scheduler's");
    assert_eq!(snapshot.last_job, 1, "its number is not given again");
    let totals = world.store.totals().await.expect("an answer");
    assert_eq!(totals, Totals { jobs: 1, tasks_succeeded: 2, attempts: 2, attempts_lost: 0, results_refused: 0 });
}

pub(super) async fn a_failed_attempt_is_followed_by_another(world: World) {
    let world = world.peopled(2).await;
    world.commit(&[submitted(1, 1), started(attempt(1, 0, 1), 1, 10)]).await;
    let later = TaskAfter::Again { not_before: at(30), failures: 1 };
    world.commit(&[ended(attempt(1, 0, 1), 1, 20, AttemptEnd::Failed, later)]).await;
    assert_eq!(world.counts(1).await, TaskCounts { waiting: 1, ..TaskCounts::default() });
    let open = OpenTask {
        index: 0,
        attempts: 1,
        failures: 1,
        lost: 0,
        place: OpenPlace::Waiting { not_before: at(30) },
        saved: None,
        answers: Vec::new(),
    };
    assert_eq!(world.loaded().await.jobs[0].open, [open]);
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.state, record.not_before), (TaskState::Waiting, Some(at(30))));
    assert_eq!(record.reason.as_deref(), Some("it exited with code 3"));

    world.commit(&[started(attempt(1, 0, 2), 2, 30)]).await;
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.attempts, record.failures, record.agent), (2, 1, Some(AgentId(2))));
    assert!(record.reason.is_some(), "why the last one did not succeed is still of interest");
    // Lost attempts are free, and what is free is queued at once.
    let free = TaskAfter::Again { not_before: at(31), failures: 1 };
    world.commit(&[ended(attempt(1, 0, 2), 2, 31, AttemptEnd::Lost, free)]).await;
    assert_eq!(world.loaded().await.jobs[0].open[0].lost, 1, "and yet they are counted");
    assert_eq!(world.state(1, 0).await, TaskState::Queued);
    world.commit(&[started(attempt(1, 0, 3), 1, 32)]).await;
    world
        .commit(&[ended(attempt(1, 0, 3), 1, 33, AttemptEnd::Failed, TaskAfter::Failed), job_ended(1, JobState::Failed, 33)])
        .await;
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.state, record.attempts, record.failures), (TaskState::Failed, 3, 2));
    let attempts = world.store.attempts(task(1, 0)).await.expect("an answer");
    assert_eq!(
        attempts.iter().map(|a| a.end.expect("all ended")).collect::<Vec<_>>(),
        [AttemptEnd::Failed, AttemptEnd::Lost, AttemptEnd::Failed]
    );
    assert_eq!(attempts[2].failure, Some(Failure::Exit { code: 3 }));
    assert_eq!(world.store.totals().await.expect("an answer").attempts_lost, 1);
}

pub(super) async fn start_and_end_in_one_turn_are_one_turn(world: World) {
    let world = world.peopled(2).await;
    world
        .commit(&[
            submitted(1, 3),
            started(attempt(1, 0, 1), 1, 10),
            started(attempt(1, 1, 1), 1, 10),
            again(attempt(1, 0, 1), 1, 11, 1),
            started(attempt(1, 0, 2), 2, 11),
            paused(attempt(1, 0, 2), Some(PauseReason::Busy { cpu_percent: 90 }), 11),
            paused(attempt(1, 0, 2), None, 12),
            succeeded(attempt(1, 0, 2), 2, 12, b"x"),
            succeeded(attempt(1, 1, 1), 1, 12, b"y"),
            started(attempt(1, 2, 1), 2, 12),
        ])
        .await;
    assert_eq!(world.counts(1).await, TaskCounts { succeeded: 2, running: 1, ..TaskCounts::default() });
    let attempts = world.store.attempts(task(1, 0)).await.expect("an answer");
    assert_eq!(attempts.iter().map(|a| a.end).collect::<Vec<_>>(), [Some(AttemptEnd::Failed), Some(AttemptEnd::Succeeded)]);
    // The live attempt of a known task ends and the next begins, in one turn.
    let moved = TaskAfter::Again { not_before: at(13), failures: 0 };
    world.commit(&[ended(attempt(1, 2, 1), 2, 13, AttemptEnd::Evicted, moved), started(attempt(1, 2, 2), 1, 13)]).await;
    let open = OpenTask { index: 2, attempts: 2, failures: 0, lost: 0, place: with(2, 1, 13), saved: None, answers: Vec::new() };
    assert_eq!(world.loaded().await.jobs[0].open, [open]);
}

pub(super) async fn the_newest_attempts_are_those_of_the_highest_tasks(world: World) {
    let world = world.peopled(2).await;
    let again = TaskAfter::Again { not_before: at(11), failures: 0 };
    let first = [submitted(1, 4), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)];
    world.commit(&first).await;
    world.commit(&[ended(attempt(1, 0, 1), 1, 11, AttemptEnd::Lost, again), started(attempt(1, 0, 2), 2, 12)]).await;
    let newest = async |before, limit| -> Vec<_> {
        let records = world.store.newest_attempts(JobId(1), before, limit).await.expect("an answer");
        records.into_iter().map(|record| (record.attempt, record.agent)).collect()
    };
    let all = [(attempt(1, 1, 1), AgentId(1)), (attempt(1, 0, 2), AgentId(2)), (attempt(1, 0, 1), AgentId(1))];
    assert_eq!(newest(None, 10).await, all);
    assert_eq!(newest(None, 2).await, all[..2]);
    assert_eq!(newest(Some(1), 10).await, all[1..]);
    assert_eq!(newest(Some(0), 10).await, []);
    assert_eq!(world.store.newest_attempts(JobId(9), None, 10).await.expect("an answer"), []);
}

pub(super) async fn jobs_are_counted_by_state_up_to_a_bound(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 1), submitted(2, 1), submitted(3, 1)]).await;
    let attempt = attempt(3, 0, 1);
    world.commit(&[started(attempt, 1, 10), succeeded(attempt, 1, 11, b"out"), job_ended(3, JobState::Succeeded, 11)]).await;
    for (most, active) in [(10, 2), (1, 1)] {
        let counts = world.store.job_counts(most).await.expect("an answer");
        let told = counts.into_iter().collect::<Vec<_>>();
        let none = [JobState::Failed, JobState::Cancelled, JobState::Expired].map(|state| (state, 0));
        assert_eq!(told, [&[(JobState::Active, active), (JobState::Succeeded, 1)][..], &none].concat(), "up to {most}");
    }
}

pub(super) async fn moves_are_listed_with_what_went_along(world: World) {
    let world = world.peopled(2).await;
    let snapshot = SnapshotRef { blob: BlobRef::of(b"state"), spent_us: 7 };
    let again = |second| TaskAfter::Again { not_before: at(second), failures: 0 };
    let resumed = Change::AttemptStarted {
        attempt: attempt(1, 0, 3),
        agent: AgentId(2),
        at: at(14),
        build: Build::Migratable,
        resume: Some(Box::new(snapshot)),
        beside: false,
        cause: None,
    };
    world
        .commit(&[
            submitted(1, 2),
            started(attempt(1, 0, 1), 1, 10),
            ended(attempt(1, 0, 1), 1, 11, AttemptEnd::Lost, again(11)),
            started(attempt(1, 0, 2), 1, 12),
            ended(attempt(1, 0, 2), 1, 13, AttemptEnd::Recalled, again(13)),
            resumed,
            started(attempt(1, 1, 1), 1, 10),
            ended(attempt(1, 1, 1), 1, 11, AttemptEnd::Recalled, again(11)),
            started(attempt(1, 1, 2), 2, 12),
        ])
        .await;
    let moves = world.store.moves(JobId(1), 10).await.expect("an answer");
    let brief =
        moves.iter().map(|moved| (moved.attempt, moved.from, moved.to, moved.resumed.is_some(), moved.left, moved.arrived));
    let expected = [
        (attempt(1, 0, 3), AgentId(1), AgentId(2), true, at(13), at(14)),
        (attempt(1, 0, 2), AgentId(1), AgentId(1), false, at(11), at(12)),
    ];
    assert_eq!(brief.collect::<Vec<_>>(), expected, "what was taken back before it had begun is no move");
    assert_eq!(world.store.moves(JobId(1), 1).await.expect("an answer"), moves[..1]);
    assert_eq!(world.store.moves(JobId(2), 1).await.expect("an answer"), []);
}

pub(super) async fn a_pause_is_remembered_and_ends_with_the_attempt(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 1), started(attempt(1, 0, 1), 1, 10)]).await;
    let reason = PauseReason::Owner { until: Some(at(99)) };
    world.commit(&[paused(attempt(1, 0, 1), Some(reason.clone()), 11)]).await;
    assert_eq!(world.counts(1).await, TaskCounts { paused: 1, ..TaskCounts::default() });
    let attempts = world.store.attempts(task(1, 0)).await.expect("an answer");
    assert_eq!(attempts[0].paused, Some(reason.clone()));
    assert_eq!(world.loaded().await.jobs[0].open[0].place, with(1, 1, 10));
    world.commit(&[paused(attempt(1, 0, 1), None, 12)]).await;
    assert_eq!(world.state(1, 0).await, TaskState::Running);
    world.commit(&[paused(attempt(1, 0, 1), Some(reason), 13)]).await;
    let moved = TaskAfter::Again { not_before: at(14), failures: 0 };
    world.commit(&[ended(attempt(1, 0, 1), 1, 14, AttemptEnd::Evicted, moved)]).await;
    assert_eq!(world.store.attempts(task(1, 0)).await.expect("an answer")[0].paused, None);
    // All within one turn.
    let pauses = paused(attempt(1, 0, 2), Some(PauseReason::Touched), 21);
    let moved = TaskAfter::Again { not_before: at(22), failures: 0 };
    let ends = ended(attempt(1, 0, 2), 1, 22, AttemptEnd::Evicted, moved);
    world.commit(&[started(attempt(1, 0, 2), 1, 20), pauses, ends]).await;
    let second = world.store.attempts(task(1, 0)).await.expect("an answer").into_iter().find(|one| one.attempt.number == 2);
    assert_eq!(second.expect("it was there").paused, None);
}

pub(super) async fn a_stopped_job_ends_tasks_that_never_started(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 5), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)]).await;
    world.commit(&[again(attempt(1, 1, 1), 1, 11, 1)]).await;
    world.commit(&[stopped(1, JobState::Cancelled, 12), task_ended(task(1, 1), TaskState::Cancelled, 12)]).await;
    let job = world.store.job(JobId(1)).await.expect("an answer").expect("the job is there");
    assert_eq!((job.state, job.stopping, job.stopped_by.as_deref()), (JobState::Active, Some(JobState::Cancelled), Some("ben")));
    assert_eq!(job.counts, TaskCounts { running: 1, cancelled: 4, ..TaskCounts::default() });
    let snapshot = &world.loaded().await.jobs[0];
    assert_eq!((snapshot.stopping, snapshot.expanded, snapshot.cancelled), (Some(JobState::Cancelled), 2, 1));
    let never = world.store.task(task(1, 4)).await.expect("an answer").expect("the task is there");
    assert_eq!((never.state, never.attempts, never.ended), (TaskState::Cancelled, 0, Some(at(12))));
    world
        .commit(&[
            ended(attempt(1, 0, 1), 1, 13, AttemptEnd::Cancelled, TaskAfter::Cancelled),
            job_ended(1, JobState::Cancelled, 13),
        ])
        .await;
    assert_eq!(world.counts(1).await, TaskCounts { cancelled: 5, ..TaskCounts::default() });

    world.commit(&[submitted(2, 2), stopped(2, JobState::Expired, 14), job_ended(2, JobState::Expired, 14)]).await;
    assert_eq!(world.counts(2).await, TaskCounts { expired: 2, ..TaskCounts::default() });
    assert_eq!(world.state(2, 1).await, TaskState::Expired);
}

pub(super) async fn a_retry_queues_what_ended_badly(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 5), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)]).await;
    world.commit(&[succeeded(attempt(1, 0, 1), 1, 11, b"kept"), started(attempt(1, 2, 1), 1, 11)]).await;
    world
        .commit(&[ended(attempt(1, 1, 1), 1, 12, AttemptEnd::Failed, TaskAfter::Failed), stopped(1, JobState::Cancelled, 12)])
        .await;
    let cancelled = ended(attempt(1, 2, 1), 1, 13, AttemptEnd::Cancelled, TaskAfter::Cancelled);
    world.commit(&[cancelled, job_ended(1, JobState::Cancelled, 13)]).await;

    let snapshot = world.store.load_for_retry(JobId(1)).await.expect("an answer").expect("the job is there");
    assert_eq!((snapshot.state, snapshot.expanded, snapshot.succeeded), (JobState::Cancelled, 3, 1));
    assert_eq!(snapshot.retrying, None);
    let failed = EndedTask { failed_at: Some(AgentId(1)), ..bad_task(1, 1, TaskState::Failed) };
    let cancelled = bad_task(2, 1, TaskState::Cancelled);
    let bad = async |from, limit| world.store.ended_badly(JobId(1), from, limit).await.expect("an answer");
    assert_eq!(bad(0, 10).await, [failed, cancelled]);
    assert_eq!((bad(0, 1).await, bad(2, 1).await, bad(3, 1).await), (vec![failed], vec![cancelled], vec![]));

    // The stop is undone at once, and what was never started is queued.
    let (finish_by, begun) = (Some(at(4_000)), Some(Retrying { from: 0, forgiven: 1 }));
    world.commit(&[Change::JobRetried { job: JobId(1), by: "anna".into(), finish_by, retrying: begun, at: at(20) }]).await;
    let job = world.store.job(JobId(1)).await.expect("an answer").expect("the job is there");
    assert_eq!((job.spec.finish_by, world.loaded().await.jobs[0].spec.finish_by), (finish_by, finish_by));
    assert_eq!((job.state, job.stopping, job.stopped_by, job.ended), (JobState::Active, None, None, None));
    assert_eq!(job.counts, TaskCounts { succeeded: 1, queued: 2, failed: 1, cancelled: 1, ..TaskCounts::default() });
    for world in [&world, &world.reopened().await] {
        assert_eq!(world.loaded().await.jobs[0].retrying, begun);
    }
    // The others follow, a part at a time; how far it has come is remembered with each.
    world.commit(&[tasks_retried(1, &[failed], Some((2, 0)), 21)]).await;
    let snapshot = &world.loaded().await.jobs[0];
    assert_eq!((snapshot.failed, snapshot.cancelled, snapshot.expanded), (0, 1, 3));
    assert_eq!(snapshot.retrying, Some(Retrying { from: 2, forgiven: 0 }));
    let waiting = |index, since| OpenTask {
        index,
        attempts: 1,
        failures: 0,
        lost: 0,
        place: OpenPlace::Waiting { not_before: at(since) },
        saved: None,
        answers: Vec::new(),
    };
    assert_eq!(snapshot.open, [waiting(1, 21)]);
    assert_eq!(world.counts(1).await, TaskCounts { succeeded: 1, queued: 3, cancelled: 1, ..TaskCounts::default() });
    world.commit(&[tasks_retried(1, &[cancelled], None, 22)]).await;
    let snapshot = &world.loaded().await.jobs[0];
    assert_eq!((snapshot.retrying, &snapshot.open[..]), (None, &[waiting(1, 21), waiting(2, 22)][..]));
    assert_eq!(bad(0, 10).await, []);

    world.commit(&[started(attempt(1, 1, 2), 1, 23), started(attempt(1, 3, 1), 1, 23)]).await;
    world.commit(&[succeeded(attempt(1, 1, 2), 1, 24, b"now")]).await;
    assert_eq!(world.counts(1).await, TaskCounts { succeeded: 2, running: 1, queued: 2, ..TaskCounts::default() });
    assert_eq!(world.store.result(task(1, 1)).await.expect("an answer").map(|result| result.attempt), Some(2));
}

pub(super) async fn a_retry_in_the_middle_of_a_turn_counts_right(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 3), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)]).await;
    world.commit(&[ended(attempt(1, 0, 1), 1, 11, AttemptEnd::Failed, TaskAfter::Failed)]).await;
    let bad = [bad_task(0, 1, TaskState::Failed), bad_task(1, 1, TaskState::Failed)];
    world
        .commit(&[
            ended(attempt(1, 1, 1), 1, 12, AttemptEnd::Failed, TaskAfter::Failed),
            stopped(1, JobState::Cancelled, 12),
            job_ended(1, JobState::Cancelled, 12),
            retried(1, Some((0, 2)), 13),
            tasks_retried(1, &bad, None, 13),
            started(attempt(1, 1, 2), 1, 13),
            started(attempt(1, 0, 2), 1, 13),
            ended(attempt(1, 0, 2), 1, 14, AttemptEnd::Failed, TaskAfter::Failed),
        ])
        .await;
    assert_eq!(world.counts(1).await, TaskCounts { failed: 1, running: 1, queued: 1, ..TaskCounts::default() });
    let snapshot = &world.loaded().await.jobs[0];
    assert_eq!((snapshot.failed, snapshot.stopping, snapshot.open.len()), (1, None, 1));
    let record = world.store.task(task(1, 0)).await.expect("an answer").expect("the task is there");
    assert_eq!((record.attempts, record.failures), (2, 1), "the first failure is forgiven");
}

pub(super) async fn a_retry_takes_only_what_ended_as_it_says(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 3), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 1, 10)]).await;
    let failed = ended(attempt(1, 1, 1), 1, 11, AttemptEnd::Failed, TaskAfter::Failed);
    world.commit(&[succeeded(attempt(1, 0, 1), 1, 11, b"out"), failed, started(attempt(1, 2, 1), 1, 11)]).await;
    world.commit(&[retried(1, Some((0, 1)), 12)]).await;
    for wrong in [
        bad_task(0, 1, TaskState::Succeeded),
        bad_task(0, 1, TaskState::Failed),
        bad_task(1, 2, TaskState::Failed),
        bad_task(1, 1, TaskState::Cancelled),
        bad_task(2, 1, TaskState::Failed),
    ] {
        world.refused(&[tasks_retried(1, &[wrong], None, 13)]).await;
    }
    world
        .refused(&[ended(attempt(1, 2, 1), 1, 13, AttemptEnd::Failed, TaskAfter::Failed), job_ended(1, JobState::Failed, 13)])
        .await;
    assert_eq!(world.counts(1).await, TaskCounts { succeeded: 1, failed: 1, running: 1, ..TaskCounts::default() });
    // Whoever stops the job ends its retry too.
    world.commit(&[stopped(1, JobState::Cancelled, 14)]).await;
    assert_eq!(world.loaded().await.jobs[0].retrying, None);
}

pub(super) async fn a_turn_is_taken_or_refused_as_a_whole(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 4), started(attempt(1, 0, 1), 1, 10)]).await;
    let before = format!("{:?}", world.loaded().await);
    let audit = world.store.audit(100).await.expect("an answer");
    let good = || vec![submitted(2, 1), stopped(1, JobState::Cancelled, 11), succeeded(attempt(1, 0, 1), 1, 11, b"x")];
    for bad in [
        started(attempt(1, 1, 1), 99, 11),
        started(attempt(1, 1, 2), 1, 11),
        started(attempt(1, 3, 1), 1, 11),
        started(attempt(1, 9, 1), 1, 11),
        started(attempt(7, 0, 1), 1, 11),
        succeeded(attempt(1, 1, 1), 1, 11, b"y"),
        again(attempt(1, 0, 2), 1, 11, 1),
        task_ended(task(1, 2), TaskState::Cancelled, 11),
        stopped(8, JobState::Cancelled, 11),
        Change::AgentIntake { agent: AgentId(99), intake: Intake::Cordoned, before: Intake::Open, by: "root".into(), at: at(11) },
        Change::AgentDisconnected { agent: AgentId(99), at: at(11) },
        hours(99, 0, 11),
    ] {
        let mut turn = good();
        turn.push(bad.clone());
        let words = world.refused(&turn).await;
        assert!(!words.is_empty(), "{bad:?}");
        assert_eq!(format!("{:?}", world.loaded().await), before, "{bad:?} left traces");
    }
    assert_eq!(world.store.audit(100).await.expect("an answer"), audit);
    world.commit(&good()).await;
}

pub(super) async fn a_task_is_completed_once(world: World) {
    let world = world.peopled(2).await;
    world.commit(&[submitted(1, 1), started(attempt(1, 0, 1), 1, 10)]).await;
    let moved = TaskAfter::Again { not_before: at(11), failures: 0 };
    world.commit(&[ended(attempt(1, 0, 1), 1, 11, AttemptEnd::Lost, moved), started(attempt(1, 0, 2), 2, 11)]).await;
    world.refused(&[succeeded(attempt(1, 0, 1), 1, 12, b"late")]).await;
    world.commit(&[succeeded(attempt(1, 0, 2), 2, 12, b"right")]).await;
    world.refused(&[succeeded(attempt(1, 0, 2), 2, 13, b"again")]).await;
    world.refused(&[started(attempt(1, 0, 3), 2, 13)]).await;
    let result = world.store.result(task(1, 0)).await.expect("an answer").expect("there is a result");
    assert_eq!((result.attempt, result.output), (2, Payload::inline(b"right".to_vec())));
    assert_eq!(world.counts(1).await, TaskCounts { succeeded: 1, ..TaskCounts::default() });
}

pub(super) async fn a_job_with_open_tasks_cannot_end(world: World) {
    let world = world.peopled(1).await;
    world.commit(&[submitted(1, 2), started(attempt(1, 0, 1), 1, 10)]).await;
    world.refused(&[job_ended(1, JobState::Succeeded, 11)]).await;
    world.refused(&[succeeded(attempt(1, 0, 1), 1, 11, b""), job_ended(1, JobState::Succeeded, 11)]).await;
    world.refused(&[stopped(1, JobState::Cancelled, 11), job_ended(1, JobState::Cancelled, 11)]).await;
    world
        .commit(&[
            succeeded(attempt(1, 0, 1), 1, 11, b""),
            stopped(1, JobState::Cancelled, 11),
            job_ended(1, JobState::Cancelled, 11),
        ])
        .await;
    world.refused(&[started(attempt(1, 1, 1), 1, 12)]).await;
}

pub(super) async fn agents_come_and_go(world: World) {
    let world = world.peopled(2).await;
    let labels = [("site".to_owned(), "Köln".to_owned())].into();
    let connected = Change::AgentConnected { agent: AgentId(1), version: "0.1.0".into(), machine: machine(), labels, at: at(10) };
    world.commit(std::slice::from_ref(&connected)).await;
    world.commit(&[Change::AgentDisconnected { agent: AgentId(1), at: at(11) }]).await;
    world
        .commit(&[Change::AgentIntake {
            agent: AgentId(2),
            intake: Intake::Draining,
            before: Intake::Open,
            by: "root".into(),
            at: at(12),
        }])
        .await;
    let agents = world.store.agents().await.expect("an answer");
    assert_eq!((agents[0].last_connected, agents[0].last_disconnected), (Some(at(10)), Some(at(11))));
    assert_eq!((agents[0].version.as_deref(), agents[0].machine.as_ref()), (Some("0.1.0"), Some(&machine())));
    assert_eq!(agents[0].labels.get("site").map(String::as_str), Some("Köln"));
    assert_eq!((agents[1].intake, agents[1].machine.as_ref()), (Intake::Draining, None));
    let snapshot = world.loaded().await;
    assert_eq!(snapshot.agents.iter().map(|agent| agent.intake).collect::<Vec<_>>(), [Intake::Open, Intake::Draining]);
    // Both in one turn: the newest word counts.
    let again = Change::AgentDisconnected { agent: AgentId(1), at: at(20) };
    world.commit(&[connected, again, Change::AgentDisconnected { agent: AgentId(1), at: at(21) }]).await;
    assert_eq!(world.store.agents().await.expect("an answer")[0].last_disconnected, Some(at(21)));
}

fn hours(agent: u64, share: u8, second: u64) -> Change {
    let taken = [share / 2; HOURS];
    let hours = IdleHours::from_bytes(&[share; HOURS], Some(&taken), 60).expect("a share");
    Change::AgentHours { agent: AgentId(agent), hours: Box::new(hours), at: at(second) }
}

pub(super) async fn hours_of_machines_are_kept_and_the_newest_count(world: World) {
    let world = world.peopled(2).await;
    assert_eq!(world.loaded().await.hours, []);
    world.commit(&[hours(2, 10, 10), hours(1, 255, 10)]).await;
    world.commit(&[hours(2, 20, 11), hours(2, 30, 11)]).await;
    let world = world.reopened().await;
    let known = world.loaded().await.hours;
    assert_eq!(known.iter().map(|(agent, hours)| (agent.0, hours.shares()[167])).collect::<Vec<_>>(), [(1, 255), (2, 30)]);
    assert_eq!((known[1].1.taken()[167], known[1].1.clock_ahead_min), (15, 60));
    if let Some(rows) = world.backend.view("idle_hour_list").await {
        assert_eq!(rows.len(), 2 * HOURS);
    }
}

pub(super) async fn a_late_result_is_counted(world: World) {
    let world = world.peopled(1).await;
    let refused = Change::ResultRefused { attempt: attempt(77, 0, 1), agent: AgentId(1), at: at(10) };
    world.commit(&[refused.clone(), refused.clone()]).await;
    world.commit(&[refused]).await;
    assert_eq!(world.store.totals().await.expect("an answer").results_refused, 3);
}

pub(super) async fn a_crash_forgets_nothing(world: World) {
    let world = world.peopled(2).await;
    world.commit(&[submitted(1, 3), started(attempt(1, 0, 1), 1, 10), started(attempt(1, 1, 1), 2, 10)]).await;
    world.commit(&[succeeded(attempt(1, 0, 1), 1, 11, b"out"), again(attempt(1, 1, 1), 2, 11, 1)]).await;
    let before = format!("{:?}", world.loaded().await);
    let again = world.reopened().await;
    assert_eq!(format!("{:?}", again.loaded().await), before);
    assert_eq!(
        again.store.result(task(1, 0)).await.expect("an answer").map(|r| r.output),
        Some(Payload::inline(b"out".to_vec()))
    );
    let lead = super::leader(&*again.store, at(12)).await;
    assert!(lead.term > world.lead.term);
    assert_eq!(format!("{:?}", again.store.load(&lead).await.expect("the store loads").snapshot), before);
}

pub(super) async fn usage_fades_and_belongs_to_its_submitter(world: World) {
    let world = world.peopled(1).await;
    let day = 24 * 3600;
    world.commit(&[submitted_as(1, "anna", spec(1)), submitted_as(2, "ben", spec(2))]).await;
    world.commit(&[started(attempt(1, 0, 1), 1, 100), started(attempt(2, 0, 1), 1, 100)]).await;
    // What waits at its agent before it runs is not charged.
    world.commit(&[with_slot(succeeded(attempt(1, 0, 1), 1, 360, b""), 60)]).await;
    let moved = TaskAfter::Again { not_before: at(day + 100), failures: 0 };
    world.commit(&[with_slot(ended(attempt(2, 0, 1), 1, 100 + day, AttemptEnd::Evicted, moved), day)]).await;
    let usage = world.loaded().await.usage;
    assert_eq!(usage.len(), 2, "{usage:?}");
    let of = |name: &str| usage.iter().find(|(whose, _)| *whose == Some(owner(name))).expect("it is known").1;
    assert!((of("anna") - 30.0).abs() < 1.0, "a day old and worth half: {usage:?}");
    assert_eq!(of("ben"), day as f64);
}

pub(super) async fn a_large_turn_is_one_turn(world: World) {
    let world = world.peopled(1).await;
    let tasks = 4_000;
    let mut turn = vec![submitted(1, tasks)];
    for index in 0..tasks {
        turn.push(started(attempt(1, index, 1), 1, 10));
        turn.push(succeeded(attempt(1, index, 1), 1, 11, &index.to_le_bytes()));
    }
    for number in 0..1_000 {
        turn.push(submitted(2 + number, 1));
        turn.push(stopped(2 + number, JobState::Cancelled, 12));
    }
    assert!(turn.len() >= 10_000);
    world.commit(&turn).await;
    assert_eq!(world.counts(1).await, TaskCounts { succeeded: tasks, ..TaskCounts::default() });
    let results = world.store.results(JobId(1), 3_990, 100).await.expect("an answer");
    assert_eq!(results.len(), 10);
    assert_eq!(results[9].output, Payload::inline(3_999_u32.to_le_bytes().to_vec()));
    assert_eq!(world.loaded().await.jobs.len(), 1_001);
}

pub(super) async fn odd_bytes_and_texts_survive(world: World) {
    let world = world.peopled(1).await;
    let mut odd = spec(1);
    odd.name = "Übung 🦀 <&\"'> \u{202e}".into();
    odd.args = vec![String::new(), "a\0b".into(), "🦀".repeat(100), "\u{1}\u{7f}\\\"".into()];
    world.commit(&[submitted_as(1, "Ænna 🧑‍💻", odd.clone()), started(attempt(1, 0, 1), 1, 10)]).await;
    let job = world.store.job(JobId(1)).await.expect("an answer").expect("the job is there");
    assert_eq!((job.spec, job.submitter.as_str()), (odd.clone(), "Ænna 🧑‍💻"));
    let filter = JobFilter { submitter: Some("Ænna 🧑‍💻".into()), name: Some(odd.name), ..JobFilter::default() };
    assert_eq!(world.store.jobs(&filter).await.expect("an answer").len(), 1);
    let every_byte: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    let end = EndedAttempt {
        attempt: attempt(1, 0, 1),
        agent: AgentId(1),
        end: AttemptEnd::Failed,
        reason: Some(format!("NUL \0 and {}", "🦀".repeat(5_000))),
        failure: Some(Failure::Trap { message: "\0🦀".into(), backtrace: vec!["x\"\\".into(); 1_000] }),
        at: Timestamp(at(11).0 + 1),
        after: TaskAfter::Again { not_before: Timestamp(i64::MAX), failures: 1 },
        output: None,
        answer: None,
        log: Bytes::from(every_byte.clone()),
        log_dropped_bytes: u64::MAX,
        usage: Usage { wall_us: u64::MAX, cpu_us: 0, memory_peak_bytes: u64::MAX },
        slot_us: 1,
    };
    world.commit(&[Change::AttemptEnded(Box::new(end))]).await;
    let found = &world.store.attempts(task(1, 0)).await.expect("an answer")[0];
    let reason = found.reason.as_deref().expect("there is a reason");
    assert!(reason.starts_with("NUL \u{fffd} and 🦀") && reason.encode_utf16().count() <= REASON_UNITS_MAX, "{reason}");
    assert_eq!(found.ended, Some(Timestamp(at(11).0 + 1)), "microseconds count");
    assert_eq!(found.usage.map(|usage| usage.wall_us), Some(i64::MAX as u64));
    let log = world.store.log(task(1, 0), None).await.expect("an answer").expect("there is a log");
    assert_eq!((log.log.to_vec(), log.dropped_bytes), (every_byte.clone(), i64::MAX as u64));
    assert_eq!(world.store.task(task(1, 0)).await.expect("an answer").and_then(|t| t.not_before), Some(Timestamp(i64::MAX)));
    world.commit(&[started(attempt(1, 0, 2), 1, 12), succeeded(attempt(1, 0, 2), 1, 13, &every_byte)]).await;
    let result = world.store.result(task(1, 0)).await.expect("an answer").expect("there is a result");
    assert_eq!(result.output, Payload::inline(every_byte));
}

pub(super) async fn steps_that_contradict_each_other_within_a_turn_are_refused(world: World) {
    let world = world.peopled(3).await;
    world.commit(&[submitted(1, 3)]).await;
    let [first, second, third] = [1, 2, 3].map(|number| attempt(1, 0, number));
    let before = format!("{:?}", world.loaded().await);
    for turn in [
        vec![started(first, 1, 10), started(second, 1, 11)],
        vec![started(first, 1, 10), again(first, 1, 11, 1), started(third, 1, 12)],
        vec![started(attempt(1, 0, 0), 1, 10)],
        vec![started(first, 1, 10), again(first, 1, 11, 1), started_beside(second, 2, 12)],
        vec![started(first, 1, 10), started_beside(second, 2, 11), started_beside(second, 3, 12)],
        vec![started(first, 1, 10), started_beside(second, 1, 11)],
        vec![started(first, 1, 10), succeeded(first, 1, 11, b"x"), succeeded(first, 1, 12, b"x")],
        vec![started(first, 1, 10), again(first, 1, 11, 1), started(second, 1, 12), succeeded(first, 1, 13, b"x")],
        vec![started(first, 1, 10), again(first, 1, 11, 1), paused(first, None, 12)],
        vec![started(first, 1, 10), task_ended(task(1, 0), TaskState::Cancelled, 11)],
        vec![started(first, 1, 10), tasks_retried(1, &[bad_task(0, 1, TaskState::Failed)], None, 12)],
        vec![submitted(2, 1), submitted(2, 1)],
        vec![started(attempt(1, 1, 1), 1, 10)],
        vec![started(first, 1, 10), job_ended(1, JobState::Succeeded, 11)],
    ] {
        world.refused(&turn).await;
        assert_eq!(format!("{:?}", world.loaded().await), before, "{turn:?} left traces");
    }
    world.commit(&[started(first, 1, 10), started_beside(second, 2, 11), again(first, 1, 12, 0)]).await;
}
