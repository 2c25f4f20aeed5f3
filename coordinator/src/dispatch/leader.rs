//! The loop itself, from loading the store to the end of a term.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_scheduler::{
    Scheduler,
    effect::{Change, Look, Order, Refusal, Reply},
    event::{Event, RequestId, StreamId},
};
use lull_shared::{
    id::{AgentId, JobId, VersionId},
    message::ToCoordinator,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    AgentLink, Inbox, Input, Query, Shell,
    company::{self, Company},
    submission,
    turn::{Committed, Outgoing, Sealed, Turn},
    writer::Posted,
};
use crate::{
    clock::Steady,
    pauses::Pauses,
    store::{Lead, Loaded, StoreResult, changes_who_is_out},
};

/// Inputs taken at once: bounds the time between two looks at the clock. What they change is committed in turns that have
/// their own bounds.
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

/// Pauses between tries to read what the scheduler asks for.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(50);
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the loop came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Another coordinator leads.
    Fenced,
    /// The store is in doubt, or holds something else than was thought: load it again.
    InDoubt,
    /// The store has forgotten what it had confirmed.
    Forgotten,
}

/// Loads the store and leads until told to stop. Agents' streams are closed at the end.
pub async fn run(shell: &Shell, lead: &Lead, inbox: &mut Inbox, shutdown: &CancellationToken) -> StoreResult<Ended> {
    let loading = shutdown.run_until_cancelled(load(shell, lead)).await;
    let Some(restored) = loading.transpose()? else { return Ok(Ended::Stopped) };
    let Some(Restored { clock, scheduler }) = restored else { return Ok(Ended::Forgotten) };
    inbox.moments.pass();
    let leader = Leader {
        shell,
        lead: lead.clone(),
        clock,
        scheduler,
        links: BTreeMap::new(),
        replies: BTreeMap::new(),
        company: Company::new(shell.turn_wait),
        last_request: 0,
        looks: JoinSet::new(),
        changed: inbox.changed.clone(),
        moments: inbox.moments.clone(),
        shutdown: shutdown.clone(),
    };
    leader.run(inbox).await
}

/// A scheduler that knows what the store knows, and its clock.
struct Restored {
    clock: Steady,
    scheduler: Scheduler,
}

/// None: the store has forgotten something.
async fn load(shell: &Shell, lead: &Lead) -> StoreResult<Option<Restored>> {
    let Loaded { mut snapshot, lost } = shell.store.load(lead).await?;
    if let Some(lost) = lost {
        shell.losses.note(lost.to_string());
        return Ok(None);
    }
    shell.losses.gave(snapshot.last_job);
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
    Ok(Some(Restored { clock, scheduler }))
}

