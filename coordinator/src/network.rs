//! EDGE: the coordinator's side of the mesh: enrols machines, reads agents' streams, passes capacity on.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use libp2p::PeerId;
use lull_shared::{
    constraint::is_name,
    id::{AgentId, Epoch},
    identity::{Authority, Certificate, Issuer, Revocations, Role, sign},
    limits,
    mesh::{CoordinatorStream, FrameError, NodeEvent, NodeHandle, in_words},
    message::{BlobReport, GoodbyeReason, Hello, ToAgent, ToAgentFrame, ToCoordinator, ToCoordinatorFrame},
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
    state::Intake,
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    claims, clock,
    dispatch::{Catalogue, DispatchHandle, writer},
    scheduler::event::{AgentSnapshot, Event, StreamId},
    store::{
        Store,
        record::{Enrolment, EnrolmentOutcome},
    },
    tracker::Tracker,
};

/// What the coordinator does with what comes over the mesh.
#[derive(Clone)]
pub struct Network {
    pub store: Arc<dyn Store>,
    pub dispatch: DispatchHandle,
    pub catalogue: Arc<Catalogue>,
    pub tracker: Arc<Tracker>,
    pub node: NodeHandle,
    pub issuer: Arc<Issuer>,
    pub epoch: Epoch,
    /// Addresses that agents are told besides those this node listens on.
    pub announce: Vec<String>,
}

/// Streams of one process are numbered in the order in which they came.
static STREAMS: AtomicU64 = AtomicU64::new(0);

