//! How strangers become members.

use lull_shared::{
    id::AgentId,
    identity::{Role, Secret},
    limits::ENROLMENTS_PER_MINUTE_MAX,
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
};

use super::support::{Member, Network};
use crate::{MeshError, NodeEvent};

fn request() -> EnrolmentRequest {
    EnrolmentRequest::Join { token: 4, secret: Secret([9; 16]), name: "desk-17".to_owned() }
}

/// Answers the next request for enrolment with a certificate.
async fn enrol_next(network: &Network, coordinator: &mut Member) {
    let asked = |event| match event {
        NodeEvent::Enrolment { peer, request, reply } => Some((peer, request, reply)),
        _ => None,
    };
    let (peer, asked, reply) = coordinator.event("a request", asked).await;
    assert_eq!(asked, request());
    let certificate = network.certificate(&peer, Role::Agent, Some(7));
    let enrolled =
        EnrolmentReply::Enrolled { agent: AgentId(7), name: "desk-17".to_owned(), certificate, coordinators: Vec::new() };
    reply.send(enrolled).expect("the node waits for the reply");
}

#[tokio::test]
async fn a_stranger_enrols_and_is_admitted_with_what_it_got() {
    let network = Network::new(1);
    let (mut coordinator, stranger) = (network.coordinator().await, network.stranger().await);
    let address = coordinator.address().await;
    let refused = stranger.handle.connect(address.clone()).await;
    assert_eq!(refused, Err(MeshError::Stranger { peer: coordinator.peer() }));
    let (reply, ()) = tokio::join!(stranger.handle.enrol(address, request()), enrol_next(&network, &mut coordinator));
    let Ok(EnrolmentReply::Enrolled { certificate, agent: AgentId(7), .. }) = reply else { panic!("not {reply:?}") };
    stranger.handle.set_certificate(certificate).await;
    stranger.connect_to(&coordinator).await;
    coordinator.admitted(stranger.peer()).await;
    assert_eq!(coordinator.handle.peers().await.len(), 1, "on the same connection");
    stranger.handle.open_work(coordinator.peer()).await.expect("a member works");
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_refused_as_unavailable() {
    let network = Network::new(1);
    let (mut coordinator, stranger) = (network.coordinator().await, network.stranger().await);
    let address = coordinator.address().await;
    let dropped = coordinator.event("a request", |event| matches!(event, NodeEvent::Enrolment { .. }).then_some(()));
    let (reply, ()) = tokio::join!(stranger.handle.enrol(address, request()), dropped);
    assert_eq!(reply, Ok(EnrolmentReply::Refused(EnrolmentRefusal::Unavailable)));
}

#[tokio::test]
async fn a_secret_is_only_told_to_a_coordinator() {
    let network = Network::new(1);
    let (mut agent, stranger) = (network.agent(7).await, network.stranger().await);
    let outcome = stranger.handle.enrol(agent.address().await, request()).await;
    assert_eq!(outcome, Err(MeshError::NoCoordinator { peer: agent.peer() }));
    let (other, impostor) = (network.stranger().await, network.stranger().await);
    let outcome = other.handle.enrol(impostor.address().await, request()).await;
    assert_eq!(outcome, Err(MeshError::NoCertificate { peer: impostor.peer() }));
    agent.handle.disconnect(stranger.peer()).await;
    assert!(!matches!(agent.events.try_recv(), Ok(NodeEvent::Enrolment { .. })));
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_so() {
    let network = Network::new(1);
    let (mut coordinator, stranger) = (network.coordinator().await, network.stranger().await);
    let address = coordinator.address().await;
    for _ in 0..ENROLMENTS_PER_MINUTE_MAX {
        let (reply, ()) = tokio::join!(stranger.handle.enrol(address.clone(), request()), enrol_next(&network, &mut coordinator));
        assert!(matches!(reply, Ok(EnrolmentReply::Enrolled { .. })), "{reply:?}");
    }
    let reply = stranger.handle.enrol(address, request()).await;
    assert_eq!(reply, Ok(EnrolmentReply::Refused(EnrolmentRefusal::TooMany)));
}
