//! The loop itself, from loading the store to the end of a reign.

use std::{collections::BTreeMap, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use lull_shared::{
    id::{AgentId, Epoch, JobId},
    limits,
    state::Intake,
    time::Timestamp,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{AgentLink, Inbox, Input, Shell};
use crate::{
    clock,
    scheduler::{
        Scheduler,
        effect::{Change, Effect, Order, Refusal, Reply},
        event::{Event, RequestId, StreamId},
    },
    store::{StoreError, StoreResult},
};

/// Inputs taken in one turn: bounds the size of a transaction and the time between two looks at the clock.
const INPUTS_PER_TURN: usize = 1024;
/// A commit that took this long made the loop deaf; silence of agents in the meantime proves nothing.
const STALL: Duration = Duration::from_millis(500);

/// Why the loop came to its end.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Another coordinator reigns.
    Fenced,
    /// The store is in doubt: load it again.
    InDoubt,
}

/// Loads the store and reigns until told to stop. Agents' streams are closed at the end.
pub async fn run(shell: &Shell, epoch: Epoch, inbox: &mut Inbox, shutdown: &CancellationToken) -> StoreResult<Ended> {
    let snapshot = shell.store.load(epoch).await?;
    tracing::info!(jobs = snapshot.jobs.len(), agents = snapshot.agents.len(), epoch = epoch.0, "the coordinator reigns");
    shell.catalogue.restore(&snapshot);
    let scheduler = Scheduler::restore(snapshot, shell.limits.clone(), rand::random(), clock::now());
    let reign = Reign {
        shell,
        epoch,
        scheduler,
        links: BTreeMap::new(),
        replies: BTreeMap::new(),
        last_request: 0,
        excused_until: None,
        changed: inbox.changed.clone(),
        shutdown: shutdown.clone(),
    };
    reign.run(inbox).await
}

struct Reign<'a> {
    shell: &'a Shell,
    epoch: Epoch,
    scheduler: Scheduler,
    links: BTreeMap<StreamId, AgentLink>,
    replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    last_request: u64,
    /// Until then nobody is taken for silent, since it was the loop that did not listen.
    excused_until: Option<Timestamp>,
    changed: tokio::sync::broadcast::Sender<JobId>,
    shutdown: CancellationToken,
}

