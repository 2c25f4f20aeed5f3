//! The end of a snapshot's file: whose it is, and what the parts before it must be.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{JobId, TaskId},
    job::AttemptLimits,
    state::Usage,
};

use super::{Part, Unfit};

/// The one format that there is. Another one is refused in words.
pub const FORMAT: u32 = 1;
/// The length of a seal.
pub const SEAL_BYTES: usize = UNSIGNED_BYTES + 32;

const UNSIGNED_BYTES: usize = 168;
const MAGIC: &[u8; 8] = b"LULLSNAP";

/// What a snapshot is of. It names a task and not an attempt: any later attempt of the task may go on from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    pub task: TaskId,
    /// The digest of the migratable build, as a module: only the same build knows the stack.
    pub code: Digest,
    /// Standard output that had left the executor, and lies first in the file.
    pub output: BlobRef,
    /// The body behind it.
    pub body: BlobRef,
    /// Time of all its attempts so far, and the most memory they had. The wall clock's includes pauses.
    pub usage: Usage,
    /// What counts towards the limit of an attempt's time: that without pauses, in microseconds.
    pub ran_us: u64,
}

impl Seal {
    /// Its bytes:
    ///
    /// ```text
    ///   0  magic            8    56  output's digest  32   136  wall time, us        8
    ///   8  format, index  4+4    88  body's length     8   144  processor time, us   8
    ///  16  job              8    96  body's digest    32   152  peak memory          8
    ///  24  build's digest  32   128  whole length      8   160  time that counts, us 8
    ///                                                      168  digest of all this  32
    ///  output's length is the whole length less the body's and the seal's
    /// ```
    pub fn encode(&self) -> [u8; SEAL_BYTES] {
        let whole = self.output.size_bytes + self.body.size_bytes + SEAL_BYTES as u64;
        let mut bytes = [0; SEAL_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(MAGIC);
        put(&FORMAT.to_le_bytes());
        put(&self.task.index.to_le_bytes());
        put(&self.task.job.0.to_le_bytes());
        put(self.code.as_bytes());
        put(self.output.digest.as_bytes());
        put(&self.body.size_bytes.to_le_bytes());
        put(self.body.digest.as_bytes());
        put(&whole.to_le_bytes());
        put(&self.usage.wall_us.to_le_bytes());
        put(&self.usage.cpu_us.to_le_bytes());
        put(&self.usage.memory_peak_bytes.to_le_bytes());
        put(&self.ran_us.to_le_bytes());
        let own = Digest::of(&bytes[..UNSIGNED_BYTES]);
        bytes[UNSIGNED_BYTES..].copy_from_slice(own.as_bytes());
        bytes
    }

    /// Reads the last bytes of a file that has `file_bytes` in all.
    pub fn decode(bytes: &[u8; SEAL_BYTES], file_bytes: u64) -> Result<Self, Unfit> {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let digest = |at: usize| Digest::from_bytes(std::array::from_fn(|i| bytes[at + i]));
        if !bytes.starts_with(MAGIC) {
            return Err(Unfit::None);
        }
        if short(8) != FORMAT {
            return Err(Unfit::Format { found: short(8) });
        }
        if Digest::of(&bytes[..UNSIGNED_BYTES]) != digest(UNSIGNED_BYTES) {
            return Err(Unfit::Damaged { part: Part::Seal });
        }
        let output_bytes = long(128).checked_sub(SEAL_BYTES as u64).and_then(|parts| parts.checked_sub(long(88)));
        let output_bytes = output_bytes.filter(|_| long(128) == file_bytes).ok_or(Unfit::None)?;
        Ok(Self {
            task: TaskId { job: JobId(long(16)), index: short(12) },
            code: digest(24),
            output: BlobRef { digest: digest(56), size_bytes: output_bytes },
            body: BlobRef { digest: digest(96), size_bytes: long(88) },
            usage: Usage { wall_us: long(136), cpu_us: long(144), memory_peak_bytes: long(152) },
            ran_us: long(160),
        })
    }

    /// Whether an attempt at this task, by this build and within these limits, may go on from it.
    pub fn fits(&self, task: TaskId, code: Digest, limits: &AttemptLimits) -> Result<(), Unfit> {
        if self.task != task {
            return Err(Unfit::Task { expected: task, found: self.task });
        }
        if self.code != code {
            return Err(Unfit::Code { expected: code, found: self.code });
        }
        if self.usage.memory_peak_bytes > limits.memory_bytes {
            let needed_bytes = self.usage.memory_peak_bytes;
            return Err(Unfit::Memory { needed_bytes, limit_bytes: limits.memory_bytes });
        }
        if self.output.size_bytes > limits.output_bytes {
            return Err(Unfit::Output { found_bytes: self.output.size_bytes, limit_bytes: limits.output_bytes });
        }
        Ok(())
    }
}
