//! What concerns very many tasks goes on in parts: between them everybody has their turn, and a coordinator may die.

use std::time::Duration;

use lull_shared::{
    id::JobId,
    job::{Dependency, DependencyCondition, JobSpec},
    message::{ReleaseReason, ToCoordinator},
    state::{JobState, TaskCounts},
};

use crate::{
    effect::{Change, Refusal, Reply},
    event::Retrying,
    limits::Limits,
    tests::support::driver::{Driver, attempt, spec},
};

const TASKS: u32 = 10;
const PART: u32 = 3;

/// A scheduler with one agent that takes everything, which goes on in parts of [`PART`].
fn in_parts() -> Driver {
    let limits = Limits { effects_waiting_max: PART as usize, retry_part_max: PART, ..Limits::default() };
    let mut driver = Driver::with(limits);
    driver.looks_wait = true;
    driver.enrol_and_connect(1, TASKS as u16);
    driver
}

/// The same with a job of which every task has failed, with so many failures allowed.
fn with_failures(failures_max: Option<u32>) -> (Driver, JobId) {
    let mut driver = in_parts();
    let mut once = spec(TASKS);
    (once.retry.retries, once.failures_max) = (0, failures_max);
    let job = driver.submit(once);
    (0..TASKS).for_each(|index| driver.fail(1, attempt(1, index, 1)));
    assert_eq!(driver.ledger.counts(job), TaskCounts { failed: TASKS, ..Default::default() });
    (driver, job)
}

fn retried(driver: &Driver) -> u32 {
    let parts = driver.changes.iter().filter_map(|change| match change {
        Change::TasksRetried { tasks, .. } => Some(tasks.len() as u32),
        _ => None,
    });
    parts.sum()
}

#[test]
fn a_retry_of_many_queues_a_part_at_a_time_and_others_have_their_turn() {
    let (mut driver, job) = with_failures(None);
    assert_eq!(driver.retry(job), Reply::Done { affected: TASKS.into() }, "all of them are counted");
    assert_eq!((retried(&driver), driver.assigned(1).len()), (PART, PART as usize), "a part of them starts at once");
    assert_eq!(driver.counts(job), TaskCounts { running: PART, failed: TASKS - PART, ..Default::default() });
    let other = driver.submit(spec(1));
    assert_eq!(driver.assigned(1), [attempt(other.0, 0, 1)], "another job need not wait for the end of it");
    let mut parts = vec![PART];
    while driver.answer_look() {
        parts.push(retried(&driver));
    }
    assert_eq!(parts, [3, 3, 3, 1]);
    assert_eq!((driver.counts(job).total(), driver.counts(job).failed), (TASKS.into(), 0));
    assert_eq!(driver.ledger.retrying(job), None);
}

#[test]
fn a_takeover_in_the_middle_of_a_retry_finishes_it() {
    for parts in 0..3 {
        let (mut driver, job) = with_failures(None);
        driver.retry(job);
        for _ in 0..parts {
            assert!(driver.answer_look());
        }
        let come = PART * (parts + 1);
        assert_eq!(driver.ledger.retrying(job), Some(Retrying { from: come, forgiven: TASKS - come }));
        driver.crash();
        while driver.answer_look() {}
        assert_eq!((driver.counts(job).failed, driver.ledger.retrying(job)), (0, None));
        driver.connect(1, TASKS as u16, &[]);
        driver.pass(Duration::from_secs(1));
        let held = driver.held(1);
        assert_eq!(held.len(), TASKS as usize);
        driver.succeed(1, &held);
        assert_eq!(driver.ledger.state(job), JobState::Succeeded);
    }
}

