//! How an attempt ended, from what the engine says: the cause that its author can act on, not the symptom.

use lull_shared::state::Failure;
use wasmtime::{GcHeapOutOfMemory, ThrownException, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::executor::{protocol::Load, sys};

/// Frames of a backtrace that are kept: the innermost tell most.
const FRAMES_MAX: usize = 48;
/// A frame's or a message's length: C++ and Rust names can be kilobytes.
const TEXT_BYTES_MAX: usize = 256;

/// Why it failed, if it did: exited otherwise than those do that succeed. A limit that was hit explains the trap or the exit
/// code that followed.
pub(in crate::executor) fn judge(
    result: wasmtime::Result<Result<(), ()>>,
    load: &Load,
    memory_denied: bool,
    output_exceeded: bool,
    scratch_denied: bool,
) -> Result<(), Failure> {
    // The limit of the process stands a little behind the guest's, and says the same.
    let memory_denied = memory_denied || result.as_ref().is_err_and(is_out_of_memory);
    let exited = match &result {
        Ok(Ok(())) => Some(0),
        Ok(Err(())) => Some(1),
        Err(error) => error.downcast_ref::<I32Exit>().map(|I32Exit(code)| *code),
    };
    let symptom = match (exited, result) {
        (Some(code), _) if load.world.exit_codes.contains(code) => return Ok(()),
        (Some(code), _) => Failure::Exit { code },
        (None, Err(error)) => trap(&error),
        (None, Ok(_)) => return Ok(()),
    };
    Err(if output_exceeded {
        Failure::OutputLimit { limit_bytes: load.limits.output_bytes }
    } else if memory_denied {
        Failure::MemoryLimit { limit_bytes: load.limits.memory_bytes }
    } else if scratch_denied {
        Failure::ScratchLimit { limit_bytes: load.limits.scratch_bytes }
    } else {
        symptom
    })
}

fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory);
        io || cause.is::<GcHeapOutOfMemory<()>>() || sys::is_out_of_memory(cause)
    };
    error.chain().any(denied)
}

fn trap(error: &wasmtime::Error) -> Failure {
    let message = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        None if error.is::<ThrownException>() => "an exception that nothing catches".into(),
        None => error.root_cause().to_string(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(|trace| frames(&trace.to_string())).unwrap_or_default();
    Failure::Trap { message: cut(&message), backtrace }
}

/// The functions' names out of the engine's rendering, which is the one place where it demangles them:
/// `    0:   0x2a - module!function`.
fn frames(rendered: &str) -> Vec<String> {
    let lines = rendered.lines().skip(1).filter_map(|line| line.trim_start().split_once(": "));
    let names = lines.filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit())).map(|(_, frame)| {
        let frame = frame.trim_start();
        let frame = if frame.starts_with("0x") { frame.split_once(" - ").map_or(frame, |(_, name)| name) } else { frame };
        cut(without_hash(frame.strip_prefix("<unknown>!").unwrap_or(frame)))
    });
    names.take(FRAMES_MAX).collect()
}

/// Rust's older mangling ends names in a hash that tells nobody anything.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_functions_names() {
        let rendered = "error while executing at wasm backtrace:\n    0:   0x2a - <unknown>!inner\n    1: app!core::fmt::write::h0123456789abcdef\n";
        assert_eq!(frames(rendered), ["inner", "app!core::fmt::write"]);
        assert!(cut(&"é".repeat(500)).len() <= TEXT_BYTES_MAX);
    }
}
