//! The body of a snapshot: everything that a guest and its host know, as a compressed stream.
//!
//! ```text
//! body    := lz4 frame of: host, globals, stack, memories
//! host    := stdin position u64, output [..64 KiB], log head [..], log tail [..], log dropped u64,
//!            random position u128, clock u64 ns, 3 descriptors u8, memory denied u8
//! globals := count u32, each number u32, kind u8, 16 bytes
//! stack   := [..128 MiB]
//! memories:= count u32, each as in `pages`
//! [..]    := length u32, bytes
//! ```
//! lz4 since it is three times as fast as zstd where memory compresses and as fast where it does not: what it leaves
//! larger costs less on a local network than the time to make it smaller. Both ends stream: beside the memories
//! themselves nothing but a block of 256 KiB and the small parts is held.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{self, Read, Write};

use lull_shared::{job::AttemptLimits, limits};
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Part, Unfit, pages};

/// The stack that a module unwinds into, at most: twice the native one.
pub const STACK_BYTES_MAX: usize = 128 << 20;
/// Globals and memories of a module, at most; toolchains emit a handful.
pub const GLOBALS_MAX: usize = 1 << 16;
pub const MEMORIES_MAX: usize = 16;

const DAMAGED: Unfit = Unfit::Damaged { part: Part::Body };

/// What the host holds of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Bytes of standard input that were read.
    pub stdin_position: u64,
    /// Standard output that has not left the executor.
    pub output: Vec<u8>,
    pub log_head: Vec<u8>,
    pub log_tail: Vec<u8>,
    pub log_dropped_bytes: u64,
    /// Words of 32 bits taken from the stream of randomness.
    pub random_position: u128,
    /// Nanoseconds since 1970.
    pub clock_ns: u64,
    /// What the descriptors 0 to 2 are: 0 closed, 1 standard input, 2 output, 3 error.
    pub descriptors: [u8; 3],
    /// Whether it was refused memory: that explains a failure later on.
    pub memory_denied: bool,
}

/// The value of a mutable global, floats by their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(u128),
}

/// Everything but the memories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Small {
    pub host: Host,
    /// By number, ascending.
    pub globals: Vec<(u32, Global)>,
    pub stack: Vec<u8>,
}

/// The most that the small parts may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub output_bytes: usize,
    /// Of each half.
    pub log_bytes: usize,
    pub stack_bytes: usize,
}

/// The longest body of an attempt within these limits: everything at its largest, and nothing of it compresses.
pub fn bytes_max(limits: &AttemptLimits) -> u64 {
    let memories = limits.memory_bytes.saturating_add(limits.memory_bytes / 512);
    let small = limits.log_bytes.saturating_add((STACK_BYTES_MAX + GLOBALS_MAX * 32 + limits::INLINE_BYTES_MAX) as u64);
    let raw = memories.saturating_add(small);
    raw.saturating_add(raw / 1024).saturating_add(1 << 20)
}

/// Writes a body; `memories` by number.
pub fn write<W: Write>(to: W, small: &Small, memories: &[(u32, &[u8])]) -> io::Result<W> {
    let mut to = FrameEncoder::with_frame_info(FrameInfo::new().block_size(BlockSize::Max256KB), to);
    let host = &small.host;
    to.write_all(&host.stdin_position.to_le_bytes())?;
    for bytes in [&host.output, &host.log_head, &host.log_tail] {
        write_bytes(&mut to, bytes)?;
    }
    to.write_all(&host.log_dropped_bytes.to_le_bytes())?;
    to.write_all(&host.random_position.to_le_bytes())?;
    to.write_all(&host.clock_ns.to_le_bytes())?;
    to.write_all(&host.descriptors)?;
    to.write_all(&[u8::from(host.memory_denied)])?;
    to.write_all(&(small.globals.len() as u32).to_le_bytes())?;
    for (number, global) in &small.globals {
        let (kind, bits) = global.bits();
        to.write_all(&number.to_le_bytes())?;
        to.write_all(&[kind])?;
        to.write_all(&bits.to_le_bytes())?;
    }
    write_bytes(&mut to, &small.stack)?;
    to.write_all(&(memories.len() as u32).to_le_bytes())?;
    for (number, memory) in memories {
        pages::write(&mut to, *number, memory)?;
    }
    to.finish().map_err(io::Error::other)
}

/// A body that is read. Every error of its source counts as damage.
pub struct Reader<R: Read> {
    from: FrameDecoder<R>,
    memories_left: u32,
}

