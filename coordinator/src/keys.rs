//! EDGE: the secrets in a coordinator's data folder, readable by its owner alone.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use libp2p::identity::Keypair;
use lull_shared::identity::NetworkId;

/// This coordinator's own key.
pub const IDENTITY_FILE: &str = "identity.key";
/// The network's key, which signs certificates and modules: the same for all coordinators of a network.
pub const AUTHORITY_FILE: &str = "authority.key";
/// The network's name.
pub const NETWORK_FILE: &str = "network.id";
/// The first line of an exported file.
const EXPORT_HEADING: &str = "lull network 1: keep this secret, import it on one machine, delete it";

/// A secret that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is damaged; restore it from a backup, or move it away to start a new network")]
    Damaged { path: PathBuf },
    #[error("another coordinator runs with the data folder {path}; stop it, or choose another folder with --data")]
    Running { path: PathBuf },
    #[error("{path} is there already\nhint: choose a name that is free; the file holds a secret, delete it once it was used")]
    Exists { path: PathBuf },
    #[error("{path} is not what `lull server export` writes\nhint: export again, and copy the file whole")]
    NotExported { path: PathBuf },
    #[error(
        "the data folder belongs to the network {own}, and the file to {other}\nhint: import into an empty data folder; a folder \
         that has a network keeps it"
    )]
    OtherNetwork { own: NetworkId, other: NetworkId },
    #[error("there is no network in {path} yet\nhint: the network is made at the first start of `lull server run`")]
    NoNetwork { path: PathBuf },
}

/// The key pair in this file, made if there is none.
pub fn key_pair(path: &Path) -> Result<Keypair, KeyError> {
    let bytes = read_or_make(path, || Keypair::generate_ed25519().to_protobuf_encoding().expect("an ed25519 key encodes"))?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|_| KeyError::Damaged { path: path.to_owned() })
}

/// The network's name in this file, drawn if there is none.
pub fn network_id(path: &Path) -> Result<NetworkId, KeyError> {
    let bytes = read_or_make(path, || HEXLOWER.encode(&rand::random::<[u8; 16]>()).into_bytes())?;
    let damaged = || KeyError::Damaged { path: path.to_owned() };
    let id = HEXLOWER.decode(bytes.trim_ascii()).map_err(|_| damaged())?;
    Ok(NetworkId(id.try_into().map_err(|_| damaged())?))
}

/// Keeps two coordinators from using one data folder; released with the process, however it ends.
pub fn lock(data: &Path) -> Result<File, KeyError> {
    let path = data.join("coordinator.lock");
    let failed = |source| KeyError::Write { path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(KeyError::Running { path: data.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Writes what a further coordinator of the same network needs into a new file that only its owner can read.
pub fn export(data: &Path, file: &Path) -> Result<NetworkId, KeyError> {
    let (authority, network) = (data.join(AUTHORITY_FILE), data.join(NETWORK_FILE));
    if !authority.exists() || !network.exists() {
        return Err(KeyError::NoNetwork { path: data.to_owned() });
    }
    if file.exists() {
        return Err(KeyError::Exists { path: file.to_owned() });
    }
    let (authority, network) = (key_pair(&authority)?, network_id(&network)?);
    let secret = HEXLOWER.encode(&authority.to_protobuf_encoding().expect("an ed25519 key encodes"));
    let text = format!("{EXPORT_HEADING}\n{network}\n{secret}\n");
    write_private(file, text.as_bytes())?;
    Ok(network)
}

/// Makes a data folder that of a further coordinator of the network that was exported.
pub fn import(data: &Path, file: &Path) -> Result<NetworkId, KeyError> {
    let text = fs::read_to_string(file).map_err(|source| KeyError::Read { path: file.to_owned(), source })?;
    let (network, authority) = exported(&text).ok_or_else(|| KeyError::NotExported { path: file.to_owned() })?;
    private_folder(data)?;
    let _lock = lock(data)?;
    let path = data.join(NETWORK_FILE);
    if path.exists() {
        let own = network_id(&path)?;
        if own != network {
            return Err(KeyError::OtherNetwork { own, other: network });
        }
    }
    // The name last: a folder with a name has the key to it.
    write_private(&data.join(AUTHORITY_FILE), &authority)?;
    write_private(&path, network.to_string().as_bytes())?;
    Ok(network)
}

fn exported(text: &str) -> Option<(NetworkId, Vec<u8>)> {
    let mut lines = text.lines();
    let (heading, network, secret) = (lines.next()?, lines.next()?, lines.next()?);
    let authority = HEXLOWER.decode(secret.trim().as_bytes()).ok()?;
    Keypair::from_protobuf_encoding(&authority).ok()?;
    let network = HEXLOWER.decode(network.trim().as_bytes()).ok()?.try_into().ok()?;
    (heading == EXPORT_HEADING).then_some((NetworkId(network), authority))
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

    #[test]
    fn an_exported_network_makes_another_folder_one_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second, file) = (folder.path().join("first"), folder.path().join("second"), folder.path().join("secret"));
        private_folder(&first).expect("made");
        assert!(matches!(export(&first, &file), Err(KeyError::NoNetwork { .. })));
        let authority = key_pair(&first.join(AUTHORITY_FILE)).expect("made");
        let network = network_id(&first.join(NETWORK_FILE)).expect("made");
        assert_eq!(export(&first, &file).expect("exported"), network);
        assert!(matches!(export(&first, &file), Err(KeyError::Exists { .. })));
        for _ in 0..2 {
            assert_eq!(import(&second, &file).expect("imported"), network);
            assert_eq!(key_pair(&second.join(AUTHORITY_FILE)).expect("there").public(), authority.public());
            assert_eq!(network_id(&second.join(NETWORK_FILE)).expect("there"), network);
        }
        assert!(!second.join(IDENTITY_FILE).exists(), "each coordinator has a key of its own");
        let foreign = folder.path().join("foreign");
        private_folder(&foreign).expect("made");
        network_id(&foreign.join(NETWORK_FILE)).expect("made");
        assert!(matches!(import(&foreign, &file), Err(KeyError::OtherNetwork { .. })));
        fs::write(&file, "lull network 1\nabc").expect("written");
        assert!(matches!(import(&second, &file), Err(KeyError::NotExported { .. })));
    }

    #[test]
    fn one_data_folder_is_one_coordinators() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = lock(folder.path()).expect("free");
        assert!(matches!(lock(folder.path()), Err(KeyError::Running { .. })));
        drop(held);
        lock(folder.path()).expect("free again");
    }
}
