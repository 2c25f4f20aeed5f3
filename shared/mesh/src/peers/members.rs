//! Who is admitted: certificates, verdicts, revocations, and what follows from them.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use libp2p::{PeerId, gossipsub, swarm::ConnectionId};
use lru::LruCache;
use lull_shared::{
    codec,
    identity::{Authority, Certificate, Edition, NetworkId, Revocations, Role, Signed, verify},
    limits::{ADMISSION_TIME_MAX, CONNECTIONS_INCOMING_MAX, REVOCATIONS_BYTES_MAX},
    protocol::{Admission, Introduction},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    NodeConfig, NodeEvent,
    error::MeshError,
    node::{Note, Running},
    peers::{
        admission::{Conversation, NotRecognised, Shown, now, printable},
        connection::{Connection, Standing},
        dial::Purpose,
        gossip::{self, Judgement},
    },
    streams::opened::Protocol,
};

/// Certificates of connected members are looked at again at least this often: the clock may have been set, or the
/// machine have slept.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// How long a connection is kept that its peer has left for another: the last words on its stream are still on their way.
const LEFT_TIME: Duration = Duration::from_secs(3);

/// What this node is and whom it does not admit.
pub(crate) struct Membership {
    network: NetworkId,
    authority: Authority,
    peer: PeerId,
    certificate: Option<Signed>,
    role: Option<Role>,
    software: String,
    revoked: BTreeSet<PeerId>,
    /// Peers that are or were members, for those that connect again: those that were here last, as many as can be connected.
    /// One that is thrown out is forgotten.
    members: LruCache<PeerId, ()>,
    /// The newest revocations and their edition.
    revocations: Option<(Edition, Signed)>,
}

impl Membership {
    pub(crate) fn new(config: NodeConfig) -> Self {
        let mut membership = Self {
            network: config.network,
            authority: config.authority,
            peer: config.identity.public().to_peer_id(),
            certificate: None,
            role: None,
            software: config.software,
            revoked: config.revoked,
            members: LruCache::new(MEMBERS_MAX),
            revocations: None,
        };
        config.members.into_iter().for_each(|peer| membership.saw_member(peer));
        if let Some(certificate) = config.certificate {
            membership.set_certificate(certificate);
        }
        membership
    }

    /// An expired certificate is kept: showing it is harmless, and the role stays.
    fn set_certificate(&mut self, certificate: Signed) {
        match Certificate::verify_expired(&certificate, &self.authority, self.network, &self.peer) {
            Ok(own) => {
                self.role = Some(own.role);
                self.certificate = Some(certificate);
            }
            Err(error) => tracing::warn!(%error, "this node's own certificate is not used"),
        }
    }

    pub(crate) fn is_coordinator(&self) -> bool {
        self.role == Some(Role::Coordinator)
    }

    fn saw_member(&mut self, peer: PeerId) {
        if !self.is_revoked(&peer) {
            self.members.put(peer, ());
        }
    }

    fn was_member(&self, peer: &PeerId) -> bool {
        self.members.contains(peer)
    }

    /// Whom the network has thrown out.
    pub(crate) fn revoked(&self) -> impl Iterator<Item = &PeerId> {
        self.revoked.iter()
    }

    /// From now on these are out, and no others.
    fn throw_out(&mut self, revoked: BTreeSet<PeerId>) {
        for peer in &revoked {
            self.members.pop(peer);
        }
        self.revoked = revoked;
    }

    pub(crate) fn is_revoked(&self, peer: &PeerId) -> bool {
        self.revoked.contains(peer)
    }

    fn edition(&self) -> Edition {
        self.revocations.as_ref().map_or_else(Edition::default, |(edition, _)| *edition)
    }

    fn introduction(&self) -> Introduction {
        Introduction {
            certificate: self.certificate.clone(),
            software: self.software.clone(),
            revocations: self.edition(),
            now: now(),
        }
    }
}

/// What somebody is told when revocations are not taken over.
#[derive(Debug, PartialEq, Eq)]
enum NotNewer {
    Known,
    Wrong,
}

impl Running {
    pub(crate) fn connected(&mut self, id: ConnectionId, mut connection: Connection) {
        let dialled = connection.dialled;
        connection.expected = self.membership.was_member(&connection.peer);
        self.connections.insert(id, connection);
        if let Some(surplus) = self.connections.surplus(id, Instant::now()) {
            tracing::debug!("a connection is closed: too many are not admitted yet");
            self.give_up(surplus, "its place was needed for another connection");
            if surplus == id {
                return;
            }
        }
        self.connections.set_deadline(id, Some(Instant::now() + ADMISSION_TIME_MAX));
        if dialled {
            self.introduce(id);
            self.watch_idle(Instant::now());
        }
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId, id: ConnectionId, reason: String) {
        let was_admitted = self.connections.remove(id).is_some_and(|connection| connection.standing.is_admitted());
        self.fail_waiters(id, |peer| MeshError::Lost { peer, reason: reason.clone() });
        if was_admitted && self.connections.admitted(&peer).is_none() {
            self.tell(NodeEvent::Disconnected { peer });
        }
        if self.connections.ids_of(&peer).is_empty() {
            self.exchange.note_addresses(peer, Vec::new());
        }
    }

    /// Closes a connection of which nothing can be expected, and forgets it at once: to close one whose peer vanished can
    /// take as long as the operating system goes on sending to it.
    pub(crate) fn give_up(&mut self, id: ConnectionId, reason: &str) {
        if let Some(peer) = self.connections.get(id).map(|connection| connection.peer) {
            self.disconnected(peer, id, reason.to_owned());
        }
        self.swarm.close_connection(id);
    }

    /// An agent works on this connection now: others that it opened before are from an address where it is no more, or soon
    /// will be.
    pub(crate) fn leave_others(&mut self, peer: &PeerId, id: ConnectionId) {
        for other in self.connections.ids_of(peer).to_vec() {
            if let Some(connection) = self.connections.get_mut(other).filter(|other_one| other != id && !other_one.dialled) {
                connection.left = true;
                self.connections.set_deadline(other, Some(Instant::now() + LEFT_TIME));
            }
        }
    }

