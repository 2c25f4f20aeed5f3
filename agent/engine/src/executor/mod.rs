//! Running functions: one caged process per slot, driven over a pipe.
//!
//! ```text
//! agent process                                         executor process (the same program, another entry)
//!   Executor (process) --- frames (protocol) --->         worker: load, close the cage, run, run, ...
//!      freeze, thaw, kill: the system (sys)                 program: artifact -> instance per attempt
//!   Artifacts (artifact) -- compile processes -->         compile: module -> artifact, caged too; the coordinator's too
//!      suspend, checkpoint: an ask, then a snapshot         moving: build that can be taken down and go on elsewhere
//!   engine_name (naming) -- once for each program -->     naming: which artifacts its engine takes
//! ```
//! This module owns the engine's configuration, what is refused at publish ([`inspect`]), the cage and the way in and
//! out of it. It does not decide what runs, when, or for how long: the agent's session does, and ends an attempt by
//! [`process::Executor::kill`].

use std::{ffi::OsString, process::ExitCode};

mod code;
mod handle;
mod inside;
pub mod protocol;
mod trail;

pub use self::{
    code::{artifact, compile, engine, inspect, naming, probe},
    handle::{files::seal_of, process, reader},
    inside::{moving, pipe, program::open_checked},
};

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod sys;

/// The first argument that turns the program into an executor.
const ENTRY: &str = "executor";
/// The second one, when it is to compile instead.
const ENTRY_COMPILE: &str = "compile";
/// The second one, when it is to tell its engine's name.
const ENTRY_NAME: &str = "name";
/// The second one, when it is to try what every executor needs.
const ENTRY_PROBE: &str = "probe";

/// Memory for the executor itself beside the guest's: the engine, buffers, and what is set apart from the start though
/// little of it is ever touched, which are the stack with 65 MiB, what it is unwound into with 128 and the tables with 36.
const OWN_MEMORY_BYTES: u64 = 512 << 20;

/// An executor's exit code when its agent is gone.
const EXIT_ORPHANED: i32 = 3;
/// An executor's exit code when what came through the pipe was not a message.
const EXIT_GARBAGE: i32 = 4;
/// An executor's exit code after it said what its machine lacks.
const EXIT_TROUBLE: i32 = 5;

/// Turns this process into an executor if that is what it was started as. Call it first in `main`.
pub fn entry() -> Option<ExitCode> {
    handle::spawn::can_be_started_again();
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ENTRY {
        return None;
    }
    let word = arguments.next();
    let agent = |word: Option<OsString>| word.and_then(|word| word.to_str()?.parse().ok());
    Some(match word {
        Some(word) if word == ENTRY_COMPILE => compile::run(agent(arguments.next())),
        Some(word) if word == ENTRY_NAME => naming::run(agent(arguments.next())),
        Some(word) if word == ENTRY_PROBE => probe::run(agent(arguments.next())),
        word => inside::worker::run(agent(word)),
    })
}
