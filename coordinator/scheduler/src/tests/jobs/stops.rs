//! Cancelling, expiring, waiting for others, windows, and trying again.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, JobId},
    job::DependencyCondition::{Any, Ok},
    message::{RecallReason, ReleaseReason, ToCoordinator},
    state::{AttemptEnd, Intake, JobState, Part, TaskCounts, Trouble, WaitReason},
};

use crate::{
    effect::{Change, Order, Refusal, Reply},
    limits::Limits,
    tests::support::driver::{Driver, NOON, after, attempt, spec},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn release(driver: &mut Driver, agent: u64, attempts: &[lull_shared::id::AttemptId]) {
    driver.say(agent, ToCoordinator::Released { attempts: attempts.to_vec(), reason: ReleaseReason::Recalled });
}

/// Passes time with an agent that keeps saying what it holds.
fn pass_alive(driver: &mut Driver, agent: u64, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(2 * SECOND);
        driver.pass(step);
        let held = driver.held(agent);
        driver.heartbeat(agent, &held);
        left -= step;
    }
}

#[test]
fn a_cancelled_job_ends_when_nothing_of_it_runs() {
    let mut driver = Driver::with_agents(1, 2);
    let job = driver.submit(spec(5));
    driver.started(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.cancel(job), Reply::Done { affected: 5 });
    assert_eq!(driver.recalled(1, RecallReason::Cancelled), [attempt(1, 0, 1), attempt(1, 1, 1)]);
    assert_eq!(driver.counts(job), TaskCounts { running: 2, cancelled: 3, ..Default::default() });
    assert_eq!(driver.changes.len(), 1, "tasks that never started end without a word each");
    assert_eq!(driver.cancel(job), Reply::Done { affected: 0 });
    release(&mut driver, 1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Cancelled)]);
    driver.succeed(1, &[attempt(1, 1, 1)]);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
    assert_eq!(driver.ledger.counts(job), TaskCounts { succeeded: 1, cancelled: 4, ..Default::default() });
    assert!(driver.orders.contains(&(AgentId(1), Order::Forget { job })));
    assert_eq!(driver.cancel(job), Reply::Refused(Refusal::NoJob(job)));
}

#[test]
fn trouble_of_a_machine_ends_what_was_cancelled_and_begins_nothing_anew() {
    let mut driver = Driver::with_agents(2, 1);
    let job = driver.submit(spec(1));
    let agent = if driver.held(1).is_empty() { 2 } else { 1 };
    driver.started(agent, &[attempt(1, 0, 1)]);
    driver.cancel(job);
    let reason = ReleaseReason::Trouble(Trouble::new(Part::Scratch, "no space left"));
    driver.say(agent, ToCoordinator::Released { attempts: vec![attempt(1, 0, 1)], reason });
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Cancelled)]);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
    assert!(driver.held(1).is_empty() && driver.held(2).is_empty());
}

#[test]
fn a_cancellation_is_sent_although_a_drain_has_asked_for_the_attempt_before() {
    let mut driver = Driver::with_agents(1, 2);
    let job = driver.submit(spec(2));
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.set_intake(1, Intake::Draining);
    assert_eq!(driver.recalled(1, RecallReason::Drain), [attempt(1, 1, 1)]);
    // The agent may have started it meanwhile, and gives back to a drain only what it has not.
    driver.cancel(job);
    assert_eq!(driver.recalled(1, RecallReason::Cancelled), [attempt(1, 0, 1), attempt(1, 1, 1)]);
    release(&mut driver, 1, &[attempt(1, 0, 1), attempt(1, 1, 1)]);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
}

#[test]
fn a_cancelled_job_ends_with_the_agent_that_had_its_last_attempt() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.cancel(job);
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Cancelled)]);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
}

#[test]
fn a_recall_survives_the_stream_and_the_coordinator() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.cancel(job);
    driver.crash();
    driver.connect(1, 1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.recalled(1, RecallReason::Cancelled), [attempt(1, 0, 1)]);
    driver.connect(1, 1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.recalled(1, RecallReason::Cancelled), [attempt(1, 0, 1)]);
    release(&mut driver, 1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
}

