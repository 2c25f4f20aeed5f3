//! Why an attempt cannot go on from a snapshot.

use std::fmt;

use lull_shared::{amount::sizes, digest::Digest, id::TaskId};
use serde::{Deserialize, Serialize};

use super::FORMAT;

/// Words of a reason, at most.
const WORDS_BYTES_MAX: usize = 1024;

/// Why an attempt cannot go on from a snapshot; it begins anew instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unfit {
    #[error("the snapshot cannot be read: {reason}")]
    Unreadable { reason: String },
    #[error("it is not a snapshot, or not a whole one")]
    None,
    #[error("the snapshot has the format {found} and this agent reads the format {FORMAT}: agents of one fleet need one version")]
    Format { found: u32 },
    #[error("the snapshot's {part} is damaged")]
    Damaged { part: Part },
    #[error("the snapshot is of task {found}, not of {expected}")]
    Task { expected: TaskId, found: TaskId },
    #[error("the snapshot is of the migratable build {found}, not of {expected}")]
    Code { expected: Digest, found: Digest },
    #[error("the snapshot's module does not match: {what}")]
    Shape { what: String },
    #[error("the snapshot has {} of memory and the attempt may have {}", sizes(*needed_bytes, *limit_bytes).0, sizes(*needed_bytes, *limit_bytes).1)]
    Memory { needed_bytes: u64, limit_bytes: u64 },
    #[error("the snapshot has {} of output or log and the attempt may have {}", sizes(*found_bytes, *limit_bytes).0, sizes(*found_bytes, *limit_bytes).1)]
    Output { found_bytes: u64, limit_bytes: u64 },
    #[error("the snapshot has read {position} bytes of its input, which has {size_bytes}")]
    Input { position: u64, size_bytes: u64 },
}

impl Unfit {
    /// With words of a length that can be kept, whoever chose them.
    pub fn bounded(mut self) -> Self {
        if let Self::Unreadable { reason: words } | Self::Shape { what: words } = &mut self {
            words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
        }
        self
    }
}

/// A part of a snapshot that has a digest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Output,
    Body,
    Seal,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "output",
            Self::Body => "body",
            Self::Seal => "seal",
        })
    }
}
