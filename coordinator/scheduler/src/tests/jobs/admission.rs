//! Limits on what is taken in, and what is given to one agent.

use std::time::Duration;

use lull_shared::{
    digest::BlobRef,
    id::AgentId,
    job::{Inputs, JobSpec},
    message::{RefuseReason, ToCoordinator},
};

use crate::{
    effect::{Order, Refusal, Reply},
    jobs::holding::{Allowance, Counted},
    limits::Limits,
    tests::support::driver::{Driver, attempt, spec},
};

#[test]
fn one_job_too_many_is_refused_until_another_ends() {
    let mut driver = Driver::with(Limits { jobs_active_max: 2, ..Limits::default() });
    let first = driver.submit(spec(1));
    driver.submit(spec(1));
    assert_eq!(driver.try_submit("ada", spec(1)), Reply::Refused(Refusal::TooManyJobs { active: 2 }));
    driver.cancel(first);
    assert!(matches!(driver.try_submit("ada", spec(1)), Reply::Submitted { existing: false, .. }));
}

/// A scheduler that allows each submitter so much.
fn allowing(allowance: Allowance) -> Driver {
    Driver::with(Limits { allowance, ..Limits::default() })
}

fn spent(reply: Reply) -> Option<Counted> {
    match reply {
        Reply::Refused(Refusal::ShareSpent { counted, .. }) => Some(counted),
        _ => None,
    }
}

#[test]
fn whoever_has_used_up_his_share_of_jobs_waits_and_others_do_not() {
    let mut driver = allowing(Allowance { jobs: 2, ..Allowance::default() });
    let first = driver.submit_as("ada", spec(1));
    driver.submit_as("ada", spec(1));
    let refused = Refusal::ShareSpent { counted: Counted::Jobs, has: 2, more: 1, max: 2 };
    assert_eq!(driver.try_submit("ada", spec(1)), Reply::Refused(refused));
    driver.submit_as("bob", spec(1));
    driver.cancel(first);
    driver.submit_as("ada", spec(1));
    assert_eq!(spent(driver.retry(first)), Some(Counted::Jobs), "what runs again takes room again");
}

#[test]
fn tasks_inputs_and_arguments_of_a_submitter_are_bounded_too() {
    let allowance = Allowance { tasks: 10, input_bytes: 1_000, argument_bytes: 100, ..Allowance::default() };
    let mut driver = allowing(allowance);
    driver.submit_as("ada", spec(6));
    assert_eq!(spent(driver.try_submit("ada", spec(5))), Some(Counted::Tasks));
    let argued = |bytes: usize| JobSpec { args: vec!["x".repeat(bytes)], ..spec(1) };
    driver.submit_as("ada", argued(60));
    assert_eq!(spent(driver.try_submit("ada", argued(60))), Some(Counted::ArgumentBytes));
    let packed =
        |size_bytes| JobSpec { inputs: Inputs::Pack { pack: BlobRef { size_bytes, ..BlobRef::of(b"") }, count: 1 }, ..spec(1) };
    driver.submit_as("ada", packed(900));
    assert_eq!(spent(driver.try_submit("ada", packed(200))), Some(Counted::InputBytes));
    driver.submit_as("bob", packed(900));
}

#[test]
fn a_job_without_tasks_ends_at_once() {
    let mut driver = Driver::new();
    let job = driver.submit(spec(0));
    assert!(driver.ledger.state(job).is_ended());
}

#[test]
fn an_assignment_order_has_its_limit() {
    let mut driver = Driver::with_agents(1, 200);
    let mut small = spec(10_000);
    small.limits.memory_bytes = 1 << 20;
    driver.submit(small);
    let held = driver.held(1);
    for round in held.chunks(10).take(6) {
        driver.started(1, round);
        driver.pass(Duration::from_micros(500));
        driver.succeed_after(1, round, Duration::from_micros(500));
    }
    let sizes = driver.orders.iter().filter_map(|(_, order)| match order {
        Order::Assign { attempts } => Some(attempts.len()),
        _ => None,
    });
    let sizes: Vec<_> = sizes.collect();
    assert!(sizes.iter().all(|size| *size <= 512), "{sizes:?}");
    let waiting = driver.held(1).len() - 200;
    assert!((512..=1024).contains(&waiting), "{waiting} wait, at most 1,024 may");
}

#[test]
fn an_agent_forgets_idle_jobs_when_it_knows_too_many() {
    let mut driver = Driver::with(Limits { terms_per_agent_max: 2, ..Limits::default() });
    driver.enrol_and_connect(1, 3);
    let first = driver.submit(spec(2));
    driver.succeed(1, &[attempt(1, 0, 1)]);
    driver.submit(spec(1));
    driver.submit(spec(1));
    assert!(!driver.orders.iter().any(|(_, order)| matches!(order, Order::Forget { .. })), "it is busy with all of them");
    driver.say(1, ToCoordinator::Farewell);
    driver.connect(1, 1, &[]);
    for job in 1..=3 {
        driver.enrol(9 + job);
    }
    assert_eq!(driver.orders_sent(1), 3, "welcome, briefs, assignment");
    driver.succeed(1, &[attempt(1, 1, 2)]);
    assert!(driver.orders.contains(&(AgentId(1), Order::Forget { job: first })));
}

#[test]
fn terms_that_a_busy_agent_was_told_beyond_the_bound_go_when_it_is_idle_and_all_with_its_stream() {
    let mut driver = Driver::with(Limits { terms_per_agent_max: 2, ..Limits::default() });
    driver.enrol_and_connect(1, 5);
    let told = |driver: &Driver| {
        let agent = driver.scheduler.fleet.get(AgentId(1)).expect("an agent");
        agent.stream().map(|stream| stream.briefs.len())
    };
    for job in 1..=5 {
        driver.submit(spec(1));
        assert_eq!(told(&driver), Some(job), "it is busy with all of them");
    }
    for job in 1..=4 {
        driver.say(1, ToCoordinator::Refused { attempt: attempt(job, 0, 1), reason: RefuseReason::Full });
    }
    driver.submit(spec(1));
    assert_eq!(told(&driver), Some(2), "the job with which it is busy, and the new one");
    driver.disconnect(1);
    assert_eq!(told(&driver), None);
    driver.connect(1, 5, &[attempt(5, 0, 1), attempt(6, 0, 1)]);
    assert!(told(&driver).is_some_and(|told| told <= 4), "what it is given anew is told anew");
}

#[test]
fn an_agent_has_no_more_attempts_than_the_bound_and_none_when_they_have_ended() {
    let mut driver = Driver::with(Limits { attempts_per_agent_max: 8, ..Limits::default() });
    driver.enrol_and_connect(1, 5);
    let mut small = spec(100);
    small.limits.memory_bytes = 1 << 20;
    driver.submit(small);
    let mut most = 0;
    for _ in 0..100 {
        let held = driver.held(1);
        most = most.max(held.len());
        let Some(first) = held.first().copied() else { break };
        driver.started(1, &[first]);
        driver.pass(Duration::from_micros(500));
        driver.succeed_after(1, &[first], Duration::from_micros(500));
    }
    assert_eq!((most, driver.held(1)), (8, Vec::new()));
}
