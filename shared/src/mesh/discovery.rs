//! Finding a coordinator on the subnet, when none could be reached otherwise.
//!
//! What is heard by multicast is a hint from anybody: an address is dialled, and the handshake and admission show
//! whether a member answers. A coordinator only answers; nobody dials any more once a coordinator is connected.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId, mdns};
use tokio::time::Instant;

use super::node::Running;

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
pub(super) struct Discovery {
    found: BTreeMap<PeerId, Found>,
}

#[derive(Default)]
struct Found {
    addresses: Vec<Multiaddr>,
    tried: Option<Instant>,
}

impl Discovery {
    pub(super) fn heard(&mut self, event: mdns::Event) {
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

    pub(super) fn addresses_of(&self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        self.found.get(peer).map(|found| found.addresses.clone())
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
    pub(super) fn look_around(&mut self) {
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
