//! EDGE: the store's blobs, as the mesh serves and receives them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::PeerId;
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    id::AttemptId,
    limits,
    mesh::{BlobSink, BlobStore, Receiving},
};

use crate::store::{BlobWriter, Store};

/// Serves a store's blobs to the mesh.
pub struct StoreBlobs {
    store: Arc<dyn Store>,
}

impl StoreBlobs {
    /// Over this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl BlobStore for StoreBlobs {
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
        self.store.blob_outline(digest).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "cannot read a blob");
            None
        })
    }

    async fn read_piece(&self, digest: &Digest, index: u32) -> Option<Bytes> {
        self.store.blob_piece(digest, index).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, index, %error, "cannot read a blob");
            None
        })
    }

    async fn receive(&self, peer: PeerId, attempt: AttemptId, blob: BlobRef) -> Result<Receiving, String> {
        if blob.size_bytes > limits::OUTPUT_BYTES_MAX {
            return Err(format!("an output of {} bytes is larger than any may be", blob.size_bytes));
        }
        if self.store.blob_outline(&blob.digest).await.map_err(|error| error.to_string())?.is_some() {
            return Ok(Receiving::Stored);
        }
        tracing::debug!(%peer, %attempt, digest = %blob.digest, bytes = blob.size_bytes, "an output arrives");
        let writer = self.store.begin_blob(blob.size_bytes).await.map_err(|error| error.to_string())?;
        Ok(Receiving::Wanted(Box::new(StoreSink { writer, blob })))
    }
}

struct StoreSink {
    writer: Box<dyn BlobWriter>,
    blob: BlobRef,
}

#[async_trait]
impl BlobSink for StoreSink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.writer.write(bytes).await.map_err(|error| error.to_string())
    }

    async fn finish(self: Box<Self>) -> Result<(), String> {
        let stored = self.writer.finish().await.map_err(|error| error.to_string())?;
        if stored == self.blob { Ok(()) } else { Err(format!("the bytes are {} and not {}", stored.digest, self.blob.digest)) }
    }
}
