//! What the people at a machine may know of its agent and ask of it: the words of the local socket, and its asking end.
//!
//! ```text
//! status     the agent at one moment
//! share      what this machine did for others: tonight, and this month
//! grants     what functions may touch, in words
//! words      what is asked and answered
//! companion  what an agent and a tray tell each other while both live
//! client     how the agent is found and spoken to
//! ```
//! The answering end is the agent's own. Light on purpose: the tray stands on this.

pub mod client;
pub mod companion;
pub mod grants;
pub mod share;
pub mod status;
#[cfg(unix)]
#[path = "unix.rs"]
pub mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
pub mod sys;
pub mod words;

use std::path::PathBuf;

pub use self::{
    client::{Whom, ask, ask_here},
    companion::{Companion, Farewell, News, Word},
    status::{Source, Status},
    words::{IpcError, Request, Response, Right},
};

/// What Windows calls the service. The installer says the same.
pub const SERVICE: &str = "LullAgent";

/// Where an agent of this user keeps its data, if nobody says otherwise; none for a user without a home folder.
pub fn data_folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "lull-agent").map(|folders| folders.data_local_dir().to_owned())
}
