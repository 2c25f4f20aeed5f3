//! Networks, members and blobs for the tests.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{AsyncReadExt as _, StreamExt as _};
use libp2p::{Multiaddr, PeerId, Stream, identity::Keypair, swarm::SwarmEvent};
use lull_shared::{
    digest::{BlobRef, Digest, Outline, OutlineBuilder, PIECE_BYTES},
    id::{AgentId, AttemptId, JobId, TaskId},
    identity::{Authority, Issuer, NetworkId, Role, Signed},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    BlobSink, BlobStore, Holders, Node, NodeConfig, NodeEvent, Receiving, UploadRules,
    peers::admission::now,
    streams::opened::{Opened, Protocol},
    swarm,
};

/// Long enough for a loaded machine; nothing waits for it in vain but a failing test.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("{what} did not happen within {DEADLINE:?}"))
}

/// Looks until a condition holds.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A network with its authority.
pub(super) struct Network {
    pub(super) issuer: Issuer,
}

impl Network {
    pub(super) fn new(number: u8) -> Self {
        let (network, authority) = (NetworkId([number; 16]), Keypair::generate_ed25519());
        Self { issuer: Issuer { network, authority, life: Duration::from_secs(3600) } }
    }

    pub(super) fn certificate(&self, peer: &PeerId, role: Role, agent: Option<u64>) -> Signed {
        self.issuer.issue(peer, role, agent.map(AgentId), "some machine", now())
    }

    pub(super) fn config(&self, role: Role, agent: Option<u64>) -> NodeConfig {
        let identity = Keypair::generate_ed25519();
        let certificate = self.certificate(&identity.public().to_peer_id(), role, agent);
        NodeConfig { certificate: Some(certificate), ..self.stranger_config(identity) }
    }

    pub(super) fn stranger_config(&self, identity: Keypair) -> NodeConfig {
        NodeConfig {
            identity,
            network: self.issuer.network,
            authority: Authority::of(&self.issuer.authority),
            certificate: None,
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
            mdns: false,
            reads_capacity: false,
            software: "lull-test 1".to_owned(),
            revoked: Default::default(),
            members: Default::default(),
            uploads: Default::default(),
        }
    }

    pub(super) async fn coordinator(&self) -> Member {
        Member::start(NodeConfig { reads_capacity: true, ..self.config(Role::Coordinator, None) }).await
    }

    pub(super) async fn agent(&self, number: u64) -> Member {
        Member::start(self.config(Role::Agent, Some(number))).await
    }

    /// A coordinator that leaves to others what they have.
    pub(super) async fn seeding_coordinator(&self) -> Member {
        let uploads = UploadRules { seeds: true, ..UploadRules::default() };
        Member::start(NodeConfig { uploads, ..self.config(Role::Coordinator, None) }).await
    }

    /// An agent with a slow uplink.
    pub(super) async fn slow_agent(&self, number: u64, bytes_per_second: u64) -> Member {
        let uploads = UploadRules { bytes_per_second_max: NonZeroU64::new(bytes_per_second), seeds: false };
        Member::start(NodeConfig { uploads, ..self.config(Role::Agent, Some(number)) }).await
    }

    pub(super) async fn stranger(&self) -> Member {
        Member::start(self.stranger_config(Keypair::generate_ed25519())).await
    }
}

/// A node with its blobs, stopped when dropped.
pub(super) struct Member {
    node: Node,
    pub(super) blobs: Arc<Blobs>,
    _shutdown: DropGuard,
}

impl Deref for Member {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

impl Member {
    pub(super) async fn start(config: NodeConfig) -> Self {
        let (blobs, shutdown) = (Arc::new(Blobs::default()), CancellationToken::new());
        let node = Node::start(config, blobs.clone(), shutdown.clone()).await.expect("a node starts on a free port");
        Self { node, blobs, _shutdown: shutdown.drop_guard() }
    }

    pub(super) fn peer(&self) -> PeerId {
        self.handle.local_peer()
    }

    pub(super) async fn address(&self) -> Multiaddr {
        self.handle.listen_addresses().await.first().expect("it listens").clone()
    }

    pub(super) async fn connect_to(&self, other: &Member) {
        let connected = self.handle.connect(other.address().await).await;
        assert_eq!(connected, Ok(other.peer()));
    }

