//! The command line `lull`: one file for each noun, and what they share.
//!
//! Every command talks to a coordinator over the HTTP interface; it has no other door. Data goes to standard output,
//! all else to standard error; the exit code says how it ended (see [`exit::Exit`]).

#[cfg(test)]
mod examples;
mod exit;
mod functions;
mod jobs;
#[cfg(test)]
mod mistakes;
mod network;
mod reach;
mod shown;
mod typed;

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use lull_agent::cli::{mistake, value};
use lull_shared::shown::without_number;
use tokio_util::sync::CancellationToken;

pub(crate) use self::jobs::names;
pub use self::typed::{amount, input, moment, selector};
use self::{
    exit::{Exit, Failure, Outcome},
    functions::func,
    jobs::{explain, job, run, submit, task},
    network::{agent, audit, db, net, policy, portal, server, status, token},
    reach::{
        awake,
        connect::{ServerArgs, takes},
        login,
        private::{self, Fate},
        profile,
    },
    shown::{
        output::{self, Colour, Format, Output},
        screen::Screen,
    },
};

/// Between two looks of `--watch` at something that has no events of its own.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Runs batch functions on the machines you already own, while nobody uses them.
#[derive(Debug, Parser)]
#[command(name = "lull", version, max_term_width = 120, propagate_version = true)]
#[command(after_help = "EXAMPLES:\n  \
    lull run stats.wasm report-*.txt -- --top 10     runs a job on this machine, needs nothing else\n  \
    lull server run                                  starts a coordinator for a network of machines\n  \
    lull submit stats report-*.txt --wait            runs a published function there\n\n\
EXIT CODES:\n  \
    0 all succeeded, 1 some task failed, 2 usage, 3 not found, 4 denied, 5 coordinator unreachable,\n  \
    6 wait timed out, 7 cancelled, 130 interrupted")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    #[command(flatten)]
    server: ServerArgs,
    /// The format of the data on standard output
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Global options")]
    output: Format,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    color: Colour,
    /// Print no progress and no remarks on standard error
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a function over inputs: on a mesh of its own on this machine, or on the network if one is known
    Run(Box<run::Run>),
    /// Submit a job (short for `job submit`)
    Submit(Box<submit::Submit>),
    /// Show the network in one look
    Status(status::Status),
    /// Wait until a job has ended, and exit as it ended (short for `job wait`)
    Wait(job::Wait),
    /// Say why a job does not move, or why a task is where it is
    Explain(explain::Explain),
    /// Jobs: submit, list, show, wait, cancel, retry, results, logs
    #[command(subcommand, after_help = "EXAMPLES:\n  lull job list --state active\n  lull job show last --watch")]
    Job(job::Job),
    /// Tasks: list, show, logs, explain
    #[command(subcommand, after_help = "EXAMPLES:\n  lull task list j42 --state failed\n  lull task logs -f j42.7")]
    Task(task::Task),
    /// Functions: new, build, run, watch, publish, publication, list, show, diff, promote, rollback, remove
    #[command(subcommand, after_help = "EXAMPLES:\n  lull func publish stats.wasm\n  lull func show stats")]
    Func(func::Func),
    /// Agents: list, show, cordon, uncordon, drain, trust, revoke, restore, upgrade, remove
    #[command(subcommand, after_help = "EXAMPLES:\n  lull agent list\n  lull agent drain desk-17")]
    Agent(agent::Agent),
    /// What is allowed on machines: show, set, test
    #[command(subcommand, after_help = "EXAMPLES:\n  lull policy show\n  lull policy set idle=15m")]
    Policy(policy::Policy),
    /// Tokens: create, list, revoke
    #[command(subcommand, after_help = "EXAMPLES:\n  lull token create --uses 500 --expires 30d\n  lull token revoke ann")]
    Token(token::Token),
    /// The mesh and what moves on it: agents, blobs, peers, doctor
    Net(net::Net),
    /// Show who did what
    Audit(audit::Audit),
    /// Print the address of the portal, and open it on a desktop
    Portal(portal::Portal),
    /// Profiles: create, import, list, use, show, remove
    #[command(
        subcommand,
        after_help = "EXAMPLES:\n  lull profile create --role publisher --out report.lullprofile\n  lull profile import report.lullprofile"
    )]
    Profile(profile::Profile),
    /// Remember a coordinator and a token for this account: a profile called by its host
    Login(login::Login),
    /// Forget the profile in use
    #[command(after_help = "EXAMPLES:\n  lull logout")]
    Logout,
    /// Run a coordinator
    #[command(subcommand, after_help = "EXAMPLES:\n  lull server run\n  lull server status")]
    Server(server::Server),
    /// Prepare and check a coordinator's database
    #[command(subcommand, after_help = "EXAMPLES:\n  lull db check --data /var/lib/lull\n  lull db migrate --data /var/lib/lull")]
    Db(db::Db),
}

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    pub server: ServerArgs,
    pub out: Output,
    interrupt: CancellationToken,
}