impl Network {
    /// Takes the node's events until it stops.
    pub async fn run(self, mut events: mpsc::Receiver<NodeEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                NodeEvent::Work { peer, certificate, stream } => {
                    let network = self.clone();
                    tokio::spawn(async move { network.work(peer, certificate, stream).await });
                }
                NodeEvent::Enrolment { peer, request, reply } => {
                    let network = self.clone();
                    tokio::spawn(async move {
                        // The machine may have gone.
                        let _ = reply.send(network.enrol(peer, request).await);
                    });
                }
                NodeEvent::Capacity { capacity, .. } => {
                    // A loop that has ended has no use for it.
                    let _ = self.dispatch.event(Event::Capacity { capacity }).await;
                }
                NodeEvent::Revoked { .. }
                | NodeEvent::Admitted { .. }
                | NodeEvent::Disconnected { .. }
                | NodeEvent::Discovered { .. } => {}
            }
        }
    }

    /// Where agents find coordinators.
    pub async fn coordinators(&self) -> Vec<String> {
        let own = self.node.listen_addresses().await.into_iter().map(|address| address.to_string());
        let mut addresses: Vec<String> = self.announce.iter().cloned().chain(own).collect();
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        addresses
    }

    async fn enrol(&self, peer: PeerId, request: EnrolmentRequest) -> EnrolmentReply {
        match self.try_enrol(peer, request).await {
            Ok(reply) => reply,
            Err(refusal) => {
                tracing::info!(%peer, %refusal, "a machine was refused");
                EnrolmentReply::Refused(refusal)
            }
        }
    }

    async fn try_enrol(&self, peer: PeerId, request: EnrolmentRequest) -> Result<EnrolmentReply, EnrolmentRefusal> {
        let unavailable = |error: crate::store::StoreError| {
            tracing::warn!(%error, "cannot enrol");
            EnrolmentRefusal::Unavailable
        };
        let now = clock::now();
        let agent = match request {
            EnrolmentRequest::Join { token, secret, name } => {
                if !is_name(&name) {
                    return Err(EnrolmentRefusal::Name(name.chars().take(limits::NAME_BYTES_MAX).collect()));
                }
                let enrolment = Enrolment { token, fingerprint: secret.fingerprint(), peer: peer.to_bytes(), name, at: now };
                match self.store.enrol(self.epoch, enrolment).await.map_err(unavailable)? {
                    EnrolmentOutcome::Enrolled { agent, .. } => *agent,
                    EnrolmentOutcome::UnknownToken => return Err(EnrolmentRefusal::UnknownToken),
                    EnrolmentOutcome::Expired => return Err(EnrolmentRefusal::Expired),
                    EnrolmentOutcome::UsedUp => return Err(EnrolmentRefusal::UsedUp),
                    EnrolmentOutcome::Revoked => return Err(EnrolmentRefusal::Revoked),
                }
            }
            EnrolmentRequest::Renew { certificate } => {
                let authority = Authority::of(&self.issuer.authority);
                Certificate::verify_expired(&certificate, &authority, self.issuer.network, &peer)
                    .map_err(|_| EnrolmentRefusal::UnknownToken)?;
                let known = self.store.agent_by_peer(&peer.to_bytes()).await.map_err(unavailable)?;
                match known {
                    Some(agent) if agent.intake != Intake::Revoked => agent,
                    Some(_) => return Err(EnrolmentRefusal::Revoked),
                    None => return Err(EnrolmentRefusal::UnknownToken),
                }
            }
        };
        tracing::info!(agent = %agent.agent, name = agent.name, %peer, "a machine is enrolled");
        let snapshot = AgentSnapshot { agent: agent.agent, name: agent.name.clone(), intake: agent.intake };
        self.dispatch.event(Event::Enrolled { agent: snapshot }).await.map_err(|_| EnrolmentRefusal::Unavailable)?;
        Ok(EnrolmentReply::Enrolled {
            agent: agent.agent,
            certificate: self.issuer.issue(&peer, Role::Agent, Some(agent.agent), &agent.name, now),
            name: agent.name,
            coordinators: self.coordinators().await,
        })
    }

    /// Reads an agent's stream to its end.
    async fn work(self, peer: PeerId, certificate: Certificate, stream: CoordinatorStream) {
        let Some(agent) = certificate.agent else {
            tracing::warn!(%peer, "a work stream without an agent's number");
            return;
        };
        let CoordinatorStream { mut incoming, mut outgoing } = stream;
        let (hello, messages) = match greeting(agent, incoming.next().await) {
            Ok(Some(greeting)) => greeting,
            Ok(None) => return,
            Err(reason) => {
                refuse(&mut outgoing, reason.clone()).await;
                if let GoodbyeReason::Protocol(what) = reason {
                    self.breach(agent, None, what).await;
                }
                return;
            }
        };
        let number = StreamId(STREAMS.fetch_add(1, Ordering::Relaxed) + 1);
        let now = clock::now();
        let fresh = || self.issuer.issue(&peer, Role::Agent, Some(agent), &certificate.name, now);
        let about = writer::Peer {
            agent,
            stream: number,
            epoch: self.epoch,
            certificate: certificate.wants_renewal(now).then(fresh),
            coordinators: self.coordinators().await,
            heartbeat: limits::HEARTBEAT,
        };
        let link = writer::spawn(about, self.catalogue.clone(), self.dispatch.clone(), outgoing);
        tracing::info!(%agent, name = certificate.name, "an agent connected");
        self.tracker.connected(agent, peer, number);
        let connected = Event::Connected { agent, stream: number, hello };
        if self.dispatch.attach(number, link).await.is_err() || self.dispatch.event(connected).await.is_err() {
            return;
        }
        let places = Arc::new(Semaphore::new(limits::FRAMES_WAITING_MAX));
        let mut pending = messages;
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let place = Arc::new(place);
            for message in pending.drain(..) {
                let message = match claims::check(&*self.store, agent, message).await {
                    Ok(ToCoordinator::Blobs(report)) => match self.blobs(agent, number, report).await {
                        Ok(()) => continue,
                        Err(wrong) => return self.breach(agent, Some(number), wrong).await,
                    },
                    Ok(message) => message,
                    Err(wrong) => return self.breach(agent, Some(number), wrong).await,
                };
                if self.dispatch.heard(Event::Message { agent, stream: number, message }, place.clone()).await.is_err() {
                    return;
                }
            }
            match incoming.next().await {
                Some(Ok(frame)) => pending = frame.messages,
                Some(Err(error)) if is_breach(&error) => return self.breach(agent, Some(number), in_words(&error)).await,
                Some(Err(error)) => {
                    tracing::debug!(%agent, %error, "an agent's stream broke");
                    return self.gone(agent, number).await;
                }
                None => return self.gone(agent, number).await,
            }
        }
    }

    /// Takes in what an agent says it holds.
    async fn blobs(&self, agent: AgentId, stream: StreamId, report: BlobReport) -> Result<(), String> {
        for change in self.tracker.report(agent, stream, report)? {
            // A loop that has ended has no use for it.
            let _ = self.dispatch.event(change).await;
        }
        Ok(())
    }

    /// The agent is told why, if there is a stream to say it on, and has nothing more to say on it.
    async fn breach(&self, agent: AgentId, stream: Option<StreamId>, what: String) {
        tracing::warn!(%agent, what, "an agent broke the protocol; its stream is closed");
        if let Some(stream) = stream {
            self.forget_blobs(agent, stream).await;
        }
        // A loop that has ended has no use for it.
        let _ = self.dispatch.event(Event::Breach { agent, stream, what }).await;
    }

    async fn forget_blobs(&self, agent: AgentId, stream: StreamId) {
        for change in self.tracker.gone(agent, stream) {
            // A loop that has ended has no use for it.
            let _ = self.dispatch.event(change).await;
        }
    }

    async fn gone(&self, agent: AgentId, stream: StreamId) {
        tracing::info!(%agent, "an agent's stream closed");
        self.forget_blobs(agent, stream).await;
        // A loop that has ended has no use for it.
        let _ = self.dispatch.event(Event::Disconnected { agent, stream }).await;
    }

    /// Signs and spreads who was thrown out, at the start and after each revocation.
    pub async fn spread_revocations(&self) {
        let agents = match self.store.agents().await {
            Ok(agents) => agents,
            Err(error) => return tracing::warn!(%error, "cannot read who was revoked"),
        };
        let peers: Vec<Vec<u8>> =
            agents.into_iter().filter(|agent| agent.intake == Intake::Revoked).map(|agent| agent.peer).collect();
        let sequence = clock::now().as_millis().unsigned_abs();
        self.node.publish_revocations(sign(&self.issuer.authority, &Revocations { sequence, peers })).await;
    }
}

