//! The outbox's file: records with checksums, appended, cut where a crash tore them, rewritten when mostly dead.
//!
//! ```text
//! magic "LULLOUT1" | record*          record: length u32 | checksum 8 bytes | encoded Entry
//! ```
//! Integers are little-endian; the checksum is the beginning of the BLAKE3 digest of length and body. An append is
//! durable after [`Log::sync`]; whatever follows the last whole record is cut at the next start.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use lull_shared::{
    codec,
    digest::BlobRef,
    id::AttemptId,
    limits,
    message::{Finished, Outcome, Payload},
};
use serde::{Deserialize, Serialize};

use crate::files;

const MAGIC: &[u8; 8] = b"LULLOUT1";
const PREFIX_BYTES: usize = 4 + CHECK_BYTES;
const CHECK_BYTES: usize = 8;
/// Below this size the file is not worth rewriting.
const REWRITE_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// What a record says.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Kept(Finished),
    Dropped(Vec<AttemptId>),
}

/// Where a live record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    offset: u64,
    length: u64,
    output: Option<BlobRef>,
}

/// The open file with an index of what is live in it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    live: BTreeMap<AttemptId, Spot>,
    live_bytes: u64,
}

impl Log {
    /// Opens the file, or makes it, and cuts a torn end off.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut log = Self { path, file, length: 0, live: BTreeMap::new(), live_bytes: 0 };
        log.scan()?;
        Ok(log)
    }

    fn scan(&mut self) -> io::Result<()> {
        let mut reader = io::BufReader::new(&self.file);
        let mut magic = [0; MAGIC.len()];
        let whole = read_whole(&mut reader, &mut magic)?;
        if !whole {
            return self.begin();
        }
        if magic != *MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not an outbox of this program\nhint: move it away"));
        }
        let mut offset = MAGIC.len() as u64;
        let mut entries = Vec::new();
        while let Some(body) = read_record(&mut reader)? {
            let length = (PREFIX_BYTES + body.len()) as u64;
            // A record that is whole but not understood was written by a later version: skipped, and lost only here.
            if let Ok(entry) = codec::decode::<Entry>(&body) {
                entries.push((entry_effect(&entry), offset, length));
            }
            offset += length;
        }
        for (effect, offset, length) in entries {
            self.apply(effect, offset, length);
        }
        self.length = offset;
        self.file.set_len(offset)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        write_at(&self.file, MAGIC, 0)?;
        files::sync(&self.file, &self.path)?;
        self.length = MAGIC.len() as u64;
        files::sync_folder_of(&self.path)
    }

    fn apply(&mut self, effect: EntryEffect, offset: u64, length: u64) {
        match effect {
            EntryEffect::Kept(attempt, output) => {
                self.live_bytes += length;
                if let Some(old) = self.live.insert(attempt, Spot { offset, length, output }) {
                    self.live_bytes -= old.length;
                }
            }
            EntryEffect::Dropped(attempts) => {
                for attempt in attempts {
                    if let Some(old) = self.live.remove(&attempt) {
                        self.live_bytes -= old.length;
                    }
                }
            }
        }
    }

    /// Appends results and removals with one write. After an error nothing of it is there.
    pub(super) fn append<'a>(&mut self, kept: impl Iterator<Item = &'a Finished>, dropped: Vec<AttemptId>) -> io::Result<()> {
        let (mut bytes, mut effects) = (Vec::new(), Vec::new());
        let removal = (!dropped.is_empty()).then(|| Entry::Dropped(dropped));
        for entry in kept.map(|record| Entry::Kept(record.clone())).chain(removal) {
            let start = bytes.len();
            write_record(&mut bytes, &entry);
            effects.push((entry_effect(&entry), start as u64, (bytes.len() - start) as u64));
        }
        if let Err(error) = write_at(&self.file, &bytes, self.length) {
            // What was written in part lies behind the end and is cut or overwritten.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        files::deeds::note("written", &self.path);
        let base = self.length;
        self.length += bytes.len() as u64;
        for (effect, start, length) in effects {
            self.apply(effect, base + start, length);
        }
        Ok(())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        files::sync(&self.file, &self.path)
    }

    /// Takes back results that were appended and could not be made durable.
    pub(super) fn forget(&mut self, attempts: &[AttemptId]) {
        self.apply(EntryEffect::Dropped(attempts.to_vec()), 0, 0);
    }

    /// Reads one result back.
    pub(super) fn read(&self, attempt: AttemptId) -> io::Result<Option<Finished>> {
        let Some(spot) = self.live.get(&attempt) else { return Ok(None) };
        let bytes = read_at(&self.file, *spot)?;
        let body = read_record(&mut bytes.as_slice())?.ok_or_else(|| io::Error::other("its checksum is wrong"))?;
        match codec::decode(&body).map_err(io::Error::other)? {
            Entry::Kept(record) if record.attempt == attempt => Ok(Some(record)),
            Entry::Kept(_) | Entry::Dropped(_) => Err(io::Error::other("another record is in its place")),
        }
    }

    /// Everything that is kept, with its output when that is a file of its own.
    pub(super) fn live(&self) -> impl Iterator<Item = (AttemptId, Option<BlobRef>)> {
        self.live.iter().map(|(attempt, spot)| (*attempt, spot.output))
    }

    /// A result's output, when that is a file of its own; none if there is no such result.
    pub(super) fn output(&self, attempt: AttemptId) -> Option<Option<BlobRef>> {
        self.live.get(&attempt).map(|spot| spot.output)
    }

    /// How much of the file is results that are still needed.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Whether most of the file is of no use any more.
    pub(super) fn wants_rewrite(&self) -> bool {
        self.length >= REWRITE_BYTES_MIN && self.live_bytes < self.length / 2
    }

    /// Whether the file that is written to is still the one that the next start reads.
    pub(super) fn is_in_place(&self) -> bool {
        files::is_same(&self.file, &self.path)
    }

    /// Puts what is live into a new file in the place of the old one.
    pub(super) fn rewrite(&mut self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        files::remove_if_there(&fresh)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&fresh)?;
        write_at(&file, MAGIC, 0)?;
        let (mut offset, mut live) = (MAGIC.len() as u64, BTreeMap::new());
        for (attempt, spot) in &self.live {
            write_at(&file, &read_at(&self.file, *spot)?, offset)?;
            live.insert(*attempt, Spot { offset, ..*spot });
            offset += spot.length;
        }
        let placed = files::put_in_place(&file, &fresh, &self.path);
        if files::is_same(&file, &self.path) {
            (self.file, self.length, self.live) = (file, offset, live);
        }
        placed
    }
}

