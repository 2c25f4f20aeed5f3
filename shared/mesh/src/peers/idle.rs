//! Connections between agents: where agents listen, and which connections have served their purpose.
//!
//! A connection to a coordinator stays. One that was made to fetch a blob from an agent is closed when nothing has
//! moved on it for a while: each costs some 30 kB on both sides, and an agent is meant to be small.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol as Part, swarm::ConnectionId};
use lull_shared::{identity::Role, limits::PEER_ADDRESSES_MAX};
use tokio::time::{Duration, Instant};

use crate::node::Running;

/// Between two looks. What was idle at two of them in a row is closed.
const LOOK_EVERY: Duration = Duration::from_secs(20);

impl Running {
    /// A coordinator keeps where its agents listen, to name them to each other.
    pub(crate) fn learn_addresses(&self, id: ConnectionId, listening: Vec<Multiaddr>) {
        let Some(connection) = self.connections.get(id).filter(|_| self.membership.is_coordinator()) else { return };
        if self.membership.is_revoked(&connection.peer) {
            return;
        }
        self.exchange.note_addresses(connection.peer, dialable(listening, &connection.address));
    }

    /// Looks at connections that we made, from now on.
    pub(crate) fn watch_idle(&mut self, now: Instant) {
        if !self.membership.is_coordinator() {
            self.idle_due.get_or_insert(now + LOOK_EVERY);
        }
    }

    pub(crate) fn close_idle(&mut self, now: Instant) {
        for id in self.look_for_idle(now) {
            self.swarm.close_connection(id);
        }
    }

    /// The connections to close; sets the next look.
    fn look_for_idle(&mut self, now: Instant) -> Vec<ConnectionId> {
        let (mut ours, mut idle) = (0, Vec::new());
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let to_agent = connection.standing.certificate().is_some_and(|certificate| certificate.role == Role::Agent);
            if !connection.dialled || !to_agent {
                continue;
            }
            ours += 1;
            if connection.has_been_idle() {
                let peer: PeerId = connection.peer;
                tracing::debug!(%peer, "closing a connection that nothing moves on");
                idle.push(id);
            }
        }
        // One that is being dialled is seen when it is there.
        self.idle_due = (ours > 0).then(|| now + LOOK_EVERY);
        idle
    }
}

/// What others can dial of the addresses that a peer says it listens on: those where we see it first, and none of this
/// machine alone unless it is on this machine.
fn dialable(listening: Vec<Multiaddr>, seen_at: &Multiaddr) -> Vec<Multiaddr> {
    let seen = seen_at.iter().next();
    let local = seen.as_ref().is_some_and(is_loopback);
    let plain = |address: &Multiaddr| {
        let mut parts = address.iter();
        let ip = parts.next().is_some_and(|part| is_ip(&part) && (local || !is_loopback(&part)));
        ip && matches!(parts.next(), Some(Part::Tcp(port) | Part::Udp(port)) if port != 0)
    };
    let mut addresses: Vec<Multiaddr> = listening.into_iter().filter(plain).collect();
    addresses.sort_by_key(|address| address.iter().next() != seen);
    addresses.truncate(PEER_ADDRESSES_MAX);
    addresses
}

fn is_ip(part: &Part) -> bool {
    match part {
        Part::Ip4(ip) => !ip.is_unspecified(),
        // An address of a link means nothing without the name of the interface.
        Part::Ip6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
        _ => false,
    }
}

