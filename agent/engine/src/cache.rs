//! Blobs by digest on disk: modules, artifacts and inputs, with a bound and the longest unused ones removed first.
//!
//! Owns the cache's folder. A blob that is in use is pinned and stays. Bytes are checked when they arrive and, once in
//! each life of the agent, before they are used again: a disk can go bad. What peers are sent is checked every time.
//! Of a fetch that the end of the agent broke off the pieces stay, count like a blob, and are used when it is wanted again.
//!
//! What changes the cache touches the disk, one call at a time, and belongs on a thread that may wait. What only asks
//! ([`Cache::usage`], [`Cache::changes`], [`Cache::holdings`], [`Cache::path`]) never waits for the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use libp2p_identity::PeerId;
use lru::LruCache;
use lull_mesh::{BlobStore, Receiving, partial_path, read_piece};
use lull_shared::{
    amount::size,
    digest::{BlobRef, Digest, Outline, OutlineBuilder},
    id::AttemptId,
};

use crate::files;

/// What is read at once while a file is hashed.
const CHUNK_BYTES: usize = 64 * 1024;
/// Outlines remembered for peers that fetch from here, of at most 128 KiB each.
const OUTLINES_MAX: std::num::NonZeroUsize = std::num::NonZeroUsize::new(64).expect("not zero");

/// Removes what a cache has put into a folder, and nothing else that may be there.
pub fn forget(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.strip_suffix(".part").unwrap_or(name).parse::<Digest>().is_ok() {
            files::remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// A cache folder. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    folder: Arc<Path>,
    bytes_max: u64,
    /// Held while files are touched, so that a file is not removed that has just come back. Taken before `state`.
    files: Arc<Mutex<()>>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Least recently used last.
    blobs: LruCache<Digest, Cached>,
    pinned: BTreeSet<Digest>,
    bytes: u64,
    outlines: LruCache<Digest, Outline>,
    /// Goes up whenever something has come or gone.
    changes: u64,
    /// What is not part of the cache any more and whose files are still to be removed.
    gone: Vec<Digest>,
}

#[derive(Clone, Copy)]
struct Cached {
    size_bytes: u64,
    whole: Whole,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// Pieces of it are there from an earlier life.
    Partial,
    /// Room was made for it; its bytes are on their way.
    Coming,
    /// It is there from an earlier life.
    Unchecked,
    Checked,
}

/// What stands between a wanted blob and its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Here,
    /// It is there and must be hashed first.
    Check,
    /// Room was made: fetch it.
    Fetch,
}

/// The cache cannot take a blob.
#[derive(Debug, thiserror::Error)]
#[error("the cache has room for {} and all of it is in use; raise cache_max", size(*bytes_max))]
pub struct CacheFull {
    bytes_max: u64,
}