impl Reign<'_> {
    async fn run(mut self, inbox: &mut Inbox) -> StoreResult<Ended> {
        let mut batch = Vec::with_capacity(INPUTS_PER_TURN);
        loop {
            let timeout = self.timeout();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(Ended::Stopped),
                taken = inbox.inputs.recv_many(&mut batch, INPUTS_PER_TURN) => {
                    if taken == 0 {
                        return Ok(Ended::Stopped);
                    }
                }
                () = tokio::time::sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {}
            }
            for input in batch.drain(..) {
                if let Some(ended) = self.take(input).await? {
                    return Ok(ended);
                }
            }
            if let Some(ended) = self.turn().await? {
                return Ok(ended);
            }
        }
    }

    /// When the scheduler wants to be called without an event.
    fn timeout(&self) -> Option<Instant> {
        let wanted = self.scheduler.poll_timeout()?.max(self.excused_until.unwrap_or(Timestamp(i64::MIN)));
        Some(Instant::now() + wanted.since(clock::now()))
    }

    async fn take(&mut self, input: Input) -> StoreResult<Option<Ended>> {
        let now = clock::now();
        match input {
            Input::Event(event) => {
                if let Event::Disconnected { stream, .. } = &*event {
                    self.links.remove(stream);
                }
                self.scheduler.handle(*event, now);
            }
            Input::Request { make, reply } => {
                let request = self.expect_reply(reply);
                self.scheduler.handle(make(request), now);
            }
            Input::Query(read) => read(&self.scheduler, now),
            Input::Attach { stream, link } => {
                self.links.insert(stream, link);
            }
            Input::Retry { job, by, reply } => {
                // What the store says must be what the scheduler knows, so all that happened is committed first.
                if let Some(ended) = self.turn().await? {
                    return Ok(Some(ended));
                }
                match self.shell.store.load_for_retry(job).await? {
                    None => drop(reply.send(Reply::Refused(Refusal::NoJob(job)))),
                    Some((snapshot, tasks)) => {
                        let request = self.expect_reply(reply);
                        self.shell.catalogue.reopen(&snapshot);
                        self.scheduler.handle(Event::Retry { request, job: Box::new(snapshot), tasks, by }, now);
                    }
                }
            }
        }
        Ok(None)
    }

    fn expect_reply(&mut self, reply: oneshot::Sender<Reply>) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.replies.insert(request, reply);
        request
    }

    /// Drains the scheduler's effects: commits all records, then sends and answers.
    async fn turn(&mut self) -> StoreResult<Option<Ended>> {
        let now = clock::now();
        if self.excused_until.is_none_or(|until| now >= until) {
            self.excused_until = None;
            self.scheduler.handle_timeout(now);
        }
        let (mut changes, mut orders, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(effect) = self.scheduler.poll_effect() {
            match effect {
                Effect::Record(change) => changes.push(change),
                Effect::Send { agent, stream, number, order } => orders.push((agent, stream, number, order)),
                Effect::Reply { request, reply } => replies.push((request, reply)),
            }
        }
        for change in &changes {
            self.shell.catalogue.follow(change);
        }
        if !changes.is_empty() {
            let shutdown = self.shutdown.clone();
            let committed = tokio::select! {
                committed = self.commit(&changes) => committed,
                () = shutdown.cancelled() => return Ok(Some(Ended::Stopped)),
            };
            match committed {
                Ok(()) => {}
                Err(StoreError::Fenced) => return Ok(Some(Ended::Fenced)),
                Err(StoreError::Indeterminate(error)) => {
                    tracing::warn!(%error, "the store is in doubt about a commit; loading it again");
                    return Ok(Some(Ended::InDoubt));
                }
                Err(error @ StoreError::Determinate(_)) => return Err(error),
            }
        }
        self.announce(&changes);
        for (agent, stream, number, order) in orders {
            self.send(agent, stream, number, order);
        }
        for (request, reply) in replies {
            if let Some(waiting) = self.replies.remove(&request) {
                // Whoever asked may have gone.
                let _ = waiting.send(reply);
            }
        }
        Ok(None)
    }

    /// Commits, as often as it takes while the store certainly refuses: agents go on meanwhile and lose nothing.
    async fn commit(&mut self, changes: &[Change]) -> StoreResult<()> {
        let began = Instant::now();
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times();
        let result = (|| self.shell.store.commit(self.epoch, changes))
            .retry(patience)
            .when(|error| matches!(error, StoreError::Determinate(_)))
            .notify(|error, pause| tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "the store refused a commit; trying again"))
            .await;
        if began.elapsed() > STALL {
            self.excused_until = Some(clock::now() + limits::LEASE);
        }
        result
    }

    fn send(&mut self, agent: AgentId, stream: StreamId, number: u64, order: Order) {
        let last = matches!(order, Order::Goodbye { .. });
        let Some(link) = self.links.get(&stream) else { return };
        if !link.send(number, order) {
            tracing::warn!(%agent, "an agent does not keep up with its orders; its stream is closed");
            self.links.remove(&stream);
        } else if last {
            self.links.remove(&stream);
        }
    }

    /// Wakes whoever watches jobs, and the keeper of revocations.
    fn announce(&self, changes: &[Change]) {
        let mut jobs: Vec<JobId> = changes.iter().filter_map(job_of).collect();
        jobs.sort_unstable();
        jobs.dedup();
        for job in jobs {
            // Nobody may be watching.
            let _ = self.changed.send(job);
        }
        for change in changes {
            if let Change::AgentIntake { agent, intake: Intake::Revoked, .. } = change {
                // The keeper ends with the server.
                let _ = self.shell.revoked.send(*agent);
            }
        }
    }
}

fn job_of(change: &Change) -> Option<JobId> {
    match change {
        Change::JobSubmitted(job) => Some(job.job),
        Change::JobStopped { job, .. } | Change::JobEnded { job, .. } | Change::JobRetried { job, .. } => Some(*job),
        Change::AttemptStarted { attempt, .. } | Change::AttemptPaused { attempt, .. } => Some(attempt.task.job),
        Change::AttemptEnded(ended) => Some(ended.attempt.task.job),
        Change::TaskEnded { task, .. } => Some(task.job),
        Change::ResultRefused { .. }
        | Change::AgentConnected { .. }
        | Change::AgentDisconnected { .. }
        | Change::AgentIntake { .. } => None,
    }
}
