//! Agents come, go silent, come back with what they hold, and go.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, JobId},
    job::{JobSpec, RetryPolicy},
    message::{GoodbyeReason, RecallReason, ReleaseReason, ToCoordinator},
    state::{AttemptEnd, Intake, PauseReason},
};

use crate::{
    effect::{Change, Order, Refusal, Reply},
    event::{Event, StreamId},
    limits::Limits,
    tests::support::driver::{Driver, attempt, capacity, spec},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_loop_that_was_deaf_excuses_silence_and_puts_nothing_else_off() {
    let mut driver = Driver::with_agents(1, 2);
    let retry = RetryPolicy { retries: 1, backoff_ms: 1_000, backoff_max_ms: 1_000 };
    driver.submit(JobSpec { retry, ..spec(2) });
    driver.fail(1, attempt(1, 0, 1));
    driver.scheduler.excuse_silence_until(driver.now + 9 * SECOND);
    driver.pass(8 * SECOND);
    assert_eq!(driver.assigned(1), [attempt(1, 0, 2)], "its pause before the retry is over");
    let silent_since = |driver: &Driver| driver.scheduler.agent(AgentId(1)).expect("known").silent_since;
    assert_eq!(silent_since(&driver), None, "nothing was heard of the agent for two leases");
    driver.pass(5 * SECOND);
    assert!(silent_since(&driver).is_some(), "silence counts again");
}

#[test]
fn a_commit_that_takes_half_a_second_excuses_silence_for_a_lease_and_a_shorter_one_does_not() {
    let silent_after = |took: Duration| {
        let mut driver = Driver::with_agents(1, 1);
        driver.pass(Limits::default().lease - SECOND);
        driver.scheduler.excuse_silence(took, driver.now);
        let mut waited = Duration::ZERO;
        while driver.scheduler.agent(AgentId(1)).expect("known").silent_since.is_none() {
            driver.pass(SECOND / 10);
            waited += SECOND / 10;
        }
        waited
    };
    let (prompt, late) = (silent_after(SECOND / 2), silent_after(SECOND * 6 / 10));
    assert!(prompt <= SECOND && late >= Limits::default().lease, "{prompt:?}, {late:?}");
}

#[test]
fn a_sign_of_life_may_name_what_is_held_in_any_order_and_more_than_once() {
    let mut driver = Driver::with_agents(1, 3);
    driver.submit(spec(3));
    let held = [2, 0, 1, 0].map(|index| attempt(1, index, 1));
    driver.started(1, &held);
    driver.heartbeat(1, &held);
    assert_eq!((driver.ends(), driver.held(1).len()), (vec![], 3));
    assert!(driver.orders.is_empty(), "{:?}", driver.orders);
}

#[test]
fn an_agent_that_is_away_cannot_leave() {
    let mut driver = Driver::new();
    driver.enrol(1);
    driver.set_intake(1, Intake::Revoked);
    assert!(matches!(driver.changes[..], [Change::AgentIntake { .. }]), "{:?}", driver.changes);
}

#[test]
fn a_coordinator_that_slept_does_not_take_its_agents_for_silent() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    driver.now = driver.now + 60 * SECOND;
    driver.scheduler.handle_timeout(driver.now);
    driver.heartbeat(1, &[attempt(1, 0, 1)]);
    driver.pass(SECOND);
    assert_eq!(driver.held(1), [attempt(1, 0, 1)]);
}

#[test]
fn an_attempt_that_the_agent_read_of_and_does_not_have_is_lost() {
    let mut driver = Driver::with_agents(2, 1);
    driver.submit(spec(2));
    driver.started(2, &[attempt(1, 1, 1)]);
    driver.say(1, ToCoordinator::Heartbeat { frame_read: 1, holding: vec![] });
    assert_eq!(driver.ends(), [], "it has read the welcome only");
    driver.heartbeat(1, &[]);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Recalled)], "it had not started");
    assert_eq!(driver.assigned(1), [], "it is asked again in a moment");
    driver.heartbeat(2, &[]);
    assert_eq!(driver.ends(), [(attempt(1, 1, 1), AttemptEnd::Lost)]);
}

#[test]
fn a_newer_stream_supersedes_the_older_and_keeps_what_the_agent_holds() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(2));
    driver.started(1, &[attempt(1, 1, 1)]);
    driver.connect(1, 2, &[attempt(1, 0, 1)]);
    assert!(driver.orders.contains(&(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Superseded })));
    assert_eq!(driver.held(1).len(), 2, "the other may be finished and on its way");
    driver.heartbeat(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ends(), [(attempt(1, 1, 1), AttemptEnd::Lost)]);
    let late = Event::Disconnected { agent: AgentId(1), stream: StreamId(1) };
    driver.handle(late);
    assert_eq!(driver.held(1), [attempt(1, 0, 1)], "the end of the old stream is no news");
}

#[test]
fn what_an_agent_finished_before_it_came_back_counts() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(2));
    driver.connect(1, 1, &[]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Succeeded)]);
    assert_eq!(driver.assigned(1), [attempt(1, 1, 1)]);
    assert!(driver.orders.iter().any(|(_, order)| *order == Order::Brief { job: JobId(1) }), "briefs go out on each stream");
}

#[test]
fn a_farewell_evicts_and_spends_no_retry() {
    let mut driver = Driver::with_agents(2, 1);
    driver.submit(spec(1));
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Evicted)]);
    assert!(driver.changes.iter().any(|change| matches!(change, Change::AgentDisconnected { .. })));
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
}

