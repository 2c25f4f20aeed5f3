//! What it costs to run a function so that it can be moved: both builds on one input, turn and turn about, each in the
//! cage that agents run functions in.

use std::{fmt, path::Path, time::Duration};

use bytes::Bytes;
use lull_engine::executor::process::{self, Output};
use lull_shared::{
    digest::Digest,
    job::{AttemptLimits, Moving},
};
use tokio::time::Instant;

use crate::cli::{
    exit::{Exit, Failure},
    functions::local::{Local, Runner, Setting, Stopped, Wanted},
};

/// Runs of each build that count; the shortest of them does, since all that disturbs makes a run longer.
const RUNS_MIN: u32 = 3;
const RUNS_MAX: u32 = 15;
/// When there were enough of them.
const TIME_MAX: Duration = Duration::from_secs(20);
/// A single run may not take longer.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// Runs shorter than this say nothing about the function: starting it takes as long.
const RUN_TIME_MIN: Duration = Duration::from_millis(5);

/// One input for a function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample<'a> {
    pub input: &'a Path,
    pub args: &'a [String],
    pub canonical_nans: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Measured {
    /// The processor time that each build needed at least.
    Both { plain: Duration, migratable: Duration, runs: u32 },
    /// The sample is over before anything can be measured.
    TooShort { plain: Duration },
    /// There is no build that can be moved, and why.
    NotMovable(String),
}

impl Measured {
    /// The migratable build's time in percent of the plain one's, if both are known.
    pub(crate) fn cost_percent(&self) -> Option<u32> {
        let Self::Both { plain, migratable, .. } = self else { return None };
        Some((migratable.as_secs_f64() / plain.as_secs_f64() * 100.0).round() as u32)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: &Duration| time.as_secs_f64() * 1_000.0;
        match self {
            Self::Both { plain, migratable, runs } => write!(
                f,
                "of processor time the plain build needed {:.1} ms and the one that can be moved {:.1} ms (the best of {runs} runs each)",
                millis(plain),
                millis(migratable)
            ),
            Self::TooShort { plain } => write!(
                f,
                "the function was done with the sample after {:.1} ms; what moving costs shows with one that takes longer",
                millis(plain)
            ),
            Self::NotMovable(reason) => write!(f, "there is nothing to compare: tasks cannot be moved, since {reason}"),
        }
    }
}

impl Sample<'_> {
    /// Makes both builds of a module, within the limits that a coordinator has, and runs them. Each step is told.
    pub(crate) async fn measure(self, module: &Path, tell: impl Fn(&str) + Send + Sync) -> Result<Measured, Failure> {
        let input = Bytes::from(tokio::fs::read(self.input).await.map_err(|error| Failure::unreadable(self.input, &error))?);
        let bytes = tokio::fs::read(module).await.map_err(|error| Failure::unreadable(module, &error))?;
        let wanted = Wanted { canonical_nans: self.canonical_nans, moving: Moving::Auto, kept: false };
        let local = Local::make(&bytes, wanted, &tell).await?;
        let limits = AttemptLimits { time_ms: RUN_TIME_MAX.as_millis() as u64, ..AttemptLimits::default() };
        let setting = Setting { function: "sample".into(), args: self.args.to_vec(), limits, ..Setting::default() };
        let migratable = match local.movable(&setting).await? {
            Ok(migratable) => migratable,
            Err(reason) => return Ok(Measured::NotMovable(reason)),
        };
        tell("measuring what moving costs");
        let mut plain = Runs { runner: local.plain(&setting).await?, input: input.clone() };
        let mut migratable = Runs { runner: migratable, input };
        compare(&mut plain, &mut migratable).await
    }
}

/// One build on the sample, again and again.
struct Runs {
    runner: Runner,
    input: Bytes,
}

impl Runs {
    /// One run: the processor time that it took, and the digest of what came out.
    async fn once(&mut self) -> Result<(Duration, Digest), Failure> {
        let finished = match self.runner.run(process::Input::Inline(self.input.clone())).await? {
            Ok(finished) => finished,
            Err(Stopped::TimeLimit { .. }) => {
                let limit = lull_shared::amount::exact(RUN_TIME_MAX);
                let message = format!("the function is not done with the sample after {limit}");
                return Err(Failure::usage(message).hint("use a smaller sample"));
            }
            Err(Stopped::Died(how)) => return Err(unusable(&format!("its executor died: {how}"))),
        };
        let digest = match finished.outcome {
            Ok(Output::Inline(bytes)) => Digest::of(&bytes),
            Ok(Output::File { blob, .. }) => blob.digest,
            Err(failure) => {
                let log = String::from_utf8_lossy(&finished.log);
                let last = log.lines().next_back().map(|line| format!(" (it said: {line})")).unwrap_or_default();
                return Err(Failure::new(Exit::Failed, format!("the function failed on the sample: {failure}{last}"))
                    .hint("arguments for it go after --; nothing was published"));
            }
        };
        Ok((Duration::from_micros(finished.usage.cpu_us), digest))
    }
}

async fn compare(plain: &mut Runs, migratable: &mut Runs) -> Result<Measured, Failure> {
    let ((_, expected), (_, moved)) = (plain.once().await?, migratable.once().await?);
    if expected != moved {
        let message = "the build that can be moved gave another output for the sample than the plain one";
        return Err(Failure::new(Exit::Failed, message)
            .hint("that is a defect of Lull: publish it with --migratable never, and report it with the module"));
    }
    let (mut best, mut runs, begun) = ([Duration::MAX; 2], 0, Instant::now());
    while runs < RUNS_MIN || (runs < RUNS_MAX && begun.elapsed() < TIME_MAX) {
        best[0] = best[0].min(plain.once().await?.0);
        best[1] = best[1].min(migratable.once().await?.0);
        runs += 1;
    }
    let [plain, migratable] = best;
    Ok(if plain < RUN_TIME_MIN { Measured::TooShort { plain } } else { Measured::Both { plain, migratable, runs } })
}

fn unusable(reason: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the sample cannot be run: {reason}"))
        .hint("leave out --sample to publish without measuring")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_a_ratio_of_the_best_runs() {
        let millis = Duration::from_millis;
        let both = |plain, moved| Measured::Both { plain: millis(plain), migratable: millis(moved), runs: 3 }.cost_percent();
        assert_eq!((both(100, 112), both(200, 190)), (Some(112), Some(95)));
        assert_eq!(Measured::TooShort { plain: millis(1) }.cost_percent(), None);
    }
}
