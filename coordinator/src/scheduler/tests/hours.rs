//! When machines were there for work, and what follows for where tasks go.

use std::time::Duration;

use lull_shared::{id::AgentId, message::Build};

use super::super::{
    driver::{Driver, attempt, spec},
    effect::Change,
    event::Movable,
    history::{HOURS, IdleHours},
    limits::Limits,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Nobody need give signs of life.
fn driver() -> Driver {
    Driver::with(Limits { lease: 1_000 * HOUR, ..Limits::default() })
}

/// A machine that was always there until so many hours after Monday's noon, and never after.
fn until(hours: usize) -> IdleHours {
    let shares: [u8; HOURS] = std::array::from_fn(|hour| if hour < 12 + hours { 200 } else { 0 });
    IdleHours::from_bytes(&shares, 0).expect("shares")
}

/// A scheduler that has loaded such hours of agents with one slot each, on Monday at noon.
fn with_hours(known: &[IdleHours]) -> Driver {
    let mut driver = driver();
    for (agent, hours) in (1..).zip(known) {
        driver.enrol(agent);
        driver.ledger.hours.insert(AgentId(agent), hours.clone());
    }
    driver.crash();
    (1..).zip(known).for_each(|(agent, _)| driver.connect(agent, 1, &[]));
    driver
}

fn builds(driver: &Driver) -> Vec<(u64, Build)> {
    let started = driver.changes.iter().filter_map(|change| match change {
        Change::AttemptStarted { agent, build, .. } => Some((agent.0, *build)),
        _ => None,
    });
    started.collect()
}

#[test]
fn hours_are_written_down_once_an_hour_and_survive_a_crash() {
    let mut driver = driver();
    driver.enrol_and_connect(1, 2);
    driver.pass(HOUR * 5 / 2);
    let written = driver.changes.iter().filter(|change| matches!(change, Change::AgentHours { .. }));
    assert_eq!(written.count(), 1, "noon's hour was not watched from its beginning");
    driver.crash();
    let hours = driver.scheduler.idle_hours(AgentId(1)).expect("one hour is known");
    assert_eq!((hours.share(12), hours.share(13), hours.share(14)), (None, Some(1.0), None));
}

#[test]
fn an_agent_that_went_away_was_not_there() {
    let mut driver = driver();
    driver.enrol_and_connect(1, 2);
    driver.pass(HOUR);
    driver.disconnect(1);
    driver.pass(HOUR * 3);
    let hours = driver.scheduler.idle_hours(AgentId(1)).expect("hours are known");
    assert_eq!(hours.share(14), Some(0.0));
}

#[test]
fn a_task_runs_plain_where_it_will_be_left_alone_and_so_that_it_can_be_moved_where_not() {
    let mut driver = with_hours(&[until(24), until(1)]);
    driver.movable = Some(Movable { cost_percent: 110 });
    driver.submit(spec(4));
    driver.pass(HOUR);
    driver.succeed_after(1, &[attempt(1, 0, 1)], HOUR);
    assert_eq!(builds(&driver), [(1, Build::Plain)]);
    driver.succeed_after(2, &[attempt(1, 1, 1)], HOUR);
    assert_eq!(builds(&driver), [(2, Build::Migratable)]);
}

#[test]
fn a_long_task_that_cannot_be_moved_waits_behind_others_for_a_machine_that_is_left_alone() {
    let mut driver = with_hours(&[until(2)]);
    driver.submit(spec(3));
    driver.pass(HOUR * 2);
    driver.submit(spec(1));
    driver.succeed_after(1, &[attempt(1, 0, 1)], HOUR * 2);
    assert_eq!(driver.assigned(1), [attempt(2, 0, 1)]);
    driver.succeed_after(1, &[attempt(2, 0, 1)], Duration::from_secs(1));
    assert_eq!(driver.assigned(1), [attempt(1, 1, 1)], "no slot stays free for that");
}

#[test]
fn a_long_task_goes_to_the_machine_that_will_be_left_alone() {
    let mut driver = with_hours(&[until(2), until(24)]);
    driver.submit(spec(2));
    driver.pass(HOUR * 2);
    driver.succeed_after(2, &[attempt(1, 1, 1)], HOUR * 2);
    driver.fail(1, attempt(1, 0, 1));
    driver.pass(Duration::from_secs(10));
    assert_eq!((driver.assigned(1), driver.assigned(2)), (vec![], vec![attempt(1, 0, 2)]));
}
