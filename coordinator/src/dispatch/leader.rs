//! The loop itself, from loading the store to the end of a term.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use lull_shared::id::{AgentId, JobId, VersionId};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    AgentLink, Inbox, Input, Query, Shell, submission,
    turn::{Committed, Outgoing, Sealed, Turn, excuse_silence},
    writer::Posted,
};
use crate::{
    clock::Steady,
    scheduler::{
        Scheduler,
        effect::{Change, Order, Refusal, Reply},
        event::{Event, RequestId, StreamId},
    },
    store::{Lead, Loaded, StoreResult, changes_who_is_out},
};

/// Inputs taken in one turn: bounds the size of a transaction and the time between two looks at the clock.
const INPUTS_PER_TURN: usize = 1024;
/// Answers to people who look, given in one turn.
const QUERIES_PER_TURN: usize = 256;
/// How long people who look wait for a commit. One that takes longer waits for room or for a database, and what was
/// decided before is shown meanwhile.
const QUERY_PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked, at the least, whether somebody set this machine's clock: a window opens that much late then.
const WALL_LOOK: Duration = Duration::from_secs(10);
/// Pauses between tries of a commit that the store refuses.
const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(50);
const COMMIT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the loop came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Another coordinator leads.
    Fenced,
    /// The store is in doubt: load it again.
    InDoubt,
}

/// Loads the store and leads until told to stop. Agents' streams are closed at the end.
pub async fn run(shell: &Shell, lead: &Lead, inbox: &mut Inbox, shutdown: &CancellationToken) -> StoreResult<Ended> {
    let Loaded { mut snapshot, lost } = shell.store.load(lead).await?;
    if let Some(lost) = lost {
        tracing::error!(known = lost.known, found = lost.found, "{lost}");
    }
    for job in &mut snapshot.jobs {
        shell.catalogue.learn_movable(job).await;
    }
    tracing::info!(jobs = snapshot.jobs.len(), agents = snapshot.agents.len(), term = lead.term.0, "the coordinator leads");
    shell.catalogue.restore(&snapshot);
    let versions: BTreeSet<VersionId> = snapshot.jobs.iter().map(|job| job.spec.version).collect();
    let clock = Steady::start();
    let mut scheduler = Scheduler::restore(snapshot, shell.limits.clone(), rand::random(), clock.now());
    for version in versions {
        match shell.catalogue.code(version).await {
            Ok(code) => scheduler.handle(shell.tracker.follow(version, code), clock.now()),
            // Its tasks go to whoever is free.
            Err(error) => tracing::warn!(%version, %error, "cannot tell who holds the code of a version"),
        }
    }
    inbox.moments.pass();
    let leader = Leader {
        shell,
        lead: lead.clone(),
        clock,
        scheduler,
        links: BTreeMap::new(),
        replies: BTreeMap::new(),
        last_request: 0,
        changed: inbox.changed.clone(),
        moments: inbox.moments.clone(),
        shutdown: shutdown.clone(),
    };
    leader.run(inbox).await
}

struct Leader<'a> {
    shell: &'a Shell,
    lead: Lead,
    clock: Steady,
    scheduler: Scheduler,
    links: BTreeMap<StreamId, AgentLink>,
    replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    last_request: u64,
    changed: tokio::sync::broadcast::Sender<JobId>,
    moments: submission::Moments,
    shutdown: CancellationToken,
}

