//! Which of a version's builds an attempt executes: the plain one, which loses what it has done when its machine is taken
//! away, or the migratable one, which is slower all the time.
//!
//! What the machine's hours say of the time that the attempt is expected to take is its [`Risk`]: the chance `p` that the
//! machine is taken away before, and what is lost then, on average. A plain attempt of length `t` that begins anew each
//! time takes `t + lost * p / (1 - p)`, a migratable one `t * cost` and [`MOVE`] for each interruption. Whichever is less is
//! chosen.
//!
//! Of a task of whose length nothing is known but that it exceeds some time, every order of length beyond is as likely: what
//! is chosen is the better build on average over [`GUESSES`]. It begins anew once at most, since it is known by then.

use std::{fmt, time::Duration};

use lull_shared::{amount::spoken, job::Moving, message::Build};
use serde::{Deserialize, Serialize};

use crate::{event::Movable, time::history::Risk};

/// What one move costs: to suspend, to send the snapshot and to go on, waiting for a place not counted.
const MOVE: Duration = Duration::from_secs(2);

/// A task that most likely does not come to its end is no better than this.
const COST_MAX: f64 = 2.0;

/// From this chance on a task that begins anew each time never comes to its end.
const CHANCE_MAX: f64 = 1.0 - 1e-9;

/// Lengths that tasks have of which nothing is known: some minutes, an hour, a good part of a night.
const GUESSES: [Duration; 3] = [Duration::from_secs(600), Duration::from_secs(3_600), Duration::from_secs(4 * 3_600)];

/// How long a task is expected to run where nobody disturbs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As long as others of its job.
    Usual(Duration),
    /// None of its job has come to its end, and they run for longer than this.
    Over(Duration),
}

impl Length {
    /// What it may be, each as likely as the others. What has outlived all guesses is taken for halfway through.
    fn guesses(self) -> Vec<Duration> {
        let over = match self {
            Self::Usual(time) => return vec![time],
            Self::Over(over) => over,
        };
        let longer: Vec<_> = GUESSES.into_iter().filter(|guess| *guess > over).collect();
        if longer.is_empty() { vec![over.saturating_mul(2)] } else { longer }
    }

    /// The mean of what it may be.
    pub(crate) fn mean(self) -> Duration {
        let guesses = self.guesses();
        let count = guesses.len() as u32;
        guesses.into_iter().map(|guess| guess / count).fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// A build and why it was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Choice {
    pub build: Build,
    pub reason: Reason,
}

impl Choice {
    /// The other build, for the same reason.
    pub(crate) fn other(self) -> Self {
        let build = match self.build {
            Build::Plain => Build::Migratable,
            Build::Migratable => Build::Plain,
        };
        Self { build, ..self }
    }
}

/// Why a build was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The version has one build only.
    #[default]
    NotMovable,
    /// Its output is to be compared with that of another agent.
    Verified,
    /// It goes on from a snapshot.
    Resumes,
    /// Whoever submitted the job wants it so.
    Asked,
    /// How long its tasks take is not known yet: should one turn out to be long and be interrupted, it is known then. Where
    /// that is likely enough to happen, it runs so that it can be moved.
    Unknown,
    /// It was chosen when its attempt started, by what was known then.
    Earlier,
    /// Compared by what each is expected to take, in milliseconds.
    Expected { plain_ms: u64, migratable_ms: u64 },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMovable => f.write_str("its version has no migratable build"),
            Self::Resumes => f.write_str("it goes on from a snapshot"),
            Self::Verified => f.write_str("its output is to be compared, so that it must be the work of one agent alone"),
            Self::Asked => f.write_str("the job was submitted so"),
            Self::Unknown => f.write_str("how long its tasks take is not known yet"),
            Self::Earlier => f.write_str("by what was known when it started"),
            Self::Expected { plain_ms, migratable_ms } => {
                let (plain, migratable) = (Duration::from_millis(*plain_ms), Duration::from_millis(*migratable_ms));
                let (plain, migratable) = (spoken(plain), spoken(migratable));
                write!(f, "with interruptions it is expected to take {plain} plain and {migratable} migratable")
            }
        }
    }
}

