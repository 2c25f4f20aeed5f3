//! Fetching a blob from several sources at once, every piece checked as it arrives.
//!
//! ```text
//! each source:  dial if need be -> open -> outline, more sources -> ask -> piece -> verify -> write -> ask ...
//!                  ^                                                 |
//!                  +--- a pause that grows: lost, busy, nothing -----+    never again: it lied, cannot be dialled
//! ```
//! A coordinator names further sources, and is asked for pieces like any other; it gives what it would leave to them
//! only when told that none of them gives anything. What it has not got itself it relays then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use backon::BackoffBuilder as _;
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, StreamExt as _, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use lull_shared::{
    digest::{BlobRef, Digest, Outline, PIECE_BYTES},
    limits::{BLOB_BYTES_MAX, INTRODUCTION_BYTES_MAX, PEER_ADDRESSES_MAX, SOURCES_MAX},
    pieces::PieceSet,
    protocol::{BlobAnswer, BlobAsk, BlobReply, BlobRequest, BlobSource},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    blobs::{
        exchange::{Counters, Partial, lock},
        file::{PartialFile, Target, partial_path, piece_bytes},
    },
    error::{MeshError, in_words},
    handle::{FetchReport, NodeHandle, OwnStream},
    peers::connection::Traffic,
    streams::{
        frames::{FrameError, in_time, read_frame, write_frame},
        opened::Protocol,
    },
};

/// A source that was lost is asked again this often without having sent anything in between.
const LOSSES_MAX: u32 = 4;
/// How long nothing may come from anybody, because all are busy: a new version is fetched by a whole fleet at once.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nobody may give anything who is not busy either, and none is on its way or being dialled: whoever waits for the
/// blob has other ways to go on, and takes them sooner than people notice.
const HOPELESS_AFTER: Duration = Duration::from_secs(6);
/// The pauses before a source is asked again that had nothing to give.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(3);
/// An agent that had nothing so often in a row is left for a longer pause.
const NOTHINGS_MAX: u32 = 4;
/// The answer to a request: the outline of the largest blob has 4096 times 32 bytes, and sources a few kilobytes.
const OUTLINE_BYTES_MAX: usize = 256 * 1024;
/// How long a dial may take: a machine on the same site answers in milliseconds, one behind a firewall never.
const DIAL_TIME_MAX: Duration = Duration::from_secs(3);
/// Nobody gives anything, nothing is on its way and nobody is being dialled: after this long, the coordinator is told.
const ALONE_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether there is hope.
const LOOK: Duration = Duration::from_secs(1);
/// A piece that takes longer than this is asked of others too, once there is nothing else to ask for.
const LATE: Duration = Duration::from_secs(5);

/// Why a source gives no more for now.
enum Fault {
    /// It takes no more transfers at the moment.
    Busy,
    /// It has none of the pieces that are lacking.
    Nothing,
    /// Somebody else sends the same piece already.
    Twice,
    /// It cannot be heard at the moment.
    Lost(String),
    /// It lied, or cannot be reached at all.
    Never(String),
    /// Our own side failed.
    Ours(MeshError),
}

/// Where a blob may be had.
#[derive(Clone)]
struct Source {
    peer: PeerId,
    /// Empty: it is connected, or it is not asked.
    addresses: Vec<Multiaddr>,
}

/// Fetches a blob into a file.
pub(crate) async fn fetch_file(
    handle: &NodeHandle,
    blob: BlobRef,
    sources: Vec<PeerId>,
    into: std::path::PathBuf,
) -> Result<FetchReport, MeshError> {
    check_size(blob, BLOB_BYTES_MAX)?;
    let partial = Arc::new(Partial::new(blob, Some(partial_path(&into))));
    let _listed = handle.exchange.begin(partial.clone()).await;
    let target = Target::File(PartialFile::open(into, blob.size_bytes).await?);
    let (fetched, target) = Fetch::new(handle, partial.clone(), target).run(sources).await;
    let Target::File(file) = target else { unreachable!("the target was a file") };
    match fetched {
        Ok(report) => file.finish().await.map(|()| report),
        Err(error) => {
            if partial.here().is_empty() {
                file.discard().await;
            }
            Err(error)
        }
    }
}

/// Fetches a small blob into memory.
pub(crate) async fn fetch_bytes(
    handle: &NodeHandle,
    blob: BlobRef,
    sources: Vec<PeerId>,
    max_bytes: u64,
) -> Result<Bytes, MeshError> {
    check_size(blob, max_bytes.min(BLOB_BYTES_MAX))?;
    let memory = vec![0; usize::try_from(blob.size_bytes).unwrap_or_default()];
    let fetch = Fetch::new(handle, Arc::new(Partial::new(blob, None)), Target::Memory(memory.into()));
    match fetch.run(sources).await {
        (Ok(_), Target::Memory(bytes)) => Ok(bytes.into_inner().into()),
        (Err(error), _) => Err(error),
        (Ok(_), Target::File(_)) => unreachable!("the target was memory"),
    }
}

fn check_size(blob: BlobRef, max_bytes: u64) -> Result<(), MeshError> {
    if blob.size_bytes > max_bytes {
        return Err(MeshError::TooLarge { size_bytes: blob.size_bytes, max_bytes });
    }
    Ok(())
}

/// A fetch under way.
struct Fetch<'a> {
    handle: &'a NodeHandle,
    blob: BlobRef,
    partial: Arc<Partial>,
    target: Target,
    /// Held while leftovers are looked through.
    preparing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Something that the fetch as a whole must look at.
    changed: Notify,
}

