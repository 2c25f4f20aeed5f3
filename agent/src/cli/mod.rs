//! The command line, `lull-agent`: what is typed, what is printed, and the exit code.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed |
//! | 2 | the command line or the configuration is wrong |
//! | 3 | this machine has not joined a network |
//! | 4 | the network refused this machine |
//! | 5 | no coordinator, or no running agent, could be reached |

mod control;
pub(crate) mod join;
pub mod mistake;
pub mod output;
mod policy;
mod run;
pub mod secret;
mod service;
#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;
mod tray;
mod upgrade;
pub mod value;

pub use self::sys::{Signals, reader_gone};

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use lull_engine::executor;
use lull_shared::{bound, hint, name::check_name, shown::without_number};

use self::{
    control::Place,
    output::{Format, Output},
};
use crate::{
    config::{Config, ConfigError, parse_label},
    ipc::IpcError,
    membership::MembershipError,
    pending::PendingError,
    run_loop::ServeError,
};

/// Runs functions of your network's batch jobs on this machine while nobody uses it.
#[derive(Debug, Parser)]
#[command(name = "lull-agent", version, max_term_width = 100)]
#[command(after_help = "EXAMPLES:\n  \
    lull-agent join --token-file token.txt      makes this machine a member of a network\n  \
    lull-agent run                              offers what is free, until it is stopped\n  \
    lull-agent pause 2h                         leaves the machine to its owner")]
struct Cli {
    /// The folder with the agent's identity, results and cache
    #[arg(long, value_name = "DIR", env = "LULL_AGENT_DATA", global = true)]
    data: Option<PathBuf>,

    /// The configuration file [default: agent.toml in the data folder, if there is one]
    #[arg(long, value_name = "FILE", env = "LULL_AGENT_CONFIG", global = true)]
    config: Option<PathBuf>,

    /// What is logged: error, warn, info, debug or trace, also by module
    #[arg(long, value_name = "FILTER", env = "LULL_LOG", global = true, value_parser = value::log_text)]
    log: Option<String>,

    /// The format of the data on standard output
    #[arg(short, long, value_enum, default_value_t, global = true, value_name = "FORMAT")]
    output: Format,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this machine a member of a network
    #[command(after_help = "EXAMPLES:\n  lull-agent join lull1-... --name desk-17 --label site=berlin\n  \
        lull-agent join --token-file /run/secrets/lull\n  lull token create | ssh desk-17 lull-agent join -\n\n\
        A token on the command line shows in the list of processes while the command runs: a file, standard input (-) and the \
        environment variable LULL_JOIN_TOKEN do not.")]
    Join {
        /// What `lull token create` printed; `-` reads it from standard input, and LULL_JOIN_TOKEN may hold it instead
        token: Option<String>,
        /// A file with the token; `-` is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "token")]
        token_file: Option<PathBuf>,
        /// What people call this machine [default: `name` of the configuration, or the host name]
        #[arg(long, value_parser = agent_name)]
        name: Option<String>,
        /// A fact that jobs may ask for
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
        labels: Vec<(String, String)>,
    },
    /// Offers what is free and runs what comes, until it is stopped
    #[command(after_help = "EXAMPLES:\n  lull-agent run --slots 2 --memory-max 2GiB")]
    Run(run::RunArgs),
    /// Shows what the running agent does, or the service of this machine if no other agent runs
    #[command(after_help = "EXAMPLES:\n  lull-agent status -o json")]
    Status,
    /// Leaves this machine to its owner, for a while or until `resume`; holds at once, and after a restart too
    #[command(after_help = "EXAMPLES:\n  lull-agent pause 2h\n  lull-agent pause")]
    Pause {
        /// How long, such as 30m or 2h
        #[arg(value_parser = bound::PAUSE.times())]
        duration: Option<std::time::Duration>,
    },
    /// Ends a pause
    #[command(after_help = "EXAMPLES:\n  lull-agent resume")]
    Resume,
    /// Shows what may run here and when, or narrows it
    #[command(after_help = "EXAMPLES:\n  lull-agent policy\n  lull-agent policy set idle=30m on_battery=false\n  \
        lull-agent policy set 'hours=20:00-06:00'\n  lull-agent policy reset idle")]
    Policy(policy::PolicyArgs),
    /// Installs, removes and shows the Windows service; on other systems says what does the same
    #[command(after_help = "EXAMPLES:\n  lull-agent service install\n  lull-agent service status")]
    Service {
        #[command(subcommand)]
        action: service::Action,
    },
    /// Says which network may upgrade this machine, and installs what it offers
    #[command(after_help = "EXAMPLES:\n  lull-agent upgrade status\n  sudo lull-agent upgrade trust --token-file token.txt")]
    Upgrade {
        #[command(subcommand)]
        action: upgrade::Action,
    },
    /// Ends the tray icons of this machine
    #[command(after_help = "EXAMPLES:\n  lull-agent tray end")]
    Tray {
        #[command(subcommand)]
        action: tray::Action,
    },
    /// Stops the running agent, and forgets its identity, its network and everything kept for it
    #[command(after_help = "EXAMPLES:\n  lull-agent leave")]
    Leave,
}

