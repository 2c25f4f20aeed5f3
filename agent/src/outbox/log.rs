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

use lull_engine::files;
use lull_shared::{
    codec,
    digest::BlobRef,
    id::AttemptId,
    limits,
    message::{Finished, Outcome, Payload},
};
use serde::{Deserialize, Serialize};

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
        let written = files::deeds::try_it("written", &self.path).and_then(|()| write_at(&self.file, &bytes, self.length));
        if let Err(error) = written {
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

    fn new_log() -> (tempfile::TempDir, PathBuf, Log) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outbox.log");
        let log = Log::open(path.clone()).expect("a new log");
        (folder, path, log)
    }

    /// How much of the file the index holds to be needed.
    fn needed(log: &Log) -> u64 {
        log.live.values().map(|spot| spot.length).sum()
    }

    #[test]
    fn what_is_live_is_counted_through_every_change_and_found_again() {
        let (_folder, path, mut log) = new_log();
        log.append([record(0, 40), record(1, 60)].iter(), Vec::new()).expect("a place for them");
        assert!(log.live_bytes() > 100 && log.live_bytes() == needed(&log));
        log.append([record(0, 500)].iter(), Vec::new()).expect("a place for it");
        assert_eq!(log.live_bytes(), needed(&log), "the newer result is in the place of the older");
        log.append([].iter(), vec![record(1, 0).attempt, record(9, 0).attempt]).expect("a place for it");
        assert_eq!((attempts(&log), log.live_bytes()), (vec![0], needed(&log)));
        let again = Log::open(path).expect("it opens");
        assert_eq!((again.live_bytes(), again.length), (log.live_bytes(), log.length));
        log.forget(&[record(0, 0).attempt]);
        assert_eq!((log.live_bytes(), log.read(record(0, 0).attempt).expect("readable")), (0, None));
    }

    #[test]
    fn only_what_is_removed_is_said_to_be() {
        let (_folder, path, mut log) = new_log();
        log.append([record(0, 40)].iter(), Vec::new()).expect("a place for it");
        assert_eq!(log.length, MAGIC.len() as u64 + needed(&log), "one record and nothing beside it");
        log.append([record(1, 40)].iter(), vec![record(0, 0).attempt]).expect("a place for both");
        assert_eq!(attempts(&Log::open(path).expect("it opens")), [1]);
    }

    #[test]
    fn after_a_write_that_the_disk_refused_nothing_of_it_is_there() {
        let (_folder, path, mut log) = new_log();
        log.append([record(0, 40)].iter(), Vec::new()).expect("a place for it");
        let before = (log.length, log.live_bytes());
        files::deeds::refuse("written", &path);
        log.append([record(1, 40)].iter(), Vec::new()).expect_err("the disk refuses it");
        assert_eq!((attempts(&log), log.length, log.live_bytes()), (vec![0], before.0, before.1));
        log.append([record(2, 40)].iter(), Vec::new()).expect("a place for it");
        assert_eq!(attempts(&Log::open(path).expect("it opens")), [0, 2]);
    }

    #[test]
    fn a_file_is_worth_rewriting_when_it_is_large_and_more_than_half_of_it_is_dead() {
        let (_folder, _path, mut log) = new_log();
        let half = REWRITE_BYTES_MIN / 2;
        for (length, live, wanted) in [
            (REWRITE_BYTES_MIN, half - 1, true),
            (REWRITE_BYTES_MIN, half, false),
            (REWRITE_BYTES_MIN - 2, half - 2, false),
            (10 * REWRITE_BYTES_MIN, 6 * REWRITE_BYTES_MIN, false),
            (100, 0, false),
        ] {
            (log.length, log.live_bytes) = (length, live);
            assert_eq!(log.wants_rewrite(), wanted, "{live} of {length} bytes are needed");
        }
    }

    #[test]
    fn what_is_left_of_an_earlier_rewrite_is_in_no_ones_way() {
        let (folder, path, mut log) = new_log();
        log.append([record(0, 40)].iter(), Vec::new()).expect("a place for it");
        fs::write(folder.path().join("outbox.new"), b"half of a file").expect("a file");
        log.rewrite().expect("a new file");
        assert!(log.is_in_place() && !folder.path().join("outbox.new").exists());
        assert_eq!(attempts(&Log::open(path).expect("it opens")), [0]);
    }

    #[test]
    fn a_rewrite_that_the_disk_refuses_changes_nothing() {
        let (folder, path, mut log) = new_log();
        log.append([record(0, 40)].iter(), Vec::new()).expect("a place for it");
        files::deeds::refuse("synced", &folder.path().join("outbox.new"));
        log.rewrite().expect_err("the disk refuses it");
        log.append([record(1, 40)].iter(), Vec::new()).expect("the old file goes on");
        assert_eq!(attempts(&Log::open(path).expect("it opens")), [0, 1]);
    }

    #[test]
    fn a_record_in_anothers_place_is_not_taken_for_it() {
        let (_folder, path, mut log) = new_log();
        log.append([record(0, 40), record(1, 40)].iter(), Vec::new()).expect("a place for them");
        let spots: Vec<Spot> = log.live.values().copied().collect();
        assert_eq!(spots[0].length, spots[1].length);
        let mut bytes = fs::read(&path).expect("the log");
        let (first, second) = (spots[0].offset as usize, spots[1].offset as usize);
        bytes.copy_within(second..second + spots[1].length as usize, first);
        fs::write(&path, bytes).expect("damage");
        log.read(record(0, 0).attempt).expect_err("it is not that one");
        assert_eq!(log.read(record(1, 0).attempt).expect("readable"), Some(record(1, 40)));
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outbox.log");
        fs::write(&path, b"LULLOUT2 and more").expect("a file");
        let error = Log::open(path.clone()).expect_err("it is not ours");
        assert!(error.to_string().contains("\nhint: "), "{error}");
        assert_eq!(fs::read(&path).expect("there"), b"LULLOUT2 and more");
    }

    #[test]
    fn a_body_is_read_up_to_the_bound_of_a_frame_and_an_error_of_the_disk_is_not_the_end_of_the_file() {
        let record = |size: usize| {
            let (length, body) = ((size as u32).to_le_bytes(), vec![7; size]);
            [&length[..], &checksum(length, &body)[..], &body[..]].concat()
        };
        for (size, read) in [(0, true), (limits::FRAME_BYTES_MAX, true), (limits::FRAME_BYTES_MAX + 1, false)] {
            let found = read_record(&mut record(size).as_slice()).expect("memory does not fail");
            assert_eq!(found.map(|body| body.len()), read.then_some(size));
        }
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("a bad sector"))
            }
        }
        read_record(&mut Broken).expect_err("what is there is not known");
    }
}
