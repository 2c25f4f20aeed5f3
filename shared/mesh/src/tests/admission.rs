//! Who gets in, and who is thrown out.

use std::time::Duration;

use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol as Part};
use lull_shared::{
    id::{AgentId, Term},
    identity::{Authority, CertificateError, ClaimError, Edition, Issuer, Revocations, Role, Secret, Signed, sign},
    limits::{CONNECTIONS_PER_PEER_MAX, REVOCATIONS_BYTES_MAX},
    protocol::{Admission, EnrolmentRefusal, EnrolmentReply, EnrolmentRequest, Introduction},
    time::Timestamp,
};

use super::support::{Member, Network, RawPeer, drained, within};
use crate::{
    MeshError, NodeConfig, NodeEvent,
    peers::admission::now,
    streams::{
        frames::{read_frame, write_frame},
        opened::Protocol,
    },
};

#[tokio::test]
async fn two_members_connect_and_admit_each_other() {
    let network = Network::new(1);
    let (mut coordinator, mut agent) = (network.coordinator().await, network.agent(7).await);
    within("connecting", agent.connect_to(&coordinator)).await;
    coordinator.admitted(agent.peer()).await;
    agent.admitted(coordinator.peer()).await;
    let peers = coordinator.handle.peers().await;
    let [peer] = peers.as_slice() else { panic!("one connection, not {peers:?}") };
    assert_eq!((peer.direction.as_str(), peer.transport.as_str()), ("inbound", "tcp"));
    assert_eq!(peer.software.as_deref(), Some("lull-test 1"));
    assert_eq!(peer.certificate.as_ref().and_then(|certificate| certificate.agent), Some(AgentId(7)));
    agent.connect_to(&coordinator).await;
    assert_eq!(agent.handle.peers().await.len(), 1, "a connection that exists is used");
}