impl Cache {
    /// Opens the cache in a folder. Files that are no blobs of it are removed.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        files::make_private_folder(folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let (digest, whole) = match name.strip_suffix(".part") {
                Some(partial) => (partial.parse::<Digest>(), Whole::Partial),
                None => (name.parse(), Whole::Unchecked),
            };
            // What has the name of a blob in another form would not be found by it.
            let Some(digest) = digest.ok().filter(|digest| name.starts_with(&digest.to_hex())) else {
                fs::remove_file(entry.path())?;
                continue;
            };
            let metadata = entry.metadata()?;
            found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, metadata.len(), whole));
        }
        found.sort_unstable_by_key(|(modified, digest, _, whole)| (*whole == Whole::Unchecked, *modified, *digest));
        let (mut blobs, outlines) = (LruCache::unbounded(), LruCache::new(OUTLINES_MAX));
        let mut bytes = 0;
        for (_, digest, size_bytes, whole) in found {
            bytes += size_bytes;
            if let Some(Cached { size_bytes, .. }) = blobs.put(digest, Cached { size_bytes, whole }) {
                // Its pieces are of no use beside the whole.
                bytes -= size_bytes;
                files::remove_if_there(&partial_path(&folder.join(digest.to_hex())))?;
            }
        }
        let state = State { blobs, pinned: BTreeSet::new(), bytes, outlines, changes: 0, gone: Vec::new() };
        let cache = Self { folder: folder.into(), bytes_max, files: Arc::default(), state: Arc::new(Mutex::new(state)) };
        cache.change(&cache.files(), |state| state.make_room(0, bytes_max));
        Ok(cache)
    }

    /// Makes the folder anew if it is gone; then nothing is cached any more.
    fn restore(&self, files: &MutexGuard<'_, ()>) {
        if self.folder.is_dir() {
            return;
        }
        match files::make_private_folder(&self.folder) {
            Ok(()) => tracing::warn!(folder = %self.folder.display(), "the cache was removed; it begins anew"),
            // Whoever writes into it says why it cannot.
            Err(error) => tracing::debug!(%error, "the cache's folder cannot be made"),
        }
        self.change(files, |state| {
            // What is on its way keeps its room.
            let gone: Vec<Digest> =
                state.blobs.iter().filter(|(_, cached)| cached.whole != Whole::Coming).map(|(digest, _)| *digest).collect();
            gone.iter().for_each(|digest| state.remove(digest));
        });
    }

    /// Makes the folder if it is gone, and tries whether it can be written to.
    pub fn probe(&self) -> io::Result<()> {
        self.restore(&self.files());
        files::try_folder(&self.folder)
    }

    /// Where a blob is or will be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_hex())
    }

    /// Pins a blob, and makes room for it if it is not there.
    pub fn want(&self, blob: BlobRef) -> Result<Wanted, CacheFull> {
        let files = self.files();
        self.restore(&files);
        let size = fs::metadata(self.path(&blob.digest)).map(|file| file.len()).ok();
        self.change(&files, |state| state.want(blob, size, self.bytes_max))
    }

    /// Takes over a blob that was made here and whose digest is known, and pins it. The file is gone afterwards.
    pub fn adopt(&self, file: &Path, blob: BlobRef) -> io::Result<()> {
        let there = match self.want(blob) {
            Ok(wanted) => wanted == Wanted::Here,
            Err(full) => {
                self.unpin(&blob.digest);
                files::remove_if_there(file)?;
                return Err(io::Error::other(full));
            }
        };
        let path = self.path(&blob.digest);
        let moved = match there {
            true => files::remove_if_there(file),
            // Another disk than the cache's, by somebody's setting.
            false => fs::rename(file, &path).or_else(|_| fs::copy(file, &path).and_then(|_| fs::remove_file(file))),
        };
        match moved {
            Ok(()) => self.arrived(&blob.digest),
            Err(_) => self.forget(&blob.digest),
        }
        moved
    }

    /// A blob's bytes are in their place and were checked.
    pub fn arrived(&self, digest: &Digest) {
        self.change(&self.files(), |state| {
            state.changes += 1;
            match state.blobs.get_mut(digest) {
                Some(cached) => cached.whole = Whole::Checked,
                // Nobody waited any more; whoever wants it later fetches it anew.
                None => state.gone.push(*digest),
            }
        });
    }

    /// A blob will not come, or is not what it should be.
    pub fn forget(&self, digest: &Digest) {
        self.change(&self.files(), |state| state.remove(digest));
    }

    /// A blob may be removed when room is needed.
    pub fn unpin(&self, digest: &Digest) {
        self.change(&self.files(), |state| {
            state.pinned.remove(digest);
            if state.blobs.peek(digest).is_some_and(|cached| cached.whole == Whole::Coming) {
                state.remove(digest);
            }
            state.make_room(0, self.bytes_max);
        });
    }

    /// Hashes a blob that is there. False when it is damaged; then it is gone.
    pub fn check(&self, blob: BlobRef) -> bool {
        let whole = outline_of(&self.path(&blob.digest)).is_ok_and(|(found, _)| found == blob);
        if whole {
            self.arrived(&blob.digest);
        } else {
            tracing::warn!(digest = %blob.digest, "a cached blob is damaged; it is fetched again");
            self.forget(&blob.digest);
        }
        whole
    }

    /// Bytes on disk, and how many there may be.
    pub fn usage(&self) -> (u64, u64) {
        (self.lock().bytes, self.bytes_max)
    }

    /// A number that changes whenever [`Self::holdings`] do.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// The blobs that peers may fetch from here, with their sizes in bytes.
    pub fn holdings(&self) -> BTreeMap<Digest, u64> {
        let state = self.lock();
        let whole = state.blobs.iter().filter(|(_, cached)| matches!(cached.whole, Whole::Checked | Whole::Unchecked));
        whole.map(|(digest, cached)| (*digest, cached.size_bytes)).collect()
    }

    /// A blob whose bytes turned out to be wrong: what is in use is checked before its next use, all else goes.
    async fn damaged(&self, digest: Digest) {
        tracing::warn!(%digest, "a cached blob is damaged; it is not given to peers");
        let remove = move |cache: &Self| {
            cache.change(&cache.files(), |state| {
                if state.pinned.contains(&digest) {
                    state.outlines.pop(&digest);
                    if let Some(cached) = state.blobs.peek_mut(&digest).filter(|cached| cached.whole == Whole::Checked) {
                        cached.whole = Whole::Unchecked;
                    }
                } else {
                    state.remove(&digest);
                }
            });
        };
        // It fails only while the agent ends.
        let _ = self.on_disk(remove).await;
    }

    /// Has the cache do what may take the disk's time, on a thread that may wait. It fails only while the program ends.
    pub async fn on_disk<T: Send + 'static>(&self, act: impl FnOnce(&Self) -> T + Send + 'static) -> io::Result<T> {
        let cache = self.clone();
        tokio::task::spawn_blocking(move || act(&cache)).await.map_err(io::Error::other)
    }

    /// Changes what is known, then removes the files of what is gone: whoever asks meanwhile does not wait for the disk.
    fn change<T>(&self, _: &MutexGuard<'_, ()>, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, gone) = {
            let mut state = self.lock();
            (change(&mut state), std::mem::take(&mut state.gone))
        };
        for digest in gone {
            let path = self.path(&digest);
            for path in [partial_path(&path), path] {
                if let Err(error) = files::remove_if_there(&path) {
                    tracing::warn!(%error, %digest, "a cached blob cannot be removed");
                }
            }
        }
        result
    }

    fn files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A blob that is all there. Peers' use keeps it from being removed as long as ours does.
    fn whole(&self, digest: &Digest) -> Option<BlobRef> {
        let mut state = self.lock();
        let cached = state.blobs.get(digest).filter(|cached| matches!(cached.whole, Whole::Checked | Whole::Unchecked))?;
        Some(BlobRef { digest: *digest, size_bytes: cached.size_bytes })
    }

    /// The outline that its bytes had when they were last read in full.
    fn known_outline(&self, digest: &Digest) -> Option<Outline> {
        self.lock().outlines.get(digest).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Pins a blob, whose file has this size if there is one, and makes room for it if it is not there.
    fn want(&mut self, blob: BlobRef, size: Option<u64>, bytes_max: u64) -> Result<Wanted, CacheFull> {
        let there = self.blobs.get(&blob.digest).is_some_and(|cached| matches!(cached.whole, Whole::Checked | Whole::Unchecked));
        if there && size != Some(blob.size_bytes) {
            // Somebody took it away, or cut it.
            self.remove(&blob.digest);
        }
        self.pinned.insert(blob.digest);
        match self.blobs.get(&blob.digest).copied() {
            Some(Cached { whole: Whole::Coming, .. }) => return Ok(Wanted::Fetch),
            Some(Cached { whole: Whole::Partial, size_bytes }) => {
                // Its file stays where the fetch looks for it.
                self.bytes -= size_bytes;
                self.blobs.pop(&blob.digest);
            }
            Some(Cached { whole: Whole::Checked, size_bytes }) if size_bytes == blob.size_bytes => return Ok(Wanted::Here),
            Some(Cached { whole: Whole::Unchecked, size_bytes }) if size_bytes == blob.size_bytes => return Ok(Wanted::Check),
            Some(_) => self.remove(&blob.digest),
            None => {}
        }
        if !self.make_room(blob.size_bytes, bytes_max) {
            self.pinned.remove(&blob.digest);
            // Pieces from an earlier life are not counted any more.
            self.gone.push(blob.digest);
            return Err(CacheFull { bytes_max });
        }
        self.bytes += blob.size_bytes;
        self.blobs.put(blob.digest, Cached { size_bytes: blob.size_bytes, whole: Whole::Coming });
        Ok(Wanted::Fetch)
    }

    /// Removes the longest unused blobs until there is room; false when what is pinned leaves too little.
    fn make_room(&mut self, size_bytes: u64, bytes_max: u64) -> bool {
        while self.bytes.saturating_add(size_bytes) > bytes_max {
            let unused = self.blobs.iter().rev().map(|(digest, _)| *digest).find(|digest| !self.pinned.contains(digest));
            let Some(digest) = unused else { return false };
            self.remove(&digest);
        }
        true
    }

    fn remove(&mut self, digest: &Digest) {
        let Some(cached) = self.blobs.pop(digest) else { return };
        self.bytes -= cached.size_bytes;
        self.outlines.pop(digest);
        self.changes += 1;
        self.gone.push(*digest);
    }
}

