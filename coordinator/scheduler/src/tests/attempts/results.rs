//! Results count once, failures are tried again, refusals go elsewhere.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, JobId},
    job::RetryPolicy,
    limits::ATTEMPTS_PER_AGENT_MAX,
    message::{RefuseReason, ToCoordinator},
    state::{AttemptEnd, Failure, JobState, TaskCounts},
};

use crate::{
    effect::{Change, Order, TaskAfter},
    event::Event,
    limits::Limits,
    tests::support::driver::{Driver, attempt, capacity, failure, spec, success},
};

const SECOND: Duration = Duration::from_secs(1);

fn acknowledged(driver: &Driver, agent: u64) -> usize {
    let acknowledges = driver.orders.iter().filter_map(|(id, order)| match order {
        Order::Acknowledge { attempts } if id.0 == agent => Some(attempts.len()),
        _ => None,
    });
    acknowledges.sum()
}

#[test]
fn a_late_result_is_refused_counted_and_acknowledged() {
    let mut driver = Driver::with_agents(2, 1);
    driver.submit(spec(1));
    driver.say(1, ToCoordinator::Farewell);
    driver.connect(1, 1, &[]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.changes, [Change::ResultRefused { attempt: attempt(1, 0, 1), agent: AgentId(1), at: driver.now }]);
    assert_eq!(acknowledged(&driver, 1), 1);
    assert_eq!(driver.held(2), [attempt(1, 0, 2)]);
}

#[test]
fn a_result_said_twice_counts_once_and_is_no_late_one() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(2));
    driver.succeed(1, &[attempt(1, 0, 1)]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!((driver.changes.len(), acknowledged(&driver, 1)), (0, 1));
    driver.connect(1, 1, &[attempt(1, 1, 1)]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!((driver.changes.len(), acknowledged(&driver, 1)), (0, 1));
    driver.heartbeat(1, &[attempt(1, 1, 1)]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ledger.results_refused, 1, "it read the acknowledgement and should know");
}

#[test]
fn what_an_agent_has_not_read_of_is_bounded_and_forgotten_as_it_reads() {
    let mut driver = Driver::with_agents(1, 1);
    let noted = |driver: &Driver| {
        let agent = driver.scheduler.fleet.get(AgentId(1)).expect("an agent");
        (agent.accepted.len(), agent.withdrawn.len())
    };
    let agent = driver.scheduler.fleet.known(AgentId(1));
    for index in 0..ATTEMPTS_PER_AGENT_MAX as u32 + 10 {
        agent.note_answered(attempt(8, index, 1));
        agent.note_withdrawn(attempt(9, index, 1));
    }
    assert_eq!(noted(&driver), (ATTEMPTS_PER_AGENT_MAX, ATTEMPTS_PER_AGENT_MAX));
    // What was to be said of them died with the stream.
    driver.connect(1, 1, &[]);
    driver.heartbeat(1, &[]);
    assert_eq!(noted(&driver), (0, 0));
    driver.submit(spec(3));
    driver.succeed(1, &[attempt(1, 0, 1)]);
    driver.succeed(1, &[attempt(1, 1, 1)]);
    assert_eq!(noted(&driver), (2, 0));
    driver.heartbeat(1, &[attempt(1, 2, 1)]);
    assert_eq!(noted(&driver), (0, 0));
    driver.succeed(1, &[attempt(1, 2, 1)]);
    driver.connect(1, 1, &[]);
    driver.heartbeat(1, &[]);
    assert_eq!(noted(&driver), (0, 0), "a new stream counts from one, and has fewer orders than the old one");
}

#[test]
fn refusals_of_an_agent_are_bounded_and_go_with_their_jobs_and_its_stream() {
    let mut driver = Driver::with(Limits { refusals_per_agent_max: 2, ..Limits::default() });
    driver.enrol_and_connect(1, 1);
    let known = |driver: &Driver| {
        driver.scheduler.fleet.get(AgentId(1)).expect("an agent").refusals.keys().map(|job| job.0).collect::<Vec<_>>()
    };
    let refuse = |driver: &mut Driver| {
        let job = driver.submit(spec(1));
        let reason = RefuseReason::Executor { reason: "it does not start".into() };
        driver.say(1, ToCoordinator::Refused { attempt: attempt(job.0, 0, 1), reason });
        driver.now = driver.now + Duration::from_millis(1);
        job
    };
    let jobs = [(); 3].map(|()| refuse(&mut driver));
    assert_eq!(known(&driver), [2, 3], "that of the first ends soonest");
    driver.cancel(jobs[1]);
    assert_eq!(known(&driver), [3]);
    driver.connect(1, 1, &[]);
    assert_eq!(known(&driver), [0; 0]);
}

#[test]
fn nobody_completes_what_is_with_another_agent() {
    let mut driver = Driver::with_agents(2, 1);
    let job = driver.submit(spec(1));
    driver.succeed(2, &[attempt(1, 0, 1), attempt(1, 0, 2), attempt(7, 7, 7)]);
    assert_eq!(driver.ledger.results_refused, 3);
    assert_eq!(driver.counts(job), TaskCounts { running: 1, ..Default::default() });
}

#[test]
fn a_failed_task_is_tried_again_after_doubling_pauses_until_its_retries_are_spent() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!((driver.assigned(1), driver.counts(job).waiting), (vec![], 1));
    driver.pass(SECOND);
    assert_eq!(driver.assigned(1), [attempt(1, 0, 2)]);
    driver.fail(1, attempt(1, 0, 2));
    driver.heartbeat(1, &[]);
    driver.pass(SECOND * 2);
    assert_eq!(driver.assigned(1), [attempt(1, 0, 3)]);
    driver.fail(1, attempt(1, 0, 3));
    assert_eq!(driver.ended()[0].after, TaskAfter::Failed);
    assert_eq!(driver.ledger.state(job), JobState::Failed);
}