/// Holds the token of `lull-agent join`, for scripts.
pub const JOIN_TOKEN_VARIABLE: &str = "LULL_JOIN_TOKEN";

/// A command that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Not joined yet, and it will.
    #[error("{0}")]
    TokenWaits(String),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Pending(#[from] PendingError),
    #[error(transparent)]
    Ipc(#[from] IpcError),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Secret(_) => 2,
            Self::TokenWaits(_)
            | Self::Membership(MembershipError::NotJoined)
            | Self::Serve(ServeError::Membership(MembershipError::NotJoined)) => 3,
            Self::Denied(_) | Self::Pending(PendingError::Void(_)) | Self::Ipc(IpcError::Denied(_) | IpcError::Forbidden(_)) => 4,
            Self::Unreachable(_) | Self::Ipc(IpcError::NotRunning(_) | IpcError::Silent) => 5,
            Self::Membership(_) | Self::Serve(_) | Self::Pending(_) | Self::Ipc(_) | Self::Failed(_) => 1,
        }
    }
}

impl CliError {
    /// The words for people. Whatever went wrong, they end with what to do.
    fn told(&self) -> String {
        let words = output::printable_lines(&without_number(&format!("error: {self}")));
        if hint::split(&words).1.is_some() {
            return words;
        }
        let last = match self.exit_code() {
            2 => "`lull-agent --help` lists the commands, and `lull-agent COMMAND --help` what each takes",
            3 => "`lull-agent join --token-file FILE` joins a network; `lull token create` prints a token",
            4 => "ask an administrator of the network",
            5 => "`lull-agent run` starts the agent; an installed one is started by its service manager",
            _ => "try it again with --log debug, which says more",
        };
        hint::with(&words, last)
    }
}

/// The program: an executor if that is what this process was started as, else the command line.
pub fn main() -> ExitCode {
    executor::entry().unwrap_or_else(|| main_with(std::env::args_os()))
}

/// The command line with these arguments, the first of which is the program's name.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (cli, matches) = match mistake::parse::<Cli>(&arguments) {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() => {
            let _ = writeln!(std::io::stderr(), "{}", mistake::told(&error, &mut Cli::command(), &arguments));
            return ExitCode::from(2);
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let options = mistake::typed_options(&matches, &["data", "config"]);
    let out = Output { format: cli.output, options: &options };
    match start(cli, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A terminal that is gone takes no words.
            let _ = writeln!(std::io::stderr(), "{}", out.told(&error.told()));
            ExitCode::from(error.exit_code())
        }
    }
}

fn agent_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|why| why.told(text, "an agent's name"))
}

/// The command line as it can be typed.
pub fn command() -> clap::Command {
    mistake::with_negative_numbers(Cli::command())
}

/// What is wrong with these arguments, the first of which is the program's name, if something is.
pub fn check(arguments: impl IntoIterator<Item = OsString>) -> Result<(), clap::Error> {
    mistake::parse::<Cli>(&arguments.into_iter().collect::<Vec<_>>()).map(drop)
}

