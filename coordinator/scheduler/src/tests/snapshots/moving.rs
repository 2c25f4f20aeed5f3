//! Tasks that go on where an earlier attempt left off.

use std::time::Duration;

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId},
    limits::SNAPSHOT_BYTES_MAX,
    message::{Build, KeptSnapshot, RefuseReason, ReleaseReason, SnapshotRef, ToCoordinator},
    state::{PauseReason, TaskState},
};

use crate::{
    effect::{Given, Order},
    event::Movable,
    placement::build::{Choice, Reason},
    tests::support::driver::{Driver, attempt, spec},
};

pub(crate) fn snapshot(number: u8, seconds: u64) -> SnapshotRef {
    SnapshotRef { blob: BlobRef::of(&[number]), spent_us: seconds * 1_000_000 }
}

pub(crate) fn movable_driver(agents: u64) -> Driver {
    let mut driver = Driver::patient(agents);
    driver.movable = Some(Movable { cost_percent: 110 });
    driver
}

pub(crate) fn save(driver: &mut Driver, agent: u64, attempt: AttemptId, snapshot: SnapshotRef) {
    driver.say(agent, ToCoordinator::Saved { attempt, snapshot });
}

pub(crate) fn evict(driver: &mut Driver, agent: u64, attempt: AttemptId) {
    let reason = ReleaseReason::Evicted(PauseReason::Owner { until: None });
    driver.say(agent, ToCoordinator::Released { attempts: vec![attempt], reason });
}

/// What the last turn gave to an agent, with builds and snapshots.
pub(crate) fn given(driver: &Driver, agent: u64) -> Vec<Given> {
    let orders = driver.orders.iter().filter_map(|(id, order)| match order {
        Order::Assign { attempts } if id.0 == agent => Some(attempts.clone()),
        _ => None,
    });
    orders.flatten().collect()
}

/// What the last turn let an agent delete.
pub(crate) fn discarded(driver: &Driver, agent: u64) -> Vec<Digest> {
    let orders = driver.orders.iter().filter_map(|(id, order)| match order {
        Order::Discard { snapshots } if id.0 == agent => Some(snapshots.clone()),
        _ => None,
    });
    orders.flatten().collect()
}

/// A job of one task that agent 1 runs.
pub(crate) fn one_running(driver: &mut Driver) -> AttemptId {
    driver.submit(spec(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.pass(Duration::from_secs(100));
    attempt(1, 0, 1)
}

#[test]
fn an_evicted_task_goes_on_elsewhere_from_its_snapshot_and_spends_no_retry() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    evict(&mut driver, 1, first);
    let resume = Some(Box::new(snapshot(1, 90)));
    assert_eq!(given(&driver, 2), [Given { attempt: attempt(1, 0, 2), build: Build::Migratable, resume }]);
    driver.succeed(2, &[attempt(1, 0, 2)]);
    assert_eq!(discarded(&driver, 1), [snapshot(1, 0).blob.digest], "the snapshot goes with its task");
}

#[test]
fn a_task_between_two_machines_is_moving() {
    let mut driver = movable_driver(1);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    driver.say(1, ToCoordinator::Farewell);
    let counts = driver.counts(first.task.job);
    assert_eq!((counts.moving, counts.queued), (1, 0));
    assert_eq!(driver.scheduler.explain(first.task, driver.now).expect("it is open").state, TaskState::Moving);
}

#[test]
fn a_newer_snapshot_takes_the_place_of_the_one_before() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 10));
    save(&mut driver, 1, first, snapshot(2, 20));
    assert_eq!(discarded(&driver, 1), [snapshot(1, 0).blob.digest]);
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(given(&driver, 2)[0].resume.as_deref(), Some(&snapshot(2, 20)));
}

#[test]
fn a_coordinator_that_takes_over_knows_where_tasks_go_on() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    driver.crash();
    driver.connect(2, 1, &[]);
    driver.connect(1, 1, &[first]);
    evict(&mut driver, 1, first);
    assert_eq!(given(&driver, 2)[0].resume.as_deref(), Some(&snapshot(1, 90)));
}

#[test]
fn a_task_whose_snapshot_cannot_be_used_begins_anew() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    evict(&mut driver, 1, first);
    let reason = RefuseReason::Snapshot { digest: snapshot(1, 0).blob.digest, reason: "nobody has it".into() };
    driver.say(2, ToCoordinator::Refused { attempt: attempt(1, 0, 2), reason });
    driver.pass(Duration::from_secs(120));
    let again: Vec<Given> = [1, 2].into_iter().flat_map(|agent| given(&driver, agent)).collect();
    assert!(again.is_empty() || again.iter().all(|given| given.resume.is_none()), "{again:?}");
    assert_eq!(driver.counts(first.task.job).moving, 0);
}

#[test]
fn what_failed_is_not_resumed() {
    let mut driver = movable_driver(1);
    let mut with_retry = spec(1);
    with_retry.retry.retries = 1;
    driver.submit(with_retry);
    save(&mut driver, 1, attempt(1, 0, 1), snapshot(1, 0));
    driver.fail(1, attempt(1, 0, 1));
    assert_eq!(discarded(&driver, 1), [snapshot(1, 0).blob.digest]);
    driver.pass(Duration::from_secs(600));
    assert!(driver.held(1).contains(&attempt(1, 0, 2)));
}