impl Leader<'_> {
    async fn run(mut self, inbox: &mut Inbox) -> StoreResult<Ended> {
        let mut batch = Vec::with_capacity(INPUTS_PER_TURN);
        let Inbox { inputs, queries, .. } = inbox;
        loop {
            let timeout = self.timeout();
            let mut asked = None;
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(Ended::Stopped),
                taken = inputs.recv_many(&mut batch, INPUTS_PER_TURN) => {
                    if taken == 0 {
                        return Ok(Ended::Stopped);
                    }
                }
                Some(query) = queries.recv() => {
                    asked = Some(query);
                    // What came before it is in its answer.
                    while batch.len() < INPUTS_PER_TURN && let Ok(input) = inputs.try_recv() {
                        batch.push(input);
                    }
                }
                () = tokio::time::sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {}
            }
            self.look_at_the_wall();
            for input in batch.drain(..) {
                if let Some(ended) = self.take(input, queries).await {
                    return Ok(ended);
                }
            }
            let more = std::iter::from_fn(|| queries.try_recv().ok()).take(QUERIES_PER_TURN);
            for query in asked.into_iter().chain(more) {
                query(&self.scheduler, self.clock.now());
            }
            if let Some(ended) = self.turn(queries).await {
                return Ok(ended);
            }
        }
    }

    /// Tells the scheduler when somebody set this machine's clock.
    fn look_at_the_wall(&mut self) {
        if let Some(step) = self.clock.step() {
            let words = "this machine's clock was set: windows and `finish_by` follow it, all else goes on";
            tracing::warn!(step = step.in_words(), "{words}");
            self.scheduler.set_wall_clock(step.ahead_us);
        }
    }

    /// When the scheduler wants to be called without an event.
    fn timeout(&self) -> Option<Instant> {
        let due = self.scheduler.poll_timeout()?;
        Some(self.clock.when(due).min(Instant::now() + WALL_LOOK))
    }

    async fn take(&mut self, input: Input, queries: &mut mpsc::Receiver<Query>) -> Option<Ended> {
        let now = self.clock.now();
        match input {
            Input::Event(event) => {
                if let Event::Disconnected { stream, .. } = &*event {
                    self.links.remove(stream);
                }
                self.scheduler.handle(*event, now);
            }
            Input::Heard(event, _place) => self.scheduler.handle(*event, now),
            Input::Request { make, reply } => {
                let request = self.expect_reply(reply);
                self.scheduler.handle(make(request), now);
            }
            Input::Submit { mut submission, moment, reply } => {
                if self.moments.have_passed(moment) {
                    if let Some(ended) = self.turn(queries).await {
                        return Some(ended);
                    }
                    match submission::look_up(&*self.shell.store, &mut submission).await {
                        Ok(None) => {}
                        Ok(Some(known)) => {
                            // Whoever asked may have gone.
                            let _ = reply.send(known);
                            return None;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot look whether a job was submitted before");
                            return None;
                        }
                    }
                }
                let request = self.expect_reply(reply);
                self.scheduler.handle(Event::Submit { request, submission }, now);
            }
            Input::Attach { stream, link } => {
                self.links.insert(stream, link);
            }
            Input::Retry { job, by, finish_by, reply } => {
                // What the store says must be what the scheduler knows, so all that happened is committed first.
                if let Some(ended) = self.turn(queries).await {
                    return Some(ended);
                }
                match submission::look_up_retry(&*self.shell.store, job, by, finish_by).await {
                    // Whoever asked is told to try again by the end of its channel.
                    Err(error) => tracing::warn!(%error, "cannot read what is to be retried"),
                    Ok(None) => drop(reply.send(Reply::Refused(Refusal::NoJob(job)))),
                    Ok(Some(retry)) => {
                        let request = self.expect_reply(reply);
                        self.shell.catalogue.reopen(&retry.job);
                        self.scheduler.handle(Event::Retry { request, retry: Box::new(retry) }, now);
                    }
                }
            }
        }
        None
    }

    fn expect_reply(&mut self, reply: oneshot::Sender<Reply>) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.replies.insert(request, reply);
        request
    }

    /// Drains the scheduler's effects: commits all records, then sends and answers.
    async fn turn(&mut self, queries: &mut mpsc::Receiver<Query>) -> Option<Ended> {
        let now = self.clock.now();
        self.scheduler.handle_timeout(now);
        let turn = Turn::drain(&mut self.scheduler);
        for change in turn.changes() {
            self.shell.catalogue.follow(change);
        }
        let news = News::of(turn.changes());
        let recorded = !turn.changes().is_empty();
        if recorded {
            tracing::trace!(target: "parts", "turn decided");
        }
        // What a frozen process wanted to say before another took over must not be said when it wakes up.
        let turn = if self.shell.lease.is_certain() { turn } else { turn.to_be_confirmed() };
        let shutdown = self.shutdown.clone();
        let sealed = tokio::select! {
            committed = self.commit(turn, queries) => match committed {
                Ok(sealed) => sealed,
                Err(ended) => return Some(ended),
            },
            () = shutdown.cancelled() => return Some(Ended::Stopped),
        };
        if recorded {
            tracing::trace!(target: "parts", "turn committed");
        }
        self.announce(news);
        for order in sealed.orders {
            self.send(order);
        }
        for custody in sealed.custody {
            // The custodian ends with the term.
            let _ = self.shell.custody.send(custody);
        }
        for (request, reply) in sealed.replies {
            if let Some(waiting) = self.replies.remove(&request) {
                // Whoever asked may have gone.
                let _ = waiting.send(reply);
            }
        }
        None
    }

    /// Commits, and shows people who look meanwhile what was decided if that takes long.
    async fn commit(&mut self, turn: Turn, queries: &mut mpsc::Receiver<Query>) -> Result<Sealed, Ended> {
        let began = Instant::now();
        let result = {
            let mut committing = std::pin::pin!(self.try_to_commit(turn));
            let mut patience = std::pin::pin!(tokio::time::sleep(QUERY_PATIENCE));
            loop {
                tokio::select! {
                    biased;
                    result = &mut committing => break result,
                    () = &mut patience, if !patience.is_elapsed() => {}
                    Some(query) = queries.recv(), if patience.is_elapsed() => query(&self.scheduler, self.clock.now()),
                }
            }
        };
        excuse_silence(&mut self.scheduler, began.elapsed(), self.shell.limits.lease, self.clock.now());
        result
    }

    /// As often as it takes while the store certainly refuses: agents go on meanwhile and lose nothing.
    async fn try_to_commit(&self, mut turn: Turn) -> Result<Sealed, Ended> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(COMMIT_PAUSE_MIN)
            .with_max_delay(COMMIT_PAUSE_MAX)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            match turn.commit(&*self.shell.store, &self.lead).await {
                Committed::Done(sealed) => return Ok(sealed),
                Committed::Refused(again, error) => {
                    let pause = pauses.next().unwrap_or(COMMIT_PAUSE_MAX);
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "the store refused a commit; trying again");
                    tokio::time::sleep(pause).await;
                    turn = again;
                }
                Committed::Ended(ended, error) => {
                    tracing::warn!(%error, "the term ends with this commit");
                    return Err(ended);
                }
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { agent, stream, number, order } = outgoing;
        let last = matches!(order, Order::Goodbye { .. });
        let Some(link) = self.links.get(&stream) else { return };
        match link.send(number, order) {
            Posted::Waits if !last => return,
            Posted::Waits => {}
            Posted::Gone => tracing::debug!(%agent, "an order came too late for a stream that broke"),
            Posted::Behind => {
                tracing::warn!(%agent, "an agent does not keep up: it reads nothing of what it is told; its stream is closed");
            }
        }
        self.links.remove(&stream);
    }

    /// Wakes whoever watches jobs, and the keeper of revocations.
    fn announce(&self, news: News) {
        if news.job_ended {
            self.moments.pass();
        }
        for job in news.jobs {
            // Nobody may be watching.
            let _ = self.changed.send(job);
        }
        for agent in news.revoked {
            // The keeper ends with the server.
            let _ = self.shell.revoked.send(agent);
        }
    }
}

