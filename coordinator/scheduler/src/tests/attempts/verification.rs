//! Outputs that count only once another agent has brought the same.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::{AgentId, AttemptId, JobId},
    job::JobSpec,
    message::{Build, Outcome, Payload, RecallReason, ReleaseReason, SnapshotRef, ToCoordinator},
    share::Share,
    state::{AttemptEnd, Failure, Intake, JobState, PauseReason, TaskCounts, TaskState, WaitReason},
};

use crate::{
    effect::{Change, Order, Reply, TaskAfter},
    event::{Movable, QuarantineKind},
    tests::support::driver::{Driver, attempt, spec, success},
    views::view::Obstacle,
};

const SECOND: Duration = Duration::from_secs(1);

/// A job of so many tasks, each of which is verified.
fn verified(tasks: u32) -> JobSpec {
    JobSpec { verify: Share::of_hundredths(Share::WHOLE), ..spec(tasks) }
}

/// The agent brings this output.
fn bring(driver: &mut Driver, agent: u64, attempt: AttemptId, output: &str) {
    let mut result = success(attempt, SECOND);
    result.outcome = Outcome::Succeeded { output: Payload::inline(output.to_owned()) };
    driver.say(agent, ToCoordinator::Finished(vec![result]));
}

fn output_of(driver: &Driver) -> Option<Payload> {
    driver.ended().last().and_then(|ended| ended.output.clone())
}

fn is_quarantined(driver: &Driver, agent: u64) -> bool {
    driver.scheduler.agent(AgentId(agent)).expect("an agent").quarantine.is_some()
}

#[test]
fn an_output_counts_once_another_agent_has_brought_the_same() {
    let mut driver = Driver::patient(2);
    let job = driver.submit(verified(1));
    bring(&mut driver, 1, attempt(1, 0, 1), "42");
    assert_eq!(driver.ended()[0].after, TaskAfter::Again { not_before: driver.now, failures: 0 });
    assert_eq!((output_of(&driver), driver.counts(job)), (None, TaskCounts { verifying: 1, ..Default::default() }));
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
    let explained = driver.scheduler.explain(attempt(1, 0, 2).task, driver.now).expect("open");
    assert_eq!(explained.state, TaskState::Verifying);
    assert_eq!(explained.at.and_then(|at| at.cause).as_deref(), Some("its output is compared with that of another agent"));
    bring(&mut driver, 2, attempt(1, 0, 2), "42");
    assert_eq!(output_of(&driver), Some(Payload::inline("42")));
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
    assert!(!is_quarantined(&driver, 1) && !is_quarantined(&driver, 2));
}

#[test]
fn the_same_agent_is_never_asked_twice_and_explain_says_for_whom_the_task_waits() {
    let mut driver = Driver::patient(1);
    let job = driver.submit(verified(1));
    bring(&mut driver, 1, attempt(1, 0, 1), "42");
    driver.pass(3_600 * SECOND);
    assert_eq!((driver.held(1), driver.counts(job).verifying), (vec![], 1));
    let explained = driver.scheduler.explain(attempt(1, 0, 1).task, driver.now).expect("open");
    assert_eq!(explained.waiting, Some(WaitReason::Verification { outputs: 1 }));
    assert_eq!(explained.agents[0].obstacles, [Obstacle::Answered]);
    driver.enrol_and_connect(2, 1);
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
}

#[test]
fn what_is_not_chosen_counts_at_once() {
    let mut driver = Driver::patient(1);
    let half = JobSpec { verify: Share::of_hundredths(5_000), ..spec(40) };
    let job = driver.submit(half);
    while let [held, ..] = driver.held(1)[..] {
        bring(&mut driver, 1, held, "42");
    }
    let counts = driver.counts(job);
    assert!(counts.verifying > 5 && counts.succeeded > 5 && counts.verifying + counts.succeeded == 40, "{counts:?}");
}