/// What an attempt is expected to take, in seconds, plain and migratable.
fn times(expected: Duration, Risk { chance, lost }: Risk, cost_percent: u32) -> (f64, f64) {
    let time = expected.as_secs_f64();
    let interruptions = -(1.0 - chance.min(CHANCE_MAX)).ln();
    let again = lost.as_secs_f64() * chance / (1.0 - chance);
    let plain = if chance < CHANCE_MAX { time + again } else { f64::INFINITY };
    (plain, time * f64::from(cost_percent) / 100.0 + interruptions * MOVE.as_secs_f64())
}

/// What one is expected to take of which so little is known, in seconds, plain and migratable: the sum over what it may be.
fn times_of_unknown(length: Length, risk: impl Fn(Duration) -> Risk, cost_percent: u32) -> (f64, f64) {
    let each = length.guesses().into_iter().map(|guess| {
        let risk = risk(guess);
        let (_, migratable) = times(guess, risk, cost_percent);
        (guess.as_secs_f64() + risk.lost.as_secs_f64() * risk.chance, migratable)
    });
    each.fold((0.0, 0.0), |sum, (plain, migratable)| (sum.0 + plain, sum.1 + migratable))
}

/// What interruptions cost, with the better build if there are two, over the time that the attempt takes undisturbed: 0 where
/// there are none, at most [`COST_MAX`].
pub fn cost(moving: Moving, movable: Option<Movable>, expected: Duration, risk: Risk) -> f64 {
    let (plain, migratable) = times(expected, risk, movable.map_or(100, |movable| movable.cost_percent));
    let time = match (moving, movable) {
        (_, None) | (Moving::Never, _) => plain,
        (Moving::Always, _) => migratable,
        (Moving::Auto, _) => plain.min(migratable),
    };
    (time / expected.as_secs_f64().max(1e-6) - 1.0).clamp(0.0, COST_MAX)
}

