//! `sim`: a night of an office on a seed, with everything that can go wrong.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Parser;
use lull_tests::sim::{
    self, Kind, Level, Misfortune, Options, Outcome,
    week::{Leaving, Week},
};

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
    /// Virtual hours before everything heals and the jobs must end: 12, and 168 of a week.
    #[arg(long)]
    hours: Option<u32>,
    /// Everything that happens follows from it.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How much goes wrong: default, and none in a week, whose people and machines are trouble enough.
    #[arg(long, value_enum)]
    faults: Option<Level>,
    /// Kinds of faults that do not happen.
    #[arg(long, value_enum, value_delimiter = ',')]
    no: Vec<Kind>,
    /// Events between two complete audits; the promises are checked at every event.
    #[arg(long)]
    audit_every: Option<u64>,
    /// Print what happened last, even if no promise is broken.
    #[arg(long)]
    trace: bool,
    /// The coordinators' network is cut for so long, halfway: 5s, 45s, 10m. What that threw away, and what was done twice for
    /// it, is in the table.
    #[arg(long, value_name = "TIME", value_parser = lull_shared::amount::length, conflicts_with = "death")]
    cut: Option<Duration>,
    /// The machine that runs the most dies for good, halfway.
    #[arg(long)]
    death: bool,
    /// Each commit takes seconds for so long, halfway.
    #[arg(long, value_name = "TIME", value_parser = lull_shared::amount::length, conflicts_with_all = ["death", "cut"])]
    slow_store: Option<Duration>,
    /// All jobs are there from the start and owners leave their machines alone.
    #[arg(long)]
    steady: bool,
    /// A week of office life from Monday's midnight on, with real guards under policies; prints where the idle time went.
    #[arg(long)]
    week: bool,
    /// What becomes of work in a week when the owner comes back.
    #[arg(long, value_enum, default_value = "move")]
    leaving: Leaving,
    /// Work in a week over what the fleet could do; above one it is never short of work.
    #[arg(long, default_value_t = 1.5)]
    demand: f64,
    /// In a week the scheduler makes no use of what it knows of machines' hours.
    #[arg(long)]
    disbelieve: bool,
    /// Run the week in all three ways of leaving and compare them.
    #[arg(long)]
    compare: bool,
    /// Compare what a task costs the scheduler in a fleet of 10,000 agents with what it costs in fleets of 100 that have
    /// as much to do for each agent.
    #[arg(long)]
    growth: bool,
    /// Some machines say that attempts run, and never that one has ended
    #[arg(long)]
    tardy: bool,
    /// Seconds to look for a smaller world when a promise is broken.
    #[arg(long, default_value_t = 120)]
    shrink_seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_week = arguments.week || arguments.compare;
    let options = Options {
        agents: arguments.agents.max(1),
        tasks: arguments.tasks.max(1),
        hours: arguments.hours.unwrap_or(if is_week { 168 } else { 12 }).max(1),
        seed: arguments.seed,
        faults: arguments.faults.unwrap_or(if is_week { Level::None } else { Level::Default }),
        no: arguments.no.iter().copied().collect::<BTreeSet<_>>(),
        audit_every: arguments.audit_every.unwrap_or(match arguments.agents {
            0..=50 => 1,
            _ if is_week => 5_000_000,
            _ => 200_000,
        }),
        mutation: None,
        trace: arguments.trace,
        misfortune: match (arguments.cut, arguments.slow_store) {
            (Some(time), _) => Some(Misfortune::Cut(time)),
            (None, Some(time)) => Some(Misfortune::SlowStore(time)),
            (None, None) => arguments.death.then_some(Misfortune::Death),
        },
        tardy: arguments.tardy,
        steady: arguments.steady,
        week: is_week.then_some(Week {
            leaving: arguments.leaving,
            demand: arguments.demand,
            believes_hours: !arguments.disbelieve,
        }),
    };
    if arguments.compare {
        return compare(&options);
    }
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
    if let Some(figures) = &outcome.week {
        println!("{figures}");
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
        println!("growth   {faults:<8?}  {:>7.2}   (at most 1.2 is wanted)", costs[1] / costs[0]);
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same week with each way of leaving, two at a time.
fn compare(options: &Options) -> ExitCode {
    let run = |leaving| sim::run(&Options { week: options.week.map(|week| Week { leaving, ..week }), ..options.clone() });
    let outcomes = std::thread::scope(|scope| {
        let moving = scope.spawn(|| run(Leaving::Move));
        let others = [run(Leaving::Restart), run(Leaving::Kill)];
        let moving = moving.join().expect("a run catches its panics");
        [moving].into_iter().chain(others).collect::<Vec<_>>()
    });
    println!("{:<10} {:>9} {:>12} {:>14} {:>10} {:>10}", "leaving", "useful", "of oracle's", "repeated", "evicted", "tasks done");
    let mut sound = true;
    for (leaving, outcome) in ["move", "restart", "kill"].iter().zip(&outcomes) {
        let figures = outcome.week.clone().unwrap_or_default();
        let tally = &outcome.summary.tally;
        println!(
            "{leaving:<10} {:>7.2} % {:>10.2} % {:>12.2} % {:>10} {:>10}",
            100.0 * figures.useful_share(),
            100.0 * figures.of_oracle(),
            100.0 * figures.repeated().as_secs_f64() / figures.offered.as_secs_f64().max(1.0),
            tally.evicted,
            tally.succeeded,
        );
        if let Some(violation) = &outcome.violation {
            println!("{violation}");
            sound = false;
        }
    }
    for outcome in &outcomes {
        println!();
        print(outcome);
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The most memory that this process has had, where the system says so.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
