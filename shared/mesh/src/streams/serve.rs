//! Streams that peers open: who may open which, and the tasks that serve them.

use std::sync::Arc;

use lull_shared::{identity::Role, limits};
use tokio::sync::Semaphore;

use crate::{
    CoordinatorStream, NodeEvent,
    blobs::{delivery, upload},
    node::Running,
    peers::{connection::Held, enrolment},
    streams::{
        frames::held_frames,
        opened::{Incoming, Protocol},
    },
};

/// What all served streams share.
pub(crate) struct Services {
    pub(crate) deliveries: Arc<Semaphore>,
    pub(crate) enrolments: enrolment::Door,
}

impl Default for Services {
    fn default() -> Self {
        Self { deliveries: Arc::new(Semaphore::new(limits::DELIVERIES_MAX)), enrolments: enrolment::Door::default() }
    }
}

/// Whether a peer may open a stream of this protocol here: with which valid certificate, if any, and what this node is.
/// `MESSAGES.md` is this table for people.
pub(crate) fn may_open(protocol: Protocol, peer: Option<Role>, here: Role) -> bool {
    match (protocol, peer, here) {
        (Protocol::Admission, _, _) => true,
        (Protocol::Enrolment, _, here) => here == Role::Coordinator,
        (Protocol::Work | Protocol::Delivery, peer, here) => peer == Some(Role::Agent) && here == Role::Coordinator,
        (Protocol::Blob, peer, _) => peer.is_some(),
    }
}

impl Running {
    /// Serves a stream or refuses it, which resets it.
    pub(crate) fn serve(&mut self, incoming: Incoming) {
        let Incoming { peer, connection: id, protocol, stream } = incoming;
        let Some(connection) = self.connections.get(id) else { return };
        let Ok(place) = connection.places.clone().try_acquire_owned() else {
            tracing::debug!(%peer, ?protocol, "a stream was refused: the peer has too many open");
            return;
        };
        // A connection of somebody revoked is being closed.
        let certificate = connection.standing.certificate().filter(|_| !self.membership.is_revoked(&peer)).cloned();
        let traffic = connection.traffic.clone();
        let here = if self.membership.is_coordinator() { Role::Coordinator } else { Role::Agent };
        if !may_open(protocol, certificate.as_ref().map(|certificate| certificate.role), here) {
            tracing::debug!(%peer, ?protocol, "a stream was refused: the peer may not open it here");
            return;
        }
        match (protocol, certificate) {
            (Protocol::Admission, _) => {
                let conversation = self.conversation(id, peer);
                self.tasks.spawn(async move {
                    conversation.run(stream, false).await;
                    drop(place);
                });
            }
            (Protocol::Enrolment, _) => self.serve_enrolment(id, stream, place),
            (Protocol::Work, Some(certificate)) => {
                let (incoming, outgoing) = held_frames(stream, Some(Held::work(traffic, place)));
                let (address, stream) = (connection.address.clone(), CoordinatorStream { incoming, outgoing });
                self.leave_others(&peer, id);
                self.tell(NodeEvent::Work { peer, certificate, address, stream });
            }
            (Protocol::Blob, Some(_)) => {
                let (blobs, handle) = (self.blobs.clone(), self.handle.clone());
                self.tasks.spawn(async move {
                    if let Err(error) = upload::serve(peer, stream, &*blobs, &handle, &traffic).await {
                        tracing::debug!(%peer, %error, "a blob was not sent to its end");
                    }
                    drop(place);
                });
            }
            (Protocol::Delivery, Some(_)) => {
                let (blobs, deliveries) = (self.blobs.clone(), self.services.deliveries.clone());
                self.tasks.spawn(async move {
                    if let Err(error) = delivery::serve(peer, stream, &*blobs, &deliveries, &traffic).await {
                        tracing::debug!(%peer, %error, "a delivery was not taken to its end");
                    }
                    drop(place);
                });
            }
            (Protocol::Work | Protocol::Blob | Protocol::Delivery, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Protocol::{Admission, Blob, Delivery, Enrolment, Work};
    use Role::{Agent, Coordinator};

    #[test]
    fn each_protocol_is_opened_by_those_whom_it_is_for() {
        let peers = [None, Some(Agent), Some(Coordinator)];
        // At a coordinator and at an agent: a stranger, an agent, a coordinator.
        let table = [
            (Admission, [true; 3], [true; 3]),
            (Enrolment, [true; 3], [false; 3]),
            (Work, [false, true, false], [false; 3]),
            (Delivery, [false, true, false], [false; 3]),
            (Blob, [false, true, true], [false, true, true]),
        ];
        for (protocol, at_coordinator, at_agent) in table {
            assert_eq!(peers.map(|peer| may_open(protocol, peer, Coordinator)), at_coordinator, "{protocol:?}");
            assert_eq!(peers.map(|peer| may_open(protocol, peer, Agent)), at_agent, "{protocol:?}");
        }
    }
}
