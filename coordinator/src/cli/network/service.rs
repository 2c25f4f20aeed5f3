//! `lull server service`: the coordinator as a service of Windows. Elsewhere it says what does the same.

use std::path::PathBuf;

use clap::{Args, Parser as _, Subcommand};
use lull_agent::{cli::value, service::ServiceError};

use super::server::Run;
use crate::{
    cli::network::server::Server,
    cli::{
        Cli, Command, Context,
        exit::{Exit, Failure, Outcome},
        shown::output::Deed,
    },
    service::{self, Setup},
};

/// What a service logs if LULL_LOG says nothing else.
const LOG: &str = "info,libp2p_swarm=warn";

/// What can be done with the service.
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Install the service, or mend one that is there
    #[command(after_help = "EXAMPLES:\n  lull server service install --start\n  \
        lull --data D:\\lull server service install -- --listen /ip4/0.0.0.0/tcp/7410 --http 0.0.0.0:7411")]
    Install(Install),
    /// Stop the service and remove it; its data stays
    #[command(after_help = "EXAMPLES:\n  lull server service uninstall")]
    Uninstall,
    /// Show how the service is
    #[command(after_help = "EXAMPLES:\n  lull server service status")]
    Status,
    /// What the service manager starts
    #[command(after_help = "EXAMPLES:\n  lull --data D:\\lull server service run")]
    Run(Box<Run>),
}

/// `lull server service install`
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Start it as well
    #[arg(long)]
    start: bool,
    /// Options of `lull server run` that the service runs with. A connection string is left in `coordinator.env` in the data
    /// folder instead, as LULL_STORE=...: everybody on the machine can read how a service is started
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl Install {
    /// What the service runs, read as it will be.
    fn run(&self) -> Result<Box<Run>, Failure> {
        let words = ["lull", "server", "run"].into_iter().chain(self.options.iter().map(String::as_str));
        match Cli::try_parse_from(words).map(|cli| cli.command) {
            Ok(Command::Server(Server::Run(run))) => Ok(run),
            Ok(_) => Err(Failure::usage("the options after `--` are those of `lull server run`")),
            Err(error) => {
                let words = error.to_string();
                let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
                Err(Failure::usage(first).hint("`lull server run --help` lists the options that may stand after `--`"))
            }
        }
    }
}

impl Service {
    pub(crate) async fn carry_out(&self, context: &Context) -> Outcome {
        let data = match context.server.data.clone().or_else(service::data_folder) {
            Some(data) => data,
            None => context.server.data_folder()?,
        };
        let data: PathBuf = std::path::absolute(&data).map_err(|error| Failure::usage(error.to_string()))?;
        let name = service::COORDINATOR.name;
        let (done, verb) = match self {
            Self::Install(install) => {
                let listen = install.run()?.config(&data).listen;
                let setup = Setup { data, options: install.options.clone(), listen, start: install.start };
                (service::install(&setup)?, "installed")
            }
            Self::Uninstall => (service::uninstall()?, "uninstalled"),
            Self::Status => {
                let standing = service::status(data)?;
                context.out.one(&standing, &standing.state, |_| standing.table())?;
                return Ok(Exit::Succeeded);
            }
            Self::Run(run) => {
                let wanted = std::env::var("LULL_LOG").ok().filter(|wanted| !wanted.is_empty());
                let filter = value::log_filter(wanted.as_deref().unwrap_or(LOG)).map_err(Failure::usage)?;
                let mut config = run.config(&data);
                if let Some(store) = service::store(&data).map_err(Failure::usage)? {
                    config.store = store;
                }
                // The service manager keeps this thread until the service has stopped.
                tokio::task::spawn_blocking(move || service::run(data, config, filter))
                    .await
                    .map_err(|error| Failure::new(Exit::Failed, error.to_string()))??;
                return Ok(Exit::Succeeded);
            }
        };
        for refused in &done.refused {
            context.out.note(format!("warning: the system refused a setting: {refused}"));
        }
        context.out.done(&Deed::new(verb, name), &done.words)?;
        Ok(Exit::Succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_installed_only_with_options_that_a_coordinator_takes() {
        let run = |options: &[&str]| {
            let options = options.iter().map(ToString::to_string).collect();
            Install { start: false, options }.run().map(|run| run.config("/data".as_ref()).listen.len())
        };
        assert_eq!(run(&["--listen", "/ip4/0.0.0.0/tcp/7410"]).ok(), Some(1));
        assert_eq!(run(&[]).ok(), Some(2));
        assert!(run(&["--no-such"]).is_err_and(|failure| failure.to_string().contains("--no-such")));
    }
}
