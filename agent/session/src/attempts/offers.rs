//! Jobs' briefs, offers, recalls, and the blobs that waiting attempts need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lull_shared::{
    amount::{size, sizes},
    digest::{BlobRef, Digest},
    id::{AttemptId, JobId},
    limits::{self, SNAPSHOT_BYTES_MAX},
    message::{Assignment, Build, JobBrief, Payload, Reach, RecallReason, RefuseReason, ReleaseReason, ToCoordinator},
    state::Failure,
    time::Timestamp,
};

use crate::{
    Effect, Place, Plan, Session, WAITING_BYTES_MAX,
    attempts::slot::{Duty, Held, Slot, SlotId},
};

/// Jobs whose briefs are remembered. Beyond it those without attempts here are forgotten first: an agent that holds
/// four thousand attempts of a thousand jobs is already stranger than any office.
const JOBS_MAX: usize = 1024;
/// Jobs that are looked at for one of the same version, the newest first.
const VERSIONS_LOOKED_AT: usize = 8;
/// How far ahead of the slots large inputs are fetched: each slot's next.
const INPUTS_AHEAD_PER_SLOT: usize = 2;

/// What is known of a job.
#[derive(Debug)]
pub(crate) struct Job {
    /// How to run it, or why it is not trusted.
    pub(crate) plan: Result<Arc<Plan>, String>,
    /// Attempts that wait or run here, by their build.
    attempts: BTreeMap<Build, usize>,
    /// Builds whose code is pinned: while there are attempts of it, or an executor that was started with it.
    pub(crate) pinned: BTreeSet<Build>,
    /// Builds whose code was in the cache once and is fetched again.
    pub(crate) refetched: BTreeSet<Build>,
    /// No more offers will come: it goes with its last attempt and executor.
    forgotten: bool,
    /// Why no executor can run its module.
    pub(crate) broken: Option<String>,
    /// A moving mean of its tasks' wall time, in microseconds.
    pub(crate) wall_us: Option<u64>,
}

impl Job {
    fn new(plan: Result<Arc<Plan>, String>) -> Self {
        let (attempts, pinned, refetched) = Default::default();
        Self { plan, attempts, pinned, refetched, forgotten: false, broken: None, wall_us: None }
    }

    /// Attempts of a build that wait or run here.
    pub(crate) fn attempts(&self, build: Build) -> usize {
        self.attempts.get(&build).copied().unwrap_or(0)
    }

    /// Whether something of it is here: whatever is has its code pinned.
    fn is_used(&self) -> bool {
        !self.pinned.is_empty()
    }

    /// What an executor loads for a build.
    pub(crate) fn code(&self, build: Build) -> Option<BlobRef> {
        self.plan.as_ref().ok()?.code(build).map(|code| code.blob())
    }
}

impl Session {
    pub(crate) fn brief(&mut self, brief: JobBrief) {
        let job = brief.job;
        if let Some(known) = self.jobs.get_mut(&job)
            && known.is_used()
        {
            known.forgotten = false;
            return;
        }
        if !self.jobs.contains_key(&job) && self.jobs.len() >= JOBS_MAX {
            let Some(unused) = self.jobs.iter().find(|(_, job)| !job.is_used()).map(|(id, _)| *id) else {
                return;
            };
            self.jobs.remove(&unused);
        }
        // A signature takes longer to check than a small task to run; most jobs are of the same few versions.
        let known = self.jobs.values().rev().take(VERSIONS_LOOKED_AT).filter_map(|job| job.plan.as_ref().ok());
        let engine = &self.config.machine.engine;
        let plan = match known.filter_map(|plan| plan.shared_with(&brief, engine)).next() {
            Some(plan) => Ok(Arc::new(plan)),
            None => Plan::new(brief, &self.config.authority, engine).map(Arc::new),
        };
        let same = self.jobs.get(&job).is_some_and(|known| known.plan == plan);
        if !same {
            self.jobs.insert(job, Job::new(plan));
        } else if let Some(known) = self.jobs.get_mut(&job) {
            known.forgotten = false;
        }
    }

    pub(crate) fn forget(&mut self, job: JobId) {
        let Some(known) = self.jobs.get_mut(&job) else { return };
        known.forgotten = true;
        self.settle_job(job);
    }

    /// Pins or unpins a job's code and forgets the job, as its attempts and executors demand.
    pub(crate) fn settle_job(&mut self, id: JobId) {
        for build in [Build::Plain, Build::Migratable] {
            let duty = Duty { job: id, build };
            let executors = self.slots.iter().any(|slot| slot.duty() == Some(duty));
            let Some(job) = self.jobs.get_mut(&id) else { return };
            let wanted = job.attempts(build) > 0 || executors;
            let was = if wanted { !job.pinned.insert(build) } else { job.pinned.remove(&build) };
            match job.code(build) {
                Some(blob) if wanted && !was => self.acquire(blob),
                Some(blob) if was && !wanted => self.release(blob.digest),
                Some(_) | None => {}
            }
        }
        if self.jobs.get(&id).is_some_and(|job| job.forgotten && !job.is_used()) {
            self.jobs.remove(&id);
        }
    }

