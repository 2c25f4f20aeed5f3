//! What an executor's agent keeps of an attempt on disk: long output, and snapshots while they come and go.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
};
use tokio::{
    fs::{self, File},
    io::{self, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};

use crate::{
    executor::{
        handle::{process::Snapshot, reader::Broken},
        protocol::{Build, Load, Saved},
    },
    snapshot::{Part, SEAL_BYTES, Seal, Unfit, body},
};

/// What is copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Bytes that are counted and hashed as they are written.
struct Measured {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    size_bytes: u64,
}

impl Measured {
    async fn create(path: PathBuf) -> io::Result<Self> {
        let place = path.clone();
        let create = move || {
            let mut options = std::fs::File::options();
            options.read(true).write(true).create_new(true);
            // What an earlier life left has this name, or a link that somebody put there.
            crate::files::remove_if_there(&place)?;
            match options.open(&place) {
                // Somebody removed its folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    place.parent().map_or(Ok(()), crate::files::make_private_folder)?;
                    options.open(&place)
                }
                opened => opened,
            }
        };
        let file = File::from_std(tokio::task::spawn_blocking(create).await.map_err(io::Error::other)??);
        Ok(Self { path, file, hasher: blake3::Hasher::new(), size_bytes: 0 })
    }

    async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.size_bytes += piece.len() as u64;
        self.hasher.update(piece);
        self.file.write_all(piece).await
    }

    /// What was written so far.
    fn blob(&self) -> BlobRef {
        BlobRef { digest: Digest::from_bytes(*self.hasher.finalize().as_bytes()), size_bytes: self.size_bytes }
    }

    async fn remove(self) {
        let _ = fs::remove_file(self.path).await;
    }
}

/// An output that is too large for a message, on its way to the disk.
pub(in crate::executor) struct OutputFile(Measured);

impl OutputFile {
    pub(in crate::executor) async fn create(path: PathBuf) -> Result<Self, Broken> {
        Measured::create(path.clone()).await.map(Self).map_err(|error| Broken::Disk(path, error))
    }

    pub(in crate::executor) async fn append(&mut self, piece: &[u8], limit_bytes: u64) -> Result<(), Broken> {
        if self.0.size_bytes + piece.len() as u64 > limit_bytes {
            return Err(Broken::Excess);
        }
        self.0.append(piece).await.map_err(|error| Broken::Disk(self.0.path.clone(), error))
    }

    pub(in crate::executor) async fn close(mut self) -> Result<(PathBuf, BlobRef), Broken> {
        if let Err(error) = self.0.file.flush().await {
            return Err(Broken::Disk(self.0.path, error));
        }
        let blob = self.0.blob();
        Ok((self.0.path, blob))
    }

    pub(in crate::executor) async fn remove(self) {
        self.0.remove().await;
    }
}

/// A snapshot on its way to the disk. Its own file has its name only when it is whole.
pub(in crate::executor) struct Saving {
    whole: Measured,
    output: BlobRef,
    body: blake3::Hasher,
    body_bytes_max: u64,
}

impl Saving {
    /// Begins with the output so far.
    pub(in crate::executor) async fn begin(path: &Path, output: Option<&mut OutputFile>, load: &Load) -> io::Result<Self> {
        let mut whole = Measured::create(path.with_extension("saving")).await?;
        if let Some(OutputFile(output)) = output {
            output.file.flush().await?;
            output.file.rewind().await?;
            let mut piece = vec![0; COPY_BYTES];
            loop {
                match output.file.read(&mut piece).await? {
                    0 => break,
                    read => whole.append(&piece[..read]).await?,
                }
            }
        }
        let (output, body_bytes_max) = (whole.blob(), body::bytes_max(&load.limits));
        Ok(Self { whole, output, body: blake3::Hasher::new(), body_bytes_max })
    }

