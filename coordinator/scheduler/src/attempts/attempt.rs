//! How attempts end, and what becomes of their tasks.

use std::time::Duration;

use bytes::Bytes;
use lull_shared::{
    digest::Digest,
    id::{AgentId, AttemptId, JobId},
    limits::LOG_BYTES_MAX,
    message::{Finished, Outcome, Payload},
    state::{AttemptEnd, Failure, JobState, Usage},
};

use crate::{
    Scheduler,
    attempts::troubled::Own,
    effect::{Change, Effect, EndedAttempt, StoppedBy, TaskAfter},
    fleet::agents::{Held, Lack},
    jobs::retry::pause_after_failure,
    placement::rank::micros,
    time::timers::Timer,
};

/// Words of a peer that are kept for people are cut after this many bytes.
pub(crate) const REASON_BYTES_MAX: usize = 512;

/// How one attempt ended.
#[derive(Debug)]
pub(crate) struct Ending {
    end: AttemptEnd,
    reason: Option<String>,
    failure: Option<Failure>,
    pub output: Option<Payload>,
    /// The output's digest, if it is kept to be compared.
    answer: Option<Digest>,
    log: Bytes,
    log_dropped_bytes: u64,
    usage: Option<Usage>,
}

impl Ending {
    /// An end without a result.
    pub(crate) fn without_result(end: AttemptEnd, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self {
            end,
            reason: Some(reason),
            failure: None,
            output: None,
            answer: None,
            log: Bytes::new(),
            log_dropped_bytes: 0,
            usage: None,
        }
    }

    /// The output does not count yet: it is to be compared.
    pub(crate) fn keep(&mut self, digest: Digest, reason: String) {
        (self.output, self.answer, self.reason) = (None, Some(digest), Some(reason));
    }

    /// What an agent had trouble with, as this counts for the task: not at all, or as a failure after all.
    pub(crate) fn in_trouble(own: Own<'_>, blamed: Option<Failure>) -> Self {
        let mut ending = Self::without_result(AttemptEnd::Evicted, format!("its agent had trouble: {own}"));
        if let Some(failure) = blamed {
            ending.fail(failure);
        }
        ending
    }

    /// The output counts for nothing.
    pub(crate) fn fail(&mut self, failure: Failure) {
        (self.end, self.output, self.reason) = (AttemptEnd::Failed, None, Some(failure.to_string()));
        self.failure = Some(failure);
    }
}

impl Scheduler {
    /// Takes in results. Each is acknowledged, whatever becomes of it, so that the agent can drop it.
    pub(crate) fn finished(&mut self, id: AgentId, results: Vec<Finished>) {
        for finished in results {
            let attempt = finished.attempt;
            let agent = self.fleet.known(id);
            agent.outgoing.acknowledge.push(attempt);
            if agent.held.contains_key(&attempt) {
                agent.note_answered(attempt);
                agent.misdeeds.in_a_row = 0;
                let ending = self.read_result(finished);
                self.end_attempt(id, attempt, ending);
            } else if !agent.accepted.contains_key(&attempt) {
                match agent.withdrawn.remove(&attempt) {
                    Some(_) => agent.note_answered(attempt),
                    None => agent.misdeeds.claims += 1,
                }
                self.note_foreign_jobs(id, [attempt.task.job]);
                self.effects.push_back(Effect::Record(Change::ResultRefused { attempt, agent: id, at: self.wall() }));
            }
        }
    }

