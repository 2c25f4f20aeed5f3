//! A linear memory as its pages that hold anything.
//!
//! ```text
//! memory := number u32, size in bytes u64, run*, end
//! run    := first page u32, pages u32 (not 0), their bytes      ascending, apart from each other
//! end    := ffff_ffff u32, 0 u32
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{self, Read, Write};

use super::{Part, Unfit};

/// What is looked at as a whole: as fine as operating systems give memory out.
const PAGE_BYTES: usize = 4096;
/// No page has this number: a memory has at most a million.
const END: u32 = u32::MAX;

const DAMAGED: Unfit = Unfit::Damaged { part: Part::Body };

/// Writes a memory, whose size is a multiple of WebAssembly's page.
pub(super) fn write(to: &mut impl Write, number: u32, memory: &[u8]) -> io::Result<()> {
    to.write_all(&number.to_le_bytes())?;
    to.write_all(&(memory.len() as u64).to_le_bytes())?;
    let mut at = 0;
    let pages = memory.len() / PAGE_BYTES;
    let page = |index: usize| &memory[index * PAGE_BYTES..(index + 1) * PAGE_BYTES];
    while at < pages {
        if is_zero(page(at)) {
            at += 1;
            continue;
        }
        let first = at;
        while at < pages && !is_zero(page(at)) {
            at += 1;
        }
        to.write_all(&(first as u32).to_le_bytes())?;
        to.write_all(&((at - first) as u32).to_le_bytes())?;
        to.write_all(&memory[first * PAGE_BYTES..at * PAGE_BYTES])?;
    }
    to.write_all(&END.to_le_bytes())?;
    to.write_all(&0_u32.to_le_bytes())
}

/// Fills a memory whose number and size were read before. Its first `used` bytes may hold anything, the rest is zero.
pub(super) fn fill(from: &mut impl Read, memory: &mut [u8], used: usize) -> Result<(), Unfit> {
    let used = used.min(memory.len());
    let mut filled = 0;
    loop {
        let (first, pages) = (short(from)?, short(from)?);
        let begin = if first == END { memory.len() } else { first as usize * PAGE_BYTES };
        let end = if first == END { memory.len() } else { begin.saturating_add(pages as usize * PAGE_BYTES) };
        if begin < filled || end > memory.len() || (pages == 0) != (first == END) {
            return Err(DAMAGED);
        }
        wipe(&mut memory[filled.min(used)..begin.min(used)]);
        if first == END {
            return Ok(());
        }
        from.read_exact(&mut memory[begin..end]).map_err(|_| DAMAGED)?;
        filled = end;
    }
}

/// Writes only where there is something, so that pages nobody used stay the kernel's.
fn wipe(memory: &mut [u8]) {
    for page in memory.chunks_mut(PAGE_BYTES).filter(|page| !is_zero(page)) {
        page.fill(0);
    }
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<32>();
    words.iter().all(|word| *word == [0; 32]) && rest.iter().all(|byte| *byte == 0)
}

fn short(from: &mut impl Read) -> Result<u32, Unfit> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes).map_err(|_| DAMAGED)?;
    Ok(u32::from_le_bytes(bytes))
}
