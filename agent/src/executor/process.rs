//! The agent's handle on an executor: start, hand over attempts, freeze, thaw, kill, and hear what became of them.
//!
//! ```text
//! spawn -> loaded -> (run | serve)* -> Started(a) -> Finished(a) -> Started(b) -> ... -> Died
//! ```
//! Attempts run in the order of [`Executor::run`]. Time limits and cancelling are the caller's: it counts the time
//! since `Started` less [`Executor::frozen_time`] and kills. Freezing is SIGSTOP; a freezer cgroup would also keep
//! others from sending SIGCONT, and can take its place inside [`Executor::freeze`]. Whatever an executor says is
//! checked: it may have been taken over by its guest.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use lull_shared::{
    digest::BlobRef,
    id::AttemptId,
    limits,
    state::{Failure, Usage},
};
use tokio::{
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
};

use super::{
    protocol::{Cage, FromExecutor, Load, LoadError, ToExecutor, World},
    reader, spawn, sys, writer,
};

/// Attempts handed over and not ended: as many as an agent may hold at all.
const RUNS_MAX: usize = limits::ATTEMPTS_PER_AGENT_MAX;
/// How often a scratch folder is measured while its executor lives.
const SCRATCH_CHECK: Duration = Duration::from_millis(250);

/// How long a process that has closed its pipe may take to end.
const END_GRACE: Duration = Duration::from_secs(1);

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Another program than this one, in tests: it must call [`super::entry`] first.
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
}

/// What goes down the pipe, in this order.
pub(super) enum Order {
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
    /// It ended by itself.
    Finished(Box<Finished>),
    /// Always the last event.
    Died {
        /// What was running.
        running: Option<AttemptId>,
        /// What had been handed over and not begun.
        queued: Vec<AttemptId>,
        death: Death,
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
    /// Its scratch folder grew above the limit.
    ScratchLimit { limit_bytes: u64 },
    /// It died by itself, or broke the protocol and was killed for it.
    Crashed { how: String },
}

impl Death {
    /// What the attempt that was running failed of; nothing if its agent wanted it to end.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Killed => None,
            Self::ScratchLimit { limit_bytes } => Some(Failure::ScratchLimit { limit_bytes: *limit_bytes }),
            Self::Crashed { how } => Some(Failure::ExecutorDied { how: how.clone() }),
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

/// A running executor. Dropping it kills the process.
pub struct Executor {
    process: Arc<sys::Handle>,
    cage: Cage,
    orders: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
    frozen: Mutex<Frozen>,
}

/// What the handle and its two tasks know together.
pub(super) struct Shared {
    /// Attempts handed over and not ended; the first one runs. None when the process is gone.
    runs: Mutex<Option<VecDeque<(AttemptId, PathBuf)>>>,
    events: mpsc::UnboundedSender<Event>,
    killed: AtomicBool,
    scratch_full: AtomicBool,
    trouble: Mutex<Option<String>>,
    process: Arc<sys::Handle>,
}

#[derive(Default)]
struct Frozen {
    since: Option<Instant>,
    before: Duration,
}

impl Executor {
    /// Starts a process, has it load the module and close its cage. The events end with [`Event::Died`]; there are
    /// at most two for each run and one more, so their channel needs no bound of its own.
    pub async fn spawn(spec: Spec) -> Result<(Self, mpsc::UnboundedReceiver<Event>), SpawnError> {
        let Spec { program, load } = spec;
        let mut child = spawn::start(program, &[]).await?;
        let process = Arc::new(sys::Handle::open(child.id())?);
        let pipes = child.stdin.take().zip(child.stdout.take()).ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let (mut to, from) = (ChildStdin::from_std(pipes.0)?, ChildStdout::from_std(pipes.1)?);
        let mut guard = Guard { child: Some(child), process: Arc::clone(&process) };
        // A write that fails means that the process is dead: reading tells how.
        let _ = writer::send(&mut to, &ToExecutor::Load(Box::new(load.clone()))).await;
        let mut frames = reader::Frames::new(from);
        let cage = match frames.next().await {
            Ok(Some(FromExecutor::Loaded { cage })) => cage,
            Ok(Some(FromExecutor::LoadFailed(error))) => return Err(error.into()),
            Ok(Some(FromExecutor::Fatal { reason })) => return Err(SpawnError::Died { how: reason }),
            Ok(Some(FromExecutor::Output { .. } | FromExecutor::Done(_))) => {
                return Err(SpawnError::Died { how: "it spoke out of turn".into() });
            }
            Ok(None) | Err(_) => return Err(SpawnError::Died { how: guard.end(false).await }),
        };
        let (orders, incoming) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            runs: Mutex::new(Some(VecDeque::new())),
            events,
            killed: AtomicBool::new(false),
            scratch_full: AtomicBool::new(false),
            trouble: Mutex::default(),
            process: Arc::clone(&process),
        });
        if let Some(scratch) = load.scratch.as_ref().filter(|_| load.grants.scratch) {
            let watch = watch_scratch(scratch.into(), load.limits.scratch_bytes, Arc::clone(&shared));
            tokio::spawn(watch);
        }
        tokio::spawn(writer::write(to, incoming, Arc::clone(&shared)));
        tokio::spawn(reader::read(frames, load, guard, Arc::clone(&shared)));
        Ok((Self { process, cage, orders, shared, frozen: Mutex::default() }, receiver))
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

