//! A node whose connections exist in its books alone: what it decides is seen without a network, event by event.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    identity::Keypair,
    swarm::ConnectionId,
};
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    id::{AttemptId, Term},
    identity::{Authority, Certificate, Edition, Issuer, NetworkId, Revocations, Role, Signed, sign},
    protocol::Admission,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};

use super::{
    BlobStore, NodeConfig, NodeEvent, NodeHandle, Receiving, UploadRules,
    blobs::exchange::Exchange,
    error::MeshError,
    node::{Command, Running},
    peers::{
        admission::{NotRecognised, Shown, now},
        connection::{Connection, Standing},
        dial::{Purpose, Waiter},
    },
};

/// A store that has nothing.
struct Empty;

#[async_trait]
impl BlobStore for Empty {
    async fn outline(&self, _: &Digest) -> Option<(BlobRef, Outline)> {
        None
    }

    async fn read_piece(&self, _: &Digest, _: u32) -> Option<Bytes> {
        None
    }

    async fn receive(&self, _: PeerId, _: AttemptId, _: BlobRef) -> Result<Receiving, String> {
        Err("it has nothing".to_owned())
    }
}

/// The node, and both ends of what it hears and says.
pub(super) struct Lone {
    pub(super) node: Running,
    pub(super) issuer: Issuer,
    pub(super) own: PeerId,
    _commands: mpsc::Sender<Command>,
    /// What was handed over to the process.
    pub(super) events: mpsc::Receiver<NodeEvent>,
    next: usize,
}

impl Lone {
    /// A member of a network of its own.
    pub(super) async fn new(role: Role) -> Self {
        Self::with(role, |_| ()).await
    }

    /// The same with another configuration.
    pub(super) async fn with(role: Role, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let (identity, authority) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let network = NetworkId([1; 16]);
        let own = identity.public().to_peer_id();
        let issuer = Issuer { network, authority: authority.clone(), life: Duration::from_secs(24 * 60 * 60) };
        let certificate = issuer.issue(&own, role, None, "own", now());
        let mut config = NodeConfig {
            identity,
            network,
            authority: Authority::of(&authority),
            certificate: Some(certificate),
            listen: Vec::new(),
            mdns: false,
            reads_capacity: role == Role::Coordinator,
            software: "test".to_owned(),
            revoked: Default::default(),
            members: Default::default(),
            uploads: UploadRules::default(),
        };
        change(&mut config);
        let (commands, commands_in) = mpsc::channel(8);
        let (events_out, events) = mpsc::channel(8);
        let handle = NodeHandle::new(own, commands.clone(), Arc::new(Exchange::new(UploadRules::default())));
        let node = Running::start(config, Arc::new(Empty), handle, commands_in, events_out).await.expect("it starts");
        Self { node, issuer, own, _commands: commands, events, next: 1 }
    }

    /// A connection that we made to a peer, or it to us.
    pub(super) fn connected(&mut self, peer: PeerId, dialled: bool) -> ConnectionId {
        self.connected_at(peer, dialled, "/ip4/10.0.0.9/tcp/7")
    }

    pub(super) fn connected_at(&mut self, peer: PeerId, dialled: bool, address: &str) -> ConnectionId {
        let address: Multiaddr = address.parse().expect("an address");
        let endpoint = match dialled {
            true => ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::New },
            false => ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address },
        };
        let id = ConnectionId::new_unchecked(self.next);
        self.next += 1;
        self.node.connected(id, Connection::new(peer, &endpoint));
        id
    }

    /// What the authority says of a peer for so long.
    pub(super) fn certificate(&self, peer: &PeerId, role: Role, life: Duration) -> Certificate {
        let issuer = Issuer { network: self.issuer.network, authority: self.issuer.authority.clone(), life };
        let signed = issuer.issue(peer, role, None, "peer", now());
        Certificate::verify_expired(&signed, &Authority::of(&issuer.authority), issuer.network, peer).expect("it is valid")
    }

    /// A peer introduces itself on a connection: what it will be told.
    pub(super) fn shows(
        &mut self,
        id: ConnectionId,
        certificate: Result<Certificate, NotRecognised>,
    ) -> oneshot::Receiver<Admission> {
        self.shows_with(id, certificate, Edition::default())
    }

    pub(super) fn shows_with(
        &mut self,
        id: ConnectionId,
        certificate: Result<Certificate, NotRecognised>,
        revocations: Edition,
    ) -> oneshot::Receiver<Admission> {
        let (reply, told) = oneshot::channel();
        let shown = Shown { certificate, software: "their program".to_owned(), revocations, clock_ahead_us: 5 };
        self.node.shown(id, shown, reply);
        told
    }

    /// A member on a connection that accepts us too.
    pub(super) fn admitted(&mut self, peer: PeerId, role: Role, dialled: bool) -> ConnectionId {
        let id = self.connected(peer, dialled);
        let certificate = self.certificate(&peer, role, self.issuer.life);
        self.shows(id, Ok(certificate));
        self.node.answer_shown(id);
        self.node.answered(id, Admission::Admitted { revocations: None });
        id
    }

    pub(super) fn connection(&self, id: ConnectionId) -> &Connection {
        self.node.connections.get(id).expect("it is there")
    }

    pub(super) fn standing(&self, id: ConnectionId) -> Standing {
        self.connection(id).standing.clone()
    }

    /// How long it takes until a connection is cut.
    pub(super) fn time_left(&self, id: ConnectionId) -> Option<Duration> {
        self.connection(id).deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Somebody waits for a connection.
    pub(super) fn waits(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        purpose: Purpose,
    ) -> oneshot::Receiver<Result<(), MeshError>> {
        let (reply, outcome) = oneshot::channel();
        self.node.waiters.push(Waiter { connection, peer, purpose, reply });
        outcome
    }

    /// What the process was told since it was asked last.
    pub(super) fn told(&mut self) -> Vec<NodeEvent> {
        self.node.take_events()
    }

    /// A list of those that were thrown out, by this authority.
    pub(super) fn revocations(&self, by: &Keypair, counter: u64, peers: &[PeerId]) -> Signed {
        let edition = Edition { term: Term(1), counter, draw: 0 };
        sign(by, &Revocations { edition, peers: peers.iter().map(|peer| peer.to_bytes()).collect() })
    }
}