    /// A result as it counts: what exceeds the job's limits is cut or turned into the failure that it is.
    fn read_result(&self, finished: Finished) -> Ending {
        let spec = self.jobs.get(&finished.attempt.task.job).map(|job| &job.new.spec);
        let limits = spec.map(|spec| spec.limits).unwrap_or_default();
        let means_success = |code| spec.is_some_and(|spec| spec.exit_codes.contains(code));
        let log_bytes_max = limits.log_bytes.min(LOG_BYTES_MAX) as usize;
        let cut = finished.log.len().saturating_sub(log_bytes_max);
        let (end, failure, output) = match finished.outcome {
            Outcome::Succeeded { output } if output.size_bytes() > limits.output_bytes => {
                (AttemptEnd::Failed, Some(Failure::OutputLimit { limit_bytes: limits.output_bytes }), None)
            }
            Outcome::Succeeded { output } => (AttemptEnd::Succeeded, None, Some(output)),
            Outcome::Failed(Failure::NotDeterministic { .. } | Failure::GivenUp { .. }) => {
                let reason = "its agent says what only its coordinator can tell".into();
                (AttemptEnd::Failed, Some(Failure::BadModule { reason }), None)
            }
            Outcome::Failed(Failure::MachinesLost { .. }) => {
                let reason = "its agent says that machines were lost, which it cannot know".into();
                (AttemptEnd::Failed, Some(Failure::BadModule { reason }), None)
            }
            // With its output it would have succeeded.
            Outcome::Failed(Failure::Exit { code }) if means_success(code) => {
                let reason = format!("its agent calls exit code {code} a failure, which means success for this job");
                (AttemptEnd::Failed, Some(Failure::BadModule { reason }), None)
            }
            Outcome::Failed(failure) => (AttemptEnd::Failed, Some(failure), None),
        };
        let reason = failure.as_ref().map(|failure| {
            let mut words = failure.to_string();
            words.truncate(words.floor_char_boundary(REASON_BYTES_MAX));
            words
        });
        Ending {
            end,
            reason,
            failure,
            output,
            answer: None,
            log: finished.log.slice(cut..),
            log_dropped_bytes: finished.log_dropped_bytes.saturating_add(cut as u64),
            usage: Some(finished.usage),
        }
    }

    /// Ends a live attempt: it leaves its agent, and its task has ended, waits to be started again, or goes on elsewhere.
    pub(crate) fn end_attempt(&mut self, id: AgentId, attempt: AttemptId, mut ending: Ending) {
        let now = self.now;
        let seen = self.seen.take(attempt);
        let liars = self.verify(id, attempt, &mut ending);
        let after = self.task_after(attempt, &ending);
        if ending.end == AttemptEnd::Lost && after == TaskAfter::Failed {
            let failure = Failure::MachinesLost { machines: self.limits.lost_max };
            (ending.reason, ending.failure) = (Some(failure.to_string()), Some(failure));
        }
        let task_ends = !matches!(after, TaskAfter::Again { .. } | TaskAfter::Continues { .. });
        if task_ends {
            self.end_other_copies(attempt, after);
        }
        self.doubt(id, attempt, &ending);
        let silent_since = self.fleet.get(id).and_then(|agent| agent.touch.lost_since());
        let held = self.fleet.release(id, attempt);
        self.time_ended(id);
        let agent = self.fleet.known(id);
        let slots = agent.slots();
        agent.slot_time.note(now, slots);
        let could_have_us = agent.slot_time.left_us(now);
        let job_id = attempt.task.job;
        let job = self.jobs.get_mut(&job_id).expect("a live attempt's job is active");
        let live = job.tasks.live(attempt.task.index, attempt.number).expect("a held attempt is live");
        // What an agent claims to have used is believed up to the time that it had for it, beside what was used before: since
        // the attempt came, and where it waited behind others, what these left of its slots.
        let before_us = live.resumed_us.unwrap_or(0);
        let had_us = micros(now.since(live.since)).min(if held.waited { could_have_us } else { u64::MAX });
        let used_us = match ending.usage {
            Some(usage) => usage.wall_us.saturating_sub(before_us).min(had_us),
            None => micros(match (held.occupies, silent_since) {
                (Some(since), _) => now.since(since),
                // As far as anybody knows.
                (None, Some(last)) if held.started => last.since(live.since),
                (None, _) => Duration::ZERO,
            }),
        };
        let mut usage = Usage { wall_us: used_us.saturating_add(before_us), ..ending.usage.unwrap_or_default() };
        let spent_us = used_us.saturating_add(before_us);
        let goes_on = matches!(after, TaskAfter::Continues { .. });
        // Of one that brought no result: what its agent said last. How long it ran is counted here.
        if let (None, Some(seen)) = (ending.usage, seen) {
            (ending.log, ending.log_dropped_bytes) = (seen.log, seen.log_dropped_bytes);
            (usage.cpu_us, usage.memory_peak_bytes) = (seen.usage.cpu_us, seen.usage.memory_peak_bytes);
        }
        // A function has one thread: it cannot have computed for longer than it ran, whatever its agent claims.
        usage.cpu_us = usage.cpu_us.min(usage.wall_us);
        match ending.end {
            AttemptEnd::Succeeded => {
                let agent = self.fleet.known(id);
                if let Some(mean_us) = job.pace.mean_wall_us().filter(|_| !held.resumed) {
                    agent.speed.note(used_us, mean_us);
                }
                agent.refusals.remove(&job_id);
                job.pace.note(spent_us);
            }
            AttemptEnd::Evicted => {
                job.moved += u64::from(!goes_on);
                job.pace.note_unfinished(spent_us);
            }
            AttemptEnd::Lost => {
                job.lost += 1;
                job.pace.note_unfinished(spent_us);
            }
            AttemptEnd::Recalled => job.moved += u64::from(held.started && !goes_on),
            AttemptEnd::Failed | AttemptEnd::Cancelled => {}
        }
        if ending.end == AttemptEnd::Lost {
            job.tasks.note_lost(attempt.task.index);
        }
        self.fleet.known(id).slot_time.take(used_us);
        job.tasks.finish(attempt.task.index, attempt.number, after, now);
        let next_wake = job.tasks.next_wake();
        self.shares.take(job.submitter, held.occupies, used_us);
        self.timers.set_or_clear(Timer::Backoff(job_id), next_wake);
        self.effects.push_back(Effect::Record(Change::AttemptEnded(Box::new(EndedAttempt {
            attempt,
            agent: id,
            end: ending.end,
            reason: ending.reason,
            failure: ending.failure,
            at: self.wall(),
            after: self.as_recorded(after),
            output: ending.output,
            answer: ending.answer,
            log: ending.log,
            log_dropped_bytes: ending.log_dropped_bytes,
            usage,
            slot_us: used_us,
        }))));
        // What failed would only fail again from there.
        if task_ends || ending.end == AttemptEnd::Failed {
            self.drop_saved(attempt.task);
        }
        if task_ends {
            self.drop_answers(attempt.task);
        }
        if goes_on {
            self.fleet.settle();
            if self.fleet.doubtful().next().is_some() {
                // Those that go on may be out of touch, all of them.
                self.look_soon();
            }
        }
        self.watch(job_id);
        self.wake_agent(id);
        self.after_task_end(job_id, after);
        for liar in liars {
            self.quarantine(liar, attempt.task);
        }
    }