#[test]
fn a_third_agent_settles_a_difference_and_the_liar_is_quarantined() {
    let mut driver = Driver::patient(3);
    let job = driver.submit(verified(1));
    bring(&mut driver, 1, attempt(1, 0, 1), "lie");
    bring(&mut driver, 2, attempt(1, 0, 2), "42");
    assert_eq!(driver.assigned(3), [attempt(1, 0, 3)]);
    assert!(!is_quarantined(&driver, 1), "one word against another");
    bring(&mut driver, 3, attempt(1, 0, 3), "42");
    assert_eq!((output_of(&driver), driver.ledger.state(job)), (Some(Payload::inline("42")), JobState::Succeeded));
    assert_eq!([1, 2, 3].map(|agent| is_quarantined(&driver, agent)), [true, false, false]);
    let reason = "its output of j1.0 differs from what two other agents brought".to_owned();
    assert!(driver.changes.contains(&Change::AgentQuarantined {
        agent: AgentId(1),
        kind: QuarantineKind::Output,
        reason,
        at: driver.now
    }));
    assert!(driver.orders.contains(&(AgentId(1), Order::Intake(Intake::Cordoned))));
}

#[test]
fn what_a_liar_has_goes_elsewhere_and_it_gets_nothing_until_it_is_trusted_again() {
    let mut driver = Driver::patient(3);
    driver.submit(verified(1));
    bring(&mut driver, 1, attempt(1, 0, 1), "lie");
    driver.submit(spec(1));
    let other = attempt(2, 0, 1);
    assert_eq!(driver.held(1), [other]);
    driver.started(1, &[other]);
    bring(&mut driver, 2, attempt(1, 0, 2), "42");
    bring(&mut driver, 3, attempt(1, 0, 3), "42");
    assert!(driver.ends().contains(&(other, AttemptEnd::Recalled)));
    assert_eq!(driver.recalled(1, RecallReason::Stale), [other]);
    assert_eq!([driver.held(2), driver.held(3)].concat(), [attempt(2, 0, 2)]);
    bring(&mut driver, 1, other, "another lie");
    assert_eq!((driver.ledger.results_refused, driver.held(1)), (1, vec![]));
    driver.submit(spec(5));
    assert_eq!(driver.held(1), []);
    driver.crash();
    driver.connect(1, 1, &[]);
    assert!(driver.orders.contains(&(AgentId(1), Order::Welcome { intake: Intake::Cordoned })), "a takeover forgets nothing");
    assert_eq!(driver.held(1), []);
    assert_eq!(driver.trust(1), Reply::Done { affected: 1 });
    assert_eq!(driver.held(1).len(), 1);
    assert_eq!(driver.trust(1), Reply::Done { affected: 0 });
}

#[test]
fn three_different_outputs_fail_the_task_and_nobody_is_to_blame() {
    let mut driver = Driver::patient(3);
    let job = driver.submit(verified(1));
    for agent in 1..=3 {
        bring(&mut driver, agent, attempt(1, 0, agent as u32), &agent.to_string());
    }
    let ended = driver.ended();
    assert_eq!((ended[0].after, ended[0].failure.clone()), (TaskAfter::Failed, Some(Failure::NotDeterministic { runs: 3 })));
    assert_eq!((driver.ledger.state(job), (1..=3).any(|agent| is_quarantined(&driver, agent))), (JobState::Failed, false));
}

#[test]
fn an_agent_cannot_call_a_function_not_deterministic() {
    let mut driver = Driver::patient(1);
    driver.submit(spec(1));
    let mut claim = success(attempt(1, 0, 1), SECOND);
    claim.outcome = Outcome::Failed(Failure::NotDeterministic { runs: 3 });
    driver.say(1, ToCoordinator::Finished(vec![claim]));
    assert!(matches!(driver.ended()[0].after, TaskAfter::Again { .. }), "it is tried again like any failure");
}

#[test]
fn a_coordinator_that_takes_over_knows_what_was_brought() {
    let mut driver = Driver::patient(3);
    let job = driver.submit(verified(1));
    bring(&mut driver, 1, attempt(1, 0, 1), "lie");
    driver.crash();
    (1..=3).for_each(|agent| driver.connect(agent, 1, &driver.held(agent)));
    let second = (2..=3).find(|agent| !driver.held(*agent).is_empty()).expect("one of the others has it");
    let held = driver.held(second)[0];
    bring(&mut driver, second, held, "42");
    driver.crash();
    (1..=3).for_each(|agent| driver.connect(agent, 1, &driver.held(agent)));
    let third = 5 - second;
    let held = driver.held(third)[0];
    bring(&mut driver, third, held, "42");
    assert_eq!((driver.ledger.state(job), is_quarantined(&driver, 1)), (JobState::Succeeded, true));
}

