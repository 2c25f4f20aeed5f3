//! The agent's end of the mesh: one work stream to one coordinator, found again however often it breaks. EDGE.
//!
//! ```text
//! dial a coordinator -> (certificate expired or unknown: renew) -> open the work stream -> pump frames until it ends
//!      ^                                                                                        |
//!      +--- the next coordinator, after a pause that grows from a quarter of a second to five --+
//! ```
//! One that stands by says so and names the leader, which is tried next. One that says nothing for a while, not
//! even that it is there, is frozen or cut off, and is left.
//!
//! Does not know what is said: frames go to the run loop, and what it wants said comes in batches.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use libp2p::{Multiaddr, PeerId};
use lull_mesh::{AgentStream, FrameError, FrameReader, FrameWriter, MeshError, NodeEvent, NodeHandle};
use lull_session::CloseReason;
use lull_shared::{
    identity::Role,
    limits::{self, COORDINATOR_ADDRESSES_MAX, HANDSHAKE_TIME_MAX, SILENCE_MAX},
    message::{Finished, GoodbyeReason, Outcome, Payload, ToAgent, ToAgentFrame, ToCoordinator, ToCoordinatorFrame},
    protocol::{EnrolmentRefusal, EnrolmentReply, EnrolmentRequest},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    member::Member,
    route::{Stop, route},
};

/// Pauses between attempts to connect: quick at first, since most interruptions are restarts.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A stream that lasted this long was a good one: the pauses begin anew.
const GOOD_STREAM: Duration = Duration::from_secs(10);
/// While another coordinator may be about to take over, pauses stay below this.
const HANDOVER_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a coordinator may take to be connected when there are others to try. The dial goes on meanwhile: a slow one
/// is connected at the next visit.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A wait that took this much longer than it should did so because this process or its machine slept.
const OVERSLEPT: Duration = Duration::from_secs(2);
/// How long a network that wants nothing of this machine is left alone: twice as long each time. Who threw it out by mistake
/// lets it in again within a minute as a rule, and it is back some seconds later; who meant it is asked once a minute, for a
/// greeting that is refused at once.
const UNWANTED_PAUSE_MIN: Duration = Duration::from_secs(2);
const UNWANTED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long whoever lost its stream to another program with the same identity stays away: twice as long each time, so that
/// the two do not fight.
const SUPERSEDED_PAUSE_MIN: Duration = Duration::from_secs(5);
const SUPERSEDED_PAUSE_MAX: Duration = Duration::from_secs(300);
/// A stream that was not taken away for this long was this program's own again.
const UNDISPUTED: Duration = Duration::from_secs(600);
/// What may wait for the stream, in messages and in bytes: more than an agent has to say about all attempts that it may hold
/// while its coordinator waits for a database. One that is further behind has stopped reading.
const MESSAGES_WAITING_MAX: usize = 8 * limits::ATTEMPTS_PER_AGENT_MAX;
const BYTES_WAITING_MAX: usize = 512 * 1024 * 1024;
/// Batches written with one flush.
const BATCHES_PER_FLUSH: usize = 64;
/// Results after which a frame is closed: the next one of at most half a megabyte still fits.
const FRAME_BYTES: usize = 1024 * 1024;
/// How long a coordinator may take to close its end of a stream that the run loop let go of.
pub const FAREWELL_GRACE: Duration = Duration::from_secs(1);
/// How often a connected agent looks whether its certificate wants renewal.
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);
/// Addresses found on the subnet that are tried beside the known ones.
const DISCOVERED_MAX: usize = 8;

/// A stream that is open, as the run loop holds it. Dropping it closes the stream when all is written.
#[derive(Debug)]
pub struct Line {
    pub coordinator: PeerId,
    pub address: Multiaddr,
    batches: mpsc::UnboundedSender<Batch>,
    waiting: Arc<Waiting>,
    close: oneshot::Sender<CloseReason>,
}

/// Messages that leave together, and how large they are.
#[derive(Debug)]
struct Batch {
    messages: Vec<ToCoordinator>,
    bytes: usize,
}

