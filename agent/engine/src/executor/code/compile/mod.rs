//! Working on a module in a short-lived process of its own: looking at it, compiling it, making its migratable build,
//! trying the result. As caged as an executor, since a compiler that reads a stranger's module is not to be trusted with
//! the machine either; and within limits of memory and time, since a small module can take a compiler gigabytes.
//!
//! ```text
//! parent --> Order            the process opens its file, closes its cage, and only then looks at the bytes
//! parent <-- Caged, (Loaded), then Inspected | Product and so many raw bytes | Tried | Refused
//! ```
//! Whoever drops the future of one of these calls ends the process.

mod child;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use lull_shared::{
    codec,
    digest::{BlobRef, Digest, OutlineBuilder},
    limits,
    message::ModuleKind,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdout,
    time::{Instant, timeout_at},
};

pub(in crate::executor) use self::child::run;
use crate::executor::{
    OWN_MEMORY_BYTES,
    handle::spawn::{Allowance, Child},
    protocol::{Build, Cage, Priority},
    sys::{self, Ending},
};

/// The product of a compilation is at most a blob; it is held while it is sent.
const PRODUCT_BYTES_MAX: u64 = limits::BLOB_BYTES_MAX;
/// What stands before a language or a tool in the lines about a module.
pub const MADE_WITH: &str = "made with ";
/// Lines kept of what a module imports and exports: for people, who read no more.
pub const INTERFACE_LINES_MAX: usize = 256;
/// Bytes of each: the longest names that toolchains make are some hundred.
pub const INTERFACE_LINE_BYTES_MAX: usize = 1024;
/// How long the code that a module runs when it is instantiated is watched. The engine has taken the module by then.
const START_TIME_MAX: Duration = Duration::from_secs(2);
/// Memory that a try leaves the code which runs at instantiation, beside what the module begins with.
const START_MEMORY_BYTES: u64 = limits::MEMORY_BYTES_DEFAULT;

/// What a process may use. Above any of it the process is ended, and the error says which it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Memory that it may write to.
    pub memory_bytes: u64,
    /// By the clock on the wall.
    pub time: Duration,
    /// Of all its threads together, if that is bounded too.
    pub cpu: Option<Duration>,
    /// Threads that compile side by side.
    pub threads: u16,
}

impl Bounds {
    /// What an agent gives: 13 MB take 21 s of processor time, and an idle share of it may be small. One thread, since
    /// the owner comes first.
    pub const AGENT: Self = Self { memory_bytes: 4 << 30, time: Duration::from_secs(30 * 60), cpu: None, threads: 1 };
}

/// How work on modules is done here.
#[derive(Debug, Clone)]
pub struct Workbench {
    /// Another program than this one, in tests.
    pub program: Option<PathBuf>,
    pub priority: Priority,
    pub bounds: Bounds,
}

/// A module in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub path: PathBuf,
    /// The process checks it.
    pub digest: Digest,
}

/// How a module is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub kind: ModuleKind,
    pub canonical_nans: bool,
    /// A [`crate::executor::code::engine::Platform`] in words.
    pub platform: String,
}

/// What a module is and wants, as far as people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    pub kind: ModuleKind,
    /// The linear memory that it begins with.
    pub memory_bytes: u64,
    /// Whether code of it runs when it is instantiated, before its `_start`.
    pub starts: bool,
    /// `made with MAKER`, `import NAME` and `export NAME`, at most [`INTERFACE_LINES_MAX`] of them.
    pub interface: Vec<String>,
}

/// What was made of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    pub blob: BlobRef,
    /// Processor time of all threads together.
    pub cpu: Duration,
    /// What held the process.
    pub cage: Cage,
}

/// A compiled module that is to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub artifact: Source,
    pub kind: ModuleKind,
    pub build: Build,
    /// As inspected; and whether code runs.
    pub memory_bytes: u64,
    pub starts: bool,
}

/// What a process is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Work {
    Inspect,
    Compile(Target),
    Rewrite,
    Try { kind: ModuleKind, build: Build, memory_bytes: u64, starts: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    source: Source,
    bounds: Bounds,
    priority: Priority,
    work: Work,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// What holds it. Always first.
    Caged(Cage),
    /// The engine took the artifact; code of the module may run from now on.
    Loaded,
    Inspected(Inspected),
    /// So many raw bytes follow.
    Product {
        size_bytes: u64,
        cpu: Duration,
    },
    Tried,
    Refused(Refusal),
}

/// Why nothing was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the module cannot be read: {0}")]
    Unreadable(String),
    #[error("the module has the digest {found}, not {expected}: it was damaged or tampered with")]
    Digest { expected: Digest, found: Digest },
    #[error("{0}")]
    Module(String),
    /// Our own code failed on it.
    #[error("the compiler failed on it: {0}")]
    Defect(String),
}

