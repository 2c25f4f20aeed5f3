//! Compiling in a short-lived process of its own: as far behind the owner as an executor, and as caged, since a
//! compiler that reads a stranger's module is not to be trusted with the machine either.
//!
//! ```text
//! agent --> Order          compile process opens the module, closes its cage, compiles
//! agent <-- Answer, then so many raw bytes
//! ```

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use lull_shared::{
    codec,
    digest::{BlobRef, Digest, OutlineBuilder},
    limits,
    message::ModuleKind,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    EXIT_GARBAGE, EXIT_ORPHANED,
    engine::{self, CompileOptions, Platform},
    protocol::Priority,
    spawn::Child,
    sys,
};

/// The longest a compilation may take: 13 MB take 21 s of processor time, and an idle share of it may be small.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// Memory of a compilation.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// An artifact is at most a blob; it is held while it is sent.
const ARTIFACT_BYTES_MAX: u64 = limits::BLOB_BYTES_MAX;

/// What to compile, for this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub module: PathBuf,
    pub digest: Digest,
    pub kind: ModuleKind,
    pub canonical_nans: bool,
    pub priority: Priority,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Compiled { size_bytes: u64 },
    Refused(Refusal),
}

/// Why there is no artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the module cannot be read: {0}")]
    Unreadable(String),
    #[error("the module has the digest {found}, not {expected}: it was damaged or tampered with")]
    Digest { expected: Digest, found: Digest },
    #[error("{0}")]
    Module(String),
}

/// Compiling did not work out.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("the compiler process cannot be used: {0}")]
    Process(#[from] io::Error),
    #[error("the compiler process broke off ({how})")]
    Died { how: String },
    #[error("compiling took longer than {} minutes", TIME_MAX.as_secs() / 60)]
    Time,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Compiles a module into the file `artifact`, which is overwritten, in a process of its own.
pub async fn compile(program: Option<PathBuf>, order: &Order, artifact: &Path) -> Result<BlobRef, CompileError> {
    let mut child = Child::start(program, &[super::ENTRY_COMPILE]).await?;
    let pipes =
        child.child.stdin.take().zip(child.child.stdout.take()).ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let to = tokio::process::ChildStdin::from_std(pipes.0)?;
    let from = tokio::process::ChildStdout::from_std(pipes.1)?;
    match tokio::time::timeout(TIME_MAX, converse(to, from, order, artifact)).await {
        Ok(Err(CompileError::Process(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            child.process.ended().await?;
            Err(CompileError::Died { how: child.child.wait().map_or_else(|error| error.to_string(), sys::describe) })
        }
        Ok(result) => result,
        Err(_) => Err(CompileError::Time),
    }
}

async fn converse(
    mut to: tokio::process::ChildStdin,
    mut from: tokio::process::ChildStdout,
    order: &Order,
    artifact: &Path,
) -> Result<BlobRef, CompileError> {
    to.write_all(&codec::encode_frame(order)).await?;
    let mut prefix = [0; codec::LENGTH_BYTES];
    from.read_exact(&mut prefix).await?;
    let mut body = vec![0; codec::frame_length(prefix).map_err(io::Error::other)?];
    from.read_exact(&mut body).await?;
    let size_bytes = match codec::decode(&body).map_err(io::Error::other)? {
        Answer::Compiled { size_bytes } if size_bytes <= ARTIFACT_BYTES_MAX => size_bytes,
        Answer::Compiled { size_bytes } => return Err(Refusal::Module(format!("{size_bytes} bytes of code are too many")).into()),
        Answer::Refused(refusal) => return Err(refusal.into()),
    };
    let mut file = tokio::fs::File::create(artifact).await?;
    let mut outline = OutlineBuilder::default();
    let mut left = size_bytes;
    let mut piece = vec![0; 64 << 10];
    while left > 0 {
        let max = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = from.read(&mut piece[..max]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        outline.update(&piece[..read]);
        file.write_all(&piece[..read]).await?;
        left -= read as u64;
    }
    file.sync_all().await?;
    Ok(outline.finish().0)
}

/// The compile process: reads one order, answers, ends.
pub(super) fn run(agent: Option<u32>) -> ExitCode {
    let orphaned = ExitCode::from(EXIT_ORPHANED as u8);
    if !sys::detach(agent) {
        return orphaned;
    }
    let Ok(order) = read_order(&mut io::stdin().lock()) else { return ExitCode::from(EXIT_GARBAGE as u8) };
    let mut out = io::stdout().lock();
    let sent = match work(&order) {
        Ok(artifact) => {
            let answer = codec::encode_frame(&Answer::Compiled { size_bytes: artifact.len() as u64 });
            out.write_all(&answer).and_then(|()| out.write_all(&artifact))
        }
        Err(refusal) => out.write_all(&codec::encode_frame(&Answer::Refused(refusal))),
    };
    if sent.and_then(|()| out.flush()).is_ok() { ExitCode::SUCCESS } else { orphaned }
}

fn read_order(pipe: &mut impl io::Read) -> io::Result<Order> {
    let mut prefix = [0; codec::LENGTH_BYTES];
    pipe.read_exact(&mut prefix)?;
    let mut body = vec![0; codec::frame_length(prefix).map_err(io::Error::other)?];
    pipe.read_exact(&mut body)?;
    codec::decode(&body).map_err(io::Error::other)
}

fn work(order: &Order) -> Result<Vec<u8>, Refusal> {
    sys::set_priority(order.priority);
    let unreadable = |error: io::Error| Refusal::Unreadable(error.to_string());
    let mut module = Vec::new();
    let file = File::open(&order.module).map_err(unreadable)?;
    file.take(limits::MODULE_BYTES_MAX + 1).read_to_end(&mut module).map_err(unreadable)?;
    let found = Digest::of(&module);
    if found != order.digest {
        return Err(Refusal::Digest { expected: order.digest, found });
    }
    let platform = Platform::host();
    // A kernel without cages still compiles: the artifact is run in whatever cage there is.
    let _ = sys::close_pipe_cage(MEMORY_BYTES_MAX);
    let options = CompileOptions { kind: order.kind, canonical_nans: order.canonical_nans, platform };
    engine::precompile(&module, &options).map_err(|error| Refusal::Module(error.to_string()))
}
