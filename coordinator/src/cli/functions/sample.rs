//! What it costs to run a function so that it can be moved: both builds on one input, turn and turn about, each in the
//! cage that agents run functions in.

use std::{fmt, path::Path, time::Duration};

use bytes::Bytes;
use lull_engine::executor::{
    compile::Source,
    engine::Platform,
    process::{self, Event, Executor, Output, Spec},
    protocol::{Build, Load, Priority, World},
};
use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AttemptId, JobId, TaskId},
    job::{AttemptLimits, Grants, Moving},
    message::ModuleKind,
    time::Timestamp,
};
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use crate::{
    cli::exit::{Exit, Failure},
    publishing::make::{Compiled, MakeError, Making, Part, Recipe, Workshop},
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
        let input = tokio::fs::read(self.input).await.map_err(|error| Failure::unreadable(self.input, &error))?;
        let folder = tempfile::tempdir().map_err(|error| Failure::unwritable(&std::env::temp_dir(), &error))?;
        let bytes = tokio::fs::read(module).await.map_err(|error| Failure::unreadable(module, &error))?;
        let source = Source { path: folder.path().join("module"), digest: BlobRef::of(&bytes).digest };
        tokio::fs::write(&source.path, bytes).await.map_err(|error| Failure::unwritable(&source.path, &error))?;
        let platforms = [Platform::host()].into();
        let recipe = Recipe { canonical_nans: self.canonical_nans, moving: Moving::Auto, platforms };
        let workshop = Workshop::new(&Making::default());
        let made = match workshop.make(&source, &recipe, folder.path(), |phase| tell(&phase.to_string())).await {
            Ok(made) => made,
            Err(error @ MakeError::Unrunnable(_)) => return Err(Failure::usage(error.to_string())),
            Err(error @ MakeError::Costly(_)) => {
                return Err(Failure::usage(error.to_string()).hint("build it smaller, without debug information"));
            }
            Err(error) => return Err(unusable(&error.to_string())),
        };
        let Some(movable) = made.movable else {
            return Ok(Measured::NotMovable(made.not_movable.unwrap_or_else(|| "there is no build for that".into())));
        };
        let only = |compiled: &[Compiled]| {
            compiled.first().map(|compiled| compiled.part.clone()).ok_or_else(|| unusable("this machine cannot run functions"))
        };
        tell("measuring what moving costs");
        let code = movable.module.blob.digest;
        let mut plain = Runner::start(self, only(&made.plain)?, Build::Plain, folder.path(), &input).await?;
        let build = Build::Migratable { code };
        let mut migratable = Runner::start(self, only(&movable.compiled)?, build, folder.path(), &input).await?;
        compare(&mut plain, &mut migratable).await
    }
}

/// An executor that runs one build on the sample again and again.
struct Runner {
    executor: Executor,
    events: UnboundedReceiver<Event>,
    input: Bytes,
    output: std::path::PathBuf,
}

impl Runner {
    async fn start(sample: Sample<'_>, part: Part, build: Build, folder: &Path, input: &[u8]) -> Result<Self, Failure> {
        let (path, digest) = (part.path, part.blob.digest);
        let world = World {
            job: JobId(0),
            function: "sample".into(),
            args: sample.args.to_vec(),
            env: Vec::new(),
            exit_codes: lull_shared::codes::ExitCodes::default(),
            seed: 0,
            clock_start: Timestamp::from_millis(0),
        };
        let load = Load {
            artifact: path.into(),
            digest,
            kind: ModuleKind::Preview1,
            build,
            limits: AttemptLimits::default(),
            grants: Grants::default(),
            scratch: None,
            priority: Priority::Normal,
            world,
        };
        let started = Executor::spawn(Spec { program: None, load }).await;
        let (executor, events) = started.map_err(|error| unusable(&error.to_string()))?;
        let output = folder.join(format!("{}.output", digest.to_hex()));
        Ok(Self { executor, events, input: Bytes::copy_from_slice(input), output })
    }

    /// One run: the processor time that it took, and the digest of what came out.
    async fn run(&mut self) -> Result<(Duration, Digest), Failure> {
        let attempt = AttemptId { task: TaskId { job: JobId(0), index: 0 }, number: 1 };
        let (input, output) = (process::Input::Inline(self.input.clone()), self.output.clone());
        let run = process::Run { attempt, input, output, resume: None };
        self.executor.run(run).map_err(|error| unusable(&error.to_string()))?;
        let too_long = || {
            Failure::usage(format!("the function is not done with the sample after {}", lull_shared::amount::exact(RUN_TIME_MAX)))
                .hint("use a smaller sample")
        };
        let finished = tokio::time::timeout(RUN_TIME_MAX, self.finished()).await.map_err(|_| too_long())??;
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

    async fn finished(&mut self) -> Result<process::Finished, Failure> {
        loop {
            match self.events.recv().await {
                Some(Event::Finished(finished)) => return Ok(*finished),
                Some(Event::Died { death, .. }) => return Err(unusable(&format!("its executor died: {death:?}"))),
                Some(_) => {}
                None => return Err(unusable("its executor is gone")),
            }
        }
    }
}

async fn compare(plain: &mut Runner, migratable: &mut Runner) -> Result<Measured, Failure> {
    let ((_, expected), (_, moved)) = (plain.run().await?, migratable.run().await?);
    if expected != moved {
        let message = "the build that can be moved gave another output for the sample than the plain one";
        return Err(Failure::new(Exit::Failed, message)
            .hint("that is a defect of Lull: publish it with --migratable never, and report it with the module"));
    }
    let (mut best, mut runs, begun) = ([Duration::MAX; 2], 0, Instant::now());
    while runs < RUNS_MIN || (runs < RUNS_MAX && begun.elapsed() < TIME_MAX) {
        best[0] = best[0].min(plain.run().await?.0);
        best[1] = best[1].min(migratable.run().await?.0);
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
