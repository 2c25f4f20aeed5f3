//! Capacity on its way to those who read it.

use lull_shared::{id::AgentId, resources::Capacity};

use super::support::{Member, Network, within};
use crate::NodeEvent;

fn capacity(agent: u64, sequence: u64) -> Capacity {
    Capacity {
        agent: AgentId(agent),
        run: 0,
        sequence,
        slots: 4,
        slots_busy: 1,
        waiting: 0,
        cpu_free_percent: 70,
        memory_free_bytes: 1 << 32,
        paused: None,
    }
}

async fn heard(reader: &mut Member) -> Capacity {
    let capacity = |event| if let NodeEvent::Capacity { capacity, .. } = event { Some(capacity) } else { None };
    reader.event("capacity", capacity).await
}

#[tokio::test]
async fn capacity_reaches_a_reader_and_changes_follow() {
    let network = Network::new(1);
    let (mut coordinator, agent) = (network.coordinator().await, network.agent(7).await);
    agent.connect_to(&coordinator).await;
    agent.handle.publish_capacity(capacity(7, 1)).await;
    assert_eq!(heard(&mut coordinator).await, capacity(7, 1));
    // Closer together than the gap: the last one counts.
    agent.handle.publish_capacity(capacity(7, 2)).await;
    agent.handle.publish_capacity(capacity(7, 3)).await;
    assert_eq!(heard(&mut coordinator).await, capacity(7, 3));
}

#[tokio::test]
async fn capacity_published_to_nobody_reaches_every_reader_that_appears() {
    let network = Network::new(1);
    let agent = network.agent(7).await;
    agent.handle.publish_capacity(capacity(7, 1)).await;
    agent.handle.publish_capacity(capacity(7, 2)).await;
    for _ in 0..2 {
        let mut reader = network.coordinator().await;
        agent.connect_to(&reader).await;
        assert_eq!(heard(&mut reader).await, capacity(7, 2));
    }
}

#[tokio::test]
async fn capacity_in_another_agents_name_is_not_believed() {
    let network = Network::new(1);
    let (mut coordinator, liar, honest) = (network.coordinator().await, network.agent(7).await, network.agent(8).await);
    liar.connect_to(&coordinator).await;
    honest.connect_to(&coordinator).await;
    liar.handle.publish_capacity(capacity(8, 99)).await;
    honest.handle.publish_capacity(capacity(8, 1)).await;
    assert_eq!(heard(&mut coordinator).await, capacity(8, 1));
}

#[tokio::test]
async fn a_relay_passes_on_what_a_reader_can_judge() {
    let network = Network::new(1);
    let (mut reader, relay, agent) = (network.coordinator().await, network.coordinator().await, network.agent(7).await);
    relay.connect_to(&reader).await;
    // The reader has seen the agent's certificate once.
    agent.connect_to(&reader).await;
    reader.admitted(agent.peer()).await;
    reader.handle.disconnect(agent.peer()).await;
    reader.disconnected(agent.peer()).await;
    agent.connect_to(&relay).await;
    agent.handle.publish_capacity(capacity(7, 1)).await;
    assert_eq!(within("capacity by relay", heard(&mut reader)).await, capacity(7, 1));
    assert!(!reader.handle.peers().await.iter().any(|info| info.peer == agent.peer().to_string()));
}
