//! The executor's ends of the two pipes: frames in, with everything that is there read at once, and frames out.
//!
//! Blocking on purpose: an executor has one thing to do. Between frames the incoming pipe may carry raw input, which
//! is read only as fast as the guest takes it.

use std::{
    fs::File,
    io::{self, Write as _},
};

use bytes::Bytes;
use lull_shared::codec;

use crate::executor::protocol::{FromExecutor, ToExecutor};

/// What one read takes from the pipe at most; a frame may be larger.
const BUFFER_BYTES: usize = 256 << 10;
/// The largest piece of raw input handed out at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The incoming pipe does not carry what it should.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    #[error("the pipe from the agent failed: {0}")]
    Io(#[from] io::Error),
    #[error("the agent's frame is too long: {0}")]
    Length(#[from] codec::FrameTooLong),
    #[error("the agent's frame is damaged: {0}")]
    Frame(#[from] codec::DecodeError),
    #[error("the pipe from the agent ended inside a frame")]
    Cut,
}

/// The pipe from the agent.
pub struct Incoming<R = File> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: io::Read> Incoming<R> {
    /// Reads frames and raw input from this.
    pub fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// The next frame; none when the agent has closed the pipe.
    pub fn frame(&mut self) -> Result<Option<ToExecutor>, PipeError> {
        if !self.fill(codec::LENGTH_BYTES)? {
            return if self.start == self.end { Ok(None) } else { Err(PipeError::Cut) };
        }
        let mut prefix = [0; codec::LENGTH_BYTES];
        prefix.copy_from_slice(&self.buffer[self.start..self.start + codec::LENGTH_BYTES]);
        let length = codec::frame_length(prefix)?;
        if !self.fill(codec::LENGTH_BYTES + length)? {
            return Err(PipeError::Cut);
        }
        let body = self.start + codec::LENGTH_BYTES;
        self.start = body + length;
        Ok(Some(codec::decode(&self.buffer[body..body + length])?))
    }

    /// The next raw bytes: `count` of them, or a piece if that is less. Waits until they are all there, so that what is
    /// handed out does not depend on how the pipe was filled.
    pub fn raw(&mut self, count: usize) -> Result<Bytes, PipeError> {
        let count = count.min(PIECE_BYTES_MAX);
        if !self.fill(count)? {
            return Err(PipeError::Cut);
        }
        let piece = Bytes::copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        Ok(piece)
    }

    /// Passes over raw bytes that nobody read.
    pub fn skip(&mut self, mut count: u64) -> Result<(), PipeError> {
        while count > 0 {
            let max = usize::try_from(count).unwrap_or(usize::MAX);
            count -= self.raw(max)?.len() as u64;
        }
        Ok(())
    }

    /// Reads until `needed` bytes are there. False at the end of the pipe.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        while self.end - self.start < needed {
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
            if self.start + needed > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                // A frame is at most FRAME_BYTES_MAX long, so this stays bounded.
                self.buffer.resize(self.buffer.len().max(needed), 0);
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The pipe to the agent.
pub(in crate::executor) struct Outgoing(File);

impl Outgoing {
    pub(in crate::executor) fn new(pipe: File) -> Self {
        Self(pipe)
    }

    /// Sends a frame in one call; waits while the agent does not read.
    pub(in crate::executor) fn send(&mut self, message: &FromExecutor) -> io::Result<()> {
        self.0.write_all(&codec::encode_frame(message))
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::{AttemptId, JobId, TaskId};

    use super::*;
    use crate::executor::protocol::{Input, Run};

    fn run(index: u32, input: Input) -> ToExecutor {
        ToExecutor::Run(Run { attempt: AttemptId { task: TaskId { job: JobId(1), index }, number: 1 }, input, resume: None })
    }

    /// Hands out three bytes at a time.
    struct Drip(io::Cursor<Vec<u8>>);

    impl io::Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let take = buffer.len().min(3);
            self.0.read(&mut buffer[..take])
        }
    }

    #[test]
    fn frames_and_raw_input_come_apart_however_they_arrive() {
        let first = run(0, Input::Stream { size_bytes: 700_000 });
        let second = run(1, Input::Inline(Bytes::from(vec![7; 300_000])));
        let raw = (0..700_000_u32).map(|i| i as u8).collect::<Vec<_>>();
        let bytes = [codec::encode_frame(&first), raw.clone(), codec::encode_frame(&second)].concat();
        let mut incoming = Incoming::new(Drip(io::Cursor::new(bytes)));
        assert_eq!(incoming.frame().expect("whole"), Some(first));
        let mut read = incoming.raw(1_000).expect("there is more").to_vec();
        assert_eq!(read.len(), 1_000, "a piece does not depend on how the pipe was filled");
        while read.len() < 500_000 {
            read.extend_from_slice(&incoming.raw(500_000 - read.len()).expect("there is more"));
        }
        assert_eq!(read, raw[..500_000]);
        incoming.skip(200_000).expect("there is more");
        assert_eq!(incoming.frame().expect("whole"), Some(second));
        assert_eq!(incoming.frame().expect("the end"), None);
    }

    #[test]
    fn garbage_and_cut_frames_are_refused() {
        let frame = |bytes: &[u8]| Incoming::new(io::Cursor::new(bytes.to_vec())).frame();
        assert!(matches!(frame(&[0xff; 8]), Err(PipeError::Length(_))));
        assert!(matches!(frame(&[4, 0, 0, 0, 9, 9, 9, 9]), Err(PipeError::Frame(_))));
        assert!(matches!(frame(&[4, 0, 0, 0, 1]), Err(PipeError::Cut)));
        assert!(matches!(frame(&[4, 0]), Err(PipeError::Cut)));
    }
}
