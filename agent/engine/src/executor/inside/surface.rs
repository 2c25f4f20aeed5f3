//! Where preview 1 as agents offer it is wider than the engine's own: exit codes and calls of any size.

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::{I32Exit, p1::wasi_snapshot_preview1 as preview1};
use wiggle::GuestMemory;

use crate::executor::inside::guest::Guest;

const MODULE: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
/// Random bytes that the engine makes at once. A multiple of every word that a stream of them is made of.
const RANDOM_PIECE_BYTES: usize = 1 << 20;

/// Puts these functions in the place of the engine's.
pub(in crate::executor) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    // The engine's takes codes up to 125, as shells leave to programs; functions have the rest too.
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) })?;
    linker.func_wrap(MODULE, "random_get", |mut caller: Caller<'_, Guest>, start: u32, len: u32| -> wasmtime::Result<i32> {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
            wasmtime::bail!("missing required memory export");
        };
        let (memory, guest) = memory.data_and_store_mut(&mut caller);
        let end = (start as usize).saturating_add(len as usize);
        let Some(wanted) = memory.get_mut(start as usize..end) else {
            // The engine's own word for a pointer that leads nowhere.
            return preview1::random_get(guest.preview1(), &mut GuestMemory::Unshared(&mut []), 1, 1);
        };
        for piece in wanted.chunks_mut(RANDOM_PIECE_BYTES) {
            let len = i32::try_from(piece.len())?;
            let errno = preview1::random_get(guest.preview1(), &mut GuestMemory::Unshared(piece), 0, len)?;
            if errno != SUCCESS {
                return Ok(errno);
            }
        }
        Ok(SUCCESS)
    })?;
    Ok(())
}
