//! `status`, `pause`, `resume` and `leave`: words with the agent that runs.

use std::{path::Path, time::Duration};

use lull_desk::Whom;
use lull_shared::protocol::EnrolmentRefusal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{CliError, Output};
use crate::{
    config::Config,
    ipc::{self, IpcError, Request, Response},
    membership::{self, Membership, MembershipError},
    pending::{self, Source},
    run_loop,
};

/// How long a leaving agent is waited for: its own grace and some more.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(15);
/// How often it is looked whether it has gone.
const LEAVE_CHECK: Duration = Duration::from_millis(50);

/// What is said of an answer that belongs to another question.
pub(super) const OTHER_ANSWER: &str =
    "the agent answered something else\nhint: look whether it is of another version; starting it anew makes both alike";

/// Which agent is meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub data: &'a Path,
    /// Whether somebody named the folder, and means no other agent.
    pub named: bool,
}

pub(super) async fn status(place: Place<'_>, out: Output<'_>) -> Result<(), CliError> {
    let response = match ask(place, &Request::Status).await {
        // Whoever asks why nothing runs here is told the reason that no start mends.
        Err(CliError::Ipc(IpcError::NotRunning(_))) if membership::is_revoked(place.data) => {
            let data = place.data.display();
            let words = format!("no agent is running with this data folder ({data}), and {}", EnrolmentRefusal::Revoked);
            return Err(CliError::Unreachable(words));
        }
        other => other?,
    };
    let Response::Status(status) = response else {
        return Err(CliError::Failed(OTHER_ANSWER.into()));
    };
    out.one(&status, &status.agent.to_string(), || status.table())
}

pub(super) async fn pause(place: Place<'_>, duration: Option<Duration>, out: Output<'_>) -> Result<(), CliError> {
    let for_ms = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    ask(place, &Request::Pause { for_ms }).await?;
    let words = match duration {
        Some(duration) => format!("paused for {}; `lull-agent resume` ends it sooner", humantime::format_duration(duration)),
        None => "paused until `lull-agent resume`".to_owned(),
    };
    out.done(&json!({ "paused": true, "for_s": duration.map(|duration| duration.as_secs()) }), "paused", &words)
}

pub(super) async fn resume(place: Place<'_>, out: Output<'_>) -> Result<(), CliError> {
    ask(place, &Request::Resume).await?;
    out.done(&json!({ "paused": false }), "resumed", "resumed")
}

pub(super) async fn leave(data: &Path, config: &Config, out: Output<'_>) -> Result<(), CliError> {
    let ran = match ipc::ask(data, &Request::Leave).await {
        Ok(_) => {
            wait_until_gone(data).await?;
            true
        }
        Err(IpcError::NotRunning(_)) if !run_loop::is_running(data) => false,
        Err(error) => return Err(error.into()),
    };
    let member = Membership::load(data);
    let joined = membership::forget(data, config.cache_dir.as_deref()).map_err(|error| {
        let words = format!("{} cannot be emptied: {error}\nhint: run this as the user whose folder it is", data.display());
        CliError::Failed(words)
    })?;
    if !joined {
        membership::check_folder(data)?;
        return Err(MembershipError::NotJoined.into());
    }
    let agent = member.map(|member| member.agent.to_string()).ok();
    let words = match (membership::is_revoked(data), ran, &agent) {
        (true, _, _) => {
            "left; this machine was revoked, so it keeps its identity, and joins again when an administrator has restored it"
                .into()
        }
        (false, false, Some(agent)) => format!(
            "left, and nobody was told, since the agent did not run: an administrator takes it off the list with \
             `lull agent revoke {agent}` and `lull agent remove {agent}`"
        ),
        (false, _, _) => "left; a new token brings this machine back under a new identity".to_owned(),
    };
    out.done(&json!({ "left": true, "told": ran, "agent": agent }), agent.as_deref().unwrap_or("left"), &words)
}

/// Asks the agent of the data folder; if none runs there and nobody named that folder, the service of this machine. An agent
/// that has not even joined is not running for another reason than one that is only stopped.
pub(super) async fn ask(place: Place<'_>, request: &Request) -> Result<Response, CliError> {
    let Place { data, named } = place;
    let whom = if named { Whom::Folder(data.to_owned()) } else { Whom::FolderOrService(data.to_owned()) };
    match whom.ask(request).await {
        Err(IpcError::NotRunning(_)) if matches!(Membership::load(data), Err(MembershipError::NotJoined)) => {
            membership::check_folder(data)?;
            let from = match pending::waiting(data)? {
                None => return Err(MembershipError::NotJoined.into()),
                Some(Source::File) => "an installer left",
                Some(Source::Policy) => "the machine's policy names",
            };
            let words = format!(
                "this machine has not joined a network yet; a join token that {from} waits for the agent\nhint: the agent joins with it \
                 once it is started and reaches the coordinator; its log says what keeps it"
            );
            Err(CliError::TokenWaits(words))
        }
        other => Ok(other?),
    }
}

async fn wait_until_gone(data: &Path) -> Result<(), CliError> {
    let deadline = Instant::now() + LEAVE_TIME_MAX;
    while run_loop::is_running(data) {
        if Instant::now() > deadline {
            return Err(CliError::Failed("the agent does not stop\nhint: end its process, then leave again".into()));
        }
        sleep(LEAVE_CHECK).await;
    }
    Ok(())
}