    /// What the agent itself, rather than the function, may be to blame for: the job goes elsewhere for a while.
    fn doubt(&mut self, id: AgentId, attempt: AttemptId, ending: &Ending) {
        let lack = match (&ending.end, &ending.failure) {
            (AttemptEnd::Evicted, _) => Lack::Leave,
            (AttemptEnd::Lost, _) | (_, Some(Failure::BadModule { .. } | Failure::ExecutorDied { .. })) => Lack::Other,
            (
                AttemptEnd::Succeeded | AttemptEnd::Failed | AttemptEnd::Recalled | AttemptEnd::Cancelled,
                None
                | Some(
                    Failure::Exit { .. }
                    | Failure::Trap { .. }
                    | Failure::TimeLimit { .. }
                    | Failure::MemoryLimit { .. }
                    | Failure::OutputLimit { .. }
                    | Failure::ScratchLimit { .. }
                    | Failure::GivenUp { .. }
                    | Failure::NotDeterministic { .. }
                    | Failure::MachinesLost { .. },
                ),
            ) => return,
        };
        let reason = ending.reason.clone().unwrap_or_default();
        self.note_refusal(id, attempt.task.job, reason, lack);
    }

    fn task_after(&self, attempt: AttemptId, ending: &Ending) -> TaskAfter {
        let job = self.jobs.get(&attempt.task.job).expect("a live attempt's job is active");
        let copies = job.tasks.copies(attempt.task.index).expect("a held attempt is live");
        let failures = copies.failures;
        let paused = copies.beside(attempt.number).all(|live| live.paused.is_some());
        let goes_on = |failures| {
            let agent = copies.beside(attempt.number).next()?.agent;
            Some(TaskAfter::Continues { agent, paused, failures })
        };
        let stopped = job.stopping.map(|state| match state {
            JobState::Expired => TaskAfter::Expired,
            JobState::Cancelled | JobState::Active | JobState::Succeeded | JobState::Failed => TaskAfter::Cancelled,
        });
        match ending.end {
            AttemptEnd::Succeeded if ending.answer.is_some() => {
                goes_on(failures).or(stopped).unwrap_or(TaskAfter::Again { not_before: self.now, failures })
            }
            AttemptEnd::Succeeded => TaskAfter::Succeeded,
            AttemptEnd::Failed if matches!(ending.failure, Some(Failure::NotDeterministic { .. })) => TaskAfter::Failed,
            AttemptEnd::Failed => {
                let retry = &job.new.spec.retry;
                let failures = failures.saturating_add(1);
                let in_vain = |failure| job.new.spec.fail_fast_on.iter().any(|class| class.contains(failure));
                if failures > retry.retries || ending.failure.as_ref().is_some_and(in_vain) {
                    return TaskAfter::Failed;
                }
                let pause = pause_after_failure(retry, failures, attempt, self.seed);
                goes_on(failures).or(stopped).unwrap_or(TaskAfter::Again { not_before: self.now + pause, failures })
            }
            AttemptEnd::Lost if job.tasks.lost(attempt.task.index) + 1 >= self.limits.lost_max => {
                goes_on(failures).or(stopped).unwrap_or(TaskAfter::Failed)
            }
            AttemptEnd::Evicted | AttemptEnd::Recalled | AttemptEnd::Lost | AttemptEnd::Cancelled => {
                goes_on(failures).or(stopped).unwrap_or(TaskAfter::Again { not_before: self.now, failures })
            }
        }
    }