    /// Begins admission on a connection, unless it is under way.
    pub(crate) fn introduce(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::replace(&mut connection.introducing, true) {
            connection.introduce_again = true;
            return;
        }
        connection.introduce_again = false;
        let peer = connection.peer;
        let conversation = self.conversation(id, peer);
        let (opened, stream) = oneshot::channel();
        self.swarm.behaviour_mut().streams.open(peer, id, Protocol::Admission, opened);
        self.tasks.spawn(async move {
            let error = match timeout(ADMISSION_TIME_MAX, stream).await {
                Ok(Ok(Ok(stream))) => return conversation.run(stream, true).await,
                Ok(Ok(Err(reason))) => MeshError::Protocol { peer, reason },
                Ok(Err(_)) => MeshError::Lost { peer, reason: "it was closed before admission".to_owned() },
                Err(_) => MeshError::Silent { peer },
            };
            report(&conversation.notes, Note::NotAdmitted { connection: id, error }).await;
        });
    }

    pub(crate) fn conversation(&self, connection: ConnectionId, peer: PeerId) -> Conversation {
        Conversation {
            connection,
            peer,
            network: self.membership.network,
            authority: self.membership.authority.clone(),
            ours: self.membership.introduction(),
            notes: self.notes.clone(),
        }
    }

    /// They introduced themselves: decides whether they are served, and what they are told.
    pub(crate) fn shown(&mut self, id: ConnectionId, shown: Shown, reply: oneshot::Sender<Admission>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let peer = connection.peer;
        connection.software = Some(shown.software);
        connection.clock_ahead_us = Some(shown.clock_ahead_us);
        connection.revocations = shown.revocations;
        connection.expired = match &shown.certificate {
            Err(NotRecognised::Expired(at)) => Some(*at),
            Ok(_) | Err(NotRecognised::Stranger | NotRecognised::Refused(_)) => None,
        };
        let was_admitted = connection.standing.is_admitted();
        let revoked = self.membership.is_revoked(&peer);
        let verdict = match shown.certificate {
            Ok(_) if revoked => {
                self.connections.set_standing(id, Standing::Introducing);
                // It has nothing more to do here than to read this.
                self.connections.shorten_deadline(id, Instant::now() + LEFT_TIME);
                Admission::Revoked
            }
            Ok(certificate) => {
                if certificate.role == Role::Coordinator
                    && let Some(addresses) = self.discovery.addresses_of(&peer)
                {
                    self.tell(NodeEvent::Discovered { peer, addresses });
                }
                if was_admitted {
                    self.admit(id, certificate);
                } else {
                    self.connections.set_standing(id, Standing::Recognised(certificate));
                }
                let newer = self.membership.revocations.as_ref().filter(|(edition, _)| *edition > shown.revocations);
                Admission::Admitted { revocations: newer.map(|(_, signed)| signed.clone()) }
            }
            // A member that shows nothing keeps what it showed before.
            Err(NotRecognised::Stranger | NotRecognised::Expired(_)) if was_admitted => Admission::Stranger,
            Err(NotRecognised::Stranger | NotRecognised::Expired(_)) => {
                self.connections.set_standing(id, Standing::Stranger);
                Admission::Stranger
            }
            Err(NotRecognised::Refused(error)) => {
                tracing::debug!(%peer, %error, "a peer was refused");
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.untrusted = Some(error.clone());
                }
                self.connections.set_standing(id, Standing::Introducing);
                Admission::Refused { reason: error.to_string() }
            }
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.verdicts.push((reply, verdict));
        if connection.standing.certificate().is_some() {
            // The peer is told once it can be heard.
            self.swarm.behaviour_mut().gossip.listen(peer, id);
        } else {
            self.answer_shown(id);
        }
    }

    /// Everything that a peer may do after our verdict is possible now: it may be told.
    pub(crate) fn answer_shown(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        for (reply, verdict) in connection.verdicts.drain(..) {
            // A conversation that broke off is reported by itself.
            let _ = reply.send(verdict);
        }
    }

