//! Who is admitted: certificates, verdicts, revocations, and what follows from them.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use libp2p::{PeerId, gossipsub, swarm::ConnectionId};
use lru::LruCache;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    NodeConfig, NodeEvent,
    admission::{Conversation, NotRecognised, Shown, now, printable},
    connection::{Connection, Standing},
    dial::Purpose,
    error::MeshError,
    gossip::{self, Judgement},
    node::{Note, Running},
    streams::Protocol,
};
use crate::{
    codec,
    identity::{Authority, Certificate, Edition, NetworkId, Revocations, Role, Signed, verify},
    limits::{ADMISSION_TIME_MAX, CONNECTIONS_INCOMING_MAX, REVOCATIONS_BYTES_MAX},
    protocol::{Admission, Introduction},
};

/// Certificates of connected members are looked at again at least this often: the clock may have been set, or the
/// machine have slept.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// How long a connection is kept that its peer has left for another: the last words on its stream are still on their way.
const LEFT_TIME: Duration = Duration::from_secs(3);

/// What this node is and whom it does not admit.
pub(super) struct Membership {
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
    pub(super) fn new(config: NodeConfig) -> Self {
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

    pub(super) fn is_coordinator(&self) -> bool {
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
    pub(super) fn revoked(&self) -> impl Iterator<Item = &PeerId> {
        self.revoked.iter()
    }

    /// From now on these are out, and no others.
    fn throw_out(&mut self, revoked: BTreeSet<PeerId>) {
        for peer in &revoked {
            self.members.pop(peer);
        }
        self.revoked = revoked;
    }

    pub(super) fn is_revoked(&self, peer: &PeerId) -> bool {
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
    pub(super) fn connected(&mut self, id: ConnectionId, mut connection: Connection) {
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

    pub(super) fn disconnected(&mut self, peer: PeerId, id: ConnectionId, reason: String) {
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
    pub(super) fn give_up(&mut self, id: ConnectionId, reason: &str) {
        if let Some(peer) = self.connections.get(id).map(|connection| connection.peer) {
            self.disconnected(peer, id, reason.to_owned());
        }
        self.swarm.close_connection(id);
    }

    /// An agent works on this connection now: others that it opened before are from an address where it is no more, or soon
    /// will be.
    pub(super) fn leave_others(&mut self, peer: &PeerId, id: ConnectionId) {
        for other in self.connections.ids_of(peer).to_vec() {
            if let Some(connection) = self.connections.get_mut(other).filter(|other_one| other != id && !other_one.dialled) {
                connection.left = true;
                self.connections.set_deadline(other, Some(Instant::now() + LEFT_TIME));
            }
        }
    }

    /// Begins admission on a connection, unless it is under way.
    pub(super) fn introduce(&mut self, id: ConnectionId) {
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

    pub(super) fn conversation(&self, connection: ConnectionId, peer: PeerId) -> Conversation {
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
    pub(super) fn shown(&mut self, id: ConnectionId, shown: Shown, reply: oneshot::Sender<Admission>) {
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
    pub(super) fn answer_shown(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        for (reply, verdict) in connection.verdicts.drain(..) {
            // A conversation that broke off is reported by itself.
            let _ = reply.send(verdict);
        }
    }

    /// They decided about us.
    pub(super) fn answered(&mut self, id: ConnectionId, verdict: Admission) {
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
    pub(super) fn not_admitted(&mut self, id: ConnectionId, error: MeshError) {
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
    pub(super) fn admission_overdue(&mut self, id: ConnectionId) {
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
    pub(super) fn set_certificate(&mut self, certificate: Signed) {
        self.membership.set_certificate(certificate);
        for id in self.connections.ids() {
            self.introduce(id);
        }
    }

    /// Puts revocations into force and tells everybody. What holds afterwards: these, or those that were newer.
    pub(super) fn publish_revocations(&mut self, signed: Signed) -> Option<Signed> {
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

    pub(super) fn gossip(&mut self, event: gossipsub::Event) {
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
pub(super) async fn report(notes: &mpsc::Sender<Note>, note: Note) {
    let _ = notes.send(note).await;
}

/// As many as can be connected.
const MEMBERS_MAX: NonZeroUsize = NonZeroUsize::new(CONNECTIONS_INCOMING_MAX as usize).expect("not zero");

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::mesh::UploadRules;

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
}
