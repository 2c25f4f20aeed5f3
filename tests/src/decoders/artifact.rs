//! Compiled modules: loading one is as good as running it, so it is about who vouches for it.

use std::{ffi::OsStr, fs, sync::LazyLock};

use libp2p::identity::Keypair;
use lull_engine::executor::{artifact::Artifacts, open_checked, protocol::LoadError};
use lull_shared::{
    digest::{BlobRef, Digest},
    message::{ModuleKind, ModuleManifest},
};
use tempfile::TempDir;

use super::{choice, memory::bounded};

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder for this process"));

/// The first byte says what the rest is: 0 the record beside a compiled module, 1 a compiled module.
///
/// No record is believed that this agent did not write, and no file is opened for loading but under its own digest.
pub fn artifact(bytes: &[u8]) {
    let (what, rest) = choice(bytes);
    if what % 2 == 0 { record(rest) } else { file(rest) }
}

fn record(bytes: &[u8]) {
    // Nobody, the seeds' writer included, has this key: it is another one in every process.
    static OWN: LazyLock<Keypair> = LazyLock::new(Keypair::generate_ed25519);
    let manifest = ModuleManifest {
        function: "echo".into(),
        number: 1,
        kind: ModuleKind::Preview1,
        module: BlobRef::of(b"module"),
        canonical_nans: false,
        artifacts: Vec::new(),
        migratable: None,
    };
    let artifacts = Artifacts::new(FOLDER.path().to_owned(), OWN.clone(), "engine".into());
    assert_eq!(bounded(bytes.len(), || artifacts.vouched(&manifest, bytes)), None);
}

fn file(bytes: &[u8]) {
    let thread = format!("{:?}.cwasm", std::thread::current().id());
    let path = FOLDER.path().join(thread);
    fs::write(&path, bytes).expect("room in the temporary folder");
    let own = Digest::of(bytes);
    let open = |expected| open_checked(OsStr::new(path.as_os_str()), expected);
    assert!(open(own).is_ok(), "under its own digest it is itself");
    let mut other = *own.as_bytes();
    other[bytes.len() % 32] ^= 1;
    let refused = open(Digest::from_bytes(other)).map(drop);
    assert_eq!(refused, Err(LoadError::Digest { expected: Digest::from_bytes(other), found: own }));
}