    /// They decided about us.
    pub(crate) fn answered(&mut self, id: ConnectionId, verdict: Admission) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.introducing = false;
        let peer = connection.peer;
        let untrusted = connection.untrusted.take();
        let useless = match connection.expired {
            Some(at) => MeshError::expired(peer, at, now(), connection.clock_ahead_us.unwrap_or(0)),
            None => MeshError::NoCertificate { peer },
        };
        let standing = connection.standing.clone();
        if let Some(source) = untrusted {
            self.fail_waiters(id, |peer| MeshError::Untrusted { peer, source: source.clone() });
            self.swarm.close_connection(id);
            return;
        }
        match (standing, verdict) {
            // Only a coordinator can know; of another it may be a lie.
            (Standing::Recognised(certificate) | Standing::Admitted(certificate), Admission::Revoked)
                if certificate.role == Role::Coordinator =>
            {
                self.fail_waiters(id, |peer| MeshError::ThrownOut { peer });
                self.swarm.close_connection(id);
            }
            (_, Admission::Revoked) => {
                self.fail_waiters(id, |peer| MeshError::Refused { peer, reason: "it takes this machine for revoked".into() });
                self.swarm.close_connection(id);
            }
            (_, Admission::Refused { reason }) => {
                let reason = printable(&reason);
                tracing::debug!(%peer, %reason, "a peer refused this machine");
                self.fail_waiters(id, |peer| MeshError::Refused { peer, reason: reason.clone() });
                self.swarm.close_connection(id);
            }
            (Standing::Introducing | Standing::Stranger, _) => {
                self.fail_waiters(id, |_| useless.clone());
            }
            (Standing::Recognised(certificate) | Standing::Admitted(certificate), Admission::Stranger) => {
                let coordinator = certificate.role == Role::Coordinator;
                self.resolve_waiters(&peer, |waiter| match waiter.purpose {
                    Purpose::Enrolment if coordinator => Some(Ok(())),
                    Purpose::Enrolment => Some(Err(MeshError::NoCoordinator { peer })),
                    Purpose::Membership => (waiter.connection == id).then_some(Err(MeshError::Stranger { peer })),
                });
            }
            (Standing::Recognised(certificate) | Standing::Admitted(certificate), Admission::Admitted { revocations }) => {
                self.admit(id, certificate);
                self.resolve_waiters(&peer, |_| Some(Ok(())));
                if let Some(signed) = revocations {
                    // Whoever brings an older list is told of ours in the same conversation.
                    let _ = self.learn(signed);
                }
            }
        }
        if self.connections.get(id).is_some_and(|connection| connection.introduce_again) {
            self.introduce(id);
        }
    }

    fn admit(&mut self, id: ConnectionId, certificate: Certificate) {
        let Some(connection) = self.connections.get(id) else { return };
        let peer = connection.peer;
        if !connection.dialled {
            self.doors.saw_member(&connection.address);
        }
        self.membership.saw_member(peer);
        let first = self.connections.admitted(&peer).is_none();
        let expires_in = certificate.expires.since(now()).min(LOOK_AGAIN);
        self.connections.set_standing(id, Standing::Admitted(certificate.clone()));
        self.swarm.behaviour_mut().gossip.open(peer, id);
        self.connections.set_deadline(id, Some(Instant::now() + expires_in));
        if let Some(known) = &mut self.known {
            known.saw(peer, certificate.clone());
        }
        if first {
            self.tell(NodeEvent::Admitted { peer, certificate });
        }
    }

    /// An admission came to nothing.
    pub(crate) fn not_admitted(&mut self, id: ConnectionId, error: MeshError) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.introducing = false;
        tracing::debug!(peer = %connection.peer, %error, "an admission came to nothing");
        // What we dialled is of no use now. What they dialled they may still use until its time is over.
        let useless = connection.dialled && !connection.standing.is_admitted();
        self.fail_waiters(id, |_| error.clone());
        if useless {
            self.swarm.close_connection(id);
        } else if self.connections.get(id).is_some_and(|connection| connection.introduce_again) {
            self.introduce(id);
        }
    }

    /// A connection's time for admission is over, or its certificate's life.
    pub(crate) fn admission_overdue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.left {
            return self.give_up(id, "its peer left it for another");
        }
        if let Standing::Admitted(certificate) = &connection.standing
            && certificate.expires > now()
        {
            let expires_in = certificate.expires.since(now()).min(LOOK_AGAIN);
            self.connections.set_deadline(id, Some(Instant::now() + expires_in));
            return;
        }
        tracing::debug!(peer = %connection.peer, standing = ?connection.standing, "a connection is closed: no valid certificate");
        self.swarm.close_connection(id);
    }

    /// Shows a new certificate on every connection there is.
    pub(crate) fn set_certificate(&mut self, certificate: Signed) {
        self.membership.set_certificate(certificate);
        for id in self.connections.ids() {
            self.introduce(id);
        }
    }

    /// Puts revocations into force and tells everybody. What holds afterwards: these, or those that were newer.
    pub(crate) fn publish_revocations(&mut self, signed: Signed) -> Option<Signed> {
        match self.take_over(&signed) {
            Ok(()) => {
                let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
                if let Err(error) = gossip.publish(gossip::revocation_topic(), codec::encode(&signed)) {
                    // They are told on their connections, and whoever is admitted later hears of them then.
                    tracing::debug!(%error, "the revocations were not spread by gossip");
                }
                self.tell_edition();
            }
            Err(NotNewer::Known) => tracing::debug!("these revocations, or newer ones, are known"),
            Err(NotNewer::Wrong) => tracing::warn!("these revocations are not signed by the network's authority"),
        }
        self.membership.revocations.as_ref().map(|(_, signed)| signed.clone())
    }

    /// Takes over revocations that a peer brought, tells the process and everybody who is connected.
    fn learn(&mut self, signed: Signed) -> Result<(), NotNewer> {
        self.take_over(&signed)?;
        self.tell(NodeEvent::Revoked { signed });
        self.tell_edition();
        Ok(())
    }

    /// Tells everybody who is connected which edition is known here: whoever lacks it is given it, and whoever issued it
    /// counts who has it.
    fn tell_edition(&mut self) {
        for id in self.connections.ids() {
            if self.connections.get(id).is_some_and(|connection| connection.standing.is_admitted()) {
                self.introduce(id);
            }
        }
    }

    /// Puts revocations into force if the authority signed them and they are newer than what is known.
    fn take_over(&mut self, signed: &Signed) -> Result<(), NotNewer> {
        if signed.body.len() > REVOCATIONS_BYTES_MAX {
            return Err(NotNewer::Wrong);
        }
        let revocations: Revocations = verify(&self.membership.authority, signed).map_err(|_| NotNewer::Wrong)?;
        if revocations.edition <= self.membership.edition() {
            return Err(NotNewer::Known);
        }
        let revoked: BTreeSet<_> = revocations.peers.iter().filter_map(|peer| PeerId::from_bytes(peer).ok()).collect();
        let is_coordinator = self.membership.is_coordinator();
        let blocked = &mut self.swarm.behaviour_mut().blocked;
        for peer in self.membership.revoked.difference(&revoked) {
            blocked.unblock_peer(*peer);
        }
        let newly: Vec<PeerId> = revoked.difference(&self.membership.revoked).copied().collect();
        for peer in &revoked {
            if let Some(known) = &mut self.known {
                known.forget(peer);
            }
        }
        self.membership.throw_out(revoked);
        for peer in newly {
            if is_coordinator {
                // It may come back to hear why.
                for id in self.connections.ids_of(&peer).to_vec() {
                    self.give_up(id, "it was revoked");
                }
            } else {
                // Its connections are closed by this.
                self.swarm.behaviour_mut().blocked.block_peer(peer);
            }
        }
        self.membership.revocations = Some((revocations.edition, signed.clone()));
        Ok(())
    }

    pub(crate) fn gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let acceptance = self.heard(&propagation_source, &message);
                self.swarm.behaviour_mut().gossip.inner.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            gossipsub::Event::Subscribed { topic, .. } => self.announcer.reader_appeared(&topic, Instant::now()),
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(peer = %peer_id, "a peer is slow to take gossip"),
            _ => {}
        }
    }

    fn heard(&mut self, from: &PeerId, message: &gossipsub::Message) -> gossipsub::MessageAcceptance {
        use gossipsub::MessageAcceptance::{Accept, Ignore, Reject};
        if self.connections.recognised(from).is_none() {
            return Ignore;
        }
        if message.topic == gossip::revocation_topic().hash() {
            let Ok(signed) = codec::decode::<Signed>(&message.data) else { return Reject };
            return match self.learn(signed) {
                Ok(()) => Accept,
                Err(NotNewer::Known) => Ignore,
                Err(NotNewer::Wrong) => Reject,
            };
        }
        let Some(publisher) = message.source else { return Reject };
        let certificate = self.known.as_mut().and_then(|known| known.get(&publisher));
        match gossip::judge_capacity(&message.topic, &message.data, certificate) {
            Judgement::Believe(capacity) => {
                self.tell(NodeEvent::Capacity { peer: publisher, capacity });
                Accept
            }
            Judgement::Ignore => Ignore,
            Judgement::Reject => Reject,
        }
    }
}

