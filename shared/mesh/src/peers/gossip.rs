//! Gossip: what of it a node hears, believes and passes on.
//!
//! Agents publish capacity without subscribing to it; coordinators and relays subscribe. Who published a message is
//! proved by its signature, and that the publisher speaks for the agent it names by its certificate. A reader
//! therefore reports and forwards capacity only of publishers whose certificate it has seen on a connection of its
//! own. One that it knows only through a relay is ignored without blame: it will be known as soon as it connects,
//! and an agent that is not connected can be given no work anyway.

use std::time::Duration;

use libp2p::{
    PeerId,
    gossipsub::{
        self, ConfigBuilder, IdentTopic, MessageAuthenticity, MessageId, TopicHash, ValidationMode, WhitelistSubscriptionFilter,
    },
    identity::Keypair,
};
use lull_shared::{
    codec,
    id::AgentId,
    identity::{Certificate, Role},
    limits,
    protocol::{self, CAPACITY_TOPICS, REVOCATION_TOPIC},
    resources::Capacity,
};
use tokio::time::Instant;

use crate::NodeError;

/// Gossipsub that takes part in our topics only.
pub(crate) type Behaviour = gossipsub::Behaviour<gossipsub::IdentityTransform, WhitelistSubscriptionFilter>;

/// Two changes closer than this are published as one.
const GAP: Duration = Duration::from_secs(1);
/// A reader that appears makes every agent publish: they spread over this long.
const JITTER: Duration = Duration::from_millis(500);
/// How often an agent looks after its part in gossip: of a fleet at rest nothing but this would wake it.
const AGENT_HEARTBEAT: Duration = Duration::from_secs(15);
/// Capacity has some 40 bytes.
const CAPACITY_BYTES_MAX: usize = 1024;

pub(crate) fn revocation_topic() -> IdentTopic {
    IdentTopic::new(REVOCATION_TOPIC)
}

fn capacity_topics() -> impl Iterator<Item = IdentTopic> {
    (0..CAPACITY_TOPICS).map(|shard| IdentTopic::new(protocol::capacity_topic(AgentId(shard))))
}

fn wrong(reason: impl std::fmt::Display) -> NodeError {
    NodeError::Gossip(reason.to_string())
}

fn config(reads_capacity: bool) -> Result<gossipsub::Config, NodeError> {
    let mut config = ConfigBuilder::default();
    if !reads_capacity {
        config.heartbeat_interval(AGENT_HEARTBEAT);
    }
    config
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .flood_publish(false)
        // Revocations must reach every member: whoever is not in the mesh is told of them at the next heartbeat.
        .gossip_factor(1.0)
        .max_transmit_size(limits::REVOCATIONS_BYTES_MAX)
        .forward_queue_duration(Duration::from_secs(5))
        .build()
        .map_err(wrong)
}

pub(crate) fn behaviour(identity: &Keypair, reads_capacity: bool) -> Result<Behaviour, NodeError> {
    let config = config(reads_capacity)?;
    let ours = capacity_topics().chain([revocation_topic()]).map(|topic| topic.hash()).collect();
    let authenticity = MessageAuthenticity::Signed(identity.clone());
    let mut behaviour =
        Behaviour::new_with_subscription_filter(authenticity, config, WhitelistSubscriptionFilter(ours)).map_err(wrong)?;
    let read = reads_capacity.then(capacity_topics).into_iter().flatten();
    for topic in read.chain([revocation_topic()]) {
        behaviour.subscribe(&topic).map_err(wrong)?;
    }
    Ok(behaviour)
}

/// Equal payloads of one publisher are different messages.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let publisher = message.source.map(|peer| peer.to_bytes()).unwrap_or_default();
    let sequence = message.sequence_number.unwrap_or_default().to_be_bytes();
    MessageId::from([publisher.as_slice(), &sequence].concat())
}

/// What is to be done with a message of capacity.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    Believe(Capacity),
    /// Its publisher is not known here: nobody is to blame.
    Ignore,
    /// Its publisher lies or makes no sense.
    Reject,
}

/// Judges a message of capacity by its publisher's certificate.
pub fn judge_capacity(topic: &TopicHash, data: &[u8], publisher: Option<&Certificate>) -> Judgement {
    let Some(certificate) = publisher else { return Judgement::Ignore };
    if data.len() > CAPACITY_BYTES_MAX {
        return Judgement::Reject;
    }
    let Ok(capacity) = codec::decode::<Capacity>(data) else { return Judgement::Reject };
    let own = certificate.role == Role::Agent && certificate.agent == Some(capacity.agent);
    let placed = topic.as_str() == protocol::capacity_topic(capacity.agent);
    if own && placed { Judgement::Believe(capacity) } else { Judgement::Reject }
}

