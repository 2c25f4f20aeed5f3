//! Second copies of tasks that hold their job up.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId},
    job::RetryPolicy,
    message::{Build, RecallReason, ReleaseReason, SnapshotRef, ToCoordinator},
    state::{AttemptEnd, Intake, JobState, PauseReason, TaskCounts, TaskState},
};

use crate::{
    Limits,
    effect::{Change, Order, TaskAfter},
    event::Movable,
    tests::support::driver::{Driver, attempt, spec},
};

const SECOND: Duration = Duration::from_secs(1);

/// A job whose first four tasks took 10 s each, and whose last is with agent 1; agents 2 and 3 have free slots.
fn with_a_last_task() -> (Driver, JobId, AttemptId) {
    with_a_last_task_of(RetryPolicy { retries: 1, ..RetryPolicy::default() })
}

fn with_a_last_task_of(retry: RetryPolicy) -> (Driver, JobId, AttemptId) {
    // Nobody is taken for silent here.
    let mut driver = Driver::with(Limits {
        lease: Duration::from_secs(100_000),
        overtime_margin: Duration::from_secs(100_000),
        begin_max: Duration::from_secs(100_000),
        ..Limits::default()
    });
    driver.movable = Some(Movable { cost_percent: 110 });
    driver.enrol_and_connect(1, 1);
    let mut long = spec(5);
    long.retry = retry;
    let job = driver.submit(long);
    for index in 0..4 {
        driver.started(1, &[attempt(1, index, 1)]);
        driver.pass(10 * SECOND);
        driver.succeed_after(1, &[attempt(1, index, 1)], 10 * SECOND);
    }
    driver.started(1, &[attempt(1, 4, 1)]);
    (2..=3).for_each(|agent| driver.enrol_and_connect(agent, 1));
    (driver, job, attempt(1, 4, 1))
}

/// The same, with its second copy at agent 2.
fn with_two_copies() -> (Driver, JobId, AttemptId, AttemptId) {
    let (mut driver, job, first) = with_a_last_task();
    driver.pass(60 * SECOND);
    assert_eq!(driver.held(2), [attempt(1, 4, 2)]);
    (driver, job, first, attempt(1, 4, 2))
}

#[test]
fn a_task_that_runs_much_longer_than_others_gets_a_second_copy_elsewhere() {
    let (mut driver, job, _) = with_a_last_task();
    driver.pass(45 * SECOND);
    assert_eq!((driver.held(2), driver.held(3)), (vec![], vec![]), "not much longer yet");
    driver.pass(10 * SECOND);
    assert_eq!((driver.held(2), driver.held(3)), (vec![attempt(1, 4, 2)], vec![]));
    assert_eq!(driver.counts(job), TaskCounts { succeeded: 4, running: 1, ..Default::default() }, "it counts once");
    driver.pass(600 * SECOND);
    assert_eq!(driver.held(3), [], "two copies are enough");
}

#[test]
fn the_first_result_wins_and_the_other_copy_is_taken_back() {
    let (mut driver, job, first, second) = with_two_copies();
    driver.succeed(2, &[second]);
    assert_eq!(driver.ends(), [(first, AttemptEnd::Cancelled), (second, AttemptEnd::Succeeded)]);
    assert_eq!(driver.ended()[0].reason.as_deref(), Some("another copy finished first"));
    assert_eq!(driver.recalled(1, RecallReason::Stale), [first]);
    assert_eq!((driver.held(1), driver.ledger.state(job)), (vec![], JobState::Succeeded));
}

#[test]
fn the_result_of_the_slower_copy_is_refused_and_not_held_against_its_agent() {
    let (mut driver, job, first, second) = with_two_copies();
    driver.succeed(2, &[second]);
    driver.say(1, ToCoordinator::Paused { attempt: first, reason: None });
    driver.succeed(1, &[first]);
    driver.succeed(1, &[first]);
    assert_eq!(driver.ledger.results_refused, 1);
    driver.heartbeat(1, &[]);
    assert_eq!(driver.recalled(1, RecallReason::Stale), []);
    assert_eq!(driver.scheduler.agent(AgentId(1)).expect("known").claims_refused, 0);
    assert_eq!(driver.ledger.counts(job).succeeded, 5);
}

#[test]
fn an_agent_that_gives_the_slower_copy_back_is_honest_and_one_that_keeps_it_is_asked_again() {
    let (mut driver, _, first, second) = with_two_copies();
    driver.succeed(2, &[second]);
    driver.say(1, ToCoordinator::Heartbeat { frame_read: 0, holding: vec![first] });
    assert_eq!(driver.recalled(1, RecallReason::Stale), [], "it has not read the first asking yet");
    driver.heartbeat(1, &[first]);
    assert_eq!(driver.recalled(1, RecallReason::Stale), [first]);
    driver.say(1, ToCoordinator::Released { attempts: vec![first], reason: ReleaseReason::Recalled });
    assert_eq!(driver.scheduler.agent(AgentId(1)).expect("known").claims_refused, 1, "it had read and kept it");
}