#[test]
fn an_evicted_task_goes_elsewhere_and_not_straight_back() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    driver.started(1, &[attempt(1, 0, 1)]);
    let reason = ReleaseReason::Evicted(PauseReason::Owner { until: None });
    driver.say(1, ToCoordinator::Released { attempts: vec![attempt(1, 0, 1)], reason });
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Evicted)]);
    assert_eq!(driver.assigned(1), []);
    assert_eq!(driver.scheduler.job(job, driver.now).expect("active").moved, 1);
    driver.enrol_and_connect(2, 1);
    assert_eq!(driver.assigned(2), [attempt(1, 0, 2)]);
}

#[test]
fn a_paused_attempt_is_counted_as_such() {
    let mut driver = Driver::with_agents(1, 1);
    let job = driver.submit(spec(1));
    let paused = |reason| ToCoordinator::Paused { attempt: attempt(1, 0, 1), reason };
    driver.say(1, paused(Some(PauseReason::Busy { cpu_percent: 80 })));
    assert_eq!((driver.counts(job).paused, driver.counts(job).running), (1, 0));
    driver.say(1, paused(Some(PauseReason::Busy { cpu_percent: 90 })));
    assert_eq!(driver.changes, [], "only leaving and coming back are news");
    driver.say(1, paused(None));
    assert_eq!((driver.counts(job).paused, driver.counts(job).running), (0, 1));
    driver.say(1, paused(Some(PauseReason::Owner { until: None })));
    driver.say(1, ToCoordinator::Farewell);
    assert_eq!((driver.counts(job).paused, driver.counts(job).queued), (0, 1));
}

#[test]
fn a_paused_agent_gets_nothing_and_gives_back_what_has_not_started() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(2));
    driver.started(1, &[attempt(1, 0, 1)]);
    let mut paused = capacity(1, 2);
    (paused.sequence, paused.paused) = (2, Some(PauseReason::Owner { until: None }));
    driver.handle(Event::Capacity { capacity: paused.clone() });
    assert_eq!(driver.recalled(1, RecallReason::Rebalance), [attempt(1, 1, 1)]);
    driver.say(1, ToCoordinator::Released { attempts: vec![attempt(1, 1, 1)], reason: ReleaseReason::Recalled });
    assert_eq!((driver.ends(), driver.assigned(1)), (vec![(attempt(1, 1, 1), AttemptEnd::Recalled)], vec![]));
    (paused.sequence, paused.paused) = (3, None);
    driver.handle(Event::Capacity { capacity: paused });
    assert_eq!(driver.assigned(1), [attempt(1, 1, 2)]);
}

#[test]
fn late_gossip_is_ignored() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(3));
    let mut late = capacity(1, 3);
    late.sequence = 0;
    driver.handle(Event::Capacity { capacity: late.clone() });
    assert_eq!(driver.assigned(1), []);
    driver.say(1, ToCoordinator::Capacity(late));
    assert_eq!(driver.assigned(1).len(), 2, "what comes on the stream is in order");
}

#[test]
fn a_cordoned_agent_finishes_and_gets_nothing_new() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(2));
    assert_eq!(driver.set_intake(1, Intake::Cordoned), Reply::Done { affected: 0 });
    assert_eq!(driver.orders, [(AgentId(1), Order::Intake(Intake::Cordoned))]);
    driver.succeed(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.assigned(1), []);
    driver.set_intake(1, Intake::Open);
    assert_eq!(driver.assigned(1), [attempt(1, 1, 1)]);
    driver.set_intake(1, Intake::Open);
    assert_eq!((driver.changes.len(), driver.orders.len()), (0, 0), "it was open already");
}

#[test]
fn a_draining_agent_gives_back_what_has_not_started() {
    let mut driver = Driver::with_agents(1, 2);
    driver.submit(spec(2));
    driver.started(1, &[attempt(1, 0, 1)]);
    assert_eq!(driver.set_intake(1, Intake::Draining), Reply::Done { affected: 1 });
    assert_eq!(driver.recalled(1, RecallReason::Drain), [attempt(1, 1, 1)]);
    driver.heartbeat(1, &[attempt(1, 0, 1), attempt(1, 1, 1)]);
    assert_eq!(driver.held(1).len(), 2, "it had started it after all");
    driver.succeed(1, &[attempt(1, 0, 1), attempt(1, 1, 1)]);
    assert_eq!(driver.assigned(1), []);
}

#[test]
fn a_revoked_agent_is_sent_away_for_good() {
    let mut driver = Driver::with_agents(1, 1);
    driver.submit(spec(1));
    assert_eq!(driver.set_intake(1, Intake::Revoked), Reply::Done { affected: 1 });
    assert_eq!(driver.orders, [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Revoked })]);
    assert_eq!(driver.ends(), [(attempt(1, 0, 1), AttemptEnd::Lost)]);
    driver.connect(1, 1, &[]);
    assert_eq!(driver.orders, [(AgentId(1), Order::Goodbye { reason: GoodbyeReason::Revoked })]);
    assert_eq!(driver.set_intake(1, Intake::Open), Reply::Refused(Refusal::Revoked(AgentId(1))));
    assert_eq!(driver.set_intake(9, Intake::Open), Reply::Refused(Refusal::NoAgent(AgentId(9))));
}
