//! The way of a task when nothing goes wrong.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, JobId},
    message::Build,
    state::{AttemptEnd, Intake, JobState, TaskCounts},
};

use crate::{
    effect::{Change, Given, Order, Reply},
    tests::support::driver::{Driver, attempt, spec},
};

#[test]
fn a_task_goes_from_submission_to_result() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    let first = attempt(1, 0, 1);
    let given = Given { attempt: first, build: Build::Plain, resume: None };
    assert_eq!(driver.orders, [(AgentId(1), Order::Brief { job }), (AgentId(1), Order::Assign { attempts: vec![given] }),]);
    assert_eq!(driver.counts(job), TaskCounts { running: 1, ..Default::default() });
    driver.started(1, &[first]);
    driver.pass(Duration::from_secs(2));
    driver.succeed(1, &[first]);
    assert_eq!(driver.ends(), [(first, AttemptEnd::Succeeded)]);
    assert!(driver.changes.contains(&Change::JobEnded { job, state: JobState::Succeeded, at: driver.now }));
    assert_eq!(driver.orders, [(AgentId(1), Order::Acknowledge { attempts: vec![first] }), (AgentId(1), Order::Forget { job }),]);
}

#[test]
fn a_new_stream_is_welcomed_first() {
    let driver = Driver::with_agents(1, 1);
    assert_eq!(driver.orders, [(AgentId(1), Order::Welcome { intake: Intake::Open })]);
}

#[test]
fn a_job_waits_for_slots_and_takes_them_as_they_come_free() {
    let mut driver = Driver::with_agents(1, 2);
    let job = driver.submit(spec(5));
    assert_eq!(driver.assigned(1), [attempt(1, 0, 1), attempt(1, 1, 1)]);
    assert_eq!(driver.counts(job), TaskCounts { running: 2, queued: 3, ..Default::default() });
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), [attempt(1, 2, 1)]);
}

#[test]
fn tasks_spread_over_idle_agents_by_load() {
    let mut driver = Driver::with_agents(3, 2);
    driver.submit(spec(4));
    assert_eq!((1..=3).map(|agent| driver.assigned(agent).len()).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn an_agent_that_comes_later_gets_what_waits() {
    let mut driver = Driver::new();
    driver.submit(spec(1));
    driver.enrol_and_connect(1, 1);
    assert_eq!(driver.assigned(1), [attempt(1, 0, 1)]);
}

#[test]
fn a_million_tasks_are_submitted_as_one() {
    let mut driver = Driver::new();
    let job = driver.submit(spec(10_000_000));
    assert_eq!(driver.changes.len(), 1);
    assert_eq!(driver.counts(job).queued, 10_000_000);
}

#[test]
fn the_same_key_is_the_same_job() {
    let mut driver = Driver::new();
    let mut keyed = spec(1);
    keyed.idempotency_key = Some("tonight".into());
    let job = driver.submit(keyed.clone());
    assert_eq!(driver.try_submit("ada", keyed.clone()), Reply::Submitted { job, existing: true });
    assert_eq!(driver.try_submit("bob", keyed), Reply::Submitted { job: JobId(2), existing: false });
}
