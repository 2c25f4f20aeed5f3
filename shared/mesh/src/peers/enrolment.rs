//! Enrolment as a coordinator's node serves it: limits, the request, the process's answer.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use libp2p::{Stream, swarm::ConnectionId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};

use futures::AsyncWriteExt as _;
use lull_shared::{
    limits::{
        ADMISSION_TIME_MAX, ENROLMENT_ADDRESSES_MAX, ENROLMENT_TIME_MAX, ENROLMENTS_MAX, ENROLMENTS_PER_MINUTE_MAX,
        INTRODUCTION_BYTES_MAX,
    },
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
};

use crate::{
    node::{Note, Running},
    peers::{door::source, members::report},
    streams::frames::{FrameError, read_frame, write_frame},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Who may ask to be enrolled at this moment.
pub(crate) struct Door {
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
    pub(crate) fn serve_enrolment(&mut self, id: ConnectionId, stream: Stream, place: OwnedSemaphorePermit) {
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
    pub(crate) fn enrolment_entry(&mut self, id: ConnectionId) -> Option<OwnedSemaphorePermit> {
        let now = Instant::now();
        let address = source(&self.connections.get(id)?.address);
        let entry = self.services.enrolments.enter(address, now)?;
        self.connections.extend_deadline(id, now, ENROLMENT_TIME_MAX);
        self.connections.set_enrolling(id, true);
        Some(entry)
    }

    /// An enrolment is over: there is time to be admitted with what it brought.
    pub(crate) fn enrolment_ended(&mut self, id: ConnectionId) {
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

    #[test]
    fn an_address_that_is_known_needs_no_new_place_and_a_minute_is_a_minute() {
        let (mut door, now) = (Door::default(), Instant::now());
        for number in 0..ENROLMENT_ADDRESSES_MAX as u32 {
            assert!(door.enter(IpAddr::from(number.to_be_bytes()), now).is_some(), "{number}");
        }
        let [known, next] = [7_u32, u32::MAX].map(|number| IpAddr::from(number.to_be_bytes()));
        assert!(door.enter(known, now).is_some(), "it asks again");
        let almost = now + MINUTE - Duration::from_micros(1);
        assert!(door.enter(next, almost).is_none());
        assert!(door.enter(known, almost).is_some());
        assert_eq!(door.asked.len(), ENROLMENT_ADDRESSES_MAX);
        for _ in 0..ENROLMENTS_PER_MINUTE_MAX {
            door.enter(known, almost);
        }
        assert!(door.enter(known, almost).is_none() && door.enter(known, now + MINUTE).is_some());
    }

    #[test]
    fn so_many_enrolments_are_under_way_at_once() {
        let (mut door, now) = (Door::default(), Instant::now());
        let address = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        let mut places: Vec<_> = (0..ENROLMENTS_MAX).filter_map(|number| door.enter(address(number), now)).collect();
        assert_eq!(places.len(), ENROLMENTS_MAX);
        assert!(door.enter(address(ENROLMENTS_MAX), now).is_none());
        places.pop();
        assert!(door.enter(address(ENROLMENTS_MAX), now).is_some());
    }

    #[tokio::test]
    async fn a_connection_on_which_somebody_enrols_has_time_for_it_and_for_what_follows() {
        use lull_shared::identity::Role;

        use crate::lone::Lone;
        let mut lone = Lone::new(Role::Coordinator).await;
        let id = lone.connected(libp2p::PeerId::random(), false);
        let left = |lone: &Lone| lone.time_left(id).expect("it is a stranger's").as_secs_f64().ceil() as u64;
        assert_eq!(left(&lone), ADMISSION_TIME_MAX.as_secs());
        let entry = lone.node.enrolment_entry(id).expect("there is a place");
        assert_eq!(left(&lone), ENROLMENT_TIME_MAX.as_secs());
        for _ in 0..lull_shared::limits::STRANGERS_MAX {
            lone.connected(libp2p::PeerId::random(), false);
        }
        lone.connected_at(libp2p::PeerId::random(), false, "/ip4/10.0.0.8/tcp/7");
        assert!(lone.node.connections.get(id).is_some(), "it gives its place to nobody meanwhile");
        drop(entry);
        lone.node.enrolment_ended(id);
        assert_eq!(left(&lone), ADMISSION_TIME_MAX.as_secs());
        lone.connected_at(libp2p::PeerId::random(), false, "/ip4/10.0.0.8/tcp/7");
        assert!(lone.node.connections.get(id).is_none(), "and is the idlest afterwards");
        assert!(lone.node.enrolment_entry(id).is_none(), "it is gone");
    }
}
