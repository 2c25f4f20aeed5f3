//! The work: which jobs are submitted when, and what each of their tasks comes to. A task's fate depends on the seed and
//! the attempt alone, so that it is the same wherever and whenever it runs.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, AttemptId, TaskId, VersionId},
    job::{AttemptLimits, Inputs, JobSpec, Moving, Priority, RetryPolicy},
    limits::LOG_BYTES_MAX,
    message::ToCoordinator,
    share::Share,
    time::Timestamp,
};

use crate::sim::{
    dice::{Dice, fraction, mixed},
    options::{Kind, Options},
    week,
};

/// Inputs of different jobs differ, so that a mixed-up result is noticed.
pub(crate) const INPUTS_PER_JOB: u64 = 100_000_000;
pub(crate) const SUBMITTERS: [&str; 5] = ["ada", "grace", "linus", "edsger", "barbara"];
/// Slots of a machine, on average.
const SLOTS_MEAN: f64 = 3.0;
/// The share of the fleet's time that the work would take if nobody else used it.
const LOAD: f64 = 0.25;
/// One task in so many has an output too large for a message.
const LARGE_OUTPUTS: u64 = 50;

/// A job that somebody is going to submit.
#[derive(Debug, Clone)]
pub struct Planned {
    pub at: Timestamp,
    pub submitter: &'static str,
    pub spec: JobSpec,
    /// Earlier planned jobs that it waits for, and whether they must succeed.
    pub after: Vec<(usize, bool)>,
}

/// How one attempt goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    Succeeds { large: bool },
    Exits,
    Traps,
    Hangs,
    KillsItsExecutor,
}