#[test]
fn a_coordinator_that_takes_over_remembers_failures_and_waits_out_each_pause() {
    let mut driver = Driver::with_agents(1, 2);
    let mut once_more = spec(2);
    once_more.retry = RetryPolicy { retries: 1, ..RetryPolicy::default() };
    let job = driver.submit(once_more);
    driver.fail(1, attempt(1, 0, 1));
    driver.pass(SECOND / 2);
    driver.fail(1, attempt(1, 1, 1));
    driver.crash();
    driver.connect(1, 2, &[]);
    assert_eq!(driver.held(1), []);
    driver.pass(SECOND / 2);
    assert_eq!(driver.held(1), [attempt(1, 0, 2)]);
    driver.pass(SECOND / 2);
    assert_eq!(driver.held(1), [attempt(1, 0, 2), attempt(1, 1, 2)]);
    driver.fail(1, attempt(1, 0, 2));
    driver.fail(1, attempt(1, 1, 2));
    assert_eq!(driver.ledger.state(job), JobState::Failed, "one retry each, and no more for the takeover");
}

#[test]
fn lost_attempts_spend_no_retry() {
    let mut driver = Driver::with_agents(1, 1);
    let mut strict = spec(1);
    strict.retry = RetryPolicy { retries: 0, ..RetryPolicy::default() };
    let job = driver.submit(strict);
    for number in 1..=4 {
        assert_eq!(driver.held(1), [attempt(1, 0, number)]);
        driver.started(1, &[attempt(1, 0, number)]);
        driver.connect(1, 1, &[]);
        driver.heartbeat(1, &[]);
        assert_eq!(driver.ends(), [(attempt(1, 0, number), AttemptEnd::Lost)]);
        driver.pass(Duration::from_secs(60));
        driver.heartbeat(1, &driver.held(1));
        driver.pass(Duration::from_secs(3));
    }
    driver.succeed(1, &[attempt(1, 0, 5)]);
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn a_failure_that_may_be_the_machines_is_tried_elsewhere() {
    let mut driver = Driver::with_agents(1, 1);
    let mut eager = spec(1);
    eager.retry.backoff_ms = 0;
    driver.submit(eager);
    driver.enrol_and_connect(2, 1);
    let mut died = failure(attempt(1, 0, 1));
    died.outcome = lull_shared::message::Outcome::Failed(Failure::ExecutorDied { how: "signal 9".into() });
    driver.say(1, ToCoordinator::Finished(vec![died]));
    assert_eq!((driver.assigned(1), driver.assigned(2)), (vec![], vec![attempt(1, 0, 2)]));
}

#[test]
fn a_refused_offer_goes_elsewhere_and_the_agent_is_asked_again_later_and_later() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    for (number, pause) in [(1, 1), (2, 2), (3, 4)] {
        let disk = RefuseReason::Disk { reason: "no space".into() };
        driver.say(1, ToCoordinator::Refused { attempt: attempt(1, 0, number), reason: disk });
        assert_eq!(driver.ends(), [(attempt(1, 0, number), AttemptEnd::Recalled)]);
        assert_eq!(driver.ended()[0].reason.as_deref(), Some("its agent refused it: its disk refused: no space"));
        driver.pass(Duration::from_millis(pause * 1_000 - 1));
        assert_eq!(driver.held(1), []);
        driver.heartbeat(1, &[]);
        driver.pass(Duration::from_millis(1));
        assert_eq!(driver.held(1), [attempt(1, 0, number + 1)]);
        driver.heartbeat(1, &[attempt(1, 0, number + 1)]);
    }
    driver.enrol_and_connect(2, 1);
    let full = ToCoordinator::Refused { attempt: attempt(1, 0, 4), reason: RefuseReason::Full };
    driver.say(1, full);
    assert_eq!(driver.assigned(2), [attempt(1, 0, 5)]);
}

