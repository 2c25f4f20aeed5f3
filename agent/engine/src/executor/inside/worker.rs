//! The executor process itself: load, close the cage, then run what comes through the pipe until it ends.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use crate::executor::{
    EXIT_GARBAGE, EXIT_ORPHANED,
    inside::{
        moving,
        pipe::{Incoming, Outgoing, PipeError},
        program::Program,
        stream::{Shared, lock},
    },
    protocol::{Cage, FromExecutor, Load, ToExecutor},
    sys, trail,
};

/// Why an executor ends before its agent closes the pipe.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    Pipe(#[from] PipeError),
    #[error("the pipe to the agent failed: {0}")]
    Answer(#[from] io::Error),
    #[error("the agent sent something else than it should at this point")]
    Order,
}

/// Runs on the process's standard input and output.
pub(in crate::executor) fn run(agent: Option<u32>) -> ExitCode {
    if !sys::detach(agent) {
        return ExitCode::from(EXIT_ORPHANED as u8);
    }
    let Ok((incoming, outgoing)) = sys::pipes() else { return ExitCode::from(EXIT_ORPHANED as u8) };
    let incoming = Arc::new(Mutex::new(Incoming::new(incoming)));
    let outgoing = Arc::new(Mutex::new(Outgoing::new(outgoing)));
    report_panics(&outgoing);
    match serve(&incoming, &outgoing) {
        Ok(()) => ExitCode::SUCCESS,
        Err(WorkerError::Answer(_) | WorkerError::Pipe(PipeError::Io(_) | PipeError::Cut)) => ExitCode::from(EXIT_ORPHANED as u8),
        Err(error @ (WorkerError::Order | WorkerError::Pipe(PipeError::Length(_) | PipeError::Frame(_)))) => {
            let _ = lock(&outgoing).send(&FromExecutor::Fatal { reason: error.to_string() });
            ExitCode::from(EXIT_GARBAGE as u8)
        }
    }
}

fn serve(incoming: &Shared<Incoming>, outgoing: &Shared<Outgoing>) -> Result<(), WorkerError> {
    let mut load = match lock(incoming).frame()? {
        Some(ToExecutor::Load(load)) => load,
        Some(ToExecutor::Run(_) | ToExecutor::Serve(_)) => return Err(WorkerError::Order),
        None => return Ok(()),
    };
    trail::open(load.limits.log_bytes);
    let (program, cage) = match prepare(&load) {
        Ok(ready) => ready,
        Err(error) => return Ok(lock(outgoing).send(&FromExecutor::LoadFailed(error))?),
    };
    lock(outgoing).send(&FromExecutor::Loaded { cage })?;
    let mut number = 0;
    loop {
        let run = match lock(incoming).frame()? {
            Some(ToExecutor::Run(run)) => run,
            Some(ToExecutor::Serve(world)) => {
                load.world = world;
                continue;
            }
            Some(ToExecutor::Load(_)) => return Err(WorkerError::Order),
            None => return Ok(()),
        };
        if run.resume.is_some() && !program.is_movable() {
            return Err(WorkerError::Order);
        }
        number += 1;
        // A process whose attempt was suspended gives all its memory back by ending.
        let Some(finish) = program.run(&load, &run, number, incoming, outgoing)? else { return Ok(()) };
        lock(incoming).skip(finish.input_left())?;
        let done = finish.report()?;
        lock(outgoing).send(&FromExecutor::Done(Box::new(done)))?;
    }
}

fn prepare(load: &Load) -> Result<(Program, Cage), crate::executor::protocol::LoadError> {
    let priority = sys::set_priority(load.priority);
    let program = Program::load(load)?;
    if program.is_movable() {
        sys::hear_asks(moving::asks::hear);
    }
    Ok((program, sys::close_cage(load, priority)))
}

/// A panic is the executor's own failure, not the guest's: its words go to the agent.
fn report_panics(outgoing: &Shared<Outgoing>) {
    let outgoing = Arc::clone(outgoing);
    std::panic::set_hook(Box::new(move |panic| {
        // The pipe may be locked by the very code that panics.
        if let Ok(mut outgoing) = outgoing.try_lock() {
            let _ = outgoing.send(&FromExecutor::Fatal { reason: panic.to_string() });
        }
        std::process::abort();
    }));
}