/// All jobs of a run.
pub(crate) fn jobs(options: &Options, start: Timestamp) -> Vec<Planned> {
    if let Some(week) = options.week {
        return week::work::jobs(options, week, start);
    }
    let mut dice = Dice::new(options.seed, 2);
    let count = if options.steady { 20 } else { ((f64::from(options.tasks)).sqrt() / 8.0).clamp(4.0, 80.0) as u32 };
    let count = count.min(options.tasks.max(1)) as usize;
    let mut shares: Vec<f64> = (0..count).map(|_| 0.1 + dice.wait(Duration::from_secs(1)).as_secs_f64()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    let night = Duration::from_secs(u64::from(options.hours) * 3600);
    let mean = mean_task(options);
    let mut left = options.tasks;
    let mut jobs = Vec::with_capacity(count);
    for (number, share) in shares.iter().enumerate() {
        let rest = (count - number - 1) as u32;
        let tasks = ((f64::from(options.tasks) * share) as u32).clamp(1, left.saturating_sub(rest).max(1));
        let tasks = if rest == 0 { left.max(1) } else { tasks };
        left = left.saturating_sub(tasks);
        let soon = options.steady || dice.chance(0.4);
        let at = start + if soon { dice.seconds(0.0, 60.0) } else { dice.between(Duration::ZERO, night.mul_f64(0.6)) };
        let first = (number as u64 + 1) * INPUTS_PER_JOB;
        jobs.push(Planned {
            at,
            submitter: SUBMITTERS[dice.index(SUBMITTERS.len())],
            spec: spec(options, &mut dice, first, tasks, at, mean),
            after: Vec::new(),
        });
    }
    jobs.sort_by_key(|job| job.at);
    for (number, job) in jobs.iter_mut().enumerate().skip(1) {
        if !options.steady && dice.chance(0.2) {
            job.after.push((dice.index(number), dice.chance(0.3)));
        }
    }
    jobs
}

fn spec(options: &Options, dice: &mut Dice, first: u64, tasks: u32, at: Timestamp, mean: Duration) -> JobSpec {
    // Some jobs are of tasks of a few milliseconds, as executors are piped for.
    let each = if !options.steady && dice.chance(0.15) { Duration::from_millis(2) } else { dice.between(mean / 2, mean * 3 / 2) };
    let each_us = each.as_micros() as u64;
    let people = options.rate(Kind::People) > 0.0;
    let hour = (at.as_millis() / 3_600_000).rem_euclid(24) as u64;
    let opens = (hour + dice.number(0, 4)) % 24;
    let window = format!("{opens:02}:00-{:02}:00", (opens + dice.number(2, 9)) % 24);
    JobSpec {
        name: format!("night-{first}"),
        version: VersionId(1 + dice.number(0, 3)),
        // The mean time of a task, as the simulated function reads it.
        args: vec![each_us.to_string()],
        env: Vec::new(),
        inputs: Inputs::Range { first, count: tasks },
        priority: Priority(if options.steady { 0 } else { [-5, 0, 0, 0, 5][dice.index(5)] }),
        retry: RetryPolicy { retries: dice.number(0, 4) as u32, backoff_ms: 1_000, backoff_max_ms: 60_000 },
        limits: AttemptLimits {
            time_ms: (each_us / 1_000 * 30).max(5_000),
            memory_bytes: dice.number(64, 1024) << 20,
            ..AttemptLimits::default()
        },
        grants: Default::default(),
        constraints: if !options.steady && dice.chance(0.15) {
            vec!["site!=lab".parse().expect("a constraint")]
        } else {
            Vec::new()
        },
        window: (!options.steady && dice.chance(0.15)).then(|| window.parse().expect("a window")),
        finish_by: (people && dice.chance(0.05)).then(|| at + dice.seconds(1_800.0, 7_200.0)),
        after: Vec::new(),
        failures_max: dice.chance(0.1).then_some(20),
        moving: if options.steady { Moving::Auto } else { [Moving::Auto, Moving::Always, Moving::Never][dice.index(3)] },
        idempotency_key: Some(format!("key-{first}")),
        request: None,
        zone: Default::default(),
        at_once: None,
        exit_codes: Default::default(),
        fail_fast_on: Vec::new(),
        verify: verify(options, dice),
        lost_after_ms: lull_shared::limits::LOST_AFTER_DEFAULT.as_millis() as u64,
    }
}

/// Some jobs are verified, in part or as a whole; not where so few machines are that one cannot be spared.
fn verify(options: &Options, dice: &mut Dice) -> Share {
    if options.steady || options.agents < LIARS_FROM || !dice.chance(0.3) {
        return Share::NONE;
    }
    Share::of_hundredths([500, 5_000, Share::WHOLE][dice.index(3)])
}

/// The mean time of a task: the whole work takes a part of the fleet's time.
fn mean_task(options: &Options) -> Duration {
    let slot_seconds = f64::from(options.hours) * 3600.0 * f64::from(options.agents) * SLOTS_MEAN * LOAD;
    Duration::from_secs_f64((slot_seconds / f64::from(options.tasks.max(1))).clamp(0.005, 1_800.0))
}

/// The input of a job's first task.
pub(crate) fn first_input(spec: &JobSpec) -> u64 {
    match spec.inputs {
        Inputs::Range { first, .. } => first,
        Inputs::Numbers(_) | Inputs::Pack { .. } => unreachable!("planned jobs have ranges"),
    }
}

/// What the simulated function writes for an input.
pub(crate) fn output(input: u64) -> String {
    format!("done {input}")
}

/// From so many machines on some lie, and jobs are verified.
const LIARS_FROM: u32 = 8;
/// One machine in so many lies.
const LIARS: u64 = 7;
/// One machine in so many lies about time, where any does.
const TARDY: u64 = 4;

/// Whether this machine writes other outputs than its functions now and then. Those that do never agree.
pub(crate) fn is_liar(options: &Options, agent: AgentId) -> bool {
    options.rate(Kind::Guest) > 0.0 && options.agents >= LIARS_FROM && agent.0 % LIARS == 3
}

/// Whether this machine says that attempts run, and never that one has ended.
pub(crate) fn is_tardy(options: &Options, agent: AgentId) -> bool {
    options.tardy && agent.0 % TARDY == 2
}

/// What a liar writes in place of its function, if it does so with this attempt.
pub(crate) fn lie(options: &Options, agent: AgentId, attempt: AttemptId, input: u64) -> Option<String> {
    let throw = fraction(mixed(&[options.seed, agent.0, attempt.task.job.0, u64::from(attempt.task.index), 11]));
    (is_liar(options, agent) && throw < 0.5).then(|| format!("{agent} says done {input}"))
}

/// One machine in so many breaks the protocol, where there are enough others.
const GARBLERS: u64 = 11;

/// Of a machine that breaks the protocol the results of some attempts arrive with a log that no agent may have.
pub(crate) fn garble(options: &Options, agent: AgentId, message: &mut ToCoordinator) {
    let garbles = options.rate(Kind::Guest) > 0.0 && options.agents >= LIARS_FROM && agent.0 % GARBLERS == 5;
    let ToCoordinator::Finished(results) = message else { return };
    for result in results.iter_mut().filter(|_| garbles) {
        let task = mark(options, result.attempt.task);
        if fraction(mixed(&[task, u64::from(result.attempt.number), 13])) < 0.5 {
            result.log = vec![0; LOG_BYTES_MAX as usize + 1].into();
        }
    }
}

/// How an attempt goes and how long it takes.
pub(crate) fn fate(options: &Options, attempt: AttemptId, each: Duration) -> (Fate, Duration) {
    let task = mark(options, attempt.task);
    let length = length(options, attempt.task, each);
    let large = task.is_multiple_of(LARGE_OUTPUTS);
    let bad = options.rate(Kind::Guest).min(4.0);
    let hopeless = fraction(mixed(&[task, 7])) < 0.0005 * bad;
    let throw = fraction(mixed(&[task, u64::from(attempt.number)]));
    let fate = if hopeless || throw < 0.004 * bad {
        Fate::Exits
    } else if throw < 0.007 * bad {
        Fate::Traps
    } else if throw < 0.0075 * bad {
        Fate::Hangs
    } else if options.rate(Kind::Executor) > 0.0 && throw < 0.0085 * bad {
        Fate::KillsItsExecutor
    } else {
        Fate::Succeeds { large }
    };
    (fate, length)
}

/// A task's own number.
fn mark(options: &Options, task: TaskId) -> u64 {
    mixed(&[options.seed, task.job.0, u64::from(task.index)])
}

/// How long a task takes in a plain build. Its length is its own; most are short, some take ten times the mean. In a week
/// tasks of a job resemble each other.
pub(crate) fn length(options: &Options, task: TaskId, each: Duration) -> Duration {
    let fraction = fraction(mark(options, task));
    let spread = if options.week.is_some() { 0.6 + 0.8 * fraction } else { -(1.0 - fraction).ln() };
    each.mul_f64(spread.clamp(0.02, 10.0))
}

/// The mean time of a job's tasks, as its function reads it.
pub(crate) fn mean_time(args: &[String]) -> Duration {
    Duration::from_micros(args.first().and_then(|each| each.parse().ok()).unwrap_or(1))
}
