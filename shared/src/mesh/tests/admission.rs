//! Who gets in.

use super::support::{Network, within};
use crate::{
    mesh::NodeEvent,
    message::{GoodbyeReason, ToAgent, ToAgentFrame, ToCoordinator, ToCoordinatorFrame},
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
    assert_eq!(peer.certificate.as_ref().and_then(|certificate| certificate.agent), Some(crate::id::AgentId(7)));
}

#[tokio::test]
async fn a_work_stream_carries_frames_both_ways_and_notices_the_close() {
    let network = Network::new(1);
    let (mut coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    let mut work = agent.handle.open_work(coordinator.peer()).await.expect("a work stream opens");
    let hello = ToCoordinatorFrame { messages: vec![ToCoordinator::Farewell] };
    work.outgoing.send(&hello).await.expect("the frame goes out");
    let (from, mut stream) = coordinator
        .event("a work stream", |event| match event {
            NodeEvent::Work { peer, stream, .. } => Some((peer, stream)),
            _ => None,
        })
        .await;
    assert_eq!(from, agent.peer());
    let heard = within("a frame", stream.incoming.next()).await.expect("open").expect("whole");
    assert_eq!(heard, hello);
    let frames: Vec<_> = (1..=3)
        .map(|number| ToAgentFrame { number, messages: vec![ToAgent::Goodbye { reason: GoodbyeReason::Stopping }] })
        .collect();
    stream.outgoing.send_many(&frames).await.expect("the frames go out");
    for frame in frames {
        assert_eq!(within("a frame", work.incoming.next()).await.expect("open").expect("whole"), frame);
    }
    assert!(coordinator.handle.peers().await[0].work_open);
    stream.outgoing.close().await;
    drop(stream);
    assert!(within("the end", work.incoming.next()).await.is_none());
    assert!(!coordinator.handle.peers().await[0].work_open);
}
