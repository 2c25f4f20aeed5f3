//! One connection as the node sees it, and the peers that several connections make up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, multiaddr, swarm::ConnectionId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::PeerInfo;
use crate::{
    identity::{Certificate, CertificateError, Role},
    limits,
    protocol::Admission,
    time::Timestamp,
};

/// Streams that we open on one connection. Admission takes places too, and the peer frees one a little later than we.
const OWN_STREAMS_MAX: usize = limits::STREAMS_PER_CONNECTION_MAX - 4;

/// How far admission has come on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was shown yet.
    Introducing,
    /// They showed no valid certificate: they may enrol here, or show one after all.
    Stranger,
    /// Their certificate is valid: they are served. Whether they accept ours is not known, or they do not.
    Recognised(Certificate),
    /// Both sides accept each other.
    Admitted(Certificate),
}

impl Standing {
    /// Their certificate, when it is valid.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Introducing | Self::Stranger => None,
            Self::Recognised(certificate) | Self::Admitted(certificate) => Some(certificate),
        }
    }

    pub(super) fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted(_))
    }
}

/// What is counted on a connection while its streams run in tasks of their own.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) blob_bytes_sent: AtomicU64,
    pub(super) blob_bytes_received: AtomicU64,
    work_streams: AtomicU32,
}

/// Kept by both halves of a work stream: counts it while it is open, and keeps its place.
#[derive(Debug)]
pub(super) struct Held {
    traffic: Arc<Traffic>,
    _place: OwnedSemaphorePermit,
}

impl Held {
    pub(super) fn work(traffic: Arc<Traffic>, place: OwnedSemaphorePermit) -> Arc<Self> {
        traffic.work_streams.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { traffic, _place: place })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.traffic.work_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) address: Multiaddr,
    pub(super) dialled: bool,
    since: Instant,
    pub(super) standing: Standing,
    /// Whether an admission that we began is under way.
    pub(super) introducing: bool,
    /// When their certificate expired, if it has by our clock.
    pub(super) expired: Option<Timestamp>,
    /// How far their clock was ahead of ours when they introduced themselves, in microseconds.
    pub(super) clock_ahead_us: Option<i64>,
    /// The peer works on another connection that it opened later: this one is closed at its deadline.
    pub(super) left: bool,
    /// Why their certificate was refused; it is closed when they were told.
    pub(super) untrusted: Option<CertificateError>,
    /// What the peer is to be told once it can be served, and by which conversations. Bounded by their places.
    pub(super) verdicts: Vec<(oneshot::Sender<Admission>, Admission)>,
    /// When it is cut unless something happens: admission's end, or the certificate's.
    pub(super) deadline: Option<Instant>,
    pub(super) software: Option<String>,
    pub(super) round_trip: Option<Duration>,
    /// Places for streams that they open.
    pub(super) places: Arc<Semaphore>,
    /// Places for streams that we open.
    pub(super) own_places: Arc<Semaphore>,
    pub(super) traffic: Arc<Traffic>,
    /// What had been moved at the last look, if it was idle then.
    idle_at: Option<u64>,
}

impl Connection {
    pub(super) fn new(peer: PeerId, endpoint: &ConnectedPoint) -> Self {
        Self {
            peer,
            address: endpoint.get_remote_address().iter().filter(|part| !matches!(part, multiaddr::Protocol::P2p(_))).collect(),
            dialled: endpoint.is_dialer(),
            since: Instant::now(),
            standing: Standing::Introducing,
            introducing: false,
            expired: None,
            clock_ahead_us: None,
            left: false,
            untrusted: None,
            verdicts: Vec::new(),
            deadline: None,
            software: None,
            round_trip: None,
            places: Arc::new(Semaphore::new(limits::STREAMS_PER_CONNECTION_MAX)),
            own_places: Arc::new(Semaphore::new(OWN_STREAMS_MAX)),
            traffic: Arc::default(),
            idle_at: None,
        }
    }

    /// Whether nothing happens on it, and nothing has since the last look.
    pub(super) fn has_been_idle(&mut self) -> bool {
        let open = |places: &Semaphore, all: usize| places.available_permits() < all;
        if open(&self.places, limits::STREAMS_PER_CONNECTION_MAX) || open(&self.own_places, OWN_STREAMS_MAX) {
            self.idle_at = None;
            return false;
        }
        let moved = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let moved = moved(&self.traffic.blob_bytes_sent).wrapping_add(moved(&self.traffic.blob_bytes_received));
        self.idle_at.replace(moved) == Some(moved)
    }

    fn info(&self) -> PeerInfo {
        let quic = self.address.iter().any(|part| matches!(part, multiaddr::Protocol::QuicV1));
        PeerInfo {
            peer: self.peer.to_string(),
            certificate: self.standing.certificate().cloned(),
            software: self.software.clone(),
            address: self.address.to_string(),
            direction: if self.dialled { "outbound" } else { "inbound" }.to_owned(),
            transport: if quic { "quic" } else { "tcp" }.to_owned(),
            round_trip_us: self.round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            clock_ahead_us: self.clock_ahead_us,
            work_open: self.traffic.work_streams.load(Ordering::Relaxed) > 0,
            blob_bytes_sent: self.traffic.blob_bytes_sent.load(Ordering::Relaxed),
            blob_bytes_received: self.traffic.blob_bytes_received.load(Ordering::Relaxed),
        }
    }
}