    pub(crate) fn assign(&mut self, assignments: Vec<Assignment>, now: Timestamp) {
        let mut stopping = Vec::new();
        for assignment in assignments {
            let attempt = assignment.attempt;
            if self.places.contains_key(&attempt) {
                continue;
            }
            if !self.serves() {
                stopping.push(attempt);
            } else if let Some(reason) = self.objection(&assignment) {
                self.say(ToCoordinator::Refused { attempt, reason });
            } else {
                self.accept(assignment, now);
            }
        }
        self.say_released(stopping, ReleaseReason::Stopping);
    }

    /// Why an offer cannot be taken.
    fn objection(&self, assignment: &Assignment) -> Option<RefuseReason> {
        let Assignment { attempt, input, build, resume } = assignment;
        if self.places.len() >= limits::ATTEMPTS_PER_AGENT_MAX || self.waiting_bytes + inline_bytes(input) > WAITING_BYTES_MAX {
            return Some(RefuseReason::Full);
        }
        if let Some(reason) = self.outbox.disk_trouble() {
            return Some(RefuseReason::Disk { reason: reason.to_owned() });
        }
        if self.objects().is_some() {
            return Some(RefuseReason::Paused);
        }
        let Some(job) = self.jobs.get(&attempt.task.job) else { return Some(RefuseReason::UnknownTerms) };
        let plan = match &job.plan {
            Ok(plan) => plan,
            Err(reason) => return Some(RefuseReason::Untrusted { reason: reason.clone() }),
        };
        let (needed_bytes, free_bytes) = (plan.brief.limits.memory_bytes, self.memory_bytes_max());
        if needed_bytes > free_bytes {
            return Some(RefuseReason::Memory { needed_bytes, free_bytes });
        }
        if plan.code(*build).is_none() {
            return Some(RefuseReason::Executor { reason: "its module has no migratable build".into() });
        }
        if let Some(snapshot) = resume.filter(|snapshot| *build == Build::Plain || snapshot.blob.size_bytes > SNAPSHOT_BYTES_MAX)
        {
            let reason = format!("{}, for a {build:?} build", size(snapshot.blob.size_bytes));
            return Some(RefuseReason::Snapshot { digest: snapshot.blob.digest, reason });
        }
        match input {
            Payload::Blob(blob) if blob.size_bytes > limits::BLOB_BYTES_MAX => {
                let (found, most) = sizes(blob.size_bytes, limits::BLOB_BYTES_MAX);
                let reason = format!("an input of {found}; at most {most} are taken");
                Some(RefuseReason::Fetch { digest: blob.digest, reason })
            }
            Payload::Blob(_) | Payload::Inline(_) => None,
        }
    }

    fn accept(&mut self, assignment: Assignment, now: Timestamp) {
        let Assignment { attempt, input, build, resume } = assignment;
        let job = self.jobs.get_mut(&attempt.task.job).expect("an offer without a brief was refused");
        *job.attempts.entry(build).or_default() += 1;
        let broken = job.broken.clone();
        self.settle_job(attempt.task.job);
        let order = self.next_order;
        self.next_order += 1;
        self.put_back(Held { order, attempt, input, build, resume, pinned: false, offered: now });
        if let Some(reason) = broken {
            self.break_job(attempt.task.job, reason, now);
        }
    }

