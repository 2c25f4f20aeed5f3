//! Who gets how much, which agent gets what, and what waits where.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, VersionId},
    job::{JobSpec, Priority},
    message::{RecallReason, ReleaseReason, ToCoordinator},
    resources::Capacity,
    state::{AttemptEnd, PauseReason},
};

use crate::{
    event::{Event, Snapshot},
    limits::Limits,
    tests::support::driver::{Driver, attempt, capacity, owner_called, spec},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn with_priority(count: u32, priority: i8) -> JobSpec {
    JobSpec { priority: Priority(priority), ..spec(count) }
}

/// Lets the first agent work off four tasks that take so long.
fn learn_pace(driver: &mut Driver, wall: Duration) {
    (0..4).for_each(|_| work_one(driver, wall));
}

fn work_one(driver: &mut Driver, wall: Duration) {
    let first = driver.held(1)[0];
    driver.started(1, &[first]);
    driver.pass(wall);
    driver.succeed_after(1, &[first], wall);
}

#[test]
fn slots_that_come_free_together_are_dealt_out_in_turns() {
    let mut driver = Driver::new();
    driver.submit_as("ada", spec(100));
    driver.submit_as("bob", spec(100));
    driver.enrol_and_connect(1, 8);
    let of_ada = driver.held(1).iter().filter(|attempt| attempt.task.job.0 == 1).count();
    assert_eq!((of_ada, driver.held(1).len()), (4, 8));
}

#[test]
fn an_agent_goes_on_with_what_it_knows_while_shares_are_even() {
    let mut driver = Driver::new();
    let mut light = spec(200);
    light.limits.memory_bytes = 1 << 20;
    driver.submit_as("ada", light.clone());
    driver.submit_as("bob", light);
    driver.enrol_and_connect(1, 200);
    assert_eq!(driver.held(1).len(), 200);
    driver.pass(900 * MILLI);
    driver.succeed_after(1, &[attempt(1, 0, 1)], MILLI);
    assert_eq!(driver.assigned(1), [attempt(1, 100, 1)], "the time since the others were looked at counts for nobody");
    driver.succeed_after(1, &[attempt(2, 0, 1)], MILLI);
    assert_eq!(driver.assigned(1), [attempt(2, 100, 1)]);
}

#[test]
fn whoever_used_less_lately_goes_first() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit_as("ada", spec(100));
    driver.submit_as("bob", spec(100));
    for _ in 0..600 {
        driver.pass(SECOND);
        let held = driver.held(1);
        driver.heartbeat(1, &held);
    }
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), [attempt(2, 0, 1)], "ada had ten minutes");
    driver.succeed_after(1, &[attempt(2, 0, 1)], MILLI);
    assert_eq!(driver.assigned(1), [attempt(2, 1, 1)], "and bob a moment");
}

#[test]
fn what_was_used_before_a_restart_counts() {
    let mut driver = Driver::new();
    let limits = Limits::default();
    let usage = vec![(Some(owner_called("ada")), 10_000.0), (Some(owner_called("bob")), 1.0)];
    let snapshot = Snapshot { usage, ..Snapshot::default() };
    driver.scheduler = crate::Scheduler::restore(snapshot, limits, 7, driver.now);
    driver.submit_as("ada", spec(1));
    driver.submit_as("bob", spec(1));
    driver.enrol_and_connect(1, 1);
    assert_eq!(driver.held(1), [attempt(2, 0, 1)]);
}

#[test]
fn within_a_submitter_the_higher_priority_goes_first() {
    let mut driver = Driver::new();
    driver.submit(with_priority(2, 0));
    driver.submit(with_priority(1, 5));
    driver.submit(with_priority(1, -5));
    driver.enrol_and_connect(1, 4);
    let given: Vec<_> = driver.assigned(1).iter().map(|attempt| attempt.task.job.0).collect();
    assert_eq!(given, [2, 1, 1, 3]);
}

#[test]
fn a_high_priority_takes_nothing_from_other_submitters() {
    let mut driver = Driver::new();
    driver.submit_as("ada", with_priority(100, 127));
    driver.submit_as("bob", spec(100));
    driver.enrol_and_connect(1, 2);
    assert_eq!(driver.held(1), [attempt(1, 0, 1), attempt(2, 0, 1)]);
}

