//! What the agent is asked on its local socket, and what it answers: one JSON value per line.

use std::io;

use lull_session::Standing;
use lull_shared::policy::Changes;
use serde::{Deserialize, Serialize};

use crate::{companion::Farewell, status::Status};

/// A request's line; the longest is far below it.
pub const REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// An answer's line, and news: the status of the largest machine is some hundred kilobytes.
pub const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status,
    /// Leave the machine to its owner, for so long or until `Resume`.
    Pause {
        for_ms: Option<u64>,
    },
    Resume,
    /// Which policy holds.
    Policy,
    /// Narrow the policy so, in place of how it was narrowed before.
    Narrow(Box<Changes>),
    /// Stop, in good order.
    Leave,
    /// Tell what changes from now on, as [`crate::News`], and hear what this desk's people do, as [`crate::Word`]. The last
    /// request of its connection.
    Accompany,
    /// Have every companion end, and answer when they have.
    Dismiss {
        reason: Farewell,
    },
}

/// What a caller of a service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Whoever sits at this machine.
    Desk,
    Administrator,
}

impl Request {
    /// What it takes to ask a service so.
    pub fn right(&self) -> Right {
        match self {
            Self::Status | Self::Policy | Self::Pause { .. } | Self::Resume | Self::Accompany => Right::Desk,
            Self::Narrow(_) | Self::Leave | Self::Dismiss { .. } => Right::Administrator,
        }
    }
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    Status(Box<Status>),
    Policy(Box<Standing>),
    Done,
    Error {
        message: String,
    },
    /// Whoever asks may not do this.
    Denied {
        message: String,
    },
}

/// The agent was not asked, or its answer was not understood.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    #[error(
        "no agent is running with this data folder ({0})\nhint: start it with `lull-agent run`, or name its folder with --data"
    )]
    NotRunning(String),
    #[error("the agent's socket cannot be used: {0}\nhint: run this as the user that the agent runs as")]
    Denied(io::Error),
    #[error("the agent did not answer in time\nhint: its log may say why")]
    Silent,
    #[error("the agent did not answer: {0}\nhint: its log may say why; `lull-agent status` says whether it runs")]
    Broken(io::Error),
    #[error(
        "the agent's answer is not understood ({0})\nhint: look whether it is of another version; starting it anew makes both alike"
    )]
    Garbage(serde_json::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Forbidden(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_and_pausing_is_the_desks_and_everything_that_lasts_is_not() {
        let requests = [Request::Status, Request::Policy, Request::Pause { for_ms: None }, Request::Resume, Request::Accompany];
        assert!(requests.iter().all(|request| request.right() == Right::Desk));
        let requests = [Request::Narrow(Box::default()), Request::Leave, Request::Dismiss { reason: Farewell::Upgrade }];
        assert!(requests.iter().all(|request| request.right() == Right::Administrator));
    }
}
