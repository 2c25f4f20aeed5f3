//! Finding a coordinator on the subnet, when none could be reached otherwise.
//!
//! What is heard by multicast is a hint from anybody: an address is dialled, and the handshake and admission show
//! whether a member answers. A coordinator only answers; nobody dials any more once a coordinator is connected.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId, mdns};
use tokio::time::Instant;

use crate::node::Running;

/// Peers whose addresses are kept: a subnet has some hundred machines, few of which listen.
const FOUND_MAX: usize = 256;
/// Addresses kept of one peer.
const ADDRESSES_MAX: usize = 8;
/// Peers dialled in one look around.
const DIALS_MAX: usize = 4;
/// A peer that was tried is left alone for this long.
const AGAIN: Duration = Duration::from_secs(600);

/// What was heard.
#[derive(Default)]
pub(crate) struct Discovery {
    found: BTreeMap<PeerId, Found>,
}

#[derive(Default)]
struct Found {
    addresses: Vec<Multiaddr>,
    tried: Option<Instant>,
}

impl Discovery {
    pub(crate) fn heard(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(list) => {
                for (peer, address) in list {
                    if !self.found.contains_key(&peer) && self.found.len() >= FOUND_MAX {
                        continue;
                    }
                    let found = self.found.entry(peer).or_default();
                    if found.addresses.len() < ADDRESSES_MAX && !found.addresses.contains(&address) {
                        found.addresses.push(address);
                    }
                }
            }
            mdns::Event::Expired(list) => {
                for (peer, address) in list {
                    if let Some(found) = self.found.get_mut(&peer) {
                        found.addresses.retain(|other| *other != address);
                        if found.addresses.is_empty() {
                            self.found.remove(&peer);
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn addresses_of(&self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        self.found.get(peer).map(|found| found.addresses.clone())
    }

    #[cfg(test)]
    pub(crate) fn was_tried(&self, peer: &PeerId) -> bool {
        self.found.get(peer).is_some_and(|found| found.tried.is_some())
    }

    /// Peers that are worth a dial now; they count as tried.
    fn take_candidates(&mut self, now: Instant, connected: impl Fn(&PeerId) -> bool) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let untried = self
            .found
            .iter_mut()
            .filter(|(peer, found)| found.tried.is_none_or(|tried| now.duration_since(tried) >= AGAIN) && !connected(peer));
        let chosen = untried.take(DIALS_MAX).map(|(peer, found)| {
            found.tried = Some(now);
            (*peer, found.addresses.clone())
        });
        chosen.collect()
    }
}

impl Running {
    /// Dials some of those that were found, while no coordinator is connected.
    pub(crate) fn look_around(&mut self) {
        if self.discovery.found.is_empty() || self.membership.is_coordinator() || self.connections.has_coordinator() {
            return;
        }
        let connections = &self.connections;
        let candidates = self.discovery.take_candidates(Instant::now(), |peer| !connections.ids_of(peer).is_empty());
        for (peer, addresses) in candidates {
            if let Err(error) = self.dial(peer, addresses) {
                tracing::debug!(%peer, %error, "a peer that was found cannot be dialled");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(discovery: &mut Discovery, peers: &[PeerId]) {
        let list = peers.iter().map(|peer| (*peer, "/ip4/10.0.0.1/tcp/7070".parse().expect("an address"))).collect();
        discovery.heard(mdns::Event::Discovered(list));
    }

    #[test]
    fn each_is_tried_once_a_few_at_a_time_and_again_much_later() {
        let (mut discovery, start) = (Discovery::default(), Instant::now());
        let peers: Vec<_> = (0..DIALS_MAX + 1).map(|_| PeerId::random()).collect();
        heard(&mut discovery, &peers);
        assert_eq!(discovery.take_candidates(start, |_| false).len(), DIALS_MAX);
        assert_eq!(discovery.take_candidates(start, |_| false).len(), 1);
        assert!(discovery.take_candidates(start + AGAIN / 2, |_| false).is_empty());
        assert!(discovery.take_candidates(start + AGAIN, |_| true).is_empty(), "they are connected");
        assert_eq!(discovery.take_candidates(start + AGAIN, |_| false).len(), DIALS_MAX);
    }

    #[test]
    fn a_subnet_full_of_noise_is_bounded_and_what_expires_is_forgotten() {
        let mut discovery = Discovery::default();
        let peers: Vec<_> = (0..2 * FOUND_MAX).map(|_| PeerId::random()).collect();
        heard(&mut discovery, &peers);
        assert_eq!(discovery.found.len(), FOUND_MAX);
        for port in 0..100 {
            let address = format!("/ip4/10.0.0.1/tcp/{port}").parse().expect("an address");
            discovery.heard(mdns::Event::Discovered(vec![(peers[0], address)]));
        }
        let addresses = discovery.addresses_of(&peers[0]).expect("it was heard");
        assert_eq!(addresses.len(), ADDRESSES_MAX);
        discovery.heard(mdns::Event::Expired(addresses.into_iter().map(|address| (peers[0], address)).collect()));
        assert_eq!(discovery.addresses_of(&peers[0]), None);
    }

    #[test]
    fn one_that_is_known_may_have_more_addresses_also_when_no_more_peers_are_taken() {
        let mut discovery = Discovery::default();
        let peers: Vec<_> = (0..FOUND_MAX).map(|_| PeerId::random()).collect();
        heard(&mut discovery, &peers);
        let other: Multiaddr = "/ip4/10.0.0.2/tcp/7070".parse().expect("an address");
        let discovered = |peer| mdns::Event::Discovered(vec![(peer, other.clone())]);
        discovery.heard(discovered(peers[0]));
        discovery.heard(discovered(peers[0]));
        assert_eq!(discovery.addresses_of(&peers[0]).map(|addresses| addresses.len()), Some(2), "each once");
        let late = PeerId::random();
        discovery.heard(discovered(late));
        assert_eq!(discovery.addresses_of(&late), None);
        discovery.heard(mdns::Event::Expired(vec![(peers[0], other.clone()), (late, other)]));
        let left: Multiaddr = "/ip4/10.0.0.1/tcp/7070".parse().expect("an address");
        assert_eq!(discovery.addresses_of(&peers[0]), Some(vec![left]), "the other one is still there");
    }

    #[tokio::test]
    async fn an_agent_dials_those_that_it_found_while_no_coordinator_is_connected() {
        use lull_shared::identity::Role;

        use crate::lone::Lone;
        let tried = async |role, connected: Option<Role>, known: bool| {
            let mut lone = Lone::new(role).await;
            let peer = PeerId::random();
            heard(&mut lone.node.discovery, &[peer]);
            if let Some(role) = connected {
                lone.admitted(PeerId::random(), role, true);
            }
            if known {
                lone.connected(peer, false);
            }
            lone.node.look_around();
            lone.node.discovery.was_tried(&peer)
        };
        assert!(tried(Role::Agent, None, false).await);
        assert!(tried(Role::Agent, Some(Role::Agent), false).await);
        assert!(!tried(Role::Agent, Some(Role::Coordinator), false).await, "there is one");
        assert!(!tried(Role::Agent, None, true).await, "it is connected");
        assert!(!tried(Role::Coordinator, None, false).await, "coordinators are found");
    }
}
