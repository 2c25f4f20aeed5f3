//! Large outputs on their way from an agent to a coordinator.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use futures::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{PeerId, Stream};
use tokio::{io::AsyncReadExt as _, sync::Semaphore, time::timeout};

use super::{
    BlobStore, Receiving,
    connection::Traffic,
    error::{MeshError, in_words},
    file::file_error,
    frames::{FrameError, in_time, read_frame, write_frame},
    handle::{NodeHandle, OwnStream},
    streams::Protocol,
};
use crate::{
    amount::sizes,
    digest::BlobRef,
    id::AttemptId,
    limits::{BLOB_BYTES_MAX, INTRODUCTION_BYTES_MAX},
    protocol::{DeliveryReply, DeliveryRequest},
};

/// How much is read from a stream or file at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a coordinator may take to make the largest blob durable on a slow disk.
const STORE_TIME_MAX: Duration = Duration::from_secs(120);

/// Takes in one delivery on a stream that an agent opened.
pub(super) async fn serve(
    peer: PeerId,
    mut stream: Stream,
    blobs: &dyn BlobStore,
    deliveries: &Semaphore,
    traffic: &Traffic,
) -> Result<(), FrameError> {
    let request: DeliveryRequest = in_time(read_frame(&mut stream, INTRODUCTION_BYTES_MAX)).await?;
    let Ok(_delivery) = deliveries.try_acquire() else { return finish(stream, &DeliveryReply::Busy).await };
    let DeliveryRequest { attempt, blob } = request;
    if blob.size_bytes > BLOB_BYTES_MAX {
        let (found, most) = sizes(blob.size_bytes, BLOB_BYTES_MAX);
        let reason = format!("an output of {found}; at most {most} are taken");
        return finish(stream, &DeliveryReply::Refused { reason }).await;
    }
    let mut sink = match blobs.receive(peer, attempt, blob).await {
        Ok(Receiving::Wanted(sink)) => sink,
        Ok(Receiving::Later) => return finish(stream, &DeliveryReply::Busy).await,
        Ok(Receiving::Stored) => return finish(stream, &DeliveryReply::Stored).await,
        Err(reason) => return finish(stream, &DeliveryReply::Refused { reason }).await,
    };
    in_time(write_frame(&mut stream, &DeliveryReply::Send)).await?;
    let mut left = blob.size_bytes;
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let read = in_time(async { stream.read(&mut chunk[..room]).await.map_err(FrameError::Broken) }).await?;
        if read == 0 {
            return Err(FrameError::CutShort);
        }
        left -= read as u64;
        traffic.blob_bytes_received.fetch_add(read as u64, Ordering::Relaxed);
        if let Err(reason) = sink.write(&chunk[..read]).await {
            return finish(stream, &DeliveryReply::Refused { reason }).await;
        }
    }
    let reply = match sink.finish().await {
        Ok(()) => DeliveryReply::Stored,
        Err(reason) => DeliveryReply::Refused { reason },
    };
    finish(stream, &reply).await
}

/// Answers, and takes what is still on its way until the agent hangs up too: a stream that is reset may lose the answer.
async fn finish(mut stream: Stream, reply: &DeliveryReply) -> Result<(), FrameError> {
    in_time(async {
        write_frame(&mut stream, reply).await?;
        stream.close().await.map_err(FrameError::Broken)?;
        let mut rest = vec![0; 1024];
        while stream.read(&mut rest).await.map_err(FrameError::Broken)? > 0 {}
        Ok(())
    })
    .await
}

/// Offers a file to a coordinator and sends it if it is wanted.
pub(super) async fn deliver(
    handle: &NodeHandle,
    coordinator: PeerId,
    attempt: AttemptId,
    blob: BlobRef,
    path: &Path,
) -> Result<DeliveryReply, MeshError> {
    let lost = |error: FrameError| MeshError::Lost { peer: coordinator, reason: in_words(&error) };
    let OwnStream { mut stream, place: _place, traffic, .. } = handle.open(coordinator, Protocol::Delivery).await?;
    in_time(write_frame(&mut stream, &DeliveryRequest { attempt, blob })).await.map_err(lost)?;
    match in_time(read_frame(&mut stream, INTRODUCTION_BYTES_MAX)).await.map_err(lost)? {
        DeliveryReply::Send => {}
        DeliveryReply::Busy => return Err(MeshError::Busy { peer: coordinator }),
        answer @ (DeliveryReply::Stored | DeliveryReply::Refused { .. }) => return Ok(answer),
    }
    let (mut answers, mut pieces) = stream.split();
    let mut answer = std::pin::pin!(read_frame(&mut answers, INTRODUCTION_BYTES_MAX));
    // A coordinator that cannot go on says so before it has everything.
    let early = tokio::select! {
        early = &mut answer => Some(early),
        sent = send(&mut pieces, blob, path, &traffic) => match sent {
            Err(error @ MeshError::File { .. }) => return Err(error),
            // What could not be sent shows in the answer that does not come.
            _ => None,
        },
    };
    let answer = match early {
        Some(answer) => answer,
        None => timeout(STORE_TIME_MAX, answer).await.unwrap_or(Err(FrameError::Stalled(STORE_TIME_MAX))),
    };
    match answer.map_err(lost)? {
        answer @ (DeliveryReply::Stored | DeliveryReply::Refused { .. }) => Ok(answer),
        DeliveryReply::Busy => Err(MeshError::Busy { peer: coordinator }),
        DeliveryReply::Send => Err(MeshError::Protocol { peer: coordinator, reason: "it asked for the pieces twice".to_owned() }),
    }
}

async fn send(pieces: &mut (impl AsyncWrite + Unpin), blob: BlobRef, path: &Path, traffic: &Traffic) -> Result<(), MeshError> {
    let failed = |error: std::io::Error| file_error(path, &error);
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut left = blob.size_bytes;
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let read = file.read(&mut chunk[..room]).await.map_err(failed)?;
        if read == 0 {
            let reason = format!("it is shorter than the {} bytes that were announced", blob.size_bytes);
            return Err(MeshError::File { path: path.to_owned(), reason });
        }
        if in_time(async { pieces.write_all(&chunk[..read]).await.map_err(FrameError::Broken) }).await.is_err() {
            return Ok(());
        }
        left -= read as u64;
        traffic.blob_bytes_sent.fetch_add(read as u64, Ordering::Relaxed);
    }
    // Closing says that this is all; a stream that broke shows in the answer that does not come.
    let _ = in_time(async { pieces.close().await.map_err(FrameError::Broken) }).await;
    Ok(())
}
