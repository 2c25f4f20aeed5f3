//! Building a guest up again from the body of a snapshot that comes through the pipe.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use lull_shared::digest::{BlobRef, Digest};
use wasmtime::{Store, V128, Val};

use super::{descriptors, live::Live};
use crate::{
    executor::{
        inside::{
            guest::{Ends, Guest},
            pipe::Incoming,
            stream::{Shared, lock},
        },
        protocol::{Load, OUTPUT_PIECE_BYTES},
    },
    snapshot::{
        Part, Unfit,
        body::{Bounds, Global, Host, Next, Reader, STACK_BYTES_MAX, Small},
    },
};

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// A snapshot's body on its way through the pipe.
pub(in crate::executor) struct Arriving {
    blob: BlobRef,
    left_bytes: u64,
    pipe: Shared<Incoming>,
    piece: Bytes,
    hasher: blake3::Hasher,
}

impl Arriving {
    pub(in crate::executor) fn new(blob: BlobRef, pipe: &Shared<Incoming>) -> Self {
        let pipe = std::sync::Arc::clone(pipe);
        Self { blob, left_bytes: blob.size_bytes, pipe, piece: Bytes::new(), hasher: blake3::Hasher::new() }
    }

    fn fill(&mut self) {
        if self.piece.is_empty() && self.left_bytes > 0 {
            let piece = lock(&self.pipe).raw(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
            // Without its agent nobody is left to run for.
            let Ok(piece) = piece else { std::process::exit(crate::executor::EXIT_ORPHANED) };
            self.left_bytes -= piece.len() as u64;
            self.hasher.update(&piece);
            self.piece = piece;
        }
    }

    /// Takes what nobody read out of the pipe, and says whether all of it was what it should be.
    fn finish(mut self) -> Result<(), Unfit> {
        while self.left_bytes > 0 {
            self.piece.clear();
            self.fill();
        }
        let whole = Digest::from_bytes(*self.hasher.finalize().as_bytes()) == self.blob.digest;
        if whole { Ok(()) } else { Err(Unfit::Damaged { part: Part::Body }) }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill();
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Fills a fresh instance, which may be anything when this fails. Nothing of the guest runs before all is checked.
pub(super) async fn restore(
    store: &mut Store<Guest>,
    live: &Live,
    ends: &Ends,
    load: &Load,
    output_bytes: u64,
    mut body: Arriving,
) -> Result<(), Unfit> {
    let read = read(store, live, load, &mut body);
    // First of all the pipe must be where the input begins. A body that is not what was sent explains all else.
    body.finish()?;
    let Small { host, globals, stack } = read?;
    set_globals(store, live, &globals)?;
    if !live.set_stack(store, &stack).map_err(shape)? {
        return Err(shape("its stack is larger than the module's"));
    }
    resume_host(store, ends, host, output_bytes).await
}

/// Reads everything, the memories into their places.
fn read(store: &mut Store<Guest>, live: &Live, load: &Load, body: &mut Arriving) -> Result<Small, Unfit> {
    let log_bytes = usize::try_from(load.limits.log_bytes).unwrap_or(usize::MAX);
    let bounds = Bounds { output_bytes: OUTPUT_PIECE_BYTES, log_bytes, stack_bytes: STACK_BYTES_MAX };
    let (mut reader, small) = Reader::open(body, &bounds)?;
    for (number, memory) in &live.memories {
        let next = reader.memory()?.filter(|next| next.number == *number);
        let Some(Next { size_bytes, .. }) = next else { return Err(shape("it has other memories")) };
        let fresh_bytes = memory.data_size(&*store);
        let more_bytes = size_bytes.checked_sub(fresh_bytes as u64).filter(|bytes| bytes % WASM_PAGE_BYTES == 0);
        let more_bytes = more_bytes.ok_or_else(|| shape("its memory is smaller than the module's"))?;
        if memory.grow(&mut *store, more_bytes / WASM_PAGE_BYTES).is_err() {
            return Err(Unfit::Memory { needed_bytes: size_bytes, limit_bytes: load.limits.memory_bytes });
        }
        reader.fill(memory.data_mut(&mut *store), fresh_bytes)?;
    }
    match reader.memory()? {
        None => Ok(small),
        Some(_) => Err(shape("it has other memories")),
    }
}

fn set_globals(store: &mut Store<Guest>, live: &Live, values: &[(u32, Global)]) -> Result<(), Unfit> {
    let numbers = |globals: &mut dyn Iterator<Item = u32>| globals.collect::<Vec<_>>();
    if numbers(&mut live.globals.iter().map(|(number, _)| *number)) != numbers(&mut values.iter().map(|(number, _)| *number)) {
        return Err(shape("it has other globals"));
    }
    for ((_, global), (_, value)) in live.globals.iter().zip(values) {
        let value = match *value {
            Global::I32(value) => Val::I32(value),
            Global::I64(value) => Val::I64(value),
            Global::F32(bits) => Val::F32(bits),
            Global::F64(bits) => Val::F64(bits),
            Global::V128(bits) => Val::V128(V128::from(bits)),
        };
        global.set(&mut *store, value).map_err(shape)?;
    }
    Ok(())
}

async fn resume_host(store: &mut Store<Guest>, ends: &Ends, host: Host, output_bytes: u64) -> Result<(), Unfit> {
    lock(&ends.stdout).resume(output_bytes, host.output)?;
    lock(&ends.log).resume(host.log_head, host.log_tail, host.log_dropped_bytes)?;
    if let Some(random) = &ends.random {
        random.resume(host.random_position);
    }
    let guest = store.data_mut();
    guest.clock().resume(host.clock_ns);
    guest.budget().resume(host.memory_denied);
    descriptors::replay(guest, host.descriptors).await?;
    // Last, since input that was passed over does not come again.
    lock(&ends.stdin).resume(host.stdin_position)
}

fn shape(what: impl ToString) -> Unfit {
    Unfit::Shape { what: what.to_string() }
}