/// This node's own capacity: the latest, and when it is published next.
#[derive(Default)]
pub(crate) struct Announcer {
    latest: Option<Capacity>,
    due: Option<Instant>,
    published: Option<Instant>,
}

impl Announcer {
    /// The capacity has changed.
    pub(crate) fn change(&mut self, capacity: Capacity, now: Instant) {
        self.latest = Some(capacity);
        let earliest = self.published.map_or(now, |at| at + GAP).max(now);
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Somebody subscribed to this topic.
    pub(crate) fn reader_appeared(&mut self, topic: &TopicHash, now: Instant) {
        let Some(latest) = &self.latest else { return };
        if self.due.is_none() && topic.as_str() == protocol::capacity_topic(latest.agent) {
            self.due = Some(now + JITTER.mul_f64(rand::random::<f64>()));
        }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Publishes if it is time to. Nobody listening is no error: a reader that appears makes it due again.
    pub(crate) fn publish(&mut self, gossip: &mut Behaviour, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let Some(latest) = &self.latest else { return };
        let topic = IdentTopic::new(protocol::capacity_topic(latest.agent));
        match gossip.publish(topic, codec::encode(latest)) {
            Ok(_) => self.published = Some(now),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::debug!(%error, "capacity was not published"),
        }
    }
}

/// Certificates of members that were admitted here, for judging what comes through others. The one that was used
/// longest ago goes first.
pub(crate) struct KnownMembers(lru::LruCache<PeerId, Certificate>);

impl Default for KnownMembers {
    fn default() -> Self {
        // Not bounded by the cache itself, which would reserve its whole size at once.
        Self(lru::LruCache::unbounded())
    }
}

impl KnownMembers {
    pub(crate) fn saw(&mut self, peer: PeerId, certificate: Certificate) {
        self.0.put(peer, certificate);
        if self.0.len() > limits::CONNECTIONS_INCOMING_MAX as usize {
            self.0.pop_lru();
        }
    }

    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.0.pop(peer);
    }

    pub(crate) fn get(&mut self, peer: &PeerId) -> Option<&Certificate> {
        self.0.get(peer)
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::{identity::NetworkId, time::Timestamp};

    use super::*;

    #[test]
    fn an_agent_at_rest_is_woken_seldom_and_a_coordinator_looks_after_gossip_as_often_as_is_usual() {
        let [agent, coordinator] = [false, true].map(|reads| config(reads).expect("it is valid").heartbeat_interval());
        assert_eq!((agent, coordinator), (AGENT_HEARTBEAT, gossipsub::Config::default().heartbeat_interval()));
        assert!(agent > coordinator);
    }

    fn capacity(agent: u64) -> Capacity {
        Capacity {
            agent: AgentId(agent),
            run: 0,
            sequence: 1,
            slots: 1,
            slots_busy: 0,
            waiting: 0,
            cpu_free_percent: 100,
            memory_free_bytes: 1,
            paused: None,
        }
    }

    fn certificate(role: Role, agent: Option<u64>) -> Certificate {
        Certificate {
            network: NetworkId([1; 16]),
            peer: Vec::new(),
            role,
            agent: agent.map(AgentId),
            name: "desk".to_owned(),
            group: None,
            issued: Timestamp(0),
            expires: Timestamp(1),
        }
    }

    fn topic(agent: u64) -> TopicHash {
        IdentTopic::new(protocol::capacity_topic(AgentId(agent))).hash()
    }

    #[test]
    fn capacity_is_believed_of_the_agent_itself_on_its_own_topic_only() {
        let data = codec::encode(&capacity(7));
        let judge = |topic: TopicHash, certificate: &Certificate| judge_capacity(&topic, &data, Some(certificate));
        assert_eq!(judge(topic(7), &certificate(Role::Agent, Some(7))), Judgement::Believe(capacity(7)));
        assert_eq!(judge(topic(7), &certificate(Role::Agent, Some(8))), Judgement::Reject);
        assert_eq!(judge(topic(7), &certificate(Role::Coordinator, Some(7))), Judgement::Reject);
        assert_eq!(judge(topic(8), &certificate(Role::Agent, Some(7))), Judgement::Reject);
        assert_eq!(judge_capacity(&topic(7), &data, None), Judgement::Ignore);
        let nonsense = judge_capacity(&topic(7), &[1, 2], Some(&certificate(Role::Agent, Some(7))));
        assert_eq!(nonsense, Judgement::Reject);
    }

    #[test]
    fn changes_are_published_at_once_but_not_more_often_than_the_gap() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.change(capacity(7), start);
        assert_eq!(announcer.next_due(), Some(start));
        (announcer.due, announcer.published) = (None, Some(start));
        announcer.change(capacity(7), start + GAP / 4);
        announcer.change(capacity(7), start + GAP / 2);
        assert_eq!(announcer.next_due(), Some(start + GAP));
        (announcer.due, announcer.published) = (None, Some(start + GAP));
        announcer.change(capacity(7), start + GAP * 5);
        assert_eq!(announcer.next_due(), Some(start + GAP * 5));
    }

    #[test]
    fn a_reader_of_the_own_topic_makes_the_latest_due_again_soon() {
        let (mut announcer, now) = (Announcer::default(), Instant::now());
        announcer.reader_appeared(&topic(7), now);
        assert_eq!(announcer.next_due(), None, "there is nothing to say yet");
        announcer.latest = Some(capacity(7));
        announcer.reader_appeared(&topic(8), now);
        assert_eq!(announcer.next_due(), None, "it reads something else");
        announcer.reader_appeared(&topic(7), now);
        assert!(announcer.next_due().is_some_and(|due| due <= now + JITTER));
    }

    #[test]
    fn of_many_members_those_used_last_are_known_and_a_revoked_one_is_forgotten() {
        let mut known = KnownMembers::default();
        let (first, second) = (PeerId::random(), PeerId::random());
        known.saw(first, certificate(Role::Agent, Some(1)));
        known.saw(second, certificate(Role::Agent, Some(2)));
        for _ in 2..limits::CONNECTIONS_INCOMING_MAX {
            known.saw(PeerId::random(), certificate(Role::Agent, Some(3)));
        }
        assert!(known.get(&first).is_some(), "there is room for as many as may be connected");
        known.saw(PeerId::random(), certificate(Role::Agent, Some(3)));
        assert_eq!(known.0.len(), limits::CONNECTIONS_INCOMING_MAX as usize);
        assert!(known.get(&second).is_none() && known.get(&first).is_some());
        known.forget(&first);
        assert!(known.get(&first).is_none());
    }

    #[test]
    fn a_capacity_has_a_bound_and_belongs_to_who_signed_it() {
        let believed = |capacity: &Capacity, certificate: &Certificate| {
            let data = codec::encode(capacity);
            (data.len(), matches!(judge_capacity(&topic(7), &data, Some(certificate)), Judgement::Believe(_)))
        };
        let own = certificate(Role::Agent, Some(7));
        assert!(believed(&capacity(7), &own).1 && !believed(&capacity(7), &certificate(Role::Agent, None)).1);
        let with = |bytes: usize| {
            let trouble = lull_shared::state::Trouble { part: lull_shared::state::Part::Cache, reason: "x".repeat(bytes) };
            Capacity { paused: Some(lull_shared::state::PauseReason::Trouble(trouble)), ..capacity(7) }
        };
        let overhead = believed(&with(900), &own).0 - 900;
        assert_eq!(believed(&with(CAPACITY_BYTES_MAX - overhead), &own), (CAPACITY_BYTES_MAX, true));
        assert_eq!(believed(&with(CAPACITY_BYTES_MAX - overhead + 1), &own), (CAPACITY_BYTES_MAX + 1, false));
    }

    #[test]
    fn the_earliest_of_two_reasons_to_publish_is_when_it_is_done() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.latest = Some(capacity(7));
        announcer.due = Some(start + GAP * 3);
        announcer.change(capacity(7), start);
        assert_eq!(announcer.next_due(), Some(start));
        announcer.change(capacity(7), start + GAP);
        assert_eq!(announcer.next_due(), Some(start), "it is due already");
        announcer.reader_appeared(&topic(7), start + GAP * 9);
        assert_eq!(announcer.next_due(), Some(start), "and soon enough for a reader");
    }

    #[tokio::test]
    async fn what_is_due_is_published_once_and_nothing_before() {
        let mut gossip = behaviour(&Keypair::generate_ed25519(), true).expect("a configuration");
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.change(capacity(7), start + GAP);
        announcer.publish(&mut gossip, start);
        assert_eq!(announcer.next_due(), Some(start + GAP), "not yet");
        announcer.publish(&mut gossip, start + GAP);
        assert_eq!(announcer.next_due(), None);
    }

    #[test]
    fn readers_subscribe_to_all_topics_and_others_to_revocations_alone() {
        let topics = |reads| behaviour(&Keypair::generate_ed25519(), reads).expect("a configuration").topics().count();
        assert_eq!((topics(true) as u64, topics(false)), (CAPACITY_TOPICS + 1, 1));
    }
}
