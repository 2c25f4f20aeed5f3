//! `sim`: a night of an office on a seed, with everything that can go wrong.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Parser;
use lull_tests::sim::{self, Kind, Level, Options, Outcome};

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
    /// Compare what a task costs the scheduler at 10,000 agents with what it costs at 100.
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

/// The same tasks on fleets of both sizes.
fn growth(options: &Options) -> ExitCode {
    println!("agents   faults    us/task");
    let mut sound = true;
    for faults in [Level::None, Level::Default] {
        let mut costs = Vec::new();
        for agents in [100, 10_000] {
            let outcome = sim::run(&Options { agents, faults, steady: true, audit_every: u64::MAX, ..options.clone() });
            let cost = outcome.summary.core_us_per_task();
            println!("{agents:>6}   {faults:<8?}  {cost:>7.2}");
            if let Some(violation) = &outcome.violation {
                println!("{violation}");
                sound = false;
            }
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