/// What was given to a stream and is not written.
#[derive(Debug, Default)]
struct Waiting {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    fn add(&self, batch: &Batch) -> bool {
        let messages = self.messages.fetch_add(batch.messages.len(), Ordering::Relaxed) + batch.messages.len();
        let bytes = self.bytes.fetch_add(batch.bytes, Ordering::Relaxed) + batch.bytes;
        messages <= MESSAGES_WAITING_MAX && bytes <= BYTES_WAITING_MAX
    }

    fn written(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Line {
    /// Puts a batch in the stream's queue; false when the coordinator does not read at all.
    pub fn send(&self, messages: Vec<ToCoordinator>) -> bool {
        let batch = Batch { bytes: messages.iter().map(size_of_message).sum(), messages };
        // Of a stream that broke its reader tells.
        self.waiting.add(&batch) && (self.batches.send(batch).is_ok() || self.batches.is_closed())
    }

    /// Ends the stream at once.
    pub fn close(self, reason: CloseReason) {
        // A stream that has ended by itself needs no end.
        let _ = self.close.send(reason);
    }
}

/// What comes from a coordinator.
pub enum Said {
    /// A work stream is open.
    Opened(Line),
    Frame(ToAgentFrame),
    /// It is closed.
    Closed,
}

/// Keeps the agent connected.
pub struct Network {
    pub node: NodeHandle,
    pub member: Arc<Member>,
    pub said: mpsc::Sender<Said>,
    /// The coordinator that is connected, for whoever fetches and delivers.
    pub coordinator: watch::Sender<Option<PeerId>>,
    discovered: Arc<Mutex<Vec<Multiaddr>>>,
    /// Where the coordinator is that leads, as another one said.
    told: Mutex<Vec<Multiaddr>>,
}

/// How a visit to a coordinator went.
enum Visit {
    /// The stream was open for a while.
    Ended {
        lasted: Duration,
        reason: Option<CloseReason>,
    },
    Failed(MeshError),
    /// It cannot renew the certificate at the moment; another may.
    Busy(EnrolmentRefusal),
    /// The network does not want this machine.
    Unwanted(EnrolmentRefusal),
}

impl Network {
    /// An agent's network on a node.
    pub fn new(
        node: NodeHandle,
        member: Arc<Member>,
        said: mpsc::Sender<Said>,
        coordinator: watch::Sender<Option<PeerId>>,
    ) -> Self {
        Self { node, member, said, coordinator, discovered: Arc::default(), told: Mutex::default() }
    }

    /// Follows what the node finds; ends with the node.
    pub fn follow(&self, mut events: mpsc::Receiver<NodeEvent>) {
        let discovered = Arc::clone(&self.discovered);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    NodeEvent::Discovered { peer, addresses } => {
                        let mut found = discovered.lock().unwrap_or_else(PoisonError::into_inner);
                        let whole = addresses.into_iter().filter_map(|address| address.with_p2p(peer).ok());
                        for address in whole.filter(|address| address.iter().count() > 1) {
                            if found.len() < DISCOVERED_MAX && !found.contains(&address) {
                                found.push(address);
                            }
                        }
                    }
                    NodeEvent::Admitted { peer, certificate } if certificate.role == Role::Coordinator => {
                        tracing::debug!(%peer, name = certificate.name, "a coordinator is connected");
                    }
                    // An agent serves no streams and enrols nobody: dropping the requests refuses them.
                    NodeEvent::Admitted { .. }
                    | NodeEvent::Work { .. }
                    | NodeEvent::Enrolment { .. }
                    | NodeEvent::Capacity { .. }
                    | NodeEvent::Revoked { .. }
                    | NodeEvent::Disconnected { .. } => {}
                }
            }
        });
    }

    /// Stays connected until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.stay()).await;
    }

    async fn stay(&self) {
        let pauses =
            ExponentialBuilder::default().with_min_delay(PAUSE_MIN).with_max_delay(PAUSE_MAX).with_jitter().without_max_times();
        let mut pause = pauses.build();
        let (mut quiet, mut left, mut superseded) = (false, None, SUPERSEDED_PAUSE_MIN);
        let mut unwanted = UNWANTED_PAUSE_MIN;
        loop {
            let (mut longest, mut pause_max, mut visited) = (Duration::ZERO, PAUSE_MAX, false);
            let route = self.route(left);
            let patience = if route.len() > 1 { CONNECT_MAX } else { HANDSHAKE_TIME_MAX + CONNECT_MAX };
            for stop in route {
                let peer = stop.peer;
                match self.visit(stop, patience).await {
                    Visit::Ended { lasted, reason } => {
                        pause = if lasted >= GOOD_STREAM { pauses.build() } else { pause };
                        tracing::info!(%peer, reason = reason.as_ref().map(tracing::field::display), "disconnected");
                        longest = longest.max(pause_after(reason.as_ref()));
                        match is_unwanted(reason.as_ref()) {
                            true => longest = longest.max(grown(&mut unwanted)),
                            false => unwanted = UNWANTED_PAUSE_MIN,
                        }
                        self.note_goodbye(reason.as_ref()).await;
                        if lasted >= UNDISPUTED {
                            superseded = SUPERSEDED_PAUSE_MIN;
                        }
                        if matches!(reason, Some(CloseReason::Goodbye(GoodbyeReason::Superseded))) {
                            tracing::warn!(
                                pause = %humantime::format_duration(superseded),
                                "another program connected with this machine's identity; this one stays away for a while. \
                                 hint: never copy a data folder or the disk of a machine that has joined"
                            );
                            longest = longest.max(superseded);
                            superseded = (superseded * 2).min(SUPERSEDED_PAUSE_MAX);
                        }
                        if matches!(reason, Some(CloseReason::Goodbye(GoodbyeReason::Cloned))) {
                            tracing::error!(
                                "another machine uses this one's identity, as after copying its disk, so neither is given work. \
                                 hint: on one of the two, run `lull-agent leave`, then `lull-agent join` with a new token"
                            );
                        }
                        // What it said of others counts from now on, and it comes last.
                        (left, visited) = (Some(peer), true);
                        if self.sent_on(reason) {
                            pause_max = HANDOVER_PAUSE_MAX;
                        }
                        break;
                    }
                    Visit::Failed(error) if quiet => tracing::debug!(%peer, %error, "no coordinator"),
                    Visit::Failed(error) => tracing::warn!(%peer, %error, "no coordinator; trying on"),
                    Visit::Busy(refusal) => tracing::debug!(%peer, %refusal, "no certificate there"),
                    Visit::Unwanted(refusal) => {
                        match refusal {
                            EnrolmentRefusal::Revoked => self.on_disk(Member::is_thrown_out).await.unwrap_or_default(),
                            _ => self.member.is_unwanted(refusal.to_string()),
                        }
                        tracing::error!(%peer, %refusal, "the network does not take this machine");
                        longest = longest.max(grown(&mut unwanted));
                    }
                }
            }
            quiet = !visited;
            sleep(pause.next().unwrap_or(PAUSE_MAX).min(pause_max).max(longest)).await;
        }
    }

    /// What was said at the end, for whoever asks why this machine is not connected.
    async fn note_goodbye(&self, reason: Option<&CloseReason>) {
        match reason {
            Some(CloseReason::Goodbye(GoodbyeReason::Revoked)) => {
                tracing::error!(refusal = %EnrolmentRefusal::Revoked, "the network does not take this machine");
                self.on_disk(Member::is_thrown_out).await.unwrap_or_default();
            }
            Some(CloseReason::Goodbye(reason @ (GoodbyeReason::TooOld { .. } | GoodbyeReason::Cloned))) => {
                self.member.is_unwanted(reason.to_string());
            }
            Some(_) | None => {}
        }
    }

    /// Has the membership do what may take the disk's time. None only while the agent ends.
    async fn on_disk<T: Send + 'static>(&self, act: impl FnOnce(&Member) -> T + Send + 'static) -> Option<T> {
        let member = Arc::clone(&self.member);
        tokio::task::spawn_blocking(move || act(&member)).await.ok()
    }

    /// Whether that was a coordinator that stands by; the one that it named is tried next.
    fn sent_on(&self, reason: Option<CloseReason>) -> bool {
        let Some(CloseReason::Goodbye(GoodbyeReason::Standby { leader })) = reason else { return false };
        let named = leader.iter().take(COORDINATOR_ADDRESSES_MAX).filter_map(|address| address.parse().ok());
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = named.collect();
        true
    }

    /// Every coordinator worth a try: the one that is said to lead, those known, and those found on the subnet; last
    /// the one that was just left.
    fn route(&self, left: Option<PeerId>) -> Vec<Stop> {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        let found = std::mem::take(&mut *self.discovered.lock().unwrap_or_else(PoisonError::into_inner));
        route(told.into_iter().chain(self.member.coordinators()).chain(found), left)
    }

    async fn visit(&self, stop: Stop, patience: Duration) -> Visit {
        let Stop { peer, addresses } = stop;
        let expired = self.member.certificate().is_none_or(|certificate| certificate.expires <= clock::wall());
        let connected = if expired {
            Err(MeshError::Stranger { peer: self.node.local_peer() })
        } else {
            self.connect(peer, &addresses, patience).await
        };
        let connected = match connected {
            Err(MeshError::Stranger { .. }) => match self.renew(&addresses).await {
                Ok(Ok(())) => self.connect(peer, &addresses, patience).await,
                Ok(Err(refusal @ (EnrolmentRefusal::Unavailable | EnrolmentRefusal::TooMany))) => return Visit::Busy(refusal),
                Ok(Err(refusal)) => return Visit::Unwanted(refusal),
                Err(error) => Err(error),
            },
            other => other,
        };
        match connected {
            Ok(stream) => self.pump(peer, addresses, stream).await,
            Err(MeshError::ThrownOut { .. }) => Visit::Unwanted(EnrolmentRefusal::Revoked),
            Err(error) => Visit::Failed(error),
        }
    }

    async fn connect(&self, peer: PeerId, addresses: &[Multiaddr], patience: Duration) -> Result<AgentStream, MeshError> {
        let connected = timeout(patience, self.node.connect_any(peer, addresses)).await;
        connected.unwrap_or(Err(MeshError::Silent { peer }))?;
        match timeout(patience, self.node.open_work(peer)).await {
            Ok(opened) => opened,
            Err(_) => {
                // Connected once, and not answering now: the connection is of no use any more.
                self.node.disconnect(peer).await;
                Err(MeshError::Silent { peer })
            }
        }
    }

    /// Asks at each address in turn.
    async fn renew(&self, addresses: &[Multiaddr]) -> Result<Result<(), EnrolmentRefusal>, MeshError> {
        let mut last = Err(MeshError::NotConnected { peer: self.node.local_peer() });
        for address in addresses {
            let certificate = self.member.get().certificate;
            match self.node.enrol(address.clone(), EnrolmentRequest::Renew { certificate }).await {
                Ok(EnrolmentReply::Enrolled { certificate, .. }) => {
                    let fresh = certificate.clone();
                    if self.on_disk(move |member| member.take_certificate(fresh)).await.unwrap_or_default() {
                        tracing::info!("the membership certificate was renewed");
                        self.node.set_certificate(certificate).await;
                    }
                    return Ok(Ok(()));
                }
                Ok(EnrolmentReply::Refused(refusal)) => return Ok(Err(refusal)),
                Err(error) => last = Err(error),
            }
        }
        last
    }

    /// Lets the run loop talk until the stream ends.
    async fn pump(&self, coordinator: PeerId, addresses: Vec<Multiaddr>, stream: AgentStream) -> Visit {
        let began = Instant::now();
        let (batches, queue) = mpsc::unbounded_channel();
        let waiting = Arc::<Waiting>::default();
        let (close, closed) = oneshot::channel();
        self.coordinator.send_replace(Some(coordinator));
        let line = Line {
            coordinator,
            address: self.address_in_use(coordinator, &addresses).await,
            batches,
            waiting: waiting.clone(),
            close,
        };
        let (mut reason, mut told) = (None, None);
        // The run loop is gone only when the process ends.
        if self.said.send(Said::Opened(line)).await.is_ok() {
            let AgentStream { incoming, outgoing } = stream;
            tokio::select! {
                biased;
                // A run loop that only lets go wants everything written first.
                Ok(asked) = closed => reason = Some(asked),
                ended = self.read(incoming, &mut told) => match ended {
                    Ok(Ending::Closed) => {}
                    Ok(Ending::Silent) => {
                        reason = Some(CloseReason::Silent);
                        // What it would answer now is not for us any more, and a new stream would hang like this one.
                        self.node.disconnect(coordinator).await;
                    }
                    Err(error) => log_end("reading", Err(error)),
                },
                () = last_words(queue, &waiting, outgoing) => {}
                () = self.keep_certificate_fresh(&addresses) => {}
            }
        }
        // A coordinator that says goodbye closes the stream at once, perhaps before the run loop has read why.
        reason = reason.or(told.map(CloseReason::Goodbye));
        self.coordinator.send_replace(None);
        let _ = self.said.send(Said::Closed).await;
        Visit::Ended { lasted: began.elapsed(), reason }
    }

    /// The address that the connection was made to, or the first that is known.
    async fn address_in_use(&self, coordinator: PeerId, addresses: &[Multiaddr]) -> Multiaddr {
        let peer = coordinator.to_string();
        let mut peers = self.node.peers().await.into_iter();
        let in_use = peers.find(|info| info.peer == peer).and_then(|info| info.address.parse::<Multiaddr>().ok());
        let whole = in_use.and_then(|address| address.with_p2p(coordinator).ok());
        whole.or_else(|| addresses.first().cloned()).unwrap_or_else(Multiaddr::empty)
    }

    /// Hands frames in until the stream ends, and notes what was told as a goodbye.
    async fn read(
        &self,
        mut incoming: FrameReader<ToAgentFrame>,
        told: &mut Option<GoodbyeReason>,
    ) -> Result<Ending, FrameError> {
        loop {
            let began = Instant::now();
            match timeout(SILENCE_MAX, incoming.next()).await {
                Ok(None) => return Ok(Ending::Closed),
                Ok(Some(frame)) => {
                    let frame = frame?;
                    if frame.messages.iter().any(|message| matches!(message, ToAgent::Welcome(_))) {
                        self.on_disk(Member::is_welcome).await.unwrap_or_default();
                    }
                    if let Some(ToAgent::Goodbye { reason }) = frame.messages.last() {
                        *told = Some(reason.clone());
                    }
                    if self.said.send(Said::Frame(frame)).await.is_err() {
                        return Ok(Ending::Closed);
                    }
                }
                // It was us who slept: what was said meanwhile may be about to arrive.
                Err(_) if began.elapsed() > SILENCE_MAX + OVERSLEPT => {}
                Err(_) => return Ok(Ending::Silent),
            }
        }
    }

    /// The greeting brings fresh certificates; this is for streams that last for weeks. Never ends.
    async fn keep_certificate_fresh(&self, addresses: &[Multiaddr]) {
        loop {
            sleep(RENEWAL_CHECK).await;
            if self.member.certificate().is_some_and(|certificate| certificate.wants_renewal(clock::wall())) {
                match self.renew(addresses).await {
                    Ok(Ok(())) => {}
                    Ok(Err(refusal)) => tracing::warn!(%refusal, "the certificate was not renewed"),
                    Err(error) => tracing::debug!(%error, "the certificate was not renewed; trying again in an hour"),
                }
            }
        }
    }
}

