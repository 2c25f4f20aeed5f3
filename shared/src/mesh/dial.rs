//! Dialling, and those who wait for it.

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{
    error::{MeshError, in_words},
    node::Running,
};

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Membership,
    Enrolment,
}

/// Somebody who waits for a connection.
pub(super) struct Waiter {
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerId,
    pub(super) purpose: Purpose,
    pub(super) reply: oneshot::Sender<Result<(), MeshError>>,
}

impl Running {
    pub(super) fn connect(
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
    pub(super) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<ConnectionId, DialError> {
        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).allocate_new_port().build();
        let connection = options.connection_id();
        self.swarm.dial(options).map(|()| connection)
    }

    pub(super) fn fail_waiters(&mut self, id: ConnectionId, error: impl Fn(PeerId) -> MeshError) {
        for waiter in self.waiters.extract_if(.., |waiter| waiter.connection == id) {
            // Whoever asked may have gone away.
            let _ = waiter.reply.send(Err(error(waiter.peer)));
        }
    }

    pub(super) fn resolve_waiters(&mut self, peer: &PeerId, outcome: impl Fn(&Waiter) -> Option<Result<(), MeshError>>) {
        for waiter in std::mem::take(&mut self.waiters) {
            match (waiter.peer == *peer).then(|| outcome(&waiter)).flatten() {
                // Whoever asked may have gone away.
                Some(outcome) => drop(waiter.reply.send(outcome)),
                None => self.waiters.push(waiter),
            }
        }
    }
}

pub(super) fn dial_error_in_words(error: &DialError) -> String {
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