#[test]
fn tasks_that_wait_for_a_retry_are_cancelled_one_by_one() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.fail(1, attempt(1, 0, 1));
    driver.cancel(job);
    assert!(matches!(driver.changes[..], [Change::JobStopped { .. }, Change::TaskEnded { .. }, Change::JobEnded { .. }]));
}

#[test]
fn a_failure_of_a_cancelled_job_is_not_tried_again() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.cancel(job);
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!(driver.ledger.counts(job), TaskCounts { cancelled: 1, ..Default::default() });
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
}

#[test]
fn what_is_not_finished_by_its_time_expires() {
    let mut driver = Driver::with_agents(1, 1);
    let mut timed = spec(3);
    timed.finish_by = Some(NOON + 10 * SECOND);
    let job = driver.submit(timed.clone());
    pass_alive(&mut driver, 1, 8 * SECOND);
    driver.pass(2 * SECOND);
    assert_eq!(driver.counts(job), TaskCounts { running: 1, expired: 2, ..Default::default() });
    assert_eq!(driver.recalled(1, RecallReason::Cancelled), [attempt(1, 0, 1)]);
    release(&mut driver, 1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ledger.state(job), JobState::Expired);
    assert_eq!(driver.ledger.counts(job).expired, 3);
    assert_eq!(driver.try_submit("ada", timed), Reply::Refused(Refusal::FinishByPassed(NOON + 10 * SECOND)));
}

#[test]
fn a_dependant_waits_and_then_runs() {
    let mut driver = Driver::with_agents(1, 1);
    let first = driver.submit(spec(1));
    let second = driver.submit(after(spec(1), 1, Ok));
    let view = driver.scheduler.job(second, driver.now).expect("active");
    assert_eq!(view.waiting, Some(WaitReason::Dependency { jobs: vec![first] }));
    assert_eq!((view.counts.waiting, view.counts.queued), (1, 0));
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), [attempt(2, 0, 1)]);
    assert_eq!(driver.try_submit("ada", after(spec(1), 1, Ok)), Reply::Submitted { job: JobId(3), existing: false });
}

#[test]
fn a_long_chain_of_dependants_is_cancelled_to_its_end() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    for job in 1..300 {
        driver.submit(after(spec(1), job, Ok));
    }
    driver.submit(after(spec(1), 300, Any));
    driver.cancel(JobId(1));
    release(&mut driver, 1, &[attempt(1, 0, 1)]);
    assert!((1..=300).all(|job| driver.ledger.state(JobId(job)) == JobState::Cancelled));
    assert_eq!(driver.assigned(1), [attempt(301, 0, 1)], "it runs however the others ended");
}

#[test]
fn a_dependency_that_cannot_come_true_is_refused() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.cancel(job);
    driver.say(1, ToCoordinator::Farewell);
    let refusal = Refusal::DependencyFailed { job, state: JobState::Cancelled };
    assert_eq!(driver.try_submit("ada", after(spec(1), 1, Ok)), Reply::Refused(refusal));
    assert_eq!(driver.try_submit("ada", after(spec(1), 9, Any)), Reply::Refused(Refusal::NoJob(JobId(9))));
    assert!(matches!(driver.try_submit("ada", after(spec(1), 1, Any)), Reply::Submitted { .. }));
}