/// How reading came to its end.
enum Ending {
    Closed,
    /// Nothing was said for too long.
    Silent,
}

fn log_end(what: &str, ended: Result<(), FrameError>) {
    if let Err(error) = ended {
        tracing::debug!(%error, what, "the stream broke");
    }
}

/// Whether the network said that it wants nothing of this machine.
fn is_unwanted(reason: Option<&CloseReason>) -> bool {
    matches!(reason, Some(CloseReason::Goodbye(GoodbyeReason::Revoked | GoodbyeReason::TooOld { .. } | GoodbyeReason::Cloned)))
}

/// The pause that is due; the next one is twice as long.
fn grown(pause: &mut Duration) -> Duration {
    let due = *pause;
    *pause = (due * 2).min(UNWANTED_PAUSE_MAX);
    due
}

/// How long to stay away after a stream that ended for this reason, beside what [`is_unwanted`] asks for.
fn pause_after(reason: Option<&CloseReason>) -> Duration {
    match reason {
        Some(CloseReason::Goodbye(GoodbyeReason::Protocol(_)) | CloseReason::Protocol(_)) => PAUSE_MAX,
        Some(
            CloseReason::Goodbye(
                GoodbyeReason::Stopping
                | GoodbyeReason::Standby { .. }
                | GoodbyeReason::Superseded
                | GoodbyeReason::Revoked
                | GoodbyeReason::TooOld { .. }
                | GoodbyeReason::Cloned,
            )
            | CloseReason::NoWelcome
            | CloseReason::Silent
            | CloseReason::Stale,
        )
        | None => Duration::ZERO,
    }
}