/// A hello, and what came with it.
type Greeting = (Box<Hello>, Vec<ToCoordinator>);

/// The greeting of a stream; none when the agent hung up before it said anything.
fn greeting(agent: AgentId, first: Option<Result<ToCoordinatorFrame, FrameError>>) -> Result<Option<Greeting>, GoodbyeReason> {
    let first = match first {
        Some(Ok(frame)) => frame,
        Some(Err(error)) if is_breach(&error) => return Err(GoodbyeReason::Protocol(in_words(&error))),
        Some(Err(_)) | None => return Ok(None),
    };
    let mut messages = first.messages.into_iter();
    let Some(ToCoordinator::Hello(hello)) = messages.next() else {
        return Err(GoodbyeReason::Protocol("the first message must be `Hello`".into()));
    };
    claims::check_hello(agent, &hello)?;
    Ok(Some((Box::new(hello), messages.collect())))
}

/// Whether a stream ended by what came and not by what did not.
fn is_breach(error: &FrameError) -> bool {
    match error {
        FrameError::TooLong(_) | FrameError::Garbage(_) | FrameError::Wrong(_) => true,
        FrameError::Broken(_) | FrameError::CutShort | FrameError::Stalled(_) | FrameError::Closed => false,
    }
}

async fn refuse(outgoing: &mut lull_shared::mesh::FrameWriter<ToAgentFrame>, reason: GoodbyeReason) {
    tracing::warn!(%reason, "an agent is refused");
    let messages = vec![ToAgent::Goodbye { reason }];
    // It learns of it or it does not.
    let _ = outgoing.send(&ToAgentFrame { number: 0, messages }).await;
    outgoing.close().await;
}