/// Tells the node something; one that has stopped needs to know nothing.
pub(crate) async fn report(notes: &mpsc::Sender<Note>, note: Note) {
    let _ = notes.send(note).await;
}

/// As many as can be connected.
const MEMBERS_MAX: NonZeroUsize = NonZeroUsize::new(CONNECTIONS_INCOMING_MAX as usize).expect("not zero");

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::{UploadRules, lone::Lone};

    #[test]
    fn peers_that_were_members_are_noted_up_to_a_bound() {
        let config = NodeConfig {
            identity: Keypair::generate_ed25519(),
            network: NetworkId([1; 16]),
            authority: Authority::of(&Keypair::generate_ed25519()),
            certificate: None,
            listen: Vec::new(),
            mdns: false,
            reads_capacity: false,
            software: "test".to_owned(),
            revoked: BTreeSet::new(),
            members: BTreeSet::new(),
            uploads: UploadRules::default(),
        };
        let mut membership = Membership::new(config);
        let [first, last] = [PeerId::random(), PeerId::random()];
        membership.saw_member(first);
        for _ in 0..CONNECTIONS_INCOMING_MAX + 10 {
            membership.saw_member(PeerId::random());
        }
        membership.saw_member(last);
        assert_eq!(membership.members.len(), CONNECTIONS_INCOMING_MAX as usize);
        assert!(!membership.was_member(&first) && membership.was_member(&last), "those that were here last are known");
        membership.throw_out([last].into());
        assert!(!membership.was_member(&last), "it is forgotten when it is thrown out");
        membership.saw_member(last);
        assert!(!membership.was_member(&last));
        membership.throw_out(BTreeSet::new());
        membership.saw_member(last);
        assert!(membership.was_member(&last));
    }

    const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
    const NOBODYS_TIME: Duration = Duration::from_secs(60);

    fn no_longer_than(left: Option<Duration>, most: Duration) -> bool {
        left.is_some_and(|left| left <= most && left + NOBODYS_TIME > most)
    }

    fn outcome(waiter: &mut oneshot::Receiver<Result<(), MeshError>>) -> Option<Result<(), MeshError>> {
        waiter.try_recv().ok()
    }

    #[tokio::test]
    async fn only_a_connection_that_we_made_is_introduced_at_once_and_each_has_its_time() {
        for (role, looks) in [(Role::Agent, true), (Role::Coordinator, false)] {
            let mut lone = Lone::new(role).await;
            let theirs = lone.connected(PeerId::random(), false);
            assert_eq!((lone.connection(theirs).introducing, lone.node.tasks.len(), lone.node.idle_due), (false, 0, None));
            let ours = lone.connected(PeerId::random(), true);
            assert_eq!((lone.connection(ours).introducing, lone.node.tasks.len()), (true, 1));
            assert_eq!(lone.node.idle_due.is_some(), looks, "{role:?}");
            assert!([theirs, ours].iter().all(|id| no_longer_than(lone.time_left(*id), ADMISSION_TIME_MAX)));
        }
    }

    #[tokio::test]
    async fn those_who_were_members_are_expected_and_strangers_beyond_their_places_are_not_kept() {
        let known = PeerId::random();
        let mut lone = Lone::with(Role::Coordinator, |config| config.members = [known].into()).await;
        let id = lone.connected(known, false);
        assert!(lone.connection(id).expected);
        let first = lone.connected(PeerId::random(), false);
        assert!(!lone.connection(first).expected);
        for _ in 1..lull_shared::limits::STRANGERS_MAX {
            lone.connected(PeerId::random(), false);
        }
        let crowd = lone.node.connections.strangers();
        let one_more = lone.connected(PeerId::random(), false);
        assert!(
            lone.node.connections.get(one_more).is_none() && lone.node.connections.strangers() == crowd,
            "it is of the crowd"
        );
        let another = lone.connected_at(PeerId::random(), false, "/ip4/10.0.0.8/tcp/7");
        assert!(lone.node.connections.get(first).is_none(), "one of the crowd goes for it");
        assert!(no_longer_than(lone.time_left(another), ADMISSION_TIME_MAX));
    }

    #[tokio::test]
    async fn an_introduction_that_is_wanted_while_one_is_under_way_follows_it_once() {
        let mut lone = Lone::new(Role::Agent).await;
        let peer = PeerId::random();
        let id = lone.connected(peer, true);
        let state = |lone: &Lone| (lone.connection(id).introducing, lone.connection(id).introduce_again, lone.node.tasks.len());
        assert_eq!(state(&lone), (true, false, 1));
        lone.node.introduce(id);
        lone.node.introduce(id);
        assert_eq!(state(&lone), (true, true, 1), "one is under way");
        let certificate = lone.certificate(&peer, Role::Coordinator, LIFE);
        lone.shows(id, Ok(certificate));
        lone.node.answered(id, Admission::Admitted { revocations: None });
        assert_eq!(state(&lone), (true, false, 2), "the next one begins");
        lone.node.answered(id, Admission::Admitted { revocations: None });
        assert_eq!(state(&lone), (false, false, 2), "and no other");
        lone.node.introduce(id);
        lone.node.introduce(id);
        lone.node.not_admitted(id, MeshError::Silent { peer });
        assert_eq!(state(&lone), (true, false, 4), "the same after one that came to nothing");
        lone.node.not_admitted(id, MeshError::Silent { peer });
        assert_eq!(state(&lone), (false, false, 4));
    }

    #[tokio::test]
    async fn each_introduction_is_judged_by_its_certificate_and_told_when_its_peer_can_be_served() {
        let mut lone = Lone::new(Role::Coordinator).await;
        let thrown_out = PeerId::random();
        let list = lone.revocations(&lone.issuer.authority.clone(), 3, &[thrown_out]);
        lone.node.publish_revocations(list.clone());
        let refused = || Err(NotRecognised::Refused(lull_shared::identity::CertificateError::Network));
        let peer = PeerId::random();
        let member = |lone: &Lone, peer: &PeerId| lone.certificate(peer, Role::Agent, LIFE);
        // Nothing valid was shown: they are told at once.
        let cases = [
            (Err(NotRecognised::Stranger), Standing::Stranger, Admission::Stranger, None),
            (Err(NotRecognised::Expired(lull_shared::time::Timestamp(7))), Standing::Stranger, Admission::Stranger, Some(7)),
            (refused(), Standing::Introducing, Admission::Refused { reason: "it is for another network".into() }, None),
        ];
        for (shown, standing, verdict, expired) in cases {
            let id = lone.connected(peer, false);
            let mut told = lone.shows(id, shown.clone());
            assert_eq!((told.try_recv().ok(), lone.standing(id)), (Some(verdict), standing), "{shown:?}");
            let connection = lone.connection(id);
            assert_eq!(connection.expired.map(|at| at.0), expired);
            assert_eq!(connection.untrusted.is_some(), shown == refused());
            assert_eq!((connection.software.as_deref(), connection.clock_ahead_us), (Some("their program"), Some(5)));
        }
        let id = lone.connected(thrown_out, false);
        let certificate = member(&lone, &thrown_out);
        let mut told = lone.shows(id, Ok(certificate));
        assert_eq!((told.try_recv().ok(), lone.standing(id)), (Some(Admission::Revoked), Standing::Introducing));
        assert!(lone.time_left(id) <= Some(LEFT_TIME), "it has nothing more to do here");
        // A valid one is served first and told then; with the list, if it knows an older one.
        let edition = |counter| Edition { term: lull_shared::id::Term(1), counter, draw: 0 };
        for (knows, given) in [(Edition::default(), true), (edition(2), true), (edition(3), false), (edition(4), false)] {
            let peer = PeerId::random();
            let (id, certificate) = (lone.connected(peer, false), member(&lone, &peer));
            let mut told = lone.shows_with(id, Ok(certificate.clone()), knows);
            assert_eq!((told.try_recv().ok(), lone.standing(id)), (None, Standing::Recognised(certificate)));
            assert_eq!(lone.connection(id).revocations, knows);
            lone.node.answer_shown(id);
            let revocations = given.then(|| list.clone());
            assert_eq!(told.try_recv().ok(), Some(Admission::Admitted { revocations }), "{knows:?}");
        }
    }

    #[tokio::test]
    async fn a_member_keeps_what_it_showed_until_it_shows_something_better() {
        let mut lone = Lone::new(Role::Coordinator).await;
        let peer = PeerId::random();
        let id = lone.admitted(peer, Role::Agent, false);
        let Standing::Admitted(first) = lone.standing(id) else { panic!("it is admitted") };
        for nothing in [NotRecognised::Stranger, NotRecognised::Expired(lull_shared::time::Timestamp(7))] {
            let mut told = lone.shows(id, Err(nothing));
            lone.node.answer_shown(id);
            assert_eq!((told.try_recv().ok(), lone.standing(id)), (Some(Admission::Stranger), Standing::Admitted(first.clone())));
        }
        let longer = lone.certificate(&peer, Role::Agent, 2 * LIFE);
        lone.shows(id, Ok(longer.clone()));
        assert_eq!(lone.standing(id), Standing::Admitted(longer), "it stays a member");
    }

    #[tokio::test]
    async fn a_coordinator_that_was_found_on_the_subnet_is_named_when_it_shows_that_it_is_one() {
        let mut lone = Lone::new(Role::Agent).await;
        for (role, named) in [(Role::Agent, 0), (Role::Coordinator, 1)] {
            let peer = PeerId::random();
            let address: libp2p::Multiaddr = "/ip4/10.0.0.9/tcp/7".parse().expect("an address");
            let found = libp2p::mdns::Event::Discovered(vec![(peer, address.clone())]);
            lone.node.discovery.heard(found);
            let id = lone.connected(peer, true);
            let certificate = lone.certificate(&peer, role, LIFE);
            lone.shows(id, Ok(certificate));
            let told = lone.told();
            let discovered = |event: &&NodeEvent| matches!(event, NodeEvent::Discovered { peer: found, addresses } if *found == peer && *addresses == [address.clone()]);
            assert_eq!((told.len(), told.iter().filter(discovered).count()), (named, named), "{role:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_is_admitted_when_both_accept_each_other_and_that_is_told_once() {
        let mut lone = Lone::new(Role::Coordinator).await;
        let peer = PeerId::random();
        let first = lone.connected(peer, false);
        let mut waiter = lone.waits(first, peer, Purpose::Membership);
        let certificate = lone.certificate(&peer, Role::Agent, LIFE);
        lone.shows(first, Ok(certificate.clone()));
        assert_eq!(outcome(&mut waiter), None);
        lone.node.answered(first, Admission::Admitted { revocations: None });
        assert_eq!((outcome(&mut waiter), lone.standing(first)), (Some(Ok(())), Standing::Admitted(certificate)));
        assert!(matches!(&lone.told()[..], [NodeEvent::Admitted { peer: admitted, .. }] if *admitted == peer));
        assert!(
            lone.node.membership.was_member(&peer) && lone.node.known.as_mut().is_some_and(|known| known.get(&peer).is_some())
        );
        assert!(no_longer_than(lone.time_left(first), LOOK_AGAIN), "it is looked at again before it expires");
        let second = lone.admitted(peer, Role::Agent, false);
        assert_eq!(lone.told().len(), 0, "it was here already");
        lone.node.disconnected(peer, first, "cut".into());
        assert_eq!(lone.told().len(), 0, "it is here still");
        lone.node.disconnected(peer, second, "cut".into());
        assert!(matches!(&lone.told()[..], [NodeEvent::Disconnected { peer: gone }] if *gone == peer));
        let stranger = lone.connected(PeerId::random(), false);
        let gone = lone.connection(stranger).peer;
        lone.node.disconnected(gone, stranger, "cut".into());
        assert_eq!(lone.told().len(), 0, "nobody knew it");
    }

    #[tokio::test]
    async fn a_certificate_that_ends_soon_is_looked_at_when_it_does() {
        let mut lone = Lone::new(Role::Coordinator).await;
        let (peer, short) = (PeerId::random(), Duration::from_secs(120));
        let id = lone.connected(peer, false);
        let certificate = lone.certificate(&peer, Role::Agent, short);
        lone.shows(id, Ok(certificate));
        lone.node.answered(id, Admission::Admitted { revocations: None });
        assert!(no_longer_than(lone.time_left(id), short));
        // Its time has come, and it has a certificate that holds for longer.
        lone.node.connections.set_deadline(id, None);
        lone.node.admission_overdue(id);
        assert!(no_longer_than(lone.time_left(id), short), "it is valid, and looked at again");
        let expired = lone.certificate(&peer, Role::Agent, Duration::ZERO);
        lone.node.connections.set_standing(id, Standing::Admitted(expired));
        lone.node.connections.set_deadline(id, None);
        lone.node.admission_overdue(id);
        assert_eq!(lone.time_left(id), None, "its connection is being closed");
        let longer = lone.certificate(&peer, Role::Agent, 3 * LOOK_AGAIN);
        lone.node.connections.set_standing(id, Standing::Admitted(longer));
        lone.node.admission_overdue(id);
        assert!(no_longer_than(lone.time_left(id), LOOK_AGAIN));
    }

    #[tokio::test]
    async fn connections_that_an_agent_leaves_for_another_are_closed_a_moment_later() {
        let mut lone = Lone::new(Role::Coordinator).await;
        let peer = PeerId::random();
        let [old, dialled, other] = [(peer, false), (peer, true), (PeerId::random(), false)]
            .map(|(peer, dialled)| lone.admitted(peer, Role::Agent, dialled));
        let new = lone.admitted(peer, Role::Agent, false);
        lone.node.leave_others(&peer, new);
        assert_eq!([old, dialled, other, new].map(|id| lone.connection(id).left), [true, false, false, false]);
        assert!(lone.time_left(old) <= Some(LEFT_TIME) && lone.time_left(new) > Some(LEFT_TIME));
        lone.told();
        lone.node.admission_overdue(old);
        assert!(lone.node.connections.get(old).is_none(), "it is given up");
        assert_eq!(lone.told().len(), 0, "the peer is here on the other one");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_why_there_is_no_connection() {
        let mut lone = Lone::new(Role::Agent).await;
        let admitted = || Admission::Admitted { revocations: None };
        let refused = || Admission::Refused { reason: "no\nroom".into() };
        // What the peer shows, what it says of us, and what a waiter for membership is told.
        type Told = fn(PeerId) -> MeshError;
        let shown = |lone: &Lone, peer: &PeerId, role| Ok(lone.certificate(peer, role, LIFE));
        for (role, verdict, told) in [
            (Role::Coordinator, Admission::Revoked, (|peer| MeshError::ThrownOut { peer }) as Told),
            (Role::Agent, Admission::Revoked, |peer| MeshError::Refused {
                peer,
                reason: "it takes this machine for revoked".into(),
            }),
            (Role::Coordinator, refused(), |peer| MeshError::Refused { peer, reason: "noroom".into() }),
            (Role::Coordinator, Admission::Stranger, |peer| MeshError::Stranger { peer }),
        ] {
            let peer = PeerId::random();
            let id = lone.connected(peer, true);
            let certificate = shown(&lone, &peer, role);
            lone.shows(id, certificate);
            let mut waiter = lone.waits(id, peer, Purpose::Membership);
            lone.node.answered(id, verdict.clone());
            assert_eq!(outcome(&mut waiter), Some(Err(told(peer))), "{role:?}, {verdict:?}");
            assert!(!lone.connection(id).standing.is_admitted());
        }
        for verdict in [admitted(), Admission::Stranger] {
            let peer = PeerId::random();
            let id = lone.connected(peer, true);
            lone.shows(id, Err(NotRecognised::Stranger));
            let mut waiter = lone.waits(id, peer, Purpose::Membership);
            lone.node.answered(id, verdict);
            assert_eq!(outcome(&mut waiter), Some(Err(MeshError::NoCertificate { peer })));
        }
        let peer = PeerId::random();
        let id = lone.connected(peer, true);
        let expired = lull_shared::time::Timestamp(7);
        lone.shows(id, Err(NotRecognised::Expired(expired)));
        let mut waiter = lone.waits(id, peer, Purpose::Membership);
        lone.node.answered(id, admitted());
        assert_eq!(outcome(&mut waiter), Some(Err(MeshError::Expired { peer, at: expired })));
        let id = lone.connected(peer, true);
        lone.shows(id, Err(NotRecognised::Refused(lull_shared::identity::CertificateError::Network)));
        let mut waiter = lone.waits(id, peer, Purpose::Membership);
        lone.node.answered(id, admitted());
        let source = lull_shared::identity::CertificateError::Network;
        assert_eq!(outcome(&mut waiter), Some(Err(MeshError::Untrusted { peer, source })));
        let id = lone.connected(peer, true);
        let mut waiter = lone.waits(id, peer, Purpose::Membership);
        lone.node.not_admitted(id, MeshError::Silent { peer });
        assert_eq!(outcome(&mut waiter), Some(Err(MeshError::Silent { peer })));
        let id = lone.connected(peer, true);
        let mut waiter = lone.waits(id, peer, Purpose::Membership);
        lone.node.disconnected(peer, id, "it was closed".into());
        assert_eq!(outcome(&mut waiter), Some(Err(MeshError::Lost { peer, reason: "it was closed".into() })));
    }

    #[tokio::test]
    async fn a_coordinator_that_does_not_know_us_may_enrol_us_and_nobody_else_may() {
        let mut lone = Lone::new(Role::Agent).await;
        for (role, enrols) in [(Role::Coordinator, true), (Role::Agent, false)] {
            let peer = PeerId::random();
            let [id, other] = [true, true].map(|dialled| lone.connected(peer, dialled));
            let certificate = lone.certificate(&peer, role, LIFE);
            lone.shows(id, Ok(certificate));
            let mut enrolment = lone.waits(other, peer, Purpose::Enrolment);
            let mut elsewhere = lone.waits(other, peer, Purpose::Membership);
            let mut strangers = lone.waits(id, PeerId::random(), Purpose::Enrolment);
            lone.node.answered(id, Admission::Stranger);
            let right = if enrols { Ok(()) } else { Err(MeshError::NoCoordinator { peer }) };
            assert_eq!(outcome(&mut enrolment), Some(right), "{role:?}");
            assert_eq!((outcome(&mut elsewhere), outcome(&mut strangers)), (None, None), "they wait for something else");
        }
    }

    #[tokio::test]
    async fn a_newer_list_of_the_authority_holds_and_nothing_else_does() {
        for role in [Role::Coordinator, Role::Agent] {
            let mut lone = Lone::new(role).await;
            let [out, back, other] = [(); 3].map(|()| PeerId::random());
            let ids = [out, back, other].map(|peer| lone.admitted(peer, Role::Agent, false));
            lone.told();
            let authority = lone.issuer.authority.clone();
            let is_out = |lone: &Lone| [out, back, other].map(|peer| lone.node.membership.is_revoked(&peer));
            let forged = lone.revocations(&Keypair::generate_ed25519(), 9, &[other]);
            assert_eq!((lone.node.publish_revocations(forged), is_out(&lone)), (None, [false; 3]));
            let list = lone.revocations(&authority, 5, &[out, back]);
            assert_eq!((lone.node.publish_revocations(list.clone()).as_ref(), is_out(&lone)), (Some(&list), [true, true, false]));
            let here = ids.map(|id| lone.node.connections.get(id).is_some());
            // An agent's are closed by the swarm; a coordinator's are gone at once.
            assert_eq!(here, if role == Role::Coordinator { [false, false, true] } else { [true; 3] });
            let blocked =
                |lone: &Lone| [out, back, other].map(|peer| lone.node.swarm.behaviour().blocked.blocked_peers().contains(&peer));
            let cut = role == Role::Agent;
            assert_eq!(blocked(&lone), [cut, cut, false], "to a coordinator it may come back to hear why");
            if let Some(known) = &mut lone.node.known {
                assert_eq!([out, other].map(|peer| known.get(&peer).is_some()), [false, true]);
            }
            assert!(!lone.node.membership.was_member(&out) && lone.node.membership.was_member(&other));
            for counter in [4, 5] {
                let older = lone.revocations(&authority, counter, &[other]);
                assert_eq!(lone.node.publish_revocations(older).as_ref(), Some(&list), "these are newer");
            }
            let newer = lone.revocations(&authority, 6, &[out]);
            assert_eq!((lone.node.publish_revocations(newer.clone()), is_out(&lone)), (Some(newer), [true, false, false]));
            assert_eq!(blocked(&lone), [cut, false, false], "one is let in again");
            let huge = Revocations {
                edition: Edition { term: lull_shared::id::Term(9), counter: 9, draw: 0 },
                peers: vec![vec![0; 1_000]; 1_000],
            };
            lone.node.publish_revocations(lull_shared::identity::sign(&authority, &huge));
            assert_eq!(is_out(&lone), [true, false, false], "longer than any list");
        }
    }

    #[tokio::test]
    async fn everybody_who_is_admitted_is_told_of_a_newer_list_however_it_came() {
        let mut lone = Lone::new(Role::Agent).await;
        let peer = PeerId::random();
        let member = lone.admitted(peer, Role::Coordinator, false);
        let stranger = lone.connected(PeerId::random(), false);
        let authority = lone.issuer.authority.clone();
        let introducing = |lone: &Lone| [member, stranger].map(|id| lone.connection(id).introducing);
        lone.told();
        let list = lone.revocations(&authority, 1, &[]);
        lone.node.publish_revocations(list);
        assert_eq!((introducing(&lone), lone.told().len()), ([true, false], 0), "the process said it itself");
        let newer = lone.revocations(&authority, 2, &[]);
        lone.node.answered(member, Admission::Admitted { revocations: Some(newer.clone()) });
        assert_eq!(introducing(&lone), [true, false]);
        assert!(matches!(&lone.told()[..], [NodeEvent::Revoked { signed }] if *signed == newer));
        lone.node.answered(member, Admission::Admitted { revocations: Some(newer) });
        assert_eq!(lone.told().len(), 0, "it is known");
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_on_every_connection_and_one_of_another_network_is_not_used() {
        let mut lone = Lone::new(Role::Agent).await;
        let ids = [true, false].map(|dialled| lone.admitted(PeerId::random(), Role::Agent, dialled));
        let shows = |lone: &Lone| lone.node.membership.certificate.clone();
        let before = shows(&lone);
        let foreign =
            lull_shared::identity::Issuer { network: NetworkId([9; 16]), authority: lone.issuer.authority.clone(), life: LIFE };
        lone.node.set_certificate(foreign.issue(&lone.own, Role::Coordinator, None, "own", now()));
        assert_eq!((shows(&lone), lone.node.membership.is_coordinator()), (before, false));
        let renewed = lone.issuer.issue(&lone.own, Role::Coordinator, None, "own", now());
        lone.node.set_certificate(renewed.clone());
        assert_eq!((shows(&lone), lone.node.membership.is_coordinator()), (Some(renewed), true));
        assert!(ids.iter().all(|id| lone.connection(*id).introducing));
    }

    #[tokio::test]
    async fn gossip_is_believed_of_whom_we_recognise_passed_on_when_it_is_new_and_rejected_when_it_is_wrong() {
        use gossipsub::MessageAcceptance::{Accept, Ignore, Reject};
        let mut lone = Lone::new(Role::Coordinator).await;
        let [member, stranger] = [PeerId::random(), PeerId::random()];
        lone.admitted(member, Role::Agent, false);
        lone.connected(stranger, false);
        lone.told();
        let authority = lone.issuer.authority.clone();
        let message = |topic: gossipsub::TopicHash, source: Option<PeerId>, data: Vec<u8>| gossipsub::Message {
            source,
            data,
            sequence_number: None,
            topic,
        };
        let revocations = |data| message(gossip::revocation_topic().hash(), Some(member), data);
        let list = codec::encode(&lone.revocations(&authority, 1, &[]));
        let forged = codec::encode(&lone.revocations(&Keypair::generate_ed25519(), 2, &[]));
        let same = |one: &gossipsub::MessageAcceptance, other: &gossipsub::MessageAcceptance| {
            std::mem::discriminant(one) == std::mem::discriminant(other)
        };
        let mut hears = |from: &PeerId, message: gossipsub::Message, right: gossipsub::MessageAcceptance, events: usize| {
            let found = lone.node.heard(from, &message);
            assert!(same(&found, &right), "{found:?} and not {right:?}: {message:?}");
            assert_eq!(lone.told().len(), events, "{message:?}");
        };
        hears(&stranger, revocations(list.clone()), Ignore, 0);
        hears(&member, revocations(vec![1, 2, 3]), Reject, 0);
        hears(&member, revocations(forged), Reject, 0);
        hears(&member, revocations(list.clone()), Accept, 1);
        hears(&member, revocations(list), Ignore, 0);
        let capacity = gossipsub::IdentTopic::new(lull_shared::protocol::capacity_topic(lull_shared::id::AgentId(7))).hash();
        hears(&member, message(capacity.clone(), None, vec![1]), Reject, 0);
        hears(&member, message(capacity.clone(), Some(PeerId::random()), vec![1]), Ignore, 0);
        hears(&member, message(capacity, Some(member), vec![1]), Reject, 0);
    }

    #[tokio::test]
    async fn where_agents_listen_is_kept_while_they_are_connected_and_by_coordinators_alone() {
        for (role, kept) in [(Role::Coordinator, 1), (Role::Agent, 0)] {
            let mut lone = Lone::new(role).await;
            let peer = PeerId::random();
            let ids = [false, false].map(|dialled| lone.connected(peer, dialled));
            let listening = || vec!["/ip4/10.0.0.9/tcp/7".parse().expect("an address")];
            let known = |lone: &Lone| lone.node.exchange.book().len();
            lone.node.learn_addresses(ids[0], listening());
            assert_eq!(known(&lone), kept, "{role:?}");
            lone.node.disconnected(peer, ids[0], "cut".into());
            assert_eq!(known(&lone), kept, "it is here on the other one");
            lone.node.disconnected(peer, ids[1], "cut".into());
            assert_eq!(known(&lone), 0);
            let out = PeerId::random();
            let list = lone.revocations(&lone.issuer.authority.clone(), 1, &[out]);
            lone.node.publish_revocations(list);
            let id = lone.connected(out, false);
            lone.node.learn_addresses(id, listening());
            assert_eq!(known(&lone), 0, "nobody is sent to one that was thrown out");
        }
    }

    #[tokio::test]
    async fn an_agent_looks_after_the_connections_that_it_made_to_agents_and_after_no_others() {
        let looks = |role, dialled| async move {
            let mut lone = Lone::new(Role::Agent).await;
            let id = lone.admitted(PeerId::random(), role, dialled);
            lone.node.idle_due = None;
            let start = Instant::now();
            lone.node.close_idle(start);
            let first = lone.node.idle_due.map(|due| due > start);
            // The second look finds it idle; it is closed, and counts until it is.
            lone.node.close_idle(start);
            (first, lone.node.connections.get_mut(id).expect("it is there").has_been_idle())
        };
        assert_eq!(looks(Role::Agent, true).await, (Some(true), true));
        for (role, dialled) in [(Role::Agent, false), (Role::Coordinator, true), (Role::Coordinator, false)] {
            assert_eq!(looks(role, dialled).await, (None, false), "{role:?}, {dialled}");
        }
    }
}