#[test]
fn a_job_does_not_end_while_a_retry_goes_through_it() {
    let (mut driver, job) = with_failures(None);
    driver.retry(job);
    let held = driver.held(1);
    driver.succeed(1, &held);
    assert_eq!(driver.ledger.state(job), JobState::Active, "the rest is still to be queued again");
    while driver.answer_look() {
        let held = driver.held(1);
        driver.succeed(1, &held);
    }
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn a_retry_that_finds_nothing_more_ends_its_job() {
    let mut driver = in_parts();
    let mut once = spec(PART);
    once.retry.retries = 0;
    let job = driver.submit(once);
    (0..PART).for_each(|index| driver.fail(1, attempt(1, index, 1)));
    driver.retry(job);
    let held = driver.held(1);
    driver.succeed(1, &held);
    assert_eq!(driver.ledger.state(job), JobState::Active, "there may be more, as far as is known");
    assert!(driver.answer_look());
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn whoever_cancels_in_the_middle_of_a_retry_leaves_the_rest_as_it_was() {
    let (mut driver, job) = with_failures(None);
    driver.retry(job);
    let held = driver.held(1);
    assert_eq!(driver.cancel(job), Reply::Done { affected: PART.into() }, "what was not queued again had ended");
    assert!(driver.answer_look());
    assert_eq!(retried(&driver), 0, "the answer comes too late");
    driver.say(1, ToCoordinator::Released { attempts: held, reason: ReleaseReason::Recalled });
    assert_eq!(driver.ledger.counts(job), TaskCounts { failed: TASKS - PART, cancelled: PART, ..Default::default() });
    assert_eq!(driver.retry(job), Reply::Done { affected: TASKS.into() }, "it can be asked for again");
}

#[test]
fn a_retry_that_is_asked_for_again_begins_anew() {
    let (mut driver, job) = with_failures(None);
    driver.retry(job);
    let again = driver.held(1)[0];
    driver.fail(1, again);
    assert_eq!(driver.retry(job), Reply::Done { affected: u64::from(TASKS - PART) + 1 });
    assert_eq!(retried(&driver), PART);
    assert!(driver.answer_look());
    assert_eq!(retried(&driver), 0, "what was asked for the first time is of no use");
    while driver.answer_look() {}
    assert_eq!((driver.counts(job).failed, driver.held(1).len()), (0, TASKS as usize));
}

#[test]
fn failures_that_a_retry_has_yet_to_come_to_do_not_stop_the_job() {
    let (mut driver, job) = with_failures(Some(TASKS));
    driver.retry(job);
    assert_eq!(driver.counts(job).failed, TASKS - PART);
    // A takeover must not forget what is forgiven.
    driver.crash();
    while driver.answer_look() {}
    driver.connect(1, TASKS as u16, &[]);
    driver.pass(Duration::from_secs(1));
    for attempt in driver.held(1).into_iter().take(TASKS as usize - 1) {
        driver.fail(1, attempt);
        assert!(driver.counts(job).cancelled == 0, "{:?}", driver.counts(job));
    }
    let last = driver.held(1)[0];
    driver.fail(1, last);
    assert_eq!(driver.ledger.counts(job).failed, TASKS);
}

/// A job whose tasks all wait to be started again, with nobody to take them.
fn with_many_that_wait() -> (Driver, JobId) {
    let mut driver = in_parts();
    let job = driver.submit(spec(TASKS));
    driver.say(1, ToCoordinator::Farewell);
    driver.disconnect(1);
    assert_eq!(driver.counts(job), TaskCounts { queued: TASKS, ..Default::default() });
    (driver, job)
}

#[test]
fn a_cancelled_job_of_many_ends_a_part_at_a_time() {
    let (mut driver, job) = with_many_that_wait();
    driver.most_changes = 0;
    assert_eq!(driver.cancel(job), Reply::Done { affected: TASKS.into() }, "all of them are counted");
    assert_eq!(driver.ledger.state(job), JobState::Active);
    assert!(driver.counts(job).cancelled > 0 && driver.counts(job).cancelled < TASKS);
    let other = driver.submit(spec(1));
    assert_eq!(driver.counts(other).queued, 1, "another job need not wait for the end of it");
    driver.pass(Duration::ZERO);
    assert_eq!(driver.ledger.counts(job), TaskCounts { cancelled: TASKS, ..Default::default() });
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
    assert!(driver.most_changes <= PART as usize + 1, "{} changes in one turn", driver.most_changes);
}

#[test]
fn a_takeover_in_the_middle_of_a_cancellation_finishes_it() {
    let (mut driver, job) = with_many_that_wait();
    driver.cancel(job);
    driver.crash();
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
}

#[test]
fn a_retry_in_the_middle_of_a_cancellation_undoes_it() {
    let (mut driver, job) = with_many_that_wait();
    driver.cancel(job);
    let cancelled = driver.counts(job).cancelled;
    assert_eq!(driver.retry(job), Reply::Done { affected: cancelled.into() });
    while driver.answer_look() {}
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.counts(job), TaskCounts { queued: TASKS, ..Default::default() });
    assert_eq!(driver.retry(job), Reply::Refused(Refusal::RetriedAlready(job)));
}

#[test]
fn a_job_of_many_expires_a_part_at_a_time() {
    let mut driver = in_parts();
    let mut timed = spec(TASKS);
    timed.finish_by = Some(driver.now + Duration::from_secs(60));
    let job = driver.submit(timed);
    driver.say(1, ToCoordinator::Farewell);
    driver.disconnect(1);
    driver.most_changes = 0;
    driver.pass(Duration::from_secs(61));
    assert_eq!(driver.ledger.state(job), JobState::Expired);
    assert_eq!(driver.ledger.counts(job).expired, TASKS);
    assert!(driver.most_changes <= PART as usize + 1, "{} changes in one turn", driver.most_changes);
}

/// A job that fails with its only task, and so many that need it to succeed, of which one is needed by yet another.
fn with_many_dependants() -> (Driver, JobId, Vec<JobId>) {
    let mut driver = in_parts();
    let mut once = spec(1);
    once.retry.retries = 0;
    let job = driver.submit(once);
    let after = |job| JobSpec { after: vec![Dependency { job, condition: DependencyCondition::Ok }], ..spec(2) };
    let mut dependants: Vec<JobId> = (0..TASKS).map(|_| driver.submit(after(job))).collect();
    dependants.push(driver.submit(after(dependants[0])));
    driver.most_changes = 0;
    (driver, job, dependants)
}

fn end_as(driver: &Driver, jobs: &[JobId], state: JobState) -> bool {
    jobs.iter().all(|job| driver.ledger.state(*job) == state)
}

#[test]
fn the_jobs_that_need_one_that_fails_stop_a_part_at_a_time() {
    let (mut driver, job, dependants) = with_many_dependants();
    driver.fail(1, attempt(job.0, 0, 1));
    assert_eq!(driver.ledger.state(job), JobState::Active, "it ends when all of them are stopped");
    driver.pass(Duration::ZERO);
    assert_eq!(driver.ledger.state(job), JobState::Failed);
    assert!(end_as(&driver, &dependants, JobState::Cancelled));
    // Each of a part is stopped, and ends.
    assert!(driver.most_changes <= 2 * PART as usize, "{} changes in one turn", driver.most_changes);
}

#[test]
fn a_takeover_while_dependants_stop_finishes_it() {
    let (mut driver, job, dependants) = with_many_dependants();
    driver.fail(1, attempt(job.0, 0, 1));
    for _ in 0..TASKS {
        driver.crash();
    }
    driver.pass(Duration::ZERO);
    assert_eq!(driver.ledger.state(job), JobState::Failed);
    assert!(end_as(&driver, &dependants, JobState::Cancelled));
}

#[test]
fn a_retry_while_dependants_stop_leaves_the_rest_of_them_waiting() {
    let (mut driver, job, dependants) = with_many_dependants();
    driver.fail(1, attempt(job.0, 0, 1));
    assert_eq!(driver.retry(job), Reply::Done { affected: 1 });
    while driver.answer_look() {}
    driver.pass(Duration::ZERO);
    let waiting = dependants.iter().filter(|job| driver.ledger.state(**job) == JobState::Active).count();
    assert!(waiting > 0 && waiting < dependants.len(), "{waiting} of {}", dependants.len());
    driver.succeed(1, &[attempt(job.0, 0, 2)]);
    driver.pass(Duration::ZERO);
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
    let held = driver.held(1);
    assert!(!held.is_empty(), "those that were left begin");
}