#[tokio::test]
async fn both_sides_hear_of_the_end() {
    let network = Network::new(1);
    let (mut coordinator, mut agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    coordinator.admitted(agent.peer()).await;
    coordinator.handle.disconnect(agent.peer()).await;
    coordinator.disconnected(agent.peer()).await;
    agent.disconnected(coordinator.peer()).await;
}

#[tokio::test]
async fn quic_listens_on_the_same_port_and_admits_too() {
    let network = Network::new(1);
    let listen: Vec<Multiaddr> =
        ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"].map(|text| text.parse().expect("an address")).into();
    let mut coordinator = Member::start(NodeConfig { listen, ..network.config(Role::Coordinator, None) }).await;
    let agent = network.agent(7).await;
    let addresses = coordinator.handle.listen_addresses().await;
    let port = |address: &Multiaddr| {
        address.iter().find_map(|part| match part {
            Part::Tcp(port) | Part::Udp(port) => Some(port),
            _ => None,
        })
    };
    assert_eq!(port(&addresses[0]), port(&addresses[1]), "{addresses:?}");
    let quic = addresses.iter().find(|address| address.iter().any(|part| part == Part::QuicV1)).expect("it listens on QUIC");
    assert_eq!(agent.handle.connect(quic.clone()).await, Ok(coordinator.peer()));
    coordinator.admitted(agent.peer()).await;
    assert_eq!(coordinator.handle.peers().await[0].transport, "quic");
}

#[tokio::test]
async fn a_member_of_another_network_cannot_connect() {
    let (coordinator, foreigner) = (Network::new(1).coordinator().await, Network::new(2).agent(7).await);
    let outcome = foreigner.handle.connect(coordinator.address().await).await;
    assert!(matches!(outcome, Err(MeshError::Unreachable { .. })), "{outcome:?}");
    assert!(coordinator.handle.peers().await.is_empty());
}

#[tokio::test]
async fn over_quic_a_member_of_another_network_is_refused_at_admission() {
    let (network, other) = (Network::new(1), Network::new(2));
    let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")];
    let coordinator = Member::start(NodeConfig { listen, ..network.config(Role::Coordinator, None) }).await;
    let outcome = other.agent(7).await.handle.connect(coordinator.address().await).await;
    let signature = CertificateError::Claim(ClaimError::Signature);
    let untrusted = MeshError::Untrusted { peer: coordinator.peer(), source: signature.clone() };
    let refused = MeshError::Refused { peer: coordinator.peer(), reason: signature.to_string() };
    assert!([Err(untrusted), Err(refused)].contains(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let network = Network::new(1);
    let coordinator = network.coordinator().await;
    let forger = Network { issuer: Issuer { network: network.issuer.network, ..Network::new(1).issuer } };
    let authority = Authority::of(&network.issuer.authority);
    let agent = Member::start(NodeConfig { authority, ..forger.config(Role::Agent, Some(7)) }).await;
    let outcome = agent.handle.connect(coordinator.address().await).await;
    // Its own node does not even show such a certificate.
    assert_eq!(outcome, Err(MeshError::Stranger { peer: coordinator.peer() }));
}

#[tokio::test]
async fn a_peer_that_shows_what_is_not_its_own_is_refused_with_the_reason() {
    let network = Network::new(1);
    let coordinator = network.coordinator().await;
    let forger = Network { issuer: Issuer { network: network.issuer.network, ..Network::new(1).issuer } };
    let own = Keypair::generate_ed25519();
    let peer = own.public().to_peer_id();
    let another = Keypair::generate_ed25519().public().to_peer_id();
    for (certificate, why) in [
        (network.certificate(&another, Role::Agent, Some(7)), CertificateError::Peer),
        (network.certificate(&coordinator.peer(), Role::Coordinator, None), CertificateError::Peer),
        (forger.certificate(&peer, Role::Coordinator, None), CertificateError::Claim(ClaimError::Signature)),
        (Network::new(2).certificate(&peer, Role::Agent, Some(7)), CertificateError::Claim(ClaimError::Signature)),
    ] {
        let liar = RawPeer::connect(network.stranger_config(own.clone()), coordinator.address().await).await;
        let mut stream = liar.open(Protocol::Admission).await;
        let introduction = Introduction {
            certificate: Some(certificate),
            software: "liar".to_owned(),
            revocations: Edition::default(),
            now: now(),
        };
        write_frame(&mut stream, &introduction).await.expect("it is read");
        let _: Introduction = within("its introduction", read_frame(&mut stream, 1 << 20)).await.expect("it is shown");
        let answer = within("an answer", read_frame(&mut stream, 1 << 20)).await.expect("it is told");
        assert!(matches!(&answer, Admission::Refused { reason } if reason.contains(&why.to_string())), "{answer:?}, not {why}");
    }
    assert!(coordinator.handle.peers().await.iter().all(|peer| peer.certificate.is_none()), "nobody got in");
}

#[tokio::test]
async fn a_wrong_or_own_or_unfinished_address_is_explained() {
    let network = Network::new(1);
    let (coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    let own = agent.handle.connect(agent.address().await).await;
    assert!(matches!(own, Err(MeshError::Address { .. })), "{own:?}");
    let mut unfinished = coordinator.address().await;
    unfinished.pop();
    let without = agent.handle.connect(unfinished.clone()).await;
    assert!(without.expect_err("no peer id").to_string().contains("/p2p/PEER"));
    let impostor = agent.handle.connect(unfinished.with(Part::P2p(Keypair::generate_ed25519().public().to_peer_id()))).await;
    let words = impostor.expect_err("somebody else answers").to_string();
    assert!(words.contains(&coordinator.peer().to_string()), "{words}");
}

#[tokio::test]
async fn names_are_looked_up() {
    let network = Network::new(1);
    let (coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    let named: Multiaddr = coordinator
        .address()
        .await
        .iter()
        .map(|part| if let Part::Ip4(_) = part { Part::Dns4("localhost".into()) } else { part })
        .collect();
    assert_eq!(agent.handle.connect(named).await, Ok(coordinator.peer()));
}

#[tokio::test]
async fn a_stranger_is_refused_work_and_blobs_and_cut() {
    let network = Network::new(1);
    let mut coordinator = network.coordinator().await;
    let blob = coordinator.blobs.put(vec![1; 10]);
    let mut stranger = RawPeer::connect(network.stranger_config(Keypair::generate_ed25519()), coordinator.address().await).await;
    for protocol in [Protocol::Work, Protocol::Blob, Protocol::Delivery] {
        let mut stream = stranger.open(protocol).await;
        let request = lull_shared::protocol::BlobRequest { digest: blob.digest, outline: true };
        // It may be refused before it has asked.
        let _ = crate::streams::frames::write_frame(&mut stream, &request).await;
        assert!(drained(stream).await.is_empty(), "{protocol:?}");
    }
    assert!(!stranger.is_cut(), "there is time left to be admitted");
    stranger.cut().await;
    assert!(coordinator.handle.peers().await.is_empty());
    coordinator.handle.disconnect(coordinator.peer()).await;
    assert!(coordinator.events.try_recv().is_err(), "strangers are no event");
}

#[tokio::test]
async fn an_expired_certificate_makes_a_stranger_until_a_new_one_is_shown() {
    let network = Network::new(1);
    let mut coordinator = network.coordinator().await;
    let config = network.config(Role::Agent, Some(7));
    let peer = config.identity.public().to_peer_id();
    let expired = network.issuer.issue(&peer, Role::Agent, Some(AgentId(7)), "desk", Timestamp::from_millis(0));
    let agent = Member::start(NodeConfig { certificate: Some(expired), ..config }).await;
    let outcome = agent.handle.connect(coordinator.address().await).await;
    assert_eq!(outcome, Err(MeshError::Stranger { peer: coordinator.peer() }));
    agent.handle.set_certificate(network.certificate(&peer, Role::Agent, Some(7))).await;
    coordinator.admitted(peer).await;
    agent.connect_to(&coordinator).await;
    assert_eq!(coordinator.handle.peers().await.len(), 1, "on the same connection");
}

#[tokio::test]
async fn a_certificate_that_expires_while_connected_ends_the_connection_unless_renewed() {
    let mut network = Network::new(1);
    network.issuer.life = Duration::from_secs(2);
    let config = network.config(Role::Agent, Some(7));
    let peer = config.identity.public().to_peer_id();
    let (config2, short) = (network.config(Role::Agent, Some(8)), config.certificate.clone());
    network.issuer.life = Duration::from_secs(3600);
    let mut coordinator = network.coordinator().await;
    let renewing = Member::start(NodeConfig { certificate: short, ..config }).await;
    let lapsing = Member::start(config2).await;
    renewing.connect_to(&coordinator).await;
    lapsing.connect_to(&coordinator).await;
    renewing.handle.set_certificate(network.certificate(&peer, Role::Agent, Some(7))).await;
    coordinator.disconnected(lapsing.peer()).await;
    let connected: Vec<_> = coordinator.handle.peers().await.into_iter().map(|info| info.peer).collect();
    assert_eq!(connected, [peer.to_string()]);
}

fn revocations(network: &Network, counter: u64, peers: &[&Member]) -> Signed {
    edition(network, Edition { term: Term(4), counter, draw: 0 }, peers)
}

fn edition(network: &Network, edition: Edition, peers: &[&Member]) -> Signed {
    let peers = peers.iter().map(|member| member.peer().to_bytes()).collect();
    sign(&network.issuer.authority, &Revocations { edition, peers })
}

#[tokio::test]
async fn of_two_lists_that_of_the_later_term_holds_and_within_a_term_the_one_that_was_counted_later() {
    let network = Network::new(1);
    let (coordinator, outcast) = (network.coordinator().await, network.agent(7).await);
    let list = |term, counter, draw, peers: &[&Member]| edition(&network, Edition { term: Term(term), counter, draw }, peers);
    let newest = list(5, 2, 1, &[&outcast]);
    assert_eq!(coordinator.handle.publish_revocations(newest.clone()).await, Some(newest.clone()));
    for older in [list(4, 9, 9, &[]), list(5, 1, 9, &[]), list(5, 2, 0, &[])] {
        assert_eq!(coordinator.handle.publish_revocations(older).await, Some(newest.clone()), "what holds is said");
    }
    assert_eq!(coordinator.handle.connect(outcast.address().await).await, Err(MeshError::Revoked { peer: outcast.peer() }));
    let pardon = list(6, 0, 0, &[]);
    assert_eq!(coordinator.handle.publish_revocations(pardon.clone()).await, Some(pardon));
    outcast.connect_to(&coordinator).await;
}

#[tokio::test]
async fn a_list_of_revocations_beyond_all_reason_is_not_believed_and_one_goes_with_the_next() {
    let network = Network::new(1);
    let (coordinator, outcast) = (network.coordinator().await, network.agent(7).await);
    let first = revocations(&network, 1, &[&outcast]);
    assert_eq!(coordinator.handle.publish_revocations(first.clone()).await, Some(first.clone()));
    let endless = Revocations {
        edition: Edition { term: Term(4), counter: 2, draw: 0 },
        peers: vec![outcast.peer().to_bytes(); REVOCATIONS_BYTES_MAX / outcast.peer().to_bytes().len() + 1],
    };
    let endless = sign(&network.issuer.authority, &endless);
    assert_eq!(coordinator.handle.publish_revocations(endless).await, Some(first), "what held before holds");
    let next = revocations(&network, 3, &[]);
    assert_eq!(coordinator.handle.publish_revocations(next.clone()).await, Some(next));
    outcast.connect_to(&coordinator).await;
}

#[tokio::test]
async fn a_revoked_peer_is_cut_on_every_connection_and_whoever_heard_of_it_says_so() {
    let network = Network::new(1);
    let mut coordinator = network.coordinator().await;
    let (mut near, far, mut outcast) = (network.agent(1).await, network.agent(2).await, network.agent(3).await);
    near.connect_to(&coordinator).await;
    far.connect_to(&near).await;
    outcast.connect_to(&coordinator).await;
    outcast.connect_to(&near).await;
    outcast.connect_to(&far).await;
    let signed = revocations(&network, 1, &[&outcast]);
    coordinator.handle.publish_revocations(signed).await;
    for other in [coordinator.peer(), near.peer(), far.peer()] {
        outcast.disconnected(other).await;
    }
    coordinator.disconnected(outcast.peer()).await;
    near.disconnected(outcast.peer()).await;
    let known = Edition { term: Term(4), counter: 1, draw: 0 };
    let all_know = async |member: &Member, peers: usize| {
        let infos = member.handle.peers().await;
        infos.len() == peers && infos.iter().all(|info| info.revocations == known)
    };
    within("hearing who has heard", async {
        while !(all_know(&coordinator, 1).await && all_know(&near, 2).await) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_revoked_peer_is_cut_and_cannot_come_back_until_it_is_pardoned() {
    let network = Network::new(1);
    let (mut coordinator, mut agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    coordinator.admitted(agent.peer()).await;
    coordinator.handle.publish_revocations(revocations(&network, 2, &[&agent])).await;
    agent.disconnected(coordinator.peer()).await;
    coordinator.disconnected(agent.peer()).await;
    let again = agent.handle.connect(coordinator.address().await).await;
    assert_eq!(again, Err(MeshError::ThrownOut { peer: coordinator.peer() }), "it is told why");
    let token = EnrolmentRequest::Join { token: 1, secret: Secret::random(), name: "desk".to_owned() };
    let enrolled = agent.handle.enrol(coordinator.address().await, token).await;
    assert_eq!(enrolled, Err(MeshError::ThrownOut { peer: coordinator.peer() }));
    let back = coordinator.handle.connect(agent.address().await).await;
    assert_eq!(back, Err(MeshError::Revoked { peer: agent.peer() }));
    coordinator.handle.publish_revocations(revocations(&network, 1, &[])).await;
    assert!(coordinator.handle.connect(agent.address().await).await.is_err(), "an older list changes nothing");
    coordinator.handle.publish_revocations(revocations(&network, 3, &[])).await;
    agent.connect_to(&coordinator).await;
}

#[tokio::test]
async fn revocations_reach_those_who_are_connected_and_those_who_come_later() {
    let network = Network::new(1);
    let (coordinator, mut present, mut late) = (network.coordinator().await, network.agent(1).await, network.agent(2).await);
    let outcast = network.agent(3).await;
    present.connect_to(&coordinator).await;
    outcast.connect_to(&present).await;
    let signed = revocations(&network, 5, &[&outcast]);
    coordinator.handle.publish_revocations(signed.clone()).await;
    let told = |event| if let NodeEvent::Revoked { signed } = event { Some(signed) } else { None };
    assert_eq!(present.event("the revocations", told).await, signed);
    assert!(present.handle.connect(outcast.address().await).await.is_err());
    late.connect_to(&present).await;
    assert_eq!(late.event("the revocations", told).await, signed);
}

#[tokio::test]
async fn revocations_that_the_authority_did_not_sign_are_ignored() {
    let (network, other) = (Network::new(1), Network::new(1));
    let (coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    coordinator.handle.publish_revocations(revocations(&other, 9, &[&agent])).await;
    assert_eq!(coordinator.handle.peers().await.len(), 1);
    coordinator.handle.disconnect(agent.peer()).await;
    within("reconnecting", async { while agent.handle.connect(coordinator.address().await).await.is_err() {} }).await;
}

#[tokio::test]
async fn members_revoked_before_the_start_do_not_get_in() {
    let network = Network::new(1);
    let agent = network.agent(7).await;
    let config = NodeConfig { revoked: [agent.peer()].into(), ..network.config(Role::Coordinator, None) };
    let coordinator = Member::start(config).await;
    let outcome = agent.handle.connect(coordinator.address().await).await;
    assert_eq!(outcome, Err(MeshError::ThrownOut { peer: coordinator.peer() }));
    let config = NodeConfig { revoked: [agent.peer()].into(), ..network.config(Role::Agent, Some(8)) };
    let neighbour = Member::start(config).await;
    let outcome = agent.handle.connect(neighbour.address().await).await;
    assert!(matches!(outcome, Err(MeshError::Lost { .. } | MeshError::Unreachable { .. })), "agents say nothing: {outcome:?}");
}

#[tokio::test]
async fn whoever_was_thrown_out_can_only_read_that_it_was() {
    let network = Network::new(1);
    let identity = Keypair::generate_ed25519();
    let peer = identity.public().to_peer_id();
    let config = NodeConfig { revoked: [peer].into(), ..network.config(Role::Coordinator, None) };
    let coordinator = Member::start(config).await;
    let certificate = network.certificate(&peer, Role::Agent, Some(7));
    // However it comes: with its certificate or as a stranger.
    for certificate in [Some(certificate), None] {
        let outcast = RawPeer::connect(network.stranger_config(identity.clone()), coordinator.address().await).await;
        let introduction = |certificate| Introduction {
            certificate,
            software: "outcast".to_owned(),
            revocations: Edition::default(),
            now: now(),
        };
        let mut stream = outcast.open(Protocol::Admission).await;
        write_frame(&mut stream, &introduction(certificate.clone())).await.expect("it is read");
        let _: Introduction = within("its introduction", read_frame(&mut stream, 1 << 20)).await.expect("it is shown");
        let answer: Admission = within("an answer", read_frame(&mut stream, 1 << 20)).await.expect("it is told");
        let told = if certificate.is_some() { Admission::Revoked } else { Admission::Stranger };
        assert_eq!(answer, told);
        for closed in [Protocol::Work, Protocol::Blob, Protocol::Delivery] {
            let mut stream = outcast.open(closed).await;
            let nothing = within("the end", read_frame::<Admission>(&mut stream, 1 << 20)).await;
            assert!(nothing.is_err(), "{closed:?}");
        }
        let mut stream = outcast.open(Protocol::Enrolment).await;
        let request = EnrolmentRequest::Join { token: 1, secret: Secret::random(), name: "desk".to_owned() };
        write_frame(&mut stream, &request).await.expect("it is read");
        let reply: EnrolmentReply = within("a reply", read_frame(&mut stream, 1 << 20)).await.expect("it is told");
        assert_eq!(reply, EnrolmentReply::Refused(EnrolmentRefusal::Revoked), "and the process is not asked");
    }
    within("the end of its connections", async {
        while !coordinator.handle.peers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_one_that_was_thrown_out_takes_few_places_and_nobody_elses() {
    let network = Network::new(1);
    let identity = Keypair::generate_ed25519();
    let peer = identity.public().to_peer_id();
    let certificate = Some(network.certificate(&peer, Role::Agent, Some(7)));
    let config = NodeConfig { revoked: [peer].into(), ..network.config(Role::Coordinator, None) };
    let coordinator = Member::start(config).await;
    let address = coordinator.address().await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..4 * CONNECTIONS_PER_PEER_MAX {
        let config = NodeConfig { certificate: certificate.clone(), ..network.stranger_config(identity.clone()) };
        let address = address.clone();
        flood.spawn(async move {
            let node = Member::start(config).await;
            let mut told = 0;
            for _ in 0..3 {
                told += u32::from(matches!(node.handle.connect(address.clone()).await, Err(MeshError::ThrownOut { .. })));
            }
            told
        });
    }
    let mut told = 0;
    while let Some(one) = within("the flood", flood.join_next()).await {
        told += one.expect("it ends");
        let places = coordinator.handle.peers().await.iter().filter(|info| info.peer == peer.to_string()).count();
        assert!(places <= CONNECTIONS_PER_PEER_MAX as usize, "{places}");
        network.agent(8).await.connect_to(&coordinator).await;
    }
    assert!(told > 0, "some of it was told why");
}

#[tokio::test]
async fn a_node_that_is_stopped_says_goodbye_and_answers_so() {
    let network = Network::new(1);
    let (coordinator, mut agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    let (peer, handle) = (coordinator.peer(), coordinator.handle.clone());
    drop(coordinator);
    agent.disconnected(peer).await;
    within("the end", async {
        while handle.connect(agent.address().await).await != Err(MeshError::Stopped) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn listening_everywhere_is_told_in_concrete_addresses() {
    let network = Network::new(1);
    let listen = vec!["/ip4/0.0.0.0/tcp/0".parse().expect("an address")];
    let coordinator = Member::start(NodeConfig { listen, ..network.config(Role::Coordinator, None) }).await;
    let addresses = coordinator.handle.listen_addresses().await;
    let unspecified = Part::Ip4(std::net::Ipv4Addr::UNSPECIFIED);
    assert!(!addresses.is_empty() && addresses.iter().all(|address| address.iter().all(|part| part != unspecified)));
    let agent = network.agent(7).await;
    assert_eq!(agent.handle.connect(addresses[0].clone()).await, Ok(coordinator.peer()));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let network = Network::new(1);
    let coordinator = network.coordinator().await;
    let mut taken = coordinator.address().await;
    taken.pop();
    let config = NodeConfig { listen: vec![taken.clone()], ..network.config(Role::Coordinator, None) };
    let (blobs, shutdown) = (std::sync::Arc::new(super::support::Blobs::default()), Default::default());
    let error = crate::Node::start(config, blobs, shutdown).await.err().expect("somebody listens there");
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}
