//! The agent's handle on an executor: start, hand over attempts, freeze, thaw, kill, and hear what became of them.
//!
//! ```text
//! spawn -> loaded -> (run | serve)* -> Started(a) -> Finished(a) -> Started(b) -> ... -> Died
//!                    checkpoint(b)  -> Saved(b) -> ...    suspend(b) -> Saved(b) -> Died
//! ```
//! Attempts run in the order of [`Executor::run`]. Time limits and cancelling are the caller's: it counts the time
//! since `Started` less [`Executor::frozen_time`] and kills. Freezing is SIGSTOP, or what the system has for it; a freezer
//! cgroup would also keep others from sending SIGCONT, and can take its place inside [`Executor::freeze`]. Whatever an executor
//! says is checked: it may have been taken over by its guest.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use lull_shared::{
    digest::BlobRef,
    id::AttemptId,
    message::Remains,
    state::{Failure, Part, Trouble, Usage},
};
use tokio::{
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
};

pub use crate::executor::trail::Piece;
use crate::{
    executor::{
        handle::{
            reader,
            runs::{Guard, RUNS_MAX, Shared},
            spawn::{self, Allowance},
            writer,
        },
        inside::moving::asks,
        protocol::{Ask, Build, Cage, FromExecutor, Load, LoadError, ToExecutor, World},
        sys,
        trail::Trail,
    },
    snapshot::Unfit,
};

/// What either pipe holds: a snapshot's piece, so that one end works on the next while the other one reads it. A hundred
/// executors fit what Linux lets one user have in pipes.
const PIPE_BYTES: usize = 256 << 10;

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Another program than this one, in tests: it must call [`crate::executor::entry`] first.
    pub program: Option<PathBuf>,
    pub load: Load,
}

/// An attempt to run.
#[derive(Debug, Clone)]
pub struct Run {
    pub attempt: AttemptId,
    pub input: Input,
    /// Where output goes that is too large for a message. Made only if it is needed.
    pub output: PathBuf,
    /// A snapshot of an attempt of the same task to go on from; of migratable builds only.
    pub resume: Option<PathBuf>,
}

/// What goes down the pipe, in this order.
pub(in crate::executor) enum Order {
    Serve(Box<World>),
    Run(Run),
}

/// Where an attempt's standard input comes from.
#[derive(Debug, Clone)]
pub enum Input {
    Inline(Bytes),
    File(PathBuf),
}

/// What an executor's life consists of.
#[derive(Debug)]
pub enum Event {
    /// This attempt has the processor now.
    Started { attempt: AttemptId },
    /// Its snapshot does not fit, and it begins anew.
    Refused { attempt: AttemptId, unfit: Unfit },
    /// A snapshot that was asked for is whole. If it was suspended for that, its executor ends now.
    Saved(Box<Snapshot>),
    /// A snapshot that was asked for could not be kept. An attempt that was suspended for it is told with the death.
    NotSaved { attempt: AttemptId, ask: Ask, reason: String },
    /// It ended by itself.
    Finished(Box<Finished>),
    /// Always the last event.
    Died {
        /// What was running.
        running: Option<AttemptId>,
        /// What had been handed over and not begun.
        queued: Vec<AttemptId>,
        death: Death,
        /// What the one that was running had said and used.
        remains: Option<Box<Remains>>,
    },
}

/// How an attempt ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub attempt: AttemptId,
    pub outcome: Result<Output, Failure>,
    pub log: Bytes,
    pub log_dropped_bytes: u64,
    pub usage: Usage,
}

/// A snapshot in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub attempt: AttemptId,
    pub ask: Ask,
    pub path: PathBuf,
    pub blob: BlobRef,
    /// Of this attempt and all that it went on from; time on the wall's clock includes pauses.
    pub usage: Usage,
    /// The time of all these without pauses, which counts towards the limit.
    pub ran: Duration,
}

/// An attempt's standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Inline(Bytes),
    File { path: PathBuf, blob: BlobRef },
}

