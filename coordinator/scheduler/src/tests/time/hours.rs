//! When machines were there for work, and what follows for where tasks go.

use std::time::Duration;

use lull_shared::{
    id::AgentId,
    job::{JobSpec, Priority},
    message::Build,
};

use crate::{
    effect::Change,
    event::Movable,
    limits::Limits,
    tests::support::driver::{Driver, attempt, spec},
    time::history::{HOURS, IdleHours},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Nobody need give signs of life.
fn driver() -> Driver {
    Driver::with(Limits { lease: 1_000 * HOUR, overtime_margin: 1_000 * HOUR, begin_max: 1_000 * HOUR, ..Limits::default() })
}

/// A machine that was always there until so many hours after Monday's noon, and never after.
fn until(hours: usize) -> IdleHours {
    let shares: [u8; HOURS] = std::array::from_fn(|hour| if hour < 12 + hours { 200 } else { 0 });
    IdleHours::from_bytes(&shares, None, 0).expect("shares")
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
fn agents_that_come_and_go_keep_no_other_hours_from_being_written() {
    let mut driver = driver();
    driver.enrol_and_connect(1, 2);
    driver.enrol_and_connect(2, 2);
    let mut written = [0; 2];
    let mut pass = |driver: &mut Driver| {
        driver.pass(HOUR / 2);
        for change in &driver.changes {
            if let Change::AgentHours { agent, .. } = change {
                written[agent.0 as usize - 1] += 1;
            }
        }
    };
    for _ in 0..4 {
        pass(&mut driver);
        driver.disconnect(1);
        pass(&mut driver);
        driver.connect(1, 2, &[]);
    }
    assert_eq!(written, [3, 3], "noon's hour was not watched from its beginning");
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
fn a_long_task_of_higher_priority_waits_behind_none_of_lower_however_well_that_suits_the_machine() {
    let mut driver = with_hours(&[until(2)]);
    driver.submit(JobSpec { priority: Priority(1), ..spec(3) });
    driver.pass(HOUR * 2);
    driver.submit(spec(1));
    driver.succeed_after(1, &[attempt(1, 0, 1)], HOUR * 2);
    assert_eq!(driver.assigned(1), [attempt(1, 1, 1)]);
}

#[test]
fn a_task_that_suits_an_agent_goes_before_one_that_others_suit_better() {
    let mut driver = with_hours(&[until(3), until(24)]);
    driver.movable = Some(Movable { cost_percent: 120 });
    driver.submit(spec(4));
    driver.pass(HOUR * 2);
    driver.submit(spec(4));
    driver.succeed_after(1, &[attempt(1, 0, 1)], HOUR * 2);
    driver.succeed_after(2, &[attempt(1, 1, 1)], HOUR * 2);
    assert_eq!(driver.held(1), [attempt(2, 0, 1)], "two hours more would be interrupted there");
    assert_eq!(driver.held(2), [attempt(1, 2, 1)]);
}

#[test]
fn a_job_is_not_passed_over_for_ever() {
    let mut driver = with_hours(&[until(3)]);
    driver.submit(spec(3));
    driver.pass(HOUR * 2);
    driver.submit(spec(100));
    driver.succeed_after(1, &[attempt(1, 0, 1)], HOUR * 2);
    assert_eq!(driver.held(1)[0].task.job.0, 2, "the first job's tasks do not come to an end here any more");
    let mut rounds = 0;
    while driver.held(1)[0].task.job.0 == 2 {
        rounds += 1;
        assert!(rounds < 10, "the first job is passed over for ever");
        driver.pass(HOUR / 4);
        let held = driver.held(1);
        driver.succeed_after(1, &held, HOUR / 4);
    }
    assert!(rounds >= 3, "{rounds}");
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
