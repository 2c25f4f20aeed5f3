//! `lull-agent run`: the service in the foreground.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use clap::Args;
use libp2p::Multiaddr;
use lull_engine::executor::protocol::Priority;
use lull_shared::{bound, hint};
use tokio_util::sync::CancellationToken;

use super::{CliError, Signals, value};
use crate::{
    config::{Config, OpenCage, parse_label, parse_priority, parse_upload},
    pending::{self, Patience, Told},
    run_loop::{self, Fittings},
    sensor,
};

/// Settings that come before those of the file.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// How many tasks may run at once
    #[arg(long, value_name = "N", env = "LULL_AGENT_SLOTS", value_parser = bound::SLOTS.numbers::<u16>())]
    slots: Option<u16>,
    /// How much memory all tasks together may use, like 4GiB
    #[arg(long, value_name = "SIZE", env = "LULL_AGENT_MEMORY_MAX", value_parser = bound::AGENT_MEMORY.sizes())]
    memory_max: Option<ByteSize>,
    /// How much of the disk fetched modules and inputs may use
    #[arg(long, value_name = "SIZE", env = "LULL_AGENT_CACHE_MAX", value_parser = bound::CACHE.sizes())]
    cache_max: Option<ByteSize>,
    /// A fact that jobs may ask for, beside those of the configuration
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Where to accept connections from other members
    #[arg(long, value_name = "ADDRESS", value_parser = value::listen_address)]
    listen: Vec<Multiaddr>,
    /// How much may be sent to other members in a second, like 2MiB; 0 sets no limit
    #[arg(long, value_name = "SIZE", env = "LULL_AGENT_UPLOAD_MAX", value_parser = parse_upload)]
    upload_max: Option<ByteSize>,
    /// Whether to look for a coordinator on this subnet
    #[arg(long, value_name = "BOOL", env = "LULL_AGENT_MDNS")]
    mdns: Option<bool>,
    /// Pause when other programs use more than this share of the processors, in percent; 0 never pauses
    #[arg(long, value_name = "PERCENT", env = "LULL_AGENT_CPU_PAUSE_PERCENT", value_parser = bound::PERCENT.numbers::<u8>())]
    cpu_pause_percent: Option<u8>,
    /// Go on when they use less than this share, in percent
    #[arg(long, value_name = "PERCENT", env = "LULL_AGENT_CPU_RESUME_PERCENT", value_parser = bound::PERCENT.numbers::<u8>())]
    cpu_resume_percent: Option<u8>,
    /// Pause when less memory than this is available
    #[arg(long, value_name = "SIZE", env = "LULL_AGENT_MEMORY_FREE_MIN", value_parser = bound::MEMORY_FREE.sizes())]
    memory_free_min: Option<ByteSize>,
    /// The priority of tasks on the processors: idle or normal
    #[arg(long, value_name = "PRIORITY", env = "LULL_AGENT_PRIORITY", value_parser = parse_priority)]
    priority: Option<Priority>,
    /// What to do where the cage around tasks is not closed: refuse or work
    #[arg(long, value_name = "WORD", env = "LULL_AGENT_OPEN_CAGE", value_enum)]
    open_cage: Option<OpenCage>,
    /// The program to start executors with, for tests
    #[arg(long, value_name = "FILE", hide = true)]
    executor_program: Option<PathBuf>,
    /// What sees the owner: machine, or script:PATH for tests
    #[arg(long, value_name = "SENSOR", hide = true, default_value = "machine")]
    sensor: sensor::Choice,
}

impl RunArgs {
    /// Puts what was said here over what the file said.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), CliError> {
        config.slots = self.slots.or(config.slots);
        config.memory_max = self.memory_max.or(config.memory_max);
        config.cache_max = self.cache_max.unwrap_or(config.cache_max);
        config.labels.extend(self.labels.iter().cloned());
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        config.upload_max = self.upload_max.unwrap_or(config.upload_max);
        config.mdns = self.mdns.unwrap_or(config.mdns);
        config.cpu_pause_percent = self.cpu_pause_percent.unwrap_or(config.cpu_pause_percent);
        config.cpu_resume_percent = match self.cpu_resume_percent {
            Some(percent) => percent,
            // Half of a pause threshold that was lowered here: what the file says belongs to its own.
            None if self.cpu_pause_percent.is_some() => config.cpu_resume_percent.min(config.cpu_pause_percent / 2),
            None => config.cpu_resume_percent,
        };
        config.memory_free_min = self.memory_free_min.unwrap_or(config.memory_free_min);
        config.priority = self.priority.unwrap_or(config.priority);
        config.open_cage = self.open_cage.unwrap_or(config.open_cage);
        Ok(config.check()?)
    }
}

pub(super) async fn run(data: &Path, config: &Config, args: RunArgs) -> Result<(), CliError> {
    let fittings = Fittings { program: args.executor_program, sensor: args.sensor };
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    stop_on_signals(stop.clone(), abort.clone())
        .map_err(|error| CliError::Failed(format!("signals cannot be received: {error}")))?;
    pending::settle(data, config, Patience::WhileThereIsAToken, &stop, tell).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    Ok(run_loop::serve(data, config, fittings, stop, abort).await?)
}

/// What becomes of a token that waited for this start.
fn tell(told: Told) {
    match told {
        Told::Joined => tracing::info!("this machine has joined with the token that was left for it"),
        Told::NotNow(words) => tracing::warn!("this machine has not joined yet, and tries again: {}", hint::in_one_line(&words)),
        // These are said by who waits for a token.
        Told::Void(_) | Told::Nothing => {}
    }
}

/// The first of the signals asks to stop, the second one insists.
fn stop_on_signals(stop: CancellationToken, abort: CancellationToken) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        loop {
            signals.next().await;
            if stop.is_cancelled() {
                abort.cancel();
            }
            stop.cancel();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn configured(arguments: &[&str]) -> Result<Config, CliError> {
        let cli = Cli::parse_from(["lull-agent", "run"].iter().chain(arguments));
        let Command::Run(args) = cli.command else { panic!("it was told to run") };
        let mut config = Config { cpu_resume_percent: 40, ..Config::default() };
        args.apply(&mut config).map(|()| config)
    }

    #[test]
    fn flags_come_before_the_file() {
        let config = configured(&["--slots", "3", "--label", "site=x", "--cpu-pause-percent", "20"]).expect("usable");
        assert_eq!((config.slots, config.cpu_pause_percent, config.cpu_resume_percent), (Some(3), 20, 10));
        assert_eq!(config.labels.get("site").map(String::as_str), Some("x"));
        assert_eq!(configured(&[]).expect("usable").cpu_resume_percent, 40);
    }

    #[test]
    fn flags_are_checked_like_the_file() {
        let wrong = configured(&["--cpu-pause-percent", "20", "--cpu-resume-percent", "30"]).expect_err("above the other");
        assert_eq!(wrong.exit_code(), 2);
        assert!(wrong.told().ends_with("\nhint: write 20 or less"), "{}", wrong.told());
    }
}
