//! Slots: which attempt starts where, and what executors report.
//!
//! An executor is kept warm for its job and for the next one that fits it, since starting another costs more than most
//! tasks; not while the owner needs the machine. While attempts of several jobs wait, each executor may prefer its own
//! job for a [`SLICE`]; beyond that the order of offers decides.

use std::{sync::Arc, time::Duration};

use lull_shared::{
    id::{AttemptId, JobId},
    message::{Build, RefuseReason, ToCoordinator},
    state::{Failure, Part, Trouble},
    time::Timestamp,
};

use crate::{
    Done, Effect, Place, Plan, Session, StartError,
    attempts::slot::{Duty, Executor, Held, Slot, SlotId},
};

/// How long an executor may prefer its own job over older offers of another: a switch costs a few milliseconds, so
/// switching takes one percent at most.
const SLICE: Duration = Duration::from_millis(500);
/// Attempts at the head of the queue that are looked at for one that can start.
const LOOK_AHEAD: usize = 64;
/// Work that one executor's pipe may hold: enough to hide the way to it and back, little enough to be worth nothing
/// to another agent. Jobs with longer tasks are not piped at all.
const PIPE_TIME: Duration = Duration::from_millis(4);
/// Attempts in one executor's pipe at most. A coordinator allows for no more.
const PIPE_MAX: u64 = 256;

/// One thing to start.
enum Step {
    /// Give it to an executor of its job.
    Run { slot: SlotId, order: u64 },
    /// Turn a warm executor of another job to it.
    Serve { slot: SlotId, order: u64 },
    /// Start an executor for it.
    Start { slot: SlotId, order: u64 },
    /// End a warm executor of another job, then start one for it.
    Replace { slot: SlotId, order: u64 },
    /// End a warm executor of another job for its memory.
    Clear { slot: SlotId },
}

impl Session {
    /// Starts whatever can start.
    pub(crate) fn fill(&mut self, now: Timestamp) {
        if !self.may_start() || self.waiting.is_empty() {
            return;
        }
        self.fetch_ahead();
        while let Some(step) = self.next_step(now) {
            match step {
                Step::Run { slot, order } => {
                    let held = self.take_waiting(order);
                    self.run(slot, held, now);
                }
                Step::Serve { slot, order } => {
                    let held = self.take_waiting(order);
                    self.serve(slot, held, now);
                }
                Step::Start { slot, order } => {
                    let held = self.take_waiting(order);
                    self.start(slot, held, now);
                }
                Step::Replace { slot, order } => {
                    let held = self.take_waiting(order);
                    let duty = self.slots[usize::from(slot)].duty().expect("a warm slot has an executor");
                    self.kill(slot);
                    self.places.insert(held.attempt, Place::Slot(slot));
                    self.slots[usize::from(slot)] = Slot::Stopping { duty, then: Some(held) };
                }
                Step::Clear { slot } => {
                    self.kill(slot);
                }
            }
        }
    }

    fn may_start(&self) -> bool {
        self.serves() && self.objects().is_none()
    }

    fn next_step(&self, now: Timestamp) -> Option<Step> {
        let head = self.waiting.values().take(LOOK_AHEAD).find(|held| self.is_ready(held))?;
        let (order, duty, need) = (head.order, head.duty(), self.memory_bytes(head.job()));
        if !self.has_room() {
            return self.next_for_a_pipe(head, now);
        }
        let slots = || (0_u16..).zip(&self.slots);
        for (slot, state) in slots() {
            if let Slot::Warm { executor, .. } = state
                && let Some(order) = self.pick(head, *executor, now)
            {
                return Some(Step::Run { slot, order });
            }
        }
        let fits = |state: &Slot| matches!(state, Slot::Warm { executor, .. } if self.fits(duty, executor.duty));
        if let Some((slot, _)) = slots().find(|(_, state)| fits(state)) {
            return Some(Step::Serve { slot, order });
        }
        let free = self.memory_bytes_max().saturating_sub(self.memory_reserved_bytes());
        if let Some((slot, _)) = slots().find(|(_, state)| **state == Slot::Idle)
            && need <= free
        {
            return Some(Step::Start { slot, order });
        }
        // One at a time: the memory of a process is free when it is gone.
        if !slots().any(|(_, state)| matches!(state, Slot::Stopping { .. })) {
            let warm = slots().filter_map(|(slot, state)| match state {
                Slot::Warm { executor, since } if executor.duty != duty => {
                    Some((*since, slot, self.memory_bytes(executor.duty.job)))
                }
                _ => None,
            });
            if let Some((_, slot, freed)) = warm.min() {
                let enough = need <= free.saturating_add(freed);
                return Some(if enough { Step::Replace { slot, order } } else { Step::Clear { slot } });
            }
        }
        self.next_for_a_pipe(head, now)
    }