/// Peers may fetch what is here; nobody delivers to an agent.
#[async_trait]
impl BlobStore for Cache {
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
        let blob = self.whole(digest)?;
        if let Some(outline) = self.known_outline(digest) {
            return Some((blob, outline));
        }
        let path = self.path(digest);
        let (found, outline) = tokio::task::spawn_blocking(move || outline_of(&path)).await.ok()?.ok()?;
        if found != blob {
            self.damaged(*digest).await;
            return None;
        }
        self.lock().outlines.put(*digest, outline.clone());
        Some((blob, outline))
    }

    async fn read_piece(&self, digest: &Digest, index: u32) -> Option<Bytes> {
        let blob = self.whole(digest)?;
        let path = self.path(digest);
        let piece = tokio::task::spawn_blocking(move || read_piece(&path, &blob, index)).await.ok()?.ok()?;
        // Without an outline the peer alone finds out.
        if self.known_outline(digest).is_some_and(|outline| outline.verify_piece(&blob, index, &piece).is_err()) {
            self.damaged(*digest).await;
            return None;
        }
        Some(piece)
    }

    async fn receive(&self, _: PeerId, _: AttemptId, _: BlobRef) -> Result<Receiving, String> {
        Err("an agent takes no results".into())
    }
}

fn outline_of(path: &Path) -> io::Result<(BlobRef, Outline)> {
    let (mut file, mut builder) = (File::open(path)?, OutlineBuilder::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(builder.finish()),
            read => builder.update(&chunk[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u8) -> (BlobRef, Vec<u8>) {
        let bytes = vec![number; 100];
        (BlobRef::of(&bytes), bytes)
    }

    fn put(cache: &Cache, number: u8) -> BlobRef {
        let (blob, bytes) = blob(number);
        assert_eq!(cache.want(blob).expect("room"), Wanted::Fetch);
        fs::write(cache.path(&blob.digest), bytes).expect("a place for it");
        cache.arrived(&blob.digest);
        blob
    }

    #[test]
    fn the_longest_unused_blob_makes_room_and_pinned_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 300).expect("it opens");
        let (first, second, third) = (put(&cache, 1), put(&cache, 2), put(&cache, 3));
        for blob in [second, third] {
            cache.unpin(&blob.digest);
        }
        assert_eq!(cache.want(second).expect("room"), Wanted::Here);
        cache.unpin(&second.digest);
        put(&cache, 4);
        assert!(cache.path(&first.digest).exists() && cache.path(&second.digest).exists());
        assert!(!cache.path(&third.digest).exists(), "unused for longer than the second");
        put(&cache, 5);
        assert!(cache.want(blob(6).0).is_err(), "all that is left is pinned");
        assert_eq!(cache.usage(), (300, 300));
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again_and_nothing_in_it_is_believed_to_be_there() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("cache");
        let cache = Cache::open(&folder, 1_000).expect("it opens");
        let (first, second) = (put(&cache, 1), put(&cache, 2));
        fs::remove_dir_all(&folder).expect("it is there");
        assert_eq!(cache.want(first).expect("room"), Wanted::Fetch);
        assert_eq!((folder.is_dir(), cache.usage().0, cache.holdings().len()), (true, 100, 0));
        put(&cache, 2);
        fs::remove_file(cache.path(&second.digest)).expect("it is there");
        assert_eq!(cache.want(second).expect("room"), Wanted::Fetch, "one alone may be gone too");
        fs::remove_dir_all(&folder).expect("it is there");
        fs::write(&folder, b"a file in its place").expect("a file");
        cache.probe().expect_err("it cannot be made");
        fs::remove_file(&folder).expect("it is there");
        cache.probe().expect("it is made");
    }

    #[test]
    fn what_an_earlier_life_left_is_checked_before_it_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let (good, bad) = {
            let cache = Cache::open(folder.path(), 1_000).expect("it opens");
            (put(&cache, 1), put(&cache, 2))
        };
        fs::write(folder.path().join(bad.digest.to_hex()), [9; 100]).expect("damage");
        fs::write(folder.path().join("something.part"), b"half").expect("half a blob");
        let cache = Cache::open(folder.path(), 1_000).expect("it opens");
        assert!(!folder.path().join("something.part").exists());
        assert_eq!((cache.want(good).expect("room"), cache.want(bad).expect("room")), (Wanted::Check, Wanted::Check));
        assert!(cache.check(good) && !cache.check(bad));
        assert_eq!((cache.want(good).expect("room"), cache.want(bad).expect("room")), (Wanted::Here, Wanted::Fetch));
    }

    #[test]
    fn pieces_of_an_earlier_life_count_stay_for_their_blob_and_go_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let partial = |number| partial_path(&folder.path().join(blob(number).0.digest.to_hex()));
        for number in [1, 2] {
            fs::write(partial(number), [0; 60]).expect("pieces");
        }
        let cache = Cache::open(folder.path(), 300).expect("it opens");
        assert_eq!((cache.usage().0, cache.holdings().len()), (120, 0));
        assert_eq!(cache.want(blob(1).0).expect("room"), Wanted::Fetch);
        assert!(partial(1).exists(), "the fetch goes on with them");
        assert_eq!(cache.usage().0, 160);
        put(&cache, 3);
        assert_eq!(cache.want(blob(4).0).expect("room"), Wanted::Fetch);
        assert!(!partial(2).exists(), "nobody wanted them, and room was needed");
        cache.forget(&blob(1).0.digest);
        assert!(!partial(1).exists());
    }

    #[tokio::test]
    async fn damage_is_noticed_before_it_is_sent_to_a_peer() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 1_000).expect("it opens");
        let (used, unused) = (put(&cache, 1), put(&cache, 2));
        cache.unpin(&unused.digest);
        for blob in [used, unused] {
            assert!(cache.outline(&blob.digest).await.is_some() && cache.read_piece(&blob.digest, 0).await.is_some());
            fs::write(cache.path(&blob.digest), [9; 100]).expect("damage");
            assert_eq!(cache.read_piece(&blob.digest, 0).await, None);
        }
        assert_eq!(cache.want(used).expect("room"), Wanted::Check, "what is in use is left in its place");
        assert_eq!(cache.want(unused).expect("room"), Wanted::Fetch);
    }

    #[test]
    fn what_is_held_is_known_with_what_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 100).expect("it opens");
        let before = cache.changes();
        let blob = put(&cache, 1);
        assert_eq!(cache.holdings(), [(blob.digest, 100)].into());
        assert_ne!(cache.changes(), before);
        let before = cache.changes();
        cache.forget(&blob.digest);
        assert!(cache.holdings().is_empty() && cache.changes() != before);
    }

    #[test]
    fn whoever_only_asks_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 100).expect("it opens");
        let blob = put(&cache, 1);
        let busy = cache.files();
        assert_eq!((cache.usage(), cache.holdings().len()), ((100, 100), 1));
        let removing = std::thread::spawn({
            let cache = cache.clone();
            move || cache.forget(&blob.digest)
        });
        drop(busy);
        removing.join().expect("no panic");
        assert!(cache.holdings().is_empty() && !cache.path(&blob.digest).exists());
    }

    #[test]
    fn a_blob_that_nobody_waits_for_any_more_frees_its_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 100).expect("it opens");
        cache.want(blob(1).0).expect("room");
        assert!(cache.want(blob(2).0).is_err());
        cache.unpin(&blob(1).0.digest);
        cache.want(blob(2).0).expect("room");
    }
}
