//! Snapshots, which come from other machines.

use lull_engine::snapshot::{
    SEAL_BYTES, Seal, Unfit,
    body::{self, Bounds, Reader, Small},
};

use super::{choice, memory::bounded};

/// The memory that the guest who goes on may have.
const MEMORY_BYTES_MAX: usize = 4 << 20;
const BOUNDS: Bounds = Bounds { output_bytes: 1 << 16, log_bytes: 1 << 16, stack_bytes: body::STACK_BYTES_MAX };

/// The first byte says what the rest is: 0 a snapshot's file, 1 a snapshot's body.
///
/// Whatever it holds is refused, or read within the attempt's bounds, and reads back as it was written.
pub fn snapshot(bytes: &[u8]) {
    let (what, rest) = choice(bytes);
    if what % 2 == 0 { file(rest) } else { whole_body(rest) }
}

fn file(bytes: &[u8]) {
    let Some((_, last)) = bytes.split_last_chunk::<SEAL_BYTES>() else { return };
    let Ok(seal) = Seal::decode(last, bytes.len() as u64) else { return };
    assert_eq!(seal.encode(), *last, "it reads back");
    let parts = seal.output.size_bytes + seal.body.size_bytes + SEAL_BYTES as u64;
    assert_eq!(parts, bytes.len() as u64, "its parts are the file");
    whole_body(&bytes[seal.output.size_bytes as usize..bytes.len() - SEAL_BYTES]);
}

fn whole_body(bytes: &[u8]) {
    // Whatever was promised in few bytes, the guest's memory and stack are what it may have.
    let most = bytes.len() + MEMORY_BYTES_MAX + body::STACK_BYTES_MAX;
    let Ok((small, memories)) = bounded(most, || read(bytes)) else { return };
    let slices = memories.iter().map(|(number, memory)| (*number, memory.as_slice())).collect::<Vec<_>>();
    let again = body::write(Vec::new(), &small, &slices).expect("a vector takes everything");
    assert_eq!(read(&again), Ok((small, memories)), "it reads back");
}

type Memories = Vec<(u32, Vec<u8>)>;

fn read(bytes: &[u8]) -> Result<(Small, Memories), Unfit> {
    let (mut reader, small) = Reader::open(bytes, &BOUNDS)?;
    let (mut memories, mut left) = (Vec::new(), MEMORY_BYTES_MAX);
    while let Some(next) = reader.memory()? {
        let needed_bytes = next.size_bytes;
        let size = usize::try_from(needed_bytes).ok().filter(|size| *size <= left && size % 4096 == 0);
        let size = size.ok_or(Unfit::Memory { needed_bytes, limit_bytes: left as u64 })?;
        left -= size;
        let mut memory = vec![0xdd; size];
        reader.fill(&mut memory, size)?;
        memories.push((next.number, memory));
    }
    Ok((small, memories))
}