impl Context {
    /// Returns when the command is to end: by Ctrl-C, by a service manager, or because its terminal is gone.
    pub async fn interrupted(&self) {
        self.interrupt.cancelled().await;
    }

    /// Prints what `text` makes; again whenever it changes, if it is to be watched.
    pub async fn show(&self, watch: bool, text: impl AsyncFn() -> Result<String, Failure>) -> Outcome {
        if !watch {
            self.out.print(&text().await?)?;
            return Ok(Exit::Succeeded);
        }
        self.out.check_repeatable()?;
        let mut screen = self.screen();
        let watching = async {
            loop {
                screen.show(&text().await?)?;
                tokio::time::sleep(WATCH_EVERY).await;
            }
        };
        tokio::select! {
            ended = watching => ended,
            () = self.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")
                .hint("what was watched goes on; the same command shows it again")),
        }
    }

    /// Where something is drawn again and again.
    pub fn screen(&self) -> Screen {
        Screen::new(self.out.clone())
    }
}

/// Carries out a command line.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (mut cli, matches) = match mistake::parse::<Cli>(&arguments) {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() => {
            let _ = writeln!(std::io::stderr(), "{}", mistake::told(&error, &mut Cli::command(), &arguments));
            return Exit::Usage.into();
        }
        Err(help) => {
            let _ = help.print();
            return Exit::Succeeded.into();
        }
    };
    let settled = cli.global.server.settle(&matches);
    let typed = cli.global.server.typed.clone();
    if let Err(failure) = settled {
        return report(&failure, &typed);
    }
    if let Err(wrong) = log(&cli.command) {
        return report(&Failure::usage(format!("LULL_LOG: {wrong}")), &typed);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::new(Exit::Failed, format!("cannot start: {error}")), &typed),
    };
    let outcome = runtime.block_on(cli.run());
    // A read of standard input that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => report(&failure, &typed),
    }
}

/// What is wrong with these arguments, the first of which is the program's name, if something is.
pub fn check(arguments: impl IntoIterator<Item = OsString>) -> Result<(), clap::Error> {
    mistake::parse::<Cli>(&arguments.into_iter().collect::<Vec<_>>()).map(drop)
}

impl Cli {
    async fn run(self) -> Outcome {
        let interrupt = CancellationToken::new();
        tokio::spawn(watch_for_interrupts(interrupt.clone()));
        let out = Output::new(self.global.output, self.global.color, self.global.quiet, &self.global.server.typed);
        let context = Context { server: self.global.server, out, interrupt };
        let woken = awake::wake(&context, &self.command).await?;
        let outcome = tokio::select! {
            outcome = self.command.carry_out(&context) => outcome,
            // As when it is noticed by writing.
            () = lull_agent::cli::reader_gone(), if self.command.only_shows() => Ok(Exit::Succeeded),
        };
        if let Some(mesh) = woken {
            mesh.stop(Fate::Kept).await;
        }
        outcome
    }
}

impl Command {
    /// Whether there is nothing left to do for it once nobody reads what it prints.
    fn only_shows(&self) -> bool {
        match self {
            Self::Status(_) | Self::Explain(_) | Self::Task(_) | Self::Net(_) | Self::Audit(_) | Self::Portal(_) => true,
            Self::Job(job) => job.only_shows(),
            Self::Agent(agent) => agent.only_shows(),
            Self::Run(_)
            | Self::Submit(_)
            | Self::Wait(_)
            | Self::Func(_)
            | Self::Policy(_)
            | Self::Token(_)
            | Self::Profile(_)
            | Self::Login(_)
            | Self::Logout
            | Self::Server(_)
            | Self::Db(_) => false,
        }
    }

