//! What must hold of a session after every event; tests and the simulator ask.

use std::collections::BTreeMap;

use lull_shared::{
    digest::Digest,
    id::{AttemptId, JobId},
    limits,
    message::Build,
};

use super::{Place, Session, attempts::offers};
use crate::{
    attempts::slot::{Duty, Held, Slot},
    guard::Verdict,
};

impl Session {
    /// Checks every invariant.
    ///
    /// # Panics
    /// With the values, when one does not hold.
    pub fn audit(&self) {
        let mut places: BTreeMap<AttemptId, Place> = BTreeMap::new();
        let mut put = |attempt, place| {
            let before = places.insert(attempt, place);
            assert_eq!(before, None, "{attempt} is in two places: {before:?} and {place:?}");
        };
        let mut held: Vec<&Held> = Vec::new();
        for (order, waiting) in &self.waiting {
            assert_eq!(*order, waiting.order);
            put(waiting.attempt, Place::Waiting(*order));
            held.push(waiting);
        }
        for (id, slot) in (0_u16..).zip(&self.slots) {
            for attempt in slot.held() {
                put(attempt.attempt, Place::Slot(id));
                assert!(slot.job() == Some(attempt.job()) || matches!(slot, Slot::Stopping { .. }), "{slot:?}");
                held.push(attempt);
            }
        }
        self.outbox.attempts().for_each(|attempt| put(attempt, Place::Outbox));
        assert_eq!(places, self.places, "every attempt is where it is said to be");
        assert!(places.len() <= limits::ATTEMPTS_PER_AGENT_MAX + usize::from(self.config.slots), "{} are held", places.len());

        let waiting_bytes: u64 = self.waiting.values().map(|held| offers::inline_bytes(&held.input)).sum();
        assert_eq!(waiting_bytes, self.waiting_bytes);
        self.audit_jobs(&held);
        self.audit_slots();
        self.outbox.audit();
    }

    fn audit_jobs(&self, held: &[&Held]) {
        let mut attempts: BTreeMap<(JobId, Build), usize> = BTreeMap::new();
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        for held in held {
            *attempts.entry((held.job(), held.build)).or_default() += 1;
            for blob in held.blobs().filter(|_| held.pinned) {
                *users.entry(blob.digest).or_default() += 1;
            }
        }
        for kept in self.snapshots.digests() {
            *users.entry(kept).or_default() += 1;
        }
        for (id, job) in &self.jobs {
            for build in [Build::Plain, Build::Migratable] {
                assert_eq!(job.attempts(build), attempts.remove(&(*id, build)).unwrap_or(0), "attempts of {id}, {build:?}");
                let executors = self.slots.iter().any(|slot| slot.duty() == Some(Duty { job: *id, build }));
                let pinned = job.pinned.contains(&build);
                assert_eq!(pinned, job.attempts(build) > 0 || executors, "the {build:?} code of {id}");
                if let Some(code) = job.plan.as_ref().ok().and_then(|plan| plan.code(build)).filter(|_| pinned) {
                    *users.entry(code.blob().digest).or_default() += 1;
                }
            }
        }
        assert!(attempts.is_empty(), "attempts of unknown jobs: {attempts:?}");
        assert_eq!(users, self.blobs.users().collect(), "each pin has its users");
    }

    fn audit_slots(&self) {
        let count = |which: fn(&Slot) -> bool| self.slots.iter().filter(|slot| which(slot)).count();
        let running = count(|slot| matches!(slot, Slot::Running { .. }));
        let frozen = count(|slot| matches!(slot, Slot::Paused { .. }));
        match &self.verdict {
            Verdict::Run(room) => {
                assert!(running <= usize::from(room.slots), "{running} run although there is room for {room:?}");
                let starting = count(|slot| matches!(slot, Slot::Starting { .. } | Slot::Stopping { then: Some(_), .. }));
                let full = running + starting >= usize::from(room.slots);
                assert!(frozen == 0 || full, "{frozen} are paused for no reason, {running} run in {room:?}");
            }
            Verdict::Pause(reason) => assert_eq!(running, 0, "it runs although {reason}"),
            Verdict::Evict(reason) => assert_eq!(running + frozen + self.waiting.len(), 0, "it holds work although {reason}"),
        }
    }
}
