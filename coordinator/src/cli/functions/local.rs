//! A function on this machine: made as a coordinator makes it, and run in the cage and within the limits that agents have.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lull_engine::executor::{
    compile::Source,
    engine::Platform,
    process::{self, Event, Executor, Finished, Spec},
    protocol::{Build, Load, Priority, World},
};
use lull_shared::{
    codes::ExitCodes,
    digest::BlobRef,
    id::{AttemptId, JobId, TaskId},
    job::{AttemptLimits, Grants, Moving},
    time::Timestamp,
};
use tempfile::TempDir;
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use crate::{
    cli::{
        exit::{Exit, Failure},
        reach::connect,
    },
    publishing::make::{Compiled, Made, MakeError, Making, Part, Recipe, Workshop},
};

/// How long the guest is given to die after it was killed: it is the system's work alone.
const DEATH_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// What a module is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub canonical_nans: bool,
    pub moving: Moving,
    /// Whether what was made is kept for the next time, and may be what was kept.
    pub kept: bool,
}

/// A module that was made here, in a folder that goes with it.
pub(crate) struct Local {
    pub made: Made,
    folder: TempDir,
}

/// What a function finds beside its input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setting {
    pub function: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub limits: AttemptLimits,
    pub grants: Grants,
}

/// Why a run has no end of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("it ran longer than its limit")]
    TimeLimit { log: Bytes },
    #[error("its executor died: {0}")]
    Died(String),
}

impl Local {
    /// Makes a module for this machine, within the limits that a coordinator has. Each step is told.
    pub(crate) async fn make(bytes: &[u8], wanted: Wanted, tell: impl Fn(&str) + Send + Sync) -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(|error| Failure::unwritable(&std::env::temp_dir(), &error))?;
        let source = Source { path: folder.path().join("module"), digest: BlobRef::of(bytes).digest };
        tokio::fs::write(&source.path, bytes).await.map_err(|error| Failure::unwritable(&source.path, &error))?;
        let Wanted { canonical_nans, moving, kept } = wanted;
        let recipe = Recipe { canonical_nans, moving, platforms: [Platform::host()].into() };
        let kept = if kept { connect::builds_folder() } else { None };
        let workshop = Workshop::new(&Making { kept, ..Making::default() });
        match workshop.make(&source, &recipe, folder.path(), |phase| tell(&phase.to_string())).await {
            Ok(made) => Ok(Self { made, folder }),
            Err(error @ MakeError::Unrunnable(_)) => Err(Failure::usage(error.to_string())),
            Err(error @ MakeError::Costly(_)) => {
                Err(Failure::usage(error.to_string()).hint("build it smaller, without debug information"))
            }
            Err(error) => Err(unusable(&error.to_string())),
        }
    }

    /// An executor of the plain build.
    pub(crate) async fn plain(&self, setting: &Setting) -> Result<Runner, Failure> {
        self.start(only(&self.made.plain)?, Build::Plain, setting).await
    }

    /// An executor of the build that can be moved; why there is none.
    pub(crate) async fn movable(&self, setting: &Setting) -> Result<Result<Runner, String>, Failure> {
        let Some(movable) = &self.made.movable else {
            return Ok(Err(self.made.not_movable.clone().unwrap_or_else(|| "there is no build for that".into())));
        };
        let build = Build::Migratable { code: movable.module.blob.digest };
        Ok(Ok(self.start(only(&movable.compiled)?, build, setting).await?))
    }

    async fn start(&self, part: &Part, build: Build, setting: &Setting) -> Result<Runner, Failure> {
        let Setting { function, args, env, limits, grants } = setting.clone();
        let world = World {
            job: JobId(0),
            function,
            args,
            env,
            exit_codes: ExitCodes::default(),
            seed: 0,
            clock_start: Timestamp::from_millis(0),
        };
        let scratch = grants.scratch.then(|| self.folder.path().as_os_str().to_owned());
        let (artifact, digest, kind) = (part.path.clone().into(), part.blob.digest, self.made.kind);
        let load = Load { artifact, digest, kind, build, limits, grants, scratch, priority: Priority::Normal, world };
        let started = Executor::spawn(Spec { program: None, load }).await;
        let (executor, events) = started.map_err(|error| unusable(&error.to_string()))?;
        let output = self.folder.path().join(format!("{}.output", digest.to_hex()));
        Ok(Runner { executor, events, output, limits })
    }
}

/// An executor that runs one build, again and again.
pub(crate) struct Runner {
    executor: Executor,
    events: UnboundedReceiver<Event>,
    output: PathBuf,
    limits: AttemptLimits,
}

impl Runner {
    /// One run over an input, until it ends or its time does.
    pub(crate) async fn run(&mut self, input: process::Input) -> Result<Result<Finished, Stopped>, Failure> {
        let attempt = AttemptId { task: TaskId { job: JobId(0), index: 0 }, number: 1 };
        let run = process::Run { attempt, input, output: self.output.clone(), resume: None };
        self.executor.run(run).map_err(|error| unusable(&error.to_string()))?;
        let limit = std::time::Duration::from_millis(self.limits.time_ms);
        match timeout(limit, self.finished()).await {
            Ok(ended) => Ok(ended),
            Err(_) => {
                self.executor.kill();
                let log = timeout(DEATH_MAX, self.log_of_the_dead()).await.unwrap_or_default();
                Ok(Err(Stopped::TimeLimit { log }))
            }
        }
    }

    async fn finished(&mut self) -> Result<Finished, Stopped> {
        loop {
            match self.events.recv().await {
                Some(Event::Finished(finished)) => return Ok(*finished),
                Some(Event::Died { death, .. }) => {
                    let how = death.failure().map(|failure| failure.to_string());
                    let how = how.or_else(|| death.trouble().map(|trouble| trouble.to_string()));
                    return Err(Stopped::Died(how.unwrap_or_else(|| "it was killed".into())));
                }
                Some(_) => {}
                None => return Err(Stopped::Died("it is gone".into())),
            }
        }
    }

    async fn log_of_the_dead(&mut self) -> Bytes {
        loop {
            match self.events.recv().await {
                Some(Event::Died { remains, .. }) => return remains.map(|remains| remains.log).unwrap_or_default(),
                Some(_) => {}
                None => return Bytes::new(),
            }
        }
    }
}

fn only(compiled: &[Compiled]) -> Result<&Part, Failure> {
    compiled.first().map(|compiled| &compiled.part).ok_or_else(|| unusable("nothing can be compiled for it"))
}

/// This machine's fault, not the function's.
fn unusable(reason: &str) -> Failure {
    Failure::new(Exit::Failed, format!("this machine cannot run the function: {reason}"))
        .hint("`lull-agent probe` says what agents lack here; publishing needs none of it")
}

/// A file's bytes; at most this many are read.
pub(crate) async fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    use tokio::io::AsyncReadExt as _;
    let unreadable = |error: std::io::Error| Failure::unreadable(path, &error);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).await.map_err(unreadable)?;
    Ok(bytes)
}
