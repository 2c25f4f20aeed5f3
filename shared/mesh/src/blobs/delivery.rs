//! Large outputs on their way from an agent to a coordinator.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;
use lull_shared::{
    amount::sizes,
    digest::BlobRef,
    id::AttemptId,
    limits::{BLOB_BYTES_MAX, INTRODUCTION_BYTES_MAX},
    protocol::{DeliveryReply, DeliveryRequest},
};
use tokio::{io::AsyncReadExt as _, sync::Semaphore, time::timeout};

use crate::{
    BlobStore, Receiving,
    blobs::file::file_error,
    error::{MeshError, in_words},
    handle::{NodeHandle, OwnStream},
    peers::connection::Traffic,
    streams::{
        frames::{FrameError, in_time, read_frame, write_frame},
        opened::Protocol,
    },
};

/// How much is read from a stream or file at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a coordinator may take to make the largest blob durable on a slow disk.
const STORE_TIME_MAX: Duration = Duration::from_secs(120);

/// Takes in one delivery on a stream that an agent opened.
pub(crate) async fn serve(
    peer: PeerId,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
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
async fn finish(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: &DeliveryReply) -> Result<(), FrameError> {
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
pub(crate) async fn deliver(
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use bytes::Bytes;
    use lull_shared::{
        digest::{Digest, Outline},
        id::{JobId, TaskId},
    };
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    use super::*;
    use crate::BlobSink;

    /// What a coordinator does with a delivery, and what it took in.
    #[derive(Default)]
    struct Shelf {
        answer: Option<Result<fn() -> Receiving, String>>,
        bytes_max: Option<usize>,
        damaged: bool,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    struct Taking {
        taken: Arc<Mutex<Vec<u8>>>,
        bytes_max: usize,
        damaged: bool,
    }

    #[async_trait]
    impl BlobSink for Taking {
        async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
            let mut taken = self.taken.lock().expect("no test panics here");
            taken.extend_from_slice(bytes);
            if taken.len() > self.bytes_max { Err("the disk is full".into()) } else { Ok(()) }
        }

        async fn finish(self: Box<Self>) -> Result<(), String> {
            if self.damaged { Err("it is damaged".into()) } else { Ok(()) }
        }
    }

    #[async_trait]
    impl BlobStore for Shelf {
        async fn outline(&self, _: &Digest) -> Option<(BlobRef, Outline)> {
            None
        }

        async fn read_piece(&self, _: &Digest, _: u32) -> Option<Bytes> {
            None
        }

        async fn receive(&self, _: PeerId, _: AttemptId, _: BlobRef) -> Result<Receiving, String> {
            match &self.answer {
                Some(Ok(answer)) => Ok(answer()),
                Some(Err(reason)) => Err(reason.clone()),
                None => {
                    let (taken, damaged) = (Arc::clone(&self.taken), self.damaged);
                    Ok(Receiving::Wanted(Box::new(Taking { taken, bytes_max: self.bytes_max.unwrap_or(usize::MAX), damaged })))
                }
            }
        }
    }

    const SIZE: usize = 3 * CHUNK_BYTES + 5;

    fn output() -> (Vec<u8>, BlobRef) {
        let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        let blob = BlobRef::of(&bytes);
        (bytes, blob)
    }

    /// An agent that offers a blob, sends these bytes if it may, and hangs up: what it was told, and how that ended there.
    async fn delivers(
        shelf: &Shelf,
        blob: BlobRef,
        bytes: &[u8],
        places: usize,
    ) -> (Vec<DeliveryReply>, Result<(), FrameError>, u64) {
        let (agent, coordinator) = tokio::io::duplex(1 << 20);
        let (deliveries, traffic) = (Semaphore::new(places), Traffic::default());
        let served = serve(PeerId::random(), coordinator.compat(), shelf, &deliveries, &traffic);
        let attempt = AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 };
        let offered = async {
            let mut agent: Compat<_> = agent.compat();
            write_frame(&mut agent, &DeliveryRequest { attempt, blob }).await.expect("there is room");
            let mut replies = vec![read_frame(&mut agent, INTRODUCTION_BYTES_MAX).await.expect("an answer")];
            if replies == [DeliveryReply::Send] {
                agent.write_all(bytes).await.expect("there is room");
                agent.close().await.expect("it hears that");
                replies.extend(read_frame(&mut agent, INTRODUCTION_BYTES_MAX).await);
            }
            replies
        };
        let (served, replies) = tokio::join!(served, offered);
        (replies, served, traffic.blob_bytes_received.load(Ordering::Relaxed))
    }

    fn refused(reason: &str) -> DeliveryReply {
        DeliveryReply::Refused { reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn a_delivery_is_taken_in_to_its_last_byte_and_then_said_to_be_stored() {
        let ((bytes, blob), shelf) = (output(), Shelf::default());
        let (replies, served, moved) = delivers(&shelf, blob, &bytes, 1).await;
        assert_eq!((replies, served.is_ok(), moved), (vec![DeliveryReply::Send, DeliveryReply::Stored], true, SIZE as u64));
        assert_eq!(*shelf.taken.lock().expect("no test panics here"), bytes);
        let empty = delivers(&Shelf::default(), BlobRef::of(b""), b"", 1).await;
        assert_eq!((empty.0, empty.2), (vec![DeliveryReply::Send, DeliveryReply::Stored], 0), "of nothing too");
    }

    #[tokio::test]
    async fn a_delivery_that_is_cut_short_is_not_one_and_what_comes_beyond_it_is_not_taken() {
        let (bytes, blob) = output();
        for cut in [0, 1, CHUNK_BYTES, SIZE - 1] {
            let (replies, served, _) = delivers(&Shelf::default(), blob, &bytes[..cut], 1).await;
            assert!(matches!(served, Err(FrameError::CutShort)), "{cut} bytes");
            assert_eq!(replies, [DeliveryReply::Send]);
        }
        let shelf = Shelf::default();
        let longer = [&bytes[..], &[9; 100]].concat();
        let (replies, served, moved) = delivers(&shelf, blob, &longer, 1).await;
        assert_eq!((replies.len(), served.is_ok(), moved), (2, true, SIZE as u64));
        assert_eq!(shelf.taken.lock().expect("no test panics here").len(), SIZE);
    }

    #[tokio::test]
    async fn what_is_not_taken_is_told_so_with_the_reason_before_or_after_its_bytes() {
        let (bytes, blob) = output();
        let told = |shelf: Shelf, blob: BlobRef, places| {
            let bytes = bytes.clone();
            async move { delivers(&shelf, blob, &bytes, places).await.0 }
        };
        let answers = |answer| Shelf { answer: Some(answer), ..Shelf::default() };
        assert_eq!(told(Shelf::default(), blob, 0).await, [DeliveryReply::Busy], "too many at once");
        assert_eq!(told(answers(Ok(|| Receiving::Stored)), blob, 1).await, [DeliveryReply::Stored]);
        assert_eq!(told(answers(Ok(|| Receiving::Later)), blob, 1).await, [DeliveryReply::Busy]);
        assert_eq!(told(answers(Err("nobody wants it".into())), blob, 1).await, [refused("nobody wants it")]);
        let full = Shelf { bytes_max: Some(CHUNK_BYTES), ..Shelf::default() };
        assert_eq!(told(full, blob, 1).await, [DeliveryReply::Send, refused("the disk is full")]);
        let damaged = Shelf { damaged: true, ..Shelf::default() };
        assert_eq!(told(damaged, blob, 1).await, [DeliveryReply::Send, refused("it is damaged")]);
        for (size_bytes, taken) in [(BLOB_BYTES_MAX, true), (BLOB_BYTES_MAX + 1, false)] {
            let replies = told(answers(Ok(|| Receiving::Stored)), BlobRef { size_bytes, ..blob }, 1).await;
            assert_eq!(replies == [DeliveryReply::Stored], taken, "{replies:?}");
        }
    }

    #[tokio::test]
    async fn a_file_is_sent_as_far_as_it_was_announced_and_one_that_is_shorter_is_named() {
        let (bytes, blob) = output();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("output");
        for (left, whole) in [(&bytes[..], true), (&[&bytes[..], &[9; 100]].concat()[..], true), (&bytes[..SIZE - 1], false)] {
            std::fs::write(&path, left).expect("a file");
            let (traffic, mut sent) = (Traffic::default(), Vec::new());
            let outcome = send(&mut sent, blob, &path, &traffic).await;
            let expected = &bytes[..left.len().min(SIZE)];
            assert_eq!((&sent[..], traffic.blob_bytes_sent.load(Ordering::Relaxed)), (expected, expected.len() as u64));
            assert_eq!(matches!(outcome, Err(MeshError::File { .. })), !whole, "{outcome:?}");
        }
        let nowhere = send(&mut Vec::new(), blob, &folder.path().join("none"), &Traffic::default()).await;
        assert!(matches!(nowhere, Err(MeshError::File { .. })));
        let (mut broken, reader) = {
            let (one, two) = tokio::io::duplex(16);
            (one.compat(), two)
        };
        drop(reader);
        std::fs::write(&path, &bytes).expect("a file");
        let traffic = Traffic::default();
        assert_eq!(send(&mut broken, blob, &path, &traffic).await, Ok(()), "the answer that does not come says it");
        assert_eq!(traffic.blob_bytes_sent.load(Ordering::Relaxed), 0);
    }
}