#[test]
fn a_slower_copy_that_was_finished_on_a_broken_stream_is_refused_without_blame() {
    let (mut driver, _, first, second) = with_two_copies();
    driver.succeed(2, &[second]);
    driver.connect(1, 1, &[]);
    driver.succeed(1, &[first]);
    assert_eq!((driver.ledger.results_refused, driver.scheduler.agent(AgentId(1)).expect("known").claims_refused), (1, 0));
}

#[test]
fn a_copy_that_fails_spends_a_retry_and_the_other_goes_on() {
    let (mut driver, job, first, second) = with_two_copies();
    driver.fail(2, second);
    let after = TaskAfter::Continues { agent: AgentId(1), paused: false, failures: 1 };
    assert_eq!((driver.ended()[0].after, driver.counts(job).running), (after, 1));
    driver.fail(1, first);
    assert_eq!(driver.ended()[0].after, TaskAfter::Failed, "that was the second failure of a task with one retry");
    assert_eq!(driver.ledger.state(job), JobState::Failed);
}

#[test]
fn a_copy_that_fails_for_the_last_time_ends_the_task_and_the_other_copy() {
    let (mut driver, job, first) = with_a_last_task_of(RetryPolicy { retries: 0, ..RetryPolicy::default() });
    driver.pass(60 * SECOND);
    driver.fail(2, attempt(1, 4, 2));
    assert_eq!(driver.ends(), [(first, AttemptEnd::Cancelled), (attempt(1, 4, 2), AttemptEnd::Failed)]);
    assert_eq!(driver.ended()[0].reason.as_deref(), Some("another copy failed for the last time"));
    assert_eq!(driver.ledger.state(job), JobState::Failed);
}

