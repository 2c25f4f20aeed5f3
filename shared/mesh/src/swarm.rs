//! Builds the swarm: transports, limits and the behaviours that come ready-made. Listens.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport as _, allow_block_list,
    connection_limits::{self, ConnectionLimits},
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identify,
    identity::Keypair,
    mdns,
    multiaddr::Protocol as Part,
    noise, ping, quic,
    swarm::{self, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use lull_shared::{identity::NetworkId, limits, protocol::noise_prologue};
use tokio::time::timeout;

use super::{
    NodeConfig, NodeError,
    error::in_words,
    peers::{door::Door, gate::Gated, gossip},
    streams::opened,
};

/// How long a listener may take to begin.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a silent connection is tried, and how long an answer may take. The work stream's heartbeats notice a
/// dead coordinator sooner; this is for all others.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one connection may be agreeing on at once.
const NEGOTIATING_MAX: usize = 2 * limits::STREAMS_PER_CONNECTION_MAX;

/// One door for each transport: whoever writes another's address on datagrams takes no place of TCP in its name.
#[derive(Clone, Default)]
pub(super) struct Doors {
    tcp: Door,
    quic: Door,
}

impl Doors {
    /// A member came from there.
    pub(super) fn saw_member(&self, address: &Multiaddr) {
        self.tcp.saw_member(address);
        self.quic.saw_member(address);
    }
}

/// Everything a node's swarm does.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// Revoked peers, where nobody tells them that they are: on agents.
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    limits: connection_limits::Behaviour,
    pub(super) gossip: Gated<gossip::Behaviour>,
    pub(super) streams: opened::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// A swarm whose incoming connections come through these doors.
pub(super) fn build(config: &NodeConfig, doors: &Doors) -> Result<Swarm<Behaviour>, NodeError> {
    let identity = &config.identity;
    let peer = identity.public().to_peer_id();
    let mdns = match config.mdns {
        true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), peer).map_err(NodeError::Discovery)?),
        false => None,
    };
    let behaviour = Behaviour {
        blocked: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(connection_limits()),
        gossip: Gated::new(gossip::behaviour(identity, config.reads_capacity)?),
        streams: opened::Behaviour::default(),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
        identify: identify::Behaviour::new(
            identify::Config::new("lull/1".to_owned(), identity.public())
                .with_agent_version(config.software.clone())
                .with_cache_size(0),
        ),
        mdns: mdns.into(),
    };
    let settings = swarm::Config::with_tokio_executor().with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
    Ok(Swarm::new(transport(identity, config.network, doors)?, behaviour, peer, settings))
}

fn transport(identity: &Keypair, network: NetworkId, doors: &Doors) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NodeError> {
    let noise = noise::Config::new(identity).map_err(NodeError::Identity)?.with_prologue(noise_prologue(network));
    let mut yamux = yamux::Config::default();
    // Each stream may buffer 256 kB of what nobody reads: theirs, ours, and those of gossip, ping and identify.
    yamux.set_max_num_streams(4 * limits::STREAMS_PER_CONNECTION_MAX);
    let door = doors.tcp.clone();
    let tcp = doors
        .tcp
        .guard(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(limits::HANDSHAKE_TIME_MAX)
        .map(move |(peer, connection), point| {
            door.through(&point);
            (peer, StreamMuxerBox::new(connection))
        });
    let mut settings = quic::Config::new(identity);
    settings.handshake_timeout = limits::HANDSHAKE_TIME_MAX;
    settings.max_concurrent_stream_limit = 4 * limits::STREAMS_PER_CONNECTION_MAX as u32;
    settings.max_stream_data = 1024 * 1024;
    settings.max_connection_data = 4 * 1024 * 1024;
    let quic = doors.quic.guard(quic::tokio::Transport::new(settings)).map(|entered, _| {
        let (peer, connection) = entered.into_inner();
        (peer, StreamMuxerBox::new(connection))
    });
    Ok(tcp.boxed().or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

/// Those that agree on keys are bounded by the doors.
fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_outgoing(Some(limits::CONNECTIONS_OUTGOING_MAX))
        .with_max_established_incoming(Some(limits::CONNECTIONS_INCOMING_MAX))
        .with_max_established_outgoing(Some(limits::CONNECTIONS_OUTGOING_MAX))
        .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER_MAX))
}

/// Listens on every address. Where a port is left open, QUIC takes the same number as TCP if it can.
pub(super) async fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[Multiaddr]) -> Result<(), NodeError> {
    let (quic, tcp): (Vec<_>, Vec<_>) = addresses.iter().cloned().partition(|a| a.iter().any(|part| part == Part::QuicV1));
    for address in &tcp {
        ensure_free(address).map_err(|error| NodeError::Listen { address: address.clone(), reason: error.to_string() })?;
    }
    let mut port = None;
    for address in tcp {
        let listening = listen_on(swarm, address).await?;
        port = port.or_else(|| listening.iter().find_map(|part| if let Part::Tcp(port) = part { Some(port) } else { None }));
    }
    for address in quic {
        let same: Multiaddr =
            address.iter().map(|part| if part == Part::Udp(0) { Part::Udp(port.unwrap_or(0)) } else { part }).collect();
        let wanted_elsewhere = same != address;
        match listen_on(swarm, same).await {
            Err(_) if wanted_elsewhere => listen_on(swarm, address).await.map(drop)?,
            outcome => outcome.map(drop)?,
        }
    }
    // Where every interface is listened on, their addresses are known one by one, all but at once.
    while let Some(event) = swarm.select_next_some().now_or_never() {
        turn_away(swarm, &event);
    }
    Ok(())
}

/// Whoever connects before the node runs is turned away and tries again.
fn turn_away(swarm: &mut Swarm<Behaviour>, event: &SwarmEvent<BehaviourEvent>) {
    if let SwarmEvent::ConnectionEstablished { connection_id, .. } = event {
        swarm.close_connection(*connection_id);
    }
}

/// The transport lets several programs listen on one port, which then share its connections at random: a second
/// coordinator started by mistake would take half of the fleet.
fn ensure_free(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Part::Ip4(ip)) => ip.into(),
        Some(Part::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Part::Tcp(port)) if port != 0 => std::net::TcpListener::bind::<(std::net::IpAddr, u16)>((ip, port)).map(drop),
        _ => Ok(()),
    }
}

async fn listen_on(swarm: &mut Swarm<Behaviour>, address: Multiaddr) -> Result<Multiaddr, NodeError> {
    let failed = |reason: String| NodeError::Listen { address: address.clone(), reason };
    let listener = swarm.listen_on(address.clone()).map_err(|error| failed(in_words(&error)))?;
    let begun = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => return Ok(address),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(reason.err().map_or_else(|| "it closed at once".to_owned(), |error| error.to_string()));
                }
                SwarmEvent::ListenerError { listener_id, error } if listener_id == listener => return Err(error.to_string()),
                event => turn_away(swarm, &event),
            }
        }
    };
    match timeout(LISTEN_TIME_MAX, begun).await {
        Ok(outcome) => outcome.map_err(failed),
        Err(_) => Err(failed("it did not begin in time".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_of_tcp_that_somebody_has_is_taken() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("it has one").port();
        let free = |text: String| ensure_free(&text.parse().expect("an address")).is_ok();
        assert!(!free(format!("/ip4/127.0.0.1/tcp/{port}")));
        assert!(free(format!("/ip4/127.0.0.1/udp/{port}")) && free("/ip4/127.0.0.1/tcp/0".into()) && free("/memory/7".into()));
        drop(taken);
        assert!(free(format!("/ip4/127.0.0.1/tcp/{port}")));
    }
}
