//! What an attempt has said and used so far, in memory that its executor and its agent share: the agent reads it whenever
//! somebody wants to know, and after a process was killed. Nothing is sent for that, and writing costs a copy.
//!
//! ```text
//! 8 words: attempt's number here | bytes in head | bytes beyond it | processor time at its start | memory | used before (2)
//! head: the first half of the log's limit     tail: a ring of the other half, the newest bytes beyond the head
//! ```
//! The memory has no name; the executor has it as its standard error, and whatever a guest that took over its executor writes
//! there is bytes to the agent, and no fault.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lull_shared::state::Usage;

use super::sys;

const WORDS: usize = 8;
const HEADER_BYTES: usize = WORDS * 8;
const NUMBER: usize = 0;
const HEAD: usize = 1;
const TAIL: usize = 2;
const CPU_START_US: usize = 3;
const MEMORY: usize = 4;
const WALL_BEFORE_US: usize = 5;
const CPU_BEFORE_US: usize = 6;

fn half(log_bytes: u64) -> u64 {
    log_bytes.min(lull_shared::limits::LOG_BYTES_MAX) / 2
}

/// The executor's end.
struct Writer {
    words: &'static [AtomicU64; WORDS],
    log: sys::SharedMemory,
    half: usize,
}

/// An executor writes one log at a time.
static WRITER: OnceLock<Writer> = OnceLock::new();

/// Opens the executor's end, on its standard error. Without one nothing is written.
pub(super) fn open(log_bytes: u64) {
    let half = half(log_bytes) as usize;
    if let Some((words, log)) = sys::map_standard_error::<WORDS>(2 * half) {
        WRITER.get_or_init(|| Writer { words, log, half });
    }
}

/// The `number`th attempt in this process begins, after others of its task used this much, and its process so much of the
/// processor.
pub(super) fn begin(number: u32, before: Usage, cpu_start: Duration) {
    let Some(Writer { words, .. }) = WRITER.get() else { return };
    let set = |word: usize, value: u64| words[word].store(value, Ordering::Release);
    set(NUMBER, 0);
    for (word, value) in [(HEAD, 0), (TAIL, 0), (MEMORY, 0), (WALL_BEFORE_US, before.wall_us), (CPU_BEFORE_US, before.cpu_us)] {
        set(word, value);
    }
    set(CPU_START_US, micros(cpu_start));
    set(NUMBER, number.into());
}

/// The memory of the running attempt.
pub(super) fn memory(bytes: u64) {
    if let Some(Writer { words, .. }) = WRITER.get() {
        words[MEMORY].fetch_max(bytes, Ordering::Release);
    }
}

/// So many bytes of the log were there, and these of its first half come behind them.
pub(super) fn head(at: usize, bytes: &[u8]) {
    let Some(Writer { words, log, half }) = WRITER.get() else { return };
    if bytes.is_empty() || at + bytes.len() > *half {
        return;
    }
    log.write(at, bytes);
    words[HEAD].store((at + bytes.len()) as u64, Ordering::Release);
}

/// So many bytes were there beyond the head, and these come behind them.
pub(super) fn tail(at: u64, bytes: &[u8]) {
    let Some(Writer { words, log, half }) = WRITER.get() else { return };
    if bytes.is_empty() || *half == 0 {
        return;
    }
    let total = at + bytes.len() as u64;
    let mut kept = &bytes[bytes.len().saturating_sub(*half)..];
    let mut place = (total - kept.len() as u64) as usize % half;
    while !kept.is_empty() {
        let (now, later) = kept.split_at(kept.len().min(half - place));
        log.write(half + place, now);
        (kept, place) = (later, 0);
    }
    words[TAIL].store(total, Ordering::Release);
}

/// The agent's end.
pub(super) struct Trail {
    pad: sys::Pad,
    half: u64,
}

/// What an attempt has said and used so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) log: Vec<u8>,
    pub(super) dropped_bytes: u64,
    /// Processor time of its process when it began.
    pub(super) cpu_start: Duration,
    pub(super) before: Usage,
    pub(super) memory_bytes: u64,
}

/// A part of a log that is still written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins: later than it was asked for, if what was asked for is not there any more.
    pub from: u64,
    pub bytes: Vec<u8>,
    /// How much was written so far.
    pub total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Words([u64; WORDS]);

impl Trail {
    pub(super) fn create(log_bytes: u64) -> io::Result<Self> {
        let half = half(log_bytes);
        Ok(Self { pad: sys::Pad::create(HEADER_BYTES as u64 + 2 * half)?, half })
    }

    /// For the executor's standard error.
    pub(super) fn end(&self) -> io::Result<sys::PadEnd> {
        self.pad.end()
    }

