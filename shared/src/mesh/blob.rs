//! Blobs between peers: sending pieces, and fetching them with every piece checked as it arrives.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use backon::BackoffBuilder as _;
use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{PeerId, Stream};
use tokio::{io::AsyncWriteExt as _, sync::Semaphore, time::sleep};

use super::{
    BlobStore,
    connection::Traffic,
    error::{MeshError, in_words},
    frames::{FrameError, in_time, read_frame, write_frame},
    handle::{FetchReport, NodeHandle, OwnStream},
    streams::Protocol,
};
use crate::{
    digest::{BlobRef, Outline, PIECE_BYTES},
    limits::{BLOB_BYTES_MAX, INTRODUCTION_BYTES_MAX},
    protocol::{BlobReply, BlobRequest},
};

/// A source that was lost is asked again this often without having sent anything in between.
const LOSSES_MAX: u32 = 4;
/// How long nothing may come from anybody, because all are busy: a new version is fetched by a whole fleet at once.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest pause before all are asked again.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// The answer to a request: the outline of the largest blob has 4096 times 32 bytes.
const OUTLINE_BYTES_MAX: usize = 256 * 1024;

/// Answers one request on a stream that a member opened.
pub(super) async fn serve(
    mut stream: Stream,
    blobs: &dyn BlobStore,
    transfers: &Semaphore,
    traffic: &Traffic,
) -> Result<(), FrameError> {
    let request: BlobRequest = in_time(read_frame(&mut stream, INTRODUCTION_BYTES_MAX)).await?;
    let Ok(_transfer) = transfers.try_acquire() else {
        return in_time(write_frame(&mut stream, &BlobReply::Busy)).await;
    };
    let Some((blob, outline)) = blobs.outline(&request.digest).await else {
        return in_time(write_frame(&mut stream, &BlobReply::Missing)).await;
    };
    in_time(write_frame(&mut stream, &BlobReply::Found { blob, outline })).await?;
    let end = request.first_piece.saturating_add(request.pieces).min(blob.pieces());
    let end = if blob.size_bytes == 0 { 0 } else { end };
    for index in request.first_piece..end {
        // A blob that was deleted meanwhile ends the stream: the peer goes on with another source.
        let Some(piece) = blobs.read_piece(&request.digest, index).await else { return Err(FrameError::Closed) };
        in_time(async { stream.write_all(&piece).await.map_err(FrameError::Broken) }).await?;
        traffic.blob_bytes_sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    in_time(async { stream.close().await.map_err(FrameError::Broken) }).await
}

/// Why a source did not give all.
enum Fault {
    /// It takes no more at the moment.
    Busy,
    /// It cannot be heard at the moment.
    Lost(String),
    /// It has not got it, or lied about it.
    Never(String),
    /// Our own side failed.
    Ours(MeshError),
}

/// Where the pieces go.
pub(super) enum Target {
    File(PartialFile),
    Memory(Vec<u8>),
}

impl Target {
    async fn take(&mut self, piece: &[u8]) -> Result<(), MeshError> {
        match self {
            Self::File(file) => file.write(piece).await,
            Self::Memory(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }
}

/// A fetch under way: what is there already is not asked for again.
pub(super) struct Fetch {
    pub(super) blob: BlobRef,
    outline: Option<Outline>,
    next_piece: u32,
    target: Target,
    report: FetchReport,
}

impl Fetch {
    pub(super) fn new(blob: BlobRef, target: Target) -> Result<Self, MeshError> {
        if blob.size_bytes > BLOB_BYTES_MAX {
            return Err(MeshError::TooLarge { size_bytes: blob.size_bytes, max_bytes: BLOB_BYTES_MAX });
        }
        Ok(Self { blob, outline: None, next_piece: 0, target, report: FetchReport::default() })
    }

    /// Tries the sources in turn until every piece is there.
    pub(super) async fn run(mut self, handle: &NodeHandle, sources: &[PeerId]) -> Result<(Target, FetchReport), MeshError> {
        let mut hopes: Vec<_> = sources.iter().map(|source| (*source, 0_u32)).collect();
        let (mut waits, mut progress, mut since) = (waits(), 0, Instant::now());
        loop {
            for (source, losses) in &mut hopes {
                let before = self.next_piece;
                let Err(fault) = self.fetch_from(handle, *source).await else { return Ok((self.target, self.report)) };
                if self.next_piece > before {
                    *losses = 0;
                }
                let reason = match fault {
                    Fault::Ours(error) => return Err(error),
                    Fault::Busy => "it is busy".to_owned(),
                    Fault::Lost(reason) => {
                        *losses += 1;
                        reason
                    }
                    Fault::Never(reason) => {
                        tracing::debug!(peer = %source, blob = %self.blob.digest, %reason, "a source is not asked again");
                        *losses = u32::MAX;
                        reason
                    }
                };
                self.report.failed(*source, reason);
            }
            hopes.retain(|(_, losses)| *losses < LOSSES_MAX);
            if self.next_piece > progress {
                (waits, progress, since) = (self::waits(), self.next_piece, Instant::now());
            }
            if hopes.is_empty() || since.elapsed() >= PATIENCE {
                return Err(MeshError::Unavailable { blob: self.blob, tried: self.report.tried });
            }
            sleep(waits.next().unwrap_or(WAIT_MAX)).await;
        }
    }

    async fn fetch_from(&mut self, handle: &NodeHandle, source: PeerId) -> Result<(), Fault> {
        let lost = |error: FrameError| Fault::Lost(in_words(&error));
        let opened = handle.open(source, Protocol::Blob).await.map_err(|error| match error {
            MeshError::Stopped => Fault::Ours(MeshError::Stopped),
            MeshError::Busy { .. } => Fault::Busy,
            other => Fault::Lost(other.to_string()),
        })?;
        let OwnStream { mut stream, place: _place, traffic } = opened;
        let pieces = self.blob.pieces() - self.next_piece;
        let request = BlobRequest { digest: self.blob.digest, first_piece: self.next_piece, pieces };
        in_time(write_frame(&mut stream, &request)).await.map_err(lost)?;
        match in_time(read_frame(&mut stream, OUTLINE_BYTES_MAX)).await {
            Ok(BlobReply::Found { blob, outline }) => self.check(blob, outline)?,
            Ok(BlobReply::Missing) => return Err(Fault::Never("it has not got it".to_owned())),
            Ok(BlobReply::Busy) => return Err(Fault::Busy),
            Err(error @ (FrameError::Garbage(_) | FrameError::TooLong(_))) => return Err(Fault::Never(in_words(&error))),
            Err(error) => return Err(lost(error)),
        }
        let mut buffer = vec![0; usize::try_from(self.blob.size_bytes).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
        while self.next_piece < self.blob.pieces() {
            let start = u64::from(self.next_piece) * PIECE_BYTES as u64;
            let length = usize::try_from(self.blob.size_bytes - start).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let piece = &mut buffer[..length];
            in_time(async { stream.read_exact(piece).await.map_err(FrameError::Broken) }).await.map_err(lost)?;
            let outline = self.outline.as_ref().ok_or_else(|| Fault::Never("it sent no outline".to_owned()))?;
            outline.verify_piece(&self.blob, self.next_piece, piece).map_err(|wrong| Fault::Never(wrong.to_string()))?;
            self.target.take(piece).await.map_err(Fault::Ours)?;
            traffic.blob_bytes_received.fetch_add(length as u64, Ordering::Relaxed);
            self.report.received(source, length as u64);
            self.next_piece += 1;
        }
        Ok(())
    }

    /// An outline that was verified is enough: later sources need not repeat it rightly.
    fn check(&mut self, blob: BlobRef, outline: Outline) -> Result<(), Fault> {
        if blob != self.blob {
            return Err(Fault::Never("it has another blob of that name".to_owned()));
        }
        if self.outline.is_none() {
            outline.verify(&self.blob).map_err(|wrong| Fault::Never(wrong.to_string()))?;
            self.outline = Some(outline);
        }
        Ok(())
    }
}

/// The pauses between rounds.
fn waits() -> impl Iterator<Item = Duration> {
    let growing = backon::ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(WAIT_MAX);
    growing.with_jitter().without_max_times().build()
}

/// A file that appears under its name only when it is whole and durable. Dropped before, it leaves nothing.
pub(super) struct PartialFile {
    file: tokio::fs::File,
    into: PathBuf,
    partial: RemovedOnDrop,
}

struct RemovedOnDrop(Option<PathBuf>);

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // What cannot be removed is a leftover for whoever cleans that folder.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl PartialFile {
    pub(super) async fn create(into: PathBuf) -> Result<Self, MeshError> {
        let mut name = into.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.part", rand::random::<u64>()));
        let path = into.with_file_name(name);
        let file = tokio::fs::File::create_new(&path).await.map_err(|error| file_error(&path, &error))?;
        Ok(Self { file, into, partial: RemovedOnDrop(Some(path)) })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), MeshError> {
        self.file.write_all(bytes).await.map_err(|error| file_error(&self.into, &error))
    }

    /// Makes the bytes durable, then gives the file its name.
    pub(super) async fn finish(mut self) -> Result<(), MeshError> {
        let failed = |error: std::io::Error| file_error(&self.into, &error);
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        drop(self.file.into_std().await);
        let Some(partial) = &self.partial.0 else { return Ok(()) };
        tokio::fs::rename(partial, &self.into).await.map_err(failed)?;
        self.partial.0 = None;
        if let Some(folder) = self.into.parent() {
            // Not every system can do this to a folder; the name is then durable a little later.
            if let Ok(folder) = tokio::fs::File::open(folder).await {
                let _ = folder.sync_all().await;
            }
        }
        Ok(())
    }
}

pub(super) fn file_error(path: &Path, error: &std::io::Error) -> MeshError {
    MeshError::File { path: path.to_owned(), reason: error.to_string() }
}

/// Fetches a small blob into memory.
pub(super) async fn fetch_bytes(
    handle: &NodeHandle,
    blob: BlobRef,
    sources: &[PeerId],
    max_bytes: u64,
) -> Result<Bytes, MeshError> {
    if blob.size_bytes > max_bytes {
        return Err(MeshError::TooLarge { size_bytes: blob.size_bytes, max_bytes });
    }
    match Fetch::new(blob, Target::Memory(Vec::new()))?.run(handle, sources).await? {
        (Target::Memory(bytes), _) => Ok(bytes.into()),
        (Target::File(_), _) => unreachable!("the target was memory"),
    }
}
