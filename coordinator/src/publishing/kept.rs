//! Builds that this account made before, in its cache folder, so that the next run of the same module starts at once.
//!
//! Loading a compiled module is as good as running it, and this folder outlives the mesh that wrote it. So nothing is
//! taken from it but what this account wrote: the folder must be this account's alone, each entry carries a record that
//! is signed with a key which only this account can read, and the record names the digest of every file. Entries are
//! made for one program file: another one, or another version of it, makes its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use libp2p::identity::Keypair;
use lull_shared::{
    codec,
    digest::{BlobRef, Digest, OutlineBuilder},
    identity::{Authority, Claim, Signed, sign, verify},
    job::Moving,
    message::ModuleKind,
};
use serde::{Deserialize, Serialize};

use super::make::{Compiled, Made, Movable, Part, Recipe};
use crate::keys;

/// Bytes kept in all; above it the entries used longest ago go. Some hundred functions of a usual size.
const KEPT_BYTES_MAX: u64 = 1 << 30;
const KEY_FILE: &str = "builds.key";
const RECORD_FILE: &str = "record";
/// A record is a few hundred bytes and the interface.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// The folder of builds.
pub struct KeptBuilds {
    folder: PathBuf,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    of: Key,
    kind: ModuleKind,
    interface: Vec<String>,
    plain: Vec<(String, BlobRef)>,
    movable: Option<(BlobRef, Vec<(String, BlobRef)>)>,
    not_movable: Option<String>,
}

impl Claim for Record {
    const KIND: &'static str = "lull kept build 1";
}

/// What an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    module: Digest,
    canonical_nans: bool,
    moving: Moving,
    engines: Vec<String>,
    /// Marks of the program that made it.
    program: String,
}

impl KeptBuilds {
    /// Keeps them in this folder, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What was made by this recipe before, linked into the folder `into`. Whatever is odd about it: it is made anew.
    pub async fn find(&self, module: Digest, recipe: &Recipe, engines: &[&str], into: &Path) -> Option<Made> {
        let (folder, key, into) = (self.folder.clone(), key(module, recipe, engines)?, into.to_owned());
        tokio::task::spawn_blocking(move || find(&folder, &key, &into)).await.ok()?
    }

    /// Keeps what was made. Without success the next run makes it again.
    pub async fn keep(&self, module: Digest, recipe: &Recipe, engines: &[&str], made: &Made) {
        let Some(key) = key(module, recipe, engines) else { return };
        let (folder, made) = (self.folder.clone(), made.clone());
        let kept = tokio::task::spawn_blocking(move || keep(&folder, key, &made)).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a build is not kept for the next run"),
            Err(error) => tracing::debug!(%error, "a build is not kept for the next run"),
        }
    }
}

fn key(module: Digest, recipe: &Recipe, engines: &[&str]) -> Option<Key> {
    let program = fs::metadata(std::env::current_exe().ok()?).ok()?;
    let modified = program.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some(Key {
        module,
        canonical_nans: recipe.canonical_nans,
        moving: recipe.moving,
        engines: engines.iter().map(|engine| (*engine).to_owned()).collect(),
        program: format!("{} {} {modified}", env!("CARGO_PKG_VERSION"), program.len()),
    })
}

impl Key {
    fn folder(&self, within: &Path) -> PathBuf {
        within.join(Digest::of(&codec::encode(self)).to_hex())
    }
}

fn find(folder: &Path, key: &Key, into: &Path) -> Option<Made> {
    if !is_ours_alone(folder) {
        return None;
    }
    let authority = Authority::of(&keys::key_pair(&folder.join(KEY_FILE)).ok()?);
    let entry = key.folder(folder);
    let file = entry.join(RECORD_FILE);
    if fs::metadata(&file).ok()?.len() > RECORD_BYTES_MAX {
        return None;
    }
    let signed: Signed = codec::decode(&fs::read(&file).ok()?).ok()?;
    let record: Record = verify(&authority, &signed).ok().filter(|record: &Record| record.of == *key)?;
    let part = |blob: BlobRef| part(&entry, into, blob);
    let all = |made: Vec<(String, BlobRef)>| -> Option<Vec<Compiled>> {
        made.into_iter().map(|(engine, blob)| Some(Compiled { engine, part: part(blob)? })).collect()
    };
    let movable = match record.movable {
        Some((module, compiled)) => Some(Movable { module: part(module)?, compiled: all(compiled)? }),
        None => None,
    };
    // An entry that cannot be marked as used is removed sooner, no more.
    let _ = fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(SystemTime::now()));
    Some(Made {
        kind: record.kind,
        interface: record.interface,
        plain: all(record.plain)?,
        movable,
        not_movable: record.not_movable,
    })
}

