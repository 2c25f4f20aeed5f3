//! What a process asks of its node.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId, Stream, multiaddr::Protocol as Part};
use lull_shared::{
    digest::BlobRef,
    id::AttemptId,
    identity::Signed,
    limits::{ENROLMENT_TIME_MAX, HANDSHAKE_TIME_MAX, INTRODUCTION_BYTES_MAX, TRANSFER_TIME_MAX},
    protocol::{DeliveryReply, EnrolmentReply, EnrolmentRequest},
    resources::Capacity,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};

use super::{
    AgentStream, PeerInfo, Transferred,
    blobs::{delivery, exchange::Exchange, fetch},
    error::{MeshError, in_words},
    node::{Command, Link},
    peers::{
        connection::{Held, Traffic},
        dial::Purpose,
    },
    streams::{
        frames::{FrameError, held_frames, read_frame, write_frame},
        opened::Protocol,
    },
};

/// Addresses that one name is tried at.
const RESOLVED_MAX: usize = 8;

/// A node's handle; cheap to clone. After the node has stopped every call fails or does nothing.
#[derive(Clone)]
pub struct NodeHandle {
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    pub(super) exchange: Arc<Exchange>,
}

/// A stream that this node opened, with its place among those.
pub(super) struct OwnStream {
    pub(super) stream: Stream,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) traffic: Arc<Traffic>,
    pub(super) to_coordinator: bool,
}

/// How a blob was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchReport {
    /// Who sent how many bytes of it.
    pub received: Vec<(PeerId, u64)>,
    /// Who did not give all that was asked for, and why, the last time.
    pub tried: Vec<(PeerId, String)>,
}

impl FetchReport {
    /// Counts bytes that a source sent.
    pub(super) fn received(&mut self, source: PeerId, bytes: u64) {
        match self.received.iter_mut().find(|(other, _)| *other == source) {
            Some((_, sum)) => *sum += bytes,
            None => self.received.push((source, bytes)),
        }
    }

    /// Keeps why a source did not give all.
    pub(super) fn failed(&mut self, source: PeerId, reason: String) {
        self.tried.retain(|(other, _)| *other != source);
        self.tried.push((source, reason));
    }
}

impl NodeHandle {
    pub(super) fn new(peer: PeerId, commands: mpsc::Sender<Command>, exchange: Arc<Exchange>) -> Self {
        Self { peer, commands, exchange }
    }

    /// This node's own peer id.
    pub fn local_peer(&self) -> PeerId {
        self.peer
    }

