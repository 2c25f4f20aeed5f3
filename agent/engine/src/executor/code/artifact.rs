//! Compiled modules of this agent's own making, for engines that the publisher did not compile for.
//!
//! Loading a compiled module is as good as running it, so each file here is vouched for by the agent's identity key
//! in a record beside it, which is checked before every use: a file that somebody else put there is compiled anew.
//! Artifacts that the network's authority signed are ordinary blobs and not kept here.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use libp2p_identity::Keypair;
use lull_shared::{
    codec,
    digest::{BlobRef, Digest},
    identity::{self, Authority, Claim, Signed},
    message::ModuleManifest,
};
use serde::{Deserialize, Serialize};
use tokio::{fs, sync::Mutex};

use crate::{
    executor::{
        code::{
            compile::{Bounds, CompileError, Source, Target, Workbench},
            engine::Platform,
        },
        protocol::Priority,
    },
    files,
};

/// Artifacts kept, together. Above it the ones used longest ago are compiled again when they are needed.
const KEPT_BYTES_MAX: u64 = 2 << 30;

/// The artifact in a manifest that an engine can load.
pub fn published<'a>(manifest: &'a ModuleManifest, engine: &str) -> Option<&'a BlobRef> {
    manifest.artifacts.iter().find(|artifact| artifact.engine == engine).map(|artifact| &artifact.blob)
}

/// The folder of self-made artifacts.
pub struct Artifacts {
    folder: PathBuf,
    identity: Keypair,
    engine: String,
    workbench: Workbench,
    /// One compilation at a time: the owner comes first.
    turn: Mutex<()>,
}

/// A compiled module that may be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub path: PathBuf,
    pub digest: Digest,
}

/// A module has no artifact, and none could be made.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("the folder for compiled modules cannot be used: {0}")]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// What the agent vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    engine: String,
    module: Digest,
    canonical_nans: bool,
    artifact: BlobRef,
}

impl Claim for Record {
    const KIND: &'static str = "lull local artifact 1";
}

impl Artifacts {
    /// Keeps artifacts for `engine`, this machine's, in `folder`, which is made when it is needed.
    pub fn new(folder: PathBuf, identity: Keypair, engine: String) -> Self {
        let workbench = Workbench { program: None, priority: Priority::Idle, bounds: Bounds::AGENT };
        Self { folder, identity, engine, workbench, turn: Mutex::new(()) }
    }

    /// Compiles with another program than this one and like any program, in tests.
    pub fn with_program(self, program: PathBuf) -> Self {
        let workbench = Workbench { program: Some(program), priority: Priority::Normal, ..self.workbench };
        Self { workbench, ..self }
    }

    /// The artifact of a module whose bytes are in the file `module`: the one kept, or a new one.
    pub async fn ready(&self, manifest: &ModuleManifest, module: &Path) -> Result<Ready, ArtifactError> {
        let _turn = self.turn.lock().await;
        let path = self.path(manifest);
        if let Some(ready) = self.kept(manifest, &path).await {
            return Ok(ready);
        }
        fs::create_dir_all(&self.folder).await?;
        let source = Source { path: module.to_owned(), digest: manifest.module.digest };
        let target =
            Target { kind: manifest.kind, canonical_nans: manifest.canonical_nans, platform: Platform::host().to_string() };
        let fresh = path.with_extension("new");
        let made = self.workbench.compile(&source, &target, &fresh).await.map_err(ArtifactError::from);
        if made.is_err() {
            let _ = fs::remove_file(&fresh).await;
        }
        let artifact = made?.blob;
        let record = Record {
            engine: self.engine.clone(),
            module: manifest.module.digest,
            canonical_nans: manifest.canonical_nans,
            artifact,
        };
        fs::rename(&fresh, &path).await?;
        let (signed, beside) = (codec::encode(&identity::sign(&self.identity, &record)), record_path(&path));
        let written = tokio::task::spawn_blocking(move || files::replace_private(&beside, &signed)).await;
        written.map_err(io::Error::other)??;
        self.trim(&path).await?;
        Ok(Ready { path, digest: artifact.digest })
    }

    /// The executor checks the digest on the file it opens; here it is checked who wrote the record and for what.
    async fn kept(&self, manifest: &ModuleManifest, path: &Path) -> Option<Ready> {
        let artifact = self.vouched(manifest, &fs::read(record_path(path)).await.ok()?)?;
        let file = fs::File::open(path).await.ok()?.into_std().await;
        if file.metadata().ok()?.len() != artifact.size_bytes {
            return None;
        }
        // A file that cannot be marked as used is removed sooner, no more.
        let _ = file.set_modified(SystemTime::now());
        Some(Ready { path: path.to_owned(), digest: artifact.digest })
    }

    /// The artifact that a record vouches for, if this agent wrote it, for this module and this engine.
    pub fn vouched(&self, manifest: &ModuleManifest, record: &[u8]) -> Option<BlobRef> {
        let signed: Signed = codec::decode(record).ok()?;
        let record: Record = identity::verify(&Authority::of(&self.identity), &signed).ok()?;
        let fits = record.engine == self.engine
            && record.module == manifest.module.digest
            && record.canonical_nans == manifest.canonical_nans;
        fits.then_some(record.artifact)
    }

    /// Forgets an artifact that an executor refused for its digest: it is compiled anew the next time.
    pub async fn forget(&self, manifest: &ModuleManifest) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        fs::remove_file(record_path(&self.path(manifest))).await
    }

    async fn trim(&self, newest: &Path) -> io::Result<()> {
        let mut kept = Vec::new();
        let mut entries = fs::read_dir(&self.folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let (path, metadata) = (entry.path(), entry.metadata().await?);
            if path.extension().is_some_and(|extension| extension == "cwasm") && path != newest {
                kept.push((metadata.modified()?, metadata.len(), path));
            }
        }
        kept.sort_unstable();
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in kept {
            if total <= KEPT_BYTES_MAX {
                break;
            }
            fs::remove_file(record_path(&path)).await?;
            fs::remove_file(path).await?;
            total -= bytes;
        }
        Ok(())
    }

    fn path(&self, manifest: &ModuleManifest) -> PathBuf {
        let nans = if manifest.canonical_nans { "canonical" } else { "plain" };
        self.folder.join(format!("{}-{nans}.cwasm", manifest.module.digest.to_hex()))
    }
}

fn record_path(artifact: &Path) -> PathBuf {
    artifact.with_extension("record")
}