    /// Adds a piece of the body.
    pub(in crate::executor) async fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.body.count() + piece.len() as u64 > self.body_bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the snapshot is larger than the attempt's limits allow"));
        }
        self.body.update(piece);
        self.whole.append(piece).await
    }

    /// Seals it and gives it its name. It is not synced: a power cut costs the time since the last one that was.
    pub(in crate::executor) async fn seal(
        mut self,
        path: PathBuf,
        saved: &Saved,
        ran: Duration,
        code: Digest,
    ) -> io::Result<Snapshot> {
        if saved.output_bytes != self.output.size_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the executor and the agent disagree about the output"));
        }
        let (attempt, ask, usage) = (saved.attempt, saved.ask, saved.usage);
        let digest = Digest::from_bytes(*self.body.finalize().as_bytes());
        let body = BlobRef { digest, size_bytes: self.body.count() };
        let ran_us = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
        let seal = Seal { task: attempt.task, code, output: self.output, body, usage, ran_us };
        self.whole.append(&seal.encode()).await?;
        self.whole.file.flush().await?;
        fs::rename(&self.whole.path, &path).await?;
        Ok(Snapshot { attempt, ask, path, blob: self.whole.blob(), usage, ran })
    }

    pub(in crate::executor) async fn remove(self) {
        self.whole.remove().await;
    }
}

/// A snapshot that fits, ready to be sent: its file stands where the body begins.
pub(in crate::executor) struct Opened {
    pub(in crate::executor) seal: Seal,
    pub(in crate::executor) file: File,
    /// The output so far, copied to where the attempt's output goes.
    pub(in crate::executor) output: Option<OutputFile>,
}

/// Opens a snapshot for an attempt, and brings its output where the attempt's goes.
pub(in crate::executor) async fn open(
    snapshot: &Path,
    attempt: AttemptId,
    load: &Load,
    output: PathBuf,
) -> Result<Opened, Unfit> {
    let Build::Migratable { code } = load.build else {
        return Err(Unfit::Shape { what: "the attempt runs a plain build".into() });
    };
    let (seal, mut file) = unseal(snapshot).await?;
    seal.fits(attempt.task, code, &load.limits)?;
    if seal.output.size_bytes == 0 {
        return Ok(Opened { seal, file, output: None });
    }
    let mut copy = Measured::create(output).await.map_err(|error| unreadable(&error))?;
    match copy_output(&mut file, &mut copy, seal.output).await {
        Ok(()) => Ok(Opened { seal, file, output: Some(OutputFile(copy)) }),
        Err(unfit) => {
            copy.remove().await;
            Err(unfit)
        }
    }
}

/// The seal of a snapshot: whose it is, and what it used so far. Its parts are checked when an attempt goes on from it.
pub async fn seal_of(snapshot: &Path) -> Result<Seal, Unfit> {
    unseal(snapshot).await.map(|(seal, _)| seal)
}

/// The seal of a snapshot, and its file at the beginning.
async fn unseal(snapshot: &Path) -> Result<(Seal, File), Unfit> {
    let read = async {
        let mut file = File::open(snapshot).await?;
        let size_bytes = file.metadata().await?.len();
        let mut seal = [0; SEAL_BYTES];
        let Some(begins) = size_bytes.checked_sub(SEAL_BYTES as u64) else { return Ok(Err(Unfit::None)) };
        file.seek(io::SeekFrom::Start(begins)).await?;
        file.read_exact(&mut seal).await?;
        file.rewind().await?;
        Ok(Seal::decode(&seal, size_bytes).map(|seal| (seal, file)))
    };
    read.await.unwrap_or_else(|error: io::Error| Err(unreadable(&error)))
}

fn unreadable(error: &io::Error) -> Unfit {
    Unfit::Unreadable { reason: error.to_string() }
}

async fn copy_output(file: &mut File, copy: &mut Measured, expected: BlobRef) -> Result<(), Unfit> {
    let mut piece = vec![0; COPY_BYTES];
    let mut left = expected.size_bytes;
    while left > 0 {
        let max = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut piece[..max]).await.map_err(|error| unreadable(&error))?;
        copy.append(&piece[..max]).await.map_err(|error| unreadable(&error))?;
        left -= max as u64;
    }
    if copy.blob() == expected { Ok(()) } else { Err(Unfit::Damaged { part: Part::Output }) }
}