/// All connections there are.
#[derive(Default)]
pub(super) struct Connections {
    all: BTreeMap<ConnectionId, Connection>,
    by_peer: BTreeMap<PeerId, Vec<ConnectionId>>,
    deadlines: BTreeSet<(Instant, ConnectionId)>,
    /// How many are not admitted.
    strangers: usize,
}

impl Connections {
    pub(super) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        self.by_peer.entry(connection.peer).or_default().push(id);
        self.strangers += usize::from(!connection.standing.is_admitted());
        self.all.insert(id, connection);
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.set_deadline(id, None);
        let connection = self.all.remove(&id)?;
        self.strangers -= usize::from(!connection.standing.is_admitted());
        if let Some(ids) = self.by_peer.get_mut(&connection.peer) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_peer.remove(&connection.peer);
            }
        }
        Some(connection)
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.all.get_mut(&id)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.all.keys().copied().collect()
    }

    pub(super) fn ids_of(&self, peer: &PeerId) -> &[ConnectionId] {
        self.by_peer.get(peer).map_or(&[], Vec::as_slice)
    }

    /// The admitted connection to a peer, if there is one.
    pub(super) fn admitted(&self, peer: &PeerId) -> Option<(ConnectionId, &Connection)> {
        self.find(peer, |connection| connection.standing.is_admitted())
    }

    /// A connection to a peer whose certificate is valid, whether or not it accepts ours.
    pub(super) fn recognised(&self, peer: &PeerId) -> Option<(ConnectionId, &Connection)> {
        self.admitted(peer).or_else(|| self.find(peer, |connection| connection.standing.certificate().is_some()))
    }

    fn find(&self, peer: &PeerId, suits: impl Fn(&Connection) -> bool) -> Option<(ConnectionId, &Connection)> {
        self.ids_of(peer).iter().filter_map(|id| Some((*id, self.all.get(id)?))).find(|(_, connection)| suits(connection))
    }

    /// Whether some admitted peer is a coordinator.
    pub(super) fn has_coordinator(&self) -> bool {
        self.all.values().any(|connection| matches!(&connection.standing, Standing::Admitted(c) if c.role == Role::Coordinator))
    }

    /// How many connections are not admitted.
    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }

    pub(super) fn set_standing(&mut self, id: ConnectionId, standing: Standing) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let was_admitted = std::mem::replace(&mut connection.standing, standing).is_admitted();
        match (was_admitted, connection.standing.is_admitted()) {
            (false, true) => self.strangers -= 1,
            (true, false) => self.strangers += 1,
            (true, true) | (false, false) => {}
        }
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, deadline: Option<Instant>) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(old, id));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, id));
        }
    }

    /// Gives a stranger more time, but not for ever. A member keeps the deadline that its certificate gives it.
    pub(super) fn extend_deadline(&mut self, id: ConnectionId, now: Instant, by: Duration) {
        let Some(connection) = self.all.get(&id).filter(|connection| !connection.standing.is_admitted()) else { return };
        let deadline = (now + by).min(connection.since + limits::STRANGER_TIME_MAX);
        self.set_deadline(id, Some(deadline));
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The connections whose deadline has come; they have none afterwards.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<ConnectionId> {
        let due: Vec<_> = self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in &due {
            self.set_deadline(*id, None);
        }
        due
    }

    pub(super) fn infos(&self) -> Vec<PeerInfo> {
        self.all.values().map(Connection::info).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(connections: &mut Connections, number: usize) -> ConnectionId {
        let id = ConnectionId::new_unchecked(number);
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/7070".parse().expect("an address");
        let endpoint = ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address };
        connections.insert(id, Connection::new(PeerId::random(), &endpoint));
        id
    }

    fn certificate() -> Certificate {
        Certificate {
            network: crate::identity::NetworkId([1; 16]),
            peer: Vec::new(),
            role: Role::Agent,
            agent: None,
            name: String::new(),
            issued: crate::time::Timestamp(0),
            expires: crate::time::Timestamp(1),
        }
    }

    #[test]
    fn strangers_are_counted_until_they_are_admitted_or_gone() {
        let mut connections = Connections::default();
        let [one, two] = [1, 2].map(|number| connected(&mut connections, number));
        assert_eq!(connections.strangers(), 2);
        connections.set_standing(one, Standing::Admitted(certificate()));
        connections.set_standing(one, Standing::Admitted(certificate()));
        assert_eq!(connections.strangers(), 1);
        connections.remove(two);
        connections.remove(two);
        assert_eq!(connections.strangers(), 0);
        connections.remove(one);
        assert_eq!((connections.strangers(), connections.ids().len(), connections.by_peer.len()), (0, 0, 0));
    }

    #[test]
    fn a_stranger_that_enrols_again_and_again_is_cut_all_the_same() {
        let mut connections = Connections::default();
        let (id, start) = (connected(&mut connections, 1), Instant::now());
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            connections.extend_deadline(id, now, limits::ADMISSION_TIME_MAX);
        }
        assert_eq!(connections.take_due(start + limits::STRANGER_TIME_MAX), [id]);
        assert_eq!(connections.next_deadline(), None);
    }
}
