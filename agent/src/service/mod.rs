//! The agent as a service of the operating system: Windows' own, or what does the same elsewhere.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod sys;

use std::path::PathBuf;

use serde::Serialize;

pub use self::sys::{data_folder, install, run, status, uninstall};
#[cfg(windows)]
pub use self::sys::{folder_access, is_this_process};
use crate::config::Config;

/// What Windows calls it. The installer says the same.
pub const NAME: &str = "LullAgent";

/// A service could not be done something with. The words end with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServiceError(String);

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
}
