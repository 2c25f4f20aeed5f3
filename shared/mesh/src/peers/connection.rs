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
use lull_shared::{
    identity::{Certificate, CertificateError, Edition, Role},
    limits,
    protocol::Admission,
    time::Timestamp,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::{PeerInfo, peers::door::source};

/// Streams that we open on one connection. Admission takes places too, and the peer frees one a little later than we.
const OWN_STREAMS_MAX: usize = limits::STREAMS_PER_CONNECTION_MAX - 4;

/// A connection on which nothing came for less than this is not closed for another of no worse a source: whoever means to
/// be admitted has shown its certificate by then.
const IDLE_MIN: Duration = Duration::from_millis(250);

/// How far admission has come on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
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
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Introducing | Self::Stranger => None,
            Self::Recognised(certificate) | Self::Admitted(certificate) => Some(certificate),
        }
    }

    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted(_))
    }
}

/// What is counted on a connection while its streams run in tasks of their own.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) blob_bytes_sent: AtomicU64,
    pub(crate) blob_bytes_received: AtomicU64,
    work_streams: AtomicU32,
}

/// Kept by both halves of a work stream: counts it while it is open, and keeps its place.
#[derive(Debug)]
pub(crate) struct Held {
    traffic: Arc<Traffic>,
    _place: OwnedSemaphorePermit,
}

impl Held {
    pub(crate) fn work(traffic: Arc<Traffic>, place: OwnedSemaphorePermit) -> Arc<Self> {
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
pub(crate) struct Connection {
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) dialled: bool,
    /// Its peer was a member before this connection: it comes before strangers.
    pub(crate) expected: bool,
    /// A request of its peer to be enrolled is being decided.
    enrolling: bool,
    since: Instant,
    pub(crate) standing: Standing,
    /// Whether an admission that we began is under way.
    pub(crate) introducing: bool,
    /// Something changed since that one began: it is followed by another.
    pub(crate) introduce_again: bool,
    /// The edition of the revocations that the peer knows, as it said last.
    pub(crate) revocations: Edition,
    /// When their certificate expired, if it has by our clock.
    pub(crate) expired: Option<Timestamp>,
    /// How far their clock was ahead of ours when they introduced themselves, in microseconds.
    pub(crate) clock_ahead_us: Option<i64>,
    /// The peer works on another connection that it opened later: this one is closed at its deadline.
    pub(crate) left: bool,
    /// Why their certificate was refused; it is closed when they were told.
    pub(crate) untrusted: Option<CertificateError>,
    /// What the peer is to be told once it can be served, and by which conversations. Bounded by their places.
    pub(crate) verdicts: Vec<(oneshot::Sender<Admission>, Admission)>,
    /// When it is cut unless something happens: admission's end, or the certificate's.
    pub(crate) deadline: Option<Instant>,
    pub(crate) software: Option<String>,
    pub(crate) round_trip: Option<Duration>,
    /// Places for streams that they open.
    pub(crate) places: Arc<Semaphore>,
    /// Places for streams that we open.
    pub(crate) own_places: Arc<Semaphore>,
    pub(crate) traffic: Arc<Traffic>,
    /// What had been moved at the last look, if it was idle then.
    idle_at: Option<u64>,
}

impl Connection {
    pub(crate) fn new(peer: PeerId, endpoint: &ConnectedPoint) -> Self {
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
    pub(crate) fn has_been_idle(&mut self) -> bool {
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
pub(crate) struct Connections {
    all: BTreeMap<ConnectionId, Connection>,
    by_peer: BTreeMap<PeerId, Vec<ConnectionId>>,
    deadlines: BTreeSet<(Instant, ConnectionId)>,
    /// How many take a place of a stranger.
    strangers: usize,
}

impl Connections {
    pub(crate) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        self.by_peer.entry(connection.peer).or_default().push(id);
        self.strangers += usize::from(connection.is_stranger());
        self.all.insert(id, connection);
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
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

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.all.get_mut(&id)
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.all.keys().copied().collect()
    }

    pub(crate) fn ids_of(&self, peer: &PeerId) -> &[ConnectionId] {
        self.by_peer.get(peer).map_or(&[], Vec::as_slice)
    }

    /// The admitted connection to a peer, if there is one.
    pub(crate) fn admitted(&self, peer: &PeerId) -> Option<(ConnectionId, &Connection)> {
        self.find(peer, |connection| connection.standing.is_admitted())
    }

    /// A connection to a peer whose certificate is valid, whether or not it accepts ours.
    pub(crate) fn recognised(&self, peer: &PeerId) -> Option<(ConnectionId, &Connection)> {
        self.admitted(peer).or_else(|| self.find(peer, |connection| connection.standing.certificate().is_some()))
    }

    fn find(&self, peer: &PeerId, suits: impl Fn(&Connection) -> bool) -> Option<(ConnectionId, &Connection)> {
        self.ids_of(peer).iter().filter_map(|id| Some((*id, self.all.get(id)?))).find(|(_, connection)| suits(connection))
    }

    /// Whether some admitted peer is a coordinator.
    pub(crate) fn has_coordinator(&self) -> bool {
        self.all.values().any(|connection| matches!(&connection.standing, Standing::Admitted(c) if c.role == Role::Coordinator))
    }

    /// How many connections take a place of a stranger.
    #[cfg(test)]
    pub(crate) fn strangers(&self) -> usize {
        self.strangers
    }

    /// Which connection is closed for this one when strangers are too many: the idlest of the source that has the most of
    /// them; this one itself if no other is idle for long and its source has no less than others.
    pub(crate) fn surplus(&self, newcomer: ConnectionId, now: Instant) -> Option<ConnectionId> {
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
                false => counts[from] >= own && now.saturating_duration_since(*since) >= IDLE_MIN,
            })
            .min();
        Some(idlest.map_or(newcomer, |(_, id, _)| id))
    }