#[test]
fn more_memory_ends_a_refusal_for_want_of_memory() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    let memory = RefuseReason::Memory { needed_bytes: 9 << 30, free_bytes: 8 << 30 };
    driver.say(1, ToCoordinator::Refused { attempt: attempt(1, 0, 1), reason: memory });
    let mut more = capacity(1, 1);
    (more.sequence, more.memory_free_bytes) = (2, 9 << 30);
    driver.handle(Event::Capacity { capacity: more });
    assert_eq!(driver.assigned(1), [attempt(1, 0, 2)]);
}

#[test]
fn terms_that_an_agent_lost_are_sent_again() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.say(1, ToCoordinator::Refused { attempt: attempt(1, 0, 1), reason: RefuseReason::UnknownTerms });
    driver.pass(SECOND);
    assert!(driver.orders.contains(&(AgentId(1), Order::Brief { job: JobId(1) })));
}

#[test]
fn a_result_beyond_the_jobs_limits_is_cut_or_failed() {
    let mut driver = Driver::with_agents(1, 2);
    let mut tight = spec(2);
    (tight.limits.output_bytes, tight.limits.log_bytes) = (1, 4);
    driver.submit(tight);
    let mut long = failure(attempt(1, 0, 1));
    long.log = bytes::Bytes::from_static(b"0123456789");
    let large = success(attempt(1, 1, 1), SECOND);
    driver.say(1, ToCoordinator::Finished(vec![long, large]));
    let [log, output] = &driver.ended()[..] else { panic!("two ends") };
    assert_eq!((&log.log[..], log.log_dropped_bytes), (&b"6789"[..], 6));
    assert_eq!((output.end, output.failure.clone()), (AttemptEnd::Failed, Some(Failure::OutputLimit { limit_bytes: 1 })));
}

#[test]
fn too_many_failures_cancel_the_rest() {
    let mut driver = Driver::with_agents(1, 2);
    let mut fragile = spec(10);
    (fragile.failures_max, fragile.retry.retries) = (Some(2), 0);
    let job = driver.submit(fragile);
    driver.fail(1, attempt(1, 0, 1));
    driver.fail(1, attempt(1, 1, 1));
    assert!(driver.changes.iter().any(|change| matches!(change, Change::JobStopped { by, .. } if by == "failures_max")));
    assert_eq!(driver.counts(job), TaskCounts { running: 1, failed: 2, cancelled: 7, ..Default::default() });
    driver.succeed(1, &[attempt(1, 2, 1)]);
    assert_eq!(driver.ledger.state(job), JobState::Cancelled);
    assert_eq!(driver.ledger.counts(job).succeeded, 1, "what succeeds meanwhile counts");
}
