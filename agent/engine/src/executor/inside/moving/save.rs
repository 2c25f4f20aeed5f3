//! Taking an unwound guest down: the body of its snapshot, in pieces, to the agent.

use std::io::{self, Write};

use bytes::Bytes;
use wasmtime::{Store, Val};

use super::{descriptors, live::Live};
use crate::{
    executor::{
        inside::{
            guest::{Ends, Guest},
            pipe::Outgoing,
            stream::{Shared, lock},
        },
        protocol::FromExecutor,
    },
    snapshot::body::{self, Global, Host, Small},
};

/// What leaves in one frame.
const PIECE_BYTES: usize = 256 << 10;

/// Writes everything down. The guest stays as it is.
pub(super) fn save(store: &mut Store<Guest>, live: &Live, ends: &Ends, outgoing: &Shared<Outgoing>) -> wasmtime::Result<()> {
    let globals = live.globals.iter().map(|(number, global)| Ok((*number, value(global.get(&mut *store))?)));
    let globals = globals.collect::<wasmtime::Result<_>>()?;
    let small = Small { host: host(store, ends), globals, stack: live.stack(store)?.to_vec() };
    let memories = live.memories.iter().map(|(number, memory)| (*number, memory.data(&*store)));
    let sent = body::write(Pieces::new(outgoing), &small, &memories.collect::<Vec<_>>()).and_then(Pieces::finish);
    if sent.is_err() {
        // Without its agent nobody is left to run for.
        std::process::exit(crate::executor::EXIT_ORPHANED);
    }
    Ok(())
}

fn host(store: &mut Store<Guest>, ends: &Ends) -> Host {
    let guest = store.data_mut();
    let (log_head, log_tail, log_dropped_bytes) = {
        let log = lock(&ends.log);
        let (head, tail, dropped) = log.state();
        (head.to_vec(), tail, dropped)
    };
    Host {
        stdin_position: lock(&ends.stdin).position(),
        output: lock(&ends.stdout).state().1.to_vec(),
        log_head,
        log_tail,
        log_dropped_bytes,
        random_position: ends.random.as_ref().map_or(0, |random| random.position()),
        clock_ns: guest.clock().peek(),
        descriptors: descriptors::encode(&guest.changes),
        memory_denied: guest.budget().denied(),
    }
}

fn value(value: Val) -> wasmtime::Result<Global> {
    Ok(match value {
        Val::I32(value) => Global::I32(value),
        Val::I64(value) => Global::I64(value),
        Val::F32(bits) => Global::F32(bits),
        Val::F64(bits) => Global::F64(bits),
        Val::V128(bits) => Global::V128(bits.as_u128()),
        other => wasmtime::bail!("a global of the type {other:?} cannot be written down"),
    })
}

/// A stream cut into frames.
struct Pieces<'a> {
    to: &'a Shared<Outgoing>,
    piece: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn new(to: &'a Shared<Outgoing>) -> Self {
        Self { to, piece: Vec::with_capacity(PIECE_BYTES) }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES)));
        lock(self.to).send(&FromExecutor::Saving { piece })
    }

    fn finish(mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
