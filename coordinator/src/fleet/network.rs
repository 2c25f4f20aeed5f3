//! EDGE: the coordinator's side of the mesh: enrols machines, reads agents' streams, passes capacity on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use libp2p::{Multiaddr, PeerId};
use lull_mesh::{CoordinatorStream, FrameError, FrameWriter, NodeHandle, in_words};
use lull_scheduler::{
    event::{AgentSnapshot, Event, StreamId},
    foreign::numbers_beyond,
};
use lull_shared::{
    id::{AgentId, AttemptId, JobId, Term},
    identity::{Authority, Certificate, Edition, Issuer, Revocations, Role, Signed, TermProof, sign, verify},
    limits,
    message::{BlobReport, GoodbyeReason, Hello, PolicyReport, ToAgent, ToAgentFrame, ToCoordinator, ToCoordinatorFrame},
    name::check_name,
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
    resources::{Capacity, Labels},
    state::{Intake, full_labels},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    dispatch::{Catalogue, DispatchHandle, Place, writer},
    fleet::{
        claims::{self, Wrong},
        logs::Logs,
        policies::Policies,
        tracker::Tracker,
        upgrades::Upgrades,
    },
    presence::Presence,
    store::{
        ForAgents, Lead, StoreError,
        record::{AgentRecord, Enrolment, EnrolmentOutcome, RevocationsRecord, Rise},
    },
};

/// What the coordinator does with what comes over the mesh.
#[derive(Clone)]
pub struct Network {
    pub store: Arc<dyn ForAgents>,
    pub dispatch: DispatchHandle,
    pub catalogue: Arc<Catalogue>,
    pub tracker: Arc<Tracker>,
    pub policies: Arc<Policies>,
    pub upgrades: Arc<Upgrades>,
    pub logs: Arc<Logs>,
    pub node: NodeHandle,
    pub issuer: Arc<Issuer>,
    pub lead: Lead,
    /// Drawn for this term: tells its lists of revocations from those of another coordinator in a term of the same number.
    pub draw: u64,
    /// Where coordinators are to be found.
    pub presence: Arc<Presence>,
    /// Ends the term.
    pub over: CancellationToken,
}

/// The first thing that was read from a stream.
pub(crate) type First = Option<Result<ToCoordinatorFrame, FrameError>>;

/// What one agent may have waiting in the loop's mailbox, in [`weight`]s: others wait for no more of it than the longest
/// message that there may be, however much it says.
const WAITING_MAX: u32 = (limits::ATTEMPTS_PER_AGENT_MAX / ATTEMPTS_PER_WEIGHT) as u32 + 1;
/// Attempts that take as much of the loop's time as a message does in itself.
const ATTEMPTS_PER_WEIGHT: usize = 16;

/// How much of the loop's time a message takes: as much as a small one, and what it names.
fn weight(message: &ToCoordinator) -> u32 {
    let named = match message {
        ToCoordinator::Started { attempts } | ToCoordinator::Released { attempts, .. } => attempts.len(),
        ToCoordinator::Heartbeat { holding, .. } => holding.len(),
        ToCoordinator::Finished(finished) => finished.len(),
        ToCoordinator::Cards(cards) => cards.len(),
        ToCoordinator::Hello(_)
        | ToCoordinator::Paused { .. }
        | ToCoordinator::Saved { .. }
        | ToCoordinator::Keeps(_)
        | ToCoordinator::Unkept { .. }
        | ToCoordinator::Remains(_)
        | ToCoordinator::Log(_)
        | ToCoordinator::Refused { .. }
        | ToCoordinator::Capacity(_)
        | ToCoordinator::Blobs(_)
        | ToCoordinator::Policy(_)
        | ToCoordinator::Sleeps
        | ToCoordinator::Leaves
        | ToCoordinator::Upgrade(_)
        | ToCoordinator::Farewell => 0,
    };
    (1 + named / ATTEMPTS_PER_WEIGHT).min(WAITING_MAX as usize) as u32
}

/// What of one stream was read and waits for the loop. When there is no place for more, nothing more is read: what the agent
/// says then waits with it.
struct Unhandled {
    frames: Arc<Semaphore>,
    weight: Arc<Semaphore>,
}

impl Default for Unhandled {
    fn default() -> Self {
        Self {
            frames: Arc::new(Semaphore::new(limits::FRAMES_WAITING_MAX)),
            weight: Arc::new(Semaphore::new(WAITING_MAX as usize)),
        }
    }
}

