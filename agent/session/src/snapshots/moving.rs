//! Snapshots: taken now and then of what runs, taken of what must leave, kept for whoever goes on with the task.
//!
//! ```text
//! running --every so often: Checkpoint--> Saved: kept, said        running goes on
//! must leave --Suspend--> suspending --Saved--> kept, said, released --Gone--> idle
//!                             |  not written, too late
//!                             v
//!                          released: the task goes on from the snapshot before, or begins anew
//! kept --Discard, one too many--> erased
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use lull_shared::{
    digest::{BlobRef, Digest},
    id::AttemptId,
    limits::SNAPSHOTS_PER_AGENT_MAX,
    message::{KeptSnapshot, ReleaseReason, SnapshotRef, ToCoordinator, UnkeptReason},
    time::Timestamp,
};

use crate::{
    Effect, Life, Remark, Session,
    attempts::slot::{Held, Slot, SlotId},
    snapshots::keeping::Coming,
};

/// How long an attempt may take to be written down before it is given up as it is. The owner waits for its memory.
const SUSPEND_TIME_MAX: Duration = Duration::from_secs(10);

/// Snapshots that are kept for others, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    kept: VecDeque<KeptSnapshot>,
    /// Copies of other agents' that are on their way here.
    pub(crate) coming: Coming,
    /// Those of which it was said that this machine takes them with it, and whether that does not matter any more.
    pub(crate) parting: BTreeMap<Digest, bool>,
}

impl Snapshots {
    /// For the greeting.
    pub(crate) fn kept(&self) -> Vec<KeptSnapshot> {
        self.kept.iter().copied().collect()
    }

    /// Each with its pin.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.kept.iter().chain(self.coming.values()).map(|kept| kept.digest)
    }

    /// How many there are, those on their way included.
    pub(crate) fn len(&self) -> usize {
        self.kept.len() + self.coming.len()
    }

    /// The one with this digest.
    pub(crate) fn find(&self, digest: Digest) -> Option<KeptSnapshot> {
        self.kept.iter().find(|kept| kept.digest == digest).copied()
    }

    /// Whether it is kept here.
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.find(digest).is_some()
    }

    /// One more, whose pin is the caller's to give.
    pub(crate) fn add(&mut self, snapshot: KeptSnapshot) {
        self.kept.push_back(snapshot);
    }
}

impl Session {
    /// Has what a slot executes written down and its process ended, if that can be done; what it had not begun is given up.
    pub(crate) fn suspend(&mut self, id: SlotId, reason: &ReleaseReason, now: Timestamp) {
        let slot = &self.slots[usize::from(id)];
        let (Slot::Running { work, .. } | Slot::Paused { work }) = slot else { return };
        let attempt = work.front.attempt;
        if slot.can_suspend(attempt) {
            let rest = self.write_down(id, attempt, reason.clone(), now);
            self.say_let_go(rest, reason.clone());
        }
    }

    /// Has what a slot executes written down since the coordinator wants it elsewhere; what it had not begun waits again.
    pub(crate) fn hand_over(&mut self, id: SlotId, attempt: AttemptId, now: Timestamp) {
        if self.slots[usize::from(id)].can_suspend(attempt) {
            let rest = self.write_down(id, attempt, ReleaseReason::Recalled, now);
            rest.into_iter().for_each(|held| self.put_back(held));
        }
    }

    /// Suspends the front; what was behind it comes back.
    fn write_down(&mut self, id: SlotId, attempt: AttemptId, reason: ReleaseReason, now: Timestamp) -> VecDeque<Held> {
        let until = match self.life {
            // The other half is for the snapshot to get elsewhere.
            Life::Leaving { until } => now + SUSPEND_TIME_MAX.min(until.since(now) / 2),
            Life::Serving | Life::Left => now + SUSPEND_TIME_MAX,
        };
        let rest = self.slots[usize::from(id)].suspend(reason, until, now);
        self.effects.push_back(Effect::Suspend { slot: id, attempt });
        rest
    }

