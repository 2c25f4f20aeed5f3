//! Why a job does not move, said to whoever waits for it: one line, once nothing has changed for some seconds, and again
//! when the reason is another one.

use std::{cell::RefCell, time::Duration};

use lull_shared::{id::JobId, state::TaskCounts};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{api::JobBody, client::Client};

/// A job of which nothing runs and nothing changes for so long stands still: starting takes far less.
const STILL: Duration = Duration::from_secs(4);
/// One of which something runs may take its time.
const STILL_RUNNING: Duration = Duration::from_secs(60);
/// Between two looks at the reason.
const AGAIN: Duration = Duration::from_secs(5);

/// How a job stands, and since when.
pub(crate) struct Standing(RefCell<(Instant, Option<TaskCounts>)>);

impl Default for Standing {
    fn default() -> Self {
        Self(RefCell::new((Instant::now(), None)))
    }
}

impl Standing {
    /// It stands like this.
    pub(crate) fn note(&self, job: &JobBody) {
        let mut known = self.0.borrow_mut();
        if known.1 != Some(job.counts) {
            *known = (Instant::now(), Some(job.counts));
        }
    }

    /// From when on it counts as still if nothing changes.
    fn still_from(&self) -> Instant {
        let (since, counts) = *self.0.borrow();
        since + if counts.is_some_and(|counts| counts.running > 0) { STILL_RUNNING } else { STILL }
    }
}

/// Says why, for as long as it is wanted; has no end.
pub(crate) async fn tell(client: &Client, job: JobId, standing: &Standing, say: impl Fn(&str)) {
    let mut said = String::new();
    loop {
        let due = standing.still_from();
        if due > Instant::now() {
            sleep_until(due).await;
            continue;
        }
        // A coordinator that is away is spoken of by whoever watches the job.
        if let Ok(explained) = client.explain_job(job).await
            && explained.summary != said
            && !explained.state.is_ended()
        {
            said = explained.summary;
            say(&format!("{job}: {said}"));
        }
        sleep(AGAIN).await;
    }
}