/// It did not work out.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("the compiler process cannot be used: {0}")]
    Process(#[from] io::Error),
    #[error("the compiler process broke off ({how})")]
    Died { how: String },
    #[error("compiling took more than {} of memory", bytesize::ByteSize(*.limit_bytes))]
    Memory { limit_bytes: u64 },
    #[error("compiling took longer than {}", humantime::format_duration(*.limit))]
    Time { limit: Duration },
    #[error("compiling took more than {} of processor time", humantime::format_duration(*.limit))]
    Cpu { limit: Duration },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl CompileError {
    /// Whether the module is what it is about: another try would end in the same way.
    pub fn is_the_modules(&self) -> bool {
        match self {
            Self::Memory { .. } | Self::Time { .. } | Self::Cpu { .. } => true,
            Self::Refused(Refusal::Module(_) | Refusal::Defect(_)) => true,
            Self::Refused(Refusal::Unreadable(_) | Refusal::Digest { .. }) | Self::Process(_) | Self::Died { .. } => false,
        }
    }
}

impl Workbench {
    /// Says what a module is, or why no agent can run it.
    pub async fn inspect(&self, module: &Source) -> Result<Inspected, CompileError> {
        match self.talk(module, Work::Inspect, None).await? {
            Said::Inspected(inspected) => Ok(inspected),
            Said::Product(_) | Said::Tried => Err(out_of_turn().into()),
        }
    }

    /// Compiles a module into the file `artifact`, which is overwritten.
    pub async fn compile(&self, module: &Source, target: &Target, artifact: &Path) -> Result<Product, CompileError> {
        self.product(module, Work::Compile(target.clone()), artifact).await
    }

    /// Writes the migratable build of a module, a module too, into a file, which is overwritten.
    pub async fn rewrite(&self, module: &Source, build: &Path) -> Result<Product, CompileError> {
        self.product(module, Work::Rewrite, build).await
    }

    /// Instantiates a compiled module once, with the engine and the cage of an executor: what an agent would refuse is
    /// refused. Code that the module runs at that is stopped after a moment, and whatever becomes of it is its own affair.
    pub async fn try_out(&self, trial: &Trial) -> Result<(), CompileError> {
        let Trial { artifact, kind, build, memory_bytes, starts } = trial.clone();
        let memory_bytes = memory_bytes.saturating_add(START_MEMORY_BYTES).min(limits::MEMORY_BYTES_MAX);
        match self.talk(&artifact, Work::Try { kind, build, memory_bytes, starts }, None).await? {
            Said::Tried => Ok(()),
            Said::Inspected(_) | Said::Product(_) => Err(out_of_turn().into()),
        }
    }

    async fn product(&self, module: &Source, work: Work, into: &Path) -> Result<Product, CompileError> {
        match self.talk(module, work, Some(into)).await? {
            Said::Product(product) => Ok(*product),
            Said::Inspected(_) | Said::Tried => Err(out_of_turn().into()),
        }
    }

    async fn talk(&self, source: &Source, work: Work, into: Option<&Path>) -> Result<Said, CompileError> {
        let deadline = Instant::now() + self.bounds.time;
        let allowance = self.bounds.allowance(&work);
        let mut child = Child::start(self.program.clone(), &[crate::executor::ENTRY_COMPILE], allowance).await?;
        let path = sys::lend(&child.child, source.path.as_os_str());
        let path = path.map_err(|error| Refusal::Unreadable(error.to_string()))?.into();
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (to, from) = child.child.stdin.take().zip(child.child.stdout.take()).ok_or_else(broken)?;
        let mut to = tokio::process::ChildStdin::from_std(to)?;
        let order = Order { source: Source { path, digest: source.digest }, bounds: self.bounds, priority: self.priority, work };
        // A write that fails means that the process is dead: reading tells how.
        let _ = to.write_all(&codec::encode_frame(&order)).await;
        let starts = matches!(order.work, Work::Try { starts: true, .. });
        let mut conversation = Conversation { from: ChildStdout::from_std(from)?, starts, running: false, deadline };
        match conversation.hold(into).await {
            Err(CompileError::Process(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                child.process.ended().await?;
                Err(self.bounds.broken(child.child.wait()?))
            }
            Err(CompileError::Time { .. }) => Err(CompileError::Time { limit: self.bounds.time }),
            said => said,
        }
    }
}

impl Bounds {
    /// What the process for some work may have.
    fn allowance(&self, work: &Work) -> Allowance {
        match work {
            // As in an executor: whoever tries a module has its limits.
            Work::Try { memory_bytes, .. } => {
                Allowance { memory_bytes: memory_bytes.saturating_add(OWN_MEMORY_BYTES), cpu: None }
            }
            Work::Inspect | Work::Compile(_) | Work::Rewrite => Allowance { memory_bytes: self.memory_bytes, cpu: self.cpu },
        }
    }

    /// Why a process within these bounds broke off.
    fn broken(&self, status: std::process::ExitStatus) -> CompileError {
        match (sys::ending(status), self.cpu) {
            // Panics are told in words, so that what gives up found no memory.
            (Ending::GaveUp, _) => CompileError::Memory { limit_bytes: self.memory_bytes.min(sys::memory_limit()) },
            (Ending::ProcessorTime, Some(limit)) => CompileError::Cpu { limit },
            (Ending::ProcessorTime | Ending::Other, _) => CompileError::Died { how: sys::describe(status) },
        }
    }
}

/// What came of it.
enum Said {
    Inspected(Inspected),
    Product(Box<Product>),
    Tried,
}

/// The parent's end of the pipe.
struct Conversation {
    from: ChildStdout,
    /// Whether code of the module runs once it is loaded.
    starts: bool,
    running: bool,
    deadline: Instant,
}

impl Conversation {
    async fn hold(&mut self, into: Option<&Path>) -> Result<Said, CompileError> {
        let Answer::Caged(cage) = self.answer().await? else { return Err(out_of_turn().into()) };
        if !cage.is_closed() {
            warn_once(&cage);
        }
        loop {
            let answer = match self.answer().await {
                // The engine has taken the module; its own code may go on for as long as its job lets it.
                Err(CompileError::Time { .. }) if self.running => Answer::Tried,
                answer => answer?,
            };
            match answer {
                Answer::Caged(_) => return Err(out_of_turn().into()),
                Answer::Loaded if self.starts => {
                    self.running = true;
                    self.deadline = self.deadline.min(Instant::now() + START_TIME_MAX);
                }
                Answer::Loaded => {}
                Answer::Refused(refusal) => return Err(refusal.into()),
                Answer::Inspected(inspected) => return Ok(Said::Inspected(inspected)),
                Answer::Tried => return Ok(Said::Tried),
                Answer::Product { size_bytes, cpu } => {
                    let into = into.ok_or_else(out_of_turn)?;
                    let blob = self.take(size_bytes, into).await?;
                    return Ok(Said::Product(Box::new(Product { blob, cpu, cage })));
                }
            }
        }
    }

    async fn answer(&mut self) -> Result<Answer, CompileError> {
        match timeout_at(self.deadline, frame(&mut self.from)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(CompileError::Time { limit: Duration::ZERO }),
        }
    }

    /// Writes the raw bytes that come now into a file.
    async fn take(&mut self, size_bytes: u64, into: &Path) -> Result<BlobRef, CompileError> {
        if size_bytes > PRODUCT_BYTES_MAX {
            let size = bytesize::ByteSize(size_bytes);
            return Err(Refusal::Module(format!("it is {size} when it is compiled, which is too much")).into());
        }
        let copying = copy(&mut self.from, size_bytes, into);
        timeout_at(self.deadline, copying).await.map_err(|_| CompileError::Time { limit: Duration::ZERO })?.map_err(Into::into)
    }
}

async fn frame<T: DeserializeOwned>(from: &mut ChildStdout) -> io::Result<T> {
    let mut prefix = [0; codec::LENGTH_BYTES];
    from.read_exact(&mut prefix).await?;
    let mut body = vec![0; codec::frame_length(prefix).map_err(io::Error::other)?];
    from.read_exact(&mut body).await?;
    codec::decode(&body).map_err(io::Error::other)
}

async fn copy(from: &mut ChildStdout, size_bytes: u64, into: &Path) -> io::Result<BlobRef> {
    let fresh = into.to_owned();
    tokio::task::spawn_blocking(move || crate::files::remove_if_there(&fresh)).await.map_err(io::Error::other)??;
    let mut file = tokio::fs::File::create_new(into).await?;
    let mut outline = OutlineBuilder::default();
    let mut left = size_bytes;
    let mut piece = vec![0; 64 << 10];
    while left > 0 {
        let max = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = from.read(&mut piece[..max]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        outline.update(&piece[..read]);
        file.write_all(&piece[..read]).await?;
        left -= read as u64;
    }
    file.sync_all().await?;
    Ok(outline.finish().0)
}

fn out_of_turn() -> io::Error {
    io::Error::other("it said something else than it should at this point")
}

/// A kernel without cages still compiles; whoever runs the machine hears of it once.
fn warn_once(cage: &Cage) {
    static WARNED: std::sync::Once = std::sync::Once::new();
    WARNED.call_once(|| tracing::warn!(%cage, "this system does not confine the processes that compile modules"));
}
