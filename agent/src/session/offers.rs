//! Jobs' terms, offers, recalls, and the blobs that waiting attempts need.

use std::{collections::BTreeSet, sync::Arc};

use lull_shared::{
    digest::{BlobRef, Digest},
    id::{AttemptId, JobId},
    limits,
    message::{Assignment, Payload, RecallReason, RefuseReason, ReleaseReason, Terms, ToCoordinator},
    state::Failure,
    time::Timestamp,
};

use super::{Effect, Place, Plan, Session, WAITING_BYTES_MAX};
use crate::slot::{Held, Slot, SlotId};

/// Jobs whose terms are remembered. Beyond it those without attempts here are forgotten first: an agent that holds
/// four thousand attempts of a thousand jobs is already stranger than any office.
const JOBS_MAX: usize = 1024;
/// How far ahead of the slots large inputs are fetched: each slot's next.
const INPUTS_AHEAD_PER_SLOT: usize = 2;

/// What is known of a job.
#[derive(Debug)]
pub(super) struct Job {
    /// How to run it, or why it is not trusted.
    pub(super) plan: Result<Arc<Plan>, String>,
    /// Attempts that wait or run here.
    pub(super) attempts: usize,
    /// Its code is pinned: while there are attempts, or an executor that was started with it.
    pub(super) pinned: bool,
    /// No more offers will come: it goes with its last attempt and executor.
    forgotten: bool,
    /// Why no executor can run its module.
    pub(super) broken: Option<String>,
    /// A moving mean of its tasks' wall time, in microseconds.
    pub(super) wall_us: Option<u64>,
}

impl Session {
    pub(super) fn terms(&mut self, terms: Terms) {
        let job = terms.job;
        if let Some(known) = self.jobs.get_mut(&job)
            && (known.attempts > 0 || known.pinned)
        {
            known.forgotten = false;
            return;
        }
        if !self.jobs.contains_key(&job) && self.jobs.len() >= JOBS_MAX {
            let Some(unused) = self.jobs.iter().find(|(_, job)| job.attempts == 0 && !job.pinned).map(|(id, _)| *id) else {
                return;
            };
            self.jobs.remove(&unused);
        }
        let plan = Plan::new(terms, &self.config.authority, &self.config.machine.engine).map(Arc::new);
        let same = self.jobs.get(&job).is_some_and(|known| known.plan == plan);
        if !same {
            self.jobs.insert(job, Job { plan, attempts: 0, pinned: false, forgotten: false, broken: None, wall_us: None });
        } else if let Some(known) = self.jobs.get_mut(&job) {
            known.forgotten = false;
        }
    }

