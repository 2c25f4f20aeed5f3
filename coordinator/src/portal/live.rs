//! What changed, told to all who look: gathered once a second for everybody, and only while somebody looks.
//!
//! A page says by its topics what it is about. It is told which topics changed, and fetches its own parts again if one of them
//! is among its own. Nothing is counted for a single viewer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;
use lull_scheduler::view::Outage;
use lull_shared::{
    id::{AgentId, JobId, TaskId},
    time::Timestamp,
};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, Receiver, error::TryRecvError},
    },
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{AgentBody, JobsSummary},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::Viewer,
            error::{Answer, Refused},
        },
        fleet::agents,
        work::jobs,
    },
    portal::{
        cached::{Cached, CachedBy},
        night::Night,
        task::Explained,
    },
    term::Coordinator,
};

/// How often it is looked what changed, while somebody looks.
const EVERY: Duration = Duration::from_secs(1);
/// Streams of one token: a few screens, and those that a browser has not closed yet.
const STREAMS_PER_TOKEN_MAX: usize = 16;
/// Streams in all: each takes a connection, of which there are more.
const STREAMS_MAX: usize = 512;
/// Jobs that are told by their numbers; when more have changed, all may have.
const JOBS_TOLD_MAX: usize = 100;
/// News that a slow browser may be behind; it is told then that everything may have changed.
const BEHIND_MAX: usize = 16;
/// How often it is noted what the fleet offers.
const SAMPLE_EVERY: Duration = Duration::from_secs(300);
/// Notes that are kept: twelve hours.
const SAMPLES_MAX: usize = 144;
/// How long counts and lists that all share are shown.
const FRESH: Duration = Duration::from_secs(2);
/// How long it is believed who has left the network.
const LEFT_EVERY: Duration = Duration::from_secs(30);

/// The agents that left the network, and when that was looked up.
type Left = (Option<Instant>, Arc<BTreeSet<AgentId>>);

/// What the fleet offered at a moment, and how much of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub at: Timestamp,
    pub slots: u64,
    pub slots_busy: u64,
}

/// What all who look share.
pub(crate) struct Live {
    news: broadcast::Sender<Arc<str>>,
    somebody: Arc<Notify>,
    streams: Arc<Mutex<BTreeMap<u64, usize>>>,
    history: Arc<Mutex<VecDeque<Sample>>>,
    left: Arc<Mutex<Left>>,
    jobs: Cached<JobsSummary>,
    agents: Cached<Vec<AgentBody>>,
    /// What the first page shows, and when it was found out.
    pub(super) night: tokio::sync::Mutex<Option<(Instant, Arc<Night>)>>,
    /// Why jobs and tasks are where they are.
    pub(super) jobs_explained: CachedBy<JobId, String>,
    pub(super) tasks_explained: CachedBy<TaskId, Explained>,
}

impl Live {
    /// Begins to gather for a term, which ends with `over`.
    pub(crate) fn begin(coordinator: Arc<Coordinator>, over: CancellationToken) -> Self {
        let live = Self {
            news: broadcast::Sender::new(BEHIND_MAX),
            somebody: Arc::default(),
            streams: Arc::default(),
            history: Arc::default(),
            left: Arc::default(),
            jobs: Cached::default(),
            agents: Cached::default(),
            night: tokio::sync::Mutex::default(),
            jobs_explained: CachedBy::default(),
            tasks_explained: CachedBy::default(),
        };
        let gatherer = Gatherer {
            changed: coordinator.dispatch.watch(),
            coordinator,
            news: live.news.clone(),
            somebody: live.somebody.clone(),
            history: live.history.clone(),
            left: live.left.clone(),
            last: None,
        };
        tokio::spawn(async move {
            over.run_until_cancelled(gatherer.run()).await;
        });
        live
    }

    /// What was offered in the last hours, the oldest first.
    pub(super) fn history(&self) -> Vec<Sample> {
        lock(&self.history).iter().copied().collect()
    }

    /// Jobs in numbers, as of a moment ago.
    pub(crate) async fn jobs(&self, state: &Interface) -> Answer<Arc<JobsSummary>> {
        self.jobs.fresh(FRESH, jobs::summed(state)).await
    }

    /// All agents, as of a moment ago.
    pub(super) async fn agents(&self, state: &Interface) -> Answer<Arc<Vec<AgentBody>>> {
        self.agents.fresh(FRESH, agents::all(state)).await
    }

    /// The agents that left the network, as of a moment ago.
    pub(super) async fn left(&self, coordinator: &Coordinator) -> Arc<BTreeSet<AgentId>> {
        left(&self.left, coordinator).await
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn left(known: &Mutex<Left>, coordinator: &Coordinator) -> Arc<BTreeSet<AgentId>> {
    let (at, left) = lock(known).clone();
    if at.is_some_and(|at| at.elapsed() < LEFT_EVERY) || coordinator.lease.store_silent_since().is_some() {
        return left;
    }
    match tokio::time::timeout(EVERY, agents::left(&*coordinator.store)).await {
        Ok(Ok(found)) => {
            let found = Arc::new(found);
            *lock(known) = (Some(Instant::now()), found.clone());
            found
        }
        // What was known a while ago is better than nothing.
        Ok(Err(_)) | Err(_) => left,
    }
}

/// What is compared with what was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    fleet: lull_scheduler::FleetView,
    outage: Option<Outage>,
    store_silent: bool,
}

struct Gatherer {
    coordinator: Arc<Coordinator>,
    changed: Receiver<JobId>,
    news: broadcast::Sender<Arc<str>>,
    somebody: Arc<Notify>,
    history: Arc<Mutex<VecDeque<Sample>>>,
    left: Arc<Mutex<Left>>,
    last: Option<Seen>,
}

impl Gatherer {
    async fn run(mut self) {
        let mut sample_at = Instant::now();
        loop {
            let watched = self.news.receiver_count() > 0;
            tokio::select! {
                () = sleep(EVERY), if watched => {}
                () = self.somebody.notified(), if !watched => {}
                () = sleep_until(sample_at) => {}
            }
            let due = Instant::now() >= sample_at;
            let Some(seen) = self.look().await else { return };
            if due {
                sample_at = Instant::now() + SAMPLE_EVERY;
                self.note(&seen);
            }
            let jobs = self.jobs();
            if let Some(news) = news(&jobs, self.last.as_ref() != Some(&seen)) {
                // Nobody may look.
                let _ = self.news.send(news);
            }
            self.last = Some(seen);
        }
    }