/// What a record changes in the index.
enum EntryEffect {
    Kept(AttemptId, Option<BlobRef>),
    Dropped(Vec<AttemptId>),
}

fn entry_effect(entry: &Entry) -> EntryEffect {
    match entry {
        Entry::Kept(record) => EntryEffect::Kept(record.attempt, large_output(record)),
        Entry::Dropped(attempts) => EntryEffect::Dropped(attempts.clone()),
    }
}

/// A result's output, when that is too large for a message.
pub(super) fn large_output(record: &Finished) -> Option<BlobRef> {
    match &record.outcome {
        Outcome::Succeeded { output: Payload::Blob(blob) } => Some(*blob),
        Outcome::Succeeded { output: Payload::Inline(_) } | Outcome::Failed(_) => None,
    }
}

fn write_record(bytes: &mut Vec<u8>, entry: &Entry) {
    let body = codec::encode(entry);
    let length = u32::try_from(body.len()).expect("a result is far below 4 GiB").to_le_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(length, &body));
    bytes.extend_from_slice(&body);
}

/// The next whole record's body; none at the end of what can be trusted.
fn read_record(reader: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; PREFIX_BYTES];
    if !read_whole(reader, &mut prefix)? {
        return Ok(None);
    }
    let (length, check) = prefix.split_at(4);
    let length: [u8; 4] = length.try_into().expect("four bytes");
    let size = u32::from_le_bytes(length) as usize;
    if size > limits::FRAME_BYTES_MAX {
        return Ok(None);
    }
    let mut body = vec![0; size];
    let whole = read_whole(reader, &mut body)? && checksum(length, &body) == *check;
    Ok(whole.then_some(body))
}

