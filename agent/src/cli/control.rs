//! `status`, `pause`, `resume` and `leave`: words with the agent that runs.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};

use super::{CliError, Output};
use crate::{
    ipc::{self, IpcError, Request, Response},
    membership::{self, Membership, MembershipError},
    run_loop,
};

/// How long a leaving agent is waited for: its own grace and some more.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(15);
/// How often it is looked whether it has gone.
const LEAVE_CHECK: Duration = Duration::from_millis(50);

pub(super) async fn status(data: &Path, output: Output) -> Result<(), CliError> {
    let response = ask(data, &Request::Status).await?;
    let Response::Status(status) = response else {
        return Err(CliError::Failed("the agent answered something else; is it of another version?".into()));
    };
    match output {
        Output::Table => print!("{}", status.table()),
        Output::Json => {
            println!("{}", serde_json::to_string(&status).map_err(|error| CliError::Failed(error.to_string()))?);
        }
    }
    Ok(())
}

pub(super) async fn pause(data: &Path, duration: Option<Duration>) -> Result<(), CliError> {
    let for_ms = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    ask(data, &Request::Pause { for_ms }).await?;
    match duration {
        Some(duration) => eprintln!("paused for {}; `lull-agent resume` ends it sooner", humantime::format_duration(duration)),
        None => eprintln!("paused until `lull-agent resume`"),
    }
    Ok(())
}

pub(super) async fn resume(data: &Path) -> Result<(), CliError> {
    ask(data, &Request::Resume).await?;
    eprintln!("resumed");
    Ok(())
}

pub(super) async fn leave(data: &Path) -> Result<(), CliError> {
    match ipc::ask(data, &Request::Leave).await {
        Ok(_) => wait_until_gone(data).await?,
        Err(IpcError::NotRunning(_)) if !run_loop::is_running(data) => {}
        Err(error) => return Err(error.into()),
    }
    let joined = !matches!(Membership::load(data), Err(MembershipError::NotJoined));
    membership::forget(data).map_err(|error| CliError::Failed(format!("{} cannot be emptied: {error}", data.display())))?;
    if !joined {
        return Err(MembershipError::NotJoined.into());
    }
    eprintln!("left; a new token brings this machine back under a new identity");
    Ok(())
}

/// An agent that has not even joined is not running for another reason than one that is only stopped.
pub(super) async fn ask(data: &Path, request: &Request) -> Result<Response, CliError> {
    match ipc::ask(data, request).await {
        Err(IpcError::NotRunning(_)) if matches!(Membership::load(data), Err(MembershipError::NotJoined)) => {
            Err(MembershipError::NotJoined.into())
        }
        other => Ok(other?),
    }
}

async fn wait_until_gone(data: &Path) -> Result<(), CliError> {
    let deadline = Instant::now() + LEAVE_TIME_MAX;
    while run_loop::is_running(data) {
        if Instant::now() > deadline {
            return Err(CliError::Failed("the agent does not stop; end its process, then leave again".into()));
        }
        sleep(LEAVE_CHECK).await;
    }
    Ok(())
}
