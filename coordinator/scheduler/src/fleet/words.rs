//! What agents say on their streams, one word at a time.

use lull_shared::{
    id::{AgentId, AttemptId, JobId},
    limits::ATTEMPTS_PER_AGENT_MAX,
    message::{RecallReason, RefuseReason, ReleaseReason, ToCoordinator},
    state::{AttemptEnd, PauseReason, Trouble},
};

use crate::{
    Scheduler,
    attempts::{
        attempt::{Ending, REASON_BYTES_MAX},
        troubled::Own,
    },
    effect::{Change, Effect},
    event::StreamId,
    fleet::{
        agents::{Agent, Lack, Refusal},
        connection::too_many,
    },
    jobs::retry::pause_after_refusal,
    time::timers::Timer,
};

impl Scheduler {
    /// One word of an agent. A stream that is not its newest has nothing to say any more.
    pub(crate) fn message(&mut self, id: AgentId, stream: StreamId, message: ToCoordinator) {
        if self.fleet.get(id).and_then(Agent::stream).is_none_or(|current| current.id != stream) {
            return;
        }
        self.heard(id);
        match message {
            // The edge hands the first hello in as `Connected`; a second one says nothing new.
            ToCoordinator::Hello(_) => {}
            ToCoordinator::Started { attempts } if attempts.len() > ATTEMPTS_PER_AGENT_MAX => self.breach(id, too_many(), &[]),
            ToCoordinator::Started { attempts } => attempts.into_iter().for_each(|attempt| self.note_started(id, attempt)),
            ToCoordinator::Paused { attempt, reason } => self.paused(id, attempt, reason),
            ToCoordinator::Saved { attempt, snapshot } => self.save(id, attempt, snapshot),
            ToCoordinator::Cards(cards) => self.note_cards(id, cards),
            ToCoordinator::Sleeps => self.falls_asleep(id),
            ToCoordinator::Keeps(kept) => self.keeps(id, kept),
            ToCoordinator::Unkept { snapshot, reason } => self.unkept(id, snapshot, reason),
            ToCoordinator::Finished(results) if results.len() > ATTEMPTS_PER_AGENT_MAX => {
                let told: Vec<_> = results.iter().map(|finished| finished.attempt).collect();
                self.breach(id, too_many(), &told);
            }
            ToCoordinator::Finished(results) => self.finished(id, results),
            ToCoordinator::Released { attempts, .. } if attempts.len() > ATTEMPTS_PER_AGENT_MAX => {
                self.breach(id, too_many(), &[]);
            }
            ToCoordinator::Released { attempts, reason } => self.released(id, &attempts, &reason),
            ToCoordinator::Refused { attempt, reason } => self.refused(id, attempt, &reason),
            ToCoordinator::Heartbeat { frame_read, holding } => self.heartbeat(id, frame_read, holding),
            ToCoordinator::Capacity(capacity) if capacity.agent == id => self.capacity(id, capacity, false),
            ToCoordinator::Capacity(_) => {}
            ToCoordinator::Remains(remains) => self.note_remains(id, *remains),
            // The edge hands it to whoever reads it.
            ToCoordinator::Log(_) => {}
            // The edge hands in what matters of it as `Holders`.
            ToCoordinator::Blobs(_) => {}
            // So does the keeper of policies, but for the clock.
            ToCoordinator::Policy(report) => self.note_clock(id, report.clock_ahead_min),
            // The keeper of rollouts hears it.
            ToCoordinator::Upgrade(_) => {}
            // The edge writes it down; what follows is a farewell.
            ToCoordinator::Leaves => {}
            ToCoordinator::Farewell => self.farewell(id),
        }
    }

    /// An agent spoke of an attempt that it does not hold. Of one whose result was just taken, or that was
    /// withdrawn, it may not know that yet.
    pub(crate) fn disbelieve(&mut self, id: AgentId, attempt: AttemptId) {
        let agent = self.fleet.known(id);
        let may_not_know = agent.accepted.contains_key(&attempt) || agent.withdrawn.contains_key(&attempt);
        agent.misdeeds.claims += u64::from(!may_not_know);
    }

    fn paused(&mut self, id: AgentId, attempt: AttemptId, reason: Option<PauseReason>) {
        if !self.fleet.agent(id).held.contains_key(&attempt) {
            return self.disbelieve(id, attempt);
        }
        let reason = reason.map(PauseReason::bounded);
        self.note_started(id, attempt);
        if reason.is_some() {
            self.rest_attempt(id, attempt);
        }
        let wants_room = matches!(reason, Some(PauseReason::Beside { .. }));
        self.note_stalled(id, attempt, wants_room);
        let at = self.wall();
        let job = self.jobs.get_mut(&attempt.task.job).expect("a held attempt's job is active");
        if let Some(task_paused) = job.tasks.pause(attempt.task.index, attempt.number, reason.clone()) {
            let change = Change::AttemptPaused { attempt, reason, task_paused, at };
            self.effects.push_back(Effect::Record(change));
        }
    }

