//! The agent's own troubles: while it has one nothing new is begun, and it is tried again and again whether it is over.
//!
//! ```text
//! (none) --noted--> waits --due: Probe--> asked --works--> over --for long--> (none)
//!                     ^                     | does not       | noted again: waits longer
//!                     +---------------------+----------------+
//! ```
//! What runs goes on: it may come to its end all the same. A disk that refuses results is not here but in
//! [`super::words::results`], which tries that with what it refused.

use std::{collections::BTreeMap, time::Duration};

use lull_shared::{
    id::AttemptId,
    message::ReleaseReason,
    state::{Part, PauseReason, Trouble},
    time::Timestamp,
};

use super::{Effect, Remark, Session};
use crate::attempts::slot::{Duty, SlotId};

/// The pause before a part is tried again that does not work: a folder is mended by a person or within a moment.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The same for the cage: a kernel without walls gets none while it runs, and trying starts a process.
const CAGE_RETRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(60 * 60));
/// The pause after one that had just been found to work failed again: what only fails in earnest must not eat attempts.
const RELAPSE_MAX: Duration = Duration::from_secs(10 * 60);
/// Whoever kills executors means it, or the machine is short of memory: neither is over in a moment.
const KILLED_PAUSE: Duration = Duration::from_secs(30);
/// A part that has worked for so long is as good as new.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// What does not work, and what did not until lately.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Part, Known>);

#[derive(Debug)]
struct Known {
    reason: String,
    /// How often it was tried or came back since it was as good as new.
    count: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits { until: Timestamp },
    Asked,
    Over { since: Timestamp },
}

impl Troubles {
    /// What stands in the way of new work.
    pub(super) fn present(&self) -> Option<Trouble> {
        let mut present = self.0.iter().filter(|(_, known)| !matches!(known.state, State::Over { .. }));
        present.next().map(|(part, known)| Trouble { part: *part, reason: known.reason.clone() })
    }

    pub(super) fn are_none(&self) -> bool {
        self.present().is_none()
    }

    fn note(&mut self, trouble: Trouble, now: Timestamp) {
        let Trouble { part, reason } = trouble;
        let first = if part == Part::Killed { KILLED_PAUSE } else { Duration::ZERO };
        match self.0.get_mut(&part) {
            Some(known) => {
                known.reason = reason;
                if let State::Over { .. } = known.state {
                    known.count = known.count.saturating_add(1);
                    let pause = doubled(first.max(RETRY_MIN), known.count, RELAPSE_MAX);
                    known.state = State::Waits { until: now + pause };
                }
            }
            None => {
                self.0.insert(part, Known { reason, count: 0, state: State::Waits { until: now + first } });
            }
        }
    }

    fn tried(&mut self, part: Part, result: Result<(), String>, now: Timestamp) {
        let Some(known) = self.0.get_mut(&part).filter(|known| known.state == State::Asked) else { return };
        match result {
            Ok(()) => known.state = State::Over { since: now },
            Err(reason) => {
                known.reason = Trouble::new(part, reason).reason;
                known.count = known.count.saturating_add(1);
                let (first, longest) = if part == Part::Cage { CAGE_RETRY } else { (RETRY_MIN, RETRY_MAX) };
                known.state = State::Waits { until: now + doubled(first, known.count, longest) };
            }
        }
    }

    /// When something is to be done next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let due = self.0.values().filter_map(|known| match known.state {
            State::Waits { until } => Some(until),
            State::Asked | State::Over { .. } => None,
        });
        due.min()
    }
}

fn doubled(first: Duration, count: u32, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest)
}

impl Session {
    /// Something of the agent's own does not work; an attempt may have ended with it.
    pub(super) fn trouble(&mut self, trouble: Trouble, ended: Option<(SlotId, AttemptId)>, now: Timestamp) {
        self.note_trouble(trouble.clone(), now);
        let Some((id, attempt)) = ended else { return };
        let Some(slot) = self.slots.get_mut(usize::from(id)) else { return };
        if slot.held().first().is_none_or(|front| front.attempt != attempt) || !slot.is_executing() {
            return;
        }
        let mut held = slot.stop().into_iter();
        let front = held.next().expect("it was just seen there");
        self.let_go(&front);
        held.for_each(|held| self.put_back(held));
        self.say_released(vec![attempt], ReleaseReason::Trouble(trouble));
    }

    pub(super) fn note_trouble(&mut self, trouble: Trouble, now: Timestamp) {
        self.effects.push_back(Effect::Log(Remark::Trouble(trouble.clone())));
        self.troubles.note(trouble, now);
    }

    pub(super) fn probed(&mut self, part: Part, result: Result<(), String>, now: Timestamp) {
        let was = self.troubles.are_none();
        self.troubles.tried(part, result, now);
        if !was && self.troubles.are_none() {
            self.effects.push_back(Effect::Log(Remark::Works(part)));
        }
    }

    /// What the executors' cage lacks, as it was found when one was closed.
    pub(super) fn caged(&mut self, missing: Option<String>, now: Timestamp) {
        let missing = missing.map(|missing| Trouble::new(Part::Cage, missing).reason);
        let result = match &missing {
            Some(missing) if !self.config.works_in_open_cage => Err(missing.clone()),
            Some(_) | None => Ok(()),
        };
        self.open_cage = missing;
        match result {
            Err(reason) if self.troubles.0.get(&Part::Cage).is_none_or(|known| known.state != State::Asked) => {
                self.note_trouble(Trouble { part: Part::Cage, reason }, now);
            }
            result => self.probed(Part::Cage, result, now),
        }
    }

    pub(super) fn troubles_timeout(&mut self, now: Timestamp) {
        self.troubles.0.retain(|_, known| !matches!(known.state, State::Over { since } if since + FORGOTTEN_AFTER <= now));
        for (part, known) in &mut self.troubles.0 {
            if matches!(known.state, State::Waits { until } if until <= now) {
                known.state = State::Asked;
                self.effects.push_back(Effect::Probe(*part));
            }
        }
    }

    /// Why nothing runs here, or nothing new is begun.
    pub fn objects(&self) -> Option<PauseReason> {
        let disk = || self.outbox.disk_trouble().map(|reason| Trouble::new(Part::Outbox, reason));
        let trouble = || self.troubles.present().or_else(disk);
        self.verdict.reason().cloned().or_else(|| trouble().map(PauseReason::Trouble))
    }

    /// What is to be loaded is not in the cache any more: it is fetched again, once. False when that has been done.
    pub(super) fn fetch_again(&mut self, duty: Duty) -> bool {
        let Some(job) = self.jobs.get_mut(&duty.job) else { return false };
        if !job.refetched.insert(duty.build) {
            return false;
        }
        if let Some(blob) = job.code(duty.build)
            && self.blobs.lost(blob.digest)
        {
            self.effects.push_back(Effect::Fetch(blob));
        }
        true
    }
}