impl Unhandled {
    /// A frame's place, free again when its last message was handled.
    async fn frame(&self) -> Option<Arc<OwnedSemaphorePermit>> {
        self.frames.clone().acquire_owned().await.ok().map(Arc::new)
    }

    /// The place of one of its messages.
    async fn message(&self, frame: &Arc<OwnedSemaphorePermit>, message: &ToCoordinator) -> Option<Place> {
        let share = self.weight.clone().acquire_many_owned(weight(message)).await.ok()?;
        Some(Place::new(frame.clone(), share))
    }
}

/// Streams of one process are numbered in the order in which they came.
static STREAMS: AtomicU64 = AtomicU64::new(0);

impl Network {
    /// What an agent has free, by gossip.
    pub fn capacity(&self, capacity: Capacity) {
        self.dispatch.hint(Event::Capacity { capacity });
    }

    /// Answers a machine that wants a certificate.
    pub async fn enrol(&self, peer: PeerId, request: EnrolmentRequest) -> EnrolmentReply {
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
                let called = || name.chars().take(limits::NAME_BYTES_MAX).collect::<String>();
                if let Err(why) = check_name(&name) {
                    return Err(EnrolmentRefusal::Name { name: called(), why: why.to_string() });
                }
                let called = called();
                let enrolment = Enrolment { token, fingerprint: secret.fingerprint(), peer: peer.to_bytes(), name, at: now };
                match self.store.enrol(&self.lead, enrolment).await.map_err(unavailable)? {
                    EnrolmentOutcome::Enrolled { agent, replaced, .. } => {
                        if let Some(replaced) = replaced {
                            tracing::warn!(agent = %replaced.agent, name = replaced.name, by = %agent.agent, "its place is taken");
                            self.enrolled(*replaced).await?;
                        }
                        *agent
                    }
                    EnrolmentOutcome::UnknownToken => return Err(EnrolmentRefusal::UnknownToken),
                    EnrolmentOutcome::Expired => return Err(EnrolmentRefusal::Expired),
                    EnrolmentOutcome::UsedUp => return Err(EnrolmentRefusal::UsedUp),
                    EnrolmentOutcome::Revoked => return Err(EnrolmentRefusal::Revoked),
                    EnrolmentOutcome::NotBound => return Err(EnrolmentRefusal::NotBound(called)),
                    EnrolmentOutcome::NameRevoked => return Err(EnrolmentRefusal::NameRevoked(called)),
                    EnrolmentOutcome::NameTaken => return Err(EnrolmentRefusal::NameTaken(called)),
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
        self.enrolled(agent.clone()).await?;
        Ok(EnrolmentReply::Enrolled {
            agent: agent.agent,
            certificate: self.issuer.issue_in(agent.group.as_deref(), &peer, Role::Agent, Some(agent.agent), &agent.name, now),
            name: agent.name,
            coordinators: self.presence.addresses().to_vec(),
        })
    }

    /// The loop learns what an agent is called.
    async fn enrolled(&self, record: AgentRecord) -> Result<(), EnrolmentRefusal> {
        let AgentRecord { agent, name, group, intake, quarantine, .. } = record;
        let agent = AgentSnapshot { agent, name, group, intake, quarantine };
        self.dispatch.event(Event::Enrolled { agent }).await.map_err(|_| EnrolmentRefusal::Unavailable)
    }

    /// Reads an agent's stream, of which this was read first, to its end.
    pub async fn work(self, peer: PeerId, certificate: Certificate, from: Multiaddr, first: First, stream: CoordinatorStream) {
        let Some(agent) = certificate.agent else {
            tracing::warn!(%peer, "a work stream without an agent's number");
            return;
        };
        let CoordinatorStream { mut incoming, mut outgoing } = stream;
        let (hello, messages) = match greeting(agent, first) {
            Ok(Some(greeting)) => greeting,
            Ok(None) => return,
            Err(reason) => {
                refuse(&mut outgoing, reason.clone()).await;
                if let GoodbyeReason::Protocol(what) = reason {
                    self.breach(agent, None, what, Vec::new()).await;
                }
                return;
            }
        };
        if let Some(seen) = self.higher_term(&hello) {
            let kept = hello.snapshots.iter().map(|kept| kept.task.job);
            let named = hello.holding.iter().map(|attempt| attempt.task.job).chain(kept).collect();
            self.rise_above(seen, &agent.to_string(), named).await;
            return dismiss(&mut outgoing, GoodbyeReason::Standby { leader: Vec::new() }).await;
        }
        // A machine whose place another one took is called otherwise than its certificate says.
        let Ok(called) = self.dispatch.query(move |scheduler, _| scheduler.name_of(agent)).await else { return };
        let name = called.unwrap_or_else(|| certificate.name.clone());
        let number = StreamId(STREAMS.fetch_add(1, Ordering::Relaxed) + 1);
        let now = clock::now();
        let group = certificate.group.as_deref();
        let fresh = || self.issuer.issue_in(group, &peer, Role::Agent, Some(agent), &name, now);
        let labels = full_labels(&hello.labels, &name, group, &hello.machine);
        let mut policy = self.policies.feed(agent, labels.clone());
        let mut addresses = self.presence.watch_addresses();
        let about = writer::Peer {
            agent,
            stream: number,
            term: self.lead.term,
            term_proof: sign(&self.issuer.authority, &TermProof { network: self.issuer.network, term: self.lead.term }),
            certificate: (certificate.wants_renewal(now) || certificate.name != name).then(fresh),
            policy: Some(policy.sheet()),
            coordinators: addresses.borrow_and_update().to_vec(),
            portal: self.presence.portal(&from),
            heartbeat: limits::HEARTBEAT,
        };
        let asks = self.logs.connected(agent, number);
        let news = writer::News { coordinators: addresses, policy, upgrade: self.upgrades.feed(agent), asks };
        let link = writer::spawn(about, news, self.catalogue.clone(), self.dispatch.clone(), outgoing);
        tracing::info!(%agent, name, "an agent connected");
        self.tracker.connected(agent, peer, number);
        self.upgrades.connected(agent, number, &hello, &labels);
        let connected = Event::Connected { agent, stream: number, hello, from: from.to_string() };
        if self.dispatch.attach(number, link).await.is_err() || self.dispatch.event(connected).await.is_err() {
            return;
        }
        let unhandled = Unhandled::default();
        let (mut pending, mut leaves) = (messages, false);
        loop {
            let Some(frame) = unhandled.frame().await else { return };
            for message in pending.drain(..) {
                let message = match claims::check(&*self.store, agent, message).await {
                    Ok(ToCoordinator::Blobs(report)) => match self.blobs(agent, number, report).await {
                        Ok(()) => continue,
                        Err(wrong) => return self.breach(agent, Some(number), wrong, Vec::new()).await,
                    },
                    Ok(ToCoordinator::Policy(report)) => {
                        let wakeable = self.wakeable(agent, &labels, &report);
                        self.policies.report(agent, report.clone());
                        if self.dispatch.event(wakeable).await.is_err() {
                            return;
                        }
                        ToCoordinator::Policy(report)
                    }
                    Ok(ToCoordinator::Upgrade(report)) => {
                        self.upgrades.heard(agent, report);
                        continue;
                    }
                    Ok(ToCoordinator::Leaves) => {
                        if !std::mem::replace(&mut leaves, true)
                            && let Err(error) = self.store.note_leaving(&self.lead, agent, clock::now()).await
                        {
                            tracing::warn!(%agent, %error, "cannot note that an agent leaves the network; it is listed as away");
                        }
                        continue;
                    }
                    Ok(ToCoordinator::Log(piece)) => {
                        self.logs.heard(agent, &piece);
                        continue;
                    }
                    Ok(message) => message,
                    Err(Wrong::Breach { what, told }) => return self.breach(agent, Some(number), what, told).await,
                    Err(Wrong::Unknown(error)) => {
                        tracing::warn!(%agent, %error, "cannot tell whether what an agent says is right; it comes again");
                        return self.gone(agent, number).await;
                    }
                };
                if let ToCoordinator::Finished(_) = message {
                    tracing::trace!(target: "parts", "result heard");
                }
                let Some(place) = unhandled.message(&frame, &message).await else { return };
                if self.dispatch.heard(Event::Message { agent, stream: number, message }, place).await.is_err() {
                    return;
                }
            }
            match incoming.next().await {
                Some(Ok(frame)) => pending = frame.messages,
                Some(Err(error)) if is_breach(&error) => {
                    return self.breach(agent, Some(number), in_words(&error), Vec::new()).await;
                }
                Some(Err(error)) => {
                    tracing::debug!(%agent, %error, "an agent's stream broke");
                    return self.gone(agent, number).await;
                }
                None => return self.gone(agent, number).await,
            }
        }
    }

    /// A term above this one that an agent proves to have seen: the authority signed it.
    fn higher_term(&self, hello: &Hello) -> Option<Term> {
        let signed = hello.instance.term_proof.as_ref()?;
        let proof: TermProof = verify(&Authority::of(&self.issuer.authority), signed).ok()?;
        (proof.network == self.issuer.network && proof.term > self.lead.term).then_some(proof.term)
    }

    /// Peers have seen a higher term. Either another coordinator has taken over and this one does not know it yet, which
    /// the store says; or the store was restored from a backup: then the next term is above what was seen.
    async fn rise_above(&self, seen: Term, by: &str, named: Vec<JobId>) {
        // A loop that has ended leaves it to the next one.
        let Ok(last) = self.dispatch.query(|scheduler, _| scheduler.last_job()).await else { return };
        let rise = Rise { above: seen, last_job: numbers_beyond(last, named), by: by.to_owned(), at: clock::now() };
        match self.store.raise(&self.lead, &rise).await {
            Ok(()) => tracing::warn!(
                by,
                seen = seen.0,
                own = self.lead.term.0,
                jobs_above = rise.last_job,
                "agents know a later term than the store, which seems to be restored from a backup; going on above it"
            ),
            Err(StoreError::Fenced(_)) => {}
            Err(error) => return tracing::warn!(%error, "cannot raise the term above one that agents know; they come again"),
        }
        self.over.cancel();
    }

    /// Whether what holds on an agent's machine, by the newest edition and by what its owner narrows, lets it be woken.
    fn wakeable(&self, agent: AgentId, labels: &Labels, report: &PolicyReport) -> Event {
        let policy = self.policies.current().book.policy(labels).narrowed_by(&report.owner);
        let policy = policy.wake_on_lan.then(|| Box::new(policy));
        Event::Wakeable { agent, policy, clock_ahead_min: report.clock_ahead_min }
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
    async fn breach(&self, agent: AgentId, stream: Option<StreamId>, what: String, told: Vec<AttemptId>) {
        tracing::warn!(%agent, what, "an agent broke the protocol; its stream is closed");
        if let Some(stream) = stream {
            self.part_with(agent, stream).await;
        }
        // A loop that has ended has no use for it.
        let _ = self.dispatch.event(Event::Breach { agent, stream, what, told }).await;
    }

    /// What is kept of a stream beside the loop goes with it.
    async fn part_with(&self, agent: AgentId, stream: StreamId) {
        self.logs.gone(agent, stream);
        self.upgrades.gone(agent, stream);
        for change in self.tracker.gone(agent, stream) {
            // A loop that has ended has no use for it.
            let _ = self.dispatch.event(change).await;
        }
    }

    async fn gone(&self, agent: AgentId, stream: StreamId) {
        tracing::info!(%agent, "an agent's stream closed");
        self.part_with(agent, stream).await;
        // A loop that has ended has no use for it.
        let _ = self.dispatch.event(Event::Disconnected { agent, stream }).await;
    }

    /// Signs and spreads who was thrown out, at the start and after each change. The edition that was spread.
    ///
    /// Its order is the term and the store's own count, whatever clocks show. Peers that know a later one than this term
    /// could issue prove by it that the store was restored from a backup, or that another coordinator has taken over.
    pub async fn spread_revocations(&self) -> Option<Edition> {
        let RevocationsRecord { counter, peers } = match self.store.revocations().await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "cannot read who was revoked");
                return None;
            }
        };
        let edition = Edition { term: self.lead.term, counter, draw: self.draw };
        let holds = self.node.publish_revocations(sign(&self.issuer.authority, &Revocations { edition, peers })).await;
        if let Some(signed) = holds {
            self.foreign_revocations(signed).await;
        }
        Some(edition)
    }

    /// Takes in revocations that this term may not have issued. Those of its own term or a later one come from a time that
    /// the store does not remember: whoever they throw out stays out, and this coordinator goes on above that term.
    pub async fn foreign_revocations(&self, signed: Signed) {
        let authority = Authority::of(&self.issuer.authority);
        let Ok(Revocations { edition, peers }) = verify::<Revocations>(&authority, &signed) else { return };
        if edition.term < self.lead.term || edition.draw == self.draw {
            return;
        }
        let agents = match self.store.agents().await {
            Ok(agents) => agents,
            Err(error) => return tracing::warn!(%error, "cannot read whom a later list of revocations names; it comes again"),
        };
        let forgotten = agents.into_iter().filter(|agent| agent.intake != Intake::Revoked && peers.contains(&agent.peer));
        for AgentRecord { agent, name, .. } in forgotten {
            tracing::warn!(%agent, name, "it was thrown out in a time that the store does not remember, and stays out");
            let by = "the network's own list of revocations".to_owned();
            let asked = move |request| Event::SetIntake { request, agent, intake: Intake::Revoked, by };
            if self.dispatch.request(asked).await.is_err() {
                return;
            }
        }
        self.rise_above(edition.term, "a later list of revocations", Vec::new()).await;
    }

    /// How many of those who are connected know an edition of the revocations, and how many of them do not (yet).
    pub async fn heard_of(&self, edition: Edition, except: &[u8]) -> (u64, u64) {
        let mut heard: BTreeMap<String, bool> = BTreeMap::new();
        let except = PeerId::from_bytes(except).map(|peer| peer.to_string()).unwrap_or_default();
        for info in self.node.peers().await.into_iter().filter(|info| info.certificate.is_some() && info.peer != except) {
            *heard.entry(info.peer).or_default() |= info.revocations == edition;
        }
        let known = heard.values().filter(|heard| **heard).count() as u64;
        (known, heard.len() as u64 - known)
    }
}