/// Writes until the run loop lets go of the stream, and leaves the coordinator time to close its end: what was written is not
/// on the wire yet, and a process that ended now could take its last words along.
async fn last_words(queue: mpsc::UnboundedReceiver<Batch>, waiting: &Waiting, outgoing: FrameWriter<ToCoordinatorFrame>) {
    let ended = write(queue, waiting, outgoing).await;
    if ended.is_ok() {
        sleep(FAREWELL_GRACE).await;
    }
    log_end("writing", ended);
}

/// Writes batches until the run loop lets go of the stream.
async fn write(
    mut queue: mpsc::UnboundedReceiver<Batch>,
    waiting: &Waiting,
    mut outgoing: FrameWriter<ToCoordinatorFrame>,
) -> Result<(), FrameError> {
    let mut batches = Vec::with_capacity(BATCHES_PER_FLUSH);
    while queue.recv_many(&mut batches, BATCHES_PER_FLUSH).await > 0 {
        let messages = batches.iter().map(|batch| batch.messages.len()).sum();
        let bytes = batches.iter().map(|batch| batch.bytes).sum();
        outgoing.send_many(&frames(batches.drain(..).flat_map(|batch| batch.messages))).await?;
        waiting.written(messages, bytes);
    }
    outgoing.close().await;
    Ok(())
}

