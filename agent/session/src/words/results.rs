//! Results on their way: kept on disk, said on every new stream, dropped when acknowledged.
//!
//! ```text
//! keeping <--retry--> unkept          (the disk refused)
//!    | kept
//!    v
//! (said at once from memory, when small and a coordinator is there)
//! kept --pump--> delivering (large output) --> recollecting (read back from disk) --> said --> acknowledged: gone
//!   ^---- the stream broke, or the coordinator did not take it ------+------------------+
//! ```
//! Memory holds a result only until it is durable; later it is read back, so that thousands of results that wait for
//! an absent coordinator cost their disk space and nothing else.
//!
//! A few small results are said while the disk is still at work on them, unless there is much more to do here: the coordinator
//! acknowledges what its own store holds, so that one disk or the other has the result whenever either process ends, and no
//! later than if they took turns. Of many at once each waits until it is kept, and those that one sync kept share a message.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lull_shared::{
    digest::BlobRef,
    id::AttemptId,
    message::{Finished, Outcome, Payload, ReleaseReason},
    state::{Failure, Usage},
    time::Timestamp,
};

use crate::{
    Delivery, Done, Effect, Kept, Place, Session,
    attempts::slot::{Held, Slot},
};

/// How long a disk that refused is left alone.
const DISK_RETRY: Duration = Duration::from_secs(5);
/// How long a coordinator that did not take a large output is left alone.
const DELIVERY_RETRY: Duration = Duration::from_secs(2);
/// Results that may be said while they are written, where little else is to be done here. More come with a busy executor, whose
/// results are worth batching: one frame and one commit for each would double what a short task costs.
const SAID_AT_ONCE_MAX: usize = 4;
/// Work that is still here, with or without an executor, beside which a result comes alone.
const FEW_MORE: usize = 16;
/// Large outputs on their way at once: more would only share the same uplink.
const DELIVERIES_MAX: usize = 2;
/// Results read back at once, each of at most a few hundred kilobytes.
const RECOLLECT_MAX: usize = 64;

/// Everything that ended here and is not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: BTreeMap<AttemptId, Entry>,
    /// Those in [`Stage::Kept`].
    unsaid: BTreeSet<AttemptId>,
    /// Those that came to their end since something was said last, and may be said at once.
    fresh: Vec<AttemptId>,
    keeping: usize,
    delivering: usize,
    recollecting: usize,
    unkept: usize,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Entry {
    /// The output, when that is too large for a message.
    output: Option<BlobRef>,
    /// Its executor was killed: what that left is added on the way to the disk, and said from there.
    completed: bool,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Stage {
    Keeping(Unsure),
    Unkept(Unsure),
    Kept { not_before: Timestamp },
    Delivering,
    Recollecting,
    Said,
}

/// A result that is not known to be on the disk.
#[derive(Debug, Clone)]
struct Unsure {
    record: Arc<Finished>,
    /// Whether it was said on the present stream all the same.
    said: bool,
}

/// A disk that refuses results.
#[derive(Debug)]
struct Trouble {
    reason: String,
    retry: Timestamp,
}

impl Outbox {
    /// Why nothing new may be begun: its result could not be kept.
    pub(crate) fn disk_trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.reason.as_str())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        self.entries.keys().copied()
    }

    /// Whether an agent that stops has nothing left to do for its results.
    pub(crate) fn is_settled(&self, up: bool) -> bool {
        let keeping = |entry: &Entry| matches!(entry.stage, Stage::Keeping(_) | Stage::Unkept(_));
        if up { self.entries.is_empty() } else { !self.entries.values().any(keeping) }
    }

    /// Whatever was said or was about to be is to be said again.
    pub(crate) fn disconnected(&mut self) {
        (self.delivering, self.recollecting) = (0, 0);
        self.fresh.clear();
        for (attempt, entry) in &mut self.entries {
            match &mut entry.stage {
                Stage::Keeping(unsure) | Stage::Unkept(unsure) => unsure.said = false,
                Stage::Kept { .. } | Stage::Delivering | Stage::Recollecting | Stage::Said => {
                    entry.stage = Stage::Kept { not_before: Timestamp::default() };
                    self.unsaid.insert(*attempt);
                }
            }
        }
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry);
        // A stage that is due already waits for an answer, not for the clock.
        let deferred = self.unsaid.iter().filter_map(|attempt| match self.entries.get(attempt)?.stage {
            Stage::Kept { not_before } if not_before > Timestamp::default() => Some(not_before),
            _ => None,
        });
        retry.into_iter().chain(deferred).min()
    }

    /// Puts an entry into another stage and keeps the counts.
    fn set(&mut self, attempt: AttemptId, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&attempt) else { return };
        match entry.stage {
            Stage::Keeping(_) => self.keeping -= 1,
            Stage::Delivering => self.delivering -= 1,
            Stage::Recollecting => self.recollecting -= 1,
            Stage::Unkept(_) => self.unkept -= 1,
            Stage::Kept { .. } => {
                self.unsaid.remove(&attempt);
            }
            Stage::Said => {}
        }
        match stage {
            Stage::Keeping(_) => self.keeping += 1,
            Stage::Delivering => self.delivering += 1,
            Stage::Recollecting => self.recollecting += 1,
            Stage::Unkept(_) => self.unkept += 1,
            Stage::Kept { .. } => {
                self.unsaid.insert(attempt);
            }
            Stage::Said => {}
        }
        entry.stage = stage;
        if self.unkept == 0 {
            self.trouble = None;
        }
    }

    fn stage(&self, attempt: AttemptId) -> Option<&Stage> {
        self.entries.get(&attempt).map(|entry| &entry.stage)
    }

    fn remove(&mut self, attempt: AttemptId) -> bool {
        self.set(attempt, Stage::Said);
        self.entries.remove(&attempt).is_some()
    }
}

