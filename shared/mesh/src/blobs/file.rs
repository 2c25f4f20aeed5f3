//! Where fetched pieces go: a file that has its name once it is whole, or memory.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lull_shared::digest::{BlobRef, PIECE_BYTES};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::Mutex,
};

use crate::error::MeshError;

/// Where the pieces of a blob gather that is fetched into this file. It stays when a fetch is broken off, and the next
/// one goes on with what is right in it; whoever wants neither removes it.
pub fn partial_path(into: &Path) -> PathBuf {
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    into.with_file_name(name)
}

/// Where the pieces go.
pub(crate) enum Target {
    File(PartialFile),
    Memory(Mutex<Vec<u8>>),
}

impl Target {
    pub(crate) async fn write(&self, piece: u32, bytes: &[u8]) -> Result<(), MeshError> {
        let start = u64::from(piece) * PIECE_BYTES as u64;
        match self {
            Self::File(file) => file.write(start, bytes).await.map_err(|error| file_error(&file.into, &error)),
            Self::Memory(memory) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                if let Some(place) = memory.lock().await.get_mut(start..start.saturating_add(bytes.len())) {
                    place.copy_from_slice(bytes);
                }
                Ok(())
            }
        }
    }

    /// What an earlier fetch left of a piece, right or wrong.
    pub(crate) async fn leftover(&self, blob: &BlobRef, piece: u32) -> Option<Vec<u8>> {
        match self {
            Self::File(file) if file.has_leftovers => file.read(blob, piece).await.ok(),
            Self::File(_) | Self::Memory(_) => None,
        }
    }
}

/// A file under way.
pub(crate) struct PartialFile {
    file: Mutex<tokio::fs::File>,
    into: PathBuf,
    path: PathBuf,
    has_leftovers: bool,
}

impl PartialFile {
    pub(crate) async fn open(into: PathBuf, size_bytes: u64) -> Result<Self, MeshError> {
        let path = partial_path(&into);
        let failed = |error: io::Error| file_error(&path, &error);
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).await.map_err(failed)?;
        let there = file.metadata().await.map_err(failed)?.len();
        if there > size_bytes {
            file.set_len(size_bytes).await.map_err(failed)?;
        }
        Ok(Self { file: Mutex::new(file), into, path, has_leftovers: there > 0 })
    }

    async fn write(&self, start: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock().await;
        file.seek(SeekFrom::Start(start)).await?;
        file.write_all(bytes).await?;
        // Peers read it by its name.
        file.flush().await
    }

    async fn read(&self, blob: &BlobRef, piece: u32) -> io::Result<Vec<u8>> {
        let mut file = self.file.lock().await;
        file.seek(SeekFrom::Start(u64::from(piece) * PIECE_BYTES as u64)).await?;
        let mut bytes = vec![0; piece_bytes(blob, piece)];
        file.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Makes the bytes durable, then gives the file its name.
    pub(crate) async fn finish(self) -> Result<(), MeshError> {
        let failed = |error: io::Error| file_error(&self.into, &error);
        let file = self.file.into_inner();
        file.sync_all().await.map_err(failed)?;
        drop(file.into_std().await);
        tokio::fs::rename(&self.path, &self.into).await.map_err(failed)?;
        if let Some(folder) = self.into.parent() {
            // Not every system can do this to a folder; the name is then durable a little later.
            if let Ok(folder) = tokio::fs::File::open(folder).await {
                let _ = folder.sync_all().await;
            }
        }
        Ok(())
    }

    /// Removes it: nothing in it is of use.
    pub(crate) async fn discard(self) {
        drop(self.file.into_inner().into_std().await);
        // What cannot be removed is a leftover for whoever cleans that folder.
        let _ = tokio::fs::remove_file(&self.path).await;
    }
}

/// How long a piece is.
pub(crate) fn piece_bytes(blob: &BlobRef, piece: u32) -> usize {
    let start = u64::from(piece) * PIECE_BYTES as u64;
    usize::try_from(blob.size_bytes.saturating_sub(start)).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)
}

/// Reads one piece of a blob's file.
pub fn read_piece(path: &Path, blob: &BlobRef, piece: u32) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(u64::from(piece) * PIECE_BYTES as u64))?;
    let mut bytes = vec![0; piece_bytes(blob, piece)];
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

pub(crate) fn file_error(path: &Path, error: &io::Error) -> MeshError {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; make room on it or lower cache_max".into()
        }
        _ => error.to_string(),
    };
    MeshError::File { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob() -> (Vec<u8>, BlobRef) {
        let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 7).map(|i| (i % 251) as u8).collect();
        let blob = BlobRef::of(&bytes);
        (bytes, blob)
    }

    fn piece(bytes: &[u8], piece: usize) -> &[u8] {
        &bytes[piece * PIECE_BYTES..bytes.len().min((piece + 1) * PIECE_BYTES)]
    }

    #[test]
    fn the_last_piece_is_as_long_as_what_is_left_and_there_is_none_behind_it() {
        let (_, blob) = blob();
        assert_eq!([0, 1, 2, 3].map(|piece| piece_bytes(&blob, piece)), [PIECE_BYTES, PIECE_BYTES, 7, 0]);
    }

    #[tokio::test]
    async fn pieces_land_in_their_places_whatever_their_order() {
        let (bytes, blob) = blob();
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("blob");
        let file = PartialFile::open(into.clone(), blob.size_bytes).await.expect("it opens");
        for target in [Target::File(file), Target::Memory(vec![0; bytes.len()].into())] {
            for number in [2, 0, 1] {
                target.write(number, piece(&bytes, number as usize)).await.expect("there is room");
                if matches!(target, Target::File(_)) {
                    let read = read_piece(&partial_path(&into), &blob, number).expect("peers are served from there");
                    assert_eq!(read, piece(&bytes, number as usize));
                }
            }
            assert!(target.leftover(&blob, 0).await.is_none(), "it began with nothing");
            match target {
                Target::File(file) => {
                    file.finish().await.expect("it gets its name");
                    assert_eq!(std::fs::read(&into).expect("it is there"), bytes);
                    assert!(!partial_path(&into).exists());
                }
                Target::Memory(memory) => assert_eq!(memory.into_inner(), bytes),
            }
        }
    }

    #[tokio::test]
    async fn what_is_left_of_an_earlier_fetch_is_read_as_far_as_it_goes() {
        let (bytes, blob) = blob();
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("blob");
        std::fs::write(partial_path(&into), &bytes[..PIECE_BYTES + 5]).expect("a file");
        let target = Target::File(PartialFile::open(into.clone(), blob.size_bytes).await.expect("it opens"));
        assert_eq!(target.leftover(&blob, 0).await.as_deref(), Some(piece(&bytes, 0)));
        assert_eq!(target.leftover(&blob, 1).await, None, "cut short");
        drop(target);
        let longer = [&bytes[..], &[1, 2, 3]].concat();
        for (left, length) in [(&longer[..], bytes.len()), (&bytes[..], bytes.len()), (&bytes[..9], 9)] {
            std::fs::write(partial_path(&into), left).expect("a file");
            PartialFile::open(into.clone(), blob.size_bytes).await.expect("it opens");
            assert_eq!(std::fs::metadata(partial_path(&into)).expect("it is there").len(), length as u64);
        }
        let file = PartialFile::open(into.clone(), blob.size_bytes).await.expect("it opens");
        file.discard().await;
        assert!(!partial_path(&into).exists());
        assert_eq!(partial_path(Path::new("/a/b.bin")), Path::new("/a/b.bin.part"));
    }
}