    /// Where the node listens, with its peer id: what others can dial.
    pub async fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.ask(Command::ListenAddresses).await.unwrap_or_default()
    }

    /// Dials an address that ends in `/p2p/PEER`; both sides have admitted each other when it returns. An admitted
    /// connection that exists is used.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, MeshError> {
        self.reach(address, Purpose::Membership).await
    }

    /// The same at whichever of one peer's addresses answers first; each ends in that peer's `/p2p/PEER`.
    pub async fn connect_any(&self, peer: PeerId, addresses: &[Multiaddr]) -> Result<(), MeshError> {
        let mut resolved = Vec::with_capacity(addresses.len());
        let mut reason = "no address of it is known".to_owned();
        for address in addresses {
            let mut transport = address.clone();
            transport.pop();
            match resolve(transport).await {
                Ok(found) => resolved.extend(found),
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        if resolved.is_empty() {
            return Err(MeshError::Unreachable { peer, reason });
        }
        self.ask(|reply| Command::Connect { peer, addresses: resolved, purpose: Purpose::Membership, reply }).await?
    }

    /// Asks the coordinator at an address for a certificate. The request is only sent to a coordinator whose own
    /// certificate is valid.
    pub async fn enrol(&self, address: Multiaddr, request: EnrolmentRequest) -> Result<EnrolmentReply, MeshError> {
        let peer = self.reach(address, Purpose::Enrolment).await?;
        let OwnStream { mut stream, .. } = self.open(peer, Protocol::Enrolment).await?;
        let lost = |error: FrameError| MeshError::Lost { peer, reason: in_words(&error) };
        let asked = async {
            write_frame(&mut stream, &request).await.map_err(lost)?;
            let reply = read_frame(&mut stream, INTRODUCTION_BYTES_MAX).await.map_err(lost);
            // What was said is said: how the stream ends changes nothing.
            let _ = stream.close().await;
            reply
        };
        timeout(ENROLMENT_TIME_MAX, asked).await.unwrap_or(Err(MeshError::Silent { peer }))
    }

    /// Shows this certificate from now on, on connections that exist too.
    pub async fn set_certificate(&self, certificate: Signed) {
        self.tell(Command::SetCertificate(certificate)).await;
    }

    /// Opens a work stream to a coordinator that is connected.
    pub async fn open_work(&self, coordinator: PeerId) -> Result<AgentStream, MeshError> {
        let OwnStream { stream, place, traffic, .. } = self.open(coordinator, Protocol::Work).await?;
        let (incoming, outgoing) = held_frames(stream, Some(Held::work(traffic, place)));
        Ok(AgentStream { incoming, outgoing })
    }

    /// Fetches a blob into a file: from these peers, which are connected, and from those that a coordinator among them
    /// names. Every piece is checked when it arrives, and what one source has sent is not asked of the next. The file
    /// appears under its name when it is whole; until then its pieces are at [`super::partial_path`], and peers are served
    /// from there. A second fetch of the same blob waits for the first.
    pub async fn fetch(&self, blob: BlobRef, sources: Vec<PeerId>, into: PathBuf) -> Result<FetchReport, MeshError> {
        fetch::fetch_file(self, blob, sources, into).await
    }

    /// Fetches a blob of at most `max` bytes into memory.
    pub async fn fetch_bytes(&self, blob: BlobRef, sources: Vec<PeerId>, max: u64) -> Result<Bytes, MeshError> {
        fetch::fetch_bytes(self, blob, sources, max).await
    }

    /// What was moved of blobs so far.
    pub fn transferred(&self) -> Transferred {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.exchange.counters;
        Transferred {
            from_agents_bytes: read(&counters.from_agents),
            from_coordinators_bytes: read(&counters.from_coordinators),
            served_bytes: read(&counters.served),
        }
    }

    /// Where connected agents say that they listen; only coordinators keep this.
    pub fn addresses(&self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        self.exchange.book()
    }

    /// Brings an attempt's large output to a coordinator; the answer is `Stored` or `Refused`.
    pub async fn deliver(
        &self,
        coordinator: PeerId,
        attempt: AttemptId,
        blob: BlobRef,
        file: PathBuf,
    ) -> Result<DeliveryReply, MeshError> {
        delivery::deliver(self, coordinator, attempt, blob, &file).await
    }

    /// Publishes this agent's capacity: at most once a second, the latest; again when a reader appears.
    pub async fn publish_capacity(&self, capacity: Capacity) {
        self.tell(Command::PublishCapacity(capacity)).await;
    }

    /// Puts revocations into force here and tells everybody, if they are newer than those known. Those that hold afterwards.
    pub async fn publish_revocations(&self, signed: Signed) -> Option<Signed> {
        self.ask(|reply| Command::PublishRevocations(signed, reply)).await.ok().flatten()
    }

    /// Closes all connections with a peer.
    pub async fn disconnect(&self, peer: PeerId) {
        self.tell(Command::Disconnect(peer)).await;
    }

    /// Every connection there is.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    async fn reach(&self, address: Multiaddr, purpose: Purpose) -> Result<PeerId, MeshError> {
        let wrong = |reason: &str| MeshError::Address { address: address.clone(), reason: reason.to_owned() };
        let mut transport = address.clone();
        let Some(Part::P2p(peer)) = transport.pop() else { return Err(wrong("it does not end in /p2p/PEER")) };
        if peer == self.peer {
            return Err(wrong("it is this machine itself"));
        }
        let addresses = resolve(transport).await.map_err(|error| wrong(&error.to_string()))?;
        self.ask(|reply| Command::Connect { peer, addresses, purpose, reply }).await??;
        Ok(peer)
    }

    /// Connects to a member at one of these addresses.
    pub(super) async fn dial(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<(), MeshError> {
        self.ask(|reply| Command::Connect { peer, addresses, purpose: Purpose::Membership, reply }).await?
    }

    /// Opens a stream on an admitted connection; waits while too many of ours are open there.
    pub(super) async fn open(&self, peer: PeerId, protocol: Protocol) -> Result<OwnStream, MeshError> {
        let Link { connection, places, traffic, to_coordinator } =
            self.ask(|reply| Command::Find { peer, protocol, reply }).await??;
        let place = match timeout(TRANSFER_TIME_MAX, places.acquire_owned()).await {
            Ok(place) => place.map_err(|_| MeshError::NotConnected { peer })?,
            Err(_) => return Err(MeshError::Busy { peer }),
        };
        let stream = self.ask(|opened| Command::Open { peer, connection, protocol, opened });
        match timeout(HANDSHAKE_TIME_MAX, stream).await {
            Ok(Ok(Ok(stream))) => Ok(OwnStream { stream, place, traffic, to_coordinator }),
            Ok(Ok(Err(reason))) => Err(MeshError::Protocol { peer, reason }),
            // The connection or the node has gone.
            Ok(Err(_)) => Err(MeshError::NotConnected { peer }),
            Err(_) => Err(MeshError::Silent { peer }),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, MeshError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| MeshError::Stopped)?;
        answer.await.map_err(|_| MeshError::Stopped)
    }

    async fn tell(&self, command: Command) {
        // A node that has stopped has nothing left to do it with.
        let _ = self.commands.send(command).await;
    }
}

/// Names are looked up as every other program of the machine does it: an office has its own ways of naming machines.
async fn resolve(address: Multiaddr) -> std::io::Result<Vec<Multiaddr>> {
    let Some(Part::Dns(name) | Part::Dns4(name) | Part::Dns6(name)) = address.iter().next() else {
        return Ok(vec![address]);
    };
    let fits = |ip: &std::net::SocketAddr| match address.iter().next() {
        Some(Part::Dns4(_)) => ip.is_ipv4(),
        Some(Part::Dns6(_)) => ip.is_ipv6(),
        _ => true,
    };
    let found = tokio::net::lookup_host((name.as_ref(), 0)).await?;
    let addresses: Vec<Multiaddr> = found
        .filter(fits)
        .take(RESOLVED_MAX)
        .map(|socket| {
            Multiaddr::from(socket.ip())
                .into_iter()
                .map(|part| part.acquire())
                .chain(address.iter().skip(1).map(|part| part.acquire()))
                .collect()
        })
        .collect();
    if addresses.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_one_line_for_each_source() {
        let [one, two] = [PeerId::random(), PeerId::random()];
        let mut report = FetchReport::default();
        for (source, bytes) in [(one, 1), (two, 10), (one, 100)] {
            report.received(source, bytes);
        }
        for (source, reason) in [(one, "busy"), (two, "lost"), (one, "gone")] {
            report.failed(source, reason.to_owned());
        }
        assert_eq!(report.received, [(one, 101), (two, 10)]);
        assert_eq!(report.tried, [(two, "lost".to_owned()), (one, "gone".to_owned())]);
    }

    #[tokio::test]
    async fn only_an_address_of_another_peer_can_be_connected_to() {
        let (commands, mut asked) = mpsc::channel(8);
        let node = NodeHandle::new(PeerId::random(), commands, Arc::new(Exchange::new(super::super::UploadRules::default())));
        let answers = tokio::spawn(async move {
            let mut count = 0;
            while let Some(Command::Connect { addresses, reply, .. }) = asked.recv().await {
                count += 1;
                assert_eq!(addresses, ["/ip4/10.0.0.5/tcp/7".parse().expect("an address")], "without the peer");
                let _ = reply.send(Ok(()));
            }
            count
        });
        let (own, other) = (node.local_peer(), PeerId::random());
        let address = |text: String| text.parse::<Multiaddr>().expect("an address");
        let at = |peer| address(format!("/ip4/10.0.0.5/tcp/7/p2p/{peer}"));
        assert!(matches!(node.connect(at(own)).await, Err(MeshError::Address { .. })), "this machine itself");
        assert!(matches!(node.connect(address("/ip4/10.0.0.5/tcp/7".into())).await, Err(MeshError::Address { .. })));
        assert_eq!(node.connect(at(other)).await, Ok(other));
        assert_eq!(node.connect_any(other, &[at(other)]).await, Ok(()));
        assert!(matches!(node.connect_any(other, &[]).await, Err(MeshError::Unreachable { .. })));
        drop(node);
        assert_eq!(answers.await.expect("it ends"), 2);
    }

    #[tokio::test]
    async fn what_a_process_says_reaches_the_node_and_a_node_that_has_stopped_answers_so() {
        let (commands, mut asked) = mpsc::channel(8);
        let node = NodeHandle::new(PeerId::random(), commands, Arc::new(Exchange::new(super::super::UploadRules::default())));
        let signed = Signed { body: vec![1], signature: vec![2] };
        let peer = PeerId::random();
        node.set_certificate(signed.clone()).await;
        assert!(matches!(asked.try_recv(), Ok(Command::SetCertificate(certificate)) if certificate == signed));
        let capacity = Capacity {
            agent: lull_shared::id::AgentId(1),
            run: 0,
            sequence: 1,
            slots: 1,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 1,
            paused: None,
        };
        node.publish_capacity(capacity.clone()).await;
        assert!(matches!(asked.try_recv(), Ok(Command::PublishCapacity(published)) if published == capacity));
        node.disconnect(peer).await;
        assert!(matches!(asked.try_recv(), Ok(Command::Disconnect(gone)) if gone == peer));
        drop(asked);
        assert_eq!(node.publish_revocations(signed).await, None);
        assert_eq!((node.peers().await, node.listen_addresses().await), (vec![], vec![]));
        assert!(matches!(node.dial(peer, Vec::new()).await, Err(MeshError::Stopped)));
    }

    #[tokio::test]
    async fn an_address_of_numbers_is_taken_as_it_is_and_a_name_by_what_it_stands_for() {
        let address = |text: &str| text.parse::<Multiaddr>().expect("an address");
        let plain = address("/ip4/10.0.0.5/tcp/7");
        assert_eq!(resolve(plain.clone()).await.expect("nothing to look up"), [plain]);
        let found = resolve(address("/dns4/localhost/tcp/7")).await.expect("every machine knows itself");
        assert!(found.contains(&address("/ip4/127.0.0.1/tcp/7")) && found.len() <= RESOLVED_MAX, "{found:?}");
        assert!(found.iter().all(|address| address.to_string().starts_with("/ip4/")), "{found:?}");
        assert!(resolve(address("/dns/localhost/tcp/7")).await.expect("it knows itself").len() >= found.len());
    }
}