impl Session {
    /// Takes over what an earlier life of this agent kept.
    pub(crate) fn restore(&mut self, kept: &[Kept]) {
        for Kept { attempt, output } in kept {
            self.places.insert(*attempt, Place::Outbox);
            self.outbox.unsaid.insert(*attempt);
            let stage = Stage::Kept { not_before: Timestamp::default() };
            self.outbox.entries.insert(*attempt, Entry { output: *output, completed: false, stage });
        }
    }

    /// An attempt came to its end: its result is kept, and said at once or when it is.
    pub(crate) fn conclude(&mut self, done: Done) {
        self.conclude_as(done, false);
    }

    fn conclude_as(&mut self, done: Done, completed: bool) {
        let Done { attempt, outcome, log, log_dropped_bytes, usage } = done;
        let output = match &outcome {
            Outcome::Succeeded { output: Payload::Blob(blob) } => Some(*blob),
            Outcome::Succeeded { output: Payload::Inline(_) } | Outcome::Failed(_) => None,
        };
        let record = Arc::new(Finished { attempt, outcome, log, log_dropped_bytes, usage });
        self.places.insert(attempt, Place::Outbox);
        let stage = Stage::Keeping(Unsure { record: Arc::clone(&record), said: false });
        self.outbox.entries.insert(attempt, Entry { output, completed, stage });
        self.outbox.keeping += 1;
        if output.is_none() && !completed && self.link.is_up() {
            self.outbox.fresh.push(attempt);
        }
        self.effects.push_back(Effect::Keep(record));
    }