/// A file of an entry under a name of its own, if it is what it should be: what becomes of the entry matters no more.
fn part(entry: &Path, into: &Path, blob: BlobRef) -> Option<Part> {
    let (from, path) = (entry.join(blob.digest.to_hex()), into.join(blob.digest.to_hex()));
    if !path.exists() {
        fs::hard_link(&from, &path).or_else(|_| fs::copy(&from, &path).map(drop)).ok()?;
    }
    (measure(&path).ok()? == blob).then_some(Part { path, blob })
}

fn measure(path: &Path) -> io::Result<BlobRef> {
    let mut outline = OutlineBuilder::default();
    let (mut file, mut piece) = (fs::File::open(path)?, vec![0; 256 << 10]);
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(outline.finish().0),
            read => outline.update(&piece[..read]),
        }
    }
}

fn keep(folder: &Path, of: Key, made: &Made) -> anyhow::Result<()> {
    keys::private_folder(folder)?;
    anyhow::ensure!(is_ours_alone(folder), "others can write to {}", folder.display());
    let identity = own_key(folder)?;
    let fresh = tempfile::Builder::new().prefix("new-").tempdir_in(folder)?;
    let add = |part: &Part| -> io::Result<BlobRef> {
        let path = fresh.path().join(part.blob.digest.to_hex());
        if !path.exists() {
            fs::copy(&part.path, path)?;
        }
        Ok(part.blob)
    };
    let all = |compiled: &[Compiled]| -> io::Result<Vec<(String, BlobRef)>> {
        compiled.iter().map(|compiled| Ok((compiled.engine.clone(), add(&compiled.part)?))).collect()
    };
    let movable = match &made.movable {
        Some(movable) => Some((add(&movable.module)?, all(&movable.compiled)?)),
        None => None,
    };
    let (kind, interface, not_movable) = (made.kind, made.interface.clone(), made.not_movable.clone());
    let entry = of.folder(folder);
    let record = Record { of, kind, interface, plain: all(&made.plain)?, movable, not_movable };
    keys::write_private(&fresh.path().join(RECORD_FILE), &codec::encode(&sign(&identity, &record)))?;
    // One that is there and was not taken is of no use.
    let _ = fs::remove_dir_all(&entry);
    fs::rename(fresh.keep(), &entry)?;
    trim(folder, &entry, KEPT_BYTES_MAX)?;
    Ok(())
}

/// The key of this folder; one that is damaged vouches for nothing any more.
fn own_key(folder: &Path) -> Result<Keypair, keys::KeyError> {
    let path = folder.join(KEY_FILE);
    keys::key_pair(&path).or_else(|_| {
        let _ = fs::remove_file(&path);
        keys::key_pair(&path)
    })
}

/// Whether this account owns the folder and nobody else may write to it.
#[cfg(unix)]
fn is_ours_alone(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_ours_alone(folder: &Path) -> bool {
    // An account's own folders are closed to other accounts there.
    folder.is_dir()
}

fn trim(folder: &Path, newest: &Path, bytes_max: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() || path == newest {
            continue;
        }
        // What broke off has no record and goes first.
        let used = fs::metadata(path.join(RECORD_FILE)).and_then(|record| record.modified()).unwrap_or(UNIX_EPOCH);
        entries.push((used, size_of(&path), path));
    }
    entries.sort_unstable();
    let mut total = size_of(newest) + entries.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
    for (_, bytes, path) in entries {
        if total <= bytes_max {
            break;
        }
        fs::remove_dir_all(path)?;
        total -= bytes;
    }
    Ok(())
}