/// Chooses a build for an attempt of a version that can be moved, which is expected to run for that long on a machine
/// where it is at that risk. None: nothing is known of either.
pub fn choose(moving: Moving, movable: Option<Movable>, length: Option<Length>, risk: impl Fn(Duration) -> Risk) -> Choice {
    let Some(Movable { cost_percent }) = movable else { return Choice::default() };
    let length = match (moving, length) {
        (Moving::Always, _) => return Choice { build: Build::Migratable, reason: Reason::Asked },
        (Moving::Never, _) => return Choice { build: Build::Plain, reason: Reason::Asked },
        (Moving::Auto, None) => return Choice { build: Build::Plain, reason: Reason::Unknown },
        (Moving::Auto, Some(length)) => length,
    };
    let millis = |seconds: f64| (seconds * 1_000.0).round() as u64;
    let (plain, migratable, reason) = match length {
        Length::Usual(expected) => {
            let (plain, migratable) = times(expected, risk(expected), cost_percent);
            (plain, migratable, Reason::Expected { plain_ms: millis(plain), migratable_ms: millis(migratable) })
        }
        Length::Over(_) => {
            let (plain, migratable) = times_of_unknown(length, risk, cost_percent);
            (plain, migratable, Reason::Unknown)
        }
    };
    Choice { build: if migratable < plain { Build::Migratable } else { Build::Plain }, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at_random(undisturbed: Duration) -> impl Fn(Duration) -> Risk {
        move |time| Risk::constant(undisturbed, time)
    }

    fn chosen(cost_percent: u32, minutes: u64, undisturbed: Duration) -> Build {
        let length = Length::Usual(Duration::from_secs(minutes * 60));
        choose(Moving::Auto, Some(Movable { cost_percent }), Some(length), at_random(undisturbed)).build
    }

    #[test]
    fn short_tasks_run_plain_and_long_ones_so_that_they_can_be_moved() {
        assert_eq!(chosen(120, 1, 2 * HOUR), Build::Plain);
        assert_eq!(chosen(120, 120, 2 * HOUR), Build::Migratable);
    }

    #[test]
    fn a_build_that_costs_more_must_be_worth_more() {
        assert_eq!(chosen(105, 30, 2 * HOUR), Build::Migratable);
        assert_eq!(chosen(150, 30, 2 * HOUR), Build::Plain);
    }

    #[test]
    fn where_nobody_ever_comes_back_nothing_is_paid_for_moving() {
        assert_eq!(chosen(105, 120, 10_000 * HOUR), Build::Plain);
    }

    #[test]
    fn what_cannot_be_moved_runs_plain_and_so_does_what_is_not_known() {
        assert_eq!(choose(Moving::Always, None, Some(Length::Usual(100 * HOUR)), at_random(HOUR)), Choice::default());
        let movable = Some(Movable { cost_percent: 300 });
        assert_eq!(choose(Moving::Auto, movable, None, at_random(HOUR)).build, Build::Plain);
        let endless = choose(Moving::Auto, movable, Some(Length::Usual(Duration::MAX)), at_random(Duration::ZERO));
        assert_eq!(endless.build, Build::Migratable, "as long as can be, interrupted all the time");
    }

    #[test]
    fn whoever_submits_has_the_last_word() {
        let movable = Some(Movable { cost_percent: 110 });
        assert_eq!(choose(Moving::Always, movable, None, at_random(HOUR)).build, Build::Migratable);
        assert_eq!(choose(Moving::Never, movable, Some(Length::Usual(100 * HOUR)), at_random(HOUR)).build, Build::Plain);
    }

    /// A machine that is there for so long and not a moment longer.
    fn until(end: Duration) -> impl Fn(Duration) -> Risk {
        move |time| Risk { chance: f64::from(u8::from(time > end)), lost: end.min(time) }
    }

    #[test]
    fn what_may_be_long_runs_so_that_it_can_be_moved_where_that_would_be_interrupted() {
        let chosen = |over, end| {
            let movable = Some(Movable { cost_percent: 110 });
            choose(Moving::Auto, movable, Some(Length::Over(over)), until(end))
        };
        assert_eq!(chosen(Duration::ZERO, 12 * HOUR).build, Build::Plain);
        let morning = chosen(Duration::ZERO, 2 * HOUR);
        assert_eq!(morning, Choice { build: Build::Migratable, reason: Reason::Unknown });
        assert_eq!(chosen(Duration::ZERO, HOUR / 12).build, Build::Plain, "it is lost once, and that was not much");
        assert_eq!(chosen(5 * HOUR, 9 * HOUR).build, Build::Migratable, "as long again does not fit");
        assert_eq!(chosen(5 * HOUR, 11 * HOUR).build, Build::Plain);
    }

    #[test]
    fn a_build_that_takes_much_longer_is_not_tried_on_what_is_not_known() {
        let movable = Some(Movable { cost_percent: 300 });
        assert_eq!(choose(Moving::Auto, movable, Some(Length::Over(Duration::ZERO)), at_random(HOUR)).build, Build::Plain);
    }

    #[test]
    fn what_has_outlived_short_lengths_is_one_of_the_longer() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        assert_eq!(Length::Usual(minutes(7)).mean(), minutes(7));
        assert_eq!(Length::Over(minutes(5)).mean(), minutes(310) / 3);
        assert_eq!(Length::Over(minutes(20)).mean(), minutes(150));
        assert_eq!(Length::Over(minutes(300)).mean(), minutes(600));
        assert_eq!(Length::Over(Duration::MAX).mean(), Duration::MAX);
    }
}