#[test]
fn a_copy_that_is_lost_or_evicted_leaves_the_task_to_the_other() {
    let (mut driver, job, first, second) = with_two_copies();
    driver.heartbeat(1, &[]);
    assert_eq!(driver.ends(), [(first, AttemptEnd::Lost)]);
    assert_eq!((driver.counts(job).running, driver.scheduler.job(job, driver.now).expect("active").moved), (1, 0));
    driver.started(2, &[second]);
    driver.heartbeat(2, &[]);
    assert_eq!(driver.ends(), [(second, AttemptEnd::Lost)]);
    assert_eq!(driver.assigned(3), [attempt(1, 4, 3)], "now it is with nobody and begins again");
    driver.succeed(3, &[attempt(1, 4, 3)]);
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn a_task_whose_second_copy_ended_may_get_another() {
    let (mut driver, _, _, second) = with_two_copies();
    let reason = ReleaseReason::Evicted(PauseReason::Owner { until: None });
    driver.say(2, ToCoordinator::Released { attempts: vec![second], reason });
    driver.pass(10 * SECOND);
    assert_eq!([driver.held(2), driver.held(3)].concat(), [attempt(1, 4, 3)]);
}

#[test]
fn a_paused_attempt_gets_its_second_copy_sooner() {
    let (mut driver, _, first) = with_a_last_task();
    driver.say(1, ToCoordinator::Paused { attempt: first, reason: Some(PauseReason::Busy { cpu_percent: 80 }) });
    driver.pass(36 * SECOND);
    assert_eq!(driver.held(2), [attempt(1, 4, 2)]);
    let explained = driver.scheduler.explain(first.task, driver.now).expect("open");
    assert_eq!(explained.state, TaskState::Running, "one of its copies is");
}

#[test]
fn a_coordinator_that_takes_over_learns_anew_what_is_long() {
    let (mut driver, _, first) = with_a_last_task();
    driver.crash();
    driver.connect(1, 1, &[first]);
    (2..=3).for_each(|agent| driver.connect(agent, 1, &[]));
    driver.pass(3_600 * SECOND);
    assert_eq!((driver.held(2), driver.held(3)), (vec![], vec![]));
}

#[test]
fn nothing_gets_a_second_copy_while_other_work_waits() {
    let (mut driver, _, _) = with_a_last_task();
    driver.submit_as("bob", spec(2));
    assert_eq!((driver.held(2).len(), driver.held(3).len()), (1, 1));
    driver.pass(600 * SECOND);
    assert!(driver.held(2).iter().chain(&driver.held(3)).all(|held| held.task.job == JobId(2)));
    driver.succeed(3, &driver.held(3));
    driver.pass(10 * SECOND);
    assert_eq!(driver.held(3), [attempt(1, 4, 2)], "a slot is free");
}

#[test]
fn no_copy_goes_to_an_agent_that_takes_no_work() {
    let (mut driver, _, _) = with_a_last_task();
    driver.set_intake(2, Intake::Cordoned);
    driver.pass(60 * SECOND);
    assert_eq!((driver.held(2), driver.held(3)), (vec![], vec![attempt(1, 4, 2)]));
}

#[test]
fn nobody_knows_what_is_long_in_a_job_without_results() {
    let mut driver = Driver::with(Limits {
        lease: Duration::from_secs(100_000),
        overtime_margin: Duration::from_secs(100_000),
        begin_max: Duration::from_secs(100_000),
        ..Limits::default()
    });
    (1..=2).for_each(|agent| driver.enrol_and_connect(agent, 1));
    driver.submit(spec(1));
    driver.pass(Duration::from_secs(86_400));
    assert_eq!(driver.held(2), []);
    assert_eq!(driver.scheduler.poll_timeout().map(|at| at > driver.now), Some(true), "nothing is looked for");
}

#[test]
fn a_second_copy_goes_on_from_the_last_snapshot_and_the_one_that_is_further_is_kept() {
    let (mut driver, _, first) = with_a_last_task();
    let snapshot = |number: u8, seconds: u64| SnapshotRef { blob: BlobRef::of(&[number]), spent_us: seconds * 1_000_000 };
    driver.pass(40 * SECOND);
    driver.say(1, ToCoordinator::Saved { attempt: first, snapshot: snapshot(1, 35) });
    driver.pass(20 * SECOND);
    let resumed = driver.changes.iter().find_map(|change| match change {
        Change::AttemptStarted { resume, build: Build::Migratable, beside: true, .. } => resume.as_deref().copied(),
        _ => None,
    });
    assert_eq!(resumed, Some(snapshot(1, 35)));
    driver.say(1, ToCoordinator::Saved { attempt: first, snapshot: snapshot(2, 55) });
    driver.say(2, ToCoordinator::Saved { attempt: attempt(1, 4, 2), snapshot: snapshot(3, 40) });
    assert!(!driver.changes.iter().any(|change| matches!(change, Change::SnapshotSaved { .. })));
    driver.say(2, ToCoordinator::Saved { attempt: attempt(1, 4, 2), snapshot: snapshot(4, 900) });
    let kept = driver.changes.iter().find_map(|change| match change {
        Change::SnapshotSaved { snapshot, .. } => Some(snapshot.spent_us),
        _ => None,
    });
    assert_eq!(kept, None, "it cannot have run for so long: at most as long as since the snapshot it went on from");
}

#[test]
fn a_cancelled_job_takes_all_copies_back() {
    let (mut driver, job, first, second) = with_two_copies();
    driver.cancel(job);
    assert_eq!(
        (driver.recalled(1, RecallReason::Cancelled), driver.recalled(2, RecallReason::Cancelled)),
        (vec![first], vec![second])
    );
    driver.say(2, ToCoordinator::Released { attempts: vec![second], reason: ReleaseReason::Recalled });
    assert_eq!(driver.counts(job).running, 1);
    driver.say(1, ToCoordinator::Released { attempts: vec![first], reason: ReleaseReason::Recalled });
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
}

#[test]
fn a_coordinator_that_takes_over_knows_both_copies() {
    let (mut driver, job, first, second) = with_two_copies();
    driver.crash();
    let explained = driver.scheduler.explain(first.task, driver.now).expect("open");
    assert_eq!(explained.beside[0].cause.as_deref(), Some("the first runs for 50s and others took 10s"));
    driver.connect(1, 1, &[first]);
    driver.connect(2, 1, &[second]);
    driver.succeed(1, &[first]);
    assert_eq!(driver.ends(), [(second, AttemptEnd::Cancelled), (first, AttemptEnd::Succeeded)]);
    assert_eq!(driver.recalled(2, RecallReason::Stale), [second]);
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn it_is_explained_where_the_second_copy_is_and_why() {
    let (driver, _, first, second) = with_two_copies();
    let explained = driver.scheduler.explain(first.task, driver.now).expect("open");
    assert_eq!(explained.at.map(|at| at.attempt), Some(first));
    let [beside] = &explained.beside[..] else { panic!("one copy beside it") };
    assert_eq!((beside.attempt, beside.agent_name.as_str()), (second, "pc-2"));
    assert_eq!(beside.cause.as_deref(), Some("the first runs for 50s and others took 10s"));
}

#[test]
fn whoever_runs_the_second_copy_is_asked_first_to_keep_a_snapshot_of_the_first() {
    let (mut driver, _, first, _) = with_two_copies();
    for number in 0..8_u8 {
        let snapshot = SnapshotRef { blob: BlobRef::of(&[number]), spent_us: u64::from(number) };
        driver.say(1, ToCoordinator::Saved { attempt: first, snapshot });
        let asked: Vec<u64> =
            driver.orders.iter().filter(|(_, order)| matches!(order, Order::Keep { .. })).map(|(agent, _)| agent.0).collect();
        assert_eq!(asked, [2], "snapshot {number}");
    }
}
