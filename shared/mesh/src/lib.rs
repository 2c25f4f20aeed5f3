//! The libp2p node that agents and coordinators run: connections, admission, enrolment, gossip, streams, blobs.
//!
//! Owns the swarm, in one task. Does not decide anything: what comes in is an event, what is wanted is a call.
//!
//! ```text
//! process -- NodeHandle --> node (owns the swarm: connections, certificates, gossip) <-- streams, gossip, mdns
//!    ^                        | ^
//!    +------- NodeEvent ------+ +--- one task for each conversation: admission, enrolment, blob, delivery
//! ```

mod blobs;
mod error;
mod handle;
#[cfg(test)]
mod lone;
mod node;
mod peers;
mod streams;
mod swarm;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use lull_shared::{
    digest::{BlobRef, Digest, Outline},
    id::AttemptId,
    identity::{Authority, Certificate, Edition, NetworkId, Signed},
    message::{ToAgentFrame, ToCoordinatorFrame},
    protocol::{EnrolmentReply, EnrolmentRequest},
    resources::Capacity,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use blobs::file::{partial_path, read_piece};
pub use error::{MeshError, NodeError, apart, in_words};
pub use handle::{FetchReport, NodeHandle};
pub use peers::door::source_of;
pub use peers::gossip::{Judgement, judge_capacity};
pub use streams::frames::{Duplex, FrameError, FrameReader, FrameWriter, frames, work_stream_in_memory};

/// Commands that may wait for the node; whoever sends more waits.
const COMMANDS_WAITING_MAX: usize = 256;
/// Events that are handed over without waking the node for each.
const EVENTS_AHEAD: usize = 64;

/// A node that runs, and what comes out of it.
pub struct Node {
    pub handle: NodeHandle,
    /// Ends when the node has stopped.
    pub events: mpsc::Receiver<NodeEvent>,
}

impl Node {
    /// Starts a node. It listens when this returns, and stops when `shutdown` is cancelled.
    pub async fn start(config: NodeConfig, blobs: Arc<dyn BlobStore>, shutdown: CancellationToken) -> Result<Self, NodeError> {
        let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (events_out, events) = mpsc::channel(EVENTS_AHEAD);
        let exchange = Arc::new(blobs::exchange::Exchange::new(config.uploads));
        let handle = NodeHandle::new(config.identity.public().to_peer_id(), commands, exchange.clone());
        let running = node::Running::start(config, blobs, handle.clone(), commands_in, events_out).await?;
        tokio::spawn(running.run(shutdown));
        Ok(Self { handle, events })
    }
}

/// How a node takes part.
pub struct NodeConfig {
    pub identity: Keypair,
    pub network: NetworkId,
    pub authority: Authority,
    /// None until enrolled.
    pub certificate: Option<Signed>,
    /// Where to listen; empty for an agent that only dials out.
    pub listen: Vec<Multiaddr>,
    /// Finds and is found by members on the same subnet.
    pub mdns: bool,
    /// Takes part in capacity gossip as a reader: coordinators and relays.
    pub reads_capacity: bool,
    /// Name and version of the program, shown to peers.
    pub software: String,
    /// Peers that were thrown out before this start.
    pub revoked: BTreeSet<PeerId>,
    /// Peers that are members as far as this process remembers: when strangers are many, these come first.
    pub members: BTreeSet<PeerId>,
    pub uploads: UploadRules,
}

/// How a node sends blobs to peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadRules {
    /// All uploads together, in bytes a second; unlimited if not given. At least [`lull_shared::limits::UPLOAD_RATE_MIN`].
    pub bytes_per_second_max: Option<NonZeroU64>,
    /// Gives each piece away a few times only and leaves the rest to those who have it: coordinators.
    pub seeds: bool,
}

/// What a node has moved of blobs since it started, in bytes. Large outputs on their way to a coordinator are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    pub from_agents_bytes: u64,
    pub from_coordinators_bytes: u64,
    pub served_bytes: u64,
}

/// Whom to ask for a blob besides this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders {
    /// They say that they hold all of it.
    pub whole: Vec<PeerId>,
    /// They fetch it at this moment.
    pub fetching: Vec<PeerId>,
}

