//! Stays with a job until it has ended, whatever becomes of the connection.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use lull_shared::id::JobId;
use tokio::time::{Instant, sleep};

use super::{
    Context,
    exit::{Exit, Failure},
    progress::Progress,
};
use crate::{
    api::JobBody,
    client::{Client, ClientError},
};

/// How long a coordinator may be away while somebody waits: a restart or a take-over is far shorter.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Between two tries to reach it again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// How a job is followed.
pub struct Follow<'a> {
    context: &'a Context,
    deadline: Option<Instant>,
    /// Whether the job outlives this command, so that somebody can come back to it.
    lasting: bool,
}

impl<'a> Follow<'a> {
    /// As long as it takes.
    pub fn new(context: &'a Context) -> Self {
        Self { context, deadline: None, lasting: true }
    }

    /// Gives up after this time.
    pub fn at_most(mut self, limit: Option<Duration>) -> Self {
        self.deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self
    }

    /// The job ends with this command.
    pub fn passing(mut self) -> Self {
        self.lasting = false;
        self
    }
}

/// Waits until the job has ended, showing how it goes.
pub async fn to_the_end(client: &Client, job: JobId, follow: Follow<'_>) -> Result<JobBody, Failure> {
    let mut progress = Progress::new(&follow.context.out);
    let watching = watch(client, job, |body| progress.show(body));
    let late = async {
        match follow.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = watching => ended,
        () = late => Err(Failure::new(Exit::TimedOut, format!("{job} has not ended in time; it goes on"))
            .hint(format!("`lull wait {job}` waits again"))),
        () = follow.context.interrupted() => Err(interrupted(job, follow.lasting)),
    };
    progress.finish();
    ended
}

/// Calls `show` with the job now and at every change, and returns it once it has ended.
pub async fn watch(client: &Client, job: JobId, mut show: impl FnMut(&JobBody)) -> Result<JobBody, Failure> {
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
                // One that was never there is not away.
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
        ClientError::Nonsense { .. } | ClientError::Address(_) => false,
    }
}

fn interrupted(job: JobId, lasting: bool) -> Failure {
    let failure = Failure::new(Exit::Interrupted, "interrupted");
    if lasting {
        failure.hint(format!("{job} goes on; `lull wait {job}` waits for it again, `lull job cancel {job}` ends it"))
    } else {
        failure
    }
}
