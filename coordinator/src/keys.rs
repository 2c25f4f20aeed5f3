//! EDGE: the secrets in a coordinator's data folder, readable by its owner alone.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use libp2p::identity::Keypair;
use lull_engine::{files, folder};
use lull_shared::identity::NetworkId;

/// This coordinator's own key.
pub const IDENTITY_FILE: &str = "identity.key";
/// The network's key, which signs certificates and modules: the same for all coordinators of a network.
pub const AUTHORITY_FILE: &str = "authority.key";
/// The network's name.
pub const NETWORK_FILE: &str = "network.id";
/// The first line of an exported file.
const EXPORT_HEADING: &str = "lull network 1: keep this secret, import it on one machine, delete it";

/// The file with the address of the HTTP interface of a running server.
pub const HTTP_ADDRESS_FILE: &str = "http.address";
/// The file with the token of whoever may read the data folder: made at the end of the beginning of the first term.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// A secret that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read {path}\nhint: look at the name, and run this as the user who may read it")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}\nhint: name another place, or run this as the user who may write there")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{path} is damaged\nhint: restore it from a backup; the network's own key is also in what `lull server export` of another \
         coordinator writes, for `lull server import`"
    )]
    Damaged { path: PathBuf },
    #[error("another coordinator runs with the data folder {path}\nhint: stop it, or choose another folder with --data")]
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
    #[error(
        "{path} does not hold the id of a network, but something else\nhint: restore it from a backup if this is a coordinator's \
         data folder; otherwise it is another program's: name a folder of its own for the coordinator with --data"
    )]
    NotNetwork { path: PathBuf },
    #[error(
        "{path} is the data folder of an agent ({mark} lies there), and a coordinator keeps one of its own\nhint: name another \
         folder with --data"
    )]
    Agents { path: PathBuf, mark: &'static str },
    #[error(
        "{path} is not a coordinator's data folder and not empty: {found} lies there\nhint: a network begins in an empty folder; \
         name one with --data"
    )]
    Others { path: PathBuf, found: String },
    #[error("there is no network in {path} yet\nhint: the network is made at the first start of `lull server run`")]
    NoNetwork { path: PathBuf },
}

/// The key pair in this file, made if there is none.
pub fn key_pair(path: &Path) -> Result<Keypair, KeyError> {
    match read_key_pair(path)? {
        Some(pair) => Ok(pair),
        None => make_key_pair(path),
    }
}

/// The key pair in this file, if there is one.
pub fn read_key_pair(path: &Path) -> Result<Option<Keypair>, KeyError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    Keypair::from_protobuf_encoding(&bytes).map(Some).map_err(|_| KeyError::Damaged { path: path.to_owned() })
}

/// A new key pair, in this file.
pub fn make_key_pair(path: &Path) -> Result<Keypair, KeyError> {
    let pair = Keypair::generate_ed25519();
    write_private(path, &encoded(&pair))?;
    Ok(pair)
}

/// The network's name in this file, if there is one.
pub fn network_id(path: &Path) -> Result<Option<NetworkId>, KeyError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let id = HEXLOWER.decode(bytes.trim_ascii()).ok().and_then(|id| id.try_into().ok());
    id.map(|id| Some(NetworkId(id))).ok_or_else(|| KeyError::NotNetwork { path: path.to_owned() })
}

/// What may lie in a folder in which a coordinator has never been: a private mesh's own, a service's settings and the log that it
/// begins before anything else, and what file systems put there.
const HARMLESS: [&str; 6] =
    ["private.json", "agents", HTTP_ADDRESS_FILE, "lost+found", crate::service::ENVIRONMENT, crate::service::LOGS];

/// Whether a coordinator may use a folder: it is one's already, or nobody's. Before anything is made there.
pub fn check_folder(data: &Path) -> Result<(), KeyError> {
    check_folder_besides(data, None)
}

/// The same, whatever this file is that may lie there: somebody has put it there to be imported.
fn check_folder_besides(data: &Path, given: Option<&Path>) -> Result<(), KeyError> {
    let given = given.and_then(|given| given.canonicalize().ok());
    if folder::mark_of_coordinator(data).is_some() {
        return Ok(());
    }
    if let Some(mark) = folder::mark_of_agent(data) {
        return Err(KeyError::Agents { path: data.to_owned(), mark });
    }
    let failed = |source| KeyError::Read { path: data.to_owned(), source };
    let entries = match fs::read_dir(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_given = given.is_some() && entry.path().canonicalize().ok() == given;
        if !is_given && !HARMLESS.contains(&&*name) && !files::is_unfinished(name.as_ref()) {
            found.push(name);
        }
    }
    // A key says most about whose it is.
    found.sort_by_key(|name| (name != IDENTITY_FILE, name.clone()));
    match found.into_iter().next() {
        Some(found) => Err(KeyError::Others { path: data.to_owned(), found }),
        None => Ok(()),
    }
}

fn encoded(pair: &Keypair) -> Vec<u8> {
    pair.to_protobuf_encoding().expect("an ed25519 key encodes")
}

