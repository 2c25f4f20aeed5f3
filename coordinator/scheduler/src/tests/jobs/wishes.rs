//! What a submitter may ask for: tasks at once, failures that end a task, exit codes, retries; and what it is charged.

use std::time::Duration;

use lull_shared::{
    codes::ExitCodes,
    digest::Digest,
    id::AttemptId,
    job::{DependencyCondition, FailureClass, JobSpec, RetryPolicy},
    message::{Outcome, ToCoordinator},
    state::{AttemptEnd, Failure, JobState, TaskState, WaitReason},
};

use crate::{
    effect::{Refusal, Reply, TaskAfter},
    tests::support::driver::{Driver, NOON, after, attempt, failure, spec},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A job whose failed tasks are tried again at once.
fn eager(count: u32, retries: u32) -> JobSpec {
    JobSpec { retry: RetryPolicy { retries, backoff_ms: 0, backoff_max_ms: 0 }, ..spec(count) }
}

fn fail_with(driver: &mut Driver, agent: u64, attempt: AttemptId, with: Failure) {
    let result = lull_shared::message::Finished { outcome: Outcome::Failed(with), ..failure(attempt) };
    driver.say(agent, ToCoordinator::Finished(vec![result]));
}

#[test]
fn no_more_tasks_than_asked_for_are_with_agents_at_once() {
    let mut driver = Driver::with_agents(2, 4);
    let job = driver.submit(JobSpec { at_once: Some(3), ..spec(10) });
    assert_eq!(driver.counts(job).running, 3);
    let waiting = driver.scheduler.explain(attempt(1, 9, 1).task, driver.now).expect("it waits");
    assert_eq!((waiting.state, waiting.waiting), (TaskState::Queued, Some(WaitReason::AtOnce { tasks: 3 })));
    let others = driver.submit(spec(5));
    assert_eq!(driver.counts(others).running, 5, "the other slots are for others");
    for index in 0..10 {
        let agent = (1..=2).find(|agent| driver.held(*agent).contains(&attempt(1, index, 1))).expect("it runs");
        assert!(driver.counts(job).running <= 3);
        driver.succeed(agent, &[attempt(1, index, 1)]);
    }
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn short_tasks_of_which_few_may_run_at_once_do_not_wait_at_agents() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(JobSpec { at_once: Some(5), ..spec(100) });
    for index in 0..20 {
        assert_eq!(driver.held(1), [attempt(1, index, 1)]);
        driver.succeed_after(1, &[attempt(1, index, 1)], MILLISECOND);
    }
}

#[test]
fn a_failure_that_no_retry_can_mend_is_not_tried_again() {
    let fail_fast_on = vec![FailureClass::Trap, FailureClass::Exit(Some(2))];
    let mut driver = Driver::with_agents(1, 4);
    let job = driver.submit(JobSpec { fail_fast_on, ..eager(4, 5) });
    fail_with(&mut driver, 1, attempt(1, 0, 1), Failure::Exit { code: 2 });
    assert_eq!(driver.ended()[0].after, TaskAfter::Failed);
    fail_with(&mut driver, 1, attempt(1, 1, 1), Failure::Trap { message: "unreachable".into(), backtrace: Vec::new() });
    assert_eq!(driver.ended()[0].after, TaskAfter::Failed);
    fail_with(&mut driver, 1, attempt(1, 2, 1), Failure::Exit { code: 3 });
    assert!(matches!(driver.ended()[0].after, TaskAfter::Again { failures: 1, .. }));
    assert_eq!(driver.counts(job).failed, 2);
}

#[test]
fn a_code_that_means_success_is_no_failure_whatever_an_agent_says() {
    let exit_codes: ExitCodes = "0,3-5".parse().expect("codes");
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(JobSpec { exit_codes, ..eager(1, 1) });
    fail_with(&mut driver, 1, attempt(1, 0, 1), Failure::Exit { code: 4 });
    let ended = &driver.ended()[0];
    assert!(matches!(ended.failure, Some(Failure::BadModule { .. })), "{ended:?}");
}

#[test]
fn another_request_under_the_same_key_is_refused() {
    let mut driver = Driver::with_agents(1, 1);
    let keyed =
        |request: &[u8]| JobSpec { idempotency_key: Some("nightly".into()), request: Some(Digest::of(request)), ..spec(1) };
    let job = driver.submit(keyed(b"this"));
    assert_eq!(driver.try_submit("ada", keyed(b"this")), Reply::Submitted { job, existing: true });
    assert_eq!(driver.try_submit("ada", keyed(b"that")), Reply::Refused(Refusal::KeyTaken { job }));
    assert!(matches!(driver.try_submit("bob", keyed(b"that")), Reply::Submitted { existing: false, .. }));
}

#[test]
fn a_retried_task_goes_to_another_agent_than_the_one_where_it_failed() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(eager(1, 0));
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!(driver.ledger.state(job), JobState::Failed);
    // The other one is worse by any other measure: it is busy to a half.
    driver.enrol_and_connect(2, 2);
    let busy = driver.submit_as("bob", spec(2));
    let there = (0..2).map(|index| attempt(busy.0, index, 1)).find(|attempt| driver.held(1).contains(attempt)).expect("one");
    driver.succeed(1, &[there]);
    assert_eq!((driver.held(1).len(), driver.held(2).len()), (0, 1));
    assert_eq!(driver.retry(job), Reply::Done { affected: 1 });
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
}