    fn released(&mut self, id: AgentId, attempts: &[AttemptId], reason: &ReleaseReason) {
        for attempt in attempts {
            if let ReleaseReason::Trouble(trouble) = reason {
                self.released_in_trouble(id, *attempt, trouble);
                continue;
            }
            let Some(held) = self.fleet.agent(id).held.get(attempt) else {
                self.disbelieve(id, *attempt);
                continue;
            };
            let (end, words) = match reason {
                ReleaseReason::Recalled => {
                    let recall = held.recall;
                    self.note_handed_over(id, *attempt, recall);
                    (AttemptEnd::Recalled, recalled_for(recall.map(|recall| recall.reason)))
                }
                ReleaseReason::Evicted(reason) => (AttemptEnd::Evicted, format!("its agent gave it up: {reason}")),
                // Trouble was dealt with above.
                ReleaseReason::Stopping | ReleaseReason::Trouble(_) => (AttemptEnd::Evicted, "its agent stopped".to_owned()),
            };
            self.end_these(id, &[*attempt], end, &words);
        }
    }

    /// An agent had trouble of its own: that costs the task nothing, unless it happens wherever it goes.
    fn released_in_trouble(&mut self, id: AgentId, attempt: AttemptId, trouble: &Trouble) {
        if !self.fleet.agent(id).held.contains_key(&attempt) {
            return self.disbelieve(id, attempt);
        }
        let trouble = Trouble::new(trouble.part, trouble.reason.as_str());
        self.end_as_its_own(id, attempt, Own::Trouble(&trouble));
    }

    /// Ends an attempt that its agent holds by something that is the agent's own.
    pub(crate) fn end_as_its_own(&mut self, id: AgentId, attempt: AttemptId, own: Own<'_>) {
        if self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopping.is_some()) {
            return self.end_these(id, &[attempt], AttemptEnd::Cancelled, &own.to_string());
        }
        let job = self.jobs.get_mut(&attempt.task.job).expect("a held attempt's job is active");
        let blamed = job.tasks.note_trouble(attempt.task.index, id, own, self.limits.troubles_per_task_max);
        self.end_attempt(id, attempt, Ending::in_trouble(own, blamed));
    }

    fn refused(&mut self, id: AgentId, attempt: AttemptId, reason: &RefuseReason) {
        if !self.fleet.agent(id).held.contains_key(&attempt) {
            return self.disbelieve(id, attempt);
        }
        let job = attempt.task.job;
        self.note_refusal(id, job, reason.to_string(), lack(reason));
        if let RefuseReason::Snapshot { digest, .. } = reason
            && self.saved_digest(attempt.task) == Some(*digest)
        {
            self.give_up_saved(attempt.task);
        }
        if *reason == RefuseReason::UnknownTerms {
            self.fleet.known(id).stream_mut().map(|stream| stream.briefs.remove(&job));
            self.jobs.get_mut(&job).map(|job| job.known_by.remove(&id));
        }
        let stopping = self.jobs.get(&job).is_some_and(|job| job.stopping.is_some());
        let end = if stopping { AttemptEnd::Cancelled } else { AttemptEnd::Recalled };
        self.end_attempt(id, attempt, Ending::without_result(end, format!("its agent refused it: {reason}")));
    }

    /// The agent is not offered the job for a while, twice as long with each time in a row.
    pub(crate) fn note_refusal(&mut self, id: AgentId, job: JobId, mut reason: String, lacks: Lack) {
        let limits = &self.limits;
        let agent = self.fleet.known(id);
        let known = agent.refusals.get(&job);
        // Several attempts of one order may come back: together they count once.
        let count = known.map_or(1, |known| known.count.saturating_add(u32::from(known.until <= self.now)));
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        let until = self.now + pause_after_refusal(count, limits.refusal_pause_min, limits.refusal_pause_max);
        agent.refusals.insert(job, Refusal { reason, lacks, count, until });
        if agent.refusals.len() > limits.refusals_per_agent_max {
            let soonest = agent.refusals.iter().min_by_key(|(_, refusal)| refusal.until).map(|(job, _)| *job);
            soonest.map(|job| agent.refusals.remove(&job));
        }
        self.set_refusal_timer(id);
    }

    /// The agent may be offered again what it refused some time ago.
    pub(crate) fn end_refusal(&mut self, id: AgentId) {
        self.wake_agent(id);
        self.set_refusal_timer(id);
    }

    pub(crate) fn set_refusal_timer(&mut self, id: AgentId) {
        let now = self.now;
        let next = self.fleet.agent(id).refusals.values().map(|refusal| refusal.until).filter(|until| *until > now).min();
        self.timers.set_or_clear(Timer::Refusal(id), next);
    }
}

fn recalled_for(reason: Option<RecallReason>) -> String {
    match reason {
        Some(RecallReason::Rebalance) => "it was taken back to start sooner elsewhere",
        Some(RecallReason::Drain) => "it was taken back because its agent drains",
        Some(RecallReason::Window) => "it was taken back because its job's window closed",
        Some(RecallReason::Roomier) => "it was paused, and another agent has room for it",
        Some(RecallReason::Faster) => "a faster agent has nothing to do",
        Some(RecallReason::Cancelled) => "its job was stopped",
        Some(RecallReason::Stale) | None => "its agent gave it back",
    }
    .to_owned()
}

fn lack(reason: &RefuseReason) -> Lack {
    match reason {
        RefuseReason::Memory { needed_bytes, .. } => Lack::Memory { needed_bytes: *needed_bytes },
        RefuseReason::Full => Lack::Room,
        RefuseReason::Paused => Lack::Leave,
        RefuseReason::UnknownTerms
        | RefuseReason::Fetch { .. }
        | RefuseReason::Untrusted { .. }
        | RefuseReason::Executor { .. }
        | RefuseReason::Disk { .. }
        | RefuseReason::Snapshot { .. } => Lack::Other,
    }
}