/// Keeps two coordinators from using one data folder; released with the process, however it ends.
pub fn lock(data: &Path) -> Result<File, KeyError> {
    let path = data.join("coordinator.lock");
    let failed = |source| KeyError::Write { path: path.clone(), source };
    let file = files::open_own(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(KeyError::Running { path: data.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Writes what a further coordinator of the same network needs into a new file that only its owner can read.
pub fn export(data: &Path, file: &Path) -> Result<NetworkId, KeyError> {
    let (authority, network) = (read_key_pair(&data.join(AUTHORITY_FILE))?, network_id(&data.join(NETWORK_FILE))?);
    let (Some(authority), Some(network)) = (authority, network) else {
        return Err(KeyError::NoNetwork { path: data.to_owned() });
    };
    let text = format!("{EXPORT_HEADING}\n{network}\n{}\n", HEXLOWER.encode(&encoded(&authority)));
    match files::create_private(file, text.as_bytes()) {
        Ok(()) => Ok(network),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KeyError::Exists { path: file.to_owned() }),
        Err(source) => Err(KeyError::Write { path: file.to_owned(), source }),
    }
}

/// Makes a data folder that of a further coordinator of the network that was exported.
pub fn import(data: &Path, file: &Path) -> Result<NetworkId, KeyError> {
    let text = fs::read_to_string(file).map_err(|source| KeyError::Read { path: file.to_owned(), source })?;
    let (network, authority) = exported(&text).ok_or_else(|| KeyError::NotExported { path: file.to_owned() })?;
    check_folder_besides(data, Some(file))?;
    private_folder(data)?;
    let _lock = lock(data)?;
    let path = data.join(NETWORK_FILE);
    if let Some(own) = network_id(&path)?.filter(|own| *own != network) {
        return Err(KeyError::OtherNetwork { own, other: network });
    }
    // The name last: a folder with a name has the key to it, and one of its own.
    write_private(&data.join(AUTHORITY_FILE), &authority)?;
    key_pair(&data.join(IDENTITY_FILE))?;
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
    files::replace_private(path, bytes).map_err(|source| KeyError::Write { path: path.to_owned(), source })
}

/// Makes a folder that only its owner can enter.
pub fn private_folder(path: &Path) -> Result<(), KeyError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| KeyError::Write { path: path.to_owned(), source })
}

/// A secret of the folder, if it is there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    files::read_secret(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })
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
        let (authority, network) = (key_pair(&first.join(AUTHORITY_FILE)).expect("made"), NetworkId([7; 16]));
        write_private(&first.join(NETWORK_FILE), network.to_string().as_bytes()).expect("written");
        assert_eq!(export(&first, &file).expect("exported"), network);
        assert!(matches!(export(&first, &file), Err(KeyError::Exists { .. })));
        for _ in 0..2 {
            assert_eq!(import(&second, &file).expect("imported"), network);
            assert_eq!(key_pair(&second.join(AUTHORITY_FILE)).expect("there").public(), authority.public());
            assert_eq!(network_id(&second.join(NETWORK_FILE)).expect("there"), Some(network));
        }
        assert!(second.join(IDENTITY_FILE).exists() && !first.join(IDENTITY_FILE).exists(), "each has a key of its own");
        let third = folder.path().join("third");
        private_folder(&third).expect("made");
        fs::copy(&file, third.join("secret")).expect("put where it is wanted");
        assert_eq!(import(&third, &third.join("secret")).expect("it is no foreign file"), network);
        let fourth = folder.path().join("fourth");
        private_folder(&fourth).expect("made");
        fs::write(fourth.join("thesis.txt"), b"x").expect("written");
        assert!(matches!(import(&fourth, &file), Err(KeyError::Others { .. })));
        let foreign = folder.path().join("foreign");
        private_folder(&foreign).expect("made");
        write_private(&foreign.join(NETWORK_FILE), NetworkId([8; 16]).to_string().as_bytes()).expect("written");
        assert!(matches!(import(&foreign, &file), Err(KeyError::OtherNetwork { .. })));
        fs::write(&file, "lull network 1\nabc").expect("written");
        assert!(matches!(import(&second, &file), Err(KeyError::NotExported { .. })));
    }

    #[test]
    fn a_folder_of_another_kind_is_named_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let words = || check_folder(data).expect_err("it is somebody else's").to_string();
        check_folder(data).expect("nobody's");
        check_folder(&data.join("none")).expect("not there yet");
        for harmless in HARMLESS.iter().copied().chain([".lull-x1"]) {
            fs::write(data.join(harmless), b"x").expect("written");
        }
        check_folder(data).expect("nobody's");
        fs::write(data.join("thesis.txt"), b"x").expect("written");
        assert!(words().contains("thesis.txt"), "{}", words());
        fs::write(data.join(IDENTITY_FILE), b"x").expect("written");
        assert!(words().contains(IDENTITY_FILE) && words().contains("\nhint: "), "{}", words());
        for mark in ["membership.json", "agent.lock", "agent.toml"] {
            fs::write(data.join(mark), b"x").expect("written");
            assert!(words().contains("the data folder of an agent") && words().contains(mark), "{}", words());
            fs::remove_file(data.join(mark)).expect("ours");
        }
        fs::write(data.join(AUTHORITY_FILE), b"x").expect("written");
        check_folder(data).expect("a coordinator's, whatever else lies there");
    }

    #[test]
    fn an_id_that_is_none_of_a_network_is_told_as_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NETWORK_FILE);
        for foreign in ["", "my-router", "0123456789abcdef", "zz23456789abcdef0123456789abcdef"] {
            fs::write(&path, foreign).expect("written");
            let words = network_id(&path).expect_err("not an id").to_string();
            assert!(words.contains("does not hold the id of a network") && words.contains("--data"), "{words}");
        }
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
