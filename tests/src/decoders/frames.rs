//! Work streams, as both sides read them.

use std::fmt::Debug;

use futures::{FutureExt as _, io::Cursor};
use lull_mesh::{FrameReader, FrameWriter};
use lull_shared::{
    codec,
    message::{ToAgentFrame, ToCoordinatorFrame},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{choice, laws, memory::bounded};

/// A stream of frames. The first byte's lowest bit says who reads (0: the coordinator), the others how many bytes
/// arrive at once.
///
/// Frames are the same however they arrive; after one that is refused, none follows.
pub fn frames(bytes: &[u8]) {
    let (how, stream) = choice(bytes);
    if how & 1 == 0 { read::<ToCoordinatorFrame>(stream, how >> 1) } else { read::<ToAgentFrame>(stream, how >> 1) }
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(stream: &[u8], at_once: u8) {
    let whole = collect::<T>(stream, stream.len());
    let dripped = collect::<T>(stream, usize::from(at_once) + 1);
    assert_eq!(whole, dripped, "the same frames, however they arrive");
    let mut at = 0;
    for frame in &whole.0 {
        // Walks the bytes as the reader did: each frame's own are where its length says.
        let (prefix, rest) = stream[at..].split_first_chunk().expect("a frame was read here");
        let length = codec::frame_length(*prefix).expect("it was read");
        assert_eq!(laws::decode::<T>(&rest[..length]).as_ref(), Ok(frame));
        at += codec::LENGTH_BYTES + length;
    }
    assert_eq!(at == stream.len(), whole.1.is_none(), "all was read, or something was refused: {:?}", whole.1);
}

/// All frames, and in words what ended the stream before its end.
fn collect<T: DeserializeOwned>(stream: &[u8], at_once: usize) -> (Vec<T>, Option<String>) {
    bounded(stream.len(), || {
        let (mut reader, _writer): (FrameReader<T>, FrameWriter<()>) = lull_mesh::frames(Drip::new(stream, at_once));
        let mut frames = Vec::new();
        loop {
            // Bytes in memory are always ready.
            match reader.next().now_or_never().expect("nothing to wait for") {
                Some(Ok(frame)) => frames.push(frame),
                Some(Err(error)) => {
                    assert!(reader.next().now_or_never().expect("nothing to wait for").is_none(), "nothing follows an error");
                    return (frames, Some(error.to_string()));
                }
                None => return (frames, None),
            }
        }
    })
}

/// Bytes that arrive a few at a time; what is written is lost.
struct Drip {
    bytes: Cursor<Vec<u8>>,
    at_once: usize,
}

impl Drip {
    fn new(bytes: &[u8], at_once: usize) -> Self {
        Self { bytes: Cursor::new(bytes.to_vec()), at_once: at_once.max(1) }
    }
}

impl futures::AsyncRead for Drip {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let room = buffer.len().min(self.at_once);
        std::pin::Pin::new(&mut self.bytes).poll_read(cx, &mut buffer[..room])
    }
}

impl futures::AsyncWrite for Drip {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
