//! What must hold of a session after every event; tests and the simulator ask.

use std::collections::BTreeMap;

use lull_shared::{
    digest::Digest,
    id::{AttemptId, JobId},
    limits,
    message::Payload,
};

use super::{Place, Session, offers};
use crate::{
    guard::Verdict,
    slot::{Held, Slot},
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
        let mut attempts: BTreeMap<JobId, usize> = BTreeMap::new();
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        for held in held {
            *attempts.entry(held.job()).or_default() += 1;
            if let (Payload::Blob(blob), true) = (&held.input, held.pinned) {
                *users.entry(blob.digest).or_default() += 1;
            }
        }
        for (id, job) in &self.jobs {
            assert_eq!(job.attempts, attempts.remove(id).unwrap_or(0), "attempts of {id}");
            let executors = self.slots.iter().any(|slot| slot.job() == Some(*id));
            assert_eq!(job.pinned, job.attempts > 0 || executors, "the code of {id}");
            if job.pinned
                && let Ok(plan) = &job.plan
            {
                *users.entry(plan.code.blob().digest).or_default() += 1;
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