/// A memory that comes next: make it so large, then [`Reader::fill`] it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub number: u32,
    pub size_bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the small parts.
    pub fn open(from: R, bounds: &Bounds) -> Result<(Self, Small), Unfit> {
        let mut reader = Self { from: FrameDecoder::new(from), memories_left: 0 };
        let small = reader.small(bounds)?;
        reader.memories_left = u32::from_le_bytes(reader.array()?);
        if reader.memories_left as usize > MEMORIES_MAX {
            return Err(DAMAGED);
        }
        Ok((reader, small))
    }

    /// The next memory; none after the last one, when the body must end.
    pub fn memory(&mut self) -> Result<Option<Next>, Unfit> {
        let Some(left) = self.memories_left.checked_sub(1) else {
            let end = self.from.read(&mut [0]).map_err(|_| DAMAGED)?;
            return if end == 0 { Ok(None) } else { Err(DAMAGED) };
        };
        self.memories_left = left;
        Ok(Some(Next { number: u32::from_le_bytes(self.array()?), size_bytes: u64::from_le_bytes(self.array()?) }))
    }

    /// Fills the memory that came. Its first `used` bytes may hold anything, the rest is zero.
    pub fn fill(&mut self, memory: &mut [u8], used: usize) -> Result<(), Unfit> {
        pages::fill(&mut self.from, memory, used)
    }

    /// What the body came from.
    pub fn into_inner(self) -> R {
        self.from.into_inner()
    }

    fn small(&mut self, bounds: &Bounds) -> Result<Small, Unfit> {
        let host = Host {
            stdin_position: u64::from_le_bytes(self.array()?),
            output: self.bytes(bounds.output_bytes)?,
            log_head: self.bytes(bounds.log_bytes)?,
            log_tail: self.bytes(bounds.log_bytes)?,
            log_dropped_bytes: u64::from_le_bytes(self.array()?),
            random_position: u128::from_le_bytes(self.array()?),
            clock_ns: u64::from_le_bytes(self.array()?),
            descriptors: self.array()?,
            memory_denied: match self.array()? {
                [0] => false,
                [1] => true,
                _ => return Err(DAMAGED),
            },
        };
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > GLOBALS_MAX {
            return Err(DAMAGED);
        }
        let globals = (0..count).map(|_| self.global()).collect::<Result<Vec<_>, _>>()?;
        if !globals.is_sorted_by_key(|(number, _)| *number) {
            return Err(DAMAGED);
        }
        Ok(Small { host, globals, stack: self.bytes(bounds.stack_bytes)? })
    }

    fn global(&mut self) -> Result<(u32, Global), Unfit> {
        let number = u32::from_le_bytes(self.array()?);
        let [kind] = self.array()?;
        let global = Global::of_bits(kind, u128::from_le_bytes(self.array()?)).ok_or(DAMAGED)?;
        Ok((number, global))
    }

    fn bytes(&mut self, max: usize) -> Result<Vec<u8>, Unfit> {
        let length = u32::from_le_bytes(self.array()?);
        if length as usize > max {
            return Err(DAMAGED);
        }
        // Room is made as bytes come, not as they are promised.
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(u64::from(length)).read_to_end(&mut bytes).map_err(|_| DAMAGED)?;
        if read == length as usize { Ok(bytes) } else { Err(DAMAGED) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(|_| DAMAGED)?;
        Ok(bytes)
    }
}

impl Global {
    fn bits(self) -> (u8, u128) {
        match self {
            Self::I32(value) => (0, u128::from(value.cast_unsigned())),
            Self::I64(value) => (1, u128::from(value.cast_unsigned())),
            Self::F32(bits) => (2, u128::from(bits)),
            Self::F64(bits) => (3, u128::from(bits)),
            Self::V128(bits) => (4, bits),
        }
    }

    fn of_bits(kind: u8, bits: u128) -> Option<Self> {
        let short = || u32::try_from(bits).ok();
        let long = || u64::try_from(bits).ok();
        Some(match kind {
            0 => Self::I32(short()?.cast_signed()),
            1 => Self::I64(long()?.cast_signed()),
            2 => Self::F32(short()?),
            3 => Self::F64(long()?),
            4 => Self::V128(bits),
            _ => return None,
        })
    }
}

fn write_bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    // Each of them is bounded far below 4 GiB.
    to.write_all(&(bytes.len() as u32).to_le_bytes())?;
    to.write_all(bytes)
}
