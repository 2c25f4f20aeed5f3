//! One connection as the node sees it, and the peers that several connections make up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
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

use super::{PeerInfo, door::source};
use crate::{
    identity::{Certificate, CertificateError, Edition, Role},
    limits,
    protocol::Admission,
    time::Timestamp,
};

/// Streams that we open on one connection. Admission takes places too, and the peer frees one a little later than we.
const OWN_STREAMS_MAX: usize = limits::STREAMS_PER_CONNECTION_MAX - 4;

/// A connection on which nothing came for less than this is not closed for another of no worse a source: whoever means to
/// be admitted has shown its certificate by then.
const IDLE_MIN: Duration = Duration::from_millis(250);

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
    /// Its peer was a member before this connection: it comes before strangers.
    pub(super) expected: bool,
    /// A request of its peer to be enrolled is being decided.
    enrolling: bool,
    since: Instant,
    pub(super) standing: Standing,
    /// Whether an admission that we began is under way.
    pub(super) introducing: bool,
    /// Something changed since that one began: it is followed by another.
    pub(super) introduce_again: bool,
    /// The edition of the revocations that the peer knows, as it said last.
    pub(super) revocations: Edition,
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
            expected: false,
            enrolling: false,
            since: Instant::now(),
            standing: Standing::Introducing,
            introducing: false,
            introduce_again: false,
            revocations: Edition::default(),
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

    /// Whether it takes a place of those that strangers may have.
    fn is_stranger(&self) -> bool {
        !self.dialled && !self.expected && !self.standing.is_admitted()
    }

    /// Whether nothing came of it yet, and since when: such a one is closed when another needs its place.
    fn idle_since(&self) -> Option<Instant> {
        match self.standing {
            Standing::Introducing | Standing::Stranger if !self.enrolling => Some(self.since),
            Standing::Introducing | Standing::Stranger | Standing::Recognised(_) | Standing::Admitted(_) => None,
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
            revocations: self.revocations,
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
    /// How many take a place of a stranger.
    strangers: usize,
}

impl Connections {
    pub(super) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        self.by_peer.entry(connection.peer).or_default().push(id);
        self.strangers += usize::from(connection.is_stranger());
        self.all.insert(id, connection);
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.set_deadline(id, None);
        let connection = self.all.remove(&id)?;
        self.strangers -= usize::from(connection.is_stranger());
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

    /// How many connections take a place of a stranger.
    #[cfg(test)]
    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }

    /// Which connection is closed for this one when strangers are too many: the idlest of the source that has the most of
    /// them; this one itself if no other is idle for long and its source has no less than others.
    pub(super) fn surplus(&self, newcomer: ConnectionId, now: Instant) -> Option<ConnectionId> {
        if self.strangers <= limits::STRANGERS_MAX {
            return None;
        }
        let newcomer_from = source(&self.all.get(&newcomer)?.address);
        let strangers = || self.all.iter().filter(|(id, connection)| **id != newcomer && connection.is_stranger());
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::from([(newcomer_from, 1)]);
        for (_, connection) in strangers() {
            *counts.entry(source(&connection.address)).or_default() += 1;
        }
        let (most, own) = (counts.values().copied().max()?, counts[&newcomer_from]);
        let idlest = strangers()
            .filter_map(|(id, connection)| Some((connection.idle_since()?, *id, source(&connection.address))))
            .filter(|(since, _, from)| match most > own {
                true => counts[from] == most,
                false => (*from == newcomer_from || counts[from] >= own) && now.saturating_duration_since(*since) >= IDLE_MIN,
            })
            .min();
        Some(idlest.map_or(newcomer, |(_, id, _)| id))
    }

    /// Whether a request to be enrolled is being decided on a connection.
    pub(super) fn set_enrolling(&mut self, id: ConnectionId, enrolling: bool) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.enrolling = enrolling;
        }
    }

    pub(super) fn set_standing(&mut self, id: ConnectionId, standing: Standing) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let was_stranger = connection.is_stranger();
        connection.standing = standing;
        match (was_stranger, connection.is_stranger()) {
            (true, false) => self.strangers -= 1,
            (false, true) => self.strangers += 1,
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

    /// Cuts a connection at this moment, if it is not cut before.
    pub(super) fn shorten_deadline(&mut self, id: ConnectionId, at: Instant) {
        let Some(connection) = self.all.get(&id) else { return };
        let at = connection.deadline.map_or(at, |deadline| deadline.min(at));
        self.set_deadline(id, Some(at));
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
        connected_from(connections, number, "10.0.0.1")
    }

    fn connected_from(connections: &mut Connections, number: usize, ip: &str) -> ConnectionId {
        let id = ConnectionId::new_unchecked(number);
        let address: Multiaddr = format!("/ip4/{ip}/tcp/7070").parse().expect("an address");
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
            group: None,
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

    /// As many strangers as may be, all from one address.
    fn besieged() -> Connections {
        let mut connections = Connections::default();
        for number in 0..limits::STRANGERS_MAX {
            connected_from(&mut connections, number, "10.0.0.9");
        }
        connections
    }

    #[test]
    fn a_stranger_from_elsewhere_takes_the_place_of_the_idlest_of_a_crowd() {
        let (mut connections, now) = (besieged(), Instant::now());
        assert_eq!(connections.surplus(ConnectionId::new_unchecked(0), now), None, "there is room for these");
        let newcomer = connected_from(&mut connections, 9_999, "10.0.0.1");
        connections.set_enrolling(ConnectionId::new_unchecked(0), true);
        assert_eq!(connections.surplus(newcomer, now), Some(ConnectionId::new_unchecked(1)), "who enrols keeps its place");
    }

    #[test]
    fn one_more_of_a_crowd_takes_the_place_of_one_that_is_idle_or_none() {
        let (mut connections, now) = (besieged(), Instant::now());
        let newcomer = connected_from(&mut connections, 9_999, "10.0.0.9");
        assert_eq!(connections.surplus(newcomer, now - IDLE_MIN), Some(newcomer));
        assert_eq!(connections.surplus(newcomer, now + IDLE_MIN), Some(ConnectionId::new_unchecked(0)));
    }

    #[test]
    fn a_peer_that_was_a_member_takes_no_place_of_a_stranger() {
        let mut connections = besieged();
        let id = ConnectionId::new_unchecked(9_999);
        let address: Multiaddr = "/ip4/10.0.0.9/tcp/1".parse().expect("an address");
        let endpoint = ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address };
        connections.insert(id, Connection { expected: true, ..Connection::new(PeerId::random(), &endpoint) });
        assert_eq!((connections.surplus(id, Instant::now()), connections.strangers()), (None, limits::STRANGERS_MAX));
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
