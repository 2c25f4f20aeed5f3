//! Running attempts that go on elsewhere because that is better: what is paused for want of room, and what runs on a slow
//! machine while a faster one has nothing to do. Both only for slots that stay free: what waits to be started comes first.

use std::time::Duration;

use lull_shared::{
    id::{AgentId, AttemptId},
    message::RecallReason,
};

use crate::{
    Scheduler,
    fleet::agents::{Lack, Recall},
    placement::{feasible::is_feasible, rank::micros},
    time::timers::Timer,
};

/// Paused attempts, and slow agents, that are looked at for one agent with a free slot: the oldest and the slowest gain
/// the most, and the next free slot finds the others.
const LOOKS: usize = 8;
/// An agent is faster if the same work takes it at most this share of the time, in percent: an attempt is moved
/// a few times at most before it is where nobody is that much faster.
const FASTER_PERCENT: u64 = 67;

impl Scheduler {
    /// Fills free slots of an agent with attempts that go on better here.
    pub(crate) fn take_over(&mut self, id: AgentId, mut wanted: usize) {
        let old_enough = |since| since + self.limits.stalled_after <= self.now;
        let stalled = self.fleet.stalled().take(LOOKS).filter(|(since, ..)| old_enough(*since));
        let stalled = stalled.filter(|(_, attempt, from)| self.may_go(*attempt, *from, id));
        let stalled: Vec<_> = stalled.take(wanted).map(|(_, attempt, from)| (attempt, from)).collect();
        wanted -= stalled.len();
        for (attempt, from) in stalled {
            self.ask_over(attempt, from, id, RecallReason::Roomier);
        }
        self.fleet.settle();
        for (attempt, from) in self.slower(id, wanted) {
            self.ask_over(attempt, from, id, RecallReason::Faster);
        }
    }

    /// An attempt left the processor for want of room, or not for that, or is back.
    pub(crate) fn note_stalled(&mut self, id: AgentId, attempt: AttemptId, stalled: bool) {
        self.fleet.stall(id, attempt, stalled.then_some(self.now));
        if stalled {
            self.set_stalled_timer();
        }
    }

    /// Lets agents with free slots look at what has been paused for long enough.
    pub(crate) fn find_room(&mut self) {
        self.fleet.settle();
        let after = self.limits.stalled_after;
        let old: Vec<_> = self.fleet.stalled().take_while(|(since, ..)| *since + after <= self.now).take(LOOKS).collect();
        for (_, attempt, from) in old {
            let room = self.fleet.free().take(LOOKS).find(|id| self.may_go(attempt, from, *id));
            room.into_iter().for_each(|id| self.wake_agent(id));
        }
        self.set_stalled_timer();
    }

    /// An agent gave back what was to go elsewhere: whom it is for looks first, and it is not offered the same at once.
    pub(crate) fn note_handed_over(&mut self, id: AgentId, attempt: AttemptId, recall: Option<Recall>) {
        let Some(Recall { reason: RecallReason::Roomier | RecallReason::Faster, to: Some(to), .. }) = recall else { return };
        let name = self.fleet.get(to).map(|agent| agent.name.clone()).unwrap_or_default();
        self.note_refusal(id, attempt.task.job, format!("a task of it was just moved from here to {name}"), Lack::Other);
        self.awaiting.insert(to);
    }

    fn ask_over(&mut self, attempt: AttemptId, from: AgentId, to: AgentId, reason: RecallReason) {
        self.fleet.recall(from, attempt, reason, Some(to));
    }

    fn may_go(&self, attempt: AttemptId, from: AgentId, to: AgentId) -> bool {
        let Some(job) = self.jobs.get(&attempt.task.job).filter(|job| job.stopping.is_none()) else { return false };
        let (Some(source), Some(target)) = (self.fleet.get(from), self.fleet.get(to)) else { return false };
        let free = source.held.get(&attempt).is_some_and(|held| held.recall.is_none());
        // One of several copies would not begin again elsewhere.
        let alone = job.tasks.copies(attempt.task.index).is_some_and(|copies| copies.count() == 1);
        from != to
            && free
            && alone
            && source.stream().is_some()
            && job.held_back().is_none()
            && is_feasible(target, self.demands.get(job.demand), attempt.task.job, self.now)
    }

    /// Attempts that run on slower agents and would end sooner on this one, moving them included.
    fn slower(&self, id: AgentId, wanted: usize) -> Vec<(AttemptId, AgentId)> {
        let Some(own) = self.fleet.get(id).and_then(|agent| agent.speed.percent()) else { return Vec::new() };
        let faster = |percent: &u32| u64::from(own) * 100 <= u64::from(*percent) * FASTER_PERCENT;
        let slow = self.fleet.slow().take(LOOKS).take_while(|(percent, _)| faster(percent));
        let attempts = slow.flat_map(|(percent, from)| {
            let held = self.fleet.get(from).into_iter().flat_map(|agent| &agent.held);
            let runs = held.filter(|(_, held)| held.started && held.movable && held.stalled.is_none());
            runs.map(move |(attempt, _)| (*attempt, from, percent))
        });
        let gains = |(attempt, from, percent): &(AttemptId, AgentId, u32)| {
            self.may_go(*attempt, *from, id) && self.gain(*attempt, *percent, own) >= self.limits.move_gain_min
        };
        attempts.filter(gains).take(wanted).map(|(attempt, from, _)| (attempt, from)).collect()
    }

    /// How much sooner the attempt would end where work takes `own` percent of the usual time instead of `percent`.
    fn gain(&self, attempt: AttemptId, percent: u32, own: u32) -> Duration {
        let Some(job) = self.jobs.get(&attempt.task.job) else { return Duration::ZERO };
        let index = attempt.task.index;
        let (Some(mean_us), Some(live)) = (job.pace.mean_wall_us(), job.tasks.live(index, attempt.number)) else {
            return Duration::ZERO;
        };
        let before_us = job.tasks.saved(index).map_or(0, |saved| saved.snapshot.spent_us);
        let ran_us = before_us.max(micros(self.now.since(live.since)));
        let rest_us = (mean_us.saturating_mul(percent.into()) / 100).saturating_sub(ran_us);
        let saved_percent = 100_u64.saturating_sub(u64::from(own) * 100 / u64::from(percent));
        Duration::from_micros(rest_us.saturating_mul(saved_percent) / 100)
    }

    /// Set for the first that is not old enough yet: those that are have been looked at.
    fn set_stalled_timer(&mut self) {
        let after = self.limits.stalled_after;
        let next = self.fleet.stalled_next(self.now - after);
        self.timers.set_or_clear(Timer::Stalled, next.map(|since| since + after));
    }
}
