//! `lull-agent upgrade`: whom this machine trusts with upgrades, and what installs them.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use lull_shared::identity::JoinToken;
use serde_json::json;

use super::{CliError, JOIN_TOKEN_VARIABLE, Output, secret};
use crate::upgrade::{
    apply::{self, ApplyError, Places},
    home::Home,
    sys, version,
};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Shows which network may upgrade this machine, and what came of the last upgrade
    #[command(after_help = "EXAMPLES:\n  lull-agent upgrade status -o json")]
    Status(Where),
    /// Lets the network of a join token upgrade this machine from now on; for administrators
    #[command(after_help = "EXAMPLES:\n  sudo lull-agent upgrade trust --token-file token.txt\n  \
        sudo lull-agent upgrade trust - < token.txt\n\n\
        Only the network's name and key are kept of the token, so that one that is used up will do.")]
    Trust(Trust),
    /// Lets no network upgrade this machine any more; for administrators
    #[command(after_help = "EXAMPLES:\n  sudo lull-agent upgrade distrust")]
    Distrust(Where),
    /// Checks what the agent has handed over, and installs it; the system starts this
    #[command(after_help = "EXAMPLES:\n  sudo lull-agent upgrade apply")]
    Apply(Apply),
}

/// What is the same everywhere but in a trial.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The folder with what is kept about upgrades
    #[arg(long, value_name = "DIR", hide = true)]
    home: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Trust {
    /// What `lull token create` printed; `-` reads it from standard input, and LULL_JOIN_TOKEN may hold it instead
    token: Option<String>,
    /// A file with the token; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The folder in which the agent hands packages over
    #[arg(long, value_name = "DIR", hide = true)]
    handed: Option<PathBuf>,
    /// What installs a package in the system's installer's place
    #[arg(long, value_name = "PROGRAM", hide = true)]
    installer: Option<PathBuf>,
    #[command(flatten)]
    at: Where,
}

impl Where {
    fn home(self) -> Home {
        self.home.map_or_else(Home::of_this_machine, |folder| Home::at(&folder))
    }
}

impl From<ApplyError> for CliError {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn carry_out(action: Action, out: Output<'_>) -> Result<(), CliError> {
    match action {
        Action::Status(at) => status(&at.home(), out),
        Action::Trust(trust) => {
            let token = secret::given(trust.token, trust.token_file, JOIN_TOKEN_VARIABLE)?.ok_or_else(|| {
                let words = "a token is needed\nhint: `lull token create` prints one; give it with --token-file FILE, on standard \
                             input with -, or in LULL_JOIN_TOKEN";
                CliError::Usage(words.into())
            })?;
            let wrong = |error: lull_shared::identity::ParseTokenError| CliError::Usage(error.to_string());
            let token: JoinToken = token.parse().map_err(wrong)?;
            let home = trust.at.home();
            let written = sys::own_folder(home.folder()).and_then(|()| home.write_trust(&token.authority, token.network));
            written.map_err(|error| denied(&home, &error))?;
            let words = format!("the network {} may upgrade this machine", token.network);
            out.done(&json!({ "trusted": token.network.to_string() }), &token.network.to_string(), &words)
        }
        Action::Distrust(at) => {
            let home = at.home();
            home.distrust().map_err(|error| denied(&home, &error))?;
            out.done(&json!({ "trusted": null }), "none", "no network may upgrade this machine")
        }
        Action::Apply(wanted) => {
            let usual = Places::default();
            let places = Places {
                handed: wanted.handed.unwrap_or(usual.handed),
                // Not what an environment says: it is not an administrator's alone.
                home: wanted.at.home.unwrap_or(usual.home),
                installer: wanted.installer,
            };
            let applied = apply::apply(&places)?;
            let done = json!({ "installed": applied.version, "release": applied.count });
            out.done(&done, &applied.version, &format!("version {} is installed", applied.version))
        }
    }
}

fn denied(home: &Home, error: &std::io::Error) -> CliError {
    CliError::Failed(format!("cannot write {}: {error}\nhint: an administrator may: use `sudo`", home.folder().display()))
}

fn status(home: &Home, out: Output<'_>) -> Result<(), CliError> {
    let trust = home.trust().map_err(|error| CliError::Failed(format!("cannot read what is kept about upgrades: {error}")))?;
    let (trusted, outcome) = (trust.and_then(|trust| trust.network()).map(|(_, network)| network.to_string()), home.outcome());
    let shown = json!({ "version": version(), "trusted": trusted, "last": outcome });
    out.one(&shown, version(), || {
        let mut table = String::new();
        let mut row = |key: &str, value: String| writeln!(table, "{key:<12} {value}").expect("a string takes everything");
        row("version", version().to_owned());
        let nobody = || format!("none; {}", sys::TRUST_HINT);
        row("trusts", trusted.as_ref().map_or_else(nobody, |network| format!("the network {network} with upgrades")));
        if let Some(last) = &outcome {
            let result = last.failed.as_ref().map_or_else(|| "installed".to_owned(), |why| format!("not installed: {why}"));
            row("last", format!("{} (release {}): {result}", last.version, last.count));
        }
        table
    })
}