    pub(super) fn forget(&mut self, job: JobId) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        known.forgotten = true;
        self.settle_job(job);
    }

    /// Pins or unpins a job's code and forgets the job, as its attempts and executors demand.
    pub(super) fn settle_job(&mut self, id: JobId) {
        let executors = self.slots.iter().any(|slot| slot.job() == Some(id));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let wanted = job.attempts > 0 || executors;
        let code = job.plan.as_ref().ok().map(|plan| plan.code.blob());
        let was = std::mem::replace(&mut job.pinned, wanted);
        if job.forgotten && !wanted {
            self.jobs.remove(&id);
        }
        match code {
            Some(blob) if wanted && !was => self.acquire(blob),
            Some(blob) if was && !wanted => self.release(blob.digest),
            Some(_) | None => {}
        }
    }

    pub(super) fn assign(&mut self, assignments: Vec<Assignment>, now: Timestamp) {
        let mut stopping = Vec::new();
        for Assignment { attempt, input, .. } in assignments {
            if self.places.contains_key(&attempt) {
                continue;
            }
            if !self.serves() {
                stopping.push(attempt);
            } else if let Some(reason) = self.objection(attempt, &input) {
                self.say(ToCoordinator::Refused { attempt, reason });
            } else {
                self.accept(attempt, input, now);
            }
        }
        self.say_released(stopping, ReleaseReason::Stopping);
    }

    /// Why an offer cannot be taken.
    fn objection(&self, attempt: AttemptId, input: &Payload) -> Option<RefuseReason> {
        if self.places.len() >= limits::ATTEMPTS_PER_AGENT_MAX || self.waiting_bytes + inline_bytes(input) > WAITING_BYTES_MAX {
            return Some(RefuseReason::Full);
        }
        if let Some(reason) = self.outbox.disk_trouble() {
            return Some(RefuseReason::Disk { reason: reason.to_owned() });
        }
        if self.verdict.reason().is_some() {
            return Some(RefuseReason::Paused);
        }
        let Some(job) = self.jobs.get(&attempt.task.job) else { return Some(RefuseReason::UnknownTerms) };
        let plan = match &job.plan {
            Ok(plan) => plan,
            Err(reason) => return Some(RefuseReason::Untrusted { reason: reason.clone() }),
        };
        let (needed_bytes, free_bytes) = (plan.terms.limits.memory_bytes, self.memory_bytes_max());
        if needed_bytes > free_bytes {
            return Some(RefuseReason::Memory { needed_bytes, free_bytes });
        }
        match input {
            Payload::Blob(blob) if blob.size_bytes > limits::BLOB_BYTES_MAX => {
                let reason = format!("an input of {} bytes; at most {} are taken", blob.size_bytes, limits::BLOB_BYTES_MAX);
                Some(RefuseReason::Fetch { digest: blob.digest, reason })
            }
            Payload::Blob(_) | Payload::Inline(_) => None,
        }
    }

    fn accept(&mut self, attempt: AttemptId, input: Payload, now: Timestamp) {
        let job = self.jobs.get_mut(&attempt.task.job).expect("an offer without terms was refused");
        job.attempts += 1;
        let broken = job.broken.clone();
        self.settle_job(attempt.task.job);
        let order = self.next_order;
        self.next_order += 1;
        self.put_back(Held { order, attempt, input, pinned: false, offered: now });
        if let Some(reason) = broken {
            self.break_job(attempt.task.job, reason, now);
        }
    }

    /// Takes attempts back, as far as the reason allows.
    pub(super) fn recall(&mut self, attempts: &[AttemptId], reason: RecallReason) {
        let started_too = match reason {
            RecallReason::Rebalance | RecallReason::Drain => false,
            RecallReason::Cancelled | RecallReason::Stale => true,
        };
        let wanted: BTreeSet<AttemptId> = attempts.iter().copied().collect();
        let mut released = Vec::new();
        for attempt in attempts {
            match self.places.get(attempt).copied() {
                None => {}
                Some(Place::Waiting(order)) => {
                    let held = self.take_waiting(order);
                    self.let_go(&held);
                    released.push(*attempt);
                }
                Some(Place::Slot(slot)) => released.extend(self.recall_from_slot(slot, *attempt, started_too.then_some(&wanted))),
                Some(Place::Outbox) if started_too => {
                    self.remove_kept(*attempt);
                    released.push(*attempt);
                }
                Some(Place::Outbox) => {}
            }
        }
        self.say_released(released, ReleaseReason::Recalled);
    }

    /// An attempt that has started goes only with its process, and with all that are `wanted` beside it.
    fn recall_from_slot(&mut self, id: SlotId, attempt: AttemptId, wanted: Option<&BTreeSet<AttemptId>>) -> Vec<AttemptId> {
        let slot = &mut self.slots[usize::from(id)];
        if let Slot::Starting { first: one, .. } | Slot::Stopping { then: one, .. } = slot {
            let held = one.take().expect("its place says that it is here");
            self.let_go(&held);
            return vec![attempt];
        }
        let Some(wanted) = wanted else { return Vec::new() };
        let (gone, kept): (Vec<_>, Vec<_>) = self.kill(id).into_iter().partition(|held| wanted.contains(&held.attempt));
        for held in kept {
            self.put_back(held);
        }
        gone.iter().for_each(|held| self.let_go(held));
        gone.into_iter().map(|held| held.attempt).collect()
    }

    /// Gives up whatever has not ended.
    pub(super) fn give_up_everything(&mut self, reason: ReleaseReason) {
        let mut released = Vec::new();
        for id in self.slot_ids() {
            let held = self.kill(id);
            released.extend(held);
        }
        released.extend(std::mem::take(&mut self.waiting).into_values());
        self.waiting_bytes = 0;
        released.iter().for_each(|held| self.let_go(held));
        self.say_released(released.into_iter().map(|held| held.attempt).collect(), reason);
    }

    /// A blob arrived, or it did not and whoever waits for it is refused.
    pub(super) fn fetched(&mut self, digest: Digest, result: Result<(), String>) {
        if !self.blobs.fetched(digest, result.is_ok()) {
            return;
        }
        let Err(reason) = result else { return };
        let runs_it = |job: &Job| job.pinned && job.plan.as_ref().is_ok_and(|plan| plan.code.blob().digest == digest);
        let jobs: Vec<JobId> = self.jobs.iter().filter(|(_, job)| runs_it(job)).map(|(id, _)| *id).collect();
        for job in jobs {
            if !self.fall_back(job) {
                self.refuse_waiting(|held| held.job() == job, &RefuseReason::Fetch { digest, reason: reason.clone() });
            }
        }
        let refusal = RefuseReason::Fetch { digest, reason };
        self.refuse_waiting(|held| held.pinned && matches!(held.input, Payload::Blob(blob) if blob.digest == digest), &refusal);
    }

    /// Compiles a module here from now on, when its artifact is of no use. False when there was none.
    pub(super) fn fall_back(&mut self, job: JobId) -> bool {
        let Some(known) = self.jobs.get_mut(&job) else { return false };
        let Ok(plan) = &known.plan else { return false };
        let Some(plain) = plan.without_artifact() else { return false };
        let (old, new) = (plan.code.blob(), plain.code.blob());
        known.plan = Ok(Arc::new(plain));
        if known.pinned {
            self.acquire(new);
            self.release(old.digest);
        }
        true
    }

    /// No executor can run a job's module: its attempts here fail with the reason.
    pub(super) fn break_job(&mut self, job: JobId, reason: String, now: Timestamp) {
        for held in self.waiting_where(|held| held.job() == job) {
            self.let_go(&held);
            self.fail(&held, Failure::BadModule { reason: reason.clone() }, None, now);
        }
        if let Some(known) = self.jobs.get_mut(&job) {
            known.broken = Some(reason);
        }
    }

    fn refuse_waiting(&mut self, which: impl Fn(&Held) -> bool, reason: &RefuseReason) {
        for held in self.waiting_where(which) {
            self.let_go(&held);
            self.say(ToCoordinator::Refused { attempt: held.attempt, reason: reason.clone() });
        }
    }

    /// Takes some attempts out of the queue.
    fn waiting_where(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Held> {
        let orders: Vec<u64> = self.waiting.values().filter(|held| which(held)).map(|held| held.order).collect();
        orders.into_iter().map(|order| self.take_waiting(order)).collect()
    }

    /// Asks for the large inputs of the attempts that come next.
    pub(super) fn fetch_ahead(&mut self) {
        let ahead = self.slots.len() * INPUTS_AHEAD_PER_SLOT;
        let mut wanted = Vec::new();
        for held in self.waiting.values_mut().take(ahead) {
            if let Payload::Blob(blob) = held.input
                && !held.pinned
            {
                held.pinned = true;
                wanted.push(blob);
            }
        }
        wanted.into_iter().for_each(|blob| self.acquire(blob));
    }

    /// Whether everything that an attempt needs is in the cache.
    pub(super) fn is_ready(&self, held: &Held) -> bool {
        let code = self.jobs.get(&held.job()).and_then(|job| job.plan.as_ref().ok()).map(|plan| plan.code.blob().digest);
        let input_here = match held.input {
            Payload::Inline(_) => true,
            Payload::Blob(blob) => held.pinned && self.blobs.is_here(blob.digest),
        };
        input_here && code.is_some_and(|digest| self.blobs.is_here(digest))
    }

    /// An attempt waits, for the first time or again.
    pub(super) fn put_back(&mut self, held: Held) {
        self.waiting_bytes += inline_bytes(&held.input);
        self.places.insert(held.attempt, Place::Waiting(held.order));
        self.waiting.insert(held.order, held);
    }

    /// An attempt leaves the queue; its place is the caller's to say.
    pub(super) fn take_waiting(&mut self, order: u64) -> Held {
        let held = self.waiting.remove(&order).expect("only what waits is taken from the queue");
        self.waiting_bytes -= inline_bytes(&held.input);
        held
    }

    /// An attempt neither waits nor runs here any more.
    pub(super) fn let_go(&mut self, held: &Held) {
        self.places.remove(&held.attempt);
        if held.pinned {
            self.release(held.input.digest());
        }
        let id = held.job();
        let job = self.jobs.get_mut(&id).expect("a job stays known while it has attempts here");
        job.attempts -= 1;
        if job.attempts == 0 {
            self.settle_job(id);
        }
    }

    pub(super) fn say_released(&mut self, attempts: Vec<AttemptId>, reason: ReleaseReason) {
        if !attempts.is_empty() {
            self.say(ToCoordinator::Released { attempts, reason });
        }
    }

    fn acquire(&mut self, blob: BlobRef) {
        if self.blobs.acquire(blob) {
            self.effects.push_back(Effect::Fetch(blob));
        }
    }

    fn release(&mut self, digest: Digest) {
        if self.blobs.release(digest) {
            self.effects.push_back(Effect::Unpin(digest));
        }
    }
}

/// What a waiting input takes of the agent's memory.
pub(super) fn inline_bytes(input: &Payload) -> u64 {
    match input {
        Payload::Inline(bytes) => bytes.len() as u64,
        Payload::Blob(_) => 0,
    }
}
