//! Frames on a stream: typed, bounded, and safe to cancel in the middle.

use std::{io, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    future::poll_fn,
    io::{ReadHalf, WriteHalf},
};
use lull_shared::{
    codec::{self, LENGTH_BYTES},
    limits::{FRAME_BYTES_MAX, SEND_TIME_MAX, TRANSFER_TIME_MAX},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::{AgentStream, CoordinatorStream, peers::connection::Held};

/// How much is given to the stream at once.
const WRITE_BYTES: usize = 256 * 1024;
/// How much is asked of the stream at once. Most frames are smaller.
const CHUNK_BYTES: usize = 16 * 1024;

/// A stream that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the stream broke")]
    Broken(#[source] io::Error),
    #[error("the stream ended within a frame")]
    CutShort,
    #[error(transparent)]
    TooLong(#[from] codec::FrameTooLong),
    #[error("a frame that cannot be read")]
    Garbage(#[source] codec::DecodeError),
    #[error("nothing moved for {}", lull_shared::amount::exact(*.0))]
    Stalled(Duration),
    #[error("the stream is closed")]
    Closed,
    #[error("{0}")]
    Wrong(&'static str),
}

/// Anything that carries bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Splits a stream into a reader of one type and a writer of another.
pub fn frames<R, W>(stream: impl Duplex + 'static) -> (FrameReader<R>, FrameWriter<W>) {
    held_frames(stream, None)
}

pub(crate) fn held_frames<R, W>(stream: impl Duplex + 'static, held: Option<Arc<Held>>) -> (FrameReader<R>, FrameWriter<W>) {
    let boxed: Box<dyn Duplex> = Box::new(stream);
    let (reading, writing) = boxed.split();
    let reader = FrameReader { stream: Some(reading), buffer: Vec::new(), start: 0, _held: held.clone(), message: PhantomData };
    let writer = FrameWriter { stream: Some(writing), unsent: Vec::new(), _held: held, message: PhantomData };
    (reader, writer)
}

/// Both ends of a work stream in memory, for tests of what speaks over it.
pub fn work_stream_in_memory() -> (CoordinatorStream, AgentStream) {
    let (coordinator, agent) = tokio::io::duplex(64 * 1024);
    let (incoming, outgoing) = frames(coordinator.compat());
    let coordinator = CoordinatorStream { incoming, outgoing };
    let (incoming, outgoing) = frames(agent.compat());
    (coordinator, AgentStream { incoming, outgoing })
}

/// Reads frames. After an error or the end there is nothing more.
pub struct FrameReader<T> {
    /// None once it has ended.
    stream: Option<ReadHalf<Box<dyn Duplex>>>,
    /// Bytes that were read; those before `start` were given out.
    buffer: Vec<u8>,
    start: usize,
    _held: Option<Arc<Held>>,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> FrameReader<T> {
    /// The next frame; `None` when the peer closed or reset the stream between two frames. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Result<T, FrameError>> {
        let outcome = self.read().await;
        if !matches!(outcome, Some(Ok(_))) {
            self.stream = None;
            (self.buffer, self.start) = (Vec::new(), 0);
        }
        outcome
    }

    async fn read(&mut self) -> Option<Result<T, FrameError>> {
        loop {
            match self.take() {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            match self.fill().await {
                None => return None,
                Some(Ok(0)) if self.start == self.buffer.len() => return None,
                Some(Ok(0)) => return Some(Err(FrameError::CutShort)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(Err(FrameError::Broken(error))),
            }
        }
    }

    /// A frame out of what was read, if a whole one is there.
    fn take(&mut self) -> Result<Option<T>, FrameError> {
        let waiting = &self.buffer[self.start..];
        let Some((prefix, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = codec::frame_length(*prefix)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = codec::decode(body).map_err(FrameError::Garbage)?;
        self.start += LENGTH_BYTES + length;
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
        }
        Ok(Some(frame))
    }

    /// Reads some more; `None` when the stream has ended before.
    async fn fill(&mut self) -> Option<io::Result<usize>> {
        let stream = self.stream.as_mut()?;
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let buffer = &mut self.buffer;
        Some(
            poll_fn(|cx| {
                let filled = buffer.len();
                buffer.resize(filled + CHUNK_BYTES, 0);
                let polled = Pin::new(&mut *stream).poll_read(cx, &mut buffer[filled..]);
                let read = if let std::task::Poll::Ready(Ok(read)) = &polled { *read } else { 0 };
                buffer.truncate(filled + read);
                if buffer.is_empty() {
                    // A coordinator has thousands of streams that wait: they hold nothing meanwhile.
                    *buffer = Vec::new();
                }
                polled
            })
            .await,
        )
    }
}

/// Writes frames. After an error there is nothing more to do but drop it.
pub struct FrameWriter<T> {
    /// None once it was closed or broke.
    stream: Option<WriteHalf<Box<dyn Duplex>>>,
    /// What a cancelled call left unsent; it goes first.
    unsent: Vec<u8>,
    _held: Option<Arc<Held>>,
    message: PhantomData<fn(T)>,
}

impl<T: Serialize> FrameWriter<T> {
    /// Sends one frame. A frame above [`FRAME_BYTES_MAX`] is refused and leaves the stream as it was.
    pub async fn send(&mut self, frame: &T) -> Result<(), FrameError> {
        self.send_many(std::slice::from_ref(frame)).await
    }

    /// Sends frames with one flush. A call that is dropped half-way is completed by the next.
    pub async fn send_many(&mut self, frames: &[T]) -> Result<(), FrameError> {
        let mut encoded = Vec::new();
        for frame in frames {
            let bytes = codec::encode_frame(frame);
            if bytes.len() > FRAME_BYTES_MAX + LENGTH_BYTES {
                return Err(codec::FrameTooLong(bytes.len() - LENGTH_BYTES).into());
            }
            encoded.extend_from_slice(&bytes);
        }
        self.unsent.extend_from_slice(&encoded);
        drop(encoded);
        let Some(stream) = self.stream.as_mut() else { return Err(FrameError::Closed) };
        let unsent = &mut self.unsent;
        let outcome = drain(stream, unsent).await;
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    /// Sends bytes as they are, for tests of whoever reads them.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.unsent.extend_from_slice(bytes);
        self.send_many(&[]).await
    }

    /// Says that nothing more comes.
    pub async fn close(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            // Whoever is gone already needs not be told.
            if drain(&mut stream, &mut self.unsent).await.is_ok() {
                let _ = timeout(SEND_TIME_MAX, stream.close()).await;
            }
        }
    }
}

/// Writes everything, removing what was taken as it goes, so that it can be resumed. A peer that reads slowly gets all the
/// time that it needs; one that reads nothing for [`SEND_TIME_MAX`] has lost the stream.
async fn drain(stream: &mut (impl AsyncWrite + Unpin), unsent: &mut Vec<u8>) -> Result<(), FrameError> {
    let stalled = |_| FrameError::Stalled(SEND_TIME_MAX);
    while !unsent.is_empty() {
        // What is written at once is little, so that reading shows.
        let part = unsent.len().min(WRITE_BYTES);
        let written =
            timeout(SEND_TIME_MAX, stream.write(&unsent[..part])).await.map_err(stalled)?.map_err(FrameError::Broken)?;
        if written == 0 {
            return Err(FrameError::Broken(io::ErrorKind::WriteZero.into()));
        }
        if written == unsent.len() {
            *unsent = Vec::new();
        } else {
            unsent.drain(..written);
        }
    }
    timeout(SEND_TIME_MAX, stream.flush()).await.map_err(stalled)?.map_err(FrameError::Broken)
}

/// Reads one frame of at most `max` bytes where nothing else waits for the stream. Memory grows only with what comes.
pub(crate) async fn read_frame<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin), max: usize) -> Result<T, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).await.map_err(broken)?;
    let length = codec::frame_length(prefix)?;
    if length > max {
        return Err(codec::FrameTooLong(length).into());
    }
    let mut body = Vec::new();
    stream.take(length as u64).read_to_end(&mut body).await.map_err(broken)?;
    if body.len() < length {
        return Err(FrameError::CutShort);
    }
    codec::decode(&body).map_err(FrameError::Garbage)
}

/// Writes one frame and flushes it.
pub(crate) async fn write_frame<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), frame: &T) -> Result<(), FrameError> {
    stream.write_all(&codec::encode_frame(frame)).await.map_err(FrameError::Broken)?;
    stream.flush().await.map_err(FrameError::Broken)
}