    async fn carry_out(&self, context: &Context) -> Outcome {
        match self {
            // These tidy up or say how to come back.
            Self::Run(run) => run.run(context).await,
            Self::Submit(submit) => submit.run(context).await,
            Self::Wait(wait) => wait.run(context).await,
            Self::Job(job) => job.run(context).await,
            Self::Func(func) => func.run(context).await,
            Self::Server(server) => server.run(context).await,
            command => tokio::select! {
                // One that knows better what to do then says it.
                biased;
                outcome = command.run(context) => outcome,
                () = context.interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
            },
        }
    }

    /// Commands that can be broken off anywhere.
    async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Run(_) | Self::Submit(_) | Self::Wait(_) | Self::Job(_) | Self::Func(_) | Self::Server(_) => {
                unreachable!("these were taken before")
            }
            Self::Status(status) => status.run(context).await,
            Self::Explain(explain) => explain.run(context).await,
            Self::Task(task) => task.run(context).await,
            Self::Agent(agent) => agent.run(context).await,
            Self::Policy(policy) => policy.run(context).await,
            Self::Token(token) => token.run(context).await,
            Self::Net(net) => net.run(context).await,
            Self::Audit(audit) => audit.run(context).await,
            Self::Portal(portal) => portal.run(context),
            Self::Profile(profile) => profile.run(context).await,
            Self::Login(login) => login.run(context).await,
            Self::Logout => login::logout(context),
            Self::Db(db) => db.run(context).await,
        }
    }
}

/// The first signal to end asks, the second ends the process.
#[cfg(unix)]
async fn watch_for_interrupts(interrupt: CancellationToken) {
    let Ok(mut signals) = lull_agent::cli::Signals::listen() else { return };
    signals.next().await;
    interrupt.cancel();
    signals.next().await;
    end_at_once();
}

/// The first Ctrl-C asks, the second ends the process.
#[cfg(not(unix))]
async fn watch_for_interrupts(interrupt: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        interrupt.cancel();
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        end_at_once();
    }
}

/// Whoever does not want to wait is told what is left behind.
fn end_at_once() -> ! {
    if let Some(kept) = private::end_at_once() {
        let data = kept.display();
        eprintln!("error: interrupted; the work is kept in {data}\nhint: `lull job list --data {data}` shows it");
    }
    std::process::exit(Exit::Interrupted.code().into());
}

/// Logs go to standard error: what a server does, or what went wrong. LULL_LOG chooses otherwise.
fn log(command: &Command) -> Result<(), String> {
    if matches!(command, Command::Server(server) if server.is_service()) {
        // It has files of its own.
        return Ok(());
    }
    let default = if matches!(command, Command::Server(_)) { "info,libp2p_swarm=warn" } else { "off" };
    let wanted = std::env::var("LULL_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = value::log_filter(wanted.as_deref().unwrap_or(default))?;
    // A second subscriber in one process is a test's.
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).try_init();
    Ok(())
}

fn report(failure: &Failure, typed: &[String]) -> ExitCode {
    let words = output::sentence(&failure.to_string(), jiff::Timestamp::now(), &jiff::tz::TimeZone::system());
    let words = output::with_options(&without_number(&words), "lull", typed, takes);
    // A terminal that is gone takes no words.
    let _ = writeln!(std::io::stderr(), "{}", output::printable_lines(&words));
    failure.exit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_and_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no about");
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("EXAMPLES:"), "{path} has no example");
            }
            for argument in command.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")) {
                assert!(argument.get_help().is_some(), "{path} does not say what {} is", argument.get_id());
            }
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&Cli::command(), "lull");
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in ["lull --data /x -o json job list", "lull job list --data /x -o json", "lull job --data /x list -o json"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.global.output, Format::Json);
            assert_eq!(cli.global.server.data.as_deref(), Some(std::path::Path::new("/x")));
        }
    }

    #[test]
    fn the_examples_of_this_repository_parse() {
        for line in [
            "lull run text-stats.wasm a.txt b.txt -- --top 10",
            "lull run monte-carlo.wasm --array 0-9 -- --model option strike=105 volatility=0.3",
            "lull server run --data /var/lib/lull --listen /ip4/0.0.0.0/tcp/7410 --http 127.0.0.1:7411",
            "lull --data /var/lib/lull token create --uses 500 --expires 7d",
            "lull db script",
            "lull submit stats --array 0-999999 --window 22:00-06:00 --wait",
            "lull agent revoke desk-17",
        ] {
            Cli::try_parse_from(line.split(' ')).expect(line);
        }
    }
}