    /// An attempt ended without its executor's word.
    pub(crate) fn fail(&mut self, held: &Held, failure: Failure, begun: Option<Timestamp>, now: Timestamp) {
        let wall = begun.map_or(Duration::ZERO, |begun| now.since(begun));
        let usage = Usage { wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX), ..Usage::default() };
        let outcome = Outcome::Failed(failure);
        let done = Done { attempt: held.attempt, outcome, log: bytes::Bytes::new(), log_dropped_bytes: 0, usage };
        self.conclude_as(done, begun.is_some());
    }

    /// Says what has just come to its end, unless that is so much that it is better said together.
    pub(crate) fn say_fresh(&mut self) {
        if self.outbox.fresh.is_empty() {
            return;
        }
        let more = self.waiting.len() + self.slots.iter().filter_map(Slot::piped).sum::<usize>();
        let few = self.outbox.keeping <= SAID_AT_ONCE_MAX && more <= FEW_MORE;
        for attempt in std::mem::take(&mut self.outbox.fresh) {
            let entry = self.outbox.entries.get_mut(&attempt).filter(|_| few);
            if let Some(Entry { stage: Stage::Keeping(unsure), .. }) = entry {
                unsure.said = true;
                self.finished.push(Finished::clone(&unsure.record));
            }
        }
    }

    pub(crate) fn kept(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            let Some(entry) = self.outbox.entries.get(attempt) else { continue };
            let (Stage::Keeping(unsure) | Stage::Unkept(unsure)) = &entry.stage else { continue };
            if unsure.said {
                self.outbox.set(*attempt, Stage::Said);
            } else if entry.output.is_none() && !entry.completed && self.link.is_up() {
                self.finished.push(Finished::clone(&unsure.record));
                self.outbox.set(*attempt, Stage::Said);
            } else {
                self.outbox.set(*attempt, Stage::Kept { not_before: Timestamp::default() });
            }
        }
    }

    pub(crate) fn not_kept(&mut self, attempts: &[AttemptId], reason: String, now: Timestamp) {
        for attempt in attempts {
            let Some(Stage::Keeping(unsure) | Stage::Unkept(unsure)) = self.outbox.stage(*attempt) else { continue };
            let unsure = unsure.clone();
            self.outbox.set(*attempt, Stage::Unkept(unsure));
            self.outbox.trouble = Some(Trouble { reason: reason.clone(), retry: now + DISK_RETRY });
        }
    }

    /// Tries the disk again. What it refused stays marked until it is kept, so that nothing new is begun meanwhile.
    pub(crate) fn outbox_timeout(&mut self, now: Timestamp) {
        match &mut self.outbox.trouble {
            Some(trouble) if now >= trouble.retry => trouble.retry = now + DISK_RETRY,
            Some(_) | None => return,
        }
        for entry in self.outbox.entries.values() {
            if let Stage::Unkept(unsure) = &entry.stage {
                self.effects.push_back(Effect::Keep(Arc::clone(&unsure.record)));
            }
        }
    }

    /// Moves kept results on towards the coordinator, a bounded number at a time.
    pub(crate) fn pump(&mut self, now: Timestamp) {
        if !self.link.is_up() || self.outbox.unsaid.is_empty() {
            return;
        }
        let (mut recollect, mut deliver) = (Vec::new(), Vec::new());
        for attempt in &self.outbox.unsaid {
            let recollecting = self.outbox.recollecting + recollect.len();
            let Some(entry) = self.outbox.entries.get_mut(attempt) else { continue };
            if let Stage::Kept { not_before } = &mut entry.stage {
                if now < *not_before {
                    continue;
                }
                *not_before = Timestamp::default();
            }
            match entry.output {
                Some(output) if self.outbox.delivering + deliver.len() < DELIVERIES_MAX => deliver.push((*attempt, output)),
                None if recollecting < RECOLLECT_MAX => recollect.push(*attempt),
                Some(_) | None => {}
            }
        }
        for (attempt, output) in deliver {
            self.outbox.set(attempt, Stage::Delivering);
            self.effects.push_back(Effect::Deliver { attempt, output });
        }
        if !recollect.is_empty() {
            recollect.iter().for_each(|attempt| self.outbox.set(*attempt, Stage::Recollecting));
            self.effects.push_back(Effect::Recollect(recollect));
        }
    }

    pub(crate) fn recollected(&mut self, records: Vec<Finished>, missing: &[AttemptId]) {
        for record in records {
            if matches!(self.outbox.stage(record.attempt), Some(Stage::Recollecting)) && self.link.is_up() {
                self.outbox.set(record.attempt, Stage::Said);
                self.finished.push(record);
            }
        }
        // What the disk lost is lost: the coordinator finds it held no more and has it run again.
        for attempt in missing {
            if let Some(Stage::Keeping(_) | Stage::Unkept(_) | Stage::Recollecting) = self.outbox.stage(*attempt) {
                self.remove_kept(*attempt);
            }
        }
    }

    pub(crate) fn delivered(&mut self, attempt: AttemptId, delivery: Delivery, now: Timestamp) {
        if !matches!(self.outbox.stage(attempt), Some(Stage::Delivering)) {
            return;
        }
        match delivery {
            Delivery::Stored => {
                self.outbox.set(attempt, Stage::Recollecting);
                self.effects.push_back(Effect::Recollect(vec![attempt]));
            }
            Delivery::Unwanted => {
                self.remove_kept(attempt);
                self.say_released(vec![attempt], ReleaseReason::Recalled);
            }
            Delivery::Failed => self.outbox.set(attempt, Stage::Kept { not_before: now + DELIVERY_RETRY }),
        }
    }

    /// The coordinator has them: only what was said can have been received.
    pub(crate) fn acknowledge(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            let said = match self.outbox.stage(*attempt) {
                Some(Stage::Keeping(unsure) | Stage::Unkept(unsure)) => unsure.said,
                Some(Stage::Said) => true,
                Some(Stage::Kept { .. } | Stage::Delivering | Stage::Recollecting) | None => false,
            };
            if said {
                self.remove_kept(*attempt);
            }
        }
    }

    /// A result is not needed any more.
    pub(crate) fn remove_kept(&mut self, attempt: AttemptId) {
        if self.outbox.remove(attempt) {
            self.places.remove(&attempt);
            self.dropped.push(attempt);
        }
    }
}

impl Outbox {
    pub(crate) fn audit(&self) {
        let count = |which: fn(&Stage) -> bool| self.entries.values().filter(|entry| which(&entry.stage)).count();
        assert_eq!(self.keeping, count(|stage| matches!(stage, Stage::Keeping(_))));
        assert_eq!(self.delivering, count(|stage| matches!(stage, Stage::Delivering)));
        assert_eq!(self.recollecting, count(|stage| matches!(stage, Stage::Recollecting)));
        assert_eq!(self.unkept, count(|stage| matches!(stage, Stage::Unkept(_))));
        assert_eq!(self.unsaid.len(), count(|stage| matches!(stage, Stage::Kept { .. })));
        assert!(self.unsaid.iter().all(|attempt| matches!(self.stage(*attempt), Some(Stage::Kept { .. }))));
        assert_eq!(self.trouble.is_some(), self.unkept > 0);
    }
}