    /// A task ended: so may its job, or the job has failed too often to go on.
    fn after_task_end(&mut self, id: JobId, after: TaskAfter) {
        let job = self.jobs.get(&id).expect("a live attempt's job is active");
        if job.is_over() {
            self.closing.insert(id);
            return;
        }
        let failures_max = job.new.spec.failures_max.filter(|_| after == TaskAfter::Failed && job.stopping.is_none());
        if failures_max.is_some_and(|max| job.failures() >= max) {
            self.stop(id, JobState::Cancelled, &StoppedBy::FailuresMax);
        }
    }

    /// Ends all attempts of an agent that vanished, or of which it is known that it has them no longer.
    pub(crate) fn end_all(&mut self, id: AgentId, end: AttemptEnd, reason: &str) -> u64 {
        let Some(agent) = self.fleet.get(id) else { return 0 };
        let attempts: Vec<_> = agent.held.keys().copied().collect();
        self.end_these(id, &attempts, end, reason);
        attempts.len() as u64
    }

    /// Ends these attempts of an agent. Those of a stopped job count as cancelled: that was to happen to them anyway.
    pub(crate) fn end_these(&mut self, id: AgentId, attempts: &[AttemptId], end: AttemptEnd, reason: &str) {
        for attempt in attempts {
            let stopping = self.jobs.get(&attempt.task.job).is_some_and(|job| job.stopping.is_some());
            let end = if stopping { AttemptEnd::Cancelled } else { end };
            self.end_attempt(id, *attempt, Ending::without_result(end, reason));
        }
    }

    /// The agent says that the attempt runs.
    pub(crate) fn note_started(&mut self, id: AgentId, attempt: AttemptId) {
        let now = self.now;
        let agent = self.fleet.known(id);
        let Some(waited) = agent.start(attempt, now) else { return self.disbelieve(id, attempt) };
        let held = agent.held.get(&attempt);
        let kept = held.is_some_and(goes_on);
        if waited {
            let job = self.jobs.get(&attempt.task.job).expect("a held attempt's job is active");
            self.shares.occupy(job.submitter, now);
        }
        if kept {
            self.fleet.keep(id, attempt);
        }
        self.time_attempt(id, attempt);
    }
}

/// Whether the agent was asked for the attempt and, now that it has started, goes on with it.
fn goes_on(held: &Held) -> bool {
    held.recall.is_some_and(|recall| !held.gives_back(recall.reason.reach()))
}
