//! `sim`: a night of an office on a seed, with everything that can go wrong.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Parser;
use lull_tests::sim::{self, Kind, Level, Options, Outcome};

/// The fleets whose costs are compared.
const FLEETS: [u32; 2] = [100, 10_000];

/// Simulates a fleet, its owners, its people and its faults around the real scheduler, sessions and store, and holds
/// them to what is promised. Equal seeds give equal runs.
#[derive(Parser)]
struct Arguments {
    /// Machines.
    #[arg(long, default_value_t = 100)]
    agents: u32,
    /// Tasks of all jobs together.
    #[arg(long, default_value_t = 5_000)]
    tasks: u32,
    /// Virtual hours before everything heals and the jobs must end.
    #[arg(long, default_value_t = 12)]
    hours: u32,
    /// Everything that happens follows from it.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How much goes wrong.
    #[arg(long, value_enum, default_value = "default")]
    faults: Level,
    /// Kinds of faults that do not happen.
    #[arg(long, value_enum, value_delimiter = ',')]
    no: Vec<Kind>,
    /// Events between two complete audits; the promises are checked at every event.
    #[arg(long)]
    audit_every: Option<u64>,
    /// Print what happened last, even if no promise is broken.
    #[arg(long)]
    trace: bool,
    /// All jobs are there from the start and owners leave their machines alone.
    #[arg(long)]
    steady: bool,
    /// Compare what a task costs the scheduler in a fleet of 10,000 agents with what it costs in fleets of 100 that have
    /// as much to do for each agent.
    #[arg(long)]
    growth: bool,
    /// Seconds to look for a smaller world when a promise is broken.
    #[arg(long, default_value_t = 120)]
    shrink_seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        agents: arguments.agents.max(1),
        tasks: arguments.tasks.max(1),
        hours: arguments.hours.max(1),
        seed: arguments.seed,
        faults: arguments.faults,
        no: arguments.no.iter().copied().collect::<BTreeSet<_>>(),
        audit_every: arguments.audit_every.unwrap_or(if arguments.agents <= 50 { 1 } else { 200_000 }),
        mutation: None,
        trace: arguments.trace,
        steady: arguments.steady,
    };
    if arguments.growth {
        return growth(&options);
    }
    println!("sim {options}");
    let outcome = sim::run(&options);
    print(&outcome);
    if outcome.violation.is_none() {
        println!("every promise held");
        return ExitCode::SUCCESS;
    }
    println!("\nlooking for a smaller world that breaks it too");
    if let Some((smaller, outcome)) = sim::shrink::shrink(&options, Duration::from_secs(arguments.shrink_seconds)) {
        println!("sim {smaller}");
        print(&outcome);
    }
    ExitCode::FAILURE
}

fn print(outcome: &Outcome) {
    println!("{}", outcome.summary);
    if let Some(peak) = peak_memory_bytes() {
        println!("peak memory of this process {} MB", peak / 1_000_000);
    }
    println!("digest {:016x}", outcome.digest);
    outcome.trace.iter().for_each(|line| println!("  {line}"));
    if let Some(violation) = &outcome.violation {
        println!("{violation}");
    }
}

/// As many tasks for each agent in fleets of both sizes, so that the signs of life between them weigh the same. Of the
/// small fleet there are as many runs, on seeds of their own, as make up the large one.
fn growth(options: &Options) -> ExitCode {
    println!("agents   faults    runs      tasks    us/task");
    let mut sound = true;
    for faults in [Level::None, Level::Default] {
        let mut costs = Vec::new();
        for agents in FLEETS {
            let runs = FLEETS[1] / agents;
            let (mut tasks, mut core_time) = (0, Duration::ZERO);
            for run in 0..runs {
                let seed = options.seed + u64::from(run);
                let (tasks_each, audit_every) = (options.tasks / runs, u64::MAX);
                let world = Options { agents, tasks: tasks_each, seed, faults, steady: true, audit_every, ..options.clone() };
                let outcome = sim::run(&world);
                tasks += outcome.summary.tasks;
                core_time += outcome.summary.core_time;
                if let Some(violation) = &outcome.violation {
                    println!("sim {world}\n{violation}");
                    sound = false;
                }
            }
            let cost = core_time.as_secs_f64() * 1e6 / tasks.max(1) as f64;
            println!("{agents:>6}   {faults:<8?}  {runs:>4}  {tasks:>9}    {cost:>7.2}");
            costs.push(cost);
        }
        println!("growth   {faults:<8?}  {:>7.2}   (at most 1.5 is wanted)", costs[1] / costs[0]);
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The most memory that this process has had, where the system says so.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