#[test]
fn an_agent_that_comes_back_deletes_what_nobody_needs_any_more() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    driver.say(1, ToCoordinator::Farewell);
    driver.started(2, &[attempt(1, 0, 2)]);
    save(&mut driver, 2, attempt(1, 0, 2), snapshot(2, 95));
    let kept = |number| KeptSnapshot { task: first.task, digest: snapshot(number, 0).blob.digest };
    driver.keeps.insert(AgentId(1), vec![kept(1), kept(2)]);
    driver.connect(1, 1, &[]);
    assert_eq!(discarded(&driver, 1), [snapshot(1, 0).blob.digest]);
}

#[test]
fn a_snapshot_of_another_agents_attempt_or_one_too_large_is_not_believed() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 2, first, snapshot(6, 90));
    assert_eq!(discarded(&driver, 2), [snapshot(6, 0).blob.digest]);
    let blob = BlobRef { size_bytes: SNAPSHOT_BYTES_MAX + 1, ..snapshot(7, 0).blob };
    save(&mut driver, 1, first, SnapshotRef { blob, spent_us: 0 });
    save(&mut driver, 1, first, snapshot(8, 1_000_000));
    driver.say(1, ToCoordinator::Farewell);
    let resumed = given(&driver, 2)[0].resume.clone().expect("the last one counts");
    assert_eq!(resumed.blob, snapshot(8, 0).blob);
    assert_eq!(resumed.spent_us, 100_000_000, "no more than the time that it had");
    let views = [1, 2].map(|agent| driver.scheduler.agent(AgentId(agent)).expect("an agent").claims_refused);
    assert_eq!(views, [1, 1]);
}

#[test]
fn a_cancelled_job_leaves_no_snapshot() {
    let mut driver = movable_driver(1);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    driver.say(1, ToCoordinator::Farewell);
    driver.cancel(first.task.job);
    driver.keeps.insert(AgentId(1), vec![KeptSnapshot { task: first.task, digest: snapshot(1, 0).blob.digest }]);
    driver.connect(1, 1, &[]);
    assert_eq!(discarded(&driver, 1), [snapshot(1, 0).blob.digest]);
}

#[test]
fn a_task_that_was_long_and_interrupted_runs_so_that_it_can_be_moved() {
    let mut driver = movable_driver(1);
    driver.submit(spec(1));
    assert_eq!(given(&driver, 1)[0].build, Build::Plain, "nothing is known of it");
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.pass(Duration::from_secs(3 * 3_600));
    driver.say(1, ToCoordinator::Farewell);
    driver.connect(1, 1, &[]);
    assert_eq!(given(&driver, 1)[0], Given { attempt: attempt(1, 0, 2), build: Build::Migratable, resume: None });
}

#[test]
fn a_coordinator_that_takes_over_knows_what_has_run_for_long() {
    let mut driver = movable_driver(1);
    driver.submit(spec(2));
    driver.started(1, &[attempt(1, 0, 1)]);
    driver.pass(Duration::from_secs(3 * 3_600));
    driver.crash();
    driver.connect(1, 2, &[attempt(1, 0, 1)]);
    assert_eq!(given(&driver, 1)[0], Given { attempt: attempt(1, 1, 1), build: Build::Migratable, resume: None });
}

/// Which build a task of the first job executes, or would, and why.
fn choice(driver: &Driver, index: u32) -> Choice {
    driver.scheduler.explain(attempt(1, index, 1).task, driver.now).expect("it is open").build
}

#[test]
fn a_running_task_keeps_its_build_and_it_is_said_that_more_is_known_now() {
    let mut driver = movable_driver(1);
    driver.submit(spec(2));
    driver.started(1, &[attempt(1, 0, 1)]);
    assert_eq!(choice(&driver, 0), Choice { build: Build::Plain, reason: Reason::Unknown }, "nothing better is known");
    driver.pass(Duration::from_secs(3 * 3_600));
    driver.crash();
    driver.connect(1, 2, &[attempt(1, 0, 1)]);
    assert_eq!(choice(&driver, 0), Choice { build: Build::Plain, reason: Reason::Earlier });
    assert_eq!(choice(&driver, 1), Choice { build: Build::Migratable, reason: Reason::Unknown });
}

#[test]
fn of_a_task_that_goes_on_from_a_snapshot_it_is_said_so_while_it_runs() {
    let mut driver = movable_driver(2);
    let first = one_running(&mut driver);
    save(&mut driver, 1, first, snapshot(1, 90));
    evict(&mut driver, 1, first);
    driver.started(2, &[attempt(1, 0, 2)]);
    assert_eq!(choice(&driver, 0), Choice { build: Build::Migratable, reason: Reason::Resumes });
}

#[test]
fn versions_without_a_migratable_build_run_plain() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    assert_eq!(given(&driver, 1)[0].build, Build::Plain);
}
