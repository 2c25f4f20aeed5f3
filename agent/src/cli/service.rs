//! `lull-agent service`: the agent as a service of Windows. Elsewhere it says what does the same.

use std::path::PathBuf;

use clap::Subcommand;

use super::{CliError, Output};
use crate::{
    config::Config,
    service::{self, Orders, ServiceError},
};

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum Action {
    /// Installs the service, or mends one that is there
    #[command(after_help = "EXAMPLES:\n  lull-agent service install")]
    Install,
    /// Stops the service and removes it; its data stays
    #[command(after_help = "EXAMPLES:\n  lull-agent service uninstall")]
    Uninstall,
    /// Shows how the service is
    #[command(after_help = "EXAMPLES:\n  lull-agent service status -o json")]
    Status,
    /// What the service manager starts
    #[command(after_help = "EXAMPLES:\n  lull-agent service run")]
    Run,
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn carry_out(action: Action, data: PathBuf, config: Config, log: String, out: Output) -> Result<(), CliError> {
    let done = match action {
        Action::Install => service::install(&Orders { data, config, log })?,
        Action::Uninstall => service::uninstall()?,
        Action::Status => {
            let standing = service::status(data)?;
            return out.one(&standing, &standing.state, || standing.table());
        }
        Action::Run => return Ok(service::run(Orders { data, config, log })?),
    };
    for refused in &done.refused {
        eprintln!("warning: the system refused a setting: {refused}");
    }
    out.done(&done, service::NAME, &done.words)
}