    /// Whether a request to be enrolled is being decided on a connection.
    pub(crate) fn set_enrolling(&mut self, id: ConnectionId, enrolling: bool) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.enrolling = enrolling;
        }
    }

    pub(crate) fn set_standing(&mut self, id: ConnectionId, standing: Standing) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        let was_stranger = connection.is_stranger();
        connection.standing = standing;
        match (was_stranger, connection.is_stranger()) {
            (true, false) => self.strangers -= 1,
            (false, true) => self.strangers += 1,
            (true, true) | (false, false) => {}
        }
    }

    pub(crate) fn set_deadline(&mut self, id: ConnectionId, deadline: Option<Instant>) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(old, id));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, id));
        }
    }

    /// Gives a stranger more time, but not for ever. A member keeps the deadline that its certificate gives it.
    pub(crate) fn extend_deadline(&mut self, id: ConnectionId, now: Instant, by: Duration) {
        let Some(connection) = self.all.get(&id).filter(|connection| !connection.standing.is_admitted()) else { return };
        let deadline = (now + by).min(connection.since + limits::STRANGER_TIME_MAX);
        self.set_deadline(id, Some(deadline));
    }

    /// Cuts a connection at this moment, if it is not cut before.
    pub(crate) fn shorten_deadline(&mut self, id: ConnectionId, at: Instant) {
        let Some(connection) = self.all.get(&id) else { return };
        let at = connection.deadline.map_or(at, |deadline| deadline.min(at));
        self.set_deadline(id, Some(at));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The connections whose deadline has come; they have none afterwards.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<ConnectionId> {
        let due: Vec<_> = self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in &due {
            self.set_deadline(*id, None);
        }
        due
    }

    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
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
            network: lull_shared::identity::NetworkId([1; 16]),
            peer: Vec::new(),
            role: Role::Agent,
            agent: None,
            name: String::new(),
            group: None,
            issued: lull_shared::time::Timestamp(0),
            expires: lull_shared::time::Timestamp(1),
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

    fn endpoint(address: &str, dialled: bool) -> ConnectedPoint {
        let address: Multiaddr = address.parse().expect("an address");
        if dialled {
            let (role_override, port_use) = (libp2p::core::Endpoint::Dialer, libp2p::core::transport::PortUse::New);
            return ConnectedPoint::Dialer { address, role_override, port_use };
        }
        ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address }
    }

    fn member(role: Role) -> Standing {
        Standing::Admitted(Certificate { role, ..certificate() })
    }

    #[test]
    fn a_stranger_is_whoever_came_by_itself_was_never_here_and_is_not_admitted() {
        let at = |dialled| Connection::new(PeerId::random(), &endpoint("/ip4/10.0.0.1/tcp/1", dialled));
        assert!(at(false).is_stranger());
        assert!(!at(true).is_stranger(), "we dialled it");
        assert!(!Connection { expected: true, ..at(false) }.is_stranger(), "it was a member");
        assert!(!Connection { standing: member(Role::Agent), ..at(false) }.is_stranger());
        let recognised = Standing::Recognised(certificate());
        assert!(Connection { standing: recognised.clone(), ..at(false) }.is_stranger(), "it does not accept us yet");
        let idle = |standing, enrolling| Connection { standing, enrolling, ..at(false) }.idle_since().is_some();
        assert!(idle(Standing::Introducing, false) && idle(Standing::Stranger, false));
        assert!(!idle(Standing::Introducing, true) && !idle(Standing::Stranger, true), "it is being enrolled");
        assert!(!idle(recognised, false) && !idle(member(Role::Agent), false));
    }

    #[test]
    fn a_connection_begins_with_nothing_said_and_tells_what_is_known_of_it() {
        let connection = Connection::new(PeerId::random(), &endpoint("/ip4/10.0.0.1/udp/1/quic-v1", true));
        let flags =
            [connection.expected, connection.enrolling, connection.introducing, connection.introduce_again, connection.left];
        assert_eq!((flags, connection.standing.clone()), ([false; 5], Standing::Introducing));
        let info = connection.info();
        assert_eq!((info.direction.as_str(), info.transport.as_str(), info.work_open), ("outbound", "quic", false));
        assert_eq!(info.address, "/ip4/10.0.0.1/udp/1/quic-v1");
        let with_id = format!("/ip4/10.0.0.1/tcp/1/p2p/{}", PeerId::random());
        let connection = Connection::new(PeerId::random(), &endpoint(&with_id, false));
        let info = connection.info();
        assert_eq!((info.direction.as_str(), info.transport.as_str()), ("inbound", "tcp"));
        assert_eq!(info.address, "/ip4/10.0.0.1/tcp/1", "without the peer, which has a field of its own");
    }

    #[test]
    fn a_work_stream_is_open_as_long_as_both_of_its_halves_are_held() {
        let connection = Connection::new(PeerId::random(), &endpoint("/ip4/10.0.0.1/tcp/1", true));
        let place = connection.own_places.clone().try_acquire_owned().expect("a place");
        let held = Held::work(connection.traffic.clone(), place);
        let other = Arc::clone(&held);
        assert!(connection.info().work_open);
        drop(held);
        assert!(connection.info().work_open, "one half is left");
        drop(other);
        assert!(!connection.info().work_open);
        assert_eq!(connection.own_places.available_permits(), OWN_STREAMS_MAX);
    }

    #[test]
    fn a_connection_is_idle_when_no_stream_is_open_and_nothing_moved_between_two_looks() {
        let mut connection = Connection::new(PeerId::random(), &endpoint("/ip4/10.0.0.1/tcp/1", true));
        assert_eq!([connection.has_been_idle(), connection.has_been_idle()], [false, true], "at the second look");
        for counter in [&connection.traffic.blob_bytes_sent, &connection.traffic.blob_bytes_received] {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!([connection.has_been_idle(), connection.has_been_idle()], [false, true], "something moved");
        for own in [false, true] {
            let places = if own { connection.own_places.clone() } else { connection.places.clone() };
            let stream = places.try_acquire_owned().expect("a place");
            assert_eq!([connection.has_been_idle(), connection.has_been_idle()], [false; 2], "a stream is open: own {own}");
            drop(stream);
            assert_eq!([connection.has_been_idle(), connection.has_been_idle()], [false, true], "it is counted anew: own {own}");
        }
    }

    #[test]
    fn peers_are_found_by_the_best_of_their_connections() {
        let mut connections = Connections::default();
        let peer = PeerId::random();
        let ids = [1, 2, 3].map(ConnectionId::new_unchecked);
        for id in ids {
            connections.insert(id, Connection::new(peer, &endpoint("/ip4/10.0.0.1/tcp/1", false)));
        }
        let found = |connections: &Connections| {
            let id = |found: Option<(ConnectionId, &Connection)>| found.map(|(id, _)| id);
            (id(connections.recognised(&peer)), id(connections.admitted(&peer)))
        };
        assert_eq!((found(&connections), connections.ids_of(&peer)), ((None, None), &ids[..]));
        connections.set_standing(ids[0], Standing::Stranger);
        connections.set_standing(ids[1], Standing::Recognised(certificate()));
        assert_eq!(found(&connections), (Some(ids[1]), None));
        connections.set_standing(ids[2], member(Role::Agent));
        assert_eq!((found(&connections), connections.has_coordinator()), ((Some(ids[2]), Some(ids[2])), false));
        connections.set_standing(ids[2], member(Role::Coordinator));
        assert!(connections.has_coordinator());
        connections.set_standing(ids[2], Standing::Recognised(Certificate { role: Role::Coordinator, ..certificate() }));
        assert!(!connections.has_coordinator(), "it does not accept us");
        connections.remove(ids[1]);
        assert_eq!((connections.ids_of(&peer), connections.ids().len()), (&[ids[0], ids[2]][..], 2));
        assert!(connections.recognised(&PeerId::random()).is_none() && connections.ids_of(&PeerId::random()).is_empty());
    }

    #[test]
    fn a_member_counts_as_a_stranger_again_when_it_is_one_no_more() {
        let mut connections = Connections::default();
        let id = connected(&mut connections, 1);
        for (standing, strangers) in
            [(member(Role::Agent), 0), (Standing::Introducing, 1), (Standing::Stranger, 1), (member(Role::Agent), 0)]
        {
            connections.set_standing(id, standing);
            assert_eq!(connections.strangers(), strangers);
        }
    }

    #[test]
    fn deadlines_come_in_their_order_and_once() {
        let mut connections = Connections::default();
        let [one, two, three] = [1, 2, 3].map(|number| connected(&mut connections, number));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(connections.next_deadline(), None);
        connections.set_deadline(one, Some(at(30)));
        connections.set_deadline(two, Some(at(10)));
        connections.set_deadline(three, Some(at(20)));
        connections.set_deadline(one, Some(at(15)));
        assert_eq!(connections.next_deadline(), Some(at(10)));
        assert_eq!(connections.take_due(at(10) - Duration::from_micros(1)), []);
        assert_eq!(connections.take_due(at(15)), [two, one]);
        assert_eq!((connections.take_due(at(15)).len(), connections.next_deadline()), (0, Some(at(20))), "once each");
        connections.set_deadline(three, None);
        assert_eq!(connections.next_deadline(), None);
        connections.set_deadline(three, Some(at(20)));
        connections.remove(three);
        assert_eq!((connections.next_deadline(), connections.take_due(at(99)).len()), (None, 0));
    }

    #[test]
    fn a_deadline_is_only_brought_forward_by_what_cuts_and_put_off_by_what_waits() {
        let mut connections = Connections::default();
        let (id, start) = (connected(&mut connections, 1), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        connections.shorten_deadline(id, at(30));
        connections.shorten_deadline(id, at(40));
        assert_eq!(connections.next_deadline(), Some(at(30)));
        connections.shorten_deadline(id, at(20));
        assert_eq!(connections.next_deadline(), Some(at(20)));
        connections.extend_deadline(id, at(1), Duration::from_secs(2));
        assert_eq!(connections.next_deadline(), Some(at(3)), "from now on");
        connections.set_standing(id, member(Role::Agent));
        connections.extend_deadline(id, at(2), Duration::from_secs(9));
        assert_eq!(connections.next_deadline(), Some(at(3)), "a member's is its certificate's");
    }

    /// What happens to a newcomer beside strangers from these addresses, when so much time has passed since they came:
    /// from where somebody goes for it.
    fn goes(crowd: &[(&str, usize)], newcomer_from: &str, later: Duration) -> Option<String> {
        let mut connections = Connections::default();
        let mut number = 0;
        for (from, count) in crowd {
            for _ in 0..*count {
                connected_from(&mut connections, number, from);
                number += 1;
            }
        }
        let newcomer = connected_from(&mut connections, number, newcomer_from);
        let gone = connections.surplus(newcomer, Instant::now() + later)?;
        Some(if gone == newcomer { "newcomer".to_owned() } else { source(&connections.get(gone)?.address).to_string() })
    }

    #[test]
    fn the_source_with_the_most_strangers_loses_one_and_among_equals_only_one_that_was_idle_for_long() {
        let (now, later) = (Duration::ZERO, IDLE_MIN + Duration::from_secs(1));
        let all = limits::STRANGERS_MAX;
        let half = all / 2;
        let gone = |text: &str| Some(text.to_owned());
        assert_eq!(goes(&[("10.0.0.1", all - 1)], "10.0.0.2", later), None, "there is room");
        assert_eq!(goes(&[("10.0.0.1", all)], "10.0.0.2", now), gone("10.0.0.1"), "the crowd is the larger");
        assert_eq!(goes(&[("10.0.0.1", all - 5), ("10.0.0.2", 5)], "10.0.0.3", now), gone("10.0.0.1"));
        assert_eq!(
            goes(&[("10.0.0.2", 5), ("10.0.0.1", all - 5)], "10.0.0.3", now),
            gone("10.0.0.1"),
            "the oldest are another's"
        );
        assert_eq!(
            goes(&[("10.0.0.1", half), ("10.0.0.2", all - half)], "10.0.0.2", now),
            gone("newcomer"),
            "its own are the most"
        );
        assert_eq!(goes(&[("10.0.0.1", half), ("10.0.0.2", all - half)], "10.0.0.2", later), gone("10.0.0.2"), "one of its own");
        assert_eq!(
            goes(&[("10.0.0.1", half + 1), ("10.0.0.2", all - half - 1)], "10.0.0.2", later),
            gone("10.0.0.1"),
            "as many as its own"
        );
        let each: Vec<String> = (0..all).map(|number| format!("10.{}.{}.1", number / 200, number % 200)).collect();
        let each: Vec<(&str, usize)> = each.iter().map(|from| (from.as_str(), 1)).collect();
        assert_eq!(goes(&each, "10.99.0.1", now), gone("newcomer"), "all are alike and none is idle for long");
        assert_eq!(goes(&each, "10.99.0.1", later), gone("10.0.0.1"), "the idlest of them");
    }
}
