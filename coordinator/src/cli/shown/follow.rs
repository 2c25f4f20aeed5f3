//! Stays with a job until it has ended, whatever becomes of the connection.

use std::{cell::RefCell, path::Path, pin::pin, time::Duration};

use futures::StreamExt as _;
use lull_shared::id::JobId;
use tokio::time::{Instant, sleep};

use crate::{
    api::JobBody,
    cli::{
        Context,
        exit::{Exit, Failure},
        jobs::files::Gatherer,
        shown::{
            progress::Progress,
            why::{self, Standing},
        },
    },
    client::{Client, ClientError},
};

/// How long a coordinator may be away while somebody waits: a restart or a take-over is far shorter.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Between two tries to reach it again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// How a job is followed.
pub(crate) struct Follow<'a> {
    context: &'a Context,
    deadline: Option<Instant>,
    /// Whether the job outlives this command, so that somebody can come back to it.
    lasting: bool,
}

impl<'a> Follow<'a> {
    /// As long as it takes.
    pub(crate) fn new(context: &'a Context) -> Self {
        Self { context, deadline: None, lasting: true }
    }

    /// Gives up after this time.
    pub(crate) fn at_most(mut self, limit: Option<Duration>) -> Self {
        self.deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self
    }

    /// The job ends with this command.
    pub(crate) fn passing(mut self) -> Self {
        self.lasting = false;
        self
    }
}

/// Waits until the job has ended, showing how it goes, and why it does not; `gatherer` brings outputs as tasks end.
pub(crate) async fn to_the_end(
    client: &Client,
    job: JobId,
    follow: Follow<'_>,
    gatherer: Option<&mut Gatherer<'_>>,
) -> Result<JobBody, Failure> {
    let out = &follow.context.out;
    let progress = RefCell::new(Progress::new(out));
    let (standing, (tell, succeeded)) = (Standing::default(), tokio::sync::watch::channel(0_u64));
    let watching = watch(client, job, |body| {
        standing.note(body);
        tell.send_replace(u64::from(body.counts.succeeded));
        progress.borrow_mut().show(body);
    });
    let late = async {
        match follow.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let folder = gatherer.as_ref().map(|gatherer| gatherer.folder().to_owned());
    let gathering = async {
        match gatherer {
            Some(gatherer) => gatherer.as_tasks_end(succeeded).await,
            None => std::future::pending().await,
        }
    };
    let go_on = |failure: Failure, waits: bool| match follow.lasting {
        true => failure.hint(go_on(job, waits, folder.as_deref(), follow.context)),
        false => failure,
    };
    let ended = tokio::select! {
        ended = watching => ended,
        failure = gathering => Err(go_on(failure, false)),
        () = late => Err(go_on(Failure::new(Exit::TimedOut, format!("{job} has not ended in time")), true)),
        () = follow.context.interrupted() => Err(go_on(Failure::new(Exit::Interrupted, "interrupted"), true)),
        () = why::tell(client, job, &standing, |words| progress.borrow().say(out, words)) => unreachable!("it has no end"),
    };
    progress.into_inner().finish();
    ended
}

/// How to come back to a job that goes on without this command.
fn go_on(job: JobId, waits: bool, folder: Option<&Path>, context: &Context) -> String {
    let waiting = if waits { format!("{job} goes on; ") } else { "what was written stays; ".to_owned() };
    let place = match (&context.server.server, &context.server.data) {
        (None, Some(data)) => format!(" --data {}", quoted(data)),
        (_, _) => String::new(),
    };
    let wait = format!("`lull wait {job}{place}`");
    match folder {
        Some(folder) => {
            let results = format!("lull job results {job}{place} --out {}", quoted(folder));
            format!("{waiting}{wait} waits for its end, `{results}` brings what is missing")
        }
        None => format!("{waiting}{wait} waits for it again, `lull job cancel {job}{place}` ends it"),
    }
}

/// A path as one types it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\:._-+=,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Calls `show` with the job now and at every change, and returns it once it has ended.
pub(crate) async fn watch(client: &Client, job: JobId, mut show: impl FnMut(&JobBody)) -> Result<JobBody, Failure> {
    let mut pause = RETRY_FIRST;
    let mut away_since: Option<Instant> = None;
    let mut seen = false;
    loop {
        match client.events(job).await {
            Ok(events) => {
                let mut events = pin!(events);
                while let Some(Ok(body)) = events.next().await {
                    (pause, away_since, seen) = (RETRY_FIRST, None, true);
                    show(&body);
                    if body.state.is_ended() {
                        return Ok(body);
                    }
                }
            }
            Err(error) if !passes(&error) => return Err(error.into()),
            Err(error) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                // One that was never there is not away. One that asks for patience is there.
                seen |= matches!(error, ClientError::Refused { .. });
                if !seen || since.elapsed() > AWAY_MAX {
                    return Err(error.into());
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

/// Whether the same request may succeed in a moment.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused { status, .. } => matches!(status, 429 | 503),
        ClientError::Nonsense { .. } | ClientError::WrongPin { .. } | ClientError::Untrusted { .. } | ClientError::Address(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(quoted(Path::new("out/a-1.x")), "out/a-1.x");
        assert_eq!(quoted(Path::new("my out")), "'my out'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
    }
}
