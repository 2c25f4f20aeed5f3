//! Passing pieces on, from a holder that is connected to us to an asker that cannot reach it.
//!
//! ```text
//! asker --- BlobAsk ---> coordinator --- BlobAsk ---> holder
//!       <-- piece ------             <-- piece ------          checked on the way, one in memory at a time
//! ```
//! A machine behind a firewall, or one that listens nowhere, can be reached only through those that it has dialled itself.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures::AsyncReadExt as _;
use libp2p::PeerId;
use lull_shared::{
    digest::{BlobRef, Outline},
    limits::INTRODUCTION_BYTES_MAX,
    pieces::PieceSet,
    protocol::{BlobAnswer, BlobAsk, BlobReply, BlobRequest},
};
use tokio::time::timeout;

use crate::{
    blobs::file::piece_bytes,
    handle::{NodeHandle, OwnStream},
    streams::{
        frames::{FrameError, in_time, read_frame, write_frame},
        opened::Protocol,
    },
};

/// Holders that are tried for one asker.
const HOLDERS_MAX: usize = 4;
/// How long a holder may take to answer: it is connected, and the asker waits for us.
const OPEN_TIME_MAX: Duration = Duration::from_secs(2);
/// The outline of the largest blob.
const OUTLINE_BYTES_MAX: usize = 256 * 1024;

/// The way to the holders of one blob, for one asker.
pub(crate) struct Relay<'a> {
    handle: &'a NodeHandle,
    blob: BlobRef,
    holders: Vec<PeerId>,
    open: Option<Way>,
}

/// A holder that answers.
struct Way {
    stream: OwnStream,
    outline: Outline,
}

/// A piece, or why there is none.
pub(crate) enum Relayed {
    Piece(u32, Bytes),
    Nothing,
    Busy,
}

impl<'a> Relay<'a> {
    /// To whichever of these is connected.
    pub(crate) fn new(handle: &'a NodeHandle, blob: BlobRef, mut holders: Vec<PeerId>) -> Self {
        holders.truncate(HOLDERS_MAX);
        holders.reverse();
        Self { handle, blob, holders, open: None }
    }

    /// The blob's outline, if a holder has it.
    pub(crate) async fn outline(&mut self) -> Option<Outline> {
        self.way().await.map(|way| way.outline.clone())
    }

    /// One of these pieces.
    pub(crate) async fn piece(&mut self, lacking: &PieceSet) -> Relayed {
        loop {
            let blob = self.blob;
            let Some(way) = self.way().await else { return Relayed::Nothing };
            match way.piece(&blob, lacking).await {
                Ok(relayed) => return relayed,
                Err(reason) => {
                    tracing::debug!(digest = %blob.digest, reason, "a holder does not give what is to be passed on");
                    self.open = None;
                }
            }
        }
    }

    /// The way that is open, or to the next holder that answers.
    async fn way(&mut self) -> Option<&mut Way> {
        while self.open.is_none() {
            let holder = self.holders.pop()?;
            match timeout(OPEN_TIME_MAX, Way::open(self.handle, holder, &self.blob)).await {
                Ok(Ok(way)) => self.open = Some(way),
                Ok(Err(reason)) => tracing::debug!(peer = %holder, reason, "a holder cannot be asked for another"),
                Err(_) => tracing::debug!(peer = %holder, "a holder does not answer in time"),
            }
        }
        self.open.as_mut()
    }
}

impl Way {
    async fn open(handle: &NodeHandle, holder: PeerId, blob: &BlobRef) -> Result<Self, String> {
        let in_words = |error: FrameError| error.to_string();
        let mut stream = handle.open(holder, Protocol::Blob).await.map_err(|error| error.to_string())?;
        let request = BlobRequest { digest: blob.digest, outline: true };
        write_frame(&mut stream.stream, &request).await.map_err(in_words)?;
        match read_frame(&mut stream.stream, OUTLINE_BYTES_MAX).await.map_err(in_words)? {
            BlobReply::Found { blob: found, outline: Some(outline), .. } if found == *blob => {
                outline.verify(blob).map_err(|wrong| wrong.to_string())?;
                Ok(Self { stream, outline })
            }
            BlobReply::Found { .. } | BlobReply::Missing => Err("it has not got it".to_owned()),
        }
    }

    async fn piece(&mut self, blob: &BlobRef, lacking: &PieceSet) -> Result<Relayed, String> {
        let in_words = |error: FrameError| error.to_string();
        let stream = &mut self.stream.stream;
        let ask = BlobAsk { lacking: lacking.clone(), alone: true };
        in_time(write_frame(stream, &ask)).await.map_err(in_words)?;
        let index = match in_time(read_frame(stream, INTRODUCTION_BYTES_MAX)).await.map_err(in_words)? {
            BlobAnswer::Piece { index } if lacking.contains(index) => index,
            BlobAnswer::Piece { index } => return Err(format!("it sends piece {index} unasked")),
            BlobAnswer::Nothing => return Ok(Relayed::Nothing),
            BlobAnswer::Busy => return Ok(Relayed::Busy),
        };
        let mut bytes = vec![0; piece_bytes(blob, index)];
        in_time(async { stream.read_exact(&mut bytes).await.map_err(FrameError::Broken) }).await.map_err(in_words)?;
        self.outline.verify_piece(blob, index, &bytes).map_err(|wrong| wrong.to_string())?;
        self.stream.traffic.blob_bytes_received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(Relayed::Piece(index, bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{UploadRules, blobs::exchange::Exchange};

    #[tokio::test]
    async fn few_holders_are_tried_for_one_asker_and_in_the_order_in_which_they_were_named() {
        let (commands, _asked) = tokio::sync::mpsc::channel(8);
        let node = NodeHandle::new(PeerId::random(), commands, Arc::new(Exchange::new(UploadRules::default())));
        let holders: Vec<PeerId> = (0..HOLDERS_MAX + 2).map(|_| PeerId::random()).collect();
        let mut relay = Relay::new(&node, BlobRef::of(b"x"), holders.clone());
        let tried: Vec<PeerId> = std::iter::from_fn(|| relay.holders.pop()).collect();
        assert_eq!(tried, holders[..HOLDERS_MAX]);
        assert!(relay.outline().await.is_none() && matches!(relay.piece(&PieceSet::all(1)).await, Relayed::Nothing));
    }
}
