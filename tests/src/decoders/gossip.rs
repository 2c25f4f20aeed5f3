//! Capacity heard in gossip.

use libp2p::gossipsub::IdentTopic;
use lull_mesh::{Judgement, judge_capacity};
use lull_shared::{
    id::AgentId,
    identity::{Certificate, NetworkId, Role},
    protocol::capacity_topic,
    resources::Capacity,
    time::Timestamp,
};

use super::{choice, laws, memory::bounded};

/// A message's data. The first byte says on which shard's topic it came, and with 128 added that its publisher is a
/// coordinator.
///
/// Only an agent's word about itself is believed, on its own topic.
pub fn gossip(bytes: &[u8]) {
    let (how, data) = choice(bytes);
    let claimed = laws::decode::<Capacity>(data).ok();
    let agent = claimed.as_ref().map_or(AgentId(1), |capacity| capacity.agent);
    let topic = IdentTopic::new(capacity_topic(AgentId(u64::from(how % 8)))).hash();
    let own_topic = topic.as_str() == capacity_topic(agent);
    let role = if how & 128 == 0 { Role::Agent } else { Role::Coordinator };
    let judge = |certificate: Option<&Certificate>| bounded(data.len(), || judge_capacity(&topic, data, certificate));
    assert_eq!(judge(None), Judgement::Ignore, "of somebody unknown nothing is believed, and nobody is blamed");
    let other = AgentId(agent.0.wrapping_add(8));
    for (about, own) in [(Some(agent), true), (Some(other), false), (None, false)] {
        let believed = match (&claimed, role) {
            (Some(capacity), Role::Agent) if own && own_topic && data.len() <= 1024 => Judgement::Believe(capacity.clone()),
            _ => Judgement::Reject,
        };
        assert_eq!(judge(Some(&certificate(role, about))), believed);
    }
}

fn certificate(role: Role, agent: Option<AgentId>) -> Certificate {
    let name = "desk".to_owned();
    let (issued, expires) = (Timestamp(0), Timestamp(1));
    Certificate { network: NetworkId([1; 16]), peer: Vec::new(), role, agent, name, group: None, issued, expires }
}