/// Packs messages into as few frames as are allowed.
fn frames(messages: impl Iterator<Item = ToCoordinator>) -> Vec<ToCoordinatorFrame> {
    let (mut frames, mut messages_of_frame, mut bytes) = (Vec::new(), Vec::new(), 0);
    for message in messages.flat_map(cut) {
        let size = size_of_message(&message);
        let full = bytes + size > FRAME_BYTES || messages_of_frame.len() == limits::MESSAGES_PER_FRAME_MAX;
        if full && !messages_of_frame.is_empty() {
            frames.push(ToCoordinatorFrame { messages: std::mem::take(&mut messages_of_frame) });
            bytes = 0;
        }
        bytes += size;
        messages_of_frame.push(message);
    }
    if !messages_of_frame.is_empty() {
        frames.push(ToCoordinatorFrame { messages: messages_of_frame });
    }
    frames
}

/// Results that are too many for one frame become several messages.
fn cut(message: ToCoordinator) -> Vec<ToCoordinator> {
    let ToCoordinator::Finished(results) = message else { return vec![message] };
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for result in results {
        let size = size_of_result(&result);
        if bytes + size > FRAME_BYTES && !part.is_empty() {
            parts.push(ToCoordinator::Finished(std::mem::take(&mut part)));
            bytes = 0;
        }
        bytes += size;
        part.push(result);
    }
    parts.push(ToCoordinator::Finished(part));
    parts
}

