//! `lull-agent tray`: words about the icons in the sessions of this machine.

use clap::Subcommand;
use lull_desk::{Farewell, IpcError, Request};
use serde_json::json;

use super::{
    CliError, Output,
    control::{Place, ask},
};
use crate::membership::MembershipError;

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum Action {
    /// Ends all tray icons of this machine and waits until they have ended; installers do so before they replace files
    #[command(after_help = "EXAMPLES:\n  lull-agent tray end --because uninstall\n\n\
        No icon comes for two minutes, or until the agent starts again.")]
    End {
        /// What the icons are told
        #[arg(long, value_enum, default_value_t, value_name = "WORD")]
        because: Because,
    },
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum Because {
    #[default]
    Upgrade,
    Uninstall,
}

pub(super) async fn carry_out(action: Action, place: Place<'_>, out: Output<'_>) -> Result<(), CliError> {
    let Action::End { because } = action;
    let reason = match because {
        Because::Upgrade => Farewell::Upgrade,
        Because::Uninstall => Farewell::Uninstall,
    };
    match ask(place, &Request::Dismiss { reason }).await {
        Ok(_) => out.done(&json!({ "ended": true, "asked": true }), "ended", "no tray icon of this agent is left"),
        // An installer goes on all the same: icons hear of their agent only, and theirs is not there.
        Err(CliError::Ipc(IpcError::NotRunning(_)) | CliError::Membership(MembershipError::NotJoined)) => {
            let words = "no agent runs here, and so no tray icon was asked to end";
            out.done(&json!({ "ended": false, "asked": false }), "not running", words)
        }
        Err(error) => Err(error),
    }
}