#[test]
fn a_job_waits_for_its_window_and_starts_nothing_after_it() {
    let mut driver = Driver::with(Limits { overtime_margin: 24 * HOUR, begin_max: 24 * HOUR, ..Limits::default() });
    driver.enrol_and_connect(1, 2);
    let mut nightly = spec(3);
    nightly.window = Some("22:00-06:00 UTC".parse().expect("a window"));
    let job = driver.submit(nightly);
    let opens = NOON + 10 * HOUR;
    assert_eq!(driver.scheduler.job(job, driver.now).expect("active").waiting, Some(WaitReason::Window { opens: Some(opens) }));
    assert_eq!(driver.counts(job), TaskCounts { waiting: 3, ..Default::default() });
    pass_alive(&mut driver, 1, 10 * HOUR);
    assert_eq!(driver.held(1).len(), 2);
    driver.started(1, &[attempt(1, 0, 1)]);
    pass_alive(&mut driver, 1, 8 * HOUR - SECOND);
    driver.pass(SECOND);
    assert_eq!(driver.recalled(1, RecallReason::Window), [attempt(1, 1, 1)], "what runs goes on");
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), []);
    release(&mut driver, 1, &[attempt(1, 1, 1)]);
    assert_eq!(driver.counts(job), TaskCounts { waiting: 2, succeeded: 1, ..Default::default() });
}

#[test]
fn an_ended_job_is_tried_again_with_its_failures_forgiven() {
    let mut driver = Driver::with_agents(1, 1);
    let mut fragile = spec(3);
    (fragile.failures_max, fragile.retry.retries) = (Some(1), 0);
    let job = driver.submit(fragile);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    driver.fail(1, attempt(1, 1, 1));
    assert_eq!(driver.ledger.counts(job), TaskCounts { succeeded: 1, failed: 1, cancelled: 1, ..Default::default() });
    assert_eq!(driver.retry(job), Reply::Done { affected: 2 });
    assert_eq!(driver.assigned(1), [attempt(1, 1, 2)]);
    driver.succeed(1, &[attempt(1, 1, 2)]);
    driver.succeed(1, &[attempt(1, 2, 1)]);
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
    assert_eq!(driver.retry(job), Reply::Refused(Refusal::NothingToRetry(job)));
}

#[test]
fn a_retry_undoes_a_cancellation_that_is_under_way() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(3));
    driver.cancel(job);
    assert_eq!(driver.retry(job), Reply::Done { affected: 2 });
    release(&mut driver, 1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Recalled)]);
    assert_eq!(driver.counts(job), TaskCounts { running: 1, queued: 2, ..Default::default() });
    assert_eq!(driver.assigned(1), [attempt(1, 0, 2)]);
}

#[test]
fn a_retry_of_what_still_fails_concerns_only_what_has_failed() {
    let mut driver = Driver::with_agents(1, 2);
    let mut once = spec(2);
    once.retry.retries = 0;
    let job = driver.submit(once);
    assert_eq!(driver.retry(job), Reply::Refused(Refusal::NothingToRetry(job)));
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!(driver.retry(job), Reply::Done { affected: 1 });
    assert_eq!(driver.held(1), [attempt(1, 0, 2), attempt(1, 1, 1)]);
}

#[test]
fn a_job_that_is_retried_is_waited_for_again_whoever_leads() {
    for takeover in [false, true] {
        let mut driver = Driver::new();
        driver.enrol_and_connect(1, 1);
        let mut once = spec(1);
        once.retry.retries = 0;
        let first = driver.submit(once);
        let second = driver.submit(after(spec(2), first.0, Any));
        driver.fail(1, attempt(first.0, 0, 1));
        assert_eq!(driver.held(1), [attempt(second.0, 0, 1)], "it has ended, however that was");
        driver.retry(first);
        if takeover {
            driver.crash();
            driver.connect(1, 1, &[attempt(second.0, 0, 1)]);
        }
        driver.succeed(1, &[attempt(second.0, 0, 1)]);
        assert_eq!(driver.held(1), [attempt(first.0, 0, 2)], "what ran went on, and nothing more of it begins");
        driver.succeed(1, &[attempt(first.0, 0, 2)]);
        assert_eq!(driver.held(1), [attempt(second.0, 1, 1)]);
        driver.succeed(1, &[attempt(second.0, 1, 1)]);
        assert_eq!(driver.ledger.state(second), JobState::Succeeded);
    }
}
