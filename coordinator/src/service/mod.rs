//! The coordinator as a service of the operating system: Windows' own, or what does the same elsewhere. What is the same for every
//! service of ours is in [`lull_agent::service`].

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libp2p::Multiaddr;
use lull_agent::service::Kind;

pub use self::sys::{data_folder, install, run, status, uninstall};
use crate::store::StoreChoice;

/// The coordinator's service. The installer says the same.
pub static COORDINATOR: Kind = Kind {
    name: "LullCoordinator",
    shown: "Lull Coordinator",
    about: "Hands out the batch functions of this organisation to its machines, and remembers everything.",
    source: "Lull Coordinator",
    log: "coordinator",
    command: "lull server service",
    privileges: &["SeChangeNotifyPrivilege"],
};

/// Where a service finds what is no business of everybody who can see how it is started, below the data folder.
pub const ENVIRONMENT: &str = "coordinator.env";

/// Where a service's log is, below the data folder.
pub const LOGS: &str = lull_agent::service::LOGS;

/// What an installer wants.
#[derive(Debug)]
pub struct Setup {
    pub data: PathBuf,
    /// Of `lull server run`.
    pub options: Vec<String>,
    /// Where it will listen, for the firewall.
    pub listen: Vec<Multiaddr>,
    pub start: bool,
}

/// The store that the file of the data folder names, if there is one. The error is in words.
pub fn store(data: &Path) -> Result<Option<StoreChoice>, String> {
    let path = data.join(ENVIRONMENT);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let mut store = None;
    for line in
        text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let value = line.strip_prefix("LULL_STORE=").ok_or_else(|| {
            // The line may hold a password.
            format!("{} has a line that is not understood\nhint: write LULL_STORE=... on a line of its own", path.display())
        })?;
        let value = value.trim_matches('"');
        store = Some(match value.strip_prefix("sqlite:") {
            Some(folder) => StoreChoice::Embedded(folder.into()),
            None => StoreChoice::SqlServer(value.to_owned()),
        });
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_read_from_the_data_folder_and_told_to_nobody() {
        let data = tempfile::tempdir().expect("a folder");
        let with = |text: &str| {
            fs::write(data.path().join(ENVIRONMENT), text).expect("written");
            store(data.path())
        };
        assert!(matches!(store(data.path()), Ok(None)));
        let found = with("\u{feff}# the database\r\nLULL_STORE=\"Server=tcp:db;Password=secret\"\r\n").expect("it can be read");
        assert!(matches!(&found, Some(StoreChoice::SqlServer(text)) if text == "Server=tcp:db;Password=secret"));
        assert!(matches!(with("LULL_STORE=sqlite:/srv/lull"), Ok(Some(StoreChoice::Embedded(_)))));
        let wrong = with("Server=tcp:db;Password=secret").expect_err("no variable");
        assert!(wrong.contains("\nhint: ") && !wrong.contains("secret"), "{wrong}");
    }
}
