//! Builds the swarm: transports, limits and the behaviours that come ready-made.

use std::time::Duration;

use libp2p::{
    PeerId, Swarm, Transport as _, allow_block_list,
    connection_limits::{self, ConnectionLimits},
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identify,
    identity::Keypair,
    mdns, noise, ping, quic,
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};

use super::{NodeConfig, NodeError, gate::Gated, gossip, streams};
use crate::{identity::NetworkId, limits, protocol::noise_prologue};

/// How often a silent connection is tried, and how long an answer may take. The work stream's heartbeats notice a
/// dead coordinator sooner; this is for all others.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one connection may be agreeing on at once.
const NEGOTIATING_MAX: usize = 2 * limits::STREAMS_PER_CONNECTION_MAX;

/// Everything a node's swarm does.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    limits: connection_limits::Behaviour,
    pub(super) gossip: Gated<gossip::Behaviour>,
    pub(super) streams: streams::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

pub(super) fn build(config: &NodeConfig) -> Result<Swarm<Behaviour>, NodeError> {
    let identity = &config.identity;
    let peer = identity.public().to_peer_id();
    let mut blocked = allow_block_list::Behaviour::default();
    for revoked in &config.revoked {
        blocked.block_peer(*revoked);
    }
    let mdns = match config.mdns {
        true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), peer).map_err(NodeError::Discovery)?),
        false => None,
    };
    let behaviour = Behaviour {
        blocked,
        limits: connection_limits::Behaviour::new(connection_limits()),
        gossip: Gated::new(gossip::behaviour(identity, config.reads_capacity)?),
        streams: streams::Behaviour::default(),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
        identify: identify::Behaviour::new(
            identify::Config::new("lull/1".to_owned(), identity.public())
                .with_agent_version(config.software.clone())
                .with_cache_size(0),
        ),
        mdns: mdns.into(),
    };
    let settings = swarm::Config::with_tokio_executor().with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
    Ok(Swarm::new(transport(identity, config.network)?, behaviour, peer, settings))
}

fn transport(identity: &Keypair, network: NetworkId) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NodeError> {
    let noise = noise::Config::new(identity).map_err(NodeError::Identity)?.with_prologue(noise_prologue(network));
    let mut yamux = yamux::Config::default();
    // Each stream may buffer 256 kB of what nobody reads: theirs, ours, and those of gossip, ping and identify.
    yamux.set_max_num_streams(4 * limits::STREAMS_PER_CONNECTION_MAX);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(limits::HANDSHAKE_TIME_MAX);
    let mut settings = quic::Config::new(identity);
    settings.handshake_timeout = limits::HANDSHAKE_TIME_MAX;
    settings.max_concurrent_stream_limit = 4 * limits::STREAMS_PER_CONNECTION_MAX as u32;
    settings.max_stream_data = 1024 * 1024;
    settings.max_connection_data = 4 * 1024 * 1024;
    let quic = quic::tokio::Transport::new(settings).map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    Ok(tcp.boxed().or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

fn connection_limits() -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits::STRANGERS_MAX as u32))
        .with_max_pending_outgoing(Some(limits::CONNECTIONS_OUTGOING_MAX))
        .with_max_established_incoming(Some(limits::CONNECTIONS_INCOMING_MAX))
        .with_max_established_outgoing(Some(limits::CONNECTIONS_OUTGOING_MAX))
        .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER_MAX))
}
