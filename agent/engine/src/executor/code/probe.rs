//! Whether executors can do their work on this machine at all, tried by a short-lived process: the engine is set up as for
//! a module, and the cage closed around it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use lull_shared::message::ModuleKind;

use crate::executor::{
    EXIT_ORPHANED,
    code::{
        engine,
        naming::{self, NamingError},
    },
    protocol::{Build, Cage, Load, Priority},
    sys,
};

/// As long as for telling the engine's name.
const TIME_MAX: Duration = naming::TIME_MAX;

/// The cage as it holds executors here, or why none could be started. `program` is another one than this, in tests.
pub async fn probe(program: Option<PathBuf>) -> Result<Cage, NamingError> {
    tokio::time::timeout(TIME_MAX, naming::ask(program, crate::executor::ENTRY_PROBE)).await.map_err(|_| NamingError::Time)?
}

/// The process that is asked.
pub(in crate::executor) fn run(agent: Option<u32>) -> ExitCode {
    if !sys::detach(agent) {
        return ExitCode::from(EXIT_ORPHANED as u8);
    }
    let load = Load::nothing(Priority::Idle);
    let priority = sys::set_priority(load.priority);
    let answer = match engine::running(ModuleKind::Preview1, Build::Plain) {
        // It stays until the cage is closed: both are there together in an executor.
        Ok(_engine) => Ok(sys::close_cage(&load, priority)),
        Err(error) => Err(error.to_string()),
    };
    naming::say(&answer)
}
