//! Dialling, and those who wait for it.

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use crate::{
    error::{MeshError, in_words},
    node::Running,
};

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Membership,
    Enrolment,
}

/// Somebody who waits for a connection.
pub(crate) struct Waiter {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) purpose: Purpose,
    pub(crate) reply: oneshot::Sender<Result<(), MeshError>>,
}

impl Running {
    pub(crate) fn connect(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        purpose: Purpose,
        reply: oneshot::Sender<Result<(), MeshError>>,
    ) {
        let suits = match purpose {
            Purpose::Membership => self.connections.admitted(&peer).is_some(),
            Purpose::Enrolment => self.connections.recognised(&peer).is_some(),
        };
        if suits {
            // Whoever asked may have gone away, here and below.
            let _ = reply.send(Ok(()));
            return;
        }
        if self.membership.is_revoked(&peer) {
            let _ = reply.send(Err(MeshError::Revoked { peer }));
            return;
        }
        if let Some(connection) = self.connections.ids_of(&peer).first().copied() {
            self.waiters.push(Waiter { connection, peer, purpose, reply });
            self.introduce(connection);
            return;
        }
        match self.dial(peer, addresses) {
            Ok(connection) => self.waiters.push(Waiter { connection, peer, purpose, reply }),
            Err(error) => {
                let _ = reply.send(Err(MeshError::Unreachable { peer, reason: dial_error_in_words(&error) }));
            }
        }
    }

    /// Never from the port that we listen on: no firewall here needs it, and some systems refuse it.
    pub(crate) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<ConnectionId, DialError> {
        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).allocate_new_port().build();
        let connection = options.connection_id();
        self.swarm.dial(options).map(|()| connection)
    }

    pub(crate) fn fail_waiters(&mut self, id: ConnectionId, error: impl Fn(PeerId) -> MeshError) {
        for waiter in self.waiters.extract_if(.., |waiter| waiter.connection == id) {
            // Whoever asked may have gone away.
            let _ = waiter.reply.send(Err(error(waiter.peer)));
        }
    }

    pub(crate) fn resolve_waiters(&mut self, peer: &PeerId, outcome: impl Fn(&Waiter) -> Option<Result<(), MeshError>>) {
        for waiter in std::mem::take(&mut self.waiters) {
            match (waiter.peer == *peer).then(|| outcome(&waiter)).flatten() {
                // Whoever asked may have gone away.
                Some(outcome) => drop(waiter.reply.send(outcome)),
                None => self.waiters.push(waiter),
            }
        }
    }
}

pub(crate) fn dial_error_in_words(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => "it is this machine itself".to_owned(),
        DialError::NoAddresses => "no address of it is known".to_owned(),
        DialError::WrongPeerId { obtained, address } => format!("{obtained} answers at {address} instead"),
        DialError::Denied { cause } => in_words(cause),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => "the dial was given up".to_owned(),
        DialError::Transport(errors) => {
            errors.iter().map(|(address, error)| format!("{address}: {}", in_words(error))).collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::identity::Role;

    use super::*;
    use crate::{lone::Lone, peers::admission::NotRecognised};

    type Outcome = oneshot::Receiver<Result<(), MeshError>>;

    fn asks(lone: &mut Lone, peer: PeerId, purpose: Purpose, addresses: &[&str]) -> Outcome {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let (reply, outcome) = oneshot::channel();
        lone.node.connect(peer, addresses, purpose, reply);
        outcome
    }

    fn waiting(lone: &Lone) -> Vec<ConnectionId> {
        lone.node.waiters.iter().map(|waiter| waiter.connection).collect()
    }

    #[tokio::test]
    async fn a_connection_that_suits_is_used_and_one_that_does_not_is_introduced_again() {
        let mut lone = Lone::new(Role::Agent).await;
        let member = PeerId::random();
        lone.admitted(member, Role::Coordinator, true);
        for purpose in [Purpose::Membership, Purpose::Enrolment] {
            assert_eq!(asks(&mut lone, member, purpose, &[]).try_recv(), Ok(Ok(())), "{purpose:?}");
        }
        let recognised = PeerId::random();
        let id = lone.connected(recognised, false);
        let certificate = lone.certificate(&recognised, Role::Coordinator, std::time::Duration::from_secs(60));
        lone.shows(id, Ok(certificate));
        assert_eq!(asks(&mut lone, recognised, Purpose::Enrolment, &[]).try_recv(), Ok(Ok(())), "it knows who that is");
        assert!(!lone.connection(id).introducing);
        assert!(asks(&mut lone, recognised, Purpose::Membership, &[]).try_recv().is_err(), "it must know us too");
        assert_eq!((waiting(&lone), lone.connection(id).introducing), (vec![id], true));
        let stranger = PeerId::random();
        let [first, second] = [false, false].map(|dialled| lone.connected(stranger, dialled));
        lone.shows(first, Err(NotRecognised::Stranger));
        for purpose in [Purpose::Membership, Purpose::Enrolment] {
            assert!(asks(&mut lone, stranger, purpose, &[]).try_recv().is_err(), "{purpose:?}");
        }
        assert_eq!(waiting(&lone), [id, first, first]);
        assert_eq!([first, second].map(|id| lone.connection(id).introducing), [true, false]);
    }

    #[tokio::test]
    async fn whoever_is_not_connected_is_dialled_unless_it_was_thrown_out_or_nobody_knows_where() {
        let mut lone = Lone::new(Role::Agent).await;
        let [out, other] = [PeerId::random(), PeerId::random()];
        let list = lone.revocations(&lone.issuer.authority.clone(), 1, &[out]);
        lone.node.publish_revocations(list);
        let address = ["/ip4/127.0.0.1/tcp/9"];
        assert_eq!(asks(&mut lone, out, Purpose::Membership, &address).try_recv(), Ok(Err(MeshError::Revoked { peer: out })));
        let nowhere = MeshError::Unreachable { peer: other, reason: "no address of it is known".into() };
        assert_eq!(asks(&mut lone, other, Purpose::Membership, &[]).try_recv(), Ok(Err(nowhere)));
        assert_eq!(waiting(&lone), []);
        let mut outcome = asks(&mut lone, other, Purpose::Membership, &address);
        assert!(outcome.try_recv().is_err());
        let [dialled] = waiting(&lone)[..] else { panic!("somebody waits") };
        assert!(lone.node.connections.get(dialled).is_none(), "it is not there yet");
    }

    #[tokio::test]
    async fn only_those_who_wait_for_just_that_are_answered() {
        let mut lone = Lone::new(Role::Agent).await;
        let [one, two] = [PeerId::random(), PeerId::random()];
        let ids = [1, 2].map(ConnectionId::new_unchecked);
        let mut outcomes =
            [(ids[0], one), (ids[1], one), (ids[1], two)].map(|(id, peer)| lone.waits(id, peer, Purpose::Membership));
        let mut told = || outcomes.each_mut().map(|outcome| outcome.try_recv().ok());
        lone.node.fail_waiters(ids[0], |peer| MeshError::Silent { peer });
        assert_eq!(told(), [Some(Err(MeshError::Silent { peer: one })), None, None]);
        lone.node.resolve_waiters(&one, |_| None);
        assert_eq!(told(), [None, None, None], "it is not decided");
        lone.node.resolve_waiters(&one, |_| Some(Ok(())));
        assert_eq!(told(), [None, Some(Ok(())), None]);
        assert_eq!(lone.node.waiters.len(), 1);
    }
}