    async fn look(&self) -> Option<Seen> {
        let left = left(&self.left, &self.coordinator).await;
        let look = move |scheduler: &lull_scheduler::Scheduler, at| (scheduler.fleet(&left, 1), scheduler.outage(at));
        let (fleet, outage) = self.coordinator.dispatch.query(look).await.ok()?;
        let store_silent = self.coordinator.lease.store_silent_since().is_some();
        Some(Seen { fleet, outage, store_silent })
    }

    fn note(&self, seen: &Seen) {
        let mut history = lock(&self.history);
        if history.len() >= SAMPLES_MAX {
            history.pop_front();
        }
        history.push_back(Sample { at: clock::now(), slots: seen.fleet.slots, slots_busy: seen.fleet.slots_busy });
    }

    /// Which jobs changed since the last look.
    fn jobs(&mut self) -> Changed {
        let mut changed = BTreeSet::new();
        loop {
            match self.changed.try_recv() {
                Ok(job) if changed.len() < JOBS_TOLD_MAX => drop(changed.insert(job)),
                Ok(_) => {}
                Err(TryRecvError::Lagged(_)) => return Changed::Any,
                Err(TryRecvError::Empty | TryRecvError::Closed) if changed.len() < JOBS_TOLD_MAX => {
                    return Changed::These(changed);
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Changed::Any,
            }
        }
    }
}

/// Which jobs changed.
enum Changed {
    These(BTreeSet<JobId>),
    Any,
}

/// The topics that changed, as a line of JSON; none when nothing did.
fn news(jobs: &Changed, fleet: bool) -> Option<Arc<str>> {
    let mut topics: Vec<String> = Vec::new();
    match jobs {
        Changed::These(jobs) if jobs.is_empty() => {}
        Changed::These(jobs) => {
            topics.push("jobs".into());
            topics.extend(jobs.iter().map(ToString::to_string));
        }
        Changed::Any => topics.push("all".into()),
    }
    if fleet {
        topics.push("fleet".into());
    }
    if topics.is_empty() {
        return None;
    }
    serde_json::to_string(&topics).ok().map(Into::into)
}

/// A place among the streams.
struct Place {
    streams: Arc<Mutex<BTreeMap<u64, usize>>>,
    token: u64,
}

impl Place {
    fn take(streams: &Arc<Mutex<BTreeMap<u64, usize>>>, token: u64) -> Answer<Self> {
        let mut taken = lock(streams);
        let all: usize = taken.values().sum();
        let own = taken.entry(token).or_default();
        if *own >= STREAMS_PER_TOKEN_MAX || all >= STREAMS_MAX {
            if *own == 0 {
                taken.remove(&token);
            }
            return Err(Refused::busy("too many pages of the portal are open: this one does not follow what changes"));
        }
        *own += 1;
        Ok(Self { streams: streams.clone(), token })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.streams);
        if let Some(own) = taken.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

/// `GET /live`: which topics changed, whenever some did.
pub(super) async fn stream(
    State(state): Shared,
    viewer: Viewer,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
    let place = Place::take(&state.live.streams, viewer.token.0)?;
    let news = state.live.news.subscribe();
    state.live.somebody.notify_one();
    let over = state.shutdown.clone();
    let stream = futures::stream::unfold((news, place, over, true), |(mut news, place, over, first)| async move {
        if first {
            // It is heard at once that the stream is open; whoever comes back looks at everything again.
            return Some((Ok(Event::default().event("hello").data("[]")), (news, place, over, false)));
        }
        let data = match over.run_until_cancelled(news.recv()).await? {
            Ok(data) => data,
            Err(broadcast::error::RecvError::Lagged(_)) => "[\"all\"]".into(),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(Event::default().event("news").data(&*data)), (news, place, over, false)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_names_the_jobs_that_changed_and_nothing_when_nothing_did() {
        let told = |jobs: &[u64], fleet| news(&Changed::These(jobs.iter().copied().map(JobId).collect()), fleet);
        assert_eq!(told(&[], false), None);
        assert_eq!(told(&[7, 9], true).as_deref(), Some(r#"["jobs","j7","j9","fleet"]"#));
        assert_eq!(news(&Changed::Any, false).as_deref(), Some(r#"["all"]"#));
    }

    #[test]
    fn one_token_has_its_share_of_the_streams_and_a_stream_that_ends_makes_room() {
        let streams = Arc::default();
        let mut own: Vec<Place> = (0..STREAMS_PER_TOKEN_MAX).map(|_| Place::take(&streams, 1).expect("room")).collect();
        assert!(Place::take(&streams, 1).is_err());
        let others: Vec<Place> = (2..).map_while(|token| Place::take(&streams, token).ok()).collect();
        assert_eq!(own.len() + others.len(), STREAMS_MAX);
        own.pop();
        drop(Place::take(&streams, 1).expect("room again"));
        drop((own, others));
        assert!(lock(&streams).is_empty(), "nothing is kept of whoever has gone");
    }
}
