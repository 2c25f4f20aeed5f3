//! Running attempts that go on elsewhere because that is better.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId},
    job::Moving,
    message::{RecallReason, ReleaseReason, SnapshotRef, ToCoordinator},
    state::{AttemptEnd, Intake, PauseReason, TaskCounts},
};

use crate::{
    effect::Reply,
    event::Movable,
    tests::support::driver::{Driver, attempt, spec},
};

const SECOND: Duration = Duration::from_secs(1);

fn driver(agents: u64) -> Driver {
    let mut driver = Driver::patient(agents);
    driver.movable = Some(Movable { cost_percent: 110 });
    driver
}

fn movable(count: u32) -> lull_shared::job::JobSpec {
    let mut spec = spec(count);
    spec.moving = Moving::Always;
    spec
}

/// The agent suspends what it was asked for, and gives it back.
fn hand_over(driver: &mut Driver, agent: u64, attempt: AttemptId) {
    let blob = BlobRef::of(format!("{attempt}").as_bytes());
    driver.say(agent, ToCoordinator::Saved { attempt, snapshot: SnapshotRef { blob, spent_us: 1_000_000 } });
    driver.say(agent, ToCoordinator::Released { attempts: vec![attempt], reason: ReleaseReason::Recalled });
}

#[test]
fn a_coordinator_that_takes_over_knows_what_can_be_moved() {
    let mut driver = driver(2);
    driver.submit(movable(1));
    let held = driver.held(1);
    driver.started(1, &held);
    driver.crash();
    driver.connect(1, 1, &held);
    driver.started(1, &held);
    driver.set_intake(1, Intake::Draining);
    assert_eq!(driver.recalled(1, RecallReason::Drain), held);
}

fn pause(driver: &mut Driver, agent: u64, attempt: AttemptId, reason: PauseReason) {
    driver.say(agent, ToCoordinator::Paused { attempt, reason: Some(reason) });
}

/// Two agents of which the second takes twice as long for everything, as jobs that ended have shown.
pub(crate) fn uneven() -> Driver {
    let mut driver = driver(2);
    for _ in 0..8 {
        driver.submit(spec(4));
        for (agent, seconds) in [(1, 100), (2, 200), (1, 100), (2, 200)] {
            let held = driver.held(agent);
            driver.started(agent, &held);
            driver.pass(200 * SECOND);
            driver.succeed_after(agent, &held, seconds * SECOND);
        }
    }
    driver
}

#[test]
fn draining_moves_what_can_be_moved_and_lets_the_rest_finish() {
    let mut driver = driver(1);
    driver.submit(movable(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.set_intake(1, Intake::Draining), Reply::Done { affected: 1 });
    assert_eq!(driver.recalled(1, RecallReason::Drain), [attempt(1, 0, 1)]);
    driver.heartbeat(1, &[attempt(1, 0, 1)]);
    driver.enrol_and_connect(2, 1);
    hand_over(&mut driver, 1, attempt(1, 0, 1));
    assert_eq!(driver.ended()[0].reason.as_deref(), Some("it was taken back because its agent drains"));
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
    let mut plain = self::driver(1);
    plain.submit(spec(1));
    plain.started(1, &[attempt(1, 0, 1)]);
    assert_eq!(plain.set_intake(1, Intake::Draining), Reply::Done { affected: 0 });
}

#[test]
fn what_can_be_moved_waits_for_the_next_window_once_this_one_has_closed() {
    let mut driver = driver(1);
    let mut nightly = movable(1);
    nightly.window = Some("10:00-14:00 UTC".parse().expect("a window"));
    let job = driver.submit(nightly);
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.pass(2 * 3_600 * SECOND);
    assert_eq!(driver.recalled(1, RecallReason::Window), [attempt(1, 0, 1)]);
    hand_over(&mut driver, 1, attempt(1, 0, 1));
    assert_eq!(driver.counts(job), TaskCounts { waiting: 1, ..Default::default() });
    driver.pass(20 * 3_600 * SECOND);
    assert_eq!(driver.held(1), [attempt(1, 0, 2)]);
}

#[test]
fn what_is_paused_for_want_of_room_goes_where_there_is_room() {
    let mut driver = driver(2);
    driver.submit(movable(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    pause(&mut driver, 1, attempt(1, 0, 1), PauseReason::Beside { slots: 0 });
    driver.pass(9 * SECOND);
    assert_eq!(driver.recalled(1, RecallReason::Roomier), [], "it may go on in a moment");
    driver.pass(SECOND);
    assert_eq!(driver.recalled(1, RecallReason::Roomier), [attempt(1, 0, 1)]);
    hand_over(&mut driver, 1, attempt(1, 0, 1));
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Recalled)]);
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)], "not where it came from, though that has a free slot too");
}

