//! `lull-agent service`: the agent as a service of Windows. Elsewhere it says what does the same.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, JOIN_TOKEN_VARIABLE, Output, secret};
use crate::{
    config::Config,
    pending::{self, Pending},
    service::{self, Orders, Removal, ServiceError, Setup},
};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Installs the service with all that belongs to it, or mends one that is there
    #[command(after_help = "EXAMPLES:\n  lull-agent service install\n  \
        lull-agent service install --token-file token.txt --coordinator lull.example.org:7410")]
    Install(Install),
    /// Stops the service and removes it; its data stays unless it is to go too
    #[command(after_help = "EXAMPLES:\n  lull-agent service uninstall\n  lull-agent service uninstall --remove-data")]
    Uninstall {
        /// Removes identity, results and settings as well
        #[arg(long)]
        remove_data: bool,
    },
    /// Shows the state of the service
    #[command(after_help = "EXAMPLES:\n  lull-agent service status -o json")]
    Status,
    /// Runs the service; the service manager starts this
    #[command(after_help = "EXAMPLES:\n  lull-agent service run")]
    Run,
    /// Starts a tray in each session that has somebody, as an installer does after it has replaced them
    #[command(after_help = "EXAMPLES:\n  lull-agent service start-trays")]
    StartTrays,
}

#[derive(Debug, Args)]
pub(super) struct Install {
    /// What `lull token create` printed: the agent joins with it at its first start; LULL_JOIN_TOKEN may hold it instead
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// A file with the token; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Where the coordinator is, before the token's own addresses; may be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = place)]
    coordinator: Vec<String>,
    /// Where the agent listens if it has no settings yet
    #[arg(long, value_name = "PORT", default_value_t = service::PORT)]
    port: u16,
    /// Makes no rule of the firewall
    #[arg(long)]
    no_firewall: bool,
}

/// A coordinator's address, or nothing, as an installer that was given none passes it on.
fn place(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    pending::address(text, None).map(|_| text.to_owned())
}

impl Install {
    /// An installer passes on what it was given: an empty word is none.
    fn setup(self, data: PathBuf, config: Config) -> Result<Setup, CliError> {
        let some = |text: &String| !text.trim().is_empty();
        let file = self.token_file.filter(some).map(PathBuf::from);
        let token = secret::given(self.token.filter(some), file, JOIN_TOKEN_VARIABLE)?;
        let coordinators: Vec<String> = self.coordinator.into_iter().filter(some).collect();
        let pending = token.map(|token| Pending { token, coordinators });
        if let Some(pending) = &pending {
            pending::token_of(pending).map_err(|error| CliError::Usage(error.to_string()))?;
        }
        let has_settings = data.join("agent.toml").is_file();
        let config = has_settings.then_some(config);
        Ok(Setup { data, config, pending, port: self.port, firewall: !self.no_firewall })
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn carry_out(action: Action, data: PathBuf, config: Config, log: String, out: Output<'_>) -> Result<(), CliError> {
    let done = match action {
        Action::Install(install) => service::install(&install.setup(data, config)?)?,
        Action::Uninstall { remove_data } => service::uninstall(&Removal { data, remove_data })?,
        Action::Status => {
            let standing = service::status(data)?;
            return out.one(&standing, &standing.state, || standing.table());
        }
        Action::Run => return Ok(service::run(Orders { data, config, log })?),
        Action::StartTrays => service::start_trays()?,
    };
    for refused in &done.refused {
        eprintln!("warning: the system refused a setting: {refused}");
    }
    out.done(&done, service::NAME, &done.words)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn setup(arguments: &[&str]) -> Result<Setup, CliError> {
        let cli = Cli::parse_from(["lull-agent", "service", "install"].iter().chain(arguments));
        let Command::Service { action: Action::Install(install) } = cli.command else { panic!("it was told to install") };
        install.setup("/nowhere".into(), Config::default())
    }

    #[test]
    fn an_installer_passes_on_what_it_was_given_and_nothing_is_nothing() {
        let empty = setup(&["--token", "", "--token-file", "", "--coordinator", ""]).expect("usable");
        assert_eq!((empty.pending, empty.config, empty.port, empty.firewall), (None, None, service::PORT, true));
    }

    #[test]
    fn a_token_that_is_none_is_refused_before_anything_is_installed() {
        let refused = setup(&["--token", "lull1-damaged"]).expect_err("no token");
        assert!(refused.exit_code() == 2 && !refused.told().contains("lull1-damaged"), "{}", refused.told());
    }
}
