//! In which order coordinators are tried, and where each may be.

use libp2p::{Multiaddr, PeerId};

use crate::member::peer_of;

/// A coordinator with all addresses that are known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
}

/// One round over all coordinators: in the order in which they are named first, but the one that was just `left` last;
/// every address once. Addresses without a peer are of no use.
pub fn route(addresses: impl IntoIterator<Item = Multiaddr>, left: Option<PeerId>) -> Vec<Stop> {
    let mut stops: Vec<Stop> = Vec::new();
    for address in addresses {
        let Some(peer) = peer_of(&address) else { continue };
        match stops.iter_mut().find(|stop| stop.peer == peer) {
            Some(stop) if stop.addresses.contains(&address) => {}
            Some(stop) => stop.addresses.push(address),
            None => stops.push(Stop { peer, addresses: vec![address] }),
        }
    }
    stops.sort_by_key(|stop| Some(stop.peer) == left);
    stops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coordinator_is_one_stop_with_all_its_addresses_in_the_order_they_were_named() {
        let (north, south) = (PeerId::random(), PeerId::random());
        let address = |host: &str, peer: PeerId| -> Multiaddr { format!("/dns4/{host}/tcp/1/p2p/{peer}").parse().expect("one") };
        let without: Multiaddr = "/dns4/x/tcp/1".parse().expect("one");
        let named = [address("s", south), without, address("n1", north), address("s", south), address("n2", north)];
        let at_south = Stop { peer: south, addresses: vec![address("s", south)] };
        let at_north = Stop { peer: north, addresses: vec![address("n1", north), address("n2", north)] };
        assert_eq!(route(named.clone(), None), [at_south.clone(), at_north.clone()]);
        assert_eq!(route(named.clone(), Some(north)), [at_south.clone(), at_north.clone()]);
        assert_eq!(route(named, Some(south)), [at_north, at_south], "whoever was left may be frozen");
    }
}
