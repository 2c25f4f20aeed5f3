//! What one task costs the scheduler, from dispatch to result, and what it costs with a large fleet.
//!
//! `cargo bench -p lull-scheduler --bench scheduler` prints microseconds of processor time per task. Nothing here
//! touches a store or a network: the events are made, the effects are read and dropped.

#[path = "../../../tests/benches/report.rs"]
mod report;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use clap::Parser;
use lull_scheduler::{
    Limits, Scheduler,
    effect::{Effect, Order},
    event::{AgentSnapshot, Event, RequestId, Snapshot, StreamId, Submission},
};
use lull_shared::{
    id::{AgentId, AttemptId, TokenId, VersionId},
    job::{Inputs, JobSpec},
    message::{Finished, Hello, Outcome, Payload, RecallReason, ReleaseReason, ToCoordinator},
    resources::{Capacity, Machine},
    state::{Intake, Usage},
    time::Timestamp,
};

use report::{Goal, Manner, Report};

const SLOTS: u16 = 4;
/// What a task may cost in the large fleet over what it costs in the small one.
const GROWTH_MAX: f64 = 1.2;

#[derive(Parser)]
struct Arguments {
    /// Tasks of each run: a million, and 200,000 in short. Far more than the fleet has slots, so that the start of each
    /// stream is a small part.
    #[arg(long)]
    tasks: Option<u32>,
    /// Runs of which the best counts: 3, and 1 in short.
    #[arg(long)]
    runs: Option<u32>,
    #[command(flatten)]
    manner: Manner,
}

fn main() {
    let arguments = Arguments::parse();
    let mut report = Report::new("scheduler", arguments.manner);
    let count = arguments.manner.choose(arguments.tasks, 1_000_000, 200_000);
    let runs = arguments.manner.choose(arguments.runs, 3, 1).max(1);
    report.say(format_args!("tasks  agents  jobs  batch  us/task  ratio (target {GROWTH_MAX})"));
    for (tasks, pace) in [("short", Duration::from_micros(10)), ("long", Duration::from_millis(200))] {
        for (jobs, batch) in [(1, 1), (1, 16), (100, 1)] {
            let mut few = None;
            for agents in [100, 10_000] {
                let best = (0..runs).map(|_| run(agents, jobs, batch, pace, count)).min().expect("one run at least");
                let each = best.as_secs_f64() * 1e6 / f64::from(count);
                let ratio = each / *few.get_or_insert(each);
                report.say(format_args!("{tasks:>5}  {agents:>6}  {jobs:>4}  {batch:>5}  {each:>7.2}  {ratio:>5.2}"));
                let name = format!("{tasks} tasks of {jobs} jobs, results by {batch}");
                report.figure(format!("{name}, {agents} agents"), each, "us a task");
                if agents > 100 {
                    report.goal(format!("{name}, growth"), ratio, "times", Goal::AtMost(GROWTH_MAX));
                }
            }
        }
    }
    report.end();
}

/// Processor time of this thread, so that a busy machine changes little.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this bench runs on Linux");
    let nanoseconds = stat.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("schedstat begins with nanoseconds"))
}

/// What agents have, in the order in which they are given it.
#[derive(Default)]
struct Work {
    given: VecDeque<(AgentId, AttemptId)>,
    /// Asked back before they were begun.
    recalled: BTreeSet<AttemptId>,
}

/// Runs all tasks through the fleet; results come in batches, one batch each `pace`. Long tasks are not prefetched.
fn run(agents: u64, jobs: u32, batch: usize, pace: Duration, tasks: u32) -> Duration {
    let mut now = Timestamp::from_millis(1_795_435_200_000);
    let fleet = (1..=agents).map(|id| AgentSnapshot {
        agent: AgentId(id),
        name: format!("pc-{id}"),
        group: None,
        intake: Intake::Open,
        quarantine: None,
    });
    let snapshot = Snapshot { agents: fleet.collect(), ..Snapshot::default() };
    let mut scheduler = Scheduler::restore(snapshot, Limits::default(), 1, now);
    for id in 1..=agents {
        scheduler.handle(
            Event::Connected { agent: AgentId(id), stream: StreamId(1), hello: Box::new(hello(id)), from: String::new() },
            now,
        );
    }
    while scheduler.poll_effect().is_some() {}
    let mut work = Work::default();
    let began = processor_time();
    for job in 0..jobs {
        let submission = submission(job, tasks / jobs);
        scheduler.handle(Event::Submit { request: RequestId(0), submission: Box::new(submission) }, now);
    }
    drain(&mut scheduler, &mut work);
    let mut done = 0;
    while let Some((agent, attempts)) = next(&mut work, batch) {
        now = now + pace;
        let (released, attempts): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|attempt| work.recalled.remove(attempt));
        done += attempts.len();
        let mut say = |message| scheduler.handle(Event::Message { agent, stream: StreamId(1), message }, now);
        if !released.is_empty() {
            say(ToCoordinator::Released { attempts: released, reason: ReleaseReason::Recalled });
        }
        if !attempts.is_empty() {
            say(ToCoordinator::Started { attempts: attempts.clone() });
            say(finished(&attempts));
        }
        drain(&mut scheduler, &mut work);
    }
    let elapsed = processor_time() - began;
    assert_eq!(done, (tasks / jobs * jobs) as usize, "every task ran");
    elapsed
}

/// Some attempts of one agent.
fn next(work: &mut Work, batch: usize) -> Option<(AgentId, Vec<AttemptId>)> {
    let (agent, first) = work.given.pop_front()?;
    let mut attempts = vec![first];
    while attempts.len() < batch && work.given.front().is_some_and(|(other, _)| *other == agent) {
        attempts.extend(work.given.pop_front().map(|(_, attempt)| attempt));
    }
    Some((agent, attempts))
}

fn drain(scheduler: &mut Scheduler, work: &mut Work) {
    while let Some(effect) = scheduler.poll_effect() {
        match effect {
            Effect::Send { agent, order: Order::Assign { attempts }, .. } => {
                work.given.extend(attempts.into_iter().map(|given| (agent, given.attempt)));
            }
            Effect::Send { order: Order::Recall { attempts, reason: RecallReason::Rebalance }, .. } => {
                work.recalled.extend(attempts);
            }
            Effect::Send { .. } | Effect::Record(_) | Effect::Reply { .. } | Effect::OwnCopy(_) | Effect::Look(_) => {}
        }
    }
}

fn finished(attempts: &[AttemptId]) -> ToCoordinator {
    let usage = Usage { wall_us: u64::MAX, cpu_us: 1_000, memory_peak_bytes: 1 << 20 };
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
        run: 0,
        sequence: 1,
        slots: SLOTS,
        slots_busy: 0,
        waiting: 0,
        cpu_free_percent: 100,
        memory_free_bytes: 8 << 30,
        paused: None,
    };
    let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: SLOTS, memory_bytes: 16 << 30, engine: "e".into() };
    Hello {
        agent_version: "1.0".into(),
        machine,
        labels: Default::default(),
        capacity,
        holding: Vec::new(),
        snapshots: Vec::new(),
        instance: Default::default(),
        open_cage: None,
    }
}

fn submission(job: u32, count: u32) -> Submission {
    let spec = JobSpec::plain("bench", VersionId(1), Inputs::Range { first: 0, count });
    let submitter = format!("user-{}", job % 10);
    Submission {
        owner: TokenId(u64::from(job % 10) + 1),
        submitter,
        spec,
        version_name: "bench@1".into(),
        seed: 1,
        movable: None,
        ended: Default::default(),
    }
}
