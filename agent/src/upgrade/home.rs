//! What the part with the right to install keeps: whom it trusts, what it did last, and what came of that. Everybody may read it, and
//! only administrators write it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use lull_engine::files;
use lull_shared::{
    identity::{Authority, NetworkId},
    release::REASON_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

use super::sys;

/// Says where it is, in place of [`sys::HOME`]: for tests of an agent. The part with the right to install does not look at it.
pub const VARIABLE: &str = "LULL_UPGRADE_HOME";
/// Each file has a few hundred bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// The folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// The network that may upgrade this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Its id, in hexadecimal.
    network: String,
    /// The public half of its key, in hexadecimal.
    authority: String,
}

/// What came of the last package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The release's count.
    pub count: u64,
    pub version: String,
    /// Why it was not installed, if it was not.
    #[serde(default)]
    pub failed: Option<String>,
}

impl Trust {
    /// Whether this network is meant, with this key.
    pub fn is(&self, authority: &Authority, network: NetworkId) -> bool {
        *self == Self::of(authority, network)
    }

    /// The network's id and key; none if this is no network.
    pub fn network(&self) -> Option<(Authority, NetworkId)> {
        let id = HEXLOWER.decode(self.network.as_bytes()).ok()?;
        let authority = Authority::try_from(HEXLOWER.decode(self.authority.as_bytes()).ok()?).ok()?;
        Some((authority, NetworkId(id.try_into().ok()?)))
    }

    fn of(authority: &Authority, network: NetworkId) -> Self {
        Self { network: network.to_string(), authority: HEXLOWER.encode(&Vec::from(authority.clone())) }
    }
}

impl Home {
    /// That of this machine.
    pub fn of_this_machine() -> Self {
        Self(std::env::var_os(VARIABLE).map_or_else(sys::home, PathBuf::from))
    }

    /// The one in this folder.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Who may upgrade this machine, if anybody.
    pub fn trust(&self) -> io::Result<Option<Trust>> {
        self.read("trust")
    }

    /// Lets a network upgrade this machine.
    pub fn write_trust(&self, authority: &Authority, network: NetworkId) -> io::Result<()> {
        self.write("trust", &Trust::of(authority, network))
    }

    /// Lets nobody.
    pub fn distrust(&self) -> io::Result<()> {
        files::remove_if_there(&self.0.join("trust"))
    }

    /// What came of the last package; none if that cannot be read.
    pub fn outcome(&self) -> Option<Outcome> {
        self.read("outcome").ok().flatten()
    }

    /// Tells what came of a package.
    pub fn tell(&self, count: u64, version: &str, result: Result<(), String>) -> io::Result<()> {
        let mut failed = result.err();
        if let Some(reason) = &mut failed {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        }
        self.write("outcome", &Outcome { count, version: version.to_owned(), failed })
    }

    /// The count of the newest release that was given to the installer; 0 for none.
    pub fn count(&self) -> io::Result<u64> {
        Ok(self.read("count")?.unwrap_or(0))
    }

    /// Notes it, before it is given.
    pub fn note_count(&self, count: u64) -> io::Result<()> {
        self.write("count", &count)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.0.join(name);
        let bytes = match fs::metadata(&path) {
            Ok(about) if about.len() <= FILE_BYTES_MAX => fs::read(&path)?,
            Ok(_) => return Err(io::Error::other(format!("{} is too long", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let path = self.0.join(name);
        files::replace_private(&path, &serde_json::to_vec(value).map_err(io::Error::other)?)?;
        sys::let_all_read(&path)
    }
}
