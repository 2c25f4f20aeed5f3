//! Work that was done and came to nothing: thrown away, or done twice on purpose.
//!
//! Counted when a task succeeds, in plain running time: all that its attempts did, less what it takes. Of that, what
//! attempts did that had another beside them was done twice; the rest was thrown away. What failed is the function's own
//! affair, and outputs that are compared are wanted twice: neither counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lull_scheduler::effect::{Change, EndedAttempt, TaskAfter};
use lull_shared::{
    id::{AttemptId, TaskId},
    state::{AttemptEnd, Intake},
    time::Timestamp,
};

use crate::sim::{
    events::MachineId,
    judged::promise::{Checked, Promise, Subject, hold},
    world::World,
};

/// What attempts did.
#[derive(Debug, Default)]
pub(crate) struct Waste {
    /// By attempts of tasks that have not succeeded.
    done: BTreeMap<AttemptId, Duration>,
    /// Attempts that had another beside them.
    twins: BTreeSet<AttemptId>,
    /// Attempts that were of use, or failed by themselves.
    used: BTreeSet<AttemptId>,
    thrown_away: Duration,
    done_twice: Duration,
    /// A machine that died, what it had, and when something of that began elsewhere.
    death: Option<Death>,
}

/// A machine that never comes back.
#[derive(Debug)]
struct Death {
    at: Timestamp,
    /// What has not begun elsewhere, and since when another machine could have taken it.
    open: BTreeMap<TaskId, Option<Timestamp>>,
}

/// What ran on a machine that died begins elsewhere in this time, where another has room.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);
/// Where none does, it begins in this time after the first that does.
const BEGINS_AFTER_ROOM: Duration = Duration::from_secs(1);

impl Waste {
    pub(crate) fn thrown_away(&self) -> Duration {
        self.thrown_away
    }

    pub(crate) fn done_twice(&self) -> Duration {
        self.done_twice
    }

    /// An attempt did so much more.
    fn note_done(&mut self, attempt: AttemptId, more: Duration, task_open: bool) {
        if task_open {
            *self.done.entry(attempt).or_default() += more;
        } else if self.twins.contains(&attempt) {
            self.done_twice += more;
        } else {
            self.thrown_away += more;
        }
    }

    fn succeeded(&mut self, winner: AttemptId, length: Duration) {
        let first = AttemptId { number: 0, ..winner };
        let last = AttemptId { number: u32::MAX, ..winner };
        let attempts: Vec<_> = self.done.range(first..=last).map(|(attempt, done)| (*attempt, *done)).collect();
        let counted = attempts.iter().filter(|(attempt, _)| !self.used.contains(attempt));
        let all: Duration = counted.clone().map(|(_, done)| *done).sum();
        let twice: Duration =
            counted.filter(|(attempt, _)| *attempt != winner && self.twins.contains(attempt)).map(|(_, done)| *done).sum();
        let excess = all.saturating_sub(length);
        let twice = twice.min(excess);
        self.done_twice += twice;
        self.thrown_away += excess - twice;
        for (attempt, _) in attempts {
            self.done.remove(&attempt);
        }
    }
}

impl World {
    /// An executor is about to end, or the front of its queue has ended.
    pub(crate) fn note_work(&mut self, id: MachineId, slot: u16) {
        let Some((attempt, more)) = self.machines[id].slots[usize::from(slot)].done_here(self.now) else { return };
        let open = self.ledger.is_open(attempt.task);
        self.waste.note_done(attempt, more, open);
    }