/// What others than agents learn of a turn.
struct News {
    jobs: BTreeSet<JobId>,
    revoked: Vec<AgentId>,
    job_ended: bool,
}

impl News {
    fn of(changes: &[Change]) -> Self {
        let revoked = changes.iter().filter_map(|change| match change {
            Change::AgentIntake { agent, intake, before, .. } => changes_who_is_out(*intake, *before).then_some(*agent),
            _ => None,
        });
        Self {
            jobs: changes.iter().filter_map(Change::job).collect(),
            revoked: revoked.collect(),
            job_ended: changes.iter().any(|change| matches!(change, Change::JobEnded { .. })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use lull_shared::{
        job::{Inputs, JobSpec},
        time::Timestamp,
    };

    use super::*;
    use crate::{
        dispatch::{Catalogue, DispatchError, Lease, channel},
        scheduler::{Limits, event::Submission},
        store::{
            Store, Takeover,
            faulty::{Fault, Faulty},
            memory::Memory,
        },
    };

    fn shell(store: Arc<dyn Store>, lease: Lease) -> Shell {
        let (revoked, _) = tokio::sync::mpsc::unbounded_channel();
        let (custody, _) = tokio::sync::mpsc::unbounded_channel();
        let catalogue = Arc::new(Catalogue::new(store.clone()));
        Shell { store, catalogue, limits: Limits::default(), tracker: Arc::default(), lease, revoked, custody }
    }

    /// A term whose lease has lapsed, over a store in which another may have taken over since.
    async fn asked_after_the_lease(overtaken: bool) -> (Result<Reply, DispatchError>, StoreResult<Ended>) {
        let store = Arc::new(Memory::default());
        let Ok(Takeover::Ours(lead)) = store.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let other = store.clone();
        let shell = shell(store, Lease::begin(Duration::ZERO));
        let (handle, mut inbox) = channel();
        let shutdown = CancellationToken::new();
        let leader = run(&shell, &lead, &mut inbox, &shutdown);
        let ask = async {
            if overtaken {
                other
                    .take_over("them", Duration::from_secs(6), Timestamp::from_millis(100_000))
                    .await
                    .expect("the lease is over");
            }
            let answer = handle.request(|request| Event::Cancel { request, job: JobId(7), by: "ann".into() }).await;
            shutdown.cancel();
            answer
        };
        let (ended, answer) = tokio::join!(leader, ask);
        (answer, ended)
    }

    #[tokio::test]
    async fn whoever_may_have_been_replaced_says_nothing_that_the_store_has_not_confirmed() {
        let (answer, ended) = asked_after_the_lease(true).await;
        assert!(answer.is_err(), "{answer:?}");
        assert!(matches!(ended, Ok(Ended::Fenced)), "{ended:?}");
    }

    #[tokio::test]
    async fn whoever_was_not_replaced_answers_when_the_store_has_confirmed_it() {
        let (answer, ended) = asked_after_the_lease(false).await;
        assert!(matches!(answer, Ok(Reply::Refused(Refusal::NoJob(JobId(7))))), "{answer:?}");
        assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
    }

    #[tokio::test]
    async fn people_who_look_are_answered_while_the_store_refuses_to_remember_more() {
        let memory = Arc::new(Memory::default());
        let Ok(Takeover::Ours(lead)) = memory.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let refuses = |method: &str| if method == "commit" { Fault::Refused } else { Fault::None };
        let store = Arc::new(Faulty::new(memory, refuses));
        let shell = shell(store, Lease::begin(Duration::from_secs(600)));
        let (handle, mut inbox) = channel();
        let shutdown = CancellationToken::new();
        let leader = run(&shell, &lead, &mut inbox, &shutdown);
        let ask = async {
            let submission = Submission {
                owner: lull_shared::id::TokenId(1),
                submitter: "ann".into(),
                spec: JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: 1 }),
                version_name: "f@1".into(),
                seed: 1,
                movable: None,
                ended: BTreeMap::new(),
            };
            let jobs = || handle.query(|scheduler, now| scheduler.jobs(now).len());
            let mut waits = std::pin::pin!(handle.submit(submission, handle.moment()));
            // The first answer that has the job in it may come before the commit is tried, the next one cannot.
            let mut seen = 0;
            while seen < 2 {
                tokio::select! {
                    answer = &mut waits => panic!("nothing is remembered: {answer:?}"),
                    jobs = jobs() => seen += jobs.expect("an answer"),
                }
            }
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(leader, ask);
        assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
    }
}