/// Bytes of an attempt's number, at most.
const ATTEMPT_BYTES: usize = 24;
/// Bytes of a blob's name and size, at most.
const BLOB_BYTES: usize = 48;
/// Bytes of a message beside its lists, at most.
const MESSAGE_BYTES: usize = 4096;

fn size_of_message(message: &ToCoordinator) -> usize {
    match message {
        ToCoordinator::Finished(results) => results.iter().map(size_of_result).sum(),
        ToCoordinator::Started { attempts } | ToCoordinator::Released { attempts, .. } => attempts.len() * ATTEMPT_BYTES,
        ToCoordinator::Heartbeat { holding, .. } => holding.len() * ATTEMPT_BYTES,
        ToCoordinator::Hello(hello) => {
            MESSAGE_BYTES * 8 + hello.holding.len() * ATTEMPT_BYTES + hello.snapshots.len() * (ATTEMPT_BYTES + BLOB_BYTES)
        }
        ToCoordinator::Saved { .. } | ToCoordinator::Keeps(_) | ToCoordinator::Unkept { .. } => ATTEMPT_BYTES + BLOB_BYTES,
        ToCoordinator::Cards(cards) => (cards.len() + 1) * ATTEMPT_BYTES,
        ToCoordinator::Paused { .. }
        | ToCoordinator::Capacity(_)
        | ToCoordinator::Sleeps
        | ToCoordinator::Leaves
        | ToCoordinator::Farewell => ATTEMPT_BYTES * 8,
        ToCoordinator::Blobs(report) => (report.gained.len() + report.lost.len() + 4) * BLOB_BYTES,
        ToCoordinator::Remains(remains) => MESSAGE_BYTES + remains.log.len(),
        ToCoordinator::Log(piece) => MESSAGE_BYTES + piece.bytes.len(),
        ToCoordinator::Refused { .. } | ToCoordinator::Policy(_) | ToCoordinator::Upgrade(_) => MESSAGE_BYTES,
    }
}

