//! A restored store: agents know what it does not.

use std::time::Duration;

use lull_shared::id::{AgentId, AttemptId, JobId};

use crate::{
    tests::support::driver::{Driver, attempt, spec},
    views::view::Obstacle,
};

/// A scheduler on a store that was copied after so many jobs, while agent 1 has an attempt of a job beyond.
fn restored(agents: u64, known: u32, held: AttemptId) -> Driver {
    let mut driver = Driver::new();
    (1..=agents).for_each(|agent| driver.enrol(agent));
    for _ in 0..known {
        driver.submit(spec(1));
    }
    driver.connect(1, 1, &[held]);
    driver
}

#[test]
fn a_number_that_an_agent_knows_is_never_given_again() {
    let mut driver = restored(1, 2, attempt(4, 0, 1));
    assert_eq!([driver.submit(spec(1)), driver.submit(spec(1))], [JobId(3), JobId(5)]);
    assert_eq!(driver.scheduler.last_job(), 5);
    driver.heartbeat(1, &[attempt(u64::MAX, 0, 1), attempt(6, 1, 1), attempt(7, 0, 1), attempt(1, 0, 9)]);
    assert_eq!(driver.submit(spec(1)), JobId(8), "whoever names the last number there is ends nothing");
    driver.crash();
    assert_eq!(driver.submit(spec(1)), JobId(9), "what was left out stays left out");
}

#[test]
fn an_old_result_does_not_count_for_a_job_that_came_to_have_its_number() {
    // The laptop comes back when its number has been given already.
    let mut driver = Driver::new();
    driver.enrol(1);
    let job = driver.submit(spec(1));
    let old = attempt(job.0, 0, 1);
    driver.connect(1, 1, &[old]);
    assert_eq!(driver.held(1), [], "it is given nothing of the job before it has dropped what it has of it");
    driver.succeed(1, &[old]);
    assert_eq!((driver.held(1), driver.ledger.results_refused), (vec![], 1));
    let explained = driver.scheduler.explain(old.task, driver.now).expect("an open task");
    let told = "it still has j1.0#1, which this coordinator's store does not know";
    assert!(
        matches!(&explained.agents[0].obstacles[..], [Obstacle::Refused { reason, .. }] if reason == told),
        "{:?}",
        explained.agents
    );
    for _ in 0..12 {
        driver.pass(Duration::from_millis(500));
        driver.heartbeat(1, &driver.held(1));
    }
    assert_eq!(driver.held(1), [old], "now that it has nothing of it, the number is new to it");
    driver.succeed(1, &[old]);
    assert!(driver.ledger.state(job).is_ended());
}

#[test]
fn an_agent_that_keeps_naming_what_it_should_not_have_is_kept_away_and_no_other() {
    let mut driver = Driver::new();
    driver.enrol(1);
    let job = driver.submit(spec(2));
    let old = attempt(job.0, 1, 3);
    driver.connect(1, 2, &[old]);
    for _ in 0..30 {
        driver.pass(Duration::from_millis(500));
        driver.heartbeat(1, &[old]);
        assert_eq!(driver.held(1), []);
    }
    driver.enrol_and_connect(2, 2);
    assert_eq!(driver.held(2).len(), 2);
    assert!(driver.scheduler.agent(AgentId(1)).is_some());
}
