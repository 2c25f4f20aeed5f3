//! EDGE: takes what comes over the mesh to the term of this process, or sends it on to the leader.
//!
//! An agent that comes to one that stands by is told at once where to go, as long as somebody is known to lead. When
//! that is in doubt it waits here, which costs a task and no work, and is welcomed the moment this one leads.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use lull_mesh::{CoordinatorStream, NodeEvent};
use lull_shared::{
    identity::Certificate,
    limits,
    message::GoodbyeReason,
    protocol::{EnrolmentRefusal, EnrolmentReply},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    fleet::network,
    term::phase::{Leading, Phase},
};

/// How long an agent may take for its first frame.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(10);

/// Takes the node's events until it stops.
pub(super) async fn run(phases: watch::Receiver<Phase>, mut events: mpsc::Receiver<NodeEvent>) {
    while let Some(event) = events.recv().await {
        let leader = phases.borrow().leader().cloned();
        match event {
            NodeEvent::Work { peer, certificate, address, stream } => {
                tokio::spawn(receive(phases.clone(), peer, certificate, address, stream));
            }
            NodeEvent::Enrolment { peer, request, reply } => {
                tokio::spawn(async move {
                    let answer = match leader {
                        Some(leader) => leader.coordinator.mesh.enrol(peer, request).await,
                        None => EnrolmentReply::Refused(EnrolmentRefusal::Unavailable),
                    };
                    // The machine may have gone.
                    let _ = reply.send(answer);
                });
            }
            NodeEvent::Capacity { capacity, .. } => {
                if let Some(leader) = leader {
                    leader.coordinator.mesh.capacity(capacity);
                }
            }
            NodeEvent::Revoked { signed } => {
                if let Some(leader) = leader {
                    tokio::spawn(async move { leader.coordinator.mesh.foreign_revocations(signed).await });
                }
            }
            NodeEvent::Admitted { .. } | NodeEvent::Disconnected { .. } | NodeEvent::Discovered { .. } => {}
        }
    }
}

async fn receive(
    mut phases: watch::Receiver<Phase>,
    peer: PeerId,
    certificate: Certificate,
    from: Multiaddr,
    mut stream: CoordinatorStream,
) {
    let Ok(first) = timeout(FIRST_FRAME_MAX, stream.incoming.next()).await else { return };
    match leader_of(&mut phases).await {
        Ok(leader) => leader.coordinator.mesh.clone().work(peer, certificate, from, first, stream).await,
        Err(leader) => {
            tracing::debug!(%peer, "an agent is sent on to the leader");
            network::dismiss(&mut stream.outgoing, GoodbyeReason::Standby { leader }).await;
        }
    }
}

/// The term of this process, waited for while it may come; or where there is another.
async fn leader_of(phases: &mut watch::Receiver<Phase>) -> Result<Leading, Vec<String>> {
    let settled = phases.wait_for(|phase| phase.leader().is_some() || phase.sends_on());
    // A process that stops has closed the channel; the phase is what it was.
    let _ = timeout(limits::STANDBY_WAIT_MAX, settled).await.is_ok_and(|settled| settled.is_ok());
    match &*phases.borrow() {
        Phase::Leading(leader) => Ok(leader.clone()),
        Phase::Standby(view) => Err(view.leader.as_ref().map(|other| other.addresses.clone()).unwrap_or_default()),
        Phase::Starting => Err(Vec::new()),
    }
}
