//! Waiting for a job: one long answer when it has ended, or a stream of events on the way there.
//!
//! Both wake on the scheduler's word that the job changed. A slow re-check covers a word that was lost.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use lull_shared::id::JobId;
use serde::Deserialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    api::{JobBody, shape},
    http::{
        Interface, Shared,
        door::{
            auth::{Asked, At, Viewer},
            error::Answer,
        },
        work::jobs,
    },
};

/// The longest one request waits; whoever wants to wait longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long without a word until the job is looked at all the same.
const RECHECK: Duration = Duration::from_secs(5);
/// The least time between two events of one stream: faster than people see, slower than tasks end.
const EVENT_GAP: Duration = Duration::from_millis(100);

/// How long to wait.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    timeout_s: Option<u64>,
}

/// `GET /jobs/{job}/wait`: as soon as the job has ended, or at the time limit as it stands then.
pub(crate) async fn wait(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<JobId>,
    Asked(asked): Asked<Wait>,
) -> Answer<Json<JobBody>> {
    let limit = asked.timeout_s.map_or(WAIT_MAX, Duration::from_secs).min(WAIT_MAX);
    let deadline = Instant::now() + limit;
    // Listen first, then look: a change in between is a word in the mailbox.
    let mut changes = state.coordinator.dispatch.watch();
    loop {
        let body = body(&state, job).await?;
        if body.state.is_ended() || Instant::now() >= deadline || state.shutdown.is_cancelled() {
            tracing::trace!(target: "parts", "waiting answered");
            return Ok(Json(body));
        }
        tracing::trace!(target: "parts", "waiting begun");
        changed(&state, &mut changes, job, deadline).await;
        tracing::trace!(target: "parts", "waiting woken");
    }
}

/// `GET /jobs/{job}/events`: the job whenever it changes, until it has ended.
pub(crate) async fn events(
    State(state): Shared,
    _viewer: Viewer,
    At(job): At<JobId>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
    let changes = state.coordinator.dispatch.watch();
    let first = body(&state, job).await?;
    let follow = Follow { state, changes, job, next: Some(first), sent: None };
    let stream = futures::stream::unfold(follow, |mut follow| async {
        let body = follow.next().await?;
        let event = Event::default().event("job").json_data(&body).unwrap_or_default();
        Some((Ok(event), follow))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// One stream of events.
struct Follow {
    state: Arc<Interface>,
    changes: Receiver<JobId>,
    job: JobId,
    /// What is said next without waiting.
    next: Option<JobBody>,
    /// What was said last, and when.
    sent: Option<(JobBody, Instant)>,
}

impl Follow {
    /// The job as soon as it differs from what was said last; `None` once its end was said.
    async fn next(&mut self) -> Option<JobBody> {
        if let Some(first) = self.next.take() {
            return Some(self.say(first));
        }
        loop {
            let (last, at) = self.sent.as_ref()?;
            if last.state.is_ended() || self.state.shutdown.is_cancelled() {
                return None;
            }
            let not_before = *at + EVENT_GAP;
            changed(&self.state, &mut self.changes, self.job, Instant::now() + RECHECK).await;
            tokio::select! {
                () = sleep_until(not_before) => {}
                () = self.state.shutdown.cancelled() => return None,
            }
            let body = body(&self.state, self.job).await.ok()?;
            if self.sent.as_ref().is_none_or(|(last, _)| *last != body) {
                return Some(self.say(body));
            }
        }
    }

    fn say(&mut self, body: JobBody) -> JobBody {
        self.sent = Some((body.clone(), Instant::now()));
        body
    }
}

/// Returns when the job may have changed, or at the deadline, or when the server stops.
async fn changed(state: &Interface, changes: &mut Receiver<JobId>, job: JobId, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + RECHECK);
    tokio::select! {
        _ = timeout_at(deadline, word_of(job, changes)) => {}
        () = state.shutdown.cancelled() => {}
    }
}

/// Returns when the job has changed, or may have.
async fn word_of(job: JobId, changes: &mut Receiver<JobId>) {
    loop {
        match changes.recv().await {
            Ok(other) if other != job => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The scheduler is gone: the next look at the job says so.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

async fn body(state: &Interface, job: JobId) -> Answer<JobBody> {
    let (record, view) = jobs::look(state, job).await?;
    Ok(shape::job(&record, view.as_ref()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_watches_a_job_hears_of_it_at_once_and_not_of_others() {
        let (tell, mut changes) = tokio::sync::broadcast::channel(2);
        let mut heard = |told: &[u64]| {
            told.iter().for_each(|job| drop(tell.send(JobId(*job))));
            word_of(JobId(1), &mut changes).now_or_never().is_some()
        };
        assert!(!heard(&[]) && !heard(&[2]) && heard(&[2, 1]) && !heard(&[]));
        assert!(heard(&[2, 2, 2]), "what was missed may have been about it");
    }
}
