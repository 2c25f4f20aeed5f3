//! Work streams.

use lull_shared::message::{GoodbyeReason, ToAgent, ToAgentFrame, ToCoordinator, ToCoordinatorFrame};

use super::support::{Network, within};
use crate::{MeshError, NodeEvent};

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

#[tokio::test]
async fn a_work_stream_ends_with_its_connection() {
    let network = Network::new(1);
    let (mut coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    let mut work = agent.handle.open_work(coordinator.peer()).await.expect("a work stream opens");
    work.outgoing.send(&ToCoordinatorFrame { messages: Vec::new() }).await.expect("the frame goes out");
    let stream = |event| if let NodeEvent::Work { stream, .. } = event { Some(stream) } else { None };
    let mut stream = coordinator.event("a work stream", stream).await;
    within("a frame", stream.incoming.next()).await.expect("open").expect("whole");
    coordinator.handle.disconnect(agent.peer()).await;
    assert!(!matches!(within("the end", work.incoming.next()).await, Some(Ok(_))));
    assert!(!matches!(within("the end", stream.incoming.next()).await, Some(Ok(_))));
}

#[tokio::test]
async fn work_is_only_for_coordinators() {
    let network = Network::new(1);
    let (one, other) = (network.agent(1).await, network.agent(2).await);
    let before = one.handle.open_work(other.peer()).await.err();
    assert_eq!(before, Some(MeshError::NotConnected { peer: other.peer() }));
    one.connect_to(&other).await;
    assert_eq!(one.handle.open_work(other.peer()).await.err(), Some(MeshError::NoCoordinator { peer: other.peer() }));
}
