//! The task that owns the swarm: takes commands, what its helpers found out and what the swarm reports, one at a time.

use std::{collections::VecDeque, sync::Arc};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, identify,
    multiaddr::Protocol as Part,
    ping,
    swarm::{ConnectionId, SwarmEvent},
};
use lull_shared::{
    identity::{Role, Signed},
    limits,
    protocol::{Admission, EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
    resources::Capacity,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Duration, Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    BlobStore, NodeConfig, NodeError, NodeEvent, PeerInfo,
    blobs::exchange::Exchange,
    error::{MeshError, in_words},
    handle::NodeHandle,
    peers::{
        admission::Shown,
        connection::{Connection, Connections, Traffic},
        dial::{Purpose, Waiter, dial_error_in_words},
        discovery::Discovery,
        gate::GatedEvent,
        gossip::{Announcer, KnownMembers},
        members::Membership,
    },
    streams::{
        opened::{Opened, Protocol},
        serve::Services,
    },
    swarm::{self, Behaviour, BehaviourEvent, Doors},
};

/// How long a node that stops waits for its connections to say goodbye.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(500);
/// What handles ask of the node.
pub(super) enum Command {
    Connect { peer: PeerId, addresses: Vec<Multiaddr>, purpose: Purpose, reply: oneshot::Sender<Result<(), MeshError>> },
    Find { peer: PeerId, protocol: Protocol, reply: oneshot::Sender<Result<Link, MeshError>> },
    Open { peer: PeerId, connection: ConnectionId, protocol: Protocol, opened: Opened },
    ListenAddresses(oneshot::Sender<Vec<Multiaddr>>),
    SetCertificate(Signed),
    PublishCapacity(Capacity),
    PublishRevocations(Signed, oneshot::Sender<Option<Signed>>),
    Disconnect(PeerId),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
}

/// A connection on which a stream may be opened.
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    /// Places for streams that we open, below what the peer allows.
    pub(super) places: Arc<Semaphore>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) to_coordinator: bool,
}

/// What the node's helper tasks tell it.
pub(super) enum Note {
    /// A peer introduced itself; the reply is what it is told.
    Shown {
        connection: ConnectionId,
        shown: Shown,
        reply: oneshot::Sender<Admission>,
    },
    /// What a peer decided about us.
    Answered {
        connection: ConnectionId,
        verdict: Admission,
    },
    NotAdmitted {
        connection: ConnectionId,
        error: MeshError,
    },
    /// A peer has sent a request to be enrolled: is there a place for it?
    EnrolmentWanted {
        connection: ConnectionId,
        entry: oneshot::Sender<Option<OwnedSemaphorePermit>>,
    },
    EnrolmentAsked {
        connection: ConnectionId,
        request: EnrolmentRequest,
        reply: oneshot::Sender<EnrolmentReply>,
    },
    EnrolmentEnded {
        connection: ConnectionId,
    },
}

/// What the node does next.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and most are the large one")]
enum Turn {
    Stop,
    Command(Command),
    Note(Note),
    Swarm(SwarmEvent<BehaviourEvent>),
    RoomForEvent,
    TaskEnded,
    Timer,
}

/// The node's whole state.
pub(super) struct Running {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) doors: Doors,
    pub(super) connections: Connections,
    pub(super) waiters: Vec<Waiter>,
    pub(super) membership: Membership,
    pub(super) announcer: Announcer,
    /// None where capacity is not read.
    pub(super) known: Option<KnownMembers>,
    pub(super) discovery: Discovery,
    pub(super) services: Services,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) exchange: Arc<Exchange>,
    /// For those of its tasks that ask it for something.
    pub(super) handle: NodeHandle,
    /// When connections are next looked at that may have served their purpose.
    pub(super) idle_due: Option<Instant>,
    pub(super) tasks: JoinSet<()>,
    pub(super) notes: mpsc::Sender<Note>,
    notes_in: mpsc::Receiver<Note>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<NodeEvent>,
    /// Events that the process has not taken yet: the node must never wait for it, since it may wait for the node.
    outbox: VecDeque<NodeEvent>,
}