    /// The first event that suits; others before it are dropped.
    pub(super) async fn event<T>(&mut self, what: &str, suits: impl Fn(NodeEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.node.events.recv().await.expect("the node runs");
                if let Some(found) = suits(event) {
                    return found;
                }
            }
        };
        within(what, found).await
    }

    pub(super) async fn admitted(&mut self, peer: PeerId) {
        self.event("admission", |event| matches!(event, NodeEvent::Admitted { peer: p, .. } if p == peer).then_some(())).await;
    }

    pub(super) async fn disconnected(&mut self, peer: PeerId) {
        let gone = |event| matches!(event, NodeEvent::Disconnected { peer: p } if p == peer).then_some(());
        self.event("a closed connection", gone).await;
    }
}

/// A peer that says on its streams whatever a test wants.
pub(super) struct RawPeer {
    opens: mpsc::Sender<(Protocol, Opened)>,
    closed: oneshot::Receiver<()>,
}

impl RawPeer {
    pub(super) async fn connect(config: NodeConfig, to: Multiaddr) -> Self {
        let mut swarm = swarm::build(&config, &Default::default()).expect("a swarm");
        swarm.dial(to).expect("a dial begins");
        let (opens, mut opens_in) = mpsc::channel::<(Protocol, Opened)>(1);
        let (closing, closed) = oneshot::channel();
        let connected = async {
            loop {
                if let SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } = swarm.select_next_some().await {
                    return (peer_id, connection_id);
                }
            }
        };
        let (peer, connection) = within("a connection", connected).await;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    open = opens_in.recv() => match open {
                        Some((protocol, opened)) => swarm.behaviour_mut().streams.open(peer, connection, protocol, opened),
                        None => return,
                    },
                    event = swarm.select_next_some() => if let SwarmEvent::ConnectionClosed { .. } = event {
                        let _ = closing.send(());
                        return;
                    },
                }
            }
        });
        Self { opens, closed }
    }

    pub(super) async fn open(&self, protocol: Protocol) -> Stream {
        let (opened, stream) = oneshot::channel();
        self.opens.send((protocol, opened)).await.expect("it is connected");
        within("a stream", stream).await.expect("it is connected").expect("the protocol is spoken")
    }

    pub(super) async fn cut(self) {
        within("being cut", self.closed).await.expect("the connection was closed");
    }

    pub(super) fn is_cut(&mut self) -> bool {
        self.closed.try_recv().is_ok()
    }
}

/// What comes of a stream: everything until its end.
pub(super) async fn drained(mut stream: Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends it as well as a close.
    let _ = within("the stream's end", stream.read_to_end(&mut bytes)).await;
    bytes
}

pub(super) fn attempt(number: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(1), index: 0 }, number }
}

/// Bytes that differ from piece to piece.
pub(super) fn some_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 7 + i % 251) as u8).collect()
}

/// Blobs in memory.
#[derive(Clone)]
pub(super) struct Blobs {
    held: Arc<Mutex<BTreeMap<Digest, Held>>>,
    named: Arc<Mutex<Holders>>,
    elsewhere: Arc<Mutex<Option<BlobRef>>>,
    /// Pieces that it still gives.
    pieces: Arc<Semaphore>,
    /// Bytes that it was told it has sent.
    told_sent: Arc<std::sync::atomic::AtomicU64>,
}

impl Default for Blobs {
    fn default() -> Self {
        Self {
            held: Arc::default(),
            named: Arc::default(),
            elsewhere: Arc::default(),
            pieces: Arc::new(Semaphore::new(1_000_000)),
            told_sent: Arc::default(),
        }
    }
}

struct Held {
    bytes: Vec<u8>,
    blob: BlobRef,
    outline: Outline,
    /// From this piece on there is nothing.
    gone_from: Option<u32>,
}

impl Blobs {
    pub(super) fn put(&self, bytes: Vec<u8>) -> BlobRef {
        let mut builder = OutlineBuilder::default();
        builder.update(&bytes);
        let (blob, outline) = builder.finish();
        self.lock().insert(blob.digest, Held { bytes, blob, outline, gone_from: None });
        blob
    }

    pub(super) fn get(&self, blob: BlobRef) -> Option<Vec<u8>> {
        self.lock().get(&blob.digest).map(|held| held.bytes.clone())
    }