struct Leader<'a> {
    shell: &'a Shell,
    lead: Lead,
    clock: Steady,
    scheduler: Scheduler,
    links: BTreeMap<StreamId, AgentLink>,
    replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    company: Company,
    last_request: u64,
    /// What the scheduler asked of the store, on its way. It ends with the term.
    looks: JoinSet<Event>,
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
            let (mut asked, mut seen) = (None, None);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(Ended::Stopped),
                // First, since there is one for each job at the most; and whatever waits comes with it.
                Some(found) = self.looks.join_next() => {
                    match looked(found) {
                        Some(event) => seen = Some(event),
                        None => return Ok(Ended::InDoubt),
                    }
                    take_waiting(inputs, &mut batch);
                }
                taken = inputs.recv_many(&mut batch, INPUTS_PER_TURN) => {
                    if taken == 0 {
                        return Ok(Ended::Stopped);
                    }
                    asked = self.gather(&mut batch, inputs, queries, timeout).await;
                }
                Some(query) = queries.recv() => {
                    asked = Some(query);
                    // What came before it is in its answer.
                    take_waiting(inputs, &mut batch);
                }
                () = tokio::time::sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {}
            }
            self.look_at_the_wall();
            if let Some(event) = seen {
                self.scheduler.handle(event, self.clock.now());
            }
            for input in batch.drain(..) {
                // What a few inputs bring about may be more than all others together.
                if self.scheduler.is_full()
                    && let Some(ended) = self.settle(queries).await
                {
                    return Ok(ended);
                }
                if let Some(ended) = self.take(input, queries).await {
                    return Ok(ended);
                }
            }
            if let Some(query) = asked {
                query(&self.scheduler, self.clock.now());
            }
            self.answer(queries);
            if let Some(ended) = self.settle(queries).await {
                return Ok(ended);
            }
        }
    }

    /// Lets more words of agents come to those that are here, as far as nobody is idle for that. Somebody who looks meanwhile
    /// ends it, and so does whatever else comes.
    async fn gather(
        &self,
        batch: &mut Vec<Input>,
        inputs: &mut mpsc::Receiver<Input>,
        queries: &mut mpsc::Receiver<Query>,
        timeout: Option<Instant>,
    ) -> Option<Query> {
        let until = self.company.until(Instant::now())?;
        let until = timeout.map_or(until, |timeout| until.min(timeout));
        let (mut told, mut looked_at, mut results) = (BTreeMap::new(), 0, 0);
        loop {
            for input in &batch[looked_at..] {
                results += self.patient_results(input, &mut told)?;
            }
            looked_at = batch.len();
            if results >= company::FULL || batch.len() >= INPUTS_PER_TURN {
                return None;
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                Some(input) = inputs.recv() => batch.push(input),
                Some(query) = queries.recv() => return Some(query),
                () = tokio::time::sleep_until(until) => return None,
            }
        }
    }

    /// How many results an input brings, if its agent has enough to do without an answer; `told` counts those before it.
    fn patient_results(&self, input: &Input, told: &mut BTreeMap<AgentId, usize>) -> Option<usize> {
        let Input::Heard(event, _) = input else { return None };
        let Event::Message { agent, message, .. } = &**event else { return None };
        let results = match message {
            ToCoordinator::Finished(results) => results.len(),
            ToCoordinator::Started { .. } | ToCoordinator::Heartbeat { .. } => 0,
            _ => return None,
        };
        let all = told.entry(*agent).or_default();
        *all += results;
        // The other half is what it runs until it is told more.
        (results == 0 || *all <= self.scheduler.waiting_at(*agent) / 2).then_some(results)
    }

    /// Answers people who look.
    fn answer(&self, queries: &mut mpsc::Receiver<Query>) {
        for query in std::iter::from_fn(|| queries.try_recv().ok()).take(QUERIES_PER_TURN) {
            query(&self.scheduler, self.clock.now());
        }
    }

    /// Has everything remembered and said that was decided, a turn at a time; people who look are answered in between.
    async fn settle(&mut self, queries: &mut mpsc::Receiver<Query>) -> Option<Ended> {
        let began = Instant::now();
        self.scheduler.handle_timeout(self.clock.now());
        loop {
            if let Some(ended) = self.turn(queries).await {
                return Some(ended);
            }
            if self.scheduler.next_effect().is_none() {
                break;
            }
            // Whoever wants to look has a moment to say so, whatever the store is.
            tokio::task::yield_now().await;
            self.answer(queries);
        }
        self.scheduler.excuse_silence(began.elapsed(), self.clock.now());
        None
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
                    if let Some(ended) = self.settle(queries).await {
                        return Some(ended);
                    }
                    let looking = submission::look_up(&*self.shell.store, &mut submission);
                    let looking = self.shutdown.run_until_cancelled(self.meanwhile(queries, looking));
                    let Some(found) = looking.await else { return Some(Ended::Stopped) };
                    match found {
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
                if let Some(ended) = self.settle(queries).await {
                    return Some(ended);
                }
                let looking = submission::look_up_retry(&*self.shell.store, job, by, finish_by, self.shell.limits.retry_part_max);
                let looking = self.shutdown.run_until_cancelled(self.meanwhile(queries, looking));
                let Some(found) = looking.await else { return Some(Ended::Stopped) };
                match found {
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

    /// Drains the scheduler's effects, as far as one transaction goes: commits all records, then sends and answers.
    async fn turn(&mut self, queries: &mut mpsc::Receiver<Query>) -> Option<Ended> {
        let turn = Turn::drain(&mut self.scheduler);
        for change in turn.changes() {
            self.shell.catalogue.follow(change);
            if let Change::JobSubmitted(new) = change {
                self.shell.losses.gave(new.job.0);
            }
        }
        let news = News::of(turn.changes());
        let results = turn.changes().iter().filter(|change| matches!(change, Change::AttemptEnded(_))).count();
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
            self.company.note(results, Instant::now());
        }
        self.announce(news);
        for order in sealed.orders {
            self.send(order);
        }
        for own_copy in sealed.own_copies {
            // What keeps them ends with the term.
            let _ = self.shell.own_copies.send(own_copy);
        }
        for look in sealed.looks {
            self.look(look);
        }
        for (request, reply) in sealed.replies {
            if let Some(waiting) = self.replies.remove(&request) {
                // Whoever asked may have gone.
                let _ = waiting.send(reply);
            }
        }
        None
    }

    /// Reads what the scheduler asks for, beside the loop, as often as it takes.
    fn look(&mut self, look: Look) {
        let store = self.shell.store.clone();
        self.looks.spawn(async move {
            let wrong = format!("cannot read which tasks of {} are to run again", look.job);
            Pauses::new(LOOK_PAUSE_MIN, LOOK_PAUSE_MAX).insist(&wrong, || submission::look_at(&*store, look)).await
        });
    }

    /// Commits, and shows people who look meanwhile what was decided if that takes long.
    async fn commit(&mut self, turn: Turn, queries: &mut mpsc::Receiver<Query>) -> Result<Sealed, Ended> {
        self.meanwhile(queries, self.try_to_commit(turn)).await
    }

    /// Waits for the store, and answers people who look meanwhile if that takes long.
    async fn meanwhile<T>(&self, queries: &mut mpsc::Receiver<Query>, work: impl Future<Output = T>) -> T {
        let mut working = std::pin::pin!(work);
        let mut patience = std::pin::pin!(tokio::time::sleep(QUERY_PATIENCE));
        loop {
            tokio::select! {
                biased;
                result = &mut working => return result,
                () = &mut patience, if !patience.is_elapsed() => {}
                Some(query) = queries.recv(), if patience.is_elapsed() => query(&self.scheduler, self.clock.now()),
            }
        }
    }

    /// As often as it takes while the store certainly refuses: agents go on meanwhile and lose nothing.
    async fn try_to_commit(&self, mut turn: Turn) -> Result<Sealed, Ended> {
        let mut pauses = Pauses::new(COMMIT_PAUSE_MIN, COMMIT_PAUSE_MAX);
        loop {
            match turn.commit(&*self.shell.store, &self.lead).await {
                Committed::Done(sealed) => return Ok(sealed),
                Committed::Refused(again, error) => {
                    let pause = pauses.take();
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "the store refused a commit; trying again");
                    tokio::time::sleep(pause).await;
                    turn = again;
                }
                Committed::Ended(_, error) if self.shell.losses.judge(&error, &self.lead) => return Err(Ended::Forgotten),
                Committed::Ended(ended, error) => {
                    tracing::warn!(%error, "what was thought of the store ends with this commit");
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

/// Takes the inputs that are there.
fn take_waiting(inputs: &mut mpsc::Receiver<Input>, batch: &mut Vec<Input>) {
    while batch.len() < INPUTS_PER_TURN
        && let Ok(input) = inputs.try_recv()
    {
        batch.push(input);
    }
}

/// What was read; none: the reading itself broke, and who loads anew asks again.
fn looked(found: Result<Event, JoinError>) -> Option<Event> {
    found.inspect_err(|error| tracing::error!(%error, "what the scheduler asked of the store cannot be read")).ok()
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
mod tests;