    /// What a change says of work that was done.
    pub(crate) fn note_waste(&mut self, change: &Change) -> Checked {
        match change {
            Change::AttemptStarted { attempt, beside: true, .. } => {
                self.waste.twins.extend(self.ledger.live(attempt.task));
                self.waste.twins.insert(*attempt);
                self.check_death(attempt.task)
            }
            Change::AttemptEnded(ended) => {
                self.check_lost(ended)?;
                if ended.end == AttemptEnd::Failed || ended.answer.is_some() {
                    self.waste.used.insert(ended.attempt);
                }
                if ended.after == TaskAfter::Succeeded {
                    self.waste.succeeded(ended.attempt, self.length_of(ended.attempt.task));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An attempt is lost when its agent has it no more, and not because nothing was heard of that.
    fn check_lost(&self, ended: &EndedAttempt) -> Checked {
        let revoked = self.ledger.intakes.get(&ended.agent) == Some(&Intake::Revoked);
        if ended.end != AttemptEnd::Lost || revoked {
            return Ok(());
        }
        let attempt = ended.attempt;
        let has_it = self.machines.iter().filter(|machine| machine.agent == ended.agent).any(|machine| {
            let runs = machine.slots.iter().any(|slot| slot.has(attempt));
            runs || machine.disk.results.contains_key(&attempt) || machine.disk.pending.contains_key(&attempt)
        });
        let what = || format!("{attempt} is lost ({:?}), and {} has it", ended.reason, ended.agent);
        hold(Promise::NothingLost, !has_it, what, &[attempt.into(), ended.agent.into()])
    }

    /// A machine dies for good; what it runs must run elsewhere within five seconds, where there is room.
    pub(crate) fn note_death(&mut self, id: MachineId) {
        let agent = self.machines[id].agent;
        let running = self.machines[id].slots.iter().filter_map(|slot| slot.front(self.now));
        let open = running.filter(|(attempt, _)| self.ledger.live_at(*attempt) == Some(agent));
        self.waste.death = Some(Death { at: self.now, open: open.map(|(attempt, _)| (attempt.task, None)).collect() });
    }

    fn check_death(&mut self, task: TaskId) -> Checked {
        let Some(death) = &mut self.waste.death else { return Ok(()) };
        if death.open.remove(&task).is_some() {
            self.summary.taken_over += 1;
            self.summary.taken_over_after = self.summary.taken_over_after.max(self.now.since(death.at));
        }
        Ok(())
    }

    /// Something happened: whether what ran on a machine that died has waited too long although another has room.
    pub(crate) fn check_left_behind(&mut self) -> Checked {
        let Some(Death { at, open }) = self.waste.death.take().filter(|death| !death.open.is_empty()) else { return Ok(()) };
        let mut left = BTreeMap::new();
        for (task, room_since) in open.into_iter().filter(|(task, _)| self.ledger.is_open(*task)) {
            let room_since = self.has_room_for(task).then(|| room_since.unwrap_or(self.now));
            let late = room_since.is_some_and(|since| self.now > (at + BEGINS_WITHIN).max(since + BEGINS_AFTER_ROOM));
            let (after, room) = (self.now.since(at), room_since);
            let what = || format!("{task} ran on a machine that died {after:?} ago; there is room for it since {room:?}");
            hold(Promise::Carried, !late, what, &[Subject::Task(task)])?;
            left.insert(task, room_since);
        }
        self.waste.death = Some(Death { at, open: left });
        Ok(())
    }

    /// Whether a machine that may run the task has a slot and memory to spare, as far as anybody knows.
    fn has_room_for(&self, task: TaskId) -> bool {
        let memory = self.ledger.jobs.get(&task.job).map_or(0, |job| job.memory_bytes);
        self.machines.iter().any(|machine| {
            let Some(session) = machine.session.as_ref().filter(|_| machine.link.is_some()) else { return false };
            let capacity = session.status(self.now).capacity;
            let taken = u32::from(capacity.slots_busy) + capacity.waiting;
            let free = capacity.paused.is_none() && taken < u32::from(capacity.slots) && capacity.memory_free_bytes >= memory;
            // Some jobs want no machine of the lab.
            let fits = machine.config.labels.get("site").is_some_and(|site| site != "lab");
            free && fits && self.ledger.may_begin(task, machine.agent)
        })
    }

    /// What ran on the machine that died and has not begun elsewhere.
    pub(crate) fn left_behind(&self) -> usize {
        self.waste.death.as_ref().map_or(0, |death| death.open.len())
    }
}