    /// A snapshot is whole and in the cache.
    pub(crate) fn saved(&mut self, id: SlotId, attempt: AttemptId, blob: BlobRef, suspended: bool, now: Timestamp) {
        let spent = self.slots.get(usize::from(id)).and_then(|slot| slot.spent(attempt, now));
        let Some(spent) = spent else {
            // It was recalled meanwhile: nobody goes on from there.
            return self.effects.push_back(Effect::Erase(blob.digest));
        };
        self.keep(KeptSnapshot { task: attempt.task, digest: blob.digest }, blob);
        let spent_us = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
        self.say(ToCoordinator::Saved { attempt, snapshot: SnapshotRef { blob, spent_us } });
        if suspended {
            self.let_leave(id);
        }
    }

    /// A snapshot could not be gone on from.
    pub(crate) fn begins_anew(&mut self, id: SlotId, attempt: AttemptId, reason: String, now: Timestamp) {
        self.effects.push_back(Effect::Log(Remark::BeginsAnew { attempt, reason }));
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            slot.begin_anew(attempt, now);
        }
    }

    /// What was suspended is given up; its process has ended or is about to.
    pub(crate) fn let_leave(&mut self, id: SlotId) {
        let slot = &mut self.slots[usize::from(id)];
        if let Slot::Suspending { reason, .. } = slot {
            let reason = reason.clone();
            let held = slot.stop();
            self.say_let_go(held, reason);
        }
    }

    fn say_let_go(&mut self, held: impl IntoIterator<Item = Held>, reason: ReleaseReason) {
        let mut released = Vec::new();
        for held in held {
            self.let_go(&held);
            released.push(held.attempt);
        }
        self.say_released(released, reason);
    }

    /// Takes snapshots of what has run for long without one, and gives up what takes too long to be written down.
    pub(crate) fn snapshots_due(&mut self, now: Timestamp) {
        let every = self.config.snapshot_every;
        for id in self.slot_ids() {
            let slot = &mut self.slots[usize::from(id)];
            if slot.save_due(every).is_some_and(|due| due <= now)
                && let Slot::Running { work, .. } = slot
            {
                let attempt = work.front.attempt;
                slot.note_save(now);
                self.effects.push_back(Effect::Checkpoint { slot: id, attempt });
            }
            if matches!(self.slots[usize::from(id)], Slot::Suspending { until, .. } if until <= now) {
                self.effects.push_back(Effect::Kill { slot: id });
                self.let_leave(id);
            }
        }
    }

    /// When [`Self::snapshots_due`] is wanted next.
    pub(crate) fn moving_due(&self) -> Option<Timestamp> {
        let due = self.slots.iter().filter_map(|slot| match slot {
            Slot::Suspending { until, .. } => Some(*until),
            other => other.save_due(self.config.snapshot_every),
        });
        due.min()
    }

    /// The coordinator has no use for these any more.
    pub(crate) fn discard(&mut self, snapshots: &[Digest]) {
        for digest in snapshots {
            self.snapshots.parting.remove(digest);
            if self.snapshots.coming.remove(digest).is_some() {
                self.erase(*digest);
            }
        }
        while let Some(place) = self.snapshots.kept.iter().position(|kept| snapshots.contains(&kept.digest)) {
            let kept = self.snapshots.kept.remove(place).expect("it was just found");
            self.erase(kept.digest);
        }
    }

    fn keep(&mut self, kept: KeptSnapshot, blob: BlobRef) {
        self.snapshots.kept.push_back(kept);
        self.blobs.acquire(blob);
        self.blobs.fetched(blob.digest, true);
        if self.snapshots.kept.len() > SNAPSHOTS_PER_AGENT_MAX
            && let Some(oldest) = self.snapshots.kept.pop_front()
        {
            self.erase(oldest.digest);
            self.snapshots.parting.remove(&oldest.digest);
            self.say(ToCoordinator::Unkept { snapshot: oldest, reason: UnkeptReason::Full });
        }
    }

    /// Another attempt here may be about to go on from it: then it goes with that.
    fn erase(&mut self, digest: Digest) {
        if self.blobs.release(digest) {
            self.effects.push_back(Effect::Erase(digest));
        }
    }

    /// The snapshot of a task that is kept here.
    #[cfg(test)]
    pub(crate) fn kept_snapshot(&self, task: lull_shared::id::TaskId) -> Option<Digest> {
        self.snapshots.kept.iter().rev().find(|kept| kept.task == task).map(|kept| kept.digest)
    }
}