/// The same within the time that a step of a transfer may take.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, FrameError>>) -> Result<T, FrameError> {
    timeout(TRANSFER_TIME_MAX, work).await.unwrap_or(Err(FrameError::Stalled(TRANSFER_TIME_MAX)))
}

fn broken(error: io::Error) -> FrameError {
    if error.kind() == io::ErrorKind::UnexpectedEof { FrameError::CutShort } else { FrameError::Broken(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::AsyncWriteExt as _;

    /// Both ends of a stream in memory that takes so many bytes at once.
    fn pair(bytes: usize) -> (FrameWriter<Vec<u8>>, FrameReader<Vec<u8>>) {
        let (one, two) = tokio::io::duplex(bytes);
        let (_, writer) = frames::<Vec<u8>, Vec<u8>>(one.compat());
        let (reader, _) = frames::<Vec<u8>, Vec<u8>>(two.compat());
        (writer, reader)
    }

    fn frame(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_as_they_were_sent_and_leave_nothing_in_memory() {
        let sizes = [0, 1, 7, CHUNK_BYTES - 6, CHUNK_BYTES, 3 * CHUNK_BYTES + 1, WRITE_BYTES + 5, 2];
        for pipe in [1_000, 64 * 1024, 1 << 20] {
            let (mut writer, mut reader) = pair(pipe);
            let sending = tokio::spawn(async move {
                writer.send_many(&sizes.map(frame)).await.expect("they are read");
                writer.close().await;
                assert!(matches!(writer.send(&frame(1)).await, Err(FrameError::Closed)), "nothing more comes");
                writer.unsent.len()
            });
            for size in sizes {
                assert_eq!(reader.next().await.expect("a frame").expect("whole"), frame(size), "through {pipe} bytes");
            }
            assert_eq!((reader.start, reader.buffer.len()), (0, 0));
            assert!(reader.next().await.is_none() && reader.next().await.is_none(), "the end, again and again");
            sending.await.expect("it was closed");
        }
    }

    #[tokio::test]
    async fn a_reader_that_waits_holds_no_memory() {
        let (mut writer, mut reader) = pair(1 << 20);
        writer.send(&frame(50_000)).await.expect("there is room");
        reader.next().await.expect("a frame").expect("whole");
        assert!(futures::FutureExt::now_or_never(reader.next()).is_none());
        assert_eq!(reader.buffer.capacity(), 0);
    }

    /// What is read of these bytes, to the end.
    async fn reads(bytes: &[u8]) -> Vec<Result<Vec<u8>, &'static str>> {
        let (mut one, two) = tokio::io::duplex(1 << 20);
        let (mut reader, _) = frames::<Vec<u8>, Vec<u8>>(two.compat());
        one.write_all(bytes).await.expect("there is room");
        drop(one);
        let mut found = Vec::new();
        while let Some(frame) = reader.next().await {
            found.push(frame.map_err(|error| match error {
                FrameError::CutShort => "cut short",
                FrameError::Garbage(_) => "garbage",
                FrameError::TooLong(_) => "too long",
                _ => "another",
            }));
        }
        found
    }

    #[tokio::test]
    async fn after_a_frame_that_is_wrong_there_is_nothing_more() {
        let whole = codec::encode_frame(&frame(20));
        let garbage = [&4_u32.to_le_bytes()[..], &[9; 4]].concat();
        let long = ((FRAME_BYTES_MAX + 1) as u32).to_le_bytes();
        assert_eq!(reads(&[&whole[..], &whole].concat()).await, [Ok(frame(20)), Ok(frame(20))]);
        for cut in [1, LENGTH_BYTES, LENGTH_BYTES + 1, whole.len() - 1] {
            assert_eq!(reads(&[&whole[..], &whole[..cut]].concat()).await, [Ok(frame(20)), Err("cut short")], "{cut}");
        }
        assert_eq!(reads(&[&whole[..], &garbage, &whole].concat()).await, [Ok(frame(20)), Err("garbage")]);
        assert_eq!(reads(&[&whole[..], &long, &whole].concat()).await, [Ok(frame(20)), Err("too long")]);
    }

    #[tokio::test]
    async fn a_frame_may_be_as_long_as_the_bound() {
        let overhead = codec::encode_frame(&frame(FRAME_BYTES_MAX / 2)).len() - FRAME_BYTES_MAX / 2 - LENGTH_BYTES;
        let longest = vec![0; FRAME_BYTES_MAX - overhead];
        let (mut writer, mut reader) = pair(64 * 1024);
        let longer = [&longest[..], &[0]].concat();
        assert!(matches!(writer.send(&longer).await, Err(FrameError::TooLong(_))));
        let sending = tokio::spawn(async move { writer.send(&longest).await.is_ok() });
        let read = reader.read().await;
        assert!(
            matches!(read, Some(Ok(_) | Err(FrameError::Garbage(_)))),
            "it came whole: {:?}",
            read.map(|frame| frame.is_ok())
        );
        assert!(sending.await.expect("it is sent"));
    }

    #[tokio::test]
    async fn one_frame_is_read_up_to_the_bound_of_who_reads_it() {
        let bytes = codec::encode_frame(&frame(100));
        let length = bytes.len() - LENGTH_BYTES;
        let read = |bytes: Vec<u8>, max| async move { read_frame::<Vec<u8>>(&mut bytes.as_slice(), max).await };
        assert_eq!(read(bytes.clone(), length).await.expect("whole"), frame(100));
        assert!(matches!(read(bytes.clone(), length - 1).await, Err(FrameError::TooLong(_))));
        for cut in [0, 3, LENGTH_BYTES, bytes.len() - 1] {
            assert!(matches!(read(bytes[..cut].to_vec(), length).await, Err(FrameError::CutShort)), "{cut}");
        }
        let mut written = Vec::new();
        write_frame(&mut written, &frame(100)).await.expect("memory takes it");
        assert_eq!(written, bytes);
        let reset = broken(io::ErrorKind::ConnectionReset.into());
        assert!(matches!(reset, FrameError::Broken(_)));
    }

    #[tokio::test]
    async fn a_writer_whose_peer_is_gone_is_closed_for_good() {
        let (mut writer, reader) = pair(64);
        drop(reader);
        assert!(matches!(writer.send(&frame(1_000)).await, Err(FrameError::Broken(_))));
        assert!(matches!(writer.send(&frame(1)).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn a_stream_that_takes_nothing_is_broken() {
        struct Full;
        impl AsyncWrite for Full {
            fn poll_write(self: Pin<&mut Self>, _: &mut std::task::Context<'_>, _: &[u8]) -> std::task::Poll<io::Result<usize>> {
                std::task::Poll::Ready(Ok(0))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }
        }
        let mut unsent = vec![1, 2, 3];
        assert!(matches!(drain(&mut Full, &mut unsent).await, Err(FrameError::Broken(_))));
        assert_eq!(unsent, [1, 2, 3]);
    }
}