fn is_loopback(part: &Part) -> bool {
    match part {
        Part::Ip4(ip) => ip.is_loopback(),
        Part::Ip6(ip) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lone::Lone;

    #[tokio::test]
    async fn an_agent_closes_what_it_dialled_to_agents_when_nothing_moved_between_two_looks_and_keeps_all_else() {
        let mut lone = Lone::new(Role::Agent).await;
        let now = Instant::now();
        lone.node.watch_idle(now);
        assert_eq!(lone.node.idle_due, Some(now + LOOK_EVERY));
        let [idle, busy] = [(); 2].map(|()| lone.admitted(PeerId::random(), Role::Agent, true));
        lone.admitted(PeerId::random(), Role::Agent, false);
        lone.admitted(PeerId::random(), Role::Coordinator, true);
        lone.connected(PeerId::random(), true);
        assert_eq!(lone.node.look_for_idle(now), [], "nobody knows yet what moves");
        lone.connection(busy).traffic.blob_bytes_sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(lone.node.look_for_idle(now), [idle]);
        assert_eq!(lone.node.look_for_idle(now), [idle, busy]);
        assert_eq!(lone.node.idle_due, Some(now + LOOK_EVERY), "it looks again while there are such connections");
        let mut alone = Lone::new(Role::Agent).await;
        alone.node.watch_idle(now);
        assert_eq!(alone.node.look_for_idle(now), []);
        assert_eq!(alone.node.idle_due, None, "there is nothing to look at");
        let mut coordinator = Lone::new(Role::Coordinator).await;
        coordinator.node.watch_idle(now);
        assert_eq!(coordinator.node.idle_due, None, "a coordinator keeps its connections");
    }

    fn shown(listening: &[&str], seen_at: &str) -> Vec<String> {
        let parse = |text: &&str| text.parse().expect("an address");
        dialable(listening.iter().map(parse).collect(), &parse(&seen_at)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_peer_is_dialled_first_where_it_is_seen_and_never_at_its_own_loopback() {
        let listening = ["/ip4/127.0.0.1/tcp/7", "/ip4/172.17.0.1/tcp/7", "/ip4/10.0.0.5/tcp/7", "/ip4/0.0.0.0/tcp/7"];
        assert_eq!(shown(&listening, "/ip4/10.0.0.5/tcp/999"), ["/ip4/10.0.0.5/tcp/7", "/ip4/172.17.0.1/tcp/7"]);
        assert_eq!(shown(&listening, "/ip4/127.0.0.1/tcp/999")[0], "/ip4/127.0.0.1/tcp/7");
    }

    #[test]
    fn odd_addresses_are_left_out_and_many_are_cut() {
        let odd = ["/dns4/evil.example/tcp/7", "/ip6/fe80::1/tcp/7", "/ip4/10.0.0.5/tcp/0", "/memory/5", "/ip4/10.0.0.5"];
        assert!(shown(&odd, "/ip4/10.0.0.5/tcp/1").is_empty());
        let many: Vec<String> = (1..100).map(|port| format!("/ip4/10.0.0.5/tcp/{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(shown(&many, "/ip4/10.0.0.5/tcp/1").len(), PEER_ADDRESSES_MAX);
    }

    #[test]
    fn each_kind_of_address_is_named_or_not() {
        let here = "/ip4/127.0.0.1/tcp/999";
        let there = "/ip4/10.0.0.5/tcp/999";
        // An address, and whether it is named for a peer of this machine and for one elsewhere.
        let cases = [
            ("/ip4/10.0.0.5/tcp/7", true, true),
            ("/ip4/10.0.0.5/udp/7/quic-v1", true, true),
            ("/ip6/2001:db8::1/tcp/7", true, true),
            ("/ip4/127.0.0.1/tcp/7", true, false),
            ("/ip6/::1/tcp/7", true, false),
            ("/ip4/0.0.0.0/tcp/7", false, false),
            ("/ip6/::/tcp/7", false, false),
            ("/ip6/fe80::1/tcp/7", false, false),
            ("/ip4/10.0.0.5/tcp/0", false, false),
            ("/ip4/10.0.0.5/udp/0/quic-v1", false, false),
            ("/dns4/desk/tcp/7", false, false),
            ("/ip4/10.0.0.5", false, false),
        ];
        for (address, is_here, is_there) in cases {
            let named = [here, there].map(|seen_at| !shown(&[address], seen_at).is_empty());
            assert_eq!(named, [is_here, is_there], "{address}");
        }
    }
}