#[test]
fn what_is_paused_for_want_of_room_goes_as_soon_as_there_is_room() {
    let mut driver = driver(1);
    driver.submit(movable(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    pause(&mut driver, 1, attempt(1, 0, 1), PauseReason::Beside { slots: 0 });
    driver.pass(3_600 * SECOND);
    driver.enrol_and_connect(2, 1);
    assert_eq!(driver.recalled(1, RecallReason::Roomier), [attempt(1, 0, 1)]);
}

#[test]
fn a_pause_for_the_owners_sake_is_the_agents_own_affair() {
    let mut driver = driver(2);
    driver.submit(movable(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    pause(&mut driver, 1, attempt(1, 0, 1), PauseReason::Beside { slots: 0 });
    pause(&mut driver, 1, attempt(1, 0, 1), PauseReason::Touched);
    driver.pass(60 * SECOND);
    assert_eq!(driver.recalled(1, RecallReason::Roomier), []);
    driver.say(1, ToCoordinator::Paused { attempt: attempt(1, 0, 1), reason: None });
    driver.pass(60 * SECOND);
    assert_eq!(driver.recalled(1, RecallReason::Roomier), []);
}

#[test]
fn a_long_attempt_moves_to_a_faster_agent_that_has_nothing_to_do() {
    let mut driver = uneven();
    let job = driver.submit(movable(3)).0;
    let on = |driver: &Driver, agent| driver.held(agent);
    assert_eq!((on(&driver, 1).len(), on(&driver, 2).len()), (1, 1));
    // Results on both make the mean of the job; the last task runs on the slow one.
    let (fast, slow) = (on(&driver, 1), on(&driver, 2));
    driver.started(1, &fast);
    driver.started(2, &slow);
    driver.pass(1_000 * SECOND);
    driver.succeed_after(2, &slow, 1_000 * SECOND);
    let last = on(&driver, 2);
    assert_eq!(last, [attempt(job, 2, 1)]);
    driver.started(2, &last);
    driver.pass(SECOND);
    assert_eq!(driver.recalled(2, RecallReason::Faster), [], "the fast one is busy");
    driver.succeed_after(1, &fast, 500 * SECOND);
    assert_eq!(driver.recalled(2, RecallReason::Faster), last);
    hand_over(&mut driver, 2, last[0]);
    assert_eq!(driver.ended()[0].reason.as_deref(), Some("a faster agent has nothing to do"));
    assert_eq!(driver.assigned(1), [attempt(job, 2, 2)]);
    assert_eq!(driver.scheduler.agent(AgentId(2)).expect("an agent").attempts, []);
}

#[test]
fn what_is_nearly_done_or_cannot_be_moved_stays_on_the_slow_agent() {
    for spec in [movable(3), spec(3)] {
        let mut driver = uneven();
        let moves = spec.moving == Moving::Always;
        driver.submit(spec);
        let (fast, slow) = (driver.held(1), driver.held(2));
        driver.started(1, &fast);
        driver.started(2, &slow);
        driver.pass(100 * SECOND);
        driver.succeed_after(2, &slow, 100 * SECOND);
        let last = driver.held(2);
        driver.started(2, &last);
        if moves {
            driver.pass(150 * SECOND);
        }
        driver.succeed_after(1, &fast, 100 * SECOND);
        assert_eq!(driver.recalled(2, RecallReason::Faster), []);
    }
}
