//! EDGE: the secrets in a coordinator's data folder, readable by its owner alone.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use libp2p::identity::Keypair;
use lull_shared::identity::NetworkId;

/// A secret that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is damaged; restore it from a backup, or move it away to start a new network")]
    Damaged { path: PathBuf },
}

/// The key pair in this file, made if there is none.
pub fn key_pair(path: &Path) -> Result<Keypair, KeyError> {
    let bytes = read_or_make(path, || Keypair::generate_ed25519().to_protobuf_encoding().expect("an ed25519 key encodes"))?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|_| KeyError::Damaged { path: path.to_owned() })
}

/// The network's name in this file, drawn if there is none.
pub fn network_id(path: &Path) -> Result<NetworkId, KeyError> {
    let bytes = read_or_make(path, || data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>()).into_bytes())?;
    let damaged = || KeyError::Damaged { path: path.to_owned() };
    let id = data_encoding::HEXLOWER.decode(bytes.trim_ascii()).map_err(|_| damaged())?;
    Ok(NetworkId(id.try_into().map_err(|_| damaged())?))
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let failed = |source| KeyError::Write { path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)
}

/// Makes a folder that only its owner can enter.
pub fn private_folder(path: &Path) -> Result<(), KeyError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| KeyError::Write { path: path.to_owned(), source })
}

fn read_or_make(path: &Path, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, KeyError> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = make();
            write_private(path, &bytes)?;
            Ok(bytes)
        }
        Err(source) => Err(KeyError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        let first = key_pair(&path).expect("made");
        assert_eq!(key_pair(&path).expect("read").public(), first.public());
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&path, b"garbage").expect("written");
        assert!(matches!(key_pair(&path), Err(KeyError::Damaged { .. })));
    }
}