struct State {
    /// Pieces on their way: from whom, and since when.
    asked: BTreeMap<u32, (PeerId, Instant)>,
    /// Everybody who was ever a source of this fetch.
    known: BTreeSet<PeerId>,
    /// Sources that nobody draws from yet.
    fresh: Vec<Source>,
    dialling: usize,
    /// When somebody last gave, or would have given, something.
    hope: Instant,
    /// The same of somebody other than a coordinator.
    company: Instant,
    /// When the last piece arrived.
    moved: Instant,
    failed: Option<MeshError>,
    report: FetchReport,
}

impl State {
    /// Somebody gave something, or would have. What the coordinator gives to whoever is alone makes nobody less alone.
    fn note_hope(&mut self, to_coordinator: bool, now: Instant) {
        self.hope = now;
        if !to_coordinator {
            self.company = self.hope;
        }
    }
}

impl<'a> Fetch<'a> {
    fn new(handle: &'a NodeHandle, partial: Arc<Partial>, target: Target) -> Self {
        let now = Instant::now();
        let state = State {
            asked: BTreeMap::new(),
            known: BTreeSet::new(),
            fresh: Vec::new(),
            dialling: 0,
            hope: now,
            company: now,
            moved: now,
            failed: None,
            report: FetchReport::default(),
        };
        let (preparing, state, changed) = (tokio::sync::Mutex::new(()), Mutex::new(state), Notify::new());
        Self { handle, blob: partial.blob, partial, target, preparing, state, changed }
    }

    /// Draws from all sources until every piece is there.
    async fn run(self, sources: Vec<PeerId>) -> (Result<FetchReport, MeshError>, Target) {
        if self.blob.size_bytes == 0 && self.blob.digest == Digest::of(&[]) {
            self.partial.arrived(0);
        }
        {
            let mut state = lock(&self.state);
            state.known.extend(&sources);
            state.fresh.extend(sources.into_iter().map(|peer| Source { peer, addresses: Vec::new() }));
        }
        let outcome = self.draw_from_all().await;
        let report = std::mem::take(&mut lock(&self.state).report);
        let outcome = match outcome {
            Some(error) => Err(error),
            None if self.partial.is_whole() => Ok(report),
            None => Err(MeshError::Unavailable { blob: self.blob, tried: report.tried }),
        };
        (outcome, self.target)
    }

    /// Returns when all is there, or nothing more can come; with an error if our own side failed.
    async fn draw_from_all(&self) -> Option<MeshError> {
        let mut drawing = FuturesUnordered::new();
        loop {
            let deadline = {
                let mut state = lock(&self.state);
                drawing.extend(state.fresh.drain(..).map(|source| self.draw(source)));
                if state.failed.is_some() {
                    return state.failed.take();
                }
                let patience = state.moved + PATIENCE;
                let waits = state.dialling > 0 || !state.asked.is_empty();
                if waits { patience } else { patience.min(state.hope + HOPELESS_AFTER) }
            };
            if self.partial.is_whole() || drawing.is_empty() || Instant::now() >= deadline {
                return None;
            }
            tokio::select! {
                Some(()) = drawing.next(), if !drawing.is_empty() => {}
                () = self.changed.notified() => {}
                () = sleep_until(deadline.min(Instant::now() + LOOK)) => {}
            }
        }
    }

    /// Takes from one source what it gives, for as long as it makes sense to ask.
    async fn draw(&self, source: Source) {
        let (mut losses, mut pauses) = (0, waits());
        loop {
            let before = self.given_by(source.peer);
            let Err(fault) = self.visit(&source).await else { return };
            if self.given_by(source.peer) > before {
                (losses, pauses) = (0, waits());
            }
            let reason = match fault {
                Fault::Twice => continue,
                Fault::Busy => "it is busy".to_owned(),
                Fault::Nothing => "it has nothing more to give at the moment".to_owned(),
                Fault::Lost(reason) => {
                    losses += 1;
                    reason
                }
                Fault::Never(reason) => {
                    tracing::debug!(peer = %source.peer, blob = %self.blob.digest, %reason, "a source is not asked again");
                    losses = LOSSES_MAX;
                    reason
                }
                Fault::Ours(error) => {
                    lock(&self.state).failed = Some(error);
                    return self.changed.notify_one();
                }
            };
            lock(&self.state).report.failed(source.peer, reason);
            if losses >= LOSSES_MAX {
                return;
            }
            sleep(pauses.next().unwrap_or(WAIT_MAX)).await;
        }
    }

    fn given_by(&self, peer: PeerId) -> u64 {
        let state = lock(&self.state);
        state.report.received.iter().find(|(source, _)| *source == peer).map_or(0, |(_, bytes)| *bytes)
    }

    async fn visit(&self, source: &Source) -> Result<(), Fault> {
        let OwnStream { mut stream, place: _place, traffic, to_coordinator } = self.open(source).await?;
        self.talk(&mut stream, source.peer, &traffic, to_coordinator).await
    }