#[test]
fn a_job_that_fits_nowhere_holds_nobody_up() {
    let mut driver = Driver::with_agents(1, 1);
    let mut huge = with_priority(5, 100);
    huge.limits.memory_bytes = 64 << 30;
    let mut picky = with_priority(5, 100);
    picky.constraints = vec!["os=plan9".parse().expect("a constraint")];
    driver.submit(huge);
    driver.submit(picky);
    driver.submit(spec(1));
    assert_eq!(driver.held(1), [attempt(3, 0, 1)]);
}

#[test]
fn memory_bounds_what_runs_at_once_and_not_what_waits_behind() {
    let mut driver = Driver::with_agents(1, 4);
    let mut large = spec(100);
    large.limits.memory_bytes = 3 << 30;
    driver.submit(large);
    assert_eq!(driver.held(1).len(), 2, "a third would not fit into 8 GiB");
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), [attempt(1, 2, 1)]);
}

#[test]
fn a_report_that_crosses_a_start_is_not_counted_twice() {
    let mut driver = Driver::with_agents(1, 4);
    let mut large = spec(100);
    large.limits.memory_bytes = 4 << 30;
    driver.submit(large);
    assert_eq!(driver.held(1).len(), 2);
    let mut report = capacity(1, 4);
    report.sequence = 2;
    driver.say(1, ToCoordinator::Capacity(report.clone()));
    assert_eq!(driver.held(1).len(), 2, "it was said before the attempts began");
    driver.started(1, &[attempt(1, 0, 1), attempt(1, 1, 1)]);
    (report.sequence, report.slots_busy, report.memory_free_bytes) = (3, 2, 0);
    driver.say(1, ToCoordinator::Capacity(report));
    assert_eq!(driver.held(1).len(), 2);
    driver.succeed(1, &[attempt(1, 0, 1), attempt(1, 1, 1)]);
    assert_eq!(driver.held(1).len(), 2, "what they had is free again, whatever the last report said");
}

#[test]
fn the_last_tasks_are_divided_among_all_agents() {
    let mut driver = Driver::with_agents(2, 1);
    driver.submit(spec(14));
    learn_pace(&mut driver, 10 * MILLI);
    assert_eq!(driver.held(1).len(), 1 + 4, "half of the eight that are left wait here");
}

#[test]
fn constraints_choose_the_agent() {
    let mut driver = Driver::with_agents(3, 4);
    let mut picky = spec(3);
    picky.constraints = vec!["name=pc-2".parse().expect("a constraint")];
    driver.submit(picky);
    assert_eq!(driver.assigned(2).len(), 3);
}

#[test]
fn a_second_task_goes_to_an_agent_that_knows_the_job() {
    let mut driver = Driver::with_agents(3, 1);
    let mut first = spec(2);
    first.constraints = vec!["name!=pc-1".parse().expect("a constraint")];
    first.retry.backoff_ms = 1;
    driver.submit(first.clone());
    assert_eq!((driver.held(2).len(), driver.held(3).len()), (1, 1));
    driver.succeed(2, &[attempt(1, 0, 1)]);
    driver.fail(3, attempt(1, 1, 1));
    driver.pass(MILLI);
    assert_eq!(driver.assigned(2), [attempt(1, 1, 2)], "the first of those that know it");
}

#[test]
fn a_job_goes_to_an_agent_that_holds_its_code_and_to_others_rather_than_wait() {
    let mut driver = Driver::with_agents(3, 1);
    let holders = |gained: &[u64], lost: &[u64]| {
        let ids = |numbers: &[u64]| numbers.iter().copied().map(AgentId).collect();
        Event::Holders { version: VersionId(1), gained: ids(gained), lost: ids(lost) }
    };
    driver.handle(holders(&[2, 3], &[]));
    driver.handle(holders(&[], &[2]));
    driver.submit(spec(1));
    assert_eq!(driver.assigned(3), [attempt(1, 0, 1)]);
    driver.submit(spec(2));
    assert_eq!(driver.assigned(1).len() + driver.assigned(2).len(), 2, "no slot stays idle for want of bytes");
}

#[test]
fn code_held_for_another_version_counts_for_nothing() {
    let mut driver = Driver::with_agents(2, 1);
    driver.handle(Event::Holders { version: VersionId(2), gained: vec![AgentId(2)], lost: vec![] });
    driver.submit(spec(1));
    assert_eq!(driver.assigned(1), [attempt(1, 0, 1)]);
}

#[test]
fn short_tasks_wait_at_agents_and_long_ones_do_not() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(1_000));
    learn_pace(&mut driver, 10 * MILLI);
    assert_eq!(driver.held(1).len(), 2 + 20, "a tenth of a second for each slot");
    let mut long = Driver::with_agents(1, 2);
    long.submit(spec(1_000));
    learn_pace(&mut long, SECOND);
    assert_eq!(long.held(1).len(), 2);
}