fn start(cli: Cli, out: Output<'_>) -> Result<(), CliError> {
    if matches!(cli.command, Command::Run(_)) && cli.output != Format::Table {
        let words = "`lull-agent run` has nothing to print: it works until it is stopped, and logs to standard error\nhint: \
                     `lull-agent status -o json` says what it does";
        return Err(CliError::Usage(words.into()));
    }
    let named_by_somebody = cli.data.is_some();
    let data = match cli.data {
        Some(data) => std::path::absolute(data).map_err(|error| CliError::Usage(error.to_string()))?,
        None => match &cli.command {
            Command::Service { .. } => crate::service::data_folder().map_or_else(default_data, Ok)?,
            _ => default_data()?,
        },
    };
    let mut config = match &cli.config {
        Some(path) => Config::load(path, true)?,
        None => Config::load(&data.join("agent.toml"), false)?,
    };
    if let Command::Run(args) = &cli.command {
        args.apply(&mut config)?;
    }
    let filter = cli.log.as_deref().unwrap_or(match cli.command {
        Command::Run(_) => &config.log,
        _ => "warn",
    });
    if let Command::Service { action } = cli.command {
        let log = own_log(cli.log.unwrap_or_else(|| config.log.clone()));
        return service::carry_out(action, data, config, log, out);
    }
    log(filter)?;
    if let Command::Upgrade { action } = cli.command {
        return upgrade::carry_out(action, out);
    }
    // One thread: everything that works hard has a process or a thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("the agent cannot start: {error}")))?;
    let place = Place { data: &data, named: named_by_somebody };
    let result = runtime.block_on(carry_out(cli.command, place, config, out));
    // What still blocks on a disk must not keep the process.
    runtime.shutdown_background();
    result
}

async fn carry_out(command: Command, place: Place<'_>, config: Config, out: Output<'_>) -> Result<(), CliError> {
    let data = place.data;
    match command {
        Command::Join { token, token_file, name, labels } => {
            let token = secret::given(token, token_file, JOIN_TOKEN_VARIABLE)?.ok_or_else(|| {
                let words = "a token is needed\nhint: `lull token create` prints one; give it as argument, with --token-file FILE, \
                             on standard input with -, or in LULL_JOIN_TOKEN";
                CliError::Usage(words.into())
            })?;
            join::join(data, &config, &token, name, labels, out).await
        }
        Command::Run(args) => run::run(data, &config, args).await,
        Command::Status => control::status(place, out).await,
        Command::Pause { duration } => control::pause(place, duration, out).await,
        Command::Resume => control::resume(place, out).await,
        Command::Policy(args) => policy::policy(place, args, out).await,
        Command::Tray { action } => tray::carry_out(action, place, out).await,
        Command::Leave => control::leave(data, &config, out).await,
        // They have no need of a runtime, and were carried out before there was one.
        Command::Service { .. } | Command::Upgrade { .. } => Ok(()),
    }
}

fn default_data() -> Result<PathBuf, CliError> {
    let none = || CliError::Usage("this user has no home folder\nhint: say where to keep data with --data".into());
    lull_desk::data_folder().ok_or_else(none)
}

/// A bare level is about this program; libraries only get a word in when something is odd.
fn own_log(filter: String) -> String {
    let level = filter.parse::<tracing::Level>();
    level.map_or(filter, |level| format!("warn,lull_agent={level},lull_engine={level},lull_mesh={level}"))
}

fn log(filter: &str) -> Result<(), CliError> {
    let filter = value::log_filter(&own_log(filter.to_owned())).map_err(CliError::Usage)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Somebody who embeds the agent may log already.
    let _ = log.try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_shows_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("lull-agent {}", command.get_name())), "{}: {example}", command.get_name());
        }
    }

    #[test]
    fn no_option_of_a_command_hides_a_global_one() {
        // Two arguments of one id are one argument with two types, which breaks only once it is used.
        for command in command().get_subcommands() {
            for global in ["data", "config", "log", "output"] {
                let own = command.get_arguments().any(|argument| argument.get_id() == global && !argument.is_global_set());
                assert!(!own, "{} {global}", command.get_name());
            }
        }
    }

    #[test]
    fn exit_codes_tell_the_reasons_apart() {
        let code = |error: CliError| error.exit_code();
        assert_eq!(code(CliError::Usage(String::new())), 2);
        assert_eq!(code(MembershipError::NotJoined.into()), 3);
        assert_eq!(code(ServeError::from(MembershipError::NotJoined).into()), 3);
        assert_eq!(code(CliError::Denied(String::new())), 4);
        assert_eq!(code(IpcError::NotRunning(String::new()).into()), 5);
        assert_eq!(code(ServeError::Running(PathBuf::new()).into()), 1);
    }
}