    /// Asks on a stream for as long as it is answered.
    async fn talk(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        peer: PeerId,
        traffic: &Traffic,
        to_coordinator: bool,
    ) -> Result<(), Fault> {
        let request = BlobRequest { digest: self.blob.digest, outline: self.partial.outline().is_none() };
        in_time(write_frame(stream, &request)).await.map_err(lost)?;
        match in_time(read_frame(stream, OUTLINE_BYTES_MAX)).await {
            Ok(BlobReply::Found { blob, outline, sources }) => {
                // Whom an agent would name, the coordinator names too.
                if to_coordinator {
                    self.learn(sources);
                }
                self.prepare(blob, outline).await?;
            }
            // It may have finished fetching it at this moment.
            Ok(BlobReply::Missing) => return Err(Fault::Lost("it has not got it".to_owned())),
            Err(error) => return Err(broken(error)),
        }
        let (mut nothings, mut pauses) = (0, waits());
        loop {
            let alone = to_coordinator && self.is_alone(Instant::now());
            let Some(lacking) = self.lacking(peer, Instant::now()) else { return Ok(()) };
            if lacking.is_empty() {
                return Err(Fault::Nothing);
            }
            in_time(write_frame(stream, &BlobAsk { lacking: lacking.clone(), alone })).await.map_err(lost)?;
            let fault = match in_time(read_frame(stream, INTRODUCTION_BYTES_MAX)).await {
                Ok(BlobAnswer::Piece { index }) if lacking.contains(index) => {
                    self.take(stream, peer, index, to_coordinator).await?;
                    traffic.blob_bytes_received.fetch_add(piece_bytes(&self.blob, index) as u64, Ordering::Relaxed);
                    self.count(to_coordinator, index);
                    (nothings, pauses) = (0, waits());
                    continue;
                }
                Ok(BlobAnswer::Piece { index }) => return Err(Fault::Never(format!("it sends piece {index} unasked"))),
                Ok(BlobAnswer::Nothing) => Fault::Nothing,
                Ok(BlobAnswer::Busy) => {
                    lock(&self.state).note_hope(to_coordinator, Instant::now());
                    Fault::Busy
                }
                Err(error) => return Err(broken(error)),
            };
            nothings += 1;
            // A coordinator is asked for other sources meanwhile.
            if to_coordinator || nothings >= NOTHINGS_MAX {
                return Err(fault);
            }
            sleep(pauses.next().unwrap_or(WAIT_MAX)).await;
        }
    }

