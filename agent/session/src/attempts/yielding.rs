//! Giving way: what the guard's verdict means to the slots.
//!
//! ```text
//! run(room): running <= room.slots, the last slots frozen first   pause: all frozen, in memory   evict: nothing is here
//! ```

use std::collections::BTreeSet;

use lull_shared::{
    id::AttemptId,
    message::{ReleaseReason, ToCoordinator},
    state::PauseReason,
    time::Timestamp,
};

use crate::{Effect, Session, attempts::slot::Slot, guard::Verdict};

impl Session {
    /// Takes the guard's verdict: what has to leave the processors is frozen before anything else happens.
    pub(crate) fn judge(&mut self, now: Timestamp) {
        let verdict = self.guard.verdict(now);
        let (before, told) = (std::mem::replace(&mut self.verdict, verdict), self.paused_attempts());
        match (&before, &self.verdict) {
            (_, Verdict::Pause(_) | Verdict::Evict(_)) if before.reason().is_none() => self.freeze_all(now),
            (_, Verdict::Run(room)) => {
                let room = room.slots;
                if before.reason().is_some() {
                    self.thaw_idle();
                }
                self.shrink(room, now);
                self.grow(room, now);
            }
            (_, Verdict::Pause(_) | Verdict::Evict(_)) => {}
        }
        self.tell_paused(&before, &told);
        if let Verdict::Evict(reason) = &self.verdict {
            self.evict(ReleaseReason::Evicted(reason.clone()), now);
        }
    }

    /// What executors may take together at the moment, in bytes.
    pub(crate) fn memory_bytes_max(&self) -> u64 {
        match &self.verdict {
            Verdict::Run(room) => room.memory_bytes,
            Verdict::Pause(_) | Verdict::Evict(_) => self.config.memory_bytes_max,
        }
    }

    /// Whether the machine shall not go to sleep by itself: while something runs, and where the policy says so.
    pub fn keeps_awake(&self) -> bool {
        self.guard.policy().keep_awake && self.slots.iter().any(|slot| matches!(slot, Slot::Running { .. }))
    }

    /// Whether one more slot may begin to run.
    pub(crate) fn has_room(&self) -> bool {
        match &self.verdict {
            Verdict::Run(room) => self.active() < usize::from(room.slots),
            Verdict::Pause(_) | Verdict::Evict(_) => false,
        }
    }

    /// Why what is paused is.
    fn pause_reason(verdict: &Verdict) -> PauseReason {
        match verdict {
            Verdict::Run(room) => PauseReason::Beside { slots: room.slots },
            Verdict::Pause(reason) | Verdict::Evict(reason) => reason.clone(),
        }
    }

    /// Says of everything that is paused that it is.
    pub(crate) fn say_paused(&mut self) {
        let reason = Self::pause_reason(&self.verdict);
        for attempt in self.paused_attempts() {
            self.say(ToCoordinator::Paused { attempt, reason: Some(reason.clone()) });
        }
    }

    /// Says what has been paused and what goes on, and the reason again when it is another.
    fn tell_paused(&mut self, before: &Verdict, told: &BTreeSet<AttemptId>) {
        let paused = self.paused_attempts();
        let reason = Self::pause_reason(&self.verdict);
        let news = Self::pause_reason(before) != reason;
        for attempt in paused.iter().filter(|attempt| news || !told.contains(*attempt)) {
            self.say(ToCoordinator::Paused { attempt: *attempt, reason: Some(reason.clone()) });
        }
        for attempt in told.difference(&paused) {
            self.say(ToCoordinator::Paused { attempt: *attempt, reason: None });
        }
    }

    fn paused_attempts(&self) -> BTreeSet<AttemptId> {
        let paused = self.slots.iter().filter(|slot| matches!(slot, Slot::Paused { .. }));
        paused.flat_map(|slot| slot.held().into_iter().map(|held| held.attempt)).collect()
    }

    /// Slots that run something, or are about to.
    fn active(&self) -> usize {
        let runs =
            |slot: &&Slot| matches!(slot, Slot::Starting { .. } | Slot::Running { .. } | Slot::Stopping { then: Some(_), .. });
        self.slots.iter().filter(runs).count()
    }

    fn freeze_all(&mut self, now: Timestamp) {
        for (slot, state) in (0_u16..).zip(&mut self.slots) {
            if state.has_process() {
                self.effects.push_back(Effect::Freeze { slot });
                state.freeze(now);
            }
        }
    }

    /// Executors that were frozen before they had work go on; those with work as there is room for them.
    fn thaw_idle(&mut self) {
        for (slot, state) in (0_u16..).zip(&self.slots) {
            if let Slot::Starting { .. } | Slot::Warm { .. } = state {
                self.effects.push_back(Effect::Thaw { slot });
            }
        }
    }

    fn shrink(&mut self, room: u16, now: Timestamp) {
        let mut excess = self.active().saturating_sub(room.into());
        for (slot, state) in self.slot_ids().zip(&mut self.slots).rev() {
            if excess > 0 && matches!(state, Slot::Running { .. }) {
                self.effects.push_back(Effect::Freeze { slot });
                state.freeze(now);
                excess -= 1;
            }
        }
    }

    fn grow(&mut self, room: u16, now: Timestamp) {
        let mut spare = usize::from(room).saturating_sub(self.active());
        for (slot, state) in (0_u16..).zip(&mut self.slots) {
            if spare > 0 && matches!(state, Slot::Paused { .. }) {
                self.effects.push_back(Effect::Thaw { slot });
                state.thaw(now);
                spare -= 1;
            }
        }
    }

    /// Gives up whatever is here, memory and all; it goes on elsewhere. What can be moved is written down first.
    pub(crate) fn evict(&mut self, reason: ReleaseReason, now: Timestamp) {
        for id in self.slot_ids() {
            self.suspend(id, &reason, now);
        }
        let stays = |slot: &Slot| slot.has_process() || matches!(slot, Slot::Stopping { then: Some(_), .. });
        if !self.waiting.is_empty() || self.slots.iter().any(stays) {
            let slots = self.slot_ids().filter(|id| !matches!(self.slots[usize::from(*id)], Slot::Suspending { .. }));
            self.give_up(slots.collect(), reason);
        }
    }
}
