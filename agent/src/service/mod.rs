//! The agent as a service of the operating system: Windows' own, or what does the same elsewhere.

pub(crate) mod firewall;
#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod sys;

use std::path::PathBuf;

use libp2p::Multiaddr;
use serde::Serialize;

#[cfg(unix)]
pub use self::sys::instead;
#[cfg(windows)]
pub use self::sys::{close_doors, events, folder_access, host, is_this_process, manager, open_doors};
pub use self::sys::{data_folder, install, run, start_trays, status, uninstall};
use crate::{config::Config, pending::Pending};

/// What Windows calls it.
pub use lull_desk::SERVICE as NAME;

/// A service as the system lists it.
#[derive(Debug)]
pub struct Kind {
    /// What the system calls it, and by that its account: `NT SERVICE\NAME`.
    pub name: &'static str,
    /// What people see.
    pub shown: &'static str,
    pub about: &'static str,
    /// Whose words these are in the event log.
    pub source: &'static str,
    /// What the log's files are called.
    pub log: &'static str,
    /// The command that has `service install` and the rest, for hints.
    pub command: &'static str,
    /// All that it keeps of the privileges that accounts of services have.
    pub privileges: &'static [&'static str],
}

/// The agent's.
pub static AGENT: Kind = Kind {
    name: NAME,
    shown: "Lull Agent",
    about: "Runs functions of this organisation's batch jobs while nobody uses this machine.",
    source: "Lull Agent",
    log: "agent",
    command: "lull-agent service",
    // To walk through folders above its own.
    privileges: &["SeChangeNotifyPrivilege"],
};

/// Where a service's log is, below its data folder.
pub const LOGS: &str = "logs";

/// The port that a service of Windows listens on: a firewall's rule needs one that stays.
pub const PORT: u16 = 7412;

/// A service could not be done something with. The words end with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServiceError(pub String);

/// What was done, in words, and what the system would not do of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    pub words: String,
    /// Settings that the system refused; the service works without them.
    pub refused: Vec<String>,
}

/// How a service is.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub service: String,
    pub state: String,
    pub process: Option<u32>,
    pub account: Option<String>,
    pub data: PathBuf,
}

impl Standing {
    /// For people.
    pub fn table(&self) -> String {
        let Self { service, state, process, account, data } = self;
        let mut rows = vec![("service", service.clone()), ("state", state.clone())];
        rows.extend(process.map(|process| ("process", process.to_string())));
        rows.extend(account.clone().map(|account| ("account", account)));
        rows.push(("data", data.display().to_string()));
        rows.into_iter().map(|(name, value)| format!("{name:<9}{value}\n")).collect()
    }
}

/// What the service runs with.
#[derive(Debug)]
pub struct Orders {
    pub data: PathBuf,
    pub config: Config,
    /// What is logged.
    pub log: String,
}

/// What an installer wants.
#[derive(Debug)]
pub struct Setup {
    pub data: PathBuf,
    /// The settings that are there already; none if there is no file.
    pub config: Option<Config>,
    /// With what the agent joins at its first start.
    pub pending: Option<Pending>,
    /// Where it listens if there are no settings yet.
    pub port: u16,
    /// Whether others may connect to that.
    pub firewall: bool,
}

/// What an uninstaller wants.
#[derive(Debug)]
pub struct Removal {
    pub data: PathBuf,
    /// Whether identity, results and settings go as well.
    pub remove_data: bool,
}

/// The settings that a service begins with: all of them with their defaults, and a port that stays.
pub fn first_settings(port: u16) -> String {
    let lines =
        "\n# A port that stays, for the rule of the firewall: `lull-agent service install` makes one for what stands here.\n";
    format!(
        "{}{lines}listen = [{}]\n",
        Config::default_toml(),
        addresses(port).map(|address| format!("\"{address}\"")).join(", ")
    )
}

/// Every interface, over both ways of the mesh.
fn addresses(port: u16) -> [Multiaddr; 2] {
    let text = [format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip4/0.0.0.0/udp/{port}/quic-v1")];
    text.map(|text| text.parse().expect("an address of this form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_a_row_for_each_thing_that_is_known() {
        let standing = Standing {
            service: NAME_SHOWN.into(),
            state: "running".into(),
            process: Some(7),
            account: None,
            data: "data".into(),
        };
        assert_eq!(standing.table(), "service  agent\nstate    running\nprocess  7\ndata     data\n");
    }

    const NAME_SHOWN: &str = "agent";

    #[test]
    fn the_first_settings_are_the_defaults_with_a_port_that_stays() {
        let config = Config::parse(&first_settings(7412), std::path::Path::new("agent.toml")).expect("settings");
        assert_eq!(config, Config { listen: addresses(7412).into(), ..Config::default() });
    }
}
