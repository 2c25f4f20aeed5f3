//! Uploads on their way: on disk as they come, and in the store only when they are whole. Half of one costs a small
//! buffer and its place on the disk, and leaves nothing behind when its sender is gone.

use std::{io, path::PathBuf, sync::Arc};

use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::spawn_blocking,
};

use crate::{
    http::door::error::{Answer, Refused},
    store::{BlobWriter, Blobs},
};

/// What of an upload is in memory; most inputs fit, and never meet the disk here.
const BUFFER_BYTES: usize = 16 * 1024;
/// Uploads that the store takes in at once: it has megabytes of each in memory.
const POURING_MAX: usize = 8;

/// Where uploads wait to be whole.
#[derive(Clone)]
pub(crate) struct Spools {
    folder: PathBuf,
    pouring: Arc<Semaphore>,
}

impl Spools {
    /// In a folder that exists. The files in it have no names, so that the system removes them even after a crash.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, pouring: Arc::new(Semaphore::new(POURING_MAX)) }
    }

    /// One for a new upload.
    pub(crate) fn begin(&self) -> Spool {
        Spool { spools: self.clone(), buffer: Vec::new(), file: None, size_bytes: 0 }
    }
}

/// An upload on its way.
pub(crate) struct Spool {
    spools: Spools,
    buffer: Vec<u8>,
    file: Option<File>,
    size_bytes: u64,
}

impl Spool {
    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Answer<()> {
        self.size_bytes += bytes.len() as u64;
        if self.buffer.len() + bytes.len() <= BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.spill(bytes).await.map_err(refused)
    }

    async fn spill(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let folder = self.spools.folder.clone();
                let file = spawn_blocking(move || tempfile::tempfile_in(folder)).await.map_err(io::Error::other)??;
                let mut file = File::from_std(file);
                file.set_max_buf_size(BUFFER_BYTES);
                none.insert(file)
            }
        };
        file.write_all(&self.buffer).await?;
        self.buffer.clear();
        file.write_all(bytes).await
    }

    /// Everything that came, as a blob of the store that is not finished yet.
    pub(crate) async fn pour(mut self, store: &dyn Blobs) -> Answer<Box<dyn BlobWriter>> {
        let _turn = self.spools.pouring.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let mut writer = store.begin_blob(self.size_bytes).await?;
        if let Some(mut file) = self.file.take() {
            file.flush().await.map_err(refused)?;
            file.rewind().await.map_err(refused)?;
            let mut piece = vec![0; lull_shared::digest::PIECE_BYTES];
            loop {
                let read = file.read(&mut piece).await.map_err(refused)?;
                if read == 0 {
                    break;
                }
                writer.write(&piece[..read]).await?;
            }
        }
        writer.write(&self.buffer).await?;
        Ok(writer)
    }
}

fn refused(error: io::Error) -> Refused {
    tracing::warn!(%error, "an upload cannot be kept");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refused::disk_full(),
        _ => Refused::unavailable("the coordinator cannot write to its disk"),
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::digest::BlobRef;

    use super::*;
    use crate::store::memory::Memory;

    #[tokio::test]
    async fn what_was_spooled_is_what_the_store_gets_whatever_its_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        let (spools, store) = (Spools::new(folder.path().to_owned()), Memory::default());
        for size in [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * lull_shared::digest::PIECE_BYTES + 7] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            for part in [1_000, BUFFER_BYTES + 5] {
                let mut spool = spools.begin();
                for part in bytes.chunks(part) {
                    spool.write(part).await.expect("there is room");
                    assert!(spool.buffer.len() <= BUFFER_BYTES && spool.buffer.capacity() <= 2 * BUFFER_BYTES);
                }
                let writer = spool.pour(&store).await.expect("poured");
                assert_eq!(writer.finish().await.expect("whole"), BlobRef::of(&bytes), "{size} in parts of {part}");
            }
        }
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 0);
    }
}
