//! The engine's name, told by a short-lived process: an agent that set an engine up only to ask for its name would keep
//! megabytes of it in memory for good. What it said is remembered for the program file that said it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::{
    executor::{
        EXIT_ORPHANED,
        code::engine::{self, Platform},
        handle::spawn::{Allowance, Child},
        sys,
    },
    files,
};

/// Setting the engine up takes milliseconds; a machine that is busy starting up may need far longer.
pub(in crate::executor) const TIME_MAX: Duration = Duration::from_secs(60);
/// Far more than a name has.
const ANSWER_BYTES_MAX: u64 = 4096;

/// The engine's name cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum NamingError {
    #[error("the process that tells its name cannot be used: {0}")]
    Process(#[from] io::Error),
    #[error("the process that tells its name did not answer within {}", lull_shared::amount::exact(TIME_MAX))]
    Time,
    #[error("{0}")]
    Engine(String),
}

/// What was said before.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Marks of the program file and of the processor.
    of: String,
    engine: String,
}

/// This machine's engine's name, for `Machine.engine`, remembered in the file `kept`. `program` is another one than
/// this, in tests.
pub async fn engine_name(program: Option<PathBuf>, kept: &Path) -> Result<String, NamingError> {
    let of = marks(program.as_deref());
    if let Some(known) = of.as_deref().and_then(|of| recall(kept, of)) {
        return Ok(known);
    }
    let engine: String =
        tokio::time::timeout(TIME_MAX, ask(program, crate::executor::ENTRY_NAME)).await.map_err(|_| NamingError::Time)??;
    if let Some(of) = of
        && let Err(error) = remember(kept, &Kept { of, engine: engine.clone() })
    {
        tracing::debug!(%error, "the engine's name is not remembered");
    }
    Ok(engine)
}

/// What changes when the program or the processor is another one; none if that cannot be told.
fn marks(program: Option<&Path>) -> Option<String> {
    let program = program.map_or_else(std::env::current_exe, |program| Ok(program.to_owned())).ok()?;
    let file = fs::metadata(&program).ok()?;
    let modified = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let (version, host) = (env!("CARGO_PKG_VERSION"), Platform::host());
    Some(format!("{} {} {} {version} {host}", program.display(), file.len(), modified.as_nanos()))
}

fn recall(kept: &Path, of: &str) -> Option<String> {
    let known: Kept = serde_json::from_slice(&fs::read(kept).ok()?).ok()?;
    Some(known.engine).filter(|_| known.of == of)
}

fn remember(kept: &Path, name: &Kept) -> io::Result<()> {
    files::replace_private(kept, &serde_json::to_vec(name)?)
}

/// What a short-lived process says of itself, as JSON.
pub(in crate::executor) async fn ask<T: serde::de::DeserializeOwned>(
    program: Option<PathBuf>,
    entry: &str,
) -> Result<T, NamingError> {
    let mut child = Child::start(program, &[entry], Allowance::WORD).await?;
    let from = child.child.stdout.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let mut answer = String::new();
    tokio::process::ChildStdout::from_std(from)?.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    match serde_json::from_str::<Result<T, String>>(&answer) {
        Ok(said) => said.map_err(NamingError::Engine),
        Err(error) => Err(io::Error::other(error).into()),
    }
}

/// The process that is asked.
pub(in crate::executor) fn run(agent: Option<u32>) -> ExitCode {
    if !sys::detach(agent) {
        return ExitCode::from(EXIT_ORPHANED as u8);
    }
    say(&engine::compatibility().map_err(|error| error.to_string()))
}

/// Answers the agent that asked.
pub(in crate::executor) fn say<T: Serialize>(answer: &Result<T, String>) -> ExitCode {
    let said = serde_json::to_vec(answer).map_err(io::Error::from).and_then(|text| io::stdout().write_all(&text));
    if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_ORPHANED as u8) }
}