/// Fills the buffer; false when the end comes before.
fn read_whole(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(length: [u8; 4], body: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = blake3::Hasher::new().update(&length).update(body).finalize();
    digest.as_bytes()[..CHECK_BYTES].try_into().expect("a digest is longer")
}

fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

fn read_at(mut file: &File, spot: Spot) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(spot.offset))?;
    let mut bytes = vec![0; usize::try_from(spot.length).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use bytes::Bytes;
    use lull_shared::{
        id::{JobId, TaskId},
        state::Usage,
    };

    use super::*;

    pub(in crate::outbox) fn record(index: u32, bytes: usize) -> Finished {
        Finished {
            attempt: AttemptId { task: TaskId { job: JobId(1), index }, number: 1 },
            outcome: Outcome::Succeeded { output: Payload::inline(vec![index as u8; bytes]) },
            log: Bytes::from_static(b"said on the way"),
            log_dropped_bytes: 0,
            usage: Usage::default(),
        }
    }

    fn attempts(log: &Log) -> Vec<u32> {
        log.live().map(|(attempt, _)| attempt.task.index).collect()
    }

    #[test]
    fn whatever_a_crash_leaves_of_the_file_the_whole_records_before_it_are_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outbox.log");
        let mut log = Log::open(path.clone()).expect("a new log");
        let mut ends = vec![log.length];
        for index in 0..4 {
            log.append([record(index, 40)].iter(), Vec::new()).expect("a place for it");
            ends.push(log.length);
        }
        log.append([].iter(), vec![record(0, 0).attempt]).expect("a place for it");
        let bytes = fs::read(&path).expect("the log");
        for cut in 0..=bytes.len() {
            let torn = folder.path().join("torn.log");
            fs::write(&torn, &bytes[..cut]).expect("a shorter one");
            let mut log = Log::open(torn.clone()).expect("a torn log opens");
            let whole = ends.iter().filter(|end| **end <= cut as u64).count().saturating_sub(1) as u32;
            let first = u32::from(cut == bytes.len());
            assert_eq!(attempts(&log), (first..whole).collect::<Vec<_>>(), "cut at {cut}");
            log.append([record(9, 10)].iter(), Vec::new()).expect("it goes on");
            let log = Log::open(torn).expect("and opens again");
            assert_eq!(log.read(record(9, 0).attempt).expect("readable"), Some(record(9, 10)));
        }
    }

    #[test]
    fn a_flipped_bit_hides_its_record_and_what_follows_but_nothing_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outbox.log");
        let mut log = Log::open(path.clone()).expect("a new log");
        log.append([record(0, 40), record(1, 40), record(2, 40)].iter(), Vec::new()).expect("a place for them");
        let mut bytes = fs::read(&path).expect("the log");
        let middle = MAGIC.len() + (bytes.len() - MAGIC.len()) / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("damage");
        assert_eq!(attempts(&Log::open(path).expect("it opens")), [0]);
    }

    #[test]
    fn a_file_that_is_mostly_dead_is_rewritten_with_what_lives() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outbox.log");
        let mut log = Log::open(path.clone()).expect("a new log");
        for index in 0..200 {
            log.append([record(index, 60_000)].iter(), Vec::new()).expect("a place for it");
            if index > 0 {
                log.append([].iter(), vec![record(index - 1, 0).attempt]).expect("a place for it");
            }
        }
        assert!(log.wants_rewrite());
        log.rewrite().expect("a new file");
        assert!(!log.wants_rewrite() && fs::metadata(&path).expect("the file").len() < 100_000);
        assert_eq!(log.read(record(199, 0).attempt).expect("readable"), Some(record(199, 60_000)));
        log.append([record(7, 5)].iter(), Vec::new()).expect("it goes on");
        assert_eq!(attempts(&Log::open(path).expect("it opens")), [7, 199]);
    }
}
