//! What one task costs the scheduler, from dispatch to result, and what it costs with a large fleet.
//!
//! `cargo bench -p lull-coordinator --bench scheduler` prints microseconds of processor time per task. Nothing here
//! touches a store or a network: the events are made, the effects are read and dropped.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use lull_coordinator::scheduler::{
    Limits, Scheduler,
    effect::{Effect, Order},
    event::{AgentSnapshot, Event, RequestId, Snapshot, StreamId, Submission},
};
use lull_shared::{
    id::{AgentId, AttemptId, VersionId},
    job::{Inputs, JobSpec, Priority, RetryPolicy},
    message::{Finished, Hello, Outcome, Payload, ToCoordinator},
    resources::{Capacity, Machine},
    state::{Intake, Usage},
    time::Timestamp,
};

const TASKS: u32 = 100_000;
const SLOTS: u16 = 4;

fn main() {
    println!("agents  jobs  batch  us/task");
    for (agents, jobs, batch) in [(2, 1, 1), (2, 1, 16), (10_000, 1, 1), (10_000, 1, 16), (2, 100, 1), (10_000, 100, 1)] {
        let best = (0..3).map(|_| run(agents, jobs, batch)).min().expect("three runs");
        println!("{agents:>6}  {jobs:>4}  {batch:>5}  {:.2}", best.as_secs_f64() * 1e6 / f64::from(TASKS));
    }
}

/// Runs all tasks through the fleet; results come in batches, from agents in a scattered order.
fn run(agents: u64, jobs: u32, batch: usize) -> Duration {
    let mut now = Timestamp::from_millis(1_795_435_200_000);
    let fleet = (1..=agents).map(|id| AgentSnapshot { agent: AgentId(id), name: format!("pc-{id}"), intake: Intake::Open });
    let snapshot = Snapshot { agents: fleet.collect(), ..Snapshot::default() };
    let mut scheduler = Scheduler::restore(snapshot, Limits::default(), 1, now);
    for id in 1..=agents {
        scheduler.handle(Event::Connected { agent: AgentId(id), stream: StreamId(1), hello: Box::new(hello(id)) }, now);
    }
    while scheduler.poll_effect().is_some() {}
    let mut work = VecDeque::new();
    let began = Instant::now();
    for job in 0..jobs {
        let submission = submission(job, TASKS / jobs);
        scheduler.handle(Event::Submit { request: RequestId(0), submission: Box::new(submission) }, now);
    }
    drain(&mut scheduler, &mut work);
    let mut done = 0;
    while let Some((agent, attempts)) = next(&mut work, batch) {
        now = now + Duration::from_micros(10);
        done += attempts.len();
        for message in [ToCoordinator::Started { attempts: attempts.clone() }, finished(&attempts)] {
            scheduler.handle(Event::Message { agent, stream: StreamId(1), message }, now);
        }
        drain(&mut scheduler, &mut work);
    }
    let elapsed = began.elapsed();
    assert_eq!(done, TASKS as usize, "every task ran");
    elapsed
}

/// Some attempts of one agent.
fn next(work: &mut VecDeque<(AgentId, AttemptId)>, batch: usize) -> Option<(AgentId, Vec<AttemptId>)> {
    let (agent, first) = work.pop_front()?;
    let mut attempts = vec![first];
    while attempts.len() < batch && work.front().is_some_and(|(other, _)| *other == agent) {
        attempts.extend(work.pop_front().map(|(_, attempt)| attempt));
    }
    Some((agent, attempts))
}

fn drain(scheduler: &mut Scheduler, work: &mut VecDeque<(AgentId, AttemptId)>) {
    while let Some(effect) = scheduler.poll_effect() {
        if let Effect::Send { agent, order: Order::Assign { attempts }, .. } = effect {
            work.extend(attempts.into_iter().map(|attempt| (agent, attempt)));
        }
    }
}

fn finished(attempts: &[AttemptId]) -> ToCoordinator {
    let usage = Usage { wall_us: 1_000, cpu_us: 1_000, memory_peak_bytes: 1 << 20 };
    let finish = |attempt: &AttemptId| Finished {
        attempt: *attempt,
        outcome: Outcome::Succeeded { output: Payload::inline(&b"42"[..]) },
        log: Default::default(),
        log_dropped_bytes: 0,
        usage,
    };
    ToCoordinator::Finished(attempts.iter().map(finish).collect())
}

fn hello(id: u64) -> Hello {
    let capacity = Capacity {
        agent: AgentId(id),
        sequence: 1,
        slots: SLOTS,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    };
    let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: SLOTS, memory_bytes: 16 << 30, engine: "e".into() };
    Hello { agent_version: "1.0".into(), machine, labels: Default::default(), capacity, holding: Vec::new() }
}

fn submission(job: u32, count: u32) -> Submission {
    let spec = JobSpec {
        name: "bench".into(),
        version: VersionId(1),
        args: Vec::new(),
        env: Vec::new(),
        inputs: Inputs::Range { first: 0, count },
        priority: Priority(0),
        retry: RetryPolicy::default(),
        limits: Default::default(),
        grants: Default::default(),
        constraints: Vec::new(),
        window: None,
        finish_by: None,
        after: Vec::new(),
        failures_max: None,
        idempotency_key: None,
    };
    let submitter = format!("user-{}", job % 10);
    Submission { submitter, spec, version_name: "bench@1".into(), seed: 1, ended: Default::default() }
}