    /// Takes attempts back, as far as the reason allows.
    pub(crate) fn recall(&mut self, attempts: &[AttemptId], reason: RecallReason, now: Timestamp) {
        let reach = reason.reach();
        let started_too = reach == Reach::All;
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
                Some(Place::Slot(slot)) => {
                    released.extend(self.recall_from_slot(slot, *attempt, started_too.then_some(&wanted)));
                    if reach == Reach::Movable {
                        self.hand_over(slot, *attempt, now);
                    }
                }
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
    pub(crate) fn give_up_everything(&mut self, reason: ReleaseReason) {
        self.give_up(self.slot_ids().collect(), reason);
    }

    /// Gives up whatever has not ended in these slots, and whatever waits.
    pub(crate) fn give_up(&mut self, slots: Vec<SlotId>, reason: ReleaseReason) {
        let mut released = Vec::new();
        for id in slots {
            let held = self.kill(id);
            released.extend(held);
        }
        released.extend(std::mem::take(&mut self.waiting).into_values());
        self.waiting_bytes = 0;
        released.iter().for_each(|held| self.let_go(held));
        self.say_released(released.into_iter().map(|held| held.attempt).collect(), reason);
    }

    /// A blob arrived, or it did not and whoever waits for it is refused.
    pub(crate) fn fetched(&mut self, digest: Digest, result: Result<(), String>) {
        if !self.blobs.fetched(digest, result.is_ok()) {
            return;
        }
        self.copy_came(digest, result.is_ok());
        let Err(reason) = result else { return };
        let duties = self.jobs.iter().flat_map(|(id, job)| {
            let runs_it = |build: &&Build| job.code(**build).is_some_and(|blob| blob.digest == digest);
            job.pinned.iter().filter(runs_it).map(|build| Duty { job: *id, build: *build })
        });
        for duty in duties.collect::<Vec<_>>() {
            if !self.fall_back(duty) {
                self.refuse_waiting(|held| held.duty() == duty, &RefuseReason::Fetch { digest, reason: reason.clone() });
            }
        }
        let goes_on = |held: &Held| held.pinned && held.resume.is_some_and(|snapshot| snapshot.blob.digest == digest);
        self.refuse_waiting(goes_on, &RefuseReason::Snapshot { digest, reason: reason.clone() });
        let refusal = RefuseReason::Fetch { digest, reason };
        self.refuse_waiting(|held| held.pinned && matches!(held.input, Payload::Blob(blob) if blob.digest == digest), &refusal);
    }

    /// Compiles a module here from now on, when its artifact is of no use. False when there was none.
    pub(crate) fn fall_back(&mut self, duty: Duty) -> bool {
        let Some(known) = self.jobs.get_mut(&duty.job) else { return false };
        let Ok(plan) = &known.plan else { return false };
        let Some(compiled_here) = plan.without_artifact(duty.build) else { return false };
        let old = known.code(duty.build);
        known.plan = Ok(Arc::new(compiled_here));
        let new = known.code(duty.build);
        if known.pinned.contains(&duty.build) {
            new.into_iter().for_each(|blob| self.acquire(blob));
            old.into_iter().for_each(|blob| self.release(blob.digest));
        }
        true
    }

    /// No executor can run a job's module: its attempts here fail with the reason.
    pub(crate) fn break_job(&mut self, job: JobId, reason: String, now: Timestamp) {
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
    pub(crate) fn fetch_ahead(&mut self) {
        let ahead = self.slots.len() * INPUTS_AHEAD_PER_SLOT;
        let mut wanted = Vec::new();
        for held in self.waiting.values_mut().take(ahead).filter(|held| !held.pinned) {
            held.pinned = true;
            wanted.extend(held.blobs());
        }
        wanted.into_iter().for_each(|blob| self.acquire(blob));
    }

    /// Whether everything that an attempt needs is in the cache.
    pub(crate) fn is_ready(&self, held: &Held) -> bool {
        let code = self.jobs.get(&held.job()).and_then(|job| job.code(held.build));
        let mut own = held.blobs();
        let here = |blob: BlobRef| self.blobs.is_here(blob.digest);
        own.all(|blob| held.pinned && here(blob)) && code.is_some_and(here)
    }

    /// An attempt waits, for the first time or again.
    pub(crate) fn put_back(&mut self, held: Held) {
        self.waiting_bytes += inline_bytes(&held.input);
        self.places.insert(held.attempt, Place::Waiting(held.order));
        self.waiting.insert(held.order, held);
    }

    /// An attempt leaves the queue; its place is the caller's to say.
    pub(crate) fn take_waiting(&mut self, order: u64) -> Held {
        let held = self.waiting.remove(&order).expect("only what waits is taken from the queue");
        self.waiting_bytes -= inline_bytes(&held.input);
        held
    }

    /// An attempt neither waits nor runs here any more.
    pub(crate) fn let_go(&mut self, held: &Held) {
        self.places.remove(&held.attempt);
        if held.pinned {
            held.blobs().for_each(|blob| self.release(blob.digest));
        }
        let id = held.job();
        let job = self.jobs.get_mut(&id).expect("a job stays known while it has attempts here");
        let count = job.attempts.get_mut(&held.build).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            self.settle_job(id);
        }
    }

    pub(crate) fn say_released(&mut self, attempts: Vec<AttemptId>, reason: ReleaseReason) {
        if !attempts.is_empty() {
            self.say(ToCoordinator::Released { attempts, reason });
        }
    }

    pub(crate) fn acquire(&mut self, blob: BlobRef) {
        if self.blobs.acquire(blob) {
            self.effects.push_back(Effect::Fetch(blob));
        }
    }

    pub(crate) fn release(&mut self, digest: Digest) {
        if self.blobs.release(digest) {
            self.effects.push_back(Effect::Unpin(digest));
        }
    }
}

/// What a waiting input takes of the agent's memory.
pub(crate) fn inline_bytes(input: &Payload) -> u64 {
    match input {
        Payload::Inline(bytes) => bytes.len() as u64,
        Payload::Blob(_) => 0,
    }
}
