//! The two pipes between an agent and its executor.

use std::io::{self, Cursor};

use futures::FutureExt as _;
use lull_engine::executor::{
    pipe::Incoming,
    protocol::{Input, ToExecutor},
    reader::Frames,
};

use super::{choice, memory::bounded};

/// The buffers that both ends have whatever comes.
const BUFFERS_BYTES: usize = 1 << 16;

/// What comes through a pipe; the first byte says who reads it: 0 the agent, 1 the executor.
///
/// Whatever an executor that was taken over by its guest says, the agent reads it to its end or refuses it; and an
/// executor does not care in which pieces its agent's words arrive.
pub fn executor(bytes: &[u8]) {
    let (reader, pipe) = choice(bytes);
    if reader % 2 == 0 {
        bounded(pipe.len() + BUFFERS_BYTES, || agent_reads(pipe));
    } else {
        let whole = bounded(pipe.len() + BUFFERS_BYTES, || executor_reads(Cursor::new(pipe)));
        assert_eq!(whole, executor_reads(Drip(Cursor::new(pipe))), "the same, however it arrives");
    }
}

fn agent_reads(pipe: &[u8]) {
    let mut frames = Frames::new(pipe);
    let mut left = pipe.len();
    while let Ok(Some(_)) = frames.next().now_or_never().expect("bytes in memory are always ready") {
        left = left.checked_sub(5).expect("a frame has a length and a format at least");
    }
}

/// What was understood, in words, up to the end or the first thing that makes no sense.
fn executor_reads(pipe: impl io::Read) -> Vec<String> {
    let mut incoming = Incoming::new(pipe);
    let mut read = Vec::new();
    loop {
        match incoming.frame() {
            Ok(Some(message)) => {
                read.push(format!("{message:?}"));
                let ToExecutor::Run(run) = message else { continue };
                let body = run.resume.map_or(0, |resume| resume.body.size_bytes);
                let input = if let Input::Stream { size_bytes } = run.input { size_bytes } else { 0 };
                if let Err(error) = incoming.skip(body).and_then(|()| incoming.skip(input)) {
                    read.push(error.to_string());
                    return read;
                }
            }
            Ok(None) => return read,
            Err(error) => {
                read.push(error.to_string());
                return read;
            }
        }
    }
}

/// Hands out three bytes at a time.
struct Drip<R>(R);

impl<R: io::Read> io::Read for Drip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(3);
        self.0.read(&mut buffer[..room])
    }
}
