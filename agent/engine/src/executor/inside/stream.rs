//! The guest's standard streams: input from the message or the pipe, output with its limit, a log that keeps both ends.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use crate::{
    executor::{
        inside::pipe::{Incoming, Outgoing},
        protocol::{FromExecutor, Input, OUTPUT_PIECE_BYTES, Output},
        trail,
    },
    snapshot::Unfit,
};

/// What one write of the guest may carry.
const PERMIT_BYTES: usize = 64 << 10;

/// Two owners on one thread; the lock is there because the engine asks for `Send`.
pub(in crate::executor) type Shared<T> = Arc<Mutex<T>>;

pub(in crate::executor) fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where standard output and standard error go.
pub(in crate::executor) trait Sink: Send + 'static {
    /// Takes all the bytes, or stops the guest.
    fn take(&mut self, bytes: &[u8]) -> wasmtime::Result<()>;
}

/// Standard output.
pub(in crate::executor) struct Stdout {
    limit_bytes: u64,
    sent_bytes: u64,
    kept: Vec<u8>,
    exceeded: bool,
    pipe: Shared<Outgoing>,
}

impl Stdout {
    pub(in crate::executor) fn new(limit_bytes: u64, pipe: Shared<Outgoing>) -> Self {
        Self { limit_bytes, sent_bytes: 0, kept: Vec::new(), exceeded: false, pipe }
    }

    /// Whether the guest wrote more than it may.
    pub(in crate::executor) fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// What goes into the last message; the rest has left already.
    pub(in crate::executor) fn finish(&mut self) -> io::Result<Output> {
        if self.sent_bytes == 0 {
            return Ok(Output::Inline(std::mem::take(&mut self.kept).into()));
        }
        self.send()?;
        Ok(Output::Streamed { size_bytes: self.sent_bytes })
    }

    /// How many bytes have left, and those that have not.
    pub(in crate::executor) fn state(&self) -> (u64, &[u8]) {
        (self.sent_bytes, &self.kept)
    }

    /// Goes on after so many bytes that have left and these that have not. Nothing was written yet.
    pub(in crate::executor) fn resume(&mut self, sent_bytes: u64, kept: Vec<u8>) -> Result<(), Unfit> {
        let total = sent_bytes.saturating_add(kept.len() as u64);
        if kept.len() > OUTPUT_PIECE_BYTES || total > self.limit_bytes {
            return Err(Unfit::Output { found_bytes: total, limit_bytes: self.limit_bytes });
        }
        (self.sent_bytes, self.kept) = (sent_bytes, kept);
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.kept.is_empty() {
            self.sent_bytes += self.kept.len() as u64;
            let piece = Bytes::from(std::mem::take(&mut self.kept));
            lock(&self.pipe).send(&FromExecutor::Output { piece })?;
        }
        Ok(())
    }
}

impl Sink for Stdout {
    fn take(&mut self, mut bytes: &[u8]) -> wasmtime::Result<()> {
        let total = self.sent_bytes + (self.kept.len() + bytes.len()) as u64;
        if total > self.limit_bytes {
            self.exceeded = true;
            wasmtime::bail!("more output than its limit of {}", lull_shared::amount::size(self.limit_bytes));
        }
        while !bytes.is_empty() {
            if self.kept.len() == OUTPUT_PIECE_BYTES {
                self.send()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(OUTPUT_PIECE_BYTES - self.kept.len()));
            self.kept.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }
}

/// Standard error: the first and the last half of what was written.
pub(in crate::executor) struct Log {
    half_bytes: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped_bytes: u64,
}

impl Log {
    pub(in crate::executor) fn new(limit_bytes: u64) -> Self {
        let half_bytes = usize::try_from(limit_bytes / 2).unwrap_or(usize::MAX);
        Self { half_bytes, head: Vec::new(), tail: VecDeque::new(), dropped_bytes: 0 }
    }

    /// The bytes kept, and how many are missing between the halves.
    pub(in crate::executor) fn finish(&mut self) -> (Bytes, u64) {
        let mut kept = std::mem::take(&mut self.head);
        let (front, back) = self.tail.as_slices();
        kept.extend_from_slice(front);
        kept.extend_from_slice(back);
        self.tail.clear();
        (kept.into(), self.dropped_bytes)
    }
}

impl Log {
    /// The two halves, and how many bytes are missing between them.
    pub(in crate::executor) fn state(&self) -> (&[u8], Vec<u8>, u64) {
        (&self.head, self.tail.iter().copied().collect(), self.dropped_bytes)
    }