/// Why an executor is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Death {
    /// [`Executor::kill`] was called, or the handle dropped.
    Killed,
    /// It died by itself, or broke the protocol and was killed for it.
    Crashed { how: String },
    /// Somebody else killed it: a person, or the system for want of memory.
    KilledFromOutside { how: String },
    /// Its agent or its machine could not go on with it.
    Trouble(Trouble),
}

impl Death {
    /// What the attempt that was running failed of; nothing if its agent wanted it to end, or is to blame.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Killed | Self::KilledFromOutside { .. } | Self::Trouble(_) => None,
            Self::Crashed { how } => Some(Failure::ExecutorDied { how: how.clone() }),
        }
    }

    /// What the function is not to blame for.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Killed | Self::Crashed { .. } => None,
            Self::KilledFromOutside { how } => Some(Trouble::new(Part::Killed, how)),
            Self::Trouble(trouble) => Some(trouble.clone()),
        }
    }
}

/// An executor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("the executor process cannot be started: {0}")]
    Start(#[from] io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the executor process died while it loaded the module ({how})")]
    Died { how: String },
}

/// An attempt was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("the executor is gone")]
    Gone,
    #[error("the executor holds {RUNS_MAX} attempts already")]
    Full,
}

/// An attempt was not asked for a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the executor is gone")]
    Gone,
    #[error("the attempt is not the one that runs")]
    NotRunning,
    #[error("the attempt runs a plain build, which cannot be moved")]
    Plain,
    #[error("the executor cannot be reached: {0}")]
    Process(#[from] io::Error),
}

/// A running executor. Dropping it kills the process.
pub struct Executor {
    process: Arc<sys::Handle>,
    build: Build,
    cage: Cage,
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
}

