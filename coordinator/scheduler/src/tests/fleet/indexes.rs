//! Each index of the scheduler follows each kind of change at once. The audit after each turn recounts all of them; what is
//! here brings every kind of change about alone, so that nothing else of the same turn brings the index up to date, and says
//! what stands in it.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId},
    job::{JobSpec, Moving},
    message::{RecallReason, ReleaseReason, SnapshotRef, ToCoordinator},
    resources::Capacity,
    state::{Intake, PauseReason},
};

use crate::{
    event::{Event, Movable, QuarantineKind},
    limits::Limits,
    tests::{
        placement::rebalance::uneven,
        support::driver::{Driver, after, attempt, capacity, spec},
    },
    time::timers::Timer,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// Agents with free slots, and of how many slots so many are free.
fn room(driver: &Driver) -> (Vec<u64>, u64, u64) {
    let fleet = &driver.scheduler.fleet;
    (fleet.free().map(|id| id.0).collect(), fleet.free_slots(), fleet.slots())
}

fn crowded(driver: &Driver) -> Vec<u64> {
    driver.scheduler.fleet.crowded().map(|id| id.0).collect()
}

fn slow(driver: &Driver) -> Vec<(u32, u64)> {
    driver.scheduler.fleet.slow().map(|(percent, id)| (percent, id.0)).collect()
}

fn doubtful(driver: &Driver) -> Vec<u64> {
    driver.scheduler.fleet.doubtful().map(|(_, id)| id.0).collect()
}

fn stalled(driver: &Driver) -> Vec<AttemptId> {
    driver.scheduler.fleet.stalled().map(|(_, attempt, _)| attempt).collect()
}

fn offer(driver: &mut Driver, agent: u64, slots: u16, paused: bool) {
    let sequence = driver.scheduler.agent(AgentId(agent)).and_then(|view| view.capacity).map_or(1, |known| known.sequence + 1);
    let paused = paused.then_some(PauseReason::Touched);
    driver.say(agent, ToCoordinator::Capacity(Capacity { sequence, paused, ..capacity(agent, slots) }));
}

#[test]
fn agents_with_room_are_known_by_their_load_through_every_change() {
    let mut driver = Driver::patient(0);
    driver.enrol(1);
    assert_eq!(room(&driver), (vec![], 0, 0), "it has not come");
    driver.connect(1, 2, &[]);
    driver.enrol_and_connect(2, 3);
    assert_eq!(room(&driver), (vec![1, 2], 5, 5));
    offer(&mut driver, 2, 3, true);
    assert_eq!(room(&driver), (vec![1], 2, 2), "paused");
    offer(&mut driver, 2, 3, false);
    assert_eq!(room(&driver), (vec![1, 2], 5, 5), "resumed");
    offer(&mut driver, 2, 1, false);
    assert_eq!(room(&driver), (vec![1, 2], 3, 3), "fewer slots");
    offer(&mut driver, 2, 4, false);
    assert_eq!(room(&driver), (vec![1, 2], 6, 6), "more slots");
    for (intake, expected) in
        [(Intake::Cordoned, (vec![2], 4, 4)), (Intake::Open, (vec![1, 2], 6, 6)), (Intake::Draining, (vec![2], 4, 4))]
    {
        driver.set_intake(1, intake);
        assert_eq!(room(&driver), expected, "{intake:?}");
    }
    driver.set_intake(1, Intake::Open);
    driver.scheduler.distrust(AgentId(2), QuarantineKind::Output, "it lied".into());
    driver.handle(Event::PolicyChanged);
    assert_eq!(room(&driver), (vec![1], 2, 2), "quarantined");
    driver.trust(2);
    assert_eq!(room(&driver), (vec![1, 2], 6, 6), "trusted");
    let job = driver.submit(spec(1));
    assert_eq!(room(&driver), (vec![2, 1], 5, 6), "the one that has something comes last");
    driver.succeed(1, &[attempt(job.0, 0, 1)]);
    assert_eq!(room(&driver), (vec![1, 2], 6, 6));
    driver.disconnect(1);
    assert_eq!(room(&driver), (vec![2], 4, 4), "its stream closed");
    driver.connect(1, 2, &[]);
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(room(&driver), (vec![2], 4, 4), "it left");
    driver.connect(1, 2, &[]);
    driver.set_intake(2, Intake::Revoked);
    assert_eq!(room(&driver), (vec![1], 2, 2), "thrown out");
    driver.crash();
    assert_eq!(room(&driver), (vec![], 0, 0), "nobody has come to the next leader");
    driver.connect(1, 2, &[]);
    assert_eq!(room(&driver), (vec![1], 2, 2));
}

#[test]
fn agents_that_fall_silent_and_speak_again_lose_and_regain_their_room() {
    let mut driver = Driver::with_agents(2, 2);
    let all = room(&driver);
    driver.pass(2 * SECOND);
    driver.heartbeat(2, &[]);
    driver.pass(2 * SECOND);
    assert_eq!(room(&driver), (vec![2], 2, 2), "nothing was heard of it for its lease");
    driver.heartbeat(1, &[]);
    assert_eq!(room(&driver), all);
}

/// Agent 1 with attempts that wait behind its slot, and nothing more to give; agents 2 and on will come.
fn with_waiting() -> (Driver, JobId) {
    let mut driver = Driver::patient(1);
    let job = driver.submit(spec(8));
    for index in 0..4 {
        driver.started(1, &[attempt(job.0, index, 1)]);
        driver.pass(10 * MILLI);
        driver.succeed_after(1, &[attempt(job.0, index, 1)], 10 * MILLI);
    }
    assert_eq!(driver.held(1).len(), 4);
    (driver, job)
}

#[test]
fn agents_where_attempts_wait_are_known_through_every_change() {
    let (mut driver, job) = with_waiting();
    assert_eq!(crowded(&driver), [1], "what was given ahead");
    let waiting = |driver: &Driver| driver.scheduler.waiting_at(AgentId(1));
    assert_eq!(waiting(&driver), 3);
    driver.enrol_and_connect(2, 3);
    assert_eq!((crowded(&driver), waiting(&driver)), (vec![], 0), "all that wait were asked for");
    let asked = driver.recalled(1, RecallReason::Rebalance);
    // It has read that, and keeps what it has begun meanwhile.
    driver.heartbeat(1, &driver.held(1));
    assert_eq!((crowded(&driver), waiting(&driver)), (vec![1], 3), "none was given back");
    driver.disconnect(1);
    assert_eq!(crowded(&driver), [0; 0], "its stream closed");
    driver.connect(1, 1, &asked);
    offer(&mut driver, 2, 0, false);
    driver.heartbeat(1, &driver.held(1));
    assert_eq!(crowded(&driver), [1]);
    driver.cancel(job);
    assert_eq!((crowded(&driver), waiting(&driver)), (vec![], 0), "all of the job were asked for");
}

#[test]
fn an_attempt_that_begins_though_it_was_asked_for_waits_no_more_and_is_not_on_its_way() {
    let (mut driver, _) = with_waiting();
    driver.enrol_and_connect(2, 1);
    let asked = driver.recalled(1, RecallReason::Rebalance);
    assert_eq!((asked.len(), driver.scheduler.fleet.rebalancing, crowded(&driver)), (1, 1, vec![1]));
    assert_eq!(driver.scheduler.waiting_at(AgentId(1)), 2);
    driver.started(1, &asked);
    assert_eq!((driver.scheduler.fleet.rebalancing, driver.scheduler.waiting_at(AgentId(1))), (0, 3));
}

#[test]
fn slow_agents_are_known_while_they_run_what_can_be_moved() {
    let mut driver = uneven();
    assert_eq!(slow(&driver), [], "they run nothing");
    let first = driver.submit(JobSpec { moving: Moving::Always, ..spec(2) });
    assert_eq!(slow(&driver), [], "nothing has begun");
    for agent in [1, 2] {
        let held = driver.held(agent);
        driver.started(agent, &held);
    }
    let [(slower, two), (faster, one)] = slow(&driver)[..] else { panic!("{:?}", slow(&driver)) };
    assert!(two == 2 && one == 1 && slower > faster, "{:?}", slow(&driver));
    driver.disconnect(1);
    assert_eq!(slow(&driver), [(slower, 2)], "its stream closed");
    let held = driver.held(1);
    driver.connect(1, 1, &held);
    assert_eq!(slow(&driver).len(), 2);
    let released = ToCoordinator::Released { attempts: held, reason: ReleaseReason::Stopping };
    driver.say(1, released);
    assert_eq!(slow(&driver), [(slower, 2)], "it has nothing any more");
    driver.cancel(first);
    let held = driver.held(2);
    driver.succeed(2, &held);
    assert_eq!(slow(&driver), []);
    // What turns out to be movable counts from then on.
    let plain = driver.submit(JobSpec { moving: Moving::Never, ..spec(1) });
    let at = if driver.held(1).is_empty() { 2 } else { 1 };
    let running = attempt(plain.0, 0, 1);
    driver.started(at, &[running]);
    assert_eq!(slow(&driver), []);
    let snapshot = SnapshotRef { blob: BlobRef::of(b"it can be moved after all"), spent_us: 0 };
    driver.say(at, ToCoordinator::Saved { attempt: running, snapshot });
    assert_eq!(slow(&driver).iter().map(|(_, id)| *id).collect::<Vec<_>>(), [at]);
}

#[test]
fn what_is_paused_for_want_of_room_is_known_through_every_change() {
    let mut driver = Driver::patient(1);
    driver.movable = Some(Movable { cost_percent: 110 });
    driver.submit(JobSpec { moving: Moving::Always, ..spec(1) });
    let first = attempt(1, 0, 1);
    let pause = |driver: &mut Driver, reason| driver.say(1, ToCoordinator::Paused { attempt: first, reason });
    let beside = || Some(PauseReason::Beside { slots: 0 });
    pause(&mut driver, beside());
    assert_eq!(stalled(&driver), [first]);
    let due = driver.now + Limits::default().stalled_after;
    assert!(driver.scheduler.timers.is_set(Timer::Stalled));
    driver.pass(SECOND);
    pause(&mut driver, beside());
    assert_eq!(driver.scheduler.fleet.stalled().map(|(since, ..)| since + Limits::default().stalled_after).next(), Some(due));
    pause(&mut driver, None);
    assert_eq!(stalled(&driver), [], "it is back");
    pause(&mut driver, beside());
    pause(&mut driver, Some(PauseReason::Touched));
    assert_eq!(stalled(&driver), [], "it is paused for something else");
    pause(&mut driver, beside());
    driver.succeed(1, &[first]);
    assert_eq!(stalled(&driver), [], "it has ended");
    driver.submit(JobSpec { moving: Moving::Never, ..spec(1) });
    driver.say(1, ToCoordinator::Paused { attempt: attempt(2, 0, 1), reason: beside() });
    assert_eq!(stalled(&driver), [], "it cannot go elsewhere");
}

#[test]
fn agents_out_of_touch_that_have_something_are_known_through_every_change() {
    let mut driver = Driver::with_agents(3, 1);
    driver.submit(spec(2));
    (1..=2).for_each(|agent| driver.started(agent, &driver.held(agent)));
    driver.set_intake(3, Intake::Cordoned);
    let beat = |driver: &mut Driver| {
        driver.pass(SECOND);
        (2..=3).for_each(|agent| driver.heartbeat(agent, &driver.held(agent)));
    };
    (0..5).for_each(|_| beat(&mut driver));
    assert_eq!(doubtful(&driver), [1]);
    driver.heartbeat(1, &driver.held(1));
    assert_eq!(doubtful(&driver), [0; 0], "it speaks again");
    driver.disconnect(1);
    assert_eq!(doubtful(&driver), [0; 0], "it may be back in a moment");
    (0..5).for_each(|_| beat(&mut driver));
    assert_eq!(doubtful(&driver), [1]);
    driver.connect(1, 1, &driver.held(1));
    assert_eq!(doubtful(&driver), [0; 0], "it is back");
    (0..5).for_each(|_| beat(&mut driver));
    driver.set_intake(1, Intake::Revoked);
    assert_eq!(doubtful(&driver), [0; 0], "it was thrown out");
    for agent in 2..=3 {
        driver.disconnect(agent);
    }
    driver.pass(5 * SECOND);
    assert_eq!(doubtful(&driver), [2], "the other has nothing");
    driver.cancel(JobId(1));
    assert_eq!(doubtful(&driver), [0; 0], "nothing of it is waited for");
}

/// Which jobs have something to start, by the scheduler's own order.
fn listed(driver: &Driver) -> Vec<u64> {
    let jobs = driver.scheduler.jobs.iter().filter(|(_, job)| job.listed);
    let listed: Vec<u64> = jobs.map(|(id, _)| id.0).collect();
    let first = driver.scheduler.shares.first(|_| true, |_| true);
    assert_eq!(first.is_some(), !listed.is_empty());
    listed
}

#[test]
fn jobs_with_something_to_start_are_listed_through_every_change() {
    use lull_shared::job::{DependencyCondition::Any, RetryPolicy};
    let mut driver = Driver::patient(1);
    let once = RetryPolicy { retries: 1, backoff_ms: 10_000, backoff_max_ms: 10_000 };
    driver.submit(JobSpec { retry: once, ..spec(1) });
    assert_eq!(listed(&driver), [0; 0], "all of it is with the agent");
    driver.submit(after(spec(1), 1, Any));
    driver.submit(JobSpec { window: Some("13:00-14:00".parse().expect("a window")), ..spec(1) });
    driver.submit(JobSpec { at_once: Some(1), ..spec(3) });
    assert_eq!(listed(&driver), [4], "one waits for another and one for its window");
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!((driver.held(1), listed(&driver)), (vec![attempt(4, 0, 1)], vec![]), "as many as may be at once");
    driver.pass(10 * SECOND);
    assert_eq!(listed(&driver), [1], "the pause is over");
    for index in 0..2 {
        driver.succeed(1, &[attempt(4, index, 1)]);
        assert_eq!((driver.held(1), listed(&driver)), (vec![attempt(4, index + 1, 1)], vec![1]), "it rather goes elsewhere");
    }
    driver.succeed(1, &[attempt(4, 2, 1)]);
    assert_eq!((driver.held(1), listed(&driver)), (vec![attempt(1, 0, 2)], vec![]), "than wait");
    driver.succeed(1, &[attempt(1, 0, 2)]);
    assert_eq!((driver.held(1), listed(&driver)), (vec![attempt(2, 0, 1)], vec![]), "what waited for the first has begun");
    let fifth = driver.submit(spec(2));
    assert_eq!(listed(&driver), [5]);
    driver.pass(3_600 * SECOND);
    assert_eq!(listed(&driver), [3, 5], "its window opened");
    driver.pass(3_600 * SECOND);
    assert_eq!(listed(&driver), [5], "and closed");
    driver.cancel(fifth);
    assert_eq!(listed(&driver), [0; 0]);
    driver.retry(fifth);
    assert_eq!(listed(&driver), [5]);
    driver.crash();
    assert_eq!(listed(&driver), [5], "whoever leads");
}

#[test]
fn jobs_are_found_by_key_by_those_that_wait_for_them_and_by_demand_while_they_are_active_and_no_longer() {
    use lull_shared::job::DependencyCondition::Any;
    let mut driver = Driver::patient(1);
    let keyed = || JobSpec { idempotency_key: Some("nightly".into()), ..spec(1) };
    let known = |driver: &Driver| {
        let scheduler = &driver.scheduler;
        let waits: Vec<(u64, Vec<u64>)> =
            scheduler.dependants.iter().map(|(id, all)| (id.0, all.iter().map(|id| id.0).collect())).collect();
        (scheduler.keys.len(), waits, scheduler.jobs.len())
    };
    driver.submit(keyed());
    driver.submit(after(spec(1), 1, Any));
    driver.submit(after(spec(1), 1, Any));
    assert_eq!(known(&driver), (1, vec![(1, vec![2, 3])], 3));
    driver.crash();
    assert_eq!(known(&driver), (1, vec![(1, vec![2, 3])], 3), "whoever leads");
    driver.cancel(JobId(2));
    assert_eq!(known(&driver), (1, vec![(1, vec![3])], 2));
    driver.connect(1, 1, &[attempt(1, 0, 1)]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(known(&driver), (0, vec![], 1));
    let newer = driver.submit(keyed());
    driver.retry(JobId(2));
    driver.cancel(JobId(2));
    assert_eq!(known(&driver), (1, vec![], 2), "the key is the newer one's");
    assert!(matches!(driver.try_submit("ada", keyed()), crate::effect::Reply::Submitted { job, existing: true } if job == newer));
}