    /// Takes the processor away, at once and whatever the guest does. Its memory stays.
    pub fn freeze(&self) -> io::Result<()> {
        let mut frozen = lock(&self.frozen);
        self.process.freeze()?;
        frozen.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Gives it back.
    pub fn thaw(&self) -> io::Result<()> {
        let mut frozen = lock(&self.frozen);
        self.process.thaw()?;
        let lasted = frozen.since.take().map(|since| since.elapsed());
        frozen.before += lasted.unwrap_or_default();
        Ok(())
    }

    /// How long it was frozen since it started, to be left out of time limits.
    pub fn frozen_time(&self) -> Duration {
        let frozen = lock(&self.frozen);
        frozen.before + frozen.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Ends it, frozen or not. [`Event::Died`] follows.
    pub fn kill(&self) {
        self.shared.killed.store(true, Ordering::Release);
        // It can only fail for a process that has ended already.
        let _ = self.process.kill();
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

impl Drop for Executor {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn push(&self, attempt: AttemptId, output: PathBuf) -> Result<(), RunError> {
        let mut runs = lock(&self.runs);
        let runs = runs.as_mut().ok_or(RunError::Gone)?;
        if runs.len() >= RUNS_MAX {
            return Err(RunError::Full);
        }
        runs.push_back((attempt, output));
        if runs.len() == 1 {
            self.tell(Event::Started { attempt });
        }
        Ok(())
    }

    /// The attempt that runs, and where its output goes.
    pub(super) fn running(&self) -> Option<(AttemptId, PathBuf)> {
        lock(&self.runs).as_ref()?.front().cloned()
    }

    /// The running attempt has ended; the next one runs.
    pub(super) fn finish(&self, finished: Finished) {
        let mut runs = lock(&self.runs);
        self.tell(Event::Finished(Box::new(finished)));
        let next = runs.as_mut().and_then(|runs| {
            runs.pop_front();
            runs.front()
        });
        if let Some((attempt, _)) = next {
            self.tell(Event::Started { attempt: *attempt });
        }
    }

    fn is_gone(&self) -> bool {
        lock(&self.runs).is_none()
    }

    /// The process has ended.
    pub(super) fn bury(&self, limit_bytes: u64, how: String) {
        let runs = lock(&self.runs).take().unwrap_or_default();
        let mut runs = runs.into_iter().map(|(attempt, _)| attempt);
        let death = if self.scratch_full.load(Ordering::Acquire) {
            Death::ScratchLimit { limit_bytes }
        } else if self.killed.load(Ordering::Acquire) {
            Death::Killed
        } else {
            Death::Crashed { how: lock(&self.trouble).take().unwrap_or(how) }
        };
        self.tell(Event::Died { running: runs.next(), queued: runs.collect(), death });
    }

    /// The agent's own trouble with the pipe or an input: the process cannot go on.
    pub(super) fn fail(&self, error: &io::Error) {
        lock(&self.trouble).get_or_insert_with(|| error.to_string());
        let _ = self.process.kill();
    }

    fn tell(&self, event: Event) {
        // Whoever dropped the receiver does not want to know.
        let _ = self.events.send(event);
    }
}

/// Keeps a child from being left behind.
pub(super) struct Guard {
    child: Option<std::process::Child>,
    process: Arc<sys::Handle>,
}

impl Guard {
    /// Waits until the process has ended, and says how it did. With its pipe closed it ends by itself in time, unless
    /// it is to blame for something.
    pub(super) async fn end(&mut self, at_once: bool) -> String {
        let grace = if at_once { Duration::ZERO } else { END_GRACE };
        let ended = match tokio::time::timeout(grace, self.process.ended()).await {
            Ok(ended) => ended,
            Err(_) => {
                let _ = self.process.kill();
                self.process.ended().await
            }
        };
        let status = self.child.take().map(|mut child| child.wait());
        match (ended, status) {
            (Ok(()), Some(Ok(status))) => sys::describe(status),
            (Err(error), _) | (_, Some(Err(error))) => error.to_string(),
            (Ok(()), None) => "it had ended before".into(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = self.process.kill();
            // A killed process ends at once; waiting frees its entry in the process table.
            let _ = child.wait();
        }
    }
}

async fn watch_scratch(folder: PathBuf, limit_bytes: u64, shared: Arc<Shared>) {
    let folder: Arc<Path> = folder.into();
    while !shared.is_gone() {
        tokio::time::sleep(SCRATCH_CHECK).await;
        let measured = Arc::clone(&folder);
        let used = tokio::task::spawn_blocking(move || super::scratch::used_bytes(&measured)).await;
        if used.is_ok_and(|used| used > limit_bytes) && !shared.is_gone() {
            shared.scratch_full.store(true, Ordering::Release);
            let _ = shared.process.kill();
            break;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