    async fn open(&self, source: &Source) -> Result<OwnStream, Fault> {
        let failed = |error: MeshError| match error {
            MeshError::Stopped => Fault::Ours(MeshError::Stopped),
            MeshError::Busy { .. } => Fault::Busy,
            other => Fault::Lost(other.to_string()),
        };
        match self.handle.open(source.peer, Protocol::Blob).await {
            Err(MeshError::NotConnected { .. }) if !source.addresses.is_empty() => {
                self.dial(source).await?;
                self.handle.open(source.peer, Protocol::Blob).await.map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    /// Whoever cannot be dialled costs this once and is left alone for a while.
    async fn dial(&self, source: &Source) -> Result<(), Fault> {
        let exchange = &self.handle.exchange;
        if exchange.is_unreachable(&source.peer, Instant::now()) {
            return Err(Fault::Never("it could not be dialled a short time ago".to_owned()));
        }
        let _dialling = Dialling::begin(self);
        let reason = match timeout(DIAL_TIME_MAX, self.handle.dial(source.peer, source.addresses.clone())).await {
            Ok(Ok(())) => {
                exchange.note_reached(&source.peer);
                return Ok(());
            }
            Ok(Err(MeshError::Stopped)) => return Err(Fault::Ours(MeshError::Stopped)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it could not be dialled within {}", lull_shared::amount::exact(DIAL_TIME_MAX)),
        };
        exchange.note_unreachable(source.peer, Instant::now());
        Err(Fault::Never(reason))
    }

    /// Takes up sources that were not known, as many as are drawn from at once.
    fn learn(&self, named: Vec<BlobSource>) {
        let mut state = lock(&self.state);
        for BlobSource { peer, addresses } in named.into_iter().take(SOURCES_MAX) {
            let Ok(peer) = PeerId::from_bytes(&peer) else { continue };
            if peer == self.handle.local_peer() || state.known.len() > 4 * SOURCES_MAX || !state.known.insert(peer) {
                continue;
            }
            let addresses = addresses.iter().take(PEER_ADDRESSES_MAX).filter_map(|address| address.parse().ok()).collect();
            state.fresh.push(Source { peer, addresses });
        }
        if !state.fresh.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Checks what a source says of the blob. An outline that was verified is enough: later sources need none.
    async fn prepare(&self, blob: BlobRef, outline: Option<Outline>) -> Result<(), Fault> {
        if blob != self.blob {
            return Err(Fault::Never("it has another blob of that name".to_owned()));
        }
        let _preparing = self.preparing.lock().await;
        if self.partial.outline().is_some() {
            return Ok(());
        }
        let outline = outline.ok_or(Fault::Nothing)?;
        outline.verify(&self.blob).map_err(|wrong| Fault::Never(wrong.to_string()))?;
        for piece in 0..self.blob.pieces() {
            let Some(bytes) = self.target.leftover(&self.blob, piece).await else { break };
            if outline.verify_piece(&self.blob, piece, &bytes).is_ok() {
                self.partial.arrived(piece);
            }
        }
        self.partial.set_outline(outline);
        if self.partial.is_whole() {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// What to ask of a source; nothing when all is there.
    fn lacking(&self, source: PeerId, now: Instant) -> Option<PieceSet> {
        let here = self.partial.here();
        let mut lacking = PieceSet::none(self.blob.pieces());
        (0..self.blob.pieces()).filter(|piece| !here.contains(*piece)).for_each(|piece| {
            lacking.insert(piece);
        });
        if lacking.is_empty() {
            return None;
        }
        let state = lock(&self.state);
        state.asked.keys().for_each(|piece| lacking.remove(*piece));
        if lacking.is_empty() {
            let late = state.asked.iter().filter(|(_, (from, since))| *from != source && now.duration_since(*since) >= LATE);
            late.for_each(|(piece, _)| {
                lacking.insert(*piece);
            });
        }
        Some(lacking)
    }

    fn is_alone(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        state.asked.is_empty() && state.dialling == 0 && now.duration_since(state.company) >= ALONE_AFTER
    }

    /// Receives a piece that was announced.
    async fn take(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        source: PeerId,
        piece: u32,
        to_coordinator: bool,
    ) -> Result<(), Fault> {
        let _asked = Asked::begin(self, source, piece, Instant::now()).ok_or(Fault::Twice)?;
        let mut bytes = vec![0; piece_bytes(&self.blob, piece)];
        in_time(async { stream.read_exact(&mut bytes).await.map_err(FrameError::Broken) }).await.map_err(lost)?;
        let outline = self.partial.outline().ok_or(Fault::Nothing)?;
        outline.verify_piece(&self.blob, piece, &bytes).map_err(|wrong| Fault::Never(wrong.to_string()))?;
        self.target.write(piece, &bytes).await.map_err(Fault::Ours)?;
        let new = self.partial.arrived(piece);
        let (mut state, now) = (lock(&self.state), Instant::now());
        state.note_hope(to_coordinator, now);
        state.moved = now;
        if new {
            state.report.received(source, bytes.len() as u64);
        }
        if self.partial.is_whole() {
            self.changed.notify_one();
        }
        Ok(())
    }

    fn count(&self, from_coordinator: bool, piece: u32) {
        let counters = &self.handle.exchange.counters;
        let counter = if from_coordinator { &counters.from_coordinators } else { &counters.from_agents };
        Counters::add(counter, piece_bytes(&self.blob, piece).min(PIECE_BYTES));
    }
}

fn lost(error: FrameError) -> Fault {
    Fault::Lost(in_words(&error))
}

/// What an answer that cannot be read says of its sender.
fn broken(error: FrameError) -> Fault {
    match error {
        FrameError::Garbage(_) | FrameError::TooLong(_) => Fault::Never(in_words(&error)),
        other => lost(other),
    }
}

/// The pauses before a source is asked again.
fn waits() -> impl Iterator<Item = Duration> {
    let growing = backon::ExponentialBuilder::default().with_min_delay(WAIT_MIN).with_max_delay(WAIT_MAX);
    growing.with_jitter().without_max_times().build()
}

/// A piece that is on its way from a source, until this is dropped.
struct Asked<'a, 'h> {
    fetch: &'a Fetch<'h>,
    source: PeerId,
    piece: u32,
}

impl<'a, 'h> Asked<'a, 'h> {
    /// None when another source sends it and is not late.
    fn begin(fetch: &'a Fetch<'h>, source: PeerId, piece: u32, now: Instant) -> Option<Self> {
        let mut state = lock(&fetch.state);
        if fetch.partial.here().contains(piece)
            || state.asked.get(&piece).is_some_and(|(_, since)| now.duration_since(*since) < LATE)
        {
            return None;
        }
        state.asked.insert(piece, (source, now));
        Some(Self { fetch, source, piece })
    }
}

impl Drop for Asked<'_, '_> {
    fn drop(&mut self) {
        let mut state = lock(&self.fetch.state);
        if state.asked.get(&self.piece).is_some_and(|(source, _)| *source == self.source) {
            state.asked.remove(&self.piece);
        }
    }
}

/// A dial under way, until this is dropped.
struct Dialling<'a, 'h>(&'a Fetch<'h>);

impl<'a, 'h> Dialling<'a, 'h> {
    fn begin(fetch: &'a Fetch<'h>) -> Self {
        lock(&fetch.state).dialling += 1;
        Self(fetch)
    }
}

impl Drop for Dialling<'_, '_> {
    fn drop(&mut self) {
        lock(&self.0.state).dialling -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::sync::mpsc;

    use crate::{UploadRules, blobs::exchange::Exchange, node::Command};

    /// A node that answers nothing by itself: what it was asked comes out here.
    fn handle() -> (NodeHandle, mpsc::Receiver<Command>) {
        let (commands, asked) = mpsc::channel(64);
        let exchange = Arc::new(Exchange::new(UploadRules::default()));
        (NodeHandle::new(PeerId::random(), commands, exchange), asked)
    }

    /// A blob of three pieces and its outline.
    fn blob() -> (Vec<u8>, BlobRef, Outline) {
        let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 7).map(|i| (i % 251) as u8).collect();
        let mut builder = lull_shared::digest::OutlineBuilder::default();
        builder.update(&bytes);
        let (blob, outline) = builder.finish();
        (bytes, blob, outline)
    }

    fn fetch(handle: &NodeHandle, blob: BlobRef) -> Fetch<'_> {
        let memory = vec![0; blob.size_bytes as usize];
        Fetch::new(handle, Arc::new(Partial::new(blob, None)), Target::Memory(memory.into()))
    }

    fn named(peer: PeerId) -> BlobSource {
        BlobSource { peer: peer.to_bytes(), addresses: vec!["/ip4/10.0.0.5/tcp/7".into(), "nonsense".into()] }
    }

    fn lacking(fetch: &Fetch<'_>, source: PeerId, now: Instant) -> Option<Vec<u32>> {
        fetch.lacking(source, now).map(|lacking| lacking.iter().collect())
    }

    #[test]
    fn a_piece_is_asked_of_one_source_until_it_is_late_and_then_of_others_too() {
        let ((node, _asked), (_, blob, _)) = (handle(), blob());
        let fetch = fetch(&node, blob);
        let [one, two] = [PeerId::random(), PeerId::random()];
        let start = Instant::now();
        assert_eq!(lacking(&fetch, one, start), Some(vec![0, 1, 2]));
        let first = Asked::begin(&fetch, one, 0, start).expect("nobody sends it");
        assert!(Asked::begin(&fetch, two, 0, start).is_none(), "one is enough");
        assert_eq!(lacking(&fetch, two, start), Some(vec![1, 2]));
        let others: Vec<_> = [1, 2].map(|piece| Asked::begin(&fetch, two, piece, start)).into_iter().flatten().collect();
        assert_eq!((others.len(), lacking(&fetch, one, start)), (2, Some(vec![])), "all are on their way");
        let (almost, late) = (start + LATE - Duration::from_micros(1), start + LATE);
        assert_eq!(lacking(&fetch, one, almost), Some(vec![]));
        assert!(Asked::begin(&fetch, one, 1, almost).is_none());
        assert_eq!(lacking(&fetch, one, late), Some(vec![1, 2]), "late, and another's");
        assert_eq!(lacking(&fetch, two, late), Some(vec![0]));
        let again = Asked::begin(&fetch, one, 1, late).expect("it is late");
        drop(others);
        assert_eq!(lock(&fetch.state).asked.keys().copied().collect::<Vec<_>>(), [0, 1], "whoever took it over has it");
        drop((first, again));
        assert!(lock(&fetch.state).asked.is_empty());
        assert!(fetch.partial.arrived(0));
        assert!(Asked::begin(&fetch, two, 0, late).is_none(), "it is here");
        assert_eq!(lacking(&fetch, one, late), Some(vec![1, 2]));
        assert!(fetch.partial.arrived(1) && fetch.partial.arrived(2));
        assert_eq!(lacking(&fetch, one, late), None);
    }

    #[test]
    fn a_fetch_is_alone_when_nobody_but_a_coordinator_gives_sends_or_is_dialled_for_a_second() {
        let ((node, _asked), (_, blob, _)) = (handle(), blob());
        let fetch = fetch(&node, blob);
        let start = lock(&fetch.state).company;
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!([0, 999, 1_000].map(|millis| fetch.is_alone(at(millis))), [false, false, true]);
        let asked = Asked::begin(&fetch, PeerId::random(), 0, at(1_000));
        assert!(!fetch.is_alone(at(1_000)), "a piece is on its way");
        drop(asked);
        let dialling = Dialling::begin(&fetch);
        assert!(!fetch.is_alone(at(1_000)), "somebody is being dialled");
        drop(dialling);
        assert!(fetch.is_alone(at(1_000)));
        lock(&fetch.state).note_hope(true, at(1_000));
        assert!(fetch.is_alone(at(1_000)), "the coordinator's gifts are no company");
        assert_eq!(lock(&fetch.state).hope, at(1_000));
        lock(&fetch.state).note_hope(false, at(1_000));
        assert_eq!([1_000, 1_999, 2_000].map(|millis| fetch.is_alone(at(millis))), [false, false, true]);
    }

    #[tokio::test]
    async fn sources_are_taken_up_once_each_never_oneself_and_no_more_than_so_many() {
        let ((node, _asked), (_, blob, _)) = (handle(), blob());
        let fetch = fetch(&node, blob);
        let fresh = || std::mem::take(&mut lock(&fetch.state).fresh);
        let one = PeerId::random();
        let garbage = BlobSource { peer: vec![1, 2, 3], addresses: Vec::new() };
        fetch.learn(vec![named(one), named(node.local_peer()), garbage, named(one)]);
        timeout(Duration::from_millis(10), fetch.changed.notified()).await.expect("whoever draws is told");
        let found = fresh();
        assert_eq!(found.iter().map(|source| source.peer).collect::<Vec<_>>(), [one]);
        assert_eq!(found[0].addresses.len(), 1, "what is not an address is left out");
        fetch.learn(vec![named(one)]);
        assert!(fresh().is_empty(), "it is known");
        timeout(Duration::from_millis(10), fetch.changed.notified()).await.expect_err("there is nothing new");
        fetch.learn((0..SOURCES_MAX + 5).map(|_| named(PeerId::random())).collect());
        assert_eq!(fresh().len(), SOURCES_MAX, "so many of one answer");
        for _ in 0..10 {
            fetch.learn((0..SOURCES_MAX).map(|_| named(PeerId::random())).collect());
        }
        assert_eq!(lock(&fetch.state).known.len(), 4 * SOURCES_MAX + 1, "and so many of all");
    }

    #[tokio::test]
    async fn an_outline_is_believed_when_it_is_the_blobs_own_and_finds_what_is_left_of_an_earlier_fetch() {
        let ((node, _asked), (bytes, blob, outline)) = (handle(), blob());
        let other = BlobRef { size_bytes: blob.size_bytes + 1, ..blob };
        let one = fetch(&node, blob);
        assert!(matches!(one.prepare(other, Some(outline.clone())).await, Err(Fault::Never(_))), "another blob");
        assert!(matches!(one.prepare(blob, None).await, Err(Fault::Nothing)), "no outline");
        let mut wrong = lull_shared::digest::OutlineBuilder::default();
        wrong.update(&vec![7; bytes.len()]);
        assert!(matches!(one.prepare(blob, Some(wrong.finish().1)).await, Err(Fault::Never(_))), "another's outline");
        assert!(one.partial.outline().is_none());
        assert!(one.prepare(blob, Some(outline.clone())).await.is_ok());
        assert!(one.partial.outline().is_some() && one.partial.here().is_empty());
        assert!(one.prepare(blob, None).await.is_ok(), "later sources need none");
    }

    #[tokio::test]
    async fn only_a_blob_that_is_not_too_large_is_asked_for() {
        let (node, asked) = handle();
        drop(asked);
        let blob = |size_bytes| BlobRef { digest: Digest::of(b"x"), size_bytes };
        let too_large = |result: Result<Bytes, MeshError>| matches!(result, Err(MeshError::TooLarge { .. }));
        for (size_bytes, max, refused) in [(10, 10, false), (11, 10, true), (BLOB_BYTES_MAX + 1, u64::MAX, true)] {
            let fetched = fetch_bytes(&node, blob(size_bytes), Vec::new(), max).await;
            assert_eq!(too_large(fetched), refused, "{size_bytes} of {max}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("blob");
        let refused = fetch_file(&node, blob(BLOB_BYTES_MAX + 1), Vec::new(), into.clone()).await;
        assert!(matches!(refused, Err(MeshError::TooLarge { .. })));
        let nobody = fetch_file(&node, blob(10), Vec::new(), into).await;
        assert!(matches!(nobody, Err(MeshError::Unavailable { .. })));
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 0, "of a fetch that got nothing nothing is left");
    }

    #[tokio::test]
    async fn an_empty_blob_needs_nobody_and_one_that_only_says_that_it_is_empty_does() {
        let (node, _asked) = handle();
        assert_eq!(fetch_bytes(&node, BlobRef::of(b""), Vec::new(), 10).await, Ok(Bytes::new()));
        let liar = BlobRef { digest: Digest::of(b"x"), size_bytes: 0 };
        assert!(matches!(fetch_bytes(&node, liar, Vec::new(), 10).await, Err(MeshError::Unavailable { .. })));
        let other = BlobRef { digest: Digest::of(b""), size_bytes: 1 };
        assert!(matches!(fetch_bytes(&node, other, Vec::new(), 10).await, Err(MeshError::Unavailable { .. })));
    }

    /// Answers every question about one peer's connection with this error, and counts them.
    fn refusing(mut asked: mpsc::Receiver<Command>, error: fn(PeerId) -> MeshError) -> tokio::task::JoinHandle<u32> {
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(command) = asked.recv().await {
                if let Command::Find { peer, reply, .. } = command {
                    count += 1;
                    let _ = reply.send(Err(error(peer)));
                }
            }
            count
        })
    }

    #[tokio::test]
    async fn a_source_that_is_lost_again_and_again_is_given_up() {
        let (_, blob, _) = blob();
        let peer = PeerId::random();
        let (node, asked) = handle();
        let count = refusing(asked, |peer| MeshError::NotConnected { peer });
        let began = Instant::now();
        let failed = fetch_bytes(&node, blob, vec![peer], blob.size_bytes).await;
        let Err(MeshError::Unavailable { tried, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(tried.iter().map(|(source, _)| *source).collect::<Vec<_>>(), [peer]);
        assert!(began.elapsed() >= 7 * WAIT_MIN, "the pauses grow: {:?}", began.elapsed());
        drop(node);
        assert_eq!(count.await.expect("it ends"), LOSSES_MAX);
    }

    #[tokio::test]
    async fn a_node_that_stops_ends_its_fetches_with_that_word() {
        let ((node, asked), (_, blob, _)) = (handle(), blob());
        drop(asked);
        let failed = fetch_bytes(&node, blob, vec![PeerId::random()], blob.size_bytes).await;
        assert_eq!(failed, Err(MeshError::Stopped));
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_dialled_is_left_alone_for_a_while() {
        let ((node, mut asked), (_, blob, _)) = (handle(), blob());
        let source = Source { peer: PeerId::random(), addresses: vec!["/ip4/10.0.0.5/tcp/7".parse().expect("an address")] };
        let dials = tokio::spawn(async move {
            let mut dials = 0;
            while let Some(command) = asked.recv().await {
                let Command::Connect { peer, addresses, reply, .. } = command else { continue };
                dials += 1;
                assert_eq!(addresses.len(), 1);
                let refused = || MeshError::Unreachable { peer, reason: "refused".to_owned() };
                let _ = reply.send(if dials == 1 { Err(refused()) } else { Ok(()) });
            }
            dials
        });
        let fetch = fetch(&node, blob);
        let exchange = &node.exchange;
        assert!(matches!(fetch.dial(&source).await, Err(Fault::Never(_))));
        assert!(exchange.is_unreachable(&source.peer, Instant::now()));
        assert!(matches!(fetch.dial(&source).await, Err(Fault::Never(_))), "it is not even tried");
        exchange.note_reached(&source.peer);
        exchange.note_unreachable(source.peer, Instant::now() - Duration::from_secs(11));
        assert!(fetch.dial(&source).await.is_ok(), "it was left alone for long enough");
        let now = Instant::now();
        exchange.note_unreachable(source.peer, now);
        assert!(!exchange.is_unreachable(&source.peer, now + Duration::from_secs(10)), "what was before is forgotten");
        assert_eq!(lock(&fetch.state).dialling, 0);
        drop(fetch);
        drop(node);
        assert_eq!(dials.await.expect("it ends"), 2);
    }

    #[tokio::test]
    async fn only_a_source_that_says_where_it_listens_is_dialled() {
        let ((node, mut asked), (_, blob, _)) = (handle(), blob());
        let asked = tokio::spawn(async move {
            let mut words = Vec::new();
            while let Some(command) = asked.recv().await {
                match command {
                    Command::Find { peer, reply, .. } => {
                        words.push("found");
                        let _ = reply.send(Err(MeshError::NotConnected { peer }));
                    }
                    Command::Connect { reply, .. } => {
                        words.push("dialled");
                        let _ = reply.send(Ok(()));
                    }
                    _ => {}
                }
            }
            words
        });
        let fetch = fetch(&node, blob);
        let silent = Source { peer: PeerId::random(), addresses: Vec::new() };
        assert!(matches!(fetch.open(&silent).await, Err(Fault::Lost(_))));
        let listens = Source { addresses: vec!["/ip4/10.0.0.5/tcp/7".parse().expect("an address")], ..silent };
        assert!(matches!(fetch.open(&listens).await, Err(Fault::Lost(_))));
        drop(fetch);
        drop(node);
        assert_eq!(asked.await.expect("it ends"), ["found", "found", "dialled", "found"]);
    }

    #[test]
    fn what_arrived_is_counted_by_who_sent_it() {
        let ((node, _asked), (_, blob, _)) = (handle(), blob());
        let fetch = fetch(&node, blob);
        fetch.count(true, 0);
        fetch.count(false, 2);
        fetch.count(false, 1);
        let moved = node.transferred();
        assert_eq!((moved.from_coordinators_bytes, moved.from_agents_bytes), (PIECE_BYTES as u64, PIECE_BYTES as u64 + 7));
    }

    #[test]
    fn a_source_that_cannot_be_understood_is_never_asked_again_and_one_that_is_cut_off_may_be() {
        let garbage = FrameError::TooLong(lull_shared::codec::FrameTooLong(9));
        assert!(matches!(broken(garbage), Fault::Never(_)));
        let cut = FrameError::Broken(std::io::Error::other("reset"));
        assert!(matches!(broken(cut), Fault::Lost(_)));
    }

    use futures::AsyncWriteExt as _;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    type Pipe = Compat<tokio::io::DuplexStream>;

    /// A source that answers the request with this and each ask with the next of these; how the talk ended, and each ask.
    async fn talks(
        fetch: &Fetch<'_>,
        peer: PeerId,
        to_coordinator: bool,
        reply: BlobReply,
        answers: Vec<(BlobAnswer, Vec<u8>)>,
    ) -> (Result<(), Fault>, BlobRequest, Vec<BlobAsk>, u64) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let traffic = Traffic::default();
        let talk = async {
            let mut ours: Pipe = ours.compat();
            fetch.talk(&mut ours, peer, &traffic, to_coordinator).await
        };
        let source = async {
            let mut theirs: Pipe = theirs.compat();
            let request = read_frame(&mut theirs, INTRODUCTION_BYTES_MAX).await.expect("a request");
            write_frame(&mut theirs, &reply).await.expect("there is room");
            let (mut asks, mut answers) = (Vec::new(), answers.into_iter());
            while let Ok(ask) = read_frame(&mut theirs, INTRODUCTION_BYTES_MAX).await {
                asks.push(ask);
                let Some((answer, bytes)) = answers.next() else { break };
                write_frame(&mut theirs, &answer).await.expect("there is room");
                theirs.write_all(&bytes).await.expect("there is room");
                if answers.len() == 0 {
                    break;
                }
            }
            (request, asks)
        };
        let (ended, (request, asks)) = tokio::join!(talk, source);
        (ended, request, asks, traffic.blob_bytes_received.load(Ordering::Relaxed))
    }

    fn found(blob: BlobRef, outline: &Outline, sources: Vec<BlobSource>) -> BlobReply {
        BlobReply::Found { blob, outline: Some(outline.clone()), sources }
    }

    fn gives(bytes: &[u8], index: u32) -> (BlobAnswer, Vec<u8>) {
        let start = index as usize * PIECE_BYTES;
        (BlobAnswer::Piece { index }, bytes[start..bytes.len().min(start + PIECE_BYTES)].to_vec())
    }

    #[tokio::test]
    async fn pieces_are_asked_for_until_all_are_there_and_counted_to_who_sent_them() {
        for to_coordinator in [false, true] {
            let ((node, _asked), (bytes, blob, outline)) = (handle(), blob());
            let (fetch, peer, other) = (fetch(&node, blob), PeerId::random(), PeerId::random());
            let answers = [1, 2, 0].map(|index| gives(&bytes, index)).to_vec();
            let reply = found(blob, &outline, vec![named(other)]);
            let (ended, request, asks, moved) = talks(&fetch, peer, to_coordinator, reply, answers).await;
            assert!(ended.is_ok() && fetch.partial.is_whole());
            assert_eq!(request, BlobRequest { digest: blob.digest, outline: true });
            let lacking: Vec<u32> = asks.iter().map(|ask| ask.lacking.len()).collect();
            assert_eq!((lacking, asks.iter().any(|ask| ask.alone)), (vec![3, 2, 1], false));
            assert_eq!((moved, fetch.given_by(peer), fetch.given_by(other)), (blob.size_bytes, blob.size_bytes, 0));
            let (counted, size) = (node.transferred(), blob.size_bytes);
            let right = if to_coordinator { (size, 0) } else { (0, size) };
            assert_eq!((counted.from_coordinators_bytes, counted.from_agents_bytes), right);
            assert_eq!(lock(&fetch.state).fresh.len(), usize::from(to_coordinator), "only a coordinator names others");
            timeout(Duration::from_millis(10), fetch.changed.notified()).await.expect("the fetch as a whole is told");
            let Target::Memory(memory) = fetch.target else { panic!("it was memory") };
            assert!(memory.into_inner() == bytes);
        }
    }

    #[tokio::test]
    async fn a_source_that_lies_is_never_asked_again_and_gives_nothing() {
        let (bytes, blob, outline) = blob();
        let wrong = (BlobAnswer::Piece { index: 1 }, vec![9; PIECE_BYTES]);
        let other = BlobRef { size_bytes: blob.size_bytes - 1, ..blob };
        for (reply, answers) in [
            (found(other, &outline, vec![]), vec![]),
            (found(blob, &outline, vec![]), vec![wrong]),
            (found(blob, &outline, vec![]), vec![gives(&bytes, 0), gives(&bytes, 0)]),
            (found(blob, &outline, vec![]), vec![(BlobAnswer::Piece { index: 3 }, vec![])]),
        ] {
            let (node, _asked) = handle();
            let fetch = fetch(&node, blob);
            let right = answers.len().saturating_sub(1) as u32;
            let (ended, ..) = talks(&fetch, PeerId::random(), false, reply, answers).await;
            assert!(matches!(ended, Err(Fault::Never(_))));
            assert_eq!(fetch.partial.here().len(), right);
        }
    }

    #[tokio::test]
    async fn a_source_that_is_cut_off_or_has_lost_the_blob_may_be_asked_again() {
        let (bytes, blob, outline) = blob();
        let half = (BlobAnswer::Piece { index: 0 }, bytes[..100].to_vec());
        for (reply, answers) in
            [(BlobReply::Missing, vec![]), (found(blob, &outline, vec![]), vec![]), (found(blob, &outline, vec![]), vec![half])]
        {
            let (node, _asked) = handle();
            let fetch = fetch(&node, blob);
            let (ended, ..) = talks(&fetch, PeerId::random(), false, reply, answers).await;
            assert!(matches!(ended, Err(Fault::Lost(_))) && fetch.partial.here().is_empty());
            assert!(lock(&fetch.state).asked.is_empty());
        }
    }

    #[tokio::test]
    async fn a_coordinator_that_has_nothing_is_left_at_once_and_an_agent_after_some_times_in_a_row() {
        let (bytes, blob, outline) = blob();
        let nothing = || (BlobAnswer::Nothing, vec![]);
        let asks = |to_coordinator, answers| {
            let (reply, bytes) = (found(blob, &outline, vec![]), blob.size_bytes);
            async move {
                let (node, _asked) = handle();
                let fetch = fetch(&node, BlobRef { size_bytes: bytes, ..blob });
                let (ended, _, asks, _) = talks(&fetch, PeerId::random(), to_coordinator, reply, answers).await;
                assert!(matches!(ended, Err(Fault::Nothing)));
                asks.len() as u32
            }
        };
        assert_eq!(asks(true, vec![nothing(); 9]).await, 1);
        assert_eq!(asks(false, vec![nothing(); 9]).await, NOTHINGS_MAX);
        let one_in_between = [vec![nothing(), gives(&bytes, 1)], vec![nothing(); 9]].concat();
        assert_eq!(asks(false, one_in_between).await, 2 + NOTHINGS_MAX);
    }

    #[tokio::test]
    async fn a_source_that_is_busy_gives_hope_and_one_that_comes_later_needs_no_outline() {
        let ((node, _asked), (bytes, blob, outline)) = (handle(), blob());
        let fetch = fetch(&node, blob);
        let began = lock(&fetch.state).hope;
        let busy = vec![(BlobAnswer::Busy, vec![])];
        let (ended, ..) = talks(&fetch, PeerId::random(), true, found(blob, &outline, vec![]), busy).await;
        assert!(matches!(ended, Err(Fault::Busy)) && lock(&fetch.state).hope > began);
        let answers = [0, 1, 2].map(|index| gives(&bytes, index)).to_vec();
        let reply = BlobReply::Found { blob, outline: None, sources: vec![] };
        let (ended, request, ..) = talks(&fetch, PeerId::random(), false, reply, answers).await;
        assert!(ended.is_ok() && !request.outline);
        let (ended, _, asks, _) = talks(&fetch, PeerId::random(), false, found(blob, &outline, vec![]), vec![]).await;
        assert!(ended.is_ok() && asks.is_empty(), "all is there");
    }

    #[tokio::test]
    async fn a_coordinator_is_told_when_nobody_else_gives_anything() {
        let ((node, _asked), (_, blob, outline)) = (handle(), blob());
        for (to_coordinator, alone) in [(true, true), (false, false)] {
            let fetch = fetch(&node, blob);
            lock(&fetch.state).company = Instant::now() - ALONE_AFTER;
            let nothing = vec![(BlobAnswer::Busy, vec![]); 9];
            let (_, _, asks, _) = talks(&fetch, PeerId::random(), to_coordinator, found(blob, &outline, vec![]), nothing).await;
            assert_eq!(asks[0].alone, alone, "to a coordinator: {to_coordinator}");
        }
    }

    #[tokio::test]
    async fn what_an_earlier_fetch_left_whole_needs_nobody() {
        let ((node, _asked), (bytes, blob, outline)) = (handle(), blob());
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("blob");
        let mut damaged = bytes.clone();
        damaged[PIECE_BYTES] ^= 1;
        for (left, here) in [(&bytes[..], vec![0, 1, 2]), (&damaged[..], vec![0, 2]), (&bytes[..PIECE_BYTES + 1], vec![0])] {
            std::fs::write(partial_path(&into), left).expect("a file");
            let file = PartialFile::open(into.clone(), blob.size_bytes).await.expect("it opens");
            let fetch = Fetch::new(&node, Arc::new(Partial::new(blob, None)), Target::File(file));
            assert!(fetch.prepare(blob, Some(outline.clone())).await.is_ok());
            assert_eq!(fetch.partial.here().iter().collect::<Vec<_>>(), here);
            let told = timeout(Duration::from_millis(10), fetch.changed.notified()).await.is_ok();
            assert_eq!(told, here.len() == 3, "whoever draws is told when all is there");
        }
    }
}