#[test]
fn a_check_that_is_lost_or_fails_is_done_by_another() {
    let mut driver = Driver::patient(3);
    let job = driver.submit(verified(1));
    bring(&mut driver, 1, attempt(1, 0, 1), "42");
    let reason = ReleaseReason::Evicted(PauseReason::Owner { until: None });
    driver.say(2, ToCoordinator::Released { attempts: vec![attempt(1, 0, 2)], reason });
    assert_eq!(driver.assigned(3), [attempt(1, 0, 3)]);
    driver.fail(3, attempt(1, 0, 3));
    assert_eq!((driver.counts(job).verifying, driver.held(1)), (1, vec![]));
    driver.pass(5 * SECOND);
    let (agent, held) = (2..=3).find_map(|agent| Some((agent, *driver.held(agent).first()?))).expect("it is tried again");
    bring(&mut driver, agent, held, "42");
    assert_eq!(driver.ledger.state(job), JobState::Succeeded);
}

#[test]
fn a_cancelled_job_keeps_nothing_to_compare_and_begins_anew_when_it_is_retried() {
    let mut driver = Driver::patient(1);
    let job = driver.submit(verified(2));
    bring(&mut driver, 1, attempt(1, 0, 1), "42");
    driver.cancel(job);
    bring(&mut driver, 1, attempt(1, 1, 1), "43");
    assert_eq!((output_of(&driver), driver.ledger.state(job)), (None, JobState::Cancelled));
    driver.retry(job);
    assert_eq!(driver.held(1), [attempt(1, 0, 2)], "the same agent may begin again");
}

#[test]
fn a_verified_task_is_the_work_of_one_agent_alone() {
    let mut driver = Driver::patient(2);
    driver.movable = Some(Movable { cost_percent: 101 });
    let moving = lull_shared::job::Moving::Always;
    driver.submit(JobSpec { moving, ..verified(1) });
    let builds = driver.changes.iter().filter_map(|change| match change {
        Change::AttemptStarted { build, .. } => Some(*build),
        _ => None,
    });
    assert_eq!(builds.collect::<Vec<_>>(), [Build::Plain]);
    let snapshot = SnapshotRef { blob: BlobRef::of(b"state"), spent_us: 1 };
    driver.say(1, ToCoordinator::Saved { attempt: attempt(1, 0, 1), snapshot });
    assert!(!driver.changes.iter().any(|change| matches!(change, Change::SnapshotSaved { .. })));
}

#[test]
fn checks_find_agents_that_were_free_all_along() {
    let mut driver = Driver::patient(3);
    let job = driver.submit(verified(2));
    bring(&mut driver, 1, attempt(1, 0, 1), "42");
    // Agent 3 has the check of task 0; agent 1 is free and may check task 1 only.
    assert_eq!(driver.held(3), [attempt(1, 0, 2)]);
    bring(&mut driver, 2, attempt(1, 1, 1), "43");
    assert_eq!(driver.held(1), [attempt(1, 1, 2)]);
    bring(&mut driver, 1, attempt(1, 1, 2), "43");
    bring(&mut driver, 3, attempt(1, 0, 2), "42");
    assert_eq!((driver.ledger.state(job), job), (JobState::Succeeded, JobId(1)));
}

#[test]
fn a_second_copy_of_a_check_goes_to_no_agent_that_has_answered() {
    let mut driver = Driver::patient(2);
    let job = driver.submit(verified(5));
    let slow = |attempt: &AttemptId| attempt.task.index == 4 && attempt.number == 2;
    // All is brought and checked at once but the last task, whose check is slow.
    while driver.ledger.counts(job).succeeded < 4 {
        for agent in 1..=2 {
            for held in driver.held(agent).into_iter().filter(|held| !slow(held)) {
                driver.started(agent, &[held]);
                driver.pass(SECOND);
                bring(&mut driver, agent, held, "42");
            }
        }
    }
    let checks = |driver: &Driver, agent| driver.held(agent).iter().any(slow);
    let (checker, answerer) = if checks(&driver, 1) { (1, 2) } else { (2, 1) };
    driver.started(checker, &[attempt(1, 4, 2)]);
    driver.pass(Duration::from_secs(1_000));
    assert_eq!((driver.held(checker), driver.held(answerer)), (vec![attempt(1, 4, 2)], vec![]));
    driver.enrol_and_connect(3, 1);
    driver.pass(Duration::from_secs(60));
    assert_eq!((driver.held(answerer), driver.held(3)), (vec![], vec![attempt(1, 4, 3)]));
}
