//! This program as an agent of a private mesh: the agent's own command line, on a leash.
//!
//! The leash is standard input: when the process at its other end closes it or dies, the agent is asked to end.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    process::ExitCode,
};

/// The first argument that turns this program into an agent.
pub const ENTRY: &str = "agent-process";

/// Turns this process into an agent if that is what it was started as.
pub fn entry() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    if arguments.next()? != ENTRY {
        return None;
    }
    std::thread::spawn(wait_for_the_end);
    let arguments: Vec<OsString> = [program].into_iter().chain(arguments).collect();
    Some(lull_agent::cli::main_with(arguments))
}

fn wait_for_the_end() {
    let mut buffer = [0; 64];
    loop {
        match io::stdin().lock().read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    end();
}

/// As a service manager would.
#[cfg(unix)]
fn end() {
    // It cannot fail for the process itself.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

#[cfg(not(unix))]
fn end() {
    std::process::exit(0);
}