    /// The attempt that an executor takes next: the first one of its job that is ready, unless `head` comes before it.
    fn pick(&self, head: &Held, executor: Executor, now: Timestamp) -> Option<u64> {
        let duty = executor.duty;
        if head.duty() == duty {
            return Some(head.order);
        }
        if now.since(executor.since) >= SLICE {
            return None;
        }
        let own = self.waiting.values().take(LOOK_AHEAD).find(|held| held.duty() == duty && self.is_ready(held));
        own.map(|held| held.order)
    }

    /// One more attempt for the shortest pipe that takes one.
    fn next_for_a_pipe(&self, head: &Held, now: Timestamp) -> Option<Step> {
        let mut best: Option<(usize, SlotId, u64)> = None;
        for (slot, state) in (0_u16..).zip(&self.slots) {
            let Slot::Running { work, .. } = state else { continue };
            let length = 1 + work.rest.len();
            if length >= self.pipe_depth(work.executor.duty.job) || best.is_some_and(|(shortest, ..)| shortest <= length) {
                continue;
            }
            if let Some(order) = self.pick(head, work.executor, now) {
                best = Some((length, slot, order));
            }
        }
        best.map(|(_, slot, order)| Step::Run { slot, order })
    }

    fn pipe_depth(&self, job: JobId) -> usize {
        let pipe_us = PIPE_TIME.as_micros() as u64;
        match self.jobs.get(&job).and_then(|job| job.wall_us) {
            Some(mean_us) if mean_us < pipe_us => (pipe_us / mean_us.max(1)).clamp(2, PIPE_MAX) as usize,
            Some(_) | None => 1,
        }
    }

    /// Whether an executor that is there for `other` can be turned to `duty`.
    fn fits(&self, duty: Duty, other: Duty) -> bool {
        let plan = |duty: Duty| self.jobs.get(&duty.job).and_then(|job| job.plan.as_ref().ok());
        plan(duty).zip(plan(other)).is_some_and(|(plan, theirs)| plan.fits(duty.build, theirs, other.build))
    }

    fn memory_bytes(&self, job: JobId) -> u64 {
        let plan = self.jobs.get(&job).and_then(|job| job.plan.as_ref().ok());
        plan.map_or(0, |plan| plan.brief.limits.memory_bytes)
    }

    /// What the executors that are here may take.
    pub(crate) fn memory_reserved_bytes(&self) -> u64 {
        self.memory_bytes_of(self.slots.iter())
    }