impl Running {
    /// Builds the swarm and begins to listen.
    pub(super) async fn start(
        config: NodeConfig,
        blobs: Arc<dyn BlobStore>,
        handle: NodeHandle,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<NodeEvent>,
    ) -> Result<Self, NodeError> {
        let doors = Doors::default();
        let mut swarm = swarm::build(&config, &doors)?;
        swarm::listen(&mut swarm, &config.listen).await?;
        let (notes, notes_in) = mpsc::channel(64);
        let (reads_capacity, membership) = (config.reads_capacity, Membership::new(config));
        if !membership.is_coordinator() {
            for peer in membership.revoked() {
                swarm.behaviour_mut().blocked.block_peer(*peer);
            }
        }
        Ok(Self {
            swarm,
            doors,
            connections: Connections::default(),
            waiters: Vec::new(),
            announcer: Announcer::default(),
            known: reads_capacity.then(KnownMembers::default),
            discovery: Discovery::default(),
            services: Services::default(),
            membership,
            blobs,
            exchange: handle.exchange.clone(),
            handle,
            idle_due: None,
            tasks: JoinSet::new(),
            notes,
            notes_in,
            commands,
            events,
            outbox: VecDeque::new(),
        })
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            match self.next(&shutdown).await {
                Turn::Stop => break,
                Turn::Command(command) => self.command(command),
                Turn::Note(note) => self.note(note),
                Turn::Swarm(event) => self.swarm_event(event),
                Turn::RoomForEvent => self.hand_over(),
                Turn::TaskEnded => {}
                Turn::Timer => self.timer(Instant::now()),
            }
        }
        self.stop().await;
    }

    async fn next(&mut self, shutdown: &CancellationToken) -> Turn {
        let deadlines = [self.connections.next_deadline(), self.announcer.next_due(), self.idle_due];
        let deadline = deadlines.into_iter().flatten().min();
        tokio::select! {
            () = shutdown.cancelled() => Turn::Stop,
            Some(command) = self.commands.recv() => Turn::Command(command),
            Some(note) = self.notes_in.recv() => Turn::Note(note),
            event = self.swarm.select_next_some() => Turn::Swarm(event),
            Ok(_) = self.events.reserve(), if !self.outbox.is_empty() => Turn::RoomForEvent,
            Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => Turn::TaskEnded,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Turn::Timer,
        }
    }

    /// There is nobody else who sends events, so the room that was found is still there.
    fn hand_over(&mut self) {
        if let Some(event) = self.outbox.pop_front()
            && let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event)
        {
            self.outbox.push_front(event);
        }
    }

    async fn stop(mut self) {
        self.tasks.abort_all();
        for connection in self.connections.ids() {
            self.swarm.close_connection(connection);
        }
        let goodbye = async {
            while self.swarm.network_info().connection_counters().num_established() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        // Whoever does not close in time notices by itself.
        let _ = timeout(GOODBYE_TIME_MAX, goodbye).await;
    }

    fn timer(&mut self, now: Instant) {
        self.announcer.publish(&mut self.swarm.behaviour_mut().gossip.inner, now);
        for id in self.connections.take_due(now) {
            self.admission_overdue(id);
        }
        if self.idle_due.is_some_and(|due| due <= now) {
            self.close_idle(now);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect { peer, addresses, purpose, reply } => self.connect(peer, addresses, purpose, reply),
            // Whoever asked and went away needs no answer, here and below.
            Command::Find { peer, protocol, reply } => drop(reply.send(self.find(peer, protocol))),
            Command::Open { peer, connection, protocol, opened } => {
                self.swarm.behaviour_mut().streams.open(peer, connection, protocol, opened);
            }
            Command::ListenAddresses(reply) => drop(reply.send(self.listen_addresses())),
            Command::SetCertificate(certificate) => self.set_certificate(certificate),
            Command::PublishCapacity(capacity) => {
                let now = Instant::now();
                self.announcer.change(capacity, now);
                self.announcer.publish(&mut self.swarm.behaviour_mut().gossip.inner, now);
            }
            Command::PublishRevocations(signed, reply) => drop(reply.send(self.publish_revocations(signed))),
            // Whoever is not connected is disconnected already.
            Command::Disconnect(peer) => drop(self.swarm.disconnect_peer_id(peer)),
            Command::Peers(reply) => drop(reply.send(self.connections.infos())),
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Shown { connection, shown, reply } => self.shown(connection, shown, reply),
            Note::Answered { connection, verdict } => self.answered(connection, verdict),
            Note::NotAdmitted { connection, error } => self.not_admitted(connection, error),
            Note::EnrolmentWanted { connection, entry } => drop(entry.send(self.enrolment_entry(connection))),
            Note::EnrolmentAsked { connection, request, reply } => {
                match self.connections.get(connection).map(|connection| connection.peer) {
                    // Nobody has to look it up, however often it asks.
                    Some(peer) if self.membership.is_revoked(&peer) => {
                        let _ = reply.send(EnrolmentReply::Refused(EnrolmentRefusal::Revoked));
                    }
                    Some(peer) => self.tell(NodeEvent::Enrolment { peer, request, reply }),
                    None => {}
                }
            }
            Note::EnrolmentEnded { connection } => self.enrolment_ended(connection),
        }
    }

    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(incoming)) => self.serve(incoming),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(GatedEvent::Inner(event))) => self.gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(GatedEvent::Listening(connection))) => self.answer_shown(connection),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping)) => match ping.result {
                Ok(time) => {
                    if let Some(connection) = self.connections.get_mut(ping.connection) {
                        connection.round_trip = Some(time);
                    }
                }
                Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    tracing::debug!(peer = %ping.peer, %error, "a connection is closed: its peer does not answer");
                    self.give_up(ping.connection, "its peer does not answer");
                }
            },
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { connection_id, info, .. })) => {
                tracing::trace!(connection = ?connection_id, protocols = info.protocols.len(), "identified");
                self.learn_addresses(connection_id, info.listen_addrs);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => {
                self.discovery.heard(event);
                self.look_around();
            }
            SwarmEvent::Behaviour(_) => {}
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(connection_id, Connection::new(peer_id, &endpoint));
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let reason = cause.map_or_else(|| "it was closed".to_owned(), |cause| in_words(&cause));
                self.disconnected(peer_id, connection_id, reason);
                self.look_around();
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                let reason = dial_error_in_words(&error);
                tracing::debug!(peer = ?peer_id, %reason, "a dial failed");
                self.fail_waiters(connection_id, |peer| MeshError::Unreachable { peer, reason: reason.clone() });
                self.look_around();
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "a connection was not completed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener closed: nobody can connect there any more");
            }
            _ => {}
        }
    }

    fn find(&self, peer: PeerId, protocol: Protocol) -> Result<Link, MeshError> {
        let found = match protocol {
            Protocol::Admission | Protocol::Enrolment => self.connections.recognised(&peer),
            Protocol::Work | Protocol::Blob | Protocol::Delivery => self.connections.admitted(&peer),
        };
        let (connection, to) = found.ok_or(MeshError::NotConnected { peer })?;
        let to_coordinator = to.standing.certificate().is_some_and(|certificate| certificate.role == Role::Coordinator);
        if protocol != Protocol::Blob && !to_coordinator {
            return Err(MeshError::NoCoordinator { peer });
        }
        Ok(Link { connection, places: to.own_places.clone(), traffic: to.traffic.clone(), to_coordinator })
    }

    fn listen_addresses(&self) -> Vec<Multiaddr> {
        let peer = *self.swarm.local_peer_id();
        self.swarm.listeners().map(|address| address.clone().with(Part::P2p(peer))).collect()
    }

    /// What is to be handed to the process.
    #[cfg(test)]
    pub(super) fn take_events(&mut self) -> Vec<NodeEvent> {
        self.outbox.drain(..).collect()
    }

    /// Hands an event to the process as soon as it takes one.
    pub(super) fn tell(&mut self, event: NodeEvent) {
        if self.events.is_closed() {
            return;
        }
        if self.outbox.len() >= limits::EVENTS_WAITING_MAX {
            let expendable = self.outbox.iter().position(|event| matches!(event, NodeEvent::Capacity { .. }));
            if expendable.and_then(|at| self.outbox.remove(at)).is_none() {
                tracing::warn!("an event was dropped: this process does not keep up with its node");
                return;
            }
        }
        self.outbox.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::id::AgentId;

    use super::*;
    use crate::lone::Lone;

    fn capacity(sequence: u64) -> NodeEvent {
        let capacity = Capacity {
            agent: AgentId(1),
            run: 0,
            sequence,
            slots: 1,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 1,
            paused: None,
        };
        NodeEvent::Capacity { peer: PeerId::random(), capacity }
    }

    fn gone() -> NodeEvent {
        NodeEvent::Disconnected { peer: PeerId::random() }
    }

    #[tokio::test]
    async fn of_events_that_nobody_takes_news_of_capacity_goes_first_and_then_what_comes() {
        let mut lone = Lone::new(Role::Coordinator).await;
        lone.node.tell(gone());
        lone.node.tell(capacity(1));
        lone.node.tell(capacity(2));
        for _ in 3..limits::EVENTS_WAITING_MAX {
            lone.node.tell(gone());
        }
        assert_eq!(lone.node.outbox.len(), limits::EVENTS_WAITING_MAX);
        let left = |lone: &Lone| {
            let sequence =
                |event: &NodeEvent| if let NodeEvent::Capacity { capacity, .. } = event { Some(capacity.sequence) } else { None };
            lone.node.outbox.iter().filter_map(sequence).collect::<Vec<_>>()
        };
        for (sequences, last) in [(vec![2], true), (vec![], true), (vec![], false)] {
            let marker = PeerId::random();
            lone.node.tell(NodeEvent::Disconnected { peer: marker });
            assert_eq!((left(&lone), lone.node.outbox.len()), (sequences, limits::EVENTS_WAITING_MAX));
            let newest = lone.node.outbox.back();
            assert_eq!(matches!(newest, Some(NodeEvent::Disconnected { peer }) if *peer == marker), last);
        }
    }

    #[tokio::test]
    async fn a_stream_is_opened_to_whom_its_protocol_is_for() {
        let mut lone = Lone::new(Role::Agent).await;
        let [stranger, recognised, agent, coordinator] = [(); 4].map(|()| PeerId::random());
        lone.connected(stranger, false);
        let id = lone.connected(recognised, true);
        let certificate = lone.certificate(&recognised, Role::Coordinator, std::time::Duration::from_secs(60));
        lone.shows(id, Ok(certificate));
        lone.admitted(agent, Role::Agent, true);
        lone.admitted(coordinator, Role::Coordinator, true);
        // Whether it is found, and whether it is known for a coordinator.
        let find = |peer, protocol| match lone.node.find(peer, protocol) {
            Ok(link) => Ok(link.to_coordinator),
            Err(MeshError::NotConnected { .. }) => Err("not connected"),
            Err(MeshError::NoCoordinator { .. }) => Err("no coordinator"),
            Err(other) => panic!("{other}"),
        };
        let all = |protocol| [stranger, recognised, agent, coordinator].map(|peer| find(peer, protocol));
        let not = Err("not connected");
        assert_eq!(all(Protocol::Blob), [not, not, Ok(false), Ok(true)]);
        for protocol in [Protocol::Work, Protocol::Delivery] {
            assert_eq!(all(protocol), [not, not, Err("no coordinator"), Ok(true)], "{protocol:?}");
        }
        assert_eq!(all(Protocol::Enrolment), [not, Ok(true), Err("no coordinator"), Ok(true)]);
    }

    #[tokio::test]
    async fn whoever_was_thrown_out_is_refused_without_the_process_being_asked() {
        let mut lone = Lone::new(Role::Coordinator).await;
        let [thrown_out, other] = [PeerId::random(), PeerId::random()];
        let revoked = lone.revocations(&lone.issuer.authority.clone(), 1, &[thrown_out]);
        lone.node.publish_revocations(revoked);
        let ids = [thrown_out, other].map(|peer| lone.connected(peer, false));
        let request = || EnrolmentRequest::Join { token: 1, secret: lull_shared::identity::Secret([1; 16]), name: "desk".into() };
        let answers = ids.map(|connection| {
            let (reply, answer) = oneshot::channel();
            lone.node.note(Note::EnrolmentAsked { connection, request: request(), reply });
            answer
        });
        let [mut refused, mut asked] = answers;
        assert_eq!(refused.try_recv(), Ok(EnrolmentReply::Refused(EnrolmentRefusal::Revoked)));
        assert!(asked.try_recv().is_err());
        assert!(matches!(&lone.told()[..], [NodeEvent::Enrolment { peer, .. }] if *peer == other));
    }

    #[tokio::test]
    async fn events_are_handed_over_in_their_order_as_far_as_there_is_room() {
        let mut lone = Lone::new(Role::Agent).await;
        let peers: Vec<PeerId> = (0..12).map(|_| PeerId::random()).collect();
        peers.iter().for_each(|peer| lone.node.tell(NodeEvent::Disconnected { peer: *peer }));
        (0..12).for_each(|_| lone.node.hand_over());
        let gone = |event: &NodeEvent| if let NodeEvent::Disconnected { peer } = event { Some(*peer) } else { None };
        let waiting = |lone: &Lone| lone.node.outbox.iter().filter_map(gone).collect::<Vec<_>>();
        let taken = 12 - waiting(&lone).len();
        assert!(taken < 12 && waiting(&lone) == peers[taken..], "it takes so many at a time");
        assert_eq!(lone.events.try_recv().ok().as_ref().and_then(gone), Some(peers[0]));
        lone.node.hand_over();
        assert_eq!(waiting(&lone), peers[taken + 1..]);
        lone.events.close();
        lone.node.tell(capacity(1));
        assert_eq!(waiting(&lone).len(), lone.node.outbox.len(), "nobody listens any more");
    }

    #[tokio::test]
    async fn what_is_due_is_done_and_nothing_that_is_not() {
        let mut lone = Lone::new(Role::Agent).await;
        let NodeEvent::Capacity { capacity, .. } = capacity(1) else { panic!("capacity") };
        let peer = PeerId::random();
        let (left, other) = (lone.admitted(peer, Role::Agent, false), lone.admitted(peer, Role::Agent, false));
        lone.node.leave_others(&peer, other);
        let start = Instant::now();
        lone.node.announcer.change(capacity, start + Duration::from_secs(1));
        lone.node.idle_due = Some(start + Duration::from_secs(2));
        lone.node.timer(start);
        assert!(lone.node.connections.get(left).is_some() && lone.node.announcer.next_due().is_some());
        lone.node.timer(start + Duration::from_secs(1));
        assert_eq!((lone.node.announcer.next_due(), lone.node.idle_due), (None, Some(start + Duration::from_secs(2))));
        lone.node.timer(start + Duration::from_secs(2));
        assert_eq!(lone.node.idle_due, None, "there is nothing to look after");
        lone.node.timer(start + Duration::from_secs(60));
        assert!(lone.node.connections.get(left).is_none() && lone.node.connections.get(other).is_some());
    }

    #[tokio::test]
    async fn capacity_is_published_as_soon_as_it_is_said() {
        let mut lone = Lone::new(Role::Agent).await;
        let NodeEvent::Capacity { capacity, .. } = capacity(1) else { panic!("capacity") };
        lone.node.command(Command::PublishCapacity(capacity.clone()));
        assert_eq!(lone.node.announcer.next_due(), None);
        let topic = libp2p::gossipsub::IdentTopic::new(lull_shared::protocol::capacity_topic(capacity.agent));
        lone.node.announcer.reader_appeared(&topic.hash(), Instant::now());
        assert!(lone.node.announcer.next_due().is_some(), "it is known for those who come");
    }

    #[tokio::test]
    async fn what_the_swarm_reports_is_noted() {
        let mut lone = Lone::new(Role::Agent).await;
        let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(77));
        let address: Multiaddr = "/ip4/10.0.0.9/tcp/7".parse().expect("an address");
        let endpoint = || libp2p::core::ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address.clone() };
        let tried = |lone: &mut Lone| {
            let found = PeerId::random();
            let address: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().expect("an address");
            lone.node.discovery.heard(libp2p::mdns::Event::Discovered(vec![(found, address)]));
            found
        };
        lone.node.swarm_event(SwarmEvent::ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: endpoint(),
            num_established: std::num::NonZeroU32::MIN,
            concurrent_dial_errors: None,
            established_in: Duration::ZERO,
        });
        assert_eq!(lone.connection(id).peer, peer);
        let ping = |result| SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection: id, result }));
        lone.node.swarm_event(ping(Ok(Duration::from_millis(7))));
        assert_eq!(lone.connection(id).round_trip, Some(Duration::from_millis(7)));
        lone.node.swarm_event(ping(Err(ping::Failure::Unsupported)));
        assert!(lone.node.connections.get(id).is_some());
        lone.node.swarm_event(ping(Err(ping::Failure::Timeout)));
        assert!(lone.node.connections.get(id).is_none(), "it does not answer");
        let id = lone.connected(peer, false);
        let found = tried(&mut lone);
        let mut waiter = lone.waits(id, peer, Purpose::Membership);
        let closed = SwarmEvent::ConnectionClosed {
            peer_id: peer,
            connection_id: id,
            endpoint: endpoint(),
            num_established: 0,
            cause: None,
        };
        lone.node.swarm_event(closed);
        assert!(lone.node.connections.get(id).is_none());
        assert_eq!(waiter.try_recv(), Ok(Err(MeshError::Lost { peer, reason: "it was closed".into() })));
        assert!(lone.node.discovery.was_tried(&found), "it looks for another");
        let (found, mut waiter) = (tried(&mut lone), lone.waits(id, peer, Purpose::Membership));
        let error = libp2p::swarm::DialError::NoAddresses;
        lone.node.swarm_event(SwarmEvent::OutgoingConnectionError { connection_id: id, peer_id: Some(peer), error });
        let unreachable = MeshError::Unreachable { peer, reason: "no address of it is known".into() };
        assert_eq!(waiter.try_recv(), Ok(Err(unreachable)));
        assert!(lone.node.discovery.was_tried(&found));
        let found = PeerId::random();
        let mdns = libp2p::mdns::Event::Discovered(vec![(found, "/ip4/127.0.0.1/tcp/9".parse().expect("an address"))]);
        lone.node.swarm_event(SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns)));
        assert!(lone.node.discovery.was_tried(&found));
    }

    #[tokio::test]
    async fn those_who_were_thrown_out_before_the_start_are_blocked_where_nobody_tells_them() {
        let out = PeerId::random();
        for (role, blocked) in [(Role::Agent, true), (Role::Coordinator, false)] {
            let lone = Lone::with(role, |config| config.revoked = [out].into()).await;
            assert_eq!(lone.node.swarm.behaviour().blocked.blocked_peers().contains(&out), blocked, "{role:?}");
            assert!(lone.node.membership.is_revoked(&out));
        }
    }

    #[tokio::test]
    async fn a_node_listens_when_it_has_started_and_names_itself() {
        let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        let lone = Lone::with(Role::Coordinator, |config| config.listen = vec![listen]).await;
        let addresses = lone.node.listen_addresses();
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.to_string().ends_with(&lone.own.to_string())));
    }
}