    /// Whom it names to those who ask.
    pub(super) fn name(&self, holders: Holders) {
        *self.named.lock().expect("no test panics while it holds this") = holders;
    }

    /// A blob that it knows of and has not got.
    pub(super) fn know_elsewhere(&self, blob: BlobRef) {
        *self.elsewhere.lock().expect("no test panics while it holds this") = Some(blob);
    }

    /// Gives so many more pieces and waits with the next until there are more to give.
    pub(super) fn give_only(&self, pieces: usize) {
        self.pieces.forget_permits(1_000_000);
        self.give_more(pieces);
    }

    /// Whether it waits for more to give.
    pub(super) fn has_given_all(&self) -> bool {
        self.pieces.available_permits() == 0
    }

    pub(super) fn give_more(&self, pieces: usize) {
        self.pieces.add_permits(pieces);
    }

    /// Gives what it may and has nothing afterwards.
    pub(super) fn give_no_more(&self) {
        self.pieces.close();
    }

    /// Flips a bit in one piece; the outline stays right.
    pub(super) fn corrupt(&self, blob: BlobRef, piece: usize) {
        self.lock().get_mut(&blob.digest).expect("it is held").bytes[piece * PIECE_BYTES] ^= 1;
    }

    /// What it was told of bytes that it has sent.
    pub(super) fn told_sent(&self) -> u64 {
        self.told_sent.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Says of one blob what is true of another.
    pub(super) fn say_of(&self, blob: BlobRef, (said, outline): (BlobRef, Outline)) {
        let mut held = self.lock();
        let held = held.get_mut(&blob.digest).expect("it is held");
        (held.blob, held.outline) = (said, outline);
    }

    /// Everything from this piece on vanishes.
    pub(super) fn lose(&self, blob: BlobRef, from: u32) {
        self.lock().get_mut(&blob.digest).expect("it is held").gone_from = Some(from);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Held>> {
        self.held.lock().expect("no test panics while it holds this")
    }
}

#[async_trait]
impl BlobStore for Blobs {
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)> {
        self.lock().get(digest).map(|held| (held.blob, held.outline.clone()))
    }

    async fn holders(&self, asker: PeerId, _: &BlobRef) -> Holders {
        let mut named = self.named.lock().expect("no test panics while it holds this").clone();
        named.whole.retain(|peer| *peer != asker);
        named.fetching.retain(|peer| *peer != asker);
        named
    }

    fn elsewhere(&self, digest: &Digest) -> Option<BlobRef> {
        let known = *self.elsewhere.lock().expect("no test panics while it holds this");
        known.filter(|blob| blob.digest == *digest)
    }

    async fn read_piece(&self, digest: &Digest, index: u32) -> Option<Bytes> {
        self.pieces.acquire().await.ok()?.forget();
        let held = self.lock();
        let held = held.get(digest).filter(|held| held.gone_from.is_none_or(|from| index < from))?;
        held.bytes.chunks(PIECE_BYTES).nth(index as usize).map(Bytes::copy_from_slice)
    }

    fn sent(&self, _: PeerId, _: &BlobRef, bytes: u64) {
        self.told_sent.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    async fn receive(&self, _: PeerId, attempt: AttemptId, blob: BlobRef) -> Result<Receiving, String> {
        match attempt.number {
            1 if self.lock().contains_key(&blob.digest) => Ok(Receiving::Stored),
            1 => Ok(Receiving::Wanted(Box::new(Sink { blob, bytes: Vec::new(), room: usize::MAX, into: self.clone() }))),
            3 => Ok(Receiving::Wanted(Box::new(Sink { blob, bytes: Vec::new(), room: 100_000, into: self.clone() }))),
            _ => Err("that attempt is not live".to_owned()),
        }
    }
}

struct Sink {
    blob: BlobRef,
    bytes: Vec<u8>,
    room: usize,
    into: Blobs,
}

#[async_trait]
impl BlobSink for Sink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.bytes.len() + bytes.len() > self.room {
            return Err("the disk is full".to_owned());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), String> {
        if BlobRef::of(&self.bytes) != self.blob {
            return Err("the bytes are not those that were announced".to_owned());
        }
        self.into.put(self.bytes);
        Ok(())
    }
}
