//! Wake-on-LAN: the packet that wakes a neighbour, and by which cards neighbours can wake this machine. EDGE.
//!
//! A machine that sleeps hears nothing but a frame with its card's own pattern, and that only from its own subnet: so the
//! coordinator asks an agent there. Whoever asks can have nothing else sent, and nowhere else, than this packet to a subnet
//! that this machine is in.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use lull_shared::{
    limits::CARDS_MAX,
    resources::{Card, Mac, Subnet},
};
use tokio::net::UdpSocket;

/// The port that nobody listens on and that everybody sends this to.
const DISCARD: u16 = 9;
/// Six times all ones, and sixteen times the card's address.
const PACKET_BYTES: usize = 6 + 16 * 6;

/// Sends a packet for each card, to all machines in the card's subnet.
pub(crate) async fn wake(cards: Vec<Card>) {
    let own: Vec<Subnet> = self::cards().into_iter().map(|card| card.subnet).collect();
    for card in cards {
        if !own.contains(&card.subnet) {
            tracing::debug!(subnet = %card.subnet, "a machine in another subnet cannot be woken from here");
            continue;
        }
        match send(card.mac, (card.subnet.broadcast(), DISCARD).into()).await {
            Ok(()) => tracing::info!(card = %card.mac, subnet = %card.subnet, "a sleeping machine is told to wake up"),
            Err(error) => tracing::warn!(card = %card.mac, %error, "a sleeping machine could not be told to wake up"),
        }
    }
}

async fn send(mac: Mac, to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.set_broadcast(true)?;
    socket.send_to(&packet(mac), to).await.map(drop)
}

fn packet(mac: Mac) -> [u8; PACKET_BYTES] {
    let mut packet = [0xff; PACKET_BYTES];
    packet[6..].chunks_exact_mut(6).for_each(|part| part.copy_from_slice(&mac.0));
    packet
}

/// This machine's cards, each with an IPv4 subnet that it is in. None where the operating system does not say.
pub(crate) fn cards() -> Vec<Card> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let cards = interfaces.filter(|interface| !interface.is_loopback() && !interface.is_p2p).filter_map(|interface| {
        let if_addrs::IfAddr::V4(address) = &interface.addr else { return None };
        Some(Card { mac: sys::mac_of(&interface)?, subnet: Subnet::of(address.ip, address.prefixlen) })
    });
    cards.take(CARDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_packet_is_six_ones_and_sixteen_times_the_card() {
        let sleeper = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let mac: Mac = "00:1b:44:11:3a:b7".parse().expect("an address");
        send(mac, sleeper.local_addr().expect("an address")).await.expect("sent");
        let mut heard = [0; 256];
        let bytes = tokio::time::timeout(Duration::from_secs(30), sleeper.recv(&mut heard)).await.expect("in time");
        let heard = &heard[..bytes.expect("received")];
        assert_eq!((heard.len(), &heard[..6]), (102, &[0xff; 6][..]));
        assert!(heard[6..].chunks(6).all(|part| part == [0x00, 0x1b, 0x44, 0x11, 0x3a, 0xb7]), "{heard:x?}");
    }

    #[test]
    fn a_machine_names_cards_that_are_its_own() {
        let cards = cards();
        assert!(cards.len() <= CARDS_MAX && cards.iter().all(|card| card.mac != Mac([0; 6])), "{cards:?}");
    }
}
