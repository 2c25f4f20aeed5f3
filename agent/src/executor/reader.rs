//! The agent's pipe from an executor: results and outputs, checked before they are believed.

use std::{io, path::PathBuf, sync::Arc};

use bytes::{Buf as _, BytesMut};
use lull_shared::{
    codec,
    digest::{BlobRef, OutlineBuilder},
    id::AttemptId,
    limits,
    state::Failure,
};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdout,
};

use super::{
    process::{Finished, Guard, Output, Shared},
    protocol::{self, Done, FromExecutor, Load},
};

/// What one read takes at most.
const BUFFER_BYTES: usize = 64 << 10;

/// Frames out of a pipe.
pub struct Frames<R = ChildStdout> {
    pipe: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads from this pipe.
    pub fn new(pipe: R) -> Self {
        Self { pipe, buffer: BytesMut::with_capacity(BUFFER_BYTES) }
    }

    /// The next frame; none at the end of the pipe.
    pub async fn next(&mut self) -> Result<Option<FromExecutor>, Broken> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<{ codec::LENGTH_BYTES }>() {
                let length = codec::frame_length(*prefix)?;
                if self.buffer.len() >= codec::LENGTH_BYTES + length {
                    self.buffer.advance(codec::LENGTH_BYTES);
                    return Ok(Some(codec::decode(&self.buffer.split_to(length))?));
                }
            }
            self.buffer.reserve(BUFFER_BYTES);
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// What an executor must not say, or the agent's own trouble with it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("its pipe failed: {0}")]
    Io(#[from] io::Error),
    #[error("it sent a frame that is too long: {0}")]
    Length(#[from] codec::FrameTooLong),
    #[error("it sent a damaged frame: {0}")]
    Frame(#[from] codec::DecodeError),
    #[error("it spoke out of turn")]
    Turn,
    #[error("it sent more than it may")]
    Excess,
    #[error("its output cannot be kept at {0}: {1}")]
    Disk(PathBuf, io::Error),
    #[error("it failed: {0}")]
    Fatal(String),
}

/// Reads until the process is gone, then tells its death.
pub(super) async fn read(mut frames: Frames, load: Load, mut guard: Guard, shared: Arc<Shared>) {
    let mut output = None;
    let broken = loop {
        let message = match frames.next().await {
            Ok(Some(message)) => message,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        if let Err(error) = take(message, &load, &mut output, &shared).await {
            break Some(error);
        }
    };
    let ended = guard.end(broken.is_some()).await;
    let how = broken.map_or(ended, |broken| broken.to_string());
    if let Some(scratch) = load.scratch.clone().filter(|_| load.grants.scratch) {
        let _ = tokio::task::spawn_blocking(move || super::scratch::clear(scratch.as_ref())).await;
    }
    if let Some(OutputFile { path, .. }) = output {
        let _ = tokio::fs::remove_file(path).await;
    }
    shared.bury(load.limits.scratch_bytes, how);
}

async fn take(message: FromExecutor, load: &Load, output: &mut Option<OutputFile>, shared: &Shared) -> Result<(), Broken> {
    let (attempt, path) = shared.running().ok_or(Broken::Turn)?;
    match message {
        FromExecutor::Output { piece } => {
            let file = match output {
                Some(file) => file,
                None => output.insert(OutputFile::create(path).await?),
            };
            file.append(&piece, load.limits.output_bytes).await
        }
        FromExecutor::Done(done) => {
            let finished = finish(*done, attempt, load, output.take()).await?;
            shared.finish(finished);
            Ok(())
        }
        FromExecutor::Fatal { reason } => Err(Broken::Fatal(reason)),
        FromExecutor::Loaded { .. } | FromExecutor::LoadFailed(_) => Err(Broken::Turn),
    }
}

async fn finish(done: Done, attempt: AttemptId, load: &Load, file: Option<OutputFile>) -> Result<Finished, Broken> {
    if done.attempt != attempt {
        return Err(Broken::Turn);
    }
    if done.log.len() as u64 > load.limits.log_bytes {
        return Err(Broken::Excess);
    }
    let outcome = match (done.outcome, file) {
        (Ok(protocol::Output::Inline(bytes)), None) if bytes.len() <= limits::INLINE_BYTES_MAX => Ok(Output::Inline(bytes)),
        (Ok(protocol::Output::Inline(_)), _) => return Err(Broken::Excess),
        (Ok(protocol::Output::Streamed { size_bytes }), Some(file)) => {
            let (path, blob) = file.close().await?;
            if blob.size_bytes != size_bytes {
                return Err(Broken::Excess);
            }
            Ok(Output::File { path, blob })
        }
        (Ok(protocol::Output::Streamed { .. }), None) => return Err(Broken::Turn),
        (Err(failure), file) => {
            if let Some(file) = file {
                let _ = tokio::fs::remove_file(file.path).await;
            }
            Err(bounded(failure)?)
        }
    };
    let (log, log_dropped_bytes, usage) = (done.log, done.log_dropped_bytes, done.usage);
    Ok(Finished { attempt, outcome, log, log_dropped_bytes, usage })
}

/// A failure's words end up in the coordinator's store.
fn bounded(failure: Failure) -> Result<Failure, Broken> {
    if failure.text_bytes() <= limits::FAILURE_BYTES_MAX { Ok(failure) } else { Err(Broken::Excess) }
}

/// An output that is too large for a message, on its way to the disk.
struct OutputFile {
    path: PathBuf,
    file: File,
    outline: OutlineBuilder,
    size_bytes: u64,
}

impl OutputFile {
    async fn create(path: PathBuf) -> Result<Self, Broken> {
        match File::create(&path).await {
            Ok(file) => Ok(Self { path, file, outline: OutlineBuilder::default(), size_bytes: 0 }),
            Err(error) => Err(Broken::Disk(path, error)),
        }
    }

    async fn append(&mut self, piece: &[u8], limit_bytes: u64) -> Result<(), Broken> {
        self.size_bytes += piece.len() as u64;
        if self.size_bytes > limit_bytes {
            return Err(Broken::Excess);
        }
        self.outline.update(piece);
        self.file.write_all(piece).await.map_err(|error| Broken::Disk(self.path.clone(), error))
    }

    async fn close(mut self) -> Result<(PathBuf, BlobRef), Broken> {
        if let Err(error) = self.file.flush().await {
            return Err(Broken::Disk(self.path, error));
        }
        Ok((self.path, self.outline.finish().0))
    }
}
