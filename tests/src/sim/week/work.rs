//! The work of a week: jobs of tasks of seconds and of tasks of hours.

use std::time::Duration;

use lull_shared::{
    id::VersionId,
    job::{AttemptLimits, Inputs, JobSpec, Moving, Priority, RetryPolicy},
    share::Share,
    time::Timestamp,
};

use super::{
    super::{
        dice::Dice,
        options::Options,
        people::plan::{INPUTS_PER_JOB, Planned, SUBMITTERS},
        store::{MOVABLE, VERSIONS},
    },
    Leaving, Week,
};

/// Classes of jobs: the share of all work, and the times of their tasks in seconds.
const CLASSES: [(f64, f64, f64); 5] =
    [(0.002, 5.0, 60.0), (0.04, 60.0, 900.0), (0.26, 900.0, 3_600.0), (0.55, 3_600.0, 14_400.0), (0.148, 14_400.0, 28_800.0)];
/// Jobs of each class for each day.
const JOBS_PER_DAY: u32 = 6;
/// Slots that a machine's policy leaves on average, and the part of a week in which it does.
const SLOTS_MEAN: f64 = 1.5;
const OPEN: f64 = 0.62;
/// Tasks of one version in so many cannot be moved.
const FIXED: f64 = 0.15;

/// All jobs of a week. If it is to be short of work, they come in the days, else they are there from the start.
pub fn jobs(options: &Options, week: Week, start: Timestamp) -> Vec<Planned> {
    let mut dice = Dice::new(options.seed, 2);
    let time = f64::from(options.agents) * SLOTS_MEAN * OPEN * f64::from(options.hours) * 3600.0 * week.demand;
    let per_class = JOBS_PER_DAY * options.hours.div_ceil(24);
    let mut jobs = Vec::new();
    for round in 0..per_class {
        for (share, least, most) in CLASSES {
            let each = least * (most / least).powf(dice.seconds(0.0, 1.0).as_secs_f64());
            let tasks = (time * share / f64::from(per_class) / each).ceil().max(1.0) as u32;
            let day = Duration::from_secs(24 * 3600);
            let at = if week.demand >= 1.0 {
                start + dice.seconds(5.0, 60.0)
            } else {
                start + day * (round / JOBS_PER_DAY) + dice.seconds(7.0 * 3600.0, 17.0 * 3600.0)
            };
            let first = (jobs.len() as u64 + 1) * INPUTS_PER_JOB;
            let submitter = SUBMITTERS[dice.index(SUBMITTERS.len())];
            let spec = spec(&mut dice, week, first, tasks, Duration::from_secs_f64(each));
            jobs.push(Planned { at, submitter, spec, after: Vec::new() });
        }
    }
    jobs.sort_by_key(|job| job.at);
    jobs
}

fn spec(dice: &mut Dice, week: Week, first: u64, tasks: u32, each: Duration) -> JobSpec {
    let version = if dice.chance(FIXED) { u64::from(VERSIONS) } else { 1 + dice.number(0, u64::from(MOVABLE)) };
    let each_us = each.as_micros() as u64;
    JobSpec {
        name: format!("week-{first}"),
        version: VersionId(version),
        args: vec![each_us.to_string()],
        env: Vec::new(),
        inputs: Inputs::Range { first, count: tasks },
        priority: Priority(0),
        retry: RetryPolicy::default(),
        limits: AttemptLimits {
            time_ms: each_us / 1_000 * 30,
            memory_bytes: dice.number(64, 256) << 20,
            ..AttemptLimits::default()
        },
        grants: Default::default(),
        constraints: Vec::new(),
        window: None,
        finish_by: None,
        after: Vec::new(),
        failures_max: None,
        moving: match week.leaving {
            Leaving::Move => Moving::Auto,
            Leaving::Restart | Leaving::Kill => Moving::Never,
        },
        idempotency_key: Some(format!("key-{first}")),
        request: None,
        zone: Default::default(),
        at_once: None,
        exit_codes: Default::default(),
        fail_fast_on: Vec::new(),
        verify: Share::NONE,
        lost_after_ms: lull_shared::limits::LOST_AFTER_DEFAULT.as_millis() as u64,
    }
}