#[test]
fn a_retried_task_goes_back_to_where_it_failed_rather_than_wait() {
    let mut driver = Driver::with_agents(1, 2);
    let job = driver.submit(eager(3, 0));
    for index in 0..3 {
        driver.fail(1, attempt(1, index, 1));
    }
    driver.enrol_and_connect(2, 1);
    driver.retry(job);
    assert_eq!((driver.held(1).len(), driver.held(2).len()), (2, 1), "nothing waits for an agent that is busy");
    let at_two = driver.held(2)[0];
    let at_one = driver.held(1)[0];
    driver.succeed(1, &[at_one]);
    driver.succeed(2, &[at_two]);
    assert_eq!(driver.counts(job).succeeded, 2);
}

#[test]
fn a_task_that_fails_is_tried_again_elsewhere_if_there_is_room() {
    let mut driver = Driver::with_agents(2, 2);
    driver.submit(eager(1, 3));
    let first = if driver.held(1).is_empty() { 2 } else { 1 };
    driver.fail(first, attempt(1, 0, 1));
    assert_eq!(driver.held(3 - first), [attempt(1, 0, 2)]);
    driver.fail(3 - first, attempt(1, 0, 2));
    assert_eq!(driver.held(first), [attempt(1, 0, 3)]);
}

#[test]
fn a_retry_honours_what_the_job_waits_for() {
    let mut driver = Driver::with_agents(1, 1);
    let first = driver.submit(eager(1, 0));
    let second = driver.submit(after(spec(1), 1, DependencyCondition::Ok));
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!((driver.ledger.state(first), driver.ledger.state(second)), (JobState::Failed, JobState::Cancelled));
    let refused = Refusal::DependencyFailed { job: first, state: JobState::Failed };
    assert_eq!(driver.retry(second), Reply::Refused(refused));

    driver.retry(first);
    assert_eq!(driver.retry(second), Reply::Done { affected: 1 });
    let view = driver.scheduler.job(second, driver.now).expect("active");
    assert_eq!(view.waiting, Some(WaitReason::Dependency { jobs: vec![first] }), "it may succeed now");
    driver.succeed(1, &[attempt(1, 0, 2)]);
    assert_eq!(driver.assigned(1), [attempt(2, 0, 1)]);
}

#[test]
fn a_cancelled_job_that_is_retried_waits_for_what_it_waited_for() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let second = driver.submit(after(spec(1), 1, DependencyCondition::Any));
    let third = driver.submit(after(spec(1), 1, DependencyCondition::Any));
    driver.cancel(second);
    assert_eq!(driver.retry(second), Reply::Done { affected: 1 });
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), [attempt(second.0, 0, 1)]);
    driver.succeed(1, &[attempt(second.0, 0, 1)]);
    assert_eq!(driver.assigned(1), [attempt(third.0, 0, 1)]);
}

#[test]
fn an_expired_job_runs_again_with_a_new_moment_to_finish_by() {
    let mut driver = Driver::new();
    let job = driver.submit(JobSpec { finish_by: Some(NOON + SECOND), ..spec(2) });
    driver.pass(2 * SECOND);
    assert_eq!(driver.ledger.state(job), JobState::Expired);
    assert_eq!(driver.retry(job), Reply::Refused(Refusal::Overdue(NOON + SECOND)));
    assert_eq!(driver.retry_by(job, Some(NOON)), Reply::Refused(Refusal::FinishByPassed(NOON)));
    let later = NOON + 60 * SECOND;
    assert_eq!(driver.retry_by(job, Some(later)), Reply::Done { affected: 2 });
    driver.enrol_and_connect(1, 2);
    assert_eq!(driver.counts(job).running, 2);
    driver.crash();
    driver.pass(60 * SECOND);
    let stopping = driver.scheduler.job(job, driver.now).and_then(|view| view.stopping);
    assert!(stopping == Some(JobState::Expired) || driver.ledger.state(job) == JobState::Expired, "it holds after a crash too");
}

#[test]
fn what_waits_at_an_agent_is_not_charged_and_agents_have_no_more_than_their_slots() {
    for claimed in [None, Some(Duration::from_secs(3_600))] {
        let mut driver = Driver::with_agents(1, 1);
        driver.submit(spec(2_000));
        let mut most_held = 0;
        for index in 0..2_000 {
            most_held = most_held.max(driver.held(1).len());
            driver.pass(MILLISECOND);
            driver.succeed_after(1, &[attempt(1, index, 1)], claimed.unwrap_or(MILLISECOND));
            let heard: Vec<_> = driver.held(1);
            driver.heartbeat(1, &heard);
        }
        let taken = driver.now.since(NOON).as_micros();
        assert!(most_held > 50, "short tasks wait at their agent: {most_held}");
        assert!(driver.ledger.slot_us <= taken, "{} us were charged of {taken}", driver.ledger.slot_us);
        assert!(driver.ledger.slot_us >= taken * 9 / 10, "{} us were charged of {taken}", driver.ledger.slot_us);
    }
}

#[test]
fn what_an_agent_gives_back_before_it_ran_costs_nothing() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1_000));
    for index in 0..20 {
        driver.pass(MILLISECOND);
        driver.succeed_after(1, &[attempt(1, index, 1)], MILLISECOND);
    }
    let charged = driver.ledger.slot_us;
    let held = driver.held(1);
    assert!(held.len() > 10, "{held:?}");
    driver.pass(SECOND);
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(driver.ledger.ends.get(&AttemptEnd::Evicted).copied().unwrap_or_default() as usize, held.len());
    let more = driver.ledger.slot_us - charged;
    assert!(more <= 2 * SECOND.as_micros(), "{more} us for {} attempts of which one ran", held.len());
}
