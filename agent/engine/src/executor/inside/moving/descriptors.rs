//! What a guest does to its descriptors, so that it can be done again elsewhere.
//!
//! Without a scratch folder a guest has the three standard ones and no way to open more; it can close them and put one
//! in another's place. Each such step leaves one descriptor fewer, so there are three at most, and doing them again on a
//! fresh table gives the very same one.

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as preview1};
use wiggle::GuestMemory;

use crate::{executor::inside::guest::Guest, snapshot::Unfit};

/// The standard descriptors.
const COUNT: u8 = 3;
const SUCCESS: i32 = 0;
const MODULE: &str = "wasi_snapshot_preview1";

/// A step that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) enum Change {
    Closed(u8),
    Moved { from: u8, to: u8 },
}

impl Change {
    /// Its byte in a snapshot; 0 is for no change.
    fn encode(self) -> u8 {
        match self {
            Self::Closed(fd) => 1 + fd,
            Self::Moved { from, to } => 0x10 | from << 2 | to,
        }
    }

    fn decode(byte: u8) -> Option<Self> {
        let change = match byte.checked_sub(1)? {
            fd if fd < COUNT => Self::Closed(fd),
            _ => Self::Moved { from: byte >> 2 & 3, to: byte & 3 },
        };
        (change.encode() == byte).then_some(change)
    }
}

/// The steps as a snapshot holds them.
pub(super) fn encode(changes: &[Change]) -> [u8; COUNT as usize] {
    std::array::from_fn(|at| changes.get(at).map_or(0, |change| change.encode()))
}

/// Does the steps of a snapshot on a fresh table.
pub(super) async fn replay(guest: &mut Guest, steps: [u8; COUNT as usize]) -> Result<(), Unfit> {
    let shape = || Unfit::Shape { what: "its descriptors make no sense".into() };
    for step in steps.into_iter().filter(|step| *step != 0) {
        let change = Change::decode(step).ok_or_else(shape)?;
        let errno = match change {
            Change::Closed(fd) => close(guest.preview1(), fd.into()).await,
            Change::Moved { from, to } => renumber(guest.preview1(), from.into(), to.into()).await,
        };
        if !matches!(errno, Ok(SUCCESS)) {
            return Err(shape());
        }
        guest.changes.push(change);
    }
    Ok(())
}

/// Puts functions that are followed in the place of those that are not.
pub(super) fn follow(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "fd_close", |mut caller: Caller<'_, Guest>, (fd,): (i32,)| {
        Box::new(async move {
            has_memory(&mut caller)?;
            let errno = close(caller.data_mut().preview1(), fd).await?;
            if let (SUCCESS, Ok(fd)) = (errno, u8::try_from(fd)) {
                caller.data_mut().changes.push(Change::Closed(fd));
            }
            Ok(errno)
        })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller: Caller<'_, Guest>, (from, to): (i32, i32)| {
        Box::new(async move {
            has_memory(&mut caller)?;
            let errno = renumber(caller.data_mut().preview1(), from, to).await?;
            // Onto itself it stays as it was.
            if let (SUCCESS, Ok(from), Ok(to)) = (errno, u8::try_from(from), u8::try_from(to))
                && from != to
            {
                caller.data_mut().changes.push(Change::Moved { from, to });
            }
            Ok(errno)
        })
    })?;
    Ok(())
}

/// What every function of preview 1 asks of its caller first.
fn has_memory(caller: &mut Caller<'_, Guest>) -> wasmtime::Result<()> {
    match caller.get_export("memory") {
        Some(Extern::Memory(_)) => Ok(()),
        _ => wasmtime::bail!("missing required memory export"),
    }
}

async fn close(wasi: &mut WasiP1Ctx, fd: i32) -> wasmtime::Result<i32> {
    preview1::fd_close(wasi, &mut GuestMemory::Unshared(&mut []), fd).await
}

async fn renumber(wasi: &mut WasiP1Ctx, from: i32, to: i32) -> wasmtime::Result<i32> {
    preview1::fd_renumber(wasi, &mut GuestMemory::Unshared(&mut []), from, to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_reads_back_and_nothing_else_does() {
        let closed = (0..COUNT).map(Change::Closed);
        let moved = (0..COUNT).flat_map(|from| (0..COUNT).map(move |to| Change::Moved { from, to }));
        let all = closed.chain(moved).collect::<Vec<_>>();
        for change in &all {
            assert_eq!(Change::decode(change.encode()), Some(*change));
        }
        for byte in 0..=u8::MAX {
            if let Some(change) = Change::decode(byte) {
                assert!(change.encode() == byte);
            }
        }
        assert_eq!(Change::decode(0), None);
        assert_eq!(Change::decode(0xff), None);
    }
}
