//! The loop itself, from loading the store to the end of a term.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use lull_shared::{
    id::{AgentId, JobId, VersionId},
    message::ToCoordinator,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    AgentLink, Inbox, Input, Query, Shell,
    company::{self, Company},
    submission,
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
        company: Company::default(),
        last_request: 0,
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
                    asked = self.gather(&mut batch, inputs, queries, timeout).await;
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
        (results == 0 || *all <= self.scheduler.waiting_at(*agent)).then_some(results)
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
        excuse_silence(&mut self.scheduler, began.elapsed(), self.shell.limits.lease, self.clock.now());
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
                let looking = submission::look_up_retry(&*self.shell.store, job, by, finish_by);
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
        let began = Instant::now();
        let sealed = tokio::select! {
            committed = self.commit(turn, queries) => match committed {
                Ok(sealed) => sealed,
                Err(ended) => return Some(ended),
            },
            () = shutdown.cancelled() => return Some(Ended::Stopped),
        };
        if recorded {
            tracing::trace!(target: "parts", "turn committed");
            self.company.note(results, began.elapsed(), Instant::now());
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
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use lull_shared::{
        id::{AttemptId, TaskId, Term, TokenId},
        job::{Inputs, JobSpec},
        message::{Build, Finished, Hello, Outcome, Payload},
        resources::{Capacity, Machine},
        state::{AttemptEnd, Intake, JobState, Usage},
        time::Timestamp,
    };

    use super::*;
    use crate::{
        dispatch::{Catalogue, DispatchError, Lease, LeaseTimes, channel},
        scheduler::{
            Limits,
            effect::{EndedAttempt, NewJob, TaskAfter},
            event::{AgentSnapshot, Submission},
        },
        store::{
            Leadership as _, Ledger as _, Reading as _, Registry as _, Store, Takeover,
            faulty::{Fault, Faulty},
            memory::Memory,
            record::{Enrolment, EnrolmentOutcome, NewToken, TokenRole},
        },
    };

    fn shell(store: Arc<dyn Store>, lease: Lease) -> Shell {
        let (revoked, _) = tokio::sync::mpsc::unbounded_channel();
        let (custody, _) = tokio::sync::mpsc::unbounded_channel();
        let catalogue = Arc::new(Catalogue::new(store.clone()));
        Shell {
            store,
            catalogue,
            limits: Limits::default(),
            tracker: Arc::default(),
            lease,
            losses: Arc::default(),
            revoked,
            custody,
        }
    }

    fn lease(length: Duration) -> Lease {
        Lease::begin(LeaseTimes { length, ..LeaseTimes::default() })
    }

    /// A term whose lease has lapsed, over a store in which another may have taken over since.
    async fn asked_after_the_lease(overtaken: bool) -> (Result<Reply, DispatchError>, StoreResult<Ended>) {
        let store = Arc::new(Memory::default());
        let Ok(Takeover::Ours(lead)) = store.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let other = store.clone();
        let shell = shell(store, lease(Duration::ZERO));
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
        let shell = shell(store, lease(Duration::from_secs(600)));
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

    /// More than a transaction takes.
    const MANY: u32 = 10_000;

    /// A store in which many tasks of a job wait to be started again, and its term.
    async fn with_many_that_wait() -> (Arc<Memory>, Lead) {
        let memory = Arc::new(Memory::default());
        let Ok(Takeover::Ours(lead)) = memory.take_over("us", Duration::from_secs(6), Timestamp(0)).await else {
            panic!("a new store has no leader");
        };
        let agent = enrolled(&memory, &lead).await;
        let new = NewJob {
            job: JobId(1),
            owner: Some(TokenId(1)),
            submitter: "ann".into(),
            spec: JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: MANY }),
            version_name: "f@1".into(),
            seed: 1,
            movable: None,
            at: Timestamp(0),
        };
        memory.commit(&lead, &[Change::JobSubmitted(Box::new(new))]).await.expect("memory takes it");
        let attempts = (0..MANY).map(|index| AttemptId { task: TaskId { job: JobId(1), index }, number: 1 });
        let began = attempts.clone().map(|attempt| Change::AttemptStarted {
            attempt,
            agent,
            at: Timestamp(0),
            build: Build::Plain,
            resume: None,
            beside: false,
            cause: None,
        });
        let ended = attempts.map(|attempt| {
            Change::AttemptEnded(Box::new(EndedAttempt {
                attempt,
                agent,
                end: AttemptEnd::Evicted,
                reason: None,
                failure: None,
                at: Timestamp(1),
                after: TaskAfter::Again { not_before: Timestamp(1), failures: 0 },
                output: None,
                answer: None,
                log: Default::default(),
                log_dropped_bytes: 0,
                usage: Default::default(),
                slot_us: 0,
            }))
        });
        memory.commit(&lead, &began.collect::<Vec<_>>()).await.expect("memory takes them");
        memory.commit(&lead, &ended.collect::<Vec<_>>()).await.expect("memory takes them");
        (memory, lead)
    }

    async fn enrolled(memory: &Memory, lead: &Lead) -> AgentId {
        let (fingerprint, at) = ([7; 32], Timestamp(0));
        let token = NewToken {
            role: TokenRole::Agent,
            name: Some("desks".into()),
            bound: Default::default(),
            fingerprint,
            uses_max: None,
            expires: None,
            by: "root".into(),
            at,
        };
        let token = memory.create_token(lead, token).await.expect("memory answers").expect("a new name").token;
        let enrolment = Enrolment { token, fingerprint, peer: vec![1], name: "desk".into(), at };
        match memory.enrol(lead, enrolment).await.expect("memory answers") {
            EnrolmentOutcome::Enrolled { agent, .. } => agent.agent,
            other => panic!("{other:?}"),
        }
    }

    fn cancel(request: RequestId) -> Event {
        Event::Cancel { request, job: JobId(1), by: "ann".into() }
    }

    #[tokio::test]
    async fn what_changes_more_than_a_transaction_takes_is_cut_and_people_who_look_are_answered_in_between() {
        let (memory, lead) = with_many_that_wait().await;
        let commits = Arc::<AtomicU32>::default();
        let counted = commits.clone();
        let store = Faulty::new(memory.clone(), move |method| {
            counted.fetch_add(u32::from(method == "commit"), Ordering::Relaxed);
            Fault::None
        });
        let shell = shell(Arc::new(store), lease(Duration::from_secs(600)));
        let (handle, mut inbox) = channel();
        let shutdown = CancellationToken::new();
        let leader = run(&shell, &lead, &mut inbox, &shutdown);
        let ask = async {
            let mut cancelled = std::pin::pin!(handle.request(cancel));
            // How many commits there were at each answer.
            let mut looks = Vec::new();
            let reply = loop {
                tokio::select! {
                    biased;
                    reply = &mut cancelled => break reply,
                    _ = handle.query(|scheduler, now| scheduler.jobs(now).len()) => looks.push(commits.load(Ordering::Relaxed)),
                }
            };
            assert!(matches!(reply, Ok(Reply::Done { affected }) if affected == u64::from(MANY)), "{reply:?}");
            let all = commits.load(Ordering::Relaxed);
            assert!(all >= MANY / 4_096, "{all} commits");
            assert!(looks.iter().any(|at| (1..all).contains(at)), "looked after {looks:?} of {all} commits");
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(leader, ask);
        assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
        let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
        assert_eq!((job.state, job.counts.cancelled), (JobState::Cancelled, MANY));
    }

    #[tokio::test]
    async fn a_coordinator_that_dies_between_two_parts_is_followed_by_one_that_does_the_rest() {
        for committed in 1..=MANY / 4_096 {
            let (memory, lead) = with_many_that_wait().await;
            let mut left = committed;
            let store = Faulty::new(memory.clone(), move |method| match method {
                "commit" if left == 0 => Fault::Lost,
                "commit" => {
                    left -= 1;
                    Fault::None
                }
                _ => Fault::None,
            });
            let shell_of = |store| shell(store, lease(Duration::from_secs(600)));
            let (handle, mut inbox) = channel();
            let shutdown = CancellationToken::new();
            let dies = shell_of(Arc::new(store));
            let (ended, _) = tokio::join!(run(&dies, &lead, &mut inbox, &shutdown), async {
                // The reply dies with its coordinator, or came before it did.
                let asked = tokio::time::timeout(Duration::from_secs(60), handle.request(cancel)).await;
                asked.is_ok()
            });
            assert!(matches!(ended, Ok(Ended::InDoubt)), "{ended:?}");
            let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
            assert!(job.state == JobState::Active && job.counts.cancelled > 0 && job.counts.cancelled < MANY, "{job:?}");
            let follows = shell_of(memory.clone());
            let (ended, ()) = tokio::join!(run(&follows, &lead, &mut inbox, &shutdown), async {
                while handle.query(|scheduler, now| scheduler.jobs(now).len()).await != Ok(0) {}
                // What was decided is committed before this is answered.
                let after = handle.request(cancel).await;
                assert!(matches!(after, Ok(Reply::Refused(Refusal::NoJob(JobId(1))))), "{after:?}");
                shutdown.cancel();
            });
            assert!(matches!(ended, Ok(Ended::Stopped)), "{ended:?}");
            let job = memory.job(JobId(1)).await.expect("memory answers").expect("submitted");
            assert_eq!((job.state, job.counts.cancelled), (JobState::Cancelled, MANY), "after {committed} commits");
        }
    }

    /// A scheduler with an agent that has short tasks waiting behind the one that it runs.
    fn with_a_busy_agent() -> (Scheduler, AgentId) {
        let (agent, at) = (AgentId(1), Timestamp::from_millis(1));
        let mut scheduler = Scheduler::restore(Default::default(), Limits::default(), 1, at);
        let name = "desk".to_owned();
        let snapshot = AgentSnapshot { agent, name, group: None, intake: Intake::Open, quarantine: None };
        scheduler.handle(Event::Enrolled { agent: snapshot }, at);
        let capacity = Capacity {
            agent,
            run: 0,
            sequence: 1,
            slots: 1,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 8 << 30,
            paused: None,
        };
        let machine = Machine { os: "linux".into(), arch: "x86_64".into(), cores: 2, memory_bytes: 16 << 30, engine: "e".into() };
        let hello = Box::new(Hello {
            agent_version: "1".into(),
            machine,
            labels: Default::default(),
            capacity,
            holding: Vec::new(),
            snapshots: Vec::new(),
            instance: Default::default(),
            open_cage: None,
        });
        scheduler.handle(Event::Connected { agent, stream: StreamId(1), hello, from: "here".into() }, at);
        let submission = Box::new(Submission {
            owner: TokenId(1),
            submitter: "ann".into(),
            spec: JobSpec::plain("nightly", VersionId(1), Inputs::Range { first: 0, count: 1_000 }),
            version_name: "f@1".into(),
            seed: 1,
            movable: None,
            ended: BTreeMap::new(),
        });
        scheduler.handle(Event::Submit { request: RequestId(1), submission }, at);
        for ms in 2..40 {
            let at = Timestamp::from_millis(ms);
            let attempt = scheduler.agent(agent).expect("enrolled").attempts[0];
            let started = ToCoordinator::Started { attempts: vec![attempt] };
            scheduler.handle(Event::Message { agent, stream: StreamId(1), message: started }, at);
            scheduler.handle(finished(agent, attempt), at);
            while scheduler.poll_effect().is_some() {}
        }
        assert!(scheduler.waiting_at(agent) >= 5, "{:?}", scheduler.agent(agent));
        (scheduler, agent)
    }

    fn finished(agent: AgentId, attempt: AttemptId) -> Event {
        let outcome = Outcome::Succeeded { output: Payload::inline(Vec::new()) };
        let usage = Usage { wall_us: 1_000, ..Usage::default() };
        let result = Finished { attempt, outcome, log: Default::default(), log_dropped_bytes: 0, usage };
        Event::Message { agent, stream: StreamId(1), message: ToCoordinator::Finished(vec![result]) }
    }

    async fn heard(event: Event) -> Input {
        let place = || async { Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.expect("it is open") };
        Input::Heard(Box::new(event), super::super::Place::new(Arc::new(place().await), place().await))
    }

    #[tokio::test]
    async fn results_wait_for_company_where_nobody_is_idle_for_it_and_nothing_else_waits() {
        let shell = shell(Arc::new(Memory::default()), lease(Duration::from_secs(600)));
        let (scheduler, agent) = with_a_busy_agent();
        let attempts = scheduler.agent(agent).expect("enrolled").attempts;
        let (_, moments) = (channel(), submission::Moments::default());
        let mut leader = Leader {
            shell: &shell,
            lead: Lead::new(Term(1), "us"),
            clock: Steady::start(),
            scheduler,
            links: BTreeMap::new(),
            replies: BTreeMap::new(),
            company: Company::default(),
            last_request: 0,
            changed: tokio::sync::broadcast::Sender::new(1),
            moments,
            shutdown: CancellationToken::new(),
        };
        let ((inbox, mut inputs), (_queries, mut queries)) = (mpsc::channel(1_024), mpsc::channel(1));
        let mut batch = vec![heard(finished(agent, attempts[0])).await];
        inbox.send(heard(finished(agent, attempts[1])).await).await.expect("there is room");
        assert!(leader.gather(&mut batch, &mut inputs, &mut queries, None).await.is_none());
        assert_eq!(batch.len(), 1, "the turn before had no company");
        leader.company.note(company::FULL, Duration::from_secs(1), Instant::now());
        leader.gather(&mut batch, &mut inputs, &mut queries, None).await;
        assert_eq!(batch.len(), 2, "the next is committed with it");

        // As many as wait there are no reason to hurry, one more is.
        let waiting = leader.scheduler.waiting_at(agent);
        for _ in 0..waiting + 2 {
            inbox.send(heard(finished(agent, attempts[2])).await).await.expect("there is room");
        }
        leader.company.note(company::FULL, Duration::from_secs(1), Instant::now());
        leader.gather(&mut batch, &mut inputs, &mut queries, None).await;
        assert_eq!(batch.len(), waiting + 1, "whoever has nothing more to run does not wait");

        let (reply, _) = oneshot::channel();
        let mut batch = vec![Input::Request { make: Box::new(cancel), reply }];
        leader.company.note(company::FULL, Duration::from_secs(1), Instant::now());
        leader.gather(&mut batch, &mut inputs, &mut queries, None).await;
        assert_eq!(batch.len(), 1, "a person does not wait");
    }
}