/// A hello, and what came with it.
type Greeting = (Box<Hello>, Vec<ToCoordinator>);

/// The greeting of a stream; none when the agent hung up before it said anything.
fn greeting(agent: AgentId, first: First) -> Result<Option<Greeting>, GoodbyeReason> {
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
    Ok(Some((hello, messages.collect())))
}

/// Whether a stream ended by what came and not by what did not.
fn is_breach(error: &FrameError) -> bool {
    match error {
        FrameError::TooLong(_) | FrameError::Garbage(_) | FrameError::Wrong(_) => true,
        FrameError::Broken(_) | FrameError::CutShort | FrameError::Stalled(_) | FrameError::Closed => false,
    }
}

async fn refuse(outgoing: &mut FrameWriter<ToAgentFrame>, reason: GoodbyeReason) {
    tracing::warn!(%reason, "an agent is refused");
    dismiss(outgoing, reason).await;
}

/// Ends a stream on which nothing was said yet.
pub(crate) async fn dismiss(outgoing: &mut FrameWriter<ToAgentFrame>, reason: GoodbyeReason) {
    // It learns of it or it does not.
    let _ = outgoing.send(&ToAgentFrame { number: 0, messages: vec![ToAgent::Goodbye { reason }] }).await;
    outgoing.close().await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use lull_shared::id::{AttemptId, JobId, TaskId};

    use super::*;

    #[test]
    fn one_agent_has_one_of_the_longest_messages_waiting_or_many_short_ones() {
        let attempts = |count: usize| vec![AttemptId { task: TaskId { job: JobId(1), index: 0 }, number: 1 }; count];
        let longest = attempts(limits::ATTEMPTS_PER_AGENT_MAX);
        assert_eq!(weight(&ToCoordinator::Started { attempts: longest.clone() }), WAITING_MAX);
        assert_eq!(weight(&ToCoordinator::Heartbeat { frame_read: 0, holding: longest }), WAITING_MAX);
        assert_eq!(weight(&ToCoordinator::Started { attempts: attempts(1) }), 1);
        const { assert!(WAITING_MAX >= 64, "short ones are taken in one turn") };
    }

    #[test]
    fn nothing_more_is_read_while_frames_or_messages_wait_and_each_makes_room_when_it_was_handled() {
        let unhandled = Unhandled::default();
        let read = || unhandled.frame().now_or_never().flatten();
        let hear = |frame: &_, message: &_| unhandled.message(frame, message).now_or_never().flatten();
        // Frames whose messages are small.
        let mut waiting: Vec<Place> = Vec::new();
        for _ in 0..limits::FRAMES_WAITING_MAX {
            let frame = read().expect("there is room");
            waiting.extend([0, 1].map(|_| hear(&frame, &ToCoordinator::Farewell).expect("there is room")));
        }
        assert!(read().is_none());
        waiting.remove(0);
        assert!(read().is_none(), "one of its messages waits still");
        waiting.remove(0);
        let frame = read().expect("a frame was handled");
        waiting.clear();
        // One frame with more than the loop takes at once.
        let task = TaskId { job: JobId(1), index: 0 };
        let longest = vec![AttemptId { task, number: 1 }; limits::ATTEMPTS_PER_AGENT_MAX];
        let longest = ToCoordinator::Started { attempts: longest };
        let first = hear(&frame, &longest).expect("there is room for one");
        assert!(hear(&frame, &ToCoordinator::Farewell).is_none());
        drop(first);
        assert!(hear(&frame, &ToCoordinator::Farewell).is_some());
        drop(frame);
        assert_eq!(unhandled.frames.available_permits(), limits::FRAMES_WAITING_MAX);
        assert_eq!(unhandled.weight.available_permits(), WAITING_MAX as usize);
    }
}