fn size_of(entry: &Path) -> u64 {
    let files = fs::read_dir(entry).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use lull_engine::executor::engine::Platform;

    use super::*;

    struct Place {
        kept: KeptBuilds,
        work: tempfile::TempDir,
        _home: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a folder");
            Self { kept: KeptBuilds::new(home.path().join("builds")), work: tempfile::tempdir().expect("a folder"), _home: home }
        }

        fn made(&self) -> Made {
            let part = |bytes: &[u8]| {
                let blob = BlobRef::of(bytes);
                let path = self.work.path().join(format!("made-{}", blob.digest.to_hex()));
                fs::write(&path, bytes).expect("written");
                Part { path, blob }
            };
            Made {
                kind: ModuleKind::Preview1,
                interface: vec!["export _start".into()],
                plain: vec![Compiled { engine: "e".into(), part: part(b"plain") }],
                movable: Some(Movable {
                    module: part(b"rewritten"),
                    compiled: vec![Compiled { engine: "e".into(), part: part(b"movable") }],
                }),
                not_movable: None,
            }
        }

        async fn find(&self, moving: Moving) -> Option<Made> {
            let into = tempfile::tempdir_in(self.work.path()).expect("a folder").keep();
            self.kept.find(Digest::of(b"m"), &recipe(moving), &["e"], &into).await
        }

        async fn keep(&self) {
            self.kept.keep(Digest::of(b"m"), &recipe(Moving::Auto), &["e"], &self.made()).await;
        }

        fn entry(&self) -> PathBuf {
            let entries = fs::read_dir(&self.kept.folder).expect("the folder").flatten().map(|entry| entry.path());
            entries.into_iter().find(|path| path.is_dir()).expect("an entry")
        }
    }

    fn recipe(moving: Moving) -> Recipe {
        Recipe { canonical_nans: false, moving, platforms: [Platform::host()].into() }
    }

    #[tokio::test]
    async fn a_build_is_found_again_by_what_it_was_made_of() {
        let place = Place::new();
        assert_eq!(place.find(Moving::Auto).await, None);
        place.keep().await;
        let found = place.find(Moving::Auto).await.expect("it was kept");
        let blobs = |made: &Made| {
            let movable = made.movable.as_ref().expect("both builds");
            [made.plain[0].part.blob, movable.module.blob, movable.compiled[0].part.blob]
        };
        assert_eq!(blobs(&found), blobs(&place.made()));
        assert_eq!(fs::read(&found.plain[0].part.path).expect("the file"), b"plain");
        assert_eq!(place.find(Moving::Never).await, None, "other options");
        let other = place.kept.find(Digest::of(b"other"), &recipe(Moving::Auto), &["e"], place.work.path()).await;
        assert_eq!(other, None);
    }

    #[tokio::test]
    async fn what_somebody_else_wrote_or_may_write_is_never_loaded() {
        let place = Place::new();
        place.keep().await;
        let planted = place.entry().join(BlobRef::of(b"plain").digest.to_hex());
        fs::write(&planted, b"planted").expect("written");
        assert_eq!(place.find(Moving::Auto).await, None, "another file");

        place.keep().await;
        let record = place.entry().join(RECORD_FILE);
        let signed: Signed = codec::decode(&fs::read(&record).expect("a record")).expect("it decodes");
        let claim: Record = codec::decode(&signed.body).expect("it decodes");
        fs::write(&record, codec::encode(&sign(&Keypair::generate_ed25519(), &claim))).expect("written");
        assert_eq!(place.find(Moving::Auto).await, None, "another's key");

        place.keep().await;
        assert!(place.find(Moving::Auto).await.is_some());
        #[cfg(unix)]
        {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(&place.kept.folder, open).expect("set");
            assert_eq!(place.find(Moving::Auto).await, None, "a folder that others can write to");
        }
    }

    #[tokio::test]
    async fn the_entries_used_longest_ago_go_first() {
        let place = Place::new();
        place.keep().await;
        let (old, newest) = (place.entry(), place.kept.folder.join("newest"));
        fs::create_dir(&newest).expect("made");
        fs::write(newest.join("x"), [0; 100]).expect("written");
        trim(&place.kept.folder, &newest, 1 << 20).expect("trimmed");
        assert!(old.exists());
        trim(&place.kept.folder, &newest, 100).expect("trimmed");
        assert!(!old.exists() && newest.exists());
    }
}