    /// What the executors in some slots may take.
    pub(crate) fn memory_bytes_of<'a>(&self, slots: impl Iterator<Item = &'a Slot>) -> u64 {
        slots.filter_map(Slot::job).map(|job| self.memory_bytes(job)).fold(0, u64::saturating_add)
    }

    /// The job that it ran for has nothing here any more, or has had its slice.
    fn serve(&mut self, slot: SlotId, held: Held, now: Timestamp) {
        let plan = self.plan_of(&held);
        let before = self.slots[usize::from(slot)].job();
        self.slots[usize::from(slot)].serve(held.duty(), now);
        self.effects.push_back(Effect::Serve { slot, plan });
        self.run(slot, held, now);
        before.into_iter().for_each(|job| self.settle_job(job));
    }

    fn plan_of(&self, held: &Held) -> Arc<Plan> {
        self.jobs.get(&held.job()).and_then(|job| job.plan.clone().ok()).expect("what is ready has a plan")
    }

    fn start(&mut self, slot: SlotId, held: Held, now: Timestamp) {
        let (duty, plan) = (held.duty(), self.plan_of(&held));
        self.places.insert(held.attempt, Place::Slot(slot));
        self.slots[usize::from(slot)] = Slot::Starting { duty, first: Some(held), since: now };
        self.effects.push_back(Effect::Start { slot, plan, build: duty.build });
    }

    fn run(&mut self, slot: SlotId, held: Held, now: Timestamp) {
        let (attempt, input, resume) = (held.attempt, held.input.clone(), held.resume.map(|snapshot| snapshot.blob));
        if let Some(held) = self.slots[usize::from(slot)].push(held, now) {
            return self.put_back(held);
        }
        self.places.insert(attempt, Place::Slot(slot));
        self.effects.push_back(Effect::Run { slot, attempt, input, resume });
        if self.link.is_up() {
            self.started.push_back((now, attempt));
        }
    }

    pub(crate) fn ready(&mut self, slot: SlotId, now: Timestamp) {
        let Some(state) = self.slots.get_mut(usize::from(slot)) else { return };
        let Some(first) = state.ready(now) else { return };
        if let Some(job) = self.jobs.get_mut(&first.job()) {
            job.refetched.remove(&first.build);
        }
        if self.may_start() && self.has_room() {
            self.run(slot, first, now);
        } else {
            self.put_back(first);
        }
    }

    pub(crate) fn start_failed(&mut self, slot: SlotId, error: StartError, now: Timestamp) {
        let Some(state) = self.slots.get_mut(usize::from(slot)) else { return };
        let Slot::Starting { duty, first, .. } = state else {
            return if matches!(state, Slot::Stopping { .. }) {
                self.gone(slot, None, now)
            };
        };
        let (duty, first) = (*duty, first.take());
        *state = Slot::Idle;
        self.after_executor(duty, first, error, now);
        self.settle_job(duty.job);
    }

    /// What becomes of the attempt that an executor was to be started for.
    fn after_executor(&mut self, duty: Duty, first: Option<Held>, error: StartError, now: Timestamp) {
        match error {
            StartError::Artifact(_) => {
                if let Some(held) = first {
                    self.put_back(held);
                }
                self.fall_back(duty);
            }
            StartError::Module(reason) if duty.build == Build::Plain => {
                if let Some(held) = first {
                    self.put_back(held);
                }
                self.break_job(duty.job, reason, now);
            }
            StartError::Missing(reason) => {
                if let Some(held) = first {
                    self.put_back(held);
                }
                if !self.fetch_again(duty) {
                    self.note_trouble(Trouble::new(Part::Cache, reason), now);
                    self.fall_back(duty);
                }
            }
            // Of a build of ours the function's author knows nothing.
            StartError::Module(reason) => self.refuse_first(first, reason),
            StartError::Executor(reason) => {
                self.after_executor(duty, first, StartError::Trouble(Trouble::new(Part::Executor, reason)), now);
            }
            StartError::Trouble(trouble) => {
                self.refuse_first(first, trouble.to_string());
                self.note_trouble(trouble, now);
            }
        }
    }

    fn refuse_first(&mut self, first: Option<Held>, reason: String) {
        if let Some(held) = first {
            self.let_go(&held);
            self.say(ToCoordinator::Refused { attempt: held.attempt, reason: RefuseReason::Executor { reason } });
        }
    }

    pub(crate) fn done(&mut self, slot: SlotId, done: Done, now: Timestamp) {
        let Some(state) = self.slots.get_mut(usize::from(slot)) else { return };
        let frozen = matches!(state, Slot::Paused { .. });
        let Some(ended) = state.finish(done.attempt, now) else { return };
        if frozen && matches!(state, Slot::Warm { .. }) && self.verdict.reason().is_none() {
            // It had done its work when the room beside the owner shrank; as it has none now it may wait for more.
            self.effects.push_back(Effect::Thaw { slot });
        }
        if let Some(job) = self.jobs.get_mut(&ended.held.job()) {
            let wall_us = done.usage.wall_us;
            job.wall_us = Some(job.wall_us.map_or(wall_us, |mean| mean.saturating_mul(7).saturating_add(wall_us) / 8));
        }
        self.let_go(&ended.held);
        self.conclude(done);
    }

    /// A process is gone: what it executed failed, what it had not begun waits again.
    pub(crate) fn gone(&mut self, slot: SlotId, failed: Option<(AttemptId, Failure)>, now: Timestamp) {
        if usize::from(slot) >= self.slots.len() {
            return;
        }
        // Whatever was suspended and not written down is released as if it had been.
        self.let_leave(slot);
        let state = &mut self.slots[usize::from(slot)];
        let begun = match state {
            Slot::Starting { .. } => {
                return self.start_failed(slot, StartError::Executor("it ended before it had started".into()), now);
            }
            Slot::Running { work, .. } | Slot::Paused { work } => Some(work.begun),
            Slot::Idle | Slot::Warm { .. } | Slot::Suspending { .. } | Slot::Stopping { .. } => None,
        };
        let was_stopping = matches!(state, Slot::Stopping { .. });
        let job = state.job();
        let mut held = std::collections::VecDeque::from(state.gone());
        if let Some((attempt, failure)) = failed
            && begun.is_some()
            && let Some(front) = held.pop_front_if(|front| front.attempt == attempt)
        {
            self.let_go(&front);
            self.fail(&front, failure, begun, now);
        }
        for held in held {
            if was_stopping && self.may_start() && self.has_room() && self.is_ready(&held) {
                self.start(slot, held, now);
            } else {
                self.put_back(held);
            }
        }
        job.into_iter().for_each(|job| self.settle_job(job));
    }

    /// Fails what ran longer than its limit.
    pub(crate) fn time_limits(&mut self, now: Timestamp) {
        for id in self.slot_ids() {
            let Some((limit_ms, due)) = self.time_limit(id) else { continue };
            if now < due {
                continue;
            }
            let begun = match &self.slots[usize::from(id)] {
                Slot::Running { work, .. } => Some(work.begun),
                _ => None,
            };
            let mut held = self.kill(id).into_iter();
            let front = held.next().expect("a slot with a time limit runs something");
            self.let_go(&front);
            self.fail(&front, Failure::TimeLimit { limit_ms }, begun, now);
            held.for_each(|held| self.put_back(held));
        }
    }

    fn time_limit(&self, slot: SlotId) -> Option<(u64, Timestamp)> {
        let slot = &self.slots[usize::from(slot)];
        let plan = self.jobs.get(&slot.job()?)?.plan.as_ref().ok()?;
        let limit_ms = plan.brief.limits.time_ms;
        Some((limit_ms, slot.deadline(Duration::from_millis(limit_ms))?))
    }

    /// Ends executors that have had nothing to do for long.
    pub(crate) fn cool_down(&mut self, now: Timestamp) {
        for id in self.slot_ids() {
            if let Slot::Warm { since, .. } = self.slots[usize::from(id)]
                && now >= since + self.config.warm_time
            {
                self.kill(id);
            }
        }
    }

    pub(crate) fn work_due(&self) -> Option<Timestamp> {
        let warm = self.slots.iter().filter_map(|slot| match slot {
            Slot::Warm { since, .. } => Some(*since + self.config.warm_time),
            _ => None,
        });
        let limits = self.slot_ids().filter_map(|slot| self.time_limit(slot).map(|(_, due)| due));
        warm.chain(limits).chain(self.moving_due()).min()
    }

    /// Ends executors that have nothing to do while the owner needs the machine: their memory too is the owner's.
    pub(crate) fn yield_warm(&mut self) {
        if self.verdict.reason().is_none() {
            return;
        }
        for id in self.slot_ids() {
            if let Slot::Warm { .. } = self.slots[usize::from(id)] {
                self.kill(id);
            }
        }
    }

    /// Kills a slot's process, if it has one; what it held is the caller's.
    pub(crate) fn kill(&mut self, id: SlotId) -> Vec<Held> {
        let slot = &mut self.slots[usize::from(id)];
        if slot.is_alive() {
            self.effects.push_back(Effect::Kill { slot: id });
        }
        slot.stop()
    }

    pub(crate) fn slot_ids(&self) -> std::ops::Range<SlotId> {
        0..self.config.slots
    }
}
