//! The clock on the wall is set: promises by it move, everything else goes on.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, JobId},
    job::{JobSpec, Priority, RetryPolicy},
    state::{AttemptEnd, JobState},
};

use crate::{
    effect::{Change, Refusal, Reply},
    tests::support::driver::{Driver, NOON, attempt, spec},
    views::view::Obstacle,
};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_US: i64 = 3_600_000_000;

/// Sets the clock on the wall to so many hours ahead of the scheduler's time.
fn set_wall(driver: &mut Driver, hours: i64) {
    driver.scheduler.set_wall_clock(hours * HOUR_US);
    driver.pass(Duration::ZERO);
}

#[test]
fn pauses_and_leases_go_on_while_the_wall_is_put_back() {
    let mut driver = Driver::with_agents(1, 1);
    let retry = RetryPolicy { retries: 1, backoff_ms: 1_000, backoff_max_ms: 1_000 };
    driver.submit(JobSpec { retry, ..spec(1) });
    set_wall(&mut driver, -2);
    driver.fail(1, attempt(1, 0, 1));
    driver.heartbeat(1, &[]);
    driver.pass(Duration::from_millis(1_500));
    assert_eq!(driver.assigned(1), [attempt(1, 0, 2)], "a pause of a second lasts a second");
    driver.pass(Duration::from_secs(5));
    assert_eq!(driver.scheduler.agent(AgentId(1)).expect("known").connected, None, "it was silent for longer than its lease");
}

#[test]
fn a_jobs_explanation_tells_moments_by_the_wall() {
    let mut driver = Driver::with_agents(1, 1);
    let retry = RetryPolicy { retries: 1, backoff_ms: 1_000, backoff_max_ms: 1_000 };
    driver.submit(JobSpec { retry, ..spec(1) });
    driver.fail(1, attempt(1, 0, 1));
    driver.disconnect(1);
    set_wall(&mut driver, -2);
    let told = driver.scheduler.explain_job(JobId(1), driver.now).expect("an active job");
    let wall = NOON - 2 * HOUR;
    assert_eq!(told.agents[0].obstacles, [Obstacle::Away { last_heard: Some(wall) }]);
    let retried = told.retries_from.expect("it is tried again");
    assert!(retried > wall && retried <= wall + Duration::from_secs(1), "{retried}");
}

#[test]
fn finish_by_is_when_the_wall_says_so() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(JobSpec { finish_by: Some(NOON + HOUR), ..spec(1) });
    set_wall(&mut driver, -2);
    driver.now = driver.now + 2 * HOUR;
    driver.scheduler.handle_timeout(driver.now);
    assert!(driver.scheduler.job(job, driver.now).expect("it is active").stopping.is_none(), "it is noon on the wall");
    driver.pass(Duration::ZERO);
    set_wall(&mut driver, -1);
    assert!(
        driver.ledger.state(job) == JobState::Expired
            || driver.scheduler.job(job, driver.now).is_some_and(|view| view.stopping == Some(JobState::Expired))
    );
}

#[test]
fn what_is_past_on_the_wall_is_refused_and_what_is_to_come_is_not() {
    let mut driver = Driver::with_agents(1, 1);
    set_wall(&mut driver, -2);
    let at = NOON - HOUR;
    assert!(matches!(driver.try_submit("ada", JobSpec { finish_by: Some(at), ..spec(1) }), Reply::Submitted { .. }));
    set_wall(&mut driver, 0);
    assert_eq!(driver.try_submit("ada", JobSpec { finish_by: Some(at), ..spec(1) }), Reply::Refused(Refusal::FinishByPassed(at)));
}

#[test]
fn a_window_opens_and_closes_by_the_wall() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(JobSpec { window: Some("22:00-06:00".parse().expect("a window")), ..spec(1) });
    assert_eq!(driver.assigned(1), [], "it is noon");
    set_wall(&mut driver, 11);
    assert_eq!(driver.held(1), [attempt(1, 0, 1)], "it is eleven at night");
    set_wall(&mut driver, 0);
    driver.pass(HOUR / 3_600);
    assert!(driver.scheduler.job(job, driver.now).expect("it is active").waiting.is_some(), "it is noon again");
}

#[test]
fn what_is_written_down_says_what_the_wall_showed() {
    let mut driver = Driver::with_agents(1, 1);
    set_wall(&mut driver, -2);
    let job = driver.submit(spec(1));
    let at = NOON - 2 * HOUR;
    let submitted = |change: &Change| matches!(change, Change::JobSubmitted(new) if new.job == job && new.at == at);
    assert!(driver.changes.iter().any(submitted), "{:?}", driver.changes);
    driver.disconnect(1);
    assert!(driver.changes.contains(&Change::AgentDisconnected { agent: AgentId(1), at }));
    assert_eq!(driver.scheduler.agent(AgentId(1)).expect("known").last_heard, Some(at));
}

#[test]
fn jobs_are_ranked_as_they_were_submitted_though_the_wall_was_put_back_between() {
    let mut driver = Driver::new();
    let first = driver.submit(spec(1));
    set_wall(&mut driver, -2);
    let second = driver.submit(spec(1));
    let urgent = driver.submit(JobSpec { priority: Priority(5), ..spec(1) });
    driver.enrol_and_connect(1, 1);
    let mut order = Vec::new();
    while let Some(held) = driver.held(1).first().copied() {
        order.push(held.task.job);
        driver.succeed(1, &[held]);
        assert_eq!(driver.ends(), [(held, AttemptEnd::Succeeded)]);
    }
    assert_eq!(order, [urgent, first, second]);
}