#[test]
fn a_prefetch_is_topped_up_by_halves() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(1_000));
    learn_pace(&mut driver, 10 * MILLI);
    let mut orders = 0;
    for _ in 0..100 {
        work_one(&mut driver, 10 * MILLI);
        orders += usize::from(!driver.assigned(1).is_empty());
    }
    assert!((5..=12).contains(&orders), "{orders} orders for a hundred tasks");
}

#[test]
fn nothing_waits_at_an_agent_while_another_has_a_free_slot() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(8));
    learn_pace(&mut driver, 10 * MILLI);
    assert_eq!(driver.held(1).len(), 4);
    driver.enrol_and_connect(2, 1);
    assert_eq!(driver.held(2), []);
    assert_eq!(driver.recalled(1, RecallReason::Rebalance), [attempt(1, 7, 1)], "the last of those that wait");
    let back = ToCoordinator::Released { attempts: vec![attempt(1, 7, 1)], reason: ReleaseReason::Recalled };
    driver.say(1, back);
    assert_eq!(driver.ends(), [(attempt(1, 7, 1), AttemptEnd::Recalled)]);
    assert_eq!(driver.assigned(2), [attempt(1, 7, 2)]);
    assert_eq!(driver.scheduler.job(lull_shared::id::JobId(1), driver.now).expect("active").moved, 0, "it had not started");
}

#[test]
fn an_attempt_that_started_meanwhile_is_not_given_back() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(6));
    learn_pace(&mut driver, 60 * MILLI);
    assert_eq!(driver.held(1), [attempt(1, 4, 1), attempt(1, 5, 1)]);
    driver.enrol_and_connect(2, 1);
    assert_eq!(driver.recalled(1, RecallReason::Rebalance), [attempt(1, 5, 1)]);
    driver.started(1, &[attempt(1, 5, 1)]);
    driver.heartbeat(1, &[attempt(1, 4, 1), attempt(1, 5, 1)]);
    assert_eq!(driver.held(1), [attempt(1, 4, 1), attempt(1, 5, 1)]);
    driver.succeed(1, &[attempt(1, 4, 1), attempt(1, 5, 1)]);
    assert!(driver.ledger.state(lull_shared::id::JobId(1)).is_ended());
}

#[test]
fn no_more_is_taken_back_than_there_are_free_slots() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(14));
    learn_pace(&mut driver, 10 * MILLI);
    assert_eq!(driver.held(1).len(), 10);
    driver.enrol_and_connect(2, 2);
    let first = driver.recalled(1, RecallReason::Rebalance);
    assert_eq!(first.len(), 2);
    look_again(&mut driver, 2);
    assert_eq!(driver.recalled(1, RecallReason::Rebalance), [], "what is on its way is for these slots");
    driver.enrol_and_connect(3, 1);
    assert_eq!(driver.recalled(1, RecallReason::Rebalance).len(), 1);
    look_again(&mut driver, 2);
    assert_eq!(driver.recalled(1, RecallReason::Rebalance), []);
    driver.say(1, ToCoordinator::Released { attempts: first, reason: ReleaseReason::Recalled });
    assert_eq!((driver.held(1).len(), driver.held(2).len() + driver.held(3).len()), (8, 2), "whoever is free gets them");
}

/// The agent pauses for a moment, and its free slots are looked at again.
fn look_again(driver: &mut Driver, agent: u64) {
    let view = driver.scheduler.agent(AgentId(agent)).expect("known").capacity.expect("it said one");
    let paused = Capacity { sequence: view.sequence + 1, paused: Some(PauseReason::Touched), ..view.clone() };
    driver.say(agent, ToCoordinator::Capacity(paused));
    driver.say(agent, ToCoordinator::Capacity(Capacity { sequence: view.sequence + 2, ..view }));
}

#[test]
fn a_slot_for_which_something_was_recalled_that_did_not_come_is_filled_again() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(14));
    learn_pace(&mut driver, 10 * MILLI);
    driver.enrol_and_connect(2, 1);
    let first = driver.recalled(1, RecallReason::Rebalance);
    // It has started meanwhile, and is not given back.
    driver.started(1, &first);
    let held = driver.held(1);
    driver.heartbeat(1, &held);
    look_again(&mut driver, 2);
    let second = driver.recalled(1, RecallReason::Rebalance);
    assert!(second.len() == 1 && second != first, "{second:?}");
}
