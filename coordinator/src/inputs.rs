//! Reads the inputs of tasks out of packs in the store, piece by piece, and remembers recent pieces.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::{Bytes, BytesMut};
use lru::LruCache;
use lull_shared::{
    digest::{BlobRef, Digest, PIECE_BYTES},
    id::TaskIndex,
    job::Inputs,
    message::Payload,
    pack::{self, EntryContent},
};
use tokio::sync::Mutex;

use crate::store::{Blobs, StoreError};

/// Pieces kept in memory: 32 MiB, enough for the packs of the jobs that are being handed out.
const PIECES_KEPT: NonZeroUsize = NonZeroUsize::new(128).expect("more than none");

/// An input that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the job's inputs {0} are not in the store any more")]
    Missing(Digest),
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    #[error("there is no input {0}")]
    Index(TaskIndex),
}

/// Reads inputs and their labels.
pub struct InputReader {
    store: Arc<dyn Blobs>,
    pieces: Mutex<LruCache<(Digest, u32), Bytes>>,
}

impl InputReader {
    /// A reader over a store's blobs.
    pub fn new(store: Arc<dyn Blobs>) -> Self {
        Self { store, pieces: Mutex::new(LruCache::new(PIECES_KEPT)) }
    }

    /// What a task reads on its standard input.
    pub async fn input(&self, inputs: &Inputs, index: TaskIndex) -> Result<Payload, InputError> {
        match inputs {
            Inputs::Pack { pack, count } if index < *count => match self.entry(pack, index).await?.content {
                EntryContent::Inline { offset, len } => Ok(Payload::Inline(self.read(pack, offset, len).await?)),
                EntryContent::Blob(blob) => Ok(Payload::Blob(blob)),
            },
            Inputs::Range { .. } | Inputs::Numbers(_) | Inputs::Pack { .. } => {
                let number = inputs.number(index).ok_or(InputError::Index(index))?;
                Ok(Payload::inline(number.to_string()))
            }
        }
    }

    /// What people call a task's input: a file's path, or the number itself.
    pub async fn label(&self, inputs: &Inputs, index: TaskIndex) -> Result<String, InputError> {
        match inputs {
            Inputs::Pack { pack, count } if index < *count => {
                let entry = self.entry(pack, index).await?;
                let bytes = self.read(pack, entry.label_offset, u64::from(entry.label_len)).await?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Inputs::Range { .. } | Inputs::Numbers(_) | Inputs::Pack { .. } => {
                inputs.number(index).map(|number| number.to_string()).ok_or(InputError::Index(index))
            }
        }
    }

    /// Checks that a blob in the store is a pack, and says how many inputs it has.
    pub async fn count(&self, pack: &BlobRef) -> Result<u32, InputError> {
        let header = self.read(pack, 0, (pack::HEADER_BYTES as u64).min(pack.size_bytes)).await?;
        let count = pack::read_header(&header)?;
        if pack::entry_offset(count) > pack.size_bytes {
            return Err(pack::PackError::Damaged.into());
        }
        Ok(count)
    }

    /// One row of a pack's index.
    pub async fn entry(&self, pack: &BlobRef, index: TaskIndex) -> Result<pack::Entry, InputError> {
        let row = self.read(pack, pack::entry_offset(index), pack::ENTRY_BYTES as u64).await?;
        Ok(pack::read_entry(&row, pack.size_bytes)?)
    }

    /// Bytes of a pack; the range was checked against its size.
    async fn read(&self, pack: &BlobRef, offset: u64, len: u64) -> Result<Bytes, InputError> {
        let end = offset.checked_add(len).filter(|end| *end <= pack.size_bytes).ok_or(pack::PackError::Damaged)?;
        let mut out = BytesMut::with_capacity(len as usize);
        let mut at = offset;
        while at < end {
            let piece = self.piece(pack, (at / PIECE_BYTES as u64) as u32).await?;
            let start = (at % PIECE_BYTES as u64) as usize;
            let stop = piece.len().min(start + (end - at) as usize);
            if stop <= start {
                return Err(pack::PackError::Damaged.into());
            }
            if at == offset && stop - start == len as usize {
                return Ok(piece.slice(start..stop));
            }
            out.extend_from_slice(&piece[start..stop]);
            at += (stop - start) as u64;
        }
        Ok(out.freeze())
    }

    async fn piece(&self, pack: &BlobRef, index: u32) -> Result<Bytes, InputError> {
        let mut pieces = self.pieces.lock().await;
        if let Some(piece) = pieces.get(&(pack.digest, index)) {
            return Ok(piece.clone());
        }
        let piece = self.store.blob_piece(&pack.digest, index).await?.ok_or(InputError::Missing(pack.digest))?;
        pieces.put((pack.digest, index), piece.clone());
        Ok(piece)
    }
}