/// Where a node's blobs are, for serving and for receiving.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Reference and outline of a blob that is here.
    async fn outline(&self, digest: &Digest) -> Option<(BlobRef, Outline)>;
    /// One piece of a blob that is here.
    async fn read_piece(&self, digest: &Digest, index: u32) -> Option<Bytes>;
    /// Who else has some of a blob that is here, for a peer that is about to fetch it.
    async fn holders(&self, _asker: PeerId, _blob: &BlobRef) -> Holders {
        Holders::default()
    }
    /// A blob that is not here and that others are known to hold: whoever asks is sent to them.
    fn elsewhere(&self, _digest: &Digest) -> Option<BlobRef> {
        None
    }
    /// Some of a blob was sent to a peer.
    fn sent(&self, _peer: PeerId, _blob: &BlobRef, _bytes: u64) {}
    /// Begins to take in a large output of an attempt; the error is told to the agent.
    async fn receive(&self, peer: PeerId, attempt: AttemptId, blob: BlobRef) -> Result<Receiving, String>;
}

/// The blobs of a node that has none and takes none.
pub struct NoBlobs;

#[async_trait]
impl BlobStore for NoBlobs {
    async fn outline(&self, _: &Digest) -> Option<(BlobRef, Outline)> {
        None
    }

    async fn read_piece(&self, _: &Digest, _: u32) -> Option<Bytes> {
        None
    }

    async fn receive(&self, _: PeerId, _: AttemptId, _: BlobRef) -> Result<Receiving, String> {
        Err("nothing is kept here".to_owned())
    }
}

/// Whether a delivery is wanted.
pub enum Receiving {
    /// It is here already, durably.
    Stored,
    /// Not now: the agent tries again.
    Later,
    /// Push the pieces in order, then finish.
    Wanted(Box<dyn BlobSink>),
}

/// Takes a blob's bytes in order. Dropping it unfinished forgets them.
#[async_trait]
pub trait BlobSink: Send {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// Checks the digest of what was written and makes it durable.
    async fn finish(self: Box<Self>) -> Result<(), String>;
}

/// What a node tells its process.
pub enum NodeEvent {
    /// An agent opened its work stream; its certificate was checked.
    Work { peer: PeerId, certificate: Certificate, address: Multiaddr, stream: CoordinatorStream },
    /// A machine wants a certificate. Dropping `reply` refuses it as `Unavailable`.
    Enrolment { peer: PeerId, request: EnrolmentRequest, reply: oneshot::Sender<EnrolmentReply> },
    /// Capacity heard in gossip; the publisher's certificate names this agent.
    Capacity { peer: PeerId, capacity: Capacity },
    /// Newer revocations, checked and already in force on this node.
    Revoked { signed: Signed },
    /// A member was admitted.
    Admitted { peer: PeerId, certificate: Certificate },
    /// The last connection to a peer closed.
    Disconnected { peer: PeerId },
    /// A coordinator was found on the subnet.
    Discovered { peer: PeerId, addresses: Vec<Multiaddr> },
}

/// A coordinator's end of a work stream.
pub struct CoordinatorStream {
    pub incoming: FrameReader<ToCoordinatorFrame>,
    pub outgoing: FrameWriter<ToAgentFrame>,
}

/// An agent's end of a work stream.
pub struct AgentStream {
    pub incoming: FrameReader<ToAgentFrame>,
    pub outgoing: FrameWriter<ToCoordinatorFrame>,
}

/// One connection, as `lull net peers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerInfo {
    pub peer: String,
    /// Name, role and number from its certificate; none for a stranger.
    pub certificate: Option<Certificate>,
    pub software: Option<String>,
    pub address: String,
    /// We dialled (`outbound`) or they did (`inbound`).
    pub direction: String,
    /// `tcp` or `quic`.
    pub transport: String,
    pub round_trip_us: Option<u64>,
    /// How far its clock was ahead of ours when it was admitted, in microseconds; less than nothing: behind.
    pub clock_ahead_us: Option<i64>,
    /// The edition of the revocations that it knows, as it said last.
    pub revocations: Edition,
    /// Streams of work that are open.
    pub work_open: bool,
    pub blob_bytes_sent: u64,
    pub blob_bytes_received: u64,
}