impl Executor {
    /// Starts a process, has it load the module and close its cage. The events end with [`Event::Died`]; there are
    /// at most two for each run and one more, so their channel needs no bound of its own.
    pub async fn spawn(spec: Spec) -> Result<(Self, mpsc::UnboundedReceiver<Event>), SpawnError> {
        let Spec { program, load } = spec;
        let trail = Trail::create(load.limits.log_bytes)?;
        let mut child = spawn::start(program, &[], Some(trail.end()?), Some(PIPE_BYTES), Allowance::of(&load)).await?;
        let process = Arc::new(sys::Handle::of(&child)?);
        let pipes = child.stdin.take().zip(child.stdout.take()).ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let (mut to, from) = (ChildStdin::from_std(pipes.0)?, ChildStdout::from_std(pipes.1)?);
        let lent = lend(&child, &load);
        let mut guard = Guard::new(child.claim(), Arc::clone(&process));
        // A write that fails means that the process is dead: reading tells how.
        let _ = writer::send(&mut to, &ToExecutor::Load(Box::new(lent?))).await;
        let mut frames = reader::Frames::new(from);
        let cage = match frames.next().await {
            Ok(Some(FromExecutor::Loaded { cage })) => cage,
            Ok(Some(FromExecutor::LoadFailed(error))) => return Err(error.into()),
            Ok(Some(FromExecutor::Fatal { reason })) => return Err(SpawnError::Died { how: reason }),
            Ok(Some(FromExecutor::Trouble(trouble))) => return Err(SpawnError::Died { how: trouble.to_string() }),
            Ok(Some(_)) => return Err(SpawnError::Died { how: "it spoke out of turn".into() }),
            Ok(None) | Err(_) => return Err(SpawnError::Died { how: guard.end(false).await.how }),
        };
        // Neither is bounded by itself: no more attempts than `RUNS_MAX` are open here, each has a handful of orders and events,
        // and a process that speaks out of turn is ended.
        let (orders, incoming) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(events, Arc::clone(&process), trail));
        let build = load.build;
        tokio::spawn(writer::write(to, incoming, load.clone(), Arc::clone(&shared)));
        tokio::spawn(reader::read(frames, load, guard, Arc::clone(&shared)));
        Ok((Self { process, build, cage, orders, shared }, receiver))
    }

    /// What holds this executor.
    pub fn cage(&self) -> &Cage {
        &self.cage
    }

    /// Hands over an attempt: it runs after those before it.
    pub fn run(&self, run: Run) -> Result<(), RunError> {
        self.shared.push(run.attempt, run.output.clone())?;
        self.orders.send(Order::Run(run)).map_err(|_| RunError::Gone)
    }

    /// Attempts handed over from now on are of this job. Its version, limits and grants must be those of the one that
    /// the process was started for: they are its cage.
    pub fn serve(&self, world: World) -> Result<(), RunError> {
        self.orders.send(Order::Serve(Box::new(world))).map_err(|_| RunError::Gone)
    }

    /// Asks for a snapshot of the running attempt in a file of its own, and for the end of the process: thawed for it if
    /// it is frozen. [`Event::Saved`] and [`Event::Died`] follow, unless the attempt ends by itself first.
    pub fn suspend(&self, attempt: AttemptId, snapshot: PathBuf) -> Result<(), AskError> {
        self.ask(attempt, Ask::Suspend, snapshot)?;
        if self.shared.is_frozen() {
            self.shared.thaw()?;
        }
        Ok(())
    }

    /// Asks for a snapshot of the running attempt, which goes on: [`Event::Saved`] follows, unless it ends by itself
    /// first or is suspended. A frozen process answers when it is thawed, and several asks before its answer once. All
    /// snapshots of an attempt go into one folder.
    pub fn checkpoint(&self, attempt: AttemptId, snapshot: PathBuf) -> Result<(), AskError> {
        self.ask(attempt, Ask::Checkpoint, snapshot)
    }

    fn ask(&self, attempt: AttemptId, ask: Ask, snapshot: PathBuf) -> Result<(), AskError> {
        if self.build == Build::Plain {
            return Err(AskError::Plain);
        }
        match self.shared.ask(attempt, ask, snapshot)? {
            Some(number) => Ok(self.process.ask(asks::word(ask, number))?),
            None => Ok(()),
        }
    }

    /// Takes the processor away, at once and whatever the guest does. Its memory stays.
    pub fn freeze(&self) -> io::Result<()> {
        self.shared.freeze()
    }

    /// Gives it back.
    pub fn thaw(&self) -> io::Result<()> {
        self.shared.thaw()
    }

    /// How long it was frozen since it started, to be left out of time limits.
    pub fn frozen_time(&self) -> Duration {
        self.shared.frozen_time()
    }

    /// Ends it, frozen or not. [`Event::Died`] follows.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// What the running attempt has said and used so far; none if none has begun.
    pub fn remains(&self) -> Option<Remains> {
        self.shared.remains(self.cpu_time().unwrap_or_default())
    }

    /// What the running attempt wrote to its log from this byte on, at most `max` bytes; none if it is another one.
    pub fn log(&self, attempt: AttemptId, from: u64, max: usize) -> Option<Piece> {
        self.shared.log(attempt, from, max)
    }

    /// The memory that the process has in RAM, in bytes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        self.process.resident_bytes()
    }

    /// The processor time that the process has had.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        self.process.cpu_time()
    }

    /// The process's number, for people and logs.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// What to load, by names that the process can open.
fn lend(child: &sys::Child, load: &Load) -> Result<Load, LoadError> {
    let unreadable = |error: io::Error| LoadError::Unreadable { reason: error.to_string() };
    let artifact = sys::lend(child, &load.artifact).map_err(unreadable)?;
    let scratch = match load.scratch.as_deref().filter(|_| load.grants.scratch) {
        None => None,
        Some(folder) => Some(
            sys::lend_scratch(child, folder)
                .map_err(|error| LoadError::Machine(Trouble::new(Part::Scratch, format!("{error}: {}", folder.display()))))?,
        ),
    };
    Ok(Load { artifact, scratch, ..load.clone() })
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.kill();
    }
}
