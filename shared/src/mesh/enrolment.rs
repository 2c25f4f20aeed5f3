//! Enrolment as a coordinator's node serves it: limits, the request, the process's answer.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use libp2p::{Stream, swarm::ConnectionId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};

use futures::AsyncWriteExt as _;

use super::{
    door::source,
    frames::{FrameError, read_frame, write_frame},
    members::report,
    node::{Note, Running},
};
use crate::{
    limits::{
        ADMISSION_TIME_MAX, ENROLMENT_ADDRESSES_MAX, ENROLMENT_TIME_MAX, ENROLMENTS_MAX, ENROLMENTS_PER_MINUTE_MAX,
        INTRODUCTION_BYTES_MAX,
    },
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Who may ask to be enrolled at this moment.
pub(super) struct Door {
    under_way: Arc<Semaphore>,
    /// Per address when its minute began and how often it asked in it.
    asked: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Default for Door {
    fn default() -> Self {
        Self { under_way: Arc::new(Semaphore::new(ENROLMENTS_MAX)), asked: BTreeMap::new() }
    }
}

impl Door {
    /// A place for one enrolment, unless its address asks too often or too many are under way.
    fn enter(&mut self, address: IpAddr, now: Instant) -> Option<OwnedSemaphorePermit> {
        let over = |began: &Instant| now.duration_since(*began) >= MINUTE;
        if self.asked.len() >= ENROLMENT_ADDRESSES_MAX && !self.asked.contains_key(&address) {
            self.asked.retain(|_, (began, _)| !over(began));
            if self.asked.len() >= ENROLMENT_ADDRESSES_MAX {
                return None;
            }
        }
        let (began, times) = self.asked.entry(address).or_insert((now, 0));
        if over(began) {
            (*began, *times) = (now, 0);
        }
        *times = times.saturating_add(1);
        if *times > ENROLMENTS_PER_MINUTE_MAX {
            return None;
        }
        self.under_way.clone().try_acquire_owned().ok()
    }
}

impl Running {
    pub(super) fn serve_enrolment(&mut self, id: ConnectionId, stream: Stream, place: OwnedSemaphorePermit) {
        let notes = self.notes.clone();
        self.tasks.spawn(async move {
            let served = timeout(ADMISSION_TIME_MAX + ENROLMENT_TIME_MAX, answer(id, stream, &notes)).await;
            if let Ok(Err(error)) = served {
                tracing::debug!(%error, "an enrolment broke off");
            }
            report(&notes, Note::EnrolmentEnded { connection: id }).await;
            drop(place);
        });
    }

    /// A request has arrived whole: a place for it, and time to decide on it.
    pub(super) fn enrolment_entry(&mut self, id: ConnectionId) -> Option<OwnedSemaphorePermit> {
        let now = Instant::now();
        let address = source(&self.connections.get(id)?.address);
        let entry = self.services.enrolments.enter(address, now)?;
        self.connections.extend_deadline(id, now, ENROLMENT_TIME_MAX);
        self.connections.set_enrolling(id, true);
        Some(entry)
    }

    /// An enrolment is over: there is time to be admitted with what it brought.
    pub(super) fn enrolment_ended(&mut self, id: ConnectionId) {
        self.connections.set_enrolling(id, false);
        self.connections.extend_deadline(id, Instant::now(), ADMISSION_TIME_MAX);
    }
}

/// One that says nothing takes no place: the request is read first.
async fn answer(id: ConnectionId, mut stream: Stream, notes: &mpsc::Sender<Note>) -> Result<(), FrameError> {
    let request = timeout(ADMISSION_TIME_MAX, read_frame::<EnrolmentRequest>(&mut stream, INTRODUCTION_BYTES_MAX)).await;
    let request = request.unwrap_or(Err(FrameError::Closed))?;
    let (entry, entered) = oneshot::channel();
    report(notes, Note::EnrolmentWanted { connection: id, entry }).await;
    let entered = entered.await.ok().flatten();
    let reply = if entered.is_some() {
        let (reply, decided) = oneshot::channel();
        report(notes, Note::EnrolmentAsked { connection: id, request, reply }).await;
        decided.await.unwrap_or(EnrolmentReply::Refused(EnrolmentRefusal::Unavailable))
    } else {
        EnrolmentReply::Refused(EnrolmentRefusal::TooMany)
    };
    // Decided: it may be read as slowly as its reader likes.
    drop(entered);
    write_frame(&mut stream, &reply).await?;
    stream.close().await.map_err(FrameError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_asks_too_often_waits_for_its_minute_and_others_do_not() {
        let (mut door, now) = (Door::default(), Instant::now());
        let [noisy, quiet] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        for _ in 0..ENROLMENTS_PER_MINUTE_MAX {
            assert!(door.enter(noisy, now).is_some());
        }
        assert!(door.enter(noisy, now).is_none());
        assert!(door.enter(quiet, now).is_some());
        assert!(door.enter(noisy, now + MINUTE).is_some());
    }

    #[test]
    fn addresses_are_forgotten_so_that_strangers_cannot_fill_memory() {
        let (mut door, now) = (Door::default(), Instant::now());
        for number in 0..ENROLMENT_ADDRESSES_MAX as u32 {
            door.enter(IpAddr::from(number.to_be_bytes()), now);
        }
        let next = IpAddr::from(u32::MAX.to_be_bytes());
        assert!(door.enter(next, now).is_none());
        assert!(door.enter(next, now + MINUTE).is_some());
        assert_eq!(door.asked.len(), 1);
    }
}
