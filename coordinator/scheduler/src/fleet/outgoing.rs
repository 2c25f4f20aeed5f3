//! What is said to an agent at the end of a turn, gathered so that one turn makes few orders.

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AgentId, AttemptId, JobId, TaskId},
    limits::{ASSIGNMENTS_PER_FRAME_MAX, CARDS_MAX, SNAPSHOTS_PER_AGENT_MAX},
    message::RecallReason,
    resources::Card,
};

use crate::{
    Scheduler,
    effect::{Effect, Given, Order},
};

/// Words that wait for the end of the turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    pub acknowledge: Vec<AttemptId>,
    recalls: Vec<(RecallReason, Vec<AttemptId>)>,
    pub forget: Vec<JobId>,
    pub discard: Vec<Digest>,
    pub keep: Vec<(TaskId, BlobRef)>,
    pub safe: Vec<Digest>,
    pub wake: Vec<Card>,
    pub assign: Vec<Given>,
}

impl Outgoing {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { acknowledge, recalls, forget, discard, keep, safe, wake, assign } = self;
        acknowledge.is_empty()
            && recalls.is_empty()
            && forget.is_empty()
            && discard.is_empty()
            && keep.is_empty()
            && safe.is_empty()
            && wake.is_empty()
            && assign.is_empty()
    }

    /// Asks an attempt back, among others for the same reason.
    pub(crate) fn recall(&mut self, attempt: AttemptId, reason: RecallReason) {
        match self.recalls.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, attempts)) => attempts.push(attempt),
            None => self.recalls.push((reason, vec![attempt])),
        }
    }
}

impl Scheduler {
    /// Sends one order now; nothing if the agent has no stream. Its number.
    pub(crate) fn send(&mut self, id: AgentId, order: Order) -> Option<u64> {
        let (number, stream) = self.fleet.number_order(id)?;
        self.effects.push_back(Effect::Send { agent: id, stream, number, order });
        Some(number)
    }

    /// Sends everything that waits. What waits for an agent without a stream is forgotten: it is told anew when it is back.
    pub(crate) fn flush(&mut self) {
        while let Some((id, outgoing)) = self.fleet.next_words() {
            if self.fleet.get(id).is_some_and(|agent| agent.stream().is_some()) {
                self.flush_agent(id, outgoing);
            }
        }
    }

    fn flush_agent(&mut self, id: AgentId, outgoing: Outgoing) {
        if !outgoing.acknowledge.is_empty() {
            self.flush_acknowledge(id, outgoing.acknowledge);
        }
        for (reason, attempts) in outgoing.recalls {
            self.flush_recall(id, reason, attempts);
        }
        for job in outgoing.forget {
            self.send(id, Order::Forget { job });
        }
        let mut discard = outgoing.discard.into_iter().peekable();
        while discard.peek().is_some() {
            let snapshots = discard.by_ref().take(SNAPSHOTS_PER_AGENT_MAX).collect();
            self.send(id, Order::Discard { snapshots });
        }
        for (task, snapshot) in outgoing.keep {
            self.send(id, Order::Keep { task, snapshot });
        }
        for cards in outgoing.wake.chunks(CARDS_MAX) {
            self.send(id, Order::Wake { cards: cards.to_vec() });
        }
        let mut safe = outgoing.safe.into_iter().peekable();
        while safe.peek().is_some() {
            let snapshots = safe.by_ref().take(SNAPSHOTS_PER_AGENT_MAX).collect();
            self.send(id, Order::Safe { snapshots });
        }
        let mut attempts = outgoing.assign.into_iter().peekable();
        while attempts.peek().is_some() {
            let batch: Vec<_> = attempts.by_ref().take(ASSIGNMENTS_PER_FRAME_MAX).collect();
            self.flush_assign(id, batch);
        }
    }

    pub(crate) fn flush_acknowledge(&mut self, id: AgentId, attempts: Vec<AttemptId>) {
        let number = self.fleet.agent(id).stream().map_or(0, |stream| stream.orders + 1);
        let accepted = &mut self.fleet.known(id).accepted;
        for attempt in &attempts {
            if let Some(order) = accepted.get_mut(attempt) {
                *order = number;
            }
        }
        self.send(id, Order::Acknowledge { attempts });
    }

    fn flush_recall(&mut self, id: AgentId, reason: RecallReason, attempts: Vec<AttemptId>) {
        let number = self.fleet.agent(id).stream().map_or(0, |stream| stream.orders + 1);
        for attempt in &attempts {
            let agent = self.fleet.known(id);
            if let Some(recall) = agent.held.get_mut(attempt).and_then(|held| held.recall.as_mut()) {
                recall.order = number;
            }
            if let Some(order) = agent.withdrawn.get_mut(attempt) {
                *order = number;
            }
        }
        self.send(id, Order::Recall { attempts, reason });
    }

    fn flush_assign(&mut self, id: AgentId, attempts: Vec<Given>) {
        let mut last = None;
        for job in attempts.iter().map(|given| given.attempt.task.job) {
            if last != Some(job) {
                self.teach(id, job);
                last = Some(job);
            }
        }
        let agent = self.fleet.known(id);
        let number = agent.stream().map_or(0, |stream| stream.orders + 1);
        for given in &attempts {
            if let Some(held) = agent.held.get_mut(&given.attempt) {
                held.order = number;
            }
        }
        self.send(id, Order::Assign { attempts });
    }

    /// Sends a job's brief if the stream has not had them, and lets the agent forget another job if it knows too many.
    fn teach(&mut self, id: AgentId, job: JobId) {
        let agent = self.fleet.known(id);
        let Some(stream) = agent.stream_mut() else { return };
        if !stream.briefs.insert(job) {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            job.known_by.insert(id);
        }
        // It may have had attempts of more jobs than it should know, which have ended since.
        while self.has_too_many_terms(id) && self.forget_one(id, job) {}
        self.send(id, Order::Brief { job });
    }

    fn has_too_many_terms(&mut self, id: AgentId) -> bool {
        let max = self.limits.terms_per_agent_max;
        self.fleet.agent(id).stream().is_some_and(|stream| stream.briefs.len() > max)
    }

    /// Lets the agent forget a job of which it has no attempts. `false`: there is none.
    fn forget_one(&mut self, id: AgentId, except: JobId) -> bool {
        let agent = self.fleet.known(id);
        let Some(stream) = agent.stream() else { return false };
        let has_attempts = |job: JobId| {
            let first = AttemptId { task: lull_shared::id::TaskId { job, index: 0 }, number: 0 };
            agent.held.range(first..).next().is_some_and(|(attempt, _)| attempt.task.job == job)
        };
        let idle = stream.briefs.iter().copied().find(|job| *job != except && !has_attempts(*job));
        let Some(job) = idle else { return false };
        if let Some(stream) = self.fleet.known(id).stream_mut() {
            stream.briefs.remove(&job);
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            job.known_by.remove(&id);
        }
        self.send(id, Order::Forget { job });
        true
    }
}