fn size_of_result(result: &Finished) -> usize {
    let output = match &result.outcome {
        Outcome::Succeeded { output: Payload::Inline(bytes) } => bytes.len(),
        Outcome::Succeeded { output: Payload::Blob(_) } => 0,
        Outcome::Failed(_) => MESSAGE_BYTES * 8,
    };
    output + result.log.len() + 8 * ATTEMPT_BYTES
}

#[cfg(test)]
mod tests {
    use lull_shared::{
        codec,
        id::{AttemptId, JobId, TaskId},
        state::Usage,
    };

    use std::{future::Future as _, pin::pin, task::Context};

    use super::*;

    /// A stream says that it is written as soon as its bytes are on their way to the socket, which dies with the process.
    #[tokio::test]
    async fn a_stream_that_was_let_go_waits_for_its_other_end_once_everything_is_written() {
        let (coordinator, agent) = lull_mesh::work_stream_in_memory();
        let (batches, queue) = mpsc::unbounded_channel();
        batches.send(Batch { messages: vec![ToCoordinator::Farewell], bytes: 0 }).expect("it is read");
        drop(batches);
        let waiting = Waiting::default();
        let mut last = pin!(last_words(queue, &waiting, agent.outgoing));
        let mut incoming = coordinator.incoming;
        for heard in [true, false] {
            let frame = tokio::select! {
                biased;
                frame = incoming.next() => frame,
                () = &mut last => panic!("it did not wait until the other end had read everything"),
            };
            assert_eq!(frame.is_some(), heard);
        }
        assert!(
            last.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending(),
            "the other end is still open"
        );
    }

    fn result(index: u32, output: usize, log: usize) -> Finished {
        Finished {
            attempt: AttemptId { task: TaskId { job: JobId(1), index }, number: 1 },
            outcome: Outcome::Succeeded { output: Payload::inline(vec![0; output]) },
            log: vec![0; log].into(),
            log_dropped_bytes: 0,
            usage: Usage::default(),
        }
    }

    #[test]
    fn many_results_share_frames_and_the_largest_ones_still_fit_theirs() {
        let small = ToCoordinator::Finished((0..4_000).map(|index| result(index, 10, 0)).collect());
        let large = (0..64).map(|index| result(index, limits::INLINE_BYTES_MAX, limits::LOG_BYTES_MAX as usize)).collect();
        let frames = frames([small, ToCoordinator::Farewell, ToCoordinator::Finished(large)].into_iter());
        assert!(frames.iter().all(|frame| codec::encode(frame).len() < limits::FRAME_BYTES_MAX / 2));
        assert!(frames.len() < 66, "{} frames", frames.len());
        let results = |message: &ToCoordinator| if let ToCoordinator::Finished(results) = message { results.len() } else { 0 };
        assert_eq!(frames.iter().flat_map(|frame| &frame.messages).map(results).sum::<usize>(), 4_064);
    }

    #[test]
    fn no_frame_has_more_messages_than_are_taken() {
        let frames = frames(std::iter::repeat_n(ToCoordinator::Farewell, 2 * limits::MESSAGES_PER_FRAME_MAX + 1));
        assert_eq!(frames.iter().map(|frame| frame.messages.len()).sum::<usize>(), 2 * limits::MESSAGES_PER_FRAME_MAX + 1);
        assert!(frames.iter().all(|frame| codec::decode(&codec::encode(frame)).as_ref() == Ok(frame)));
    }
}
