//! Strangers that hold on to what they get, and members that must come in beside them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol as Part};
use lull_shared::identity::Role;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use super::support::{Member, Network, RawPeer, eventually, within};
use crate::NodeConfig;

/// Dials that a member may need to come in. An agent dials again after a quarter of a second.
const DIALS_MAX: usize = 4;
/// The first words of a handshake, after which its other side waits for a key.
const HALF: &[u8] = b"\x13/multistream/1.0.0\n\x07/noise\n";
/// Fewer bytes a second than any machine sends.
const TRICKLE: Duration = Duration::from_millis(300);

/// Connections that say these words and then nothing, opened anew when they are cut.
struct Siege {
    open: Arc<AtomicUsize>,
    _besiegers: JoinSet<()>,
}

impl Siege {
    async fn of(at: Multiaddr, count: usize, from: &[IpAddr], words: &'static [u8]) -> Self {
        let address = socket_address(&at);
        let (open, mut besiegers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for number in 0..count {
            let (from, open) = (from[number % from.len()], open.clone());
            besiegers.spawn(async move {
                loop {
                    let Ok(mut stream) = dial(from, address).await else { continue };
                    open.fetch_add(1, Ordering::Relaxed);
                    hold(&mut stream, words).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
        let siege = Self { open, _besiegers: besiegers };
        eventually("a siege", || siege.open.load(Ordering::Relaxed) >= count / 2).await;
        siege
    }
}

async fn dial(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// The first words at once, what is beyond them a byte at a time, until the other side hangs up.
async fn hold(stream: &mut TcpStream, words: &[u8]) {
    let (first, slow) = words.split_at(words.len().min(HALF.len()));
    if stream.write_all(first).await.is_err() {
        return;
    }
    let (mut read, mut write) = stream.split();
    let mut heard = [0; 1024];
    let trickle = async {
        for byte in slow {
            tokio::time::sleep(TRICKLE).await;
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    let hung_up = async { while read.read(&mut heard).await.is_ok_and(|read| read > 0) {} };
    tokio::select! {
        () = hung_up => {}
        () = trickle => {}
    }
}

fn socket_address(address: &Multiaddr) -> SocketAddr {
    let mut parts = address.iter();
    let Some(Part::Ip4(ip)) = parts.next() else { panic!("{address} is not of IPv4") };
    let Some(Part::Tcp(port)) = parts.next() else { panic!("{address} is not of TCP") };
    (ip, port).into()
}

fn loopback(numbers: std::ops::RangeInclusive<u8>) -> Vec<IpAddr> {
    // Only Linux lets every address of 127.0.0.0/8 be dialled from.
    let numbers = if cfg!(target_os = "linux") { numbers } else { 1..=1 };
    numbers.map(|number| IpAddr::from([127, 0, 0, number])).collect()
}

/// Three agents, which connect and are gone again.
async fn three_members(network: &Network, coordinator: &mut Member) -> Vec<Keypair> {
    let mut members = Vec::new();
    for number in 1..=3 {
        let identity = Keypair::generate_ed25519();
        let agent = Member::start(member(network, &identity, number)).await;
        agent.connect_to(coordinator).await;
        let peer = agent.peer();
        coordinator.admitted(peer).await;
        drop(agent);
        coordinator.disconnected(peer).await;
        members.push(identity);
    }
    members
}

fn member(network: &Network, identity: &Keypair, number: u64) -> NodeConfig {
    let certificate = network.certificate(&identity.public().to_peer_id(), Role::Agent, Some(number));
    NodeConfig { certificate: Some(certificate), ..network.stranger_config(identity.clone()) }
}

/// The three come back at once, each after a few dials.
async fn all_come_back(network: &Network, coordinator: &Member, members: &[Keypair]) {
    let address = coordinator.address().await;
    let back = members.iter().zip(1..).map(async |(identity, number)| {
        let agent = Member::start(member(network, identity, number)).await;
        let mut failed = Vec::new();
        while let Err(error) = agent.handle.connect(address.clone()).await {
            failed.push(error.to_string());
            assert!(failed.len() < DIALS_MAX, "agent {number} does not come in: {failed:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    within("coming back", futures::future::join_all(back)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_back_beside_silent_connections_of_their_own_address() {
    let network = Network::new(1);
    let mut coordinator = network.coordinator().await;
    let members = three_members(&network, &mut coordinator).await;
    let _siege = Siege::of(coordinator.address().await, 640, &loopback(1..=1), b"").await;
    all_come_back(&network, &coordinator, &members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_back_beside_half_handshakes_of_many_addresses() {
    let network = Network::new(1);
    let mut coordinator = network.coordinator().await;
    let members = three_members(&network, &mut coordinator).await;
    let slow = [HALF, &[0; 64]].concat().leak();
    let address = coordinator.address().await;
    let _siege = Siege::of(address.clone(), 320, &loopback(1..=40), HALF).await;
    let _trickle = Siege::of(address, 320, &loopback(1..=40), slow).await;
    all_come_back(&network, &coordinator, &members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_never_here_comes_in_beside_a_crowd_from_elsewhere() {
    let network = Network::new(1);
    let coordinator = network.coordinator().await;
    let _siege = Siege::of(coordinator.address().await, 640, &loopback(2..=2), b"").await;
    all_come_back(&network, &coordinator, &[Keypair::generate_ed25519()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_back_beside_strangers_that_have_their_keys_and_show_nothing() {
    let network = Network::new(1);
    let mut coordinator = network.coordinator().await;
    let members = three_members(&network, &mut coordinator).await;
    let address = coordinator.address().await;
    let mut crowd: JoinSet<RawPeer> = (0..=lull_shared::limits::STRANGERS_MAX)
        .map(|_| {
            let idle = NodeConfig { listen: Vec::new(), ..network.stranger_config(Keypair::generate_ed25519()) };
            RawPeer::connect(idle, address.clone())
        })
        .collect();
    // They are cut when their time is over, so all at once is most; those that are there hold their places.
    let mut there = Vec::new();
    while there.len() < lull_shared::limits::STRANGERS_MAX / 2 {
        there.push(within("a crowd", crowd.join_next()).await.expect("there are more").expect("it connects"));
    }
    all_come_back(&network, &coordinator, &members).await;
}