    /// Goes on after these. Nothing was written yet.
    pub(in crate::executor) fn resume(&mut self, head: Vec<u8>, tail: Vec<u8>, dropped_bytes: u64) -> Result<(), Unfit> {
        let longer = head.len().max(tail.len());
        if longer > self.half_bytes {
            return Err(Unfit::Output { found_bytes: longer as u64 * 2, limit_bytes: self.half_bytes as u64 * 2 });
        }
        trail::head(0, &head);
        trail::tail(dropped_bytes, &tail);
        (self.head, self.tail, self.dropped_bytes) = (head, tail.into(), dropped_bytes);
        Ok(())
    }
}

impl Sink for Log {
    fn take(&mut self, bytes: &[u8]) -> wasmtime::Result<()> {
        let (head, rest) = bytes.split_at(bytes.len().min(self.half_bytes - self.head.len()));
        trail::head(self.head.len(), head);
        trail::tail(self.tail.len() as u64 + self.dropped_bytes, rest);
        self.head.extend_from_slice(head);
        let (lost, kept) = rest.split_at(rest.len().saturating_sub(self.half_bytes));
        let pushed_out = (self.tail.len() + kept.len()).saturating_sub(self.half_bytes);
        self.tail.drain(..pushed_out);
        self.tail.extend(kept);
        self.dropped_bytes += (lost.len() + pushed_out) as u64;
        Ok(())
    }
}

/// A sink as the engine wants it.
pub(in crate::executor) struct Writer<S>(pub(in crate::executor) Shared<S>);

impl<S> Clone for Writer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> IsTerminal for Writer<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for Writer<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl<S: Sink> Pollable for Writer<S> {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl<S: Sink> OutputStream for Writer<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(&self.0).take(&bytes).map_err(StreamError::Trap)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT_BYTES)
    }
}

impl<S: Sink> AsyncWrite for Writer<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(lock(&self.0).take(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input.
pub(in crate::executor) struct Stdin {
    position: u64,
    source: Source,
}

enum Source {
    Message(Bytes),
    Pipe { left_bytes: u64, pipe: Shared<Incoming> },
}

impl Stdin {
    pub(in crate::executor) fn new(input: &Input, pipe: &Shared<Incoming>) -> Self {
        let source = match input {
            Input::Inline(bytes) => Source::Message(bytes.clone()),
            Input::Stream { size_bytes } => Source::Pipe { left_bytes: *size_bytes, pipe: Arc::clone(pipe) },
        };
        Self { position: 0, source }
    }

    /// How many bytes of the pipe still belong to this input.
    pub(in crate::executor) fn left_in_pipe(&self) -> u64 {
        match &self.source {
            Source::Message(_) => 0,
            Source::Pipe { left_bytes, .. } => *left_bytes,
        }
    }

    /// How many bytes were read.
    pub(in crate::executor) fn position(&self) -> u64 {
        self.position
    }

    /// Passes over what was read before. Nothing was read yet.
    pub(in crate::executor) fn resume(&mut self, position: u64) -> Result<(), Unfit> {
        let size_bytes = match &self.source {
            Source::Message(bytes) => bytes.len() as u64,
            Source::Pipe { left_bytes, .. } => *left_bytes,
        };
        if position > size_bytes {
            return Err(Unfit::Input { position, size_bytes });
        }
        while self.position < position {
            let max = usize::try_from(position - self.position).unwrap_or(usize::MAX);
            self.next(max);
        }
        Ok(())
    }

    /// At most `max` bytes; none at the end. How many depends on what is left alone, and not on the pipe's haste:
    /// every run of a task sees the same pieces.
    fn next(&mut self, max: usize) -> Option<Bytes> {
        let piece = match &mut self.source {
            Source::Message(bytes) if bytes.is_empty() => return None,
            Source::Message(bytes) => bytes.split_to(max.min(bytes.len())),
            Source::Pipe { left_bytes: 0, .. } => return None,
            Source::Pipe { .. } if max == 0 => Bytes::new(),
            Source::Pipe { left_bytes, pipe } => {
                let piece = lock(pipe).raw(usize::try_from(*left_bytes).unwrap_or(usize::MAX).min(max));
                // Without its agent nobody is left to run for.
                let Ok(piece) = piece else { std::process::exit(crate::executor::EXIT_ORPHANED) };
                *left_bytes -= piece.len() as u64;
                piece
            }
        };
        self.position += piece.len() as u64;
        Some(piece)
    }
}

/// Standard input as the engine wants it.
#[derive(Clone)]
pub(in crate::executor) struct Reader(pub(in crate::executor) Shared<Stdin>);

impl IsTerminal for Reader {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Reader {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        lock(&self.0).next(size).ok_or(StreamError::Closed)
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = lock(&self.0).next(buffer.remaining()) {
            buffer.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(limit_bytes: u64, writes: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut log = Log::new(limit_bytes);
        for write in writes {
            log.take(write).expect("a log takes everything");
        }
        let (bytes, dropped) = log.finish();
        (bytes.to_vec(), dropped)
    }

    #[test]
    fn a_log_keeps_its_first_and_last_half() {
        assert_eq!(kept(8, &[b"abc", b"def"]), (b"abcdef".to_vec(), 0));
        assert_eq!(kept(8, &[b"abcdefgh", b"ijkl"]), (b"abcdijkl".to_vec(), 4));
        assert_eq!(kept(8, &[b"abcdefghijklmnop"]), (b"abcdmnop".to_vec(), 8));
        assert_eq!(kept(8, &[b"abcdef", b"0123456789"]), (b"abcd6789".to_vec(), 8));
        assert_eq!(kept(0, &[b"abc"]), (Vec::new(), 3));
    }
}