    fn words(&self, number: u32) -> Option<Words> {
        let mut bytes = [0; HEADER_BYTES];
        self.pad.read(&mut bytes, 0).ok()?;
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().ok()?);
        }
        words[HEAD] = words[HEAD].min(self.half);
        (words[NUMBER] == u64::from(number)).then_some(Words(words))
    }

    fn bytes(&self, place: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.pad.read(&mut bytes, HEADER_BYTES as u64 + place).ok()?;
        Some(bytes)
    }

    /// What is there of the log from this place on, and where that begins. None if it is another attempt's by now.
    fn log(&self, number: u32, from: u64, max: u64) -> Option<(Words, Piece)> {
        let Words(words) = self.words(number)?;
        let (head, tail) = (words[HEAD], words[TAIL]);
        let total = head.saturating_add(tail);
        if from < head {
            let length = (head - from).min(max);
            return Some((Words(words), Piece { from, bytes: self.bytes(from, length)?, total }));
        }
        // What is overwritten while it is read is left out.
        let oldest = |tail: u64| tail.saturating_sub(self.half);
        let start = (from - head).clamp(oldest(tail), tail);
        let length = (tail - start).min(max);
        let mut bytes = Vec::new();
        let mut at = start;
        while at < start + length {
            let place = at % self.half.max(1);
            let part = (start + length - at).min(self.half - place);
            bytes.extend(self.bytes(self.half + place, part)?);
            at += part;
        }
        let Words(after) = self.words(number)?;
        let lost = oldest(after[TAIL]).saturating_sub(start).min(length);
        bytes.drain(..usize::try_from(lost).ok()?);
        Some((Words(words), Piece { from: head.saturating_add(start).saturating_add(lost), bytes, total }))
    }

    /// A part of the log of the `number`th attempt, from this byte on; none if it is not the one that runs.
    pub(super) fn piece(&self, number: u32, from: u64, max: usize) -> Option<Piece> {
        self.log(number, from, max as u64).map(|(_, piece)| piece)
    }

    /// Everything about the `number`th attempt; none if it is not the one that runs.
    pub(super) fn read(&self, number: u32) -> Option<Seen> {
        let (Words(words), head) = self.log(number, 0, self.half)?;
        let mut log = if words[HEAD] > 0 { head.bytes } else { Vec::new() };
        let (_, tail) = self.log(number, words[HEAD], self.half)?;
        log.extend(&tail.bytes);
        let before = Usage { wall_us: words[WALL_BEFORE_US], cpu_us: words[CPU_BEFORE_US], ..Usage::default() };
        Some(Seen {
            dropped_bytes: tail.from.saturating_sub(words[HEAD]),
            log,
            cpu_start: Duration::from_micros(words[CPU_START_US]),
            before,
            memory_bytes: words[MEMORY],
        })
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trail as an executor would have written it.
    fn written(head: &[u8], tail: &[u8], half: u64) -> Trail {
        let trail = Trail::create(half * 2).expect("a file");
        let mut words = [0_u64; WORDS];
        (words[NUMBER], words[HEAD], words[TAIL]) = (3, head.len() as u64, tail.len() as u64);
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        trail.pad.write(&header, 0).expect("room");
        trail.pad.write(head, HEADER_BYTES as u64).expect("room");
        for (at, byte) in tail.iter().enumerate() {
            let place = HEADER_BYTES as u64 + half + at as u64 % half;
            trail.pad.write(&[*byte], place).expect("room");
        }
        trail
    }

    #[test]
    fn what_was_written_is_read_from_any_place_on() {
        let trail = written(b"abcd", b"efghij", 4);
        let piece = |from, max| trail.piece(3, from, max).expect("it runs");
        assert_eq!(piece(1, 9), Piece { from: 1, bytes: b"bcd".to_vec(), total: 10 });
        assert_eq!(piece(4, 9), Piece { from: 6, bytes: b"ghij".to_vec(), total: 10 }, "the ring has lost two");
        assert_eq!(piece(8, 1), Piece { from: 8, bytes: b"i".to_vec(), total: 10 });
        assert_eq!(piece(99, 9), Piece { from: 10, bytes: Vec::new(), total: 10 });
        let seen = trail.read(3).expect("it runs");
        assert_eq!((seen.log, seen.dropped_bytes), (b"abcdghij".to_vec(), 2));
        assert_eq!(trail.read(4), None, "another attempt's");
    }

    #[test]
    fn nonsense_in_it_is_no_fault() {
        let trail = written(b"ab", b"", 2);
        for word in 1..WORDS {
            let place = word as u64 * 8;
            trail.pad.write(&u64::MAX.to_ne_bytes(), place).expect("room");
            assert!(trail.read(3).is_none_or(|seen| seen.log.len() <= 4));
            assert!(trail.piece(3, u64::MAX, usize::MAX).is_none_or(|piece| piece.bytes.len() <= 2));
        }
    }
}
